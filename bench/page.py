"""The status page while a thousand events a second come in: what each open page costs the daemon, and how soon it answers.

The real daemon on a simulator in a process of its own, into a file. Two questions, each in stretches of its own. What does an open page cost?
Stretches with none, with one, with one that filters and with ten take turns, each turn in another order, and each is compared with its turn's
stretch without a page. An open page is what a browser holds: one stream. Does it stay responsive? The whole page is asked for once a
second, as somebody does who reloads all the time, beside a stream that notes when it is told something.

What is read again must not grow while we look: `overlap` is short and nothing is rechecked.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import aiohttp

from bench.pipeline import cpu_s
from bench.sources import percentile
from tests.outage import running
from tests.places import Place, until
from tests.simulation import simulated_in_child

EVENTS_PER_S = 1000
STRETCH_S = float(os.environ.get("BENCH_PAGE_S", "10"))
TURNS = 4
SETTLE_S = 5.0
ASK_EVERY_S = 1.0
FILTERED = "?q=ana&severity=medium"
STRETCHES: dict[str, Sequence[str]] = {
    "no page": (),
    "one": ("",),
    "one with a filter": (FILTERED,),
    "ten": ("", "", "", "", "", FILTERED, FILTERED, "?severity=high", "?q=key", "?q=role"),
}
"""The filters of the pages that are open."""


async def listen(session: aiohttp.ClientSession, url: str, told_at: list[float]) -> None:
    """A browser's stream; notes when it is told something."""
    async with session.get(url) as answer:
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.startswith(b"event:"):
                told_at.append(time.monotonic())  # noqa: PERF401 - as they come, not when all have come


async def cost(pid: int, url: str, filters: Sequence[str]) -> float:
    """Of the daemon, as a share of a core, over one stretch."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 20) as session, asyncio.TaskGroup() as tasks:
        told: list[list[float]] = [[] for _ in filters]
        streams = [
            tasks.create_task(listen(session, f"{url}events{wanted}", at))
            for wanted, at in zip(filters, told, strict=True)
        ]
        async with asyncio.timeout(30):
            while not all(told):  # noqa: ASYNC110 - the whole page comes first, and counts for nothing; lists tell, not events
                await asyncio.sleep(0.05)
        used, began = cpu_s(pid), time.monotonic()
        await asyncio.sleep(STRETCH_S)
        share = (cpu_s(pid) - used) / (time.monotonic() - began)
        for stream in streams:
            stream.cancel()
    assert all(len(at) > STRETCH_S / 2 for at in told), "a stream told too little to be compared"
    return share


async def costs(pid: int, url: str) -> dict[str, list[float]]:
    """Of each kind of stretch, one a turn."""
    found: dict[str, list[float]] = {name: [] for name in STRETCHES}
    names = list(STRETCHES)
    for turn in range(TURNS):
        for name in names if turn % 2 == 0 else reversed(names):
            found[name].append(await cost(pid, url, STRETCHES[name]))
        names = names[1:] + names[:1]
    return found


async def promptness(url: str) -> tuple[list[float], list[float]]:
    """Seconds until the whole page is there, and between two things told."""
    answers_s: list[float] = []
    told_at: list[float] = []
    async with aiohttp.ClientSession(read_bufsize=1 << 20) as session, asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(listen(session, f"{url}events", told_at))
        until_s = time.monotonic() + 2 * STRETCH_S
        while time.monotonic() < until_s:
            began = time.monotonic()
            async with session.get(url) as answer:
                assert answer.status == 200
                await answer.read()
            answers_s.append(time.monotonic() - began)
            await asyncio.sleep(ASK_EVERY_S)
        stream.cancel()
    return sorted(answers_s), sorted(b - a for a, b in pairwise(told_at))


def main() -> None:
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name,
        simulated_in_child(events=10, profile="bulk", rate=EVENTS_PER_S) as child,
    ):
        place = Place(Path(name), child.base_url).change("enrich", {"directory": None})
        place.change("sources.acme.overlap", "2s").change("sources.acme.recheck", [])
        with running(place, fresh=True) as daemon:
            until(lambda: daemon.sink("local").get("acked", 0) > EVENTS_PER_S * SETTLE_S)
            url, began, before = f"http://127.0.0.1:{place.port}/", time.monotonic(), place.status()["journal"]["head"]
            found = asyncio.run(costs(daemon.process.pid, url))
            rate = (place.status()["journal"]["head"] - before) / (time.monotonic() - began)
            answers, gaps = asyncio.run(promptness(url))
    alone = found["no page"]
    print(f"{rate:,.0f} events/s; no page open: {statistics.median(alone):.1%} of a core")
    for name, shares in found.items():
        if name != "no page":
            more = sorted(share - base for share, base in zip(shares, alone, strict=True))
            print(f"{name:18} {statistics.median(more):+.1%} of a core (between {more[0]:+.1%} and {more[-1]:+.1%})")
    print(
        f"the whole page in {percentile(answers, 0.5) * 1e3:.0f} ms (p50), {answers[-1] * 1e3:.0f} ms at most of {len(answers)}; "
        f"told every {percentile(gaps, 0.5):.2f} s, {gaps[-1]:.2f} s at most"
    )


if __name__ == "__main__":
    main()
