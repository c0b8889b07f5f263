"""librdkafka's mock cluster, which speaks Kafka's real protocol in this process, a consumer that is not ours, and what the
tests of the kafka sink write."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka import Message as Found

from streamer.model import Actor, Bookmark, Message, Project, Seq, SinkName
from streamer.ports import SinkContext, SinkPosition
from streamer.sinks.kafka import KafkaOptions
from tests.records import record

PARTITIONS = 4
"""Of a topic on the mock cluster, where asking for it makes it."""


@dataclass
class MockKafka:
    servers: str
    producer: Producer | None

    def stop(self) -> None:
        """The cluster lives in the producer, and ends with the last reference to it."""
        self.producer = None

    def create(self, topic: str) -> None:
        assert self.producer is not None
        assert len(self.producer.list_topics(topic, timeout=10).topics[topic].partitions) == PARTITIONS


@contextmanager
def mock_kafka(brokers: int = 1) -> Iterator[MockKafka]:
    """Ends with the block, and takes its topics with it."""
    producer = Producer({"test.mock.num.brokers": brokers, "log_level": 0})
    found = producer.list_topics(timeout=10).brokers.values()
    cluster = MockKafka(",".join(f"{b.host}:{b.port}" for b in found), producer)
    del producer
    try:
        yield cluster
    finally:
        cluster.stop()


def read_topic(servers: str, topic: str, settings: dict[str, str] | None = None, timeout_s: float = 30) -> list[Found]:
    """Everything up to the present ends of all partitions, in each partition's order, read-committed."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 0,
            **(settings or {}),
        }
    )
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        found: dict[int, list[Found]] = {p: [] for p in partitions}
        open_, deadline = set(partitions), time.monotonic() + timeout_s
        while open_:
            assert time.monotonic() < deadline, f"partitions {open_} of {topic} have no end"
            for message in consumer.consume(1000, 0.2):
                error = message.error()
                if error is None:
                    found[message.partition()].append(message)
                else:
                    assert error.name() == "_PARTITION_EOF", error
                    open_.discard(message.partition())
    finally:
        consumer.close()
    return [message for partition in partitions for message in found[partition]]


def header(message: Found, name: str) -> str | None:
    return next((value.decode() for key, value in message.headers() or [] if key == name), None)


def ids(messages: Sequence[Found]) -> list[str | None]:
    return [header(message, "id") for message in messages]


def context(tmp_path: Path, bookmark: Bookmark | None = None) -> SinkContext:
    name = SinkName("bus")
    return SinkContext(name=name, position=SinkPosition(Seq(0), bookmark, name), journal="j", folder=tmp_path)


def options(servers: str, topic: str, **more: object) -> KafkaOptions:
    return KafkaOptions.model_validate({"bootstrap_servers": servers, "topic": topic, **more})


def message(seq: int, *, actor: str | None = None, body: bytes | None = None, replayed: bool = False) -> Message:
    """Event `seq`, by this actor or by nobody, in a project."""
    made = record(seq, actor=Actor(type="user", id=actor) if actor else None, project=Project(id="proj_1"))
    return Message(made, made.line if body is None else body, replayed)
