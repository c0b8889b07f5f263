"""Elastic Common Schema 9.4.0: one nested document an event.

`user` is who did it, `user.target` the user or service account that was acted on. What ECS has no field for stands under
`openai.audit`, in the words of Elastic's own integration where it has them; the payload is `openai.audit.details`, always an object,
which an index template maps as `flattened` (its keys are upstream's, without end, and may hold dots).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from streamer.catalog import SEVERITY_NUMBERS
from streamer.formats.line import sentence
from streamer.formats.subject import Subject, encode_json, ip_version, of_actor, one_line, original, payload
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
        acting = _acting(envelope.actor) if envelope.actor is not None else _NOBODY
        document |= acting.parts
        if subject.user is not None or subject.group is not None:
            _add_target(document, acting, subject)
        else:
            document |= acting.alone
        if envelope.tags:
            document["tags"] = envelope.tags
        if envelope.labels:
            document["labels"] = {name.replace(".", "_"): text for name, text in envelope.labels.items() if name}
        if envelope.rules:
            document["rule"] = {"name": envelope.rules[0]}
        document["openai"] = {"audit": _own(subject, acting)}
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


class _Acting(NamedTuple):
    """What an event says of its actor."""

    parts: Mapping[str, Any]
    """Of the document: where from. Among them `related` where there is an address."""
    alone: Mapping[str, Any]
    """Of the document, where nobody else was acted on: `user` and `related`."""
    user: Document
    people: Sequence[str]
    """Ids, e-mail addresses and names."""
    ip: Sequence[str]
    said: Any
    """`openai.audit.actor`"""


@of_actor
def _acting(actor: Actor) -> _Acting:
    parts: Document = {}
    ip = [actor.ip] if actor.ip and ip_version(actor.ip) is not None else []
    if ip:
        parts["related"] = _written({"ip": ip})
    if source := _source(actor, ip):
        parts["source"] = _written(source)
    if actor.user_agent:
        parts["user_agent"] = _written({"original": actor.user_agent})
    if actor.ja3:
        parts["tls"] = _written({"client": {"ja3": actor.ja3}})
    user = _user(actor)
    people = [text for text in (actor.id, actor.email, actor.name) if text]
    alone: Document = {}
    if user:
        alone["user"] = _written(user)
    if people:
        alone["related"] = _written(_related(ip, people))
    return _Acting(parts, alone, user, people, ip, _written(_said(actor)))


def _written(part: Document) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(part))


_NOBODY = _Acting({}, {}, {}, (), (), None)


def _related(ip: Sequence[str], people: Iterable[str]) -> Document:
    related: Document = {"ip": ip} if ip else {}
    return related | {"user": list(dict.fromkeys(people))}


def _source(actor: Actor, ip: Sequence[str]) -> Document:
    source: Document = {}
    if actor.ip:
        source["address"] = actor.ip
    if ip:
        source["ip"] = actor.ip
    if actor.geo is not None:
        _add_geography(source, actor.geo)
    return source


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


def _user(actor: Actor) -> Document:
    user: Document = {}
    if actor.id:
        user["id"] = actor.id
    if actor.email:
        user["email"] = actor.email
    if login := actor.email or actor.name:
        user["name"] = login
    if actor.name:
        user["full_name"] = actor.name
    return user


def _said(actor: Actor) -> Document:
    # Elastic's `type` is how somebody came in; who they are is ours.
    said: Document = {"type": actor.via, "kind": actor.type}
    if actor.api_key_id:
        said["api_key"] = {"id": actor.api_key_id}
    if actor.ja4:
        said["session"] = {"ja4": actor.ja4}
    return said


def _add_target(document: Document, acting: _Acting, subject: Subject) -> None:
    """The user and the group that were acted on, and the role that was given."""
    user, people = acting.user, acting.people
    group = _identified(subject.group) if subject.group is not None else None
    if group:
        document["group"] = group
    if subject.user is not None:
        target = _identified(subject.user)
        people = [*people, *target.values()]
        if "@" in (name := target.get("name", "")):
            target["email"] = name
        if group:
            target["group"] = group
        if (role := subject.role_name) and subject.ocsf.activity_name in _GIVING:
            target["roles"] = [role]
        if target:
            user = user | {"target": target}
    if user:
        document["user"] = user
    if people:
        document["related"] = _related(acting.ip, people)


def _identified(target: Target) -> Document:
    found: Document = {}
    if target.id:
        found["id"] = target.id
    if target.name:
        found["name"] = target.name
    return found


def _own(subject: Subject, acting: _Acting) -> Document:
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
    if acting.said is not None:
        own["actor"] = acting.said
    if (project := envelope.project) is not None:
        own["project"] = {"id": project.id, "name": project.name}
    if envelope.targets:
        own["targets"] = orjson.Fragment(encode_json(envelope.targets))
    if (body := payload(envelope)) is not None:
        held = orjson.Fragment(body)
        own["details"] = held if body[:1] == b"{" else {"value": held}
    return own
