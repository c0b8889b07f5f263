"""The sink: the archive's thread, and how it is opened and probed."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from streamer import folders
from streamer.config import one_secret
from streamer.errors import ConfigError, RetryableError
from streamer.model import Batch, Bookmark, SinkName
from streamer.ports import SinkContext
from streamer.sinks.archive.layout import OPEN
from streamer.sinks.archive.options import ArchiveOptions
from streamer.sinks.archive.signing import load_signer
from streamer.sinks.archive.store import disk_errors, is_remote, make_store
from streamer.sinks.archive.writer import Archive

T = TypeVar("T")


class ArchiveSink:
    """One thread does everything of one archive, in order; also when a call was cancelled and the next one comes."""

    def __init__(self, name: SinkName, archive: Archive, thread: ThreadPoolExecutor) -> None:
        self._name, self._archive, self._thread = name, archive, thread

    async def write(self, batch: Batch, /) -> Bookmark | None:
        return await self._run(lambda: self._archive.write(batch.messages))

    async def tick(self) -> Bookmark | None:
        return await self._run(self._archive.tick)

    async def finish(self) -> Bookmark | None:
        return await self._run(self._archive.finish)

    async def _run(self, act: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        except RetryableError as error:
            raise RetryableError(f"sink {self._name}: {error}", retry_after=error.retry_after) from error
        except ConfigError as error:
            raise ConfigError(f"sink {self._name}: {error}") from error


@asynccontextmanager
async def open_archive(options: ArchiveOptions, context: SinkContext) -> AsyncIterator[ArchiveSink]:
    store = make_store(options.path, options.s3)
    folder = _folder(options, context)
    _check_key(options, context)
    if context.only_looking and not is_remote(options.path):
        store.probe()
    with nullcontext() if context.only_looking else _only_one(folder, context.name):
        archive = Archive(options, store, folder, context.journal, context.position.bookmark, time.time)
        thread = ThreadPoolExecutor(1, f"archive-{context.name}")
        try:
            yield ArchiveSink(context.name, archive, thread)
        finally:
            # What runs ends by itself: every wait for a store has its limit. In another thread, so that the loop goes on.
            await asyncio.get_running_loop().run_in_executor(None, thread.shutdown)
            archive.close()


async def probe_archive(options: ArchiveOptions, context: SinkContext) -> str:
    """Whether the place takes us and the key signs."""
    _check_key(options, context)
    return await asyncio.to_thread(make_store(options.path, options.s3).probe)


def _check_key(options: ArchiveOptions, context: SinkContext) -> None:
    where = f"sinks.{context.name}.signing_key"
    key = one_secret(where, options.signing_key, options.signing_key_file)
    if key is not None:
        load_signer(key.reveal(), where)


def _folder(options: ArchiveOptions, context: SinkContext) -> Path:
    """Where the open segment lies: as near to the objects as can be, beside the journal where they are remote."""
    return (
        Path(options.path) / OPEN
        if not is_remote(options.path)
        else context.folder / f"archive-{context.position.entered_as}"
    )


@contextmanager
def _only_one(folder: Path, name: SinkName) -> Iterator[None]:
    with disk_errors(folder):
        folders.make(folder)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"sinks.{name}.path: {folder.parent} is written by another sink or process; give each its own"
            ) from None
        yield
    finally:
        os.close(lock)
