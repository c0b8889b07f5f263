"""The state folder and its database: made, locked, opened, brought to this version; and what SQLite's errors mean to an operator."""

import errno
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zstandard import ZstdError

from streamer import folders
from streamer.errors import ConfigError, RetryableError
from streamer.journal.schema import APPEND, MIGRATIONS, PRAGMAS, VERSION

OLDEST_SQLITE = (3, 38)
"""The first with `->>`."""
FILE = "journal.db"
LOCK = "lock"
_RETRYABLE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class FolderInUse(ConfigError):
    """Another process holds the state folder."""


@contextmanager
def map_errors(path: Path) -> Iterator[None]:
    """SQLite's and the system's words to verdicts."""
    try:
        yield
    except ZstdError as error:
        raise _corrupt(path, error) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _RETRYABLE or (code == sqlite3.SQLITE_CANTOPEN and _is_full(path.parent)):
            raise RetryableError(
                f"journal {path}: {error}; free disk space, intake waits until there is room"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _corrupt(path, error) from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
            raise ConfigError(f"journal {path}: cannot be written ({error}); give this user the folder") from error
        raise


def _corrupt(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"journal {path}: corrupt ({error}); move it away to begin anew from `start`, or restore a copy")


def _is_full(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail == 0 or (disk.f_files > 0 and disk.f_favail == 0)


def _prepare_folder(folder: Path) -> None:
    try:
        folders.make(folder, 0o700)
        os.close(os.open(folder / FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        folders.sync(folder)
    except OSError as error:
        raise _unprepared(folder, error) from error


def cannot_be_written(folder: Path, error: OSError) -> ConfigError:
    reason = "it is not a folder" if folder.is_file() else (error.strerror or "error").lower()
    return ConfigError(f"state: {folder} cannot be written: {reason}; give this user the folder or set another `state`")


def _unprepared(folder: Path, error: OSError) -> ConfigError | RetryableError:
    """A full disk passes; the rest is for an operator."""
    if error.errno in _NO_ROOM:
        return RetryableError(f"state: {folder}: {(error.strerror or '').lower()}; free disk space")
    return cannot_be_written(folder, error)


def lock(folder: Path) -> int:
    """A file descriptor that holds the lock of a state folder, which is made if it is not there; closing it, or dying, lets it go.

    ConfigError where it cannot be had, RetryableError where the disk has no room for it.
    """
    _prepare_folder(folder)
    try:
        fd = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unprepared(folder, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise FolderInUse(
            f"state: {folder} is in use by another streamer (process {owner}); stop it or give this one its own `state`"
        ) from None
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(fd)
        raise _unprepared(folder, error) from error
    return fd


def connect(folder: Path) -> sqlite3.Connection:
    """Open and migrate; ConfigError for a folder that cannot be written, a newer version, a corrupt file or an SQLite that is too old,
    RetryableError for a full disk."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise ConfigError(
            f"journal: this Python has SQLite {sqlite3.sqlite_version}; use one with {wanted} or newer, or the container image"
        )
    _prepare_folder(folder)
    path = folder / FILE
    with map_errors(path):
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            for pragma in filter(None, PRAGMAS.strip().split("\n")):
                db.execute(pragma)
            _migrate(db, path)
            db.executescript(APPEND)
        except BaseException:
            db.close()
            raise
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise from_the_future(path, version)
    for number in range(version, VERSION):
        with transaction(db):
            for statement in filter(str.strip, MIGRATIONS[number].split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number + 1}")
    db.execute("INSERT OR IGNORE INTO meta VALUES ('journal_id', ?)", (uuid.uuid4().hex,))


def from_the_future(path: Path, version: int) -> ConfigError:
    return ConfigError(
        f"journal {path}: written by a newer streamer (version {version}, this one knows {VERSION}); upgrade this one"
    )


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
