"""What `reconcile` does: walk a past range of the API again, window by window, and count it against a memory."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from streamer.cli.options import bucket_access
from streamer.config import Config, SourceOptions, own_sources, show_moment
from streamer.errors import ConfigError, RetryableError
from streamer.journal.opening import FolderInUse
from streamer.journal.operator import Operator, open_operator
from streamer.journal.sqlite import memory_key
from streamer.model import Event, Listing, SourceName, Window, from_epoch
from streamer.ports import Source, WindowTooLarge
from streamer.range_walk import Allowance, Claim, RangeWalk
from streamer.reconcile import ListingCount, Remembered, Shown, SinkCount, Standing, count_window
from streamer.retry import Backoff
from streamer.sinks.archive.ids import open_archive_ids
from streamer.slices import MAX_SLICE_EVENTS
from streamer.sources import SOURCES
from streamer.stop import Stop
from streamer.telemetry import Telemetry

T = TypeVar("T")

ATTEMPTS = 8
"""At a walk that fails for reasons of the world, before the answer is no."""
REPAIR_POLL_S = 0.5
REPAIR_LIMIT_S = 300.0
EVERYTHING = 1 << 62
"""Beyond every seq and every watermark."""

Shows = Callable[[ListingCount, float], None]
"""(the listing, the part of its range that is done)."""


@dataclass
class Outcome:
    """Both sides, counted."""

    listings: list[ListingCount] = field(default_factory=list)
    sinks: list[SinkCount] = field(default_factory=list)


class Memory(Protocol):
    """What upstream is compared with."""

    def key(self, event_id: str) -> str:
        """An id as the memory holds it."""

    def remembered(self, source: str, since: int, before: int) -> list[tuple[int, str, str, int]]: ...
    def head(self) -> int: ...
    def standings(self) -> dict[str, Standing]:
        """Of each sink, now."""

    def watermark(self, source: str, listing: str) -> int: ...


class JournalMemory:
    """A journal, beside its daemon or without one."""

    def __init__(self, operator: Operator, sinks: Sequence[str]) -> None:
        self._operator = operator
        self.remembered, self.head = operator.remembered, operator.head
        self._dead: dict[str, set[int]] = {name: set() for name in sinks}
        self._newest_letter = 0

    def key(self, event_id: str) -> str:
        return memory_key(event_id)

    def standings(self) -> dict[str, Standing]:
        for number, sink, seq in self._operator.buried(self._newest_letter):
            self._newest_letter = number
            self._dead.setdefault(sink, set()).add(seq)
        acked = self._operator.acked()
        return {name: Standing(acked.get(name, 0), dead) for name, dead in self._dead.items()}

    def watermark(self, source: str, listing: str) -> int:
        rows = self._operator.listings()
        return next((r.watermark for r in rows if (r.source, r.listing) == (source, listing)), 0)


class ArchiveMemory:
    """An archive alone: what it holds has been delivered."""

    def __init__(self, name: str, remembered: Callable[[str, int, int], list[tuple[int, str, str, int]]]) -> None:
        self._name, self.remembered = name, remembered

    def key(self, event_id: str) -> str:
        return event_id

    def head(self) -> int:
        return EVERYTHING

    def standings(self) -> dict[str, Standing]:
        return {self._name: Standing(EVERYTHING, frozenset())}

    def watermark(self, source: str, listing: str) -> int:
        return EVERYTHING


@contextmanager
def open_memory(config: Config, since: float, until: float, archive: str | None) -> Iterator[Memory]:
    """ConfigError where it is not there, or does not reach back to `since`."""
    if archive is not None:
        with open_archive_ids(archive, since, until, bucket_access(config, archive)) as ids:
            yield ArchiveMemory(archive, ids.remembered)
        return
    with open_operator(config.state) as operator:
        for name in own_sources(config):
            begins = operator.forgotten_before(name)
            if since < begins:
                raise ConfigError(
                    f"--since: the journal remembers the events of {name} since {show_moment(from_epoch(begins))}; "
                    "begin there, or prove what is older with --archive"
                )
        yield JournalMemory(operator, list(config.sinks))


async def reconcile(config: Config, since: int, until: int, archive: str | None, show: Shows) -> Outcome:
    """Every listing of every source. A listing that its key may not read is reported, and the others go on."""
    telemetry, outcome = Telemetry(), Outcome()
    with open_memory(config, since, until, archive) as memory:
        outcome.sinks = [SinkCount(name) for name in memory.standings()]
        for name, options in own_sources(config).items():
            kind = SOURCES[options.type]  # type: ignore[attr-defined]  # the registry's models carry their type
            async with kind.open(SourceName(name), options, telemetry) as source:
                for listing in source.listings:
                    count = ListingCount(name, listing, memory.watermark(name, listing))
                    outcome.listings.append(count)
                    await Comparison(source, listing, options, memory, count, outcome.sinks, show).run(since, until)
    return outcome


@dataclass
class Comparison:
    """One listing."""

    source: Source
    listing: Listing
    options: SourceOptions
    memory: Memory
    count: ListingCount
    sinks: Sequence[SinkCount]
    show: Shows

    def __post_init__(self) -> None:
        self._allowance, self._stop = Allowance(self.options.concurrency), Stop()

    async def run(self, since: int, until: int) -> None:
        try:
            # Corrects the clock, and says in one request whether the listing can be read.
            await self._patiently(lambda: self.source.look(self.listing))
        except (ConfigError, RetryableError) as error:
            self.count.error = str(error)
            return
        # What is younger may not be visible everywhere yet; the daemon looks at it again anyway.
        until = min(until, int(self.source.now() - self.options.longest_overlap_s))
        self.count.until = max(since, until)
        self._range, self._head = (since, until), self.memory.head()
        if since < until:
            await RangeWalk(
                Window(since, until),
                self._allowance,
                walk=self._walk,
                prepare=self._prepare,
                store=self._compare,
                stop=self._stop,
            ).run()

    async def _walk(self, claim: Claim) -> list[Event] | WindowTooLarge:
        async def walk() -> list[Event] | WindowTooLarge:
            try:
                async with self._allowance.turn():
                    return await self.source.walk(self.listing, claim.window, MAX_SLICE_EVENTS, claim.narrow)
            except WindowTooLarge as large:
                return large

        return await self._patiently(walk)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        backoff = Backoff()
        while True:
            try:
                return await attempt()
            except RetryableError as error:
                if backoff.attempts >= ATTEMPTS:
                    raise
                wait = backoff.next(error.retry_after)
            await self._stop.sleep(wait)

    async def _prepare(self, events: Sequence[Event]) -> list[Shown]:
        return [Shown(e.effective_at, self.memory.key(e.id)) for e in events]

    async def _compare(self, window: Window, shown: list[Shown]) -> None:
        assert window.end is not None
        since, until = self._range
        remembered = [Remembered(*row) for row in self.memory.remembered(self.source.name, window.start, window.end)]
        standings = self.memory.standings()
        sinks = [(count, standings[count.sink]) for count in self.sinks]
        count_window(shown, remembered, self.count, sinks, self._head)
        self.show(self.count, (window.end - since) / (until - since))


async def repair(config: Config, outcome: Outcome) -> bool:
    """Have what is missing walked again: by the daemon in its turn, or here where none runs. False while the daemon has not done it."""
    from streamer.app import repair as repair_here

    with open_operator(config.state) as operator:
        for row in outcome.listings:
            operator.repair(row.source, row.listing, row.spans)
        # In use: its daemon does it.
        with suppress(FolderInUse):
            await repair_here(config, Telemetry())
        deadline = time.monotonic() + REPAIR_LIMIT_S
        while operator.repairs_left():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(REPAIR_POLL_S)
    return True
