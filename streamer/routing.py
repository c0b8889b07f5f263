"""Which events a sink takes, and what of them it may see."""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from streamer.config import Redaction, Where
from streamer.errors import ConfigError
from streamer.model import SEVERITIES, Envelope, Record

Condition = Callable[[Envelope], bool]


def compile_where(where: Where) -> Condition | None:
    """None: everything passes, so that nothing has to be decoded to find out."""
    conditions = list(_conditions(where))
    if not conditions:
        return None
    return lambda envelope: all(condition(envelope) for condition in conditions)


def _conditions(where: Where) -> list[Condition]:
    found: list[Condition] = []
    if where.types:
        types = re.compile("|".join(translate(pattern) for pattern in where.types))
        found.append(lambda e: types.match(e.type) is not None)
    if where.families:
        found.append(lambda e: e.family in where.families)
    if where.min_severity is not None:
        wanted = set(SEVERITIES[SEVERITIES.index(where.min_severity) :])
        found.append(lambda e: e.severity in wanted)
    if where.sources:
        found.append(lambda e: e.source in where.sources)
    if where.listings:
        found.append(lambda e: e.listing in where.listings)
    if where.projects:
        found.append(lambda e: e.project is not None and bool({e.project.id, e.project.name} & set(where.projects)))
    if where.outcome is not None:
        found.append(lambda e: e.outcome == where.outcome)
    if where.tags:
        found.append(lambda e: not set(where.tags).isdisjoint(e.tags))
    every = [compile_where(part) or _pass for part in where.all]
    some = [compile_where(part) or _pass for part in where.any]
    none = [compile_where(part) or _pass for part in where.none]
    found += every
    if some:
        found.append(lambda e: any(condition(e) for condition in some))
    if none:
        found.append(lambda e: not any(condition(e) for condition in none))
    return found


def _pass(_: Envelope) -> bool:
    return True


def compile_redaction(rules: Sequence[Redaction], key: bytes | None) -> Callable[[Record], Record] | None:
    """None: nothing is redacted."""
    if rules:
        raise ConfigError("redact: is not there yet in this version; remove it")
    return None
