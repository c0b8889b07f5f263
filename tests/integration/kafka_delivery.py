"""The delivery loop with a real journal and a kafka sink, in this process or as one that a test kills:

python -m tests.integration.kafka_delivery STATE OPTIONS-AS-JSON
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from streamer.delivery import Delivery
from streamer.formats.envelope import EnvelopeFormat
from streamer.journal.sqlite import open_journal
from streamer.model import Entry, Progress, SinkName, SourceName
from streamer.ports import SinkContext
from streamer.sinks.kafka import KafkaOptions, open_kafka
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.kafka_mock import message

SINK = SinkName("bus")


async def fill(state: Path, numbers: Iterable[int]) -> None:
    """Append these events, in this order, to the journal in `state`; made if it is not there."""
    os.makedirs(state, exist_ok=True)
    async with open_journal(state, 1 << 30) as journal:
        messages = [message(n, actor=f"user-{n % 5}") for n in numbers]
        entries = [Entry(m.record.envelope.id, n, m.record.line) for n, m in zip(numbers, messages, strict=True)]
        await journal.append(SourceName("acme"), "organization", entries, Progress(1))


async def deliver(state: Path, options: KafkaOptions, stop: Stop | None = None) -> Delivery:
    """Everything in the journal, then return."""
    async with open_journal(state, 1 << 30) as journal:
        context = SinkContext(
            name=SINK, position=await journal.position(SINK, "earliest"), journal=journal.id, folder=state
        )
        async with open_kafka(options, context) as sink:
            delivery = Delivery(
                name=SINK,
                kind="kafka",
                sink=sink,
                acked=context.position.acked,
                journal=journal,
                format=EnvelopeFormat(),
                where=None,
                redact=None,
                batch=options.batch,
                telemetry=Telemetry(),
                stop=stop or Stop(),
                caught_up=lambda: True,
            )
            await delivery.run()
            return delivery


if __name__ == "__main__":
    asyncio.run(deliver(Path(sys.argv[1]), KafkaOptions.model_validate(json.loads(sys.argv[2]))))
