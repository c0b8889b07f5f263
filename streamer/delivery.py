"""The loop from the journal to one sink: read, encode, write, ack. Retries, halving, dead letters, the fuse: only here."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from streamer.config import BatchOptions
from streamer.errors import ConfigError, PermanentError, Repositioned, RetryableError
from streamer.model import Batch, Bookmark, Envelope, Message, Record, Seq, SinkName
from streamer.ports import DeadLetter, Finishing, Format, Journal, Replay, Sink, Ticking
from streamer.retry import HOLD_S, Backoff
from streamer.stop import Stop, to_next_beat
from streamer.telemetry import SinkStatus, Telemetry

T = TypeVar("T")

TURN_S = 0.001
"""After so long at encoding others get the loop: a batch may hold thousands of records, and a format take 25 µs for each."""
IDLE_S = 1.0
"""How often a sink looks for what an operator asked (retries, replays) and ticks."""
LOOK_ANYWAY_S = 30.0
"""So often it reads what was asked, though nothing seems to have been written."""
FUSE = 10
"""So many dead letters with no record taken between them hold the sink: it is the sink, not the records."""
ONCE_ATTEMPTS = 8
"""With `run --once`, so many failures in a row leave the sink behind."""

Commit = Callable[[Seq, Bookmark | None, Sequence[DeadLetter]], Awaitable[None]]
"""(upto, bookmark, dead letters): makes one step of a stretch of records durable."""


class Stopped(Exception):
    """The program ends; what is not acknowledged stays in the journal."""


@dataclass
class Delivery:
    """One sink's job."""

    name: SinkName
    kind: str
    sink: Sink
    acked: Seq
    journal: Journal
    format: Format
    where: Callable[[Envelope], bool] | None
    redact: Callable[[Record], Record] | None
    batch: BatchOptions
    telemetry: Telemetry
    stop: Stop
    caught_up: Callable[[], bool] | None = None
    """With `run --once`: whether intake has appended everything it will."""
    hold_s: float = HOLD_S
    looks_inside: bool = True
    """See `SinkType`."""

    def __post_init__(self) -> None:
        self._row = self.telemetry.sink_opened(self.name, self.kind, self.acked)
        self._buried_in_a_row = 0
        self._looked_at = -LOOK_ANYWAY_S
        self._looked_for = (0, 0)
        self._beat = -1.0

    @property
    def row(self) -> SinkStatus:
        """Its row in `/status`."""
        return self._row

    async def run(self) -> None:
        """Until stop; with `caught_up` until everything is delivered, and then a verdict that needs an operator, or
        fails ONCE_ATTEMPTS times, is raised."""
        try:
            while not self.stop.is_set():
                await self._serve_requests()
                records = await self._next_records()
                if records:
                    await self._deliver(records, records[-1].seq, self._ack, replayed=False)
                elif self.caught_up is not None and self.caught_up() and self.journal.head <= self.acked:
                    if isinstance(self.sink, Finishing):
                        await self._let(self.sink.finish)
                    return
                else:
                    self.telemetry.sink_idle(self._row)
                    await self.journal.wait(self.acked, to_next_beat(IDLE_S) if self.caught_up is None else 0.05)
        except Stopped:
            return

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _next_records(self) -> list[Record]:
        deadline = time.monotonic() + (self.batch.wait if self.caught_up is None else 0)
        while True:
            records = await self._read(self.acked)
            left = deadline - time.monotonic()
            if not records or left <= 0 or self._is_full(records) or self.stop.is_set():
                return records
            await self.journal.wait(records[-1].seq, min(left, IDLE_S))

    async def _read(self, after: Seq) -> list[Record]:
        return await self._patiently(lambda: self.journal.read(after, self.batch.events, int(self.batch.bytes)))

    def _is_full(self, records: Sequence[Record]) -> bool:
        """Full, or there is more behind it than fits: then its size closed it."""
        return len(records) >= self.batch.events or records[-1].seq < self.journal.head

    # --- what an operator asked, and the clock -----------------------------------------------------------------------

    async def _serve_requests(self) -> None:
        now = time.monotonic()
        if now // IDLE_S == self._beat:
            return
        self._beat = now // IDLE_S
        # Before it is read, so that what is asked meanwhile is another stamp.
        stamp = self.journal.stamp()
        if stamp != self._looked_for or now - self._looked_at >= LOOK_ANYWAY_S:
            self._looked_for, self._looked_at = stamp, now
            while letters := await self._patiently(lambda: self.journal.requeued(self.name)):
                await self._retry(letters)
            for replay in await self._patiently(lambda: self.journal.replays(self.name)):
                await self._replay(replay)
        if isinstance(self.sink, Ticking):
            await self._let(self.sink.tick)

    async def _let(self, act: Callable[[], Awaitable[Bookmark | None]]) -> None:
        """Let the sink do something that is not about a record."""
        bookmark = await self._patiently(act)
        if bookmark is not None:
            await self._ack(self.acked, bookmark, ())

    async def _retry(self, letters: Sequence[DeadLetter]) -> None:
        """All at once; where the sink refuses them, one by one."""
        messages = await self._encode([Record(letter.seq, letter.line) for letter in letters], replayed=True)
        try:
            bookmark = await self._write(messages) if messages else None
        except PermanentError as error:
            if len(letters) > 1:
                for letter in letters:
                    await self._retry([letter])
                return
            again = msgspec.structs.replace(
                letters[0], reason=_reason(error), attempts=letters[0].attempts + 1, at=self.telemetry.clock()
            )
            await self._patiently(lambda: self.journal.settle([again], False, None))
            return
        await self._patiently(lambda: self.journal.settle(letters, True, bookmark))
        self.telemetry.dead_letters_delivered(self._row, len(letters))

    async def _replay(self, replay: Replay) -> None:
        async def commit(upto: Seq, bookmark: Bookmark | None, dead: Sequence[DeadLetter]) -> None:
            await self._patiently(lambda: self.journal.replayed(replay, upto, bookmark, dead))

        after = replay.after
        while after < replay.until:
            records = await self._read(after)
            records = [r for r in records if r.seq <= replay.until]
            if not records:
                await commit(replay.until, None, ())
                return
            after = records[-1].seq
            chosen = [r for r in records if replay.since <= r.envelope.time.timestamp() < replay.before]
            await self._deliver(chosen, after, commit, replayed=True)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _deliver(self, records: Sequence[Record], upto: Seq, commit: Commit, *, replayed: bool) -> None:
        """Everything of `records` that the sink wants is taken or dead-lettered, and `upto` committed, when this returns."""
        began = time.monotonic()
        messages = await self._encode(records, replayed=replayed)
        self.telemetry.sink_filtered(self._row, len(records) - len(messages))
        parts = [messages] if messages else []
        while parts:
            part = parts.pop(0)
            last = part[-1].record.seq if parts else upto
            try:
                bookmark = await self._write(part)
            except PermanentError as error:
                parts[:0] = await self._refused(part, last, error, records, commit)
                continue
            self._buried_in_a_row = 0
            await commit(last, bookmark, ())
            self.telemetry.sink_delivered(self._row, self.acked, len(part), time.monotonic() - began)
        if not messages:
            await commit(upto, None, ())

    async def _encode(self, records: Sequence[Record], *, replayed: bool) -> list[Message]:
        """What the sink wants of them, as it wants it."""
        where, redact, encode = self.where, self.redact, self.format.encode
        messages: list[Message] = []
        turn_ends = time.monotonic() + TURN_S
        for whole in records:
            record = whole
            if where is None or where(whole.envelope):
                record = whole if redact is None else redact(whole)
                messages.append(Message(record, encode(record), replayed))
            if not self.looks_inside:
                whole.forget()
                if record is not whole:
                    record.forget()
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + TURN_S
        return messages

    async def _refused(
        self, part: list[Message], last: Seq, error: PermanentError, records: Sequence[Record], commit: Commit
    ) -> list[list[Message]]:
        """What is left to write after a refusal: the halves, or what stands around the record that is to blame."""
        if len(part) > 1:
            # The one to blame is cut out, and met again alone; what stands before it goes first, so that order holds.
            cut = min(error.rejected) if error.rejected else len(part) // 2
            pieces = [part[:cut], part[cut : cut + 1], part[cut + 1 :]] if error.rejected else [part[:cut], part[cut:]]
            return [piece for piece in pieces if piece]
        if self._buried_in_a_row >= FUSE:
            await self._wait_held(
                f"sink {self.name}: {FUSE} records in a row refused ({error}); mend the sink or its format; it is tried again, no event is skipped"
            )
            return [part]
        self._buried_in_a_row += 1
        letter = self._letter(part[0], records, error)
        await commit(last, None, [letter])
        self.telemetry.dead_letter(self._row, letter.id, letter.type, letter.reason)
        return []

    def _letter(self, message: Message, records: Sequence[Record], error: PermanentError) -> DeadLetter:
        """Keeps the record as it stands in the journal, not as this sink would have seen it."""
        record = next(r for r in records if r.seq == message.record.seq)
        return DeadLetter(
            sink=self.name,
            seq=record.seq,
            id=record.envelope.id,
            type=record.envelope.type,
            reason=_reason(error),
            attempts=1,
            at=self.telemetry.clock(),
            line=record.line,
        )

    async def _write(self, messages: list[Message]) -> Bookmark | None:
        batch = Batch(messages)
        return await self._patiently(lambda: self.sink.write(batch))

    async def _ack(self, upto: Seq, bookmark: Bookmark | None, dead: Sequence[DeadLetter]) -> None:
        await self._patiently(lambda: self.journal.ack(self.name, upto, bookmark, dead))
        self.acked = max(self.acked, upto)
        self._row.acked = self.acked

    # --- patience ----------------------------------------------------------------------------------------------------

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it succeeds: back off while the world is wrong, hold while we are. Stopped when the program ends;
        PermanentError goes to the caller."""
        backoff = Backoff(longest_s=self.hold_s)
        while True:
            try:
                return await attempt()
            except Repositioned as moved:
                # Bound now: the loop variable is gone when the lambda is retried.
                bookmark = moved.bookmark
                await self._patiently(lambda: self.journal.ack(self.name, self.acked, bookmark, ()))  # noqa: B023
                continue
            except RetryableError as error:
                if self.caught_up is not None and backoff.attempts >= ONCE_ATTEMPTS:
                    raise
                wait = backoff.next(error.retry_after)
                self.telemetry.sink_failing(self._row, str(error), wait)
            except ConfigError as error:
                await self._wait_held(str(error), error)
                continue
            if await self.stop.sleep(wait):
                raise Stopped

    async def _wait_held(self, reason: str, error: ConfigError | None = None) -> None:
        """One turn of holding: say so, and wait before the next look."""
        if self.caught_up is not None:
            raise error or ConfigError(reason)
        self.telemetry.sink_held(self._row, reason)
        if await self.stop.sleep(self.hold_s):
            raise Stopped


def _reason(error: PermanentError) -> str:
    return str(error)[:1000]
