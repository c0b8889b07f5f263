"""What a chain of manifests is worth, manifest by manifest. Pure."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from streamer.errors import NOT_JSON
from streamer.sinks.archive.layout import manifest_key
from streamer.sinks.archive.manifest import Head, Link, Manifest, decode_manifest, digest, head_after
from streamer.sinks.archive.report import FindingKind
from streamer.sinks.archive.signing import Verifier

Signature = Literal["valid", "bad", "unsigned", "unchecked"]
Add = Callable[[FindingKind, str, str], None]
"""(kind, name, detail) of a finding."""


class Seen(NamedTuple):
    """A manifest that stands in its place."""

    manifest: Manifest
    sha256: str
    signature: Signature


class Judgement(NamedTuple):
    kind: FindingKind
    number: int
    detail: str


def judge_signature(
    manifest: Manifest, data: bytes, signature: bytes | None, verifier: Verifier | None
) -> tuple[Signature, str]:
    """What a manifest's signature is worth, and why if it is worth nothing."""
    if manifest.key is None:
        return "unsigned", ""
    if signature is None:
        return "bad", "its signature is missing"
    if verifier is None:
        return "unchecked", ""
    if manifest.key not in verifier.keys:
        return "bad", f"signed with key {manifest.key[:16]}, which is not among those given"
    if not verifier.holds(manifest.key, signature, data):
        return "bad", f"this is not what key {manifest.key[:16]} signed"
    return "valid", ""


def judge_link(before: Seen, after: Seen) -> Judgement | None:
    """Two manifests with neighbouring numbers: does the later one follow the earlier?"""
    number = before.manifest.number
    if after.manifest.previous == Link(number, before.sha256):
        if after.manifest.from_ in (before.manifest.from_, before.manifest.to):
            return None
        return Judgement("gap", number + 1, f"nothing is said of {before.manifest.to} to {after.manifest.from_}")
    if before.signature == after.signature == "valid":
        return Judgement("reordered chain", number, f"signed, but not the manifest that {number + 1} follows")
    if after.signature == "bad" and before.signature == "valid":
        return Judgement("altered", number + 1, f"does not follow manifest {number}")
    return Judgement("altered", number, f"not the manifest that {number + 1} follows")


class ChainJudge:
    """Takes every number from 1 on, in order, and reports what is wrong."""

    def __init__(self, archive: str, verifier: Verifier | None, pointers: Mapping[str, Link], add: Add) -> None:
        """`archive`: its id, empty where it is not known. `pointers`: manifests that must be there, by who says so."""
        self.archive = archive
        self.head: Head | None = None
        self.keys: dict[str, None] = {}
        self.signatures = set[Signature]()
        self._verifier, self._pointers, self._add = verifier, pointers, add
        self._before: Seen | None = None
        self._missing_from = 0
        self._unsigned_from = 0

    def take(self, number: int, data: bytes | None, signature: bytes | None) -> Manifest | None:
        """The manifest, where it stands in its place and vouches for its objects."""
        if data is None:
            self._missing_from = self._missing_from or number
            self._before = None
            return None
        self._close_gap(number)
        seen = self._read(number, data, signature)
        if seen is not None:
            self._check_place(seen)
            self._note(seen, data)
        self._before = seen
        return seen.manifest if seen else None

    def end(self, last: int, *, in_progress: bool) -> None:
        """After the last number. `in_progress`: a manifest is being written just now, and its signature comes first."""
        if not (in_progress and self._missing_from == last):
            self._close_gap(last + 1)
        for name, pointer in self._pointers.items():
            if pointer.number > last:
                self._add("gap", _range(last + 1, pointer.number), f"{name} knows of it and it is not there")
        if self._unsigned_from and self._verifier is not None and self.head is not None:
            covered = _range(self._unsigned_from, self.head.number)
            self._add("bad signature", covered, "not signed, and no signed manifest follows")

    def _close_gap(self, number: int) -> None:
        if self._missing_from:
            self._add("gap", _range(self._missing_from, number - 1), "is not there; nothing is said of its time")
        self._missing_from = 0

    def _read(self, number: int, data: bytes, signature: bytes | None) -> Seen | None:
        name = manifest_key(number)
        try:
            manifest = decode_manifest(data)
        except NOT_JSON:
            self._add("altered", name, "is no manifest")
            return None
        self.archive = self.archive or manifest.archive
        if manifest.archive != self.archive:
            self._add("reordered chain", name, f"holds a manifest of another archive, {manifest.archive}")
            return None
        if manifest.number != number:
            self._add("reordered chain", name, f"holds manifest {manifest.number}")
            return None
        worth, why = judge_signature(manifest, data, signature, self._verifier)
        if worth == "bad":
            self._add("bad signature", name, why)
        return Seen(manifest, digest(data), worth)

    def _check_place(self, seen: Seen) -> None:
        number = seen.manifest.number
        if number == 1 and seen.manifest.previous is not None:
            self._add("reordered chain", manifest_key(1), "the first manifest follows another one")
        judgement = judge_link(self._before, seen) if self._before is not None else None
        if judgement is not None:
            self._add(judgement.kind, manifest_key(judgement.number), judgement.detail)
        for name, pointer in self._pointers.items():
            if pointer.number == number and pointer.sha256 != seen.sha256:
                self._add("altered", manifest_key(number), f"not the manifest that {name} names")

    def _note(self, seen: Seen, data: bytes) -> None:
        self.head = head_after(seen.manifest, data)
        self.signatures.add(seen.signature)
        if seen.manifest.key is not None:
            self.keys[seen.manifest.key] = None
        if seen.signature == "valid":
            self._unsigned_from = 0  # a signed manifest covers all that it follows
        elif seen.signature == "unsigned":
            self._unsigned_from = self._unsigned_from or seen.manifest.number


def _range(first: int, last: int) -> str:
    return manifest_key(first) + (f" to {manifest_key(last)}" if last > first else "")
