"""Lines on standard output, for whoever reads it: a container's log driver, `jq`, a pipe into another program."""

import asyncio
import errno
import os
import select
import stat
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.config import BatchOptions, SinkOptions, Wait
from streamer.errors import ConfigError, RetryableError
from streamer.model import Batch
from streamer.ports import SinkContext
from streamer.sinks import SinkType

STDOUT = 1
STALL_S = 10.0
"""A reader that takes nothing for so long is reported."""
LOOK_S = 0.2
"""How often a write that waits for its reader looks whether it was given up."""


class StdoutBatch(BatchOptions):
    wait: Wait = 0.0


class StdoutOptions(SinkOptions):
    """One event a line. At least once: a reader may have lines that were never acknowledged, and gets them again."""

    batch: StdoutBatch = StdoutBatch()


class StdoutSink:
    def __init__(self, context: SinkContext, fd: int = STDOUT, stall_s: float = STALL_S) -> None:
        self._where, self._fd, self._stall_s = f"sinks.{context.name}", fd, stall_s
        self._begun = b""
        """What the reader has of a batch that was interrupted; the next try goes on from there."""
        self._given_up = threading.Event()

    async def write(self, batch: Batch, /) -> None:
        await asyncio.to_thread(self._write, batch)

    def give_up(self) -> None:
        """The thread of a write that is still waiting for its reader ends."""
        self._given_up.set()

    def _write(self, batch: Batch) -> None:
        lines = b"\n".join([*(m.body for m in batch.messages), b""])
        if not lines.startswith(self._begun):  # another batch than the interrupted one
            if not self._begun.endswith(b"\n"):
                self._put(memoryview(b"\n"))
            self._begun = b""
        left = memoryview(lines)[len(self._begun) :]
        try:
            while left:
                left = left[self._put(left) :]
        finally:
            self._begun = lines[: len(lines) - len(left)] if left else b""

    def _put(self, data: memoryview) -> int:
        """How much of it the reader took."""
        try:
            # A pipe that is ready takes so much without blocking (POSIX); a file takes everything.
            is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if not is_file:
                self._wait_for_reader()
            return os.write(self._fd, data if is_file else data[: select.PIPE_BUF])
        except BlockingIOError:
            raise RetryableError(f"{self._where}: standard output takes nothing for now") from None
        except BrokenPipeError:
            raise ConfigError(
                f"{self._where}: the reader of standard output is gone; start the program again with its reader"
            ) from None
        except OSError as error:
            reason = f"{self._where}: cannot write standard output: {(error.strerror or 'error').lower()}"
            if error.errno == errno.EBADF:
                raise ConfigError(f"{reason}; it is closed: open it, or remove this sink") from error
            raise RetryableError(reason) from error

    def _wait_for_reader(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        began = time.monotonic()
        while not poll.poll(LOOK_S * 1000):
            waited = time.monotonic() - began
            if self._given_up.is_set() or waited >= self._stall_s:
                raise RetryableError(
                    f"{self._where}: nobody has read standard output for {waited:.0f} s; wake the reader"
                )


@asynccontextmanager
async def open_stdout(options: StdoutOptions, context: SinkContext) -> AsyncIterator[StdoutSink]:
    sink = StdoutSink(context)
    try:
        yield sink
    finally:
        sink.give_up()


async def probe_stdout(options: StdoutOptions, context: SinkContext) -> str:
    """Writes nothing."""
    try:
        kind = os.fstat(STDOUT).st_mode
    except OSError:
        raise ConfigError(f"sinks.{context.name}: standard output is closed; open it, or remove this sink") from None
    return f"standard output is {'a pipe' if stat.S_ISFIFO(kind) else 'a file' if stat.S_ISREG(kind) else 'a terminal or device'}"


SINK = SinkType(StdoutOptions, open_stdout, probe_stdout, looks_inside=False)
