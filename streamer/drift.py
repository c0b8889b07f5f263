"""What events have that the catalogue does not know: types and fields, counted, each with the shape of one example. Pure.

An example shows keys and kinds of values, never a value: it can be pasted into a public issue.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from streamer.decode import decode_event, to_envelope
from streamer.model import Record

MAX_FINDINGS = 1000
MAX_KEYS, MAX_KEY_CHARACTERS, MAX_LEVELS = 100, 64, 12
_MARK = b'"known":false'
_SAID = ("object", "type")
"""The members of an event whose values are the API's own words."""


@dataclass
class Finding:
    type: str
    """In plain ASCII."""
    field: str | None
    """Dotted; the payload is `details`. None: the type itself is unknown."""
    first_seen: str
    """RFC 3339."""
    count: int
    example: Any


@dataclass
class Drift:
    """Over as many records as one likes; memory is bounded by MAX_FINDINGS."""

    records: int = 0
    findings: dict[tuple[str, str | None], Finding] = field(default_factory=dict)
    left_out: int = 0
    """Findings beyond the limit, counted once an event."""

    def look(self, records: Iterable[Record]) -> None:
        for record in records:
            self.records += 1
            # Cheaper than decoding; where it stands in a payload, the record is decoded for nothing.
            if _MARK in record.line:
                self._look(record)

    def _look(self, record: Record) -> None:
        envelope = record.envelope
        raw = bytes(envelope.event)
        if raw.startswith(b'"'):
            # What could not travel as JSON is a string of its text.
            raw = json.loads(raw).encode("utf-8", "surrogatepass")
        # Decoded again: what the catalogue has learned since is no drift any more.
        _, unknowns = to_envelope(
            decode_event(raw), source=envelope.source, listing=envelope.listing, observed_at=envelope.observed_at
        )
        if unknowns is None:
            return
        kind = _plain(envelope.type)
        for name in [None] if unknowns.type else unknowns.fields:
            finding = self.findings.get((kind, name))
            if finding is not None:
                finding.count += 1
            elif len(self.findings) < MAX_FINDINGS:
                seen = envelope.observed_at.isoformat(timespec="seconds").replace("+00:00", "Z")
                self.findings[(kind, name)] = Finding(kind, name, seen, 1, _example(raw))
            else:
                self.left_out += 1


def _example(raw: bytes) -> Any:
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "not JSON"
    if not isinstance(event, dict):
        return shape(event)
    said = {k: _plain(v) for k in _SAID if isinstance(v := event.get(k), str)}
    return shape(event) | said


def shape(value: Any, level: int = 0) -> Any:
    """A JSON value with the kind of each value in its place; of a list its first item."""
    match value:
        case dict():
            if level == MAX_LEVELS:
                return {}
            keys = list(value)[:MAX_KEYS]
            return {_plain(key): shape(value[key], level + 1) for key in keys}
        case list():
            return [shape(value[0], level + 1)] if value and level < MAX_LEVELS else []
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case None:
            return None
        case _:
            return "string"


def _plain(text: str) -> str:
    """Printable ASCII of a bounded length, without what ends a code span."""
    return text[:MAX_KEY_CHARACTERS].encode("ascii", "backslashreplace").decode().translate(_UNPRINTABLE)


_UNPRINTABLE = {code: "?" for code in (*range(32), 127, ord("`"))}


def report(drift: Drift, version: str) -> str:
    """In Markdown, ready to paste into an issue."""
    lines = [f"# Unknown to the catalogue of streamer {version}", ""]
    lines.append(f"{len(drift.findings)} findings in {drift.records:,} events. Examples show kinds, never values.")
    for finding in sorted(drift.findings.values(), key=lambda f: (f.field is not None, f.type, f.field or "")):
        what = "unknown type" if finding.field is None else f"field `{_plain(finding.field)}`"
        lines += [
            "",
            f"## `{finding.type}`: {what}",
            "",
            f"{finding.count:,} events, first seen {finding.first_seen}",
            "",
        ]
        lines += ["```json", json.dumps(finding.example, indent=2), "```"]
    if drift.left_out:
        lines += ["", f"More than {MAX_FINDINGS} findings: {drift.left_out:,} others are left out."]
    return "\n".join(lines)
