"""Roads: TCP connections that refuse, cut, delay, stall and corrupt, with TLS inside, so that a flipped bit is noticed as it would be in earnest.

daemon -- TLS --> [weather] -- TLS --> [TLS ends here] -- plain --> server
"""

import asyncio
import random
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PIECE_BYTES = 16 << 10
STALL_S = 6.0
"""Longer than the daemon under test waits for an answer."""


@dataclass(frozen=True)
class Weather:
    """The probability of each trouble: `refuse` for a connection, the others for a piece of at most PIECE_BYTES."""

    refuse: float = 0.0
    cut: float = 0.0
    delay: float = 0.0
    corrupt: float = 0.0
    stall: float = 0.0


CALM = Weather()


@dataclass
class Road:
    """Leads from `port` to a server on loopback."""

    name: str
    target: int
    chance: random.Random
    port: int = 0
    weather: Weather = CALM
    struck: Counter[str] = field(default_factory=Counter)
    """What really happened to a connection or a piece of it."""

    def strikes(self, kind: str) -> bool:
        if self.chance.random() >= getattr(self.weather, kind):
            return False
        self.struck[kind] += 1
        return True

    async def open(self, tls: ssl.SSLContext) -> list[asyncio.Server]:
        inner = await asyncio.start_server(self._end_tls, "127.0.0.1", 0, ssl=tls)
        inner_port = inner.sockets[0].getsockname()[1]

        async def travel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.strikes("refuse"):
                writer.transport.abort()
            else:
                await self._join(reader, writer, inner_port, troubled=True)

        outer = await asyncio.start_server(travel, "127.0.0.1", self.port)
        self.port = outer.sockets[0].getsockname()[1]
        return [inner, outer]

    async def _end_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._join(reader, writer, self.target, troubled=False)

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, *, troubled: bool
    ) -> None:
        """Both ways, until either side has ended."""
        there: asyncio.StreamWriter | None = None
        with suppress(OSError):
            from_there, there = await asyncio.open_connection("127.0.0.1", port)
            ways = [
                asyncio.create_task(self._carry(reader, there, troubled=troubled)),
                asyncio.create_task(self._carry(from_there, writer, troubled=troubled)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, there):
            if end is not None:
                end.transport.abort() if troubled else end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, troubled: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                is_cut = False
                if troubled:
                    piece, is_cut = await self._trouble(piece)
                writer.write(piece)
                await writer.drain()
                if is_cut:
                    return

    async def _trouble(self, piece: bytes) -> tuple[bytes, bool]:
        """What becomes of a piece, and whether the connection ends with it."""
        if self.strikes("stall"):
            await asyncio.sleep(STALL_S)
        if self.strikes("delay"):
            await asyncio.sleep(self.chance.uniform(0.02, 0.5))
        if self.strikes("corrupt"):
            changed = bytearray(piece)
            changed[self.chance.randrange(len(changed))] ^= 1 << self.chance.randrange(8)
            piece = bytes(changed)
        if self.strikes("cut"):
            return piece[: self.chance.randrange(len(piece))], True
        return piece, False


@contextmanager
def opened(roads: list[Road], tls: ssl.SSLContext) -> Iterator[None]:
    """In a thread of their own; their ports are known when this yields. Weather may be set from any thread."""
    ready = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        # Handshakes that we corrupt ourselves are no news.
        loop.set_exception_handler(lambda *_: None)
        servers = [server for road in roads for server in await road.open(tls)]
        ends.append((loop, end))
        ready.set()
        await end.wait()
        for server in servers:
            server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="roads", daemon=True)
    thread.start()
    assert ready.wait(10), "the roads did not open"
    try:
        yield
    finally:
        loop, end = ends[0]
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
