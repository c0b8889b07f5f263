"""The rule engine: an enricher that asks of an event only the rules that are made for its type."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import NamedTuple, TypeVar

import msgspec

from streamer.catalog import TYPES
from streamer.enrich.rules.conditions import Predicate, compile_condition, compile_pattern
from streamer.enrich.rules.fields import View, key_getter, text_getter
from streamer.enrich.rules.memories import Bursts, Habits, Memory, Novelties
from streamer.enrich.rules.rule import Count, FirstSeen, Match, Rule, Sequence, UnusualHour
from streamer.enrich.rules.state import State
from streamer.model import SEVERITIES, Envelope, Severity, to_epoch

M = TypeVar("M", bound=Memory)

STATE_FORMAT = 1
_RANK: Mapping[Severity, int] = {severity: rank for rank, severity in enumerate(SEVERITIES)}
_encode = msgspec.msgpack.Encoder().encode


_decode = msgspec.msgpack.Decoder(State, strict=True).decode


class Step(NamedTuple):
    """One rule at one type of event."""

    rule: Rule
    tags: tuple[str, ...]
    """The rule's own, and its techniques as Sigma writes them."""
    matches: Predicate


class RuleEngine:
    """`Enricher`: names the rules that match, adds their tags and raises the severity.

    Total and local. State is by source, so that two organizations do not mix. Not for several threads at once.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._memories: dict[str, tuple[str, Memory]] = {}
        self._steps: list[tuple[Callable[[str], bool], Step]] = []
        for rule in rules:
            self._compile(rule)
        self._by_type = {name: self._find(name) for name in TYPES}
        self._find_unknown = lru_cache(maxsize=512)(self._find)

    def enrich(self, envelope: Envelope, /) -> None:
        kind = envelope.type
        steps = self._by_type.get(kind)
        if steps is None:
            steps = self._find_unknown(kind)
        if not steps:
            return
        view = View(envelope, to_epoch(envelope.time))
        matched: list[Step] | None = None
        for step in steps:  # a comprehension would be one call more
            if step[2](view):
                if matched is None:
                    matched = []
                matched.append(step)
        if matched is not None:
            _apply(matched, envelope)

    def looks_at(self, event_type: str) -> list[str]:
        """The names of the rules that look at events of this type."""
        return list(dict.fromkeys(step.rule.name for step in self._find(event_type)))

    # --- state ---------------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Everything that stateful rules remember; `restore` takes it."""
        rules = {name: (mark, memory.dump()) for name, (mark, memory) in self._memories.items()}
        return _encode(State(STATE_FORMAT, rules))

    def restore(self, state: bytes) -> list[str]:
        """Remember what another engine has dumped. Returns a sentence for each rule that must begin anew."""
        try:
            found = _decode(state)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return [f"the rules' state cannot be read, they begin to learn anew: {error}"]
        if found.format != STATE_FORMAT:
            return [f"the rules' state has format {found.format} and not {STATE_FORMAT}, they begin to learn anew"]
        sentences = []
        for name, (mark, memory) in self._memories.items():
            theirs, state_of_rule = found.rules.get(name, (None, None))
            if theirs is None:
                continue
            if theirs != mark:
                sentences.append(f"rule {name} has changed, it begins to learn anew")
                continue
            try:
                memory.restore(state_of_rule)
            except msgspec.ValidationError as error:
                sentences.append(f"the state of rule {name} cannot be read, it begins to learn anew: {error}")
        return sentences

    def keys(self) -> dict[str, int]:
        """How many keys each stateful rule remembers."""
        return {name: len(memory) for name, (_, memory) in self._memories.items()}

    # --- compiling -----------------------------------------------------------------------------------------------------

    def _find(self, event_type: str) -> tuple[Step, ...]:
        name = event_type.casefold()
        return tuple(step for fits, step in self._steps if fits(name))

    def _compile(self, rule: Rule) -> None:
        where = _where(rule.match)
        match rule.memory:
            case None:
                self._add(rule, rule.match, where)
            case Count() as count:
                bursts = self._remembered(rule, Bursts(count))
                value_of = text_getter(count.distinct) if count.distinct is not None else _id_of
                self._add(rule, rule.match, partial(_counted, where, key_getter(count.key), value_of, bursts))
            case Sequence() as sequence:
                bursts = self._remembered(rule, Bursts(sequence))
                key = key_getter(sequence.key)
                self._add(rule, rule.match, partial(_followed, where, key, bursts))
                self._add(rule, sequence.first, partial(_noted, _where(sequence.first), key, bursts))
            case FirstSeen() as novelty:
                known = self._remembered(rule, Novelties(novelty))
                self._add(
                    rule, rule.match, partial(_new, where, key_getter(novelty.key), text_getter(novelty.value), known)
                )
            case UnusualHour() as hour:
                habits = self._remembered(rule, Habits(hour))
                self._add(rule, rule.match, partial(_unusual, where, key_getter(hour.key), habits))

    def _add(self, rule: Rule, match: Match, matches: Predicate) -> None:
        patterns = tuple(compile_pattern(pattern.casefold()) for pattern in match.types)
        tags = (*rule.tags, *(f"attack.{technique.lower()}" for technique in rule.attack))
        self._steps.append((lambda name: any(fits(name) for fits in patterns), Step(rule, tags, matches)))

    def _remembered(self, rule: Rule, memory: M) -> M:
        # A state is of use only to the very rule that made it: other types or fields would mean other things by it.
        mark = hashlib.sha256(repr((rule.match, rule.memory)).encode()).hexdigest()[:16]
        self._memories[rule.name] = (mark, memory)
        return memory


def _apply(matched: list[Step], envelope: Envelope) -> None:
    """Rules that lower are heard first, so that none takes back what another raises."""
    severity = envelope.severity
    if lowered := [step.rule.severity for step in matched if step.rule.lowers and step.rule.severity is not None]:
        severity = min(lowered, key=_RANK.__getitem__)
    for rule, tags, _ in matched:
        envelope.rules.append(rule.name)
        envelope.tags += [tag for tag in tags if tag not in envelope.tags] if envelope.tags else tags
        if rule.severity is not None and _RANK[rule.severity] > _RANK[severity]:
            severity = rule.severity
    envelope.severity = severity


# --- stateful rules at one event ---------------------------------------------------------------------------------------

_TextOf = Callable[[View], str | None]
_KeyOf = Callable[[View], tuple[str, ...] | None]


def _anything(_view: View) -> bool:
    return True


def _where(match: Match) -> Predicate:
    return compile_condition(match.where) if match.where is not None else _anything


def _counted(where: Predicate, key_of: _KeyOf, value_of: _TextOf, bursts: Bursts, view: View) -> bool:
    if not where(view) or (key := key_of(view)) is None or (value := value_of(view)) is None:
        return False
    return bursts.reached(key, value, view.seconds)


def _noted(where: Predicate, key_of: _KeyOf, bursts: Bursts, view: View) -> bool:
    if where(view) and (key := key_of(view)) is not None:
        bursts.remember(key, view.envelope.id, view.seconds)
    return False


def _followed(where: Predicate, key_of: _KeyOf, bursts: Bursts, view: View) -> bool:
    return where(view) and (key := key_of(view)) is not None and bursts.preceded(key, view.seconds)


def _new(where: Predicate, key_of: _KeyOf, value_of: _TextOf, known: Novelties, view: View) -> bool:
    if (value := value_of(view)) is None or not where(view) or (key := key_of(view)) is None:
        return False
    return known.is_new(key, value, view.seconds, view.envelope.id)


def _unusual(where: Predicate, key_of: _KeyOf, habits: Habits, view: View) -> bool:
    if not where(view) or (key := key_of(view)) is None:
        return False
    return habits.is_unusual(key, view.seconds, view.envelope.id)


def _id_of(view: View) -> str | None:
    return view.envelope.id
