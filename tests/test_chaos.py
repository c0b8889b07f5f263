"""Short runs of the chaos harness (`tests/chaos`), each with its seed; `make chaos` makes long ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def ran(program: str, *arguments: str, limit_s: float) -> dict[str, Any]:
    """Its report; a failure shows what was wrong."""
    command = [sys.executable, "-m", f"tests.chaos.{program}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode and ("unshare" in done.stderr or "mount:" in done.stderr):
        pytest.skip(f"no small disk can be mounted here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["trouble"] == []
    return report


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, to mount a small disk")
def test_nothing_is_lost_or_twice_whatever_happens(tmp_path: Path) -> None:
    """Goal: every promise holds while everything goes wrong at once; method: seeded lives of the real daemon against the simulator's truth,
    into a file, an archive and a webhook, then a calm one whose numbers are checked against what is counted outside."""
    report = ran(
        "run", "--seed", "11", "--kills", "7", "--storm", "2", "--without", "kafka", "--without", "clock", limit_s=280
    )
    assert report["kills"] >= 7
    assert report["faults"] > 20
    assert report["arrived"]["file"] == report["arrived"]["archive"] == report["events"] > 3000


@pytest.mark.integration
@pytest.mark.timeout(400)
def test_nor_in_kafka_under_a_wrong_clock() -> None:
    """Goal: the same with transactions into Apache Kafka, which is cut off and corrupted too, and with a clock that is stepped; method: as above,
    and a consumer that reads committed. The clock is a small library, loaded before libc."""
    report = ran("run", "--seed", "12", "--kills", "12", "--storm", "5", limit_s=380)
    assert report["kills"] >= 12
    assert report["by_fault"]["step clock"] + report["by_fault"]["clock wrong at start"] > 0
    assert report["arrived"]["kafka"] == report["arrived"]["file"] == report["events"] > 3000


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_power_cut_takes_nothing_that_was_acknowledged() -> None:
    """Goal: what a sink acknowledged was synced first, and so was every new name; method: lives under strace, and after each kill all that was
    not synced, or a part of it, is taken back from the disk."""
    report = ran("power", "--seed", "1", "--cuts", "6", "--events", "600", limit_s=280)
    assert sum(report["cuts"].values()) == 6
    assert report["undone"] > 0, "nothing was unsynced, so nothing was shown"
    assert report["arrived"]["file"] == report["arrived"]["archive"] == report["events"] > 600


def test_the_model_of_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """Goal: the power cut is no fiction; method: system calls as strace writes them, of files and names with and without a sync."""
    import random

    from tests.chaos.disk import Disk

    root = tmp_path / "disk"
    root.mkdir()
    (root / "old").write_bytes(b"before")
    disk = Disk(root)

    def text(path: Path) -> str:
        return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'

    def data(content: bytes) -> str:
        return '"' + "".join(f"\\x{byte:02x}" for byte in content) + '"'

    log = tmp_path / "calls"
    log.write_text(
        "\n".join(
            [
                f"7 openat(AT_FDCWD, {text(root / 'old')}, O_WRONLY|O_APPEND) = 3",
                f"7 write(3, {data(b' synced')}, 7) = 7",
                "7 fdatasync(3 <unfinished ...>",
                f"8 write(3, {data(b' lost')}, 5) = 5",
                "7 <... fdatasync resumed>) = 0",
                f"7 openat(AT_FDCWD, {text(root / 'named')}, O_WRONLY|O_CREAT, 0600) = 4",
                f"7 write(4, {data(b'whole')}, 5) = 5",
                "7 fsync(4) = 0",
                f"7 openat(AT_FDCWD, {text(root)}, O_RDONLY|O_DIRECTORY) = 5",
                "7 fsync(5) = 0",
                f"7 rename({text(root / 'named')}, {text(root / 'renamed')}) = 0",
                f"7 openat(AT_FDCWD, {text(root / 'nameless')}, O_WRONLY|O_CREAT, 0600) = 6",
                "7 fsync(6) = 0",
                "",
            ]
        )
    )
    (root / "old").write_bytes(b"before synced lost")
    (root / "renamed").write_bytes(b"whole")
    (root / "nameless").write_bytes(b"")
    disk.play(log)
    assert disk.differs() == []
    assert disk.unsynced == 3
    disk.cut_power("strict", random.Random(1))
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"old": b"before synced", "named": b"whole"}
