"""The admin port: what it answers, to whom, and that nothing an event says becomes more than text."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from pydantic import ValidationError

from streamer.admin.access import Access
from streamer.admin.drawing import Box, charts, flow, shortened
from streamer.admin.history import SAMPLES, History, take
from streamer.admin.latest import REACH, SHOWN, Filter, Latest
from streamer.admin.page import charts_section, events_section
from streamer.admin.server import HEADERS, MAX_WATCHERS, serve_admin
from streamer.admin.verdict import lateness, quiet, trouble, verdict
from streamer.cli.top import rates
from streamer.config import AdminOptions
from streamer.errors import ConfigError
from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.model import Actor, Entry, Progress, Severity, SinkName, SourceName, encode_envelope
from streamer.ports import DeadLetter
from streamer.stop import Stop
from streamer.telemetry import ListingStatus, SinkStatus, Telemetry
from tests.records import SOURCE, entries, envelope

NOW = 1_800_000_000.0
TOKEN = "not-for-everybody"
HOSTILE = (
    "<script>window.struck=1</script>",
    "\"><img src=x onerror='window.struck=1'>",
    "</title></svg></textarea><svg onload=window.struck=1>",
    "\u202egnp.exe\u2066\u200b\x1b[31m\x00\x85\u2028",
    "javascript:window.struck=1",
    "&lt;script&gt; ${7*7} {{7*7}} `x`",
    "A" * 100_000,
)


@dataclass
class Port:
    """An admin port that is served, and what is behind it."""

    url: str
    session: ClientSession
    telemetry: Telemetry
    journal: SqliteJournal
    history: History
    stop: Stop
    listing: ListingStatus
    sink: SinkStatus
    appended: int = 0

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.session.get(self.url + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def append(self, *names: str, severity: Severity = "low") -> None:
        entries = []
        for name in names:
            made = envelope(self.appended)
            made.actor = Actor(type="session", via="session", id=name, email=name, name=name)
            made.severity = severity
            made.labels["note"] = name
            made.event = msgspec.Raw(json.dumps({"id": made.id, "type": made.type, "said": name}).encode())
            entries.append(Entry(made.id, int(made.time.timestamp()), encode_envelope(made)))
            self.appended += 1
        progress = Progress(watermark=self.appended)
        await self.journal.append(SOURCE, "organization", entries, progress)

    @asynccontextmanager
    async def watched(self, query: str = "") -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """What the page's script is told."""
        async with self.session.get(self.url + "/events" + query) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["Content-Type"].startswith("text/event-stream")

            async def told() -> AsyncIterator[dict[str, Any]]:
                async for block in blocks(answer.content):
                    if block[0] == b"event: sections":
                        assert len(block) == 2, "a message is one line of data"
                        message = json.loads(block[1].removeprefix(b"data: "))
                        if message["sections"]:
                            yield message

            yield told()


async def blocks(stream: asyncio.StreamReader) -> AsyncIterator[list[bytes]]:
    lines: list[bytes] = []
    while True:
        line = await stream.readuntil(b"\n")
        if not line:
            return
        if line == b"\n":
            yield lines
            lines = []
        else:
            lines.append(line[:-1])


@asynccontextmanager
async def served(folder: Path, **options: Any) -> AsyncIterator[Port]:
    telemetry, stop = Telemetry(lambda: NOW), Stop()
    listing = telemetry.listing_opened(SOURCE, "organization", 10.0)
    sink = telemetry.sink_opened(SinkName("siem"), "webhook", 0)
    history = History(telemetry, stop)
    async with open_journal(folder, 1 << 26) as journal:
        admin = AdminOptions.model_validate({"listen": "127.0.0.1:0", **options})
        configured = "sinks:\n  siem: {token: '**********'}\n  note: <b>\n"
        async with (
            serve_admin(admin, telemetry, journal, history, lambda: configured, stop) as port,
            ClientSession(read_bufsize=1 << 22) as session,
        ):
            url = f"http://127.0.0.1:{port}"
            yield Port(url, session, telemetry, journal, history, stop, listing, sink)


class Elements(HTMLParser):
    """The tags and attributes that a browser would see, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(html: str) -> Elements:
    """No script but ours, no handler, no address that is not ours, nothing that cannot be printed."""
    seen = Elements(html)
    for tag, attributes in seen.tags:
        assert tag not in {"img", "iframe", "object", "style", "base", "embed"}
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "srcdoc", "xlink:href"}]
        if tag == "script":
            assert attributes["src"] == "/page.js"
        assert (attributes.get("href") or "/")[0] in "/#"
    strange = {c for c in seen.text if not c.isprintable() and c != "\n"}
    assert not strange, strange
    return seen


async def test_what_is_for_machines_is_open_and_holds_no_event(tmp_path: Path) -> None:
    """Goal: scraping and probes need no token and never show an event. Method: a token is set, a telling event is there."""
    async with served(tmp_path, token=TOKEN) as port:
        await port.append("the-secret-event")
        port.telemetry.listing_walked(port.listing, 1)
        for path, expected in (("/metrics", "streamer_build_info"), ("/healthz", "ok"), ("/readyz", "ready")):
            status, text = await port.get(path)
            assert status == 200
            assert expected in text
            assert "the-secret-event" not in text


async def test_why_it_is_not_ready(tmp_path: Path) -> None:
    """Goal: /readyz names each listing and why. Method: every state of a listing after another."""
    async with served(tmp_path) as port:
        assert await port.get("/readyz") == (503, "acme/organization has not been read yet\n")
        port.telemetry.listing_failing(port.listing, "no route", 1.0)
        assert await port.get("/readyz") == (503, "acme/organization has not been read yet: no route\n")
        port.telemetry.listing_held(port.listing, "the key was refused")
        assert await port.get("/readyz") == (503, "acme/organization is held: the key was refused\n")
        port.telemetry.listing_walked(port.listing, 1)
        assert await port.get("/readyz") == (200, "ready\n")
        port.listing.last_success = NOW - 36
        assert await port.get("/readyz") == (503, "acme/organization was last read 36 s ago, more than 35 s\n")


async def test_every_answer_has_the_strict_headers(tmp_path: Path) -> None:
    """Goal: no answer, not even an error, comes without the policy. Method: every route and some that do not exist."""
    paths = ("/", "/event/1", "/event/7", "/page.js", "/page.css", "/icon.svg", "/status", "/metrics", "/nothing")
    async with served(tmp_path) as port:
        await port.append("ana")
        for path in paths:
            async with port.session.get(port.url + path) as answer:
                assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
        async with port.session.get(port.url + "/events") as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


async def test_the_page_says_the_essentials_without_a_script(tmp_path: Path) -> None:
    """Goal: all that matters is in the first answer. Method: its text, with events, a dead letter and a held sink."""
    async with served(tmp_path) as port:
        await port.append("ana", "björn")
        port.telemetry.listing_walked(port.listing, int(NOW) - 3)
        port.telemetry.listing_live(port.listing)
        text = Elements((await port.get("/"))[1]).text
        assert "Everything is all right" in text
        assert "björn" in text
        assert "None: no sink has refused an event for good." in text
        assert "read up to 3 s ago" in text

        port.telemetry.sink_held(port.sink, "HTTP 401: who are you?")
        letter = DeadLetter(
            sink=SinkName("siem"), seq=1, id="e1", type="login.failed", reason="too <b>bold</b>", attempts=3, at=NOW, line=b"{}"
        )  # fmt: skip
        await port.journal.position(SinkName("siem"), "earliest")
        await port.journal.ack(SinkName("siem"), 1, None, [letter])
        html = (await port.get("/"))[1]
        text = assert_harmless(html).text
        assert "Something is wrong." in text
        assert "sink siem is held: HTTP 401: who are you?" in text
        assert "too <b>bold</b>" in text
        assert 'class="box bad"' in html
        assert "note: <b>" in text, "the configuration is text, too"
        assert "✗ streamer" in text


async def test_an_event_in_every_format(tmp_path: Path) -> None:
    """Goal: the detail page shows the line and all formats; a number that is not there is a 404. Method: asked by number."""
    async with served(tmp_path) as port:
        await port.append("ana")
        status, html = await port.get("/event/1")
        seen = assert_harmless(html)
        assert status == 200
        for part in ("envelope", "raw", "ocsf", "ecs", "cef", "leef", "CEF:0|", "LEEF:2.0|", '"class_uid": '):
            assert part in seen.text, part
        for path in ("/event/2", "/event/0", "/event/999999999999999999"):
            assert (await port.get(path))[0] == 404, path
        assert (await port.get("/event/x"))[0] == 404


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_events_are_text(name: str, tmp_path: Path) -> None:
    """Goal: nothing in an event becomes markup or hides. Method: a hostile actor, seen by a parser on page, detail, stream
    and in the reason of a sink; the size of the answers is bounded."""
    async with served(tmp_path) as port:
        await port.append(name)
        port.telemetry.sink_held(port.sink, f"the receiver says {name}")
        page, detail = (await port.get("/"))[1], (await port.get("/event/1"))[1]
        for html in (page, detail):
            assert_harmless(html)
            assert "<script>window" not in html
        assert len(page) < 100_000
        assert len(detail) < 1_500_000
        async with port.watched() as told:
            async for message in told:
                for section in message["sections"].values():
                    assert_harmless(section)
                break


async def test_the_filter(tmp_path: Path) -> None:
    """Goal: the filter finds by text and severity, also what is not among the newest 50, and shows itself as text.
    Method: one grave event before many others."""
    async with served(tmp_path) as port:
        await port.append("needle ärger", severity="critical")
        await port.append(*(f"hay-{n}" for n in range(SHOWN + 5)))
        _, everything = await port.get("/")
        assert "needle" not in everything
        assert everything.count('<li><a id="event-') == SHOWN
        for query in ("q=NEEDLE", "severity=high", "q=needle&severity=critical", "q=%C3%84rger"):
            _, found = await port.get("/?" + query)
            assert found.count('<li><a id="event-') == 1, query
            assert "needle" in found
        _, none = await port.get("/?q=%22%3E%3Cscript%3E&severity=%3Cb%3E")
        assert_harmless(none)
        assert "No recent event is like that." in none


def test_an_event_cannot_choose_its_severity_for_the_filter() -> None:
    """Goal: the filter reads the envelope's severity and no other. Method: another one in every text and payload of an event."""
    other = '"severity":"critical"'
    made = envelope(1)
    made.severity = "low"
    for name in ("id", "type", "family", "action", "source"):
        setattr(made, name, f"{other} {name}")
    made.tags, made.labels = [other], {"severity": "critical"}
    made.actor = Actor(type="session", via="session", id=other, email=other, name=other)
    made.details = msgspec.Raw(b'{"severity":"critical"}')
    made.event = msgspec.Raw(b'{"severity":"critical"}')
    line = encode_envelope(made)
    assert Filter(severity="low").wants(line)
    assert not Filter(severity="medium").wants(line)


async def test_the_filter_reaches_a_bounded_way_back(tmp_path: Path) -> None:
    """Goal: a filter that finds nothing reads a bounded part of the journal. Method: a needle just outside of it."""
    async with served(tmp_path) as port:
        await port.append("needle")
        await port.append(*(f"hay-{n}" for n in range(REACH)))
        latest = Latest(port.journal, Filter("needle"))
        await latest.look()
        assert not latest.found
        await port.append("needle")
        await latest.look()
        assert [record.seq for record in latest.found] == [REACH + 2]


async def test_what_a_watcher_is_told(tmp_path: Path) -> None:
    """Goal: first everything, then only what has changed, until the daemon stops. Method: a stream across a change."""
    async with served(tmp_path) as port, port.watched() as told:
        first = await anext(told)
        assert set(first["sections"]) == {"verdict", "flow", "charts", "events", "dead", "names"}
        await port.append("ana")
        second = await anext(told)
        assert set(second["sections"]) == {"events"}
        assert "ana" in second["sections"]["events"]
        port.telemetry.sink_held(port.sink, "no")
        third = await anext(told)
        assert set(third["sections"]) == {"verdict", "flow"}
        assert third["title"] == "✗ streamer"
        port.stop.set()
        with pytest.raises(StopAsyncIteration):
            await anext(told)


async def test_watchers_are_bounded(tmp_path: Path) -> None:
    """Goal: open pages cannot exhaust the daemon. Method: one too many."""
    async with served(tmp_path) as port:
        answers = [await port.session.get(port.url + "/events") for _ in range(MAX_WATCHERS)]
        assert [answer.status for answer in answers] == [200] * MAX_WATCHERS
        assert (await port.get("/events"))[0] == 503
        for answer in answers:
            answer.close()
        status = 503
        async with asyncio.timeout(20):
            while status == 503:
                async with port.session.get(port.url + "/events") as answer:
                    status = answer.status
        assert status == 200


async def test_a_token_opens_the_page(tmp_path: Path) -> None:
    """Goal: with a token, page, events and status want it by header or cookie. Method: without, wrong, right; then another."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with served(tmp_path / "state", token_file=file) as port:
        await port.append("the-secret-event")
        guarded = ("/", "/events", "/event/1", "/status")
        for path in (*guarded, "/?token=wrong", f"/status?token={TOKEN}"):
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": TOKEN},
                {"Cookie": f"streamer_admin={TOKEN}"},
            ):
                status, text = await port.get(path, **headers)
                assert status == 401, (path, headers)
                assert "the-secret-event" not in text
        assert (await port.get("/status", Authorization=f"Bearer {TOKEN}"))[0] == 200
        async with port.session.get(f"{port.url}/?token={TOKEN}", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN not in cookie
        given = {"Cookie": cookie.partition(";")[0]}
        assert "the-secret-event" in (await port.get("/", **given))[1]
        file.write_text("another token")
        assert (await port.get("/", **given))[0] == 401


async def test_a_foreign_name_for_this_machine_is_refused(tmp_path: Path) -> None:
    """Goal: a web page elsewhere cannot read us by pointing its own name at 127.0.0.1. Method: the Host header."""
    async with served(tmp_path) as port:
        for host, expected in (
            ("evil.example", 403),
            ("localhost:9464", 200),
            ("[::1]:9464", 200),
            ("127.0.0.1.evil.example", 403),
        ):
            assert (await port.get("/", Host=host))[0] == expected, host


async def test_the_page_can_be_turned_off(tmp_path: Path) -> None:
    """Goal: `page: false` leaves what is for machines. Method: all paths."""
    async with served(tmp_path, page=False) as port:
        assert [(await port.get(p))[0] for p in ("/", "/events", "/event/1", "/page.js")] == [404] * 4
        assert (await port.get("/status"))[0] == 200


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "streamer.example:9464"])
def test_a_page_for_everybody_is_a_mistake(listen: str) -> None:
    """Goal: events are never shown to a network by oversight. Method: the configuration without token, with one, without page."""
    with pytest.raises(ValidationError, match="set token_file, or page: false"):
        AdminOptions(listen=listen)
    assert not AdminOptions(listen=listen, page=False).loopback
    assert AdminOptions.model_validate({"listen": listen, "token": TOKEN}).page
    assert not Access(AdminOptions(listen=listen, page=False)).allows({}, {}, "127.0.0.1")


async def test_a_token_file_that_is_not_there(tmp_path: Path) -> None:
    """Goal: said at the start, not at the first look. Method: a missing file."""
    with pytest.raises(ConfigError, match="admin.token: cannot read"):
        async with served(tmp_path, token_file=tmp_path / "missing"):
            pytest.fail("it was served")


def rows(**changes: Any) -> dict[str, Any]:
    telemetry = Telemetry(lambda: NOW)
    row = telemetry.listing_opened(SourceName("acme"), "organization", 10.0)
    telemetry.listing_walked(row, int(NOW))
    telemetry.listing_live(row)
    for name, value in changes.items():
        setattr(row, name, value)
    return telemetry.status.as_dict(NOW)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Everything is all right: every listing is live and every sink has every event."),
        ({"state": "held", "error": "no key"}, "Something is wrong."),
        ({"last_success": NOW - 36}, "Something is wrong."),
        (
            {"state": "catching up", "started_from": 100, "target": 200, "watermark": 150},
            "Nothing is wrong so far: acme/organization is catching up, 50%.",
        ),
    ],
)
def test_the_verdict(changes: dict[str, Any], sentence: str) -> None:
    """Goal: one sentence for every situation. Method: rows as the telemetry makes them."""
    assert verdict(rows(**changes)) == sentence
    assert bool(trouble(rows(**changes))) == (sentence == "Something is wrong.")


LIVE = rows()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"running": False}, "the daemon is not running"),
        (
            {"listings": [{**LIVE["listings"][0], "canary": "login.succeeded", "canary_due": NOW - 60}]},
            "should have shown the canary login.succeeded 60 s ago",
        ),
        (
            {"listings": [{**LIVE["listings"][0], "recheck_due": {"2d": NOW - 3 * 3600, "2h": NOW - 3600}}]},
            "should have walked the last 2d again 3 h ago",
        ),
        (
            {"listings": [{**LIVE["listings"][0], "recheck_due": {"2d": NOW - 3 * 3600}, "recheck_error": "500"}]},
            "should have walked the last 2d again 3 h ago: 500",
        ),
        ({"sinks": [{"sink": "siem", "state": "held", "error": "403"}]}, "sink siem is held: 403"),
        ({"journal": {"full": True}}, "the journal is full: intake waits"),
        ({"journal": {"full": True, "error": "no space"}}, "the journal is full: intake waits (no space)"),
        ({"standby": {"error": "503"}}, "the lease cannot be asked for: 503"),
        (
            {"configuration": {"refused": ["a: bad", "b: bad"]}},
            "the configuration file was refused, the one before stays in force: a: bad; b: bad",
        ),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], sentence: str) -> None:
    """Goal: each trouble has its sentence, and two are counted. Method: rows as `/status` shows them, changed one by one."""
    found = trouble(LIVE | changes)
    assert [one for one in found if sentence in one], found
    assert verdict(LIVE | changes) == "Something is wrong."
    two = LIVE | changes | {"listings": [{**LIVE["listings"][0], "state": "failing", "error": "500"}]}
    if "listings" not in changes:
        assert verdict(two) == "2 things are wrong."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"listings": [], "configuration": {"sources": 1}}, "Starting: no listing has been opened yet."),
        (
            {"listings": [], "configuration": {"sources": 0}},
            "Everything is all right: the other replicas read every source.",
        ),
        (
            {"listings": [], "standby": {"leading": False, "since": NOW, "holder": "pod-2"}},
            "Standing by: pod-2 is at work.",
        ),
        (
            {"listings": [], "standby": {"leading": False, "since": NOW, "holder": ""}},
            "Standing by: another process is at work.",
        ),
        (
            {"listings": [{**LIVE["listings"][0], "state": "starting"}]},
            "Nothing is wrong so far: acme/organization is starting.",
        ),
        (
            {"sinks": [{"sink": "siem", "state": "delivering", "error": None, "backlog": 1}]},
            "Everything is all right: every listing is live, 1 delivery under way.",
        ),
        (
            {"sinks": [{"sink": "siem", "state": "delivering", "error": None, "backlog": 1200}]},
            "Everything is all right: every listing is live, 1,200 deliveries under way.",
        ),
    ],
)
def test_what_is_not_wrong_is_said_too(changes: dict[str, Any], sentence: str) -> None:
    """Goal: a start, a standby and a backlog are no trouble. Method: as above."""
    assert trouble(LIVE | changes) == []
    assert verdict(LIVE | changes) == sentence


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "-"),
        ({"last_event_at": NOW - 7}, "7 s ago"),
        ({"last_event_at": NOW - 3 * 86_400, "usual_gap": 400.0}, "3 d ago, usually every 7 min"),
        ({"last_event_at": NOW - 3 * 3600, "usual_gap": 40.0}, "3 h ago, usually every 40 s"),
    ],
)
def test_silence_is_said_beside_what_is_usual(row: dict[str, Any], said: str) -> None:
    """Goal: a distance to read, not to calculate with. Method: from seconds to days."""
    assert quiet(NOW, row) == said
    assert lateness({}) == "-"
    assert lateness({"lateness": {"p50": 1.04, "p99": 20.0, "max": 61.5}}) == "1.0/20.0/61.5 s"


def test_the_history_is_bounded_and_gives_rates() -> None:
    """Goal: an hour and no more is kept; rates are those of the last half minute. Method: a clock that is turned by hand."""
    clock = [NOW]
    telemetry = Telemetry(lambda: clock[0])
    row = telemetry.listing_opened(SourceName("acme"), "organization", 10.0)
    history = History(telemetry, Stop())
    for n in range(SAMPLES + 50):
        clock[0] += 10
        row.received += 0 if n < SAMPLES else 500
        telemetry.events_rated(["critical"])
        history.sample()
    assert len(history.samples) == SAMPLES
    assert history.rates()[0] == {("acme", "organization"): 50.0}
    picture = charts(list(history.samples))
    assert "50/s, at most 50/s" in picture
    assert "60 min ago" in picture
    assert "359 critical" in picture
    assert len(picture) < 40_000


def test_charts_of_the_first_moment() -> None:
    """Goal: one sample is enough for a picture. Method: none was taken but the first."""
    telemetry = Telemetry(lambda: NOW)
    assert "10 min ago" in charts([take(telemetry.status, NOW)])


def test_many_listings_stay_readable() -> None:
    """Goal: a hundred rows are a picture of a dozen, those in trouble first. Method: one bad among them."""
    boxes = [Box(f"s{n}", "bad" if n == 77 else "good", []) for n in range(100)]
    shown = shortened(boxes)
    assert [shown[0].title, shown[-1].title, len(shown)] == ["s77", "89 more", 12]
    assert "s77" in flow(boxes, Box("journal", "good", []), [])


def test_rates_of_top_survive_a_restart() -> None:
    """Goal: a daemon that begins anew has no negative rate. Method: counts that fall."""
    from collections import deque

    assert rates(deque([(1.0, {"a": 5})])) == {}
    assert rates(deque([(1.0, {"a": 5}), (3.0, {"a": 25, "b": 2})])) == {"a": 10.0, "b": 1.0}
    assert rates(deque([(1.0, {"a": 5}), (3.0, {"a": 1})])) == {"a": 0.0}


async def test_what_a_watcher_costs_under_load(tmp_path: Path) -> None:
    """Goal: a page that is watched, with a filter, costs less than 5 % of a core at 1,000 events a second. Method: the processor time of
    one look after each thousand events, the median of several."""
    async with served(tmp_path) as port:
        latest = Latest(port.journal, Filter("ana", "medium"))
        costs = []
        for n in range(7):
            await port.journal.append(SOURCE, "organization", entries(1000, first=1 + 1000 * n), Progress(watermark=n))
            for _ in range(SAMPLES):
                port.history.sample()
            before = time.process_time()
            await latest.look()
            html = events_section(latest.found, Filter()) + charts_section(port.history.samples)
            costs.append(time.process_time() - before)
            assert html.count("<li>") == SHOWN
        assert statistics.median(costs) < 0.05
