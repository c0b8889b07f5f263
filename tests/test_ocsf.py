"""OCSF: every event clean under the validator, warnings counted, in both versions; and the facts in their attributes."""

import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.catalog import TYPES, lookup
from streamer.formats import make_format
from streamer.model import Envelope, Geo, Record, Seq, encode_envelope, from_epoch
from tests import every_type, records
from tests.every_type import ORGANIZATIONS, as_record, full, minimal, payload, session
from tests.shared_checks import ocsf_validator

OCSF = {version: make_format("ocsf", ORGANIZATIONS, version) for version in ("1.8.0", "1.9.0")}  # type: ignore[arg-type]
VERSIONS = tuple(OCSF)


@pytest.fixture(scope="module")
def validators() -> dict[str, Any]:
    return {version: ocsf_validator(version) for version in VERSIONS}


def event_of(record: Record, version: str = "1.8.0") -> Any:
    body = OCSF[version].encode(record)
    assert len(body.decode().splitlines()) == 1
    return json.loads(body)


def test_the_validator_sees_mistakes(validators: dict[str, Any]) -> None:
    """Goal: the judge works here as it does on its own. Method: a good event, spoiled in one place after the other."""
    good = event_of(as_record(full(TYPES["api_key.created"])))
    assert validators["1.8.0"].check(good) == []
    spoiled: dict[str, dict[str, Any]] = {
        "attribute_unknown": {"own": 1},
        "type_uid_incorrect": {"type_uid": 300403, "type_name": "Entity Management: Update"},
        "timestamp_not_milliseconds": {"time": 1_767_225_600},
        "attribute_enum_sibling_incorrect": {"severity": "Bad"},
        "attribute_wrong_type": {"message": 5},
        "constraint_failed": {"entity": {"type_id": 99}},
    }
    for code, change in spoiled.items():
        assert code in {found["code"] for found in validators["1.8.0"].check(good | change)}


@pytest.mark.parametrize("type", TYPES)
def test_every_type_in_every_shape(validators: dict[str, Any], type: str) -> None:
    """Goal: all types, full, minimal and hostile, are valid in both versions and keep the id, the type and the original text.
    Method: the validator, warnings counted, on every record."""
    for record in every_type.records_of(TYPES[type]):
        envelope = record.envelope
        for version, validator in validators.items():
            made = event_of(record, version)
            assert validator.check(made) == []
            metadata = made["metadata"]
            assert (metadata["uid"], metadata["event_code"]) == (envelope.id, envelope.type)
            raw = bytes(envelope.event).decode()
            assert made["raw_data"] == (json.loads(raw) if raw.startswith('"') else raw)
            details = json.loads(bytes(envelope.details))
            if details is not None:
                entity = made.get("entity")
                assert (entity["data"] if entity is not None else made["unmapped"]["details"]) == details


def test_every_sample(validators: dict[str, Any]) -> None:
    """Goal: published events are valid. Method: the validator on all of them, in both versions."""
    for record in every_type.samples():
        for version, validator in validators.items():
            assert validator.check(event_of(record, version)) == []


def test_classes_are_the_catalogues() -> None:
    """Goal: class, activity and status follow the row, severity the envelope. Method: every type's plain event."""
    for row in TYPES.values():
        event = full(row)
        if row.ocsf_when:  # as the row has it: no condition holds
            event[row.type] = payload(row) | {"changes_requested": {"role": "owner"}}
        made = event_of(as_record(event))
        variants = {variant.type_uid for variant in row.ocsf_when.values()}
        assert made["type_uid"] in {row.ocsf.type_uid, *variants}
        assert made["status_id"] == {"success": 1, "failure": 2, "unknown": 0}[row.outcome]
        assert made["severity"] == row.severity.capitalize()
    raised = event_of(records.record(1, severity="critical"))
    assert (raised["severity_id"], raised["severity"]) == (5, "Critical")


def test_the_facts_stand_in_their_attributes() -> None:
    """Goal: an analyst finds what happened where OCSF says. Method: one enriched event, attribute by attribute."""
    event = full(TYPES["role.assignment.created"])
    envelope = as_record(event).envelope
    assert envelope.actor is not None
    envelope.actor.name, envelope.actor.api_key_id = "Ana Silva", "key_1"
    envelope.actor.geo = Geo("PT", "Lisboa", "Lisboa", 64500, "Example Net", 38, -9.1)
    envelope.targets[1].name = "build@acme.example"
    envelope.rules, envelope.tags, envelope.severity = ["owner-granted"], ["escalation"], "critical"
    envelope.labels, envelope.late = {"network": "corp"}, True
    made = event_of(Record(Seq(1), encode_envelope(envelope)))
    assert json.loads(made.pop("raw_data")) == event
    assert made == {
        "activity_id": 1,
        "activity_name": "Assign Privileges",
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": 3005,
        "class_name": "User Access Management",
        "type_uid": 300501,
        "type_name": "User Access Management: Assign Privileges",
        "severity_id": 5,
        "severity": "Critical",
        "status_id": 1,
        "status": "Success",
        "time": 1_767_225_600_000,
        "message": "Ana Silva gave the role owner to build@acme.example in organization org-1 in project Payments",
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "OpenAI API Platform", "vendor_name": "OpenAI"},
            "uid": "audit_log-7f3c0a9d4be21c5588a0e6d1",
            "original_event_uid": "audit_log-7f3c0a9d4be21c5588a0e6d1",
            "event_code": "role.assignment.created",
            "original_time": "1767225600",
            "logged_time": 1_767_225_604_000,
            "log_name": "organization.audit_logs",
            "log_provider": "OpenAI",
            "tenant_uid": "org-acme",
            "labels": ["escalation"],
            "tags": [{"name": "network", "value": "corp"}],
        },
        "user": {
            "type_id": 1,
            "type": "User",
            "uid": "user-2",
            "name": "build@acme.example",
            "email_addr": "build@acme.example",
        },
        "privileges": ["role-api-organization-owner"],
        "resources": [{"uid": "org-1", "type": "organization"}],
        "src_endpoint": {
            "ip": "203.0.113.10",
            "location": {"country": "PT", "region": "Lisboa", "city": "Lisboa", "lat": 38.0, "long": -9.1},
            "autonomous_system": {"number": 64500, "name": "Example Net"},
            "fingerprints": [
                {"algorithm_id": 99, "algorithm": "JA3", "value": "a497151ce4338a12c4418c44d375173e"},
                {"algorithm_id": 99, "algorithm": "JA4", "value": "q13d0313h3_55b375c5d22e_c7319ce65786"},
            ],
        },
        "actor": {
            "user": {
                "type_id": 1,
                "type": "User",
                "uid": "user-1",
                "email_addr": "ana@acme.example",
                "name": "ana@acme.example",
                "full_name": "Ana Silva",
                "programmatic_credentials": [{"uid": "key_1", "type": "API Key"}],
            }
        },
        "http_request": {"user_agent": "Mozilla/5.0 (X11; Linux x86_64)"},
        "observables": [
            {"name": "src_endpoint.ip", "type_id": 2, "type": "IP Address", "value": "203.0.113.10"},
            {"name": "actor.user.email_addr", "type_id": 5, "type": "Email Address", "value": "ana@acme.example"},
        ],
        "unmapped": {
            "source": "acme",
            "listing": "organization",
            "project": {"id": "proj_1", "name": "Payments"},
            "via": "session",
            "late": True,
            "rules": ["owner-granted"],
            "targets": [
                {"type": "role", "id": "role-api-organization-owner", "name": "owner"},
                {"type": "user", "id": "user-2", "name": "build@acme.example"},
                {"type": "organization", "id": "org-1"},
            ],
            "details": event["role.assignment.created"],
        },
    }


@pytest.mark.parametrize(
    ("type", "said", "uids"),
    [
        ("role.assignment.created", {"principal_type": "group", "principal_id": "group-1"}, (300601, 300612)),
        ("role.assignment.deleted", {"principal_type": "group", "principal_id": "group-1"}, (300602, 300613)),
        ("tenant.role_assignment.created", {"principal_type": "user", "principal_id": "user-2"}, (300501, 300716)),
        ("tenant.role_assignment.created", {"group_id": "group-1", "principal_type": None}, (300601, 300612)),
        ("user.updated", {"changes_requested": {"role": "owner"}}, (300501, 300716)),
        ("user.updated", {"changes_requested": {}}, (300199, 300702)),
        ("service_account.updated", {"changes_requested": None}, (300199, 300702)),
        ("tenant.policy.attached", {"user_id": "user-2"}, (300107, 300710)),
        ("tenant.policy.attached", {}, (300403, 300403)),
        ("tenant.session_revocation.started", {"user_id": "user-2"}, (300202, 300202)),
        ("tenant.session_revocation.started", {}, (300499, 300499)),
        ("role.bound_to_resource", {"role_id": "role-1"}, (300403, 300806)),
        ("group.updated", {}, (300699, 300609)),
    ],
)
def test_what_a_payload_moves(type: str, said: dict[str, Any], uids: tuple[int, int]) -> None:
    """Goal: the class follows the payload where the row says so. Method: payloads on both sides of each condition, both versions."""
    row = TYPES[type]
    event = minimal(row) | {type: {"id": "x-1"} | said}
    made = tuple(event_of(as_record(event), version)["type_uid"] for version in VERSIONS)
    assert made == uids


@pytest.mark.parametrize(
    ("type", "said", "privileges"),
    [
        ("user.updated", {"id": "user-2", "changes_requested": {"role": "owner"}}, ["owner"]),
        ("role.assignment.created", {"id": "ra-1", "principal_type": "user", "principal_id": "u"}, ["ra-1"]),
        ("tenant.role_assignment.created", {"role_id": "role-1"}, ["role-1"]),
        ("tenant.role_assignment.created", None, ["Unknown"]),
        ("tenant.membership.revoked", None, ["membership"]),
    ],
)
def test_privileges(type: str, said: dict[str, Any] | None, privileges: list[str]) -> None:
    """Goal: what was given or taken, as far as upstream tells. Method: payloads with less and less in them."""
    assert event_of(as_record(minimal(TYPES[type]) | {type: said}))["privileges"] == privileges


def test_lists_stay_one_event() -> None:
    """Goal: one record is one event, so that its id stays an idempotency key. Method: payloads that are lists of one and of three."""
    row = TYPES["certificates.activated"]
    listed = [{"id": f"cert_{n}", "name": f"Cert {n}"} for n in range(3)]
    one, three = (
        event_of(as_record(minimal(row) | {row.type: {"certificates": listed[:count]}}))["entity"] for count in (1, 3)
    )
    assert one == {
        "type_id": 99,
        "type": "Certificate",
        "uid": "cert_0",
        "name": "Cert 0",
        "data": {"certificates": listed[:1]},
    }
    assert three == {"type_id": 99, "type": "Certificate", "name": "3 certificates", "data": {"certificates": listed}}


def test_what_is_not_known() -> None:
    """Goal: what a class requires and nobody says is carried as unknown, and nothing is made up. Method: types of four classes
    with nothing but the required facts."""
    nobody = {"type_id": 0, "type": "Unknown", "name": "Unknown"}
    made = {name: event_of(as_record(minimal(TYPES[name]))) for name in MINIMAL}
    assert made["login.failed"]["user"] == nobody
    assert made["api_key.deleted"]["entity"] == {"type_id": 99, "type": "API Key", "name": "Unknown"}
    assert made["group.deleted"]["group"] == {"name": "Unknown"}
    assert made["service_account.deleted"]["user"] == {"type_id": 4, "type": "Service", "name": "Unknown"}
    for event in made.values():
        assert not {"actor", "src_endpoint", "observables", "http_request"} & event.keys()


MINIMAL = ("login.failed", "api_key.deleted", "group.deleted", "service_account.deleted")


def test_a_failed_login() -> None:
    """Goal: code and message of a failure. Method: both there."""
    made = event_of(as_record(full(TYPES["login.failed"])))
    assert (made["status_id"], made["status_code"], made["status_detail"]) == (
        2,
        "error_code-value",
        "error_message-value",
    )


def test_who_logs_in_and_who_is_logged_out() -> None:
    """Goal: the user of an authentication is the actor, unless upstream names another. Method: a login, and revoked sessions."""
    login = event_of(as_record(full(TYPES["login.succeeded"])))
    assert (login["user"], login["service"]) == (login["actor"]["user"], {"name": "OpenAI API Platform"})
    row = TYPES["tenant.session_revocation.started"]
    revoked = event_of(as_record(full(row) | {row.type: {"user_id": "user-2"}}))
    assert (revoked["user"]["uid"], revoked["actor"]["user"]["uid"]) == ("user-2", "user-1")


def test_times_that_cannot_be() -> None:
    """Goal: a time before there were events is unknown, and upstream's number is kept. Method: both sides of the border."""
    for seconds, time in ((0, 0), (1100, 0), (99_999_999, 0), (100_000_000, 100_000_000_000)):
        made = event_of(as_record(minimal(TYPES["login.failed"]) | {"effective_at": seconds}))
        assert (made["time"], made["metadata"]["original_time"]) == (time, str(seconds))


def test_what_is_no_address_or_no_email() -> None:
    """Goal: masked and odd values are kept as names. Method: an address and an e-mail that OCSF would refuse."""
    event = minimal(TYPES["login.failed"]) | {"actor": session(ip_address="***", user={"email": "a***"})}
    made = event_of(as_record(event))
    assert made["src_endpoint"]["name"] == "***"
    assert made["actor"]["user"] == {"type_id": 1, "type": "User", "name": "a***"}
    assert "observables" not in made


def test_an_unknown_type(validators: dict[str, Any]) -> None:
    """Goal: tomorrow's type is an event by the words of its name. Method: one with a verb, one without, and the word Other."""
    for type, uid in (
        ("widget.revoked", 300409),
        ("widget.frobnicated", 300499),
        ("other.other", 300499),
        ("Other", 300499),
    ):
        event = {"id": "audit_log-1", "type": type, "effective_at": every_type.AT, type: {"id": "w-1", "name": "Other"}}
        for version in VERSIONS:
            made = event_of(as_record(event), version)
            assert made["type_uid"] == uid
            assert made["entity"]["uid"] == "w-1"
            assert validators[version].check(made) == []


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None, max_examples=200)
def test_any_line(validators: dict[str, Any], line: bytes) -> None:
    """Goal: no line breaks the format, even one that is no envelope. Method: random bytes as a line."""
    for version in VERSIONS:
        assert validators[version].check(event_of(Record(Seq(1), line), version)) == []


@given(
    st.sampled_from(sorted(Envelope.__struct_fields__)),
    st.none() | st.booleans() | st.integers(-1, 1) | st.text(max_size=8) | st.just([]) | st.just({}),
)
@settings(deadline=None, max_examples=200)
def test_a_field_that_redaction_took_or_masked(validators: dict[str, Any], field: str, value: Any) -> None:
    """Goal: an envelope that lacks a field, or has another kind in it, is still valid. Method: one field of a line replaced."""
    record = Record(Seq(1), orjson.dumps(orjson.loads(records.line(3)) | {field: value}))
    for version in VERSIONS:
        assert validators[version].check(event_of(record, version)) == []


TEXT = st.text(max_size=20)


@given(
    TEXT.filter(bool),
    TEXT,
    TEXT,
    TEXT,
    st.sampled_from(["user", "group", "service_account", "role", "policy", "Other"]),
)
@settings(deadline=None, max_examples=400)
def test_any_text(validators: dict[str, Any], type: str, ip: str, email: str, name: str, kind: str) -> None:
    """Goal: any Unicode in any place is valid. Method: random texts where upstream's and the enrichers' stand, on known and unknown
    types."""
    for known in (type, *list(TYPES)[len(type) % 5 :: 37]):
        row = lookup(known)
        event = minimal(row) | {
            "type": known,
            "actor": {"type": name, "session": {"ip_address": ip, "user": {"email": email}, "ja3": name}},
            known: {"id": name, "name": email, "principal_type": kind, "principal_id": ip, "role_id": name},
        }
        record = as_record(event)
        for version in VERSIONS:
            assert validators[version].check(event_of(record, version)) == []


def test_it_takes_no_time_of_day_but_the_events() -> None:
    """Goal: a retry is byte for byte the same. Method: the same line, twice."""
    for version in VERSIONS:
        line = records.line(3, observed_at=from_epoch(every_type.AT))
        assert OCSF[version].encode(Record(Seq(1), line)) == OCSF[version].encode(Record(Seq(9), line))
        assert msgspec.json.decode(OCSF[version].encode(Record(Seq(1), line)))
