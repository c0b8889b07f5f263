"""Kill a daemon again and again while it tails the simulator, then compare its file with the simulator's truth.

`python -m tests.crash.run --seed 1 --kills 50`: prints one JSON object; exit 0 when nothing was lost or doubled. It is a program of
its own because it forks, which a process with threads should not.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.crash.daemon import Point, kill, spawn, wait
from tests.crash.story import Report, configured, finish
from tests.places import denied_s
from tests.simulation import simulated_in_child

FAULTS = (
    "rate_limited:probability=0.03",
    "internal_error:probability=0.03",
    "cut_body:probability=0.03",
    "reset:probability=0.02",
    "html:probability=0.02",
    "concatenated:probability=0.2",
)
CHANGES: dict[str, Any] = {
    "sources.acme.concurrency": 3,
    "sinks.local.batch": {"events": 200, "bytes": "64KiB", "wait": "0s"},
    "journal": {"keep": "1s"},
}
POINTS = (
    Point("sinks/file.py", "FileSink._write", "return", 2),
    Point("sinks/file.py", "FileSink._write", "call", 3),
    Point("journal/sqlite.py", "SqliteJournal._ack", "call", 2),
    Point("journal/sqlite.py", "SqliteJournal._ack", "return", 2),
    Point("journal/sqlite.py", "SqliteJournal._insert", "inside", 2),
    Point("journal/sqlite.py", "SqliteJournal._insert", "return", 2),
    Point("journal/sqlite.py", "SqliteJournal._append", "call", 3),
    Point("journal/sqlite.py", "SqliteJournal._append", "return", 3),
    Point("journal/sqlite.py", "SqliteJournal._prune_blocks", "return", 2),
    Point("journal/sqlite.py", "SqliteJournal._forget", "return", 2),
    Point("", "os.rename", "action", 1),
    Point("", "os.rename", "action", 2),
    Point("", "os.rename", "action", 3),
    Point("", "os.truncate", "action", 1),
)


def wait_fairly(pid: int, seconds: float) -> int | None:
    """As `wait`, but time in which this machine had no core for the daemon does not count: a life means the same on a busy one."""
    began, left = time.monotonic(), seconds
    while left > 0:
        if (status := wait(pid, max(left, 0.01))) is not None:
            return status
        left = seconds - (time.monotonic() - began - denied_s(pid))
    return None


def life(report: Report, config: Path, point: Point | None, chance: random.Random) -> bool:
    """One daemon until it dies. Some die while opening, most somewhere in their work. False when it ended by itself."""
    pid = spawn(config, point)
    status = wait_fairly(pid, chance.expovariate(1 / 0.25) if point is None else 1.5)
    if status is None:
        kill(pid)
    elif status != -signal.SIGKILL:
        report.trouble.append(f"a daemon ended by itself with {status}")
        return False
    elif point is not None:
        where = f"{point.name} {point.when} {point.nth}"
        report.points[where] = report.points.get(where, 0) + 1
    report.kills += 1
    return True


def crash(seed: int, kills: int, events: int, rate: float) -> Report:
    chance = random.Random(seed)
    report, began = Report(seed), time.monotonic()
    with (
        tempfile.TemporaryDirectory() as name,
        simulated_in_child(events=events, rate=rate, days=2, seed=seed, faults=FAULTS) as child,
    ):
        folder = Path(name)
        config = configured(folder, child, CHANGES)
        for number in range(kills):
            point = POINTS[number // 2 % len(POINTS)] if number % 2 else None
            if not life(report, config, point, chance):
                break
        finish(report, config, folder, child)
        if report.trouble:
            report.trouble.append((folder / "daemon.log").read_text()[-2000:])
    report.seconds = round(time.monotonic() - began, 1)
    return report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=40.0)
    given = parser.parse_args()
    report = crash(given.seed, given.kills, given.events, given.rate)
    sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    sys.exit(1 if report.trouble else 0)


if __name__ == "__main__":
    main()
