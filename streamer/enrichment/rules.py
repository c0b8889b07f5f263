"""The rule engine with its memory on disk: what it learned survives a restart."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from streamer.enrich.rules import RuleEngine, load_rules
from streamer.stop import Stop, to_next_beat
from streamer.telemetry import Telemetry

FILE = "rules.state"
SAVE_EVERY_S = 30.0
"""A crash forgets what stateful rules learned in so long."""


class KeptRules:
    """An engine and the file that it is restored from."""

    def __init__(self, folder: Path, engine: RuleEngine, telemetry: Telemetry) -> None:
        self._path, self.engine, self._telemetry = folder / FILE, engine, telemetry

    def restore(self) -> None:
        try:
            state = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._telemetry.rules_state_lost(f"{self._path}: {error.strerror}")
            return
        for sentence in self.engine.restore(state):
            self._telemetry.rules_state_lost(sentence)

    def use(self, engine: RuleEngine) -> None:
        """Another engine, which remembers what this one has learned of the rules that they share."""
        for sentence in engine.restore(self.engine.dump()):
            self._telemetry.rules_state_lost(sentence)
        self.engine = engine

    async def keep(self, stop: Stop) -> None:
        while not await stop.sleep(to_next_beat(SAVE_EVERY_S)):
            await self.save()

    async def save(self) -> None:
        """Whole or not at all: written beside the file, synced, renamed. A disk that is full is told, not fatal."""
        state = self.engine.dump()
        try:
            await asyncio.to_thread(self._write, state)
        except OSError as error:
            self._telemetry.rules_state_lost(f"{self._path} cannot be written: {error.strerror}")

    def _write(self, state: bytes) -> None:
        beside = self._path.with_suffix(".new")
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


@asynccontextmanager
async def open_rules(folder: Path, rules: Path | None, telemetry: Telemetry) -> AsyncIterator[KeptRules]:
    """ConfigError for a rule file with a mistake. Saves once more when it closes."""
    kept = KeptRules(folder, load_rules(rules).engine(), telemetry)
    await asyncio.to_thread(kept.restore)
    try:
        yield kept
    finally:
        await kept.save()
