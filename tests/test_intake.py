"""The intake loop with a real journal and a listing in memory whose time the test moves."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from streamer.admin.server import unready
from streamer.catalog import TYPES
from streamer.errors import ConfigError, RetryableError, verdicts
from streamer.journal.sqlite import open_journal
from streamer.model import Entry, Event, EventId, Listing, Progress, Seq, SourceName, Window, decode_envelope
from streamer.ports import Narrow
from streamer.stop import Stop
from streamer.telemetry.telemetry import MAX_UNKNOWN_TYPE_LABELS
from tests.fakes import FakeSource
from tests.intake_world import NOW, World
from tests.records import noise


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


async def test_what_comes_is_taken_once_however_often_the_overlap_is_read(world: World) -> None:
    """Goal: no repeats; method: many polls over the same events, equal times among them."""
    async with world.running(start="now"):
        for n in range(50):
            world.source.make(n, int(NOW) + n // 5)
            world.now = max(world.now, NOW + n // 5 + 0.5)
            await world.until(lambda n=n: world.journal.head == n + 1)  # type: ignore[misc]  # mypy infers no default
    assert await world.ids() == [f"e{n}" for n in range(50)]
    assert len(world.source.walks) >= 50


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
