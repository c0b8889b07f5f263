"""A relay in front of a broker that understands where a request ends, so that a test can cut between any two steps."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Literal

Stage = Literal["asked", "answered"]
Hook = Callable[[int, Stage], bool]
"""(api key, stage): the request has not reached the broker yet, or its answer has not reached the client. False hangs up."""


class Api(int, Enum):
    """The requests that tests cut at."""

    PRODUCE = 0
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    ADD_OFFSETS = 25
    END_TRANSACTION = 26
    COMMIT_OFFSETS = 28


@asynccontextmanager
async def relay(ports: tuple[int, int], hook: Hook) -> AsyncIterator[None]:
    """Between (the port to listen on, the broker's port), until the block ends."""
    here, there = ports
    open_: set[tuple[asyncio.Future[None], asyncio.StreamWriter]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = (asyncio.get_running_loop().create_future(), writer)
        open_.add(mine)
        with suppress(OSError, asyncio.IncompleteReadError):
            broker_reader, broker = await asyncio.open_connection("127.0.0.1", there)
            try:
                await _pass_on(reader, writer, broker_reader, broker, hook)
            finally:
                broker.close()
        writer.close()
        open_.discard(mine)
        mine[0].set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", here)
    try:
        yield
    finally:
        server.close()
        for ended, writer in list(open_):
            writer.close()
            await ended
        await server.wait_closed()


async def _pass_on(
    client: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
    broker: asyncio.StreamReader,
    to_broker: asyncio.StreamWriter,
    hook: Hook,
) -> None:
    while True:
        request = await _frame(client)
        (api,) = struct.unpack_from(">h", request, 4)
        if not hook(api, "asked"):
            return
        to_broker.write(request)
        answer = await _frame(broker)
        if not hook(api, "answered"):
            return
        to_client.write(answer)
        await to_client.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(struct.unpack(">i", size)[0])
