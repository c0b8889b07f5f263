"""The last hour, in memory: one sample every ten seconds."""

from collections import deque
from dataclasses import dataclass, field

from streamer.model import Severity
from streamer.stop import Stop
from streamer.telemetry import Status, Telemetry

EVERY_S = 10.0
SAMPLES = 360
RATE_SAMPLES = 3
"""A rate is that of the last half minute."""


@dataclass(frozen=True)
class Sample:
    at: float
    """Unix seconds."""
    received: int
    delivered: int
    backlog: int
    oldest_s: float
    """Age of the oldest event that some sink has not got."""
    severities: dict[Severity, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Totals:
    """What every row had counted at a moment."""

    at: float
    listings: dict[tuple[str, str], int]
    sinks: dict[str, int]


def take(status: Status, now: float) -> Sample:
    sinks = status.sinks.values()
    oldest = min((row.oldest_at for row in sinks if row.oldest_at is not None), default=now)
    return Sample(
        at=now,
        received=sum(row.received for row in status.listings.values()),
        delivered=sum(row.delivered for row in sinks),
        backlog=sum(row.backlog for row in sinks),
        oldest_s=max(now - oldest, 0.0),
        severities=dict(status.severities),
    )


def totals(status: Status, now: float) -> Totals:
    listings = {key: row.received for key, row in status.listings.items()}
    return Totals(now, listings, {name: row.delivered for name, row in status.sinks.items()})


class History:
    """A ring of samples of the whole, and a short one of every row, from which rates follow."""

    def __init__(self, telemetry: Telemetry, stop: Stop) -> None:
        self._telemetry, self._stop = telemetry, stop
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._rows: deque[Totals] = deque(maxlen=RATE_SAMPLES)
        self.taken = 0
        self.sample()

    def sample(self) -> None:
        now = self._telemetry.clock()
        self.samples.append(take(self._telemetry.status, now))
        self._rows.append(totals(self._telemetry.status, now))
        self.taken += 1

    async def run(self) -> None:
        while not await self._stop.sleep(EVERY_S):
            self.sample()

    def rates(self) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
        """Events a second: received by listing, delivered by sink."""
        before, now = self._rows[0], totals(self._telemetry.status, self._telemetry.clock())
        seconds = max(now.at - before.at, 1.0)
        return (
            {key: max(count - before.listings.get(key, 0), 0) / seconds for key, count in now.listings.items()},
            {name: max(count - before.sinks.get(name, 0), 0) / seconds for name, count in now.sinks.items()},
        )
