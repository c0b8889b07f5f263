"""The kafka sink against a real Apache Kafka: what it promises when brokers, processes, answers and logins fail."""

import asyncio
import base64
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Message as Found
from confluent_kafka import Producer
from confluent_kafka.admin import AclBinding, AclOperation, ResourceType

from streamer.errors import ConfigError, PermanentError, Repositioned, RetryableError
from streamer.model import Batch, Bookmark
from streamer.ports import Sink
from streamer.sinks.kafka import open_kafka, probe_kafka
from tests.integration.kafka_broker import LOGIN, PASSWORD, USER, Kafka, kafka_broker
from tests.integration.kafka_delivery import deliver, fill
from tests.kafka_mock import context, header, ids, message, options, read_topic
from tests.kafka_relay import Api, Stage, relay
from tests.records import event_id
from tests.sink_contract import Answer, Arrived, OtherSide, ServerSinkContract

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("SEED", "1"))
QUICK = {"request_timeout": "10s", "batch": {"events": 50, "wait": "0s"}}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def topic(kafka: Kafka, request: pytest.FixtureRequest) -> str:
    name = "".join(c if c.isalnum() else "." for c in request.node.name)
    kafka.create(name)
    return name


def batch(*numbers: int) -> Batch:
    return Batch([message(n, actor=f"user-{n % 5}") for n in numbers])


async def take(sink: Sink, batch: Batch) -> Bookmark | None:
    """As the delivery loop does it: again while the world is wrong for now, and when the sink has found its place."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await sink.write(batch)
            except Repositioned:
                continue
            except RetryableError:
                await asyncio.sleep(0.05)


def _kcat(kafka: Kafka, topic: str, form: str) -> list[bytes]:
    """What kcat, read-committed, prints of the whole topic."""
    command = ["kcat", "-b", kafka.servers, "-t", topic, "-C", "-e", "-q", "-o", "beginning", "-f", form]
    read = subprocess.run(
        [*command, "-X", "isolation.level=read_committed"], capture_output=True, timeout=60, check=True
    )
    return read.stdout.split(b"\n")[:-1]


def assert_each_once_in_order(found: Sequence[Found], numbers: Sequence[int]) -> None:
    """Every event of `numbers` once and nothing else, and within each key in the order of `numbers`."""
    assert sorted(map(str, ids(found))) == sorted(event_id(n) for n in numbers)
    for key in range(5):
        mine = [m for m in found if m.key() == f"user-{key}".encode()]
        assert ids(mine) == [event_id(n) for n in numbers if n % 5 == key]
        assert len({m.partition() for m in mine}) <= 1


# --- what every sink owes ----------------------------------------------------------------------------------------------


class KafkaSide(OtherSide):
    """A topic with one partition, so that order is the whole order, behind a relay and a login."""

    kind = "kafka"
    answers = frozenset({"take", "later", "who", "gone"})

    def __init__(self, folder: Path, kafka: Kafka, topic: str) -> None:
        super().__init__(folder)
        self._kafka, self._topic = kafka, topic
        self._denial: AclBinding | None = None
        self.answer: Answer = "take"

    def options(self) -> dict[str, object]:
        servers = f"127.0.0.1:{self._kafka.relay[0]}"
        return {
            "bootstrap_servers": servers,
            "topic": self._topic,
            "sasl": LOGIN,
            "batch": {"events": 25, "wait": "0s"},
        }

    async def say(self, answer: Answer) -> None:
        self.answer = answer
        if answer == "who":
            self._denial = self._kafka.deny(ResourceType.TOPIC, self._topic, AclOperation.WRITE)
        elif self._denial is not None:
            self._kafka.allow(self._denial)
            self._denial = None

    def passes(self, api: int, stage: Stage) -> bool:
        return self.answer != "gone" and not (self.answer == "later" and api == Api.PRODUCE and stage == "answered")

    async def arrived(self) -> list[Arrived]:
        found = await asyncio.to_thread(read_topic, self._kafka.servers, self._topic)
        return [(header(m, "id") or "", m.value() or b"") for m in found]


class ExactlyOnceSide(KafkaSide):
    guarantee = "exactly once"

    def options(self) -> dict[str, object]:
        return {**super().options(), "exactly_once": True}


class TestKafkaContract(ServerSinkContract):
    side_type: type[KafkaSide] = KafkaSide

    @pytest.fixture
    async def side(self, kafka: Kafka, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OtherSide]:
        topic = f"{self.side_type.__name__}.{request.node.name}"
        kafka.create(topic, partitions=1)
        side = self.side_type(tmp_path, kafka, topic)
        async with relay(kafka.relay, side.passes):
            yield side


class TestExactlyOnceContract(TestKafkaContract):
    side_type = ExactlyOnceSide


# --- at least once -----------------------------------------------------------------------------------------------------


async def test_what_arrives_is_what_kcat_reads(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """A journal through the real loop; kcat, and librdkafka, find every event once, in order within its key."""
    await fill(tmp_path / "state", range(1, 501))
    await deliver(tmp_path / "state", options(kafka.servers, topic, key="actor.id", **QUICK))
    out = await asyncio.to_thread(_kcat, kafka, topic, "%k %h %s\n")
    seen: dict[str, list[str]] = {}
    for line in out:
        key, headers, body = line.decode().split(" ", 2)
        seen.setdefault(key, []).append(json.loads(body)["id"])
        assert f"id={json.loads(body)['id']}," in headers
    assert seen == {f"user-{k}": [event_id(n) for n in range(1, 501) if n % 5 == k] for k in range(5)}
    assert_each_once_in_order(read_topic(kafka.servers, topic), range(1, 501))


@pytest.mark.parametrize("exactly_once", [False, True])
async def test_a_broker_killed_under_load_costs_nothing(
    kafka: Kafka, topic: str, tmp_path: Path, exactly_once: bool
) -> None:
    """SIGKILL of the only broker in the middle of 4,000 events, twice; it comes back with its data: every event is there once,
    in order, in both modes, because the process that writes them lives on."""
    await fill(tmp_path / "state", range(1, 4001))
    wanted = options(kafka.servers, topic, key="actor.id", exactly_once=exactly_once, **QUICK)
    task = asyncio.create_task(deliver(tmp_path / "state", wanted))
    for share in (1000, 2500):
        await asyncio.to_thread(_wait_for_records, kafka, topic, share)
        await asyncio.to_thread(kafka.kill)
        await asyncio.to_thread(kafka.start)
    delivery = await task
    assert delivery.row.acked == 4000
    assert_each_once_in_order(read_topic(kafka.servers, topic), range(1, 4001))


def _wait_for_records(kafka: Kafka, topic: str, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(read_topic(kafka.servers, topic)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("exactly_once", "one_in"), [(False, 8), (True, 40)])
async def test_lost_requests_and_answers_are_not_told_apart_and_need_not_be(
    kafka: Kafka, topic: str, tmp_path: Path, exactly_once: bool, one_in: int
) -> None:
    """A relay hangs up at random, before a request gets to the broker or before its answer gets to us: every event is there
    once, in order."""
    chance = random.Random(SEED)
    cuts: list[tuple[int, Stage]] = []

    def hook(api: int, stage: Stage) -> bool:
        if api not in set(Api) or chance.randrange(one_in):
            return True
        cuts.append((api, stage))
        return False

    await fill(tmp_path / "state", range(1, 1001))
    here, _ = kafka.relay
    wanted = options(f"127.0.0.1:{here}", topic, sasl=LOGIN, key="actor.id", exactly_once=exactly_once, **QUICK)
    async with relay(kafka.relay, hook):
        while True:
            try:
                delivery = await deliver(tmp_path / "state", wanted)
                break
            except RetryableError:  # the loop gives up after some failures in a row when it only has to catch up
                continue
    assert delivery.row.acked == 1000
    assert {stage for _, stage in cuts} == {"asked", "answered"}
    assert_each_once_in_order(read_topic(kafka.servers, topic), range(1, 1001))


async def test_a_record_that_the_topic_refuses_is_refused_alone(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """max.message.bytes of the topic is far below a batch: the batch is cut until it fits, and the one record that never
    will is named, with its neighbours written once."""
    kafka.create(topic + ".small", max_message_bytes="8000")
    large = message(31, actor="user-1", body=os.urandom(9000))
    before, after = batch(*range(1, 31)).messages, batch(*range(32, 61)).messages
    async with open_kafka(options(kafka.servers, topic + ".small", key="actor.id"), context(tmp_path)) as sink:
        with pytest.raises(PermanentError, match=r"refuses the event .* max\.message\.bytes") as refusal:
            await sink.write(Batch([*before, large, *after]))
        assert refusal.value.rejected == [30]
        await sink.write(Batch(before))
        with pytest.raises(PermanentError):
            await sink.write(Batch([large]))
        await sink.write(Batch(after))
    found = read_topic(kafka.servers, topic + ".small")
    assert_each_once_in_order(found, [n for n in range(1, 61) if n != 31])


# --- exactly once ------------------------------------------------------------------------------------------------------


async def test_a_refused_record_leaves_nothing_half_written(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """Exactly once: the transaction with the bad record is aborted as a whole, before and after it nothing is seen twice."""
    kafka.create(topic + ".small", max_message_bytes="8000")
    large = message(6, actor="user-1", body=os.urandom(9000))
    good = batch(1, 2, 3, 4, 5, 7, 8).messages
    wanted = options(kafka.servers, topic + ".small", key="actor.id", exactly_once=True)
    async with open_kafka(wanted, context(tmp_path)) as sink:
        with pytest.raises(PermanentError) as refusal:
            await take(sink, Batch([*good[:5], large, *good[5:]]))
        assert refusal.value.rejected == [5]
        assert read_topic(kafka.servers, topic + ".small") == []
        await sink.write(Batch(good[:5]))
        with pytest.raises(PermanentError):
            await sink.write(Batch([large]))
        await sink.write(Batch(good[5:]))
    assert_each_once_in_order(read_topic(kafka.servers, topic + ".small"), [1, 2, 3, 4, 5, 7, 8])


def _command(state: Path, servers: str, topic: str) -> list[str]:
    wanted = {
        **QUICK,
        "bootstrap_servers": servers,
        "topic": topic,
        "sasl": LOGIN,
        "key": "actor.id",
        "exactly_once": True,
    }
    return [sys.executable, "-m", "tests.integration.kafka_delivery", str(state), json.dumps(wanted)]


async def _deliver_with_kills(kafka: Kafka, topic: str, state: Path, chance: random.Random, kills: int) -> list[int]:
    """The loop in a process of its own, killed `kills` times between two steps chosen at random, then left to finish. Returns where."""
    killed: list[int] = []
    here, _ = kafka.relay
    process: asyncio.subprocess.Process
    countdown = 0

    def hook(api: int, stage: Stage) -> bool:
        nonlocal countdown
        countdown -= api in set(Api)
        if countdown == 0:
            process.kill()
            killed.append(api)
        return countdown > 0

    async with relay(kafka.relay, hook):
        for turn in range(kills + 1):
            countdown = chance.randrange(1, 60) if turn < kills else sys.maxsize
            process = await asyncio.create_subprocess_exec(*_command(state, f"127.0.0.1:{here}", topic), cwd=ROOT)
            async with asyncio.timeout(60):
                code = await process.wait()
            assert code in (0, -9), f"the process ended with {code}"
    assert code == 0
    return killed


async def test_kill_9_at_any_point_and_every_event_is_seen_once(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """The process that delivers is killed before or after a step of its transactions, chosen at random, again and again:
    read-committed consumers (librdkafka's and kcat) see each event once, in order within its key."""
    await fill(tmp_path / "state", range(1, 3001))
    killed = await _deliver_with_kills(kafka, topic, tmp_path / "state", random.Random(SEED), 10)
    assert len(killed) >= 5
    assert_each_once_in_order(read_topic(kafka.servers, topic), range(1, 3001))
    seen = [json.loads(body)["id"] for body in await asyncio.to_thread(_kcat, kafka, topic, "%s\n")]
    assert sorted(seen) == [event_id(n) for n in range(1, 3001)]


async def test_every_step_of_a_transaction_can_be_the_last(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """For each request of a transaction, before it and after it: the sink dies there with its journal not told, a new one
    is opened with the journal's bookmark and gets the same batch again: each event is seen once."""
    here, _ = kafka.relay
    wanted = options(f"127.0.0.1:{here}", topic, sasl=LOGIN, key="actor.id", exactly_once=True, request_timeout="10s")
    cut: tuple[Api, Stage] | None = None

    def hook(api: int, stage: Stage) -> bool:
        return (api, stage) != cut

    async with relay(kafka.relay, hook):
        async with open_kafka(wanted, context(tmp_path)) as sink:
            bookmark = await take(sink, batch(1))
        number = 1
        for api in Api:
            for stage in ("asked", "answered"):
                cut = (api, stage)
                numbers = (number + 1, number + 2, number + 3)
                async with open_kafka(wanted, context(tmp_path, bookmark)) as sink:
                    with pytest.raises(RetryableError):
                        await sink.write(batch(*numbers))
                cut = None
                async with open_kafka(wanted, context(tmp_path, bookmark)) as sink:
                    bookmark = await take(sink, batch(*numbers))
                number += 3
    assert_each_once_in_order(read_topic(kafka.servers, topic), range(1, number + 1))


async def test_an_older_journal_repeats_nothing(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """A journal is restored from a copy, and finds the events since then again: in another order, with late ones between, under
    other numbers, and with kills on the way. Each is seen once."""
    state, copy = tmp_path / "state", tmp_path / "copy"
    wanted = options(kafka.servers, topic, key="actor.id", exactly_once=True, **QUICK)
    await fill(state, range(1, 301))
    await deliver(state, wanted)
    shutil.copytree(state, copy)
    await fill(state, range(301, 601))
    await deliver(state, wanted)
    found_again = [n for n in range(301, 701) if n % 7]
    random.Random(SEED).shuffle(found_again)
    await fill(copy, found_again)
    await _deliver_with_kills(kafka, topic, copy, random.Random(SEED), 4)
    found = ids(read_topic(kafka.servers, topic))
    assert sorted(map(str, found)) == sorted({event_id(n) for n in (*range(1, 601), *found_again)})


async def test_a_lost_journal_repeats_nothing(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """A new journal walks history again and knows nothing; the topic does. Each event is seen once, in the end and after a restart."""
    wanted = options(kafka.servers, topic, key="actor.id", exactly_once=True, **QUICK)
    await fill(tmp_path / "old", range(101, 401))
    await deliver(tmp_path / "old", wanted)
    await fill(tmp_path / "new", range(1, 251))
    await deliver(tmp_path / "new", wanted)
    await fill(tmp_path / "new", range(251, 501))
    await deliver(tmp_path / "new", wanted)
    found = ids(read_topic(kafka.servers, topic))
    assert sorted(map(str, found)) == [event_id(n) for n in range(1, 501)]


async def test_a_replay_is_delivered_after_a_recovery_too(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """What an operator asks for again comes again, also when the sink has just read back that the event is there."""
    wanted = options(kafka.servers, topic, exactly_once=True)
    async with open_kafka(wanted, context(tmp_path)) as sink:
        await take(sink, batch(1, 2))
    async with open_kafka(wanted, context(tmp_path)) as sink:
        await take(sink, Batch([message(1, replayed=True)]))
        await sink.write(batch(1, 2, 3))
    found = read_topic(kafka.servers, topic)
    assert [(header(m, "id"), header(m, "replayed")) for m in found] == [
        (event_id(1), None),
        (event_id(2), None),
        (event_id(1), "true"),
        (event_id(3), None),
    ]


async def test_a_second_writer_shuts_the_first_out_and_the_first_says_so(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    """Two sinks with one transactional id: the older one is held with a sentence as long as the other moves, and takes over when
    it rests; whatever both are given is seen once."""
    wanted = options(kafka.servers, topic, key="actor.id", exactly_once=True, transactional_id="shared-" + topic)
    sentence = "another writer has taken over transactional id shared-"
    async with (
        open_kafka(wanted, context(tmp_path)) as first,
        open_kafka(wanted, context(tmp_path)) as second,
    ):
        await take(first, batch(1))
        await take(second, batch(1, 2))
        with pytest.raises(ConfigError, match=sentence):
            await first.write(batch(2, 3))
        await second.write(batch(3))
        with pytest.raises(ConfigError, match=sentence):
            await first.write(batch(2, 3))
        await first.write(batch(2, 3, 4))
        with pytest.raises(ConfigError, match=sentence):
            await second.write(batch(4))
    assert_each_once_in_order(read_topic(kafka.servers, topic), [1, 2, 3, 4])


async def test_a_probe_shuts_nobody_out(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """`check --online` beside a running daemon: the next write goes through."""
    wanted = options(kafka.servers, topic, exactly_once=True)
    async with open_kafka(wanted, context(tmp_path)) as sink:
        await take(sink, batch(1))
        assert await probe_kafka(wanted, context(tmp_path)) == f"topic {topic} has 3 partitions"
        await sink.write(batch(2))
    assert sorted(map(str, ids(read_topic(kafka.servers, topic)))) == [event_id(1), event_id(2)]


async def test_a_topic_made_anew_begins_anew(kafka: Kafka, tmp_path: Path) -> None:
    """Missing, made, deleted, made again, in exactly-once mode: held with a sentence while it is missing, written while it is there."""
    wanted = options(kafka.servers, "anew", exactly_once=True, request_timeout="5s")
    async with open_kafka(wanted, context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match="topic anew does not exist"):
            await sink.write(batch(1))
        kafka.create("anew")
        await take(sink, batch(1, 2))
        admin = kafka.admin()
        admin.delete_topics(["anew"])["anew"].result(30)
        with pytest.raises(RetryableError, match="UNKNOWN_TOPIC"):
            await sink.write(batch(3))
        with pytest.raises(ConfigError, match="topic anew does not exist"):
            await sink.write(batch(3))
        kafka.create("anew")
        await take(sink, batch(3))
    assert ids(read_topic(kafka.servers, "anew")) == [event_id(3)]


async def test_an_open_transaction_of_others_holds_the_recovery_and_nothing_is_repeated(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    """Another producer's transaction hides what is behind it from read-committed readers, us too: the sink waits for its end
    instead of guessing."""
    theirs = Producer({"bootstrap.servers": kafka.servers, "transactional.id": "theirs", "log_level": 0})
    theirs.init_transactions(10)
    theirs.begin_transaction()
    for partition in range(3):
        theirs.produce(topic, b"x", partition=partition)
    assert theirs.flush(10) == 0
    wanted = options(kafka.servers, topic, exactly_once=True)
    async with open_kafka(wanted, context(tmp_path)) as sink:
        await take(sink, batch(1))
    async with open_kafka(wanted, context(tmp_path)) as sink:
        with pytest.raises(RetryableError, match="another producer's transaction is open"):
            await sink.write(batch(1))
        theirs.abort_transaction(10)
        await take(sink, batch(1))
    assert ids(read_topic(kafka.servers, topic)) == [event_id(1)]


# --- who we are --------------------------------------------------------------------------------------------------------


def _bearer_token() -> str:
    """An unsecured one, as a broker without a validator takes it."""
    parts = [{"alg": "none"}, {"sub": USER, "iat": int(time.time()) - 5, "exp": int(time.time()) + 300}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
@pytest.mark.parametrize("exactly_once", [False, True])
async def test_each_login_over_tls(
    kafka: Kafka, topic: str, tmp_path: Path, mechanism: str, exactly_once: bool
) -> None:
    """The secret comes from a file. A wrong one holds with a sentence; once the file is mended the same sink delivers."""
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    login = (
        {"token_file": str(secret)} if mechanism == "OAUTHBEARER" else {"username": USER, "password_file": str(secret)}
    )
    wanted = options(
        kafka.sasl_servers,
        topic,
        exactly_once=exactly_once,
        tls={"ca_file": str(kafka.authority.file)},
        sasl={"mechanism": mechanism, **login},
    )
    async with open_kafka(wanted, context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match=r"refused our login; mend sasl"):
            await sink.write(batch(1))
        secret.write_text(_bearer_token() if mechanism == "OAUTHBEARER" else PASSWORD)
        await take(sink, batch(1))
    async with open_kafka(wanted, context(tmp_path)) as sink:
        await take(sink, batch(2))  # reads back, with the same login
    assert set(ids(read_topic(kafka.servers, topic))) == {event_id(1), event_id(2)}


async def test_a_client_certificate_that_is_replaced_is_used(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """Mutual TLS: without a certificate, and with one of another authority, held; once the files hold a good one the same
    sink delivers."""
    from tests.certificates import Authority

    (tmp_path / "other").mkdir()
    files = [tmp_path / "client.pem", tmp_path / "client.key"]

    def put(authority: Authority) -> None:
        for source, target in zip(authority.issue("client"), files, strict=True):
            shutil.copy(source, target)

    put(Authority(tmp_path / "other"))
    trust = {"ca_file": str(kafka.authority.file)}
    async with open_kafka(options(kafka.tls_servers, topic, tls=trust), context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match="TLS failed: .*certificate"):
            await sink.write(batch(1))
    mine = options(kafka.tls_servers, topic, tls={**trust, "cert_file": str(files[0]), "key_file": str(files[1])})
    async with open_kafka(mine, context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match="TLS failed"):
            await sink.write(batch(1))
        put(kafka.authority)
        await sink.write(batch(1))
    assert ids(read_topic(kafka.servers, topic)) == [event_id(1)]


@pytest.mark.parametrize(
    ("where", "tls", "verdict", "sentence"),
    [
        (
            lambda k: k.sasl_servers,
            {},
            ConfigError,
            "TLS failed: .*mend tls",
        ),  # the system does not know this authority
        (lambda k: k.servers, {}, RetryableError, "hung up .* see whether tls and sasl fit"),
        (lambda k: k.sasl_servers, None, RetryableError, "hung up .* see whether tls and sasl fit"),
    ],
    ids=["unknown authority", "no TLS there", "TLS there, not here"],
)
async def test_tls_that_does_not_fit(
    kafka: Kafka,
    topic: str,
    tmp_path: Path,
    where: Callable[[Kafka], str],
    tls: dict[str, str] | None,
    verdict: type[Exception],
    sentence: str,
) -> None:
    """Each misfit of listener and settings: a verdict with the address, and nothing hangs."""
    async with open_kafka(options(where(kafka), topic, tls=tls, request_timeout="5s"), context(tmp_path)) as sink:
        with pytest.raises(verdict, match=sentence):
            await sink.write(batch(1))


@pytest.mark.parametrize(
    ("kind", "operation", "sentence"),
    [
        (ResourceType.TOPIC, AclOperation.WRITE, r"may not write to topic .*; grant WRITE"),
        (ResourceType.TOPIC, AclOperation.DESCRIBE, r"does not exist, or we may not see it|may not write to topic"),
        (ResourceType.TRANSACTIONAL_ID, AclOperation.WRITE, r"may not use transactional id streamer\..*; grant WRITE"),
        (ResourceType.GROUP, AclOperation.READ, r"may not keep our position in group streamer\..*; grant READ"),
    ],
)
async def test_a_right_that_is_missing_is_named(
    kafka: Kafka,
    topic: str,
    tmp_path: Path,
    kind: ResourceType,
    operation: AclOperation,
    sentence: str,
) -> None:
    """One right at a time is denied to the login: held, with the thing and the right in the sentence, nothing written."""
    kafka.deny(kind, topic if kind == ResourceType.TOPIC else f"streamer.{topic}.bus", operation)
    wanted = options(
        kafka.sasl_servers,
        topic,
        exactly_once=True,
        tls={"ca_file": str(kafka.authority.file)},
        sasl=LOGIN,
    )
    async with open_kafka(wanted, context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match=sentence):
            await take(sink, batch(1))
    assert read_topic(kafka.servers, topic) == []
