"""The stdout sink: the contract of all sinks, and readers that stall, go away, or take half a line."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from streamer.model import Seq
from streamer.ports import Sink, SinkContext, SinkPosition
from streamer.sinks.stdout import StdoutSink
from tests.sink_contract import JOURNAL, NAME, Arrived, OtherSide, SinkContract
from tests.test_file import read_lines


def context(folder: Path) -> SinkContext:
    return SinkContext(name=NAME, position=SinkPosition(Seq(0), None), journal=JOURNAL, folder=folder)


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
