"""The configuration while the daemon runs: when it is read again, what of it cannot be taken, and who takes the rest."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from streamer.config import Config, Stamp, named_files, stamps
from streamer.errors import ConfigError, RetryableError
from streamer.stop import Stop
from streamer.telemetry import Telemetry

REFUSED_AGAIN_S = 60.0
"""A file that was refused is read again so often: what was wrong may have been something else than the file."""

FOLLOWED = frozenset({"api_key_file"})
"""Of sources: the adapter itself reads it whenever it changes, so nothing has to be opened anew."""

Reread = Callable[[], Config]
"""Read and check the configuration as at the start; ConfigError holds every mistake. Takes a moment: called on a thread."""
Take = Callable[[Config], Awaitable[list[str]]]
"""Make it the one in force; what changes, in words. ConfigError leaves everything as it was."""


def _watched(path: Path, config: Config) -> list[Path]:
    """The file itself, and those that are read when something is opened."""
    named = [file for place, file in named_files(config) if place.rpartition(".")[2] not in FOLLOWED]
    return [path, *named, *filter(None, [config.enrich.rules])]


def refusals(before: Config, after: Config) -> list[str]:
    """Why `after` cannot be taken without a restart, a sentence each."""
    found = []
    if before.state != after.state:
        found.append(
            f"state: cannot change from {before.state} to {after.state} while the daemon runs; "
            "stop it, move the folder if it shall go on where it was, and start it"
        )
    if before.standby != after.standby:
        found.append("standby: cannot change while the daemon runs; restart it, and whoever stands by")
    return found


class Reloading:
    """The job that looks, and reads."""

    def __init__(
        self,
        path: Path,
        config: Config,
        before: Mapping[Path, Stamp | None],
        reread: Reread,
        telemetry: Telemetry,
        stop: Stop,
    ) -> None:
        """To be made before anything of `config` is opened. `before`: what `path` was before it was read. What changes from then on is a change, also
        while the daemon still starts."""
        self._path, self._reread, self._telemetry, self._stop = path, reread, telemetry, stop
        self._turn = stop.part()
        self._looked_for: Config | None = None
        self._files: list[Path] = []
        self._begun = {**stamps(_watched(path, config)), **before}

    def ask(self) -> None:
        """Now, whether anything changed or not (SIGHUP)."""
        self._turn.set()

    async def run(self, config: Callable[[], Config], take: Take) -> None:
        """Until stop. `config`: the one in force."""
        read = seen = self._begun
        refused_for_s = 0.0
        while True:
            every = config().reload.watch
            asked = await self._asked(every)
            if self._stop.is_set():
                return
            now = await self._look(config())
            # A file that is being written is left alone until two looks agree.
            changed, seen = now != read and now == seen, now
            refused_for_s = refused_for_s + (every or 0.0) if self._telemetry.status.configuration.refused else 0.0
            if asked or changed or refused_for_s >= REFUSED_AGAIN_S:
                await self._read(config(), take)
                # What changed since the look before the reading, and files that were not looked at, are for the next turn.
                read, refused_for_s = {path: now.get(path) for path in _watched(self._path, config())}, 0.0

    async def _asked(self, every_s: float | None) -> bool:
        """Waits for the next turn."""
        if every_s is None:
            await self._turn.wait()
        asked = await self._turn.sleep(every_s or 0.0)
        if asked and not self._stop.is_set():
            self._turn = self._stop.part()
        return asked

    async def _look(self, config: Config) -> dict[Path, Stamp | None]:
        if config is not self._looked_for:  # To walk through all options takes longer than to look at the files.
            self._looked_for, self._files = config, _watched(self._path, config)
        return await asyncio.to_thread(stamps, self._files)

    async def _read(self, before: Config, take: Take) -> None:
        try:
            after = await asyncio.to_thread(self._reread)
            problems = refusals(before, after)
            if problems:
                raise ConfigError(*problems)
            self._telemetry.configuration_taken(await take(after))
        except RetryableError as error:
            # What cannot be looked at for now is looked at again, as what was refused is.
            self._telemetry.configuration_refused([str(error)])
        except ConfigError as error:
            self._telemetry.configuration_refused(error.problems)
