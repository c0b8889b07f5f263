"""Valid envelopes, records and batches, as many as a test wants, the same in every run.

Event `number` is always the same event: its id, time, actor and payload follow from the number. The payloads have the
shapes that the live API sends, at about 1 kB a line, and carry what breaks careless code: keys with dots, characters
beyond ASCII, quotes, backslashes, escaped line breaks, and in every eighth event a type that nobody knows.
"""

import json
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from streamer.catalog import lookup
from streamer.formats.envelope import EnvelopeFormat
from streamer.model import (
    NO_DETAILS,
    Actor,
    Batch,
    Entry,
    Envelope,
    EventId,
    Geo,
    Message,
    Project,
    Record,
    Seq,
    SourceName,
    Target,
    encode_envelope,
    from_epoch,
)
from streamer.ports import Format

SOURCE = SourceName("acme")
FIRST_SECOND = 1_767_225_600  # 2026-01-01T00:00:00Z

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/144.0.0.0 Safari/537.36"
PEOPLE = (
    ("user-7hQm2aXw", "ana.silva@acme.example", "Ana Silva", "203.0.113.17"),
    ("user-Lk93sPdz", "björn.åkesson@acme.example", "Björn Åkesson", "2001:db8::7:1"),
    ("user-Vt0cR8ye", "mei@acme.example", "李 梅", "198.51.100.200"),
)
PROJECT = ("proj_5nR1", "Payments")
TYPES = (
    "login.succeeded",
    "api_key.created",
    "login.failed",
    "role.assignment.created",
    "project.updated",
    "invite.sent",
    "ip_allowlist.updated",
    "widget.frobnicated",
)


def noise(number: int, size: int = 2000) -> bytes:
    """A line that no compression makes shorter."""
    return random.Random(number).randbytes(size).replace(b"\n", b" ")


def event_id(number: int) -> EventId:
    return EventId(f"audit_log-{number:024x}")


def effective_at(number: int) -> int:
    """Three events a second: equal timestamps are the rule, not the exception."""
    return FIRST_SECOND + number // 3


def _payload(number: int, type: str) -> tuple[dict[str, Any] | None, list[Target]]:
    """What the event says under its type, and what was acted on."""
    person, email, name, _ = PEOPLE[(number + 1) % len(PEOPLE)]
    project, title = PROJECT
    match type:
        case "api_key.created":
            key = f"key_{number:08x}"
            return {"id": key, "data": {"scopes": ["api.model.read", "api.files.write"]}}, [Target("api_key", key)]
        case "login.failed":
            return {"error_code": "invalid_credentials", "error_message": 'He said "no"\\\n\u2028twice'}, []
        case "role.assignment.created":
            given = f"role_assignment_role-api-project-owner__api-project__{project}_{person}"
            payload = {
                "id": given,
                "principal_id": person,
                "principal_type": "user",
                "resource_id": project,
                "resource_type": "api.project",
            }
            return payload, [Target("user", person, name), Target("project", project, title)]
        case "project.updated":
            return {"id": project, "changes_requested": {"title": title}}, [Target("project", project, title)]
        case "invite.sent":
            invite = f"invite-{number:06d}"
            return {"id": invite, "data": {"email": email, "role": "reader"}}, [Target("invite", invite, email)]
        case "ip_allowlist.updated":
            allowed = f"ipallow_{number:06d}"
            return {"id": allowed, "allowed_ips": ["203.0.113.0/24", "0.0.0.0"]}, [Target("ip_allowlist", allowed)]
        case "widget.frobnicated":
            return {"id": f"widget-{number}", "depth": {"n": [1, 2.5, None, True]}}, []
    return None, []


def _geo() -> dict[str, str]:
    return {"country": "PT", "city": "Lisboa", "region": "Lisboa", "region_code": "11", "asn": "64500"}


def raw_event(number: int) -> bytes:
    """Upstream's own bytes, with its spaces and its escapes."""
    type = TYPES[number % len(TYPES)]
    person, email, _, ip = PEOPLE[number % len(PEOPLE)]
    session = {
        "user": {"id": person, "email": email},
        "ip_address": ip,
        "user_agent": AGENT,
        "ja3": "353a03072e841d5004dfaa78561ccc70",
        "ja4": "t13d691100_8b2139ff7677_f0e8fcc46740",
        "ip_address_details": _geo(),
    }
    payload, _ = _payload(number, type)
    event: dict[str, Any] = {
        "object": "organization.audit_log",
        "id": event_id(number),
        "type": type,
        "effective_at": effective_at(number),
        "actor": {"type": "session", "session": session},
    }
    if type != "login.succeeded":
        event["project"] = {"id": PROJECT[0], "name": PROJECT[1]}
    if payload is not None:
        event[type] = payload
    return json.dumps(event, ensure_ascii=number % 2 == 0).encode()


def envelope(number: int = 1, **changes: Any) -> Envelope:
    """Event `number` and what we know about it; `changes` replace fields of the envelope."""
    type = TYPES[number % len(TYPES)]
    row = lookup(type)
    person, email, name, ip = PEOPLE[number % len(PEOPLE)]
    payload, targets = _payload(number, type)
    geo = Geo(country="PT", region="Lisboa", city="Lisboa", asn=64500)
    made = Envelope(
        id=event_id(number),
        source=SOURCE,
        listing=row.listing,
        type=type,
        family=row.family,
        action=row.action,
        known=row.known,
        time=from_epoch(effective_at(number)),
        observed_at=from_epoch(effective_at(number)) + timedelta(seconds=4, microseconds=250_000),
        late=number % 11 == 5,
        outcome=row.outcome,
        severity=row.severity,
        tags=["credential"] if type == "api_key.created" else [],
        actor=Actor(type="user", id=person, email=email, name=name, via="session", ip=ip, user_agent=AGENT, geo=geo),
        project=None if type == "login.succeeded" else Project(*PROJECT),
        targets=targets,
        details=NO_DETAILS if payload is None else msgspec.Raw(msgspec.json.encode(payload)),
        labels={"ip_scope": "public"},
        event=msgspec.Raw(raw_event(number)),
    )
    return msgspec.structs.replace(made, **changes)


def line(number: int = 1, **changes: Any) -> bytes:
    """The envelope as it stands in the journal: one line, without the line break."""
    return encode_envelope(envelope(number, **changes))


def entries(count: int, first: int = 1) -> list[Entry]:
    """For `Journal.append`."""
    return [Entry(event_id(n), effective_at(n), line(n)) for n in range(first, first + count)]


def record(number: int = 1, **changes: Any) -> Record:
    """In a journal that began with event 1, event `number` stands at `seq` `number`."""
    return Record(Seq(number), line(number, **changes))


def records(count: int, first: int = 1) -> list[Record]:
    return [record(n) for n in range(first, first + count)]


def batch_of(records: Sequence[Record], format: Format | None = None, *, replayed: bool = False) -> Batch:
    """As the delivery loop makes it; the format is `envelope` unless another is given."""
    encode = (format or EnvelopeFormat()).encode
    return Batch([Message(r, encode(r), replayed) for r in records])


def batch(count: int, first: int = 1, format: Format | None = None) -> Batch:
    return batch_of(records(count, first), format)
