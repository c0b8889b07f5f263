"""Everything known about the types of events: one row each in `rows.py`, and nothing about types anywhere else."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from streamer.catalog import derive
from streamer.catalog.derive import (
    OCSF_CLASSES,
    OCSF_OTHER,
    OCSF_STATUS,
    SEVERITY_NUMBERS,
    Condition,
    Ecs,
    EventType,
    Ocsf,
    Path,
    SeverityNumbers,
    TargetAt,
)
from streamer.catalog.rows import ROWS

__all__ = [
    "FAMILIES",
    "OCSF_CLASSES",
    "OCSF_OTHER",
    "OCSF_STATUS",
    "SEVERITY_NUMBERS",
    "TYPES",
    "Condition",
    "Ecs",
    "EventType",
    "Ocsf",
    "Path",
    "SeverityNumbers",
    "TargetAt",
    "lookup",
]

TYPES: Mapping[str, EventType] = MappingProxyType({row.type: row for row in ROWS})
"""By type, in the order of the SDK."""

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(row.family for row in ROWS))

_unknown = lru_cache(maxsize=512)(derive.unknown)


def lookup(name: str) -> EventType:
    """The row of a type; for a type that has none, what its name suggests (`known` is then False). Total."""
    return TYPES.get(name) or (_unknown(name) if len(name) <= 128 else derive.unknown(name))
