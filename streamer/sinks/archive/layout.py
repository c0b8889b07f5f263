"""Where things lie in an archive: names to facts and back. Pure.

source=acme/date=2026-01-31/events-20260131T101502123Z-000000000001-000000005000.jsonl.zst
_manifests/archive.json                      which archive this is
_manifests/latest.json                       the newest manifest, as a hint against truncation
_manifests/000000/000000042.json             a manifest
_manifests/000000/000000042.json.sig         its signature
.open/                                       what is not closed yet (in a folder; with S3 it lies in the state folder)
"""

import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import quote

ObjectKind = Literal["events", "late", "replay"]
OBJECT_KINDS: tuple[ObjectKind, ...] = ("events", "late", "replay")

MANIFESTS = "_manifests/"
IDENTITY_KEY = MANIFESTS + "archive.json"
LATEST_KEY = MANIFESTS + "latest.json"
OPEN = ".open"

_OBJECT = re.compile(
    r"source=(?P<source>[^/]+)/date=(?P<date>\d{4}-\d\d-\d\d)/(?P<kind>events|late|replay)"
    r"-(?P<segment>\d{8}T\d{9}Z)-(?P<first>\d{12,})-(?P<last>\d{12,})\.(?P<suffix>jsonl|jsonl\.zst|jsonl\.gz|parquet)"
)
_MANIFEST = re.compile(r"_manifests/\d{6,}/(?P<number>\d{9,})\.json(?P<signature>\.sig)?")


class Partition(NamedTuple):
    """What one object holds: events of one source, one day, one kind."""

    source: str
    date: str
    """YYYY-MM-DD of the events' own time, UTC."""
    kind: ObjectKind


class ObjectName(NamedTuple):
    """What an object's name says."""

    partition: Partition
    segment: str
    first: int
    last: int
    suffix: str


def object_key(partition: Partition, segment: str, first: int, last: int, suffix: str) -> str:
    folder = f"source={quote(partition.source, safe='')}/date={partition.date}"
    return f"{folder}/{partition.kind}-{segment}-{first:012}-{last:012}.{suffix}"


def parse_object_key(key: str) -> ObjectName | None:
    """None: not a name that we give."""
    found = _OBJECT.fullmatch(key)
    if found is None:
        return None
    kind: ObjectKind = found["kind"]  # type: ignore[assignment]  # the pattern holds only these
    partition = Partition(found["source"], found["date"], kind)
    return ObjectName(partition, found["segment"], int(found["first"]), int(found["last"]), found["suffix"])


def manifest_key(number: int) -> str:
    return f"{MANIFESTS}{number // 1000:06}/{number:09}.json"


def signature_key(number: int) -> str:
    return manifest_key(number) + ".sig"


def parse_manifest_key(key: str) -> tuple[int, bool] | None:
    """(number, whether it is the signature); None: not a name that we give."""
    found = _MANIFEST.fullmatch(key)
    if found is None:
        return None
    number, is_signature = int(found["number"]), found["signature"] is not None
    return (number, is_signature) if key == (signature_key if is_signature else manifest_key)(number) else None


def segment_id(milliseconds: int) -> str:
    """The moment at which a segment began, sortable: `20260131T101502123Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}{milliseconds % 1000:03}Z"


def segment_milliseconds(segment: str) -> int:
    moment = datetime.strptime(segment[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000 + int(segment[15:18])


def instant(milliseconds: int) -> str:
    """`2026-01-31T10:15:02.123Z`"""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"
