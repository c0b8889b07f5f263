"""Everything around the enrichers that touches the world: opened together, in their order, with the jobs that keep them fresh."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from streamer.config import Config
from streamer.enrich.directory import MAX_THINGS, Directory
from streamer.enrich.geo import Geography
from streamer.enrich.networks import Networks
from streamer.enrichment.geoip import GeoipFile
from streamer.enrichment.refresh import DirectoryRefresh
from streamer.enrichment.rules import open_rules
from streamer.enrichment.store import DirectoryStore, open_directory_store
from streamer.errors import ConfigError, RetryableError
from streamer.model import SourceName
from streamer.ports import Enricher
from streamer.sources import SOURCES
from streamer.stop import Stop
from streamer.telemetry import Telemetry

SAVE_EVERY_S = 2.0
"""A name that only an event told can be lost with the process for so long."""
ROWS_A_SAVE = 2000
"""A few milliseconds between two turns of the loop."""
LOOK_EVERY_S = 0.05


@dataclass
class Enrichment:
    """What `open_enrichment` made."""

    enrichers: list[Enricher] = field(default_factory=list)
    """In the order in which they are asked."""
    jobs: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """Run in the background, each until stop."""
    directory: Directory | None = None
    _refreshes: list[DirectoryRefresh] = field(default_factory=list)
    _warmup_s: float = 0.0
    _stop: Stop = field(default_factory=Stop)

    async def ready(self) -> None:
        """Until the first load of names has ended, but no longer than `directory.warmup`, nor past stop. The jobs must run."""
        until = time.monotonic() + self._warmup_s
        while not all(one.loaded for one in self._refreshes) and time.monotonic() < until:
            if await self._stop.sleep(LOOK_EVERY_S):
                return


@asynccontextmanager
async def open_enrichment(config: Config, telemetry: Telemetry, stop: Stop) -> AsyncIterator[Enrichment]:
    """Touches no network. ConfigError for what an operator has to mend first."""
    options = config.enrich
    made = Enrichment(_stop=stop)
    async with AsyncExitStack() as stack:
        if options.directory is not None:
            made._warmup_s = options.directory.warmup
            await _open_directory(stack, config, options.directory.refresh, telemetry, stop, made)
        made.enrichers.append(Networks(options.networks))
        if options.geoip is not None:
            geography = Geography()
            file = GeoipFile(options.geoip, geography, telemetry)
            try:
                await file.read()
            except RetryableError as error:
                raise ConfigError(str(error)) from None
            made.enrichers.append(geography)
            made.jobs["geoip"] = lambda: file.watch(stop)
        # Last, so that rules see the names and places that the others have added.
        kept = await stack.enter_async_context(open_rules(config.state, options.rules, telemetry))
        made.enrichers.append(kept.engine)
        made.jobs["rules state"] = lambda: kept.keep(stop)
        yield made


async def _open_directory(
    stack: AsyncExitStack, config: Config, refresh_s: float, telemetry: Telemetry, stop: Stop, made: Enrichment
) -> None:
    store = await stack.enter_async_context(open_directory_store(config.state, telemetry.directory_lost))
    directory = made.directory = Directory()
    try:
        directory.restore(await store.load(list(config.sources), MAX_THINGS))
    except RetryableError as error:
        telemetry.directory_lost(str(error))
    for name, source_options in config.sources.items():
        kind = SOURCES[source_options.type]  # type: ignore[attr-defined]  # the registry's models carry their type
        source = await stack.enter_async_context(kind.directory(SourceName(name), source_options, telemetry))
        refresh = DirectoryRefresh(source, directory, refresh_s, telemetry, stop)
        made._refreshes.append(refresh)
        made.jobs[f"directory {name}"] = refresh.run
    made.enrichers.append(directory)
    made.jobs["directory store"] = lambda: _keep(directory, store, telemetry, stop)
    stack.push_async_callback(_save, directory, store, telemetry)


async def _keep(directory: Directory, store: DirectoryStore, telemetry: Telemetry, stop: Stop) -> None:
    while not await stop.sleep(SAVE_EVERY_S):
        await _save(directory, store, telemetry)


async def _save(directory: Directory, store: DirectoryStore, telemetry: Telemetry) -> None:
    """Write down what is new, and say what was missing."""
    telemetry.names_missing(directory.take_missing())
    while changes := directory.take_changes(ROWS_A_SAVE):
        try:
            await store.save(changes)
        except (ConfigError, RetryableError) as error:
            directory.put_back(changes)
            telemetry.directory_unsaved(str(error))
            return
        telemetry.directory_saved()
