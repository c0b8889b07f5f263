"""The kafka sink on librdkafka's mock cluster: the real protocol, without aborts and transactional offsets. What needs
those, a broker that dies, or a login, is in tests/integration."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka.errors import AuthenticationFailedError, IncompatibleBrokerVersion
from confluent_kafka import Producer
from pydantic import ValidationError

from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch
from streamer.sinks.kafka import KafkaOptions, open_kafka, probe_kafka
from streamer.sinks.kafka.verdicts import Place, verdict
from tests.kafka_mock import PARTITIONS, MockKafka, context, header, ids, message, mock_kafka, options, read_topic
from tests.kafka_relay import relay
from tests.records import envelope, event_id
from tests.sink_contract import Answer, Arrived, OtherSide, ServerSinkContract

NOBODY = "127.0.0.1:9"


@pytest.fixture(scope="module")
def kafka() -> Iterator[MockKafka]:
    with mock_kafka(brokers=3) as cluster:
        yield cluster


@pytest.fixture
def topic(kafka: MockKafka, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("[", ".").replace("]", "")
    kafka.create(name)
    return name


async def test_every_body_arrives_once_with_its_headers_in_order(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    """Three batches, read back by librdkafka: bodies verbatim, headers as documented, one partition for one source, in order."""
    batches = [Batch([message(n) for n in range(start, start + 200)]) for start in (1, 201, 401)]
    async with open_kafka(options(kafka.servers, topic), context(tmp_path)) as sink:
        for batch in batches:
            assert await sink.write(batch) is None
    found = read_topic(kafka.servers, topic)
    assert [m.value() for m in found] == [m.body for batch in batches for m in batch.messages]
    assert {m.key() for m in found} == {b"acme"}
    assert dict(found[6].headers() or []) == {
        "id": event_id(7).encode(),
        "type": b"widget.frobnicated",
        "severity": envelope(7).severity.encode(),
        "schema": b"streamer.envelope/1",
        "source": b"acme",
    }


async def test_a_key_lives_where_other_producers_put_it(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    """Keyed by actor: every key's partition is the one that librdkafka's murmur2 partitioner chooses, order within it holds."""
    batch = Batch([message(n, actor=f"user-{n % 17}") for n in range(1, 401)])
    async with open_kafka(options(kafka.servers, topic, key="actor.id"), context(tmp_path)) as sink:
        await sink.write(batch)
    ours = read_topic(kafka.servers, topic)
    kafka.create(topic + ".theirs")
    producer = Producer({"bootstrap.servers": kafka.servers, "partitioner": "murmur2", "log_level": 0})
    for m in batch.messages:
        producer.produce(topic + ".theirs", m.body, m.record.envelope.actor.id)  # type: ignore[union-attr]
    assert producer.flush(10) == 0
    theirs = read_topic(kafka.servers, topic + ".theirs")
    assert [(m.partition(), m.key(), m.value()) for m in ours] == [(m.partition(), m.key(), m.value()) for m in theirs]
    assert len({m.partition() for m in ours}) == PARTITIONS


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("source", b"acme"),
        ("id", event_id(1).encode()),
        ("type", b"api_key.created"),
        ("actor.id", None),
        ("project.id", b"proj_1"),
        ("none", None),
    ],
)
async def test_the_key_is_the_field_that_was_asked_for(
    kafka: MockKafka, topic: str, tmp_path: Path, key: str, expected: bytes | None
) -> None:
    """One event without an actor, with each setting: its key on the wire, none where the event has no such field."""
    async with open_kafka(options(kafka.servers, topic, key=key), context(tmp_path)) as sink:
        await sink.write(Batch([message(1)]))
    assert [m.key() for m in read_topic(kafka.servers, topic)] == [expected]


@pytest.mark.parametrize("compression", ["zstd", "gzip", "lz4", "snappy", "none"])
async def test_each_compression_can_be_read(kafka: MockKafka, topic: str, tmp_path: Path, compression: str) -> None:
    """librdkafka reads what each codec wrote, byte for byte."""
    batch = Batch([message(n) for n in range(1, 101)])
    async with open_kafka(options(kafka.servers, topic, compression=compression), context(tmp_path)) as sink:
        await sink.write(batch)
    assert [m.value() for m in read_topic(kafka.servers, topic)] == [m.body for m in batch.messages]


async def test_a_batch_larger_than_a_request_arrives_in_order(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    """A batch of many times max_request_size is cut into record batches that keep the order within each key."""
    batch = Batch([message(n, actor=f"user-{n % 3}") for n in range(1, 1001)])
    async with open_kafka(
        options(kafka.servers, topic, key="actor.id", max_request_size=4096), context(tmp_path)
    ) as sink:
        await sink.write(batch)
    found = read_topic(kafka.servers, topic)
    for key in {m.key() for m in found}:
        mine = [m.body for m in batch.messages if m.record.envelope.actor.id.encode() == key]  # type: ignore[union-attr]
        assert [m.value() for m in found if m.key() == key] == mine
    assert len(found) == 1000


async def test_a_replayed_event_says_so(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    """The same id again, on request: delivered, with one more header, and the body as before."""
    async with open_kafka(options(kafka.servers, topic), context(tmp_path)) as sink:
        await sink.write(Batch([message(1)]))
        await sink.write(Batch([message(1, replayed=True)]))
    first, again = read_topic(kafka.servers, topic)
    assert (header(first, "replayed"), header(again, "replayed")) == (None, "true")
    assert (header(again, "id"), again.value()) == (event_id(1), first.value())


async def test_another_format_is_named_in_the_schema_header(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    """A consumer can tell from the header how to read the body."""
    async with open_kafka(options(kafka.servers, topic, format="ocsf"), context(tmp_path)) as sink:
        await sink.write(Batch([message(1, body=b"{}")]))
    assert [header(m, "schema") for m in read_topic(kafka.servers, topic)] == ["ocsf"]


async def test_a_missing_topic_is_named_and_found_once_made(kafka: MockKafka, tmp_path: Path) -> None:
    """Writing and probing hold with a sentence that names the topic; nothing makes it behind the operator's back; then it works."""
    wanted = options(kafka.servers, "nobody.made.it")
    async with open_kafka(wanted, context(tmp_path)) as sink:
        for attempt in (lambda: sink.write(Batch([message(1)])), lambda: probe_kafka(wanted, context(tmp_path))):
            with pytest.raises(ConfigError, match=r"sink bus: .* topic nobody\.made\.it does not exist.*create it"):
                await attempt()
        kafka.create(wanted.topic)
        await sink.write(Batch([message(1)]))
    assert ids(read_topic(kafka.servers, wanted.topic)) == [event_id(1)]


async def test_nobody_there_is_for_now(tmp_path: Path) -> None:
    """Opening asks nobody; the write and the probe find no broker, which may come: RetryableError with the address."""
    absent = options(NOBODY, "t", request_timeout="2s")
    async with open_kafka(absent, context(tmp_path)) as sink:
        for attempt in (lambda: sink.write(Batch([message(1)])), lambda: probe_kafka(absent, context(tmp_path))):
            with pytest.raises(RetryableError, match=f"kafka {NOBODY}: "):
                await attempt()


async def test_a_cluster_that_goes_away_under_the_sink_is_for_now(tmp_path: Path) -> None:
    """The connection was good, then every broker is gone: RetryableError, and no task or socket is left behind."""
    with mock_kafka() as cluster:
        cluster.create("t")
        async with open_kafka(options(cluster.servers, "t", request_timeout="5s"), context(tmp_path)) as sink:
            await sink.write(Batch([message(1)]))
            cluster.stop()
            for seq in (2, 2):
                with pytest.raises(RetryableError, match=cluster.servers):
                    await sink.write(Batch([message(seq)]))


async def test_an_event_that_no_request_can_hold_is_refused_alone(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    """One of five is larger than max_request_size: it is named, nothing was written; the other four arrive once."""
    messages = [message(n) for n in range(1, 6)]
    messages[2] = message(3, body=b"x" * 5000)
    async with open_kafka(options(kafka.servers, topic, max_request_size=4096), context(tmp_path)) as sink:
        with pytest.raises(PermanentError, match="max_request_size is 4096") as refusal:
            await sink.write(Batch(messages))
        assert refusal.value.rejected == [2]
        await sink.write(Batch([m for m in messages if m.record.seq != 3]))
    assert ids(read_topic(kafka.servers, topic)) == [event_id(n) for n in (1, 2, 4, 5)]


async def test_the_probe_says_what_it_found(kafka: MockKafka, topic: str, tmp_path: Path) -> None:
    """A sentence for `check --online`, with nothing written."""
    said = await probe_kafka(options(kafka.servers, topic), context(tmp_path))
    assert said == f"topic {topic} has {PARTITIONS} partitions"
    assert read_topic(kafka.servers, topic) == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"bootstrap_servers": "kafka:0"}, "no broker"),
        ({"bootstrap_servers": "kafka:9092,,b"}, "no broker"),
        ({"topic": "no spaces"}, "pattern"),
        ({"transactional_id": "x"}, "exactly_once: true"),
        ({"sasl": {"mechanism": "PLAIN"}}, "takes username and password"),
        ({"sasl": {"mechanism": "SCRAM-SHA-512", "username": "u", "password": "p", "token": "t"}}, "no token"),
        ({"sasl": {"mechanism": "OAUTHBEARER", "username": "u", "password": "p"}}, "takes token"),
        (
            {"sasl": {"mechanism": "PLAIN", "username": "u", "password": "p", "password_file": "/p"}},
            "exclude each other",
        ),
        ({"tls": {"key_file": "/k"}}, "needs cert_file"),
    ],
)
def test_mistakes_of_the_configuration_have_a_sentence(more: dict[str, object], sentence: str) -> None:
    """Each mistake alone, found before anything is opened."""
    with pytest.raises(ValidationError, match=sentence):
        options(str(more.pop("bootstrap_servers", "kafka:9092")), str(more.pop("topic", "t")), **more)


def test_addresses_are_read_as_operators_write_them() -> None:
    """A list or commas, with and without port, IPv6 in brackets."""
    assert options("a, b:9093 ,[::1]:9094", "t").addresses == [("a", 9092), ("b", 9093), ("::1", 9094)]
    listed = KafkaOptions.model_validate({"bootstrap_servers": ["a", "[::1]"], "topic": "t"})
    assert listed.addresses == [("a", 9092), ("::1", 9092)]


async def test_files_that_cannot_be_used_are_named(kafka: MockKafka, tmp_path: Path) -> None:
    """A CA file that is absent, and one that is no PEM: ConfigError with the path, at the write."""
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for file in (tmp_path / "absent.pem", broken):
        wanted = options(kafka.servers, "t", tls={"ca_file": str(file)})
        async with open_kafka(wanted, context(tmp_path)) as sink:
            with pytest.raises(ConfigError, match=f"sink bus: tls: cannot use {file}"):
                await sink.write(Batch([message(1)]))


class MockSide(OtherSide):
    """Reached through a relay, which is all that the mock cluster can be made to lose."""

    kind = "kafka"
    answers = frozenset({"take", "gone"})

    def __init__(self, folder: Path, kafka: MockKafka, topic: str, port: int) -> None:
        super().__init__(folder)
        self._kafka, self._topic, self._port = kafka, topic, port
        self.answer: Answer = "take"

    def options(self) -> dict[str, object]:
        servers = f"127.0.0.1:{self._port}"
        return {"bootstrap_servers": servers, "topic": self._topic, "batch": {"events": 25, "wait": "0s"}}

    async def say(self, answer: Answer) -> None:
        self.answer = answer

    async def arrived(self) -> list[Arrived]:
        found = await asyncio.to_thread(read_topic, self._kafka.servers, self._topic)
        return [(header(m, "id") or "", m.value() or b"") for m in found]


class TestKafkaContract(ServerSinkContract):
    @pytest.fixture
    async def side(
        self, kafka: MockKafka, topic: str, tmp_path: Path, unused_tcp_port: int
    ) -> AsyncIterator[OtherSide]:
        side = MockSide(tmp_path, kafka, topic, unused_tcp_port)
        broker = int(kafka.servers.split(",")[0].rpartition(":")[2])
        async with relay((unused_tcp_port, broker), lambda _api, _stage: side.answer != "gone"):
            yield side


def test_the_client_library_is_not_imported_before_a_sink_opens() -> None:
    """The registry is imported in a fresh interpreter: aiokafka is not there."""
    code = "import sys, streamer.sinks; sys.exit('aiokafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (AuthenticationFailedError("no such user"), ConfigError, "no such user"),
        (NotImplementedError("no record batches"), ConfigError, "no record batches"),
        (IncompatibleBrokerVersion("0.10"), ConfigError, "0.10"),
        (TimeoutError(), RetryableError, "no answer in time"),
        (
            ConnectionResetError("reset by peer"),
            RetryableError,
            r"it hung up \(reset by peer\); if it keeps doing so, see whether tls and sasl fit",
        ),
        (EOFError(), RetryableError, "it hung up"),
        (OSError(), RetryableError, "OSError"),
    ],
)
def test_what_the_network_does_to_us_has_a_verdict(error: Exception, kind: type[Exception], said: str) -> None:
    """Goal: an operator is told what to mend, and nobody waits for what does not pass; method: what sockets and the client library raise."""
    found = verdict(error, Place("k", "broker:9092", "audit", None))
    assert type(found) is kind
    assert re.search(f"^sink k: kafka broker:9092: .*{said}", str(found))
