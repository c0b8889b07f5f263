"""The delivery loop with a real journal and sinks that misbehave: verdicts, halving, dead letters, the fuse, requests."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path

import msgspec
import pytest

from streamer.config import BatchOptions
from streamer.delivery import FUSE, Delivery
from streamer.errors import ConfigError, PermanentError, Repositioned, RetryableError
from streamer.formats.envelope import EnvelopeFormat
from streamer.journal.operator import open_operator
from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.model import Batch, Entry, Envelope, EventId, Progress, SinkName, SourceName, encode_envelope
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.fakes import ScriptedSink

SINK = SinkName("hook")
QUICK = 0.001


def line(number: int) -> bytes:
    now = datetime(2026, 1, 1, tzinfo=UTC)
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

    async def delivery(self, *, once: bool = True, where: Callable[[Envelope], bool] | None = None) -> Delivery:
        position = await self.journal.position(SINK, "earliest")
        return Delivery(
            name=SINK,
            kind="scripted",
            sink=self.sink,
            acked=position.acked,
            journal=self.journal,
            format=EnvelopeFormat(),
            where=where,
            redact=None,
            batch=BatchOptions(events=8, wait="0s"),
            telemetry=self.telemetry,
            stop=self.stop,
            caught_up=(lambda: True) if once else None,
            hold_s=QUICK,
        )

    def letters(self) -> list[str]:
        with open_operator(self.folder) as operator:
            return [d.id for d in operator.dead_letters(None)]

    def lines(self, *numbers: int) -> list[bytes]:
        return [line(n) for n in numbers]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Delivery]:
        """As a daemon, until the body is done."""
        delivery = await self.delivery(once=False)
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
