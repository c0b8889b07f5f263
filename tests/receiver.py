"""A real HTTP server on loopback that keeps what it was sent and answers as a test says; and messages to send."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from multidict import CIMultiDictProxy

from streamer.model import Batch, Message, Seq, SinkName
from streamer.ports import SinkContext, SinkPosition
from tests.records import record

AT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@dataclass
class Request:
    method: str
    path: str
    """With its query."""
    headers: CIMultiDictProxy[str]
    body: bytes
    """Decompressed."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        assert self.body.endswith(b"\n"), "the last line has no end"
        return [json.loads(line) for line in self.body.splitlines()]


Answer = Callable[[Request], web.Response | Awaitable[web.Response]]


@dataclass
class Receiver:
    answer: Answer
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        kept = Request(request.method, request.path_qs, request.headers, await request.read())
        self.requests.append(kept)
        result = self.answer(kept)
        return result if isinstance(result, web.Response) else await result


def says(status: int, body: Any = None, **headers: str) -> web.Response:
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    return web.Response(status=status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()})


def script(*answers: Callable[[], web.Response]) -> Answer:
    """One after the other; the last for ever."""
    left = list(answers)
    return lambda _: (left.pop(0) if len(left) > 1 else left[0])()


@asynccontextmanager
async def receiver(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    kept = Receiver(answer)
    app = web.Application(client_max_size=1 << 28)
    app.router.add_route("*", "/{path:.*}", kept.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        kept.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        yield kept
    finally:
        await runner.cleanup()


def context(folder: Path, name: str = "out") -> SinkContext:
    position = SinkPosition(Seq(0), None, SinkName(name))
    return SinkContext(name=SinkName(name), position=position, journal="journal-1", folder=folder)


def message(
    n: int = 1,
    *,
    at: datetime | None = None,
    replayed: bool = False,
    body: Callable[[bytes], bytes] = lambda line: line,
    **changes: Any,
) -> Message:
    """Event `n`, a second after the one before it; `changes` replace fields of its envelope."""
    made = record(n, time=at or AT + timedelta(seconds=n), **changes)
    return Message(made, body(made.line), replayed)


def batch(count: int = 3, **kwargs: Any) -> Batch:
    return Batch([message(n, **kwargs) for n in range(1, count + 1)])


def ids(messages: Sequence[Message]) -> list[str]:
    return [m.record.envelope.id for m in messages]
