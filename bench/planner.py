"""How well history is planned, in virtual time: both listings of the simulator's history are walked at once by `RangeWalk`, against a latency, one processor and one disk.

The same on every machine, whatever else runs there, and exact: what changes a figure is the planner. What the processor and the disk take is given, in round
figures: those of a machine on which an event cost 28 us in all, and of one that takes 2.5 to 3.3 times as long. Not in it: the start of the program, its end, and asking upstream for its clock.
"""

import asyncio
import os
import selectors
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamer import slices
from streamer.model import LISTINGS, Event, EventId, Listing, Window
from streamer.ports import WindowTooLarge
from streamer.range_walk import Allowance, Claim, RangeWalk
from streamer.simulator.options import SimulatorOptions
from streamer.simulator.upstream import Upstream
from streamer.sources.openai_walk import PAGE
from streamer.stop import Stop

UNTIL = 1_760_000_000
"""Unix seconds: 9 October 2025, a Thursday."""
DAY = 86_400
OVERLAP_S = 300
EVENTS_A_TURN = 40
"""Prepared before others get the processor."""
CONCURRENCY = 8
Histories = dict[Listing, list[int]]
"""`effective_at` of all events, ascending."""


@dataclass(frozen=True)
class Machine:
    """What each thing takes, in seconds."""

    page: float
    """Of the processor, to receive and decode a page."""
    event: float
    """Of the processor, to prepare it for the journal."""
    append: float
    """Of the disk, for a window."""


FAST, SLOW = Machine(0.001, 14e-6, 0.006), Machine(0.0025, 38e-6, 0.020)


class Outcome(NamedTuple):
    ideal: float
    """Of `concurrency x 100 / latency`."""
    requests: int
    fewest_requests: int
    """If all pages were full."""
    at_once: float
    """Requests under way, in the mean."""
    tail_s: float
    """From the last answer to the last append."""


class _VirtualTime(selectors.DefaultSelector):
    """Nobody waits: where the loop would, its clock goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _VirtualTime()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class CatchUp:
    def __init__(self, histories: Histories, days: float, latency_s: float, machine: Machine) -> None:
        self.histories, self.begin, self.latency_s, self.machine = (
            histories,
            UNTIL - int(days * DAY),
            latency_s,
            machine,
        )
        self.events = sum(map(len, histories.values()))
        self.processor, self.disk, self.allowance = asyncio.Lock(), asyncio.Lock(), Allowance(CONCURRENCY)
        self.requests, self.under_way_s, self.last_answer = 0, 0.0, 0.0

    async def run(self) -> Outcome:
        await asyncio.gather(*(self._listing(times) for times in self.histories.values()))
        took = asyncio.get_running_loop().time()
        ideal = CONCURRENCY * PAGE / self.latency_s
        fewest = sum(-(-len(times) // PAGE) for times in self.histories.values())
        return Outcome(
            self.events / took / ideal, self.requests, fewest, self.under_way_s / took, took - self.last_answer
        )

    async def _listing(self, times: Sequence[int]) -> None:
        polls: list[asyncio.Task[None]] = []

        async def store(_: Window, __: int) -> None:
            async with self.disk:
                await asyncio.sleep(self.machine.append)

        walking = RangeWalk(
            Window(self.begin, UNTIL - OVERLAP_S),
            self.allowance,
            walk=lambda claim: self._walk(times, claim),
            prepare=self._prepare,
            store=store,
            stop=Stop(),
            walked=lambda: polls.append(asyncio.create_task(self._page())),
        )
        assert await walking.run()
        await asyncio.gather(*polls)
        await store(Window(UNTIL - OVERLAP_S, None), 0)

    async def _walk(self, times: Sequence[int], claim: Claim) -> list[Event] | WindowTooLarge:
        """The newest first, as the API has it."""
        assert claim.narrow is not None
        assert claim.window.end is not None
        async with self.allowance.turn():
            upto, seen = bisect_left(times, claim.window.end), list[int]()
            while True:
                await self._page()
                since = max(bisect_left(times, claim.window.start), upto - PAGE)
                seen += times[since:upto][::-1]
                if since == bisect_left(times, claim.window.start):
                    return [Event(b"", EventId(""), "", at) for at in seen]
                upto = since
                claim.narrow(seen)
                if slices.is_too_large(claim.window, seen, slices.MAX_SLICE_EVENTS, guess=False):
                    return WindowTooLarge(slices.expected_events(claim.window, seen))

    async def _page(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(self.latency_s)
        await self._process(self.machine.page)
        self.requests += 1
        self.under_way_s += loop.time() - began
        self.last_answer = loop.time()

    async def _prepare(self, events: Sequence[Event]) -> int:
        for begin in range(0, len(events), EVENTS_A_TURN):
            await self._process(len(events[begin : begin + EVENTS_A_TURN]) * self.machine.event)
        return len(events)

    async def _process(self, seconds: float) -> None:
        async with self.processor:
            await asyncio.sleep(seconds)


def histories(seed: int, events: int, days: float) -> Histories:
    """Of the simulator's company, so many events in all."""
    options = SimulatorOptions(seed=seed, events=events, days=days, until=UNTIL, profile="bulk")
    upstream = Upstream(options, lambda: float(UNTIL))
    return {listing: sorted(truth.event.effective_at for truth in upstream.truth(listing)) for listing in LISTINGS}


def catch_up(told: Histories, days: float, latency_s: float, machine: Machine) -> Outcome:
    async def run() -> Outcome:
        return await CatchUp(told, days, latency_s, machine).run()

    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(run())


def main() -> None:
    seeds = range(1, 1 + int(os.environ.get("BENCH_PLANNER_SEEDS", "3")))
    for events, days in ((50_000, 30), (200_000, 30), (30_000, 7)):
        told = [histories(seed, events, days) for seed in seeds]
        for latency_ms, name, machine in (
            (20, "fast", FAST),
            (50, "fast", FAST),
            (50, "slow", SLOW),
            (100, "fast", FAST),
        ):
            made = [catch_up(one, days + 1, latency_ms / 1000, machine) for one in told]
            mean = Outcome(*map(statistics.mean, zip(*made, strict=True)))  # type: ignore[arg-type]  # a row of numbers each
            print(
                f"{events:7,d} events of {days:2d} days, {latency_ms:3d} ms a page, {name} machine: {mean.ideal:.1%} of concurrency x 100 / latency "
                f"({min(one.ideal for one in made):.1%} at least), {mean.requests:,.0f} requests ({mean.requests / mean.fewest_requests:.3f} of the fewest), "
                f"{mean.at_once:.2f} at once, {mean.tail_s * 1000:.0f} ms after the last answer"
            )


if __name__ == "__main__":
    main()
