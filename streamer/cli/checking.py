"""What `check` asks: first without a network, then, if wanted, of the other sides."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from streamer.config import Config, named_files, one_secret
from streamer.decode import decode_event, to_envelope
from streamer.enrich.rules import RuleSet, load_rules
from streamer.errors import ConfigError, StreamerError
from streamer.journal.operator import check_state
from streamer.model import Envelope, Seq, SinkName, SourceName, from_epoch
from streamer.ports import SinkContext, SinkPosition
from streamer.routing import compile_redaction, compile_where
from streamer.sinks import SINKS
from streamer.sources import SOURCES
from streamer.telemetry import Telemetry


def decode_for_tests(raw: bytes) -> Envelope:
    """A rule's test event as the daemon would see it."""
    envelope, _ = to_envelope(
        decode_event(raw), source=SourceName("test"), listing="organization", observed_at=from_epoch(0)
    )
    return envelope


def rule_problems(rules: RuleSet) -> list[str]:
    """A sentence for each event of the rules' own tests that did not do as its test says."""
    return [f"{r.rule}, test {r.test}: {said}" for r in rules.run_tests(decode_for_tests) for said in r.problems]


async def check_offline(config: Config) -> list[str]:
    """Problems, a sentence each: secrets that cannot be read, paths that cannot be written, contradictions."""
    problems: list[str] = []
    try:
        check_state(config.state)
    except ConfigError as error:
        problems += error.problems
    try:
        problems += rule_problems(load_rules(config.enrich.rules))
    except ConfigError as error:
        problems += error.problems
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
            compile_redaction(sink.redact, secret.reveal().encode() if secret else None, f"sinks.{name}")
            async with SINKS[sink.type].open(sink, _context(config, name)):  # type: ignore[attr-defined]  # as above
                pass
        except ConfigError as error:
            problems += [_placed(name, problem) for problem in error.problems]
        except ValueError as error:
            problems.append(f"sinks.{name}: {error}")
    # Some adapters read a file only when they connect.
    told = "\n".join(problems)
    return problems + [problem for path, problem in _unreadable(config) if not _names(told, path)]


def _names(told: str, path: Path) -> bool:
    """Itself, and not one whose name goes on."""
    return re.search(re.escape(str(path)) + r"(?![\w/-]|\.\w)", told) is not None


def _unreadable(config: Config) -> Iterator[tuple[Path, str]]:
    """Every file that is named and cannot be read, and a sentence about it."""
    for place, path in named_files(config):
        try:
            path.open("rb").close()
        except OSError as error:
            reason = (error.strerror or "error").lower()
            yield path, f"{place}: cannot read {path}: {reason}; put the file there"


def _placed(name: str, problem: str) -> str:
    return problem if problem.startswith("sinks.") else f"sinks.{name}: {problem}"


def _context(config: Config, name: str) -> SinkContext:
    return SinkContext(
        name=SinkName(name),
        position=SinkPosition(Seq(0), None, config.sinks[name].was or SinkName(name)),
        folder=config.state,
        journal="check",
        only_looking=True,
    )


async def check_online(config: Config) -> AsyncIterator[tuple[bool, str]]:
    """(good, sentence) for each listing of each source and each sink."""
    telemetry = Telemetry()
    for name, options in config.sources.items():
        kind = SOURCES[options.type]  # type: ignore[attr-defined]  # the registry's models carry their type
        try:
            answers = await kind.probe(SourceName(name), options, telemetry)
        except StreamerError as error:
            yield False, str(error)
            continue
        for listing, said in answers.items():
            # A verdict names its place itself.
            yield (False, str(said)) if isinstance(said, StreamerError) else (True, f"source {name}, {listing}: {said}")
    for name, sink in config.sinks.items():
        try:
            said = await SINKS[sink.type].probe(sink, _context(config, name))  # type: ignore[attr-defined]  # as above
            yield True, f"sink {name}: {said}"
        except StreamerError as error:
            yield False, _placed(name, str(error))
