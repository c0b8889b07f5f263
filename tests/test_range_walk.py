"""Several walks at once, consumed in time order: the part of intake that has concurrency."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from streamer import windows
from streamer.intake import RangeWalk
from streamer.model import Event, EventId, Window
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
        self.consumed: list[Event] = []
        self.windows: list[Window] = []

    async def walk(self, window: Window) -> list[Event] | WindowTooLarge | None:
        assert window.end is not None
        self.walking += 1
        self.most_walking = max(self.most_walking, self.walking)
        for _ in range(self.random.randrange(30)):
            await asyncio.sleep(0)
        self.walking -= 1
        found = [e for e in self.events if window.start <= e.effective_at < window.end]
        if len(found) > windows.MAX_WINDOW_EVENTS and window.end - window.start > 1:
            return WindowTooLarge(found[len(found) // 2].effective_at)
        return found

    async def consume(self, window: Window, events: Sequence[Event]) -> None:
        self.windows.append(window)
        self.consumed += sorted(events, key=lambda e: e.effective_at)
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(12))
async def test_all_is_consumed_once_and_in_order(seed: int) -> None:
    """Whatever order walks end in; method: random delays, bursts that have to be split, 1 to 8 walkers."""
    chance = random.Random(seed)
    density = sorted({chance.randrange(50_000): chance.choice([1, 5, 400, 6000, 12_000]) for _ in range(25)}.items())
    world = World(seed, density)
    walk = RangeWalk(0, 50_000, chance.randint(1, 8), world.walk, world.consume, Stop())
    assert await walk.run() is True
    assert [(e.effective_at, e.id) for e in world.consumed] == [(e.effective_at, e.id) for e in world.events]
    assert [w.start for w in world.windows] == [0, *(w.end for w in world.windows[:-1])]


async def test_walkers_really_work_at_once_but_not_too_far_ahead() -> None:
    """Goal: concurrency that is bounded; method: a first window that never ends until the others wait for it."""
    release = asyncio.Event()
    started: list[int] = []

    async def walk(window: Window) -> list[Event]:
        started.append(window.start)
        if window.start == 0:
            await release.wait()
        await asyncio.sleep(0)
        return []

    async def consume(_: Window, __: Sequence[Event]) -> None:
        pass

    task = asyncio.create_task(RangeWalk(0, 10**9, 4, walk, consume, Stop()).run())
    while len(started) < 6:
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(started) == 6, "one window for each of four walkers and two that wait"
    release.set()
    assert await task is True


async def test_walkers_wait_for_a_slow_consumer() -> None:
    """Goal: memory stays bounded while the journal is slow; method: a first window that is consumed for ever."""
    release = asyncio.Event()
    started: list[int] = []

    async def walk(window: Window) -> list[Event]:
        started.append(window.start)
        await asyncio.sleep(0)
        return []

    async def consume(_: Window, __: Sequence[Event]) -> None:
        await release.wait()

    task = asyncio.create_task(RangeWalk(0, 10**9, 4, walk, consume, Stop()).run())
    for _ in range(500):
        await asyncio.sleep(0)
    assert len(started) == 6
    release.set()
    assert await task is True


async def test_stop_ends_it_and_says_so() -> None:
    """A stop leaves between windows; method: stop while the third is consumed."""
    stop, seen = Stop(), 0

    async def walk(_: Window) -> list[Event]:
        await asyncio.sleep(0)
        return []

    async def consume(_: Window, __: Sequence[Event]) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            stop.set()

    assert await RangeWalk(0, 10**9, 3, walk, consume, stop).run() is False
    assert seen == 3
