"""Several walks at once, consumed in time order: the part of intake that has concurrency."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from streamer import windows
from streamer.intake import WAITING_WINDOWS, Allowance, Prepared, RangeWalk
from streamer.model import Entry, Event, EventId, Window
from streamer.ports import WindowTooLarge
from streamer.stop import Stop


def event(at: int, number: int) -> Event:
    return Event(b"{}", EventId(f"{at}-{number}"), "login.succeeded", at)


class World:
    """Events by second, and a walk over them that takes a random number of turns of the loop."""

    def __init__(self, seed: int, density: Sequence[tuple[int, int]]) -> None:
        self.random = random.Random(seed)
        self.events = [event(at, n) for at, count in density for n in range(count)]
        self.walking = self.most_walking = 0
        self.buffered_peak = 0
        self.consumed: list[str] = []
        self.windows: list[Window] = []

    async def walk(self, window: Window) -> list[Event] | WindowTooLarge | None:
        assert window.end is not None
        self.walking += 1
        self.most_walking = max(self.most_walking, self.walking)
        for _ in range(self.random.randrange(30)):
            await asyncio.sleep(0)
        self.walking -= 1
        found = [e for e in self.events if window.start <= e.effective_at < window.end]
        if len(found) > windows.MAX_SLICE_EVENTS and window.end - window.start > 1:
            return WindowTooLarge(len(found))
        return found

    async def store(self, window: Window, prepared: Prepared | None) -> None:
        assert prepared is not None
        self.windows.append(window)
        self.consumed += [e.id for e in prepared.entries]
        await asyncio.sleep(0)


async def prepare(events: Sequence[Event]) -> Prepared:
    ordered = sorted(events, key=lambda e: e.effective_at)
    return Prepared([e.effective_at for e in ordered], [Entry(e.id, e.effective_at, b"{}") for e in ordered])


async def nothing(_: Window) -> list[Event]:
    await asyncio.sleep(0)
    return []


@pytest.mark.parametrize("seed", range(12))
async def test_all_is_consumed_once_and_in_order(seed: int) -> None:
    """Whatever order walks end in; method: random delays, bursts that have to be split, 1 to 8 walkers."""
    chance = random.Random(seed)
    density = sorted({chance.randrange(50_000): chance.choice([1, 5, 400, 6000, 12_000]) for _ in range(25)}.items())
    world = World(seed, density)
    allowance = Allowance(chance.randint(1, 8))
    whole = Window(0, 50_000)
    walk = RangeWalk(whole, allowance, walk=world.walk, prepare=prepare, store=world.store, stop=Stop())
    assert await walk.run() is True
    assert allowance.events == 0
    assert world.consumed == [e.id for e in world.events]
    assert [w.start for w in world.windows] == [0, *(w.end for w in world.windows[:-1])]


LONG = Window(0, 10**9)


async def test_walkers_really_work_at_once_but_not_too_far_ahead() -> None:
    """Goal: concurrency that is bounded; method: a first window that does not end until the others wait for it."""
    release = asyncio.Event()
    started: list[int] = []

    async def walk(window: Window) -> list[Event]:
        started.append(window.start)
        if window.start == 0:
            await release.wait()
        return [event(window.start, n) for n in range(windows.SLICE_EVENTS)]

    async def store(_: Window, __: Prepared | None) -> None:
        if started[-1] > 10_000_000:
            stop.set()

    stop = Stop()
    walking = RangeWalk(LONG, Allowance(4), walk=walk, prepare=prepare, store=store, stop=stop)
    task = asyncio.create_task(walking.run())
    most = 4 + WAITING_WINDOWS
    while len(started) < most:
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(started) == most, "one window for each of four walkers and those that wait"
    release.set()
    assert await task is False


async def test_walkers_wait_for_a_slow_journal() -> None:
    """Goal: memory stays bounded while nothing can be stored; method: a store that takes for ever."""
    release = asyncio.Event()
    started: list[int] = []
    stop = Stop()

    async def walk(window: Window) -> list[Event]:
        started.append(window.start)
        return [event(window.start, n) for n in range(windows.SLICE_EVENTS)]

    async def store(_: Window, __: Prepared | None) -> None:
        await release.wait()
        stop.set()

    walking = RangeWalk(LONG, Allowance(4), walk=walk, prepare=prepare, store=store, stop=stop)
    task = asyncio.create_task(walking.run())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(started) == 4 + WAITING_WINDOWS, "the allowance, what is prepared and stored included"
    release.set()
    assert await task is False


async def test_a_listing_goes_on_while_another_uses_up_the_allowance() -> None:
    """The window that is next is always given out; method: an allowance that is used up, a whole range to walk."""
    allowance = Allowance(2)
    allowance.events = allowance.limit
    stored: list[Window] = []

    async def store(window: Window, _: Prepared | None) -> None:
        stored.append(window)

    walking = RangeWalk(Window(0, 10**6), allowance, walk=nothing, prepare=prepare, store=store, stop=Stop())
    assert await walking.run() is True
    assert stored[-1].end == 10**6


async def test_stop_ends_it_and_says_so() -> None:
    """A stop leaves between windows; method: stop while the third is stored."""
    stop, seen = Stop(), 0

    async def store(_: Window, __: Prepared | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            stop.set()

    walking = RangeWalk(LONG, Allowance(3), walk=nothing, prepare=prepare, store=store, stop=stop)
    assert await walking.run() is False
    assert 3 <= seen <= 5
