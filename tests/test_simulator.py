"""The simulated API: against the official SDK, against its own truth, and against a plain model of a listing."""

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.catalog import TYPES
from streamer.errors import ConfigError
from streamer.model import LISTINGS, Event, EventId
from streamer.simulator import FAULTS, Simulator, SimulatorOptions, control
from streamer.simulator.answers import READ_AUDIT_LOGS
from streamer.simulator.payloads import PAYLOADS, WITHOUT_PAYLOAD
from streamer.simulator.store import Query, Store, facets
from streamer.simulator.upstream import Upstream
from tests.simulation import KEY, REPEATED, simulated, simulated_in_child

UNTIL = 1_790_000_000
DAY_S = 86_400


def upstream(now: float = UNTIL, **options: Any) -> Upstream:
    return Upstream(SimulatorOptions(**{"until": UNTIL, **options}), lambda: now)


def told(made: Upstream) -> list[Event]:
    """Everything in both listings, oldest first within each."""
    return [entry.event for listing in LISTINGS for entry in made.truth(listing)]


def client(simulator: Simulator, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(api_key="unused", admin_api_key=key, base_url=simulator.base_url, max_retries=0)


async def listed(simulator: Simulator, **parameters: Any) -> list[Any]:
    """All pages, through the SDK's own pagination."""

    def read() -> list[Any]:
        with client(simulator) as sdk:
            return list(sdk.admin.organization.audit_logs.list(**parameters))

    return await asyncio.to_thread(read)


async def get(simulator: Simulator, path: str, key: str | None = KEY, **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON, headers."""
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(simulator.base_url.removesuffix("/v1") + path, headers=headers) as response,
    ):
        return response.status, json.loads(await response.read()), response.headers


def truth(simulator: Simulator, listing: Any) -> list[Event]:
    """Newest first."""
    return [entry.event for entry in simulator.upstream.truth(listing)][::-1]


# --- the official SDK ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant_only", [False, True])
async def test_sdk_reads_a_listing_through(tenant_only: bool) -> None:
    """Goal: the SDK sees every event once, newest first. Method: its sync client pages through, the ids are the truth's."""
    async with simulated(events=1500) as simulator:
        seen = [item.id for item in await listed(simulator, tenant_only=tenant_only, limit=100)]
        expected = [event.id for event in truth(simulator, "tenant" if tenant_only else "organization")]
        assert len(expected) > 400
        assert seen == expected


async def test_async_sdk_reads_a_listing_through() -> None:
    """Goal: the async client works alike. Method: page through with the default limit of 20, compare with the truth."""
    async with simulated(events=500) as simulator:
        async with openai.AsyncOpenAI(api_key="x", admin_api_key=KEY, base_url=simulator.base_url) as sdk:
            pages = sdk.admin.organization.audit_logs.list()
            first = await pages
            seen = [item.id async for item in pages]
        assert len(first.data) == 20
        assert seen == [event.id for event in truth(simulator, "organization")]


async def test_every_type_is_served_and_parses() -> None:
    """Goal: all catalogued types occur, and parse in the SDK's models. Method: read both listings, hold each event against its model."""
    async with simulated(events=900) as simulator:
        seen = {
            item.type: item for flag in (False, True) for item in await listed(simulator, tenant_only=flag, limit=100)
        }
    assert set(seen) == set(TYPES)
    for event_type, item in seen.items():
        field = "checkpoint_permission" if event_type.startswith("checkpoint.") else None
        name = event_type.replace(".", "_") if field is None else field + "_" + event_type.rpartition(".")[2]
        if name in type(item).model_fields and event_type not in WITHOUT_PAYLOAD:
            assert getattr(item, name) is not None, event_type
        type(item).model_validate(item.to_dict(mode="json"))


def test_documented_payloads_have_only_documented_fields() -> None:
    """Goal: payloads are what the catalogue says. Method: its strict structs decode every event of a large company."""
    checked = set()
    for event in told(upstream(events=4000)):
        row = TYPES[event.type]
        if row.documented and event.type not in WITHOUT_PAYLOAD:
            msgspec.convert(json.loads(event.raw)[event.type], row.payload)
            checked.add(event.type)
    assert len(checked) > 50


def test_every_catalogued_type_has_a_payload_of_its_own() -> None:
    """Goal: no type falls back to a bare id. Method: compare the table of payloads with the catalogue."""
    assert set(PAYLOADS) | WITHOUT_PAYLOAD == set(TYPES)


def _operator(name: str) -> Callable[[int, int], bool]:
    return {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }[name]


@pytest.mark.parametrize("operators", [("gt",), ("gte",), ("lt",), ("lte",), ("gte", "lt"), ("gt", "lte")])
async def test_time_filters(operators: tuple[str, ...]) -> None:
    """Goal: each bound means what it says. Method: the SDK asks with bounds that are events' own times."""
    async with simulated(events=400) as simulator:
        events = truth(simulator, "organization")
        early, late = events[-100].effective_at, events[100].effective_at
        bounds = {name: early if name.startswith("g") else late for name in operators}
        seen = [item.id for item in await listed(simulator, effective_at=bounds, limit=100)]
        expected = [e.id for e in events if all(_operator(n)(e.effective_at, s) for n, s in bounds.items())]
        assert 0 < len(expected) < len(events)
        assert seen == expected


async def test_list_filters() -> None:
    """Goal: every list filter finds what it should, alone and together. Method: values taken from events themselves."""
    async with simulated(events=800) as simulator:
        events = truth(simulator, "organization")
        found = {event.id: facets(event.raw) for event in events}
        for name in ("event_types", "project_ids", "actor_ids", "actor_emails", "resource_ids"):
            values = sorted({value for marks in found.values() for kind, value in marks if kind == name})[:3]
            assert values, name
            seen = [item.id for item in await listed(simulator, **{name: values}, limit=7)]
            assert seen == [e.id for e in events if any((name, v) in found[e.id] for v in values)], name
        email = next(v for k, v in sorted(found[events[5].id]) if k == "actor_emails")
        both = {"actor_emails": [email], "event_types": ["login.succeeded", "logout.succeeded"]}
        seen = [item.id for item in await listed(simulator, **both, effective_at={"gte": events[-1].effective_at})]
        expected = [e.id for e in events if ("actor_emails", email) in found[e.id] and e.type in both["event_types"]]
        assert expected
        assert seen == expected


async def test_all_event_types_in_one_question() -> None:
    """Goal: the longest query fits. Method: the SDK names every tenant-scoped type, and sees the whole listing."""
    async with simulated(events=300) as simulator:
        names: Any = [name for name, row in TYPES.items() if row.listing == "tenant"]
        seen = await listed(simulator, tenant_only=True, event_types=names, limit=100)
        assert [item.id for item in seen] == [event.id for event in truth(simulator, "tenant")]


async def test_before_gives_the_page_above() -> None:
    """Goal: `before` is the neighbouring page of newer events. Method: ask from the middle, with and without a rest."""
    async with simulated(events=300) as simulator:
        ids = [event.id for event in truth(simulator, "organization")]
        path = f"/v1/organization/audit_logs?limit=10&before={ids[50]}"
        _, page, _ = await get(simulator, path)
        assert [item["id"] for item in page["data"]] == ids[40:50]
        assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[40], ids[49], True)
        _, page, _ = await get(simulator, f"/v1/organization/audit_logs?limit=10&before={ids[4]}")
        assert [item["id"] for item in page["data"]] == ids[:4]
        assert page["has_more"] is False


async def test_an_empty_organization() -> None:
    """Goal: no events are an empty list, not an error. Method: a simulator without events."""
    async with simulated(events=0) as simulator:
        status, page, _ = await get(simulator, "/v1/organization/audit_logs")
        assert status == 200
        assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("after=audit_log-nothing", "after"),
        ("before=audit_log-nothing", "before"),
        ("effective_at[gte]=yesterday", "effective_at[gte]"),
        ("tenant_only=maybe", "tenant_only"),
        ("tenant_only=true&event_types[]=login.failed", "event_types"),
    ],
)
async def test_bad_requests(parameters: str, parameter: str) -> None:
    """Goal: what is wrong is refused in the real shape. Method: ask wrongly, look at the error object."""
    async with simulated(events=30) as simulator:
        status, body, _ = await get(simulator, f"/v1/organization/audit_logs?{parameters}")
        assert status == 400
        assert body["error"]["type"] == "invalid_request_error"
        assert body["error"]["param"] == parameter
        assert set(body["error"]) == {"message", "type", "param", "code"}


async def test_unknown_parameters_are_ignored() -> None:
    """Goal: upstream ignores filters that it does not know. Method: ask with one, get the same page."""
    async with simulated(events=30) as simulator:
        _, plain, _ = await get(simulator, "/v1/organization/audit_logs")
        _, page, _ = await get(simulator, "/v1/organization/audit_logs?order=asc&severity[]=high")
        assert page == plain


async def test_errors_become_the_sdks_exceptions() -> None:
    """Goal: the SDK understands every refusal. Method: provoke each, catch its class."""
    async with simulated(events=30) as simulator:
        cases: list[tuple[type[openai.APIStatusError], str, dict[str, Any]]] = [
            (openai.AuthenticationError, "revoked_key", {}),
            (openai.PermissionDeniedError, "forbidden", {}),
            (openai.BadRequestError, "bad_request", {}),
            (openai.RateLimitError, "rate_limited", {}),
            (openai.InternalServerError, "unavailable", {}),
        ]
        for expected, fault, parameters in cases:
            await set_faults(simulator, {fault: {}})
            with pytest.raises(expected) as caught:
                await listed(simulator, **parameters)
            assert caught.value.request_id is not None
            assert caught.value.request_id.startswith("req_")


async def set_faults(simulator: Simulator, faults: dict[str, Any]) -> None:
    url = simulator.base_url.removesuffix("/v1") + "/_sim/faults"
    async with aiohttp.ClientSession() as session, session.put(url, json=faults) as response:
        assert response.status == 200, await response.text()


async def test_keys_and_scopes() -> None:
    """Goal: no key, a wrong key, a rotated key and a missing scope are told apart. Method: ask with each."""
    path = "/v1/organization/audit_logs"
    async with simulated(events=3) as simulator:
        assert (await get(simulator, path, key=None))[0] == 401
        status, body, _ = await get(simulator, path, key="sk-wrong")
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        url = simulator.base_url.removesuffix("/v1") + "/_sim/keys"
        async with aiohttp.ClientSession() as session, session.post(url, json={"keys": ["sk-admin-new"]}) as response:
            assert response.status == 200
        assert (await get(simulator, path))[0] == 401
        assert (await get(simulator, path, key="sk-admin-new"))[0] == 200
    async with simulated(events=3, scopes=("api.usage.read",)) as simulator:
        status, body, _ = await get(simulator, path)
        assert status == 403
        assert isinstance(body["error"], str)
        assert READ_AUDIT_LOGS in body["error"]


async def test_an_unknown_path_is_404() -> None:
    """Goal: a wrong URL is told so, with a key and without. Method: ask for nothing that there is."""
    async with simulated(events=3) as simulator:
        status, body, _ = await get(simulator, "/v1/organization/nothing")
        assert (status, body["error"]["type"]) == (404, "invalid_request_error")


async def test_headers() -> None:
    """Goal: the headers that clients rely on are there. Method: two requests; compression only where it is switched on."""
    async with simulated(events=30) as simulator:
        _, plain, headers = await get(simulator, "/v1/organization/audit_logs")
        _, _, again = await get(simulator, "/v1/organization/audit_logs")
        assert headers["x-request-id"] != again["x-request-id"]
        assert headers["openai-organization"] == simulator.upstream.company.id
        assert headers["Date"].endswith(" GMT")
        assert headers["Content-Type"] == "application/json"
        assert "Content-Encoding" not in headers
        assert len(plain["data"]) == 20
    async with simulated(events=30, gzip=True) as simulator:
        _, page, headers = await get(simulator, "/v1/organization/audit_logs", **{"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] == "gzip"
        assert len(page["data"]) == 20


# --- the company and its story ---------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_bytes() -> None:
    """Goal: a seed fixes everything. Method: make it twice, and once with another seed."""
    first, again, other = ([event.raw for event in told(upstream(seed=seed, events=1000))] for seed in (7, 7, 8))
    assert first == again
    assert not set(first) & set(other)


INCIDENT = {
    "role.assignment.created",
    "user.updated",
    "ip_allowlist.updated",
    "scim.disabled",
    "organization.updated",
    "tenant.admin_api_key.created",
    "invite.sent",
    "api_key.created",
}


def test_a_quiet_company_does_nothing_alarming() -> None:
    """Goal: the quiet profile has no incident. Method: none of its types, no country twice, no burst of failures."""
    events = told(upstream(events=5000, profile="quiet"))
    assert len(events) == 5000
    assert not {event.type for event in events} & INCIDENT
    countries: dict[str, set[str]] = {}
    failures: dict[str, list[int]] = {}
    for event in events:
        session = json.loads(event.raw).get("actor", {}).get("session")
        if session:
            email = session["user"]["email"]
            countries.setdefault(email, set()).add(session["ip_address_details"]["country"])
            if event.type == "login.failed":
                failures.setdefault(email, []).append(event.effective_at)
    assert all(len(seen) == 1 for seen in countries.values())
    assert failures
    assert all(len(times) < 5 or times[4] - times[0] > 1800 for times in failures.values())


@pytest.mark.parametrize("days", [30, 0.02])
def test_the_story_is_told(days: float) -> None:
    """Goal: the incident is in the log in its order, also in a short history. Method: look for its beats one after another."""
    events = sorted(told(upstream(events=2000, days=days, profile="story")), key=lambda event: event.effective_at)
    beats = iter(events)

    def next_event(event_type: str, mark: str = "") -> Event:
        return next(event for event in beats if event.type == event_type and mark.encode() in event.raw)

    for _ in range(3):
        next_event("user.added")
    failures = [next_event("login.failed", "Reykjav") for _ in range(14)]
    entered = next_event("login.succeeded", "Reykjav")
    assert entered.effective_at - failures[0].effective_at <= 30 * 60
    assert "owner" in json.loads(next_event("role.assignment.created").raw)["role.assignment.created"]["id"]
    next_event("api_key.created", '"all"')
    next_event("tenant.admin_api_key.created")
    next_event("ip_allowlist.updated", "0.0.0.0/0")
    next_event("scim.disabled")
    next_event("organization.updated", "disabled")
    next_event("scim.enabled")


def test_the_directory_agrees_with_the_log() -> None:
    """Goal: whoever acts or is created exists in the company. Method: every actor and joiner of the story is looked up."""
    made = upstream(events=3000, profile="story")
    people = {person.id for person in made.company.people}
    keys = {key.id for key in made.company.keys}
    for event in told(made):
        tree = json.loads(event.raw)
        user = tree.get("actor", {}).get("session", {}).get("user")
        assert user is None or user["id"] in people
        if event.type == "user.added":
            assert tree["user.added"]["id"] in people
        if event.type == "api_key.deleted":
            assert tree["api_key.deleted"]["id"] not in keys


def test_a_company_of_any_size() -> None:
    """Goal: size is a parameter. Method: a large company is made whole, addresses and ids are unique."""
    company = upstream(events=0, people=5000, projects=500, keys=2000).company
    assert (len(company.people), len(company.projects), len(company.keys)) == (5000, 500, 2000)
    assert len({person.email for person in company.people}) == 5000
    assert len({key.id for key in company.keys}) == 2000
    assert any(project.archived_at for project in company.projects)


def cpu_of(work: Callable[[], object]) -> float:
    """The least of five times, in seconds of this process: what shares the core takes its part of the others."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return min(once() for _ in range(5))


def test_bulk_events_have_their_size_and_are_made_fast() -> None:
    """Goal: about 950 bytes an event, made in the time of reading two and a half (15 µs on a quiet core). Method: 20,000, beside json.loads of them."""
    raws = [event.raw for event in told(upstream(events=20_000, profile="bulk"))]
    assert len(raws) == 20_000
    assert 850 <= sum(map(len, raws)) / len(raws) <= 1050
    reading = cpu_of(lambda: [json.loads(raw) for raw in raws])
    assert cpu_of(lambda: upstream(events=20_000, profile="bulk")) < 2.5 * reading


# --- live traffic ----------------------------------------------------------------------------------------------------


def test_live_events_come_at_their_rate() -> None:
    """Goal: `rate` events a second, of whole seconds, never of the future. Method: a clock that the test turns."""
    now = [float(UNTIL)]
    made = Upstream(SimulatorOptions(events=0, rate=5, until=UNTIL), lambda: now[0])
    assert not told(made)
    now[0] += 10.5
    events = told(made)
    assert len(events) == 52
    assert {event.effective_at for event in events} == set(range(UNTIL, UNTIL + 11))


def test_traffic_ends_with_what_is_due() -> None:
    """Goal: what is counted after `end_traffic` is all there will be. Method: a clock that the test turns before and after."""
    now = [float(UNTIL)]
    made = Upstream(SimulatorOptions(events=0, rate=5, until=UNTIL), lambda: now[0])
    now[0] += 10.5
    made.end_traffic()
    now[0] += 1000
    assert len(told(made)) == 52


def test_late_events_are_hidden_for_their_time() -> None:
    """Goal: a late event shows N seconds after its effective_at. Method: turn the clock to just before and just after."""
    now = [float(UNTIL)]
    made = Upstream(SimulatorOptions(events=0, until=UNTIL, faults=("late:value=30",)), lambda: now[0])
    made.invent("login.failed", 3)
    made.faults.settings = {}
    made.invent("login.failed", 2)
    visible = made.store("organization").page(Query()).ids
    assert len(visible) == 2
    assert len(told(made)) == 5
    now[0] += 29
    assert made.store("organization").page(Query()).ids == visible
    now[0] += 1
    ids = made.store("organization").page(Query()).ids
    assert len(ids) == 5
    assert set(visible) < set(ids)


def test_equal_times() -> None:
    """Goal: the fault rounds times down at their making. Method: all times of a history are multiples."""
    events = told(upstream(events=500, faults=("equal_times:value=3600",)))
    assert all(event.effective_at % 3600 == 0 for event in events)


# --- steering --------------------------------------------------------------------------------------------------------


async def test_injected_events_are_served_byte_for_byte() -> None:
    """Goal: injected text is not touched. Method: odd but valid JSON goes in, comes out of the page and the truth."""
    odd = b'{"id":"x-1", "type":"new.kind", "effective_at":%d, "n":1.50, "s":"\\u00e9\\ud800"}' % int(time.time())
    async with simulated(events=3) as simulator:
        root = simulator.base_url.removesuffix("/v1")
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession() as session:
            async with session.post(
                root + "/_sim/events", data=odd + b"\n17\n", headers={"Content-Type": "application/x-ndjson"}
            ) as response:
                ids = (await response.json())["ids"]
            async with session.get(root + "/v1/organization/audit_logs", headers=headers) as response:
                body = await response.read()
            async with session.get(root + "/_sim/truth?listing=organization&raw=1") as response:
                raw = [json.loads(line) for line in (await response.read()).splitlines()]
            async with session.get(root + "/_sim/truth") as response:
                hashed = [json.loads(line) for line in (await response.read()).splitlines()]
    assert ids[0] == "x-1"
    assert ids[1].startswith("sha256-")
    assert odd in body
    assert next(line["raw"] for line in raw if line["id"] == "x-1").encode() == odd
    assert next(line["sha256"] for line in hashed if line["id"] == "x-1") == hashlib.sha256(odd).hexdigest()
    assert {line["listing"] for line in hashed} == {"organization", "tenant"}


async def test_events_are_made_on_request() -> None:
    """Goal: a list goes in, and events of a type are made. Method: one of each over HTTP, seen in their listings."""
    async with simulated(events=0) as simulator, aiohttp.ClientSession() as session:
        url = simulator.base_url.removesuffix("/v1") + "/_sim/events"
        async with session.post(url + "?listing=tenant", data='[{"id": "a"}, {"id": "b"}]') as response:
            assert (await response.json())["ids"] == ["a", "b"]
        async with session.post(url, json={"type": "scim.disabled", "count": 3}) as response:
            made = (await response.json())["ids"]
        async with session.post(url, json={}) as response:
            assert len((await response.json())["ids"]) == 1
        assert [event.id for event in truth(simulator, "tenant")][-2:] == ["b", "a"]
        disabled = {event.id for event in truth(simulator, "organization") if event.type == "scim.disabled"}
        assert set(made) <= disabled


async def test_steering_refuses_what_it_does_not_know() -> None:
    """Goal: a mistake in steering is told. Method: wrong bodies to each request, each a sentence and status 400."""
    async with simulated(events=3) as simulator, aiohttp.ClientSession() as session:
        root = simulator.base_url.removesuffix("/v1") + "/_sim/"
        for method, path, body in [
            ("PUT", "faults", '{"nonsense": {}}'),
            ("PUT", "faults", '{"late": {"probabilty": 1}}'),
            ("PUT", "faults", '{"late": {"value": "soon"}}'),
            ("POST", "events", '{"typ": "login.failed"}'),
            ("POST", "events", "["),
            ("POST", "keys", "[]"),
            ("GET", "truth?listing=both", ""),
        ]:
            async with session.request(method, root + path, data=body) as response:
                assert response.status == 400, (path, body)
                assert (await response.text()).strip()


async def test_statistics() -> None:
    """Goal: the simulator counts what it was asked. Method: three requests, two of them refused."""
    async with simulated(events=3) as simulator:
        await get(simulator, "/v1/organization/audit_logs")
        await get(simulator, "/v1/organization/audit_logs", key="wrong")
        await get(simulator, "/v1/nowhere")
        _, stats, _ = await get(simulator, "/_sim/stats")
    assert (stats["requests"], stats["pages"], stats["max_concurrent"]) == (3, 1, 1)
    assert stats["by_status"] == {"200": 1, "401": 1, "404": 1}


# --- a process of its own --------------------------------------------------------------------------------------------


def test_child_process_serves_and_stops_with_its_parent() -> None:
    """Goal: the module runs alone and ends with us. Method: start it, ask it, close its standard input, see it gone."""
    with simulated_in_child(events=50, seed=3, faults=["late:probability=0.5,value=60"], rate=1) as child:
        assert len(child.truth("organization")) + len(child.truth("tenant")) >= 50
        child.set_faults()
        assert json.loads(child.control("GET", "faults"))["on"] == {}
        assert child.stats()["requests"] == 0
        url = child.base_url
    with pytest.raises(OSError):
        child.control("GET", "stats")
    assert url.startswith("http://127.0.0.1:")


async def test_a_port_that_is_taken() -> None:
    """Goal: one sentence, no traceback. Method: two simulators want the same port, one in a process of its own."""
    async with simulated(events=0) as simulator:
        port = simulator.base_url.rpartition(":")[2].removesuffix("/v1")
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            async with Simulator(SimulatorOptions(events=0)).serve(int(port)):
                pass
        command = [sys.executable, "-m", "streamer.simulator", "--events", "0", "--port", port]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert done.stderr.count("\n") == 1


def test_sigterm_ends_the_module_cleanly() -> None:
    """Goal: a supervisor can stop it. Method: SIGTERM while a client hangs in a slow answer; exit code 0."""
    arguments = ["--events", "50", "--fault", "latency:value=600"]
    command = [sys.executable, "-m", "streamer.simulator", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        with socket.create_connection(("127.0.0.1", int(base_url.rpartition(":")[2].removesuffix("/v1")))) as client:
            client.sendall(b"GET /v1/organization/audit_logs HTTP/1.1\r\nHost: localhost\r\n\r\n")
            process.terminate()
            _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_the_page_about_the_simulator_is_whole() -> None:
    """Goal: every option, fault and steering request is documented. Method: look for each in docs/simulator.md."""
    text = (Path(__file__).parents[1] / "docs" / "simulator.md").read_text()
    for name in SimulatorOptions.model_fields:
        assert f"`{REPEATED.get(name, '--' + name.replace('_', '-'))}`" in text, name
    for name, fault in FAULTS.items():
        assert f"`{name}`" in text, name
        assert fault.does in text, name
    steering = [line for line in (control.__doc__ or "").splitlines() if line.startswith("| `")]
    assert len(steering) >= 6
    assert all(line in text for line in steering)


async def test_pages_are_fast() -> None:
    """Goal: at least 400 pages of 100 events a second to one client. Method: one client follows the cursor over 400 pages, at best of
    three times."""
    marks = []
    with simulated_in_child(events=20_000, profile="bulk") as child:
        headers, after = {"Authorization": f"Bearer {KEY}"}, None
        async with aiohttp.ClientSession(headers=headers) as session:
            for number in range(1200):
                if number % 400 == 0:
                    marks.append(time.perf_counter())
                parameters = {"limit": "100", "effective_at[gte]": "0"} | ({"after": after} if after else {})
                url = child.base_url + "/organization/audit_logs"
                async with session.get(url, params=parameters) as response:
                    body = await response.read()
                tail = json.loads(b"{" + body[body.rindex(b'"last_id"') :])
                after = tail["last_id"] if tail["has_more"] else None
            marks.append(time.perf_counter())
    assert min(after - before for before, after in pairwise(marks)) < 1.0


# --- a listing against a plain model ---------------------------------------------------------------------------------

events_of_a_listing = st.lists(
    st.tuples(
        st.integers(0, 6),  # effective_at
        st.integers(0, 4),  # seconds that it is hidden
        st.sampled_from(["login.failed", "user.added"]),
        st.sampled_from(["proj_a", "proj_b", None]),
    ),
    max_size=25,
)
filters = st.lists(
    st.tuples(
        st.sampled_from(["event_types", "project_ids"]),
        st.lists(st.sampled_from(["login.failed", "user.added", "proj_a", "proj_b"]), min_size=1, max_size=2).map(
            tuple
        ),
    ),
    max_size=2,
    unique_by=lambda item: item[0],
)


def _walk(store: Store, query: Query) -> Iterator[str]:
    while True:
        page = store.page(query)
        yield from page.ids
        if not page.has_more:
            return
        query = msgspec.structs.replace(query, after=page.last_id)


@settings(deadline=None)
@given(events_of_a_listing, filters, st.integers(0, 7), st.integers(0, 7), st.integers(1, 4), st.integers(0, 10))
def test_a_walk_gives_exactly_what_matches(
    rows: list[Any], wanted: list[Any], start: int, end: int, limit: int, now: int
) -> None:
    """Goal: paging, filters and late insertion lose and repeat nothing. Method: random listings against a sorted list."""
    store, model = Store(), []
    for number, (at, hidden, kind, project) in enumerate(rows):
        tree = {"id": f"e{number}", "type": kind, "effective_at": at, "project": project and {"id": project}}
        store.add(Event(json.dumps(tree).encode(), EventId(f"e{number}"), kind, at), at + hidden, 3)
        values = {"event_types": kind, "project_ids": project}
        visible = max(at + hidden, 3) <= max(now, 3)
        if visible and start <= at < end and all(values[name] in some for name, some in wanted):
            model.append((at, number))
        if number == len(rows) // 2:
            store.page(Query(filters=(("event_types", ("login.failed",)),)))  # the index exists from here on
    store.reveal(max(now, 3))
    query = Query(start=start, end=end, filters=tuple(wanted), limit=limit)
    expected = [f"e{number}" for _, number in sorted(model, reverse=True)]
    assert list(_walk(store, query)) == expected
    if expected:
        above = store.page(msgspec.structs.replace(query, before=expected[-1], limit=100))
        assert above.ids == expected[:-1]


def test_options_that_make_no_sense_end_with_a_sentence_each() -> None:
    """Goal: a mistake on the command line is one line, and exit 2; method: the program with two of them."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer.simulator", "--events", "-1", "--fault", "lightning"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "lightning" in done.stderr
