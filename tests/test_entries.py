"""From what a walk has found to what is appended."""

from datetime import UTC, datetime

import msgspec

from streamer.decode import Unknowns
from streamer.entries import make_entries
from streamer.model import Envelope, Event, EventId, SourceName, decode_envelope
from tests.records import raw_event


class Counting:
    """An enricher that remembers, as rules do, and builds on what the one before it has written."""

    def __init__(self, name: str) -> None:
        self.name, self.seen = name, list[str]()

    def enrich(self, envelope: Envelope, /) -> None:
        self.seen.append(envelope.id)
        envelope.labels[self.name] = str(len(self.seen) + len(envelope.labels))
        if len(self.seen) == 2:
            envelope.severity = "critical"


def test_each_enricher_sees_every_event_in_order_and_what_those_before_it_wrote() -> None:
    """Goal: a rule that counts is right; method: two enrichers that count, over three events, one of a type and one with a field that nobody knows."""
    usual = [msgspec.json.decode(raw_event(n)) for n in (1, 2, 3)]
    records = [usual[0], {"id": usual[1]["id"], "type": "moon.landed", "effective_at": 7}, usual[2] | {"shoe_size": 42}]
    events = [Event(msgspec.json.encode(r), EventId(r["id"]), r["type"], r["effective_at"]) for r in records]
    first, second = Counting("first"), Counting("second")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    found = make_entries(
        events, [first, second], source=SourceName("acme"), listing="organization", observed_at=now, late=True
    )
    assert first.seen == second.seen == [e.id for e in events] == [entry.id for entry in found.entries]
    assert [entry.effective_at for entry in found.entries] == [e.effective_at for e in events]
    envelopes = [decode_envelope(entry.line) for entry in found.entries]
    assert [bytes(envelope.event) for envelope in envelopes] == [e.raw for e in events]
    assert [envelope.labels for envelope in envelopes] == [{"first": str(n), "second": str(n + 1)} for n in (1, 2, 3)]
    assert all(envelope.late and envelope.observed_at == now for envelope in envelopes)
    assert found.severities == [envelope.severity for envelope in envelopes]
    assert found.severities[1] == "critical"
    assert found.unknowns == [
        ("moon.landed", Unknowns(True, ())),
        (usual[2]["type"], Unknowns(False, ("shoe_size",))),
    ]
