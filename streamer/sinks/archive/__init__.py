"""The compliance archive: closed objects, a chain of signed manifests, and what verifies and reads them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.ports import Sink, SinkContext
from streamer.sinks import SinkType
from streamer.sinks.archive.options import ArchiveOptions

__all__ = ["SINK", "ArchiveOptions", "open_archive", "probe_archive"]


@asynccontextmanager
async def open_archive(options: ArchiveOptions, context: SinkContext) -> AsyncIterator[Sink]:
    from streamer.sinks.archive import sink

    async with sink.open_archive(options, context) as archive:
        yield archive


async def probe_archive(options: ArchiveOptions, context: SinkContext) -> str:
    from streamer.sinks.archive import sink

    return await sink.probe_archive(options, context)


SINK = SinkType(ArchiveOptions, open_archive, probe_archive, looks_inside=False)
