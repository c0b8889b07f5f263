"""The loop from upstream to the journal: plan, walk, decode, enrich, append.

One job a source and listing. A walk that fails leaves no trace and is done again; events and the new watermark are appended
in one transaction; so a crash anywhere costs requests, never an event.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Generic, Literal, NamedTuple, TypeVar

from msgspec import structs

from streamer import windows
from streamer.catalog import lookup
from streamer.config import SourceOptions, resolve_moment, show_duration
from streamer.decode import to_envelope
from streamer.errors import ConfigError, RetryableError
from streamer.model import Entry, Event, Listing, Progress, Window, encode_envelope, from_epoch
from streamer.ports import Enricher, Journal, Narrow, Source, WindowTooLarge
from streamer.retry import HOLD_S, Backoff
from streamer.rhythm import DAYS, Rhythm
from streamer.stop import Stop
from streamer.telemetry import Telemetry

ENTRIES_PER_TURN = 25
"""Events decoded before other jobs get the loop: about half a millisecond, so that walkers send their next request without delay."""
FULL_RETRY_S = 1.0
POLL_TRIES = 3
"""A poll of many pages begins again when one of them fails. After so many tries it is done by slices, of which each that succeeds is kept."""
BEGUN_EVENTS = 450
"""What a walk is taken to hold in memory until it has seen more."""
WAITING_WINDOWS = 6
"""So many walked windows may wait for the one that is next in time while all walkers are busy."""
BUSY_WINDOWS = 4
"""When more than so many in a row were walked before it was their turn to be prepared, the processor is what takes time, and a third of the memory will do."""


T = TypeVar("T")
P = TypeVar("P")
"""What a walk's events become before they are stored."""

Kind = Literal["catch up", "live", "recheck"]


class Prepared(NamedTuple):
    """What a walk found that is not in the journal yet, in time order."""

    times: Sequence[int]
    """`effective_at` of each, in Unix seconds."""
    entries: Sequence[Entry]


@dataclass
class Intake:
    """One listing of one source."""

    source: Source
    listing: Listing
    options: SourceOptions
    journal: Journal
    enrichers: Sequence[Enricher]
    telemetry: Telemetry
    stop: Stop
    allowance: "Allowance"
    """Shared by the listings of a source."""
    ready: Callable[[], Awaitable[None]] | None = None
    """What the first walk waits for, for a time that it bounds itself: names, so that history is named too."""
    once: bool = False
    """Catch up to now and return."""
    max_wait_s: float = HOLD_S

    def __post_init__(self) -> None:
        self._row = self.telemetry.listing_opened(self.source.name, self.listing, self.options.poll_interval)
        self._rhythm, self._found = Rhythm(), 0
        given = self.options.overlap
        self._overlap = windows.Overlap(auto=True) if given == "auto" else windows.Overlap(float(given))
        canary = self.options.canary
        self._canary = canary if canary is not None and lookup(canary.type).listing == self.listing else None
        if self._canary is not None:
            self.telemetry.listing_expects(self._row, self._canary.type, self.telemetry.clock() + self._canary.every)

    async def run(self) -> None:
        """Until stop; with `once` until everything up to now is in the journal. Raises ConfigError only with `once`."""
        # The clock first: a watermark taken from a clock that is ahead would leave events out.
        await self._persist(lambda: self.source.look(self.listing))
        if self.ready is not None:
            await self.ready()
        progress = await self._persist(self._first_progress)
        if progress is None:
            return
        self._progress = progress
        self._row.watermark = progress.watermark
        await self._persist(self._learn_rhythm)
        interval = self.options.poll_interval
        # All listings begin at once; from the second poll on each has a moment of its own.
        pause: float | None = interval * random.random()  # noqa: S311 - spreads load, guards nothing
        while not self.stop.is_set():
            began = self._now()
            await self._turn(began)
            if self.once or self.stop.is_set():
                return
            # A poll that took long is followed by the next at once; one that was quick waits out the interval.
            await self.stop.sleep(interval - max(self._now() - began, 0) if pause is None else pause)
            pause = None

    def _now(self) -> float:
        """The time at upstream, as far as a second witness has got there too: our clock, or the newest event. A `Date` header that is
        ahead would else move the watermark past events that are still to come."""
        return min(self.source.now(), max(self.telemetry.clock(), self._row.last_event_at))

    async def _turn(self, now: float) -> None:
        options = self.options
        if windows.is_behind(self._progress.watermark, now, self._overlap.seconds, options.poll_interval):
            await self._recheck_what_is_due(now)
            await self._catch_up(int(now - self._overlap.seconds))
        if self.stop.is_set():
            return
        await self._live()
        await self._recheck_what_is_due(now)
        await self._serve_repairs()
        self._overlap.settle()
        self.telemetry.listing_overlap(self._row, self._overlap.seconds, self._overlap.why)
        upstream_now = self.source.now()
        self.telemetry.listing_quiet(self._row, upstream_now, self._rhythm.usual_gap(upstream_now))
        if not self.stop.is_set():
            self.telemetry.listing_live(self._row)

    # --- where to begin ----------------------------------------------------------------------------------------------

    async def _first_progress(self) -> Progress:
        stored = await self.journal.progress(self.source.name, self.listing)
        self._first_time = stored is None
        if stored is not None:
            return stored
        start = self.options.start
        begin = int(resolve_moment(start, self._now()))
        oldest = await self.source.oldest(self.listing) if start == "beginning" else begin
        watermark = oldest if oldest is not None else int(self._now())
        # Everything will be walked from now on, so a recheck owes nothing that is older.
        progress = Progress(watermark, tuple(int(self._now()) for _ in self.options.recheck), begin)
        await self.journal.append(self.source.name, self.listing, [], progress)
        return progress

    async def _learn_rhythm(self) -> bool:
        since = int(self.source.now()) - (DAYS + 1) * 86_400
        for hour, events, newest in await self.journal.hours(self.source.name, self.listing, since):
            self._rhythm.hours[hour] = events
            self._row.last_event_at = max(self._row.last_event_at, newest)
        return True

    # --- the three kinds of walks ------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """One poll: the overlap and everything since. Splits by slices only when there is too much for one window."""
        # A watermark that a wrong clock once left in the future hides nothing.
        watermark = min(self._progress.watermark, int(self._now()))
        window = windows.live_window(watermark, self._overlap.seconds, self._progress.begin)
        began = time.monotonic()
        events = await self._walk_patiently(Claim(window), windows.MAX_POLL_EVENTS, POLL_TRIES)
        if events is None:
            return
        # The time at which the walk began, by the clock as it is corrected now.
        started = int(self._now() - (time.monotonic() - began))
        if isinstance(events, WindowTooLarge):
            await self._range("live", window.start, started + 1)
        else:
            await self._append("live", Window(window.start, started), await self._prepare("live", events))

    async def _catch_up(self, until: int) -> None:
        self.telemetry.listing_catching_up(self._row, until)
        await self._range("catch up", self._progress.watermark, until)

    async def _recheck_what_is_due(self, now: float) -> None:
        for index, span in windows.due_rechecks(self._progress, self.options.recheck, now, self._overlap.seconds):
            await self._recheck(index, span, now)

    async def _recheck(self, index: int, span: Window | None, now: float) -> None:
        self._found = 0
        if span is not None:
            assert span.end is not None
            if not await self._range("recheck", span.start, span.end):
                return
        done = windows.with_rechecked(self._progress, index, len(self.options.recheck), now)
        if self._found:
            self._overlap.missed()
        if await self._persist(lambda: self._store(done)):
            self.telemetry.rechecked(self._row, show_duration(self.options.recheck[index].window), self._found)

    async def repair(self) -> None:
        """What an operator asked to walk again, and nothing else: for when no daemon does it in its turn."""
        await self._persist(lambda: self.source.look(self.listing))
        stored = await self.journal.progress(self.source.name, self.listing)
        if stored is not None:
            self._first_time, self._progress = False, stored
            await self._serve_repairs()

    async def _serve_repairs(self) -> None:
        for repair in await self._persist(lambda: self.journal.repairs(self.source.name, self.listing)) or ():
            if not await self._range("recheck", repair.since, repair.before):
                return
            await self._persist(lambda: self.journal.repaired(repair))  # noqa: B023 - awaited before the next turn

    async def _store(self, progress: Progress) -> bool:
        await self.journal.append(self.source.name, self.listing, [], progress)
        self._progress = progress
        return True

    async def _range(self, kind: Kind, start: int, end: int) -> bool:
        """Walk [start, end) by slices, several at once, and append them in time order. False when stopped before the end."""
        walkers = RangeWalk(
            Window(start, end),
            self.allowance,
            walk=lambda claim: self._walk_patiently(claim, windows.MAX_SLICE_EVENTS),
            prepare=lambda events: self._prepare(kind, events),
            store=lambda window, prepared: self._append(kind, window, prepared),
            stop=self.stop,
        )
        return await walkers.run()

    async def _walk_patiently(
        self, claim: "Claim", limit: int, tries: float = math.inf
    ) -> list[Event] | WindowTooLarge | None:
        """A walk that is tried until it succeeds; after so many `tries` it counts as too large. None when stopped."""
        tried = 0

        async def walk() -> list[Event] | WindowTooLarge:
            nonlocal tried
            tried += 1
            if tried > tries:
                return WindowTooLarge(0)
            try:
                async with self.allowance.turn():
                    return await self.source.walk(self.listing, claim.window, limit, claim.narrow)
            except WindowTooLarge as large:
                window = claim.window
                if window.end is not None and window.end - window.start <= 1:
                    raise RuntimeError("a window of one second cannot be too large") from large
                return large

        return await self._persist(walk)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T | None:
        """Try until it succeeds: back off while the world is wrong, hold while we are. None when stopped."""
        backoff = Backoff(longest_s=self.max_wait_s)
        while not self.stop.is_set():
            try:
                return await attempt()
            except RetryableError as error:
                wait = backoff.next(error.retry_after)
                self.telemetry.listing_failing(self._row, str(error), wait)
            except ConfigError as error:
                if self.once:
                    raise
                wait = self.max_wait_s
                self.telemetry.listing_held(self._row, str(error))
            await self.stop.sleep(wait)
        return None

    # --- into the journal --------------------------------------------------------------------------------------------

    async def _prepare(self, kind: Kind, events: Sequence[Event]) -> Prepared | None:
        """What of a walk is worth appending, decoded. None when stopped."""
        fresh: list[Event] | None = sorted(events, key=lambda e: e.effective_at)
        if kind != "catch up":
            # Most of what an overlap or a recheck reads is known: it is not worth decoding.
            walked = fresh
            fresh = await self._persist(lambda: self.journal.unknown(self.source.name, walked or []))
        if fresh is None:
            return None
        self._look_for_canary(fresh)
        entries = await self._entries(fresh, late=kind == "recheck")
        return Prepared([event.effective_at for event in fresh], entries)

    def _look_for_canary(self, events: Sequence[Event]) -> None:
        canary = self._canary
        if canary is not None:
            seen = [e.effective_at for e in events if e.type == canary.type]
            if seen:
                self.telemetry.listing_expects(self._row, canary.type, max(seen) + canary.every)

    async def _append(self, kind: Kind, window: Window, prepared: Prepared | None) -> None:
        if prepared is None:
            return
        assert window.end is not None
        watermark = self._progress.watermark if kind == "recheck" else max(window.end, self._progress.watermark)
        progress = structs.replace(self._progress, watermark=watermark)
        appended = await self._persist(lambda: self._append_when_room(prepared.entries, progress))
        if appended is None:
            return
        self._progress = progress
        self._report(kind, prepared.times, appended)

    async def _append_when_room(self, entries: Sequence[Entry], progress: Progress) -> int:
        try:
            appended = await self.journal.append(self.source.name, self.listing, entries, progress)
        except RetryableError as error:
            self.telemetry.journal_full(self._row, True, str(error))
            raise RetryableError(str(error), retry_after=FULL_RETRY_S) from error
        self.telemetry.journal_full(self._row, False)
        return appended

    async def _entries(self, events: Sequence[Event], *, late: bool) -> list[Entry]:
        entries: list[Entry] = []
        observed_at = from_epoch(self.telemetry.clock())
        for begin in range(0, len(events), ENTRIES_PER_TURN):
            entries += [self._entry(e, observed_at, late=late) for e in events[begin : begin + ENTRIES_PER_TURN]]
            await asyncio.sleep(0)
        return entries

    def _entry(self, event: Event, observed_at: datetime, *, late: bool) -> Entry:
        envelope, unknowns = to_envelope(
            event, source=self.source.name, listing=self.listing, observed_at=observed_at, late=late
        )
        if unknowns is not None:
            if unknowns.type:
                self.telemetry.unknown_type(event.type)
            else:
                self.telemetry.unknown_fields(event.type)
        for enricher in self.enrichers:
            enricher.enrich(envelope)
        self.telemetry.event_rated(envelope.severity)
        return Entry(event.id, event.effective_at, encode_envelope(envelope))

    def _report(self, kind: Kind, times: Sequence[int], appended: int) -> None:
        row, telemetry, live = self._row, self.telemetry, kind == "live"
        if times:
            row.last_event_at = max(row.last_event_at, times[-1])
            telemetry.listing_verified(row)
            self._rhythm.add(times)
        elif live and self._first_time and row.last_event_at == 0 and self.listing == "organization":
            telemetry.listing_unverified(row)
        telemetry.listing_walked(row, self._progress.watermark, appended)
        if kind == "recheck" and times:
            self._found += len(times)
            telemetry.events_late(row, len(times), times[0])
        if live and row.state == "live":
            now = self.source.now()
            for time_of_event in times:
                self._overlap.saw(now - time_of_event)
                telemetry.event_seen_live(row, now - time_of_event)


class Allowance:
    """What the listings of a source share while they walk: turns at the API, and events in memory."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._turns = asyncio.Semaphore(concurrency)
        self.events = 0
        """In memory, walked or of walks that are under way."""
        self.limit = (concurrency + WAITING_WINDOWS) * windows.SLICE_EVENTS
        self._change = asyncio.Event()

    @property
    def turn_free(self) -> bool:
        return not self._turns.locked()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The right to walk: one request at a time."""
        try:
            async with self._turns:
                yield
        finally:
            self.changed()

    def changed(self) -> None:
        """To be called after each change of what walkers wait for."""
        self._change.set()
        self._change = asyncio.Event()

    async def change(self) -> None:
        """Wait for the next one."""
        await self._change.wait()


@dataclass
class Claim:
    """What one walker has taken on."""

    window: Window
    narrow: Narrow | None = None
    """May make the window narrower while it is walked, and all that happens to it then begins with the narrower one."""
    events: int = BEGUN_EVENTS
    """For the allowance: in memory, or soon."""


class RangeWalk(Generic[P]):
    """Several walks at once over one long range; what they find is prepared and stored in time order, each window once.

    Preparing works ahead of storing by two windows, so that the processor and the disk work at the same time. Memory is bounded: a
    walker takes no new window while the allowance is used up by finished ones that wait for the one that is next in time.
    """

    def __init__(
        self,
        whole: Window,
        allowance: Allowance,
        *,
        walk: Callable[[Claim], Awaitable[list[Event] | WindowTooLarge | None]],
        prepare: Callable[[Sequence[Event]], Awaitable[P]],
        store: Callable[[Window, P], Awaitable[None]],
        stop: Stop,
    ) -> None:
        assert whole.end is not None
        self._slicer = windows.Slicer(whole.start, whole.end, allowance.concurrency)
        self._next, self._end = whole.start, whole.end
        self._allowance, self._walk, self._prepare, self._store, self._stop = allowance, walk, prepare, store, stop
        self._walked: dict[int, tuple[Window, list[Event]]] = {}
        self._under_way: set[int] = set()
        self._without_work = 0
        """Walkers."""
        self._ready_in_a_row = 0
        """Windows."""
        self._prepared: asyncio.Queue[tuple[Window, P, int] | None] = asyncio.Queue(1)
        """The last: how many events the window had, for the allowance."""
        self._stored = whole.start

    async def run(self) -> bool:
        """False when stopped before the end."""
        if self._next >= self._end:
            return True
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._allowance.concurrency):
                tasks.create_task(self._walker(), name=f"walker {number}")
            tasks.create_task(self._preparer(), name="preparer")
            tasks.create_task(self._storer(), name="storer")
        return self._stored >= self._end

    async def _walker(self) -> None:
        while (claim := await self._take()) is not None:
            events = await self._walk(claim)
            self._under_way.remove(claim.window.start)
            self._allowance.events -= claim.events
            if isinstance(events, WindowTooLarge):
                self._slicer.too_large(claim.window, events.expected)
            elif events is not None:
                self._slicer.found(claim.window, len(events))
                self._walked[claim.window.start] = (claim.window, events)
                self._allowance.events += len(events)
            self._allowance.changed()
            del events  # Else it would live as long as the next walk.
            # The turn goes to who has waited longest, of whatever listing.
            await asyncio.sleep(0)

    def _may_take(self) -> bool:
        if self._next not in self._walked and self._next not in self._under_way:
            return True  # What is next in time is always given out: without it nothing could be stored.
        limit = self._allowance.limit
        return self._allowance.events + BEGUN_EVENTS <= (limit // 3 if self._ready_in_a_row > BUSY_WINDOWS else limit)

    async def _take(self) -> Claim | None:
        """The next window. None at the end: nothing to give out, and nothing under way that could come back in parts."""
        while not self._stop.is_set():
            # No window waits for a turn: others, taken later, would be walked before it and wait for it in memory.
            window = self._slicer.take() if self._allowance.turn_free and self._may_take() else None
            if window is not None:
                claim = Claim(window)
                claim.narrow = partial(self._narrow, claim)
                self._under_way.add(window.start)
                self._allowance.events += claim.events
                return claim
            without_work = not self._slicer.more
            if without_work and not self._under_way:
                return None
            self._without_work += without_work
            await self._allowance.change()
            self._without_work -= without_work
        return None

    def _narrow(self, claim: Claim, times: Sequence[int]) -> int:
        events = max(len(times), BEGUN_EVENTS)
        self._allowance.events += events - claim.events
        claim.events = events
        share = self._without_work > self._slicer.parts and self._allowance.turn_free
        start = self._slicer.narrow(claim.window, times, share=share)
        if start > claim.window.start:
            self._under_way.remove(claim.window.start)
            self._under_way.add(start)
            claim.window = Window(start, claim.window.end)
            self._allowance.changed()
        return start

    async def _preparer(self) -> None:
        while self._next < self._end and (walked := await self._next_walked()) is not None:
            window, events = walked
            prepared = await self._prepare(events)
            assert window.end is not None
            del self._walked[window.start]
            self._next = window.end
            self._allowance.changed()
            count = len(events)
            del walked, events
            await self._prepared.put((window, prepared, count))
            del prepared
        await self._prepared.put(None)
        self._allowance.changed()

    async def _next_walked(self) -> tuple[Window, list[Event]] | None:
        self._ready_in_a_row += 1
        while self._next not in self._walked and not self._stop.is_set():
            was_busy, self._ready_in_a_row = self._ready_in_a_row > BUSY_WINDOWS, 0
            if was_busy:
                self._allowance.changed()  # there is room again
            await self._allowance.change()
        return None if self._stop.is_set() else self._walked[self._next]

    async def _storer(self) -> None:
        while (prepared := await self._prepared.get()) is not None:
            window, what, count = prepared
            await self._store(window, what)
            del prepared, what  # As above.
            # Only now does it leave: as long as it is in memory it counts.
            self._allowance.events -= count
            self._allowance.changed()
            if not self._stop.is_set():
                assert window.end is not None
                self._stored = window.end
