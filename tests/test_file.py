"""The file sink: the contract of all sinks, and what is its own: torn tails, rotation, and others who meddle with the file."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.sink_contract import Arrived, OtherSide, SinkContract


def read_lines(*paths: Path) -> list[Arrived]:
    """The events of the files, one after the other; every line is whole."""
    data = b"".join(p.read_bytes() for p in paths)
    assert data == b"" or data.endswith(b"\n")
    return [(msgspec.json.decode(body)["id"], body) for body in data.splitlines()]


class FileSide(OtherSide):
    kind = "file"
    guarantee = "exactly once"

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder)
        self.path = folder / "audit.jsonl"
        self._options = options

    def options(self) -> dict[str, Any]:
        return {"path": str(self.path), **self._options}

    async def arrived(self) -> list[Arrived]:
        """Oldest first, over all rotated files."""
        rotated = [p for n in range(999, 0, -1) if (p := self.path.with_name(f"{self.path.name}.{n}")).exists()]
        return read_lines(*rotated, self.path)


class TestFileContract(SinkContract):
    @pytest.fixture
    def side(self, tmp_path: Path) -> FileSide:
        return FileSide(tmp_path)


class TestRotatingFileContract(SinkContract):
    """With every second batch in a new file."""

    @pytest.fixture
    def side(self, tmp_path: Path) -> FileSide:
        return FileSide(tmp_path, rotate={"size": "16KiB", "keep": 200})
