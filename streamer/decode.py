"""Wire bytes to an envelope. Total and lossless: whatever upstream sends becomes an envelope, nothing raises, no byte is lost.

The bytes travel as they came, except that line breaks between JSON tokens become spaces, so that an envelope is one line, and that
space around the whole is left out. Bytes that a strict JSON reader refuses (not JSON, not UTF-8, half of a surrogate pair, a number
beyond a double, deeper than `MAX_DEPTH`) travel as a JSON string of their text; text that is not UTF-8 is read as Latin-1, a character a byte.
What could be read of such a record is used all the same.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson
from msgspec import inspect
from msgspec.structs import replace

from streamer.catalog import EventType, Path, TargetAt, frame, lookup
from streamer.catalog.frame import Frame
from streamer.model import (
    EPOCH,
    MAX_EPOCH_SECONDS,
    NO_DETAILS,
    Actor,
    Envelope,
    Event,
    EventId,
    Geo,
    Listing,
    Project,
    SourceName,
    Target,
    from_epoch,
)

MAX_DEPTH = 128
"""Levels of nesting; common readers stop somewhere between 100 and 1,000."""
MAX_ID_CHARACTERS = 512
MAX_TYPE_CHARACTERS = 256
MAX_TARGETS = 1000
REMEMBERED_ACTORS = 4096
"""About 6 MiB."""
MAX_UNKNOWN_FIELDS = 16
UNKNOWN_TYPE = "unknown"


S = TypeVar("S", bound=msgspec.Struct)


class Unknowns(msgspec.Struct, frozen=True):
    """What the catalogue does not know of an event."""

    type: bool
    """Its type."""
    fields: tuple[str, ...]
    """Dotted paths of fields that are unknown or of another kind, at most `MAX_UNKNOWN_FIELDS`, in plain ASCII. The payload is
    `details`, wherever it stood; `event` is the record as a whole, where it could not be carried as JSON."""


class _Facts(msgspec.Struct, gc=False):
    id: str
    type: str
    effective_at: int


_decode_facts = msgspec.json.Decoder(_Facts).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL = msgspec.Raw(b"null")

_FRAME_FIELDS = frozenset(Frame.__struct_fields__)
_SPACE = b" \t\r\n"
_LINE_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


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
        return Event(raw, EventId(facts.id), facts.type, facts.effective_at)
    return _odd_event(raw)


def to_envelope(
    event: Event, *, source: SourceName, listing: Listing, observed_at: datetime, late: bool = False
) -> tuple[Envelope, Unknowns | None]:
    """The envelope, before any enricher has seen it, and what the catalogue does not know of it; None: it knows everything.

    `observed_at` is aware; `late`: found by a recheck, after its time had been walked.
    """
    row = lookup(event.type)
    reading = read_usual(event, row) or read_any(event, row)
    unknowns = None
    if reading.notes or not row.known:
        unknowns = Unknowns(not row.known, tuple(dict.fromkeys(reading.notes))[:MAX_UNKNOWN_FIELDS])
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
        actor=reading.actor,
        project=reading.project,
        targets=_targets(row, reading.payload) if reading.payload is not None else [],
        details=reading.details,
        event=msgspec.Raw(reading.raw),
    ), unknowns


class Reading(NamedTuple):
    """What there is to say of an event."""

    raw: bytes
    """As it travels."""
    actor: Actor | None
    project: Project | None
    payload: msgspec.Struct | None
    details: msgspec.Raw
    notes: list[str]
    """See `Unknowns.fields`."""


# --- an event as it should be ------------------------------------------------------------------------------------------


class _Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A frame without a field too many; actor and payload are read by themselves."""

    id: str
    type: str
    effective_at: int
    object: str | None = None
    actor: msgspec.Raw = _NULL
    project: frame.Project | None = None
    details: msgspec.Raw = _NULL
    """Where the documentation mentions a payload, too."""


def read_usual(event: Event, row: EventType) -> Reading | None:
    """One pass over the bytes, and no tree of the whole: half the time of `read_any`, which looks closer at what is None here, because
    something beside the payload is not quite as the catalogue has it."""
    if not row.known:
        return None
    raw = _on_one_line(event.raw)
    try:
        read = _usual_decoder(event.type)(raw)
        actor = _usual_actor(bytes(read.actor)) if read.actor != _NULL else None
        if read.details != _NULL and read.payload != _NULL:
            return None
        details = read.payload if read.details == _NULL else read.details
        body = bytes(details)
        # Counting is cheap and nearly always enough: there are no more levels than brackets.
        if body.count(b"{") + body.count(b"[") >= MAX_DEPTH:
            return None
        # Also where nobody looks into it: only this reader is as strict as those to come.
        payload = orjson.loads(body)
    except (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None
    if (read.id, read.type, read.effective_at) != (event.id, event.type, event.effective_at):
        return None
    notes: list[str] = []
    return Reading(
        raw,
        _copy(actor) if actor is not None else None,
        _project(read.project) if read.project is not None else None,
        _payload(payload, row, notes) if payload is not None else None,
        details,
        notes,
    )


@cache  # of known types only
def _usual_decoder(name: str) -> Callable[[bytes], Any]:
    payload = ("payload", msgspec.Raw, msgspec.field(name=name, default=_NULL))
    usual = msgspec.defstruct("_UsualOfType", [payload], bases=(_Usual,), forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(usual).decode


@lru_cache(maxsize=REMEMBERED_ACTORS)
def _usual_actor(raw: bytes) -> Actor | None:
    """The same people do things from the same places again and again. ValidationError or JSONDecodeError for what is not quite an actor."""
    return _actor(msgspec.convert(orjson.loads(raw), frame.Actor))


def _copy(actor: Actor) -> Actor:
    """Enrichers write into what they get."""
    own = replace(actor)  # `copy.copy` takes twice as long to come to the same
    if own.geo is not None:
        own.geo = replace(own.geo)
    return own


def _on_one_line(raw: bytes) -> bytes:
    raw = raw.strip(_SPACE)
    return raw.translate(_LINE_BREAKS_TO_SPACES) if b"\n" in raw or b"\r" in raw else raw


# --- any event ---------------------------------------------------------------------------------------------------------


def read_any(event: Event, row: EventType) -> Reading:
    """Whatever it is. Total; of an event that `read_usual` takes it says the same."""
    tree, carried = _read(event.raw)
    record: dict[str, Any] = tree if isinstance(tree, dict) else {}
    raw = _on_one_line(event.raw)
    if not carried:
        record, raw = _mended(record), _as_text(event.raw)
    notes: list[str] = [] if carried else ["event"]

    said = _shaped(record, Frame, "", notes)
    key = _payload_key(record, event.type)
    payload, details = None, NO_DETAILS
    if key is not None:
        payload = _payload(record[key], row, notes)
        details = _decode_parts(raw)[key] if carried else _encoded(record[key])
    _note_frame(notes, record, said, event, key)
    actor = _actor(said.actor) if said.actor is not None else None
    project = _project(said.project) if said.project is not None else None
    return Reading(raw, actor, project, payload, details, notes)


# --- facts that are not as they should be ------------------------------------------------------------------------------


def _odd_event(raw: bytes) -> Event:
    tree = _salvaged(_shallow(raw) if _too_deep(raw) else raw)
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


# --- reading what is there ---------------------------------------------------------------------------------------------


def _read(raw: bytes) -> tuple[Any, bool]:
    """The record as Python objects, and whether a strict reader can take its bytes. None where it is no JSON at all."""
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _too_deep(raw):
        return _salvaged(_shallow(raw)), False
    try:
        return orjson.loads(raw), True
    except orjson.JSONDecodeError:
        return _salvaged(raw), False


_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def _too_deep(raw: bytes) -> bool:
    depth = 0
    for found in _BRACKETS.finditer(raw):
        match raw[found.start()]:
            case 0x5B | 0x7B:
                depth += 1
                if depth > MAX_DEPTH:
                    return True
            case 0x5D | 0x7D:
                depth -= 1
    return False


def _shallow(raw: bytes) -> bytes:
    """The record with null for every array and object that lies too deep."""
    pieces, depth, kept = [], 0, 0
    for found in _BRACKETS.finditer(raw):
        match raw[found.start()]:
            case 0x5B | 0x7B:
                if depth == MAX_DEPTH:
                    pieces += [raw[kept : found.start()], b"null"]
                depth += 1
            case 0x5D | 0x7D:
                depth -= 1
                if depth == MAX_DEPTH:
                    kept = found.end()
    return b"".join(pieces) + raw[kept:]


def _salvaged(raw: bytes) -> Any:
    """The record read with more patience: a byte that is not UTF-8 and half of a surrogate pair become lone surrogates,
    a number beyond its kind becomes null."""
    try:
        return json.loads(
            raw.decode("utf-8", "surrogateescape"),
            parse_int=lambda digits: int(digits) if len(digits) <= 400 else None,
            parse_float=lambda digits: number if math.isfinite(number := float(digits)) else None,
            parse_constant=_refused,
        )
    except (ValueError, RecursionError):
        return None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _mended(value: Any) -> Any:
    """A salvaged value without lone surrogates, so that it can be encoded."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_mended(name): _mended(inner) for name, inner in value.items()}
        case list():
            return [_mended(inner) for inner in value]
    return value


def _as_text(raw: bytes) -> bytes:
    """A JSON string of bytes that are no JSON."""
    try:
        return msgspec.json.encode(raw.decode())
    except UnicodeDecodeError:
        return msgspec.json.encode(raw.decode("latin-1"))


def _encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=False).encode())


def _payload(value: Any, row: EventType, notes: list[str]) -> msgspec.Struct | None:
    """None where it is no object, and names nothing therefore. There is nothing to note where nothing is documented."""
    if isinstance(value, dict):
        return _shaped(value, row.payload, "details", notes if row.documented else [])
    if row.documented:
        _note(notes, "details")
    return None


def _payload_key(record: dict[str, Any], name: str) -> str | None:
    """Where the payload stands: under the type, as documented; under `details`, which the documentation mentions; or under the type
    with underscores, which the SDK's users see."""
    for key in (name, "details", name.replace(".", "_")):
        if record.get(key) is not None and key not in _FRAME_FIELDS:
            return key
    return None


# --- against the catalogue ---------------------------------------------------------------------------------------------


def _note_frame(notes: list[str], record: dict[str, Any], said: Frame, event: Event, payload_key: str | None) -> None:
    """Facts that we had to make up, and fields that nobody knows."""
    if said.id != event.id:
        notes.append("id")
    if said.type != event.type:
        notes.append("type")
    if said.effective_at != event.effective_at:
        notes.append("effective_at")
    for name in record:
        if name not in _FRAME_FIELDS and name != payload_key and not (name == event.type and record[name] is None):
            _note(notes, name)


def _shaped(value: dict[str, Any], struct: type[S], path: str, notes: list[str]) -> S:
    """The struct with all of `value` that fits into it; what does not is noted."""
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError:
        return _fitted(value, struct, path, notes)


def _fitted(value: dict[str, Any], struct: type[S], path: str, notes: list[str]) -> S:
    shape = _shape(struct)
    within = f"{path}." if path else ""
    given: dict[str, Any] = dict.fromkeys(shape.required)
    for name, inner in value.items():
        field = shape.fields.get(name)
        if field is not None:
            plain = type(inner) in field.scalars
            given[name] = inner if plain else _fitted_value(inner, field.info, within + name, notes)
        elif shape.closed and name != shape.tag_field:
            _note(notes, within + name)
    if shape.tag_field is not None and value.get(shape.tag_field) != shape.tag:
        _note(notes, within + shape.tag_field)
    return struct(**given)


def _fitted_value(value: Any, info: inspect.Type, path: str, notes: list[str]) -> Any:
    """`value` as the catalogue has it, or as near as it comes; None where nothing fits."""
    if isinstance(info, inspect.UnionType):
        if value is None:
            return None
        info = _option(value, info)
    match info:
        case inspect.StructType() if isinstance(value, dict):
            # A tagged struct alone would be taken without its tag.
            return (_shaped if info.tag is None else _fitted)(value, info.cls, path, notes)
        case inspect.ListType() if isinstance(value, list):
            items = [_fitted_value(item, info.item_type, f"{path}[]", notes) for item in value]
            return [item for item in items if item is not None]
        case inspect.AnyType():
            return value
    if type(value) in _SCALARS.get(type(info), ()):
        return value
    _note(notes, path)
    return _coerced(value, info)


_SCALARS: Mapping[type[inspect.Type], tuple[type, ...]] = {
    inspect.NoneType: (type(None),),
    inspect.StrType: (str,),
    inspect.IntType: (int,),
    inspect.FloatType: (float, int),
    inspect.BoolType: (bool,),
}


class _Field(NamedTuple):
    info: inspect.Type
    scalars: frozenset[type]
    """What needs no second look."""


class _Shape(NamedTuple):
    fields: Mapping[str, _Field]
    required: tuple[str, ...]
    closed: bool
    tag_field: str | None
    tag: str | int | None


@cache  # one entry a struct of the catalogue
def _shape(struct: type[msgspec.Struct]) -> _Shape:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return _Shape(
        {field.encode_name: _Field(field.type, _scalars(field.type)) for field in info.fields},
        tuple(field.name for field in info.fields if field.required),
        info.forbid_unknown_fields,
        info.tag_field,
        info.tag,
    )


def _scalars(info: inspect.Type) -> frozenset[type]:
    options = info.types if isinstance(info, inspect.UnionType) else (info,)
    return frozenset(kind for option in options for kind in _SCALARS.get(type(option), ()))


def _option(value: Any, union: inspect.UnionType) -> inspect.Type:
    """The alternative that is meant; the first, where none fits."""
    options = [option for option in union.types if not isinstance(option, inspect.NoneType)]
    for option in options:
        if isinstance(option, inspect.StructType) and isinstance(value, dict):
            if option.tag_field is None or value.get(option.tag_field) == option.tag:
                return option
        elif type(value) in _SCALARS.get(type(option), ()):
            return option
    return options[0]


def _coerced(value: Any, info: inspect.Type) -> str | int | None:
    """A number where text belongs and the other way round can still be understood."""
    if isinstance(info, inspect.StrType) and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(info, inspect.IntType) and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= 18 else None
    return None


def _note(notes: list[str], path: str) -> None:
    if len(notes) < MAX_UNKNOWN_FIELDS:
        notes.append(re.sub(r"[^0-9A-Za-z_.\[\]<>-]", "?", path[:200]))


# --- from the catalogue's structs to the envelope's --------------------------------------------------------------------


_NO_SESSION, _NO_KEY, _NOBODY = frame.Session(), frame.ApiKey(), Actor()


def _actor(said: frame.Actor) -> Actor | None:
    session, key = said.session or _NO_SESSION, said.api_key or _NO_KEY
    kind, identity, email = _holder(said, session, key)
    where = session.ip_address_details
    actor = Actor(
        type=kind,
        id=identity,
        email=email,
        via=_via(said),
        api_key_id=key.id,
        ip=session.ip_address,
        user_agent=session.user_agent,
        ja3=session.ja3,
        ja4=session.ja4,
        geo=_geo(where) if where is not None else None,
    )
    return actor if actor != _NOBODY else None


def _via(said: frame.Actor) -> str | None:
    if said.type is None:
        return "session" if said.session is not None else "api_key" if said.api_key is not None else None
    return None if said.type in ("user", "service_account") else said.type


def _holder(said: frame.Actor, session: frame.Session, key: frame.ApiKey) -> tuple[str | None, str | None, str | None]:
    """Type, id and e-mail of who stands behind the session or the key."""
    user = session.user or said.user
    if key.user is not None and (user is None or said.type == "api_key"):
        user = key.user
    if key.service_account is not None and (user is None or key.type == "service_account"):
        return "service_account", key.service_account.id, None
    if user is not None:
        return "user", user.id, user.email
    return key.type or (said.type if said.type not in ("session", "api_key") else None), None, None


def _geo(said: frame.AddressDetails) -> Geo | None:
    geo = Geo(
        country=said.country,
        region=said.region,
        city=said.city,
        asn=_asn(said.asn),
        latitude=_degrees(said.latitude, 90),
        longitude=_degrees(said.longitude, 180),
    )
    return geo if geo != _NOWHERE else None


_NOWHERE = Geo()


def _asn(said: str | int | None) -> int | None:
    digits = said.strip().upper().removeprefix("AS") if isinstance(said, str) else str(said)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 10:
        return None
    return number if (number := int(digits)) < 2**32 else None


def _degrees(said: str | float | None, limit: float) -> float | None:
    try:
        degrees = float(said) if said is not None else math.nan
    except (ValueError, OverflowError):
        return None
    return degrees if -limit <= degrees <= limit else None


def _project(said: frame.Project) -> Project | None:
    return Project(said.id, said.name) if said.id is not None or said.name is not None else None


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
