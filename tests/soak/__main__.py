"""A long run of the real daemon: `python -m tests.soak MINUTES FOLDER`, in `make soak`.

Live traffic with mild faults goes into a file, an archive and a webhook that is sometimes busy; records are kept for two minutes, so that
pruning happens all the time. What the daemon costs is read from outside. Exit 1 where something grew, or an event is missing or twice.
"""

import math
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.outage import Hook, archive_ids, file_ids, once, receiving, running, three_sinks
from tests.places import Place
from tests.simulation import Child, simulated_in_child
from tests.soak.figures import FIGURES, Sample, as_csv, grown, sample
from tests.soak.picture import picture

EVERY_S = 10.0
RATE = 20
"""Events a second."""
FAULTS = (
    "internal_error:probability=0.02",
    "cut_body:probability=0.01",
    "shuffled:probability=0.1",
    "late:probability=0.05,value=20",
)
BUSY = 0.02
"""Share of the webhook's requests that are answered 503."""


def configured(place: Place, hook: Hook) -> None:
    three_sinks(place, hook)
    chance = random.Random(5)
    hook.answer = lambda _: 503 if chance.random() < BUSY else 200
    place.change("sinks.local.rotate", {"size": "16MiB", "keep": 9999})
    place.change("sinks.lake.roll", {"age": "30s"})
    place.change("sources.acme.start", "2d")
    place.change("sources.acme.overlap", "1m")
    place.change("sources.acme.recheck", [{"every": "1m", "window": "4m"}])
    place.change("enrich", {"directory": {"refresh": "2m"}})
    place.change("journal", {"keep": "2m"})


def watched(place: Place, hook: Hook, minutes: float) -> list[Sample]:
    samples: list[Sample] = []
    with running(place, fresh=True) as daemon:
        began = time.monotonic()
        while (now := time.monotonic() - began) < minutes * 60:
            assert daemon.process.poll() is None, f"the daemon ended; see {place.folder / 'daemon.log'}"
            samples.append(sample(daemon.process.pid, place.folder / "state", now, len(hook.ids)))
            time.sleep(EVERY_S)
    return samples


def told(child: Child, until: float) -> set[bytes]:
    """What shows by `until`, Unix seconds: the simulator's truth also has what it will show late."""
    rows = (row for listing in ("organization", "tenant") for row in child.truth(listing))
    return {row["id"].encode() for row in rows if row["visible_at"] <= until}


def wrong(place: Place, hook: Hook, before: set[bytes], after: set[bytes]) -> list[str]:
    """What each sink has against what upstream told. `before` showed before the last look at it, `after` is all."""
    numbered = sorted(
        place.folder.glob("audit.jsonl*"), key=lambda path: -int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0
    )
    found = {
        "file": [one for path in numbered for one in file_ids(path)],
        "archive": archive_ids(place.folder / "archive"),
        "webhook": hook.ids,
    }
    problems = []
    for name, ids in found.items():
        missing, foreign, twice = before - set(ids), set(ids) - after, len(ids) - len(set(ids))
        sys.stdout.write(
            f"{name}: {len(ids):,} events, {len(missing)} missing, {len(foreign)} foreign, {twice} twice\n"
        )
        if missing or foreign or (twice and name != "webhook"):
            problems.append(f"{name}: {len(missing)} missing, {len(foreign)} foreign, {twice} twice")
    return problems


def main() -> int:
    minutes, folder = float(sys.argv[1]), Path(sys.argv[2])
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as scratch,
        simulated_in_child(events=500, days=1, rate=RATE, seed=11, faults=FAULTS) as child,
        receiving(Hook()) as hook,
    ):
        place = Place(Path(scratch), child.base_url)
        configured(place, hook)
        samples = watched(place, hook, minutes)
        before = told(child, time.time())
        hook.answer = lambda _: 200
        assert once(place) == 0
        problems = wrong(place, hook, before, told(child, math.inf))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.csv").write_text(as_csv(samples))
    (folder / "soak.svg").write_text(picture(samples))
    for figure in FIGURES:
        growth = grown(samples, figure)
        sys.stdout.write(
            f"{figure.name}: median {figure.median(samples):,.1f} {figure.unit}, grown by {growth:+.2f}, bound {figure.bound:g}\n"
        )
        if growth > figure.bound:
            problems.append(f"{figure.name} grew by {growth:.2f} {figure.unit}; {figure.bound:g} is the bound")
    sys.stdout.write("".join(f"WRONG {problem}\n" for problem in problems) or "nothing grew, nothing is missing\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
