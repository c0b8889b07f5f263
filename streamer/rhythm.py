"""How often a listing usually has an event. Pure: events counted by the hour, over the last week."""

from collections.abc import Iterable
from dataclasses import dataclass, field

DAYS = 7
FEWEST_EVENTS = 5
"""Fewer than that say nothing about a rhythm."""


@dataclass
class Rhythm:
    """One listing's. At most eight days of hours are kept."""

    hours: dict[int, int] = field(default_factory=dict)
    """Hours since 1970 to events."""

    def add(self, times: Iterable[int]) -> None:
        """`times`: Unix seconds of events."""
        for time in times:
            self.hours[time // 3600] = self.hours.get(time // 3600, 0) + 1

    def usual_gap(self, now: float) -> float | None:
        """Seconds from one event to the next, on average, at this hour of the day and the one before and after it, over the last
        seven days (or as many as there are). None: too few events to say."""
        hour = int(now) // 3600
        for old in [h for h in self.hours if h < hour - 24 * DAYS - 1]:
            del self.hours[old]
        first = min(self.hours, default=hour)
        near = (hour - 24 * day + offset for day in range(DAYS + 1) for offset in (-1, 0, 1))
        whole = [h for h in near if first <= h < hour]
        events = sum(self.hours.get(h, 0) for h in whole)
        return 3600 * len(whole) / events if events >= FEWEST_EVENTS else None
