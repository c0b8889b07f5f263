"""What a slow sink costs the others: a file's throughput from a journal that is full already, beside a webhook that takes half a second a
request, against the file alone. Rounds of both by turns, so that what else the machine does falls on both.
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
from typing import NamedTuple

from pydantic import TypeAdapter

from streamer.delivery import Delivery
from streamer.formats import make_format
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


async def _open(
    stack: AsyncExitStack, journal: SqliteJournal, stop: Stop, name: str, given: dict[str, object]
) -> Delivery:
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


async def one_round(journal: SqliteJournal, number: int, hook: str | None) -> Round:
    stop, path = Stop(), journal.path.with_name(f"{number}.jsonl")
    async with AsyncExitStack() as stack:
        file = await _open(stack, journal, stop, f"file-{number}", {"type": "file", "path": path})
        deliveries = [file]
        if hook is not None:
            slow = {"type": "webhook", "url": hook, "layout": "ndjson", "body": "bare"}
            deliveries.append(await _open(stack, journal, stop, f"hook-{number}", slow))
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


async def rounds(hook: str) -> tuple[list[Round], list[Round]]:
    """(alone, beside)."""
    alone, beside = [], []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        async with open_journal(Path(folder), 1 << 30) as journal:
            for first in range(1, EVENTS, 5000):
                await journal.append(SOURCE, "organization", entries(5000, first), Progress(1))
            await one_round(journal, 0, None)  # warms up
            for number in range(1, 4 * ROUNDS, 4):
                # By turns which of the two comes first.
                order = [(number, None), (number + 1, hook)]
                for n, url in order if number % 8 == 1 else reversed(order):
                    (alone if url is None else beside).append(await one_round(journal, n, url))
    return alone, beside


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, by the binomial distribution of ranks."""
    ordered, half = sorted(values), 0.98 * len(values) ** 0.5
    low, high = int(len(values) / 2 - half), int(len(values) / 2 + half)
    return statistics.median(values), ordered[max(low, 0)], ordered[min(high, len(values) - 1)]


def main() -> None:
    with slow_receiver() as url:
        alone, beside = asyncio.run(rounds(url))
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


if __name__ == "__main__":
    receive() if sys.argv[1:] == ["receive"] else main()
