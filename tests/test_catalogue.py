"""The catalogue against the official SDK, the published mapping and itself."""

import csv
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer import catalog
from streamer.catalog import OCSF_STATUS, SEVERITY_NUMBERS, TYPES, EventType, TargetAt, lookup
from streamer.catalog.derive import _ACTIVITIES  # what the row can mean is checked against OCSF's own schema
from streamer.catalog.payloads import assigned_role
from tests import drift
from tests.shared_folder import shared_file, shared_json

BEYOND_THE_SDK = {
    "Every event": {
        "object",
        "actor.session.user_agent",
        "actor.session.ja3",
        "actor.session.ja4",
        "actor.session.ip_address_details",
        *(
            f"actor.session.ip_address_details.{name}"
            for name in ("country", "city", "region", "region_code", "asn", "latitude", "longitude")
        ),
        "actor.user",
        "actor.user.id",
        "actor.user.email",
    },
    "Type api_key.updated": {"data", "data.scopes", "data.scopes[]"},
}


def test_nothing_of_the_sdk_is_missing() -> None:
    """Goal: every type, field, nested field and kind of the installed SDK is in the catalogue. Method: both as shapes, compared."""
    theirs = drift.sdk()
    assert len(theirs.payloads) == 149
    assert drift.findings(theirs, drift.catalogue()) == []


def test_nothing_is_there_beyond_the_sdk_but_what_is_listed() -> None:
    """Goal: no field or type is invented. Method: the comparison the other way round gives exactly the closed list above."""
    extra: dict[str, set[str]] = {}
    for sentence in drift.findings(drift.catalogue(), drift.sdk()):
        subject, found, rest = sentence.partition(" has a new field ")
        assert found, sentence
        extra.setdefault(subject, set()).add(rest.split(" (")[0])
    assert extra == BEYOND_THE_SDK


def test_rows_stand_in_the_order_of_the_sdk() -> None:
    """Goal: a newcomer finds a row where the SDK has it. Method: the two lists are equal."""
    assert list(TYPES) == list(drift.sdk().payloads)


def test_drift_names_a_missing_type() -> None:
    """Goal: a type that a newer SDK has is named with its fields. Method: a catalogue without that row."""
    rows = {name: row for name, row in TYPES.items() if name != "group.created"}
    found = drift.findings(drift.sdk(), drift.catalogue(rows))
    assert found == [
        "Type group.created is new (payload fields: id, data, data.group_name): add a row to streamer/catalog/rows.py."
    ]


@pytest.mark.parametrize(
    ("name", "payload", "sentence"),
    [
        (
            "role.deleted",
            msgspec.defstruct("Empty", []),
            "Type role.deleted has a new field id (string).",
        ),
        (
            "role.deleted",
            msgspec.defstruct("Number", [("id", int | None, None)]),
            "Type role.deleted has field id as string; the catalogue has it as integer.",
        ),
        (
            "invite.sent",
            msgspec.defstruct("Short", [("id", str), ("data", msgspec.defstruct("Data", [("email", str)]))]),
            "Type invite.sent has a new field data.role (string).",
        ),
    ],
)
def test_drift_names_a_field_that_is_missing_or_of_another_kind(
    name: str, payload: type[msgspec.Struct], sentence: str
) -> None:
    """Goal: fields are compared recursively, kinds too. Method: one row's payload replaced by a poorer one."""
    rows = {**TYPES, name: msgspec.structs.replace(TYPES[name], payload=payload)}
    assert drift.findings(drift.sdk(), drift.catalogue(rows)) == [sentence]


def test_drift_names_a_payload_that_has_become_documented() -> None:
    """Goal: an open payload that the SDK describes now is named. Method: one documented row made open."""
    rows = {**TYPES, "scim.enabled": msgspec.structs.replace(TYPES["scim.enabled"], documented=False)}
    found = drift.findings(drift.sdk(), drift.catalogue(rows))
    assert found == ["Type scim.enabled has a documented payload now: id."]


def test_drift_names_a_field_of_the_frame() -> None:
    """Goal: a new field of the actor is seen too. Method: the frame without one field."""
    ours = drift.catalogue()
    poorer = {path: kind for path, kind in ours.frame.items() if path != "actor.api_key.service_account.id"}
    assert drift.findings(drift.sdk(), ours._replace(frame=poorer)) == [
        "Every event has a new field actor.api_key.service_account.id (string)."
    ]


def test_drift_runs_as_a_command() -> None:
    """Goal: `make drift` says that nothing is missing, exit 0. Method: the command itself."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.drift"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The catalogue has all that openai 3.54.0 has.\n"


def columns(row: EventType) -> dict[str, object]:
    """A row as the published mapping writes it."""
    numbers = SEVERITY_NUMBERS[row.severity]
    entity_id, entity = row.entity or ("", "")
    return {
        "type": row.type,
        "reference59": "yes" if row.reference else "no",
        "family": row.family,
        "typed_payload": "yes" if row.documented else "no",
        "ocsf_class_uid": row.ocsf.class_uid,
        "ocsf_class": row.ocsf.class_name,
        "ocsf_activity_id": row.ocsf.activity_id,
        "ocsf_activity_name": row.ocsf.activity_name,
        "ocsf_type_uid": row.ocsf.type_uid,
        "ocsf_status_id": OCSF_STATUS[row.outcome],
        "ocsf_severity_id": numbers.ocsf,
        "ocsf_severity": row.severity.capitalize(),
        "ocsf_entity_type_id": entity_id,
        "ocsf_entity_type": entity,
        "ocsf_1_9": f"{row.ocsf_1_9.class_uid}:{row.ocsf_1_9.activity_id}",
        "ecs_category": " ".join(row.ecs.category),
        "ecs_type": " ".join(row.ecs.type),
        "ecs_action": row.ecs.action,
        "ecs_outcome": row.outcome,
        "cef_signature": row.type,
        "cef_name": row.title,
        "cef_severity": numbers.cef,
        "leef_sev": numbers.leef,
        "syslog_severity": numbers.syslog,
        "otlp_severity_number": numbers.otlp,
    }


def test_every_column_of_the_mapping() -> None:
    """Goal: what the rules derive is what the published mapping says. Method: all 149 rows, every column but the two of remarks;
    `first_sdk` there names the first of five SDKs looked at, so ours, exact, may not be later."""
    with shared_file("data/mapping.csv").open(encoding="utf-8") as lines:
        mapping = list(csv.DictReader(lines))
    assert [line["type"] for line in mapping] == list(TYPES)
    for line in mapping:
        row = TYPES[line["type"]]
        ours = {name: str(value) for name, value in columns(row).items()}
        assert ours == {name: text for name, text in line.items() if name in ours}
        assert set(line) - set(ours) == {"first_sdk", "severity_source", "rule"}
        assert row.since is not None
        assert version_of(row.since) <= version_of(line["first_sdk"])


def test_since_and_listing_of_every_type() -> None:
    """Goal: the SDK version and the listing are right. Method: against the list made from all SDK versions."""
    listed = shared_json("data/event_types.json")["event_types"]
    theirs = {line["type"]: (line["since"], "tenant" if line["tenant"] else "organization") for line in listed}
    assert {name: (row.since, row.listing) for name, row in TYPES.items()} == theirs
    assert sum(row.reference for row in TYPES.values()) == 59


def test_ocsf_names_are_those_of_its_schema() -> None:
    """Goal: class and activity names exist in OCSF 1.8.0, variants too. Method: against its schema."""
    classes = shared_json("checks/ocsf/ocsf-1.8.0.json")["classes"]
    for class_uid, caption in catalog.OCSF_CLASSES.items():
        theirs = classes[str(class_uid)]
        assert theirs["caption"] == caption
        captions = theirs["attributes"]["activity_id"]["e"]
        assert {str(number): name for number, name in _ACTIVITIES[class_uid].items()}.items() <= captions.items()


def test_ocsf_1_9_names_are_those_of_its_schema() -> None:
    """Goal: class and activity names exist in OCSF 1.9, variants too. Method: every row against its schema."""
    classes = shared_json("checks/ocsf/ocsf-1.9.0-dev.json")["classes"]
    for row in TYPES.values():
        for event in (row.ocsf_1_9, *row.ocsf_1_9_when.values()):
            theirs = classes[str(event.class_uid)]
            assert event.class_name == theirs["caption"]
            if event.activity_id != catalog.OCSF_OTHER:
                assert theirs["attributes"]["activity_id"]["e"][str(event.activity_id)] == event.activity_name


def test_payload_dependent_classes() -> None:
    """Goal: a row says where a payload moves an event to. Method: one of each condition."""
    assert TYPES["role.assignment.created"].ocsf_when["group_principal"].type_uid == 300601
    assert TYPES["user.updated"].ocsf_when["no_role"] == catalog.Ocsf(3001, "Account Change", 99, "Update")
    assert TYPES["tenant.policy.detached"].ocsf_when["user_target"].activity_name == "Detach Policy"
    assert TYPES["api_key.created"].ocsf_when == {}


def _resolves(struct: type[msgspec.Struct], path: tuple[str, ...]) -> bool:
    """Whether a path ends at a text field or a text property."""
    step, *rest = path
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    if step not in fields:
        return not rest and isinstance(vars(struct).get(step), property)
    if not rest:
        return fields[step] == str | None
    inner = next(
        option for option in fields[step].__args__ if isinstance(option, type) and issubclass(option, msgspec.Struct)
    )
    return _resolves(inner, tuple(rest))


@pytest.mark.parametrize("row", TYPES.values(), ids=TYPES)
def test_targets_stand_where_the_row_says(row: EventType) -> None:
    """Goal: no target path leads nowhere. Method: each path followed through the payload's fields."""
    for at in row.targets:
        struct: Any = row.payload
        if at.each is not None:
            listed = next(field.type for field in msgspec.structs.fields(struct) if field.name == at.each)
            struct = listed.__args__[0].__args__[0]
        for path in (at.id, at.name, at.type_at):
            assert path is None or _resolves(struct, path), path
    assert row.targets or row.family in {"login", "logout"}


def test_an_unknown_type_is_understood_by_its_words() -> None:
    """Goal: tomorrow's type has a family, a class and a severity. Method: made-up names for each rule."""
    row = lookup("tenant.quantum_key.shared_box.revoked")
    assert (row.known, row.documented, row.reference, row.since) == (False, False, False, None)
    assert (row.family, row.action, row.listing) == ("tenant.quantum_key", "shared_box.revoked", "tenant")
    assert row.title == "Tenant: Quantum key shared box revoked"
    assert (row.ocsf.class_uid, row.ocsf.activity_id, row.severity) == (3004, 9, "medium")
    assert row.entity == (99, "Quantum Key Shared Box")
    assert row.ecs == catalog.Ecs(("configuration",), ("change",), "tenant-quantum_key-shared_box-revoked")
    assert row.targets == (TargetAt("quantum_key_shared_box", ("id",), ("name",)),)

    other = lookup("quantum.entangled")
    assert (other.ocsf.activity_id, other.ocsf.activity_name) == (99, "Entangled")
    assert (other.severity, other.ecs.type, other.outcome) == ("low", ("info",), "success")


@pytest.mark.parametrize(
    ("verb", "activity", "ecs", "severity"),
    [
        ("created", 1, "creation", "low"),
        ("upserted", 3, "change", "low"),
        ("attached", 3, "change", "low"),
        ("bound_to_thing", 3, "change", "low"),
        ("unbound_from_thing", 3, "change", "low"),
        ("deleted", 4, "deletion", "medium"),
        ("removed", 4, "deletion", "medium"),
        ("migrated", 5, "change", "low"),
        ("registered", 6, "creation", "low"),
        ("enabled", 8, "change", "low"),
        ("disabled", 9, "change", "medium"),
        ("archived", 9, "change", "low"),
        ("activated", 10, "change", "low"),
        ("deactivated", 11, "change", "medium"),
        ("frobnicated", 99, "info", "low"),
    ],
)
def test_verbs_of_unknown_types(verb: str, activity: int, ecs: str, severity: str) -> None:
    """Goal: the rule for unknown types, verb by verb. Method: a noun nobody has."""
    row = lookup(f"gizmo.{verb}")
    assert (row.ocsf.type_uid, row.ecs.type, row.severity) == (300400 + activity, (ecs,), severity)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "tenant", "tenant.", "tenant..", "a.", ".a", "x" * 5000, "a b.\x00\n|="]
)
def test_lookup_is_total(name: str) -> None:
    """Goal: no text breaks a lookup. Method: odd names."""
    row = lookup(name)
    assert (row.type, row.known) == (name, False)
    assert all(isinstance(text, str) for text in (row.family, row.action, row.title, row.ocsf.activity_name))


def test_lookup_remembers_no_more_than_its_bound() -> None:
    """Goal: hostile types cannot fill the memory. Method: more names than it holds, and very long ones."""
    for number in range(2000):
        lookup(f"hostile.{number}")
        lookup("long." + "x" * 200 + str(number))
    info = catalog._unknown.cache_info()
    assert info.currsize <= 512
    assert lookup("hostile.1999") is lookup("hostile.1999")


@pytest.mark.parametrize(
    ("assignment", "role"),
    [
        (
            "role_assignment_role-api-organization-owner__api-organization__org-1_user-2",
            ("role-api-organization-owner", "owner"),
        ),
        (
            "role_assignment_role-api-project-key-admin__api-project__proj_1_group-2",
            ("role-api-project-key-admin", "key-admin"),
        ),
        ("role_assignment_role-0af3__api-project__proj_1_user-2", ("role-0af3", None)),
        ("role_assignment_role-api-project-x", (None, None)),
        ("role_assignment_", (None, None)),
        ("something else", (None, None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_role_in_a_composite_assignment_id(assignment: str | None, role: tuple[str | None, str | None]) -> None:
    """Goal: the role's id and name are read out of the assignment's id, or nothing is. Method: published and made-up ids."""
    assert assigned_role(assignment) == role


def test_import_is_fast() -> None:
    """Goal: the catalogue costs a command no more than 40 ms. Method: the best of five fresh interpreters, after msgspec."""
    program = (
        "import time, streamer.model; t = time.process_time(); import streamer.catalog; print(time.process_time() - t)"
    )
    root = Path(__file__).parents[1]
    deadline = time.monotonic() + 60
    best = 9.0
    for _ in range(5):
        assert time.monotonic() < deadline
        best = min(best, float(subprocess.check_output([sys.executable, "-c", program], cwd=root, text=True)))
    assert best < 0.040


def version_of(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
