"""What stateful rules remember, by key: bounded, on event time, the least recently touched key forgotten first.

Event time is what makes catching up give the same answers as the live tail. Events that come out of order are put where
they belong: a burst is found whichever of its events comes last.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from streamer.enrich.rules.rule import Count, FirstSeen, Sequence, UnusualHour
from streamer.enrich.rules.state import Habit, Key, Known, Value

MAX_KEYS = 10_000
MAX_ENTRIES = 200_000
"""Of one rule, over all of its keys."""
MAX_VALUES = 32
"""Of one key of a `first_seen`; with no key there is one memory, of `MAX_KEYS` values."""
HOURS = 24


class Memory(Protocol):
    """The state of one rule."""

    def dump(self) -> Any:
        """Plain values, the least recently touched key first."""

    def restore(self, state: Any) -> None:
        """Raises msgspec.ValidationError and changes nothing, where it is no state of ours."""

    def __len__(self) -> int:
        """Keys."""


class _Seen:
    """Occurrences in the order of time, as two lists: when, in Unix seconds, and of which value. Lists of plain values are counted and searched in C."""

    __slots__ = ("times", "values")

    def __init__(self, occurrences: Iterable[tuple[int, str]] = ()) -> None:
        self.times: list[int] = []
        self.values: list[str] = []
        for at, value in occurrences:
            self.add(at, value)

    def add(self, at: int, value: str) -> None:
        place = bisect_right(self.times, at)
        self.times.insert(place, at)
        self.values.insert(place, value)

    def remove(self, places: Iterable[int]) -> None:
        for place in sorted(places, reverse=True):
            del self.times[place], self.values[place]

    def trim(self, kept: int) -> None:
        """Only the newest."""
        excess = len(self.times) - kept
        if excess > 0:
            del self.times[:excess], self.values[:excess]

    def has(self, at_least: int, since: int, until: int) -> bool:
        """Whether so many different values lie in the closed span."""
        times = self.times
        if len(times) < at_least:
            return False
        first, end = bisect_left(times, since), bisect_right(times, until)
        return end - first >= at_least and len(set(self.values[first:end])) >= at_least


class Bursts:
    """The newest occurrences of different values for each key; counts those that lie within one span of time."""

    def __init__(self, spec: Count | Sequence) -> None:
        self.within_s = spec.within_s
        self.at_least = spec.at_least
        # Twice would do for events in order: at most two occurrences of a value are kept in any one span. The rest is for
        # those that are not.
        self.kept = spec.at_least * 4
        self.most_keys = min(MAX_KEYS, MAX_ENTRIES // self.kept)
        self._keys: OrderedDict[Key, _Seen] = OrderedDict()

    def reached(self, key: Key, value: str, at: int) -> bool:
        """Remember; whether some span of `within_s` that holds this moment holds `at_least` different values."""
        seen = self._add(key, value, at)
        times = seen.times
        # Where nothing is later, which is nearly always, only the span that ends here can have become full.
        in_order = times[-1] <= at
        found = seen.has(self.at_least, at - self.within_s, at) if in_order else self._is_reached(seen, at)
        if len(times) > self.kept:
            seen.trim(self.kept)
        return found

    def remember(self, key: Key, value: str, at: int) -> None:
        self._add(key, value, at).trim(self.kept)

    def preceded(self, key: Key, at: int) -> bool:
        """Whether `at_least` values lie in the span that ends at this moment."""
        seen = self._keys.get(key)
        return seen is not None and seen.has(self.at_least, at - self.within_s, at)

    def _add(self, key: Key, value: str, at: int) -> _Seen:
        seen = self._keys.get(key)
        if seen is None:
            seen = self._keys[key] = _Seen()
            if len(self._keys) > self.most_keys:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        times, values = seen.times, seen.values
        if times and times[-1] > at:
            seen.add(at, value)
            self._drop_between(seen, value)
        elif value not in values or self._comes_again(seen, value, at):
            times.append(at)
            values.append(value)
        return seen

    def _comes_again(self, seen: _Seen, value: str, at: int) -> bool:
        """Make room for a value that is there already, and than which nothing is later: what `_drop_between` comes to, without looking at
        every occurrence. False: at this moment it is there."""
        times, values = seen.times, seen.values
        newest = len(values) - 1 - values[::-1].index(value)
        if times[newest] == at:
            return False
        if values.count(value) > 1 and at - times[newest - 1 - values[newest - 1 :: -1].index(value)] <= self.within_s:
            del times[newest], values[newest]
        return True

    def _is_reached(self, seen: _Seen, at: int) -> bool:
        """Out of order: every span that begins with an occurrence, or at this moment, and holds it."""
        reach, times = self.within_s, seen.times
        starts = times[bisect_left(times, at - reach) : bisect_right(times, at)]
        return any(seen.has(self.at_least, start, start + reach) for start in (*starts, at))

    def _drop_between(self, seen: _Seen, value: str) -> None:
        """An occurrence between two of the same value that lie within one span is in no span without one of them."""
        same = {place: at for place, (at, one) in enumerate(zip(seen.times, seen.values, strict=True)) if one == value}
        kept: list[int] = []
        for place, at in same.items():
            if kept and same[kept[-1]] == at:
                continue
            if len(kept) > 1 and at - same[kept[-2]] <= self.within_s:
                kept.pop()
            kept.append(place)
        seen.remove(same.keys() - set(kept))

    def dump(self) -> Any:
        return [(key, list(zip(seen.times, seen.values, strict=True))) for key, seen in self._keys.items()]

    def restore(self, state: Any) -> None:
        found = msgspec.convert(state, list[tuple[Key, list[tuple[int, str]]]])
        self._keys = OrderedDict((key, _Seen(seen[-self.kept :])) for key, seen in found[-self.most_keys :])

    def __len__(self) -> int:
        return len(self._keys)


class Novelties:
    """The values that each key has had.

    An event that is told again, because a crash came between its rules and the journal, is as new as it was.
    """

    def __init__(self, spec: FirstSeen) -> None:
        self.learning_s = spec.learning_s
        self.memory_s = spec.memory_s
        self.most_values = MAX_VALUES if spec.key else MAX_KEYS
        self.most_keys = MAX_KEYS
        self._keys: OrderedDict[Key, Known] = OrderedDict()

    def is_new(self, key: Key, value: str, at: int, event_id: str) -> bool:
        """Remember; whether the key has been known for long enough, and this value of it not or not for long."""
        known = self._keys.get(key)
        if known is None:
            self._keys[key] = Known(at, {value: Value(at, "")})
            if len(self._keys) > self.most_keys:
                self._keys.popitem(last=False)
            return False
        self._keys.move_to_end(key)
        if at < known.since:
            known.since = at
        found = known.values.get(value)
        if found is not None and at - found.last <= self.memory_s:
            if at > found.last:
                found.last = at
            return found.new_in == event_id
        new = at - known.since >= self.learning_s
        known.values[value] = Value(at, event_id if new else "")
        if len(known.values) > self.most_values:
            del known.values[min(known.values, key=lambda name: known.values[name].last)]
        return new

    def dump(self) -> Any:
        return list(self._keys.items())

    def restore(self, state: Any) -> None:
        found = msgspec.convert(state, list[tuple[Key, Known]])
        self._keys = OrderedDict(found[-self.most_keys :])

    def __len__(self) -> int:
        return len(self._keys)


class Habits:
    """The hours at which each key is seen."""

    def __init__(self, spec: UnusualHour) -> None:
        self.learning_s = spec.learning_s
        self.memory_s = spec.memory_s
        self.at_least = spec.at_least
        self.around = tuple(range(-spec.distance_h, spec.distance_h + 1))
        self.most_keys = MAX_KEYS
        self._keys: OrderedDict[Key, Habit] = OrderedDict()

    def is_unusual(self, key: Key, at: int, event_id: str) -> bool:
        """Remember; whether the key is well known, and was never seen near this hour."""
        habit = self._keys.get(key)
        if habit is None:
            habit = self._keys[key] = Habit(at, 0, [-1] * HOURS)
            if len(self._keys) > self.most_keys:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        hour = at // 3600 % HOURS
        last = habit.hours[hour]
        unusual = (
            (last < 0 or at - last > self.memory_s)
            and habit.count >= self.at_least
            and at - habit.since >= self.learning_s
            and not self._near(habit.hours, hour, at)
        )
        if at > last:
            habit.hours[hour] = at
        habit.since = min(habit.since, at)
        habit.count += 1
        if unusual:
            habit.unusual_in = event_id
        return unusual or habit.unusual_in == event_id

    def _near(self, hours: list[int], hour: int, at: int) -> bool:
        oldest = at - self.memory_s
        return any(hours[(hour + shift) % HOURS] >= max(oldest, 0) for shift in self.around)

    def dump(self) -> Any:
        return list(self._keys.items())

    def restore(self, state: Any) -> None:
        found = msgspec.convert(state, list[tuple[Key, Habit]])
        if any(len(habit.hours) != HOURS for _, habit in found):
            raise msgspec.ValidationError("a day has 24 hours")
        self._keys = OrderedDict(found[-self.most_keys :])

    def __len__(self) -> int:
        return len(self._keys)
