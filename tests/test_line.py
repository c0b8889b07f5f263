"""The readable line: the right sentence for every type, and nothing in the data that could pass for something else."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.catalog import TYPES, lookup
from streamer.formats.line import MAX_NAME, STYLES, Span, plain, render, visible
from streamer.model import Actor, Geo, Project, Record, Seq, Target, encode_envelope
from tests import every_type, records
from tests.every_type import as_record, from_bytes, full, minimal, session

MAX_LINE = 1500


def line(record: Record) -> str:
    """The line, after what must hold for any."""
    spans = render(record)
    text = plain(spans)
    assert text.isprintable()
    assert len(text) <= MAX_LINE
    assert {kind for _, kind in spans} <= STYLES.keys()
    assert spans[1] == (spans[1][0], record_severity(spans))
    return text


def record_severity(spans: list[Span]) -> str:
    word = spans[1][0].strip()
    return "informational" if word == "info" else word


def said(event: dict[str, Any]) -> str:
    """The sentence of the line: without time, severity and place."""
    return line(as_record(event))[32:].split("  ")[0]


def test_the_line_of_the_readme() -> None:
    """Goal: an analyst reads what happened, in words and names. Method: an enriched role assignment."""
    envelope = as_record(full(TYPES["role.assignment.created"])).envelope
    envelope.actor = Actor("user", "user-1", "ana@acme.example", "Ana Silva", "session", ip="203.0.113.10")
    envelope.actor.geo = Geo("PT", None, "Lisboa")
    envelope.project = None
    envelope.targets = [
        Target("role", "role-api-project-owner", "Owner"),
        Target("service_account", "user-2", "build-bot"),
        Target("project", "proj_1", "Payments"),
    ]
    envelope.labels = {"actor_role": "owner", "network": "corp"}
    envelope.tags, envelope.rules, envelope.severity = ["new_country"], ["owner-granted"], "critical"
    assert line(Record(Seq(1), encode_envelope(envelope))) == (
        "2026-01-01 00:00:00Z  critical  Ana Silva (owner) gave the role Owner to build-bot in project Payments, "
        "from a new country  203.0.113.10 Lisboa PT (corp)  #owner-granted #new_country"
    )


def test_spans_tell_who_what_and_how_bad() -> None:
    """Goal: the caller can colour by meaning. Method: the kinds of the spans of one line, in order."""
    spans = render(as_record(full(TYPES["ip_allowlist.deleted"])))
    assert [kind for _, kind in spans if kind != "text"] == ["time", "critical", "actor", "thing", "thing", "place"]
    assert ("ana@acme.example", "actor") in spans
    assert ("Payments", "thing") in spans


@pytest.mark.parametrize(
    ("type", "payload", "sentence"),
    [
        ("api_key.created", {"id": "key_1"}, "created the API key key_1"),
        ("certificates.activated", {"certificates": [{"name": "A"}]}, "activated the certificates A"),
        (
            "certificates.activated",
            {"certificates": [{"name": name} for name in "ABCDE"]},
            "activated the certificates A, B, C and 2 more",
        ),
        (
            "certificates.deactivated",
            {"certificates": [{"name": "A"}, {"id": "B"}]},
            "deactivated the certificates A and B",
        ),
        (
            "invite.sent",
            {"id": "i", "data": {"email": "bo@acme.example", "role": "owner"}},
            "invited bo@acme.example as owner",
        ),
        ("invite.sent", None, "invited somebody"),
        ("login.succeeded", None, "logged in"),
        ("login.failed", {"error_code": "denied", "error_message": "No."}, "failed to log in: denied: No."),
        ("login.failed", None, "failed to log in"),
        ("scim.disabled", {"id": "org-1"}, "disabled SCIM"),
        (
            "user.updated",
            {"id": "user-2", "changes_requested": {"role": "owner"}},
            "updated the user user-2, role owner",
        ),
        ("user.updated", {"id": "user-2"}, "updated the user user-2"),
        (
            "role.assignment.created",
            {"principal_id": "group-1", "principal_type": "group"},
            "gave the role that is not named to the group group-1",
        ),
        ("role.assignment.deleted", None, "took the role that is not named from somebody"),
        (
            "role.bound_to_resource",
            {"role_id": "role-1", "resource_id": "c-1", "resource_type": "connector", "connector_name": "Drive"},
            "bound the role role-1 to connector Drive",
        ),
        (
            "checkpoint.permission.created",
            {"id": "p", "data": {"fine_tuned_model_checkpoint": "ft:x", "project_id": "proj_2"}},
            "gave proj_2 permission to use the checkpoint ft:x",
        ),
        ("tenant.user.looked_up", {"id": "user-2"}, "looked up the tenant's user user-2"),
        (
            "tenant.group.member.added",
            {"user_id": "user-2", "group_id": "group-1"},
            "added user-2 to the tenant's group group-1",
        ),
        ("tenant.session_revocation.started", None, "started to revoke sessions"),
        ("widget.frobnicated", {"id": "w-1"}, "did widget.frobnicated to w-1"),
        ("widget.frobnicated", None, "did widget.frobnicated"),
    ],
)
def test_sentences(type: str, payload: dict[str, Any] | None, sentence: str) -> None:
    """Goal: what happened reads as a sentence, with more or less known. Method: one of each kind of phrase."""
    event = minimal(lookup(type)) | {"actor": session(), type: payload}
    assert said(event) == f"ana@acme.example {sentence}"


def test_every_type_is_a_sentence() -> None:
    """Goal: no phrase has words of ours left in it. Method: every type, with all and with nothing."""
    for row in TYPES.values():
        for event in (full(row), minimal(row)):
            sentence = said(event)
            assert not re.search(r"[{}\[\]_]|  ", sentence.replace(row.type, "").translate(KEPT)), sentence
            assert sentence.startswith(("ana@acme.example ", "Somebody "))


KEPT = str.maketrans("", "", "_")


@pytest.mark.parametrize(
    ("actor", "who"),
    [
        (None, "Somebody"),
        (Actor(), "Somebody"),
        (Actor(name="Ana", email="a@b.example", id="user-1"), "Ana"),
        (Actor(email="a@b.example", id="user-1"), "a@b.example"),
        (Actor(id="user-1", api_key_id="key_1"), "user-1"),
        (Actor(api_key_id="key_1"), "API key key_1"),
    ],
)
def test_who(actor: Actor | None, who: str) -> None:
    """Goal: the best name there is. Method: actors with less and less."""
    record = records.record(8, actor=actor, project=None, labels={})
    assert line(record)[32:].startswith(f"{who} logged in")


def test_where_from() -> None:
    """Goal: address, city, country and named network; a key where nothing else is known. Method: two actors."""
    via_key = records.record(8, actor=Actor(id="user-1", api_key_id="key_1"), labels={}, project=None)
    assert line(via_key).endswith("user-1 logged in  key key_1")
    named = Actor(id="user-1", ip="203.0.113.1", geo=Geo("PT", "x", "Lisboa"))
    assert line(records.record(8, actor=named, labels={"network": "corp"}, project=None)).endswith(
        "logged in  203.0.113.1 Lisboa PT (corp)"
    )


def test_a_project_is_said_once() -> None:
    """Goal: no project twice. Method: the event's project is what was acted on, and is not."""
    row = TYPES["project.updated"]
    assert said(full(row) | {row.type: {"id": "proj_1"}}) == "ana@acme.example updated the project Payments"
    assert said(full(row) | {row.type: {"id": "proj_2"}}).endswith("updated the project proj_2 in project Payments")
    unnamed = records.record(2, project=Project())
    assert "in project" not in line(unnamed)


def test_notes() -> None:
    """Goal: rules, tags and lateness show, each once, not without end. Method: many of them."""
    text = line(records.record(8, rules=["a", "b"], tags=["b", "c"], late=True))
    assert text.endswith("  #a #b #c late")
    assert line(records.record(8, tags=[f"t{n}" for n in range(50)])).endswith("#t4 #t5 …")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Zoë 東京 \U0001f600", "Zoë 東京 \U0001f600"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("a\nb\r\x00\x7f\x85\u2028", "a\\x0ab\\x0d\\x00\\x7f\\x85\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("x" * 81, "x" * 79 + "…"),
        ("x" * 80, "x" * 80),
        ("\x00" * 80, "\\x00" * 19 + "\\x0…"),
    ],
)
def test_what_is_not_printable_is_shown_as_its_number(text: str, shown: str) -> None:
    """Goal: nothing moves the cursor, turns the text around or hides. Method: attacks, and the innocent beside them."""
    assert visible(text) == shown
    assert len(visible(text)) <= MAX_NAME


def test_every_type_in_every_shape() -> None:
    """Goal: no event of any type breaks or fools the line. Method: all hostile records."""
    for record in every_type.all_records():
        line(record)
    for record in every_type.samples():
        line(record)


ANY = st.text(max_size=100)


@given(ANY, ANY, ANY, st.lists(ANY, max_size=9))
@settings(deadline=None, max_examples=300)
def test_any_text(name: str, type: str, label: str, many: list[str]) -> None:
    """Goal: control and bidi characters never come out. Method: random Unicode wherever a text can stand; `line` checks."""
    record = records.record(
        3,
        type=type,
        actor=Actor(name, name, name, name, name, name, name, name, geo=Geo(label, label, label)),
        project=Project(label, name),
        targets=[Target(text, text, name) for text in many],
        labels={"network": label, "actor_role": label},
        tags=many,
        rules=many,
    )
    line(record)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None, max_examples=200)
def test_any_bytes(raw: bytes) -> None:
    """Goal: a line for anything upstream sends, and for anything that is no envelope. Method: random bytes as both."""
    line(from_bytes(raw))
    line(Record(Seq(1), raw))
