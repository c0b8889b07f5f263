"""One readable line an event: time, severity, who, what, to whom, where from.

The words come from the catalogue (`EventType.phrase`), the names from the envelope. Nothing in the data can pass for something
else on a terminal: every character that is not printable (control, bidi, invisible, line and paragraph separators)
is shown as its number, and every text is bounded. The caller decides how spans are coloured; `STYLES` is how we do it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from functools import lru_cache, partial
from typing import Literal

from streamer.formats.subject import Subject
from streamer.model import Actor, Record, Target

SpanKind = Literal[
    "text",
    "time",
    "informational",
    "low",
    "medium",
    "high",
    "critical",
    "actor",
    "thing",
    "place",
    "note",
]


Span = tuple[str, SpanKind]
"""A stretch of the line of one meaning; a severity is its own kind."""

STYLES: Mapping[SpanKind, str] = {
    "text": "",
    "time": "dim",
    "informational": "dim",
    "low": "cyan",
    "medium": "yellow",
    "high": "bold red",
    "critical": "bold white on red",
    "actor": "bold",
    "thing": "bold cyan",
    "place": "dim",
    "note": "magenta",
}
"""As `rich` writes styles. Append spans as text, never as markup."""

MAX_NAME = 80
"""Characters of any one name, id or message."""
MAX_TARGETS = 3
MAX_NOTES = 6

NEW_COUNTRY_TAG = "new_country"
ACTOR_ROLE_LABEL = "actor_role"
NETWORK_LABEL = "network"

_UNNAMED: Mapping[str, str] = {
    "invite": "somebody",
    "principal": "somebody",
    "user": "somebody",
    "role": "that is not named",
}
_OPTIONAL = re.compile(r"\[([^\]]*)\]|([^\[]+)")
_BRACES = re.compile(r"([^{]*)(?:\{(\w+)\})?")


def render(record: Record) -> list[Span]:
    """The whole line."""
    subject = Subject(record)
    envelope = subject.envelope
    word = "info" if envelope.severity == "informational" else envelope.severity
    spans: list[Span] = [
        (f"{envelope.time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z ", "time"),
        (f" {word:<8} ", envelope.severity),
        (" ", "text"),
        *_sentence(subject),
    ]
    if where := _where(subject):
        spans.append((f"  {where}", "place"))
    notes = [f"#{visible(note)}" for note in dict.fromkeys((*envelope.rules, *envelope.tags))]
    if envelope.late:
        notes.append("late")
    if notes:
        more = ["…"] if len(notes) > MAX_NOTES else []
        spans.append(("  " + " ".join(notes[:MAX_NOTES] + more), "note"))
    return spans


def plain(spans: Iterable[Span]) -> str:
    return "".join([text for text, _ in spans])


def sentence(subject: Subject) -> str:
    """Who did what to whom, for the message fields of other formats."""
    return plain(_sentence(subject))


def visible(text: str, limit: int = MAX_NAME) -> str:
    """At most `limit` characters, all of them printable; those of `text` that are not are shown as their numbers."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = text[: limit + 1]
    if not shown.isprintable():
        shown = "".join([c if c.isprintable() else _number(c) for c in shown])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _number(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- the sentence ------------------------------------------------------------------------------------------------------


_Find = Callable[[Subject], str]
"""What to call a thing of the record; '' where it is not there."""

Piece = tuple[Span | None, _Find | None, Span]
"""Words; the thing that stands in the braces behind them; what stands there where it is not found."""
Segments = tuple[tuple[bool, tuple[Piece, ...]], ...]
"""Whether it is left out where its braces find nothing; its pieces."""


@lru_cache(maxsize=512)
def _segments(phrase: str) -> Segments:
    return tuple(
        (bool(inside), tuple(_piece(*piece) for piece in _BRACES.findall(inside or outside) if any(piece)))
        for inside, outside in _OPTIONAL.findall(f" {phrase}")
    )


def _piece(words: str, name: str) -> Piece:
    find = (_FINDERS.get(name) or partial(_first_of, name)) if name else None
    return (words, "text") if words else None, find, (_UNNAMED.get(name, f"a {name} that is not named"), "thing")


def _sentence(subject: Subject) -> list[Span]:
    envelope = subject.envelope
    spans: list[Span] = [(_who(envelope.actor), "actor")]
    if envelope.actor is not None and (role := envelope.labels.get(ACTOR_ROLE_LABEL)):
        spans.append((f" ({visible(role)})", "text"))
    for optional, pieces in _segments(subject.row.phrase):
        part: list[Span] = []
        for words, find, unnamed in pieces:
            if words is not None:
                part.append(words)
            if find is not None:
                if called := find(subject):
                    part.append((called, "thing"))
                elif optional:
                    break
                else:
                    part.append(unnamed)
        else:
            spans += part
    if (project := envelope.project) is not None and (title := project.name or project.id):
        # Said once: not again where it is what was acted on.
        for target in envelope.targets:
            if target.id == project.id:
                break
        else:
            spans += (_IN_PROJECT, (visible(title), "thing"))
    if NEW_COUNTRY_TAG in envelope.tags:
        spans.append((", from a new country", "text"))
    return spans


_IN_PROJECT: Span = (" in project ", "text")


def _who(actor: Actor | None) -> str:
    if actor is None:
        return "Somebody"
    if name := actor.name or actor.email or actor.id:
        return visible(name)
    if actor.api_key_id:
        return f"API key {visible(actor.api_key_id)}"
    return "Somebody"


def _principal(subject: Subject) -> str:
    if subject.user is None and subject.group is not None:
        return f"the group {_name(subject, subject.group)}"
    return _name(subject, subject.user or subject.principal)


def _role(subject: Subject) -> str:
    return visible(subject.role_name or "")


def _error(subject: Subject) -> str:
    return visible(": ".join(filter(None, subject.error)))


def _type(subject: Subject) -> str:
    return visible(subject.envelope.type)


def _first_of(kind: str, subject: Subject) -> str:
    for target in subject.envelope.targets:
        if target.type == kind:
            return _name(subject, target)
    return ""


def _name(subject: Subject, target: Target | None) -> str:
    if target is None:
        return ""
    name = target.name
    if name is None and target.type == "project":
        project = subject.envelope.project
        name = project.name if project is not None and project.id == target.id else None
    return visible(name or target.id or "")


def _resource(subject: Subject) -> str:
    target = subject.resource
    return f"{visible(target.type.replace('_', ' '))} {_name(subject, target)}" if target is not None else ""


def _all_called(subject: Subject) -> str:
    targets = subject.many
    if len(targets) == 1:
        return _name(subject, targets[0])
    names = [_name(subject, target) for target in targets[:MAX_TARGETS]]
    if len(targets) > MAX_TARGETS:
        names.append(f"{len(targets) - MAX_TARGETS} more")
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


_FINDERS: Mapping[str, _Find] = {
    "error": _error,
    "principal": _principal,
    "resource": _resource,
    "role": _role,
    "target": _all_called,
    "type": _type,
}
"""Other names are kinds of targets."""


def _where(subject: Subject) -> str:
    actor, labels = subject.envelope.actor, subject.envelope.labels
    if actor is None:
        return ""
    parts = [actor.ip] if actor.ip else []
    if actor.geo is not None:
        parts += [part for part in (actor.geo.city, actor.geo.country) if part]
    if network := labels.get(NETWORK_LABEL):
        parts.append(f"({network})")
    if not parts and actor.api_key_id:
        parts.append(f"key {actor.api_key_id}")
    return " ".join([visible(part) for part in parts])
