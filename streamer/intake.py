"""The loop from upstream to the journal: plan, walk, decode, enrich, append.

One job a source and listing. A walk that fails leaves no trace and is done again; events and the new watermark are appended
in one transaction; so a crash anywhere costs requests, never an event.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeVar

from msgspec import structs

from streamer import windows
from streamer.catalog import lookup
from streamer.config import SourceOptions, resolve_moment, show_duration
from streamer.entries import make_entries
from streamer.errors import ConfigError, RetryableError, StreamerError, verdicts
from streamer.model import Entry, Event, Listing, Progress, Window, from_epoch
from streamer.ports import Enricher, Journal, Source, WindowTooLarge
from streamer.range_walk import Allowance, Claim, RangeWalk
from streamer.retry import HOLD_S, Backoff
from streamer.rhythm import DAYS, Rhythm
from streamer.slices import MAX_SLICE_EVENTS
from streamer.stop import Stop
from streamer.telemetry import Telemetry

ENTRIES_PER_TURN = 40
"""Events decoded before other jobs get the loop: half a millisecond, so that walkers send their next request without delay."""
FULL_RETRY_S = 1.0
CLOCK_AHEAD_S = 1.0
"""A clock that is corrected at all is corrected by more."""
ONCE_TRIES = 8
"""A run that should end leaves what is walked again to the next one when a request has failed so often: half a minute, as a rule."""
POLL_TRIES = 3
"""A poll of many pages begins again when one of them fails. After so many tries it is done by slices, of which each that succeeds is kept."""


T = TypeVar("T")

Kind = Literal["catch up", "live", "recheck"]


async def _cancelled(*tasks: asyncio.Task[None] | None) -> None:
    going = [task for task in tasks if task is not None and task.cancel()]
    if going:
        await asyncio.wait(going)


class Prepared(NamedTuple):
    """What a walk found that is not in the journal yet, in time order."""

    times: Sequence[int]
    """`effective_at` of each, in Unix seconds."""
    entries: Sequence[Entry]


class Poll(NamedTuple):
    started: int
    """Unix seconds at upstream: so far the log is known when it is stored."""
    found: list[Event] | WindowTooLarge | None
    """None: stopped."""


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
    allowance: Allowance
    """Shared by the listings of a source."""
    ready: Callable[[], Awaitable[None]] | None = None
    """What the events of the first walks wait for, for a time that it bounds itself: names, so that history is named too."""
    once: bool = False
    """Catch up to now and return."""
    max_wait_s: float = HOLD_S

    def __post_init__(self) -> None:
        self._row = self.telemetry.listing_opened(self.source.name, self.listing, self.options.poll_interval)
        self._rhythm, self._found = Rhythm(), 0
        given = self.options.overlap
        self._overlap = windows.Overlap(auto=True) if given == "auto" else windows.Overlap(float(given))
        self._moving = asyncio.Lock()
        """Of the progress: polls, a catch-up and what is walked again beside them each move it from where it is by then."""
        self._again: asyncio.Task[None] | None = None
        self._asked_again = -math.inf
        """When it was last asked what is to be walked again."""
        self._left: RetryableError | None = None
        """Why, with `once`, not all was walked again."""
        self._settled = asyncio.Event()
        """Upstream's clock and the names are known, and from where the log is wanted is written down. Walks may begin before; what they bring waits."""
        canary = self.options.canary
        self._canary = canary if canary is not None and lookup(canary.type).listing == self.listing else None
        if self._canary is not None:
            self.telemetry.listing_expects(self._row, self._canary.type, self.telemetry.clock() + self._canary.every)

    async def run(self) -> None:
        """Until stop; with `once` until everything up to now is in the journal. Raises only with `once`: ConfigError, in a group; RetryableError
        when everything is, but what was to be walked again could not be."""
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(self._ask_clock_and_names(), name="clock and names")
            # The first turn does not wait for that answer, for our clock is right as a rule.
            self._tasks = tasks
            turn = await self._begin()
            await asking
            if turn is not None and self.source.now() < self.telemetry.clock() - CLOCK_AHEAD_S:
                await _cancelled(turn, self._again)
                turn = await self._begin()
            if turn is None:
                return
            await self._persist("live", self._write_down)
            self._settled.set()
            await turn
            await self._go_on()
        self._tell_what_is_left()

    async def _ask_clock_and_names(self) -> None:
        # A watermark taken from a clock that is ahead would leave events out.
        await self._persist("live", lambda: self.source.look(self.listing))
        if self.ready is not None:
            await self.ready()

    async def _begin(self) -> asyncio.Task[None] | None:
        """The first turn, by the clock as it is known by now. None when stopped."""
        now = self._now()
        progress = await self._persist("live", lambda: self._first_progress(now))
        if progress is None:
            return None
        self._progress = progress
        self._row.watermark = progress.watermark
        self._tell_when_rechecks_are_due()
        return self._tasks.create_task(self._turn(now), name="first turn")

    async def _go_on(self) -> None:
        """All turns but the first."""
        interval = self.options.poll_interval
        # All listings begin at once; from the second poll on each has a moment of its own.
        pause = interval * random.random()  # noqa: S311 - spreads load, guards nothing
        while not self.once and not await self.stop.sleep(pause):
            began = self._now()
            await self._turn(began)
            # A poll that took long is followed by the next at once; one that was quick waits out the interval.
            pause = interval - max(self._now() - began, 0)

    def _now(self) -> float:
        """The time at upstream, as far as a second witness has got there too: our clock, or the newest event. A `Date` header that is
        ahead would else move the watermark past events that are still to come."""
        return min(self.source.now(), max(self.telemetry.clock(), self._row.last_event_at))

    async def _turn(self, now: float) -> None:
        options, polled = self.options, False
        if windows.is_behind(self._progress.watermark, now, self._overlap.seconds, options.poll_interval):
            self._walk_again(now)
            polled = await self._catch_up(int(now - self._overlap.seconds))
        if self.stop.is_set():
            return
        if not polled:
            await self._live()
        self._walk_again(now)
        self._overlap.settle()
        self.telemetry.listing_overlap(self._row, self._overlap.seconds, self._overlap.why)
        upstream_now = self.source.now()
        self.telemetry.listing_quiet(self._row, upstream_now, self._rhythm.usual_gap(upstream_now))
        if not self.stop.is_set():
            self.telemetry.listing_live(self._row)

    # --- where to begin ----------------------------------------------------------------------------------------------

    async def _first_progress(self, now: float) -> Progress:
        stored = await self.journal.progress(self.source.name, self.listing)
        self._first_time = stored is None
        if stored is not None:
            # What is not rechecked any more holds no ids in memory.
            return structs.replace(stored, rechecked=stored.rechecked[: len(self.options.recheck)])
        start = self.options.start
        begin = int(resolve_moment(start, now))
        oldest = await self.source.oldest(self.listing) if start == "beginning" else begin
        watermark = oldest if oldest is not None else int(now)
        # Everything will be walked from now on, so a recheck owes nothing that is older.
        return Progress(watermark, tuple(int(now) for _ in self.options.recheck), begin)

    async def _write_down(self) -> bool:
        """From where on the log is wanted, before anything is stored. And what was stored before is read for the rhythm of events."""
        if self._first_time:
            await self.journal.append(self.source.name, self.listing, [], self._progress)
        since = int(self.source.now()) - (DAYS + 1) * 86_400
        for hour, events, newest in await self.journal.hours(self.source.name, self.listing, since):
            self._rhythm.hours[hour] = events
            self._row.last_event_at = max(self._row.last_event_at, newest)
        return True

    # --- the three kinds of walks ------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """One poll: the overlap and everything since."""
        # A watermark that a wrong clock once left in the future hides nothing.
        watermark = min(self._progress.watermark, int(self._now()))
        window = windows.live_window(watermark, self._overlap.seconds, self._progress.begin)
        await self._take_poll(window, await self._poll(window))

    async def _poll(self, window: Window) -> Poll:
        began = time.monotonic()
        found = await self._walk_patiently(
            "live", Claim(window), windows.MAX_POLL_EVENTS, tries=POLL_TRIES, in_turn=False
        )
        # By the clock as it is corrected now.
        return Poll(int(self._now() - (time.monotonic() - began)), found)

    async def _take_poll(self, window: Window, poll: Poll) -> None:
        """Store it; by slices where there is too much for one window."""
        if isinstance(poll.found, WindowTooLarge):
            await self._range("live", window.start, poll.started + 1)
        elif poll.found is not None:
            await self._append("live", Window(window.start, poll.started), await self._prepare("live", poll.found))

    async def _catch_up(self, until: int) -> bool:
        """True when the poll that follows was done, too: it is on its way while the last of the range is walked and stored."""
        self.telemetry.listing_catching_up(self._row, until)
        window = windows.live_window(until, self._overlap.seconds, self._progress.begin)
        polling: asyncio.Task[Poll] | None = None
        async with asyncio.TaskGroup() as tasks:

            def poll() -> None:
                nonlocal polling
                polling = tasks.create_task(self._poll(window), name="poll")

            done = await self._range("catch up", self._progress.watermark, until, walked=poll)
        if not done or polling is None:
            return False
        polled = polling.result()
        await self._take_poll(window, polled)
        # One that had to wait long to be stored is followed by another.
        return self._now() - polled.started < self.options.poll_interval

    # --- what is walked again ----------------------------------------------------------------------------------------

    def _walk_again(self, now: float) -> None:
        """What is due by now, beside the polls, for no event may wait for it; one such walk at a time."""
        self._asked_again = now
        if self._again is None or self._again.done():
            due = windows.due_rechecks(self._progress, self.options.recheck, now, self._overlap.seconds)
            self._again = self._tasks.create_task(self._recheck_and_repair(due, now), name="again")

    async def _recheck_and_repair(self, due: Sequence[tuple[int, Window | None]], now: float) -> None:
        await self._settled.wait()
        try:
            for index, span in due:
                await self._recheck(index, span, now)
            await self._serve_repairs()
        except* RetryableError as given_up:
            self._left = next(error for error in verdicts(given_up) if isinstance(error, RetryableError))
        else:
            self._left = None
            if not self.stop.is_set():
                self.telemetry.recheck_failing(self._row, None)

    def _tell_what_is_left(self) -> None:
        if self._left is not None:
            raise RetryableError(f"what should be walked again is left to the next run: {self._left}")

    async def _recheck(self, index: int, span: Window | None, now: float) -> None:
        self._found = 0
        if span is not None:
            assert span.end is not None
            if not await self._range("recheck", span.start, span.end):
                return
        if self._found:
            self._overlap.missed()
        count = len(self.options.recheck)
        done = await self._persist(
            "recheck", lambda: self._move(lambda p: windows.with_rechecked(p, index, count, now))
        )
        if done is not None:
            self.telemetry.rechecked(self._row, show_duration(self.options.recheck[index].window), self._found)
            self._tell_when_rechecks_are_due()

    def _tell_when_rechecks_are_due(self) -> None:
        rechecks = enumerate(self.options.recheck)
        due = {show_duration(r.window): windows.rechecked(self._progress, i) + r.every for i, r in rechecks}
        self.telemetry.rechecks_due(self._row, due)

    async def repair(self) -> None:
        """What an operator asked to walk again, and nothing else: for when no daemon does it in its turn. RetryableError: some of it could not be."""
        await self._persist("live", lambda: self.source.look(self.listing))
        stored = await self.journal.progress(self.source.name, self.listing)
        if stored is not None:
            self._first_time, self._progress = False, stored
            self._settled.set()
            await self._recheck_and_repair((), 0)
            self._tell_what_is_left()

    async def _serve_repairs(self) -> None:
        wanted = await self._persist("recheck", lambda: self.journal.repairs(self.source.name, self.listing))
        for repair in wanted or ():
            if not await self._range("recheck", repair.since, repair.before):
                return
            await self._persist("recheck", partial(self.journal.repaired, repair))

    # --- walks -------------------------------------------------------------------------------------------------------

    async def _range(self, kind: Kind, start: int, end: int, walked: Callable[[], None] = lambda: None) -> bool:
        """Walk [start, end) by slices, several at once, and append them in time order. False when stopped before the end. `walked`: as
        RangeWalk has it."""
        walkers = RangeWalk(
            Window(start, end),
            self.allowance,
            walk=lambda claim: self._walk_patiently(kind, claim, MAX_SLICE_EVENTS),
            prepare=lambda events: self._prepare(kind, events),
            store=lambda window, prepared: self._append(kind, window, prepared),
            stop=self.stop,
            walked=walked,
        )
        return await walkers.run()

    async def _walk_patiently(
        self, kind: Kind, claim: Claim, limit: int, *, tries: float = math.inf, in_turn: bool = True
    ) -> list[Event] | WindowTooLarge | None:
        """A walk that is tried until it succeeds; after so many `tries` it counts as too large. None when stopped. Not `in_turn`: however many others
        walk meanwhile."""
        tried = 0

        async def walk() -> list[Event] | WindowTooLarge:
            nonlocal tried
            tried += 1
            if tried > tries:
                return WindowTooLarge(0)
            early = not self._settled.is_set()
            try:
                async with self.allowance.turn() if in_turn else nullcontext():
                    return await self.source.walk(self.listing, claim.window, limit, claim.narrow)
            except WindowTooLarge as large:
                window = claim.window
                if window.end is not None and window.end - window.start <= 1:
                    raise RuntimeError("a window of one second cannot be too large") from large
                return large
            except StreamerError:
                if not early:
                    raise
                # Who asks for the clock tells of it, and tries; several walkers need not.
                await self._settled.wait()
                return await walk()

        return await self._persist(kind, walk)

    async def _persist(self, kind: Kind, attempt: Callable[[], Awaitable[T]]) -> T | None:
        """Try until it succeeds: back off while the world is wrong, hold while we are. None when stopped. What fails beside the polls is told apart
        from them."""
        backoff = Backoff(longest_s=self.max_wait_s)
        while not self.stop.is_set():
            try:
                return await attempt()
            except RetryableError as error:
                if self.once and kind == "recheck" and backoff.attempts + 1 >= ONCE_TRIES:
                    raise
                wait = backoff.next(error.retry_after)
                self._tell_of_trouble(kind, error, wait)
            except ConfigError as error:
                if self.once:
                    raise
                wait = self.max_wait_s
                self._tell_of_trouble(kind, error, wait)
            await self.stop.sleep(wait)
        return None

    def _tell_of_trouble(self, kind: Kind, error: StreamerError, wait_s: float) -> None:
        if kind == "recheck":
            self.telemetry.recheck_failing(self._row, str(error), wait_s)
        elif isinstance(error, ConfigError):
            self.telemetry.listing_held(self._row, str(error))
        else:
            self.telemetry.listing_failing(self._row, str(error), wait_s)

    # --- into the journal --------------------------------------------------------------------------------------------

    async def _prepare(self, kind: Kind, events: Sequence[Event]) -> Prepared | None:
        """What of a walk is worth appending, decoded. None when stopped."""
        await self._settled.wait()
        fresh: list[Event] | None = sorted(events, key=lambda e: e.effective_at)
        if kind != "catch up":
            # Most of what an overlap or a recheck reads is known: it is not worth decoding.
            walked = fresh
            fresh = await self._persist(kind, lambda: self.journal.unknown(self.source.name, walked or []))
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
        end = window.end
        assert end is not None

        def moved(progress: Progress) -> Progress:
            return progress if kind == "recheck" else structs.replace(progress, watermark=max(end, progress.watermark))

        appended = await self._persist(kind, lambda: self._append_when_room(prepared.entries, moved))
        if appended is not None:
            self._report(kind, prepared.times, appended)
            now = self._now()
            if kind == "catch up" and now - self._asked_again >= self.options.poll_interval:
                # It may take hours, and rechecks are due meanwhile.
                self._walk_again(now)

    async def _append_when_room(self, entries: Sequence[Entry], moved: Callable[[Progress], Progress]) -> int:
        try:
            appended = await self._move(moved, entries)
        except RetryableError as error:
            self.telemetry.journal_full(self._row, True, str(error))
            raise RetryableError(str(error), retry_after=FULL_RETRY_S) from error
        self.telemetry.journal_full(self._row, False)
        return appended

    async def _move(self, moved: Callable[[Progress], Progress], entries: Sequence[Entry] = ()) -> int:
        """Append, together with where that brings the listing."""
        async with self._moving:
            progress = moved(self._progress)
            appended = await self.journal.append(self.source.name, self.listing, entries, progress)
            self._progress = progress
            return appended

    async def _entries(self, events: Sequence[Event], *, late: bool) -> list[Entry]:
        entries: list[Entry] = []
        observed_at = from_epoch(self.telemetry.clock())
        for begin in range(0, len(events), ENTRIES_PER_TURN):
            made = make_entries(
                events[begin : begin + ENTRIES_PER_TURN],
                self.enrichers,
                source=self.source.name,
                listing=self.listing,
                observed_at=observed_at,
                late=late,
            )
            entries += made.entries
            self.telemetry.events_rated(made.severities)
            for name, unknowns in made.unknowns:
                if unknowns.type:
                    self.telemetry.unknown_type(name)
                else:
                    self.telemetry.unknown_fields(name)
            await asyncio.sleep(0)
        return entries

    def _report(self, kind: Kind, times: Sequence[int], appended: int) -> None:
        row, telemetry, live = self._row, self.telemetry, kind == "live"
        if times:
            row.last_event_at = max(row.last_event_at, times[-1])
            telemetry.listing_verified(row)
            self._rhythm.add(times)
        elif live and self._first_time and row.last_event_at == 0 and self.listing == "organization":
            telemetry.listing_unverified(row)
        telemetry.listing_received(row, appended)
        if kind != "recheck":
            telemetry.listing_walked(row, self._progress.watermark)
        elif appended:  # Others may have come by a poll meanwhile.
            self._found += appended
            telemetry.events_late(row, appended, times[0])
        if live and row.state == "live":
            now = self.source.now()
            for time_of_event in times:
                self._overlap.saw(now - time_of_event)
                telemetry.event_seen_live(row, now - time_of_event)
