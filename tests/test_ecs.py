"""ECS: every document clean under the checker of ECS 9.4.0, and the facts in their fields."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.catalog import TYPES
from streamer.formats import make_format
from streamer.model import Envelope, Geo, Record, Seq, encode_envelope
from tests import every_type, records
from tests.every_type import ORGANIZATIONS, as_record, full, minimal, session
from tests.shared_checks import ecs_checker

ECS = make_format("ecs", ORGANIZATIONS)


@pytest.fixture(scope="module")
def checker() -> Any:
    return ecs_checker()


def document(record: Record) -> Any:
    body = ECS.encode(record)
    assert len(body.decode().splitlines()) == 1
    return json.loads(body)


def findings(checker: Any, record: Record) -> list[Any]:
    """Of the checker; that a very long value is stored and not indexed is ECS's own rule for it and no mistake."""
    return [found for found in checker.check(document(record)) if found["code"] != "longer_than_ignore_above"]


def test_the_checker_sees_mistakes(checker: Any) -> None:
    """Goal: the judge works here as it does on its own. Method: a document with five mistakes."""
    wrong = {
        "@timestamp": "2026-01-01T00:00:00Z",
        "event": {"kind": "event", "category": ["iam"], "type": ["start"], "outcome": "maybe"},
        "source": {"ip": "10.0.0.1"},
        "own": 1,
    }
    codes = {found["code"] for found in checker.check(wrong)}
    assert codes == {
        "required_missing",
        "value_not_allowed",
        "type_not_expected_for_category",
        "related_missing",
        "unknown_field",
    }


@pytest.mark.parametrize("type", TYPES)
def test_every_type_in_every_shape(checker: Any, type: str) -> None:
    """Goal: all types, full, minimal and hostile, are valid ECS that keeps the id, the type and the original bytes. Method: the
    checker on every record."""
    for record in every_type.records_of(TYPES[type]):
        envelope, made = record.envelope, document(record)
        assert findings(checker, record) == []
        event = made["event"]
        assert (event["id"], event["code"], event["outcome"]) == (envelope.id, envelope.type, envelope.outcome)
        raw = bytes(envelope.event).decode()
        assert event["original"] == (json.loads(raw) if raw.startswith('"') else raw)
        details = json.loads(bytes(envelope.details))
        held = made["openai"]["audit"].get("details")
        assert held == (details if isinstance(details, dict) or details is None else {"value": details})


def test_every_sample(checker: Any) -> None:
    """Goal: published events are valid ECS. Method: the checker on all of them."""
    assert [findings(checker, record) for record in every_type.samples() if findings(checker, record)] == []


def test_the_facts_stand_in_their_fields() -> None:
    """Goal: an analyst finds what happened where ECS says. Method: one enriched role assignment, field by field."""
    event = full(TYPES["role.assignment.created"])
    record = as_record(event)
    envelope = record.envelope
    assert envelope.actor is not None
    envelope.actor.name = "Ana Silva"
    envelope.actor.geo = Geo("PT", "Lisboa", "Lisboa", 64500, "Example Net", 38.0, -9.1)
    envelope.targets[1].name = "build@acme.example"
    envelope.rules, envelope.tags, envelope.severity = ["owner-granted"], ["escalation"], "critical"
    envelope.labels = {"network": "corp", "ip.scope": "public"}
    made = document(Record(Seq(1), encode_envelope(envelope)))
    original = made["event"].pop("original")
    assert json.loads(original) == event
    assert made == {
        "@timestamp": "2026-01-01T00:00:00Z",
        "ecs": {"version": "9.4.0"},
        "message": "Ana Silva gave the role owner to build@acme.example in organization org-1 in project Payments",
        "event": {
            "kind": "event",
            "category": ["iam"],
            "type": ["user", "change"],
            "action": "role-assignment-created",
            "code": "role.assignment.created",
            "outcome": "success",
            "id": "audit_log-7f3c0a9d4be21c5588a0e6d1",
            "provider": "OpenAI",
            "module": "openai",
            "dataset": "openai.audit",
            "severity": 10,
            "created": "2026-01-01T00:00:04Z",
        },
        "log": {"level": "critical"},
        "observer": {"vendor": "OpenAI", "product": "OpenAI API Platform"},
        "organization": {"id": "org-acme"},
        "related": {
            "ip": ["203.0.113.10"],
            "user": ["user-1", "ana@acme.example", "Ana Silva", "user-2", "build@acme.example"],
        },
        "source": {
            "address": "203.0.113.10",
            "ip": "203.0.113.10",
            "geo": {
                "country_iso_code": "PT",
                "region_name": "Lisboa",
                "city_name": "Lisboa",
                "location": {"lat": 38.0, "lon": -9.1},
            },
            "as": {"number": 64500, "organization": {"name": "Example Net"}},
        },
        "user_agent": {"original": "Mozilla/5.0 (X11; Linux x86_64)"},
        "tls": {"client": {"ja3": "a497151ce4338a12c4418c44d375173e"}},
        "user": {
            "id": "user-1",
            "email": "ana@acme.example",
            "name": "ana@acme.example",
            "full_name": "Ana Silva",
            "target": {
                "id": "user-2",
                "name": "build@acme.example",
                "email": "build@acme.example",
                "roles": ["owner"],
            },
        },
        "tags": ["escalation"],
        "labels": {"network": "corp", "ip_scope": "public"},
        "rule": {"name": "owner-granted"},
        "openai": {
            "audit": {
                "type": "role.assignment.created",
                "family": "role",
                "source": "acme",
                "listing": "organization",
                "known": True,
                "late": False,
                "observed_at": "2026-01-01T00:00:04Z",
                "rules": ["owner-granted"],
                "actor": {
                    "type": "session",
                    "kind": "user",
                    "session": {"ja4": "q13d0313h3_55b375c5d22e_c7319ce65786"},
                },
                "project": {"id": "proj_1", "name": "Payments"},
                "targets": [
                    {"type": "role", "id": "role-api-organization-owner", "name": "owner"},
                    {"type": "user", "id": "user-2", "name": "build@acme.example"},
                    {"type": "organization", "id": "org-1"},
                ],
                "details": event["role.assignment.created"],
            }
        },
    }


def test_a_group_that_gets_a_role() -> None:
    """Goal: the ECS type follows the principal. Method: the same assignment to a group and to a user."""
    row = TYPES["role.assignment.created"]
    to_group = full(row) | {row.type: every_type.payload(row) | {"principal_type": "group", "principal_id": "group-1"}}
    made = document(as_record(to_group))
    assert made["event"]["type"] == ["group", "change"]
    assert (made["group"], "target" in made["user"]) == ({"id": "group-1"}, False)


def test_a_member_of_a_group() -> None:
    """Goal: adding a user to a group is a change of the user, with the group. Method: a payload that names both."""
    row = TYPES["tenant.group.member.added"]
    made = document(as_record(full(row) | {row.type: {"user_id": "user-2", "group_id": "group-1"}}))
    assert made["event"]["type"] == ["user", "change"]
    assert made["user"]["target"] == {"id": "user-2", "group": {"id": "group-1"}}


def test_a_failed_login() -> None:
    """Goal: the outcome and its reason. Method: with a message, and with a code alone."""
    row = TYPES["login.failed"]
    made = document(as_record(full(row)))
    assert (made["event"]["outcome"], made["event"]["reason"]) == ("failure", "error_message-value")
    made = document(as_record(minimal(row) | {row.type: {"error_code": "denied"}}))
    assert made["event"]["reason"] == "denied"


def test_what_is_no_address() -> None:
    """Goal: a masked or odd address is kept and is not given out as an IP. Method: three of them."""
    for text in ("***", "256.1.1.1", "fe80::1%eth0"):
        made = document(as_record(minimal(TYPES["login.failed"]) | {"actor": session(ip_address=text)}))
        assert (made["source"]["address"], "ip" in made["source"], "related" in made) == (text, False, True)


def test_an_event_ahead_of_our_clock(checker: Any) -> None:
    """Goal: times stay in ECS's order. Method: an event that happened after it was seen."""
    ahead = as_record(minimal(TYPES["login.failed"]) | {"effective_at": every_type.AT + 3600})
    assert "created" not in document(ahead)["event"]
    assert findings(checker, ahead) == []


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_any_line(checker: Any, line: bytes) -> None:
    """Goal: no line breaks the format, even one that is no envelope. Method: random bytes as a line."""
    assert findings(checker, Record(Seq(1), line)) == []


@given(
    st.sampled_from(sorted(Envelope.__struct_fields__)),
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just([]) | st.just({}),
)
@settings(deadline=None, max_examples=300)
def test_a_field_that_redaction_took_or_masked(checker: Any, field: str, value: Any) -> None:
    """Goal: an envelope that lacks a field, or has another kind in it, is still valid ECS. Method: one field of a line replaced."""
    tree = orjson.loads(records.line(3)) | {field: value}
    try:
        line = orjson.dumps(tree)
    except TypeError:  # an integer that JSON can hold and this library cannot
        line = json.dumps(tree).encode()
    record = Record(Seq(1), line)
    assert findings(checker, record) == []
