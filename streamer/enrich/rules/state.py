"""What stateful rules keep over a restart, as it is written down."""

from typing import Any

import msgspec

Key = tuple[str, ...]


class State(msgspec.Struct):
    """Of an engine."""

    format: int
    rules: dict[str, tuple[str, Any]]
    """By name: the fingerprint of the rule that made it, and its memory."""


class Value(msgspec.Struct, array_like=True):
    """A value that a key has had."""

    last: int
    """When it was there last, in Unix seconds."""
    new_in: str
    """The id of the event that it was new in; empty where it was only learned."""


class Known(msgspec.Struct, array_like=True):
    """A key of a `first_seen`, with the values that it has had."""

    since: int
    values: dict[str, Value]


class Habit(msgspec.Struct, array_like=True):
    """A key of an `unusual_hour`."""

    since: int
    count: int
    hours: list[int]
    """For each hour of the day (UTC) the last time, in Unix seconds; -1: never."""
    unusual_in: str = ""
    """The id of the last event that was unusual, for when it is told again."""
