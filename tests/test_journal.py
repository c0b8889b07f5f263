"""The journal's properties, on a real SQLite file in a temporary folder."""

import asyncio
import os
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.errors import ConfigError, RetryableError
from streamer.journal.blocks import BLOCK_BYTES, BLOCK_EVENTS
from streamer.journal.opening import FILE
from streamer.journal.operator import open_operator
from streamer.journal.schema import VERSION
from streamer.journal.sqlite import SqliteJournal, memory_key, open_journal
from streamer.model import Entry, Event, EventId, Progress, Seq, SinkName, SourceName
from streamer.ports import Backlog, DeadLetter, SinkPosition
from tests.records import noise

ACME = SourceName("acme")
SINK = SinkName("local")
SIZE = 1 << 30


def entries(count: int, start: int = 0, at: int = 1_700_000_000) -> list[Entry]:
    """Distinct events, ten a second."""
    return [
        Entry(EventId(f"audit_log-{n:024d}"), at + n // 10, f'{{"id":"audit_log-{n:024d}"}}'.encode())
        for n in range(start, start + count)
    ]


def as_events(items: list[Entry]) -> list[Event]:
    return [Event(b"{}", e.id, "login.succeeded", e.effective_at) for e in items]


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_100_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteJournal]:
    async with open_journal(tmp_path / "state", SIZE, clock) as opened:
        yield opened


async def read_all(journal: SqliteJournal, after: int = 0) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while records := await journal.read(Seq(after), 700, 1 << 20):
        found += [(r.seq, r.line) for r in records]
        after = records[-1].seq
    return found


async def test_append_and_read_keep_order_and_number_from_one(journal: SqliteJournal) -> None:
    """What goes in comes out in order, numbered without a gap; method: more than two blocks, read in odd portions."""
    items = entries(BLOCK_EVENTS * 2 + 17)
    assert await journal.append(ACME, "organization", items, Progress(5)) == len(items)
    assert await read_all(journal) == [(n, e.line) for n, e in enumerate(items, 1)]
    assert await journal.progress(ACME, "organization") == Progress(5)
    assert await journal.progress(ACME, "tenant") is None


async def test_known_ids_are_skipped_wherever_they_stand(journal: SqliteJournal) -> None:
    """An event is appended once; method: overlapping appends, a repeat inside one, the other listing."""
    await journal.append(ACME, "organization", entries(100), Progress(1))
    again = entries(30, start=90)
    assert await journal.append(ACME, "tenant", [*again, again[0]], Progress(2)) == 20
    assert [line for _, line in await read_all(journal)] == [e.line for e in entries(120)]
    assert await journal.append(SourceName("other"), "organization", entries(5), Progress(1)) == 5


async def test_a_known_id_in_a_late_block_leaves_nothing_half_appended(journal: SqliteJournal) -> None:
    """Goal: several blocks are one append; method: three of them with one known id, and one that comes twice, in the last; the same again, of which all is
    known; another journal on the file says the same."""
    await journal.append(ACME, "organization", entries(1, start=2500), Progress(1))
    items = entries(BLOCK_EVENTS * 2 + 700)
    for taken, watermark in ((len(items) - 1, 2), (0, 3)):
        assert await journal.append(ACME, "organization", [*items, items[-1]], Progress(watermark)) == taken
        assert await journal.progress(ACME, "organization") == Progress(watermark)
    wanted = [items[2500], *items[:2500], *items[2501:]]
    assert await read_all(journal) == [(n, e.line) for n, e in enumerate(wanted, 1)]
    with closing(sqlite3.connect(journal.path)) as db:
        assert db.execute("SELECT seq FROM head").fetchone() == (len(wanted),)
        rows = db.execute("SELECT id, seq FROM ids ORDER BY seq").fetchall()
    assert rows == [(e.id, n) for n, e in enumerate(wanted, 1)]


async def test_unknown_keeps_order_and_drops_repeats(journal: SqliteJournal) -> None:
    """`unknown` says what append would take, in order; method: half known, one twice."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    asked = as_events(entries(20))
    found = await journal.unknown(ACME, [*asked, asked[15]])
    assert [e.id for e in found] == [e.id for e in asked[10:]]


async def test_everything_survives_reopening(tmp_path: Path) -> None:
    """Events, progress, acks, bookmarks and letters are durable when a method returns; method: close and open."""
    async with open_journal(tmp_path, SIZE) as first:
        await first.append(ACME, "organization", entries(10), Progress(7, (3, 4)))
        await first.position(SINK, "earliest")
        letter = DeadLetter(sink=SINK, seq=Seq(4), id="x", type="t", reason="no", attempts=1, at=1.0, line=b"{}")
        await first.ack(SINK, Seq(4), {"length": 9}, [letter])
        name = first.id
    async with open_journal(tmp_path, SIZE) as second:
        assert second.id == name
        assert second.head == 10
        assert await second.progress(ACME, "organization") == Progress(7, (3, 4))
        position = await second.position(SINK, "latest")
        assert (position.acked, position.bookmark) == (4, {"length": 9})
        with open_operator(tmp_path) as operator:
            assert [(d.id, d.reason) for d in operator.dead_letters(None)] == [("x", "no")]


async def test_an_ack_never_moves_back(journal: SqliteJournal) -> None:
    """Goal: a late, smaller ack changes nothing; method: ack 8, then 3."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    await journal.position(SINK, "earliest")
    await journal.ack(SINK, Seq(8), None, [])
    await journal.ack(SINK, Seq(3), None, [])
    assert (await journal.position(SINK, "earliest")).acked == 8
    assert (await journal.backlog(SINK)).events == 2


async def test_a_renamed_sink_takes_everything_along_once(journal: SqliteJournal) -> None:
    """Goal: place, bookmark, dead letters and replays go on under the new name, and what is kept elsewhere is found under the first one; method:
    two renames, each asked for twice, and a new sink under the name that became free."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    first, second, third = SinkName("first"), SinkName("second"), SinkName("third")
    await journal.position(first, "earliest")
    letter = DeadLetter(sink=first, seq=Seq(3), id="x", type="t", reason="no", attempts=1, at=1.0, line=b"{}")
    await journal.ack(first, Seq(7), {"x": 1}, [letter])
    with open_operator(journal.path.parent) as operator:
        operator.replay(first, 0, 1e10)
    for was, now in ((first, second), (first, second), (second, third), (second, third)):
        position = await journal.position(now, "latest", was)
        assert position == SinkPosition(Seq(7), {"x": 1}, first)
    assert [d.sink for d in await journal.dead_letters(9)] == [third]
    assert [(r.sink, r.until) for r in await journal.replays(third)] == [(third, 10)]
    assert await journal.position(first, "earliest") == SinkPosition(Seq(0), None, SinkName("first-2"))
    with pytest.raises(ConfigError, match=r"sinks\.third\.was: first and third both have a place"):
        await journal.position(third, "earliest", first)
    assert (await journal.position(third, "earliest")).acked == 7
    with pytest.raises(ConfigError, match="no sink secnd has a place in the journal; it knows first, third: mend"):
        await journal.position(SinkName("fourth"), "earliest", SinkName("secnd"))


async def test_a_name_from_before_is_kept_in_a_new_journal(journal: SqliteJournal) -> None:
    """Goal: `was` may stay in the file, and finds what is kept elsewhere when the journal is lost; method: a journal that knows nobody."""
    position = await journal.position(SINK, "earliest", SinkName("old"))
    assert position == SinkPosition(Seq(0), None, SinkName("old"))


async def test_numbers_go_on_after_a_full_prune(journal: SqliteJournal, clock: Clock) -> None:
    """A sink never waits for a numbering that began anew; method: prune everything, append one more."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    await journal.position(SINK, "earliest")
    await journal.ack(SINK, Seq(10), None, [])
    clock.now += 100
    assert await journal.prune([SINK], 50, 10) == 10
    assert await read_all(journal, 10) == []
    await journal.append(ACME, "organization", entries(1, start=10), Progress(2))
    assert [seq for seq, _ in await read_all(journal, 10)] == [11]


async def test_prune_waits_for_every_named_sink_and_for_age(journal: SqliteJournal, clock: Clock) -> None:
    """Nothing that a configured sink lacks is deleted, nothing young either; method: two sinks, one behind."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    slow = SinkName("slow")
    await journal.position(SINK, "earliest")
    await journal.position(slow, "earliest")
    await journal.ack(SINK, Seq(10), None, [])
    assert await journal.prune([SINK], 50, 10) == 0, "young"
    clock.now += 100
    assert await journal.prune([SINK, slow], 50, 10) == 0, "slow lacks it"
    assert await journal.prune([SINK], 50, 10) == 10, "slow is gone from the configuration"


async def test_a_replay_pins_what_it_still_needs(journal: SqliteJournal, clock: Clock, tmp_path: Path) -> None:
    """Retention leaves what a replay will read; method: a replay row, prune, finish it, prune."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    await journal.position(SINK, "earliest")
    await journal.ack(SINK, Seq(10), None, [])
    with sqlite3.connect(journal.path) as db:
        db.execute("INSERT INTO replays (sink, after_seq, until_seq) VALUES (?, 0, 10)", (SINK,))
    db.close()
    clock.now += 100
    assert await journal.prune([SINK], 50, 10) == 0
    (replay,) = await journal.replays(SINK)
    await journal.replayed(replay, Seq(10), {"x": 1}, [])
    assert await journal.replays(SINK) == []
    assert await journal.prune([SINK], 50, 10) == 10


async def test_ids_are_forgotten_by_the_watermark_of_their_listing(journal: SqliteJournal, clock: Clock) -> None:
    """A catch-up that is at last month keeps last month's ids; method: an old watermark, prune, append again; then a new one, with a sink that has
    not taken the records yet, and when it has."""
    month_ago = int(clock.now) - 30 * 86_400
    items = entries(10, at=month_ago)
    await journal.append(ACME, "organization", items, Progress(month_ago + 10))
    await journal.position(SINK, "earliest")
    await journal.prune([SINK], 50, 3600)
    assert await journal.append(ACME, "organization", items, Progress(month_ago + 10)) == 0
    await journal.append(ACME, "organization", [], Progress(int(clock.now)))
    clock.now += 100
    await journal.prune([SINK], 50, 3600)
    with open_operator(journal.path.parent) as operator:
        assert operator.replay(SINK, 0, 1e10) == 10, "what is here is found, however old"
    (replay,) = await journal.replays(SINK)
    await journal.replayed(replay, Seq(10), None, [])
    assert await journal.append(ACME, "organization", items, Progress(int(clock.now))) == 0
    await journal.ack(SINK, Seq(10), None, [])
    await journal.prune([SINK], 50, 3600)
    assert await journal.append(ACME, "organization", items, Progress(int(clock.now))) == 10


async def test_ids_are_not_forgotten_before_a_recheck_that_is_overdue(journal: SqliteJournal, clock: Clock) -> None:
    """Goal: a recheck that could not end for long appends nothing twice; method: records that are taken and gone, a watermark of now, and one of two rechecks
    that ended when they were young; then both of now."""
    then, now = int(clock.now) - 10_000, int(clock.now)
    items = entries(10, at=then)
    await journal.append(ACME, "organization", items, Progress(now, (now, then + 100)))
    await journal.position(SINK, "earliest")
    await journal.ack(SINK, Seq(10), None, [])
    clock.now += 100
    assert await journal.prune([SINK], 50, 3600) == 10
    assert await journal.append(ACME, "organization", items, Progress(now, (now, then + 100))) == 0
    await journal.append(ACME, "organization", [], Progress(now, (now, now)))
    await journal.prune([SINK], 50, 3600)
    assert await journal.append(ACME, "organization", items, Progress(now, (now, now))) == 10


async def test_a_catch_up_walks_its_overlap_again_and_knows_it(journal: SqliteJournal, clock: Clock) -> None:
    """What is pruned is not forgotten while its listing may walk it again; method: a catch-up at last month whose records are taken and gone, its
    overlap once more, and the same after the watermark has moved on by more than what is remembered."""
    month_ago = int(clock.now) - 30 * 86_400
    items = entries(10, at=month_ago)
    await journal.position(SINK, "earliest")
    await journal.append(ACME, "organization", items, Progress(month_ago + 600))
    await journal.ack(SINK, Seq(10), None, [])
    clock.now += 100
    assert await journal.prune([SINK], 50, 3600) == 10
    assert await journal.append(ACME, "organization", items, Progress(month_ago + 600)) == 0
    await journal.append(ACME, "organization", [], Progress(month_ago + 3600 + 2))
    await journal.prune([SINK], 50, 3600)
    assert await journal.append(ACME, "organization", items, Progress(month_ago + 3602)) == 10, "two seconds too old"


async def test_the_age_of_a_backlog_is_that_of_what_waits_first(journal: SqliteJournal, clock: Clock) -> None:
    """`streamer_sink_oldest_undelivered_seconds` is no guess; method: two appends an hour apart, one of them taken, then both."""
    await journal.position(SINK, "earliest")
    first = clock.now
    await journal.append(ACME, "organization", entries(10), Progress(1))
    clock.now += 3600
    await journal.append(ACME, "organization", entries(5, start=10), Progress(1))
    assert await journal.backlog(SINK) == Backlog(15, first)
    await journal.ack(SINK, Seq(10), None, [])
    assert await journal.backlog(SINK) == Backlog(5, clock.now)
    await journal.ack(SINK, Seq(15), None, [])
    assert await journal.backlog(SINK) == Backlog(0, None)


async def test_a_dead_letter_may_say_what_utf_8_cannot(journal: SqliteJournal) -> None:
    """A lone surrogate in a type or a reason must not keep a batch from being acknowledged; method: one in each text."""
    await journal.append(ACME, "organization", entries(1), Progress(1))
    await journal.position(SINK, "earliest")
    letter = DeadLetter(
        number=0, sink=SINK, seq=Seq(1), id="a\ud800", type="b\udfff", reason="c\ud800", attempts=1, at=1.0, line=b"{}"
    )
    await journal.ack(SINK, Seq(1), None, [letter])
    (kept,) = await journal.dead_letters(10)
    assert (kept.id, kept.type, kept.reason) == ("a?", "b?", "c?")


async def test_a_full_journal_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """`max_size` is a limit that never drops; method: fill 1 MiB, be refused, ack, prune, go on."""
    items = [Entry(EventId(f"e{n}"), n, noise(n)) for n in range(3000)]
    async with open_journal(tmp_path, 2 << 20) as journal:
        await journal.position(SINK, "earliest")
        taken = 0
        with pytest.raises(RetryableError, match=r"journal full.*max_size"):
            for n in range(0, len(items), 100):
                taken += await journal.append(ACME, "organization", items[n : n + 100], Progress(n))
        assert 0 < taken < len(items)
        assert await journal.progress(ACME, "organization") == Progress(taken - 100), (
            "the progress was not stored either"
        )
        assert len(await read_all(journal)) == taken
        await journal.ack(SINK, Seq(taken), None, [])
        assert await journal.prune([SINK], 0, 1e9) == taken
        assert await journal.append(ACME, "organization", items[taken : taken + 1500], Progress(3000)) == 1500, (
            "more than max_size, but nothing is left whose going would make room"
        )


async def test_sinks_and_listings_take_turns(tmp_path: Path) -> None:
    """Goal: neither holds up the other. Method: four sinks that never stop asking beside four listings that never stop appending; each
    append ends while a sink has had no more than a few turns, and the other way round."""
    async with open_journal(tmp_path, SIZE) as journal:
        turns: list[str] = []
        enough = asyncio.Event()

        async def sink(name: str) -> None:
            await journal.position(SinkName(name), "earliest")
            while not enough.is_set():
                await journal.ack(SinkName(name), Seq(0), None, [])
                turns.append("ack")

        async def listing(number: int) -> None:
            for turn in range(10):
                few = [Entry(EventId(f"{number}-{turn}-{n}"), turn, noise(n)) for n in range(50)]
                await journal.append(ACME, "organization", few, Progress(turn))
                turns.append("append")

        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(sink(f"sink-{number}"))
            async with asyncio.TaskGroup() as listings:
                for number in range(4):
                    listings.create_task(listing(number))
            enough.set()
    appends = [place for place, kind in enumerate(turns) if kind == "append"]
    assert len(appends) == 40
    assert max(b - a for a, b in pairwise(appends)) <= 20, "acks between two appends"
    acks = [place for place, kind in enumerate(turns) if kind == "ack"]
    assert max(b - a for a, b in pairwise(acks)) <= 8, "appends between two acks"


async def test_who_is_behind_loads_a_block_once(journal: SqliteJournal) -> None:
    """A sink that is in the middle of a block finds it there however much is appended meanwhile; method: count what SQLite is asked for."""
    asked: list[str] = []
    journal._db.set_trace_callback(lambda sql: asked.append(sql) if "body, size FROM blocks" in sql else None)
    await journal.append(ACME, "organization", entries(BLOCK_EVENTS), Progress(1))
    after, taken = 0, 0
    for turn in range(5):
        large = [Entry(EventId(f"large{turn}-{n}"), turn, noise(n, BLOCK_BYTES // 2)) for n in range(10)]
        await journal.append(ACME, "organization", large, Progress(1))
        records = await journal.read(Seq(after), BLOCK_EVENTS // 5, 1 << 30)
        after, taken = records[-1].seq, taken + len(records)
    assert (taken, len(asked)) == (BLOCK_EVENTS, 1)


async def test_lines_are_kept_small_and_damage_is_seen(tmp_path: Path) -> None:
    """What is alike is stored once, and a bit that flips on the disk is no event; method: 2 MB of lines, then one byte of a block changed."""
    items = [Entry(EventId(f"e{n}"), n, b'{"id":"e%d","x":"%s"}' % (n, b"y" * 2000)) for n in range(1000)]
    async with open_journal(tmp_path, SIZE) as journal:
        await journal.append(ACME, "organization", items, Progress(1000))
        assert (await journal.size()).used_bytes < 500_000
        assert [line for _, line in await read_all(journal)] == [item.line for item in items]
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        body = bytearray(
            db.execute("SELECT body FROM blocks WHERE last_seq = (SELECT min(last_seq) FROM blocks)").fetchone()[0]
        )
        body[len(body) // 2] ^= 1
        db.execute("UPDATE blocks SET body = ? WHERE last_seq = (SELECT min(last_seq) FROM blocks)", (body,))
    async with open_journal(tmp_path, SIZE) as journal:
        with pytest.raises(ConfigError, match=r"journal .*corrupt"):
            await journal.read(Seq(0), 10, 1 << 20)
    with pytest.raises(ConfigError, match="corrupt"), open_operator(tmp_path) as operator:
        operator.records(0)


async def test_what_is_stored_is_seen_though_nobody_waits_for_it(journal: SqliteJournal) -> None:
    """An append goes on in its thread when its task is cancelled: sinks must see what it stored; method: cancel it on its way."""
    appending = asyncio.create_task(journal.append(ACME, "organization", entries(3), Progress(1)))
    while not journal._appending.locked():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    assert await journal.append(ACME, "organization", entries(3), Progress(1)) == 0, "it was stored"
    assert journal.head == 3
    assert [line for _, line in await read_all(journal)] == [entry.line for entry in entries(3)]


async def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence at the start, not a syntax error at the first event; method: the version that Ubuntu 22.04 has."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    with pytest.raises(ConfigError, match=r"use one with 3\.38 or newer"):
        async with open_journal(tmp_path, SIZE):
            pass


async def test_wait_wakes_when_a_record_comes(journal: SqliteJournal) -> None:
    """`wait` returns as soon as there is something, and False when the time is up; method: append beside a waiter."""
    assert await journal.wait(Seq(0), 0.01) is False
    waiting = asyncio.create_task(journal.wait(Seq(0), 30))
    await asyncio.sleep(0)
    await journal.append(ACME, "organization", entries(1), Progress(1))
    assert await waiting is True


async def test_the_stamp_is_another_one_after_each_change_and_only_then(journal: SqliteJournal, tmp_path: Path) -> None:
    """Goal: who waits for a change sees it without reading, whoever wrote; method: reads, a record, an acknowledgement, a progress alone and an operator's
    request from another connection. Twenty milliseconds between them: file times move with the kernel's clock."""

    async def changed(act: Callable[[], Awaitable[object]]) -> bool:
        before = journal.stamp()
        await asyncio.sleep(0.02)
        await act()
        return journal.stamp() != before

    async def ask() -> None:
        with open_operator(tmp_path / "state") as operator:
            operator.requeue(None, SINK)

    async def look() -> None:
        with open_operator(tmp_path / "state") as operator:
            operator.dead_letters(SINK)

    letter = DeadLetter(sink=SINK, seq=Seq(1), id="e1", type="t", reason="400", attempts=1, at=1.0, line=b"{}")
    await journal.position(SINK, "earliest")
    assert await changed(lambda: journal.append(ACME, "organization", entries(1), Progress(1)))
    assert await changed(lambda: journal.ack(SINK, Seq(1), None, [letter]))
    assert await changed(lambda: journal.append(ACME, "organization", [], Progress(2)))
    assert await changed(ask)
    for read in (look, journal.size, lambda: journal.requeued(SINK), lambda: journal.read(Seq(0), 10, 1000)):
        assert not await changed(read)


async def test_a_stamp_that_cannot_be_taken_is_always_another_one(journal: SqliteJournal) -> None:
    """Goal: in doubt it is read; method: the log's file under another name for a moment."""
    log = journal.path.with_name(journal.path.name + "-wal")
    hidden = log.rename(log.with_name("hidden"))
    assert journal.stamp() != journal.stamp()
    hidden.rename(log)
    assert journal.stamp() == journal.stamp()


async def test_sinks_start_where_they_should(journal: SqliteJournal) -> None:
    """`earliest` gets all that is kept, `latest` only what comes; method: both on a journal with ten records."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    assert (await journal.position(SinkName("early"), "earliest")).acked == 0
    assert (await journal.position(SinkName("late"), "latest")).acked == 10


async def test_dead_letters_are_requeued_and_settled(journal: SqliteJournal, tmp_path: Path) -> None:
    """retry and discard work beside an open journal; method: the operator's connection while the daemon's is open."""
    await journal.position(SINK, "earliest")
    letters = [
        DeadLetter(sink=SINK, seq=Seq(n), id=f"e{n}", type="t", reason="400", attempts=1, at=1.0, line=b"{}")
        for n in range(3)
    ]
    await journal.ack(SINK, Seq(3), None, letters)
    with open_operator(tmp_path / "state") as operator:
        first, second, third = operator.dead_letters(SINK)
        assert operator.requeue([first.number, second.number], None) == 2
        assert operator.discard([third.number], None) == 1
        assert operator.discard([999], None) == 0
    requeued = await journal.requeued(SINK)
    assert [d.id for d in requeued] == ["e0", "e1"]
    await journal.settle([requeued[0]], True, {"at": 1})
    await journal.settle([requeued[1]], False, None)
    with open_operator(tmp_path / "state") as operator:
        assert [d.id for d in operator.dead_letters(None)] == ["e1"]
    assert await journal.requeued(SINK) == []


@pytest.mark.parametrize("bad", ["x" * 500, "a\x00b", "é", "\ud800", "a\nb", ""])
async def test_odd_ids_are_remembered_too(journal: SqliteJournal, bad: str) -> None:
    """Whatever an id looks like, it is taken once; method: append twice."""
    odd = [Entry(EventId(bad), 5, b"{}")]
    assert await journal.append(ACME, "organization", odd, Progress(1)) == 1
    assert await journal.append(ACME, "organization", odd, Progress(1)) == 0
    assert len(memory_key(bad)) <= 128


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=8))
def test_any_sequence_of_appends_keeps_each_event_once(tmp_path: Path, batches: list[list[int]]) -> None:
    """Model: a dict that keeps the first of each; method: random overlapping batches against it."""

    async def run() -> None:
        folder = tmp_path / os.urandom(8).hex()
        model: dict[str, bytes] = {}
        async with open_journal(folder, SIZE) as journal:
            for batch in batches:
                items = [Entry(EventId(str(n)), n // 7, f"{n}".encode()) for n in batch]
                before = len(model)
                for item in items:
                    model.setdefault(item.id, item.line)
                assert await journal.append(ACME, "organization", items, Progress(1)) == len(model) - before
            assert [line for _, line in await read_all(journal)] == list(model.values())

    asyncio.run(run())


# --- what can be wrong with the folder -------------------------------------------------------------------------------


async def test_a_second_daemon_is_refused_with_the_owner(tmp_path: Path) -> None:
    """One daemon a folder; method: open twice."""
    async with open_journal(tmp_path, SIZE):
        with pytest.raises(ConfigError, match=rf"in use by another streamer \(process {os.getpid()}\)"):
            async with open_journal(tmp_path, SIZE):
                pass
    async with open_journal(tmp_path, SIZE):
        pass


async def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    """A file from the future is not guessed at; method: raise its version."""
    async with open_journal(tmp_path, SIZE):
        pass
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(ConfigError, match="newer streamer"):
        async with open_journal(tmp_path, SIZE):
            pass


async def test_a_corrupt_journal_is_refused(tmp_path: Path) -> None:
    """Garbage is named and left alone; method: overwrite the file's head."""
    async with open_journal(tmp_path, SIZE):
        pass
    (tmp_path / FILE).write_bytes(b"this is no database" * 1000)
    with pytest.raises(ConfigError, match=r"corrupt.*move it away"):
        async with open_journal(tmp_path, SIZE):
            pass


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """Goal: one sentence with the mend; method: a file stands where the folder should be."""
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match="cannot be written.*another `state`"):
        async with open_journal(tmp_path / "state", SIZE):
            pass


async def test_files_are_private(tmp_path: Path) -> None:
    """Envelopes name people; method: the modes of everything in the folder."""
    async with open_journal(tmp_path / "state", SIZE) as journal:
        await journal.append(ACME, "organization", entries(1), Progress(1))
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


# --- what is handed back, field by field -------------------------------------------------------------------------------


async def test_the_size_counts_records_and_bytes(journal: SqliteJournal, clock: Clock) -> None:
    """Goal: `journal_bytes` and the backlog are what lies there. Method: an empty journal, records, and after a prune; live bytes against
    those of the file."""
    empty = await journal.size()
    assert (empty.records, empty.head, empty.oldest) == (0, 0, 1)
    await journal.append(ACME, "organization", entries(10), Progress(1))
    size = await journal.size()
    assert (size.records, size.head, size.oldest) == (10, 10, 1)
    big = [Entry(EventId(f"big{n}"), 1, b"x" * 500_000) for n in range(6)]
    await journal.append(ACME, "organization", big, Progress(1))
    await journal.position(SINK, "earliest")
    await journal.ack(SINK, Seq(16), None, [])
    clock.now += 100
    full = await journal.size()
    with sqlite3.connect(journal.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    assert (await journal.size()).used_bytes == journal.path.stat().st_size, "no log, and no page is free"
    assert await journal.prune([SINK], 50, 1e6) == 16
    pruned = await journal.size()
    assert (pruned.records, pruned.head, pruned.oldest) == (0, 16, 17)
    assert pruned.used_bytes < full.used_bytes / 2


async def test_hours_are_counted_for_one_listing_from_a_time_on(journal: SqliteJournal) -> None:
    """Goal: the usual rhythm is that of the listing. Method: two listings of two sources over three hours."""
    hour = 1_700_000_000 // 3600
    for source, listing, start in (
        ("acme", "organization", 0),
        ("acme", "tenant", 100),
        ("other", "organization", 200),
    ):
        items = [Entry(EventId(f"e{start + n}"), (hour + n // 2) * 3600 + n, b"{}") for n in range(6)]
        await journal.append(SourceName(source), listing, items, Progress(1))  # type: ignore[arg-type]  # both are listings
    assert await journal.hours(ACME, "organization", (hour + 1) * 3600) == [
        (hour + 1, 2, (hour + 1) * 3600 + 3),
        (hour + 2, 2, (hour + 2) * 3600 + 5),
    ]
    assert len(await journal.hours(ACME, "tenant", 0)) == 3
    assert await journal.hours(SourceName("nobody"), "tenant", 0) == []


async def test_repairs_are_asked_for_and_done_one_by_one(journal: SqliteJournal, clock: Clock) -> None:
    """Goal: each range is walked once, oldest request first, and never before what was forgotten. Method: three requests for two listings; then
    ids are forgotten up to the middle of one."""
    with open_operator(journal.path.parent) as operator:
        operator.repair("acme", "organization", [(100, 200), (300, 400)])
        operator.repair("acme", "tenant", [(500, 600)])
    first, second = await journal.repairs(ACME, "organization")
    assert [(one.since, one.before) for one in (first, second)] == [(100, 200), (300, 400)]
    await journal.repaired(first)
    assert await journal.repairs(ACME, "organization") == [second]
    assert [(one.since, one.before) for one in await journal.repairs(ACME, "tenant")] == [(500, 600)]
    assert await journal.repairs(SourceName("other"), "organization") == []
    await journal.append(ACME, "organization", [Entry(EventId("old"), 340, b"{}")], Progress(int(clock.now)))
    await journal.position(SINK, "latest")
    await journal.prune([SINK], -1, clock.now - 350)
    assert [(one.since, one.before) for one in await journal.repairs(ACME, "organization")] == [(350, 400)]


async def test_ids_are_remembered_for_as_long_as_asked(journal: SqliteJournal, clock: Clock) -> None:
    """Goal: an event that may be walked again is known. Method: ids on both sides of the limit, a watermark that is at now."""
    now = int(clock.now)
    early = [Entry(EventId("early"), now - 950, b"{}")]
    await journal.append(ACME, "organization", early, Progress(now))
    await journal.position(SINK, "latest")
    clock.now -= 1000
    assert await journal.prune([SINK], -2000, 100) == 1
    assert await journal.unknown(ACME, as_events(early)) == [], "a clock that is behind forgets nothing too soon"
    clock.now += 1000
    items = [Entry(EventId("in"), now - 99, b"{}"), Entry(EventId("out"), now - 101, b"{}")]
    await journal.append(ACME, "organization", items, Progress(now))
    await journal.ack(SINK, Seq(3), None, [])
    await journal.prune([SINK], -1, 100)
    assert [event.id for event in await journal.unknown(ACME, as_events(items))] == ["out"]
    assert await journal.unknown(ACME, []) == []


async def test_a_letter_and_a_replay_come_back_whole(journal: SqliteJournal) -> None:
    """Goal: no field of what an operator asked is lost. Method: three letters and a replay, and where their sink stands after each."""
    await journal.append(ACME, "organization", entries(10), Progress(1))
    await journal.position(SINK, "earliest")
    letters = [
        DeadLetter(
            sink=SINK,
            seq=Seq(n),
            id=f"e{n}",
            type=f"t{n}",
            reason=f"r{n}",
            attempts=n,
            at=float(n),
            line=b'{"n":%d}' % n,
        )
        for n in range(1, 4)
    ]
    await journal.ack(SINK, Seq(10), {"at": 1}, letters)
    found = await journal.dead_letters(9)
    assert found == [
        msgspec.structs.replace(one, number=back.number) for one, back in zip(letters[::-1], found, strict=True)
    ]
    assert [one.id for one in await journal.dead_letters(2)] == ["e3", "e2"]
    with open_operator(journal.path.parent) as operator:
        operator.requeue(None, SINK)
        assert operator.replay(SINK, 1_700_000_000.0, 1_800_000_000.0) == 10
    await journal.settle((await journal.requeued(SINK))[:1], True, {"at": 2})
    assert (await journal.position(SINK, "earliest")).bookmark == {"at": 2}
    again = [msgspec.structs.replace(one, reason="again", attempts=9, at=9.0) for one in await journal.requeued(SINK)]
    await journal.settle(again, False, None)
    assert [(one.reason, one.attempts, one.at) for one in await journal.dead_letters(9)] == [("again", 9, 9.0)] * 2
    (replay,) = await journal.replays(SINK)
    assert (replay.sink, replay.after, replay.until) == (SINK, 0, 10)
    assert (replay.since, replay.before) == (1_700_000_000.0, 1_800_000_000.0)
    await journal.replayed(replay, Seq(4), {"at": 3}, letters[:1])
    assert [one.after for one in await journal.replays(SINK)] == [4]
    assert (await journal.position(SINK, "earliest")) == SinkPosition(Seq(10), {"at": 3}, SINK)
    assert len(await journal.dead_letters(9)) == 3


async def test_blocks_have_at_most_so_many_lines_and_bytes(journal: SqliteJournal) -> None:
    """Goal: a block is read at once, so it is small. Method: many small lines, then large ones; the rows of the file."""
    await journal.append(ACME, "organization", entries(BLOCK_EVENTS * 2), Progress(1))
    large = [Entry(EventId(f"large{n}"), 1, b"x" * (BLOCK_BYTES // 2)) for n in range(5)]
    await journal.append(ACME, "organization", large, Progress(1))
    with sqlite3.connect(journal.path) as db:
        counts = [count for (count,) in db.execute("SELECT count FROM blocks ORDER BY last_seq")]
    db.close()
    assert counts == [BLOCK_EVENTS, BLOCK_EVENTS, 2, 2, 1]


async def test_a_read_ends_where_it_was_told_to(journal: SqliteJournal) -> None:
    """Goal: a batch has at most so many events and bytes, and at least one. Method: reads over a block's end, by events and by bytes."""
    await journal.append(ACME, "organization", entries(BLOCK_EVENTS + 10), Progress(1))
    assert [r.seq for r in await journal.read(Seq(BLOCK_EVENTS - 2), 4, 1 << 20)] == [
        BLOCK_EVENTS + n for n in (-1, 0, 1, 2)
    ]
    size = len(entries(1)[0].line)
    assert [r.seq for r in await journal.read(Seq(0), 100, 3 * size)] == [1, 2, 3]
    assert [r.seq for r in await journal.read(Seq(0), 100, 3 * size - 1)] == [1, 2]
    assert [r.seq for r in await journal.read(Seq(0), 100, 1)] == [1]
    assert [r.seq for r in await journal.read(Seq(BLOCK_EVENTS + 5), 100, 1 << 20)] == [
        BLOCK_EVENTS + n for n in range(6, 11)
    ]
    assert await journal.read(Seq(BLOCK_EVENTS + 10), 100, 1 << 20) == []


async def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    """Goal: the sentence says what is wrong with the place. Method: a file in its stead."""
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match="cannot be written: it is not a folder; give this user"):
        async with open_journal(tmp_path / "state", SIZE):
            pass


async def test_many_read_at_once_far_behind_and_near_the_head(journal: SqliteJournal) -> None:
    """Goal: readers share a cache that none of them sees half changed; method: ten read everything at once, each block by block, while
    threads take turns as often as they can, and every one gets everything."""
    for begin in range(0, 20_000, 1000):
        await journal.append(ACME, "organization", entries(1000, begin), Progress(1))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        found = await asyncio.gather(*(read_all(journal) for _ in range(10)))
    finally:
        sys.setswitchinterval(before)
    assert all([seq for seq, _ in one] == list(range(1, 20_001)) for one in found)
