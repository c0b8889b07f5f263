"""drift: what events have that the catalogue does not know."""

import asyncio
import json
from pathlib import Path

from streamer.decode import decode_event, to_envelope
from streamer.drift import MAX_FINDINGS, Drift, report, shape
from streamer.journal.sqlite import open_journal
from streamer.model import Entry, Progress, Record, Seq, SourceName, encode_envelope, from_epoch
from tests import warm

ACME = SourceName("acme")
SECRET = "alice@acme.example"


def line(raw: bytes, seen: float = 1_750_000_000) -> bytes:
    envelope, _ = to_envelope(decode_event(raw), source=ACME, listing="organization", observed_at=from_epoch(seen))
    return encode_envelope(envelope)


def event(type: str, **members: object) -> bytes:
    return json.dumps({"id": "audit_log-1", "type": type, "effective_at": 1_750_000_000, **members}).encode()


def looked(*raws: bytes) -> Drift:
    drift = Drift()
    drift.look(Record(Seq(n), line(raw, 1_750_000_000 + n)) for n, raw in enumerate(raws, 1))
    return drift


def test_unknown_types_and_fields_are_found_once_and_counted() -> None:
    """Goal: one finding a type or field; method: known events, an unknown type three times, an unknown field twice."""
    unknown = event("widget.created", actor={"type": "session"}, **{"widget.created": {"owner": SECRET, "n": [1, 2]}})
    field = event("logout.succeeded", newcomer={"mail": SECRET})
    drift = looked(event("logout.succeeded"), unknown, field, unknown, field, unknown)
    assert drift.records == 6
    found = {(f.type, f.field): (f.count, f.first_seen) for f in drift.findings.values()}
    assert found == {
        ("widget.created", None): (3, "2025-06-15T15:06:42Z"),
        ("logout.succeeded", "newcomer"): (2, "2025-06-15T15:06:43Z"),
    }


def test_no_value_of_an_event_gets_into_the_report() -> None:
    """Goal: a report can be pasted in public; method: an event whose every value is a secret, one that is not JSON, a type that would end the code."""
    raw = event(
        "widget.created`\n# x", **{"widget.created": {"a": SECRET, "b": [SECRET], "c": 7351, "d": {"e": {"f": SECRET}}}}
    )
    said = report(looked(raw, b'{"id": "' + SECRET.encode() + b'", broken'), "1.0")
    assert SECRET not in said
    assert "7351" not in said
    assert "audit_log-1" not in said
    assert '"f": "string"' in said
    assert "\n# x" not in said
    assert said.count("`") % 2 == 0


def test_a_shape_keeps_keys_and_kinds() -> None:
    """Goal: the catalogue can be extended from it; method: one of each kind."""
    value = {"s": "x", "i": 1, "n": 1.5, "b": True, "z": None, "l": [{"k": "v"}, 2], "e": []}
    kinds = {"s": "string", "i": "integer", "n": "number", "b": "boolean", "z": None, "l": [{"k": "string"}], "e": []}
    assert shape(value) == kinds
    deep: object = "x"
    for _ in range(100):
        deep = {"k": [deep]}
    assert len(json.dumps(shape(deep))) < 200


def test_findings_have_a_limit() -> None:
    """Goal: bounded memory whatever upstream sends; method: more types than the limit."""
    drift = looked(*(event(f"widget.n{n}") for n in range(MAX_FINDINGS + 3)))
    assert (len(drift.findings), drift.left_out) == (MAX_FINDINGS, 3)
    assert "3 others are left out" in report(drift, "1.0")


async def fill(folder: Path, raw: bytes) -> None:
    async with open_journal(folder, 1 << 30) as journal:
        one = decode_event(raw)
        await journal.append(ACME, "organization", [Entry(one.id, one.effective_at, line(raw))], Progress(1))


def test_the_verb_reads_a_journal(tmp_path: Path) -> None:
    """Goal: it works beside and without a daemon; method: a journal with one unknown event, as a user runs it."""
    asyncio.run(fill(tmp_path / "state", event("widget.created")))
    config = tmp_path / "streamer.yaml"
    config.write_text(
        f"state: {tmp_path}/state\nsources: {{acme: {{type: openai_audit_logs, api_key: sk-admin-x}}}}\n"
        f"sinks: {{local: {{type: file, path: {tmp_path}/audit.jsonl}}}}\n"
    )
    said = warm.run("streamer", "drift", "-c", config)
    assert said.returncode == 0, said.stderr
    assert "## `widget.created`: unknown type" in said.stdout
    listed = warm.run("streamer", "drift", "-c", config, "--json").stdout
    assert [(f["type"], f["field"], f["count"]) for f in json.loads(listed)] == [("widget.created", None, 1)]


def test_what_the_catalogue_has_learned_since_is_no_drift() -> None:
    """Goal: an upgrade empties the report, and a record that is no object is told by its kind; method: a known event that an older program did not know, a list."""
    known = line(event("logout.succeeded"), 1_750_000_001)
    assert b'"known":true' in known
    drift = Drift()
    drift.look([Record(Seq(1), known.replace(b'"known":true', b'"known":false'))])
    assert not drift.findings
    assert '"integer"' in report(looked(b"[1, 2]"), "1.0")
