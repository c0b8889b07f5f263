"""Many organizations in one daemon: what it costs, and whether each is still polled when it is due.

The real daemon with its defaults (names from the directory too), against a simulator in this process that knows a key for each
organization and notes when each listing is asked. What it notes includes its own delay: punctuality is no better than shown.
"""

import asyncio
import math
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import yaml
from aiohttp import web
from aiohttp.typedefs import Handler

from bench.pipeline import PYTHON, cpu_s, rss_mib
from streamer.model import LISTINGS
from streamer.simulator import Simulator, SimulatorOptions

COUNTS = tuple(int(n) for n in os.environ.get("BENCH_SOURCES", "1,10,100").split(","))
SECONDS = float(os.environ.get("BENCH_SOURCES_S", "60"))
INTERVAL_S = 10.0
PAST_EVENTS = 200
EVENTS_PER_S = 0.1
"""Of each organization: twice as busy as a company of a thousand people."""
READY_LIMIT_S = 120.0
Listing = tuple[str, str]
"""A key, and which of its listings."""


class Noting(Simulator):
    """Notes when each listing is polled: asked for its newest events, without an end."""

    def __init__(self, options: SimulatorOptions) -> None:
        super().__init__(options)
        self.polls: dict[Listing, list[float]] = defaultdict(list)

    def _application(self) -> web.Application:
        application = super()._application()
        application.middlewares.append(self._note)
        return application

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        query = request.query
        if "effective_at[gte]" in query and not {"effective_at[lt]", "after"} & set(query):
            key = request.headers["Authorization"]
            self.polls[key, LISTINGS["tenant" in request.query_string]].append(time.monotonic())
        return await handler(request)


class Measured(NamedTuple):
    sources: int
    first_s: float
    """From the start of the process until every listing has been polled."""
    rss_mib: float
    most_mib: float
    cpu: float
    """Share of a core, while nothing but polls happens."""
    late_s: list[float]
    """Of each poll after the one before it: beyond the interval, in order of size."""
    at_once: float
    """The most polls in a tenth of a second, as a share of all listings."""


def configuration(folder: Path, base_url: str, keys: Sequence[str], *, names: bool) -> Path:
    source = {"type": "openai_audit_logs", "base_url": base_url, "start": "1d", "poll_interval": f"{INTERVAL_S:g}s"}
    path = folder / "streamer.yaml"
    document = {
        "state": f"{folder}/state",
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"level": "warning"},
        "sources": {f"org-{n:03d}": {**source, "api_key": key} for n, key in enumerate(keys, 1)},
        "sinks": {"local": {"type": "file", "path": f"{folder}/audit.jsonl"}},
    }
    if not names:
        document["enrich"] = {"directory": None}
    path.write_text(yaml.safe_dump(document))
    return path


async def measure(count: int, folder: Path, *, names: bool) -> Measured:
    keys = [f"sk-admin-{n:03d}" for n in range(1, count + 1)]
    options = SimulatorOptions(events=PAST_EVENTS, days=1, rate=EVENTS_PER_S, api_keys=tuple(keys))
    async with Noting(options).serve() as simulator:
        assert isinstance(simulator, Noting)
        config = configuration(folder, simulator.base_url, keys, names=names)
        began = time.monotonic()
        daemon = await asyncio.create_subprocess_exec(PYTHON, "-m", "streamer", "run", "-c", str(config))
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                while len(simulator.polls) < 2 * count:  # noqa: ASYNC110 - what is waited for happens in requests
                    await asyncio.sleep(0.05)
            first_s = max(times[0] for times in simulator.polls.values()) - began
            await asyncio.sleep(2 * INTERVAL_S)
            used, since = cpu_s(daemon.pid), time.monotonic()
            await asyncio.sleep(SECONDS)
            cpu = (cpu_s(daemon.pid) - used) / (time.monotonic() - since)
            now, most = rss_mib(daemon.pid)
        finally:
            daemon.terminate()
            await daemon.wait()
    polls = [[at for at in times if at >= since] for times in simulator.polls.values()]
    late = sorted(b - a - INTERVAL_S for times in polls for a, b in pairwise(times))
    return Measured(count, first_s, now, most, cpu, late, crowd([at for times in polls for at in times]) / (2 * count))


def crowd(times: Sequence[float]) -> int:
    """The most of them within a tenth of a second."""
    ordered = sorted(times)
    most, first = 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] > 0.1:
            first += 1
        most = max(most, last - first + 1)
    return most


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1]


def main() -> None:
    for count, names in (*((count, True) for count in COUNTS), (COUNTS[-1], False)):
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
            found = asyncio.run(measure(count, Path(name), names=names))
        late = found.late_s
        print(
            f"{count:3d} sources{'' if names else ' without names'}: every listing polled {found.first_s:.1f} s after the start; {found.rss_mib:.0f} MiB, {found.most_mib:.0f} at most; "
            f"{found.cpu:.1%} of a core; {len(late)} polls late by {percentile(late, 0.5) * 1e3:.0f} ms (p50), "
            f"{percentile(late, 0.99) * 1e3:.0f} ms (p99), {late[-1] * 1e3:.0f} ms at most; "
            f"at most {found.at_once:.0%} of the listings within 0.1 s"
        )


if __name__ == "__main__":
    main()
