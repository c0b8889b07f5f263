"""A segment's way from open to closed. Each step can be done again after a crash at any byte:

ID.segment                 open: blocks are appended; the bookmark says how far they are acknowledged
ID.segment + ID.sealed     nothing is appended any more; objects are being placed
ID.placed                  the objects are in place and their hashes known; manifests are being written
(none)                     closed: its manifests are in the chain
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from streamer import folders
from streamer.errors import NOT_JSON, ConfigError
from streamer.sinks.archive.chain import Chain
from streamer.sinks.archive.layout import OBJECT_KINDS, Partition, object_key, parse_object_key
from streamer.sinks.archive.manifest import KIND_OF_OBJECTS, Head, Manifest, ManifestKind, ObjectEntry, link_to
from streamer.sinks.archive.objects import suffix, write_object
from streamer.sinks.archive.options import ArchiveOptions
from streamer.sinks.archive.segment import Block, read_blocks, read_body
from streamer.sinks.archive.store import Store, disk_errors

T = TypeVar("T")


class Seal(msgspec.Struct, frozen=True):
    """Everything that a closing depends on, so that it comes out the same when it is done again."""

    length: int
    to: str
    journal: str
    head: Head
    expired: list[str]


class _Placed(msgspec.Struct, frozen=True):
    seal: Seal
    entries: list[ObjectEntry]


class Closing:
    """The files of the open folder, and what is made of them."""

    def __init__(self, options: ArchiveOptions, store: Store, folder: Path, chain: Chain) -> None:
        self._options, self._store, self._folder, self._chain = options, store, folder, chain

    def path(self, segment: str) -> Path:
        return self._folder / f"{segment}.segment"

    def accepts_loss(self, segment: str) -> bool:
        """An operator says that the segment cannot be restored."""
        return (self._folder / f"{segment}.lost").exists()

    def left_over(self) -> list[str]:
        """All segments that are not closed, oldest first."""
        with disk_errors(self._folder):
            kinds = (".segment", ".sealed", ".placed")
            return sorted({path.stem for path in self._folder.iterdir() if path.suffix in kinds})

    def is_sealed(self, segment: str) -> bool:
        return self._file(segment, "sealed").exists() or self._file(segment, "placed").exists()

    def seal(self, segment: str, make: Callable[[], Seal]) -> None:
        """Nothing is appended to the segment any more, whatever happens. Without effect when that was said before."""
        if not self.is_sealed(segment) and self.path(segment).exists():
            self._write(segment, "sealed", make())

    def complete(self, segment: str) -> None:
        """From sealed to closed; also when a part of it is done already, or all."""
        placed = self._read(segment, "placed", _Placed)
        if placed is None:
            seal = self._read(segment, "sealed", Seal)
            if seal is None:
                return
            placed = _Placed(seal, self._place_objects(segment, seal.length))
            self._write(segment, "placed", placed)
        self._write_manifests(segment, placed)
        for key in placed.seal.expired:
            if not self._store.locked(key):
                self._store.delete(key)
        self.remove(segment)

    def remove(self, segment: str) -> None:
        """In this order: what is left after a crash says how far the closing had come."""
        with disk_errors(self._folder):
            for kind in ("part", "segment", "sealed", "lost", "placed"):
                self._file(segment, kind).unlink(missing_ok=True)
            folders.sync(self._folder)

    # --- objects -----------------------------------------------------------------------------------------------------

    def _place_objects(self, segment: str, length: int) -> list[ObjectEntry]:
        partitions: dict[Partition, list[Block]] = {}
        end = 0
        for block in read_blocks(self.path(segment), length) if length else ():
            partitions.setdefault(block.head.partition, []).append(block)
            end = block.offset + block.head.size
        if end != length:
            raise ConfigError(f"archive: {self.path(segment)}: damaged at byte {end}; restore the file from a copy")
        return [self._place_object(segment, partition, blocks) for partition, blocks in sorted(partitions.items())]

    def _place_object(self, segment: str, partition: Partition, blocks: list[Block]) -> ObjectEntry:
        heads = [block.head for block in blocks]
        low, high = min(head.low for head in heads), max(head.high for head in heads)
        key = object_key(partition, segment, low, high, suffix(self._options))
        temporary = self._file(segment, "part")
        sha256 = write_object(temporary, self._options, self._bodies(segment, blocks))
        sha256, size = self._store.place(key, temporary, sha256)
        return ObjectEntry(
            sha256=sha256,
            key=key,
            size=size,
            events=sum(head.events for head in heads),
            bytes=sum(head.size for head in heads),
            first=heads[0].first,
            last=heads[-1].last,
        )

    def _bodies(self, segment: str, blocks: list[Block]) -> Iterator[bytes]:
        for block in blocks:
            yield from read_body(self.path(segment), block)

    # --- manifests ---------------------------------------------------------------------------------------------------

    def _write_manifests(self, segment: str, placed: _Placed) -> None:
        """The interval's own, always; one each for late, replayed and expired objects, if there are any."""
        self._chain.head = placed.seal.head
        by_kind: dict[ManifestKind, list[ObjectEntry]] = {KIND_OF_OBJECTS[kind]: [] for kind in OBJECT_KINDS}
        for entry in placed.entries:
            name = parse_object_key(entry.key)
            assert name is not None
            by_kind[KIND_OF_OBJECTS[name.partition.kind]].append(entry)
        for kind, entries in by_kind.items():
            if entries or kind == "interval":
                self._write_manifest(segment, placed.seal, kind, entries, [])
        if placed.seal.expired:
            self._write_manifest(segment, placed.seal, "retention", [], placed.seal.expired)
        self._chain.follow()
        self._chain.publish()

    def _write_manifest(
        self, segment: str, seal: Seal, kind: ManifestKind, entries: list[ObjectEntry], expired: list[str]
    ) -> None:
        def make(archive: str, number: int, key: str | None, head: Head) -> Manifest:
            return Manifest(
                archive=archive,
                number=number,
                kind=kind,
                from_=seal.head.until,
                to=seal.to,
                segment=segment,
                journal=seal.journal,
                events=sum(entry.events for entry in entries),
                objects=entries,
                expired=expired,
                key=key,
                previous=link_to(head),
            )

        self._chain.append(make)

    # --- the open folder ---------------------------------------------------------------------------------------------

    def _file(self, segment: str, kind: str) -> Path:
        return self._folder / f"{segment}.{kind}"

    def _write(self, segment: str, kind: str, value: Seal | _Placed) -> None:
        path = self._file(segment, kind)
        temporary = self._folder / "keeping"
        with disk_errors(path):
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(value))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            folders.sync(self._folder)

    def _read(self, segment: str, kind: str, form: type[T]) -> T | None:
        path = self._file(segment, kind)
        with disk_errors(path):
            if not path.exists():
                return None
            try:
                return msgspec.json.decode(path.read_bytes(), type=form)
            except NOT_JSON:
                raise ConfigError(f"archive: {path} is damaged; restore the file from a copy") from None
