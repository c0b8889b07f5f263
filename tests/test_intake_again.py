"""What intake walks again: overlap, rechecks, and what they find late."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from streamer.errors import RetryableError
from streamer.intake import ONCE_TRIES
from streamer.journal.sqlite import open_journal
from streamer.model import Entry, Event, Listing, Progress, Seq, SourceName, Window
from streamer.ports import Narrow
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.intake_world import NOW, World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_journal(tmp_path, 1 << 30) as journal:
        yield World(journal)


async def test_what_is_not_rechecked_any_more_leaves_no_mark(world: World) -> None:
    """Goal: ids are not held for a recheck that was taken out of the configuration; method: three marks, and a configuration with one recheck."""
    marks = (int(NOW) - 5, int(NOW) - 86_400, int(NOW) - 86_400)
    await world.journal.append(world.source.name, "organization", [], Progress(int(NOW) - 10, marks, int(NOW) - 86_400))
    await world.intake(recheck=[{"every": "1h", "window": "6h"}]).run()
    progress = await world.journal.progress(world.source.name, "organization")
    assert progress is not None
    assert progress.rechecked == marks[:1]


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


async def test_once_leaves_what_cannot_be_walked_again_to_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: `run --once` ends, with all that is new, though an old window answers 500 for ever. Method: walks of what is older than a day fail; then a run in
    which they do not."""
    begin, walk = int(NOW) - 3 * 86_400, world.source.walk
    await world.journal.append(
        world.source.name, "organization", [], Progress(int(NOW) - 100, (int(NOW) - 86_400,), begin)
    )
    world.source.make(0, int(NOW) - 86_400)
    world.source.make(1, int(NOW) - 5)
    asked = 0

    async def broken(listing: Listing, window: Window, limit: int, narrow: Narrow | None = None, /) -> list[Event]:
        nonlocal asked
        if window.start < int(NOW) - 80_000:
            asked += 1
            raise RetryableError("500 for what is old")
        return await walk(listing, window, limit, narrow)

    recheck = [{"every": "1h", "window": "2d"}]
    monkeypatch.setattr(world.source, "walk", broken)
    with pytest.raises(RetryableError, match="left to the next run: 500 for what is old"):
        await world.intake(recheck=recheck).run()
    assert ONCE_TRIES <= asked <= 8 * ONCE_TRIES
    assert await world.ids() == ["e1"]
    progress = await world.journal.progress(world.source.name, "organization")
    assert progress is not None
    assert progress.rechecked == (int(NOW) - 86_400,)
    monkeypatch.undo()
    await world.intake(recheck=recheck).run()
    assert await world.ids() == ["e1", "e0"]


async def test_once_forgets_what_it_could_walk_again_after_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: nothing is called left that was done; method: a run that is behind, whose recheck before the catch-up fails for good and whose recheck after it does not."""
    begin, walk, caught_up = int(NOW) - 5 * 86_400, world.source.walk, False
    await world.journal.append(
        world.source.name, "organization", [], Progress(int(NOW) - 7200, (int(NOW) - 86_400,), begin)
    )
    world.source.make(0, int(NOW) - 86_400)
    world.source.make(1, int(NOW) - 5)

    async def broken(listing: Listing, window: Window, limit: int, narrow: Narrow | None = None, /) -> list[Event]:
        nonlocal caught_up
        if window.end is None:
            await world.until(lambda: world.row.recheck_error is not None)
            # Until it has given up.
            await world.until(lambda: all(task.get_name() != "again" for task in asyncio.all_tasks()))
            caught_up = True
        elif window.start < int(NOW) - 80_000 and not caught_up:
            raise RetryableError("500 for what is old")
        return await walk(listing, window, limit, narrow)

    monkeypatch.setattr(world.source, "walk", broken)
    await world.intake(recheck=[{"every": "1h", "window": "2d"}]).run()
    assert sorted(await world.ids()) == ["e0", "e1"]
