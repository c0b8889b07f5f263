"""Kills a process with a file sink at each of its calls to the operating system in turn; one JSON line for each.

    python -m tests.file_crash FOLDER BATCHES BATCH_SIZE ROTATE_BYTES KEEP

The calls are real ones; they are counted, and at number n the process kills itself before the call is made (a write is made by
half first). Then another process goes on from what was acknowledged, is killed at one of its first calls, and a third one ends it.
"""

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamer.errors import Repositioned
from streamer.model import Seq, SinkName
from streamer.ports import SinkContext, SinkPosition
from streamer.sinks.file import FileOptions, open_file
from tests.records import batch

NAME = SinkName("out")
COUNTED = ("open", "writev", "pread", "ftruncate", "fdatasync", "fsync", "rename", "unlink", "fchmod")


class Counter:
    """Wraps the calls; kills at `die_at`."""

    def __init__(self, die_at: int) -> None:
        self.die_at, self.calls = die_at, list[str]()
        self.real = {name: getattr(os, name) for name in COUNTED}
        for name in COUNTED:
            setattr(os, name, self._counted(name, self.real[name]))
        fcntl.flock = self._counted("flock", fcntl.flock)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self.die_at:
                if name == "writev":
                    text = b"".join(args[1])
                    call(args[0], [text[: len(text) // 2]])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted


class Store:
    """What a journal would hold: the acknowledged number and the bookmark, replaced as a whole."""

    def __init__(self, path: Path, counter: Counter | None) -> None:
        self.path, self.counter = path, counter

    def load(self) -> SinkPosition:
        if not self.path.exists():
            return SinkPosition(Seq(0), None, NAME)
        kept = json.loads(self.path.read_text())
        return SinkPosition(Seq(kept["acked"]), kept["bookmark"], NAME)

    def save(self, acked: int, bookmark: Any) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"acked": acked, "bookmark": bookmark}))
        (self.counter.real["rename"] if self.counter else os.rename)(new, self.path)


async def deliver(folder: Path, count: int, size: int, rotate: dict[str, Any], store: Store) -> None:
    options = FileOptions.model_validate({"path": folder / "audit.jsonl", "rotate": rotate})
    position = store.load()
    acked = int(position.acked)
    context = SinkContext(name=NAME, position=position, journal="j", folder=folder)
    async with open_file(options, context) as sink:
        while acked < count * size:
            try:
                bookmark = await sink.write(batch(size, first=acked + 1))
            except Repositioned as moved:
                store.save(acked, dict(moved.bookmark))
                continue
            acked += size
            store.save(acked, dict(bookmark))


def run(folder: Path, count: int, size: int, rotate: dict[str, Any], die_at: int) -> tuple[bool, list[str]]:
    """In a process of its own; whether it lived to its end, and the calls it made then."""
    calls = folder / "calls.json"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            counter = Counter(die_at) if die_at else None
            asyncio.run(deliver(folder, count, size, rotate, Store(folder / "acked.json", counter)))
            calls.write_text(json.dumps(counter.calls if counter else []))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False, []
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return True, json.loads(calls.read_text())


def main() -> None:
    base, count, size, limit, keep = Path(sys.argv[1]), *map(int, sys.argv[2:])
    rotate = {"size": limit, "keep": keep}
    die_at, lived = 0, False
    while not lived:
        die_at += 1
        folder = base / f"{die_at:03d}"
        folder.mkdir()
        lived, calls = run(folder, count, size, rotate, die_at)
        again = 1 + die_at * 7 % 11
        run(folder, count, size, rotate, again)
        run(folder, count, size, rotate, 0)
        print(json.dumps({"folder": str(folder), "die_at": die_at, "calls": calls}), flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main()
