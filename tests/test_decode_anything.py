"""Decoding whatever comes: bytes, JSON and nearly events that hypothesis makes up; and what it costs."""

import json
import math
import time
from functools import cache
from typing import Any

import msgspec
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.catalog import TYPES
from streamer.decode import (
    decode_event,
    to_envelope,
)
from streamer.model import (
    SourceName,
)
from tests.test_decode import NOW, SAMPLES, decoded, record

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
names = st.sampled_from(
    [
        "id",
        "type",
        "effective_at",
        "actor",
        "project",
        "object",
        "details",
        "session",
        "api_key",
        "user",
        "name",
        "data",
    ]
) | st.text(max_size=8)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5), max_leaves=20
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Nearly an event: each part plausible or anything at all."""
    name = draw(st.sampled_from(sorted(TYPES)) | st.text(max_size=12))
    user = st.fixed_dictionaries({}, optional={"id": scalars, "email": scalars, "x": trees}) | trees
    session = st.fixed_dictionaries({}, optional={"user": user, "ip_address": scalars, "ip_address_details": trees})
    key = st.fixed_dictionaries({}, optional={"id": scalars, "type": scalars, "user": user, "service_account": user})
    actor = st.fixed_dictionaries({}, optional={"type": scalars, "session": session, "api_key": key, "user": user})
    payload = st.dictionaries(st.sampled_from(_field_names()), trees, max_size=5)
    said = draw(
        st.fixed_dictionaries(
            {"id": scalars, "type": st.just(name), "effective_at": st.integers() | scalars},
            optional={"actor": actor | trees, "project": trees, name: payload | trees, "details": payload | trees},
        )
    )
    return {**said, **draw(st.dictionaries(names, trees, max_size=2))}


@cache
def _field_names() -> list[str]:
    fields = {name for row in TYPES.values() for name in row.payload.__struct_fields__}
    return sorted(fields)


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_any_bytes(raw: bytes) -> None:
    """Goal: no bytes break the decoder. Method: random bytes; `decoded` checks every promise."""
    decoded(raw)


@given(trees)
@settings(deadline=None, max_examples=300)
def test_any_json(tree: object) -> None:
    """Goal: all JSON travels verbatim. Method: random trees; `decoded` checks every promise."""
    raw = json.dumps(tree, ensure_ascii=False).encode()
    assert bytes(decoded(raw).envelope.event) == raw


@given(events(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_anything_like_an_event(said: dict[str, Any], indented: bool) -> None:
    """Goal: no part of an event breaks another. Method: events with random parts, on one line or several."""
    raw = json.dumps(said, ensure_ascii=indented, indent=1 if indented else None).encode()
    event, envelope, _ = decoded(raw)
    assert not bytes(envelope.event).startswith(b'"')
    if isinstance(said["id"], str) and 0 < len(said["id"]) <= 512:
        assert event.id == said["id"]
    if envelope.actor is not None and envelope.actor.geo is not None and envelope.actor.geo.latitude is not None:
        assert math.isfinite(envelope.actor.geo.latitude)


SEEDS = SAMPLES or [json.dumps(record()).encode()]


@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 30),
            st.binary(max_size=12)
            | st.sampled_from([b'"', b"\\", b"{", b"[", b"]", b"}", b"\\ud800", b"1e999", b"\xff", b"\n"]),
        ),
        min_size=1,
        max_size=4,
    ),
)
@settings(deadline=None, max_examples=300)
def test_mutated_events(seed: bytes, cuts: list[tuple[float, int, bytes]]) -> None:
    """Goal: a damaged event is still an envelope. Method: stretches of published events replaced by other bytes."""
    raw = seed
    for where, length, instead in cuts:
        at = int(where * len(raw))
        raw = raw[:at] + instead + raw[at + length :]
    found = decoded(raw)
    if strictly_json(raw):
        assert not bytes(found.envelope.event).startswith(b'"') or raw.strip().startswith(b'"')


def strictly_json(raw: bytes) -> bool:
    """By another reader than ours."""
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def test_decoding_is_cheap() -> None:
    """Goal: knowing an event costs a small multiple of reading it as JSON at all. Method: the best of many rounds of each, in CPU time;
    about 0.5 and 6 times here, so the limits leave room for a busy machine."""
    session = {
        "ip_address": "198.51.100.1",
        "user": {"id": "user-1bcdc0af84a31af3b42dff98", "email": "person1@example.com"},
        "user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 " * 4,
        "ip_address_details": {"country": "IN", "city": "Springfield", "asn": "55256", "latitude": "37.7"},
    }
    raw = json.dumps(record(actor={"type": "session", "session": session}, object="organization.audit_log")).encode()
    event = decode_event(raw)
    assert to_envelope(event, source=SourceName("acme"), listing="organization", observed_at=NOW)[0].known
    plain = best_cpu_seconds(lambda: msgspec.json.decode(raw))
    facts = best_cpu_seconds(lambda: decode_event(raw))
    whole = best_cpu_seconds(
        lambda: to_envelope(event, source=SourceName("acme"), listing="organization", observed_at=NOW)
    )
    assert facts < 2 * plain
    assert whole < 15 * plain


def best_cpu_seconds(call: Any) -> float:
    best = math.inf
    for _ in range(20):
        begin = time.process_time()
        for _ in range(500):
            call()
        best = min(best, time.process_time() - begin)
    return best
