"""What to ask upstream next. Pure: from how far we are and the time to the windows of polls and rechecks.

All times are Unix seconds of upstream's clock; windows are half-open.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import structs

from streamer.config import AUTO_OVERLAP_S, Recheck
from streamer.model import Progress, Window

MAX_POLL_EVENTS = 10_000
"""A poll that finds more is done by slices."""
OBSERVED_EVENTS = 1000
FEWEST_OBSERVED = 100


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
