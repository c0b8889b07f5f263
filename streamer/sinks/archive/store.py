"""Where an archive's objects lie: the seam between a folder and a bucket, and the folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from streamer import folders
from streamer.errors import ConfigError, RetryableError
from streamer.sinks.archive.layout import MANIFESTS, OPEN
from streamer.sinks.archive.options import S3Options

_OPERATOR = {
    errno.EACCES: "give us the right to write there",
    errno.EPERM: "give us the right to write there",
    errno.EROFS: "mount it writable",
    errno.EEXIST: "a file stands where a folder belongs; move it away",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EISDIR: "a folder stands where a file belongs; move it away",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOENT: "it was removed while we ran; put it back",
    errno.ELOOP: "its symbolic links lead in a circle; mend them",
}


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """OSError to a verdict: what only an operator can mend is a ConfigError, all else (disk full, I/O) may pass."""
    try:
        yield
    except OSError as error:
        where = error.filename or place
        mend = _OPERATOR.get(error.errno or 0)
        if mend is not None:
            raise ConfigError(f"archive: {where}: {error.strerror}; {mend}") from error
        raise RetryableError(f"archive: {where}: {error.strerror or error}") from error


class Store(Protocol):
    """Named objects. Synchronous: it is used in threads. Everything is durable when a method returns.

    Raises RetryableError and ConfigError, as a sink does.
    """

    def place(self, key: str, file: Path, sha256: str, /) -> tuple[str, int]:
        """Put the file there, as a whole or not at all; the file may be gone afterwards. Returns SHA-256 and size of what is there now: where an
        object cannot be replaced, an earlier attempt's."""

    def create(self, key: str, data: bytes, /) -> bytes:
        """Put `data` there if nothing is there. Returns what is there now."""

    def put(self, key: str, data: bytes, /) -> None:
        """Put `data` there, over what was there."""

    def get(self, key: str, /) -> bytes | None: ...

    def open(self, key: str, /) -> BinaryIO | None:
        """A stream of an object's bytes; None if it is not there."""

    def walk(self, prefix: str = "", /) -> Iterator[tuple[str, int]]:
        """(key, size) of everything under a prefix that ends in `/`, in any order."""

    def delete(self, key: str, /) -> None:
        """Also when it is not there."""

    def locked(self, key: str, /) -> bool:
        """Whether a retention lock or a legal hold protects it."""

    def probe(self) -> str:
        """Ask once whether we would be taken; what was found, in a sentence."""


class FolderStore:
    """A local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, key: str, file: Path, sha256: str, /) -> tuple[str, int]:
        target = self.root / key
        with disk_errors(target):
            size = file.stat().st_size
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            folders.make(target.parent)
            file.replace(target)
            folders.sync(target.parent)
        return sha256, size

    def create(self, key: str, data: bytes, /) -> bytes:
        there = self.get(key)
        if there is not None:
            return there
        self.put(key, data)
        return data

    def put(self, key: str, data: bytes, /) -> None:
        target = self.root / key
        with disk_errors(target):
            folders.make(self.root / OPEN)
            folders.make(target.parent)
            temporary = self.root / OPEN / "writing"
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(target)
            folders.sync(target.parent)

    def get(self, key: str, /) -> bytes | None:
        with disk_errors(self.root / key):
            try:
                return (self.root / key).read_bytes()
            except FileNotFoundError:
                return None

    def open(self, key: str, /) -> BinaryIO | None:
        with disk_errors(self.root / key):
            try:
                return (self.root / key).open("rb", buffering=0)
            except FileNotFoundError:
                return None

    def walk(self, prefix: str = "", /) -> Iterator[tuple[str, int]]:
        """Symbolic links are not followed; they are things that lie there."""
        with disk_errors(self.root):
            folders = [prefix]
            while folders:
                folder = folders.pop()
                try:
                    entries = os.scandir(self.root / folder)
                except FileNotFoundError:
                    continue
                with entries:
                    for entry in entries:
                        key = folder + entry.name
                        if not entry.is_dir(follow_symlinks=False):
                            with suppress(FileNotFoundError):  # retention may be at work beside us
                                yield key, entry.stat(follow_symlinks=False).st_size
                        elif key != OPEN:
                            folders.append(key + "/")

    def delete(self, key: str, /) -> None:
        target = self.root / key
        with disk_errors(target):
            target.unlink(missing_ok=True)
            for folder in (target.parent, target.parent.parent):
                if folder == self.root or key.startswith(MANIFESTS):
                    break
                with suppress(OSError):  # not empty
                    folder.rmdir()

    def locked(self, key: str, /) -> bool:
        return False

    def probe(self) -> str:
        there = self.root
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise ConfigError(f"archive: {there} is no folder; choose another path")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ConfigError(f"archive: {there} cannot be written; give us the right to")
        return f"{self.root} {'can be written' if there == self.root else 'will be made'}"


def is_remote(place: str) -> bool:
    return place.startswith("s3://")


def make_store(place: str, s3: S3Options) -> Store:
    """`place`: a folder, or s3://bucket/prefix."""
    if not is_remote(place):
        return FolderStore(Path(place))
    from streamer.sinks.archive.s3 import S3Store

    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    return S3Store(bucket, prefix.strip("/"), s3)
