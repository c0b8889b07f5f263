"""What a slow sink costs the others: a file's throughput from a journal that is full already, beside a webhook that takes half a second a
request, against the file alone. Rounds of both by turns, so that what else the machine does falls on both.

On a machine that others use, such ratios vary by far more than the aim of 5 %. So there is a bound as well, which does not depend on what else runs: the webhook
alone, and for what part of the time it keeps the process and the journal busy. More than that it cannot take from anybody.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from streamer.delivery import Delivery
from streamer.formats import make_format
from streamer.journal.blocks import Blocks
from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.model import Progress, SinkName
from streamer.ports import SinkContext
from streamer.sinks import SINKS
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.outage import Hook, receiving
from tests.records import SOURCE, entries

EVENTS = int(os.environ.get("BENCH_ISOLATION_EVENTS", "40000"))
ROUNDS = int(os.environ.get("BENCH_ISOLATION_ROUNDS", "30"))
DELAY_S = 0.5


ALONE_S = 3.0
"""How long the webhook is watched alone, a round."""


class Round(NamedTuple):
    seconds: float
    """Until the file had everything."""
    cpu_us: float
    """Of the whole process, an event of the file."""


@contextmanager
def slow_receiver() -> Iterator[str]:
    """Its URL; in a process of its own, so that it costs us nothing."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.isolation", "receive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def receive() -> None:
    with receiving(Hook(delay_s=DELAY_S)) as hook:
        print(hook.url, flush=True)
        sys.stdin.read()


class Watched:
    """A journal that knows how long it has worked for a sink: waits for news are not work."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal, self.busy_s = journal, 0.0

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._journal, name)
        if name not in ("read", "ack", "requeued", "replays"):
            return asked

        async def timed(*arguments: Any) -> Any:
            if name == "read":  # as beside a fast sink, whose blocks drive this one's out
                self._journal._blocks = Blocks()
            began = time.perf_counter()
            try:
                return await asked(*arguments)
            finally:
                self.busy_s += time.perf_counter() - began

        return timed


async def _open(stack: AsyncExitStack, journal: Any, stop: Stop, name: str, given: dict[str, object]) -> Delivery:
    """A sink that is new to the journal and gets all of it."""
    kind = str(given.pop("type"))
    options = TypeAdapter(SINKS[kind].options).validate_python(given)
    position = await journal.position(SinkName(name), "earliest")
    context = SinkContext(name=SinkName(name), position=position, journal=journal.id, folder=journal.path.parent)
    return Delivery(
        name=context.name,
        kind=kind,
        sink=await stack.enter_async_context(SINKS[kind].open(options, context)),
        acked=position.acked,
        journal=journal,
        format=make_format("envelope"),
        where=None,
        redact=None,
        batch=options.batch,
        telemetry=Telemetry(),
        stop=stop,
    )


def webhook(hook: str) -> dict[str, object]:
    return {"type": "webhook", "url": hook, "layout": "ndjson", "body": "bare"}


async def one_round(journal: SqliteJournal, number: int, hook: str | None) -> Round:
    stop, path = Stop(), journal.path.with_name(f"{number}.jsonl")
    async with AsyncExitStack() as stack:
        file = await _open(stack, journal, stop, f"file-{number}", {"type": "file", "path": path})
        deliveries = [file]
        if hook is not None:
            deliveries.append(await _open(stack, journal, stop, f"hook-{number}", webhook(hook)))
        began, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for delivery in deliveries:
                tasks.create_task(delivery.run())
            while file.acked < journal.head:  # noqa: ASYNC110 - a delivery tells nobody when it has caught up
                await asyncio.sleep(0.002)
            done = Round(time.perf_counter() - began, (time.process_time() - cpu) / journal.head * 1e6)
            stop.set()
        assert hook is None or deliveries[1].acked < journal.head / 2, "the webhook is not slow"
    path.unlink()
    return done


async def share(journal: SqliteJournal, number: int, hook: str) -> float:
    """Of the time: the CPU of the process while it has nothing but the slow sink, and the journal's work for it. What of the CPU is the journal's counts twice."""
    stop, watched = Stop(), Watched(journal)
    async with AsyncExitStack() as stack:
        slow = await _open(stack, watched, stop, f"alone-{number}", webhook(hook))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(slow.run())
            await asyncio.sleep(DELAY_S / 2)  # its connection is made, which happens once
            busy_s, cpu, began = watched.busy_s, time.process_time(), time.perf_counter()
            await asyncio.sleep(ALONE_S)
            spent = time.process_time() - cpu + watched.busy_s - busy_s
            took = spent / (time.perf_counter() - began)
            stop.set()
        assert slow.acked >= 4 * slow.batch.events, "the webhook got next to nothing"
    return took


async def rounds(hook: str) -> tuple[list[Round], list[Round], list[float]]:
    """(alone, beside, the webhook's share of the time)."""
    alone, beside, shares = [], [], []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        async with open_journal(Path(folder), 1 << 30) as journal:
            for first in range(1, EVENTS, 5000):
                await journal.append(SOURCE, "organization", entries(5000, first), Progress(1))
            await share(journal, 0, hook)
            await one_round(journal, 0, None)  # which has warmed up both
            for number in range(1, 4 * ROUNDS, 4):
                # By turns which of the two comes first.
                order = [(number, None), (number + 1, hook)]
                for n, url in order if number % 8 == 1 else reversed(order):
                    (alone if url is None else beside).append(await one_round(journal, n, url))
                if len(alone) % 2 == 0:
                    shares.append(await share(journal, number, hook))
    return alone, beside, shares


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, by the binomial distribution of ranks."""
    ordered, half = sorted(values), 0.98 * len(values) ** 0.5
    low, high = int(len(values) / 2 - half), int(len(values) / 2 + half)
    return statistics.median(values), ordered[max(low, 0)], ordered[min(high, len(values) - 1)]


def main() -> None:
    with slow_receiver() as url:
        alone, beside, shares = asyncio.run(rounds(url))
    rate = EVENTS / statistics.median(round.seconds for round in alone)
    print(
        f"isolation: the file alone {rate:,.0f} events/s, {statistics.median(r.cpu_us for r in alone):.1f} us CPU an event"
    )
    for name, ratios in {
        "throughput": [a.seconds / b.seconds for a, b in zip(alone, beside, strict=True)],
        "CPU an event": [b.cpu_us / a.cpu_us for a, b in zip(alone, beside, strict=True)],
    }.items():
        middle, low, high = interval(ratios)
        print(
            f"{name:>14}: {middle:.3f} of that beside a webhook of {DELAY_S} s a request ({low:.3f} to {high:.3f}, {len(ratios)} pairs)"
        )
    middle, low, high = interval(shares)
    print(
        f"       at most: the webhook alone is at work for {middle:.1%} of the time ({low:.1%} to {high:.1%}, {len(shares)} rounds of {ALONE_S:g} s)"
    )


if __name__ == "__main__":
    receive() if sys.argv[1:] == ["receive"] else main()
