"""What is read of a daemon from outside, and whether it grows."""

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import combinations
from pathlib import Path

MIB = 1 << 20
WARM_UP = 1 / 3
"""Of a run: caches and remembered ids fill, then it is measured."""


@dataclass(frozen=True)
class Sample:
    second: float
    rss_mib: float
    descriptors: int
    threads: int
    journal_mib: float
    wal_mib: float
    cpu_s: float
    delivered: int
    """To the webhook."""


def sample(pid: int, state: Path, second: float, delivered: int) -> Sample:
    process = Path(f"/proc/{pid}")
    lines = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    times = (process / "stat").read_text().rpartition(") ")[2].split()
    return Sample(
        round(second, 1),
        int(lines["VmRSS"].split()[0]) / 1024,
        len(os.listdir(process / "fd")),
        int(lines["Threads"]),
        _size(state / "journal.db"),
        _size(state / "journal.db-wal"),
        (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
        delivered,
    )


def _size(path: Path) -> float:
    return path.stat().st_size / MIB if path.exists() else 0.0


@dataclass(frozen=True)
class Figure:
    name: str
    unit: str
    value: Callable[[Sample], float]
    bound: float
    """So much it may grow between the end of the warm-up and the end, by its trend."""

    def median(self, samples: Sequence[Sample]) -> float:
        return statistics.median(self.value(one) for one in measured(samples))


FIGURES = (
    Figure("memory", "MiB", lambda one: one.rss_mib, 8.0),
    Figure("descriptors", "open", lambda one: one.descriptors, 2.0),
    Figure("threads", "running", lambda one: one.threads, 1.0),
    Figure("journal", "MiB", lambda one: one.journal_mib, 2.0),
    Figure("write-ahead log", "MiB", lambda one: one.wal_mib, 1.0),
)


def measured(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[int(len(samples) * WARM_UP) :]


def grown(samples: Sequence[Sample], figure: Figure) -> float:
    """By how much: the Theil-Sen slope (the median of the slopes between all pairs, so that peaks do not count) over the time measured."""
    points = [(one.second, figure.value(one)) for one in measured(samples)]
    slopes = [(b - a) / (later - sooner) for (sooner, a), (later, b) in combinations(points, 2)]
    return statistics.median(slopes) * (points[-1][0] - points[0][0])


def as_csv(samples: Sequence[Sample]) -> str:
    header = ",".join(field.name for field in fields(Sample))
    return "".join(
        f"{line}\n" for line in (header, *(",".join(f"{part:.6g}" for part in astuple(one)) for one in samples))
    )
