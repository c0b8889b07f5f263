"""Journals that earlier versions left behind, opened by today's daemon."""

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from streamer.journal.operator import open_operator
from streamer.journal.schema import VERSION
from tests.journals.make import HERE, configured
from tests.outage import Hook, archive_ids, file_ids, once, receiving, truth
from tests.places import Place
from tests.simulation import simulated_in_child

KEPT = {int(path.name.split(".")[0].partition("-")[2]): path for path in HERE.glob("version-*.tar.xz")}
NEW = 15


def test_every_version_has_a_journal() -> None:
    """Goal: no migration goes untried; method: the kept files against the version of the code (tests/journals/make.py makes one)."""
    assert sorted(KEPT) == list(range(1, VERSION + 1))


@pytest.mark.parametrize("version", sorted(KEPT))
def test_what_an_earlier_daemon_left_is_delivered(tmp_path: Path, version: int) -> None:
    """Goal: an upgrade loses and doubles nothing, whatever was under way; method: a daemon of each version was killed with a sink behind, a
    replay asked for and a dead letter; today's goes on from there, beside a sink that is new and an API that has more."""
    with tarfile.open(KEPT[version]) as tar:
        tar.extractall(tmp_path, filter="data")
    with closing(sqlite3.connect(f"file:{tmp_path}/state/journal.db?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)
    facts = json.loads((tmp_path / "facts.json").read_text())
    old, taken = {i.encode() for i in facts["upstream"]}, [i.encode() for i in facts["taken"]]
    with simulated_in_child(events=0) as child, receiving(Hook()) as hook:
        child.control("POST", "events", {"count": NEW})
        new = truth(child)
        assert len(new) == NEW
        place = configured(Place(tmp_path, child.base_url), hook)
        place.change("sinks.lake", {"type": "archive", "path": str(tmp_path / "archive")})
        assert once(place) == 0, (tmp_path / "daemon.log").read_text()
        order = file_ids(place.lines)
        assert sorted(order) == sorted(old | new), "the file: each once, what was there and what came"
        assert sorted(archive_ids(tmp_path / "archive")) == sorted(order), "a new sink gets all that the journal had"
        replayed = ["webhook-replayed" in headers for headers in hook.headers]
        first = [i for i, again in zip(hook.ids, replayed, strict=True) if not again]
        with open_operator(tmp_path / "state") as operator:
            [dead] = operator.dead_letters(None)
            assert operator.requeue([dead.number], None) == 1
        assert [i for i in order if i not in taken and i != dead.id.encode()] == first, "goes on where it stood"
        assert {i for i, again in zip(hook.ids, replayed, strict=True) if again} == old, "the replay is done"
        assert once(place) == 0
        assert hook.ids[-1] == dead.id.encode()
        assert file_ids(place.lines) == order
