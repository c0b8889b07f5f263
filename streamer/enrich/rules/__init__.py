"""Rules: severity, tags and detections as data, a YAML file. docs/rules.md has the language and the built-in ones."""

from pathlib import Path
from typing import Any

from streamer.enrich.rules.engine import RuleEngine
from streamer.enrich.rules.loading import builtin_text, parse_rules, read_rules
from streamer.enrich.rules.rule import Rule
from streamer.enrich.rules.sigma import to_sigma, why_not
from streamer.enrich.rules.trials import Decode, TestResult, run_tests

__all__ = ["Decode", "Rule", "RuleEngine", "RuleSet", "TestResult", "builtin_text", "load_rules", "to_sigma", "why_not"]


class RuleSet:
    """The rules of one file."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules

    @classmethod
    def parse(cls, text: str, name: str) -> "RuleSet":
        """Of a text; `name` is what its mistakes call it."""
        return cls(parse_rules(text, name))

    def engine(self) -> RuleEngine:
        """A new one, that remembers nothing yet."""
        return RuleEngine(self.rules)

    def run_tests(self, decode: Decode) -> list[TestResult]:
        """The tests that the rules carry, in the order of the file."""
        return run_tests(self.rules, decode)

    def table(self) -> list[dict[str, Any]]:
        """A row a rule, plain data, for a list on a screen or as JSON."""
        return [
            {
                "name": rule.name,
                "title": rule.title,
                "severity": rule.severity,
                "kind": rule.kind,
                "types": list(rule.match.types),
                "attack": list(rule.attack),
                "tags": list(rule.tags),
                "references": list(rule.references),
                "description": rule.description,
                "tests": len(rule.tests),
            }
            for rule in self.rules
        ]

    def __getitem__(self, name: str) -> Rule:
        """KeyError where there is none of this name."""
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(name)


def load_rules(path: Path | None) -> RuleSet:
    """The rules of a file; None: the built-in ones. ConfigError holds every mistake, each with file, line and mend."""
    return RuleSet(read_rules(path))
