"""Conditions, compiled to closures. Every operator is total: a value of another kind than it needs does not pass."""

import ipaddress
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, assert_never
from zoneinfo import ZoneInfo

from streamer.enrich.rules.fields import WORDS, Getter, View, as_text, getter
from streamer.enrich.rules.rule import Condition, Group, Hours, Test

Predicate = Callable[[View], bool]
_Passes = Callable[[Any], bool]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def compile_condition(condition: Condition) -> Predicate:
    if isinstance(condition, Test):
        return _compile_test(condition)
    return _compile_group(condition)


def _compile_group(group: Group) -> Predicate:
    parts = tuple(compile_condition(part) for part in group.parts)
    match group.compound:
        case "all":
            if len(parts) == 1:
                return parts[0]
            return _all(parts)
        case "any":
            return _any(parts)
        case "none":
            one = _any(parts)
            return lambda view: not one(view)
    assert_never(group.compound)


# Loops, because a generator that any() or all() drives costs more than most of the conditions that it asks.


def _all(parts: tuple[Predicate, ...]) -> Predicate:
    def check(view: View) -> bool:
        for part in parts:  # noqa: SIM110 - see above
            if not part(view):
                return False
        return True

    return check


def _any(parts: tuple[Predicate, ...]) -> Predicate:
    def check(view: View) -> bool:
        for part in parts:  # noqa: SIM110 - see above
            if part(view):
                return True
        return False

    return check


def _compile_test(test: Test) -> Predicate:
    get = getter(test.path)
    if test.operator == "exists":
        wanted = test.values[0]
        return lambda view: _is_there(get(view)) is wanted
    if test.operator in ("equals", "in"):
        members = frozenset(as_text(value) for value in test.values)
        return (lambda view: get(view) in members) if test.path in WORDS else _is_one_of(get, members)
    passes = _passes(test)

    def check(view: View) -> bool:
        value = get(view)
        if value is None:
            return False
        if type(value) is list:
            for item in value:  # noqa: SIM110 - as above
                if item is not None and passes(item):
                    return True
            return False
        return passes(value)

    return check


def _is_one_of(get: Getter, members: frozenset[str]) -> Predicate:
    """Written out, because rules ask this most, and of nearly every event."""

    def check(view: View) -> bool:
        value = get(view)
        if type(value) is str:
            return value.casefold() in members
        if value is None:
            return False
        if type(value) is list:
            for item in value:  # noqa: SIM110 - as above
                if item is not None and _text(item) in members:
                    return True
            return False
        return _text(value) in members

    return check


def _is_there(value: Any) -> bool:
    if type(value) is list:
        return any(item is not None for item in value)
    return value is not None


def _passes(test: Test) -> _Passes:
    """The test of one value. A list in a list and an object pass none."""
    operator, values = test.operator, test.values
    texts = tuple(as_text(value) for value in values)
    match operator:
        case "like":
            patterns = tuple(compile_pattern(text) for text in texts)
            return lambda value: any(fits(_text(value)) for fits in patterns)
        case "contains":
            return lambda value: any(part in _text(value) for part in texts)
        case "startswith":
            return lambda value: _text(value).startswith(texts)
        case "endswith":
            return lambda value: _text(value).endswith(texts)
        case "cidr":
            networks = tuple(network for text in texts if (network := to_network(text)) is not None)
            return lambda value: _lies_in(value, networks)
        case "gt" | "gte" | "lt" | "lte":
            return _compares(operator, float(values[0]))
        case "outside_hours":
            assert test.hours is not None
            return _outside(test.hours)
        case "equals" | "in" | "exists":
            raise ValueError(f"{operator} is compiled by itself")
    assert_never(operator)


def _text(value: Any) -> str:
    if type(value) is str:
        return value.casefold()
    return _NO_TEXT if isinstance(value, dict | list) else as_text(value)


_NO_TEXT = "\x00"
"""Passes no test that can be written, since YAML has no such character."""


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """`*` stands for any characters. Linear in the text, whatever the pattern, which a regular expression would not be."""
    head, *middle = pattern.split("*")
    if not middle:
        return pattern.__eq__
    tail = middle.pop()
    if not any(middle):
        shortest = len(head) + len(tail)
        return lambda text: len(text) >= shortest and text.startswith(head) and text.endswith(tail)

    def fits(text: str) -> bool:
        end = len(text) - len(tail)
        if end < len(head) or not text.startswith(head) or not text.endswith(tail):
            return False
        at = len(head)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return fits


@lru_cache(maxsize=4096)
def to_network(text: str) -> Network | None:
    """An address or a range; None: neither. An IPv4 address in IPv6 dress is the IPv4 address."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    return network


def _lies_in(value: Any, networks: tuple[Network, ...]) -> bool:
    found = to_network(value) if type(value) is str else None
    if found is None:
        return False
    return any(
        found.version == network.version and found.prefixlen >= network.prefixlen and found.network_address in network
        for network in networks
    )


def _compares(operator: str, limit: float) -> _Passes:
    def number(value: Any) -> float:
        if type(value) not in (int, float, str):
            return math.nan
        try:
            return float(value)
        except (ValueError, OverflowError):
            return math.nan

    match operator:
        case "gt":
            return lambda value: number(value) > limit
        case "gte":
            return lambda value: number(value) >= limit
        case "lt":
            return lambda value: number(value) < limit
    return lambda value: number(value) <= limit


def _outside(hours: Hours) -> _Passes:
    zone = ZoneInfo(hours.timezone)
    start, end = hours.start_minute, hours.end_minute

    def outside(value: Any) -> bool:
        if not isinstance(value, datetime):
            return False
        local = value.astimezone(zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if start < end:
            return not (day in hours.days and start <= minute < end)
        if minute >= start:
            return day not in hours.days
        # After midnight it is still the working night of the day before.
        return minute >= end or (local - timedelta(days=1)).weekday() not in hours.days

    return outside
