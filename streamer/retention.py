"""The loop that forgets: prunes what every sink has and measures what is left."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.errors import ConfigError, RetryableError
from streamer.model import SinkName
from streamer.ports import Journal
from streamer.stop import Stop, to_next_beat
from streamer.telemetry import Telemetry

MEASURE_EVERY_S = 2.0
MEASURE_ANYWAY_S = 30.0
"""Though nothing seems to have been written."""
PRUNE_EVERY_S = 60.0


def give_back_memory() -> None:
    """What a catch-up has freed goes back to the system (glibc keeps it: 130 MiB instead of 90 after a million events)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@dataclass
class Retention:
    journal: Journal
    sinks: Sequence[SinkName]
    """The configured ones: only they pin records."""
    keep_s: float
    remember_s: float
    """How long ids are remembered: longer than any window that may be walked again."""
    max_bytes: int
    telemetry: Telemetry
    stop: Stop
    prune_every_s: float = PRUNE_EVERY_S

    async def run(self) -> None:
        since_prune = self.prune_every_s
        since_measured, measured = MEASURE_ANYWAY_S, None
        while True:
            try:
                now = (self.journal.stamp(), self.sinks)
                if now != measured or since_measured >= MEASURE_ANYWAY_S:
                    await self.measure()
                    since_measured, measured = 0.0, now
                full = self.telemetry.status.journal.full
                if since_prune >= self.prune_every_s or full:
                    await self._prune()
                    give_back_memory()
                    since_prune = 0.0
            except (RetryableError, ConfigError) as error:
                self.telemetry.retention_failing(str(error))
            if await self.stop.sleep(to_next_beat(MEASURE_EVERY_S)):
                return
            since_prune += MEASURE_EVERY_S
            since_measured += MEASURE_EVERY_S

    async def _prune(self) -> None:
        # A full journal keeps no history beyond what some sink still waits for.
        keep_s = 0.0 if self.telemetry.status.journal.full else self.keep_s
        while not self.stop.is_set():
            pruned = await self.journal.prune(self.sinks, keep_s, self.remember_s)
            self.telemetry.pruned(pruned)
            if not pruned:
                return

    async def measure(self) -> None:
        size = await self.journal.size()
        self.telemetry.journal_size(size.used_bytes, self.max_bytes, size.records, size.head)
        for name in self.sinks:
            row = self.telemetry.status.sinks.get(name)
            if row is not None:
                backlog = await self.journal.backlog(name)
                self.telemetry.sink_backlog(row, backlog.events, backlog.oldest_at)
