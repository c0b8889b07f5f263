"""Sink `kafka`. The client library is imported when the sink is opened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.ports import Sink, SinkContext
from streamer.sinks import SinkType
from streamer.sinks.kafka.options import KafkaOptions

__all__ = ["SINK", "KafkaOptions", "open_kafka", "probe_kafka"]


@asynccontextmanager
async def open_kafka(options: KafkaOptions, context: SinkContext) -> AsyncIterator[Sink]:
    from streamer.sinks.kafka.sink import open_sink

    async with open_sink(options, context) as sink:
        yield sink


async def probe_kafka(options: KafkaOptions, context: SinkContext) -> str:
    from streamer.sinks.kafka.sink import probe

    return await probe(options, context)


SINK = SinkType(KafkaOptions, open_kafka, probe_kafka, looks_inside=False)
