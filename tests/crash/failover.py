"""`python -m tests.crash.failover --by lock|lease`: two daemons on one state folder, of which the leader is killed or frozen again and again.

A frozen one is left so until the other would have taken over, and then wakes up. Prints one JSON object; exit 0 when file and archive
have every event once. A program of its own because it forks, which a process with threads should not.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamer.sinks.archive.verify import verify
from tests.arrivals import judge, truth
from tests.crash.daemon import kill, spawn, wait
from tests.crash.story import Report, configured, finish
from tests.lease_server import TOKEN, lease_server
from tests.outage import archive_lines, id_of
from tests.simulation import Child, simulated_in_child

LEASE_S = 6
"""Long enough that a busy machine renews it in time."""
PATIENCE_S = 60.0


def configuration(folder: Path, number: int, child: Child, standby: dict[str, Any]) -> Path:
    """Each daemon has a folder for its log; state and sinks are the same."""
    own = folder / str(number)
    own.mkdir()
    lake = {"type": "archive", "path": str(folder / "archive"), "roll": {"age": "1s"}, "batch": {"wait": "0s"}}
    changes = {
        "sinks.local.batch": {"events": 50, "wait": "0s"},
        "sinks.lake": lake,
        "standby": standby,
        "reload": {"watch": None},
        "enrich": {"directory": None},
    }
    return configured(folder, child, changes, own)


class Pair:
    """Two daemons. Who leads, the lock in the state folder says."""

    def __init__(self, folder: Path, configs: list[Path]) -> None:
        self.folder, self.configs = folder, configs
        self.pids = [spawn(config) for config in configs]

    def leader(self) -> int | None:
        """Its number; None when the lock names none of the two."""
        try:
            pid = int((self.folder / "state" / "lock").read_text() or 0)
        except OSError:
            return None
        return self.pids.index(pid) if pid in self.pids else None

    def leads(self, number: int) -> Callable[[], bool]:
        return lambda: self.leader() == number

    def replace(self, number: int) -> None:
        """With one that stands by: only then does it know what SIGTERM means."""
        log = self.configs[number].parent / "daemon.log"
        before = log.read_text().count("standing by")
        self.pids[number] = spawn(self.configs[number])
        until(lambda: log.read_text().count("standing by") > before, "the new one stands by")


def until(condition: Callable[[], object], what: str) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - began


def growing(folder: Path) -> Callable[[], bool]:
    """Whether something was appended since."""

    def size() -> int:
        found = 0
        for path in folder.glob("audit.jsonl*"):
            with suppress(FileNotFoundError):  # renamed just now
                found += path.stat().st_size
        return found

    before = size()
    return lambda: size() > before


def round_of(pair: Pair, freeze: bool, by_lease: bool, chance: random.Random, waits: list[float]) -> str | None:
    """Take the leader away, and see the other lead and write. What went wrong, or None."""
    until(lambda: pair.leader() is not None, "a leader")
    number = pair.leader()
    assert number is not None
    until(growing(pair.folder), "the leader writes")
    time.sleep(chance.uniform(0, 0.3))
    pid, other = pair.pids[number], 1 - number
    if not freeze:
        kill(pid)
        waits.append(until(pair.leads(other), "the other leads after a kill"))
    else:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(LEASE_S * 1.3 if by_lease else 1.0)
        grown = growing(pair.folder)
        time.sleep(0.3)
        if grown():
            return "somebody wrote while the leader was frozen and held the lock"
        os.kill(pid, signal.SIGCONT)
        if not by_lease:  # the lock was never given up, so it goes on
            until(growing(pair.folder), "the leader that woke up goes on")
            return None if pair.leader() == number else "the lock changed hands"
        status = wait(pid, PATIENCE_S)
        if status != -signal.SIGALRM:
            return f"a leader that overslept its lease ended with {status}, not by the kernel's timer"
        waits.append(until(pair.leads(other), "the other leads after the frozen one woke up"))
    pair.replace(number)
    return None


def judge_archive(report: Report, folder: Path, lines: list[bytes], child: Child) -> None:
    """Whole, and with every event of the file once."""
    verified = verify(str(folder / "archive"), None)
    if not verified.whole:
        report.trouble.append(f"the archive is not whole: {verified}")
    known, ids = truth(child), {id_of(line).decode() for line in lines}
    wanted = {i: row for i, row in known.items() if i in ids}
    report.judged("archive", judge(archive_lines(folder / "archive"), wanted, known=known, once=True, ordered=False))


def story(report: Report, folder: Path, child: Child, pair: Pair, by: str, rounds: int) -> None:
    chance = random.Random(report.seed)
    try:
        for number in range(rounds):
            problem = round_of(pair, number % 3 == 2, by == "lease", chance, report.waits)
            report.kills += 1
            if problem is not None:
                report.trouble.append(problem)
        for pid in pair.pids:
            os.kill(pid, signal.SIGTERM)
        report.trouble += [f"a daemon ended with {s}" for pid in pair.pids if (s := wait(pid, 30)) != 0]
        lines = finish(report, pair.configs[0], folder, child)
        judge_archive(report, folder, lines, child)
    except TimeoutError as error:
        report.trouble.append(str(error))
    finally:
        for pid in pair.pids:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGCONT)
                kill(pid)


def failover(by: str, seed: int, rounds: int, where: dict[str, str] | None = None) -> Report:
    """`where`: a real server; without it, one that stands in."""
    report, began = Report(seed), time.monotonic()
    faults = ("internal_error:probability=0.03", "reset:probability=0.02")
    with (
        tempfile.TemporaryDirectory() as name,
        simulated_in_child(events=1500, rate=40.0, days=2, seed=seed, faults=faults) as child,
        lease_server() as server,
    ):
        folder = Path(name)
        (folder / "token").write_text(TOKEN)
        stand_in = {"server": server, "token_file": str(folder / "token")}
        standby = (
            {"lease": {"name": "audit", "duration": f"{LEASE_S}s", **(where or stand_in)}} if by == "lease" else {}
        )
        pair = Pair(folder, [configuration(folder, n, child, standby) for n in range(2)])
        story(report, folder, child, pair, by, rounds)
        if report.trouble:
            report.trouble += [path.read_text()[-1500:] for path in folder.glob("*/daemon.log")]
    report.seconds = round(time.monotonic() - began, 1)
    return report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--by", choices=("lock", "lease"), default="lease")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--server", type=json.loads, help="a real one: server, namespace, token_file and ca_file, as JSON"
    )
    given = parser.parse_args()
    report = failover(given.by, given.seed, given.rounds, given.server)
    sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    sys.exit(1 if report.trouble else 0)


if __name__ == "__main__":
    main()
