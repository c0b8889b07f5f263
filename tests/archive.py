"""An archive under a stand-in for the delivery loop: one position and one bookmark, stored together after each batch."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from streamer.errors import Repositioned
from streamer.model import Message
from streamer.sinks.archive.layout import OPEN, parse_object_key
from streamer.sinks.archive.options import ArchiveOptions, S3Options
from streamer.sinks.archive.read import read_lines
from streamer.sinks.archive.segment import read_blocks, read_body
from streamer.sinks.archive.store import FolderStore, Store, make_store
from streamer.sinks.archive.writer import Archive
from tests import records
from tests.sink_contract import Arrived, OtherSide

START = 1_767_232_800.0  # 2026-01-01T02:00:00Z


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """Opens an archive in `root`, writes batches to it and keeps its bookmark in `root`.position, as a journal would."""

    root: Path
    options: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    make_store: Callable[[Path], Store] = FolderStore

    def __post_init__(self) -> None:
        self.position = self.root.with_name(self.root.name + ".position")
        self.store = self.make_store(self.root)
        self.open()

    def open(self) -> None:
        """Also what a restart after a crash does: the old one is simply gone."""
        folder = self.root / OPEN
        folder.mkdir(parents=True, exist_ok=True)
        options = ArchiveOptions(path=str(self.root), **self.options)
        self.acked, bookmark = json.loads(self.position.read_text()) if self.position.exists() else (0, None)
        self.archive = Archive(options, self.store, folder, "journal-1", bookmark, self.clock)

    def close(self) -> None:
        self.archive.close()

    def write(self, messages: Sequence[Message]) -> None:
        while True:
            try:
                bookmark = self.archive.write(messages)
            except Repositioned as moved:
                self._store(self.acked, moved.bookmark)
                continue
            self._store(messages[-1].record.seq, bookmark)
            return

    def write_events(self, count: int, first: int = 1, *, step: int = 50, replayed: bool = False) -> None:
        for begin in range(first, first + count, step):
            size = min(step, first + count - begin)
            batch = records.batch_of(records.records(size, begin), replayed=replayed)
            self.write(batch.messages)

    def tick(self) -> bool:
        """True when the archive turned to a new segment."""
        bookmark = self.archive.tick()
        if bookmark is not None:
            self._store(self.acked, bookmark)
        return bookmark is not None

    def finish(self) -> None:
        bookmark = self.archive.finish()
        if bookmark is not None:
            self._store(self.acked, bookmark)

    def _store(self, acked: int, bookmark: Any) -> None:
        temporary = self.position.with_suffix(".new")
        temporary.write_text(json.dumps([acked, bookmark]))
        os.replace(temporary, self.position)
        self.acked = acked

    # --- what lies there ---------------------------------------------------------------------------------------------

    def objects(self) -> list[str]:
        return sorted(key for key, _ in self.store.walk() if parse_object_key(key))

    def manifests(self) -> list[str]:
        return sorted(key for key, _ in self.store.walk("_manifests/") if key.endswith(".json") and key.count("/") == 2)

    def manifest(self, number: int) -> dict[str, Any]:
        data = self.store.get(self.manifests()[number - 1])
        assert data is not None
        tree: dict[str, Any] = json.loads(data)
        return tree

    def manifest_of(self, kind: str) -> dict[str, Any]:
        """The only manifest of that kind."""
        (found,) = [m for n in range(1, len(self.manifests()) + 1) if (m := self.manifest(n))["kind"] == kind]
        return found

    def lines(self) -> list[bytes]:
        """Of all objects, in the order of their names."""
        return [line for key in self.objects() for line in read_lines(self.store, key)]


class ArchiveSide(OtherSide):
    """For the contract of all sinks: what lies in objects, and what is acknowledged in the open segment."""

    kind = "archive"
    guarantee = "exactly once"

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder)
        self._options = options
        self.place = str(folder / "archive")
        self.open_folder = folder / "archive" / OPEN

    def options(self) -> dict[str, Any]:
        return {"path": self.place, **self._options}

    async def arrived(self) -> list[Arrived]:
        """Segment by segment; within one, the days and the late events lie apart, so there they are put in the order of their numbers."""
        return await asyncio.to_thread(self._arrived)

    def _arrived(self) -> list[Arrived]:
        store = make_store(self.place, S3Options(**self._options.get("s3", {})))
        segments: dict[str, list[Arrived]] = {}
        for key, name in sorted((key, name) for key, _ in store.walk() if (name := parse_object_key(key))):
            here = [(msgspec.json.decode(line)["id"], line) for line in read_lines(store, key)]
            assert here == sorted(here), "an object has the order of the journal"
            segments.setdefault(name.segment, []).extend(here)
        for path in self.open_folder.glob("*.segment"):
            for block in read_blocks(path, path.stat().st_size):
                lines = b"".join(read_body(path, block)).splitlines()
                segments.setdefault(path.stem, []).extend((msgspec.json.decode(line)["id"], line) for line in lines)
        return [arrived for name in sorted(segments) for arrived in sorted(segments[name])]
