"""An upstream on loopback that answers byte for byte as a test says, and remembers what it was asked."""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from streamer.telemetry import Telemetry


@dataclass
class Asked:
    """A request as it came over the wire."""

    target: str
    headers: dict[str, str]
    """By lower-case name."""

    @property
    def query(self) -> str:
        """Raw."""
        return urlsplit(self.target).query

    @property
    def parameters(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True, strict_parsing=True)


Script = Callable[[Asked], bytes | Awaitable[bytes]]
CUT = b"\0cut\0"
"""At the end of an answer: the connection ends here."""


@dataclass
class Wire:
    answer: Script
    asked: list[Asked] = field(default_factory=list)
    base_url: str = ""
    connections: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *fields = head.rstrip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in fields)}
                asked = Asked(line.split(" ")[1], headers)
                self.asked.append(asked)
                said = self.answer(asked)
                reply = said if isinstance(said, bytes) else await said
                writer.write(reply.removesuffix(CUT))
                await writer.drain()
                if reply.endswith(CUT):
                    break


@asynccontextmanager
async def wire(answer: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    kept = Wire(answer)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(kept.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    kept.base_url = f"https://localhost:{port}/v1" if tls else f"http://127.0.0.1:{port}/v1"
    try:
        yield kept
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reply(body: bytes | str = b"", status: int = 200, length: int | None = None, **headers: str) -> bytes:
    """A response; `_` in a header's name stands for `-`, `length` for another Content-Length than the true one."""
    data = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": "application/json", "x-request-id": "req_test", "Content-Length": str(len(data))}
    if length is not None:
        fields["Content-Length"] = str(length)
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


def script(*replies: bytes) -> Script:
    """One after the other; the last for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def event(number: int, at: int, type: str = "api_key.created", **more: Any) -> bytes:
    return json.dumps(
        {"id": f"audit_log-{number:024d}", "type": type, "effective_at": at, type: {"id": "k"}, **more}
    ).encode()


_MISSING: Any = object()


def page(records: Iterable[bytes], has_more: Any = False, last_id: Any = _MISSING) -> bytes:
    """The body of a list; `last_id` is that of the last record unless a test says otherwise."""
    records = list(records)
    if last_id is _MISSING:
        found = re.search(rb'"id": ?"([^"]*)"', records[-1]) if records else None
        last_id = found[1].decode() if found else None
    rest = json.dumps({"first_id": None, "last_id": last_id, "has_more": has_more}).encode()
    return b'{"object":"list","data":[' + b",".join(records) + b"]," + rest[1:]


class FaithfulList:
    """Newest first, half-open times, cursors: what the API promises, over a list of (id, effective_at, bytes)."""

    def __init__(self, events: Iterable[tuple[str, int, bytes]]) -> None:
        self.events = sorted(events, key=lambda each: -each[1])

    def __call__(self, asked: Asked) -> bytes:
        said = dict(asked.parameters)
        start, end = int(said.get("effective_at[gte]", 0)), int(said.get("effective_at[lt]", 1 << 60))
        found = [each for each in self.events if start <= each[1] < end]
        if "after" in said:
            place = [each[0] for each in self.events].index(said["after"])
            older = {each[0] for each in self.events[place + 1 :]}
            found = [each for each in found if each[0] in older]
        limit = int(said.get("limit", 20))
        return reply(page([each[2] for each in found[:limit]], has_more=len(found) > limit))


def anomalies(telemetry: Telemetry) -> dict[str, float]:
    """How often each kind was counted."""
    return {
        sample.labels["kind"]: sample.value
        for metric in telemetry.registry.collect()
        if metric.name == "streamer_api_anomalies"
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def requests(telemetry: Telemetry) -> dict[str, float]:
    """How many requests ended in each status."""
    return {
        sample.labels["status"]: sample.value
        for metric in telemetry.registry.collect()
        if metric.name == "streamer_api_requests"
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
