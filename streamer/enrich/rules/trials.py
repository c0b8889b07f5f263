"""The tests that rules carry: each is told to a fresh engine that has this one rule."""

from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from streamer.enrich.rules.engine import RuleEngine
from streamer.enrich.rules.rule import Rule, RuleTest, TestEvent
from streamer.model import Envelope, decode_envelope, encode_envelope

Decode = Callable[[bytes], Envelope]
"""An upstream record to an envelope that no enricher has seen."""

BEGIN = 1_767_603_600  # Monday 2026-01-05, 09:00 UTC
"""When a test's time begins, in Unix seconds."""


class TestResult(msgspec.Struct, frozen=True):
    """How one test ended."""

    rule: str
    test: str
    line: int
    """Of the test in the rule file."""
    passed: bool
    problems: tuple[str, ...] = ()
    """A sentence for each event that did not do as the test says, with its line."""


def run_tests(rules: list[Rule], decode: Decode) -> list[TestResult]:
    return [_run(rule, test, decode) for rule in rules for test in rule.tests]


def _run(rule: Rule, test: RuleTest, decode: Decode) -> TestResult:
    engine, at, problems = RuleEngine([rule]), BEGIN, []
    for number, event in enumerate(test.events, 1):
        given = event.record.get("effective_at")
        at = given if isinstance(given, int) else at + event.after_s
        try:
            envelope = _envelope(event, number, at, decode)
        except msgspec.ValidationError as error:
            problems.append(f"line {event.line}: the envelope overlay of event {number} does not fit: {error}")
            continue
        engine.enrich(envelope)
        matched = bool(envelope.rules)
        if matched != event.match:
            problems.append(
                f"line {event.line}: event {number} ({event.record['type']}) "
                + ("matches and should not" if matched else "should match and does not")
            )
    return TestResult(rule.name, test.name, test.line, not problems, tuple(problems))


def _envelope(event: TestEvent, number: int, at: int, decode: Decode) -> Envelope:
    record = {"id": f"test-{number}", **event.record, "effective_at": at}
    envelope = decode(orjson.dumps(record))
    if not event.overlay:
        return envelope
    tree = orjson.loads(encode_envelope(envelope))
    return decode_envelope(orjson.dumps(_overlaid(tree, event.overlay)))


def _overlaid(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _overlaid(below.get(key), value) for key, value in above.items()}}
    return above
