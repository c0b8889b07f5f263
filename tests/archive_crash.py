"""Kills the archive's writer before each of its touches of the disk in turn, and looks at what a restart makes of it.

python -m tests.archive_crash FOLDER SEED prints how many points it tried, or stops at the first that lost or doubled an event.
"""

import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import msgspec

from streamer.sinks.archive.signing import keygen
from streamer.sinks.archive.verify import verify
from tests import records
from tests.archive import Desk

EVENTS, STEP = 60, 13
TOUCHES = {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"}


def run(folder: Path, kill_before: int | None) -> int:
    """A daemon's life in a process of its own, killed before its n-th touch of the disk. Returns its exit status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    touches = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal touches
        if event in TOUCHES and str(arguments[0]).startswith(str(folder / "a")):
            touches += 1
            if touches == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    desk = Desk(folder / "a", {"roll": {"size": 30_000}, "signing_key_file": folder / "key"})
    while desk.acked < EVENTS:
        desk.clock.now += 1
        desk.write_events(min(STEP, EVENTS - desk.acked), desk.acked + 1)
    desk.finish()
    (folder / "touches").write_text(str(touches))
    os._exit(0)


def problems(folder: Path) -> list[str]:
    """What is wrong with the archive of a life that came to its end."""
    desk = Desk(folder / "a")
    seen = Counter(msgspec.json.decode(line)["id"] for line in desk.lines())
    found = [f"{id} is there {seen[id]} times" for id in map(records.event_id, range(1, EVENTS + 1)) if seen[id] != 1]
    if len(seen) != EVENTS:
        found.append(f"{len(seen)} events instead of {EVENTS}")
    report = verify(str(folder / "a"), folder / "key.pub", deep=True)
    found += [f"{finding.kind}: {finding.name}: {finding.detail}" for finding in report.findings]
    left = sorted(path.name for path in (folder / "a" / ".open").iterdir() if path.suffix in (".sealed", ".placed"))
    return found + [f"left over: {name}" for name in left + report.unfinished]


def fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    keygen(folder / "key")


def say(*lines: object) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def main(folder: Path, seed: int) -> int:
    chance = random.Random(seed)
    fresh(folder)
    run(folder, None)
    touches = int((folder / "touches").read_text())
    for point in range(1, touches + 1):
        fresh(folder)
        deaths = [point] + [chance.randrange(1, 40) for _ in range(chance.randrange(3))]
        statuses = [run(folder, death) for death in deaths]
        if run(folder, None) != 0:
            say(f"killed before touches {deaths}: the restart failed")
            return 1
        found = problems(folder)
        if found:
            say(f"killed before touches {deaths} ({statuses}):", *found)
            return 1
    say(touches)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
