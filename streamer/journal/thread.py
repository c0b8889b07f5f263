"""The journal's thread: one at a time, as SQLite wants it, and what is short before what is long."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class JournalThread:
    """Appends are long and come one after the other while there is much to catch up. What sinks ask for overtakes those that wait, or a sink
    would get one turn in two appends, and fall behind for as long as it lasts."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "journal")
        self._short: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    async def run(self, function: Callable[..., T], *values: Any) -> T:
        """Before every `run_long` that has not begun."""
        future: Future[T] = Future()
        self._short.append((future, function, values))
        self._pool.submit(self._serve)
        return await asyncio.wrap_future(future)

    async def run_long(self, function: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._after_the_short, function, values)

    def close(self) -> None:
        self._pool.shutdown()

    def _after_the_short(self, function: Callable[..., T], values: tuple[Any, ...]) -> T:
        self._serve()
        return function(*values)

    def _serve(self) -> None:
        while self._short:
            future, function, values = self._short.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(*values))
            except BaseException as error:  # noqa: BLE001 - it is who waits for it that must see it
                future.set_exception(error)
