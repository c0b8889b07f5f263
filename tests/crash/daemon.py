"""Real daemons that are killed: forked from this process, which has imported everything, so that a life costs milliseconds.

A child runs `streamer run` as the command line does; it dies by SIGKILL from outside after some time, or by its own hand at a
named point: the entry or return of a function, or the n-th time that the interpreter reports an action (renaming a file).
"""

import ctypes
import os
import select
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Literal, NamedTuple

import tests.crash.warm  # noqa: F401 - before the fork, not after each
from streamer.cli import main

PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


class Point(NamedTuple):
    """Where a daemon dies by its own hand."""

    file: str
    """The end of the source file's name; for `action`, nothing."""
    name: str
    """A function's qualified name; for `action`, an audit event (`os.rename`)."""
    when: Literal["call", "return", "inside", "action"]
    """`inside`: in the middle of the function's first SQLite statement of some length."""
    nth: int = 1


STEPS_INSIDE = 1000
"""Of SQLite's machine: an append of 200 events takes many thousands."""


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

    moment = "call" if point.when == "inside" else point.when

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        code = frame.f_code
        if event != moment or code.co_qualname != point.name or not code.co_filename.endswith(point.file):
            return
        if point.when != "inside":
            count()
        elif left <= 1:
            frame.f_locals["self"]._db.set_progress_handler(_die, STEPS_INSIDE)
        else:
            left -= 1

    def begin(event: str, _: object) -> None:
        # Not before the journal opens: reading the configuration would take three times as long.
        if event == "sqlite3.connect":
            threading.setprofile(profile)
            sys.setprofile(profile)

    sys.addaudithook(begin)


def spawn(config: Path, point: Point | None = None, *, once: bool = False) -> int:
    """A daemon in a process of its own; its process number."""
    pid = os.fork()
    if pid:
        return pid
    code: object = 70
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it ends with whoever made it
        with (config.parent / "daemon.log").open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.argv = ["streamer", "run", "-c", str(config), *(["--once"] if once else [])]
        if point is not None:
            _arm(point)
        main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happens
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(code if isinstance(code, int) else 70)


def wait(pid: int, seconds: float) -> int | None:
    """Its exit status as `os.waitstatus_to_exitcode` gives it; None when it still runs after that long."""
    end = os.pidfd_open(pid)
    try:
        ended, _, _ = select.select([end], [], [], seconds)
    finally:
        os.close(end)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended else None


def kill(pid: int) -> None:
    """SIGKILL, and gone when this returns."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
