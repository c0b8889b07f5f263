"""The status page while a thousand events a second come in: what a watcher costs the daemon, and how soon it answers.

The real daemon on a simulator in a process of its own, into a file. Stretches with and without a watcher take turns, so that what else the
machine does weighs on both; the watcher is a stream with a filter, as a browser holds it, and asks for the whole page four times a second.
"""

import asyncio
import os
import statistics
import tempfile
import time
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
TURNS = 3
SETTLE_S = 5.0
ASK_EVERY_S = 0.25


class Watcher:
    """One browser."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.answers_s: list[float] = []
        self.told_at: list[float] = []

    async def watch(self, seconds: float) -> None:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen(session))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.monotonic()
                async with session.get(self._url) as answer:
                    assert answer.status == 200
                    await answer.read()
                self.answers_s.append(time.monotonic() - began)
                await asyncio.sleep(ASK_EVERY_S)
            listening.cancel()

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        """Notes when it is told something; what comes together counts once."""
        async with session.get(self._url + "events?q=ana&severity=medium") as answer:
            assert answer.content_type == "text/event-stream"
            first = True
            async for _ in answer.content.iter_any():
                now = time.monotonic()
                if first or now - self.told_at[-1] > 0.2:
                    self.told_at.append(now)
                first = False


async def measure(pid: int, url: str) -> tuple[list[float], list[float], Watcher]:
    alone, watched, watcher = [], [], Watcher(url)
    await asyncio.sleep(SETTLE_S)
    for _ in range(TURNS):
        for costs, doing in ((alone, asyncio.sleep), (watched, watcher.watch)):
            used, began = cpu_s(pid), time.monotonic()
            await doing(STRETCH_S)
            costs.append((cpu_s(pid) - used) / (time.monotonic() - began))
    return alone, watched, watcher


def main() -> None:
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name,
        simulated_in_child(events=10, profile="bulk", rate=EVENTS_PER_S) as child,
        running(Place(Path(name), child.base_url).change("enrich", {"directory": None})) as daemon,
    ):
        until(lambda: daemon.sink("local").get("acked", 0) > EVENTS_PER_S)
        alone, watched, watcher = asyncio.run(measure(daemon.process.pid, f"http://127.0.0.1:{daemon.place.port}/"))
        received = daemon.place.status()["journal"]["head"]
    answers = sorted(watcher.answers_s)
    gaps = sorted(b - a for a, b in pairwise(watcher.told_at) if b - a < STRETCH_S / 2)
    print(
        f"{received:,} events while measured: {statistics.median(alone):.1%} of a core, {statistics.median(watched):.1%} with a watcher "
        f"(a stream, and {1 / ASK_EVERY_S:.0f} whole pages a second); the page in {percentile(answers, 0.5) * 1e3:.0f} ms (p50), "
        f"{percentile(answers, 0.99) * 1e3:.0f} ms (p99); told every {statistics.median(gaps):.2f} s, {gaps[-1]:.2f} s at most"
    )


if __name__ == "__main__":
    main()
