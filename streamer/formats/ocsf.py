"""Open Cybersecurity Schema Framework: one event a record, in 1.8.0 or 1.9.0, with no profile and no extension.

The catalogue says which class and activity a type is; here stands what each class asks for. What a class requires and the
record does not tell is carried as Unknown, which is OCSF's own rule. A payload that has no place in its class is in `unmapped`.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from streamer.catalog import OCSF_OTHER, OCSF_STATUS, SEVERITY_NUMBERS, Ocsf
from streamer.config import OcsfVersion
from streamer.formats.line import sentence
from streamer.formats.subject import (
    Subject,
    encode_json,
    ip_version,
    milliseconds,
    of_actor,
    one_line,
    original,
    payload,
)
from streamer.model import Actor, Envelope, Geo, Outcome, Record, Severity, Target

Part = dict[str, Any]

_PRODUCT = {"name": "OpenAI API Platform", "vendor_name": "OpenAI"}
_SERVICE = {"name": "OpenAI API Platform"}
_UNKNOWN = "Unknown"
_KINDS: Mapping[str | None, tuple[int, str]] = {
    None: (0, _UNKNOWN),
    "service_account": (4, "Service"),
    "user": (1, "User"),
    "workload_identity_principal": (4, "Service"),
}
_EMAIL = re.compile(r"[A-Za-z0-9!#$%&'*+,./=?^_`{|}~-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.-]+")
_LONGEST_EMAIL = 254
_LONGEST_IP = 40
_EARLIEST_MS = 100_000_000_000
"""In 1973. No event is older: what claims to be is carried as 0, OCSF's unknown."""


class OcsfFormat:
    """`organizations`: source to organization id, which no event carries."""

    def __init__(self, organizations: Mapping[str, str], version: OcsfVersion = "1.8.0") -> None:
        self._organizations = organizations
        self._version = version
        self._classes = _CLASSES if version == "1.8.0" else _CLASSES_1_9

    def encode(self, record: Record, /) -> bytes:
        subject = Subject(record)
        envelope = subject.envelope
        kind = subject.ocsf if self._version == "1.8.0" else subject.ocsf_1_9
        code, reason = subject.error
        time = milliseconds(envelope.time)
        event = self._classes[kind.class_uid](subject)
        event["time"] = time if time >= _EARLIEST_MS else 0
        event["message"] = sentence(subject)
        event["metadata"] = self._metadata(envelope, time)
        if code:
            event["status_code"] = code
        if reason:
            event["status_detail"] = reason
        acting = _acting(envelope.actor) if envelope.actor is not None else _NOBODY
        event |= acting.parts
        if kind.class_uid == _AUTHENTICATION and "user" not in event:
            # Who logs in is who acts, unless upstream names another (whose sessions were revoked).
            event["user"] = acting.user or _NAMELESS
        event["unmapped"] = _unmapped(subject, kind)
        if (text := original(envelope)) is not None:
            event["raw_data"] = text
        return _head(kind, envelope.severity, envelope.outcome) + one_line(orjson.dumps(event))[1:]

    def _metadata(self, envelope: Envelope, time: int) -> Part:
        logged = milliseconds(envelope.observed_at)
        metadata: Part = {
            "version": self._version,
            "product": _PRODUCT,
            "uid": envelope.id,
            "original_event_uid": envelope.id,
            "event_code": envelope.type,
            "original_time": str(time // 1000),
            "logged_time": logged if logged >= _EARLIEST_MS else 0,
            "log_name": "organization.audit_logs",
            "log_provider": "OpenAI",
        }
        if organization := self._organizations.get(envelope.source):
            metadata["tenant_uid"] = organization
        if envelope.tags:
            metadata["labels"] = envelope.tags
        if envelope.labels:
            metadata["tags"] = [{"name": name, "value": value} for name, value in envelope.labels.items()]
        return metadata


@lru_cache(maxsize=1024)
def _head(kind: Ocsf, severity: Severity, outcome: Outcome) -> bytes:
    """What follows from the class, the severity and the outcome: the beginning of the JSON object, up to a comma."""
    other = kind.activity_id == OCSF_OTHER
    head = {
        "activity_id": kind.activity_id,
        "activity_name": _own_word(kind.activity_name) if other else kind.activity_name,
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": kind.class_uid,
        "class_name": kind.class_name,
        "type_uid": kind.type_uid,
        "type_name": f"{kind.class_name}: {'Other' if other else kind.activity_name}",
        "severity_id": SEVERITY_NUMBERS[severity].ocsf,
        "severity": severity.capitalize(),
        "status_id": OCSF_STATUS[outcome],
        "status": outcome.capitalize(),
    }
    return one_line(orjson.dumps(head))[:-1] + b","


def _own_word(text: str) -> str:
    """Beside 99 stands the source's own word, and that may not be `Other`."""
    return text if text != "Other" else "Other (upstream's word)"


# --- who and where from ------------------------------------------------------------------------------------------------


class _Acting(NamedTuple):
    """What an event says of its actor."""

    parts: Mapping[str, orjson.Fragment]
    """To put into the event."""
    user: orjson.Fragment | None


@of_actor
def _acting(actor: Actor) -> _Acting:
    parts: dict[str, orjson.Fragment] = {}
    observables: list[Part] = []
    if endpoint := _endpoint(actor):
        parts["src_endpoint"] = _written(endpoint)
        if "ip" in endpoint:
            observables.append({"name": "src_endpoint.ip", "type_id": 2, "type": "IP Address", "value": endpoint["ip"]})
    user = _actor_user(actor)
    if user is not None:
        parts["actor"] = _written({"user": user})
        if "email_addr" in user:
            observables.append(
                {
                    "name": "actor.user.email_addr",
                    "type_id": 5,
                    "type": "Email Address",
                    "value": user["email_addr"],
                }
            )
    if actor.user_agent:
        parts["http_request"] = _written({"user_agent": actor.user_agent})
    if observables:
        parts["observables"] = _written(observables)
    return _Acting(parts, _written(user) if user is not None else None)


def _written(part: Any) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(part))


_NOBODY = _Acting({}, None)
_NAMELESS = _written({"name": _UNKNOWN, "type_id": 0, "type": _UNKNOWN})


def _actor_user(actor: Actor) -> Part | None:
    if not (actor.id or actor.email or actor.name or actor.api_key_id):
        return None
    type_id, type_name = _KINDS.get(actor.type) or (OCSF_OTHER, _own_word(actor.type or _UNKNOWN))
    user: Part = {"type_id": type_id, "type": type_name}
    if actor.id:
        user["uid"] = actor.id
    if actor.email and _is_email(actor.email):
        user["email_addr"] = actor.email
    if name := actor.email or actor.name:
        user["name"] = name
    elif not actor.id:
        user["name"] = _UNKNOWN
    if actor.name:
        user["full_name"] = actor.name
    if actor.api_key_id:
        user["programmatic_credentials"] = [{"uid": actor.api_key_id, "type": "API Key"}]
    return user


def _is_email(text: str) -> bool:
    return len(text) <= _LONGEST_EMAIL and _fits_email(text)


@lru_cache(maxsize=4096)
def _fits_email(text: str) -> bool:
    return _EMAIL.fullmatch(text) is not None


def _endpoint(actor: Actor) -> Part:
    endpoint: Part = {}
    if actor.ip:
        version = ip_version(actor.ip)
        if version is None:
            endpoint["name"] = actor.ip
        else:
            endpoint["ip"] = actor.ip if len(actor.ip) < _LONGEST_IP else ipaddress.ip_address(actor.ip).compressed
    if actor.geo is not None:
        _add_geography(endpoint, actor.geo)
    if actor.ja3 or actor.ja4:
        endpoint["fingerprints"] = [
            {"algorithm_id": OCSF_OTHER, "algorithm": name, "value": value}
            for name, value in (("JA3", actor.ja3), ("JA4", actor.ja4))
            if value
        ]
    if endpoint and not actor.ip:
        endpoint["name"] = _UNKNOWN
    return endpoint


def _add_geography(endpoint: Part, geo: Geo) -> None:
    location: Part = {}
    if geo.country:
        location["country"] = geo.country
    if geo.region:
        location["region"] = geo.region
    if geo.city:
        location["city"] = geo.city
    if location:
        if geo.latitude is not None and geo.longitude is not None:
            # 37 is no float to OCSF; 37.0 is.
            location["lat"], location["long"] = float(geo.latitude), float(geo.longitude)
        endpoint["location"] = location
    if geo.asn is not None:
        system: Part = {"number": geo.asn}
        if geo.as_name:
            system["name"] = geo.as_name
        endpoint["autonomous_system"] = system


# --- what each class asks for ------------------------------------------------------------------------------------------


def _account_change(subject: Subject) -> Part:
    event: Part = {"user": _target_user(subject)}
    if policies := [_named(target) for target in subject.envelope.targets if target.type == "policy"]:
        event["policies"] = policies
    return event


def _authentication(subject: Subject) -> Part:
    """`user` is the actor where it is not here."""
    event: Part = {"service": _SERVICE}
    if subject.user is not None:
        event["user"] = _target_user(subject)
    return event


def _entity_management(subject: Subject) -> Part:
    type_id, type_name = subject.row.entity or (OCSF_OTHER, subject.row.title)
    entity: Part = {"type_id": type_id, "type": _own_word(type_name)}
    many = subject.many
    if len(many) > 1:
        entity["name"] = f"{len(many)} {type_name.lower()}s"
    else:
        entity |= _named(many[0]) if many else {"name": _UNKNOWN}
    if (body := payload(subject.envelope)) is not None:
        entity["data"] = orjson.Fragment(body)
    return {"entity": entity}


def _user_access(subject: Subject) -> Part:
    return {"user": _target_user(subject), "privileges": _privileges(subject), **_resources(subject)}


def _group_management(subject: Subject) -> Part:
    event = _group(subject)
    if subject.user is not None:
        event["user"] = _target_user(subject)
    if (resource := subject.resource) is not None and subject.role is not None:
        event["resource"] = _resource(resource)
    return event


def _group_management_1_9(subject: Subject) -> Part:
    event = _group(subject)
    if subject.user is not None:
        event["users"] = [_target_user(subject)]
    if subject.role is not None:
        event |= {"iam_roles": [_named(subject.role)], **_resources(subject)}
    return event


def _group(subject: Subject) -> Part:
    event: Part = {"group": _named(subject.group) if subject.group is not None else {"name": _UNKNOWN}}
    if subject.role is not None:
        event["privileges"] = _privileges(subject)
    return event


def _user_management(subject: Subject) -> Part:
    event = _account_change(subject)
    if subject.row.ocsf.class_uid == _USER_ACCESS:
        event |= {"privileges": _privileges(subject), **_resources(subject)}
        if subject.role is not None:
            event["iam_roles"] = [_named(subject.role)]
        elif role := subject.role_name:
            event["iam_roles"] = [{"name": role}]
    return event


def _role_management(subject: Subject) -> Part:
    targets = subject.envelope.targets
    role = subject.role or (targets[0] if targets else None)
    return {"iam_role": _named(role) if role is not None else {"name": _UNKNOWN}, **_resources(subject)}


_AUTHENTICATION, _ENTITY_MANAGEMENT, _USER_ACCESS = 3002, 3004, 3005
_CLASSES: Mapping[int, Callable[[Subject], Part]] = {
    3001: _account_change,
    _AUTHENTICATION: _authentication,
    _ENTITY_MANAGEMENT: _entity_management,
    _USER_ACCESS: _user_access,
    3006: _group_management,
}
_CLASSES_1_9: Mapping[int, Callable[[Subject], Part]] = {
    _AUTHENTICATION: _authentication,
    _ENTITY_MANAGEMENT: _entity_management,
    3006: _group_management_1_9,
    3007: _user_management,
    3008: _role_management,
}


def _target_user(subject: Subject) -> Part:
    target = subject.user or subject.principal
    kind = subject.user.type if subject.user is not None else subject.row.noun
    type_id, type_name = _KINDS.get(kind) or _KINDS[None]
    user: Part = {"type_id": type_id, "type": type_name}
    if target is None:
        return user | {"name": _UNKNOWN}
    user |= _named(target)
    if target.name and _is_email(target.name):
        user["email_addr"] = target.name
    return user


def _privileges(subject: Subject) -> list[str]:
    """The role's id, as far as upstream tells: else the assignment's, which holds it; else what was given, by its name."""
    if subject.role is not None and (given := subject.role.id or subject.role.name):
        return [given]
    if role := subject.role_name:
        return [role]
    if subject.row.noun.endswith("assignment"):
        assignment = subject.details.get("id")
        return [assignment if isinstance(assignment, str) else _UNKNOWN]
    return [_UNKNOWN if subject.row.noun in _KINDS else subject.row.noun]


def _resources(subject: Subject) -> Part:
    return {"resources": [_resource(subject.resource)]} if subject.resource is not None else {}


def _resource(target: Target) -> Part:
    return _named(target) | {"type": target.type}


def _named(target: Target) -> Part:
    found: Part = {}
    if target.id:
        found["uid"] = target.id
    if target.name:
        found["name"] = target.name
    return found or {"name": _UNKNOWN}


# --- what no class has a place for -------------------------------------------------------------------------------------


def _unmapped(subject: Subject, kind: Ocsf) -> Part:
    envelope = subject.envelope
    unmapped: Part = {"source": envelope.source, "listing": envelope.listing}
    if (project := envelope.project) is not None:
        unmapped["project"] = {"id": project.id, "name": project.name}
    if envelope.actor is not None and envelope.actor.via:
        unmapped["via"] = envelope.actor.via
    if envelope.late:
        unmapped["late"] = True
    if envelope.rules:
        unmapped["rules"] = envelope.rules
    if len(envelope.targets) > 1:
        unmapped["targets"] = orjson.Fragment(encode_json(envelope.targets))
    if kind.class_uid != _ENTITY_MANAGEMENT and (body := payload(envelope)) is not None:
        unmapped["details"] = orjson.Fragment(body)
    return unmapped
