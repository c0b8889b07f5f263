"""One run of a program: how long it took, what it used, and how it ended."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.02
LIMIT_S = 300.0


@dataclass(frozen=True)
class Command:
    arguments: list[str]
    environment: dict[str, str]
    log: Path


@dataclass(frozen=True)
class Usage:
    status: int
    seconds: float
    cpu_s: float
    peak_mib: float
    """Of real memory, of the program itself; `wait4` would count the bench's own, which it was forked from."""


def run(command: Command, until: Callable[[], bool] | None = None) -> Usage:
    """To its end; or killed with SIGKILL as soon as `until` holds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMER_", "GROVE_"))}
    began, peak = time.monotonic(), 0.0
    with command.log.open("ab") as log:
        process = subprocess.Popen(
            command.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment | command.environment
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, _peak_mib(process.pid))
            if (until and until()) or time.monotonic() - began > LIMIT_S:
                os.kill(process.pid, signal.SIGKILL)  # Popen's own would reap it first
            time.sleep(LOOK_S)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if seconds > LIMIT_S:
        raise SystemExit(f"{command.arguments[0]} had not ended after {LIMIT_S:.0f} s; see {command.log}")
    return Usage(process.returncode, seconds, usage.ru_utime + usage.ru_stime, peak)


def _peak_mib(pid: int) -> float:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    return 0.0
