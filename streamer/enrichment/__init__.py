"""Everything around the enrichers that touches the world: opened together, in their order, with the jobs that keep them fresh."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamer.config import Config, SourceOptions, content_mark
from streamer.enrich.directory import MAX_THINGS, Directory
from streamer.enrich.geo import Geography
from streamer.enrich.networks import Networks
from streamer.enrich.rules import load_rules
from streamer.enrichment.geoip import GeoipFile, watch
from streamer.enrichment.refresh import LANES, DirectoryRefresh
from streamer.enrichment.rules import KeptRules, open_rules
from streamer.enrichment.store import DirectoryStore, open_directory_store
from streamer.errors import ConfigError, RetryableError
from streamer.model import SourceName
from streamer.sources import SOURCES
from streamer.stop import Stop, to_next_beat
from streamer.telemetry import Telemetry

if TYPE_CHECKING:
    from streamer.ports import Enricher

SAVE_EVERY_S = 2.0
"""A name that only an event told can be lost with the process for so long."""
ROWS_A_SAVE = 2000
"""A few milliseconds between two turns of the loop."""
LOOK_EVERY_S = 0.05


@dataclass
class Names:
    """The names of one source."""

    refresh: DirectoryRefresh | None
    """None: nobody asks for them."""
    warmup_s: float
    stop: Stop

    async def ready(self) -> None:
        """Until the first load of names has ended, but no longer than `directory.warmup`, nor past stop. `refresh` must run."""
        until = time.monotonic() + self.warmup_s
        while self.refresh is not None and not self.refresh.loaded and time.monotonic() < until:
            if await self.stop.sleep(LOOK_EVERY_S):
                return


class Enrichment:
    """What `open_enrichment` made. It becomes another at once, between two events: nobody who holds `enrichers` has to be told."""

    def __init__(self, config: Config, telemetry: Telemetry, stop: Stop, stack: AsyncExitStack) -> None:
        self._config, self._telemetry, self._stop, self._stack = config, telemetry, stop, stack
        self.enrichers: list[Enricher] = []
        """In the order in which they are asked."""
        self.directory: Directory | None = None
        self.jobs: dict[str, Callable[[], Awaitable[None]]] = {
            "directory store": self._keep_names,
            "geoip": self._watch_geoip,
            "rules state": self._keep_rules,
        }
        """Run in the background, each until stop."""
        self._store: DirectoryStore | None = None
        self._lanes = asyncio.Semaphore(LANES)
        self._geography: tuple[Geography, GeoipFile] | None = None
        self._rules: KeptRules
        self._rules_mark = ""

    async def open(self) -> None:
        """ConfigError for what an operator has to mend first."""
        options = self._config.enrich
        if options.directory is not None:
            await self._open_directory()
        self._geography = await self._read_geography(self._config)
        self._rules_mark = _rules_mark(self._config)
        self._rules = await self._stack.enter_async_context(
            open_rules(self._config.state, options.rules, self._telemetry)
        )
        self._line_up()

    async def become(self, config: Config) -> bool:
        """What `config` wants. False where it is that already; ConfigError leaves everything as it was."""
        options, before = config.enrich, self._config.enrich
        mark = _rules_mark(config)
        if options == before and mark == self._rules_mark:
            self._config = config
            return False
        engine = None
        if mark != self._rules_mark:
            engine = await asyncio.to_thread(lambda: load_rules(options.rules).engine())
        geography = self._geography if options.geoip == before.geoip else await self._read_geography(config)
        if options.directory is not None and self.directory is None:
            await self._open_directory()
        # Nothing can fail any more, and no event passes in between.
        self._config, self._geography, self._rules_mark = config, geography, mark
        if engine is not None:
            self._rules.use(engine)
        self._line_up()
        return True

    def _line_up(self) -> None:
        options = self._config.enrich
        parts: list[Enricher] = [Networks(options.networks)]
        if self.directory is not None and options.directory is not None:
            parts.insert(0, self.directory)
        if self._geography is not None:
            parts.append(self._geography[0])
        # Last, so that rules see the names and places that the others have added.
        parts.append(self._rules.engine)
        self.enrichers[:] = parts

    # --- names -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def names(self, name: SourceName, options: SourceOptions, stop: Stop) -> AsyncIterator[Names]:
        """Of one source, as far as the configuration asks for them; touches no network."""
        wanted = self._config.enrich.directory
        if wanted is None or self.directory is None or self._store is None:
            yield Names(None, 0.0, stop)
            return
        if not self.directory.counts(name):
            try:
                self.directory.restore(await self._store.load([name], MAX_THINGS))
            except (ConfigError, RetryableError) as error:
                self._telemetry.directory_lost(str(error))
        kind = SOURCES[options.type]  # type: ignore[attr-defined]  # the registry's models carry their type
        async with kind.directory(name, options, self._telemetry) as source:
            phase = random.random()  # noqa: S311 - spreads load, guards nothing
            refresh = DirectoryRefresh(
                source, self.directory, wanted.refresh, self._telemetry, stop, phase, self._lanes
            )
            yield Names(refresh, wanted.warmup, stop)

    async def _open_directory(self) -> None:
        """Stays open, even if names are not wanted any more."""
        if self._store is None:
            opening = open_directory_store(self._config.state, self._telemetry.directory_lost)
            self._store = await self._stack.enter_async_context(opening)
            self._stack.push_async_callback(self._save_names)
        self.directory = Directory()

    async def _keep_names(self) -> None:
        while not await self._stop.sleep(to_next_beat(SAVE_EVERY_S)):
            await self._save_names()

    async def _save_names(self) -> None:
        """Write down what is new, and say what was missing."""
        directory, store = self.directory, self._store
        if directory is None or store is None:
            return
        self._telemetry.names_missing(directory.take_missing())
        while changes := directory.take_changes(ROWS_A_SAVE):
            try:
                await store.save(changes)
            except (ConfigError, RetryableError) as error:
                directory.put_back(changes)
                self._telemetry.directory_unsaved(str(error))
                return
            self._telemetry.directory_saved()

    # --- files -------------------------------------------------------------------------------------------------------

    async def _read_geography(self, config: Config) -> tuple[Geography, GeoipFile] | None:
        if config.enrich.geoip is None:
            return None
        geography = Geography()
        file = GeoipFile(config.enrich.geoip, geography, self._telemetry)
        try:
            await file.read()
        except RetryableError as error:
            raise ConfigError(str(error)) from None
        return geography, file

    async def _watch_geoip(self) -> None:
        await watch(lambda: self._geography[1] if self._geography is not None else None, self._stop)

    async def _keep_rules(self) -> None:
        await self._rules.keep(self._stop)


def _rules_mark(config: Config) -> str:
    rules = config.enrich.rules
    return content_mark([rules]) if rules is not None else ""


@asynccontextmanager
async def open_enrichment(config: Config, telemetry: Telemetry, stop: Stop) -> AsyncIterator[Enrichment]:
    """Touches no network. ConfigError for what an operator has to mend first."""
    async with AsyncExitStack() as stack:
        enrichment = Enrichment(config, telemetry, stop, stack)
        await enrichment.open()
        yield enrichment
