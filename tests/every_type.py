"""Every event type in every shape: full, minimal, and hostile in each way that is known of; as records, as a sink gets them."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from msgspec import inspect

from streamer.catalog import TYPES, EventType
from streamer.decode import decode_event, to_envelope
from streamer.model import Actor, Envelope, Geo, Project, Record, Seq, SourceName, Target, encode_envelope, from_epoch
from tests.shared_folder import shared_file

SURROGATE = re.compile("[\ud800-\udfff]")
AT = 1_767_225_600
SEEN = from_epoch(AT + 4)
ORGANIZATIONS = {"acme": "org-acme"}

EVIL_TEXTS = (
    "a|b=c\\d",
    "x\nCEF:0|evil|evil|1|1|fake|10|act=none src=6.6.6.6",
    "x\r\nLEEF:2.0|evil|evil|1|fake|x09|src=6.6.6.6\tsev=10",
    " leading and trailing ",
    "tab\tnul\x00esc\x1b[31mred\x1b[0m bell\x07 c1\x9b31m del\x7f",
    "\u202egnp.exe\u202c \u2066isolate\u2069 \u200bzero\u200d width\ufeff \u061c",
    "line\u2028and paragraph\u2029 next\x85line",
    '{"json": "inside"} [red]markup[/red] <b>html</b> %s {0} ${HOME}',
    "Zoë Müller 東京 \U0001f600",
    "half \ud800 of a pair \udc00",
    "\\",
    "=\n=",
    "a" * 5000,
    "é" * 2000,
    "",
    " ",
)


def full(row: EventType) -> dict[str, Any]:
    """Every documented field of the frame and of the payload."""
    return {
        "object": "organization.audit_log",
        "id": "audit_log-7f3c0a9d4be21c5588a0e6d1",
        "type": row.type,
        "effective_at": AT,
        "actor": session(),
        "project": {"id": "proj_1", "name": "Payments"},
        row.type: payload(row),
    }


def session(**changes: Any) -> dict[str, Any]:
    said = {
        "user": {"id": "user-1", "email": "ana@acme.example"},
        "ip_address": "203.0.113.10",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
        "ja3": "a497151ce4338a12c4418c44d375173e",
        "ja4": "q13d0313h3_55b375c5d22e_c7319ce65786",
        "ip_address_details": {
            "country": "PT",
            "city": "Lisboa",
            "region": "Lisboa",
            "region_code": "11",
            "asn": "64500",
            "latitude": "38",
            "longitude": "-9.1393",
        },
    }
    return {"type": "session", "session": said | changes}


def payload(row: EventType) -> dict[str, Any]:
    if row.documented:
        made = cast(dict[str, Any], _example(inspect.type_info(row.payload), "payload"))
    else:
        made = {"id": f"{row.noun}-1", "name": "A name", "anything": {"deep": [1, 2.5, None, True, "x"]}}
    if row.noun.endswith("role_assignment") or "principal_id" in made:
        made |= {
            "id": "role_assignment_role-api-organization-owner__api-organization__org-1_user-2",
            "principal_id": "user-2",
            "principal_type": "user",
            "resource_id": "org-1",
            "resource_type": "api.organization",
        }
    return made


def _example(info: inspect.Type, path: str) -> Any:
    match info:
        case inspect.UnionType():
            return _example(next(option for option in info.types if not isinstance(option, inspect.NoneType)), path)
        case inspect.StructType():
            tagged = {info.tag_field: info.tag} if info.tag_field else {}
            return tagged | {field.encode_name: _example(field.type, field.encode_name) for field in info.fields}
        case inspect.ListType():
            return [_example(info.item_type, f"{path}-{n}") for n in (1, 2)]
        case inspect.StrType():
            return f"{path}-value"
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 60
        case _:
            return {"open": [1, {"deep": "x"}]}


def minimal(row: EventType) -> dict[str, Any]:
    """What the API promises, and no more."""
    return {"id": "audit_log-1", "type": row.type, "effective_at": AT}


def hostile(row: EventType) -> Iterator[dict[str, Any]]:
    """What an attacker, or an upstream that changes, could send."""
    for text in EVIL_TEXTS:
        yield _with_text(full(row), text)
        yield full(row) | {"id": f"audit_log-{text}", "project": {"id": text, "name": text}}
    for odd in (None, 5, -1.5, True, "text", [], [1, [2]], {}, {"id": 7, "name": ["x"]}, [{"id": "a"}, {"id": "b"}]):
        yield full(row) | {row.type: odd}
        yield full(row) | {"actor": odd}
        yield full(row) | {"project": odd}
        yield full(row) | {"actor": session(user=odd)}
    for actor in ACTORS:
        yield full(row) | {"actor": actor}
    group = payload(row) | {"principal_type": "group", "principal_id": "group-1", "group_id": "group-1"}
    yield full(row) | {row.type: group}
    yield full(row) | {row.type: payload(row) | {"user_id": "user-9", "group_id": "group-9", "role_id": "role-9"}}
    yield full(row) | {row.type: _without_roles(payload(row))}
    yield full(row) | {row.type: {"id": "audit_log-" + "9" * 600}}
    yield full(row) | {row.type: {name: [{"id": f"id-{n}", "name": f"N {n}"} for n in range(40)] for name in LISTS}}
    yield full(row) | {row.type: {"Other": "Other", "type": "Other", "role": "Other", "error_code": 5}}
    yield full(row) | {"effective_at": 0}
    yield full(row) | {"effective_at": 253_402_300_799}
    yield full(row) | {row.type: {f"key.{n}": n for n in range(300)}}


LISTS = ("certificates", "configs")
ACTORS: tuple[dict[str, Any], ...] = (
    {"type": "session"},
    {"type": "session", "session": {"ip_address": "2001:db8::7:1"}},
    {"type": "session", "session": {"ip_address": "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"}},
    {"type": "session", "session": {"ip_address": "::ffff:1.2.3.4"}},
    {"type": "session", "session": {"ip_address": "fe80::1%eth0", "user": {"id": "user-1"}}},
    {"type": "session", "session": {"ip_address": "256.1.1.1", "user_agent": "x" * 3000}},
    {"type": "session", "session": {"user": {"email": "no at sign"}}},
    {"type": "session", "session": {"user": {"email": "björn@acme.example"}}},
    {"type": "session", "session": {"ip_address_details": {"country": "PT", "latitude": "37", "asn": "0"}}},
    {"type": "session", "session": {"ip_address_details": {"latitude": 37}, "ja3": "771,4865", "ja4": "x"}},
    {"type": "api_key", "api_key": {"id": "key_1", "type": "user", "user": {"id": "user-1", "email": "a@b.example"}}},
    {"type": "api_key", "api_key": {"id": "key_1", "type": "service_account", "service_account": {"id": "sa-1"}}},
    {"type": "api_key", "api_key": {"id": "key_1"}},
    {"type": "api_key", "api_key": {"id": "key_1", "type": "Other"}},
    {"type": "Other"},
    {"type": "user", "user": {"id": "user-1"}},
    {"type": 5, "session": [], "api_key": "x"},
)


def _with_text(value: Any, text: str) -> Any:
    """Every text but the type's and the id's replaced."""
    match value:
        case dict():
            return {
                name: inner
                if name in ("type", "id", "principal_type") and "session" not in value
                else _with_text(inner, text)
                for name, inner in value.items()
            }
        case list():
            return [_with_text(inner, text) for inner in value]
        case str():
            return text
    return value


def _without_roles(said: dict[str, Any]) -> dict[str, Any]:
    return {name: {} if name in ("data", "changes_requested") else value for name, value in said.items()}


def as_record(event: dict[str, Any], *, enriched: bool = False) -> Record:
    text = json.dumps(event, ensure_ascii=False)
    # Half of a surrogate pair can be written in JSON, and in nothing else.
    raw = text.encode() if not SURROGATE.search(text) else json.dumps(event).encode()
    return from_bytes(raw, enriched=enriched)


def from_bytes(raw: bytes, *, enriched: bool = False) -> Record:
    event = decode_event(raw)
    envelope, _ = to_envelope(event, source=SourceName("acme"), listing="organization", observed_at=SEEN)
    if enriched:
        enrich(envelope, "An evil\n|=\\name\u202e")
    return Record(Seq(1), encode_envelope(envelope))


def enrich(envelope: Envelope, name: str) -> None:
    """As enrichers would fill it in, and every text of it hostile."""
    envelope.actor = envelope.actor or Actor()
    envelope.actor.name = name
    envelope.actor.geo = Geo("PT", name, name, 64500, name, 38.7, -9.1)
    envelope.project = Project("proj_1", name)
    envelope.targets = [Target(target.type, target.id, name) for target in envelope.targets]
    envelope.tags, envelope.rules = ["new_country", name], ["first-country", name]
    envelope.labels = {"network": name, "actor_role": name, "dotted.key": name, "ip_scope": "public"}
    envelope.severity, envelope.late = "critical", True


def records_of(row: EventType) -> Iterator[Record]:
    for event in (full(row), minimal(row), *hostile(row)):
        yield as_record(event)
    for event in (full(row), minimal(row)):
        yield as_record(event, enriched=True)


@cache
def all_records() -> tuple[Record, ...]:
    """About 12,000."""
    return tuple(record for row in TYPES.values() for record in records_of(row))


def samples() -> Iterator[Record]:
    """The published events that lie beside the repository."""
    for line in shared_file("data/sample_events.jsonl").read_text("utf-8").splitlines():
        yield from_bytes(line.encode())
