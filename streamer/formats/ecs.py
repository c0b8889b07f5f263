"""Elastic Common Schema 9.4.0: one nested document an event.

`user` is who did it, `user.target` the user or service account that was acted on. What ECS has no field for stands under
`openai.audit`, in the words of Elastic's own integration where it has them; the payload is `openai.audit.details`, always an object,
which an index template maps as `flattened` (its keys are upstream's, without end, and may hold dots).
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from streamer.catalog import SEVERITY_NUMBERS
from streamer.formats.line import sentence
from streamer.formats.subject import Subject, ip_version, one_line, original, payload
from streamer.model import Actor, Geo, Record, Target

Document = dict[str, Any]

_ECS = {"version": "9.4.0"}
_OBSERVER = {"vendor": "OpenAI", "product": "OpenAI API Platform"}
_GIVING = frozenset({"Assign Privileges", "Create"})
"""Activities after which a user has the role that is named; after others it may be the one that was taken."""


class EcsFormat:
    """One event, one document. `organizations`: source to organization id, which no event carries."""

    def __init__(self, organizations: Mapping[str, str]) -> None:
        self._organizations = organizations

    def encode(self, record: Record, /) -> bytes:
        subject = Subject(record)
        envelope = subject.envelope
        document: Document = {
            "@timestamp": envelope.time,
            "ecs": _ECS,
            "message": sentence(subject),
            "event": _event(subject),
            "log": {"level": envelope.severity},
            "observer": _OBSERVER,
        }
        if organization := self._organizations.get(envelope.source):
            document["organization"] = {"id": organization}
        people: list[str | None] = []
        if envelope.actor is not None:
            _add_source(document, envelope.actor)
        user = _user(envelope.actor, people)
        _add_target(user, document, subject, people)
        if user:
            document["user"] = user
        if related := [text for text in dict.fromkeys(people) if text]:
            document.setdefault("related", {})["user"] = related
        if envelope.tags:
            document["tags"] = envelope.tags
        if envelope.labels:
            document["labels"] = {name.replace(".", "_"): text for name, text in envelope.labels.items() if name}
        if envelope.rules:
            document["rule"] = {"name": envelope.rules[0]}
        document["openai"] = {"audit": _own(subject)}
        return one_line(orjson.dumps(document, option=orjson.OPT_UTC_Z))


def _event(subject: Subject) -> Document:
    envelope, ecs = subject.envelope, subject.row.ecs
    types: tuple[str, ...] = ecs.type
    if "group_principal" in subject.row.ocsf_when and subject.group is not None:
        types = tuple("group" if type == "user" else type for type in types)
    event: Document = {
        "kind": "event",
        "category": ecs.category,
        "type": types,
        "action": ecs.action,
        "code": envelope.type,
        "outcome": envelope.outcome,
        "id": envelope.id,
        "provider": "OpenAI",
        "module": "openai",
        "dataset": "openai.audit",
        "severity": SEVERITY_NUMBERS[envelope.severity].cef,
    }
    # ECS has it after the event itself; an event that is ahead of our clock was not.
    if envelope.observed_at >= envelope.time:
        event["created"] = envelope.observed_at
    code, message = subject.error
    if reason := message or code:
        event["reason"] = reason
    if (text := original(envelope)) is not None:
        event["original"] = text
    return event


def _add_source(document: Document, actor: Actor) -> None:
    source: Document = {}
    if actor.ip:
        source["address"] = actor.ip
        if ip_version(actor.ip) is not None:
            source["ip"] = actor.ip
            document["related"] = {"ip": [actor.ip]}
    if actor.geo is not None:
        _add_geography(source, actor.geo)
    if source:
        document["source"] = source
    if actor.user_agent:
        document["user_agent"] = {"original": actor.user_agent}
    if actor.ja3:
        document["tls"] = {"client": {"ja3": actor.ja3}}


def _add_geography(source: Document, geo: Geo) -> None:
    place: Document = {}
    if geo.country:
        place["country_iso_code"] = geo.country
    if geo.region:
        place["region_name"] = geo.region
    if geo.city:
        place["city_name"] = geo.city
    if geo.latitude is not None and geo.longitude is not None:
        place["location"] = {"lat": geo.latitude, "lon": geo.longitude}
    if place:
        source["geo"] = place
    if geo.asn is not None:
        source["as"] = {"number": geo.asn}
        if geo.as_name:
            source["as"]["organization"] = {"name": geo.as_name}


def _user(actor: Actor | None, people: list[str | None]) -> Document:
    if actor is None:
        return {}
    user: Document = {}
    if actor.id:
        user["id"] = actor.id
    if actor.email:
        user["email"] = actor.email
    if login := actor.email or actor.name:
        user["name"] = login
    if actor.name:
        user["full_name"] = actor.name
    people += (actor.id, actor.email, actor.name)
    return user


def _add_target(user: Document, document: Document, subject: Subject, people: list[str | None]) -> None:
    """The user and the group that were acted on, and the role that was given."""
    group = _identified(subject.group) if subject.group is not None else None
    if group:
        document["group"] = group
    if subject.user is None:
        return
    target = _identified(subject.user)
    name = target.get("name", "")
    if "@" in name:
        target["email"] = name
    people += (target.get("id"), name)
    if group:
        target["group"] = group
    if (role := subject.role_name) and subject.ocsf.activity_name in _GIVING:
        target["roles"] = [role]
    if target:
        user["target"] = target


def _identified(target: Target) -> Document:
    found: Document = {}
    if target.id:
        found["id"] = target.id
    if target.name:
        found["name"] = target.name
    return found


def _own(subject: Subject) -> Document:
    envelope = subject.envelope
    own: Document = {
        "type": envelope.type,
        "family": envelope.family,
        "source": envelope.source,
        "listing": envelope.listing,
        "known": envelope.known,
        "late": envelope.late,
        "observed_at": envelope.observed_at,
    }
    if envelope.rules:
        own["rules"] = envelope.rules
    if (actor := envelope.actor) is not None:
        # Elastic's `type` is how somebody came in; who they are is ours.
        said: Document = {"type": actor.via, "kind": actor.type}
        own["actor"] = said
        if actor.api_key_id:
            said["api_key"] = {"id": actor.api_key_id}
        if actor.ja4:
            said["session"] = {"ja4": actor.ja4}
    if (project := envelope.project) is not None:
        own["project"] = {"id": project.id, "name": project.name}
    if envelope.targets:
        own["targets"] = msgspec.to_builtins(envelope.targets)
    if (body := payload(envelope)) is not None:
        held = orjson.Fragment(body)
        own["details"] = held if body[:1] == b"{" else {"value": held}
    return own
