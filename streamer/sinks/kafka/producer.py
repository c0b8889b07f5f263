"""Batches to record batches ("chunks"), and an idempotent or transactional producer that sends them one after another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka.partitioner import murmur2
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamer.errors import PermanentError
from streamer.model import Message
from streamer.sinks.kafka.options import Compression, KafkaOptions, Key
from streamer.sinks.kafka.verdicts import REFUSED_RECORDS, Refused
from streamer.sinks.kafka.wire import GROUP, TRANSACTION, Cluster, each_partition

CODECS: Mapping[Compression, int] = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
DUPLICATE = 46
"""The broker has these very numbers already: what we sent before arrived, only its answer did not."""
ALL = -1
NO_LIMIT = 2**31 - 1
REQUEST_BYTES = 8 << 20
"""One request holds chunks of several partitions up to here; brokers take 100 MiB by default."""

Headers = list[tuple[str, bytes]]
Identity = tuple[str, str, bool]
"""An event's source and id, and whether it is delivered again on request."""


class _Named(msgspec.Struct):
    id: str | None = None


class _Facts(msgspec.Struct):
    """What key and headers are made of: a fraction of the work of decoding the whole envelope."""

    id: str
    source: str
    type: str
    severity: str
    schema: str
    actor: _Named | None = None
    project: _Named | None = None


_facts = msgspec.json.Decoder(_Facts).decode


@dataclass(frozen=True, slots=True)
class Draft:
    """A Kafka record in the making."""

    index: int
    """Its place in the sink's batch."""
    identity: Identity
    key: bytes | None
    value: bytes
    headers: Headers

    @property
    def size(self) -> int:
        """Upper bound, in bytes, of a record batch that holds it alone, before compression."""
        bound: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(self.key, self.value, self.headers)
        return bound


def make_drafts(messages: Iterable[Message], options: KafkaOptions, origin: str | None) -> list[Draft]:
    """`origin`: our transactional id, by which we know our own records when we read them back."""
    drafts = []
    for index, message in enumerate(messages):
        facts = _facts(message.record.line)
        schema = facts.schema if options.format == "envelope" else options.format
        headers: Headers = [
            ("id", facts.id.encode()),
            ("type", facts.type.encode()),
            ("severity", facts.severity.encode()),
            ("schema", schema.encode()),
            ("source", facts.source.encode()),
        ]
        if origin is not None:
            headers.append(("origin", origin.encode()))
        if message.replayed:
            headers.append(("replayed", b"true"))
        key = _key(facts, options.key)
        drafts.append(Draft(index, (facts.source, facts.id, message.replayed), key, message.body, headers))
    return drafts


def _key(facts: _Facts, key: Key) -> bytes | None:
    match key:
        case "none":
            return None
        case "actor.id":
            text = facts.actor.id if facts.actor else None
        case "project.id":
            text = facts.project.id if facts.project else None
        case _:
            text = getattr(facts, key)
    return text.encode() if text else None


def refuse_too_large(drafts: Sequence[Draft], limit: int) -> None:
    """PermanentError that names the events which no request of ours can hold."""
    too_large = [draft for draft in drafts if draft.size > limit]
    if too_large:
        raise PermanentError(
            f"the event takes {too_large[0].size} bytes and max_request_size is {limit}; raise it, and the topic's max.message.bytes",
            rejected=[draft.index for draft in too_large],
        )


@dataclass(slots=True)
class Chunk:
    """A record batch for one partition, the unit that Kafka takes or refuses, with the number of its first record."""

    partition: int
    drafts: Sequence[Draft]
    first: int
    data: bytes
    sent: bool = False
    """It may have arrived."""
    taken: bool = False
    """It has arrived."""


def partition_of(key: bytes, partitions: Sequence[int]) -> int:
    """As Java's producer does it, so that every producer agrees on where a key lives."""
    number: int = murmur2(key)
    return partitions[(number & 0x7FFFFFFF) % len(partitions)]


def next_number(number: int, count: int) -> int:
    return (number + count) % 2**31


@dataclass
class Producer:
    """One producer id. Its numbering lets brokers drop what they have already and keep what comes in order."""

    cluster: Cluster
    options: KafkaOptions
    transactional_id: str | None = None
    _id: int = -1
    _epoch: int = -1
    _numbers: dict[int, int] = field(default_factory=dict)
    """For each partition the number of the next record; what was not taken has not moved it."""
    _turn: int = 0

    @property
    def is_known(self) -> bool:
        return self._id >= 0

    def forget(self) -> None:
        """The next `introduce` begins with a new producer id, and with number 0."""
        self._id = -1

    async def introduce(self) -> None:
        """Ask for a producer id. With a transactional id this also ends what an earlier holder left open, and shuts it out."""
        node = None
        timeout_ms = NO_LIMIT
        if self.transactional_id is not None:
            node = await self.cluster.coordinator(TRANSACTION, self.transactional_id)
            timeout_ms = int(self.options.delivery_timeout * 1000)
        request = InitProducerIdRequest(self.transactional_id, timeout_ms)
        answer = await self.cluster.patiently(request, node, lambda a: [a.error_code], "asking for a producer id")
        self._id, self._epoch = answer.producer_id, answer.producer_epoch
        self._numbers.clear()

    # --- packing -----------------------------------------------------------------------------------------------------

    def pack(self, drafts: Sequence[Draft], leaders: Mapping[int, int]) -> list[Chunk]:
        """Everything of one write, per partition in the order given. Pure but for the turn of keyless records; compresses,
        so it runs on a thread of its own."""
        partitions = sorted(leaders)
        alive = [p for p in partitions if leaders[p] >= 0] or partitions
        self._turn += 1
        keyless = alive[self._turn % len(alive)]
        shares: dict[int, list[Draft]] = {}
        places: dict[bytes | None, int] = {None: keyless}
        for draft in drafts:
            place = places.get(draft.key)
            if place is None:
                assert draft.key is not None
                place = places[draft.key] = partition_of(draft.key, partitions)
            shares.setdefault(place, []).append(draft)
        return [
            chunk
            for partition, share in shares.items()
            for chunk in self._pack(partition, share, self._numbers.get(partition, 0))
        ]

    def _pack(self, partition: int, drafts: Sequence[Draft], first: int) -> list[Chunk]:
        chunks = []
        at = 0
        while at < len(drafts):
            builder = DefaultRecordBatchBuilder(
                2,
                CODECS[self.options.compression],
                self.transactional_id is not None,
                self._id,
                self._epoch,
                first,
                int(self.options.max_request_size),
            )
            count = 0
            for draft in drafts[at:]:
                # The time is the delivery's, not the event's: a backfill would else be older than the topic's retention.
                if builder.append(count, None, draft.key, draft.value, draft.headers) is None:
                    break
                count += 1
            chunks.append(Chunk(partition, drafts[at : at + count], first, bytes(builder.build())))
            at, first = at + count, next_number(first, count)
        return chunks

    # --- sending -----------------------------------------------------------------------------------------------------

    async def send(self, chunks: list[Chunk]) -> dict[int, int]:
        """Until every chunk is taken, in order within a partition: one at a time there, all partitions side by side.

        Returns for each partition the offset after its last record, where the broker told it. Raises Refused, or
        PermanentError for records to blame; `taken` then says what has arrived. A chunk that its broker refuses as too
        large is cut in two, in `chunks` too.
        """
        offsets: dict[int, int] = {}
        while True:
            leaders = await self.cluster.leaders()
            requests = _share_out(chunks, leaders)
            if not requests:
                return offsets
            for turn in requests.values():
                for chunk in turn:
                    chunk.sent = True
            answers = await self.cluster.ask_each({node: self._request(turn) for node, turn in requests.items()})
            failures: list[Exception] = []
            blamed: list[Draft] = []
            for node, turn in requests.items():
                if isinstance(answers[node], Exception):
                    failures.append(answers[node])
                    continue
                codes = {p: (code, offset) for _, ps in answers[node].topics for p, code, offset, *_ in ps}
                for chunk in turn:
                    code, offset = codes.get(chunk.partition, (-1, -1))
                    if code in (0, DUPLICATE):
                        self._note_taken(chunk, offset, offsets)
                    elif code in REFUSED_RECORDS:
                        blamed += self._cut(chunks, chunk)
                    else:
                        failures.append(Refused(code, f"writing to partition {chunk.partition}"))
            if failures:  # first, because a refusal that is final may only follow when no outcome is in doubt
                raise failures[0]
            if blamed:
                raise PermanentError(
                    f"topic {self.cluster.topic} refuses the event ({blamed[0].size} bytes before compression) as too large or not "
                    "valid; see the topic's max.message.bytes and cleanup.policy",
                    rejected=[draft.index for draft in blamed],
                )

    def _request(self, turn: Sequence[Chunk]) -> ProduceRequest:
        timeout_ms = int(self.options.request_timeout * 1000)
        share = [(chunk.partition, chunk.data) for chunk in turn]
        return ProduceRequest(self.transactional_id, ALL, timeout_ms, [(self.cluster.topic, share)])

    def _note_taken(self, chunk: Chunk, offset: int, offsets: dict[int, int]) -> None:
        chunk.taken = True
        self._numbers[chunk.partition] = next_number(chunk.first, len(chunk.drafts))
        if offset >= 0:
            offsets[chunk.partition] = offset + len(chunk.drafts)

    def _cut(self, chunks: list[Chunk], chunk: Chunk) -> Sequence[Draft]:
        """Put two halves in its place, with the same numbers; or the record that is to blame, when it is alone."""
        chunk.sent = False
        half = len(chunk.drafts) // 2
        if not half:
            return chunk.drafts
        at = next(i for i, c in enumerate(chunks) if c is chunk)
        chunks[at : at + 1] = [
            *self._pack(chunk.partition, chunk.drafts[:half], chunk.first),
            *self._pack(chunk.partition, chunk.drafts[half:], next_number(chunk.first, half)),
        ]
        return ()

    # --- transactions ------------------------------------------------------------------------------------------------

    @property
    def _who(self) -> tuple[str, int, int]:
        assert self.transactional_id is not None
        return self.transactional_id, self._id, self._epoch

    async def begin(self, partitions: Iterable[int]) -> None:
        """Open a transaction over these partitions and our position."""
        name, *who = self._who
        node = await self.cluster.coordinator(TRANSACTION, name)
        request = AddPartitionsToTxnRequest(name, *who, [(self.cluster.topic, sorted(set(partitions)))])
        await self.cluster.patiently(request, node, lambda a: each_partition(a.errors), "opening a transaction")
        offsets = AddOffsetsToTxnRequest(name, *who, name)
        await self.cluster.patiently(offsets, node, lambda a: [a.error_code], "adding our position to the transaction")

    async def note_position(self, offset: int, metadata: str) -> None:
        """Within the transaction: our position as the offset of a consumer group, on partition 0 of the topic."""
        name, *who = self._who
        node = await self.cluster.coordinator(GROUP, name)
        topics: list[Any] = [(self.cluster.topic, [(0, offset, metadata)])]
        request = TxnOffsetCommitRequest(name, name, *who, topics)
        await self.cluster.patiently(request, node, lambda a: each_partition(a.errors), "writing our position")

    async def end(self, *, commit: bool) -> None:
        name, *who = self._who
        node = await self.cluster.coordinator(TRANSACTION, name)
        doing = "committing the transaction" if commit else "aborting the transaction"
        await self.cluster.patiently(EndTxnRequest(name, *who, commit), node, lambda a: [a.error_code], doing)


def _share_out(chunks: Sequence[Chunk], leaders: Mapping[int, int]) -> dict[int, list[Chunk]]:
    """What to send now: for each node the first chunk of every partition that still has one, up to REQUEST_BYTES."""
    requests: dict[int, list[Chunk]] = {}
    sizes: dict[int, int] = {}
    seen: set[int] = set()
    for chunk in chunks:
        if chunk.taken or chunk.partition in seen:
            continue
        seen.add(chunk.partition)
        node = leaders.get(chunk.partition, -1)
        if node < 0:
            raise Refused(5, f"writing to partition {chunk.partition}")
        if sizes.get(node, 0) and sizes[node] + len(chunk.data) > REQUEST_BYTES:
            continue
        sizes[node] = sizes.get(node, 0) + len(chunk.data)
        requests.setdefault(node, []).append(chunk)
    return requests
