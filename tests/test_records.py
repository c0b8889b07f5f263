"""The builders that other tests stand on: what they make is valid, the same each time, and awkward enough."""

import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamer.model import decode_envelope, encode_envelope
from tests.records import TYPES, batch, entries, envelope, event_id, line, raw_event, records


def test_builders_are_valid_and_stable() -> None:
    """Goal: tests may trust the builders. Method: encode, decode and compare 60 events, twice."""
    for number in range(60):
        text = line(number)
        assert b"\n" not in text
        assert decode_envelope(text) == envelope(number)
        assert bytes(decode_envelope(text).event) == raw_event(number)
        assert msgspec.json.decode(raw_event(number))["id"] == event_id(number)
        assert text == line(number)
    assert 500 < sum(len(line(n)) for n in range(64)) / 64 < 2500


def test_builders_number_from_one_and_cover_the_awkward() -> None:
    """Goal: a batch is numbered like a fresh journal and holds every type. Method: look at one of 16 records."""
    made = batch(16)
    assert [m.record.seq for m in made.messages] == list(range(1, 17))
    assert [r.envelope.id for r in records(3, first=5)] == [e.id for e in entries(3, first=5)]
    assert {m.record.envelope.type for m in made.messages} == set(TYPES)
    assert not all(m.body.isascii() for m in made.messages)
    assert {m.record.envelope.known for m in made.messages} == {True, False}


def test_threads_do_not_get_each_others_envelopes() -> None:
    """Goal: a check that runs its rules' tests beside intake puts none of their events into the journal; method: threads that encode envelopes of
    their own, with the interpreter changing between them as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def foreign(number: int) -> int:
        own = envelope(number)
        expected = encode_envelope(own)
        return sum(encode_envelope(own) != expected for _ in range(20_000))

    try:
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(foreign, (1, 2))) == [0, 0]
    finally:
        sys.setswitchinterval(before)
