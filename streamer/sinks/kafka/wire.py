"""Requests to a Kafka cluster over aiokafka's connections: one question, one answer, no task of our own.

`AIOKafkaProducer` is not used: docs/decisions/kafka-producer.md says why.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from streamer.config import Secret
from streamer.errors import ConfigError, StreamerError
from streamer.sinks.kafka.options import KafkaOptions, TlsOptions
from streamer.sinks.kafka.verdicts import NOT_YET, UNKNOWN_TOPIC, MissingTopic, Place, Refused, verdict

METADATA_MAX_AGE_S = 300.0
"""After that the topic is looked at again: it may have got partitions."""
IDLE_MS = 540_000
"""We hang up before the broker does (ten minutes by default), so that no write meets a dead connection."""
PAUSES_S = (0.005, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 2.0)
"""How long to wait, all in all some seconds, for a coordinator that is not ready yet."""

TRANSACTION, GROUP = 1, 0
NOT_ATTEMPTED = 55
"""Another partition's error is the reason."""

# Whatever goes wrong reaches the caller as a verdict; the library's own lines would say it again, and at debug level
# they hold payloads.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


class _StableOffsetsAnswer(Response):  # type: ignore[misc] # the library has no types
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _StableOffsets_v7(RequestStruct):  # type: ignore[misc] # the library has no types
    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = _StableOffsetsAnswer
    SCHEMA = Schema(
        ("group_id", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                ("partitions", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class StableOffsets(Request[_StableOffsets_v7]):  # type: ignore[misc] # the library has no types
    """OffsetFetch that waits for a transaction's end instead of answering with what was before it (KIP-447): aiokafka
    has no version of it that does."""

    API_KEY = OffsetFetchRequest.API_KEY

    def __init__(self, group: str, topic: str, partition: int) -> None:
        self._fields: tuple[Any, ...] = (group, [(topic, [partition], {})], True, {})

    def build(self, request_struct_class: type[_StableOffsets_v7]) -> _StableOffsets_v7:
        return request_struct_class(*self._fields)


class _Token(AbstractTokenProvider):  # type: ignore[misc] # the library has no types
    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def token(self) -> str:
        return self._secret.reveal()


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """From the files as they are now. ConfigError names the one that cannot be used."""
    password = options.password()
    secret = password.reveal() if password else ""
    file = options.ca_file
    try:
        context = ssl.create_default_context(cafile=file)
        file = options.cert_file
        if file is not None:
            # With a password at hand OpenSSL never asks for one on the terminal.
            context.load_cert_chain(file, options.key_file, password=secret)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        both = f"{file} with {options.key_file}" if file == options.cert_file and options.key_file else file
        raise ConfigError(f"tls: cannot use {both}: {reason}; give PEM files that belong together") from None
    return context


class Cluster:
    """One topic's brokers. Whatever fails, `close` and ask again: nothing here has to be repaired."""

    def __init__(self, options: KafkaOptions, place: Place) -> None:
        self.topic = options.topic
        self._options = options
        self._place = place
        self._brokers: dict[int, tuple[str, int]] = {}
        self._connections: dict[int, AIOKafkaConnection] = {}
        self._leaders: dict[int, int] = {}
        self._coordinators: dict[tuple[int, str], int] = {}
        self._looked_at = 0.0

    async def security(self) -> dict[str, Any]:
        """The client library's arguments for who we are and whom we trust, from the files as they are now."""
        try:
            return await self._arguments()
        except ConfigError as error:
            raise ConfigError(*(f"sink {self._place.sink}: {problem}" for problem in error.problems)) from error

    async def _arguments(self) -> dict[str, Any]:
        tls, sasl = self._options.tls, self._options.sasl
        arguments: dict[str, Any] = {
            "security_protocol": ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT" if sasl else "")
            or "PLAINTEXT",
            "client_id": self._options.client_id,
            "request_timeout_ms": int(self._options.request_timeout * 1000),
        }
        if tls is not None:
            arguments["ssl_context"] = await asyncio.to_thread(tls_context, tls)
        if sasl is not None:
            arguments["sasl_mechanism"] = sasl.mechanism
            login, bearer = sasl.login(), sasl.bearer()
            if login is not None:
                arguments |= {"sasl_plain_username": sasl.username, "sasl_plain_password": login.reveal()}
            if bearer is not None:
                arguments["sasl_oauth_token_provider"] = _Token(bearer)
        return arguments

    # --- connections -------------------------------------------------------------------------------------------------

    async def _open(self, host: str, port: int) -> AIOKafkaConnection:
        try:
            return await create_conn(host, port, max_idle_ms=IDLE_MS, **await self.security())
        except OSError:  # a certificate's failure is a ValueError too
            raise
        except (ValueError, AssertionError) as error:  # how the library says that the other side failed SCRAM's proof
            raise ConfigError(f"sink {self._place.sink}: {host}:{port} did not prove who it is: {error}") from error

    async def _connection(self, node: int) -> AIOKafkaConnection:
        connection = self._connections.get(node)
        if connection is None or not connection.connected():
            if node not in self._brokers:
                raise KafkaConnectionError(f"broker {node} is not known yet")
            connection = self._connections[node] = await self._open(*self._brokers[node])
        return connection

    async def _any_connection(self) -> AIOKafkaConnection:
        """To whichever broker answers. If none does, what an operator can mend is worth more than what only waits."""
        for connection in self._connections.values():
            if connection.connected():
                return connection
        worst: StreamerError | None = None
        known = random.sample(sorted(self._brokers.values()), len(self._brokers))
        for host, port in dict.fromkeys([*known, *self._options.addresses]):
            try:
                connection = self._connections[-1] = await self._open(host, port)
            except (KafkaError, OSError, EOFError, StreamerError) as error:
                found = error if isinstance(error, StreamerError) else verdict(error, self._place)
                worst = found if worst is None or isinstance(found, ConfigError) else worst
            else:
                return connection
        assert worst is not None
        raise worst

    def close(self) -> None:
        """Hang up and forget everything that was learnt."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        self._coordinators.clear()
        self._leaders.clear()

    # --- questions ---------------------------------------------------------------------------------------------------

    async def ask(self, request: Request[Any], node: int | None = None) -> Any:
        """One answer, of `node` or of any broker."""
        connection = await (self._any_connection() if node is None else self._connection(node))
        return await connection.send(request)

    async def ask_each(self, requests: Mapping[int, Request[Any]]) -> dict[int, Any]:
        """All at once, one request a node; an answer is the exception where there was none."""
        answers: dict[int, Any] = {}
        with ExitStack() as unread:
            waiting = []
            for node, request in requests.items():
                try:
                    connection = await self._connection(node)
                    waiting.append((node, connection.send(request)))  # written at once, awaited below
                    unread.callback(waiting[-1][1].close)
                except (KafkaError, OSError, EOFError, StreamerError) as error:
                    answers[node] = error
            for node, answer in waiting:
                try:
                    answers[node] = await answer
                except (KafkaError, OSError, EOFError) as error:
                    answers[node] = error
        return answers

    async def leaders(self) -> Mapping[int, int]:
        """Partition to the node that leads it; -1 where nobody does."""
        if not self._leaders or time.monotonic() - self._looked_at > METADATA_MAX_AGE_S:
            await self._look()
        return self._leaders

    async def _look(self) -> None:
        answer = await self.ask(MetadataRequest([self.topic], allow_auto_topic_creation=False))
        self._brokers = {node: (host, port) for node, host, port, *_ in answer.brokers}
        for code, topic, *_, partitions in answer.topics:
            if topic == self.topic:
                if code == UNKNOWN_TOPIC:
                    raise MissingTopic
                check(code, f"looking for topic {topic}")
                self._leaders = {number: leader for _, number, leader, *_ in partitions}
        if not self._leaders:
            raise MissingTopic
        self._looked_at = time.monotonic()

    async def coordinator(self, kind: int, key: str) -> int:
        """The node that keeps a transactional id (TRANSACTION) or a consumer group (GROUP)."""
        if (kind, key) not in self._coordinators:
            if not self._brokers:
                await self._look()
            answer = await self.patiently(
                FindCoordinatorRequest(key, kind), None, lambda a: [a.error_code], "looking for a coordinator"
            )
            self._brokers[answer.coordinator_id] = (answer.host, answer.port)
            self._coordinators[kind, key] = answer.coordinator_id
        return self._coordinators[kind, key]

    async def patiently(self, request: Request[Any], node: int | None, codes: Any, doing: str) -> Any:
        """One answer without an error among `codes(answer)`. What is over in milliseconds is waited for."""
        for pause in (*PAUSES_S, None):
            answer = await self.ask(request, node)
            wrong = [code for code in codes(answer) if code]
            if not wrong:
                return answer
            if pause is None or not NOT_YET.issuperset(wrong):
                raise Refused(max(wrong, key=lambda c: c not in NOT_YET | {NOT_ATTEMPTED}), doing)
            await asyncio.sleep(pause)
        raise AssertionError("the last turn returns or raises")

    async def ends(self) -> dict[int, int]:
        """For each partition the offset that the next record will get."""
        leaders = await self.leaders()
        ends: dict[int, int] = {}
        for node in set(leaders.values()):
            if node < 0:
                raise Refused(5, "asking for the ends of partitions")
            mine = [(partition, -1) for partition, leader in leaders.items() if leader == node]
            answer = await self.ask(OffsetRequest(-1, 0, [(self.topic, mine)]), node)
            for _, partitions in answer.topics:
                for partition, code, _, offset, *_ in partitions:
                    check(code, "asking for the ends of partitions")
                    ends[partition] = offset
        return ends


def check(code: int, doing: str) -> None:
    if code:
        raise Refused(code, doing)


def each_partition(topics: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> list[int]:
    """The codes of an answer that has one for each partition."""
    return [code for _, partitions in topics for _, code in partitions]
