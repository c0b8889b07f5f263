"""What `check` asks: first without a network, then, if wanted, of the other sides."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

from streamer.config import Config, one_secret
from streamer.errors import ConfigError, StreamerError
from streamer.model import Seq, SinkName, SourceName
from streamer.ports import SinkContext, SinkPosition
from streamer.routing import compile_redaction, compile_where
from streamer.sinks import SINKS
from streamer.sources import SOURCES
from streamer.telemetry import Telemetry


async def check_offline(config: Config) -> list[str]:
    """Problems, a sentence each: secrets that cannot be read, paths that cannot be written, contradictions."""
    problems = list(_state_problems(config.state))
    telemetry = Telemetry()
    for name, options in config.sources.items():
        kind = SOURCES[options.type]  # type: ignore[attr-defined]  # the registry's models carry their type
        try:
            async with kind.open(SourceName(name), options, telemetry):
                pass
        except ConfigError as error:
            problems += error.problems
    for name, sink in config.sinks.items():
        try:
            secret = one_secret(f"sinks.{name}.redact_key", sink.redact_key, sink.redact_key_file)
            compile_where(sink.where)
            compile_redaction(sink.redact, secret.reveal().encode() if secret else None)
            async with SINKS[sink.type].open(sink, _context(config, name)):  # type: ignore[attr-defined]  # as above
                pass
        except ConfigError as error:
            problems += error.problems
        except ValueError as error:
            problems.append(f"sinks.{name}: {error}")
    return problems


def _context(config: Config, name: str) -> SinkContext:
    return SinkContext(name=SinkName(name), position=SinkPosition(Seq(0), None), folder=config.state, journal="check")


def _state_problems(folder: Path) -> list[str]:
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        return [f"state: {existing} is not a folder; set another `state`"]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [f"state: {existing} cannot be written; give this user the folder or set another `state`"]
    return []


async def check_online(config: Config) -> AsyncIterator[tuple[bool, str]]:
    """(good, sentence) for each listing of each source and each sink."""
    telemetry = Telemetry()
    for name, options in config.sources.items():
        kind = SOURCES[options.type]  # type: ignore[attr-defined]  # the registry's models carry their type
        try:
            answers = await kind.probe(SourceName(name), options, telemetry)
        except StreamerError as error:
            yield False, f"source {name}: {error}"
            continue
        for listing, said in answers.items():
            yield not isinstance(said, StreamerError), f"source {name}, {listing}: {said}"
    for name, sink in config.sinks.items():
        try:
            said = await SINKS[sink.type].probe(sink, _context(config, name))  # type: ignore[attr-defined]  # as above
            yield True, f"sink {name}: {said}"
        except StreamerError as error:
            yield False, f"sink {name}: {error}"
