"""Kill a daemon again and again while it tails the simulator, then compare its file with the simulator's truth.

`python -m tests.crash.run --seed 1 --kills 50`: prints one JSON object; exit 0 when nothing was lost or doubled. It is a program of
its own because it forks, which a process with threads should not.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from tests.crash.daemon import Point, kill, spawn, wait

FAULTS = (
    "rate_limited:probability=0.03",
    "internal_error:probability=0.03",
    "cut_body:probability=0.03",
    "reset:probability=0.02",
    "html:probability=0.02",
    "concatenated:probability=0.2",
)
POINTS = (
    Point("sinks/file.py", "FileSink._write", "return", 2),
    Point("sinks/file.py", "FileSink._write", "call", 3),
    Point("journal/sqlite.py", "SqliteJournal._ack", "call", 2),
    Point("journal/sqlite.py", "SqliteJournal._ack", "return", 2),
    Point("journal/sqlite.py", "SqliteJournal._remember", "return", 2),
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


class Line(msgspec.Struct):
    """What the check reads of an envelope."""

    id: str
    listing: str
    time: str
    late: bool
    event: msgspec.Raw


@dataclass
class Report:
    seed: int
    kills: int = 0
    points: dict[str, int] = field(default_factory=dict)
    """Named points at which a daemon died by its own hand."""
    truth: int = 0
    lines: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.missing or self.doubled or self.foreign or self.altered or self.disorder or self.trouble)


def simulator(events: int, rate: float, seed: int, faults: tuple[str, ...]) -> tuple[subprocess.Popen[str], str]:
    """In a process of its own, which ends with this one; its base URL."""
    arguments = ["--events", str(events), "--rate", str(rate), "--seed", str(seed), "--days", "2", "--stop-with-parent"]
    for fault in faults:
        arguments += ["--fault", fault]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer.simulator", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def configuration(folder: Path, base_url: str) -> Path:
    path = folder / "streamer.yaml"
    path.write_text(
        f"""
state: {folder}/state
admin: null
sources:
  acme:
    type: openai_audit_logs
    api_key: sk-admin-simulated
    base_url: {base_url}
    start: beginning
    poll_interval: 200ms
    overlap: 5s
    recheck: [{{every: 2s, window: 20s}}]
    concurrency: 3
sinks:
  local: {{type: file, path: {folder}/audit.jsonl, rotate: {{size: 256KiB, keep: 9999}}, batch: {{events: 200, bytes: 64KiB, wait: 0s}}}}
journal: {{keep: 1s}}
"""
    )
    return path


def truth(base_url: str) -> dict[str, tuple[str, bytes]]:
    """id to (listing, bytes as served), of every event the simulator has ever shown."""
    root = base_url.removesuffix("/v1")
    found = {}
    for listing in ("organization", "tenant"):
        with urllib.request.urlopen(f"{root}/_sim/truth?listing={listing}&raw=1", timeout=30) as answer:
            for line in answer:
                row = msgspec.json.decode(line)
                found[row["id"]] = (listing, row["raw"].encode())
    return found


def lines(folder: Path) -> list[Line]:
    """Of all files, the oldest first."""
    files = sorted(folder.glob("audit.jsonl*"), key=lambda p: -int(p.suffix[1:]) if p.suffix[1:].isdigit() else 1)
    decoder = msgspec.json.Decoder(Line)
    return [decoder.decode(line) for path in files for line in path.read_bytes().splitlines()]


Truth = dict[str, tuple[str, bytes]]


def compare(report: Report, before: Truth, after: Truth, found: list[Line]) -> None:
    """What was there before the last run must have arrived; what was there after it may have."""
    report.truth, report.lines = len(before), len(found)
    counts = Counter(line.id for line in found)
    report.missing = sorted(before.keys() - counts.keys())[:20]
    report.foreign = sorted(counts.keys() - after.keys())[:20]
    report.doubled = [i for i, n in counts.items() if n > 1][:20]
    report.altered = [line.id for line in found if (line.listing, bytes(line.event)) != after.get(line.id)][:20]
    newest: dict[str, str] = {}
    for line in found:
        if not line.late and line.time < newest.get(line.listing, ""):
            report.disorder.append(line.id)
        if not line.late:
            newest[line.listing] = max(line.time, newest.get(line.listing, ""))
    report.disorder = report.disorder[:20]


def crash(seed: int, kills: int, events: int, rate: float) -> Report:
    chance = random.Random(seed)
    report, began = Report(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, base_url = simulator(events, rate, seed, FAULTS)
        try:
            config = configuration(folder, base_url)
            for number in range(kills):
                point = POINTS[number // 2 % len(POINTS)] if number % 2 else None
                pid = spawn(config, point)
                # Some die while opening, most somewhere in their work.
                status = wait(pid, chance.expovariate(1 / 0.25) if point is None else 1.5)
                if status is None:
                    kill(pid)
                    report.kills += 1
                elif status == -9:
                    report.kills += 1
                    if point is not None:
                        where = f"{point.name} {point.when} {point.nth}"
                        report.points[where] = report.points.get(where, 0) + 1
                else:
                    report.trouble.append(f"a daemon ended by itself with {status}")
                    break
            before = truth(base_url)
            last = spawn(config, once=True)
            if (status := wait(last, 60)) != 0:
                report.trouble.append(f"the last run ended with {status}")
                if status is None:
                    kill(last)
            compare(report, before, truth(base_url), lines(folder))
            if not report.good:
                report.trouble.append((folder / "daemon.log").read_text()[-2000:])
        finally:
            process.kill()
            process.wait()
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
    sys.exit(0 if report.good else 1)


if __name__ == "__main__":
    main()
