"""From a journal into a real Apache Kafka on this machine, against librdkafka: a bare loop over the same bodies in C.

Both are idempotent with acks of all and zstd, and in exactly-once mode commit a transaction for every batch of 500. The loop in C
has no journal to read, no acknowledgement to store, no headers to make.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer

from streamer.journal.sqlite import open_journal
from streamer.model import Progress, SinkName
from tests.integration.kafka_broker import Kafka, kafka_broker
from tests.integration.kafka_delivery import deliver
from tests.kafka_mock import options
from tests.records import SOURCE, entries, line

EVENTS = 40_000
BATCH = 500
ROUNDS = 3


async def _fill(state: Path) -> None:
    async with open_journal(state, 1 << 30) as journal:
        await journal.position(SinkName("bus"), "earliest")
        for first in range(1, EVENTS, 5000):
            await journal.append(SOURCE, "organization", entries(5000, first), Progress(1))


def ours(kafka: Kafka, state: Path, topic: str, *, exactly_once: bool) -> float:
    """Events a second, from the journal until the last one is acknowledged."""
    state.mkdir()
    asyncio.run(_fill(state))
    wanted = options(kafka.servers, topic, exactly_once=exactly_once, batch={"events": BATCH, "wait": "0s"})
    began = time.perf_counter()
    assert asyncio.run(deliver(state, wanted)).row.acked == EVENTS
    return EVENTS / (time.perf_counter() - began)


def theirs(kafka: Kafka, topic: str, *, exactly_once: bool) -> float:
    settings = {"bootstrap.servers": kafka.servers, "compression.type": "zstd", "acks": "all", "log_level": 0}
    more = {"transactional.id": topic} if exactly_once else {"enable.idempotence": "true"}
    bodies = [line(n) for n in range(1, EVENTS + 1)]
    producer = Producer({**settings, **more})
    began = time.perf_counter()
    if exactly_once:
        producer.init_transactions(30)
    for first in range(0, EVENTS, BATCH):
        if exactly_once:
            producer.begin_transaction()
        for body in bodies[first : first + BATCH]:
            producer.produce(topic, body, b"acme")
        producer.poll(0)
        if exactly_once:
            producer.commit_transaction(30)
    assert producer.flush(30) == 0
    return EVENTS / (time.perf_counter() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, kafka_broker(Path(folder) / "kafka") as kafka:
        for exactly_once in (False, True):
            rates: dict[str, list[float]] = {"ours": [], "librdkafka": []}
            for turn in range(ROUNDS):
                name = f"{'exactly' if exactly_once else 'least'}.{turn}"
                kafka.create(name)
                rates["librdkafka"].append(theirs(kafka, name, exactly_once=exactly_once))
                rates["ours"].append(ours(kafka, Path(folder) / name, name, exactly_once=exactly_once))
            mine, other = (statistics.median(rates[k]) for k in ("ours", "librdkafka"))
            mode = "exactly once" if exactly_once else "idempotent"
            print(f"kafka, {mode:>12}: {mine:,.0f} events/s, {mine / other:.2f} of librdkafka's {other:,.0f}")


if __name__ == "__main__":
    main()
