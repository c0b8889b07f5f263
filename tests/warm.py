"""Programs of ours in processes of their own that begin in milliseconds: forked from one that has imported what they need.

`start("streamer", "run", …)` is `python -m streamer run …` but for the second of imports. The process that forks has no threads and
lives as long as this one; between it and each program stands a keeper that waits for the program's end and tells it.
`python -m tests.warm FD` is that process; it takes one packet a program, with its standard streams.
"""

import atexit
import contextlib
import ctypes
import functools
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TypedDict

ROOT = Path(__file__).parents[1]
IMPORTS = {
    "streamer": "tests.crash.warm",
    "streamer.simulator": "streamer.simulator.server",
    "tests.sink_child": "tests.crash.warm",
}
"""The programs, and what has all that they import."""
MOST_BYTES = 1 << 17
PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


class Job(TypedDict):
    """A program to begin, as it is told to the process that forks."""

    module: str
    argv: list[str]
    env: dict[str, str]
    cwd: str


class Process:
    """As much of `subprocess.Popen` as the tests use."""

    def __init__(self, ended: socket.socket) -> None:
        self._ended = ended
        answer = ended.recv(32)
        assert answer, "the process that forks has ended"
        self.pid = int(answer)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self._ended.recv(32))
            self._ended.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing when it has ended: the number may be another's by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


@functools.cache
def _forker() -> socket.socket:
    """Where to ask for a program."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.warm", str(theirs.fileno())]
        subprocess.Popen(
            command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        ).returncode = 0  # never asked for
    atexit.register(ours.close)
    return ours


def start(
    module: str,
    *arguments: object,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """`python -m module arguments`; streams that are not given go nowhere, or to where ours go."""
    job: Job = {
        "module": module,
        "argv": [module, *map(str, arguments)],
        "env": dict(os.environ if env is None else env),
        "cwd": str(cwd or Path.cwd()),
    }
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, open(os.devnull, "r+b") as nowhere:
        given = zip((stdin, stdout, stderr), (nowhere, 1, 2), strict=True)
        streams = [default if one is None else nowhere if one == subprocess.DEVNULL else one for one, default in given]
        fds = [one if isinstance(one, int) else one.fileno() for one in streams]
        socket.send_fds(_forker(), [json.dumps(job).encode()], [*fds, theirs.fileno()])
    return Process(ours)


def run(
    module: str, *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """To its end, with what it wrote; it is killed, and subprocess.TimeoutExpired raised, when that takes too long."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(module, *arguments, stdout=out, stderr=err, env=env, cwd=cwd)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        said = [file.seek(0) or file.read().decode() for file in (out, err)]
        return subprocess.CompletedProcess([module, *map(str, arguments)], code, *said)


# --- the process that forks ------------------------------------------------------------------------------------------


def _become(job: Job) -> int:
    """The program, to its end; its exit status."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    time.tzset()
    sys.argv = job["argv"]
    random.seed()
    try:
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _keep(job: Job, streams: list[int], ended: socket.socket) -> None:
    """Forks the program and says its number, then how it ended."""
    _die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _die_with_parent()
            ended.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.closerange(3, max(streams) + 1)
            code = _become(job)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BrokenPipeError):
                    stream.flush()
        finally:
            os._exit(code & 0xFF)
    for stream in streams:
        os.close(stream)
    os.closerange(0, 3)
    ended.send(str(pid).encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # nobody waits for it
        ended.send(str(status).encode())


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background leaves ignored
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        os.set_inheritable(asked.fileno(), False)
        while True:
            text, fds, _, _ = socket.recv_fds(asked, MOST_BYTES, 4)
            if not text:
                return
            job: Job = json.loads(text)
            importlib.import_module(IMPORTS[job["module"]])
            if os.fork() == 0:
                try:
                    asked.close()
                    _keep(job, fds[:3], socket.socket(fileno=fds[3]))
                finally:
                    os._exit(0)
            for fd in fds:
                os.close(fd)


if __name__ == "__main__":
    main()
