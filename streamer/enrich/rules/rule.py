"""What a rule says, as data: made by the loader, read by the engine, the tests and the export."""

from typing import Literal

import msgspec

from streamer.model import Severity

Operator = Literal[
    "equals",
    "in",
    "like",
    "contains",
    "startswith",
    "endswith",
    "cidr",
    "gt",
    "gte",
    "lt",
    "lte",
    "exists",
    "outside_hours",
]
Compound = Literal["all", "any", "none"]
Value = str | int | float | bool


class Hours(msgspec.Struct, frozen=True):
    """Working hours: a test holds outside of them."""

    start_minute: int
    """Of the day."""
    end_minute: int
    """At most 1440; before the start it lies on the next day."""
    days: tuple[int, ...]
    """0 is Monday; the day on which the hours begin."""
    timezone: str


class Test(msgspec.Struct, frozen=True):
    """One field, one operator."""

    path: str
    operator: Operator
    values: tuple[Value, ...] = ()
    """One of them is enough; one alone where the operator takes one."""
    hours: Hours | None = None


class Group(msgspec.Struct, frozen=True):
    compound: Compound
    parts: tuple["Condition", ...]


Condition = Test | Group


class Match(msgspec.Struct, frozen=True):
    """Which events: of one of the types, and the condition holds."""

    types: tuple[str, ...]
    where: Condition | None = None


class Count(msgspec.Struct, frozen=True):
    """So many matching events for one key within a time."""

    key: tuple[str, ...]
    within_s: int
    at_least: int
    distinct: str | None = None
    """A field: its different values are counted instead of the events."""


class Sequence(msgspec.Struct, frozen=True):
    """A matching event after so many others for the same key within a time."""

    first: Match
    key: tuple[str, ...]
    within_s: int
    at_least: int


class FirstSeen(msgspec.Struct, frozen=True):
    """A value that was not there before for the key."""

    key: tuple[str, ...]
    """Empty: one memory for the whole source."""
    value: str
    learning_s: int
    """From a key's first event on, during which values are only learned."""
    memory_s: int
    """A value that was away for so long is new again."""


class UnusualHour(msgspec.Struct, frozen=True):
    """An hour of the day near which the key was never seen."""

    key: tuple[str, ...]
    learning_s: int
    memory_s: int
    at_least: int
    """Events that a key must have before anything can be unusual."""
    distance_h: int
    """Hours around a known one that are usual too."""


Memory = Count | Sequence | FirstSeen | UnusualHour


class TestEvent(msgspec.Struct, frozen=True):
    """An event of a rule's own test, in upstream's form."""

    match: bool
    record: dict[str, object]
    """Without `id` and `effective_at`, unless the test gives them."""
    after_s: int
    """Since the event before."""
    overlay: dict[str, object]
    """Laid over the decoded envelope: what other enrichers would have added."""
    line: int


class RuleTest(msgspec.Struct, frozen=True):
    name: str
    events: tuple[TestEvent, ...]
    line: int


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    title: str
    description: str
    references: tuple[str, ...] = ()
    attack: tuple[str, ...] = ()
    """MITRE ATT&CK techniques: T1098, T1098.003."""
    severity: Severity | None = None
    """None: the event keeps its own."""
    lowers: bool = False
    """`severity` is set, even if the event had a higher one, rather than raised to."""
    tags: tuple[str, ...] = ()
    match: Match
    memory: Memory | None = None
    tests: tuple[RuleTest, ...] = ()
    line: int = 0

    @property
    def kind(self) -> str:
        """`stateless`, `count`, `sequence`, `first_seen` or `unusual_hour`."""
        match self.memory:
            case None:
                return "stateless"
            case Count():
                return "count"
            case Sequence():
                return "sequence"
            case FirstSeen():
                return "first_seen"
            case UnusualHour():
                return "unusual_hour"
