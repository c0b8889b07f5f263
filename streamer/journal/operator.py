"""The journal as the command line sees it: read beside a running daemon, and ask it to do something."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ConfigError
from streamer.journal.schema import VERSION
from streamer.journal.sqlite import FILE, cannot_be_written, map_errors, select_letters
from streamer.ports import DeadLetter

BUSY_TIMEOUT_S = 10.0

_CHOSEN = "WHERE (?1 IS NULL OR number IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR sink = ?2)"


@dataclass(frozen=True)
class ListingRow:
    source: str
    listing: str
    watermark: int
    """Unix seconds."""


@dataclass(frozen=True)
class SinkRow:
    sink: str
    acked: int
    backlog: int
    oldest_at: float | None
    """Unix seconds at which the oldest undelivered record was appended."""
    dead_letters: int


class Operator:
    """Short transactions of its own connection; the daemon sees what they ask for within a second."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def listings(self) -> list[ListingRow]:
        rows = self._db.execute(
            "SELECT name, listing, watermark FROM progress JOIN sources ON number = source ORDER BY 1, 2"
        )
        return [ListingRow(*row) for row in rows]

    def sinks(self) -> list[SinkRow]:
        rows = self._db.execute(
            "SELECT name, acked,"
            " max((SELECT seq FROM head) - max(acked, coalesce((SELECT min(last_seq - count) FROM blocks), acked)), 0),"
            " (SELECT appended_at FROM blocks WHERE last_seq > acked ORDER BY last_seq LIMIT 1),"
            " (SELECT count(*) FROM dead_letters WHERE sink = name) FROM sinks ORDER BY name"
        )
        return [SinkRow(*row) for row in rows]

    def dead_letters(self, sink: str | None, limit: int = 1000) -> list[DeadLetter]:
        return select_letters(self._db, "(?1 IS NULL OR sink = ?1)", (sink,), limit)

    def dead_letter(self, number: int) -> DeadLetter | None:
        return next(iter(select_letters(self._db, "number = ?", (number,), 1)), None)

    def requeue(self, numbers: list[int] | None, sink: str | None) -> int:
        """Ask to deliver again: these, or all (of a sink). How many there were."""
        return self._change(f"UPDATE dead_letters SET requeued = 1 {_CHOSEN}", numbers, sink)

    def discard(self, numbers: list[int] | None, sink: str | None) -> int:
        """Forget: these, or all (of a sink). How many there were."""
        return self._change(f"DELETE FROM dead_letters {_CHOSEN}", numbers, sink)

    def _change(self, statement: str, numbers: list[int] | None, sink: str | None) -> int:
        return self._db.execute(statement, (None if numbers is None else json.dumps(numbers), sink)).rowcount


def check_state(folder: Path) -> None:
    """ConfigError when a daemon could not work with this state folder; leaves no trace, and may run beside a daemon."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        # Tried, not asked: a file system may be read-only, or take no folders, for root too.
        with tempfile.TemporaryDirectory(dir=existing, prefix=".streamer-check-"):
            pass
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    if (folder / FILE).exists():
        with open_operator(folder):
            pass


@contextmanager
def open_operator(folder: Path) -> Iterator[Operator]:
    """ConfigError when there is no journal, it cannot be read, or it has another version than this program."""
    path = folder / FILE
    if not path.exists():
        raise ConfigError(f"state: no journal in {folder}; run `streamer run` first, or check `state`")
    with map_errors(path):
        db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise ConfigError(
                    f"journal {path}: version {version}, this streamer knows {VERSION}; use the daemon's own version"
                )
            db.execute("PRAGMA synchronous = FULL")
            yield Operator(db)
        finally:
            db.close()
