"""The journal as the command line sees it: read beside a running daemon, and ask it to do something."""

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ConfigError
from streamer.journal.blocks import unpack
from streamer.journal.opening import FILE, cannot_be_written, from_the_future, map_errors
from streamer.journal.schema import VERSION
from streamer.journal.sqlite import memory_key, select_letters
from streamer.model import Record, Seq, decode_envelope
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

    # --- reading ---

    def head(self) -> int:
        head: int = self._db.execute("SELECT seq FROM head").fetchone()[0]
        return head

    def records(self, after: int) -> list[Record]:
        """What follows `after` in its block, or the next block; empty at the head."""
        row = self._db.execute(
            "SELECT last_seq, count, body, size FROM blocks WHERE last_seq > ? ORDER BY last_seq LIMIT 1", (after,)
        ).fetchone()
        if row is None:
            return []
        first = row[0] - row[1] + 1
        numbered = enumerate(unpack(row[2], row[3]), first)
        return [Record(Seq(seq), line) for seq, line in numbered if seq > after]

    def find(self, event_id: str) -> list[Record]:
        """The records of an id that the journal still holds: one a source that has it."""
        seqs = self._db.execute("SELECT seq FROM ids WHERE id = ? ORDER BY seq", (memory_key(event_id),)).fetchall()
        found = [record for (seq,) in seqs for record in self.records(seq - 1)[:1]]
        return [record for record in found if record.envelope.id == event_id]

    # --- asking for deliveries ---

    def replay(self, sink: str, since: float, before: float) -> int:
        """Ask for what the journal holds of [since, before), Unix seconds of the events' own time. How many records that are."""
        count, first, last = self._db.execute(
            "SELECT count(*), min(seq), max(seq) FROM ids WHERE effective_at >= ? AND effective_at < ?"
            " AND seq > (SELECT coalesce(min(last_seq - count), (SELECT seq FROM head)) FROM blocks)",
            (since, before),
        ).fetchone()
        if count:
            self._db.execute(
                "INSERT INTO replays (sink, after_seq, until_seq, since, before) VALUES (?, ?, ?, ?, ?)",
                (sink, first - 1, last, since, before),
            )
        return int(count)

    def deliver(self, sink: str, lines: Iterable[bytes], at: float) -> int:
        """Ask for envelopes from elsewhere, an archive, to be delivered. How many they are; all or none are taken."""
        rows = ((sink, (e := decode_envelope(line)).id, e.type, "asked for by replay", at, line) for line in lines)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            count = self._db.executemany(
                "INSERT INTO dead_letters (sink, seq, id, type, reason, attempts, at, requeued, line)"
                " VALUES (?, 0, ?, ?, ?, 0, ?, 1, ?)",
                rows,
            ).rowcount
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return count

    # --- completeness ---

    def remembered(self, source: str, since: int, before: int) -> list[tuple[int, str, str, int]]:
        """(effective_at, key, listing, seq) of what the journal has seen of [since, before), Unix seconds; the key is `memory_key` of the id."""
        return self._db.execute(
            "SELECT effective_at, id, listing, seq FROM ids WHERE source = (SELECT number FROM sources WHERE name = ?)"
            " AND effective_at >= ? AND effective_at < ?",
            (source, since, before),
        ).fetchall()

    def forgotten_before(self, source: str) -> int:
        """Ids of events before this Unix second may have been forgotten; 0: none ever was."""
        row = self._db.execute(
            "SELECT max(before) FROM forgotten JOIN sources ON number = source WHERE name = ?", (source,)
        ).fetchone()
        return row[0] or 0

    def acked(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT name, acked FROM sinks").fetchall())

    def buried(self, after: int) -> list[tuple[int, str, int]]:
        """(number, sink, seq) of the dead letters that follow number `after`."""
        return self._db.execute(
            "SELECT number, sink, seq FROM dead_letters WHERE number > ? ORDER BY number", (after,)
        ).fetchall()

    def repair(self, source: str, listing: str, spans: Sequence[tuple[int, int]]) -> None:
        """Ask for ranges, [since, before) in Unix seconds, to be walked again."""
        self._db.executemany(
            "INSERT INTO repairs (source, listing, since, before) VALUES (?, ?, ?, ?)",
            [(source, listing, since, before) for since, before in spans],
        )

    def repairs_left(self) -> int:
        left: int = self._db.execute("SELECT count(*) FROM repairs").fetchone()[0]
        return left

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
        with open_operator(folder, migrating=True):
            pass


@contextmanager
def open_operator(folder: Path, *, migrating: bool = False) -> Iterator[Operator]:
    """ConfigError when there is no journal, it cannot be read, or it has another version than this program.

    `migrating`: an older one is good too, as nothing is asked of it but to be there.
    """
    path = folder / FILE
    if not path.exists():
        raise ConfigError(f"state: no journal in {folder}; run `streamer run` first, or check `state`")
    with map_errors(path):
        db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise from_the_future(path, version)
            if version < VERSION and not migrating:
                raise ConfigError(
                    f"journal {path}: version {version}, this streamer knows {VERSION}; start the daemon, which brings it up to date"
                )
            db.execute("PRAGMA synchronous = FULL")
            yield Operator(db)
        finally:
            db.close()
