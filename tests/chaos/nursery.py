"""Makes daemons: a process that has imported everything and forks, so that a life begins in milliseconds, under a clock that can be stepped.

`python -m tests.chaos.nursery` takes one command a line and answers with one line:
`spawn CONFIG POINT ONCE` (a process number), `wait PID SECONDS` (an exit status, or `running`). It ends with its standard input.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CLOCK = Path(__file__).with_name("clock.c")


class Nursery:
    def __init__(self, process: subprocess.Popen[str], clock: Path | None) -> None:
        self._process, self._clock = process, clock

    def _ask(self, *words: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, "the nursery has ended"
        return answer

    def spawn(self, config: Path, *, point: int | None = None, once: bool = False) -> int:
        """`streamer run`; `point`: dies by its own hand at that one of `tests.crash.run.POINTS`."""
        return int(self._ask("spawn", config, "-" if point is None else point, int(once)))

    def wait(self, pid: int, seconds: float) -> int | None:
        """Its exit status as `os.waitstatus_to_exitcode` gives it; None when it still runs after that long."""
        answer = self._ask("wait", pid, max(seconds, 0.0))
        return None if answer == "running" else int(answer)

    def step(self, seconds: float) -> None:
        """Our daemons' wall clock is off by so much from now on; the monotonic clock is not touched, as a real step would not."""
        assert self._clock is not None, "made without a clock"
        with self._clock.open("r+b") as file:
            file.write(round(seconds * 1e9).to_bytes(8, sys.byteorder, signed=True))


@contextmanager
def nursery(folder: Path, *, clock: bool) -> Iterator[Nursery]:
    """`clock`: one that can be stepped, which needs gcc."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    file, library = folder / "clock", folder / "clock.so"
    if clock:
        file.write_bytes(bytes(8))
        command = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-nostdlib", "-o", str(library), str(CLOCK)]
        subprocess.run(command, check=True)
        env |= {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(file)}
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.chaos.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        yield Nursery(process, file if clock else None)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def main() -> None:
    from tests.crash.daemon import spawn, wait
    from tests.crash.run import POINTS

    alive: set[int] = set()
    for line in sys.stdin:
        match line.split():
            case ["spawn", config, point, once]:
                pid = spawn(Path(config), None if point == "-" else POINTS[int(point)], once=once == "1")
                alive.add(pid)
                answer = str(pid)
            case ["wait", pid, seconds]:
                status = wait(int(pid), float(seconds))
                if status is not None:
                    alive.discard(int(pid))
                answer = "running" if status is None else str(status)
            case words:
                raise ValueError(f"{words} is no command")
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
