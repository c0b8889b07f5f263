"""One listing with its intake, a real journal, and a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from streamer.config import SourceOptions
from streamer.intake import Intake
from streamer.journal.sqlite import SqliteJournal
from streamer.model import Seq
from streamer.range_walk import Allowance
from streamer.stop import Stop
from streamer.telemetry import ListingStatus, Telemetry
from tests.fakes import FakeSource

NOW = 1_750_000_000.0


class World:
    """One listing, its intake, and the clock of both."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.journal, self.now = journal, NOW
        self.source = FakeSource(clock=lambda: self.now)
        self.telemetry = Telemetry(clock=lambda: self.now)
        self.stop = Stop()

    def intake(self, *, once: bool = True, **options: object) -> Intake:
        given = {"start": "1d", "poll_interval": "1ms", **options}
        return Intake(
            source=self.source,
            listing="organization",
            options=SourceOptions.model_validate(given),
            journal=self.journal,
            enrichers=[],
            telemetry=self.telemetry,
            stop=self.stop,
            allowance=Allowance(8),
            once=once,
            max_wait_s=0.001,
        )

    @property
    def row(self) -> ListingStatus:
        return self.telemetry.status.listings[("acme", "organization")]

    async def ids(self) -> list[str]:
        return [r.envelope.id for r in await self.journal.read(Seq(0), 100_000, 1 << 30)]

    @asynccontextmanager
    async def running(self, **options: object) -> AsyncIterator[None]:
        task = asyncio.create_task(self.intake(once=False, **options).run())
        try:
            yield
        finally:
            self.stop.set()
            await task

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)
