"""One process of the crash tests: the real delivery loop from a journal to a sink, until it is done or killed."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from streamer.config import BatchOptions, SinkOptions
from streamer.delivery import Delivery
from streamer.formats import make_format
from streamer.journal.sqlite import open_journal
from streamer.model import Batch, Bookmark, SinkName
from streamer.ports import Sink, SinkContext
from streamer.sinks import SINKS
from streamer.stop import Stop
from streamer.telemetry import Telemetry

SINK = SinkName("out")


class Watched:
    """The sink, and a line on stderr whenever a write has followed an ack; at write number `die_at` the process ends before its ack."""

    def __init__(self, sink: Sink, die_at: int | None) -> None:
        self._sink, self._die_at, self._written = sink, die_at, 0

    async def write(self, batch: Batch, /) -> Bookmark | None:
        if self._written:
            os.write(2, b"acked\n")
        bookmark = await self._sink.write(batch)
        self._written += 1
        if self._written == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return bookmark


async def deliver(job: dict[str, Any]) -> None:
    kind = SINKS[job["kind"]]
    options: SinkOptions = TypeAdapter(kind.options).validate_python(job["options"])
    folder = Path(job["folder"])
    async with open_journal(folder, 1 << 30) as journal:
        position = await journal.position(SINK, "earliest")
        context = SinkContext(name=SINK, position=position, journal=journal.id, folder=folder)
        async with kind.open(options, context) as sink:
            await Delivery(
                name=SINK,
                kind=job["kind"],
                sink=Watched(sink, job.get("die_at_write")),
                acked=position.acked,
                journal=journal,
                format=make_format(options.format),
                where=None,
                redact=None,
                batch=BatchOptions(events=10, wait="0s"),
                telemetry=Telemetry(),
                stop=Stop(),
                caught_up=lambda: True,
            ).run()


if __name__ == "__main__":
    asyncio.run(deliver(json.loads(sys.argv[1])))
