"""The splunk_hec sink against a server that keeps the event collector's contract."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch
from streamer.sinks.splunk_hec import SplunkHecOptions, open_splunk_hec, probe_splunk_hec
from tests.receiver import AT, Request, batch, context, ids, message, receiver, says, script
from tests.shared_folder import shared_json

TOKEN = "11111111-2222-3333-4444-555555555555"


def options(url: str, **more: Any) -> SplunkHecOptions:
    return SplunkHecOptions.model_validate({"url": url, "token": TOKEN, **more})


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Concatenated JSON objects, read as Splunk does."""
    decoder, text, found, at = json.JSONDecoder(), body.decode(), [], 0
    while at < len(text):
        event, at = decoder.raw_decode(text, at)
        found.append(event)
        while at < len(text) and text[at].isspace():
            at += 1
    return found


class Collector:
    """An event collector: token, channel, bad events by their content, acknowledgement after some polls."""

    def __init__(self, *, ack: bool = False, polls: int = 2) -> None:
        self.ack, self.polls = ack, polls
        self.indexed: list[dict[str, Any]] = []
        self.waiting: dict[int, tuple[int, list[dict[str, Any]]]] = {}
        self.channels: set[str] = set()

    def __call__(self, request: Request) -> web.Response:
        if request.path.endswith("/health"):
            return says(200, {"text": "HEC is healthy", "code": 17})
        if request.headers.get("Authorization") != f"Splunk {TOKEN}":
            return says(403, {"text": "Invalid token", "code": 4})
        if self.ack and "X-Splunk-Request-Channel" not in request.headers:
            return says(400, {"text": "Data channel is missing", "code": 10})
        if request.path.startswith("/services/collector/ack"):
            return self.acknowledge(request)
        assert request.path == "/services/collector/event"
        if not request.body:
            return says(400, {"text": "No data", "code": 5})
        events = events_of(request.body)
        for n, event in enumerate(events):
            if event["fields"]["event_id"].endswith("bad"):
                return says(400, {"text": "Invalid data format", "code": 6, "invalid-event-number": n})
        if not self.ack:
            self.indexed += events
            return says(200, {"text": "Success", "code": 0})
        self.channels.add(request.headers["X-Splunk-Request-Channel"])
        number = len(self.waiting)
        self.waiting[number] = (self.polls, events)
        return says(200, {"text": "Success", "code": 0, "ackId": number})

    def acknowledge(self, request: Request) -> web.Response:
        acks = {}
        for number in request.json["acks"]:
            left, events = self.waiting[number]
            self.waiting[number] = (left - 1, events)
            acks[str(number)] = left <= 1
            if left == 1:
                self.indexed += events
        return says(200, {"acks": acks})


async def test_events_arrive_in_order_with_their_metadata(tmp_path: Path) -> None:
    """Goal: what Splunk indexes is what we hold. Method: read the concatenated objects back."""
    collector = Collector()
    async with receiver(collector) as server:
        made = options(server.url, index="audit", host="h1")
        async with open_splunk_hec(made, context(tmp_path)) as sink:
            events = batch(3)
            await sink.write(events)
            await sink.write(batch(1, replayed=True))
        assert b"E" not in server.requests[0].body.split(b",")[0]
        assert server.requests[0].headers["Content-Encoding"] == "gzip"
    first = collector.indexed[0]
    assert first["time"] == AT.timestamp() + 1
    assert (first["host"], first["source"], first["sourcetype"], first["index"]) == (
        "h1",
        "openai-audit-streamer",
        "openai:audit",
        "audit",
    )
    assert first["event"] == json.loads(events.messages[0].body)
    assert [e["fields"]["event_id"] for e in collector.indexed[:3]] == ids(events.messages)
    assert ["replayed" in e["fields"] for e in collector.indexed] == [False, False, False, True]


async def test_text_formats_are_strings(tmp_path: Path) -> None:
    """Goal: CEF arrives as an event of text. Method: a CEF body."""
    collector = Collector()
    async with (
        receiver(collector) as server,
        open_splunk_hec(options(server.url, format="cef"), context(tmp_path)) as sink,
    ):
        await sink.write(batch(1, body=lambda _: b'CEF:0|"a"|'))
    assert collector.indexed[0]["event"] == 'CEF:0|"a"|'


async def test_the_bad_event_is_named(tmp_path: Path) -> None:
    """Goal: one bad event costs only itself. Method: a collector that refuses one, then the parts as delivery writes them."""
    collector = Collector()
    events = Batch([message(1), message(2, id="bad"), message(3)])
    async with receiver(collector) as server, open_splunk_hec(options(server.url), context(tmp_path)) as sink:
        with pytest.raises(PermanentError) as caught:
            await sink.write(events)
        assert caught.value.rejected == [1]
        for i in (0, 2):
            await sink.write(Batch([events.messages[i]]))
    assert [e["fields"]["event_id"] for e in collector.indexed] == [ids(events.messages)[0], ids(events.messages)[2]]


async def test_every_code_has_its_verdict(tmp_path: Path) -> None:
    """Goal: codes 0 to 27 mean what the specification says. Method: answer each with its status."""
    verdicts = {"ok": None, "health": None, "retry": RetryableError, "config": ConfigError, "poison": PermanentError}
    table = shared_json("data/sinks.json")["splunk_hec"]["hec_codes"]
    answers = [(int(code), status, kind) for code, (status, kind, _) in table.items() if kind != "bug"]
    assert len(answers) >= 27
    left = iter(answers)

    def answer(_: Request) -> web.Response:
        code, status, _kind = now.pop()
        return says(status, {"text": "text", "code": code})

    now: list[tuple[int, int, str]] = []
    async with receiver(answer) as server, open_splunk_hec(options(server.url), context(tmp_path)) as sink:
        for row in left:
            now.append(row)
            verdict = verdicts[row[2]]
            if verdict is None:
                await sink.write(batch(1))
            else:
                with pytest.raises(verdict, match=f"code {row[0]}|answered {row[1]}"):
                    await sink.write(batch(1))
            assert now == []


async def test_statuses_without_a_code(tmp_path: Path) -> None:
    """Goal: proxies and load balancers that answer for Splunk are understood. Method: bare statuses and a page."""

    async def verdict(answer: web.Response) -> type[Exception] | None:
        async with (
            receiver(lambda _: answer) as server,
            open_splunk_hec(options(server.url), context(tmp_path)) as sink,
        ):
            try:
                await sink.write(batch(2))
            except (ConfigError, RetryableError, PermanentError) as error:
                return type(error)
        return None

    assert await verdict(says(413)) is PermanentError
    assert await verdict(says(502, "<html>bad gateway")) is RetryableError
    assert await verdict(says(404)) is ConfigError
    assert await verdict(says(200, "<html>login")) is ConfigError
    assert await verdict(says(303, Location="/en-US/account/login")) is ConfigError


async def test_a_number_out_of_range_blames_nobody(tmp_path: Path) -> None:
    """Goal: a wrong invalid-event-number costs no good event. Method: numbers that cannot be, and the wrong-index code."""
    for number in (2, -1, "x", None):
        body = {"text": "Invalid data format", "code": 6, "invalid-event-number": number}
        async with (
            receiver(lambda _, body=body: says(400, body)) as server,  # type: ignore[misc] # bound now
            open_splunk_hec(options(server.url), context(tmp_path)) as sink,
        ):
            with pytest.raises(PermanentError) as caught:
                await sink.write(batch(2))
        assert caught.value.rejected is None


async def test_acknowledged_batches_return_when_the_indexer_has_them(tmp_path: Path) -> None:
    """Goal: in ack mode returning means indexed. Method: a collector that indexes at the third poll."""
    collector = Collector(ack=True, polls=3)
    async with (
        receiver(collector) as server,
        open_splunk_hec(options(server.url, ack=True, ack_poll="10ms"), context(tmp_path)) as sink,
    ):
        await sink.write(batch(2))
        assert len(collector.indexed) == 2
        await sink.write(batch(2))
        polls = [r for r in server.requests if "/ack" in r.path]
    assert len(collector.indexed) == 4
    assert len(polls) == 6
    assert len(collector.channels) == 1
    assert all(r.path.endswith(f"?channel={next(iter(collector.channels))}") for r in polls)


async def test_what_is_never_acknowledged_is_given_up(tmp_path: Path) -> None:
    """Goal: a lost batch is sent again. Method: a collector that never acknowledges, and one whose polls fail."""
    collector = Collector(ack=True, polls=10**9)
    made = {"ack": True, "ack_poll": "10ms", "ack_timeout": "150ms"}
    async with receiver(collector) as server, open_splunk_hec(options(server.url, **made), context(tmp_path)) as sink:
        with pytest.raises(RetryableError, match="acknowledged nothing within 150ms"):
            await sink.write(batch(1))

    def failing(request: Request) -> web.Response:
        return says(503, {"code": 19, "text": "ack down"}) if "/ack" in request.path else Collector(ack=True)(request)

    async with receiver(failing) as server, open_splunk_hec(options(server.url, **made), context(tmp_path)) as sink:
        with pytest.raises(RetryableError, match="ack down"):
            await sink.write(batch(1))
        assert sum("/ack" in r.path for r in server.requests) > 1


@pytest.mark.parametrize(
    "answers",
    [
        [lambda: says(200, {"text": "Success", "code": 0})],
        [
            lambda: says(200, {"text": "Success", "code": 0, "ackId": 0}),
            lambda: says(400, {"text": "ACK is disabled", "code": 14}),
        ],
        [lambda: says(200, {"text": "Success", "code": 0, "ackId": 0}), lambda: says(400, "nonsense")],
    ],
)
async def test_a_token_without_acknowledgement_holds(tmp_path: Path, answers: list[Any]) -> None:
    """Goal: a wrong token setting dead-letters nothing. Method: the ways in which Splunk tells."""
    async with (
        receiver(script(*answers)) as server,
        open_splunk_hec(options(server.url, ack=True, ack_poll="10ms"), context(tmp_path)) as sink,
    ):
        with pytest.raises(ConfigError):
            await sink.write(batch(1))


async def test_cookies_bind_polls_to_the_collector_that_took_the_events(tmp_path: Path) -> None:
    """Goal: acknowledgement works behind a load balancer. Method: a server that sets a cookie and wants it back."""
    collector = Collector(ack=True, polls=1)

    def answer(request: Request) -> web.Response:
        response = collector(request)
        response.set_cookie("node", "7")
        return response

    async with (
        receiver(answer) as server,
        open_splunk_hec(options(server.url, ack=True, ack_poll="10ms"), context(tmp_path)) as sink,
    ):
        await sink.write(batch(1))
        cookies = [r.headers.get("Cookie") for r in server.requests]
    assert cookies == [None, "node=7"]


async def test_probe_asks_for_health_and_token_and_indexes_nothing(tmp_path: Path) -> None:
    """Goal: `check --online` finds a wrong token. Method: a good and a wrong one; nothing is indexed."""
    collector = Collector()
    async with receiver(collector) as server:
        assert "takes the token" in await probe_splunk_hec(options(server.url), context(tmp_path))
        with pytest.raises(ConfigError, match="Invalid token"):
            await probe_splunk_hec(options(server.url, token="wrong"), context(tmp_path))
    assert collector.indexed == []


def test_the_url_may_be_given_whole() -> None:
    """Goal: no doubled path. Method: the ways in which people write it."""
    for url in ("https://h:8088", "https://h:8088/", "https://h:8088/services/collector/event"):
        assert options(url).url == "https://h:8088"
    with pytest.raises(ValidationError):
        SplunkHecOptions.model_validate({"url": "https://h:8088"})
