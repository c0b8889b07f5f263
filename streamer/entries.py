"""From what a walk has found to what is appended: decoded, enriched, encoded. Pure, but for what enrichers remember."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from streamer.decode import Unknowns, to_envelope
from streamer.model import Entry, Envelope, Event, Listing, Severity, SourceName
from streamer.ports import Enricher

_encode_into = msgspec.json.Encoder().encode_into


class Made(NamedTuple):
    """What came of some events, in their order."""

    entries: list[Entry]
    severities: list[Severity]
    """After all enrichers."""
    unknowns: list[tuple[str, Unknowns]]
    """What the catalogue does not know of them, with the type of each."""


def make_entries(
    events: Sequence[Event],
    enrichers: Sequence[Enricher],
    *,
    source: SourceName,
    listing: Listing,
    observed_at: datetime,
    late: bool,
) -> Made:
    """`observed_at`, `late`: as `to_envelope` has them."""
    made = Made([], [], [])
    envelopes: list[Envelope] = []
    # Step by step for all, not event by event: what a step does stays in the processor's caches.
    for event in events:
        envelope, unknowns = to_envelope(event, source=source, listing=listing, observed_at=observed_at, late=late)
        envelopes.append(envelope)
        if unknowns is not None:
            made.unknowns.append((event.type, unknowns))
    for enricher in enrichers:
        for envelope in envelopes:
            enricher.enrich(envelope)
    # By way of a buffer: what `encode` returns keeps half as much again as it needs, and lines are kept by the thousand.
    buffer = bytearray()
    for event, envelope in zip(events, envelopes, strict=True):
        made.severities.append(envelope.severity)
        _encode_into(envelope, buffer)
        made.entries.append(Entry(event.id, event.effective_at, bytes(buffer)))
    return made
