"""The one switch that ends the program, and the only way to wait."""

import asyncio
from weakref import WeakSet


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
