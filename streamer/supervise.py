"""One task group, named jobs, signals, the stop deadline. The only place that makes tasks for jobs and cancels them."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import NamedTuple

from streamer.errors import ConfigError, RetryableError
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
    more: "asyncio.Queue[tuple[str, Job]] | None" = None,
) -> None:
    """Run until every job has ended or `stop` is set; then the background ends too. `more`: jobs that come while it runs; then only
    `stop` ends it.

    An exception of any of them ends all of them and is raised, in an ExceptionGroup: a supervisor restarts us.
    """
    async with asyncio.TaskGroup() as group:
        done = _all_of(jobs, stop if more is None else Stop())
        tasks = {group.create_task(_plain(job), name=name) for name, job in {**done, **background}.items()}

        async def take_more() -> None:
            while more is not None:
                name, job = await more.get()
                tasks.add(group.create_task(_plain(job), name=name))

        taking = group.create_task(take_more(), name="jobs that come later")
        await stop.wait()
        taking.cancel()
        _, late = await asyncio.wait(tasks, timeout=deadline_s)
        if late:
            telemetry.still_running(sorted(task.get_name() for task in late), deadline_s)
            for task in late:
                task.cancel()


def _all_of(jobs: Mapping[str, Job], stop: Stop) -> dict[str, Job]:
    """The jobs, of which the last one that ends sets `stop`."""
    running = len(jobs)

    def counted(job: Job) -> Job:
        async def run() -> None:
            nonlocal running
            await job()
            running -= 1
            if not running:
                stop.set()

        return run

    return {name: counted(job) for name, job in jobs.items()}


async def _plain(job: Job) -> None:
    await job()


@asynccontextmanager
async def beside(job: Job, name: str, end: Callable[[], None]) -> AsyncIterator[None]:
    """The job runs as long as the body does; `end` makes it leave."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_plain(job), name=name)
        try:
            yield
        finally:
            end()


# --- parts -----------------------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """What a part does while it is open."""

    jobs: Mapping[str, Job]
    """When all of them have ended, it is done."""
    background: Mapping[str, Job] = {}


class Opening(NamedTuple):
    """What a part is to be."""

    print: object
    """Equal where nothing has to be opened anew."""
    open: Callable[[AsyncExitStack, Stop], Awaitable[Work]]
    """Opened on the stack, which closes it; its jobs end with the switch."""


class Part:
    """A source, a sink: opened, run and closed by itself. It can become another while everything else runs on; the former is closed
    before the next is opened, because both may hold the same file, and that waits for whatever it has under way."""

    def __init__(self, stop: Stop, held: Callable[[str], None], retry_s: float) -> None:
        """`held`: told why it cannot be opened; tried again every `retry_s`, as anything that an operator has to mend."""
        self._stop, self._held, self._retry_s = stop, held, retry_s
        self._turn = stop.part()
        self._stack: AsyncExitStack | None = None
        self._work = Work({})
        self.wanted: Opening | None = None
        self.ended = asyncio.Event()
        """`run` has, and it is closed or will be with the program."""
        self._is: Opening | None = None

    async def open(self, opening: Opening) -> None:
        """At the start. ConfigError or RetryableError when it cannot be."""
        self.wanted = opening
        await self._open(opening)

    def become(self, opening: Opening | None) -> None:
        """None: nothing, and `run` ends."""
        self.wanted = opening
        self._turn.set()

    async def run(self) -> None:
        """Until the program stops, or its work is done, or it became nothing."""
        while self._stack is not None or await self._reopen():
            async with asyncio.TaskGroup() as group:
                done = _all_of(self._work.jobs, self._turn)
                for name, job in {**done, **self._work.background}.items():
                    group.create_task(_plain(job), name=name)
            if self.wanted is self._is:
                break
            await self.close()
        self.ended.set()

    async def close(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def _open(self, opening: Opening) -> None:
        self._turn, self._is = self._stop.part(), opening
        async with AsyncExitStack() as stack:
            self._work = await opening.open(stack, self._turn)
            self._stack = stack.pop_all()

    async def _reopen(self) -> bool:
        while (wanted := self.wanted) is not None and not self._stop.is_set():
            try:
                await self._open(wanted)
            except (ConfigError, RetryableError) as error:
                self._held(str(error))
                await self._turn.sleep(self._retry_s)
            else:
                return True
        return False


# --- signals ---------------------------------------------------------------------------------------------------------


@contextmanager
def stop_on_signals(stop: Stop, telemetry: Telemetry, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """SIGTERM and SIGINT stop; a second one kills as usual. SIGHUP, which log rotation sends too, asks for `reload`; the file sink looks
    before every write whether its file was moved away."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def handle(number: signal.Signals) -> None:
        telemetry.stopping(number.name)
        stop.set()
        loop.remove_signal_handler(number)

    def hangup() -> None:
        telemetry.hangup()
        if reload is not None:
            reload()

    for number in signals:
        loop.add_signal_handler(number, handle, number)
    loop.add_signal_handler(signal.SIGHUP, hangup)
    try:
        yield
    finally:
        for number in (*signals, signal.SIGHUP):
            loop.remove_signal_handler(number)
