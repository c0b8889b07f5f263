"""The ids of an archive, by the time of their events: what a comparison asks for, window by window."""

import itertools
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from streamer.sinks.archive.options import S3Options
from streamer.sinks.archive.read import read_archive

ROWS_PER_INSERT = 5000


class _Facts(msgspec.Struct, gc=False):
    source: str
    listing: str
    id: str
    time: datetime


_facts = msgspec.json.Decoder(_Facts).decode


class ArchiveIds:
    """In a file of its own, so that memory does not grow with the archive."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def remembered(self, source: str, since: int, before: int) -> list[tuple[int, str, str, int]]:
        """(effective_at, id, listing, 0) of [since, before), Unix seconds."""
        return self._db.execute(
            "SELECT effective_at, id, listing, 0 FROM ids WHERE source = ? AND effective_at >= ? AND effective_at < ?",
            (source, since, before),
        ).fetchall()


@contextmanager
def open_archive_ids(place: str, since: float, until: float, s3: S3Options | None = None) -> Iterator[ArchiveIds]:
    """Of the events of [since, until), Unix seconds. ConfigError where nothing is there or it cannot be read."""
    lines = read_archive(place, since, until, s3=s3)
    with tempfile.TemporaryDirectory(prefix="streamer-reconcile-") as folder:
        db = sqlite3.connect(Path(folder) / "ids.db", isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.execute(
                "CREATE TABLE ids (source TEXT, effective_at INTEGER, id TEXT, listing TEXT,"
                " PRIMARY KEY (source, effective_at, id)) WITHOUT ROWID"
            )
            while part := [_row(_facts(line)) for line in itertools.islice(lines, ROWS_PER_INSERT)]:
                db.execute("BEGIN")
                db.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?, ?, ?)", part)
                db.execute("COMMIT")
            yield ArchiveIds(db)
        finally:
            db.close()


def _row(facts: _Facts) -> tuple[str, int, str, str]:
    return facts.source, int(facts.time.timestamp()), facts.id, facts.listing
