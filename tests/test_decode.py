"""Decoding: every published sample, every oddity that is known of, and whatever hypothesis can think of."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jsonschema
import msgspec
import orjson
import pytest

from streamer.catalog import TYPES, lookup
from streamer.decode import (
    MAX_DEPTH,
    MAX_TYPE_CHARACTERS,
    MAX_UNKNOWN_FIELDS,
    Unknowns,
    decode_event,
    read_any,
    read_usual,
    to_envelope,
)
from streamer.model import (
    MAX_EPOCH_SECONDS,
    NO_DETAILS,
    Actor,
    Envelope,
    Event,
    Geo,
    Project,
    SourceName,
    Target,
    decode_envelope,
    encode_envelope,
)
from streamer.schema import envelope_schema
from streamer.simulator.company import make_company
from streamer.simulator.story import Story
from tests.shared_folder import find_shared

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Decoded(NamedTuple):
    event: Event
    envelope: Envelope
    unknowns: Unknowns | None

    @property
    def fields(self) -> tuple[str, ...]:
        return self.unknowns.fields if self.unknowns is not None else ()


def decoded(raw: bytes | dict[str, Any]) -> Decoded:
    """One record through both steps, with everything checked that holds for any bytes."""
    raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    event = decode_event(raw)
    assert event == decode_event(bytes(bytearray(raw)))
    assert event.raw == raw
    assert 0 < len(event.id) <= 512
    assert 0 < len(event.type) <= MAX_TYPE_CHARACTERS
    assert 0 <= event.effective_at <= MAX_EPOCH_SECONDS
    envelope, unknowns = to_envelope(event, source=SourceName("acme"), listing="tenant", observed_at=NOW, late=True)
    assert envelope.known == (unknowns is None)
    assert (envelope.id, envelope.type, envelope.late, envelope.listing) == (event.id, event.type, True, "tenant")
    if unknowns is not None:
        assert unknowns.type or unknowns.fields
        assert unknowns.type == (event.type not in TYPES)
        assert len(unknowns.fields) <= MAX_UNKNOWN_FIELDS
        assert all(path.isascii() and path.isprintable() and len(path) <= 200 for path in unknowns.fields)
    check_line(raw, encode_envelope(envelope))
    row = lookup(event.type)
    usual = read_usual(event, row)
    assert usual is None or usual == read_any(event, row)
    return Decoded(event, envelope, unknowns)


def check_line(raw: bytes, line: bytes) -> None:
    """The line is one, every reader reads it, it comes back as it went, and upstream's bytes are in it."""
    assert b"\n" not in line
    assert b"\r" not in line
    assert encode_envelope(decode_envelope(line)) == line
    tree = msgspec.json.decode(line)
    assert json.loads(line).keys() == orjson.loads(line).keys() == tree.keys()
    carried = raw.strip(b" \t\r\n").replace(b"\n", b" ").replace(b"\r", b" ")
    if not line.endswith(b'"event":' + carried + b"}"):
        assert isinstance(tree["event"], str)
        assert not tree["known"]
        assert raw in (tree["event"].encode(), tree["event"].encode("latin-1", "replace"))


def record(**more: Any) -> dict[str, Any]:
    """A plain event that the catalogue knows whole, with other fields in place of its own."""
    plain: dict[str, Any] = {
        "id": "audit_log-1",
        "type": "project.created",
        "effective_at": 1_722_461_446,
        "project.created": {"id": "proj_1", "data": {"name": "blue", "title": "Blue"}},
    }
    return {**plain, **more}


SAMPLES = path.read_bytes().splitlines() if (path := find_shared("data/sample_events.jsonl")) is not None else []
published = pytest.mark.skipif(not SAMPLES, reason="shared/data/sample_events.jsonl is not beside the repository")


def sample(number: int) -> Decoded:
    return decoded(SAMPLES[number - 1])


# --- published events --------------------------------------------------------------------------------------------------


@published
def test_every_sample_keeps_what_it_says() -> None:
    """Goal: no published event loses its facts. Method: all lines, compared with a plain reading of the same JSON."""
    assert len(SAMPLES) == 81
    for number, line in enumerate(SAMPLES, 1):
        said = json.loads(line)
        event, envelope, _ = decoded(line)
        assert (event.id, event.type) == (said["id"], said["type"]), number
        if number != 81:
            assert event.effective_at == said["effective_at"], number
        assert int(envelope.time.timestamp()) == event.effective_at, number
        payload = said.get(said["type"], said.get(said["type"].replace(".", "_")))
        assert json.loads(bytes(envelope.details)) == payload, number
        project = said.get("project")
        assert envelope.project == (Project(project["id"], project["name"]) if project else None), number


@published
def test_samples_that_the_catalogue_does_not_know_whole() -> None:
    """Goal: exactly the samples with something unknown are marked. Method: all lines; five types and eight fields are invented."""
    unknown = {number: sample(number).unknowns for number in range(1, 82)}
    assert {number: found for number, found in unknown.items() if found is not None} == {
        **dict.fromkeys((13, 14, 44, 45, 46), Unknowns(True, ())),
        47: Unknowns(False, ("details.name",)),
        **dict.fromkeys((58, 59, 62, 63, 64), Unknowns(False, ("details.data.name",))),
        81: Unknowns(False, ("effective_at",)),
    }


@published
def test_a_live_session() -> None:
    """Goal: fields that only the live API sends are read. Method: a captured login; its numbers come as text."""
    envelope = sample(5).envelope
    assert envelope.known
    assert envelope.actor == Actor(
        type="user",
        id="user-1bcdc0af84a31af3b42dff98",
        email="person1@example.com",
        via="session",
        ip="198.51.100.1",
        user_agent=json.loads(SAMPLES[4])["actor"]["session"]["user_agent"],
        ja3="353a03072e841d5004dfaa78561ccc70",
        ja4="t13d691100_8b2139ff7677_f0e8fcc46740",
        geo=Geo(country="IN", region="Example", city="Springfield", asn=55256, latitude=37.7749, longitude=-122.4194),
    )
    assert (envelope.family, envelope.action, envelope.outcome) == ("login", "succeeded", "success")
    assert (envelope.targets, envelope.details, envelope.project) == ([], NO_DETAILS, None)
    assert sample(10).envelope.project == Project("proj_ec6b85cb3bb60e7183359dbe", "Default project")


@published
@pytest.mark.parametrize(
    ("number", "actor"),
    [
        (1, Actor(type="user", id="user-xxx", email="user@example.com", via="api_key")),
        (15, None),
        (18, Actor(via="session")),
        (40, Actor(type="user", id="user-1", email="ada@example.com", via="api_key", api_key_id="key_1")),
        (42, Actor(type="service_account", id="sa_1", via="api_key", api_key_id="key_3")),
        (43, Actor(via="session", ip="10.0.0.9")),
        (48, Actor(type="user", id="user-2x4f", email="bob@example.com", via="session", ip="203.0.113.10")),
        (49, Actor(type="user", id="user-2x4f", email="bob@example.com", via="api_key", api_key_id="key_admin_xyz")),
        (79, Actor(type="service_account", id="sa-automation001", via="api_key", api_key_id="key-service001")),
        (80, Actor(type="user", id="user-abc123", email="admin@example.com")),
        (81, Actor(type="user", id="user_xyz", email="admin@example.com")),
    ],
)
def test_actors(number: int, actor: Actor | None) -> None:
    """Goal: who did it, by which way, in every published form. Method: one sample of each."""
    assert sample(number).envelope.actor == actor


@published
@pytest.mark.parametrize(
    ("number", "targets"),
    [
        (2, [Target("api_key", "key_xxxx")]),
        (12, [Target("project", "proj_123", "Test")]),
        (15, []),
        (22, [Target("invite", "inv-123", "test@example.com")]),
        (24, []),
        (28, [Target("organization", "org-123", "New Name")]),
        (30, [Target("project", "proj-123", "Updated Title")]),
        (44, [Target("quantum", "qbit_1")]),
        (
            51,
            [
                Target("role", "role-api-organization-owner", "owner"),
                Target("user", "user-newadmin456"),
                Target("organization", "org-abc123"),
            ],
        ),
        (
            53,
            [
                Target("role", "role-api-organization-owner", "owner"),
                Target("group", "group-engineering001"),
                Target("organization", "org-abc123"),
            ],
        ),
        (56, [Target("role", "role-api-organization-owner", "owner"), Target("user", "user-oldadmin999")]),
        (70, [Target("ip_allowlist", "ipallow_org-abc123", "Corporate VPN")]),
        (71, [Target("ip_allowlist", "ipallow_org-abc123", "Corporate VPN")]),
        (78, [Target("scim", "org-abc123")]),
        (80, [Target("api_key", "key-abc123")]),
        (81, []),
    ],
)
def test_targets(number: int, targets: list[Target]) -> None:
    """Goal: what was acted on, with the payload in each of its places. Method: one sample of each."""
    assert sample(number).envelope.targets == targets


@published
def test_the_two_samples_that_contradict_the_spec() -> None:
    """Goal: an actor of type `user` and a time in ISO 8601 are understood. Method: lines 80 and 81."""
    eighty, eighty_one = sample(80), sample(81)
    assert eighty.envelope.known
    assert eighty.envelope.project == Project("proj-abc123", "Production")
    assert (eighty_one.envelope.known, eighty_one.fields) == (False, ("effective_at",))
    assert eighty_one.envelope.time == datetime(2026, 1, 30, 10, tzinfo=UTC)
    assert eighty_one.envelope.details == NO_DETAILS


@published
def test_samples_conform_to_the_published_schema() -> None:
    """Goal: `schema envelope` describes what we write. Method: every sample's line against it, with formats checked."""
    validator = jsonschema.Draft202012Validator(envelope_schema(), format_checker=jsonschema.FormatChecker())
    for line in SAMPLES:
        validator.validate(json.loads(encode_envelope(decoded(line).envelope)))
    broken = {**json.loads(encode_envelope(decoded(record()).envelope)), "severity": "fatal"}
    assert [error.json_path for error in validator.iter_errors(broken)] == ["$.severity"]


def test_the_schema_describes_every_field() -> None:
    """Goal: no field of the envelope is without words. Method: all definitions of the schema."""
    schema = envelope_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, definition in schema["$defs"].items():
        for field, described in definition["properties"].items():
            assert described.get("description"), f"{name}.{field}"
    assert set(schema["$defs"]["Envelope"]["required"]) == set(Envelope.__struct_fields__)


# --- facts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_id", "expected"),
    [
        ("audit_log-x", "audit_log-x"),
        ("a\u0000b\nc\u2028", "a\u0000b\nc\u2028"),
        ("ü🙂", "ü🙂"),
        (" ", " "),
        (17, "17"),
        (-1, "-1"),
        (10**30, str(10**30)),
        ("x" * 512, "x" * 512),
    ],
)
def test_ids_of_any_form_are_kept(given_id: object, expected: str) -> None:
    """Goal: upstream's id stays the idempotency key whatever it looks like. Method: odd ids."""
    event, envelope, unknowns = decoded(record(id=given_id))
    assert event.id == expected
    assert envelope.known == isinstance(given_id, str)
    assert unknowns is None or unknowns.fields == ("id",)


@pytest.mark.parametrize("unusable", [None, "", "x" * 513, 10**600, True, 1.5, [], {}, ["id"], "\ud800"])
def test_an_unusable_id_is_replaced_by_the_hash_of_the_bytes(unusable: object) -> None:
    """Goal: an event without an id has a stable one. Method: values that are no id."""
    raw = json.dumps(record(id=unusable)).encode()
    event, _, unknowns = decoded(raw)
    assert event.id == f"sha256-{hashlib.sha256(raw).hexdigest()}"
    assert (event.type, event.effective_at) == ("project.created", 1_722_461_446)
    assert unknowns is not None
    assert "id" in unknowns.fields


@pytest.mark.parametrize(
    ("value", "seconds", "known"),
    [
        (0, 0, True),
        (1_722_461_446, 1_722_461_446, True),
        (MAX_EPOCH_SECONDS, MAX_EPOCH_SECONDS, True),
        (1_722_461_446.9, 1_722_461_446, False),
        ("1722461446", 1_722_461_446, False),
        ("2024-07-31T21:30:46Z", 1_722_461_446, False),
        ("2024-07-31T23:30:46.5+02:00", 1_722_461_446, False),
        ("2024-07-31 21:30:46", 1_722_461_446, False),
        ("0001-01-01T00:00:00+23:59", 0, False),
        (MAX_EPOCH_SECONDS + 1, 0, False),
        (1_722_461_446_000, 0, False),
        (-1, 0, False),
        (10**30, 0, False),
        (1e300, 0, False),
        ("1" * 5000, 0, False),
        ("٣", 0, False),
        ("soon", 0, False),
        ("", 0, False),
        (True, 0, False),
        (None, 0, False),
        ([1], 0, False),
    ],
)
def test_effective_at_in_any_form(value: object, seconds: int, known: bool) -> None:
    """Goal: a time is read literally where it can be, is 0 where not, and is marked unless it is an integer. Method: odd times."""
    event, envelope, unknowns = decoded(record(effective_at=value))
    assert (event.effective_at, envelope.known) == (seconds, known)
    assert unknowns is None or unknowns.fields == ("effective_at",)


@pytest.mark.parametrize("value", [None, "", 5, ["a"], {"b": 1}, "t" * 257, "\udfff"])
def test_a_type_that_is_none(value: object) -> None:
    """Goal: an event without a type is an event. Method: values that are no type."""
    event, envelope, unknowns = decoded(record(type=value))
    assert (event.id, event.type) == ("audit_log-1", "unknown")
    assert (envelope.family, envelope.outcome, envelope.severity) == ("unknown", "unknown", "low")
    assert unknowns is not None
    assert unknowns.type
    assert {"type", "project.created"} <= set(unknowns.fields)


@pytest.mark.parametrize("raw", [b"5", b'"text"', b"null", b"true", b"[]", b'[{"id": "x"}]', b" {} ", b"1.50"])
def test_json_that_is_no_event_travels_as_it_is(raw: bytes) -> None:
    """Goal: a record that is JSON but not an event passes through. Method: other JSON."""
    event, envelope, unknowns = decoded(raw)
    assert event == Event(raw, event.id, "unknown", 0)
    assert event.id == f"sha256-{hashlib.sha256(raw).hexdigest()}"
    assert bytes(envelope.event) == raw.strip()
    assert unknowns == Unknowns(True, ("id", "type", "effective_at"))


# --- bytes that JSON readers refuse ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"<html>502</html>",
        b'{"id": "a", "type": "b", "effective_at": 1,',
        b'{"id": "a", "type": "b", "effective_at": 1} x',
        b'{"id": "a", "type": "b", "effective_at": 01}',
        b'{"id": "a", "type": "b", "effective_at": NaN}',
        b'{"id": "a\nb", "type": "b", "effective_at": 1}',
        b'{"id": "a\\q", "type": "b", "effective_at": 1}',
        b"{'id': 'a'}",
        b"\xff\xfe{\x00}\x00",
    ],
)
def test_what_is_not_json_travels_as_text(raw: bytes) -> None:
    """Goal: not a byte is lost of what is not JSON. Method: broken records."""
    event, envelope, unknowns = decoded(raw)
    text = json.loads(bytes(envelope.event))
    assert raw in (text.encode(), text.encode("latin-1", "replace"))
    assert event.id == f"sha256-{hashlib.sha256(raw).hexdigest()}"
    assert (event.type, event.effective_at, envelope.details) == ("unknown", 0, NO_DETAILS)
    assert unknowns == Unknowns(True, ("event", "id", "type", "effective_at"))


@pytest.mark.parametrize(
    ("broken", "title"),
    [
        (b'"Bl\xffue"', "Bl�ue"),
        (b'"Blue \\ud83d"', "Blue �"),
        (b'"\\udc00\\ud800"', "��"),
        (b'"Blue", "limit": 1e999', "Blue"),
        (b'"Blue", "deep": ' + b"[" * 200 + b"]" * 200, "Blue"),
        (b'"Blue", "deep": ' + b'[{"a":' * 50_000 + b"0" + b"}]" * 50_000, "Blue"),
        (b'"Blue", "long": ' + b"1" * 5000, "Blue"),
    ],
    ids=["not UTF-8", "half a pair", "pair turned round", "out of range", "deep", "very deep", "5,000 digits"],
)
def test_a_broken_value_costs_no_other(broken: bytes, title: str) -> None:
    """Goal: one bad value does not hide who did what. Method: an event with a value that strict readers refuse."""
    raw = json.dumps(record(object=0, actor={"type": "session"})).encode().replace(b'"Blue"', broken)
    event, envelope, unknowns = decoded(raw)
    assert (event.id, event.type, event.effective_at) == ("audit_log-1", "project.created", 1_722_461_446)
    assert isinstance(json.loads(bytes(envelope.event)), str)
    assert envelope.targets == [Target("project", "proj_1", title)]
    assert envelope.actor == Actor(via="session")
    assert unknowns is not None
    assert unknowns.fields[0] == "event"
    assert json.loads(bytes(envelope.details))["data"]["title"] == title


def test_the_deepest_record_that_is_carried() -> None:
    """Goal: the bound on nesting is exact, and brackets in strings do not count. Method: one level below and above."""
    room = MAX_DEPTH - 1  # the record itself is a level
    at_bound = decoded(record(extra=json.loads("[" * room + "]" * room)))
    assert bytes(at_bound.envelope.event).startswith(b"{")
    above = decoded(
        json.dumps(record(extra=0)).encode().replace(b'"extra": 0', b'"extra": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    )
    assert bytes(above.envelope.event).startswith(b'"')
    in_text = decoded(record(**{"project.created": {"id": '[{"\\' * 500}}))
    assert in_text.envelope.known
    many = decoded(record(**{"project.created": {"id": "p"}, "extra": [[]] * 500}))
    assert bytes(many.envelope.event).startswith(b"{")


def test_line_breaks_between_tokens_become_spaces() -> None:
    """Goal: an envelope is one line, and nothing but that changes. Method: an indented record with both kinds of line break."""
    raw = json.dumps(record(), indent=2).encode().replace(b"\n", b"\r\n")
    envelope = decoded(raw).envelope
    assert bytes(envelope.event) == raw.replace(b"\r\n", b"  ")
    assert envelope.known
    assert json.loads(bytes(envelope.details)) == record()["project.created"]


# --- what the catalogue knows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["project.created", "details", "project_created"])
def test_the_payload_in_each_of_its_places(key: str) -> None:
    """Goal: a payload is found and known under the type, under `details` and under the type with underscores. Method: each."""
    said = record()
    payload = said.pop("project.created")
    envelope = decoded({**said, key: payload}).envelope
    assert envelope.known
    assert envelope.targets == [Target("project", "proj_1", "Blue")]


def test_the_payload_that_counts() -> None:
    """Goal: the key named like the type wins; what else there is, is unknown; null counts as absent. Method: several at once."""
    both = decoded(record(details={"id": "other"}))
    assert (both.envelope.targets[0].id, both.fields) == ("proj_1", ("details",))
    absent = decoded(record(**{"project.created": None}, details={"id": "other"}))
    assert (absent.envelope.targets[0].id, absent.fields) == ("other", ())
    neither = decoded(record(**{"project.created": None}))
    assert (neither.envelope.details, neither.envelope.known) == (NO_DETAILS, True)
    frame = decoded(record(type="project", project={"id": "proj_1", "name": "Blue"}))
    assert frame.envelope.details == NO_DETAILS


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"new": 1}, ("new",)),
        ({"object": "organization.audit_log"}, ()),
        ({"object": 5}, ("object",)),
        ({"project": None, "actor": None}, ()),
        ({"project": {"id": "p", "region": "eu"}}, ("project.region",)),
        ({"project": "p"}, ("project",)),
        ({"actor": "ada"}, ("actor",)),
        ({"actor": {"session": {"user": {"id": 5, "mfa": True}}}}, ("actor.session.user.id", "actor.session.user.mfa")),
        ({"project.created": []}, ("details",)),
        ({"project.created": {"id": "p", "data": {"name": ["n"], "x": 1}}}, ("details.data.name", "details.data.x")),
        ({"rog\u00fce\n": 1}, ("rog?e?",)),
        ({f"f{number}": 1 for number in range(99)}, tuple(f"f{number}" for number in range(MAX_UNKNOWN_FIELDS))),
    ],
)
def test_unknown_fields_are_named(more: dict[str, Any], fields: tuple[str, ...]) -> None:
    """Goal: every unknown field has its path, a bounded number of them, in plain text. Method: one of each."""
    found = decoded(record(**more))
    assert found.fields == fields
    assert found.envelope.known == (not fields)


def test_a_list_keeps_all_that_fits() -> None:
    """Goal: one odd item costs no other; method: certificates of which one is fine, one has a number for a name, one a field that nobody knows, and one is
    no object; then a list that is none."""
    name = "certificates.activated"
    items = [{"id": "cert_1", "name": "root"}, {"id": "cert_2", "name": 2}, {"id": "cert_3", "Color-9_x": 1}, "cert_4"]
    plain = {"id": "audit_log-1", "type": name, "effective_at": 1_722_461_446}
    found = decoded({**plain, name: {"certificates": items}})
    assert found.envelope.targets == [
        Target("certificate", "cert_1", "root"),
        Target("certificate", "cert_2", "2"),
        Target("certificate", "cert_3"),
    ]
    fields = ("details.certificates[].name", "details.certificates[].Color-9_x", "details.certificates[]")
    assert found.fields == fields
    none = decoded({**plain, name: {"certificates": {"id": "cert_1"}}})
    assert none.envelope.targets == []
    assert none.fields == ("details.certificates",)


def test_numbers_for_text_and_text_for_numbers() -> None:
    """Goal: a value of the wrong kind is understood where it can be, and marked. Method: both ways round."""
    said = record(
        actor={"type": "session", "session": {"user": {"id": 5, "email": "a@example.com"}, "ip_address": False}},
        project={"id": 7.5, "name": None},
    )
    envelope = decoded(said).envelope
    assert envelope.actor == Actor(type="user", id="5", email="a@example.com", via="session")
    assert envelope.project == Project("7.5")
    limits = {"id": "rl", "changes_requested": {"max_tokens_per_1_minute": "100", "max_images_per_1_minute": 5}}
    found = decoded({**record(type="rate_limit.updated"), "rate_limit.updated": limits})
    assert found.fields == ("details.changes_requested.max_tokens_per_1_minute", "project.created")


@pytest.mark.parametrize(
    ("details", "geo"),
    [
        ({"asn": "AS13335", "latitude": "-90", "longitude": 180}, Geo(asn=13335, latitude=-90.0, longitude=180.0)),
        ({"asn": 4294967295, "latitude": 1.5}, Geo(asn=4294967295, latitude=1.5)),
        ({"asn": 4294967296, "latitude": "nan", "longitude": "1e9", "country": "DE"}, Geo(country="DE")),
        ({"asn": "x", "latitude": "north"}, None),
        ({"latitude": 10**30}, None),
        ({"region_code": "CA"}, None),
    ],
)
def test_geography_in_any_form(details: dict[str, Any], geo: Geo | None) -> None:
    """Goal: numbers as text or as numbers, and nothing that is no place. Method: good and bad coordinates."""
    envelope = decoded(record(actor={"session": {"ip_address": "192.0.2.1", "ip_address_details": details}})).envelope
    assert envelope.known
    assert envelope.actor == Actor(via="session", ip="192.0.2.1", geo=geo)


@pytest.mark.parametrize(
    ("said", "actor"),
    [
        ({}, None),
        ({"type": "system"}, Actor(type="system", via="system")),
        ({"type": "user"}, Actor(type="user")),
        (
            {"api_key": {"type": "service_account", "id": "k"}},
            Actor(type="service_account", via="api_key", api_key_id="k"),
        ),
        ({"type": "api_key", "api_key": {"type": "admin"}}, Actor(type="admin", via="api_key")),
        ({"type": "api_key", "api_key": {"id": "k"}}, Actor(via="api_key", api_key_id="k")),
        (
            {"type": "api_key", "session": {"user": {"id": "s"}}, "api_key": {"user": {"id": "k"}}},
            Actor(type="user", id="k", via="api_key"),
        ),
        (
            {"session": {"user": {"id": "s"}}, "api_key": {"id": "key", "user": {"id": "k"}}},
            Actor(type="user", id="s", via="session", api_key_id="key"),
        ),
        (
            {"api_key": {"type": "service_account", "service_account": {"id": "sa"}, "user": {"id": "u"}}},
            Actor(type="service_account", id="sa", via="api_key"),
        ),
        (
            {"api_key": {"type": "user", "service_account": {"id": "sa"}, "user": {"id": "u"}}},
            Actor(type="user", id="u", via="api_key"),
        ),
    ],
)
def test_odd_actors(said: dict[str, Any], actor: Actor | None) -> None:
    """Goal: an actor without a type, of an unknown one, or two at once, is the best reading of it. Method: one of each."""
    envelope = decoded(record(actor=said)).envelope
    assert (envelope.actor, envelope.known) == (actor, True)


@pytest.mark.parametrize(
    ("name", "payload", "targets"),
    [
        (
            "certificates.activated",
            {"certificates": [{"id": "c1", "name": "one"}, {"id": "c2"}, {}]},
            [Target("certificate", "c1", "one"), Target("certificate", "c2")],
        ),
        (
            "role.bound_to_resource",
            {"id": "ws__con", "role_id": "r", "resource_type": "chatgpt.connector", "connector_name": "Drive"},
            [Target("role", "r"), Target("connector", "ws__con", "Drive")],
        ),
        (
            "role.unbound_from_resource",
            {"id": "x", "resource_id": "y", "role_id": "r"},
            [Target("role", "r"), Target("resource", "y")],
        ),
        (
            "role.updated",
            {"id": "r", "changes_requested": {"role_name": "Ops", "resource_id": "p", "resource_type": "api.project"}},
            [Target("role", "r", "Ops"), Target("project", "p")],
        ),
        ("role.assignment.created", {"id": "opaque", "principal_id": "u"}, [Target("principal", "u")]),
        (
            "checkpoint.permission.created",
            {"id": "cp", "data": {"fine_tuned_model_checkpoint": "ft:x", "project_id": "p"}},
            [Target("checkpoint_permission", "cp"), Target("checkpoint", "ft:x"), Target("project", "p")],
        ),
        (
            "workload_identity_provider_mapping.deleted",
            {"id": "m", "identity_provider_id": "i", "project_id": "p", "service_account_id": "s"},
            [
                Target("workload_identity_mapping", "m"),
                Target("workload_identity_provider", "i"),
                Target("project", "p"),
                Target("service_account", "s"),
            ],
        ),
        (
            "external_storage.registered",
            {"id": "e", "data": {"provider": {"type": "azure", "container": "logs"}}},
            [Target("external_storage", "e", "logs")],
        ),
        (
            "tenant.sso_connection.created",
            {"id": "sso", "name": "Okta", "x": 1},
            [Target("sso_connection", "sso", "Okta")],
        ),
        ("tenant.policy.deleted", ["p"], []),
        ("resource.deleted", {"id": 5}, [Target("resource", "5")]),
    ],
)
def test_targets_of_payloads_without_a_plain_id(name: str, payload: object, targets: list[Target]) -> None:
    """Goal: lists, composite ids, several things at once, open payloads. Method: one of each."""
    said = record(type=name)
    del said["project.created"]
    envelope = decoded({**said, name: payload}).envelope
    assert (envelope.targets, envelope.known) == (targets, True)


def test_a_session_and_a_key_are_read_whole() -> None:
    """Goal: no fact about who acted is lost. Method: every field of each, different from all others, with latitudes and longitudes at their ends."""
    where = {"country": "PT", "region": "North", "city": "Porto", "asn": "64500", "latitude": "-90", "longitude": 180}
    session = {
        "user": {"id": "user-1", "email": "ana@acme.example"},
        "ip_address": "203.0.113.7",
        "user_agent": "curl/8",
        "ja3": "a497",
        "ja4": "t13d",
        "ip_address_details": where,
    }
    geo = Geo(country="PT", region="North", city="Porto", asn=64500, latitude=-90.0, longitude=180.0)
    by_session = Actor(
        type="user",
        id="user-1",
        email="ana@acme.example",
        via="session",
        ip="203.0.113.7",
        user_agent="curl/8",
        ja3="a497",
        ja4="t13d",
        geo=geo,
    )
    found = decoded(record(actor={"type": "session", "session": session})).envelope
    assert (found.actor, found.known) == (by_session, True)
    holder = {"id": "user-2", "email": "bo@acme.example"}
    key = {"type": "api_key", "api_key": {"id": "key_1", "type": "user", "user": holder}}
    assert decoded(record(actor=key)).envelope.actor == Actor(
        type="user", id="user-2", email="bo@acme.example", via="api_key", api_key_id="key_1"
    )
    beyond = {"type": "session", "session": {"ip_address_details": {**where, "latitude": 90.1, "longitude": -180.1}}}
    actor = decoded(record(actor=beyond)).envelope.actor
    assert actor is not None
    assert actor.geo == msgspec.structs.replace(geo, latitude=None, longitude=None)


def test_a_union_by_its_tag() -> None:
    """Goal: the storage providers are told apart, and a new one is named. Method: a foreign field, and a foreign provider."""
    said = record(type="external_storage.registered")
    del said["project.created"]

    def fields(provider: object) -> tuple[str, ...]:
        return decoded({**said, "details": {"id": "e", "data": {"provider": provider}}}).fields

    assert fields({"type": "aws", "bucket": "b", "role_arn": "r"}) == ()
    assert fields({"type": "aws", "container": "b"}) == ("details.data.provider.container",)
    assert "details.data.provider.type" in fields({"type": "tape"})
    assert "details.data.provider.type" in fields({"bucket": "b"})
    assert fields("aws") == ("details.data.provider",)


def test_both_places_of_scopes_are_known() -> None:
    """Goal: `api_key.updated` with scopes where the schema and where the example has them. Method: both."""
    said = record(type="api_key.updated")
    del said["project.created"]
    for place in ("data", "changes_requested"):
        assert decoded({**said, "api_key.updated": {"id": "k", place: {"scopes": ["a.b"]}}}).envelope.known


@pytest.mark.parametrize("name", TYPES)
def test_every_type_with_the_least_payload(name: str) -> None:
    """Goal: each row decodes without its payload, with an empty one and with null. Method: all types."""
    row = TYPES[name]
    for payload in ({}, None):
        envelope = decoded({"id": "a", "type": name, "effective_at": 1, name: payload}).envelope
        assert (envelope.known, envelope.targets) == (True, [])
        assert (envelope.family, envelope.severity, envelope.outcome) == (row.family, row.severity, row.outcome)


def test_the_simulators_company_is_known_whole() -> None:
    """Goal: what the simulator tells of every type, the decoder knows, targets included. Method: a history with each type in it."""
    story = Story(make_company(3, 1_700_000_000), 3, "company")
    seen = set()
    for _, event in story.history(1000, 1_690_000_000, 1_700_000_000, lambda at, _: at):
        found = decoded(event.raw)
        assert (found.event, found.unknowns) == (event, None)
        assert read_usual(event, lookup(event.type)) is not None
        assert found.envelope.targets or found.envelope.family in {"login", "logout"}, event.type
        seen.add(event.type)
    assert seen == set(TYPES)
