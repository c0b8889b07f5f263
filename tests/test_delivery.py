"""The delivery loop with a real journal and sinks that misbehave: verdicts, halving, dead letters, the fuse, requests."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from streamer.config import BatchOptions
from streamer.delivery import FUSE, ONCE_ATTEMPTS, Delivery
from streamer.errors import ConfigError, PermanentError, Repositioned, RetryableError
from streamer.formats.envelope import EnvelopeFormat
from streamer.journal.operator import open_operator
from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.model import (
    Batch,
    Bookmark,
    Entry,
    Envelope,
    EventId,
    Progress,
    Record,
    Seq,
    SinkName,
    SourceName,
    encode_envelope,
)
from streamer.ports import DeadLetter
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.fakes import ScriptedSink

SINK = SinkName("hook")
QUICK = 0.001


FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def line(number: int) -> bytes:
    """An event a second."""
    now = FIRST + timedelta(seconds=number)
    return encode_envelope(
        Envelope(
            id=EventId(f"e{number}"),
            source=SourceName("acme"),
            listing="organization",
            type="login.failed" if number % 2 else "login.succeeded",
            family="login",
            action="failed",
            known=True,
            time=now,
            observed_at=now,
            outcome="failure" if number % 2 else "success",
            severity="low",
            event=msgspec.Raw(f'{{"n":{number}}}'.encode()),
        )
    )


class Bench:
    """A journal with records and a delivery to a scripted sink."""

    def __init__(self, journal: SqliteJournal, folder: Path, sink: ScriptedSink) -> None:
        self.journal, self.folder, self.sink = journal, folder, sink
        self.telemetry, self.stop = Telemetry(), Stop()
        self.numbers = 0

    async def fill(self, count: int) -> None:
        numbers = range(self.numbers, self.numbers + count)
        entries = [Entry(EventId(f"e{n}"), n, line(n)) for n in numbers]
        self.numbers += count
        await self.journal.append(SourceName("acme"), "organization", entries, Progress(1))

    async def delivery(
        self,
        *,
        once: bool = True,
        where: Callable[[Envelope], bool] | None = None,
        wait: str = "0s",
        caught_up: Callable[[], bool] = lambda: True,
        redact: Callable[[Record], Record] | None = None,
    ) -> Delivery:
        position = await self.journal.position(SINK, "earliest")
        return Delivery(
            name=SINK,
            kind="scripted",
            sink=self.sink,
            acked=position.acked,
            journal=self.journal,
            format=EnvelopeFormat(),
            where=where,
            redact=redact,
            batch=BatchOptions.model_validate({"events": 8, "wait": wait}),
            telemetry=self.telemetry,
            stop=self.stop,
            caught_up=caught_up if once else None,
            hold_s=QUICK,
        )

    def letters(self) -> list[str]:
        with open_operator(self.folder) as operator:
            return [d.id for d in operator.dead_letters(None)]

    def lines(self, *numbers: int) -> list[bytes]:
        return [line(n) for n in numbers]

    @asynccontextmanager
    async def running(
        self, *, where: Callable[[Envelope], bool] | None = None, wait: str = "0s"
    ) -> AsyncIterator[Delivery]:
        """As a daemon, until the body is done."""
        delivery = await self.delivery(once=False, where=where, wait=wait)
        task = asyncio.create_task(delivery.run())
        try:
            yield delivery
        finally:
            self.stop.set()
            await task

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_journal(tmp_path, 1 << 30) as journal:
        yield Bench(journal, tmp_path, ScriptedSink())


async def test_everything_arrives_in_order_and_is_acknowledged(bench: Bench) -> None:
    """The plain road; method: more records than a batch, then the ack and bookmark in the journal."""
    await bench.fill(20)
    await (await bench.delivery()).run()
    assert bench.sink.taken == bench.lines(*range(20))
    position = await bench.journal.position(SINK, "earliest")
    assert (position.acked, position.bookmark) == (20, {"taken": 20})
    row = bench.telemetry.status.sinks[SINK]
    assert (row.type, row.acked, row.delivered) == ("scripted", 20, 20)
    assert bench.sink.replayed == [False] * 20
    assert (await bench.delivery()).row.acked == 20, "a delivery says at once where it stands"


async def test_retryable_trouble_repeats_the_same_batch(bench: Bench) -> None:
    """Goal: nothing lost, nothing skipped; method: three refusals, then taken."""
    bench.sink.script = iter(
        [RetryableError("503"), RetryableError("503", retry_after=QUICK), None, RetryableError("x")]
    )
    await bench.fill(20)
    await (await bench.delivery()).run()
    assert bench.sink.taken == bench.lines(*range(20))
    assert bench.telemetry.status.sinks[SINK].retries == 3


async def test_a_held_sink_waits_and_goes_on_when_mended(bench: Bench) -> None:
    """A 401 dead-letters nothing; method: two ConfigErrors, seen as held, then taken."""
    states: list[str] = []

    def watch(_: Batch) -> None:
        states.append(bench.telemetry.status.sinks[SINK].state)

    bench.sink.script = iter([ConfigError("401"), ConfigError("401")])
    bench.sink.refuses = watch
    await bench.fill(3)
    async with bench.running():
        await bench.until(lambda: len(bench.sink.taken) == 3)
    assert states == ["held"]
    assert bench.letters() == []
    assert bench.telemetry.status.sinks[SINK].error is None


async def test_once_reports_a_held_sink(bench: Bench) -> None:
    """`--once` cannot wait for an operator; method: a ConfigError comes out."""
    bench.sink.script = repeat(ConfigError("401: wrong token"))
    await bench.fill(3)
    with pytest.raises(ConfigError, match="wrong token"):
        await (await bench.delivery()).run()


@pytest.mark.parametrize("bad", [{0}, {7}, {3, 4}, {0, 19}, {8, 9, 10}])
async def test_only_the_bad_records_become_dead_letters(bench: Bench, bad: set[int]) -> None:
    """Halving finds them without the sink's help, order is kept; method: a sink that refuses batches holding them."""
    lines = set(bench.lines(*bad))
    bench.sink.refuses = lambda b: PermanentError("400") if any(m.body in lines for m in b.messages) else None
    await bench.fill(20)
    await (await bench.delivery()).run()
    assert bench.sink.taken == bench.lines(*(n for n in range(20) if n not in bad))
    assert bench.letters() == [f"e{n}" for n in sorted(bad)]
    assert (await bench.journal.position(SINK, "earliest")).acked == 20


async def test_records_that_the_sink_names_are_cut_out(bench: Bench) -> None:
    """A sink that names them saves the halving; method: indexes in the answer, few writes."""
    bad = set(bench.lines(2, 5))

    def refuse(batch: Batch) -> PermanentError | None:
        named = [i for i, m in enumerate(batch.messages) if m.body in bad]
        return PermanentError("400", rejected=named) if named else None

    bench.sink.refuses = refuse
    await bench.fill(8)
    await (await bench.delivery()).run()
    assert bench.sink.taken == bench.lines(0, 1, 3, 4, 6, 7)
    assert bench.letters() == ["e2", "e5"]
    assert bench.sink.writes <= 8


async def test_the_fuse_holds_a_sink_that_refuses_everything(bench: Bench) -> None:
    """A sink that is wrong about everything must not empty the journal into dead letters; method: 400 for all."""
    bench.sink.script = repeat(PermanentError("400"))
    await bench.fill(40)
    async with bench.running():
        await bench.until(lambda: bench.telemetry.status.sinks[SINK].state == "held")
        assert len(bench.letters()) == FUSE
        bench.sink.script = iter(())
        await bench.until(lambda: bench.journal.head == bench.telemetry.status.sinks[SINK].acked)
    assert len(bench.letters()) == FUSE
    assert bench.sink.taken == bench.lines(*range(FUSE, 40))


async def test_a_moved_sink_stores_its_bookmark_before_it_writes(bench: Bench) -> None:
    """The bookmark is durable before the first byte it speaks of; method: look into the journal at the next write."""
    seen: list[object] = []

    def look(_: Batch) -> None:
        with sqlite3.connect(bench.folder / "journal.db") as db:
            seen.append(db.execute("SELECT acked, bookmark FROM sinks").fetchone())
        db.close()

    bench.sink.script = iter([Repositioned({"file": "new"})])  # type: ignore[list-item]  # a turn of the road
    bench.sink.refuses = look
    await bench.fill(3)
    await (await bench.delivery()).run()
    assert seen == [(0, '{"file": "new"}')]
    assert bench.sink.taken == bench.lines(0, 1, 2)


async def test_filtered_records_are_passed_over_and_counted(bench: Bench) -> None:
    """`where` leaves out and acknowledges; method: only failures, the last records left out too."""
    await bench.fill(21)
    await (await bench.delivery(where=lambda e: e.outcome == "failure")).run()
    assert bench.sink.taken == bench.lines(*range(1, 21, 2))
    assert bench.telemetry.status.sinks[SINK].filtered == 11
    assert (await bench.journal.position(SINK, "earliest")).acked == 21


async def test_a_sink_that_wants_nothing_moves_on(bench: Bench) -> None:
    """Goal: what is left out pins nothing, and the status says how far it is. Method: a `where` that nothing passes."""
    await bench.fill(3)
    await (await bench.delivery(where=lambda _: False)).run()
    row = bench.telemetry.status.sinks[SINK]
    assert (row.acked, row.filtered, bench.sink.writes) == (3, 3, 0)


async def test_a_dead_letter_is_delivered_again_on_request(bench: Bench) -> None:
    """`dlq retry` works while the daemon runs; method: requeue beside it, once refused again, once taken."""
    bad = set(bench.lines(1))
    bench.sink.refuses = lambda b: PermanentError("no") if any(m.body in bad for m in b.messages) else None
    await bench.fill(3)
    async with bench.running():
        await bench.until(lambda: bench.letters() == ["e1"])
        with open_operator(bench.folder) as operator:
            operator.requeue(None, SINK)
            await bench.until(lambda: operator.dead_letters(None)[0].attempts == 2)
            bench.sink.refuses = lambda _: None
            operator.requeue(None, SINK)
            await bench.until(lambda: operator.dead_letters(None) == [])
    assert bench.sink.taken == bench.lines(0, 2, 1)


async def test_a_replay_delivers_its_stretch_again_and_ends(bench: Bench) -> None:
    """`replay` works while the daemon runs; method: a replay row beside it."""
    await bench.fill(20)
    async with bench.running():
        await bench.until(lambda: len(bench.sink.taken) == 20)
        with sqlite3.connect(bench.folder / "journal.db") as db:
            db.execute("INSERT INTO replays (sink, after_seq, until_seq) VALUES (?, 4, 15)", (SINK,))
        db.close()
        await bench.until(lambda: len(bench.sink.taken) == 31)
    assert bench.sink.taken[20:] == bench.lines(*range(4, 15))
    assert await bench.journal.replays(SINK) == []


async def test_stop_leaves_between_batches_and_loses_nothing(bench: Bench) -> None:
    """A failing sink does not delay a stop, and what was not taken is still there; method: stop while it backs off."""
    bench.sink.script = chain([None], repeat(RetryableError("down")))
    await bench.fill(20)
    async with bench.running():
        await bench.until(lambda: bench.telemetry.status.sinks[SINK].state == "failing")
    assert bench.sink.taken == bench.lines(*range(8))
    assert (await bench.journal.backlog(SINK)).events == 12


# --- batches that wait -------------------------------------------------------------------------------------------------


async def test_a_batch_waits_to_be_full(bench: Bench) -> None:
    """Goal: `batch.wait` saves requests. Method: three records and a wait of minutes, then five more, which fill the batch."""
    await bench.fill(3)
    async with bench.running(wait="5m"):
        await asyncio.sleep(0.05)
        assert bench.sink.writes == 0
        await bench.fill(5)
        await bench.until(lambda: len(bench.sink.taken) == 8)
    assert bench.sink.writes == 1


async def test_a_batch_that_is_not_full_goes_when_it_has_waited(bench: Bench) -> None:
    """Goal: nothing waits for ever. Method: three records and a short wait."""
    await bench.fill(3)
    async with bench.running(wait="50ms"):
        await bench.until(lambda: len(bench.sink.taken) == 3)
    assert bench.sink.writes == 1


async def test_once_waits_for_no_full_batch(bench: Bench) -> None:
    """Goal: `--once` ends as soon as it can. Method: a wait of minutes, and a limit far below."""
    await bench.fill(3)
    async with asyncio.timeout(20):
        await (await bench.delivery(wait="5m")).run()
    assert bench.sink.taken == bench.lines(0, 1, 2)


async def test_once_waits_for_intake(bench: Bench) -> None:
    """Goal: what intake appends while `--once` runs is delivered too. Method: it says that it has caught up only after a second look."""
    looks: list[int] = []

    def caught_up() -> bool:
        looks.append(len(bench.sink.taken))
        return len(looks) > 2

    await bench.fill(3)
    await (await bench.delivery(caught_up=caught_up)).run()
    assert looks == [3, 3, 3]


# --- what a sink keeps open --------------------------------------------------------------------------------------------


class OpenSink(ScriptedSink):
    """Keeps something open that it closes in time, or at the end."""

    ticks = 0
    finished = 0

    async def tick(self) -> Bookmark | None:
        self.ticks += 1
        return {"ticks": self.ticks} if self.ticks > 1 else None

    async def finish(self) -> Bookmark | None:
        self.finished += 1
        return {"finished": self.taken[-1].decode()[-9:]}


async def test_a_sink_is_let_finish_once_at_the_end(bench: Bench) -> None:
    """Goal: `--once` leaves nothing open, and where the sink then stands is stored with the same ack. Method: a sink that says when."""
    bench.sink = sink = OpenSink()
    await bench.fill(3)
    await (await bench.delivery()).run()
    assert (sink.finished, len(sink.taken)) == (1, 3)
    position = await bench.journal.position(SINK, "earliest")
    assert (position.acked, position.bookmark) == (3, {"finished": line(2).decode()[-9:]})


async def test_a_sink_ticks_while_nothing_comes(bench: Bench) -> None:
    """Goal: a file is closed by its age though no event comes; None changes no bookmark. Method: a sink that counts; its first tick says nothing."""
    bench.sink = sink = OpenSink()
    await bench.fill(3)
    async with bench.running():
        await bench.until(lambda: sink.ticks == 2)
    assert sink.finished == 0
    position = await bench.journal.position(SINK, "earliest")
    assert (position.acked, position.bookmark) == (3, {"ticks": 2})


class QuietSink(ScriptedSink):
    """Has nothing to do when it is asked."""

    ticks = 0

    async def tick(self) -> None:
        self.ticks += 1


async def test_a_sink_that_idles_leaves_the_journal_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a processor that sleeps is left asleep. Method: looks and waits counted over three beats with nothing written, and then when a look is due
    anyway."""
    looks = waits = 0
    requeued, wait = bench.journal.requeued, bench.journal.wait

    async def counted(sink: SinkName) -> list[DeadLetter]:
        nonlocal looks
        looks += 1
        return await requeued(sink)

    async def waiting(after: Seq, seconds: float) -> bool:
        nonlocal waits
        waits += 1
        return await wait(after, seconds)

    bench.sink = sink = QuietSink()
    monkeypatch.setattr(bench.journal, "requeued", counted)
    monkeypatch.setattr(bench.journal, "wait", waiting)
    await bench.fill(3)
    async with bench.running():
        await bench.until(lambda: len(sink.taken) == 3 and sink.ticks >= 2)
        before, beat, waited = looks, sink.ticks, waits
        await bench.until(lambda: sink.ticks >= beat + 3)
        assert looks == before
        assert waits <= waited + 6, "one a beat, or two where a timer was early"
        monkeypatch.setattr("streamer.delivery.LOOK_ANYWAY_S", 0.0)
        await bench.until(lambda: looks > before)


# --- dead letters and replays, in their details ------------------------------------------------------------------------


async def test_a_dead_letter_says_all_about_it(bench: Bench) -> None:
    """Goal: an operator sees what was refused, why, when and how often. Method: one refusal with a very long reason; the row, and the log line."""
    bad = set(bench.lines(1))
    bench.sink.refuses = lambda b: PermanentError("no " * 1000) if any(m.body in bad for m in b.messages) else None
    bench.telemetry.clock = lambda: 1_790_000_000.0
    await bench.fill(3)
    with capture_logs() as logs:
        await (await bench.delivery()).run()
    with open_operator(bench.folder) as operator:
        (letter,) = operator.dead_letters(None)
    assert (letter.sink, letter.seq, letter.id, letter.type) == (SINK, 2, "e1", "login.failed")
    assert (letter.reason, letter.attempts, letter.at) == (("no " * 1000)[:1000], 1, 1_790_000_000.0)
    assert letter.line == line(1)
    (said,) = [one for one in logs if one["event"] == "dead letter"]
    assert (said["id"], said["type"], said["reason"]) == ("e1", "login.failed", letter.reason)


@pytest.mark.parametrize("good", [(1, 3), (1,)])
async def test_dead_letters_that_are_refused_again_do_not_hold_the_others(bench: Bench, good: tuple[int, ...]) -> None:
    """Goal: of several letters each gets its own verdict. Method: two or three, of which one is still bad; a clock that goes on."""
    bad = set(bench.lines(2, *good))
    bench.sink.refuses = lambda b: PermanentError("no") if any(m.body in bad for m in b.messages) else None
    await bench.fill(5)
    async with bench.running():
        await bench.until(lambda: len(bench.sink.taken) == 4 - len(good))
        bench.telemetry.clock = lambda: 2e9
        bad.clear()
        bad.add(line(2))
        bench.sink.refuses = lambda b: PermanentError("still") if any(m.body in bad for m in b.messages) else None
        with capture_logs() as logs, open_operator(bench.folder) as operator:
            operator.requeue(None, SINK)
            await bench.until(lambda: sum(one.get("count", 0) for one in logs) == len(good))
            await bench.until(lambda: [one.attempts for one in operator.dead_letters(None)] == [2])
            (letter,) = operator.dead_letters(None)
    assert (letter.id, letter.reason, letter.line) == ("e2", "still", line(2))
    assert letter.at == 2e9
    assert bench.sink.taken == bench.lines(*(n for n in range(5) if n not in (2, *good)), *good)
    assert bench.sink.replayed == [False] * (4 - len(good)) + [True] * len(good)
    assert [one["count"] for one in logs if one["event"] == "dead letters delivered"] == [1] * len(good)
    position = await bench.journal.position(SINK, "earliest")
    assert (position.acked, position.bookmark) == (5, {"taken": 4})


async def test_a_dead_letter_that_is_not_wanted_any_more_is_settled_without_a_write(bench: Bench) -> None:
    """Goal: `where` holds for letters too. Method: a letter; then a delivery that wants no such events."""
    bad = set(bench.lines(1))
    bench.sink.refuses = lambda b: PermanentError("no") if any(m.body in bad for m in b.messages) else None
    await bench.fill(3)
    await (await bench.delivery()).run()
    with open_operator(bench.folder) as operator:
        operator.requeue(None, SINK)
        writes, bench.sink.refuses = bench.sink.writes, lambda _: None
        async with bench.running(where=lambda e: e.outcome == "success"):
            await bench.until(lambda: operator.dead_letters(None) == [])
    assert bench.sink.writes == writes


def ask_for_replay(bench: Bench, after: int, until: int, since: float = 0, before: float = 4e9) -> None:
    with sqlite3.connect(bench.folder / "journal.db") as db:
        values = (SINK, after, until, since, before)
        db.execute("INSERT INTO replays (sink, after_seq, until_seq, since, before) VALUES (?, ?, ?, ?, ?)", values)
    db.close()


async def test_a_replay_keeps_to_its_time_and_says_that_it_is_one(bench: Bench) -> None:
    """Goal: from `since` up to `before`, marked as delivered again, and the sink's bookmark follows. Method: a stretch whose times are narrower
    than its numbers."""
    await bench.fill(20)
    async with bench.running():
        await bench.until(lambda: len(bench.sink.taken) == 20)
        ask_for_replay(bench, 2, 20, FIRST.timestamp() + 5, FIRST.timestamp() + 9)
        await bench.until(lambda: len(bench.sink.taken) == 24)
        while await bench.journal.replays(SINK):
            await asyncio.sleep(0.005)
    assert bench.sink.taken[20:] == bench.lines(5, 6, 7, 8)
    assert bench.sink.replayed == [False] * 20 + [True] * 4
    position = await bench.journal.position(SINK, "earliest")
    assert (position.acked, position.bookmark) == (20, {"taken": 24})


async def test_a_replay_beyond_the_journal_ends(bench: Bench) -> None:
    """Goal: a stretch whose records are not there (any more) does not stay for ever. Method: numbers beyond the newest."""
    await bench.fill(4)
    async with bench.running():
        ask_for_replay(bench, 2, 4000)
        while await bench.journal.replays(SINK) or len(bench.sink.taken) < 6:
            await asyncio.sleep(0.005)
    assert sorted(bench.sink.taken) == sorted(bench.lines(0, 1, 2, 3, 2, 3))


# --- giving up ---------------------------------------------------------------------------------------------------------


async def test_once_gives_up_after_so_many_failures(bench: Bench) -> None:
    """Goal: a CronJob ends though a sink is down, and says why. Method: a sink that is always down."""
    bench.sink.script = repeat(RetryableError("down"))
    await bench.fill(3)
    with pytest.raises(RetryableError, match="down"):
        await (await bench.delivery()).run()
    assert bench.sink.writes == ONCE_ATTEMPTS + 1


async def test_once_reports_the_fuse(bench: Bench) -> None:
    """Goal: a sink that refuses everything is named, with its words and the mend. Method: 400 to all, more records than the fuse has."""
    bench.sink.script = repeat(PermanentError("400: no such index"))
    await bench.fill(FUSE + 5)
    with pytest.raises(
        ConfigError, match=rf"sink hook: {FUSE} records in a row refused \(400: no such index\); mend the sink"
    ):
        await (await bench.delivery()).run()
    assert len(bench.letters()) == FUSE


async def test_a_held_sink_says_why(bench: Bench) -> None:
    """Goal: the reason stands in the status while it is held. Method: a ConfigError that stays."""
    bench.sink.script = repeat(ConfigError("401: wrong token"))
    await bench.fill(3)
    async with bench.running():
        await bench.until(lambda: bench.telemetry.status.sinks[SINK].state == "held")
        assert bench.telemetry.status.sinks[SINK].error == "401: wrong token"


# --- what is acknowledged ----------------------------------------------------------------------------------------------


async def test_only_what_was_taken_is_acknowledged(bench: Bench) -> None:
    """Goal: a crash between two halves of a batch loses nothing. Method: a batch that is refused as a whole, its first half taken, the sink down at
    the second; the ack in the journal."""
    bench.sink.script = chain([PermanentError("400"), None], repeat(RetryableError("503: busy")))
    await bench.fill(8)
    async with bench.running():
        await bench.until(lambda: bench.telemetry.status.sinks[SINK].state == "failing")
        assert bench.telemetry.status.sinks[SINK].error == "503: busy"
    assert bench.sink.taken == bench.lines(0, 1, 2, 3)
    assert (await bench.journal.position(SINK, "earliest")).acked == 4
    assert bench.telemetry.status.sinks[SINK].acked == 4


async def test_the_fuse_counts_anew_after_a_record_that_was_taken(bench: Bench) -> None:
    """Goal: only a row of refusals holds a sink. Method: one record taken, all others refused."""
    good = line(0)
    bench.sink.refuses = lambda b: None if [m.body for m in b.messages] == [good] else PermanentError("400")
    await bench.fill(FUSE + 5)
    async with bench.running():
        await bench.until(lambda: bench.telemetry.status.sinks[SINK].state == "held")
    assert bench.letters() == [f"e{n}" for n in range(1, FUSE + 1)]


async def test_a_sink_sees_what_redaction_leaves_and_a_letter_keeps_the_whole(bench: Bench) -> None:
    """Goal: nothing that was redacted leaves, and what is delivered again later is redacted by the rules of then. Method: a redaction that leaves the
    number alone; one record refused."""

    def redact(record: Record) -> Record:
        return Record(record.seq, b'{"seq":%d}' % record.seq)

    bench.sink.refuses = lambda b: PermanentError("no") if any(m.body == b'{"seq":2}' for m in b.messages) else None
    await bench.fill(3)
    await (await bench.delivery(redact=redact)).run()
    assert bench.sink.taken == [b'{"seq":1}', b'{"seq":3}']
    with open_operator(bench.folder) as operator:
        assert [letter.line for letter in operator.dead_letters(None)] == [line(1)]


async def test_a_sink_that_asks_for_time_gets_it(bench: Bench) -> None:
    """Goal: Retry-After is honoured. Method: an answer that asks for ten minutes; the wait that is told, and a stop that does not wait for it."""
    bench.sink.script = repeat(RetryableError("429", retry_after=600))
    await bench.fill(3)
    with capture_logs() as logs:
        async with bench.running():
            await bench.until(lambda: bench.telemetry.status.sinks[SINK].state == "failing")
    assert bench.sink.writes == 1
    assert [one["wait_s"] for one in logs if "wait_s" in one] == [600]


async def test_a_long_encoding_lets_others_work(bench: Bench) -> None:
    """Goal: a batch of thousands of records in a slow format stands still for nobody. Method: eight records of 5 ms each; whoever else is on
    the loop has a turn after each of them, where one batch at once would give none."""
    await bench.fill(8)
    delivery = await bench.delivery()
    took: list[int] = []
    turns = 0

    class Slow(EnvelopeFormat):
        def encode(self, record: Record, /) -> bytes:
            time.sleep(0.005)
            took.append(turns)
            return super().encode(record)

    delivery.format = Slow()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await delivery.run()
    beside.cancel()
    assert len(took) == 8
    assert sorted(set(took)) == took, "a turn between any two"


@pytest.mark.parametrize("looks_inside", [True, False])
async def test_what_was_decoded_is_let_go_where_nobody_asks_for_it(bench: Bench, looks_inside: bool) -> None:
    """Goal: a batch of thousands is not held as objects beside its bytes. Method: a filter that decodes each record, half of which it takes, and what is
    left of them; the sink gets the same bytes either way, and what it asks for all the same."""
    await bench.fill(8)
    delivery = await bench.delivery(where=lambda envelope: int(envelope.id[1:]) % 2 == 0)
    delivery.looks_inside = looks_inside
    records = await bench.journal.read(Seq(0), 8, 1 << 20)
    messages = await delivery._encode(records, replayed=False)
    assert [message.body for message in messages] == bench.lines(0, 2, 4, 6)
    assert {record._envelope is not None for record in records} == {looks_inside}
    assert [message.record.envelope.id for message in messages] == ["e0", "e2", "e4", "e6"]
