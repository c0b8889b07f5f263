"""The contract of all sinks, for each HTTP sink and for syslog, with servers that keep the other side's part of it."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from aiohttp import web

from tests.receiver import Receiver, Request, says
from tests.records import event_id
from tests.sink_contract import POISON, Answer, Arrived, OtherSide, ServerSinkContract

_POISON_ID = event_id(POISON)


class HttpSide(OtherSide):
    """A server on a port of its own that can go and come back."""

    answers = frozenset({"take", "later", "never", "who", "gone"})
    more: ClassVar[Mapping[str, Any]] = {}
    success: ClassVar[int] = 200

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port, self._answer, self._runner = 0, "take", None
        self._taken: list[Arrived] = []
        self._shown: list[Arrived] = []

    def options(self) -> Mapping[str, Any]:
        return {"url": self.url(), **self.more}

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", Receiver(self.respond).handle)
        self._runner: web.AppRunner | None = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def say(self, answer: Answer) -> None:
        self._answer = answer
        if answer == "gone":
            await self.stop()
        elif self._runner is None:
            await self.start()

    async def arrived(self) -> list[Arrived]:
        return self._taken

    async def shown(self) -> list[Arrived]:
        return self._shown

    def respond(self, request: Request) -> web.Response:
        events = self.events(request)
        self._shown += events
        match self._answer:
            case "later":
                return says(503, "later", Retry_After="1")
            case "who":
                return says(401, "who are you?")
            case "never" if any(event == _POISON_ID for event, _ in events):
                return self.refuse(events)
        self._taken += events
        return self.accept(request, events)

    def events(self, request: Request) -> list[Arrived]:
        """What a request holds, in its order."""
        raise NotImplementedError

    def refuse(self, events: Sequence[Arrived]) -> web.Response:
        return says(400, "bad event")

    def accept(self, request: Request, events: Sequence[Arrived]) -> web.Response:
        return says(self.success, "" if self.success == 204 else "{}")


class _Standard(msgspec.Struct):
    data: msgspec.Raw


class WebhookSide(HttpSide):
    kind = "webhook"
    more: ClassVar[Mapping[str, Any]] = {"secret": "whsec_" + "AAAA" * 8}

    def events(self, request: Request) -> list[Arrived]:
        body = bytes(msgspec.json.decode(request.body, type=_Standard).data)
        assert request.headers["webhook-id"] == json.loads(body)["id"]
        return [(json.loads(body)["id"], body)]


class WebhookArraySide(HttpSide):
    kind = "webhook"
    more: ClassVar[Mapping[str, Any]] = {"layout": "json_array", "body": "bare", "gzip": True}

    def events(self, request: Request) -> list[Arrived]:
        rows = [bytes(row) for row in msgspec.json.decode(request.body, type=list[msgspec.Raw])]
        return [(json.loads(row)["id"], row) for row in rows]


class WebhookLinesSide(HttpSide):
    kind = "webhook"
    more: ClassVar[Mapping[str, Any]] = {"layout": "ndjson"}

    def events(self, request: Request) -> list[Arrived]:
        rows = [bytes(msgspec.json.decode(row, type=_Standard).data) for row in request.body.splitlines()]
        return [(json.loads(row)["id"], row) for row in rows]


class _HecEvent(msgspec.Struct):
    event: msgspec.Raw
    fields: dict[str, str]


class SplunkSide(HttpSide):
    kind = "splunk_hec"
    more: ClassVar[Mapping[str, Any]] = {"token": "t", "ack_poll": "10ms"}

    def events(self, request: Request) -> list[Arrived]:
        if "/ack" in request.path:
            return []
        rows = [msgspec.json.decode(line, type=_HecEvent) for line in request.body.splitlines()]
        return [(row.fields["event_id"], bytes(row.event)) for row in rows]

    def refuse(self, events: Sequence[Arrived]) -> web.Response:
        number = [event for event, _ in events].index(_POISON_ID)
        return says(400, {"text": "Invalid data format", "code": 6, "invalid-event-number": number})

    def accept(self, request: Request, events: Sequence[Arrived]) -> web.Response:
        if "/ack" in request.path:
            return says(200, {"acks": {str(number): True for number in request.json["acks"]}})
        return says(200, {"text": "Success", "code": 0, "ackId": 0})


class SplunkAckSide(SplunkSide):
    more: ClassVar[Mapping[str, Any]] = {**SplunkSide.more, "ack": True}


class ElasticsearchSide(HttpSide):
    kind = "elasticsearch"
    more: ClassVar[Mapping[str, Any]] = {"format": "envelope"}

    def events(self, request: Request) -> list[Arrived]:
        lines = request.body.split(b"\n")[:-1]
        identities = [json.loads(line)["create"]["_id"] for line in lines[::2]]
        documents = [b"{" + re.sub(rb'^\{"@timestamp":"[^"]+",', b"", line) for line in lines[1::2]]
        return list(zip(identities, documents, strict=True))

    def respond(self, request: Request) -> web.Response:
        if self._answer not in ("take", "never"):
            return super().respond(request)
        events = self.events(request)
        self._shown += events
        there = {event for event, _ in self._taken}
        items = []
        for event, document in events:
            if self._answer == "never" and event == _POISON_ID:
                items.append({"create": {"status": 400, "error": {"type": "mapping", "reason": "bad"}}})
            elif event in there:
                items.append({"create": {"status": 409, "error": {"type": "conflict", "reason": "there"}}})
            else:
                self._taken.append((event, document))
                items.append({"create": {"status": 201}})
        return says(200, {"errors": any(i["create"]["status"] != 201 for i in items), "items": items})


class OtlpSide(HttpSide):
    kind = "otlp"

    def events(self, request: Request) -> list[Arrived]:
        records = request.json["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        return [(r["attributes"][0]["value"]["stringValue"], r["body"]["stringValue"].encode()) for r in records]


class LokiSide(HttpSide):
    kind = "loki"
    success = 204

    def events(self, request: Request) -> list[Arrived]:
        """Loki shows entries by their time, and by nothing within the same; so the id decides there."""
        values = [value for stream in request.json["streams"] for value in stream["values"]]
        values.sort(key=lambda value: (int(value[0]), value[2]["event_id"]))
        return [(metadata["event_id"], line.encode()) for _, line, metadata in values]


class DatadogSide(HttpSide):
    kind = "datadog"
    success = 202
    more: ClassVar[Mapping[str, Any]] = {"api_key": "k"}

    def events(self, request: Request) -> list[Arrived]:
        return [(entry["event_id"], entry["message"].encode()) for entry in request.json]


class SentinelSide(HttpSide):
    kind = "sentinel"
    success = 204

    def options(self) -> Mapping[str, Any]:
        return {
            "endpoint": self.url(),
            "authority": self.url(),
            "rule": "dcr-1",
            "tenant_id": "t",
            "client_id": "c",
            "client_secret": "s",
            "format": "envelope",
        }

    def respond(self, request: Request) -> web.Response:
        if "oauth2" in request.path and self._answer != "who":
            return says(200, {"access_token": "t", "expires_in": 3600})
        return super().respond(request)

    def events(self, request: Request) -> list[Arrived]:
        if "oauth2" in request.path:
            return []
        rows = [bytes(row) for row in msgspec.json.decode(request.body, type=list[msgspec.Raw])]
        return [(json.loads(row)["id"], row) for row in rows]


class SumologicSide(HttpSide):
    kind = "sumologic"

    def events(self, request: Request) -> list[Arrived]:
        return [(json.loads(line)["id"], line) for line in request.body.split(b"\n")]

    def refuse(self, events: Sequence[Arrived]) -> web.Response:
        return says(413, "too large")


class SyslogSide(OtherSide):
    """A TCP receiver, which cannot refuse anything."""

    kind = "syslog"
    answers = frozenset({"take", "gone"})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port, self._server = 0, None
        self._ended: list[asyncio.Event] = []
        self._taken: list[Arrived] = []

    def options(self) -> Mapping[str, Any]:
        return {"host": "127.0.0.1", "port": self.port, "tls": None}

    async def start(self) -> None:
        self._server: asyncio.Server | None = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def say(self, answer: Answer) -> None:
        if answer == "gone":
            await self.stop()
        elif self._server is None:
            await self.start()

    async def arrived(self) -> list[Arrived]:
        """When every connection has ended: the sink is closed by then."""
        async with asyncio.timeout(10):
            for ended in self._ended:
                await ended.wait()
        return self._taken

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.Event()
        self._ended.append(ended)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                length = int(await reader.readuntil(b" "))
                message = await reader.readexactly(length)
                _, _, body = message.partition(b'"] ')
                self._taken.append((json.loads(body)["id"], body))
        ended.set()
        writer.close()


SIDES: list[Any] = [
    WebhookSide,
    WebhookArraySide,
    WebhookLinesSide,
    SplunkSide,
    SplunkAckSide,
    ElasticsearchSide,
    OtlpSide,
    LokiSide,
    DatadogSide,
    SentinelSide,
    SumologicSide,
    SyslogSide,
]


class TestServerSinks(ServerSinkContract):
    @pytest.fixture(params=SIDES, ids=lambda side: side.__name__.removesuffix("Side"))
    async def side(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OtherSide]:
        side = request.param(tmp_path)
        await side.start()
        try:
            yield side
        finally:
            await side.stop()
