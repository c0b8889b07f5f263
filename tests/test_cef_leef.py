"""CEF and LEEF: read back by independent parsers to the same values, whatever is in the events."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import jc
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.catalog import SEVERITY_NUMBERS, TYPES, lookup
from streamer.formats import make_format
from streamer.model import Envelope, Record, Seq
from tests import every_type, records
from tests.every_type import ORGANIZATIONS, as_record, full, minimal
from tests.reference_parsers import parse_cef, parse_leef
from tests.shared_folder import shared_json

CEF, LEEF = make_format("cef", ORGANIZATIONS), make_format("leef", ORGANIZATIONS)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


def plain(text: str, limit: int) -> str:
    """A value as CEF can hold it: cut, without spaces at its ends, control characters that have no escape replaced."""
    return CONTROL.sub("\ufffd", text.strip()[:limit].rstrip())


def spaced(text: str, limit: int) -> str:
    """A value as LEEF can hold it: what ends values and lines is a space."""
    return re.sub(r"[\t\r\n]", " ", plain(text, limit))


def test_the_published_vectors_of_cef() -> None:
    """Goal: the parser that judges us is right. Method: the published examples, and eight more, read to their values."""
    vectors = shared_json("checks/cef/cef_vectors.json")
    assert len(vectors["published"]) == len(vectors["own"]) == 4
    for vector in vectors["published"] + vectors["own"]:
        header, pairs = parse_cef(vector["line"])
        assert (header[5], pairs) == (vector["name"], vector["ext"])


@pytest.mark.parametrize(
    "line",
    ["CEF:0|a|b|c|d|e", "CEF:0|a|b|c|d|e|5|x=1 x=2", "CEF:0|a|b|c|d|e|5|words x=1", "CEF:0|a|b|c|d|e|5|x=\\q"],
)
def test_the_cef_parser_refuses(line: str) -> None:
    """Goal: the judge is strict. Method: a short header, a key twice, text before the keys, an unknown escape."""
    with pytest.raises((AssertionError, IndexError, KeyError)):
        parse_cef(line)


def test_the_leef_parser() -> None:
    """Goal: the parser that judges us is right. Method: a line as IBM's guide describes it, with each way to write the delimiter."""
    for written, delimiter in (("x09", "\t"), ("0x09", "\t"), ("^", "^"), ("", "\t"), ("x5E", "^")):
        line = f"LEEF:2.0|Lancope|StealthWatch|1.0|41|{written}|src=192.0.2.0{delimiter}dst=172.50.123.1{delimiter}msg=a = b"
        header, pairs = parse_leef(line)
        assert header == ["LEEF:2.0", "Lancope", "StealthWatch", "1.0", "41"]
        assert pairs == {"src": "192.0.2.0", "dst": "172.50.123.1", "msg": "a = b"}
    with pytest.raises(AssertionError):
        parse_leef("LEEF:2.0|a|b|c|d|x09|no pair")


def check_cef(record: Record) -> dict[str, str]:
    """Everything that must hold for any record; the pairs, for what must hold for this one."""
    envelope = record.envelope
    body = CEF.encode(record)
    assert len(body.decode().splitlines()) == 1
    header, pairs = parse_cef(body.decode())
    assert header[:4] == ["CEF:0", "OpenAI", "Audit Logs", "v1"]
    assert header[4:] == [
        re.sub(r"[\t\r\n]", " ", CONTROL.sub("\ufffd", text))
        for text in (envelope.type, lookup(envelope.type).title, str(SEVERITY_NUMBERS[envelope.severity].cef))
    ]
    expected = {
        "rt": str(int(envelope.time.timestamp()) * 1000),
        "act": plain(envelope.type, 63),
        "cat": plain(envelope.family, 1023),
        "outcome": envelope.outcome,
        "dvchost": "acme",
        "deviceExternalId": "org-acme",
    }
    assert {key: pairs.get(key, "") for key in expected} == expected
    assert_custom(pairs, "eventId" if len(envelope.id) > 40 else None, envelope.id)
    assert pairs.get("externalId") == (plain(envelope.id, 40) if len(envelope.id) <= 40 else None)
    if envelope.project is not None:
        assert_custom(pairs, "projectId", envelope.project.id, 4000 if len(envelope.id) <= 40 else 1023)
    check_cef_actor(envelope, pairs)
    if envelope.targets:
        assert_custom(pairs, "targetId", envelope.targets[0].id)
        assert_custom(pairs, "targetName", envelope.targets[0].name, 1023)
    details = bytes(envelope.details).decode()
    assert_custom(pairs, "payload", details if details != "null" else None)
    return pairs


def check_cef_actor(envelope: Envelope, pairs: dict[str, str]) -> None:
    actor = envelope.actor
    if actor is None:
        assert not {"suser", "suid", "src", "shost", "sourceServiceName"} & pairs.keys()
        return
    by_key = {
        "suser": actor.email or actor.name,
        "sourceServiceName" if actor.type == "service_account" else "suid": actor.id,
        "requestClientApplication": actor.user_agent,
    }
    for key, value in by_key.items():
        assert pairs.get(key, "") == plain(value or "", 1023)
    assert_custom(pairs, "apiKeyId", actor.api_key_id)
    assert_custom(pairs, "ja3", actor.ja3)
    try:
        version = ipaddress.ip_address(actor.ip or "").version if "%" not in (actor.ip or "") else 0
    except ValueError:
        version = 0
    assert pairs.get("src") == (actor.ip if version == 4 else None)
    assert pairs.get("c6a2") == (actor.ip if version == 6 else None)
    assert pairs.get("shost", "") == (plain(actor.ip or "", 1023) if not version else "")


def assert_custom(pairs: dict[str, str], label: str | None, value: str | None, limit: int = 4000) -> None:
    """The value stands under the key whose label it is; where there is no value, neither label nor key."""
    if label is None:
        return
    labels = [key for key, text in pairs.items() if key.endswith("Label") and text == label]
    held = plain(value or "", limit)
    assert [pairs[key.removesuffix("Label")] for key in labels] == ([held] if held else [])


def check_leef(record: Record) -> dict[str, str]:
    envelope = record.envelope
    body = LEEF.encode(record)
    assert len(body.decode().splitlines()) == 1
    header, pairs = parse_leef(body.decode())
    event_id = re.sub(r"[\t\r\n]", " ", CONTROL.sub("\ufffd", envelope.type[:255])).replace("|", "_")
    assert header == ["LEEF:2.0", "OpenAI", "Audit Logs", "v1", event_id]
    actor, project, target = envelope.actor, envelope.project, envelope.targets[0] if envelope.targets else None
    address = "src" in pairs
    expected = {
        "devTime": f"{int(envelope.time.timestamp()) * 1000:013d}",
        "sev": str(SEVERITY_NUMBERS[envelope.severity].leef),
        "cat": spaced(envelope.family, 1023),
        "outcome": envelope.outcome,
        "eventId": spaced(envelope.id, len(envelope.id)),
        "source": "acme",
        "organizationId": "org-acme",
        "projectId": spaced(project.id or "", 1023) if project else "",
        "projectName": spaced(project.name or "", 1023) if project else "",
        "src" if address else "srcName": spaced(actor.ip or "", 1023) if actor else "",
        "usrName": spaced(actor.email or actor.name or actor.id or "", 255) if actor else "",
        "accountName": spaced(actor.id or "", 255) if actor else "",
        "apiKeyId": spaced(actor.api_key_id or "", 1023) if actor else "",
        "userAgent": spaced(actor.user_agent or "", 1023) if actor else "",
        "resource": spaced(target.id or "", 1023) if target else "",
        "resourceName": spaced(target.name or "", 1023) if target else "",
        "payload": spaced(bytes(envelope.details).decode(), 4000),
    }
    if expected["payload"] == "null":
        expected["payload"] = ""
    assert {key: pairs.get(key, "") for key in expected} == expected
    assert "" not in pairs.values()
    if address:
        assert ipaddress.ip_address(pairs["src"])
    assert re.fullmatch(r"\d{13,15}", pairs["devTime"])
    assert 1 <= int(pairs["sev"]) <= 10
    return pairs


@pytest.mark.parametrize("type", TYPES)
def test_every_type_in_every_shape(type: str) -> None:
    """Goal: all types, full, minimal and hostile, are read back to the same values. Method: independent parsers on every record."""
    for record in every_type.records_of(TYPES[type]):
        check_cef(record)
        check_leef(record)


def test_a_parser_that_others_wrote_reads_the_same() -> None:
    """Goal: our own reading of the standard is not the only judge. Method: jc, of which many make JSON of CEF, splits every record (all types, full,
    minimal, hostile) into the same header and pairs; its `raw` leaves the four escapes, which are undone here."""
    meant = {"n": "\n", "r": "\r"}
    names = ("deviceVendor", "deviceProduct", "deviceVersion", "deviceEventClassId", "name", "agentSeverity")
    count = 0
    for record in every_type.all_records():
        line = CEF.encode(record).decode()
        [found] = jc.parse("cef", line, raw=True, quiet=True)
        theirs = {key: re.sub(r"\\(.)", lambda m: meant.get(m[1], m[1]), value) for key, value in found.items()}
        header, pairs = parse_cef(line)
        assert [theirs.pop(key) for key in names] == header[1:]
        assert f"CEF:{theirs.pop('CEFVersion')}" == header[0]
        assert theirs == pairs
        count += 1
    assert count > 100 * len(TYPES)


def test_cef_keys_are_those_of_the_dictionary() -> None:
    """Goal: no key is made up, reserved for consumers, of the wrong type or longer than its length. Method: the dictionary of the
    standard on every record; `c6a2`, which only its chapter on special mappings has, aside."""
    dictionary = shared_json("checks/cef/cef_extensions.json")["extensions"]
    seen: set[str] = set()
    for record in every_type.all_records():
        header, pairs = parse_cef(CEF.encode(record).decode())
        assert len(header[4]) <= 1023
        assert len(header[5]) <= 512
        for key in pairs.keys() - {"c6a2", "c6a2Label"}:
            entry = dictionary[key]
            assert entry["aud"] != "consumer"
            assert len(pairs[key]) <= entry.get("l", 4000)
            if entry["t"] == "ipv4_address":
                assert ipaddress.IPv4Address(pairs[key])
        if "c6a2" in pairs:
            assert ipaddress.IPv6Address(pairs["c6a2"])
        seen |= pairs.keys()
    assert {"src", "c6a2", "shost", "externalId", "cs1", "cs2", "cs3", "cs4", "cs5", "cs6", "duid", "dpriv"} <= seen


def test_leef_keys_that_ibm_has_predefined_hold_what_it_means() -> None:
    """Goal: a predefined key is never reserved, nor longer than its limit. Method: IBM's list on every record."""
    attributes = shared_json("checks/cef/leef_attributes.json")["attributes"]
    seen: set[str] = set()
    for record in every_type.all_records():
        _, pairs = parse_leef(LEEF.encode(record).decode())
        for key in pairs.keys() & attributes.keys():
            assert not attributes[key].get("reserved")
            assert not attributes[key].get("limits", "").isdigit() or len(pairs[key]) <= int(attributes[key]["limits"])
        seen |= pairs.keys()
    assert {"cat", "devTime", "sev", "src", "usrName", "accountName", "role", "resource", "groupID"} <= seen


def test_every_key_is_in_the_documentation() -> None:
    """Goal: who writes a parser finds every key. Method: all keys of all records, and the page about the formats."""
    page = Path(__file__).resolve().parents[1].joinpath("docs", "formats.md").read_text("utf-8")
    cef_page, leef_page = page.split("## CEF")[1].split("## LEEF")
    for record in every_type.all_records():
        for key in parse_cef(CEF.encode(record).decode()).pairs:
            plain_key = key.removesuffix("Label")
            assert f"`{plain_key}`" in cef_page or re.fullmatch(r"cs[1-6]", plain_key)
        for key in parse_leef(LEEF.encode(record).decode()).pairs:
            assert f"`{key}`" in leef_page


def test_injection() -> None:
    """Goal: no text in an event can pose as another field or event. Method: attacks in the place where an attacker writes freely."""
    evil = "x act=ip_allowlist.deleted\nCEF:0|evil|evil|1|1|fake|10|src=6.6.6.6\tsev=10"
    event = full(TYPES["login.failed"]) | {"actor": every_type.session(user_agent=evil)}
    pairs = check_cef(as_record(event))
    assert (pairs["requestClientApplication"], pairs["act"], pairs["src"]) == (evil, "login.failed", "203.0.113.10")
    read = check_leef(as_record(event))
    assert (read["src"], read["sev"], read["userAgent"]) == ("203.0.113.10", "3", re.sub(r"[\t\n]", " ", evil))


def test_a_long_id_is_never_cut() -> None:
    """Goal: the idempotency key is whole, however long. Method: ids at and beyond what `externalId` holds."""
    for length in (39, 40, 41, 512):
        event = minimal(TYPES["project.created"]) | {"id": "i" * length, "project": {"id": "proj_1"}}
        pairs = check_cef(as_record(event))
        keyed = pairs["externalId"] if length <= 40 else pairs["cs1"]
        assert keyed == check_leef(as_record(event))["eventId"] == "i" * length
        assert pairs["cs1" if length <= 40 else "flexString1"] == "proj_1"


def test_severity_and_rules_are_the_envelopes() -> None:
    """Goal: what a rule has raised is what the receiver sees. Method: an event whose severity is not its row's."""
    record = records.record(1, severity="critical", rules=["owner-granted", "first-country"])
    header, pairs = parse_cef(CEF.encode(record).decode())
    assert (header[6], pairs["flexString1"]) == ("10", "owner-granted,first-country")
    read = parse_leef(LEEF.encode(record).decode()).pairs
    assert (read["sev"], read["rules"]) == ("10", "owner-granted,first-country")


def test_every_sample() -> None:
    """Goal: published events come through. Method: all of them, read back."""
    for record in every_type.samples():
        check_cef(record)
        check_leef(record)


def test_message_is_the_sentence() -> None:
    """Goal: an analyst reads what happened. Method: a role that is given."""
    record = as_record(full(TYPES["role.assignment.created"]))
    said = "ana@acme.example gave the role owner to user-2 in organization org-1 in project Payments"
    assert check_cef(record)["msg"] == check_leef(record)["msg"] == said


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_any_line(line: bytes) -> None:
    """Goal: no line breaks a format, even one that is no envelope. Method: random bytes as a line."""
    for format in (CEF, LEEF):
        body = format.encode(Record(Seq(1), line))
        assert len(body.decode().splitlines()) == 1
    assert parse_cef(CEF.encode(Record(Seq(1), line)).decode()).pairs["act"] == "unknown"
    assert parse_leef(LEEF.encode(Record(Seq(1), line)).decode()).header[4] == "unknown"


ANY_JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just([]) | st.just({})


@given(st.sampled_from(sorted(Envelope.__struct_fields__)), ANY_JSON, st.booleans())
@settings(deadline=None, max_examples=300)
def test_a_field_that_redaction_took_or_masked(field: str, value: Any, drop: bool) -> None:
    """Goal: an envelope that lacks a field, or has another kind in it, is still an event with all the rest. Method: one field of a
    line dropped or replaced."""
    tree = msgspec.json.decode(records.line(3))
    if drop:
        del tree[field]
    else:
        tree[field] = value
    record = Record(Seq(1), msgspec.json.encode(tree))
    header, pairs = parse_cef(CEF.encode(record).decode())
    assert parse_leef(LEEF.encode(record).decode()).pairs.keys() >= {"devTime", "sev", "outcome"}
    if field not in ("type", "id"):
        assert header[4] == tree["type"]
        assert pairs["externalId"] == tree["id"]


@given(st.text(min_size=1, max_size=60), st.text(max_size=60), st.text(max_size=60))
@settings(deadline=None, max_examples=500)
def test_any_text(type: str, name: str, agent: str) -> None:
    """Goal: any Unicode is read back. Method: random texts where upstream's and the enrichers' stand."""
    event = minimal(TYPES["user.added"]) | {
        "type": type,
        "id": f"i{name}",
        "actor": every_type.session(user_agent=agent, ip_address=name),
        "project": {"id": agent, "name": name},
        type: {"id": name, "name": agent},
    }
    record = as_record(event)
    check_cef(record)
    check_leef(record)
