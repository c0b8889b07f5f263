"""Real daemons that are killed: forked from this process, which has imported everything, so that a life costs milliseconds.

A child runs `streamer run` as the command line does; it dies by SIGKILL from outside after some time, or by its own hand at a
named point: the entry or return of a function, or the n-th time that the interpreter reports an action (renaming a file).
"""

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Literal, NamedTuple

from streamer import logs
from streamer.app import run
from streamer.cli.options import load_config
from streamer.stop import Stop
from streamer.telemetry import Telemetry


class Point(NamedTuple):
    """Where a daemon dies by its own hand."""

    file: str
    """The end of the source file's name; for `action`, nothing."""
    name: str
    """A function's qualified name; for `action`, an audit event (`os.rename`)."""
    when: Literal["call", "return", "action"]
    nth: int = 1


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(point: Point) -> None:
    left = point.nth

    def count() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            _die()

    if point.when == "action":
        sys.addaudithook(lambda event, _: count() if event == point.name else None)
        return

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == point.when and code.co_qualname == point.name and code.co_filename.endswith(point.file):
            count()

    threading.setprofile(profile)
    sys.setprofile(profile)


def spawn(config: Path, point: Point | None = None, *, once: bool = False) -> int:
    """A daemon in a process of its own; its process number."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        with (config.parent / "daemon.log").open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 2)
        loaded = load_config(config)
        logs.configure("info", "json")
        if point is not None:
            _arm(point)
        outcome = asyncio.run(_main(loaded, once))
        code = 1 if outcome.left_behind else 0
    except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happens
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(code)


async def _main(config, once):  # type: ignore[no-untyped-def]  # the child's only coroutine
    return await run(config, Telemetry(), Stop(), once=once)


def wait(pid: int, seconds: float) -> int | None:
    """Its exit status as `os.waitstatus_to_exitcode` gives it; None when it still runs after that long."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.002)


def kill(pid: int) -> None:
    """SIGKILL, and gone when this returns."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
