"""What holds for all formats at once."""

import json

import pytest

from bench.formats import FORMATS, cost_us, decoding_us
from streamer.config import FormatName, Redaction
from streamer.formats import make_format
from streamer.model import decode_envelope
from streamer.routing import compile_redaction
from tests import every_type


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_cheap(name: FormatName) -> None:
    """Goal: no format slows the tail. Method: CPU time against decoding the same envelopes; about 7 times here, 14 leave room."""
    assert cost_us(make_format(name, {"acme": "org-1"}).encode, 8) < 14 * decoding_us(8)


@pytest.mark.parametrize("name", FORMATS)
def test_a_retry_sends_the_same_bytes(name: FormatName) -> None:
    """Goal: what is delivered again is the same. Method: every record of every type twice, by two formats of the same name."""
    first, again = make_format(name, {"acme": "org-1"}), make_format(name, {"acme": "org-1"})
    for record in every_type.all_records()[::7]:
        body = first.encode(record)
        assert body == again.encode(type(record)(record.seq, record.line))
        assert b"\n" not in body


def test_the_event_of_an_envelope_is_kept_a_string_or_left_out() -> None:
    """Goal: a store that holds no foreign keys gets all else unchanged, and upstream's bytes where it asks for them.
    Method: every record of every type, as it is and after a redaction of its event, compared as parsed JSON."""
    redact = compile_redaction([Redaction(field="event.actor", **{"with": "mask"})], None, "sinks.out")
    assert redact is not None
    string, drop = make_format("envelope", event="string"), make_format("envelope", event="drop")
    for record in [r for one in every_type.all_records()[::3] for r in (one, redact(one))]:
        whole = json.loads(record.line)
        text = json.loads(string.encode(record))
        assert text["event"].encode() == bytes(record.envelope.event)
        assert json.loads(text["event"]) == whole["event"]
        assert list(text) == list(whole)
        event = whole.pop("event")
        assert event
        assert json.loads(drop.encode(record)) == whole
        assert {k: v for k, v in text.items() if k != "event"} == whole


def test_an_envelope_of_a_string_is_an_envelope() -> None:
    """Goal: readers of our schema read it. Method: our own decoder on a line with `event: string`."""
    record = every_type.all_records()[0]
    assert decode_envelope(make_format("envelope", event="string").encode(record)).id == record.envelope.id
