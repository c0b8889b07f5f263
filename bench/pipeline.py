"""Catching up from a local API into a fsynced file, against the floor: a bare loop over the same pages.

Both read the simulator, which runs in a process of its own. The floor fetches, decodes and re-encodes and does nothing else:
no journal, no order, no sync; nothing that tails this API can be faster in this language.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

PYTHON = sys.executable
IDLE_S = 30
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
"""Of the starts and of each catch-up: on shared processors single runs differ by a third."""
SETTLE_S = 65
"""Past the next pruning, which gives freed memory back."""


@dataclass
class Run:
    events: int
    seconds: float
    cpu_s: float
    rss_mib: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.events * 1e6

    def without(self, start: "Run") -> "Run":
        return Run(self.events, self.seconds - start.seconds, self.cpu_s - start.cpu_s, self.rss_mib)


def simulator(events: int, *options: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [
            PYTHON,
            "-m",
            "streamer.simulator",
            "--events",
            str(events),
            "--profile",
            "bulk",
            "--days",
            "30",
            "--stop-with-parent",
            *options,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def measured(arguments: list[str], events: int) -> Run:
    began = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    seconds = time.monotonic() - began
    return Run(events, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def configuration(folder: Path, base_url: str, sinks: str) -> Path:
    path = folder / "streamer.yaml"
    path.write_text(
        f"""
state: {folder}/state
admin: null
log: {{level: warning}}
sources:
  acme: {{type: openai_audit_logs, api_key: sk-admin-simulated, base_url: {base_url}, start: 31d}}
sinks: {{{sinks}}}
enrich: {{directory: null}}
"""
    )
    return path


def to_file(folder: Path, format: str = "envelope") -> str:
    return f"local: {{type: file, path: {folder}/audit.jsonl, format: {format}}}"


def catch_up(base_url: str, events: int, *, format: str = "envelope") -> Run:
    """The daemon with `--once`, start-up included; counts the lines."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        config = configuration(folder, base_url, to_file(folder, format))
        run = measured([PYTHON, "-m", "streamer", "run", "-c", str(config), "--once"], events)
        with (folder / "audit.jsonl").open("rb") as file:
            lines = sum(1 for _ in file)
        if lines != events:
            raise SystemExit(f"{lines} lines instead of {events}")
        return run


def formats(begin: Run) -> None:
    """The same with each format that is made for the sink, not only copied."""
    events = int(os.environ.get("BENCH_EVENTS", "50000"))
    process, base_url = simulator(events)
    try:
        for name in ("ocsf", "ecs", "cef", "leef"):
            net = catch_up(base_url, events, format=name).without(begin)
            print(f"format {name}: {net.rate:,.0f} events/s, {net.cpu_us:.1f} us CPU an event, {net.rss_mib:.0f} MiB")
    finally:
        process.kill()
        process.wait()


def floor(base_url: str, events: int, requests: int = 8) -> Run:
    return measured([PYTHON, "-m", "bench.floor", base_url, str(events), str(requests)], events)


def middle(runs: list[Run]) -> Run:
    """The one of median duration."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def start_up(run: Callable[[str, int], Run]) -> Run:
    """What a start costs, up to the end of a first poll of one event: taken off rates. The very first, which makes the bytecode, does not count."""
    process, base_url = simulator(1)
    try:
        return middle([run(base_url, 1) for _ in range(ROUNDS + 1)][1:])
    finally:
        process.kill()
        process.wait()


@contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([PYTHON, "-m", "streamer", "run", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def rss_mib(pid: int) -> tuple[float, float]:
    """(now, at most so far)."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(rows["VmRSS"].split()[0]) / 1024, int(rows["VmHWM"].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle() -> None:
    """Two listings with nothing to tell, polled every 10 s."""
    process, base_url = simulator(1)
    try:
        with (
            tempfile.TemporaryDirectory() as name,
            daemon(configuration(Path(name), base_url, to_file(Path(name)))) as running,
        ):
            time.sleep(8)
            before = cpu_s(running.pid)
            time.sleep(IDLE_S)
            used = cpu_s(running.pid) - before
    finally:
        process.kill()
        process.wait()
    print(f"idle, polling every 10 s: {used / IDLE_S:.2%} of a core over {IDLE_S} s")


def backlog() -> None:
    """The only sink is down while everything is caught up; then nothing more happens."""
    events = int(os.environ.get("BENCH_BACKLOG", "200000"))
    process, base_url = simulator(events)
    try:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
            dead = "dead: {type: webhook, url: http://127.0.0.1:9/, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}"
            folder = Path(name)
            with daemon(configuration(folder, base_url, dead)) as running:
                began = time.monotonic()
                while head(folder) < events:
                    time.sleep(0.2)
                seconds = time.monotonic() - began
                time.sleep(SETTLE_S)
                now, most = rss_mib(running.pid)
    finally:
        process.kill()
        process.wait()
    print(
        f"{events:,} events of backlog, the sink down: {events / seconds:,.0f} events/s, {most:.0f} MiB at most, {now:.0f} MiB a minute later"
    )


def span(runs: list[Run], whole: float = 0) -> str:
    """The least and the most, in events/s or as shares of `whole`."""
    least, most = min(run.rate for run in runs), max(run.rate for run in runs)
    return f"{least / whole:.1%} to {most / whole:.1%}" if whole else f"{least:,.0f} to {most:,.0f}"


def head(folder: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{folder}/state/journal.db?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT seq FROM head").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def main() -> None:
    events = int(os.environ.get("BENCH_EVENTS", "50000"))
    begin, bare_begin = start_up(catch_up), start_up(floor)
    print(
        f"start to the end of the first poll: {begin.seconds:.2f} s, {begin.cpu_s:.2f} s of CPU, {begin.rss_mib:.0f} MiB"
    )
    # At a latency a catch-up has a beginning and an end at which not all requests can be under way: four times as long shows the way between.
    for latency_ms, total in ((0, events), (50, events), (50, 4 * events)):
        options = ["--fault", f"latency:value={latency_ms / 1000}"] if latency_ms else []
        process, base_url = simulator(total, *options)
        try:
            rounds = [
                (floor(base_url, total).without(bare_begin), catch_up(base_url, total).without(begin))
                for _ in range(ROUNDS)
            ]
        finally:
            process.kill()
            process.wait()
        bases, nets = ([*runs] for runs in zip(*rounds, strict=True))
        base, net = middle(bases), middle(nets)
        print(
            f"{total:7,d} events, {latency_ms:2d} ms a page: {net.rate:8,.0f} events/s ({span(nets)}), {net.cpu_us:5.1f} us CPU an event, "
            f"{max(run.rss_mib for run in nets):.0f} MiB; floor {base.rate:8,.0f} events/s, {base.cpu_us:5.1f} us; "
            f"speed {net.rate / base.rate:.2f} of the floor"
        )
        if latency_ms:
            whole = 8 * 100 / (latency_ms / 1000)
            print(
                f"    {net.rate / whole:.1%} of concurrency x 100 / latency ({span(nets, whole)}); the floor {base.rate / whole:.1%}"
            )

    formats(begin)
    idle()
    backlog()


if __name__ == "__main__":
    main()
