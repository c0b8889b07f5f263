"""Kill the real daemon at random and at named points; nothing may be lost or doubled. `tests/crash` has the machinery."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.crash.run import POINTS

SEEDS = (1, 2, 3, 4)
KILLS = 60


AT_ONCE = 2
"""Runs beside each other: a process that has been killed leaves the processor to another while it is started again."""


@pytest.mark.crash
@pytest.mark.timeout(400)
def test_every_event_is_in_the_file_once_whenever_the_daemon_dies() -> None:
    """240 kills, half at random and half at named points; method: four runs with a seed each, against the simulator's truth."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reports = list(pool.map(killed, SEEDS))
    assert all(report["lines"] >= report["truth"] > 2500 for report in reports)
    assert sum(report["kills"] for report in reports) >= len(SEEDS) * KILLS
    hit = {point for report in reports for point in report["points"]}
    assert hit == {f"{p.name} {p.when} {p.nth}" for p in POINTS}


def killed(seed: int) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.crash.run", "--seed", str(seed), "--kills", str(KILLS), "--events", "2500"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    report: dict[str, Any] = json.loads(run.stdout)
    return report
