"""A rule file to rules, or to every mistake in it with its line and the mend."""

import re
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo

from streamer.catalog import TYPES
from streamer.config import parse_moment
from streamer.enrich.rules.conditions import to_network
from streamer.enrich.rules.document import (
    Mistake,
    Mistakes,
    Node,
    boolean,
    choice,
    did_you_mean,
    duration,
    each,
    read_document,
    scalar,
    text,
    whole_number,
)
from streamer.enrich.rules.fields import TIMES, check_path
from streamer.enrich.rules.rule import (
    Compound,
    Condition,
    Count,
    FirstSeen,
    Group,
    Hours,
    Match,
    Memory,
    Operator,
    Rule,
    RuleTest,
    Sequence,
    Test,
    TestEvent,
    UnusualHour,
    Value,
)
from streamer.errors import ConfigError
from streamer.model import SEVERITIES, Severity

BUILTIN = "builtin rules"
MAX_RULES = 500
MAX_ITEMS = 1000
MAX_TYPES = 200
MAX_NESTING = 6
MAX_KEY_FIELDS = 4
MAX_AT_LEAST = 100
MAX_TEST_EVENTS = 1000
DAY_S = 86_400
MAX_WINDOW_S = 31 * DAY_S
MAX_MEMORY_S = 400 * DAY_S

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TECHNIQUE = re.compile(r"T[0-9]{4}(\.[0-9]{3})?")
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9])")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_OPERATORS: tuple[str, ...] = get_args(Operator)
_COMPOUNDS: tuple[str, ...] = get_args(Compound)
_ONE_VALUE = frozenset({"equals", "gt", "gte", "lt", "lte", "exists"})
_NUMBERS = frozenset({"gt", "gte", "lt", "lte"})
_MEMORIES = ("count", "sequence", "first_seen", "unusual_hour")
RULE_KEYS = (
    *("name", "title", "match"),
    *("description", "reference", "attack", "severity", "lower_to", "tags", *_MEMORIES, "tests"),
)
"""The first three are required."""
TEST_EVENT_KEYS = (
    "type",
    *("match", "payload", "actor", "project", "id", "effective_at", "after", "times", "every", "envelope"),
)
"""The first is required."""
_NOTHING = Match(("*",))

Lists = Mapping[str, tuple[Value, ...]]


def read_rules(path: Path | None) -> list[Rule]:
    """The rules of a file, or the built-in ones. ConfigError holds every mistake, each with file, line and mend."""
    if path is None:
        return parse_rules(builtin_text(), BUILTIN)
    try:
        return parse_rules(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; mend enrich.rules or the file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from None


def builtin_text() -> str:
    """The file with the built-in rules, to begin one's own from."""
    return files("streamer.enrich.rules").joinpath("builtin.yaml").read_text("utf-8")


def parse_rules(content: str, name: str) -> list[Rule]:
    """As `read_rules`, of a text; `name` is what its mistakes call it."""
    mistakes = Mistakes()
    root = read_document(content, name)
    keys = mistakes.keys(root, (), ("include", "without", "lists", "rules"))
    lists = _read_lists(keys.get("lists"), mistakes)
    rules = _included(keys, mistakes)
    nodes = mistakes.items(keys.get("rules"), MAX_RULES)
    for node in nodes:
        rule = _Reading(mistakes, lists).rule(node)
        if any(other.name == rule.name for other in rules) and rule.name:
            mistakes.found.append(node.mistake(f"there is a rule {rule.name} already; give this one another name"))
        rules.append(rule)
    if mistakes.found:
        ordered = sorted({(m.line, m.sentence) for m in mistakes.found})
        raise ConfigError(*(f"{name}:{line}: {sentence}" for line, sentence in ordered))
    if not rules:
        raise ConfigError(f"{name}:1: holds no rule; write some under rules:, or include: builtin")
    return rules


def _included(keys: Mapping[str, Node], mistakes: Mistakes) -> list[Rule]:
    """The built-in rules where they are asked for, less those that are not wanted."""
    without = keys.get("without")
    if "include" not in keys:
        if without is not None:
            mistakes.found.append(
                without.mistake("leaves nothing out without include: builtin; add that or remove this")
            )
        return []
    mistakes.read(keys["include"], choice(("builtin",)), "")
    rules = parse_rules(builtin_text(), BUILTIN)
    names = [rule.name for rule in rules]
    left_out = mistakes.each(without, choice(names), MAX_RULES)
    return [rule for rule in rules if rule.name not in left_out]


def _read_lists(node: Node | None, mistakes: Mistakes) -> Lists:
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        mistakes.found.append(node.mistake("must hold lists by name, such as offices: [203.0.113.0/24]"))
        return {}
    return {name: mistakes.each(child, scalar, MAX_ITEMS) for name, child in node.value.items()}


class _Reading:
    """One rule at a time; what is wrong is noted and replaced by something harmless."""

    def __init__(self, mistakes: Mistakes, lists: Lists) -> None:
        self._mistakes = mistakes
        self._lists = lists

    def rule(self, node: Node) -> Rule:
        note = self._mistakes
        keys = note.keys(node, RULE_KEYS[:3], RULE_KEYS[3:])
        severity, lowers = self._severity(keys)
        return Rule(
            name=note.read(keys.get("name"), _name, ""),
            title=note.read(keys.get("title"), text, ""),
            description=note.read(keys.get("description"), text, ""),
            references=note.each(keys.get("reference"), _reference, 20),
            attack=note.each(keys.get("attack"), _technique, 20),
            severity=severity,
            lowers=lowers,
            tags=note.each(keys.get("tags"), _tag, 20),
            match=self.match(keys.get("match")),
            memory=self._memory(keys),
            tests=self._tests(keys.get("tests")),
            line=node.line,
        )

    def _severity(self, keys: Mapping[str, Node]) -> tuple[Severity | None, bool]:
        note, lowered = self._mistakes, keys.get("lower_to")
        if lowered is not None and "severity" in keys:
            note.found.append(lowered.mistake("goes not with severity, which only raises; keep one"))
        word = note.read(keys.get("severity") or lowered, choice(SEVERITIES), "")
        return (cast("Severity", word) if word else None), lowered is not None

    def match(self, node: Node | None) -> Match:
        if node is None:
            return _NOTHING
        keys = self._mistakes.keys(node, ("types",), ("where",))
        types = self._mistakes.each(keys.get("types"), _type, MAX_TYPES)
        where = keys.get("where")
        return Match(types, self._conditions(where, 0) if where is not None else None)

    # --- conditions ----------------------------------------------------------------------------------------------------

    def _conditions(self, node: Node, depth: int) -> Condition:
        """All entries of a mapping must hold."""
        if not isinstance(node.value, dict) or not node.value:
            self._mistakes.found.append(node.mistake("must hold fields and what they are, such as actor.type: user"))
            return Group("all", ())
        if depth > MAX_NESTING:
            self._mistakes.found.append(node.mistake(f"is nested deeper than {MAX_NESTING}; write two rules"))
            return Group("all", ())
        parts: list[Condition] = []
        for key, child in node.value.items():
            if key in _COMPOUNDS:
                parts.append(self._compound(cast("Compound", key), child, depth))
            else:
                parts += self._field(key, child)
        return parts[0] if len(parts) == 1 else Group("all", tuple(parts))

    def _compound(self, compound: Compound, node: Node, depth: int) -> Condition:
        items = self._mistakes.items(node, MAX_ITEMS)
        return Group(compound, tuple(self._conditions(item, depth + 1) for item in items))

    def _field(self, path: str, node: Node) -> list[Condition]:
        problem = check_path(path)
        if problem is not None:
            self._mistakes.found.append(Mistake(node.line, f"{node.path}: {problem}"))
            return []
        if not isinstance(node.value, dict) or "list" in node.value:
            operators = {"in" if isinstance(node.value, dict | list) else "equals": node}
        else:
            operators = self._mistakes.keys(node, (), _OPERATORS)
            if not node.value:
                self._mistakes.found.append(node.mistake(f"asks nothing; name one of {', '.join(_OPERATORS)}"))
        tests: list[Condition] = []
        for operator, value in operators.items():
            found = self._mistakes.read(value, lambda v, o=operator: self._test(path, o, v), None)  # type: ignore[misc] # mypy cannot infer a lambda with a default
            if found is not None:
                tests.append(found)
        return tests

    def _test(self, path: str, operator: str, node: Node) -> Test:
        if (operator == "outside_hours") != (path in TIMES) and operator != "exists":
            mend = "outside_hours or exists" if path in TIMES else "another operator"
            raise node.mistake(f"{operator} does not go with {path}; use {mend}")
        if operator == "outside_hours":
            return Test(path, "outside_hours", hours=self._hours(node))
        if operator == "exists":
            return Test(path, "exists", (boolean(node),))
        values = (scalar(node),) if operator in _ONE_VALUE else self._values(node)
        if operator in _NUMBERS and not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            raise node.mistake("must be a number")
        if operator == "cidr":
            for value in values:
                if to_network(str(value)) is None:
                    raise node.mistake(f"{value} is no network; write it as 203.0.113.0/24 or 2001:db8::/32")
        if operator in ("contains", "startswith", "endswith", "like") and "" in values:
            raise node.mistake("an empty text fits everything; write some text, or exists: true")
        return Test(path, cast("Operator", operator), values)

    def _values(self, node: Node) -> tuple[Value, ...]:
        """A list, one value, or `{list: NAME}`."""
        if not isinstance(node.value, dict):
            return each(scalar, MAX_ITEMS)(node)
        if set(node.value) != {"list"}:
            raise node.mistake("must be a value, a list of values, or {list: NAME}")
        name = node.value["list"]
        return self._lists[choice(list(self._lists))(name)] if self._lists else _no_list(name)

    def _hours(self, node: Node) -> Hours:
        keys = self._mistakes.keys(node, ("hours", "timezone"), ("days",))
        start, end = self._mistakes.read(keys.get("hours"), _minutes, (0, 1440))
        return Hours(
            start,
            end,
            self._mistakes.each(keys["days"], _day, 7) if "days" in keys else (0, 1, 2, 3, 4),
            self._mistakes.read(keys.get("timezone"), _timezone, "UTC"),
        )

    # --- memory --------------------------------------------------------------------------------------------------------

    def _memory(self, keys: Mapping[str, Node]) -> Memory | None:
        given = [name for name in _MEMORIES if name in keys]
        if not given:
            return None
        for other in given[1:]:
            self._mistakes.found.append(keys[other].mistake(f"goes not with {given[0]}; write two rules"))
        node = keys[given[0]]
        match given[0]:
            case "count":
                return self._count(node)
            case "sequence":
                return self._sequence(node)
            case "first_seen":
                return self._first_seen(node)
        return self._unusual_hour(node)

    def _count(self, node: Node) -> Count:
        note = self._mistakes
        keys = note.keys(node, ("key", "within", "at_least"), ("distinct",))
        return Count(
            self._key(keys.get("key")),
            note.read(keys.get("within"), duration(1, MAX_WINDOW_S), 1),
            note.read(keys.get("at_least"), whole_number(2, MAX_AT_LEAST), 2),
            note.read(keys.get("distinct"), _path, "id") if "distinct" in keys else None,
        )

    def _sequence(self, node: Node) -> Sequence:
        note = self._mistakes
        keys = note.keys(node, ("first", "key", "within"), ("at_least",))
        return Sequence(
            self.match(keys.get("first")),
            self._key(keys.get("key")),
            note.read(keys.get("within"), duration(1, MAX_WINDOW_S), 1),
            note.read(keys.get("at_least"), whole_number(1, MAX_AT_LEAST), 1),
        )

    def _first_seen(self, node: Node) -> FirstSeen:
        note = self._mistakes
        keys = note.keys(node, ("value",), ("key", "learning", "memory"))
        return FirstSeen(
            self._key(keys.get("key")),
            note.read(keys.get("value"), _path, "id"),
            note.read(keys.get("learning"), duration(0, MAX_MEMORY_S), 7 * DAY_S),
            note.read(keys.get("memory"), duration(1, MAX_MEMORY_S), 90 * DAY_S),
        )

    def _unusual_hour(self, node: Node) -> UnusualHour:
        note = self._mistakes
        keys = note.keys(node, ("key",), ("learning", "memory", "at_least", "distance"))
        return UnusualHour(
            self._key(keys.get("key")),
            note.read(keys.get("learning"), duration(0, MAX_MEMORY_S), 14 * DAY_S),
            note.read(keys.get("memory"), duration(DAY_S, MAX_MEMORY_S), 90 * DAY_S),
            note.read(keys.get("at_least"), whole_number(1, 10_000), 20),
            note.read(keys.get("distance"), duration(0, 11 * 3600), 3 * 3600) // 3600,
        )

    def _key(self, node: Node | None) -> tuple[str, ...]:
        return self._mistakes.each(node, _path, MAX_KEY_FIELDS)

    # --- tests ---------------------------------------------------------------------------------------------------------

    def _tests(self, node: Node | None) -> tuple[RuleTest, ...]:
        items = self._mistakes.items(node, MAX_ITEMS)
        return tuple(self._rule_test(item) for item in items)

    def _rule_test(self, node: Node) -> RuleTest:
        keys = self._mistakes.keys(node, ("name", "events"), ())
        events: list[TestEvent] = []
        for item in self._mistakes.items(keys.get("events"), MAX_TEST_EVENTS):
            events += self._test_events(item)
        if len(events) > MAX_TEST_EVENTS:
            self._mistakes.found.append(node.mistake(f"has more than {MAX_TEST_EVENTS} events; leave some out"))
        return RuleTest(self._mistakes.read(keys.get("name"), text, ""), tuple(events), node.line)

    def _test_events(self, node: Node) -> list[TestEvent]:
        """One entry may stand for several events."""
        note = self._mistakes
        keys = note.keys(node, TEST_EVENT_KEYS[:1], TEST_EVENT_KEYS[1:])
        kind = note.read(keys.get("type"), text, "")
        record: dict[str, Any] = {"type": kind}
        record.update((key, keys[key].plain()) for key in ("id", "actor", "project") if key in keys)
        if "effective_at" in keys:
            record["effective_at"] = note.read(keys["effective_at"], _moment, 0)
        if "payload" in keys:
            record[kind] = keys["payload"].plain()
        overlay = keys["envelope"].plain() if "envelope" in keys else {}
        if not isinstance(overlay, dict):
            note.found.append(keys["envelope"].mistake("must hold fields of the envelope"))
            overlay = {}
        matches = note.read(keys.get("match"), boolean, False)
        after_s = note.read(keys.get("after"), duration(0, MAX_MEMORY_S), 1)
        every_s = note.read(keys.get("every"), duration(0, MAX_MEMORY_S), 1)
        times = note.read(keys.get("times"), whole_number(1, MAX_TEST_EVENTS), 1)
        return [
            TestEvent(matches, record, after_s if number == 0 else every_s, overlay, node.line)
            for number in range(times)
        ]


# --- small readers -----------------------------------------------------------------------------------------------------


def _name(node: Node) -> str:
    word = text(node)
    if not _NAME.fullmatch(word):
        raise node.mistake(f"{word!r} is no name; use small letters, digits and -, at most 63")
    return word


def _reference(node: Node) -> str:
    url = text(node)
    if not url.startswith(("https://", "http://")):
        raise node.mistake(f"{url!r} is no address; begin with https://")
    return url


def _technique(node: Node) -> str:
    word = text(node)
    if not _TECHNIQUE.fullmatch(word):
        raise node.mistake(f"{word!r} is no ATT&CK technique; write T1098 or T1098.003")
    return word


def _tag(node: Node) -> str:
    word = text(node)
    if len(word) > 64 or any(character.isspace() or not character.isprintable() for character in word):
        raise node.mistake(f"{word!r} is no tag; write one word, at most 64 characters")
    return word


def _type(node: Node) -> str:
    word = text(node)
    if "*" not in word and word.casefold() not in TYPES:
        raise node.mistake(
            f"{word} is no event type that we know; {did_you_mean(word, TYPES)} "
            f"For a type that is newer than this program write a pattern, such as {word[:-1]}*"
        )
    return word


def _path(node: Node) -> str:
    path = text(node)
    problem = check_path(path)
    if problem is not None:
        raise node.mistake(problem)
    if path in TIMES:
        raise node.mistake(f"{path} is another for every event; name a field that events share")
    return path


def _minutes(node: Node) -> tuple[int, int]:
    found = _HOURS.fullmatch(str(node.value))
    if found is None:
        raise node.mistake(f"{node.value!r} are no hours; write them as 08:00-18:30")
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if start == end or end > 24 * 60:
        raise node.mistake(
            f"{node.value!r} are no hours; the end must differ from the start and lie at 24:00 or before"
        )
    return start, end


def _day(node: Node) -> int:
    return _DAYS.index(choice(_DAYS)(node))


def _timezone(node: Node) -> str:
    name = text(node)
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise node.mistake(
            f"{name!r} is no time zone that this machine knows; write one such as Europe/Lisbon"
        ) from None
    return name


def _moment(node: Node) -> int:
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    try:
        moment = parse_moment(node.value)
    except ValueError:
        moment = "now"
    if not isinstance(moment, datetime):
        raise node.mistake("must be a time such as 2026-01-31T00:00:00Z, or Unix seconds")
    return int(moment.timestamp())


def _no_list(node: Node) -> tuple[Value, ...]:
    raise node.mistake(f"there is no list {node.value}; write it under lists: at the top of the file")
