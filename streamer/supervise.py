"""One task group, named jobs, signals, the stop deadline. The only place that makes tasks for jobs and cancels them."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from streamer.stop import Stop
from streamer.telemetry import Telemetry

STOP_DEADLINE_S = 20.0
"""Below the 30 s that Kubernetes gives."""

Job = Callable[[], Awaitable[None]]


async def supervise(
    jobs: Mapping[str, Job],
    background: Mapping[str, Job],
    stop: Stop,
    telemetry: Telemetry,
    deadline_s: float = STOP_DEADLINE_S,
) -> None:
    """Run until every job has ended or `stop` is set; then the background ends too.

    An exception of any of them ends all of them and is raised, in an ExceptionGroup: a supervisor restarts us.
    """
    running = len(jobs)

    async def counted(job: Job) -> None:
        nonlocal running
        await job()
        running -= 1
        if not running:
            stop.set()

    async def plain(job: Job) -> None:
        await job()

    async with asyncio.TaskGroup() as group:
        tasks = {group.create_task(counted(job), name=name) for name, job in jobs.items()}
        tasks |= {group.create_task(plain(job), name=name) for name, job in background.items()}
        await stop.wait()
        _, late = await asyncio.wait(tasks, timeout=deadline_s)
        if late:
            telemetry.still_running(sorted(task.get_name() for task in late), deadline_s)
            for task in late:
                task.cancel()


@contextmanager
def stop_on_signals(stop: Stop, telemetry: Telemetry) -> Iterator[None]:
    """SIGTERM and SIGINT stop; a second one kills as usual. SIGHUP, which log rotation sends, is taken: the file sink looks before
    every write whether its file was moved away."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def handle(number: signal.Signals) -> None:
        telemetry.stopping(number.name)
        stop.set()
        loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, handle, number)
    loop.add_signal_handler(signal.SIGHUP, telemetry.hangup)
    try:
        yield
    finally:
        for number in (*signals, signal.SIGHUP):
            loop.remove_signal_handler(number)
