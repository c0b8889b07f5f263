"""Every fault of the simulator does what its row says, and nothing when it is off."""

import json
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from streamer.simulator import FAULTS, Setting, Simulator
from streamer.simulator.faults import Switchboard, parse_fault
from tests.simulation import KEY, simulated

PATH = "/organization/audit_logs"


class Reader:
    """Asks a simulator as a plain client would."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    def turn_on(self, name: str, **setting: Any) -> None:
        self.simulator.faults.settings = {name: Setting(**setting)}

    async def get(self, **parameters: Any) -> tuple[int, bytes, Any]:
        query = {name.replace("__", "[").replace("_end", "]"): str(value) for name, value in parameters.items()}
        async with self.session.get(self.simulator.base_url + PATH, params=query) as response:
            return response.status, await response.read(), response.headers

    async def page(self, **parameters: Any) -> Any:
        status, body, _ = await self.get(**parameters)
        assert status == 200
        return json.loads(body)

    async def ids(self, **parameters: Any) -> list[str]:
        return [item["id"] for item in (await self.page(**parameters))["data"]]


Check = Callable[[Reader], Awaitable[None]]


def status_is(expected: int, name: str, **setting: Any) -> Check:
    async def check(reader: Reader) -> None:
        reader.turn_on(name, **setting)
        status, body, headers = await reader.get()
        assert status == expected
        assert "Retry-After" not in headers
        assert "error" in json.loads(body)

    return check


async def rate_limited(reader: Reader) -> None:
    reader.turn_on("rate_limited", value=7.0)
    status, body, headers = await reader.get()
    assert (status, headers["Retry-After"]) == (429, "7")
    assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"


async def rate_limited_date(reader: Reader) -> None:
    reader.turn_on("rate_limited_date", value=60.0)
    status, _, headers = await reader.get()
    assert status == 429
    assert 55 <= parsedate_to_datetime(headers["Retry-After"]).timestamp() - time.time() <= 60


async def bad_gateway(reader: Reader) -> None:
    reader.turn_on("bad_gateway")
    status, body, headers = await reader.get()
    assert (status, headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert body.startswith(b"<!DOCTYPE html>")


async def html(reader: Reader) -> None:
    reader.turn_on("html")
    status, body, _ = await reader.get()
    assert status == 200
    assert b"<html>" in body


async def forbidden(reader: Reader) -> None:
    reader.turn_on("forbidden", on="tenant")
    status, body, _ = await reader.get(tenant_only="true")
    assert status == 403
    assert isinstance(json.loads(body)["error"], str)
    assert (await reader.get())[0] == 200


async def access_refused(reader: Reader) -> None:
    reader.turn_on("access_refused")
    status, body, _ = await reader.get()
    assert (status, json.loads(body)["error"]["code"]) == (401, "rejected_by_access_enforcement")


async def unknown_cursor(reader: Reader) -> None:
    reader.turn_on("unknown_cursor")
    page = await reader.page()
    status, body, _ = await reader.get(after=page["last_id"])
    assert (status, json.loads(body)["error"]["param"]) == (400, "after")


async def stuck_cursor(reader: Reader) -> None:
    reader.turn_on("stuck_cursor")
    first = await reader.page()
    assert await reader.page(after=first["last_id"]) == first


async def ignored_filter(reader: Reader) -> None:
    everything = await reader.ids()
    asked = {"event_types__]": "login.failed", "effective_at__gte]": int(time.time()) + 5}
    assert await reader.ids(**asked) == []
    reader.turn_on("ignored_filter", value="event_types")
    assert await reader.ids(**asked) == []
    reader.turn_on("ignored_filter")
    assert await reader.ids(**asked) == everything


async def repeated_events(reader: Reader) -> None:
    reader.turn_on("repeated_events", value=3.0)
    first = await reader.page()
    second = await reader.ids(after=first["last_id"])
    assert second[:3] == [item["id"] for item in first["data"]][-3:]
    assert len(second) == 20


async def repeated_cursor(reader: Reader) -> None:
    reader.turn_on("repeated_cursor")
    first = await reader.page()
    assert first["last_id"] == first["data"][0]["id"]
    after = first["data"][-1]["id"]
    second = await reader.page(after=after)
    assert second["last_id"] == after
    assert second["data"][0]["id"] != first["data"][0]["id"]


async def empty_page(reader: Reader) -> None:
    reader.turn_on("empty_page")
    page = await reader.page()
    assert (page["data"], page["last_id"], page["has_more"]) == ([], None, True)


async def shuffled(reader: Reader) -> None:
    plain = await reader.page(limit=100)
    reader.turn_on("shuffled")
    pages = [await reader.page(limit=100) for _ in range(5)]
    times = [[item["effective_at"] for item in page["data"]] for page in pages]
    assert all(some == [item["effective_at"] for item in plain["data"]] for some in times)
    assert len({tuple(item["id"] for item in page["data"]) for page in pages}) > 1
    assert {page["last_id"] for page in pages} == {plain["last_id"]}


async def concatenated(reader: Reader) -> None:
    plain = await reader.page(limit=50)
    reader.turn_on("concatenated", value=3.0)
    _, body, _ = await reader.get(limit=50)
    documents = [json.loads(line) for line in body.splitlines()]
    assert len(documents) == 3
    assert [item for page in documents for item in page["data"]] == plain["data"]
    assert (documents[-1]["last_id"], documents[-1]["has_more"]) == (plain["last_id"], plain["has_more"])


async def pretty(reader: Reader) -> None:
    plain = await reader.page()
    reader.turn_on("pretty")
    _, body, _ = await reader.get()
    assert body.count(b"\n") > 100
    assert json.loads(body) == plain


async def latency(reader: Reader) -> None:
    reader.turn_on("latency", value=0.05)
    taken: list[float] = []
    for _ in range(10):
        began = time.monotonic()
        await reader.page()
        taken.append(time.monotonic() - began)
    assert 0.049 <= min(taken) <= 0.06, "what it says, not more; others may be at work"


async def slow_body(reader: Reader) -> None:
    reader.turn_on("slow_body", value=0.3)
    async with reader.session.get(reader.simulator.base_url + PATH) as response:
        began = time.monotonic()
        first_byte = await response.content.readexactly(1)
        rest = await response.content.read()
    assert json.loads(first_byte + rest)["object"] == "list"
    assert time.monotonic() - began >= 0.25


async def cut_body(reader: Reader) -> None:
    reader.turn_on("cut_body", count=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await reader.get()
    assert len(await reader.ids()) == 20


async def reset(reader: Reader) -> None:
    reader.turn_on("reset")  # more than once, because the client tries a GET again on its own
    with pytest.raises(aiohttp.ClientConnectionError):
        await reader.get()


async def clock_offset(reader: Reader) -> None:
    reader.turn_on("clock_offset", value=-500.0)
    _, _, headers = await reader.get()
    assert -502 <= parsedate_to_datetime(headers["Date"]).timestamp() - time.time() <= -499


async def late(reader: Reader) -> None:
    before = await reader.ids()
    reader.turn_on("late", value=3600.0)
    reader.simulator.upstream.invent("login.failed", 3)
    assert await reader.ids() == before
    assert len(list(reader.simulator.upstream.truth("organization"))) > len(before)


async def equal_times(reader: Reader) -> None:
    reader.turn_on("equal_times", value=86_400.0)
    reader.simulator.upstream.invent("login.failed", 3)
    times = [entry.event.effective_at for entry in reader.simulator.upstream.truth("organization")]
    assert len([at for at in times if at % 86_400 == 0]) >= 3


CHECKS: dict[str, Check] = {
    "rate_limited": rate_limited,
    "rate_limited_date": rate_limited_date,
    "rate_limited_bare": status_is(429, "rate_limited_bare"),
    "internal_error": status_is(500, "internal_error"),
    "bad_gateway": bad_gateway,
    "unavailable": status_is(503, "unavailable"),
    "html": html,
    "forbidden": forbidden,
    "bad_request": status_is(400, "bad_request"),
    "revoked_key": status_is(401, "revoked_key"),
    "access_refused": access_refused,
    "unknown_cursor": unknown_cursor,
    "stuck_cursor": stuck_cursor,
    "ignored_filter": ignored_filter,
    "repeated_events": repeated_events,
    "repeated_cursor": repeated_cursor,
    "empty_page": empty_page,
    "shuffled": shuffled,
    "concatenated": concatenated,
    "pretty": pretty,
    "latency": latency,
    "slow_body": slow_body,
    "cut_body": cut_body,
    "reset": reset,
    "clock_offset": clock_offset,
    "late": late,
    "equal_times": equal_times,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_each_fault(name: str) -> None:
    """Goal: every row of the table works, and ends when it is switched off. Method: its own check, then a plain page."""
    async with (
        simulated(events=300, faults=("equal_times:value=60",)) as simulator,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
    ):
        reader = Reader(simulator, session)
        simulator.faults.settings = {}
        await CHECKS[name](reader)
        assert simulator.faults.struck[name] >= 1
        simulator.faults.settings = {}
        assert len(await reader.ids()) == 20


def test_faults_have_a_probability_and_a_count() -> None:
    """Goal: both limit how often a fault strikes. Method: a thousand opportunities each."""
    board = Switchboard(1, {"internal_error": Setting(probability=0.2)})
    struck = sum(board.strikes("internal_error", "tenant") is not None for _ in range(1000))
    assert 150 < struck < 250
    board = Switchboard(1, {"internal_error": Setting(count=7)})
    assert [board.strikes("internal_error", "tenant") is not None for _ in range(10)] == [True] * 7 + [False] * 3


def test_faults_strike_where_they_should() -> None:
    """Goal: `on` names a place, nothing means both listings, the directory all other lists. Method: each pair."""
    struck = {
        (on, where)
        for on in (None, "organization", "tenant", "directory", "groups")
        for where in ("organization", "tenant", "groups", "users")
        if Switchboard(1, {"html": Setting(on=on)}).strikes("html", where) is not None
    }
    assert struck == {
        (None, "organization"),
        (None, "tenant"),
        ("organization", "organization"),
        ("tenant", "tenant"),
        ("directory", "groups"),
        ("directory", "users"),
        ("groups", "groups"),
    }


def test_faults_as_text() -> None:
    """Goal: options write a fault in one word. Method: good ones are read, bad ones are a sentence."""
    assert parse_fault("html") == ("html", Setting())
    assert parse_fault("late:probability=0.1,count=5,value=30,on=tenant") == (
        "late",
        Setting(probability=0.1, count=5, value=30.0, on="tenant"),
    )
    assert parse_fault("ignored_filter:value=event_types") == ("ignored_filter", Setting(value="event_types"))
    for wrong in ("rain", "late:value=soon", "late:when=1", "late:on=mars", "late:probability=often"):
        with pytest.raises(ValueError, match="fault"):
            parse_fault(wrong)
