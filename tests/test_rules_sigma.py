"""Sigma export, read back by pySigma and evaluated by its syntax tree: the exported rule says what ours says."""

import ipaddress
import re
from typing import Any

import orjson
import pytest
from sigma.conditions import ConditionAND, ConditionFieldEqualsValueExpression, ConditionNOT, ConditionOR
from sigma.rule import SigmaRule
from sigma.types import SigmaBool, SigmaCIDRExpression, SigmaCompareExpression, SigmaExists, SigmaNumber, SigmaString

from streamer.catalog import TYPES
from streamer.enrich.rules import Rule, RuleEngine, RuleSet, load_rules, to_sigma, why_not
from streamer.model import Envelope, encode_envelope
from tests.test_rules import UPDATED, an_event, by, told

BUILTIN = load_rules(None)
EXPORTED = [rule for rule in BUILTIN.rules if why_not(rule) is None]


def values_at(tree: Any, path: str) -> list[Any]:
    """As docs/rules.md has it: lists are entered, and `targets.role` are the targets of that type."""
    head, *rest = path.split(".")
    if head == "targets" and len(rest) == 2:
        return [t[rest[1]] for t in tree["targets"] if t["type"] == rest[0] and t.get(rest[1]) is not None]
    if head == "labels":
        return [tree["labels"][".".join(rest)]] if ".".join(rest) in tree["labels"] else []
    found = [tree]
    for step in (head, *rest):
        inner = [value[step] for value in found if isinstance(value, dict) and step in value]
        found = [item for value in inner for item in (value if isinstance(value, list) else [value])]
    return [value for value in found if value is not None]


def holds(condition: Any, tree: Any) -> bool:
    match condition:
        case ConditionAND():
            return all(holds(part, tree) for part in condition.args)
        case ConditionOR():
            return any(holds(part, tree) for part in condition.args)
        case ConditionNOT():
            return not holds(condition.args[0], tree)
        case ConditionFieldEqualsValueExpression(field=field, value=SigmaExists() as wanted):
            return bool(values_at(tree, field)) is wanted.exists
        case ConditionFieldEqualsValueExpression(field=field, value=value):
            return any(equals(value, item) for item in values_at(tree, field))
    raise AssertionError(f"{condition!r} is not exported")


def equals(expected: Any, item: Any) -> bool:
    text = ("true" if item else "false") if isinstance(item, bool) else str(item)
    match expected:
        case SigmaString():
            return re.fullmatch(str(expected.to_regex().regexp), text, re.IGNORECASE | re.DOTALL) is not None
        case SigmaNumber():
            return text == str(expected.number)
        case SigmaBool():
            return text == str(expected.boolean).lower()
        case SigmaCIDRExpression():
            return ipaddress.ip_address(item) in ipaddress.ip_network(expected.cidr)
        case SigmaCompareExpression():
            number, limit = float(item), float(expected.number.number)
            return {"LT": number < limit, "LTE": number <= limit, "GT": number > limit, "GTE": number >= limit}[
                expected.op.name
            ]
    raise AssertionError(f"{expected!r} is not exported")


def says_sigma(rule: SigmaRule, envelope: Envelope) -> bool:
    tree = orjson.loads(encode_envelope(envelope))
    return all(holds(condition.parsed, tree) for condition in rule.detection.parsed_condition)


def says_ours(rule: Rule, envelope: Envelope) -> bool:
    envelope.rules.clear()
    RuleEngine([rule]).enrich(envelope)
    return bool(envelope.rules)


def test_every_stateless_rule_is_exported() -> None:
    """Goal: Sigma's users get all that Sigma can say. Method: what is left out is stateful, and says so."""
    left_out = [rule for rule in BUILTIN.rules if why_not(rule) is not None]
    assert {rule.kind for rule in left_out} == {"count", "sequence", "first_seen", "unusual_hour"}
    assert {rule.kind for rule in EXPORTED} == {"stateless"}
    for rule in left_out:
        with pytest.raises(ValueError, match=f"rule {rule.name} remembers"):
            to_sigma(rule)


@pytest.mark.parametrize("rule", EXPORTED, ids=lambda r: r.name)
def test_an_exported_rule_is_sound(rule: Rule) -> None:
    """Goal: pySigma takes it as it is. Method: parse strictly; id, level, tags and techniques are there and the id stays the same."""
    parsed = SigmaRule.from_yaml(to_sigma(rule))
    assert parsed.errors == []
    assert parsed.title == rule.title
    assert parsed.level is not None
    assert parsed.level.name.lower() == rule.severity
    assert [str(tag) for tag in parsed.tags] == [f"attack.{technique.lower()}" for technique in rule.attack]
    assert (parsed.logsource.product, parsed.logsource.service) == ("openai", "audit")
    assert parsed.id == SigmaRule.from_yaml(to_sigma(rule)).id


def test_exported_rules_say_what_ours_say() -> None:
    """Goal: the export means the same. Method: every rule both ways over a busy company with its intruder and every type."""
    company = told(events=1500, seed=4)
    assert {envelope.type for envelope in company} >= set(TYPES)
    for rule in EXPORTED:
        sigma = SigmaRule.from_yaml(to_sigma(rule))
        differing = [e.id for e in company if says_sigma(sigma, e) is not says_ours(rule, e)]
        assert differing == [], rule.name


@pytest.mark.parametrize(
    "where",
    [
        "{details.id: KEY_1}",
        "{details.changes_requested.scopes: {in: [a, 'files.read']}}",
        "{details.changes_requested.scopes: {contains: 'L.R'}}",
        "{details.changes_requested.scopes: {startswith: [mod, x], endswith: read}}",
        "{details.changes_requested.scopes: {like: ['m*st']}}",
        "{details.changes_requested.scopes: {like: 'files?*'}}",
        "{details.changes_requested.scopes: {contains: '*'}}",
        "{details.changes_requested.scopes: {equals: 'files?read'}}",
        "{details.changes_requested.expires_in_seconds: {gt: 3599, lte: 3600}}",
        "{details.changes_requested.expires_in_seconds: {lt: 3600}}",
        "{details.changes_requested.ok: true}",
        "{actor.ip: {cidr: [203.0.113.0/24, 10.0.0.0/8]}}",
        "{actor.ip: {cidr: 10.0.0.0/8}}",
        "{actor.geo.country: {exists: true}}",
        "{project.id: {exists: false}}",
        "{'targets[].id': key_1}",
        "{any: [{listing: tenant}, {all: [{family: api_key}, {none: [{action: created}]}]}]}",
        "{none: [{family: api_key}, {family: role}]}",
    ],
)
def test_every_operator_survives_the_export(where: str) -> None:
    """Goal: no operator changes its meaning. Method: one condition both ways at one event, and at one that has nothing."""
    text = f"rules: [{{name: it, title: It, match: {{types: ['api_key.*'], where: {where}}}}}]"
    rule = RuleSet.parse(text, "rules.yaml")["it"]
    sigma = SigmaRule.from_yaml(to_sigma(rule))
    full = an_event("api_key.updated", actor=by("ana@x.example", country="PT"), payload=UPDATED)
    for envelope in (full, an_event("api_key.deleted"), an_event("scim.enabled")):
        assert says_sigma(sigma, envelope) is says_ours(rule, envelope)


def test_hours_cannot_be_exported() -> None:
    """Goal: what Sigma cannot say is refused, not left out. Method: a rule about hours inside a compound."""
    where = "{none: [{time: {outside_hours: {hours: 09:00-17:00, timezone: UTC}}}]}"
    text = f"rules: [{{name: it, title: It, match: {{types: [scim.*], where: {where}}}}}]"
    rule = RuleSet.parse(text, "rules.yaml")["it"]
    with pytest.raises(ValueError, match="hours of the day"):
        to_sigma(rule)
