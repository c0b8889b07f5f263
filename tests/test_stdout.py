"""The stdout sink: the contract of all sinks, and readers that stall, go away, or take half a line."""

import asyncio
import contextlib
import os
import select
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from streamer.errors import ConfigError, RetryableError
from streamer.model import Batch, Seq
from streamer.ports import Sink, SinkContext, SinkPosition
from streamer.sinks import SINKS
from streamer.sinks.stdout import StdoutSink
from tests.records import batch
from tests.sink_contract import JOURNAL, NAME, Arrived, OtherSide, SinkContract, expected
from tests.test_file import read_lines


def context(folder: Path) -> SinkContext:
    return SinkContext(name=NAME, position=SinkPosition(Seq(0), None, NAME), journal=JOURNAL, folder=folder)


class StdoutSide(OtherSide):
    """A file behind a descriptor: what a shell's `>>` makes of standard output."""

    kind = "stdout"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "stdout"
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def options(self) -> dict[str, object]:
        return {}

    async def arrived(self) -> list[Arrived]:
        return read_lines(self.path)

    def open(self, position: SinkPosition) -> AbstractAsyncContextManager[Sink]:
        """Of this test, not of its runner."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[Sink]:
            yield StdoutSink(context(self.folder), fd=self.fd)

        return opened()

    def child_stdout(self) -> int:
        return self.fd


class TestStdoutContract(SinkContract):
    @pytest.fixture
    def side(self, tmp_path: Path) -> Iterator[StdoutSide]:
        side = StdoutSide(tmp_path)
        yield side
        os.close(side.fd)


class Pipe:
    """A sink's end and a reader's end; the reader reads when the test says so."""

    def __init__(self, *, blocking: bool = True) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, blocking)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self.reader, size - len(data))
        return data

    def read_what_is_there(self) -> bytes:
        data = b""
        while select.select([self.reader], [], [], 0)[0]:
            data += os.read(self.reader, 1 << 20)
        return data

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture(params=[True, False], ids=["blocking", "non-blocking"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    pipe = Pipe(blocking=request.param)
    yield pipe
    pipe.close()


BIG = 200
"""So many events do not fit into a pipe."""


def text(*batches: Batch) -> bytes:
    return b"".join(body + b"\n" for _, body in expected(*batches))


async def test_a_batch_larger_than_the_pipe_arrives_whole(tmp_path: Path, pipe: Pipe) -> None:
    """Goal: partial writes and full pipes change nothing; method: a reader that takes it in its own pieces, while the loop lives."""
    sink = StdoutSink(context(tmp_path), fd=pipe.writer)
    wanted = text(batch(BIG))
    reading = asyncio.create_task(asyncio.to_thread(pipe.read, len(wanted)))
    await sink.write(batch(BIG))
    assert await reading == wanted


async def test_a_reader_that_stalls_is_reported_and_gets_the_rest_later(tmp_path: Path, pipe: Pipe) -> None:
    """Goal: a stalled reader is retryable, and whole lines come however often it stalls; method: fill the pipe, then read it, twice."""
    sink = StdoutSink(context(tmp_path), fd=pipe.writer, stall_s=0.05)
    wanted, seen = text(batch(BIG)), b""
    stalls = 0
    while len(seen) < len(wanted):
        with contextlib.suppress(RetryableError):
            await sink.write(batch(BIG))
            break
        stalls += 1
        seen += pipe.read_what_is_there()
    seen += pipe.read_what_is_there()
    assert stalls >= 2, "the pipe held more than the test thinks"
    assert seen == wanted


async def test_another_batch_after_a_stall_begins_on_its_own_line(tmp_path: Path, pipe: Pipe) -> None:
    """Goal: no two events on one line; method: a stall inside of a line, then a part of the batch, as after halving."""
    sink = StdoutSink(context(tmp_path), fd=pipe.writer, stall_s=0.05)
    with pytest.raises(RetryableError, match="wake the reader"):
        await sink.write(batch(BIG))
    seen = pipe.read_what_is_there()
    await sink.write(batch(2, first=7))
    seen += pipe.read_what_is_there()
    lines = seen.split(b"\n")
    assert lines[-3:] == [*(body for _, body in expected(batch(2, first=7))), b""]
    whole = text(batch(BIG)).split(b"\n")
    assert lines[:-4] == whole[: len(lines) - 4]
    assert whole[len(lines) - 4].startswith(lines[-4]), "the line that was cut is ended, not joined"


async def test_a_reader_that_went_away_is_for_an_operator(tmp_path: Path, pipe: Pipe) -> None:
    """Goal: what can never heal is held with its reason; method: close the reader, then the descriptor itself."""
    sink = StdoutSink(context(tmp_path), fd=pipe.writer)
    os.close(pipe.reader)
    with pytest.raises(ConfigError, match="sinks.out: the reader of standard output is gone"):
        await sink.write(batch(3))
    os.close(pipe.writer)
    with pytest.raises(ConfigError, match="it is closed"):
        await sink.write(batch(3))


async def test_a_write_that_waits_for_its_reader_can_be_given_up(tmp_path: Path) -> None:
    """Goal: the program can end while a reader stalls; method: cancel the write, close the sink: its thread ends."""
    pipe = Pipe()
    sink = StdoutSink(context(tmp_path), fd=pipe.writer, stall_s=3600)
    writing = asyncio.create_task(sink.write(batch(BIG)))
    while len(pipe.read_what_is_there()) == 0:
        await asyncio.sleep(0.001)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    sink.give_up()
    async with asyncio.timeout(20):
        await asyncio.get_running_loop().shutdown_default_executor()
    pipe.close()


async def test_registered_and_probed(tmp_path: Path) -> None:
    """Goal: the configuration finds it, with no wait before a batch; method: the registry, a probe of this process's stdout."""
    kind = SINKS["stdout"]
    options = kind.options.model_validate({"batch": {"events": 7}})
    assert (options.batch.events, options.batch.wait) == (7, 0.0)
    assert (await kind.probe(options, context(tmp_path))).startswith("standard output is a ")
    async with kind.open(options, context(tmp_path)) as sink:
        assert isinstance(sink, StdoutSink)
