"""What the bench asks of a program: to be installed, to collect once, and to show what came out."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.peers.process import Command

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("PEERS_CACHE") or HERE.parents[1] / ".cache" / "peers")
KEY = "sk-admin-simulated"
CONCURRENCY = 8
"""Our default."""


@dataclass(frozen=True)
class Job:
    """One collector's place: what it asks, and where its files lie."""

    folder: Path
    base_url: str
    since: int
    """Unix second of the first event that is wanted."""
    hook: str | None = None
    """Deliver to this URL, as NDJSON; else to a file."""
    tenant: bool = True
    """The second listing too."""
    patience_s: int = 0
    """Be ready for events that appear so late: as a delay or as a lag, by the program; ours always is."""
    recheck: str = "15m"
    """How often ours reads the last two hours again; the others have no such thing."""
    concurrency: int = CONCURRENCY
    """Windows that ours walks at once; the others follow one cursor."""


class Peer(Protocol):
    name: str
    keeps_position: bool
    """Between two runs. Who does not takes no part in the faults."""

    def install(self) -> str:
        """Make it ready where it is not; its version."""

    def command(self, job: Job, /) -> Command:
        """Collects what there is, then ends. The folder is the same each time, and so is what it remembers."""

    def ids(self, job: Job, /) -> Iterator[str]:
        """Of all events in its file output, copies too."""

    def checkpoint(self, job: Job, /) -> list[Path]:
        """The files in which it keeps where it stands."""


@contextmanager
def made(folder: Path, sources: Sequence[Path]) -> Iterator[bool]:
    """Whether the folder has to be made anew, because it was made from other files; remembers that it has been."""
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    mark = folder / ".made-from"
    stale = not mark.exists() or mark.read_text() != wanted
    if stale:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    yield stale
    mark.write_text(wanted)


def environment(name: str, requirements: Path, *packages: Path) -> Path:
    """A virtual environment of its own, with exactly these; its `bin`."""
    folder = CACHE / name
    code = [path for package in packages for path in sorted(package.rglob("*")) if path.suffix in (".py", ".toml")]
    with made(folder, [requirements, *code]) as stale:
        if stale:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
            subprocess.run([*pip, "-r", str(requirements)], check=True)
            if packages:
                subprocess.run([*pip, *map(str, packages)], check=True)
    return folder / "bin"
