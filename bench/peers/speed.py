"""Catching up, at several latencies, everybody over the same events of the same simulator."""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers.outcome import compare
from bench.peers.peer import CONCURRENCY, Job, Peer
from bench.peers.process import Usage, run
from tests.simulation import Child, simulated_in_child


@dataclass(frozen=True)
class Load:
    """What everybody reads in a row of the table."""

    latency_ms: int
    """Of a page."""
    events: int
    """The newest so many; fewer where a page takes long, for the bench's own time."""
    tenant: bool = False
    """Both listings; else the organization's alone."""
    concurrency: int = CONCURRENCY
    """Of ours."""
    long: bool = False
    """A row that names its events."""

    def __str__(self) -> str:
        tenant = ", both listings" if self.tenant else ""
        long = f", {self.events:,} events" if self.long else ""
        more = f", `concurrency: {self.concurrency}`" if self.concurrency != CONCURRENCY else ""
        return f"{self.latency_ms} ms{long}{tenant}{more}"

    @property
    def listings(self) -> tuple[str, ...]:
        return ("organization", "tenant") if self.tenant else ("organization",)


LOADS = (
    Load(0, 40_000),
    Load(20, 20_000),
    Load(50, 30_000),
    Load(50, 120_000, long=True),
    Load(50, 30_000, concurrency=16),
    Load(50, 30_000, tenant=True),
    Load(100, 20_000),
)
SIMULATED = 180_000
"""Events; three in ten are tenant events."""


@dataclass(frozen=True)
class Speed:
    """Medians, with the start of the program taken off."""

    rate: float
    """Events a second."""
    cpu_us: float
    """An event."""
    peak_mib: float
    whole_rate: float
    """Events a second with the start."""


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="peers-") as name:
        yield Path(name)


def newest(child: Child, count: int, listings: Sequence[str] = ("organization", "tenant")) -> tuple[int, set[str]]:
    """(the Unix second at which the newest so many begin, the ids of what happened from then on)."""
    rows = sorted(((row["effective_at"], row["id"]) for name in listings for row in child.truth(name)), reverse=True)
    since = rows[min(count, len(rows)) - 1][0]
    return since, {event_id for at, event_id in rows if at >= since}


def catch_up(peer: Peer, child: Child, load: Load) -> tuple[Usage, int]:
    """In a fresh folder, with how many events it was; it must have them all, once."""
    since, wanted = newest(child, load.events, load.listings)
    with place() as folder:
        job = Job(folder, child.base_url, since, tenant=load.tenant, concurrency=load.concurrency)
        usage = run(peer.command(job))
        outcome = compare(wanted, peer.ids(job))
        if usage.status or outcome.lost or outcome.repeated or outcome.foreign:
            log = (folder / "log").read_text()[-3000:]
            raise SystemExit(f"{peer.name} ended with {usage.status}: {outcome}\n{log}")
        return usage, len(wanted)


def start_up(peers: Sequence[Peer], rounds: int) -> dict[str, tuple[float, float]]:
    """(seconds, CPU seconds) of a run that finds one event, by name: medians."""
    with simulated_in_child(events=1, profile="bulk") as child:
        one = Load(0, 1, tenant=True)
        runs = {peer.name: [catch_up(peer, child, one)[0] for _ in range(rounds)] for peer in peers}
    return {
        name: (statistics.median(u.seconds for u in used), statistics.median(u.cpu_s for u in used))
        for name, used in runs.items()
    }


def measure(
    peers: Sequence[Peer], child: Child, rounds: Callable[[Peer], int]
) -> Iterator[tuple[Load, dict[str, Speed]]]:
    """Load by load, by name. Rounds go around all, so that a disturbance meets everybody."""
    starts = start_up(peers, max(map(rounds, peers)))
    for load in LOADS:
        child.set_faults(**({"latency": {"value": load.latency_ms / 1000}} if load.latency_ms else {}))
        runs: dict[str, list[Usage]] = {peer.name: [] for peer in peers}
        for turn in range(max(map(rounds, peers))):
            for peer in peers:
                if turn < rounds(peer):
                    usage, events = catch_up(peer, child, load)
                    runs[peer.name].append(usage)
        yield load, {name: _median(runs[name], *starts[name], events) for name in runs}
    child.set_faults()


def _median(runs: Sequence[Usage], start_s: float, start_cpu_s: float, events: int) -> Speed:
    whole = statistics.median(u.seconds for u in runs)
    return Speed(
        rate=events / (whole - start_s),
        cpu_us=(statistics.median(u.cpu_s for u in runs) - start_cpu_s) / events * 1e6,
        peak_mib=statistics.median(u.peak_mib for u in runs),
        whole_rate=events / whole,
    )
