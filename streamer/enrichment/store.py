"""What the directory knows, in one SQLite file of its own: `directory.db` in the state folder.

It is apart from the journal, so that names never wait for events nor the other way round. Whatever is wrong with the file, the tail goes
on: a damaged one is moved aside and names are learned anew.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from streamer.enrich.directory import Changes, Row
from streamer.errors import ConfigError, RetryableError

T = TypeVar("T")

FILE = "directory.db"
VERSION = 1
_SCHEMA = """
CREATE TABLE things (
  source TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
  name TEXT, email TEXT, role TEXT, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,
  PRIMARY KEY (source, kind, id)
) WITHOUT ROWID, STRICT;
PRAGMA user_version = 1;
"""
# A lost second of names costs little: NORMAL does not wait for the disk at every save, and cannot damage the file.
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "journal_size_limit=16777216", "temp_store=MEMORY")


class DamagedError(Exception):  # the way to a new file, not an error of anybody
    """The file is no database of ours any more."""


@contextmanager
def map_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DamagedError(f"{path} is corrupt ({error})") from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
            raise ConfigError(f"{path}: cannot be written ({error}); give this user the folder") from error
        raise RetryableError(f"{path}: {error}; free disk space if it is that") from error


class DirectoryStore:
    """One connection on one thread. `load` and `save` raise RetryableError or ConfigError."""

    def __init__(self, path: Path, lost: Callable[[str], None]) -> None:
        self._path, self._lost = path, lost
        self._thread = ThreadPoolExecutor(1, "directory")
        self._db: sqlite3.Connection | None = None

    async def load(self, sources: Sequence[str], limit: int) -> list[Row]:
        """What is kept of these sources, at most `limit` things of each, the longest unseen first."""
        return await self._run(lambda db: _load(db, sources, limit))

    async def save(self, changes: Changes) -> None:
        """In one transaction."""
        await self._run(lambda db: _save(db, changes))

    async def _run(self, act: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._act, act)

    def _act(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return self._try(act)
        except DamagedError as error:
            aside = self._move_aside()
            self._lost(f"{error}; it is now {aside}")
        try:
            return self._try(act)
        except DamagedError as error:
            raise RetryableError(f"{error}; check the disk") from error

    def _try(self, act: Callable[[sqlite3.Connection], T]) -> T:
        with map_errors(self._path):
            if self._db is None:
                self._db = _connect(self._path)
            return act(self._db)

    def _move_aside(self) -> Path:
        self._close()
        aside = self._path.with_suffix(".damaged")
        try:
            for path in (Path(f"{self._path}-wal"), Path(f"{self._path}-shm")):
                path.unlink(missing_ok=True)
            return self._path.replace(aside)
        except OSError as error:
            raise RetryableError(f"{self._path}: is corrupt and cannot be moved away: {error.strerror}") from error

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    async def close(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        finally:
            self._thread.shutdown()


@asynccontextmanager
async def open_directory_store(folder: Path, lost: Callable[[str], None]) -> AsyncIterator[DirectoryStore]:
    """`lost` is told when a damaged file had to be moved aside."""
    store = DirectoryStore(folder / FILE, lost)
    try:
        yield store
    finally:
        await store.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; give this user the folder") from error
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
    try:
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ConfigError(f"{path}: written by a newer streamer; run that one, or move the file away")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _load(db: sqlite3.Connection, sources: Sequence[str], limit: int) -> list[Row]:
    newest = "SELECT * FROM things WHERE source = ? ORDER BY last_seen DESC LIMIT ?"
    return [Row(*row) for source in sources for row in reversed(db.execute(newest, (source, limit)).fetchall())]


def _save(db: sqlite3.Connection, changes: Changes) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        gone = ((source, kind, identity) for source, (kind, identity) in changes.forgotten)
        db.executemany("DELETE FROM things WHERE source = ? AND kind = ? AND id = ?", gone)
        db.executemany("INSERT OR REPLACE INTO things VALUES (?, ?, ?, ?, ?, ?, ?, ?)", changes.rows)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
