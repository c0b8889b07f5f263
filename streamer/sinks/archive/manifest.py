"""Manifests: what lies in the archive, chained by hashes. Pure.

A manifest's file is JSON, written so that line tools can read it too: each object stands on a line of its own, its hash first.
"""

import hashlib
from typing import Literal

import msgspec

from streamer.sinks.archive.layout import ObjectKind

SCHEMA = "streamer.manifest/1"

ManifestKind = Literal["interval", "late", "replay", "retention"]
KIND_OF_OBJECTS: dict[ObjectKind, ManifestKind] = {"events": "interval", "late": "late", "replay": "replay"}


class Place(msgspec.Struct, frozen=True):
    """One event of an object."""

    seq: int
    id: str
    time: str


class ObjectEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One closed object. `sha256` and `key` stay in front: documented steps read them by position."""

    sha256: str
    key: str
    size: int
    """Bytes as stored."""
    events: int
    bytes: int
    """Bytes of the events before compression."""
    first: Place
    last: Place


class Head(msgspec.Struct, frozen=True):
    """The end of a chain."""

    number: int
    """0 before the first manifest."""
    sha256: str
    """Of the manifest's file; empty before the first."""
    until: str
    """Where the last interval ended."""


class Link(msgspec.Struct, frozen=True):
    number: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was closed in one interval, or what retention took away."""

    schema: str = SCHEMA
    archive: str
    """Which archive; the same key may sign several."""
    number: int
    """1, 2, 3 … without a hole."""
    kind: ManifestKind
    from_: str = msgspec.field(name="from")
    to: str
    segment: str
    journal: str
    """Which journal the `seq`s are of."""
    events: int
    """0 is said, not left out: no events in this interval."""
    objects: list[ObjectEntry]
    expired: list[str]
    """Keys that retention took away."""
    key: str | None
    """Fingerprint of the signing key; null: not signed."""
    previous: Link | None


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Manifest).decode


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's bytes: the same for the same manifest."""
    lines: list[bytes] = []
    for name, value in zip(manifest.__struct_encode_fields__, msgspec.structs.astuple(manifest), strict=True):
        if isinstance(value, list) and value:
            items = b",\n".join(_encode(item) for item in value)
            lines.append(_encode(name) + b": [\n" + items + b"\n]")
        else:
            lines.append(_encode(name) + b": " + _encode(value))
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def decode_manifest(data: bytes) -> Manifest:
    """msgspec.DecodeError (ValidationError included) where it is not a manifest."""
    return _decode(data)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def head_after(manifest: Manifest, data: bytes) -> Head:
    return Head(manifest.number, digest(data), manifest.to)


def link_to(head: Head) -> Link | None:
    return Link(head.number, head.sha256) if head.number else None
