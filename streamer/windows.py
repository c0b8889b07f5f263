"""What to ask upstream next. Pure: from how far we are, the time and the density seen so far to windows.

All times are Unix seconds of upstream's clock; windows are half-open.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from msgspec import structs

from streamer.config import AUTO_OVERLAP_S, Recheck
from streamer.model import Progress, Window

SLICE_EVENTS = 900
"""What a slice of a long range should hold."""
WIDE_SLICE_EVENTS = 1600
"""A walk of a slice that is about to find more goes on with the newest part of it alone."""
NARROWED_EVENTS = 1200
"""What that part should hold."""
HOPELESS_EVENTS = 4 * SLICE_EVENTS
"""A slice with so many is better given back after its first page, and walked in parts by several."""
MAX_SLICE_EVENTS = 3000
"""A walk that finds more all the same, or is about to and cannot be made narrower, gives its window back, which is then cut up."""
SHARED_EVENTS = 120
"""What a walk must still expect to share it with a walker that has nothing to do: more than a page."""
MAX_POLL_EVENTS = 10_000
"""A poll that finds more is done by slices."""
OBSERVED_EVENTS = 1000
FEWEST_OBSERVED = 100
DENSITIES = 8
ENOUGH_TO_EXPECT = 100
"""So many seen events, a page, tell how many the whole window holds."""
GROWTH = 4
MOST_PARTS = 64
FIRST_SLICE_S = 16 * 3600
LONGEST_SLICE_S = 366 * 86_400


def live_window(watermark: int, overlap_s: float, begin: int) -> Window:
    """What every poll reads: from the overlap on, without an end, so that events ahead of our clock are seen too."""
    return Window(max(int(watermark - overlap_s), begin, 0), None)


def is_behind(watermark: int, now: float, overlap_s: float, poll_interval_s: float) -> bool:
    """Too far for one window: catch up by slices first."""
    return now - watermark > max(2 * overlap_s, 10 * poll_interval_s, 600)


def due_rechecks(
    progress: Progress, rechecks: Sequence[Recheck], now: float, overlap_s: float
) -> list[tuple[int, Window | None]]:
    """(index, window) of each recheck whose time has come, the shortest reach first; None: nothing to walk, but done.

    Every second is walked again at the age of `window`, however long no recheck could be done: so a recheck reaches back from
    where it ended last time. To be asked before a catch-up too: what that walks is of that age, and not owed any more.
    """
    due: list[tuple[int, Window | None]] = []
    end = int(min(now - overlap_s, progress.watermark))
    for index, recheck in sorted(enumerate(rechecks), key=lambda item: item[1].window):
        # Done later than now: the clock is behind, or was ahead. Nothing is due, and so what is done never moves back.
        done = min(rechecked(progress, index), now)
        if now - done >= recheck.every:
            start = max(int(done - recheck.window), progress.begin, 0)
            due.append((index, Window(start, end) if start < end else None))
    return due


def rechecked(progress: Progress, index: int) -> int:
    """When a recheck was last done, in Unix seconds; one that is new to the configuration begins at the watermark."""
    return progress.rechecked[index] if index < len(progress.rechecked) else progress.watermark


def with_rechecked(progress: Progress, index: int, count: int, now: float) -> Progress:
    """`index` of `count` rechecks is done as of `now`."""
    done = [rechecked(progress, i) for i in range(count)]
    done[index] = int(now)
    return structs.replace(progress, rechecked=tuple(done))


def longest_reach_s(overlap_s: float, rechecks: Sequence[Recheck]) -> float:
    """How far back a window may be walked again; ids are remembered longer than that."""
    return max([overlap_s, *(r.window + r.every for r in rechecks)])


@dataclass
class Overlap:
    """How far before the watermark a poll reads: as configured, or as wide as what was observed asks for."""

    seconds: float = 300.0
    auto: bool = False
    _lateness: deque[float] = field(default_factory=lambda: deque(maxlen=OBSERVED_EVENTS))
    _shortest: float = AUTO_OVERLAP_S[0]

    def saw(self, lateness_s: float) -> None:
        """An event appeared so long after its time."""
        self._lateness.append(lateness_s)

    def missed(self) -> None:
        """A recheck found something that no poll had seen: twice as wide from now on, and never narrower again."""
        self._shortest = min(max(self._shortest, 2 * self.seconds), AUTO_OVERLAP_S[1])
        self.settle()

    def settle(self) -> None:
        """With `auto`: twice the latest of the last events, once there are enough of them to say."""
        if self.auto:
            enough = len(self._lateness) >= FEWEST_OBSERVED
            wanted = 2 * max(self._lateness) if enough else self.seconds
            self.seconds = min(max(wanted, self._shortest), AUTO_OVERLAP_S[1])

    @property
    def why(self) -> str:
        if not self.auto:
            return "as configured"
        if self._shortest == self.seconds > AUTO_OVERLAP_S[0]:
            return "auto: doubled when a recheck found what no poll had seen"
        if len(self._lateness) < FEWEST_OBSERVED:
            return f"auto: too few events to say, {len(self._lateness)} of {FEWEST_OBSERVED}"
        return f"auto: twice the latest of {len(self._lateness)} events ({max(self._lateness):.0f} s), within 1m and 1h"


def expected_events(window: Window, times: Sequence[int]) -> int:
    """How many events the window holds, judged by the `effective_at` of those seen so far: as the newest come first, these cover its end,
    and the rest may be as dense. Only a guess: in any other order they cover more than that, and less is expected."""
    end = max(max(times), window.start) + 1 if window.end is None else window.end
    covered = end - max(min(times), window.start)
    return len(times) * (end - window.start) // max(covered, 1)


def is_too_large(window: Window, times: Sequence[int], limit: float) -> bool:
    """Whether a walk that has seen `times`, at least one, should give its window back: as soon as that is likely, for all that was read
    until then is read again."""
    if window.end is not None and window.end - window.start <= 1:
        return False
    return len(times) > limit or (len(times) >= ENOUGH_TO_EXPECT and expected_events(window, times) > limit * 3 / 4)


@dataclass
class Slicer:
    """Cuts a long range into slices of about SLICE_EVENTS, in time order; learns the density as walks come back.

    `take` gives the next window to walk; `narrow` is asked while it is walked; `found` and `too_large` say what came of it.
    """

    position: int
    end: int
    walkers: int = 1
    """How many work at once; near the end, slices get narrower, so that they finish at once, too."""
    width_s: int = FIRST_SLICE_S
    _last: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=DENSITIES))
    """(events, seconds) of the last slices."""
    _again: list[tuple[int, int]] = field(default_factory=list)
    """Parts of windows that were too large or made narrower: a heap of (start, end)."""

    @property
    def parts(self) -> int:
        """How many parts of windows wait to be taken."""
        return len(self._again)

    @property
    def more(self) -> bool:
        """Whether `take` would give a window."""
        return bool(self._again) or self.position < self.end

    def take(self) -> Window | None:
        """None: all is given out (but of a window that is being walked a part may still come back)."""
        if self._again:
            return Window(*heapq.heappop(self._again))
        if self.position >= self.end:
            return None
        start, width = self.position, self.width_s
        if self._last:
            share = (self.end - start) // (2 * self.walkers)
            width = max(min(width, share), width // 3, 1)
        self.position = min(start + width, self.end)
        return Window(start, self.position)

    def narrow(self, window: Window, times: Sequence[int], *, share: bool = False) -> int:
        """From which second on a walk that has seen `times` should go on: the start of its window or, where that holds too much,
        a later one. What is before it is given out again. `share`: somebody has nothing to do, so half of what is left may go.

        Nothing that was read is read again, as it would be if the window were given back. Never later than an event that was seen, so a
        listing in another order than the newest first costs requests, not events.
        """
        assert window.end is not None
        expected, seen = expected_events(window, times), len(times)
        left = expected - seen
        share = share and left > SHARED_EVENTS
        if expected > HOPELESS_EVENTS or not (share or expected > WIDE_SLICE_EVENTS):
            return window.start
        keep = seen + max(left // 2, ENOUGH_TO_EXPECT) if share else max(NARROWED_EVENTS, seen + ENOUGH_TO_EXPECT)
        oldest = min(times)
        start = min(oldest, window.end - (window.end - oldest) * keep // seen)
        if start <= window.start:
            return window.start
        self.found(window, expected)
        self._cut(Window(window.start, start), expected - keep)
        return start

    def found(self, window: Window, events: int) -> None:
        """So many events are in a window, or seem to be: next slices as wide as the last few would have had to be, and at most GROWTH times as
        wide as the widest of them."""
        assert window.end is not None
        self._last.append((events, window.end - window.start))
        seen, seconds = map(sum, zip(*self._last, strict=True))
        widest = max(width for _, width in self._last)
        self.width_s = min(max(SLICE_EVENTS * seconds // max(seen, 1), 1), widest * GROWTH, LONGEST_SLICE_S)

    def too_large(self, window: Window, expected: int) -> None:
        """A walk gave its window back; nothing that was known before holds here."""
        self._last.clear()
        self.found(window, max(expected, 1))
        self._cut(window, max(expected, 2 * SLICE_EVENTS))

    def _cut(self, window: Window, events: int) -> None:
        """Evenly, into parts that should hold what a slice should, to be taken before all else."""
        assert window.end is not None
        width = window.end - window.start
        parts = min(max(round(events / SLICE_EVENTS), 1), MOST_PARTS, width)
        cuts = [window.start + width * number // parts for number in range(parts + 1)]
        for part in pairwise(cuts):
            heapq.heappush(self._again, part)
