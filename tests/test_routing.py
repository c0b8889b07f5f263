"""What a sink sees: `where` and redaction. The property: nothing that a rule names is anywhere in the bytes."""

import hmac
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.config import FormatName, Redaction, SinkOptions, Where, parse
from streamer.errors import ConfigError
from streamer.formats import make_format
from streamer.formats.envelope import RawFormat
from streamer.model import FRAME_FIELDS, Actor, Project, Record, Seq, Target, decode_envelope
from streamer.routing import MASK, SHORT, compile_redaction, compile_where
from streamer.sinks import sink_options
from streamer.sources import source_options
from tests.records import envelope, record, records

KEY = b"0123456789abcdef"

# --- where -----------------------------------------------------------------------------------------------------------


def test_everything_passes_without_a_look_inside() -> None:
    """Goal: no condition costs nothing; method: conditions that exclude nothing compile to None."""
    assert compile_where(Where()) is None
    assert compile_where(Where(min_severity="informational")) is None
    assert compile_where(Where(all=[Where()], any=[Where(types=["x"]), Where()])) is None


@pytest.mark.parametrize(
    ("where", "changes", "passes"),
    [
        ({"types": ["login.failed"]}, {"type": "login.failed"}, True),
        ({"types": ["login.failed"]}, {"type": "login.failed.twice"}, False),
        ({"types": ["role.*"]}, {"type": "role.assignment.created"}, True),
        ({"types": ["role.*"]}, {"type": "roles.created"}, False),
        ({"types": ["*.created", "x"]}, {"type": "x"}, True),
        ({"types": ["*"]}, {"type": "a\nb"}, True),
        ({"types": ["[ab].*"]}, {"type": "a.b"}, False),
        ({"types": ["[ab].*"]}, {"type": "[ab].c"}, True),
        ({"families": ["role", "login"]}, {"family": "login"}, True),
        ({"families": ["role"]}, {"family": "login"}, False),
        ({"min_severity": "medium"}, {"severity": "medium"}, True),
        ({"min_severity": "medium"}, {"severity": "critical"}, True),
        ({"min_severity": "medium"}, {"severity": "low"}, False),
        ({"sources": ["acme"]}, {"source": "acme"}, True),
        ({"sources": ["acme"]}, {"source": "other"}, False),
        ({"listings": ["tenant"]}, {"listing": "organization"}, False),
        ({"projects": ["proj_1"]}, {"project": Project("proj_1", "Pay")}, True),
        ({"projects": ["Pay"]}, {"project": Project("proj_1", "Pay")}, True),
        ({"projects": ["Pay"]}, {"project": Project("proj_1")}, False),
        ({"projects": ["Pay"]}, {"project": None}, False),
        ({"outcome": "failure"}, {"outcome": "failure"}, True),
        ({"outcome": "failure"}, {"outcome": "unknown"}, False),
        ({"tags": ["a", "b"]}, {"tags": ["b", "c"]}, True),
        ({"tags": ["a"]}, {"tags": []}, False),
        ({"families": ["login"], "outcome": "failure"}, {"family": "login", "outcome": "success"}, False),
        ({"all": [{"tags": ["a"]}, {"tags": ["b"]}]}, {"tags": ["a", "b"]}, True),
        ({"all": [{"tags": ["a"]}, {"tags": ["b"]}]}, {"tags": ["a"]}, False),
        ({"any": [{"tags": ["a"]}, {"families": ["x"]}]}, {"family": "x"}, True),
        ({"any": [{"tags": ["a"]}, {"families": ["x"]}]}, {"family": "y"}, False),
        ({"none": [{"tags": ["a"]}, {"families": ["x"]}]}, {"family": "x"}, False),
        ({"none": [{"tags": ["a"]}, {"families": ["x"]}]}, {"family": "y"}, True),
        ({"none": [{}]}, {}, False),
        ({"types": ["a*"], "none": [{"types": ["ab*"], "any": [{"tags": ["t"]}]}]}, {"type": "abc"}, True),
        (
            {"types": ["a*"], "none": [{"types": ["ab*"], "any": [{"tags": ["t"]}]}]},
            {"type": "abc", "tags": ["t"]},
            False,
        ),
    ],
)
def test_conditions(where: dict[str, Any], changes: dict[str, Any], passes: bool) -> None:
    """Goal: every condition does what the configuration says; method: an envelope that meets it, and one that misses by a little."""
    condition = compile_where(Where.model_validate(where))
    assert condition is not None
    assert condition(envelope(1, **changes)) is passes


# --- redaction, case by case -----------------------------------------------------------------------------------------


def rules(*pairs: tuple[str, str]) -> list[Redaction]:
    return [Redaction.model_validate({"field": field, "with": how}) for field, how in pairs]


def redacted(line: Record, *pairs: tuple[str, str]) -> Any:
    redact = compile_redaction(rules(*pairs), KEY, "sinks.out")
    assert redact is not None
    result = redact(line)
    assert result.seq == line.seq
    assert b"\n" not in result.line
    assert decode_envelope(result.line).id == line.envelope.id, "it is still an envelope"
    return msgspec.json.decode(result.line)


def made(event: Any, details: Any = None, **changes: Any) -> Record:
    """A record with this event, and the frame of the builders."""
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in (("event", event), ("details", details))}
    return Record(Seq(1), msgspec.json.encode(envelope(1, **{**raw, **changes})))


def test_no_rules_no_work() -> None:
    """Goal: a sink without rules gets the journal's bytes; method: it compiles to None."""
    assert compile_redaction([], None, "sinks.out") is None


def test_each_way_of_hiding() -> None:
    """Goal: what stands for a value is what the documentation says; method: one field each, and its copy in the event."""
    was = record(4).envelope
    assert was.actor is not None
    assert was.actor.email is not None
    tree = redacted(
        record(4), ("actor.email", "hash"), ("actor.ip", "truncate"), ("actor.user_agent", "drop"), ("actor.id", "mask")
    )
    hashed = hmac.digest(KEY, was.actor.email.encode(), "sha256").hex()[:32]
    session = tree["event"]["actor"]["session"]
    assert (tree["actor"]["email"], session["user"]["email"]) == (hashed, hashed)
    assert (tree["actor"]["ip"], session["ip_address"]) == ("2001:db8::", "2001:db8::")
    assert (tree["actor"]["id"], session["user"]["id"]) == (MASK, MASK)
    assert "user_agent" not in tree["actor"]
    assert "user_agent" not in session
    assert tree["actor"]["name"] == was.actor.name


@pytest.mark.parametrize(
    ("text", "truncated"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2::3", "2001:db8:1::"),
        ("Ana Silva", "Ana…"),
        ("x" * 90, "xxxx…"),
        ("Al", "…"),
    ],
)
def test_truncation(text: str, truncated: str) -> None:
    """Goal: an address keeps its network, other text its beginning; method: examples."""
    assert redacted(made({"who": text}, actor=Actor(name=text)), ("actor.name", "truncate"))["event"] == {
        "who": truncated
    }


def test_what_truncation_leaves_of_one_value_is_not_another() -> None:
    """Goal: rules do not undo each other; method: a name that begins as another does, a network that is an address to hide."""
    actor = Actor(name="Anastasia Silva", id="Anas", ip="203.0.113.9")
    pairs = [("actor.name", "truncate"), ("actor.id", "mask"), ("actor.ip", "truncate"), ("labels.net", "hash")]
    tree = redacted(made({"who": "Anastasia Silva"}, actor=actor, labels={"net": "203.0.113.0"}), *pairs)
    assert (tree["actor"]["name"], tree["event"]["who"], tree["actor"]["ip"]) == (MASK, MASK, MASK)


def test_inside_of_other_text() -> None:
    """Goal: an id that was made of ids does not tell them; method: the role assignment, whose id names role, project and user."""
    tree = redacted(record(3), ("targets.*.id", "mask"))
    given = tree["event"]["role.assignment.created"]["id"]
    assert given == tree["details"]["id"] == f"role_assignment_role-api-project-owner__api-project__{MASK}_{MASK}"


def test_other_notations_of_the_same() -> None:
    """Goal: a copy in another form is a copy; method: case, IPv6 forms, IPv4 in IPv6, numbers as text, JSON inside of text."""
    event = {
        "a": "MAIL: ANA@ACME.EXAMPLE!",
        "b": "2001:0DB8:0:0::0007",
        "c": "::ffff:203.0.113.9",
        "d": "64500.0",
        "e": 64500,
        "f": json.dumps({"n": 'Björn "B"'}),
        "ana@acme.example": 1,
    }
    actor = Actor(email="ana@acme.example", name='Björn "B"', ip="2001:db8::7")
    labels = {"v4": "203.0.113.9", "asn": "64500"}
    pairs = [(f, "mask") for f in ("actor.email", "actor.name", "actor.ip", "labels.v4", "labels.asn")]
    tree = redacted(made(event, actor=actor, labels=labels), *pairs)
    assert tree["event"] == {
        "a": f"MAIL: {MASK}!", "b": MASK, "c": MASK, "d": MASK, "e": MASK, "f": f'{{"n": "{MASK}"}}', MASK: 1,
    }  # fmt: skip


def test_what_is_too_common_goes_where_the_rule_says_and_in_the_copy() -> None:
    """Goal: hiding one `true` does not hide all; method: booleans and small numbers in details, whose copy is in the event."""
    payload = {"on": True, "count": 7, "other": True, "also": 7}
    line = made({"x": payload, "on": True, "n": 7}, payload)
    tree = redacted(line, ("details.on", "mask"), ("event.x.count", "drop"))
    seen = {"on": MASK, "other": True, "also": 7}
    assert tree["details"] == seen
    assert tree["event"] == {"x": seen, "on": True, "n": 7}


def test_short_text_goes_where_it_is_a_word() -> None:
    """Goal: the name Al does not eat California; method: both."""
    tree = redacted(
        made({"a": "California", "b": "Al, of Al", "c": "AL"}, actor=Actor(name="Al")), ("actor.name", "mask")
    )
    assert tree["event"] == {"a": "California", "b": f"{MASK}, of {MASK}", "c": MASK}


def test_names_with_dots_and_lists() -> None:
    """Goal: a path reaches what it names; method: a payload under a dotted key, a list item, every item."""
    event = {"login.failed": {"code": "secret-1"}, "list": [{"v": "secret-2"}, {"v": "secret-3"}, {"v": "kept"}]}
    tree = redacted(
        made(event), ("event.login.failed.code", "drop"), ("event.list.0.v", "mask"), ("event.*.1.*", "drop")
    )
    assert tree["event"] == {"login.failed": {}, "list": [{"v": MASK}, {}, {"v": "kept"}]}


@pytest.mark.parametrize("field", ["details", "actor", "targets", "project", "labels", "event", "tags", "actor.geo"])
@pytest.mark.parametrize("how", ["drop", "mask", "hash", "truncate"])
def test_whole_branches(field: str, how: str) -> None:
    """Goal: a branch may go as a whole, and an envelope is left; method: every branch in every way, on every kind of event."""
    for line in records(16):
        before = msgspec.json.decode(line.line)
        tree = redacted(line, (field, how))
        assert {name: tree[name] for name in FRAME_FIELDS} == {name: before[name] for name in FRAME_FIELDS}
        if how == "drop":
            name, _, rest = field.partition(".")
            assert not (tree.get(name) or {}).get(rest) if rest else not tree.get(name)


def test_a_dropped_payload_is_not_in_the_event() -> None:
    """Goal: both copies of the payload go; method: drop one, look at the other."""
    tree = redacted(record(7), ("details", "drop"))
    assert "details" not in tree
    assert "widget.frobnicated" not in tree["event"]
    tree = redacted(record(7), ("event.widget.frobnicated", "drop"))
    assert "details" not in tree


def test_numbers_are_written_as_they_were_read() -> None:
    """Goal: what is not redacted does not change; method: numbers that a float cannot hold."""
    event = b'{"a":37.70,"b":123456789012345678901234567890,"c":-0.0,"d":0.1000000000000000055511151231257827,"e":1e-7}'
    redact = compile_redaction(rules(("actor.name", "mask")), None, "sinks.out")
    assert redact is not None
    line = redact(Record(Seq(1), msgspec.json.encode(envelope(1, event=msgspec.Raw(event))))).line
    exact = json.loads(RawFormat().encode(Record(Seq(1), line)), parse_float=Decimal, parse_int=Decimal)
    assert exact == json.loads(event, parse_float=Decimal, parse_int=Decimal)


def test_an_event_that_was_no_json_goes_whole() -> None:
    """Goal: what cannot be looked into does not leak; method: text with an escape that hides the address."""
    tree = redacted(
        made('{"email": "\\u0061na@acme.example", oops', actor=Actor(email="ana@acme.example")), ("actor.email", "mask")
    )
    assert tree["event"] == MASK


def test_an_integer_of_thousands_of_digits_is_no_trouble() -> None:
    """Goal: redaction is total; method: a number that the strict reader refuses."""
    event = msgspec.Raw(b'{"n":' + b"9" * 300 + b',"who":"ana@acme.example"}')
    line = Record(Seq(1), msgspec.json.encode(envelope(1, event=event, actor=Actor(email="ana@acme.example"))))
    assert redacted(line, ("actor.email", "mask"))["event"]["who"] == MASK


def test_too_many_values_leave_the_frame() -> None:
    """Goal: a record with thousands of secrets costs a bounded time and leaks none; method: one with 3,000."""
    event = {"list": [f"secret-{n}" for n in range(3000)], "copy": [f"the secret-{n}" for n in range(3000)]}
    tree = redacted(made(event), ("event.list", "mask"))
    assert tree["event"] is None
    assert set(tree) == {*FRAME_FIELDS, "event"}


# --- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("actor.emial", "did you mean actor.email?"),
        ("targets.name", "did you mean targets.*.name?"),
        ("id", "every sink needs it"),
        ("time", "every sink needs it"),
        ("*", "is no field"),
        ("actor..email", "is no field"),
        ("details.", "is no field"),
        ("actor.email.x", "is no field"),
    ],
)
def test_fields_that_an_envelope_cannot_have(field: str, sentence: str) -> None:
    """Goal: a rule that would hide nothing is refused; method: misspelt and impossible paths."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Redaction.model_validate({"field": field, "with": "mask"})


@pytest.mark.parametrize(
    "field", ["actor.*", "actor.geo.latitude", "targets.0.name", "details.a.b.*", "labels.x", "tags.*"]
)
def test_fields_that_an_envelope_can_have(field: str) -> None:
    """Goal: every real path is taken; method: one of each kind."""
    assert Redaction.model_validate({"field": field, "with": "drop"}).field == field


def test_a_hash_needs_a_key_that_cannot_be_guessed() -> None:
    """Goal: no hash without a secret; method: none, a short one, a good one."""
    hashing = [{"field": "actor.email", "with": "hash"}]
    with pytest.raises(ValueError, match="give redact_key or redact_key_file"):
        SinkOptions.model_validate({"redact": hashing})
    options = SinkOptions.model_validate({"redact": hashing, "redact_key": "short"})
    with pytest.raises(ConfigError, match="sinks.out.redact_key: is shorter than 16 bytes"):
        compile_redaction(options.redact, b"short", "sinks.out")
    assert compile_redaction(options.redact, KEY, "sinks.out") is not None


def test_the_example_of_the_documentation_loads() -> None:
    """Goal: what is written in docs/routing.md can be used; method: its YAML as a configuration."""
    text = (Path(__file__).parent.parent / "docs" / "routing.md").read_text("utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    whole = "sources: {acme: {type: openai_audit_logs, api_key: sk-admin-x}}\n" + example
    sink = parse(whole, "docs/routing.md", sources=source_options(), sinks=sink_options(), env={}).sinks["siem"]
    assert compile_where(sink.where) is not None
    assert compile_redaction(sink.redact, KEY, "sinks.siem") is not None


# --- the property ----------------------------------------------------------------------------------------------------

# No letters of the mask, of which a copy proves nothing.
TEXT = st.text(st.characters(exclude_characters="*…", exclude_categories=["Cs"]), max_size=12)
SECRET = TEXT.filter(lambda text: len(text.strip()) > 0)


def with_secret(secret: str) -> st.SearchStrategy[Any]:
    """JSON with the secret somewhere in it: alone, inside of text, as a name, in JSON inside of text."""
    text = st.one_of(
        TEXT,
        st.just(secret),
        st.just(secret.upper()),
        st.builds(lambda a, b: a + secret + b, TEXT, TEXT),
        st.just(json.dumps({"x": secret})),
    )
    return st.recursive(
        st.one_of(text, st.integers(-(10**6), 10**20), st.booleans(), st.none()),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
        max_leaves=12,
    )


def strings(value: Any, names: bool) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if names:
                yield name
            yield from strings(inner, names)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, names)


def to_be_read(tree: dict[str, Any]) -> list[str]:
    """Every text outside of the frame, decoded; names too, but for those that the schema gives."""
    free = ("details", "event", "labels")
    return [text for n, value in tree.items() if n not in FRAME_FIELDS for text in strings(value, n in free)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), SECRET, SECRET, st.sampled_from(["drop", "mask", "hash", "truncate"]))
def test_no_redacted_value_is_anywhere(data: st.DataObject, first: str, second: str, how: str) -> None:
    """Goal: nothing that a rule names can be read anywhere but in the frame. Method: records with two secrets strewn over event,
    details, labels, tags and targets; every string of the result is decoded and searched."""
    payload = data.draw(with_secret(first))
    line = made(
        {"payload": payload, "more": data.draw(with_secret(second))},
        payload,
        actor=Actor(name=first, email=second, id="user-1"),
        targets=[Target("user", f"x{second}x", first)],
        labels={"seen": f"{first} {second}"},
        tags=[first, "plain"],
    )
    tree = redacted(line, ("actor.name", how), ("actor.email", "mask"))
    for secret in (first, second):
        for text in to_be_read(tree):
            if len(secret) < SHORT:
                assert text != secret
            else:
                assert secret not in text
                assert json.dumps(secret)[1:-1] not in text


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 64), st.sampled_from(["drop", "mask", "hash", "truncate"]), st.data())
def test_real_events_lose_what_the_rule_names_and_stay_envelopes(number: int, how: str, data: st.DataObject) -> None:
    """Goal: the same on real events, and formats find an envelope; method: every leaf of the envelope as a rule."""
    before = msgspec.json.decode(record(number).line)
    field = data.draw(st.sampled_from([f for f in leaf_paths(before) if f.split(".")[0] not in FRAME_FIELDS]))
    value: Any = before
    for step in field.split("."):
        value = value[int(step)] if isinstance(value, list) else value[step]
    tree = redacted(record(number), (field, how))
    if isinstance(value, str) and len(value) >= SHORT and how != "truncate":
        assert not [text for text in to_be_read(tree) if value in text]


def leaf_paths(value: Any, path: str = "") -> Iterator[str]:
    """Those whose steps have no dots."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        if "." not in str(name):
            yield from leaf_paths(inner, f"{path}.{name}".lstrip("."))
    if not isinstance(value, dict | list) and value is not None:
        yield path


# --- in every format -------------------------------------------------------------------------------------------------

PRIVATE = [
    ("actor.email", "hash"), ("actor.ip", "truncate"), ("actor.name", "mask"), ("actor.id", "drop"), ("targets.*.id", "mask"), ("targets.*.name", "hash"),
]  # fmt: skip


@pytest.mark.parametrize("name", get_args(FormatName))
def test_no_format_brings_it_back(name: FormatName) -> None:
    """Goal: what was redacted is in no store's schema either; method: every format of redacted events of every kind, searched for every
    value that was hidden, with the escapes of JSON, CEF and LEEF undone."""
    redact, format = compile_redaction(rules(*PRIVATE), KEY, "sinks.out"), make_format(name)
    assert redact is not None
    for line in records(24):
        actor, targets = line.envelope.actor, line.envelope.targets
        assert actor is not None
        hidden = {actor.email, actor.ip, actor.name, actor.id, *(t.id for t in targets), *(t.name for t in targets)} - {
            None
        }
        text = format.encode(redact(line)).decode()
        assert not [value for value in hidden if value and value in unescaped(text)]
        assert [value for value in hidden if value and value in unescaped(format.encode(line).decode())], (
            "it was there before"
        )


def unescaped(text: str) -> str:
    without = re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text)
    return without.replace("\\", "")


@pytest.mark.parametrize("how", ["drop", "mask"])
@pytest.mark.parametrize("name", get_args(FormatName))
def test_every_format_takes_what_redaction_leaves(name: FormatName, how: str) -> None:
    """Goal: a redacted record is never refused or dead-lettered; method: every branch of the envelope gone, one and all, in every format."""
    format = make_format(name)
    branches = [
        "actor",
        "actor.geo",
        "actor.type",
        "project",
        "targets",
        "targets.*.type",
        "details",
        "labels",
        "tags",
        "rules",
        "event",
    ]
    for fields in ([b] for b in branches):
        redact = compile_redaction(rules(*((f, how) for f in fields)), KEY, "sinks.out")
        assert redact is not None
        for line in records(8):
            assert b"\n" not in format.encode(redact(line))
    redact = compile_redaction(rules(*((f, how) for f in branches)), KEY, "sinks.out")
    assert redact is not None
    assert all(format.encode(redact(line)) for line in records(8))
