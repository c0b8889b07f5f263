"""From what was read to the envelope."""

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from streamer.catalog import EventType, Path, TargetAt, lookup
from streamer.decode.facts import UNKNOWN_TYPE
from streamer.decode.fitting import MAX_UNKNOWN_FIELDS
from streamer.decode.reading import read_any, read_usual
from streamer.model import Envelope, Event, Listing, SourceName, Target, from_epoch

MAX_TARGETS = 1000


class Unknowns(NamedTuple):
    """What the catalogue does not know of an event."""

    type: bool
    """Its type."""
    fields: tuple[str, ...]
    """Dotted paths of fields that are unknown or of another kind, at most `MAX_UNKNOWN_FIELDS`, in plain ASCII. The payload is
    `details`, wherever it stood; `event` is the record as a whole, where it could not be carried as JSON."""


def to_envelope(
    event: Event, *, source: SourceName, listing: Listing, observed_at: datetime, late: bool = False
) -> tuple[Envelope, Unknowns | None]:
    """The envelope, before any enricher has seen it, and what the catalogue does not know of it; None: it knows everything.

    `observed_at` is aware; `late`: found by a recheck, after its time had been walked.
    """
    row = lookup(event.type)
    raw, actor, project, payload, details, notes = read_usual(event, row) or read_any(event, row)
    unknowns = None
    if notes or not row.known:
        unknowns = Unknowns(not row.known, tuple(dict.fromkeys(notes))[:MAX_UNKNOWN_FIELDS])
    return Envelope(
        id=event.id,
        source=source,
        listing=listing,
        type=event.type,
        family=row.family,
        action=row.action,
        known=unknowns is None,
        time=from_epoch(event.effective_at),
        observed_at=observed_at,
        late=late,
        outcome=row.outcome if event.type != UNKNOWN_TYPE else "unknown",
        severity=row.severity,
        actor=actor,
        project=project,
        targets=_targets(row, payload) if payload is not None else [],
        details=details,
        event=msgspec.Raw(raw),
    ), unknowns


def _targets(row: EventType, payload: msgspec.Struct) -> list[Target]:
    """What the payload names, in the order of the row; what it does not name is left out."""
    targets: list[Target] = []
    for at in row.targets:
        if at.each is None:
            _add_target(targets, at, payload)
        else:
            for item in (getattr(payload, at.each) or ())[:MAX_TARGETS]:
                _add_target(targets, at, item)
    return targets


def _add_target(targets: list[Target], at: TargetAt, struct: msgspec.Struct) -> None:
    identity = _at(struct, at.id)
    name = _at(struct, at.name) if at.name is not None else None
    if identity is None and name is None:
        return
    kind = _at(struct, at.type_at) if at.type_at is not None else None
    targets.append(Target(kind or at.type, identity, name))


def _at(struct: Any, path: Path) -> str | None:
    if len(path) == 1:
        only: str | None = getattr(struct, path[0])
        return only
    for step in path:
        struct = getattr(struct, step)
        if struct is None:
            return None
    text: str = struct
    return text
