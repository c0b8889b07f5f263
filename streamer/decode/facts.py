"""The facts of a record: what it is called, what it is, and when it was."""

import hashlib
from datetime import UTC, datetime

import msgspec

from streamer.catalog import TYPES
from streamer.catalog.frame import Facts
from streamer.decode.salvage import salvaged, shallow, too_deep
from streamer.model import EPOCH, MAX_EPOCH_SECONDS, Event, EventId

MAX_ID_CHARACTERS = 512
MAX_TYPE_CHARACTERS = 256
UNKNOWN_TYPE = "unknown"


_decode_facts = msgspec.json.Decoder(Facts).decode
_ONE_OF_EACH = {name: name for name in TYPES}
"""Thousands of events wait in memory at times, and would each have a text of their own."""


def decode_event(raw: bytes) -> Event:
    """The facts of one record.

    `id` is upstream's text or integer; `sha256-<hex>` of the bytes where the record is no JSON object or its id is missing, empty,
    longer than `MAX_ID_CHARACTERS`, of another kind, or not Unicode. `effective_at` is taken literally, in seconds, also from
    digits in a string, a fraction (cut off) and ISO 8601 (UTC unless it says otherwise); what RFC 3339 cannot
    write (before 1970, after 9999, milliseconds therefore) is 0.
    """
    try:
        facts = _decode_facts(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _odd_event(raw)
    if (
        0 < len(facts.id) <= MAX_ID_CHARACTERS
        and 0 < len(facts.type) <= MAX_TYPE_CHARACTERS
        and 0 <= facts.effective_at <= MAX_EPOCH_SECONDS
    ):
        return Event(raw, EventId(facts.id), _ONE_OF_EACH.get(facts.type, facts.type), facts.effective_at)
    return _odd_event(raw)


def _odd_event(raw: bytes) -> Event:
    tree = salvaged(shallow(raw) if too_deep(raw) else raw)
    record = tree if isinstance(tree, dict) else {}
    name = _unicode(record.get("type"))
    return Event(
        raw,
        _id(record.get("id")) or EventId(f"sha256-{hashlib.sha256(raw).hexdigest()}"),
        name if name and len(name) <= MAX_TYPE_CHARACTERS else UNKNOWN_TYPE,
        _epoch_seconds(record.get("effective_at")),
    )


def _id(value: object) -> EventId | None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _unicode(value)
    return EventId(text) if text and len(text) <= MAX_ID_CHARACTERS else None


def _unicode(value: object) -> str | None:
    """Text that can be encoded; half of a surrogate pair cannot, and stands for a byte that was not UTF-8 as well."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _epoch_seconds(value: object) -> int:
    """Unix seconds; 0 where they cannot be read."""
    match value:
        case bool():
            return 0
        case int():
            seconds = value
        case float():
            seconds = int(value)
        case str() if value.isascii() and value.isdigit() and len(value) <= 15:
            seconds = int(value)
        case str():
            seconds = _from_iso_8601(value)
        case _:
            return 0
    return seconds if 0 <= seconds <= MAX_EPOCH_SECONDS else 0


def _from_iso_8601(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
        return int(((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH).total_seconds())
    except (ValueError, OverflowError):
        return 0
