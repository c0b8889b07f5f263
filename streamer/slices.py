"""A long range of time in slices that hold about as many events as a walk may keep. Pure: from what walks have found to the next window.

All times are Unix seconds of upstream's clock; windows are half-open.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from streamer.model import Window

SLICE_EVENTS = 900
"""What a slice of a long range should hold."""
REST_EVENTS = 500
"""What the older part of a slice should hold to be worth a walk of its own, when the newest part holds enough for one."""
HOPELESS_EVENTS = 4 * SLICE_EVENTS
"""Of a slice with so many, only the page after the first is still read, and the rest is walked by several."""
MAX_SLICE_EVENTS = 3000
"""A walk that finds more all the same, or is about to and cannot be made narrower, gives its window back, which is then cut up."""
SHARED_EVENTS = 120
"""What a walk must still expect to share it with a walker that has nothing to do: more than a page."""
DENSITIES = 8
ENOUGH_TO_EXPECT = 100
"""So many seen events, a page, tell how many the whole window holds."""
GROWTH = 4
MOST_PARTS = 8
FIRST_SLICE_S = 16 * 3600
LEAST_FIRST_SLICE_S = 3600
FIRST_SLICES = 16
"""Into so many the range is cut as long as nothing was walked: what is given out blindly should not be most of it. Within the two limits above."""
LONGEST_SLICE_S = 366 * 86_400
LEAST_SLICE_EVENTS = SLICE_EVENTS // 3
"""At the end of a range, where walkers should finish at once."""
HOUR = 3600
WEEK_HOURS = 7 * 24
REMEMBERED_HOURS = WEEK_HOURS + 24
LIKE_THEN = 2.0
"""So many times more or fewer events than the week before, and it tells nothing about the hours around, either."""


def expected_events(window: Window, times: Sequence[int]) -> int:
    """How many events the window holds, judged by the `effective_at` of those seen so far: as the newest come first, these cover its end,
    and the rest may be as dense. Only a guess: in any other order they cover more than that, and less is expected."""
    end = max(max(times), window.start) + 1 if window.end is None else window.end
    covered = end - max(min(times), window.start)
    return len(times) * (end - window.start) // max(covered, 1)


def is_too_large(window: Window, times: Sequence[int], limit: float, *, guess: bool = True) -> bool:
    """Whether a walk that has seen `times`, at least one, should give its window back: with `guess` as soon as that is likely, for all that
    was read until then is read again."""
    if window.end is not None and window.end - window.start <= 1:
        return False
    likely = guess and len(times) >= ENOUGH_TO_EXPECT and expected_events(window, times) > limit * 3 / 4
    return len(times) > limit or likely


Rate = Callable[[int], float]
"""Events a second in an hour (since 1970)."""


@dataclass
class Density:
    """How many events time holds, as far as walks have told: by the hour, because nights and weekends are quiet. Only a guess.

    An hour is expected to be like the same one a week before or, where that was not walked, like the last windows.
    """

    _hours: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Hours since 1970 to (events, seconds walked), for the last week."""
    _last: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=DENSITIES))
    """(events, seconds) of the last windows."""

    def add(self, window: Window, times: Iterable[int]) -> None:
        """`times`: the `effective_at` of all events of the window."""
        assert window.end is not None
        counts = Counter([time // HOUR for time in times])
        self._last.append((counts.total(), window.end - window.start))
        last = (window.end - 1) // HOUR
        for hour in range(max(window.start // HOUR, last - REMEMBERED_HOURS), last + 1):
            events, seconds = self._hours.get(hour, (0, 0))
            seconds += min(window.end, (hour + 1) * HOUR) - max(window.start, hour * HOUR)
            self._hours[hour] = (events + counts[hour], seconds)
        if len(self._hours) > 2 * REMEMBERED_HOURS:
            for hour in [h for h in self._hours if h < last - REMEMBERED_HOURS]:
                del self._hours[hour]

    def surprise(self, window: Window, events: int) -> None:
        """So many are expected in this window, and what the last windows were like does not hold here."""
        assert window.end is not None
        self._last.clear()
        self._last.append((events, window.end - window.start))

    @property
    def lately(self) -> float | None:
        """Events a second in the last windows; never 0. None: nothing was walked yet."""
        if not self._last:
            return None
        events, seconds = map(sum, zip(*self._last, strict=True))
        return max(events, 1) / seconds

    @property
    def widest_s(self) -> int:
        """Of the last windows."""
        return max(seconds for _, seconds in self._last)

    def knows(self, hour: int) -> bool:
        """Whether enough of the same hour a week before was walked."""
        return self._hours.get(hour - WEEK_HOURS, (0, 0))[1] > HOUR // 2

    def rate(self, otherwise: float, scale: float = 1.0) -> Rate:
        """As a week before, `scale` times as much; in hours of which that is not known, `otherwise` events a second."""

        def rate(hour: int) -> float:
            if not self.knows(hour):
                return otherwise
            events, seconds = self._hours[hour - WEEK_HOURS]
            return scale * (events + 0.5) / seconds  # No hour is empty for sure.

        return rate

    def rate_before(self, seen: Window, events: int) -> Rate:
        """For what lies before a span that held so many: as a week before, if the span was like then; if not, as dense as the span."""
        assert seen.end is not None
        here = events / max(seen.end - seen.start, 1)
        scale = events / max(expected(self.rate(here), seen.start, seen.end), 1.0)
        return self.rate(here, scale) if 1 / LIKE_THEN <= scale <= LIKE_THEN else lambda _: here


def expected(rate: Rate, start: int, end: int, enough: float = math.inf) -> float:
    """How many events [start, end) should hold; no need to be right beyond `enough`."""
    events = 0.0
    while start < end and events < enough:
        hour = start // HOUR
        upto = min((hour + 1) * HOUR, end)
        events += rate(hour) * (upto - start)
        start = upto
    return events


def reach(rate: Rate, start: int, end: int, events: float) -> int:
    """The second in (start, end] up to which so many events are expected, from `start` on."""
    at = start
    while at < end:
        hour = at // HOUR
        upto = min((hour + 1) * HOUR, end)
        inside = rate(hour) * (upto - at)
        if inside >= events:
            return max(at + int((upto - at) * events / inside), start + 1)
        events -= inside
        at = upto
    return end


def reach_back(rate: Rate, start: int, end: int, events: float) -> int:
    """The second in [start, end] from which on so many events are expected, up to `end`."""
    at = end
    while at > start:
        hour = (at - 1) // HOUR
        since = max(hour * HOUR, start)
        inside = rate(hour) * (at - since)
        if inside >= events:
            return at - int((at - since) * events / inside)
        events -= inside
        at = since
    return start


@dataclass(eq=False)  # Those of two listings may look alike.
class Slicer:
    """Cuts a long range into slices of about SLICE_EVENTS, in time order; learns the density as walks come back.

    `take` gives the next window to walk; `narrow` is asked while it is walked; `found` and `too_large` say what came of it.
    """

    position: int
    end: int
    _density: Density = field(default_factory=Density)
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

    def take(self, walkers: int = 1) -> Window | None:
        """None: all is given out (but of a window that is being walked a part may still come back). So many `walkers` should finish at once: near the end
        slices get narrower."""
        if self._again:
            return Window(*heapq.heappop(self._again))
        if self.position >= self.end:
            return None
        start = self.position
        self.position = min(self._slice_end(start, walkers), start + LONGEST_SLICE_S, self.end)
        return Window(start, self.position)

    def _slice_end(self, start: int, walkers: int) -> int:
        lately = self._density.lately
        if lately is None:
            return start + min(max((self.end - start) // FIRST_SLICES, LEAST_FIRST_SLICE_S), FIRST_SLICE_S)
        rate = self._density.rate(lately)
        left = expected(rate, start, self.end, enough=walkers * SLICE_EVENTS)
        upto = reach(rate, start, self.end, max(min(SLICE_EVENTS, left / walkers), LEAST_SLICE_EVENTS))
        # Into the unknown with care.
        return upto if self._density.knows(upto // HOUR) else min(upto, start + GROWTH * self._density.widest_s)

    def narrow(self, window: Window, times: Sequence[int], *, share: bool = False) -> int:
        """From which second on a walk that has seen `times` should go on: the start of its window or, where that holds too much,
        a later one. What is before it is given out again. `share`: somebody has nothing to do, so half of what is left may go.

        Nothing that was read is read again, as it would be if the window were given back. Never later than an event that was seen, so a
        listing in another order than the newest first costs requests, not events.
        """
        assert window.end is not None
        seen, oldest = len(times), min(times)
        if oldest <= window.start:  # or a time that could not be read
            return window.start
        rate = self._density.rate_before(Window(oldest, window.end), seen)
        left = expected(rate, window.start, oldest, enough=MOST_PARTS * SLICE_EVENTS)
        if seen + left > HOPELESS_EVENTS:
            keep = ENOUGH_TO_EXPECT
        elif share and left > SHARED_EVENTS:
            keep = max(round(left / 2), ENOUGH_TO_EXPECT)
        else:
            keep = max(SLICE_EVENTS - seen, ENOUGH_TO_EXPECT)
            if left < keep + REST_EVENTS:
                return window.start
        start = reach_back(rate, window.start, oldest, keep)
        if start > window.start:
            self._cut(Window(window.start, start), left - keep, rate)
        return start

    def found(self, window: Window, times: Iterable[int]) -> None:
        """Events with these `effective_at` are in a window: all of it was walked."""
        self._density.add(window, times)

    def too_large(self, window: Window, events: int) -> None:
        """A walk gave its window back, in which so many are expected."""
        self._density.surprise(window, events)
        self._cut(window, max(events, 2 * SLICE_EVENTS), lambda _: 1.0)

    def _cut(self, window: Window, events: float, rate: Rate) -> None:
        """Into parts that should hold what a slice should, to be taken before all else."""
        start, end = window.start, window.end
        assert end is not None
        parts = min(max(round(events / SLICE_EVENTS), 1), MOST_PARTS)
        while start < end:
            upto = reach(rate, start, end, expected(rate, start, end) / parts) if parts > 1 else end
            heapq.heappush(self._again, (start, upto))
            start, parts = upto, parts - 1
