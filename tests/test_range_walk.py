"""Several walks at once, consumed in time order: the part of intake that has concurrency."""

import asyncio
import math
import random
from bisect import bisect_left
from collections.abc import Sequence

import pytest

from streamer import slices
from streamer.intake import Prepared
from streamer.model import Entry, Event, EventId, Window
from streamer.ports import WindowTooLarge
from streamer.range_walk import BEGUN_EVENTS, WAITING_WINDOWS, Allowance, Claim, RangeWalk
from streamer.stop import Stop


def event(at: int, number: int) -> Event:
    return Event(b"{}", EventId(f"{at}-{number}"), "login.succeeded", at)


class World:
    """Events by second, and a walk over them in pages, the newest first, that takes a random number of turns of the loop and fails at times."""

    def __init__(self, seed: int, density: Sequence[tuple[int, int]], allowance: Allowance) -> None:
        self.random, self.allowance = random.Random(seed), allowance
        self.events = [event(at, n) for at, count in density for n in range(count)]
        self.walking = self.most_walking = self.narrowed = self.pages = self.walks = 0
        self.consumed: list[str] = []
        self.windows: list[Window] = []

    async def walk(self, claim: Claim) -> list[Event] | WindowTooLarge | None:
        """Tried until it succeeds, as intake does."""
        while (found := await self._try(claim)) is None:
            await asyncio.sleep(0)
        return found

    async def _try(self, claim: Claim) -> list[Event] | WindowTooLarge | None:
        assert claim.narrow is not None
        async with self.allowance.turn():
            self.walking += 1
            self.most_walking = max(self.most_walking, self.walking)
            try:
                window, seen = claim.window, list[Event]()
                assert window.end is not None
                for one in self._newest_first(window):
                    if one.effective_at < window.start:
                        break
                    seen.append(one)
                    if len(seen) % 100 == 0:
                        self.pages += 1
                        for _ in range(self.random.randrange(5)):
                            await asyncio.sleep(0)
                        if self.random.random() < 0.01:
                            return None
                        times = [e.effective_at for e in seen]
                        window = Window(claim.narrow(times), window.end)
                        self.narrowed += window != claim.window
                        if slices.is_too_large(window, times, slices.MAX_SLICE_EVENTS, guess=False):
                            return WindowTooLarge(slices.expected_events(window, times))
                assert window == claim.window, "what was narrowed stays so"
                self.walks += 1
                return seen[::-1]
            finally:
                self.walking -= 1

    def _newest_first(self, window: Window) -> list[Event]:
        assert window.end is not None
        first = bisect_left(self.events, window.start, key=lambda e: e.effective_at)
        last = bisect_left(self.events, window.end, key=lambda e: e.effective_at)
        return self.events[first:last][::-1]

    async def store(self, window: Window, prepared: Prepared | None) -> None:
        assert prepared is not None
        self.windows.append(window)
        self.consumed += [e.id for e in prepared.entries]
        await asyncio.sleep(0)


async def prepare(events: Sequence[Event]) -> Prepared:
    ordered = sorted(events, key=lambda e: e.effective_at)
    return Prepared([e.effective_at for e in ordered], [Entry(e.id, e.effective_at, b"{}") for e in ordered])


async def nowhere(_: Window, __: Prepared | None) -> None:
    await asyncio.sleep(0)


async def nothing(_: Claim) -> list[Event]:
    await asyncio.sleep(0)
    return []


@pytest.mark.parametrize("seed", range(12))
async def test_all_is_consumed_once_and_in_order(seed: int) -> None:
    """Whatever order walks end in; method: random delays, failures and bursts that have to be split or made narrower, 1 to 8 walkers."""
    chance = random.Random(seed)
    density = sorted({chance.randrange(50_000): chance.choice([1, 5, 400, 6000, 12_000]) for _ in range(25)}.items())
    allowance = Allowance(chance.randint(1, 8))
    world = World(seed, density, allowance)
    whole = Window(0, 50_000)
    walk = RangeWalk(whole, allowance, walk=world.walk, prepare=prepare, store=world.store, stop=Stop())
    assert await walk.run() is True
    assert allowance.events == 0
    assert world.consumed == [e.id for e in sorted(world.events, key=lambda e: e.effective_at)]
    assert [w.start for w in world.windows] == [0, *(w.end for w in world.windows[:-1])]
    assert world.most_walking <= allowance.concurrency


async def test_walkers_share_what_is_left() -> None:
    """Goal: nothing is read twice, and nobody has nothing to do at the end; method: events spread evenly, and the pages and turns counted."""
    allowance = Allowance(8)
    world = World(1, [(at, 1) for at in range(0, 400_000, 10)], allowance)
    world.random = random.Random(0)
    walk = RangeWalk(Window(0, 400_000), allowance, walk=world.walk, prepare=prepare, store=world.store, stop=Stop())
    assert await walk.run() is True
    assert world.consumed == [e.id for e in world.events]
    assert world.most_walking == 8
    assert len(world.windows) < 1.6 * len(world.events) / slices.SLICE_EVENTS


async def test_only_the_last_listing_cuts_its_end_small() -> None:
    """Goal: small slices, of which the last page is not full, only where walkers would have nothing to do; method: a listing beside one that is longer, and
    in how many windows it is walked: 83 where both cut their ends small."""
    allowance = Allowance(8)
    worlds = [World(n, [(at, 1) for at in range(0, end, 10)], allowance) for n, end in enumerate((600_000, 2_000_000))]
    walks = [
        RangeWalk(Window(0, end), allowance, walk=world.walk, prepare=prepare, store=world.store, stop=Stop())
        for world, end in zip(worlds, (600_000, 2_000_000), strict=True)
    ]
    assert await asyncio.gather(*(walk.run() for walk in walks)) == [True, True]
    assert [world.consumed for world in worlds] == [[e.id for e in world.events] for world in worlds]
    assert worlds[0].walks < 80
    assert allowance.slicers == []


async def test_a_window_that_narrows_gives_its_rest_to_others_at_once() -> None:
    """Goal: the rest is walked while the first walk still goes on; method: a walk that waits, after narrowing, for the rest to be walked."""
    rest_walked = asyncio.Event()
    walked: list[Window] = []

    async def walk(claim: Claim) -> list[Event]:
        assert claim.narrow is not None
        window = claim.window
        if window == whole:
            assert claim.narrow(list(range(999, 499, -1)) * 2) == 450
            await asyncio.wait_for(rest_walked.wait(), 5)
        else:
            rest_walked.set()
        walked.append(claim.window)
        return []

    async def store(window: Window, _: Prepared | None) -> None:
        stored.append(window)

    whole, stored = Window(0, 1000), list[Window]()
    walking = RangeWalk(whole, Allowance(2), walk=walk, prepare=prepare, store=store, stop=Stop())
    assert await walking.run() is True
    assert [w.start for w in stored] == [0, *(w.end for w in stored[:-1])]
    assert stored[-1] == walked[-1], "what the first walk kept is the newest, and ended last"
    assert stored[-1].end == 1000


@pytest.mark.parametrize("room", [True, False])
async def test_what_all_others_wait_for_is_shared(room: bool) -> None:
    """Goal: a long walk at the head of the line does not keep walkers waiting that find no room; method: two walkers, a first window of more than a
    slice, with room for the second one's, and without."""
    allowance, narrowed, walked, stored = Allowance(2), list[int](), list[Window](), list[Window]()
    allowance.events = 0 if room else allowance.limit

    async def walk(claim: Claim) -> list[Event]:
        async with allowance.turn():
            await asyncio.sleep(0)
            assert claim.narrow is not None
            if not walked:
                end = claim.window.end
                assert end is not None
                walked.append(claim.window)
                narrowed.append(claim.narrow(list(range(end - 1, end - 5761, -57))))
                assert (claim.window.start > 0) is not room
            return []

    async def store(window: Window, _: Prepared | None) -> None:
        stored.append(window)

    walking = RangeWalk(Window(0, 10**6), allowance, walk=walk, prepare=prepare, store=store, stop=Stop())
    assert await walking.run() is True
    assert walked == [Window(0, 57_600)]
    assert narrowed == ([0] if room else [pytest.approx(26_000, rel=0.02)])
    assert [w.start for w in stored] == [0, *(w.end for w in stored[:-1])]
    assert stored[-1].end == 10**6


@pytest.mark.parametrize(("events", "together"), [(100, 4), (450, 2), (451, 1), (0, 4)])
async def test_small_windows_that_wait_are_stored_together(events: int, together: int) -> None:
    """Goal: a night of windows with few events is not an fsync each. Method: four windows of so many events that begin at once, and the first ends some
    turns of the loop after the others."""
    begun, stored = asyncio.Barrier(4), list[tuple[Window, int]]()

    async def walk(claim: Claim) -> list[Event]:
        await begun.wait()
        for _ in range(20 if claim.window.start == 0 else 0):
            await asyncio.sleep(0)
        return [event(claim.window.start, n) for n in range(events)]

    async def store(window: Window, prepared: Prepared | None) -> None:
        assert prepared is not None
        assert prepared.times == sorted(prepared.times)
        stored.append((window, len(prepared.entries)))

    whole = Window(0, 4 * slices.LEAST_FIRST_SLICE_S)
    walking = RangeWalk(whole, Allowance(4), walk=walk, prepare=prepare, store=store, stop=Stop())
    assert await walking.run() is True
    assert stored[0] == (Window(0, together * slices.LEAST_FIRST_SLICE_S), together * events)
    assert [w.start for w, _ in stored] == [0, *(w.end for w, _ in stored[:-1])]
    assert sum(count for _, count in stored) == 4 * events


async def test_it_is_told_when_all_was_walked_before_all_is_stored() -> None:
    """Goal: who waits for the network need not wait for the disk; method: a store that ends only when it was told, for a range and for one of nothing."""
    told = asyncio.Event()

    async def store(_: Window, __: Prepared | None) -> None:
        await asyncio.wait_for(told.wait(), 5)

    for whole in (Window(0, 10**6), Window(5, 5)):
        told.clear()
        walking = RangeWalk(
            whole, Allowance(3), walk=nothing, prepare=prepare, store=store, stop=Stop(), walked=told.set
        )
        assert await walking.run() is True
        assert told.is_set() is (whole.start == 0), "where nothing is walked nothing is told"


async def test_it_is_told_as_soon_as_a_walker_has_nothing_to_do() -> None:
    """Goal: what comes after a range does not wait for its slowest walk; method: one of three walks that ends only when it was told, and how many windows
    were walked by then."""
    told, walked = asyncio.Event(), list[int]()

    async def walk(claim: Claim) -> list[Event]:
        if claim.window.start:
            await asyncio.sleep(0)
        else:
            await asyncio.wait_for(told.wait(), 5)
        walked.append(claim.window.start)
        return []

    async def store(_: Window, __: Prepared | None) -> None:
        pass

    def tell() -> None:
        assert walked, "not before anybody has found anything: all would wait for it in memory"
        assert not told.is_set(), "once"
        told.set()

    whole = Window(0, 3 * slices.LEAST_FIRST_SLICE_S)
    walking = RangeWalk(whole, Allowance(4), walk=walk, prepare=prepare, store=store, stop=Stop(), walked=tell)
    assert await walking.run() is True
    assert walked[-1] == 0


async def test_listings_take_turns() -> None:
    """Goal: no listing waits until another has caught up; method: two of them with two turns, and who walked when."""
    allowance, order = Allowance(2), list[str]()

    def listing(name: str) -> RangeWalk[Prepared]:
        async def walk(claim: Claim) -> list[Event]:
            async with allowance.turn():
                order.append(name)
                await asyncio.sleep(0)
                return [event(claim.window.start, n) for n in range(slices.SLICE_EVENTS)]

        async def store(_: Window, __: Prepared | None) -> None:
            if len(order) > 100:
                stop.set()

        return RangeWalk(LONG, allowance, walk=walk, prepare=prepare, store=store, stop=stop)

    stop = Stop()
    await asyncio.gather(listing("organization").run(), listing("tenant").run())
    assert 30 < order[:100].count("tenant") < 70


LONG = Window(0, 10**9)


async def test_walkers_really_work_at_once_but_not_too_far_ahead() -> None:
    """Goal: concurrency that is bounded; method: a first window that does not end until the others wait for it."""
    release = asyncio.Event()
    started: list[int] = []

    async def walk(claim: Claim) -> list[Event]:
        started.append(claim.window.start)
        if claim.window.start == 0:
            await release.wait()
        return [event(claim.window.start, n) for n in range(slices.SLICE_EVENTS)]

    async def store(_: Window, __: Prepared | None) -> None:
        if started[-1] > 10_000_000:
            stop.set()

    stop, allowance = Stop(), Allowance(4)
    walking = RangeWalk(LONG, allowance, walk=walk, prepare=prepare, store=store, stop=stop)
    task = asyncio.create_task(walking.run())
    most = 1 + math.ceil((allowance.limit - BEGUN_EVENTS) / slices.SLICE_EVENTS)
    while len(started) < most:
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(started) == most, "the first window, which has just begun, and those that wait for it"
    release.set()
    assert await task is False


async def test_walkers_wait_for_a_slow_journal() -> None:
    """Goal: memory stays bounded while nothing can be stored; method: a store that takes for ever."""
    release = asyncio.Event()
    started: list[int] = []
    stop, allowance = Stop(), Allowance(4)

    async def walk(claim: Claim) -> list[Event]:
        started.append(claim.window.start)
        return [event(claim.window.start, n) for n in range(slices.SLICE_EVENTS)]

    async def store(_: Window, __: Prepared | None) -> None:
        await release.wait()
        stop.set()

    task = asyncio.create_task(RangeWalk(LONG, allowance, walk=walk, prepare=prepare, store=store, stop=stop).run())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert allowance.events <= allowance.limit + 4 * (slices.SLICE_EVENTS - BEGUN_EVENTS), "what is prepared included"
    assert len(started) == 4 + WAITING_WINDOWS
    release.set()
    assert await task is False


async def test_less_is_fetched_ahead_while_the_processor_is_what_takes_time() -> None:
    """Goal: memory that a slow processor has no use for is not used; method: walks that take no time, and preparing that does."""
    allowance, stop, held = Allowance(8), Stop(), list[int]()

    async def walk(claim: Claim) -> list[Event]:
        return [event(claim.window.start, n) for n in range(slices.SLICE_EVENTS)]

    async def slowly(events: Sequence[Event]) -> Prepared:
        for _ in range(20):
            await asyncio.sleep(0)
        held.append(allowance.events)
        return await prepare(events)

    async def store(_: Window, __: Prepared | None) -> None:
        if len(held) > 60:
            stop.set()

    assert not await RangeWalk(LONG, allowance, walk=walk, prepare=slowly, store=store, stop=stop).run()
    assert max(held[:5]) > allowance.limit * 0.8
    assert max(held[40:]) <= allowance.limit // 3 + 8 * slices.SLICE_EVENTS // 2


async def test_what_came_at_once_behind_a_late_window_does_not_stop_the_walkers() -> None:
    """Goal: a network that is slow is used all the time; method: walks of 50 turns of the loop and a first one of 150, windows that take no time to prepare and
    5 turns to store; how many walk at once while all that waited is stored."""
    walking, at_once = 0, list[int]()

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def walk(claim: Claim) -> list[Event]:
        nonlocal walking
        walking += 1
        await turns(50 if claim.window.start else 150)
        walking -= 1
        return [event(claim.window.start, n) for n in range(slices.SLICE_EVENTS)]

    async def store(_: Window, __: Prepared | None) -> None:
        at_once.append(walking)
        if len(at_once) == 14:
            stop.set()
        await turns(5)

    stop, allowance = Stop(), Allowance(8)
    await RangeWalk(LONG, allowance, walk=walk, prepare=prepare, store=store, stop=stop).run()
    assert min(at_once[5:12]) >= 5, at_once


async def test_a_range_that_is_given_up_leaves_its_memory_to_others() -> None:
    """Goal: what was planned by a wrong clock costs nothing later; method: a range cancelled while some of it is walked, waits, and is stored."""
    allowance, storing = Allowance(4), asyncio.Event()

    async def walk(claim: Claim) -> list[Event]:
        while storing.is_set():
            await asyncio.sleep(0)
        return [event(claim.window.start, n) for n in range(slices.SLICE_EVENTS)]

    async def store(_: Window, __: Prepared | None) -> None:
        storing.set()
        await asyncio.Event().wait()

    walking = RangeWalk(LONG, allowance, walk=walk, prepare=prepare, store=store, stop=Stop())
    task = asyncio.create_task(walking.run())
    await storing.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert allowance.events > 0
    task.cancel()
    await asyncio.wait([task])
    assert allowance.events == 0
    assert allowance.turn_free


async def test_ranges_that_look_alike_are_told_apart() -> None:
    """Goal: the rechecks of two listings, which begin with the same range, end whatever the other does; method: one that waits for a turn, and one like it that is
    stopped meanwhile."""
    allowance, stopped = Allowance(2), Stop()
    stopped.set()
    async with allowance.turn(), allowance.turn():
        waiting = asyncio.create_task(
            RangeWalk(LONG, allowance, walk=nothing, prepare=prepare, store=nowhere, stop=Stop()).run()
        )
        for _ in range(5):
            await asyncio.sleep(0)
        assert not await RangeWalk(LONG, allowance, walk=nothing, prepare=prepare, store=nowhere, stop=stopped).run()
    assert await waiting
    assert allowance.slicers == []


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
