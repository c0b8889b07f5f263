"""`python -m tests.chaos.power --seed 1 --cuts 20`: a daemon whose power is cut again and again; prints one JSON object.

Every life runs under strace. When it is killed, what it had not synced is taken back from the disk (`disk.py`), and the next life
begins with what is left. At the end the file and the archive are compared with the simulator's truth.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import get_args

from tests.arrivals import Truth, file_lines, judge, truth
from tests.chaos.disk import CALLS, Disk, Mode
from tests.outage import ENV, archive_lines
from tests.places import Place, until
from tests.simulation import simulated_in_child

MODES: tuple[Mode, ...] = get_args(Mode)
WEIGHTS = (5, 4, 1)


@dataclass
class Report:
    seed: int
    cuts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODES, 0))
    syncs: int = 0
    """fsync and fdatasync that the daemon made."""
    undone: int = 0
    """Writes and changes of names that were not synced when the power went."""
    events: int = 0
    arrived: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: list[str] = field(default_factory=list)


def configured(place: Place, root: Path) -> None:
    """Each thing in a folder of its own, so that the one does not sync the other's name."""
    for name in ("var", "log", "data"):
        (root / name).mkdir(parents=True)
    place.document["state"] = str(root / "var/state")
    place.document["admin"] = None
    place.change("enrich", {"directory": None})
    place.change("journal", {"keep": "4d"})
    source = place.document["sources"]["acme"]
    source |= {"start": "beginning", "poll_interval": "100ms", "overlap": "5s", "concurrency": 2}
    source["recheck"] = [{"every": "1s", "window": "1m"}]
    place.document["sinks"] = {
        "local": {
            "type": "file",
            "path": str(root / "log/audit.jsonl"),
            "rotate": {"size": "128KiB", "keep": 9999},
            "batch": {"events": 40, "wait": "0s"},
        },
        "lake": {
            "type": "archive",
            "path": str(root / "data/archive"),
            "signing_key_file": str(place.folder / "signing.key"),
            "roll": {"age": "1s", "size": "64KiB"},
            "batch": {"events": 60, "wait": "0s"},
        },
    }
    place.write()


def live(place: Place, seconds: float) -> Path:
    """A life under strace, killed so long after its journal was made or found; its system calls."""
    log = place.folder / "calls"
    log.unlink(missing_ok=True)
    command = ["strace", "-f", "--seccomp-bpf", "-xx", "-s", str(1 << 28), "-e", f"trace={CALLS}", "-o", str(log)]
    with (place.folder / "daemon.log").open("ab") as said:
        tracer = subprocess.Popen(
            [*command, sys.executable, "-m", "streamer", "run", "-c", str(place.config)], stderr=said, env=ENV
        )
        lock = Path(place.document["state"], "lock")
        try:
            until(lambda: tracer.poll() is not None or _holder(lock, tracer.pid))
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"a daemon ended by itself with {tracer.wait(seconds)}: {_tail(place)}")
        finally:
            if (daemon := _holder(lock, tracer.pid)) is not None:
                os.kill(daemon, signal.SIGKILL)
            else:
                tracer.kill()
            tracer.wait(30)
    return log


def _holder(lock: Path, tracer: int) -> int | None:
    """The child of the tracer that holds the state folder."""
    try:
        pid = int(lock.read_text())
        return pid if f"PPid:\t{tracer}\n" in Path(f"/proc/{pid}/status").read_text() else None
    except (OSError, ValueError):
        return None


def _tail(place: Place) -> str:
    return (place.folder / "daemon.log").read_text(errors="replace")[-2500:]


def judge_all(place: Place, root: Path, wanted: Truth, report: Report) -> None:
    for sink, lines in {"file": file_lines(root / "log"), "archive": archive_lines(root / "data/archive")}.items():
        found = judge(lines, wanted, once=True, ordered=True)
        report.arrived[sink] = found.events
        report.trouble += [f"{sink}: {problem}" for problem in found.problems]
    for verb in (
        ["reconcile", "-c", str(place.config), "--since", "3d"],
        ["verify", str(root / "data/archive"), "--key", str(place.folder / "signing.key.pub")],
    ):
        done = _streamer(verb)
        if done.returncode != 0:
            report.trouble.append(f"{verb[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")


def _streamer(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=300, check=False)


def run(report: Report, folder: Path, cuts: int, events: int) -> None:
    chance, root = random.Random(report.seed), folder / "disk"
    with simulated_in_child(events=events, days=1, seed=report.seed) as child:
        place = Place(folder, child.base_url)
        configured(place, root)
        assert _streamer(["keygen", str(folder / "signing.key")]).returncode == 0
        for number in range(cuts):
            child.control("POST", "events", {"count": chance.choice((3, 30, 300))})
            disk = Disk(root)
            log = live(place, chance.uniform(0.05, 2.5))
            disk.play(log)
            if differs := disk.differs():
                report.trouble.append(f"cut {number}: the model of the disk is wrong about {differs[:5]}")
                return
            # The first shows whether the names of new folders hold.
            mode = chance.choices(MODES, WEIGHTS)[0] if number else "strict"
            report.cuts[mode] += 1
            report.syncs += disk.syncs
            report.undone += disk.unsynced if mode != "all" else 0
            disk.cut_power(mode, chance)
        done = _streamer(["run", "--once", "-c", str(place.config)])
        if done.returncode != 0:
            report.trouble.append(f"the last run ended with {done.returncode}: {done.stderr[-1500:]}")
        wanted = truth(child)
        report.events = len(wanted)
        judge_all(place, root, wanted, report)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.power", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--events", type=int, default=1500)
    parser.add_argument("--keep", type=Path, help="A folder that stays, for looking at it afterwards.")
    given = parser.parse_args()
    report, began = Report(given.seed), time.monotonic()
    try:
        if given.keep is not None:
            given.keep.mkdir(parents=True)
            run(report, given.keep, given.cuts, given.events)
        else:
            with tempfile.TemporaryDirectory(prefix="power-") as name:
                run(report, Path(name), given.cuts, given.events)
    except AssertionError as error:
        report.trouble.append(str(error))
    report.seconds = round(time.monotonic() - began, 1)
    sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    sys.exit(1 if report.trouble else 0)


if __name__ == "__main__":
    main()
