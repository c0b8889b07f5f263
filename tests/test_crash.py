"""Kill the real daemon at random and at named points; nothing may be lost or doubled. `tests/crash` has the machinery."""

import json
import subprocess
import sys

import pytest

from tests.crash.run import POINTS

SEEDS = (1, 2, 3, 4)
KILLS = 60


@pytest.mark.crash
@pytest.mark.timeout(400)
def test_every_event_is_in_the_file_once_whenever_the_daemon_dies() -> None:
    """240 kills, half at random and half at named points; method: four runs with a seed each, against the simulator's truth."""
    hit: set[str] = set()
    kills = 0
    for seed in SEEDS:
        run = subprocess.run(
            [sys.executable, "-m", "tests.crash.run", "--seed", str(seed), "--kills", str(KILLS), "--events", "2500"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
        report = json.loads(run.stdout)
        assert report["lines"] >= report["truth"] > 2500
        kills += report["kills"]
        hit |= report["points"].keys()
    assert kills >= len(SEEDS) * KILLS
    assert hit == {f"{p.name} {p.when} {p.nth}" for p in POINTS}
