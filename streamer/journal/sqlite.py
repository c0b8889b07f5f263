"""The journal in one SQLite file. DESIGN.md, beside this file, says why each property is as it is."""

import asyncio
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

from streamer.errors import ConfigError, RetryableError
from streamer.journal.blocks import Block, Blocks, Packer, unpack
from streamer.journal.opening import FILE, connect, lock, map_errors, transaction
from streamer.journal.schema import KNOWN, PROGRESS_MOVES
from streamer.model import Bookmark, Entry, Event, Listing, Progress, Record, Seq, SinkName, SourceName
from streamer.ports import Backlog, DeadLetter, JournalSize, Repair, Replay, SinkPosition

T = TypeVar("T")

PRUNED_BLOCKS_PER_CALL = 64
FORGOTTEN_IDS_PER_CALL = 20_000
REQUEUED_PER_CALL = 100
MAX_KEY_CHARS = 128
FAR_FROM_FULL_BYTES = 256 << 20
"""With more room than that, and four times the largest log fits in, nothing is measured."""
WRITTEN_TIMES = 4
"""What a block needs, at most: its place in the log and in the file, and its ids."""


def memory_key(event_id: str) -> str:
    """An id as the journal remembers it: itself where it is short and plain, else a digest, so that a row stays small."""
    if len(event_id) <= MAX_KEY_CHARS and event_id.isascii() and event_id.isprintable():
        return event_id
    return "sha256-" + hashlib.sha256(event_id.encode("utf-8", "surrogatepass")).hexdigest()


def _key(entry: Entry) -> tuple[int, str]:
    return entry.effective_at, memory_key(entry.id)


class SqliteJournal:
    """The Journal port. One connection, used on one thread only; every method is one short transaction."""

    def __init__(
        self, folder: Path, max_bytes: int, clock: Callable[[], float] = time.time, locked: int | None = None
    ) -> None:
        """`locked`: what `lock` gave; ours to close from now on, unless this fails."""
        self.path = folder / FILE
        self._log = folder / f"{FILE}-wal"
        self.max_bytes, self._clock = max_bytes, clock
        self._lock_fd = lock(folder) if locked is None else locked
        try:
            self._db = connect(folder)
        except BaseException:
            if locked is None:
                os.close(self._lock_fd)
            raise
        self._thread = ThreadPoolExecutor(1, "journal")
        self._appending = asyncio.Lock()
        """One append at a time waits for the thread: what a sink asks for comes behind that one at most, however many listings catch up."""
        self._pack = Packer().pack
        self._numbers: dict[str, int] = {}
        """Of sources."""
        self._used = max_bytes
        """At most so many bytes were used, by what was appended since it was measured; not measured yet: all."""
        self._blocks = Blocks()
        self._grown = asyncio.Condition()
        with map_errors(self.path):
            self._page_bytes = self._one("PRAGMA page_size")
            self.head = Seq(self._one("SELECT seq FROM head"))
            self._last_seq: int = self.head
            """The same as the journal's thread knows it."""
            self.id = str(self._one("SELECT value FROM meta WHERE key = 'journal_id'"))

    def _one(self, sql: str, *values: object) -> Any:
        row = self._db.execute(sql, values).fetchone()
        return row[0] if row else None

    async def _run(self, function: Callable[..., T], *values: Any) -> T:
        with map_errors(self.path):
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *values)

    async def close(self) -> None:
        try:
            await self._run(self._db.close)
        finally:
            self._thread.shutdown()
            os.close(self._lock_fd)

    # --- intake ------------------------------------------------------------------------------------------------------

    async def progress(self, source: SourceName, listing: Listing, /) -> Progress | None:
        return await self._run(self._progress, source, listing)

    def _progress(self, source: str, listing: str) -> Progress | None:
        row = self._db.execute(
            "SELECT watermark, rechecked, begin FROM progress JOIN sources ON number = source WHERE name = ? AND listing = ?",
            (source, listing),
        ).fetchone()
        return Progress(row[0], tuple(json.loads(row[1])), row[2]) if row else None

    async def unknown(self, source: SourceName, events: Sequence[Event], /) -> list[Event]:
        fresh: dict[tuple[int, str], Event] = {}
        for event in events:
            fresh.setdefault((event.effective_at, memory_key(event.id)), event)
        known = await self._run(self._known, source, list(fresh)) if fresh else set()
        return [event for key, event in fresh.items() if key not in known]

    def _known(self, source: str, keys: list[tuple[int, str]]) -> set[tuple[int, str]]:
        """One statement, one step: a row at a time would hand the interpreter's lock back and forth for every id."""
        found = self._one(
            "SELECT json_group_array(e.key) FROM json_each(?) e CROSS JOIN ids ON ids.source = (SELECT number FROM sources WHERE name = ?)"
            " AND ids.effective_at = (e.value ->> 0) AND ids.id = (e.value ->> 1)",
            orjson.dumps(keys).decode(),
            source,
        )
        return {keys[i] for i in json.loads(found)}

    async def append(
        self, source: SourceName, listing: Listing, entries: Sequence[Entry], progress: Progress, /
    ) -> int:
        loop = asyncio.get_running_loop()

        def append() -> int:
            blocks = self._append(source, listing, entries, progress)
            # From here, for whoever asked may be gone by now: what is stored is stored.
            loop.call_soon_threadsafe(self._appended, blocks)
            return sum(len(block.lines) for _, block in blocks)

        async with self._appending:
            appended = await self._run(append)
        if appended:
            async with self._grown:
                self._grown.notify_all()
        return appended

    def _appended(self, blocks: list[tuple[int, Block]]) -> None:
        for last_seq, block in blocks:
            self._blocks.appended.put(last_seq, block.lines, block.size)
            self.head = Seq(last_seq)

    def _append(
        self, source: str, listing: str, entries: Sequence[Entry], progress: Progress
    ) -> list[tuple[int, Block]]:
        packed = self._pack(e.line for e in entries)
        if packed:
            self._refuse_if_full(sum(len(block.body) for block in packed))
        number = self._source_number(source)
        about = (number, listing, progress.watermark, json.dumps(progress.rechecked), progress.begin)
        try:
            return self._insert(about, entries, packed)
        except sqlite3.IntegrityError as error:
            if str(error) != KNOWN:
                raise
        keys = [_key(entry) for entry in entries]
        known = self._known(source, keys)
        fresh: dict[tuple[int, str], Entry] = {}
        for key, entry in zip(keys, entries, strict=True):
            if key not in known:
                fresh.setdefault(key, entry)
        return self._insert(about, list(fresh.values()), self._pack(e.line for e in fresh.values()))

    def _refuse_if_full(self, needed: int) -> None:
        self._used += WRITTEN_TIMES * needed
        if self.max_bytes - self._used > FAR_FROM_FULL_BYTES:
            return
        self._used = self._used_bytes()
        if (
            self._used + needed > self.max_bytes
            and self._used_bytes(settled=True) + needed > self.max_bytes
            # An empty journal takes whatever comes: no sink could make more room, and waiting would never end.
            and self._one("SELECT count(*) FROM blocks")
        ):
            raise RetryableError(
                f"journal full: {self.path} holds {self._used_bytes() >> 20} MiB of {self.max_bytes >> 20} MiB; "
                "mend the sink that is behind or raise journal.max_size"
            )

    def _source_number(self, name: str) -> int:
        if name not in self._numbers:
            self._db.execute("INSERT INTO sources (name) SELECT ?1 WHERE ?1 NOT IN (SELECT name FROM sources)", (name,))
            self._numbers[name] = self._one("SELECT number FROM sources WHERE name = ?", name)
        return self._numbers[name]

    def _insert(
        self, about: tuple[int, str, int, str, int], entries: Sequence[Entry], packed: list[Block]
    ) -> list[tuple[int, Block]]:
        """All of it and the progress, or nothing; IntegrityError with KNOWN where an id is not new. `about`: a row of `progress`; `packed`: the entries."""
        if not packed:
            self._db.execute(f"INSERT INTO progress VALUES (?, ?, ?, ?, ?) {PROGRESS_MOVES}", about)
            return []
        seq, at, now = self._last_seq, 0, self._clock()
        blocks: list[tuple[int, Block]] = []
        # A statement alone commits itself.
        with transaction(self._db) if len(packed) > 1 else nullcontext():
            for block in packed:
                count = len(block.lines)
                keys = orjson.dumps([_key(entry) for entry in entries[at : at + count]]).decode()
                seq, at = seq + count, at + count
                row = (*about, seq, count, keys, now, block.size, block.body)
                self._db.execute("INSERT INTO appends VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                blocks.append((seq, block))
        self._last_seq = seq
        return blocks

    async def hours(self, source: SourceName, listing: Listing, since: int, /) -> list[tuple[int, int, int]]:
        return await self._run(self._hours, source, listing, since)

    def _hours(self, source: str, listing: str, since: int) -> list[tuple[int, int, int]]:
        return self._db.execute(
            "SELECT effective_at / 3600, count(*), max(effective_at) FROM ids"
            " WHERE source = (SELECT number FROM sources WHERE name = ?) AND effective_at >= ? AND listing = ? GROUP BY 1",
            (source, since, listing),
        ).fetchall()

    async def repairs(self, source: SourceName, listing: Listing, /) -> list[Repair]:
        return await self._run(self._repairs, source, listing)

    def _repairs(self, source: str, listing: str) -> list[Repair]:
        rows = self._db.execute(
            "SELECT number, max(since, coalesce((SELECT max(before) FROM forgotten JOIN sources ON number = source WHERE name = ?1), 0)), before"
            " FROM repairs WHERE source = ?1 AND listing = ?2 ORDER BY number LIMIT 1000",
            (source, listing),
        ).fetchall()
        return [Repair(number=n, since=since, before=before) for n, since, before in rows]

    async def repaired(self, repair: Repair, /) -> None:
        await self._run(self._repaired, repair.number)

    def _repaired(self, number: int) -> None:
        with transaction(self._db):
            self._db.execute("DELETE FROM repairs WHERE number = ?", (number,))

    # --- delivery ----------------------------------------------------------------------------------------------------

    async def position(
        self, sink: SinkName, start: Literal["earliest", "latest"], was: SinkName | None = None, /
    ) -> SinkPosition:
        return await self._run(self._position, sink, start, was)

    def _position(self, sink: str, start: str, was: str | None) -> SinkPosition:
        acked = self._one("SELECT seq FROM head") if start == "latest" else self._oldest() - 1
        with transaction(self._db):
            if was is not None:
                self._rename(was, sink)
            self._db.execute(
                "INSERT OR IGNORE INTO sinks VALUES (?, ?, NULL, ?)", (sink, acked, self._unused(was or sink))
            )
            row = self._db.execute("SELECT acked, bookmark, entered_as FROM sinks WHERE name = ?", (sink,)).fetchone()
        return SinkPosition(Seq(row[0]), json.loads(row[1]) if row[1] else None, SinkName(row[2]))

    def _rename(self, was: str, sink: str) -> None:
        known = [name for (name,) in self._db.execute("SELECT name FROM sinks ORDER BY name")]
        if was in known and sink in known:
            raise ConfigError(
                f"sinks.{sink}.was: {was} and {sink} both have a place in the journal; remove `was` to go on at {sink}'s, or give the "
                f"sink a name that is new to go on at {was}'s"
            )
        if known and was not in known and sink not in known:
            raise ConfigError(
                f"sinks.{sink}.was: no sink {was} has a place in the journal; it knows {', '.join(known)}: mend the name, or remove `was` "
                "to begin anew"
            )
        self._db.execute("UPDATE sinks SET name = ? WHERE name = ?", (sink, was))
        for table in ("dead_letters", "replays"):
            self._db.execute(f"UPDATE {table} SET sink = ? WHERE sink = ?", (sink, was))

    def _unused(self, name: str) -> str:
        """`name`, or where a renamed sink has been entered as that, the next that is free."""
        taken = {entered for (entered,) in self._db.execute("SELECT entered_as FROM sinks")}
        names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
        return next(each for each in names if each not in taken)

    def _oldest(self) -> int:
        row = self._db.execute("SELECT last_seq - count + 1 FROM blocks ORDER BY last_seq LIMIT 1").fetchone()
        oldest: int = row[0] if row else self._one("SELECT seq FROM head") + 1
        return oldest

    async def read(self, after: Seq, events: int, size: int, /) -> list[Record]:
        records: list[Record] = []
        while len(records) < events and after < self.head:
            block = self._blocks.find(after + 1)
            if block is None:
                loaded = await self._run(self._load, after)
                if loaded is None:
                    break
                # Here and not on the journal's thread: others look into the cache meanwhile.
                block = self._blocks.loaded.put(*loaded)
            first, lines = block
            for seq in range(max(after + 1, first), first + len(lines)):
                line = lines[seq - first]
                size -= len(line)
                if records and (size < 0 or len(records) == events):
                    return records
                records.append(Record(Seq(seq), line))
                after = Seq(seq)
        return records

    def _load(self, after: int) -> tuple[int, list[bytes], int] | None:
        """(last seq, lines, bytes) of the block that holds the record after `after`, or the next there is."""
        row = self._db.execute(
            "SELECT last_seq, body, size FROM blocks WHERE last_seq > ? ORDER BY last_seq LIMIT 1", (after,)
        ).fetchone()
        return (row[0], unpack(row[1], row[2]), row[2]) if row is not None else None

    async def ack(self, sink: SinkName, upto: Seq, bookmark: Bookmark | None, dead: Sequence[DeadLetter], /) -> None:
        await self._run(self._ack, sink, upto, bookmark, dead)

    def _ack(self, sink: str, upto: int, bookmark: Bookmark | None, dead: Sequence[DeadLetter]) -> None:
        stored = json.dumps(dict(bookmark)) if bookmark is not None else None
        assert not self._db.in_transaction, "a statement alone commits itself"
        with transaction(self._db) if dead else nullcontext():
            self._db.execute(
                "UPDATE sinks SET acked = max(acked, ?), bookmark = coalesce(?, bookmark) WHERE name = ?",
                (upto, stored, sink),
            )
            self._bury(dead)

    def _bury(self, dead: Sequence[DeadLetter]) -> None:
        if not dead:
            return
        self._db.executemany(
            "INSERT INTO dead_letters (sink, seq, id, type, reason, attempts, at, line) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(d.sink, d.seq, _text(d.id), _text(d.type), _text(d.reason), d.attempts, d.at, d.line) for d in dead],
        )

    def _store_bookmark(self, sink: str, bookmark: Bookmark | None) -> None:
        if bookmark is not None:
            self._db.execute("UPDATE sinks SET bookmark = ? WHERE name = ?", (json.dumps(dict(bookmark)), sink))

    async def wait(self, after: Seq, seconds: float, /) -> bool:
        if self.head > after:
            return True
        try:
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait_for(lambda: self.head > after)
        except TimeoutError:
            return False
        return True

    async def requeued(self, sink: SinkName, /) -> list[DeadLetter]:
        return await self._run(self._letters, "sink = ? AND requeued = 1", (sink,), REQUEUED_PER_CALL)

    def _letters(self, condition: str, values: tuple[object, ...], limit: int) -> list[DeadLetter]:
        return select_letters(self._db, condition, values, limit)

    async def dead_letters(self, limit: int, /) -> list[DeadLetter]:
        newest = "number IN (SELECT number FROM dead_letters ORDER BY number DESC LIMIT ?)"
        return (await self._run(self._letters, newest, (limit,), limit))[::-1]

    async def settle(self, letters: Sequence[DeadLetter], delivered: bool, bookmark: Bookmark | None, /) -> None:
        await self._run(self._settle, letters, delivered, bookmark)

    def _settle(self, letters: Sequence[DeadLetter], delivered: bool, bookmark: Bookmark | None) -> None:
        with transaction(self._db):
            if delivered:
                numbers = json.dumps([letter.number for letter in letters])
                self._db.execute(
                    "DELETE FROM dead_letters WHERE number IN (SELECT value FROM json_each(?))", (numbers,)
                )
                self._store_bookmark(letters[0].sink, bookmark)
            else:
                self._db.executemany(
                    "UPDATE dead_letters SET requeued = 0, reason = ?, attempts = ?, at = ? WHERE number = ?",
                    [(_text(one.reason), one.attempts, one.at, one.number) for one in letters],
                )

    async def replays(self, sink: SinkName, /) -> list[Replay]:
        return await self._run(self._replays, sink)

    def _replays(self, sink: str) -> list[Replay]:
        rows = self._db.execute("SELECT * FROM replays WHERE sink = ? ORDER BY number", (sink,)).fetchall()
        return [
            Replay(number=n, sink=SinkName(s), after=a, until=u, since=since, before=before)
            for n, s, a, u, since, before in rows
        ]

    async def replayed(
        self, replay: Replay, upto: Seq, bookmark: Bookmark | None, dead: Sequence[DeadLetter], /
    ) -> None:
        await self._run(self._replayed, replay, upto, bookmark, dead)

    def _replayed(self, replay: Replay, upto: int, bookmark: Bookmark | None, dead: Sequence[DeadLetter]) -> None:
        with transaction(self._db):
            self._store_bookmark(replay.sink, bookmark)
            self._bury(dead)
            if upto >= replay.until:
                self._db.execute("DELETE FROM replays WHERE number = ?", (replay.number,))
            else:
                self._db.execute("UPDATE replays SET after_seq = ? WHERE number = ?", (upto, replay.number))

    # --- operation ---------------------------------------------------------------------------------------------------

    async def backlog(self, sink: SinkName, /) -> Backlog:
        return await self._run(self._backlog, sink)

    def _backlog(self, sink: str) -> Backlog:
        acked = self._one("SELECT acked FROM sinks WHERE name = ?", sink) or 0
        head = self._one("SELECT seq FROM head")
        behind = max(head - max(acked, self._oldest() - 1), 0)
        at = self._one("SELECT appended_at FROM blocks WHERE last_seq > ? ORDER BY last_seq LIMIT 1", acked)
        return Backlog(behind, at if behind else None)

    def stamp(self) -> tuple[int, int]:
        try:
            log = self._log.stat()
        except OSError:
            return time.monotonic_ns(), 0  # it cannot be said, so: always another one
        return log.st_mtime_ns, log.st_size

    async def size(self) -> JournalSize:
        return await self._run(self._size)

    def _used_bytes(self, *, settled: bool = False) -> int:
        """Live pages and the write-ahead log. `settled`: move the log's pages first, so that none is counted twice."""
        if settled:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        pages = self._one("SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count")
        try:
            log = self._log.stat().st_size
        except FileNotFoundError:
            log = 0
        return int(pages * self._page_bytes) + log

    def _size(self) -> JournalSize:
        head, oldest = self._one("SELECT seq FROM head"), self._oldest()
        return JournalSize(self._used_bytes(), max(head - oldest + 1, 0), Seq(head), Seq(oldest))

    async def prune(self, sinks: Sequence[SinkName], keep_seconds: float, remember_seconds: float, /) -> int:
        return await self._run(self._prune, sinks, keep_seconds, remember_seconds)

    def _prune(self, sinks: Sequence[str], keep_seconds: float, remember_seconds: float) -> int:
        now = self._clock()
        with transaction(self._db):
            pruned = self._prune_blocks(sinks, now - keep_seconds)
            self._forget(now - remember_seconds, remember_seconds)
        self._db.execute("PRAGMA incremental_vacuum(1000)")
        return pruned

    def _prune_blocks(self, sinks: Sequence[str], before: float) -> int:
        configured = "IN (SELECT value FROM json_each(?))"
        names = json.dumps(list(sinks))
        acked = self._one(f"SELECT min(acked) FROM sinks WHERE name {configured}", names)
        replaying = self._one(f"SELECT min(after_seq) FROM replays WHERE sink {configured}", names)
        upto = min(x for x in (acked or 0, replaying) if x is not None)
        old = self._db.execute(
            "SELECT last_seq, count FROM blocks WHERE last_seq <= ? AND appended_at < ? ORDER BY last_seq LIMIT ?",
            (upto, before, PRUNED_BLOCKS_PER_CALL),
        ).fetchall()
        if old:
            self._db.execute("DELETE FROM blocks WHERE last_seq <= ?", (old[-1][0],))
        return sum(count for _, count in old)

    def _forget(self, before: float, remember_seconds: float) -> None:
        """Per listing, measured from its watermark and its rechecks where these are behind: a catch-up walks its overlap again, too, and a recheck
        reaches back from where it ended last time. Never of a record that is still here: it would be found by no replay."""
        gone_upto = self._oldest() - 1
        if not gone_upto:
            return
        rows = self._db.execute("SELECT source, listing, watermark, rechecked FROM progress").fetchall()
        for source, listing, watermark, rechecked in rows:
            end = int(min(before, min([watermark, *json.loads(rechecked)]) - remember_seconds))
            gone = self._db.execute(
                "DELETE FROM ids WHERE (source, effective_at, id) IN (SELECT source, effective_at, id FROM ids"
                " WHERE source = ? AND effective_at < ? AND listing = ? AND seq <= ? LIMIT ?)",
                (source, end, listing, gone_upto, FORGOTTEN_IDS_PER_CALL),
            ).rowcount
            if gone:
                # Nobody may take what was forgotten for what was never seen.
                self._db.execute(
                    "INSERT INTO forgotten VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET before = max(before, excluded.before)",
                    (source, listing, end),
                )


def _text(value: str) -> str:
    """SQLite stores UTF-8: a lone surrogate becomes a question mark."""
    return value.encode("utf-8", "replace").decode()


def select_letters(db: sqlite3.Connection, condition: str, values: tuple[object, ...], limit: int) -> list[DeadLetter]:
    """Dead letters, oldest first. `condition` is ours, never an operator's text."""
    rows = db.execute(
        f"SELECT number, sink, seq, id, type, reason, attempts, at, line FROM dead_letters WHERE {condition} ORDER BY number LIMIT ?",
        (*values, limit),
    ).fetchall()
    return [
        DeadLetter(number=n, sink=SinkName(s), seq=Seq(q), id=i, type=t, reason=r, attempts=a, at=at, line=line)
        for n, s, q, i, t, r, a, at, line in rows
    ]


@asynccontextmanager
async def open_journal(
    folder: Path, max_bytes: int, clock: Callable[[], float] = time.time, locked: int | None = None
) -> AsyncIterator[SqliteJournal]:
    """Lock the state folder, unless it is `locked`, and open its journal. ConfigError when either cannot be had, RetryableError while the disk is full."""
    journal = SqliteJournal(folder, max_bytes, clock, locked)
    try:
        yield journal
    finally:
        await journal.close()
