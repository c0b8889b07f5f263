"""What stateful rules remember, by key: bounded, on event time, the least recently touched key forgotten first.

Event time is what makes catching up give the same answers as the live tail. Events that come out of order are put where
they belong: a burst is found whichever of its events comes last.
"""

from bisect import insort
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

import msgspec

from streamer.enrich.rules.rule import Count, FirstSeen, Sequence, UnusualHour

Key = tuple[str, ...]

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


class _Seen(NamedTuple):
    at: int
    value: str


class Bursts:
    """The newest occurrences of different values for each key; counts those that lie within one span of time."""

    def __init__(self, spec: Count | Sequence) -> None:
        self.within_s = spec.within_s
        self.at_least = spec.at_least
        # Twice would do for events in order: at most two occurrences of a value are kept in any one span. The rest is for
        # those that are not.
        self.kept = spec.at_least * 4
        self.most_keys = min(MAX_KEYS, MAX_ENTRIES // self.kept)
        self._keys: OrderedDict[Key, list[_Seen]] = OrderedDict()

    def add(self, key: Key, value: str, at: int) -> list[_Seen]:
        seen = self._keys.get(key)
        if seen is None:
            seen = self._keys[key] = []
            if len(self._keys) > self.most_keys:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        insort(seen, _Seen(at, value))
        self._drop_between(seen, value)
        return seen

    def reached(self, key: Key, value: str, at: int) -> bool:
        """Remember; whether some span of `within_s` that holds this moment holds `at_least` different values."""
        seen = self.add(key, value, at)
        found = self._most(seen, at) >= self.at_least
        self._trim(seen)
        return found

    def remember(self, key: Key, value: str, at: int) -> None:
        self._trim(self.add(key, value, at))

    def preceded(self, key: Key, at: int) -> bool:
        """Whether `at_least` values lie in the span that ends at this moment."""
        seen = self._keys.get(key)
        if seen is None:
            return False
        return len({s.value for s in seen if at - self.within_s <= s.at <= at}) >= self.at_least

    def _most(self, seen: list[_Seen], at: int) -> int:
        reach = self.within_s
        if seen[-1].at <= at:
            return len({s.value for s in seen if s.at >= at - reach})
        starts = {at, *(s.at for s in seen if at - reach <= s.at <= at)}
        return max(len({s.value for s in seen if start <= s.at <= start + reach}) for start in starts)

    def _drop_between(self, seen: list[_Seen], value: str) -> None:
        """An occurrence between two of the same value that lie within one span is in no span without one of them."""
        same = [s for s in seen if s.value == value]
        if len(same) < 2:
            return
        for number in range(len(same) - 1, 0, -1):
            if same[number] == same[number - 1]:
                seen.remove(same.pop(number))
        for number in range(len(same) - 2, 0, -1):
            if same[number + 1].at - same[number - 1].at <= self.within_s:
                seen.remove(same.pop(number))

    def _trim(self, seen: list[_Seen]) -> None:
        if len(seen) > self.kept:
            del seen[: len(seen) - self.kept]

    def dump(self) -> Any:
        return list(self._keys.items())

    def restore(self, state: Any) -> None:
        found = msgspec.convert(state, list[tuple[Key, list[_Seen]]])
        self._keys = OrderedDict((key, sorted(seen)[-self.kept :]) for key, seen in found[-self.most_keys :])

    def __len__(self) -> int:
        return len(self._keys)


class _Value(msgspec.Struct, array_like=True):
    last: int
    """When it was there last, in Unix seconds."""
    new_in: str
    """The id of the event that it was new in; empty where it was only learned."""


class _Known(msgspec.Struct, array_like=True):
    since: int
    values: dict[str, _Value]


class Novelties:
    """The values that each key has had.

    An event that is told again, because a crash came between its rules and the journal, is as new as it was.
    """

    def __init__(self, spec: FirstSeen) -> None:
        self.learning_s = spec.learning_s
        self.memory_s = spec.memory_s
        self.most_values = MAX_VALUES if spec.key else MAX_KEYS
        self.most_keys = MAX_KEYS
        self._keys: OrderedDict[Key, _Known] = OrderedDict()

    def is_new(self, key: Key, value: str, at: int, event_id: str) -> bool:
        """Remember; whether the key has been known for long enough, and this value of it not or not for long."""
        known = self._keys.get(key)
        if known is None:
            self._keys[key] = _Known(at, {value: _Value(at, "")})
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
        known.values[value] = _Value(at, event_id if new else "")
        if len(known.values) > self.most_values:
            del known.values[min(known.values, key=lambda name: known.values[name].last)]
        return new

    def dump(self) -> Any:
        return list(self._keys.items())

    def restore(self, state: Any) -> None:
        found = msgspec.convert(state, list[tuple[Key, _Known]])
        self._keys = OrderedDict(found[-self.most_keys :])

    def __len__(self) -> int:
        return len(self._keys)


class _Habit(msgspec.Struct, array_like=True):
    since: int
    count: int
    hours: list[int]
    """For each hour of the day (UTC) the last time, in Unix seconds; -1: never."""
    unusual_in: str = ""
    """The id of the last event that was unusual, for when it is told again."""


class Habits:
    """The hours at which each key is seen."""

    def __init__(self, spec: UnusualHour) -> None:
        self.learning_s = spec.learning_s
        self.memory_s = spec.memory_s
        self.at_least = spec.at_least
        self.around = tuple(range(-spec.distance_h, spec.distance_h + 1))
        self.most_keys = MAX_KEYS
        self._keys: OrderedDict[Key, _Habit] = OrderedDict()

    def is_unusual(self, key: Key, at: int, event_id: str) -> bool:
        """Remember; whether the key is well known, and was never seen near this hour."""
        habit = self._keys.get(key)
        if habit is None:
            habit = self._keys[key] = _Habit(at, 0, [-1] * HOURS)
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
        found = msgspec.convert(state, list[tuple[Key, _Habit]])
        if any(len(habit.hours) != HOURS for _, habit in found):
            raise msgspec.ValidationError("a day has 24 hours")
        self._keys = OrderedDict(found[-self.most_keys :])

    def __len__(self) -> int:
        return len(self._keys)
