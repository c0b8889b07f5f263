"""`python -m tests.crash.failover --by lock|lease`: two daemons on one state folder, of which the leader is killed or frozen again and again.

A frozen one is left so until the other would have taken over, and then wakes up. Prints one JSON object; exit 0 when file and archive
have every event once. A program of its own because it forks, which a process with threads should not.
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
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from streamer.sinks.archive.verify import verify
from tests.crash.daemon import kill, spawn, wait
from tests.crash.run import Line, Report, compare, lines, simulator, truth
from tests.lease_server import TOKEN

LEASE_S = 6
"""Long enough that a busy machine renews it in time."""
PATIENCE_S = 60.0


def configuration(folder: Path, number: int, base_url: str, standby: str) -> Path:
    """Each daemon has a folder for its log; state and sinks are the same."""
    own = folder / str(number)
    own.mkdir()
    path = own / "streamer.yaml"
    path.write_text(
        f"""
state: {folder}/state
admin: null
standby: {standby}
reload: {{watch: null}}
enrich: {{directory: null}}
sources:
  acme:
    type: openai_audit_logs
    api_key: sk-admin-simulated
    base_url: {base_url}
    start: beginning
    poll_interval: 200ms
    overlap: 5s
    recheck: [{{every: 2s, window: 20s}}]
sinks:
  local: {{type: file, path: {folder}/audit.jsonl, rotate: {{size: 256KiB, keep: 9999}}, batch: {{events: 50, wait: 0s}}}}
  lake: {{type: archive, path: {folder}/archive, roll: {{age: 1s}}, batch: {{wait: 0s}}}}
"""
    )
    return path


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
        return sum(path.stat().st_size for path in folder.glob("audit.jsonl*"))

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


def twice_or_missing(folder: Path, report: Report) -> None:
    """The archive, whole and with every event of the file once."""
    found = verify(str(folder / "archive"), None)
    if not found.whole:
        report.trouble.append(f"the archive is not whole: {found}")
    import zstandard

    counts: Counter[str] = Counter()
    decoder = msgspec.json.Decoder(Line)
    for path in (folder / "archive").glob("source=*/**/*.zst"):
        with zstandard.open(path, "rb") as file:
            counts.update(decoder.decode(line).id for line in file.read().splitlines())
    report.doubled += [i for i, n in counts.items() if n > 1][:20]
    report.missing += sorted({line.id for line in lines(folder)} - counts.keys())[:20]


def failover(by: str, seed: int, rounds: int, where: dict[str, str] | None = None) -> tuple[Report, list[float]]:
    chance, report, waits, began = random.Random(seed), Report(seed), list[float](), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream, base_url = simulator(1500, 40.0, seed, ("internal_error:probability=0.03", "reset:probability=0.02"))
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.lease_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        (folder / "token").write_text(TOKEN)
        stand_in = {"server": server.stdout.readline().strip(), "token_file": f"{folder}/token"}
        lease = {"lease": {"name": "audit", "duration": f"{LEASE_S}s", **(where or stand_in)}} if by == "lease" else {}
        configs = [configuration(folder, n, base_url, json.dumps(lease)) for n in range(2)]
        pair = Pair(folder, configs)
        try:
            for number in range(rounds):
                problem = round_of(pair, number % 3 == 2, by == "lease", chance, waits)
                report.kills += 1
                if problem is not None:
                    report.trouble.append(problem)
            before = truth(base_url)
            for pid in pair.pids:
                os.kill(pid, signal.SIGTERM)
            report.trouble += [f"a daemon ended with {s}" for pid in pair.pids if (s := wait(pid, 30)) != 0]
            last = spawn(configs[0], once=True)
            if (status := wait(last, 60)) != 0:
                report.trouble.append(f"the last run ended with {status}")
            compare(report, before, truth(base_url), lines(folder))
            twice_or_missing(folder, report)
        except TimeoutError as error:
            report.trouble.append(str(error))
        finally:
            for process in (upstream, server):
                process.kill()
                process.wait()
            for pid in pair.pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                    kill(pid)
                except (ProcessLookupError, ChildProcessError):
                    continue
        if not report.good:
            report.trouble += [path.read_text()[-1500:] for path in folder.glob("*/daemon.log")]
    report.seconds = round(time.monotonic() - began, 1)
    return report, waits


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--by", choices=("lock", "lease"), default="lease")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--server", type=json.loads, help="a real one: server, namespace, token_file and ca_file, as JSON"
    )
    given = parser.parse_args()
    report, waits = failover(given.by, given.seed, given.rounds, given.server)
    sys.stdout.write(json.dumps({**msgspec.to_builtins(report), "good": report.good, "waits": waits}, indent=1) + "\n")
    sys.exit(0 if report.good else 1)


if __name__ == "__main__":
    main()
