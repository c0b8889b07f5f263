"""`python -m tests.journals.make CHECKOUT`: what a daemon of that checkout leaves when it is killed, for the upgrade test.

A folder with its state (the write-ahead log too), the file that one sink had written, and `facts.json`: what was upstream, and what
the other sink had taken. Made once for each version of the journal, by the last code that wrote it, at a time that lies behind every clock that will read it:

    git worktree add /tmp/old COMMIT && faketime '2026-01-01 12:00:00' python -m tests.journals.make /tmp/old
"""

import json
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from tests.outage import ENV, Hook, Running, id_of, receiving, truth
from tests.places import Place, until
from tests.simulation import simulated_in_child

HERE = Path(__file__).parent
EVENTS = 24
TAKEN = 6
"""Then the webhook is down."""
SEED = 11
KEPT = ("facts.json", "audit.jsonl", "state/journal.db", "state/journal.db-wal")


def configured(place: Place, hook: Hook) -> Place:
    """One event a request, so that its place is known to the event; a file beside it."""
    place.change("sources.acme.start", "beginning")
    place.change("enrich", {"directory": None})
    return place.change("sinks.hook", {"type": "webhook", "url": hook.url, "body": "bare", "batch": {"events": 1}})


def leave(folder: Path, checkout: Path) -> dict[str, object]:
    """Kill it when the file has all, and the webhook a few, one of them refused for good and some asked for again."""
    seen: list[bytes] = []

    def answer(body: bytes) -> int:
        if id_of(body) not in seen:
            seen.append(id_of(body))
        number = seen.index(id_of(body))
        return 400 if number == 1 else 200 if number < TAKEN else 503

    def streamer(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "streamer", *arguments, "-c", str(config)]

    with simulated_in_child(events=EVENTS, days=2, seed=SEED) as child, receiving(Hook(answer=answer)) as hook:
        place, wanted = configured(Place(folder, child.base_url), hook), truth(child)
        config = place.write()
        with subprocess.Popen(streamer("run"), cwd=checkout, env=ENV) as process:
            daemon = Running(process, place)
            until(lambda: daemon.has_all("local", len(wanted)) and daemon.has_all("hook", TAKEN))
            replay = streamer("replay", "--sink", "hook", "--since", "30d")
            said = subprocess.run(replay, cwd=checkout, env=ENV, check=True, capture_output=True, text=True).stdout
            assert said.startswith(f"{len(wanted)} events"), said
            process.kill()
        return {"upstream": sorted(i.decode() for i in wanted), "taken": [i.decode() for i in hook.ids]}


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main(checkout: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = leave(folder, checkout)
        (folder / "facts.json").write_text(json.dumps(facts, indent=1))
        with (
            tempfile.TemporaryDirectory() as copy
        ):  # asking moves pages, and these are to stay where the kill left them
            for name in ("journal.db", "journal.db-wal"):
                (Path(copy) / name).write_bytes((folder / "state" / name).read_bytes())
            with closing(sqlite3.connect(f"{copy}/journal.db")) as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
        with tarfile.open(HERE / f"version-{version}.tar.xz", "w:xz") as tar:
            for name in KEPT:
                tar.add(folder / name, name, filter=_nobodys)
    print(f"version-{version}.tar.xz: {len(facts['upstream'])} events")  # noqa: T201 - for whoever makes it


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
