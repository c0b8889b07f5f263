"""What a sink gets to see: which events (`where`), and how much of each (`redact`). Pure."""

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
import orjson

from streamer.config import Redaction, Where
from streamer.errors import ConfigError
from streamer.model import FRAME_FIELDS, SEVERITIES, Envelope, Record

# --- which events ----------------------------------------------------------------------------------------------------

Condition = Callable[[Envelope], bool]


def compile_where(where: Where) -> Condition | None:
    """Whether a sink takes an event. None: it takes every one, so that nobody needs to look inside."""
    conditions = list(_conditions(where))
    return _every(conditions) if conditions else None


def _every(conditions: Sequence[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    return lambda envelope: all(holds(envelope) for holds in conditions)


def _conditions(where: Where) -> Iterator[Condition]:
    """The parts that an event must meet all of."""
    if where.types:
        matches = _one_of(where.types)
        yield lambda envelope: matches(envelope.type)
    if where.families:
        families = frozenset(where.families)
        yield lambda envelope: envelope.family in families
    if where.min_severity and where.min_severity != SEVERITIES[0]:
        severe = frozenset(SEVERITIES[SEVERITIES.index(where.min_severity) :])
        yield lambda envelope: envelope.severity in severe
    if where.sources:
        sources = frozenset(where.sources)
        yield lambda envelope: envelope.source in sources
    if where.listings:
        listings = frozenset(where.listings)
        yield lambda envelope: envelope.listing in listings
    if where.projects:
        projects = frozenset(where.projects)
        yield (
            lambda envelope: (
                envelope.project is not None and (envelope.project.id in projects or envelope.project.name in projects)
            )
        )
    if where.outcome:
        outcome = where.outcome
        yield lambda envelope: envelope.outcome == outcome
    if where.tags:
        tags = frozenset(where.tags)
        yield lambda envelope: not tags.isdisjoint(envelope.tags)
    yield from _compound(where)


def _compound(where: Where) -> Iterator[Condition]:
    for part in where.all:
        yield from _conditions(part)
    some = [compile_where(part) for part in where.any]
    if some and None not in some:
        alternatives = [part for part in some if part is not None]
        yield lambda envelope: any(holds(envelope) for holds in alternatives)
    for part in where.none:
        excluded = compile_where(part)
        yield (lambda _: False) if excluded is None else _not(excluded)


def _not(condition: Condition) -> Condition:
    return lambda envelope: not condition(envelope)


def _one_of(patterns: Sequence[str]) -> Callable[[str], bool]:
    """`*` stands for any characters, none included; everything else for itself."""
    if not any("*" in pattern for pattern in patterns):
        return frozenset(patterns).__contains__
    parts = [".*".join(re.escape(piece) for piece in pattern.split("*")) for pattern in patterns]
    match = re.compile("|".join(parts), re.DOTALL).fullmatch
    return lambda text: match(text) is not None


# --- how much of each ------------------------------------------------------------------------------------------------

MASK = "***"
KEY_BYTES = 16
"""A shorter key could be guessed, and with it every hash."""
SHORT = 4
"""Text of fewer characters stands inside other text by chance; it is then taken for a copy only where it is a word of its own."""

HASH_DIGITS = 32
MANY = 200

How = Literal["drop", "mask", "hash", "truncate"]
_decode = msgspec.json.Decoder(float_hook=lambda text: _exact(text)).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def _exact(text: str) -> Decimal | float:
    """A number that is written again as it was read."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all use
        return float(text)


def compile_redaction(rules: Sequence[Redaction], key: bytes | None, where: str) -> Callable[[Record], Record] | None:
    """From a record to the same record without what the rules name. None without rules. ConfigError for a key that could be guessed;
    `where`: what the configuration calls the sink (`sinks.NAME`).

    What a rule's field holds is looked for in the whole record, and goes wherever it stands, in any case: as a value, inside of
    another text, in a name of `event`, `details` or `labels`; an address also in another notation, a number also as text. The first
    rule that names a value decides how it goes, so that all copies stay equal. The frame (id, type, time …) never changes.

    Known limits: true, false and numbers of up to three characters are too common to be looked for, and go where the rule says and in
    the payload's other copy; text of up to three characters goes where it is a word of its own. An `event` that was no JSON cannot be
    looked into, and goes whole; of a record with more than MANY values to hide only the frame is left.
    """
    if not rules:
        return None
    if any(rule.with_ == "hash" for rule in rules) and len(key or b"") < KEY_BYTES:
        raise ConfigError(
            f"{where}.redact_key: is shorter than {KEY_BYTES} bytes; take a random one, as openssl rand -hex 32 gives"
        )
    steps = [(rule.field.split("."), rule.with_) for rule in rules]

    def redact(record: Record) -> Record:
        return Record(record.seq, _redacted(record.line, steps, key or b""))

    return redact


def _redacted(line: bytes, rules: Sequence[tuple[list[str], How]], key: bytes) -> bytes:
    try:
        tree = _decode(line)
    except msgspec.DecodeError:  # an integer of thousands of digits
        tree = orjson.loads(line)
    if isinstance(tree["event"], str):
        tree["event"] = MASK
    _join_payload(tree)
    found = _Values(key)
    places = [(place, how) for steps, how in rules for place in _places(tree, steps)]
    for (holder, name), how in places:
        if holder is not tree or name != "event":  # which holds everything, so that nothing would be left
            for leaf in _leaves(holder[name]):
                found.add(leaf, how)
    if len(found.texts) > MANY:
        return _encode({**{name: tree[name] for name in tree if name in FRAME_FIELDS}, "event": None})
    found.settle()
    for (holder, name), how in places:
        _take(tree, holder, name, how)
    return _encode(_swept(tree, found))


# --- where a rule leads ----------------------------------------------------------------------------------------------

Place = tuple[Any, Any]
"""A dict and a name in it, or a list and an index."""


class _Gone:
    """In the place of what is dropped."""


class _Covered:
    """In the place of a value that is hidden and cannot be looked for."""


_GONE: Final = _Gone()
_COVERED: Final = _Covered()


def _places(node: Any, steps: Sequence[str]) -> Iterator[Place]:
    """Names may have dots in them (`event.login.failed.error_code`)."""
    if isinstance(node, dict):
        for count in range(len(steps), 0, -1):
            name, rest = ".".join(steps[:count]), steps[count:]
            for each in node if name == "*" else [name] if name in node else []:
                yield from _places(node[each], rest) if rest else [(node, each)]
    elif isinstance(node, list):
        for index, item in enumerate(node):
            if steps[0] in ("*", str(index)):
                yield from _places(item, steps[1:]) if steps[1:] else [(node, index)]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _join_payload(tree: dict[str, Any]) -> None:
    """`details` is a copy of a part of `event`: make both one object, so that what is done to one is done to the other."""
    details, event = tree.get("details"), tree["event"]
    if isinstance(details, dict | list) and isinstance(event, dict):
        tree["details"] = next((value for value in event.values() if value == details), details)


def _take(tree: dict[str, Any], holder: Any, name: Any, how: How) -> None:
    """What stands at a place goes where text is not what it is told by: as a whole if it is dropped, else its true, false and numbers."""
    value = holder[name]
    if how == "drop":
        holder[name] = _GONE
        if isinstance(value, dict | list) and value is tree.get("details"):
            tree["details"] = _GONE
        event = tree["event"]
        if holder is tree and name == "details" and isinstance(event, dict):
            tree["event"] = {key: inner for key, inner in event.items() if inner is not value}
    elif isinstance(value, dict | list):
        for inner in value if isinstance(value, dict) else range(len(value)):
            _take(tree, value, inner, how)
    elif isinstance(value, bool | int | float | Decimal):
        holder[name] = _COVERED


# --- what is looked for ----------------------------------------------------------------------------------------------


class _Values:
    """What must not be seen of one record, and what is seen instead."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.texts: dict[str, tuple[str, str, bool]] = {}
        """By case-folded text: the text, what stands for it, and whether a value that is nothing but it goes as well."""
        self._addresses: dict[str, str] = {}
        """From one notation for all to a key of `texts`."""
        self._numbers: dict[Decimal, str] = {}
        self._covered: dict[str, Any] = {}

    def add(self, value: Any, how: How) -> None:
        if isinstance(value, bool) or value is None:
            return
        text = value if isinstance(value, str) else str(value)
        if not text.strip() or not (isinstance(value, str) or len(text) >= SHORT):
            return
        folded, substitute = text.casefold(), self._substitute(text, how)
        self.texts.setdefault(folded, (text, substitute, how == "drop"))
        for escaped in _escaped(text):
            self.texts.setdefault(escaped.casefold(), (escaped, substitute, how == "drop"))
        if (address := _address(text)) is not None:
            self._addresses.setdefault(address, folded)
        if (number := _number(text)) is not None:
            self._numbers.setdefault(number, folded)

    def _substitute(self, text: str, how: How) -> str:
        if how == "hash":
            return hmac.digest(self._key, text.encode(), hashlib.sha256).hex()[:HASH_DIGITS]
        return _truncated(text) if how == "truncate" else MASK

    def settle(self) -> None:
        """All are added: what truncation leaves of one must not be another."""
        for folded, (text, substitute, drops) in self.texts.items():
            left = substitute.casefold()
            if substitute != MASK and any(hidden in left for hidden in self.texts if hidden != folded):
                self.texts[folded] = (text, MASK, drops)

    def cover(self, text: str) -> Any:
        """The text as it may be seen, or _GONE."""
        if text not in self._covered:
            self._covered[text] = self._cover(text, text.casefold())
        return self._covered[text]

    def _cover(self, text: str, folded: str) -> Any:
        whole = self._find(text, folded)
        if whole is not None:
            _, substitute, drops = self.texts[whole]
            return _GONE if drops else substitute
        for hidden in self.texts:
            if hidden in folded:
                return self._cover_inside(text)
        return text

    def _find(self, text: str, folded: str) -> str | None:
        if folded in self.texts:
            return folded
        if self._addresses and (address := _address(text)) is not None:
            return self._addresses.get(address)
        if self._numbers and (number := _number(text)) is not None:
            return self._numbers.get(number)
        return None

    def _cover_inside(self, text: str) -> str:
        known = list(self.texts.values())
        pattern = _pattern(tuple(hidden for hidden, _, _ in known))
        return pattern.sub(lambda match: known[_index(match)][1], text)


_PLAIN = re.compile(r"[ !#-\[\]-~]*")


def _escaped(text: str) -> list[str]:
    """As it stands in JSON inside of another text, where that is different."""
    if _PLAIN.fullmatch(text):
        return []
    return [json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]


def _index(match: re.Match[str]) -> int:
    assert match.lastgroup is not None
    return int(match.lastgroup[1:])


@lru_cache(maxsize=256)
def _pattern(texts: tuple[str, ...]) -> re.Pattern[str]:
    """The longest first, each in a group that is named by its index."""
    parts = []
    for index, text in sorted(enumerate(texts), key=lambda item: -len(item[1])):
        escaped = re.escape(text)
        parts.append(f"(?P<_{index}>" + (rf"(?<!\w){escaped}(?!\w)" if len(text) < SHORT else escaped) + ")")
    return re.compile("|".join(parts), re.IGNORECASE)


def _truncated(text: str) -> str:
    address = _address(text)
    if address is None:
        return text[: min(4, len(text) // 3)] + "…"
    network = ipaddress.ip_network(f"{address}/{48 if ':' in address else 24}", strict=False)
    return str(network.network_address)


_LIKE_AN_ADDRESS = re.compile(r"[0-9A-Fa-f]*[:.][0-9A-Fa-f:.]{1,44}")
_LIKE_A_NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)


def _address(text: str) -> str | None:
    """In one notation for all; an IPv4 address that is written as IPv6 is the IPv4 address."""
    return _parsed_address(text) if _LIKE_AN_ADDRESS.fullmatch(text) else None


@lru_cache(maxsize=1024)
def _parsed_address(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _LIKE_A_NUMBER.fullmatch(text) else None


# --- the record without it -------------------------------------------------------------------------------------------

_FREE = ("details", "event", "labels")
"""They may hold anything; the rest has fields of fixed kinds."""


def _swept(tree: dict[str, Any], found: _Values) -> dict[str, Any]:
    swept: dict[str, Any] = {}
    for name, value in tree.items():
        covered = value if name in FRAME_FIELDS else _cover(value, found, name in _FREE)
        if covered is not _GONE:
            swept[name] = covered
    swept.setdefault("event", None)
    for target in swept.get("targets") or ():
        target.setdefault("type", MASK)
    return swept


def _cover(value: Any, found: _Values, free: bool) -> Any:
    match value:
        case str():
            return found.cover(value)
        case dict():
            return _cover_dict(value, found, free)
        case list():
            return [inner for item in value if (inner := _cover(item, found, free)) is not _GONE]
        case None | bool() | _Gone():
            return value
        case _Covered():
            return MASK if free else None
    covered = found.cover(str(value))  # a number
    if covered == str(value) or covered is _GONE:
        return value if covered is not _GONE else _GONE
    return covered if free else None


def _cover_dict(value: dict[str, Any], found: _Values, free: bool) -> dict[str, Any]:
    covered: dict[str, Any] = {}
    for name, inner in value.items():
        seen = _cover(inner, found, free)
        if seen is _GONE:
            continue
        known = found.cover(name) if free else name
        known = MASK if known is _GONE else known
        while known in covered:
            known += "_"  # two names that look the same now
        covered[known] = seen
    return covered
