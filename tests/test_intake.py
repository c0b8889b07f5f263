"""The intake loop with a real journal and a listing in memory whose time the test moves."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamer.admin.server import unready
from streamer.catalog import TYPES
from streamer.config import SourceOptions
from streamer.errors import ConfigError, RetryableError, verdicts
from streamer.intake import Intake
from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.model import Entry, Event, EventId, Listing, Progress, Seq, SourceName, Window, decode_envelope
from streamer.ports import Narrow
from streamer.range_walk import Allowance
from streamer.stop import Stop
from streamer.telemetry import ListingStatus, Telemetry
from streamer.telemetry.telemetry import MAX_UNKNOWN_TYPE_LABELS
from tests.fakes import FakeSource
from tests.records import noise

NOW = 1_750_000_000.0


class World:
    """One listing, its intake, and the clock of both."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.journal, self.now = journal, NOW
        self.source = FakeSource(clock=lambda: self.now)
        self.telemetry = Telemetry(clock=lambda: self.now)
        self.stop = Stop()

    def intake(self, *, once: bool = True, **options: object) -> Intake:
        given = {"start": "1d", "poll_interval": "1ms", **options}
        return Intake(
            source=self.source,
            listing="organization",
            options=SourceOptions.model_validate(given),
            journal=self.journal,
            enrichers=[],
            telemetry=self.telemetry,
            stop=self.stop,
            allowance=Allowance(8),
            once=once,
            max_wait_s=0.001,
        )

    @property
    def row(self) -> ListingStatus:
        return self.telemetry.status.listings[("acme", "organization")]

    async def ids(self) -> list[str]:
        return [r.envelope.id for r in await self.journal.read(Seq(0), 100_000, 1 << 30)]

    @asynccontextmanager
    async def running(self, **options: object) -> AsyncIterator[None]:
        task = asyncio.create_task(self.intake(once=False, **options).run())
        try:
            yield
        finally:
            self.stop.set()
            await task

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_journal(tmp_path, 1 << 30) as journal:
        yield World(journal)


async def test_a_first_start_takes_everything_since_start_in_time_order(world: World) -> None:
    """Goal: history first, oldest first; method: a day of events in reverse, and one that is older."""
    world.source.make(-1, int(NOW) - 86_500)
    for n in reversed(range(2000)):
        world.source.make(n, int(NOW) - 86_000 + 43 * n)
    await world.intake().run()
    assert await world.ids() == [f"e{n}" for n in range(2000)]
    assert int(NOW) - 1 <= world.row.watermark <= int(NOW)
    assert world.row.received == 2000


async def test_beginning_means_the_oldest_visible_event(world: World) -> None:
    """Goal: nothing is left out at the far end; method: one event ten years ago."""
    world.source.make(1, int(NOW) - 10 * 365 * 86_400)
    world.source.make(2, int(NOW) - 5)
    await world.intake(start="beginning").run()
    assert await world.ids() == ["e1", "e2"]
    assert len(world.source.walks) < 160


async def test_what_is_not_rechecked_any_more_leaves_no_mark(world: World) -> None:
    """Goal: ids are not held for a recheck that was taken out of the configuration; method: three marks, and a configuration with one recheck."""
    marks = (int(NOW) - 5, int(NOW) - 86_400, int(NOW) - 86_400)
    await world.journal.append(world.source.name, "organization", [], Progress(int(NOW) - 10, marks, int(NOW) - 86_400))
    await world.intake(recheck=[{"every": "1h", "window": "6h"}]).run()
    progress = await world.journal.progress(world.source.name, "organization")
    assert progress is not None
    assert progress.rechecked == marks[:1]


class Impatient(Stop):
    """Notes what it is asked to wait for, and ends after the third time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> bool:
        self.waits.append(seconds)
        if len(self.waits) == 3:
            self.set()
        return self.is_set()


async def test_many_listings_are_not_polled_in_the_same_moment(world: World) -> None:
    """Goal: a hundred organizations that start together do not ask in bursts for ever; method: how long each of many waits after its
    first poll, which is anything within the interval, and after later ones, which is the interval."""
    first = []
    for _ in range(60):
        stop = world.stop = Impatient()
        await world.intake(once=False, poll_interval="10s").run()
        first.append(stop.waits[0])
        assert stop.waits[1:] == [10, 10]
    assert 0 <= min(first) < 2
    assert 8 < max(first) <= 10


@pytest.mark.parametrize(("start", "taken"), [("now", [6, 7]), ("5m", [3, 4, 5, 6, 7]), ("1h", [2, 3, 4, 5, 6, 7])])
async def test_start_leaves_what_lies_before_it_alone(world: World, start: str, taken: list[int]) -> None:
    """Goal: neither the overlap nor a recheck delivers what is older than `start`, also after a restart. Method: events a day, some
    minutes and a second before now and one that comes, a window that reaches two days back, and a second life."""
    for number, age_s in enumerate((90_000, 4000, 3000, 300, 200, 1)):
        world.source.make(number, int(NOW) - age_s)
    for life in (6, 7):
        async with world.running(start=start, recheck=[{"every": "2m", "window": "48h"}]):
            await world.until(lambda: world.row.state == "live")
            world.now += 130
            world.source.make(life, int(world.now) - 1)
            await world.until(lambda: "2d" in world.row.rechecks and world.row.rechecks["2d"].at >= world.now)
        world.stop = Stop()
    assert await world.ids() == [f"e{n}" for n in taken]


async def test_what_comes_is_taken_once_however_often_the_overlap_is_read(world: World) -> None:
    """Goal: no repeats; method: many polls over the same events, equal times among them."""
    async with world.running(start="now"):
        for n in range(50):
            world.source.make(n, int(NOW) + n // 5)
            world.now = max(world.now, NOW + n // 5 + 0.5)
            await world.until(lambda n=n: world.journal.head == n + 1)  # type: ignore[misc]  # mypy infers no default
    assert await world.ids() == [f"e{n}" for n in range(50)]
    assert len(world.source.walks) >= 50


async def test_an_event_ahead_of_our_clock_is_taken(world: World) -> None:
    """The live window has no end; method: an event from tomorrow, then today's."""
    world.source.make(1, int(NOW) + 86_400, visible=NOW)
    async with world.running(start="now"):
        await world.until(lambda: world.journal.head == 1)
        world.source.make(2, int(NOW) + 3)
        world.now += 5
        await world.until(lambda: world.journal.head == 2)
    assert await world.ids() == ["e1", "e2"]


async def test_a_server_clock_that_is_ahead_leaves_no_event_out(world: World) -> None:
    """A wrong `Date` must not move the watermark past what is still to come; method: upstream's clock an hour ahead, no rechecks."""
    world.source.clock = lambda: world.now + 3600
    async with world.running(start="now", recheck=[]):
        for n in range(3):
            await world.until(lambda: world.row.state == "live")
            world.now += 400
            world.source.make(n, int(world.now))
            await world.until(lambda n=n: world.journal.head == n + 1)  # type: ignore[misc]  # mypy infers no default
    assert await world.ids() == ["e0", "e1", "e2"]


async def test_with_our_clock_behind_the_newest_event_says_how_far_we_are(world: World) -> None:
    """Goal: a wrong clock of ours does not read an hour again at every poll; method: an hour behind, one event of now."""
    world.telemetry.clock = lambda: world.now - 3600
    world.source.make(1, int(NOW))
    async with world.running(start="2h", overlap="1m"):
        await world.until(lambda: any(walk.start >= int(NOW) - 61 for walk in world.source.walks))
    assert await world.ids() == ["e1"]


class Asked(FakeSource):
    """Upstream's clock is known, and may be another than ours, when somebody has looked; that takes until `answered`."""

    def __init__(self, world: World, ahead_s: float = 0.0) -> None:
        super().__init__(clock=lambda: world.now)
        self.ours, self.known, self.answered = lambda: world.now + ahead_s, False, asyncio.Event()

    async def look(self, listing: Listing, /) -> str:
        await self.answered.wait()
        self.known = True
        return await super().look(listing)

    def now(self) -> float:
        return self.clock() if self.known else self.ours()


async def test_history_is_walked_while_the_clock_is_asked_for_but_nothing_stored(world: World) -> None:
    """Goal: a catch-up does not begin with a round trip for nothing; method: a look that takes until all walkers are at work, and the journal at that moment."""
    source = world.source = Asked(world)
    for n in range(3000):
        source.make(n, int(NOW) - 86_000 + 28 * n)
    task = asyncio.create_task(world.intake().run())
    await world.until(lambda: len(source.walks) >= 8)
    for _ in range(100):
        await asyncio.sleep(0)
    assert world.journal.head == 0
    assert await world.journal.progress(source.name, "organization") is None
    walked = len(source.walks)
    source.answered.set()
    await task
    assert await world.ids() == [f"e{n}" for n in range(3000)]
    assert len(set(source.walks[:walked])) == walked, "nothing is walked twice"
    assert not set(source.walks[:walked]) & set(source.walks[walked:])


@pytest.mark.parametrize("ahead_s", [3600.0, 400 * 86_400.0])
@pytest.mark.parametrize("restarted", [False, True])
async def test_what_was_planned_by_a_clock_that_is_ahead_is_planned_anew(
    world: World, ahead_s: float, restarted: bool
) -> None:
    """Goal: our clock decides nothing before upstream's is known; method: an hour and a year ahead, a first start and a restart, walks before the answer; and an
    event that comes after."""
    source = world.source = Asked(world, ahead_s)
    world.telemetry.clock = source.ours
    for n in range(1000):
        source.make(n, int(NOW) - 86_000 + 86 * n)
    begin = int(NOW) - 86_400
    if restarted:
        await world.journal.append(source.name, "organization", [], Progress(begin, (), begin))
    task = asyncio.create_task(world.intake(start="1d", recheck=[]).run())
    await world.until(lambda: len(source.walks) > 0)
    source.answered.set()
    await task
    assert await world.ids() == [f"e{n}" for n in range(1000)]
    progress = await world.journal.progress(source.name, "organization")
    assert progress is not None
    assert progress.begin == begin
    assert progress.watermark <= NOW
    world.now += 30
    source.make(1000, int(NOW) + 1)
    await world.intake(recheck=[]).run()
    assert (await world.ids())[-1] == "e1000"


async def test_one_request_tells_of_trouble_while_the_clock_is_asked_for(world: World) -> None:
    """Goal: a wrong key is said once a listing and not by every walker, and costs no more; method: walks that are refused until somebody has looked, and the row
    until then."""
    source = world.source = Asked(world)
    for n in range(1000):
        source.make(n, int(NOW) - 86_000 + 86 * n)
    source.trouble = iter(lambda: None if source.known else ConfigError("401"), "never")  # type: ignore[arg-type]  # iter with a sentinel
    async with world.running():
        await world.until(lambda: len(source.walks) >= 8)
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert len(source.walks) == 8
        assert world.row.state == "catching up"
        assert world.row.error is None
        source.answered.set()
        await world.until(lambda: world.row.state == "live")
    assert await world.ids() == [f"e{n}" for n in range(1000)]


async def test_a_stop_before_the_clock_is_known_stores_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Method: an API that does not answer when it is asked for its clock, walks that bring events meanwhile, then a stop."""
    source = world.source = Asked(world)
    for n in range(1000):
        source.make(n, int(NOW) - 86_000 + 86 * n)

    async def never(listing: Listing, /) -> str:
        raise RetryableError("503")

    monkeypatch.setattr(source, "look", never)
    async with world.running():
        await world.until(lambda: any(walk.end is None for walk in source.walks) and world.row.error == "503")
    assert world.journal.head == 0
    assert await world.journal.progress(source.name, "organization") is None


async def test_a_watermark_in_the_future_hides_nothing(world: World) -> None:
    """A clock that was wrong before the restart; method: a stored watermark two hours ahead, no rechecks."""
    await world.journal.append(world.source.name, "organization", [], Progress(int(NOW) + 7200))
    async with world.running(recheck=[]):
        await world.until(lambda: world.row.state == "live")
        world.source.make(1, int(NOW))
        await world.until(lambda: world.journal.head == 1)
    assert await world.ids() == ["e1"]


async def test_a_late_event_inside_the_overlap_is_taken_unmarked(world: World) -> None:
    """Goal: short delays are ordinary; method: visible 100 s after its time, overlap 5 min."""
    world.source.make(1, int(NOW) - 50, visible=NOW + 50)
    async with world.running():
        await world.until(lambda: world.row.state == "live")
        world.now += 60
        await world.until(lambda: world.journal.head == 1)
    (record,) = await world.journal.read(Seq(0), 1, 1)
    assert record.envelope.late is False


async def test_a_later_event_is_found_by_a_recheck_and_marked(world: World) -> None:
    """Goal: what the overlap misses is not lost; method: visible an hour late, a recheck every 15 min."""
    world.source.make(1, int(NOW) - 10, visible=NOW + 3600)
    async with world.running(overlap="30s"):
        await world.until(lambda: world.row.state == "live")
        for _ in range(5):
            walked = len(world.source.walks)
            world.now += 901
            await world.until(lambda walked=walked: len(world.source.walks) > walked + 2)  # type: ignore[misc]  # as above
        await world.until(lambda: world.journal.head == 1)
    (record,) = await world.journal.read(Seq(0), 1, 1)
    assert record.envelope.late is True
    assert world.row.late == 1


async def test_after_an_outage_what_was_owed_before_is_found_and_the_rest_is_walked_once(world: World) -> None:
    """Goal: a catch-up owes no recheck what it walks itself, and passes over nothing; method: a week away, an event that showed up late just
    before it, and one in the middle."""
    away = int(NOW) - 7 * 86_400
    await world.journal.append(world.source.name, "organization", [], Progress(away, (away,), 0))
    world.source.make(1, away - 3600, visible=away + 60)
    world.source.make(2, away + 3 * 86_400)
    async with world.running(recheck=[{"every": "15m", "window": "2h"}]):
        await world.until(lambda: world.row.state == "live" and "2h" in world.row.rechecks)
    assert sorted(await world.ids()) == ["e1", "e2"]
    assert world.row.late == 1
    middle = away + 3 * 86_400
    assert len([w for w in world.source.walks if w.start <= middle < (w.end or NOW)]) == 1


async def test_a_failed_walk_leaves_no_trace_and_is_done_again(world: World) -> None:
    """Goal: a page that fails loses nothing; method: trouble at random walks of a catch-up."""
    for n in range(500):
        world.source.make(n, int(NOW) - 86_000 + 170 * n)
    world.source.trouble = iter([None, RetryableError("500"), None, RetryableError("cut"), RetryableError("cut")])
    await world.intake().run()
    assert await world.ids() == [f"e{n}" for n in range(500)]


async def test_a_poll_of_many_pages_gets_through_where_pages_often_fail(world: World) -> None:
    """Goal: one page in five fails, so that 50 in a row hardly ever succeed, and a poll of 5,000 events succeeds all the same; method: a
    listing that fails by dice, and the walks counted."""
    dice = random.Random(5)

    class Shaky(FakeSource):
        async def walk(
            self, listing: Listing, window: Window, limit: int, narrow: Narrow | None = None, /
        ) -> list[Event]:
            found = await super().walk(listing, window, limit, narrow)
            if any(dice.random() < 0.2 for _ in range(0, len(found), 100)):
                raise RetryableError("HTTP 502")
            return found

    world.source = Shaky(clock=lambda: world.now)
    for n in range(5000):
        world.source.make(n, int(NOW) - 250 + n // 20)
    await world.intake(start="4m").run()
    assert sorted(await world.ids()) == sorted(f"e{n}" for n in range(200, 5000))
    assert len(world.source.walks) < 150


async def test_a_held_listing_says_why_and_recovers(world: World) -> None:
    """A 403 waits for an operator; method: two refusals, a row that says so, then it goes on."""
    world.source.make(1, int(NOW) - 5)
    states: list[tuple[str, str | None]] = []
    refusals = [ConfigError("missing scope api.audit_logs.read"), ConfigError("missing scope api.audit_logs.read")]

    def trouble() -> Exception | None:
        states.append((world.row.state, world.row.error))
        return refusals.pop() if refusals else None

    world.source.trouble = iter(trouble, "never")  # type: ignore[arg-type]  # iter with a sentinel
    async with world.running(start="1m"):
        await world.until(lambda: world.row.state == "live")
    assert ("held", "missing scope api.audit_logs.read") in states
    assert await world.ids() == ["e1"]


async def test_once_raises_what_an_operator_has_to_mend(world: World) -> None:
    """Goal: `--once` does not wait for ever; method: a 401."""
    world.source.trouble = iter([ConfigError("401")] * 3)
    with pytest.raises(ExceptionGroup) as caught:
        await world.intake(start="1m").run()
    assert [str(verdict) for verdict in verdicts(caught.value)] == ["401"]


def unverified(world: World) -> float | None:
    labels = {"source": world.row.source, "listing": world.row.listing}
    return world.telemetry.registry.get_sample_value("streamer_source_unverified", labels)


async def test_an_empty_first_poll_is_unverified_until_an_event_comes(world: World) -> None:
    """Silence may mean that logging is off; method: nothing, then one event."""
    async with world.running():
        await world.until(lambda: world.row.state == "live")
        assert world.row.unverified is True
        assert unverified(world) == 1
        world.source.make(1, int(NOW))
        await world.until(lambda: world.journal.head == 1)
    assert world.row.unverified is False
    assert unverified(world) == 0


async def test_a_restart_goes_on_at_the_watermark(world: World) -> None:
    """Goal: an outage is caught up, whatever its length; method: stop, three days of events, start."""
    world.source.make(1, int(NOW) - 100)
    await world.intake().run()
    world.now += 3 * 86_400
    for n in range(2, 1000):
        world.source.make(n, int(NOW) + 250 * n)
    await world.intake(start="now").run()
    assert await world.ids() == [f"e{n}" for n in range(1, 1000)]


async def test_a_dense_second_is_taken_whole(world: World) -> None:
    """A window of one second cannot be split; method: 12,000 events in one second, more than a window may hold."""
    for n in range(12_000):
        world.source.make(n, int(NOW) - 1000)
    await world.intake().run()
    assert len(set(await world.ids())) == 12_000


async def test_the_poll_after_a_catch_up_does_not_wait_until_all_is_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: the network works while the disk does, and nothing that comes meanwhile is passed over. Method: a journal that stores history only when the poll
    was asked for, events before and while, and one that becomes visible after the poll; then a second poll."""
    for n in range(3000):
        world.source.make(n, int(NOW) - 86_000 + 28 * n)
    world.source.make(3000, int(NOW) - 2)
    append, polled = world.journal.append, asyncio.Event()

    async def when_polled(source: SourceName, listing: Listing, entries: Sequence[Entry], progress: Progress, /) -> int:
        if entries and not polled.is_set():
            await world.until(lambda: any(window.end is None for window in world.source.walks))
            world.now += 30
            world.source.make(3001, int(NOW) - 1)
            polled.set()
        return await append(source, listing, entries, progress)

    monkeypatch.setattr(world.journal, "append", when_polled)
    async with world.running():
        await world.until(lambda: world.row.state == "live" and world.journal.head == 3002)
    assert polled.is_set()
    assert await world.ids() == [f"e{n}" for n in range(3002)]


async def test_a_poll_that_waited_long_is_followed_by_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: `run --once` has everything up to its end, however long the last of a catch-up took; method: a journal that takes half a minute to store it after
    the poll was asked for, and an event of that time."""
    for n in range(3000):
        world.source.make(n, int(NOW) - 86_000 + 28 * n)
    append = world.journal.append

    async def slow(source: SourceName, listing: Listing, entries: Sequence[Entry], progress: Progress, /) -> int:
        if entries and world.now == NOW:
            await world.until(lambda: any(window.end is None for window in world.source.walks))
            world.now += 30
            world.source.make(3000, int(NOW) + 20)
        return await append(source, listing, entries, progress)

    monkeypatch.setattr(world.journal, "append", slow)
    await world.intake(poll_interval="10s").run()
    assert await world.ids() == [f"e{n}" for n in range(3001)]


async def test_a_stop_while_the_last_is_stored_leaves_a_watermark_that_is_true(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: what the poll found is not taken for stored; method: a stop at the first append after the poll was asked for, and a second life."""
    for n in range(3000):
        world.source.make(n, int(NOW) - 86_000 + 28 * n)
    append = world.journal.append

    async def stopping(source: SourceName, listing: Listing, entries: Sequence[Entry], progress: Progress, /) -> int:
        if entries:
            await world.until(lambda: any(window.end is None for window in world.source.walks))
            world.stop.set()
        return await append(source, listing, entries, progress)

    monkeypatch.setattr(world.journal, "append", stopping)
    await world.intake(once=False).run()
    stored = await world.ids()
    assert 0 < len(stored) < 3000
    progress = await world.journal.progress(world.source.name, "organization")
    assert progress is not None
    assert progress.watermark <= int(NOW) - 86_000 + 28 * len(stored)
    monkeypatch.undo()
    world.stop = Stop()
    await world.intake().run()
    assert await world.ids() == [f"e{n}" for n in range(3000)]


async def test_a_full_journal_makes_intake_wait_and_go_on(tmp_path: Path) -> None:
    """Goal: full is waiting, not losing; method: a filled 2 MiB journal, pruned while intake waits."""
    async with open_journal(tmp_path, 2 << 20) as journal:
        world = World(journal)
        filler = [Entry(EventId(f"f{n}"), n, noise(n)) for n in range(1100)]
        await journal.append(SourceName("filler"), "organization", filler, Progress(0))
        for n in range(500):
            world.source.make(n, int(NOW) - 3000 + n)
        async with world.running():
            await world.until(lambda: world.telemetry.status.journal.full)
            assert world.row.state == "failing"
            journal._clock = lambda: NOW * 2
            await journal.position("s", "latest")  # type: ignore[arg-type]  # a name
            while await journal.prune(["s"], 0, 1e12):  # type: ignore[list-item]  # a name
                pass
            await world.until(lambda: journal.head == 1600)
        assert world.telemetry.status.journal.full is False


async def test_envelopes_carry_what_was_served(world: World) -> None:
    """Goal: the journal holds upstream's bytes; method: one event, byte for byte."""
    event = world.source.make(7, int(NOW) - 7)
    await world.intake().run()
    (record,) = await world.journal.read(Seq(0), 1, 1)
    envelope = decode_envelope(record.line)
    assert bytes(envelope.event) == event.raw
    assert (envelope.id, envelope.source, envelope.listing, envelope.known) == ("e7", "acme", "organization", True)


async def test_a_recheck_says_what_was_missing(world: World) -> None:
    """Goal: `nothing of the window was missing` is a number; method: a recheck that finds nothing, then one that finds two."""
    rechecks = [{"every": "1h", "window": "2h"}]

    def missing() -> float | None:
        labels = {"source": "acme", "listing": "organization", "window": "2h"}
        return world.telemetry.registry.get_sample_value("streamer_reconcile_missing", labels)

    async with world.running(start="1d", recheck=rechecks):
        await world.until(lambda: world.row.state == "live")
        assert missing() is None
        world.now += 3601
        await world.until(lambda: missing() == 0 and world.row.watermark > world.now - 60)
        for n in range(2):
            world.source.make(n, int(NOW), visible=world.now + 1)
        world.now += 3601
        await world.until(lambda: missing() == 2)
    assert world.row.rechecks["2h"].missing == 2
    assert sorted(await world.ids()) == ["e0", "e1"]


async def test_when_a_recheck_must_be_done_outlives_a_restart(world: World) -> None:
    """Goal: rechecks that never end are an alarm, also where the daemon is killed before each does. Method: the metric at the first start, after a recheck,
    after a restart on which every walk fails, and for a window that is configured no more."""

    def due(window: str) -> float | None:
        labels = {"source": "acme", "listing": "organization", "window": window}
        return world.telemetry.registry.get_sample_value("streamer_reconcile_due_seconds", labels)

    both = [{"every": "1h", "window": "2h"}, {"every": "6h", "window": "2d"}]
    async with world.running(start="1d", recheck=both):
        await world.until(lambda: world.row.state == "live")
        assert (due("2h"), due("2d")) == (NOW + 3600, NOW + 6 * 3600)
        world.now += 3601
        await world.until(lambda: due("2h") == NOW + 3601 + 3600)
    world.now += 86_400
    world.stop, world.telemetry = Stop(), Telemetry(clock=lambda: world.now)
    world.source.trouble = itertools.repeat(RetryableError("500"))
    async with world.running(start="1d", recheck=both):
        await world.until(lambda: world.row.state == "failing" and world.row.recheck_error == "500")
        assert (due("2h"), due("2d")) == (NOW + 3601 + 3600, NOW + 6 * 3600)
    assert world.row.recheck_error == "500", "that it was stopped is no recovery"
    world.stop, world.source.trouble = Stop(), iter(())
    async with world.running(start="1d", recheck=both[:1]):
        await world.until(lambda: world.row.state == "live")
        assert (due("2h"), due("2d")) == (int(world.now) + 3600, None)


async def test_no_event_waits_for_what_is_walked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a recheck of a large window takes minutes, and events come meanwhile; so they do where it fails. Method: every walk of an older window hangs,
    more of them than there are turns, then fails, then succeeds; polls, their progress and their state all the while."""
    gate, walk, trouble = asyncio.Event(), world.source.walk, list[RetryableError]()

    async def slow(listing: Listing, window: Window, limit: int, narrow: Narrow | None = None, /) -> list[Event]:
        if window.end is not None:
            await gate.wait()
            if trouble:
                raise trouble[0]
        return await walk(listing, window, limit, narrow)

    async with world.running(start="10d", recheck=[{"every": "15m", "window": "2d"}]):
        await world.until(lambda: world.row.state == "live")
        monkeypatch.setattr(world.source, "walk", slow)
        world.source.make(0, int(NOW) - 86_400, visible=NOW + 1)
        for n in range(1, 11):
            world.now += 100
            world.source.make(n, int(world.now))
            await world.until(lambda: world.row.watermark >= world.now - 2)
        assert await world.ids() == [f"e{n}" for n in range(1, 11)]
        assert "2d" not in world.row.rechecks
        trouble.append(RetryableError("500 for what is old"))
        gate.set()
        await world.until(lambda: world.row.recheck_error == "500 for what is old")
        assert world.row.state == "live"
        trouble.clear()
        await world.until(lambda: "2d" in world.row.rechecks and world.row.recheck_error is None)
        assert world.row.state == "live"
    assert sorted(await world.ids()) == sorted(f"e{n}" for n in range(11))
    progress = await world.journal.progress(world.source.name, "organization")
    assert progress is not None
    assert progress.watermark >= world.now - 2
    assert progress.rechecked[0] in (int(NOW) + 900, int(NOW) + 1000)


async def test_rechecks_are_done_in_a_catch_up_that_takes_hours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: what is due is not put off until all is caught up, and no alarm tells that it is overdue. Method: a restart after ten days, each append of which takes
    20 minutes; one event that came late before, and when it is found."""
    begin = int(NOW) - 10 * 86_400
    await world.journal.append(world.source.name, "organization", [], Progress(begin, (begin,), begin - 86_400))
    world.source.make(0, begin - 3600)
    for n in range(1, 20_000):
        world.source.make(n, begin + 43 * n)
    append, behind = world.journal.append, list[bool]()

    async def slow(source: SourceName, listing: Listing, entries: Sequence[Entry], progress: Progress, /) -> int:
        if len(entries) > 1:
            world.now += 1200
        behind.append(progress.watermark < NOW - 3600 and progress.rechecked[0] > NOW + 3600)
        return await append(source, listing, entries, progress)

    monkeypatch.setattr(world.journal, "append", slow)
    await world.intake(recheck=[{"every": "1h", "window": "12h"}], poll_interval="1m").run()
    assert sorted(await world.ids()) == sorted(f"e{n}" for n in range(20_000))
    assert any(behind)


async def test_what_a_poll_and_a_recheck_find_at_once_is_appended_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: walked beside one another they repeat nothing and count nothing twice. Method: a recheck that is held up when it has found that an event is new, and
    an overlap that meanwhile becomes wide enough for polls to find it, too."""
    held, gate, unknown = asyncio.Event(), asyncio.Event(), world.journal.unknown
    intake = world.intake(once=False, start="1d", recheck=[{"every": "5m", "window": "2h"}])

    async def slow(source: SourceName, events: Sequence[Event], /) -> list[Event]:
        found = await unknown(source, events)
        if found and not held.is_set():
            held.set()
            await gate.wait()
        return found

    task = asyncio.create_task(intake.run())
    await world.until(lambda: world.row.state == "live")
    monkeypatch.setattr(world.journal, "unknown", slow)
    world.source.make(0, int(NOW) - 1000, visible=NOW + 301)
    world.now += 301
    await asyncio.wait_for(held.wait(), 20)
    intake._overlap.seconds = 3600.0  # as `auto` does
    await world.until(lambda: world.row.received == 1)
    gate.set()
    await world.until(lambda: "2h" in world.row.rechecks)
    world.stop.set()
    await task
    assert await world.ids() == ["e0"]
    assert (world.row.received, world.row.late, world.row.rechecks["2h"].missing) == (1, 0, 0)


async def test_silence_is_measured_against_the_usual_rhythm(world: World) -> None:
    """Goal: how long nothing came and what is usual, after a restart too; method: an event every 40 s for 30 hours, a restart, two hours of nothing."""
    for n in range(2700):
        world.source.make(n, int(NOW) - 108_000 + 40 * n)
    await world.intake(start="2d").run()
    again = World(world.journal)
    again.source, world.now, again.now = world.source, NOW + 7200, NOW + 7200
    await again.intake().run()
    assert again.row.quiet == 7200 + 40
    assert again.row.usual_gap is not None
    assert 40 <= again.row.usual_gap < 80
    labels = {"source": "acme", "listing": "organization"}
    assert again.telemetry.registry.get_sample_value("streamer_source_quiet_seconds", labels) == 7240


async def test_a_canary_that_is_overdue_fails_readiness(world: World) -> None:
    """Goal: a broken way is noticed although every poll succeeds; method: a canary that comes once and then no more."""
    canary = {"type": "logout.succeeded", "every": "1h"}
    async with world.running(start="1d", canary=canary):
        await world.until(lambda: world.row.state == "live")
        assert unready([world.row], world.now) == []
        world.now += 3000
        world.source.make(1, int(world.now))
        await world.until(lambda: world.journal.head == 1)
        world.now += 3000
        await world.until(lambda: world.row.last_success == world.now)
        assert unready([world.row], world.now) == []
        world.now += 1000
        await world.until(lambda: world.row.last_success == world.now)
        assert unready([world.row], world.now) == [
            "acme/organization should have shown the canary logout.succeeded 400 s ago"
        ]


async def test_a_canary_belongs_to_the_listing_of_its_type(world: World) -> None:
    """Goal: the other listing is not blamed; method: a tenant type as the canary of an organization listing."""
    tenant = next(row.type for row in TYPES.values() if row.listing == "tenant")
    await world.intake(canary={"type": tenant}).run()
    assert world.row.canary is None


async def test_lateness_has_quantiles(world: World) -> None:
    """Goal: `status` says how late events appear; method: 100 events that appear after 1 to 100 s."""
    async with world.running(start="1d", overlap="5m"):
        await world.until(lambda: world.row.state == "live")
        for n in range(1, 101):
            world.source.make(n, int(NOW) - n, visible=NOW + 1)
        world.now = NOW + 1
        await world.until(lambda: world.row.lateness is not None)
    assert world.row.lateness == {"p50": 52, "p99": 101, "max": 101}


async def test_an_automatic_overlap_widens_when_a_recheck_finds_something(world: World) -> None:
    """Goal: what was missed once is caught by the poll next time; method: an event that appears 20 minutes late."""
    rechecks = [{"every": "15m", "window": "2h"}]
    async with world.running(start="1d", overlap="auto", recheck=rechecks):
        await world.until(lambda: world.row.overlap == 300)
        world.source.make(1, int(NOW) - 1200, visible=NOW + 1)
        world.now += 901
        await world.until(lambda: world.row.overlap == 600)
    assert world.row.overlap_why == "auto: doubled when a recheck found what no poll had seen"
    assert world.row.late == 1


async def test_types_that_nobody_knows_are_counted_under_a_bounded_number_of_names(world: World) -> None:
    """Goal: each is passed through and counted, and no upstream can fill a monitoring system with names; method: 300 new types, three of each."""
    for n in range(900):
        world.source.make(n, int(NOW) - 1000 + n, kind=f"moon.phase_{n % 300}")
    await world.intake().run()
    assert len(await world.ids()) == 900
    samples = [
        sample
        for metric in world.telemetry.registry.collect()
        for sample in metric.samples
        if sample.name == "streamer_unknown_types_total"
    ]
    assert sum(sample.value for sample in samples) == 900
    assert len(samples) == MAX_UNKNOWN_TYPE_LABELS + 1
    assert {sample.labels["type"]: sample.value for sample in samples}["other"] == 3 * (300 - MAX_UNKNOWN_TYPE_LABELS)
