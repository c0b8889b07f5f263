"""Where intake begins and how far it is, whatever the clocks say."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamer.errors import ConfigError, RetryableError
from streamer.journal.sqlite import open_journal
from streamer.model import Listing, Progress
from streamer.stop import Stop
from tests.fakes import FakeSource
from tests.intake_world import NOW, World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_journal(tmp_path, 1 << 30) as journal:
        yield World(journal)


async def test_beginning_means_the_oldest_visible_event(world: World) -> None:
    """Goal: nothing is left out at the far end; method: one event ten years ago."""
    world.source.make(1, int(NOW) - 10 * 365 * 86_400)
    world.source.make(2, int(NOW) - 5)
    await world.intake(start="beginning").run()
    assert await world.ids() == ["e1", "e2"]
    assert len(world.source.walks) < 160


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
