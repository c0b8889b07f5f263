"""Lines in a file, each event exactly once.

A bookmark says how long the file was when a batch was durable in it. What stands behind that length after a crash was never
acknowledged: it is cut off, and the batch is written again. For that to hold, a bookmark is durable before the first byte
that it speaks of: whenever the sink comes to stand somewhere new (a file it created, found, rotated, or that others moved
away or truncated) it raises Repositioned instead of writing.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from pydantic import BeforeValidator, ByteSize, Field, model_validator

from streamer import folders
from streamer.config import BatchOptions, Duration, SinkOptions, Strict, Wait
from streamer.errors import ConfigError, Repositioned, RetryableError, StreamerError
from streamer.model import Batch, Bookmark
from streamer.ports import SinkContext
from streamer.sinks import SinkType

TAIL = 4096
"""So many bytes before its length tell the bookmarked file from any other."""
LINES_PER_WRITE = 512
"""Each is two parts, of which Linux takes 1024 at once."""
TORN_MARGIN = 64 << 20
"""What is cut off is at most one batch. A format may make a batch larger than the journal's lines are: four times, and this."""


# --- options ---------------------------------------------------------------------------------------------------------


class Rotate(Strict):
    """When the file is closed and numbered: `audit.jsonl` becomes `audit.jsonl.1`, that `.2`, and so on."""

    size: Annotated[ByteSize, Field(ge=1024)] | None = None
    """Before the batch that would make the file larger. A batch is never split, so one that is larger stands alone."""
    age: Duration | None = None
    """Before the first batch that comes so long after the file was begun."""
    keep: Annotated[int, Field(ge=1, le=9999)] = 10
    """So many numbered files; older ones are deleted."""

    @model_validator(mode="after")
    def _by_something(self) -> "Rotate":
        if self.size is None and self.age is None:
            raise ValueError("says neither when; give size, age or both")
        return self


class FileBatch(BatchOptions):
    events: Annotated[int, Field(ge=1, le=50_000)] = 5000
    bytes: Annotated[ByteSize, Field(ge=1024, le=256 << 20)] = ByteSize(4 << 20)
    wait: Wait = 0.0


def _octal(value: object) -> object:
    """YAML reads a bare 0640 as the number 416."""
    return f"{value:04o}" if isinstance(value, int) else value


class FileOptions(SinkOptions):
    """One event a line, fsynced before the ack."""

    path: Path
    """A regular file in a folder that exists. Symbolic links are followed."""
    rotate: Rotate | None = None
    """None: the file grows, or others rotate it (logrotate; no signal needed)."""
    mode: Annotated[Literal["0600", "0640"], BeforeValidator(_octal)] = "0600"
    """Of files that the sink creates; one that it finds keeps its own."""
    batch: FileBatch = FileBatch()


# --- decisions -------------------------------------------------------------------------------------------------------


class Mark(msgspec.Struct, frozen=True):
    """The bookmark."""

    path: str
    """Where the file stood, links resolved."""
    inode: int
    length: Annotated[int, msgspec.Meta(ge=0)]
    crc: int
    """CRC-32 of the last TAIL bytes before `length`."""
    since: float
    """Unix seconds at which the sink began with this file; what `rotate.age` counts from."""


def read_mark(bookmark: Bookmark | None) -> Mark | None:
    """None as well for a bookmark that is none of ours."""
    try:
        return msgspec.convert(bookmark, Mark)
    except msgspec.ValidationError:
        return None


def is_torn(tail: bytes, lines: bytes) -> bool:
    """Whether `tail` can be what was left of a try to write `lines`, or a part or a superset of them."""
    return lines.startswith(tail) or tail.startswith(lines)


def _as_text(bodies: Iterable[bytes]) -> bytes:
    """A line each."""
    return b"".join([body + b"\n" for body in bodies])


def last_of(before: bytes, bodies: list[bytes]) -> bytes:
    """The last TAIL bytes of a file that ended with `before`, after `bodies` were written."""
    size = first = 0
    for first in range(len(bodies) - 1, -1, -1):
        size += len(bodies[first]) + 1
        if size >= TAIL:
            break
    return (before + _as_text(bodies[first:]))[-TAIL:]


def write_lines(fd: int, bodies: list[bytes]) -> int:
    """Bytes written: all of them. From where they are: to put them together first costs a second copy, and the interpreter's lock meanwhile."""
    written = 0
    for begin in range(0, len(bodies), LINES_PER_WRITE):
        parts = list(chain.from_iterable(zip(bodies[begin : begin + LINES_PER_WRITE], repeat(b"\n"))))
        done, whole = os.writev(fd, parts), sum(map(len, parts))
        if done < whole:
            left = memoryview(b"".join(parts))[done:]
            while left:
                left = left[os.write(fd, left) :]
        written += whole
    return written


def plan_shift(taken: Collection[int], keep: int) -> list[tuple[int, int]]:
    """The renames (from, to), in their order, that free number 1.

    They stop at the first free number, which a crash half-way leaves behind: so a rotation that is done again pushes out no
    file that the first one did not. Only where all are taken, the oldest is overwritten.
    """
    free = next((n for n in range(1, keep) if n not in taken), keep)
    return [(n - 1, n) for n in range(free, 1, -1)]


def plan_removal(taken: Collection[int], keep: int) -> list[int]:
    """The numbers that a smaller `keep` leaves over, highest first. They follow on without a gap; a number that stands apart (a
    date that others appended) is not ours."""
    last = keep
    while last + 1 in taken:
        last += 1
    return list(range(last, keep, -1))


def verdict(error: OSError, where: str, path: str) -> StreamerError:
    reason = (error.strerror or "error").lower()
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return RetryableError(f"disk full: {where}: {reason} at {path}; free some space")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return ConfigError(f"{where}: cannot write {path}: {reason}; let this user write there")
        case errno.ENOENT | errno.ENOTDIR:
            return ConfigError(f"{where}: cannot write {path}: {reason}; create its folder")
        case errno.EISDIR | errno.ENOTEMPTY | errno.ELOOP | errno.ENAMETOOLONG:
            return ConfigError(f"{where}: cannot write {path}: {reason}; give another path")
        case errno.EFBIG:
            return ConfigError(f"{where}: {path} cannot grow: {reason}; set rotate.size, or raise the limit")
        case _:
            return RetryableError(f"{where}: cannot write {path}: {reason}")


# --- the disk --------------------------------------------------------------------------------------------------------


@contextmanager
def map_errors(where: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise verdict(error, where, str(error.filename or path)) from error


def _open_or_create(path: Path, mode: int) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(fd, mode)  # whatever the umask says
        folders.sync(path.parent)
    except OSError:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, where: str, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{where}: another sink or process writes {path}; give each its own file") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # file systems without locks
            raise


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _numbers(path: Path) -> set[int]:
    ends = [p.name.removeprefix(path.name + ".") for p in path.parent.iterdir() if p.name.startswith(path.name + ".")]
    return {int(end) for end in ends if end.isascii() and end.isdigit() and end[0] != "0"}


def _rotate(path: Path, keep: int) -> None:
    """A crash between any two of these steps leaves a gap in the numbers or no file at `path`: `plan_shift` starts at the gap, and a
    missing file is created."""
    taken = _numbers(path)
    for number, target in plan_shift(taken, keep):
        _numbered(path, number).rename(_numbered(path, target))
    path.rename(_numbered(path, 1))
    folders.sync(path.parent)
    for number in plan_removal(taken, keep):
        _numbered(path, number).unlink()


def _last_bytes(fd: int, length: int) -> bytes:
    count = min(length, TAIL)
    return os.pread(fd, count, length - count)


def _refuse_odd(path: Path, where: str) -> None:
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return
    if kind != stat.S_IFREG:
        what = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(kind, "a device")
        raise ConfigError(
            f"{where}: {path} is {what}, which cannot be cut to a length; give a regular file, or use type: stdout"
        )


# --- the sink --------------------------------------------------------------------------------------------------------


class FileSink:
    """Its `_write` runs in a thread, one at a time."""

    def __init__(self, options: FileOptions, context: SinkContext, clock: Callable[[], float] = time.time) -> None:
        self._where, self._path = f"sinks.{context.name}.path", options.path
        self._mode, self._rotation = int(options.mode, 8), options.rotate
        self._most_torn = 4 * int(options.batch.bytes) + TORN_MARGIN
        self._clock = clock
        self._mark = read_mark(context.position.bookmark)
        """What is known to be durable; the file may hold more."""
        self._fd: int | None = None
        """Open only while the sink stands at its mark."""
        self._device = 0
        self._tail = b""
        """The last bytes before the mark's length."""
        self._busy = threading.Lock()

    async def write(self, batch: Batch, /) -> Bookmark:
        return await asyncio.to_thread(self._write, batch)

    def close(self) -> None:
        """A write that was given up still runs in its thread; its file is then left to the end of the process."""
        if self._busy.acquire(blocking=False):
            self._close()
            self._busy.release()

    def _write(self, batch: Batch) -> Bookmark:
        bodies = [m.body for m in batch.messages]
        with self._busy, map_errors(self._where, self._path):
            try:
                if self._fd is not None and self._has_moved():
                    self._leave()
                if self._fd is None:
                    self._open(bodies)
                if self._rotated(sum(map(len, bodies)) + len(bodies)):
                    self._leave()
                    self._open(bodies)
                self._append(bodies)
            except (OSError, MemoryError):  # begin again from the name and the mark
                self._close()
                raise
            bookmark: Bookmark = msgspec.to_builtins(self._mark)
            return bookmark

    # --- where it stands ---------------------------------------------------------------------------------------------

    def _has_moved(self) -> bool:
        """Others moved the file away, replaced, truncated or lengthened it."""
        assert self._mark is not None
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return True
        here = (self._device, self._mark.inode, self._mark.length)
        return (now.st_dev, now.st_ino, now.st_size) != here

    def _leave(self) -> None:
        """While it stood open, nothing of ours was torn: what else the file holds now is somebody's, and never to be cut off."""
        self._mark = None
        self._close()

    def _open(self, bodies: list[bytes]) -> None:
        """Stand at the mark, what is torn behind it cut off; or Repositioned, at the end of what is there."""
        path = Path(os.path.realpath(self._path))
        _refuse_odd(self._path, self._where)
        fd = _open_or_create(path, self._mode)
        try:
            _lock(fd, self._where, path)
            now = os.fstat(fd)
            mark = self._mark
            is_here = mark is not None and self._cut(fd, path, mark, bodies)
            if mark is not None and not is_here:
                self._cut_moved(mark, bodies)
            length = mark.length if mark is not None and is_here else now.st_size
            tail = _last_bytes(fd, length)
        except BaseException:
            os.close(fd)
            raise
        since = mark.since if mark is not None and is_here else self._clock()
        self._fd, self._device, self._tail = fd, now.st_dev, tail
        self._mark = Mark(str(path), now.st_ino, length, zlib.crc32(tail), since)
        if not is_here:
            raise Repositioned(msgspec.to_builtins(self._mark))

    def _cut(self, fd: int, path: Path, mark: Mark, bodies: list[bytes]) -> bool:
        """Cut off what is torn. False, and nothing is touched, if the file is not the bookmarked one.

        It is known by what stands in it, so that it stays the same when it is copied to another disk. One that was empty is known by its
        inode, which may have been given to somebody else's file since: what stands there must be what we are about to write.
        """
        now = os.fstat(fd)
        if now.st_size < mark.length or zlib.crc32(_last_bytes(fd, mark.length)) != mark.crc:
            return False
        torn = now.st_size - mark.length
        if torn > self._most_torn:
            raise ConfigError(
                f"{self._where}: {path} has {torn} bytes more than were acknowledged, which is more than a batch: the state folder is "
                "older than the file; bring back the newer state, or move the file away"
            )
        if mark.length == 0 and not (now.st_ino == mark.inode and is_torn(os.pread(fd, torn, 0), _as_text(bodies))):
            return False
        if torn:
            os.ftruncate(fd, mark.length)
        return True

    def _cut_moved(self, mark: Mark, bodies: list[bytes]) -> None:
        """The bookmarked file was renamed within its folder before what is torn in it could be cut off. Known by its inode as well, because
        another sink may write the same lines next to it. Where it cannot be found or opened, its torn batch stays."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            with os.scandir(Path(mark.path).parent) as found:
                paths = [e.path for e in found if e.inode() == mark.inode and e.is_file(follow_symlinks=False)]
            for path in paths:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    with contextlib.suppress(ConfigError):  # it has grown: it is somebody else's now
                        self._cut(fd, Path(path), mark, bodies)
                finally:
                    os.close(fd)

    def _rotated(self, more: int) -> bool:
        """Whether the file was full or old before `more` bytes, and has its number now."""
        rotation, mark = self._rotation, self._mark
        if rotation is None or mark is None or mark.length == 0:
            return False
        full = rotation.size is not None and mark.length + more > rotation.size
        old = rotation.age is not None and self._clock() - mark.since >= rotation.age
        if full or old:
            _rotate(Path(mark.path), rotation.keep)
        return full or old

    # --- writing -----------------------------------------------------------------------------------------------------

    def _append(self, bodies: list[bytes]) -> None:
        assert self._fd is not None
        assert self._mark is not None
        if self._tail and not self._tail.endswith(b"\n"):  # others left their last line open
            bodies = [b"", *bodies]
        try:
            length = self._mark.length + write_lines(self._fd, bodies)
            os.fdatasync(self._fd)
        except (OSError, MemoryError):
            self._take_back(self._fd, self._mark.length)
            raise
        self._tail = last_of(self._tail, bodies)
        self._mark = msgspec.structs.replace(self._mark, length=length, crc=zlib.crc32(self._tail))

    def _take_back(self, fd: int, length: int) -> None:
        """Give back the room of a half-written batch. After a failed fsync nobody knows what the kernel still holds, so nothing of
        the open file is relied on: the next try opens it again."""
        with contextlib.suppress(OSError):
            if os.fstat(fd).st_size > length:
                os.ftruncate(fd, length)

    def _close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


# --- opening ---------------------------------------------------------------------------------------------------------


def check_place(options: FileOptions, context: SinkContext) -> str:
    """Whether the file could be written, without a trace: what is there, in a sentence, or ConfigError."""
    path, where = options.path, f"sinks.{context.name}.path"
    with map_errors(where, path):
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise ConfigError(f"{where}: there is no folder {folder}; create it, and let this user write there")
        _refuse_odd(path, where)
        there = path.exists()
        if (options.rotate or not there) and not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"{where}: this user cannot create files in {folder}; let it write there")
        if not there:
            return f"{path} will be created"
        if not os.access(path, os.R_OK | os.W_OK):
            raise ConfigError(f"{where}: this user cannot read and write {path}; let it, or move the file away")
        return f"{path} is there, with {path.stat().st_size} bytes"


@asynccontextmanager
async def open_file(options: FileOptions, context: SinkContext) -> AsyncIterator[FileSink]:
    """Creates nothing yet; ConfigError for a place that cannot be written."""
    check_place(options, context)
    sink = FileSink(options, context)
    try:
        yield sink
    finally:
        sink.close()


async def probe_file(options: FileOptions, context: SinkContext) -> str:
    """Writes nothing."""
    return check_place(options, context)


SINK = SinkType(FileOptions, open_file, probe_file, looks_inside=False)
