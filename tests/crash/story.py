"""What the runs that kill daemons share: the configuration, the report, and the end, in which what arrived is compared with the truth."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.arrivals import Arrived, file_lines, judge, truth
from tests.crash.daemon import kill, spawn, wait
from tests.places import Place
from tests.simulation import Child

ENDS_S = 60
"""Until `run --once` has caught up."""


@dataclass
class Report:
    seed: int
    kills: int = 0
    points: dict[str, int] = field(default_factory=dict)
    """Named points at which a daemon died by its own hand."""
    waits: list[float] = field(default_factory=list)
    """Seconds until the other led."""
    truth: int = 0
    lines: int = 0
    trouble: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def judged(self, sink: str, found: Arrived) -> None:
        self.trouble += [f"{sink}: {problem}" for problem in found.problems]


def configured(folder: Path, child: Child, changes: dict[str, Any], own: Path | None = None) -> Path:
    """A daemon that polls, rechecks and rotates all the time, changed by dotted paths. `own` is where its configuration and its log lie."""
    place = Place(folder, child.base_url)
    place.document["admin"] = None
    rechecks = [{"every": "2s", "window": "20s"}]
    source = {"start": "beginning", "poll_interval": "200ms", "overlap": "5s", "recheck": rechecks}
    place.document["sources"]["acme"] |= source
    place.change("sinks.local.rotate", {"size": "256KiB", "keep": 9999})
    for path, value in changes.items():
        place.change(path, value)
    place.config = (own or folder) / "streamer.yaml"
    return place.write()


def finish(report: Report, config: Path, folder: Path, child: Child) -> list[bytes]:
    """A last run, which ends by itself; then the file has all that was there before it, once, in order. Its lines."""
    before = truth(child)
    last = spawn(config, once=True)
    if (status := wait(last, ENDS_S)) != 0:
        report.trouble.append(f"the last run ended with {status}")
        if status is None:
            kill(last)
    lines = list(file_lines(folder))
    found = judge(lines, before, known=truth(child), once=True, ordered=True, hidden=False)
    report.truth, report.lines = len(before), found.events
    report.judged("file", found)
    return lines
