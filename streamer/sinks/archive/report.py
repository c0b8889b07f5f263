"""What `verify` found, and how it is shown."""

from collections import Counter
from typing import Literal

import msgspec

FindingKind = Literal["altered", "missing", "foreign", "gap", "bad signature", "reordered chain"]
FINDINGS_KEPT = 10_000


class Finding(msgspec.Struct, frozen=True):
    kind: FindingKind
    name: str
    """The key of the object or manifest."""
    detail: str


class Report(msgspec.Struct, kw_only=True):
    """`whole` says it all; the rest says why. Findings beyond FINDINGS_KEPT are only counted."""

    place: str
    whole: bool = True
    findings: list[Finding] = []
    counts: dict[FindingKind, int] = {}
    archive: str = ""
    manifests: int = 0
    head: str = ""
    """`NUMBER:SHA256` of the newest manifest: the anchor of a later verification."""
    since: str = ""
    until: str = ""
    """The intervals reach from `since` to `until`."""
    objects: int = 0
    events: int = 0
    stored_bytes: int = 0
    event_bytes: int = 0
    expired: int = 0
    """Objects that retention took away, as the chain says."""
    signatures: Literal["valid", "not checked", "none", "bad"] = "none"
    """`valid`: the chain ends in a signature of a given key, so all that stands before it is covered."""
    keys: list[str] = []
    """Fingerprints that the manifests name."""
    unfinished: list[str] = []
    """Objects and segments that are being closed, which no manifest covers yet."""
    open_bytes: int = 0
    """Bytes of events in the open segment, which no manifest covers yet."""
    deep: bool = False
    seconds: float = 0.0

    def add(self, kind: FindingKind, name: str, detail: str) -> None:
        self.whole = False
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(Finding(kind, name, detail))


def show_json(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def show_text(report: Report) -> str:
    """For a terminal; the findings first, one a line."""
    lines = [f"{finding.kind:16}{finding.name}: {finding.detail}" for finding in report.findings]
    left_out = sum(Counter(report.counts).values()) - len(report.findings)
    if left_out:
        lines.append(f"… and {left_out} more")
    if report.findings:
        lines.append("")
    counted = ", ".join(f"{count} {kind}" for kind, count in report.counts.items())
    lines.append(f"{report.place}: {'whole' if report.whole else 'NOT WHOLE: ' + counted}")
    lines += [f"  {name:12}{text}" for name, text in _rows(report) if text]
    return "\n".join(lines)


def _rows(report: Report) -> list[tuple[str, str]]:
    signatures = {
        "valid": "valid",
        "bad": "bad",
        "not checked": "not checked; give the public key with --key",
        "none": "none: the manifests are chained by hashes but not signed, so whoever can write can forge the whole",
    }[report.signatures]
    keys = ", ".join(key[:16] for key in report.keys)
    expired = f", {report.expired:,} expired" if report.expired else ""
    return [
        ("manifests", f"{report.manifests:,}, {report.since} to {report.until}" if report.manifests else "none"),
        ("objects", f"{report.objects:,}, {_size(report.stored_bytes)}{expired}"),
        ("events", f"{report.events:,}, {_size(report.event_bytes)}{' (counted)' if report.deep else ''}"),
        ("signatures", signatures + (f" (key {keys})" if keys else "")),
        ("unfinished", ", ".join(report.unfinished[:10])),
        ("open", f"{_size(report.open_bytes)} of events in no object yet" if report.open_bytes else ""),
        (
            "chain ends",
            f"{report.head}  (kept elsewhere, this proves next time that nothing was cut off)" if report.head else "",
        ),
        ("took", f"{report.seconds:.1f} s"),
    ]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
