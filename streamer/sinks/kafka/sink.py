"""The `kafka` sink: at least once with an idempotent producer, or exactly once with transactions."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import json as msgjson

from streamer.errors import ConfigError, PermanentError, Repositioned, RetryableError
from streamer.model import Batch, Bookmark
from streamer.ports import SinkContext
from streamer.sinks.kafka.options import KafkaOptions
from streamer.sinks.kafka.producer import Chunk, Draft, Identity, Producer, make_drafts, refuse_too_large
from streamer.sinks.kafka.verdicts import FENCED, LOST_PRODUCER, Place, Refused, map_errors
from streamer.sinks.kafka.wire import GROUP, TRANSACTION, Cluster, StableOffsets

READ_BACK_LIMIT = 1_000_000
"""So many events, at most, that Kafka has and the journal does not know of are kept in memory while they come again."""
READ_BACK_FOR_S = 7 * 86_400
"""After that what has not come again never will: it lies outside of what is read or filtered now."""


def default_transactional_id(options: KafkaOptions, context: SinkContext) -> str:
    """The same for every start with any journal, so that a zombie is shut out and a new journal finds what an older one did."""
    writer = f"streamer.{options.topic}.{context.position.entered_as}"
    return options.transactional_id or (f"{writer}.{context.replica}" if context.replica else writer)


class AtLeastOnce:
    """A batch whose fate is not known is sent again with the same numbers, so that a broker that has it drops it."""

    def __init__(self, options: KafkaOptions, place: Place) -> None:
        self._options = options
        self._place = place
        self._cluster = Cluster(options, place)
        self._producer = Producer(self._cluster, options)
        self._chunks: list[Chunk] = []
        """Of the write that has not succeeded yet."""
        self._taken: set[Identity] = set()
        """What arrived of a batch that did not as a whole, until the rest of it has."""

    async def write(self, batch: Batch, /) -> Bookmark | None:
        with map_errors(self._place):
            try:
                async with asyncio.timeout(self._options.delivery_timeout):
                    await self._write(batch)
            except PermanentError:
                raise
            except BaseException as error:
                self._cluster.close()
                if isinstance(error, Refused) and error.code in LOST_PRODUCER:
                    self._producer.forget()
                raise
        return None

    async def _write(self, batch: Batch) -> None:
        drafts = await asyncio.to_thread(make_drafts, batch.messages, self._options, None)
        if not self._continues(drafts):
            self._taken |= {draft.identity for chunk in self._chunks if chunk.taken for draft in chunk.drafts}
            if any(chunk.sent and not chunk.taken for chunk in self._chunks):
                self._producer.forget()  # its numbers may be in use, for other events than these
            self._chunks = []
            refuse_too_large(drafts, int(self._options.max_request_size))
            if not self._producer.is_known:
                await self._producer.introduce()
            fresh = [draft for draft in drafts if draft.identity not in self._taken]
            self._chunks = await asyncio.to_thread(self._producer.pack, fresh, await self._cluster.leaders())
        await self._producer.send(self._chunks)
        self._chunks = []
        self._taken.difference_update(draft.identity for draft in drafts)

    def _continues(self, drafts: list[Draft]) -> bool:
        """Whether this is the batch that failed last, with a producer id that still holds."""
        waiting = {draft.identity for chunk in self._chunks for draft in chunk.drafts}
        return (
            bool(waiting)
            and self._producer.is_known
            and waiting == {draft.identity for draft in drafts if draft.identity not in self._taken}
        )

    async def close(self) -> None:
        self._cluster.close()


class Stand(msgspec.Struct, frozen=True, omit_defaults=True):
    """The bookmark: what of the topic this journal has acknowledged."""

    topic: str
    transaction: str | None
    """The last transaction that the journal knows of, as Kafka's note of our position names it."""
    offsets: dict[str, int]
    """For each partition: everything of ours before it is acknowledged. A partition that is not named: 0."""
    behind_since: float | None = None
    """Unix seconds, while Kafka has more from `offsets` on than the journal acknowledged."""


class Position(msgspec.Struct, frozen=True):
    """What Kafka keeps of us, committed together with the events: metadata of a consumer group's offset."""

    transaction: str
    seq: int
    id: str


class ExactlyOnce:
    """Each batch is one transaction: its events, and a note of our position that tells whether the journal saw it end.

    Where the two disagree (a crash between commit and ack, an older journal, another writer), the topic itself is read
    from the journal's offsets on, and the events of ours that it holds are skipped when they come again.
    """

    def __init__(self, options: KafkaOptions, place: Place, context: SinkContext) -> None:
        assert place.transactional_id is not None
        self._options = options
        self._place = place
        self._id = place.transactional_id
        self._cluster = Cluster(options, place)
        self._producer = Producer(self._cluster, options, self._id)
        self._run = secrets.token_hex(6)
        self._count = 0
        self._ends: dict[int, int] = {}
        self._known: set[Identity] = set()
        """What Kafka has and the journal does not know of."""
        self._rival: str | None = None
        """Where another writer stood when it shut us out."""
        self._stand: Stand | None = None
        if context.position.bookmark is not None:
            stand = msgspec.convert(dict(context.position.bookmark), Stand)
            self._stand = stand if stand.topic == options.topic else None
        self._is_new = context.position.bookmark is None

    async def write(self, batch: Batch, /) -> Bookmark | None:
        with map_errors(self._place):
            try:
                if not self._producer.is_known:
                    await self._take_over()
                async with asyncio.timeout(self._options.delivery_timeout):
                    return await self._write(batch)
            except (PermanentError, Repositioned):
                raise
            except BaseException as error:
                self._cluster.close()
                self._producer.forget()
                if isinstance(error, Refused) and error.code in FENCED:
                    raise await self._fenced(error) from error
                raise

    async def _write(self, batch: Batch) -> Bookmark:
        assert self._stand is not None
        drafts = await asyncio.to_thread(make_drafts, batch.messages, self._options, self._id)
        refuse_too_large(drafts, int(self._options.max_request_size))
        fresh = [draft for draft in drafts if draft.identity not in self._known]
        transaction = self._stand.transaction
        if fresh:
            transaction = f"{self._run}-{self._count}"
            await self._transact(fresh, Position(transaction, batch.last_seq, fresh[-1].identity[1]))
            self._count += 1
        self._known.difference_update(draft.identity for draft in drafts)
        self._stand = self._advance(self._stand, transaction)
        return _bookmark(self._stand)

    async def _transact(self, drafts: list[Draft], position: Position) -> None:
        chunks = await asyncio.to_thread(self._producer.pack, drafts, await self._cluster.leaders())
        await self._producer.begin(chunk.partition for chunk in chunks)
        try:
            offsets = await self._producer.send(chunks)
        except PermanentError:
            # The others of the batch are written again: nothing of this transaction may ever be seen.
            await self._producer.end(commit=False)
            raise
        await self._producer.note_position(position.seq, msgjson.encode(position).decode())
        await self._producer.end(commit=True)
        self._ends |= offsets

    def _advance(self, stand: Stand, transaction: str | None) -> Stand:
        """After a batch. While Kafka is ahead the offsets stay, so that a restart reads the same stretch again."""
        since = stand.behind_since
        if self._known and since is not None and time.time() - since > READ_BACK_FOR_S:
            self._known.clear()
        if self._known:
            return msgspec.structs.replace(stand, transaction=transaction, behind_since=since or time.time())
        return Stand(self._options.topic, transaction, {str(p): offset for p, offset in sorted(self._ends.items())})

    # --- where we stand ----------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Shut out whoever had our id, end what was left open, and learn what Kafka has that the journal does not know of.
        Repositioned the first time, so that the journal can tell what is ours from the first event on."""
        async with asyncio.timeout(self._options.delivery_timeout):
            await self._give_way()
            await self._producer.introduce()
            position = await self._position()
            self._ends = await self._cluster.ends()
        last = position.transaction if position is not None else None
        stand = self._stand
        if stand is None:
            # Kafka knows us and a journal without any bookmark does not: it is a new one, and all of the topic may be ours.
            is_lost = self._is_new and position is not None
            offsets = {} if is_lost else {str(p): end for p, end in self._ends.items()}
            stand = Stand(self._options.topic, last, offsets, time.time() if is_lost else None)
        self._known = set()
        if stand.behind_since is not None or stand.transaction != last:
            self._known = await self._read_back(stand.offsets)
        is_first = self._stand is None
        self._stand = self._advance(stand, last)
        if is_first:
            raise Repositioned(_bookmark(self._stand))

    async def _position(self) -> Position | None:
        node = await self._cluster.coordinator(GROUP, self._id)
        answer = await self._cluster.patiently(
            StableOffsets(self._id, self._options.topic, 0),
            node,
            lambda a: [a.error_code, *(p[4] for _, partitions, _ in a.topics for p in partitions)],
            "asking for our position",
        )
        for _, partitions, _ in answer.topics:
            for _, offset, _, metadata, *_ in partitions:
                if offset >= 0 and metadata:
                    return msgjson.decode(metadata, type=Position)
        return None

    async def _read_back(self, offsets: dict[str, int]) -> set[Identity]:
        """The committed events of ours from `offsets` to the ends."""
        starts = {p: offsets.get(str(p), 0) for p in self._ends}
        # An end before the journal's offset is a topic that was made anew.
        left = {p: start if start <= self._ends[p] else 0 for p, start in starts.items()}
        left = {p: start for p, start in left.items() if start < self._ends[p]}
        known: set[Identity] = set()
        if not left:
            return known
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._options.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **await self._cluster.security(),
        )
        places = {TopicPartition(self._options.topic, p): start for p, start in left.items()}
        try:
            await consumer.start()
            consumer.assign(list(places))
            for place, start in places.items():
                consumer.seek(place, start)
            while places:
                known |= await self._read_on(consumer, places)
                if len(known) > READ_BACK_LIMIT:
                    raise ConfigError(
                        f"sink {self._place.sink}: topic {self._options.topic} holds more than {READ_BACK_LIMIT} events of "
                        f"{self._id} that this journal does not know of; restore a newer journal, or set another "
                        "transactional_id to deliver them again"
                    )
        finally:
            await consumer.stop()
        return known

    async def _read_on(self, consumer: Any, places: dict[Any, int]) -> set[Identity]:
        """The next stretch; a place whose end is reached leaves `places`."""
        async with asyncio.timeout(self._options.delivery_timeout):
            found = await consumer.getmany(*places, timeout_ms=1000, max_records=10_000)
            known = {
                _identity(headers)
                for records in found.values()
                for record in records
                if (headers := dict(record.headers)).get("origin") == self._id.encode()
            }
            before = dict(places)
            for place in before:
                places[place] = await consumer.position(place)
                if places[place] >= self._ends[place.partition]:
                    del places[place]
        if not found and places == before:
            raise RetryableError(
                f"sink {self._place.sink}: topic {self._options.topic} cannot be read to its end; another producer's transaction "
                "is open there"
            )
        return known

    # --- other writers -----------------------------------------------------------------------------------------------

    async def _fenced(self, error: Refused) -> ConfigError | RetryableError:
        """Another writer has our id if Kafka has moved on without us; otherwise a transaction of ours took too long."""
        position = await self._position()
        mine = self._stand and self._stand.transaction
        if position is None or position.transaction in (mine, f"{self._run}-{self._count}"):
            return RetryableError(
                f"sink {self._place.sink}: Kafka gave up on a transaction that took too long ({error})"
            )
        self._rival = position.transaction
        return self._held()

    async def _give_way(self) -> None:
        """As long as the other writer moves, it is the one that delivers."""
        if self._rival is None:
            return
        position = await self._position()
        if position is not None and position.transaction != self._rival:
            self._rival = position.transaction
            raise self._held()
        self._rival = None

    def _held(self) -> ConfigError:
        return ConfigError(
            f"sink {self._place.sink}: another writer has taken over transactional id {self._id}; stop one of the two, or give "
            "each its own transactional_id"
        )

    async def close(self) -> None:
        self._cluster.close()


def _bookmark(stand: Stand) -> Bookmark:
    bookmark: dict[str, Any] = msgspec.to_builtins(stand)
    return bookmark


def _identity(headers: dict[str, bytes]) -> Identity:
    return headers.get("source", b"").decode(), headers.get("id", b"").decode(), "replayed" in headers


def place_of(options: KafkaOptions, context: SinkContext) -> Place:
    name = default_transactional_id(options, context) if options.exactly_once else None
    return Place(context.name, ",".join(options.bootstrap_servers), options.topic, name)


@asynccontextmanager
async def open_sink(options: KafkaOptions, context: SinkContext) -> AsyncIterator[AtLeastOnce | ExactlyOnce]:
    place = place_of(options, context)
    sink = ExactlyOnce(options, place, context) if options.exactly_once else AtLeastOnce(options, place)
    try:
        yield sink
    finally:
        await sink.close()


async def probe(options: KafkaOptions, context: SinkContext) -> str:
    """Logs in and looks at the topic; takes no producer id, so that a running daemon is not shut out."""
    place = place_of(options, context)
    cluster = Cluster(options, place)
    with map_errors(place):
        try:
            leaders = dict(await cluster.leaders())
            lost = sorted(p for p, leader in leaders.items() if leader < 0)
            if place.transactional_id is not None:
                await cluster.coordinator(TRANSACTION, place.transactional_id)
        finally:
            cluster.close()
    if lost:
        raise RetryableError(f"sink {place.sink}: partitions {_listed(lost)} of topic {place.topic} have no leader")
    return f"topic {place.topic} has {len(leaders)} partitions"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
