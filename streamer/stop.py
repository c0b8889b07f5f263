"""The one switch that ends the program, and the only way to wait."""

import asyncio
import time
from weakref import WeakSet

AFTER_BEAT_S = 0.002
"""Timers may be early by a millisecond."""


def to_next_beat(every_s: float) -> float:
    """Seconds to just after the next multiple of `every_s` of the steady clock. Loops that wait by it wake together: for a processor that sleeps,
    waking up costs more than what they do."""
    return every_s - time.monotonic() % every_s + AFTER_BEAT_S


class Stop:
    """Loops look at it between batches; nothing is cancelled before the stop deadline."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._parts = WeakSet[Stop]()

    def part(self) -> "Stop":
        """The switch of a part of the program: it ends with the whole, and can be set alone."""
        part = Stop()
        if self.is_set():
            part.set()
        self._parts.add(part)
        return part

    def set(self) -> None:
        self._event.set()
        for part in self._parts:
            part.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()

    async def sleep(self, seconds: float) -> bool:
        """Wait that long, or less if the program stops. True when it stops."""
        if self._event.is_set():
            return True
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._event.wait()
        except TimeoutError:
            return False
        return True
