"""A stateless rule as a Sigma rule, its fields those of the envelope."""

import uuid
from collections.abc import Callable
from typing import Any, assert_never

import yaml

from streamer.enrich.rules.rule import Condition, Group, Match, Rule, Test

_NAMESPACE = uuid.UUID("6f3f6f0e-53b5-5f0a-9d5c-0b6b8f3f7c11")
"""Of the ids, so that a rule keeps its own from export to export."""

_MODIFIERS = {
    "contains": "|contains",
    "startswith": "|startswith",
    "endswith": "|endswith",
    "cidr": "|cidr",
    "gt": "|gt",
    "gte": "|gte",
    "lt": "|lt",
    "lte": "|lte",
    "exists": "|exists",
}


def why_not(rule: Rule) -> str | None:
    """Why a rule cannot be a Sigma rule; None: it can."""
    if rule.memory is not None:
        return f"rule {rule.name} remembers events ({rule.kind}); only rules that look at one event can be exported"
    if rule.match.where is not None and _asks_for_hours(rule.match.where):
        return f"rule {rule.name} asks for hours of the day, which Sigma has no words for"
    return None


def _asks_for_hours(condition: Condition) -> bool:
    if isinstance(condition, Test):
        return condition.operator == "outside_hours"
    return any(_asks_for_hours(part) for part in condition.parts)


def to_sigma(rule: Rule) -> str:
    """The YAML of a Sigma rule. ValueError, with `why_not` as its sentence, where there can be none."""
    problem = why_not(rule)
    if problem is not None:
        raise ValueError(problem)
    document: dict[str, Any] = {
        "title": rule.title,
        "id": str(uuid.uuid5(_NAMESPACE, rule.name)),
        "name": rule.name.replace("-", "_"),
        "status": "experimental",
        "description": rule.description,
        "references": list(rule.references),
        "author": "openai-audit-streamer",
        "tags": [f"attack.{technique.lower()}" for technique in rule.attack],
        "logsource": {"product": "openai", "service": "audit"},
        "detection": _detection(rule.match),
        "level": rule.severity or "informational",
    }
    filled = {key: value for key, value in document.items() if value not in ("", [])}
    return yaml.safe_dump(filled, sort_keys=False, allow_unicode=True, width=120)


def _detection(match: Match) -> dict[str, Any]:
    selections: dict[str, Any] = {}
    # Types are patterns in both languages, with the same wildcard.
    types = [_pattern(pattern) for pattern in match.types]
    selections["type"] = {"type": types[0] if len(types) == 1 else types}
    condition = "type"
    if match.where is not None:

        def named(test: Test) -> str:
            name = f"test_{len(selections)}"
            selections[name] = _selection(test)
            return name

        inner = _expression(match.where, named)
        condition = f"type and {inner}"
    return {**selections, "condition": condition}


def _expression(condition: Condition, named: Callable[[Test], str]) -> str:
    if isinstance(condition, Test):
        return named(condition)
    return _grouped(condition, [_expression(part, named) for part in condition.parts])


def _grouped(group: Group, parts: list[str]) -> str:
    match group.compound:
        case "all":
            return f"({' and '.join(parts)})"
        case "any":
            return f"({' or '.join(parts)})"
        case "none":
            return f"not ({' or '.join(parts)})"
    assert_never(group.compound)


def _selection(test: Test) -> dict[str, Any]:
    written = _pattern if test.operator == "like" else _literal
    values = [written(value) if isinstance(value, str) and test.operator != "cidr" else value for value in test.values]
    return {test.path.replace("[]", "") + _MODIFIERS.get(test.operator, ""): values[0] if len(values) == 1 else values}


def _literal(value: str) -> str:
    return _pattern(value).replace("*", "\\*")


def _pattern(value: str) -> str:
    """`*` is the only wildcard here; Sigma has `?` too."""
    return value.replace("\\", "\\\\").replace("?", "\\?")
