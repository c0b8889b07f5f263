"""A long range of time, walked by slices: several walks at once, and what they find stored in time order, each window once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from streamer import slices
from streamer.model import Event, Window
from streamer.ports import Narrow, WindowTooLarge
from streamer.stop import Stop

BEGUN_EVENTS = 450
"""What a walk is taken to hold in memory until it has seen more."""
WAITING_WINDOWS = 6
"""So many walked windows may wait for the one that is next in time while all walkers are busy."""

P = TypeVar("P")
"""What a walk's events become before they are stored."""


class Allowance:
    """What the listings of a source share while they walk: turns at the API, and events in memory."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._turns = asyncio.Semaphore(concurrency)
        self.events = 0
        """In memory, walked or of walks that are under way."""
        self.limit = (concurrency + WAITING_WINDOWS) * slices.SLICE_EVENTS
        self.slicers: list[slices.Slicer] = []
        """Of the ranges that are being walked."""
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
        walked: Callable[[], None] = lambda: None,
    ) -> None:
        """`walked` is called once, as soon as a walker that has walked finds nothing more to do: the others walk the last of the range, and it is
        prepared and stored."""
        assert whole.end is not None
        self._slicer = slices.Slicer(whole.start, whole.end)
        self._next, self._end = whole.start, whole.end
        self._allowance, self._walk, self._prepare, self._store, self._stop = allowance, walk, prepare, store, stop
        self._when_walked: Callable[[], None] | None = walked
        self._walked: dict[int, tuple[Window, list[Event]]] = {}
        self._under_way: set[int] = set()
        self._held = 0
        """Of the events that the allowance counts, those of this range."""
        self._any_found = False
        """A window was walked to its end."""
        self._without_work = 0
        """Walkers for whom there is no window."""
        self._without_room = 0
        """Walkers for whom there is one, and a turn, but no room in memory."""
        self._ready_in_a_row = 0
        """Windows that were walked before it was their turn to be prepared, since one was not."""
        self._prepared: asyncio.Queue[tuple[Window, P, int] | None] = asyncio.Queue(1)
        """The last: how many events the window had, for the allowance."""
        self._stored = whole.start

    async def run(self) -> bool:
        """False when stopped before the end."""
        if self._next >= self._end:
            return True
        self._allowance.slicers.append(self._slicer)
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._allowance.concurrency):
                    tasks.create_task(self._walker(), name=f"walker {number}")
                tasks.create_task(self._preparer(), name="preparer")
                tasks.create_task(self._storer(), name="storer")
        finally:
            self._allowance.slicers.remove(self._slicer)
            self._hold(-self._held)
        return self._stored >= self._end

    def _hold(self, events: int) -> None:
        self._held += events
        self._allowance.events += events

    async def _walker(self) -> None:
        while (claim := await self._take()) is not None:
            events = await self._walk(claim)
            self._under_way.remove(claim.window.start)
            self._hold(-claim.events)
            if isinstance(events, WindowTooLarge):
                self._slicer.too_large(claim.window, events.expected)
            elif events is not None:
                self._any_found = True
                self._slicer.found(claim.window, [event.effective_at for event in events])
                self._walked[claim.window.start] = (claim.window, events)
                self._hold(len(events))
            self._allowance.changed()
            del events  # Else it would live as long as the next walk.
            # The turn goes to who has waited longest, of whatever listing.
            await asyncio.sleep(0)
        self._tell_walked()

    def _tell_walked(self) -> None:
        tell, self._when_walked = self._when_walked, None
        if tell is not None:
            tell()

    def _may_take(self) -> bool:
        if self._next not in self._walked and self._next not in self._under_way:
            return True  # What is next in time is always given out: without it nothing could be stored.
        limit = self._allowance.limit
        return self._allowance.events + BEGUN_EVENTS <= (limit // 3 if self._busy else limit)

    @property
    def _busy(self) -> bool:
        """The processor is what takes time, and a third of the memory will do: more windows in a row were ready than can have waited because one
        before them was late."""
        return self._ready_in_a_row > self._allowance.concurrency + WAITING_WINDOWS

    async def _take(self) -> Claim | None:
        """The next window. None at the end: nothing to give out, and nothing under way that could come back in parts."""
        while not self._stop.is_set():
            # No window waits for a turn: others, taken later, would be walked before it and wait for it in memory.
            window = self._slicer.take(self._finishing) if self._allowance.turn_free and self._may_take() else None
            if window is not None:
                claim = Claim(window)
                claim.narrow = partial(self._narrow, claim)
                self._under_way.add(window.start)
                self._hold(claim.events)
                return claim
            without_work = not self._slicer.more
            without_room = not without_work and self._allowance.turn_free
            if without_work and not self._under_way:
                return None
            if without_work and self._any_found:
                self._tell_walked()
            self._without_work += without_work
            self._without_room += without_room
            await self._allowance.change()
            self._without_work -= without_work
            self._without_room -= without_room
        return None

    @property
    def _finishing(self) -> int:
        """How many walkers should finish at once at the end of this range: where another has windows to give, only one."""
        others = any(slicer.more for slicer in self._allowance.slicers if slicer is not self._slicer)
        return 1 if others else self._allowance.concurrency

    def _narrow(self, claim: Claim, times: Sequence[int]) -> int:
        events = max(len(times), BEGUN_EVENTS)
        self._hold(events - claim.events)
        claim.events = events
        # What keeps all others waiting is the window that is next in time.
        awaited = self._without_room > 0 and claim.window.start == self._next
        share = self._allowance.turn_free and (awaited or self._without_work > self._slicer.parts)
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
            for start in [start for start in self._walked if start < window.end]:
                del self._walked[start]
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
            was_busy, self._ready_in_a_row = self._busy, 0
            if was_busy:
                self._allowance.changed()  # there is room again
            await self._allowance.change()
        return None if self._stop.is_set() else self._together()

    def _together(self) -> tuple[Window, list[Event]]:
        """What is next, and what was walked behind it as far as that is no more than a slice should hold: storing little takes as long as storing much."""
        window, events = self._walked[self._next]
        while (behind := self._walked.get(window.end or 0)) is not None:
            if len(events) + len(behind[1]) > slices.SLICE_EVENTS:
                break
            window, events = Window(window.start, behind[0].end), events + behind[1]
        return window, events

    async def _storer(self) -> None:
        while (prepared := await self._prepared.get()) is not None:
            window, what, count = prepared
            await self._store(window, what)
            del prepared, what  # As above.
            # Only now does it leave: as long as it is in memory it counts.
            self._hold(-count)
            self._allowance.changed()
            if not self._stop.is_set():
                assert window.end is not None
                self._stored = window.end
