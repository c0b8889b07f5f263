"""What the directory knows and says: the newest news, deleted things, limits, and that it is written down."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.enrich.directory import LISTED_KINDS, MAX_TEXT_CHARACTERS, Changes, Directory, Known, Row
from streamer.enrichment.store import FILE, DirectoryStore, open_directory_store
from streamer.errors import ConfigError, RetryableError
from streamer.model import Actor, Envelope, Project, Target, from_epoch
from streamer.ports import Sighting
from tests.records import FIRST_SECOND, SOURCE, envelope

NOW = FIRST_SECOND + 10_000


def said(kind: str, identity: str, name: str | None = None, **more: Any) -> Sighting:
    return Sighting(kind=kind, id=identity, name=name, **more)


def event(*targets: Target, at: int = NOW, actor: Actor | None = None, project: Project | None = None) -> Envelope:
    """An envelope as decoding leaves it: no names but those of upstream."""
    when = from_epoch(at)
    return envelope(
        1, time=when, observed_at=from_epoch(NOW), actor=actor, project=project, targets=list(targets), labels={}
    )


def test_all_ids_of_an_event_are_named() -> None:
    """Goal: actor, project, targets, principal, resource and role get names, the actor's role and key become labels. Method: one of each."""
    known = Directory()
    for one in (
        said("user", "user-1", "Ana Silva", email="ana@acme.example", role="owner"),
        said("service_account", "user-2", "build-bot"),
        said("project", "proj_1", "Payments"),
        said("role", "role_1", "Deployer"),
        said("group", "group_1", "Platform"),
        said("admin_api_key", "key_1", "terraform"),
        said("user", "user-3", email="new@acme.example"),
    ):
        known.teach(SOURCE, one, NOW)
    one = event(
        Target("role", "role_1"),
        Target("principal", "user-2"),
        Target("principal", "group_1"),
        Target("project", "proj_1"),
        Target("resource", "proj_1"),
        Target("user", "user-2"),
        Target("api_key", "key_1"),
        Target("user", "user-3"),
        actor=Actor("user", "user-1", api_key_id="key_1"),
        project=Project("proj_1"),
    )
    known.enrich(one)
    names = ["Deployer", "build-bot", "Platform", "Payments", "Payments", "build-bot", "terraform", "new@acme.example"]
    assert [target.name for target in one.targets] == names
    assert one.project == Project("proj_1", "Payments")
    assert one.actor == Actor("user", "user-1", "ana@acme.example", "Ana Silva", api_key_id="key_1")
    assert one.labels == {"actor_role": "owner", "api_key_name": "terraform"}
    assert known.take_missing() == {}


def test_what_is_not_known_is_counted_and_goes_out_without() -> None:
    """Goal: an unknown id is no obstacle; only kinds that can be listed are counted. Method: an event of unknown ids."""
    known = Directory()
    one = event(
        Target("role", "role_1"), Target("session", "s"), Target("principal", "x"), Target("role", None),
        actor=Actor("service_account", "user-9", api_key_id="key_9"), project=Project("proj_9"),
    )  # fmt: skip
    known.enrich(one)
    assert known.take_missing() == dict.fromkeys(["service_account", "api_key", "project", "role", "principal"], 1)
    assert known.take_missing() == {}
    assert [target.name for target in one.targets] == [None] * 4
    assert one.labels == {}
    nobody = event()
    known.enrich(nobody)
    assert nobody.actor is None
    assert nobody.project is None


def test_upstreams_own_word_stands_and_teaches() -> None:
    """Goal: names in events are kept as they are and name later events. Method: an event with names, then the same ids alone."""
    known = Directory()
    first = event(
        Target("tunnel", "t_1", "Data centre"),
        actor=Actor("user", "user-1", "ana@acme.example"),
        project=Project("proj_1", "Payments"),
    )
    known.enrich(first)
    assert first.targets[0].name == "Data centre"
    later = event(
        Target("tunnel", "t_1"), Target("user", "user-1"), actor=Actor("user", "user-1"), project=Project("proj_1")
    )
    known.enrich(later)
    assert [target.name for target in later.targets] == ["Data centre", "ana@acme.example"]
    assert later.project == Project("proj_1", "Payments")
    assert later.actor == Actor("user", "user-1", "ana@acme.example")
    assert known.take_missing() == {"user": 2}, "an address is no name"


def test_the_newest_news_are_believed() -> None:
    """Goal: an old event that is read late renames nothing; a new one does; an old one fills gaps. Method: lists and events of different times."""
    known = Directory()
    known.teach(SOURCE, said("project", "p", "Payments 2"), NOW)
    old = event(Target("project", "p", "Payments"), at=NOW - 100)
    known.enrich(old)
    assert old.targets[0].name == "Payments", "what the event says itself stands"
    found = known.find(SOURCE, "project", "p")
    assert found == Known("Payments 2", None, None, NOW - 100, NOW)
    known.enrich(event(Target("project", "p", "Payments 3"), at=NOW))
    assert known.find(SOURCE, "project", "p") == Known("Payments 3", None, None, NOW - 100, NOW)
    known.teach(SOURCE, said("user", "u", email="ana@acme.example"), NOW)
    known.teach(SOURCE, said("user", "u", "Ana", email="old@acme.example"), NOW - 5)
    assert known.find(SOURCE, "user", "u") == Known("Ana", "ana@acme.example", None, NOW - 5, NOW)


def test_an_event_of_the_future_is_not_believed_for_ever() -> None:
    """Goal: a wrong effective_at cannot freeze a name. Method: an event of the year 9999, then a list of an hour later."""
    known = Directory()
    known.enrich(event(Target("project", "p", "Wrong"), at=253_402_300_000))
    known.teach(SOURCE, said("project", "p", "Right"), NOW + 3600)
    found = known.find(SOURCE, "project", "p")
    assert found is not None
    assert found.name == "Right"


def test_organizations_do_not_mix() -> None:
    """Goal: a source's names are its own. Method: the same id in two sources."""
    known = Directory()
    known.teach("other", said("role", "role_1", "Theirs"), NOW)
    one = event(Target("role", "role_1"))
    known.enrich(one)
    assert one.targets[0].name is None
    assert known.take_missing() == {"role": 1}


def test_memory_is_bounded_and_the_longest_unseen_goes_first() -> None:
    """Goal: never more than the limit, and what was told of lately stays. Method: ten times the limit; some are told of again and again."""
    known = Directory(max_things=100)
    for number in range(1000):
        known.teach(SOURCE, said("user", f"user-{number}", f"Name {number}"), NOW + number * 60)
        if number % 30 == 0:
            known.teach(SOURCE, said("user", "user-0", "Name 0"), NOW + number * 60)
        assert sum(known.counts(SOURCE).values()) <= 100
    assert known.find(SOURCE, "user", "user-0") is not None
    assert known.find(SOURCE, "user", "user-999") is not None
    assert known.find(SOURCE, "user", "user-1") is None
    changes = known.take_changes(10_000)
    assert (SOURCE, ("user", "user-1")) in changes.forgotten
    assert len(changes.rows) == sum(known.counts(SOURCE).values()) == 100


@pytest.mark.parametrize(
    "thing",
    [
        said("user", "u" * 300, "Ana"),
        said("user", "", "Ana"),
        said("k" * 100, "u", "Ana"),
        said("user", "u", "A" * (MAX_TEXT_CHARACTERS + 1)),
        said("user", "u"),
        said("user", "u", ""),
    ],
)
def test_what_cannot_be_kept_is_not(thing: Sighting) -> None:
    """Goal: no id or name of any length gets into memory. Method: what is too long or empty, as news and as a change."""
    known = Directory()
    known.teach(SOURCE, thing, NOW)
    assert sum(known.counts(SOURCE).values()) == 0
    known.teach(SOURCE, said("user", "u", "Ana"), NOW)
    known.teach(SOURCE, thing, NOW + 1)
    found = known.find(SOURCE, "user", "u")
    assert found is not None
    assert found.name == "Ana"


words = st.text(max_size=20) | st.none()
targets = st.builds(Target, st.sampled_from([*LISTED_KINDS, "principal", "x", ""]), words, words)


@settings(deadline=None)
@given(st.lists(targets, max_size=6), st.builds(Actor, words, words, words, words, words, words), st.integers(0, 2**33))
def test_enriching_is_total(things: list[Target], actor: Actor, at: int) -> None:
    """Goal: nothing raises, nothing that was said is changed. Method: any targets and actors, in one directory."""
    one = event(*things, actor=actor, at=at)
    before = [(target.type, target.id, target.name) for target in things]
    TOTAL.enrich(one)
    for (kind, identity, name), after in zip(before, one.targets, strict=True):
        assert (after.type, after.id) == (kind, identity)
        assert name is None or after.name == name


TOTAL = Directory()


# --- what is kept ------------------------------------------------------------------------------------------------------


class Lost(list[str]):
    def __call__(self, error: str) -> None:
        self.append(error)


async def saved(folder: Path, known: Directory) -> None:
    async with open_directory_store(folder, Lost()) as store:
        while changes := known.take_changes(3):
            await store.save(changes)


async def restored(folder: Path, lost: Lost | None = None, limit: int = 1000) -> Directory:
    known = Directory()
    async with open_directory_store(folder, Lost() if lost is None else lost) as store:
        known.restore(await store.load([SOURCE, "other"], limit))
    return known


async def test_names_survive_a_restart(tmp_path: Path) -> None:
    """Goal: a deleted thing's name, first and last time are known after a restart. Method: save, change, save, restore."""
    known = Directory()
    for number in range(10):
        known.teach(
            SOURCE, said("user", f"u{number}", f"Náme {number}", email="a@b.example", role="owner"), NOW - number
        )
    known.teach("other", said("role", "r", "Theirs"), NOW)
    await saved(tmp_path, known)
    known.teach(SOURCE, said("user", "u3", "New"), NOW + 7200)
    assert len(known.take_changes(100).rows) == 1
    known.teach(SOURCE, said("user", "u3", "Newer"), NOW + 7300)
    await saved(tmp_path, known)
    again = await restored(tmp_path)
    assert again.find(SOURCE, "user", "u3") == Known("Newer", "a@b.example", "owner", NOW - 3, NOW + 7300)
    assert again.find(SOURCE, "user", "u9") == Known("Náme 9", "a@b.example", "owner", NOW - 9, NOW - 9)
    assert again.find("other", "role", "r") is not None
    assert again.counts(SOURCE) == {"user": 10}
    assert not again.take_changes(100), "what was read is not new"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


async def test_a_restart_keeps_the_newest_when_there_are_too_many(tmp_path: Path) -> None:
    """Goal: a smaller limit keeps what was seen last. Method: restore 3 of 10."""
    known = Directory()
    for number in range(10):
        known.teach(SOURCE, said("user", f"u{number}", "A"), NOW + number)
    await saved(tmp_path, known)
    again = await restored(tmp_path, limit=3)
    assert again.counts(SOURCE) == {"user": 3}
    assert again.find(SOURCE, "user", "u7") is not None


async def test_forgotten_things_leave_the_file(tmp_path: Path) -> None:
    """Goal: the file is as bounded as the memory. Method: many more things than the limit, saved in between."""
    known = Directory(max_things=50)
    for number in range(500):
        known.teach(SOURCE, said("user", f"u{number}", "A"), NOW + number)
        if number % 20 == 0:
            await saved(tmp_path, known)
    await saved(tmp_path, known)
    again = await restored(tmp_path)
    assert again.counts(SOURCE) == known.counts(SOURCE)
    assert sum(again.counts(SOURCE).values()) <= 50


@pytest.mark.parametrize("damage", [b"this is no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_damaged_file_costs_its_names_and_nothing_else(tmp_path: Path, damage: bytes) -> None:
    """Goal: it is moved aside, said, and a new one begun. Method: a file that is no database."""
    (tmp_path / FILE).write_bytes(damage)
    lost = Lost()
    again = await restored(tmp_path, lost)
    assert again.counts(SOURCE) == {}
    assert len(lost) == 1
    assert "is corrupt" in lost[0]
    assert (tmp_path / "directory.damaged").read_bytes() == damage
    again.teach(SOURCE, said("user", "u", "Ana"), NOW)
    await saved(tmp_path, again)
    assert (await restored(tmp_path)).find(SOURCE, "user", "u") is not None


async def test_a_failed_save_is_tried_again(tmp_path: Path) -> None:
    """Goal: what could not be written is written later, with what came since. Method: another process holds the file for a while."""
    known = Directory(max_things=10)
    for number in range(11):
        known.teach(SOURCE, said("user", f"u{number}", "A"), NOW)
    async with open_directory_store(tmp_path, Lost()) as store:
        await store.load([SOURCE], 10)
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        changes = known.take_changes(100)
        with pytest.raises(RetryableError, match="directory.db: database is locked"):
            await store.save(changes)
        known.put_back(changes)
        known.teach(SOURCE, said("user", "u5", "B"), NOW + 1)
        other.execute("ROLLBACK")
        other.close()
        again = known.take_changes(100)
        assert {row.id for row in again.rows} == {row.id for row in changes.rows}
        assert again.forgotten == changes.forgotten
        await store.save(again)
    found = (await restored(tmp_path)).find(SOURCE, "user", "u5")
    assert found is not None
    assert found.name == "B"


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """Goal: no names are lost by running an older program. Method: a higher user_version."""
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()
    async with open_directory_store(tmp_path, Lost()) as store:
        with pytest.raises(ConfigError, match="written by a newer streamer"):
            await store.load([SOURCE], 10)


async def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """Goal: the operator reads which folder. Method: a file where the folder should be."""
    (tmp_path / "state").write_bytes(b"")
    store = DirectoryStore(tmp_path / "state" / FILE, Lost())
    with pytest.raises(ConfigError, match="directory.db: cannot be written: .*; give this user the folder"):
        await store.save(Changes([], [Row(SOURCE, "user", "u", "A", None, None, NOW, NOW)]))
    await store.close()
