"""The newest events as readable lines, read from the journal when somebody looks."""

import re
from collections import deque
from dataclasses import dataclass

import msgspec

from streamer.formats import make_format
from streamer.formats.line import visible
from streamer.model import SEVERITIES, Record, Seq
from streamer.ports import Journal

SHOWN = 50
REACH = 2000
"""With a filter, so many of the newest events are looked through."""
READ_EVENTS, READ_BYTES = 500, 4 << 20
MAX_QUERY = 200
MAX_SHOWN_BYTES = 1 << 16
FORMATS = ("envelope", "raw", "ocsf", "ecs", "cef", "leef")
INDENTED = ("envelope", "ocsf", "ecs")


@dataclass(frozen=True)
class Filter:
    """Which events are shown."""

    text: str = ""
    """Somewhere in the event, whatever the case."""
    severity: str = "informational"
    """At least this."""

    @classmethod
    def of(cls, text: str, severity: str) -> "Filter":
        """What a query says; nonsense is no filter."""
        return cls(text.strip()[:MAX_QUERY], severity if severity in SEVERITIES else "informational")

    @property
    def all(self) -> bool:
        return self == Filter()

    def wants(self, line: bytes) -> bool:
        return SEVERITIES.index(_severity(line)) >= SEVERITIES.index(self.severity) and self._contains(line)

    def _contains(self, line: bytes) -> bool:
        needle = self.text.lower()
        if needle.isascii():
            # A third of what decoding costs.
            return needle.encode() in line.lower()
        return needle in line.decode("utf-8", "replace").lower()


_SEVERITY = re.compile(rb'"severity":"([a-z]+)"')
"""Before an envelope's own severity stand numbers and texts, whose quotation marks are escaped: the first that is found is its own."""


def _severity(line: bytes) -> str:
    """What is not known is shown rather than hidden."""
    found = _SEVERITY.search(line)
    severity = found[1].decode() if found else ""
    return severity if severity in SEVERITIES else SEVERITIES[-1]


class Latest:
    """What one filter has found so far; each look reads only what is new."""

    def __init__(self, journal: Journal, wanted: Filter) -> None:
        self._journal, self._wanted = journal, wanted
        self._seen = 0
        self.found: deque[Record] = deque(maxlen=SHOWN)
        """Oldest first."""

    async def look(self) -> None:
        head = self._journal.head
        after = max(self._seen, head - (SHOWN if self._wanted.all else REACH))
        chosen: deque[Record] = deque(maxlen=SHOWN)
        while after < head:
            records = await self._journal.read(Seq(after), READ_EVENTS, READ_BYTES)
            if not records:
                break
            after = records[-1].seq
            chosen += [record for record in records if self._wanted.all or self._wanted.wants(record.line)]
        self._seen = max(after, self._seen)
        self.found += chosen


async def one(journal: Journal, seq: int) -> Record | None:
    records = await journal.read(Seq(seq - 1), 1, 0)
    return records[0] if records and records[0].seq == seq else None


def in_every_format(record: Record) -> list[tuple[str, str]]:
    """Name and text, printable whatever the event holds."""
    return [(name, _text(make_format(name).encode(record), indented=name in INDENTED)) for name in FORMATS]  # type: ignore[arg-type]  # constants


def _text(body: bytes, *, indented: bool) -> str:
    cut = len(body) - MAX_SHOWN_BYTES
    if indented and cut <= 0:
        # Only white space changes: numbers and doubled keys stay as they are.
        body = msgspec.json.format(body, indent=2)
    text = body[:MAX_SHOWN_BYTES].decode("utf-8", "replace") if cut > 0 else body.decode("utf-8", "replace")
    shown = "\n".join(visible(line, MAX_SHOWN_BYTES * 10) for line in text.split("\n"))
    return f"{shown}\n… and {cut:,} bytes more: `streamer explain` shows all" if cut > 0 else shown
