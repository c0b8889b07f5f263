"""The one place that makes tasks: when jobs end, who goes with whom, and what is said of one that does not leave."""

import asyncio
import os
import signal

import pytest
from structlog.testing import capture_logs

from streamer.stop import Stop
from streamer.supervise import stop_on_signals, supervise
from streamer.telemetry import Telemetry


async def test_the_background_ends_with_the_last_job() -> None:
    """Goal: `--once` ends when everything is done, and not before. Method: two jobs that end one after the other beside one that waits for stop."""
    stop, ended = Stop(), list[str]()
    second = asyncio.Event()

    async def first() -> None:
        ended.append("first")
        second.set()

    async def last() -> None:
        await second.wait()
        ended.append("last")

    async def background() -> None:
        await stop.wait()
        ended.append("background")

    async with asyncio.timeout(10):
        await supervise({"first": first, "last": last}, {"background": background}, stop, Telemetry())
    assert ended == ["first", "last", "background"]


async def test_a_bug_ends_all_and_is_raised() -> None:
    """Goal: a bug is no half-running daemon. Method: a job that raises beside one that would wait for ever."""
    cancelled = asyncio.Event()

    async def bug() -> None:
        raise ZeroDivisionError

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ExceptionGroup) as raised:
        await supervise({"bug": bug, "waits": waits}, {}, Stop(), Telemetry())
    assert raised.group_contains(ZeroDivisionError)
    assert cancelled.is_set()


async def test_who_does_not_leave_is_named_and_cancelled() -> None:
    """Goal: a stop ends, and says who held it up. Method: one job that leaves and one that does not, a deadline of a moment."""
    stop = Stop()

    async def leaves() -> None:
        await stop.wait()

    async def stays() -> None:
        await asyncio.Event().wait()

    stop.set()
    with capture_logs() as logs:
        await supervise({"leaves": leaves, "stays": stays}, {}, stop, Telemetry(), deadline_s=0.05)
    assert [value for one in logs for value in one.values() if isinstance(value, list)] == [["stays"]]


async def test_jobs_that_come_later_run_until_the_stop() -> None:
    """Goal: what a reload adds is a job like any other, and its end ends nothing. Method: one that comes after the only other one has ended."""
    stop, more, ended = Stop(), asyncio.Queue(), list[str]()  # type: ignore[var-annotated]  # of jobs
    came = asyncio.Event()

    async def first() -> None:
        ended.append("first")

    async def later() -> None:
        ended.append("later")
        came.set()

    async with asyncio.timeout(10):
        running = asyncio.create_task(supervise({"first": first}, {}, stop, Telemetry(), more=more))
        await more.put(("later", later))
        await came.wait()
        assert not stop.is_set()
        stop.set()
        await running
    assert ended == ["first", "later"]


async def test_signals_stop_and_reload() -> None:
    """Goal: SIGTERM stops, SIGHUP asks for a reload and stops nothing. Method: both to this process."""
    stop, reloads = Stop(), asyncio.Event()
    async with asyncio.timeout(10):
        with stop_on_signals(stop, Telemetry(), reloads.set):
            os.kill(os.getpid(), signal.SIGHUP)
            await reloads.wait()
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
