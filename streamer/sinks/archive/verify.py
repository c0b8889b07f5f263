"""Is an archive whole? Reads the chain, then every object, and names what is wrong for what it is.

Memory does not grow with the events: manifests are read one after another, objects are hashed as streams, and of every object
only eight bytes are remembered.
"""

import hashlib
import os
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from streamer.errors import NOT_JSON, ConfigError
from streamer.sinks.archive.chain import Identity
from streamer.sinks.archive.judge import ChainJudge
from streamer.sinks.archive.layout import (
    IDENTITY_KEY,
    LATEST_KEY,
    MANIFESTS,
    OPEN,
    manifest_key,
    parse_manifest_key,
    parse_object_key,
    signature_key,
)
from streamer.sinks.archive.manifest import Link, Manifest, ObjectEntry, decode_manifest
from streamer.sinks.archive.options import S3Options
from streamer.sinks.archive.read import count_events
from streamer.sinks.archive.report import FINDINGS_KEPT, Finding, FindingKind, Report
from streamer.sinks.archive.signing import Verifier, load_verifier
from streamer.sinks.archive.store import FolderStore, Store, is_remote, make_store

A = TypeVar("A")
B = TypeVar("B")

_PIECE = 256 << 10
_REQUESTS = 16
"""At a time, to a remote store: they wait more than they work."""
_AHEAD = 64
"""Small files wait for the disk or the network, so more are at work than there are cores."""

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all), as stored."""


def verify(
    place: str,
    key: Path | None = None,
    progress: Progress | None = None,
    *,
    anchor: str | None = None,
    deep: bool = False,
    s3: S3Options | None = None,
) -> Report:
    """Verify the archive in a folder or at s3://bucket/prefix; Report.whole is the answer.

    `key`: a file with the trusted public keys; without it signatures are not checked. `anchor`: `NUMBER:SHA256` of a manifest, kept elsewhere, that the chain
    must hold. `deep`: also decompress and count. ConfigError where there is no archive, or the key cannot be read.
    """
    began = time.monotonic()
    store = make_store(place, s3 or S3Options())
    verifier = load_verifier(key) if key is not None else None
    with ThreadPoolExecutor(_REQUESTS if is_remote(place) else os.cpu_count()) as pool:
        report = _Verification(store, place, verifier, pool, deep).run(
            _parse_anchor(anchor), progress or (lambda *_: None)
        )
    report.seconds = round(time.monotonic() - began, 3)
    return report


def _parse_anchor(text: str | None) -> Link | None:
    if text is None:
        return None
    number, _, sha256 = text.partition(":")
    if not number.isdecimal() or len(sha256) != 64:
        raise ConfigError(f"{text!r} is no anchor; write NUMBER:SHA256 as verify shows it where the chain ends")
    return Link(int(number), sha256.lower())


class _Checked(NamedTuple):
    """One object against its entry."""

    entry: ObjectEntry
    kind: FindingKind | None
    detail: str
    sha256: str


class _Keys:
    """A set of keys at eight bytes each."""

    def __init__(self) -> None:
        self._marks = array("Q")
        self._is_sorted = True

    def add(self, key: str) -> None:
        self._marks.append(_mark(key))
        self._is_sorted = False

    def __contains__(self, key: str) -> bool:
        if not self._is_sorted:
            self._marks = array("Q", sorted(self._marks))
            self._is_sorted = True
        mark = _mark(key)
        place = bisect_left(self._marks, mark)
        return place < len(self._marks) and self._marks[place] == mark


def _mark(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


class _Verification:
    def __init__(self, store: Store, place: str, verifier: Verifier | None, pool: Executor, deep: bool) -> None:
        self._store, self._verifier, self._pool, self._deep = store, verifier, pool, deep
        self._report = Report(place=place, deep=deep)
        self._closing = _segments_being_closed(store)
        self._unsound = set[int]()
        """Manifests that do not stand in their place and vouch for nothing."""
        self._newest_segment = ""
        self._listed, self._expired = _Keys(), _Keys()
        self._total = 0

    def run(self, anchor: Link | None, progress: Progress) -> Report:
        last = self._last_number()
        self._check_chain(last, anchor)
        self._check_objects(last, progress)
        self._find_foreign(last)
        self._report.open_bytes = _open_bytes(self._store)
        return self._report

    def _last_number(self) -> int:
        """The highest number that a manifest or a signature has."""
        names = (parse_manifest_key(key) for key, _ in self._store.walk(MANIFESTS))
        return max((name[0] for name in names if name), default=0)

    # --- the chain ---------------------------------------------------------------------------------------------------

    def _check_chain(self, last: int, anchor: Link | None) -> None:
        report = self._report
        pointers = {"the anchor": anchor} if anchor else {}
        archive = self._archive_id(last)
        if (latest := self._latest(last)) is not None:
            pointers[LATEST_KEY] = latest
        judge = ChainJudge(archive, self._verifier, pointers, report.add)
        texts = _ahead(self._pool, self._fetch, range(1, last + 1))
        for number, (data, signature) in enumerate(texts, 1):
            manifest = judge.take(number, data, signature)
            if manifest is None:
                self._unsound.add(number)
            else:
                self._count(manifest)
        judge.end(last, in_progress=bool(self._closing))
        report.archive, report.keys = judge.archive, list(judge.keys)
        if judge.head is not None:
            report.head, report.until = f"{judge.head.number}:{judge.head.sha256}", judge.head.until
        report.signatures = self._signatures(judge)

    def _archive_id(self, last: int) -> str:
        data = self._store.get(IDENTITY_KEY)
        if data is None:
            if last == 0 and not any(True for _ in self._store.walk()):
                raise ConfigError(f"{self._report.place}: no archive is there; give the path of the archive sink")
            self._report.add("missing", IDENTITY_KEY, "it says which archive this is")
            return ""
        try:
            return msgspec.json.decode(data, type=Identity).archive
        except NOT_JSON:
            self._report.add("altered", IDENTITY_KEY, "cannot be read")
            return ""

    def _latest(self, last: int) -> Link | None:
        data = self._store.get(LATEST_KEY)
        if data is None:
            if last and not self._closing:
                self._report.add("missing", LATEST_KEY, "it says where the chain ends")
            return None
        try:
            return msgspec.json.decode(data, type=Link)
        except NOT_JSON:
            self._report.add("altered", LATEST_KEY, "cannot be read")
            return None

    def _fetch(self, number: int) -> tuple[bytes | None, bytes | None]:
        return self._store.get(manifest_key(number)), self._store.get(signature_key(number))

    def _count(self, manifest: Manifest) -> None:
        report = self._report
        report.manifests += 1
        report.since = report.since or manifest.from_
        report.objects += len(manifest.objects)
        for entry in manifest.objects:
            report.events += entry.events
            report.stored_bytes += entry.size
            report.event_bytes += entry.bytes
            self._listed.add(entry.key)
        for key in manifest.expired:
            self._expired.add(key)
        report.expired += len(manifest.expired)
        self._newest_segment = max(self._newest_segment, manifest.segment)

    def _signatures(self, judge: ChainJudge) -> Literal["valid", "not checked", "none", "bad"]:
        if "bad" in judge.signatures:
            return "bad"
        if "valid" in judge.signatures:
            return "valid"
        return "not checked" if judge.keys else "none"

    # --- objects -----------------------------------------------------------------------------------------------------

    def _check_objects(self, last: int, progress: Progress) -> None:
        done, total = 0, self._report.stored_bytes
        altered: dict[str, list[str]] = {}
        for checked in _ahead(self._pool, self._check, self._entries(last)):
            done += checked.entry.size
            progress(done, total)
            if checked.kind is None:
                continue
            if checked.kind == "altered" and len(altered) < FINDINGS_KEPT:
                altered.setdefault(checked.sha256, []).append(checked.entry.key)
            self._report.add(checked.kind, checked.entry.key, checked.detail)
        if altered:
            self._explain(altered, last)

    def _entries(self, last: int) -> Iterator[ObjectEntry]:
        """All that must be there."""
        sound = (manifest_key(number) for number in range(1, last + 1) if number not in self._unsound)
        for data in _ahead(self._pool, self._store.get, sound):
            if data is not None:
                yield from (entry for entry in decode_manifest(data).objects if entry.key not in self._expired)

    def _check(self, entry: ObjectEntry) -> _Checked:
        file = self._store.open(entry.key)
        if file is None:
            return _Checked(entry, "missing", "is not there", "")
        sha256, size = hashlib.sha256(), 0
        with file:
            while piece := file.read(_PIECE):
                sha256.update(piece)
                size += len(piece)
        found = sha256.hexdigest()
        if found != entry.sha256:
            how = "other bytes" if size == entry.size else f"{size} bytes instead of {entry.size}"
            return _Checked(entry, "altered", how, found)
        return self._counted(entry) if self._deep else _Checked(entry, None, "", found)

    def _counted(self, entry: ObjectEntry) -> _Checked:
        """Its events are as many as its manifest says."""
        try:
            events, size = count_events(self._store, entry.key)
        except ConfigError as error:
            return _Checked(entry, "altered", str(error), "")
        if events != entry.events or size not in (entry.bytes, None):
            how = f"holds {events} events, {size} bytes of them; its manifest says {entry.events}, {entry.bytes}"
            return _Checked(entry, "altered", how, "")
        return _Checked(entry, None, "", "")

    def _explain(self, altered: dict[str, list[str]], last: int) -> None:
        """Say so where an altered object holds what belongs under another name."""
        owner = {entry.sha256: entry.key for entry in self._entries(last) if entry.sha256 in altered}
        held = {key: owner[sha256] for sha256, keys in altered.items() if sha256 in owner for key in keys}
        self._report.findings = [
            Finding(found.kind, found.name, f"holds what belongs to {held[found.name]}")
            if found.name in held
            else found
            for found in self._report.findings
        ]

    # --- what nobody vouches for -------------------------------------------------------------------------------------

    def _find_foreign(self, last: int) -> None:
        for key, _ in self._store.walk():
            if (
                key in (IDENTITY_KEY, LATEST_KEY)
                or parse_manifest_key(key)
                or key in self._listed
                or key in self._expired
            ):
                continue
            if self._is_being_closed(key, last):
                self._report.unfinished.append(key)
            else:
                self._report.add("foreign", key, "no manifest that stands in its place names it")

    def _is_being_closed(self, key: str, last: int) -> bool:
        """The daemon is at work: an object is in its place a moment before the manifest that names it."""
        name = parse_object_key(key)
        if name is None or name.segment <= self._newest_segment:
            return False
        return name.segment in self._closing or self._store.get(manifest_key(last + 1)) is not None


def _segments_being_closed(store: Store) -> set[str]:
    if not isinstance(store, FolderStore) or not (store.root / OPEN).is_dir():
        return set()
    return {path.stem for path in (store.root / OPEN).iterdir() if path.suffix in (".sealed", ".placed")}


def _open_bytes(store: Store) -> int:
    if not isinstance(store, FolderStore):
        return 0
    return sum(path.stat().st_size for path in (store.root / OPEN).glob("*.segment"))


def _ahead(pool: Executor, act: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results in order; a few items ahead are at work."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(act, item))
        if len(waiting) >= _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
