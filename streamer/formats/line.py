"""One readable line an event: time, severity, who, what, to whom, where from.

The words come from the catalogue (`EventType.phrase`), the names from the envelope. Nothing in the data can pass for something
else on a terminal: every character that is not printable (control, bidi, invisible, line and paragraph separators)
is shown as its number, and every text is bounded. The caller decides how spans are coloured; `STYLES` is how we do it.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from functools import lru_cache
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


Segments = tuple[tuple[bool, tuple[tuple[str, str], ...]], ...]
"""Whether it is left out where its braces find nothing; its words, each with the name in the braces that follow them, or ''."""


@lru_cache(maxsize=512)
def _segments(phrase: str) -> Segments:
    return tuple(
        (bool(inside), tuple(piece for piece in _BRACES.findall(inside or outside) if any(piece)))
        for inside, outside in _OPTIONAL.findall(f" {phrase}")
    )


def _sentence(subject: Subject) -> list[Span]:
    envelope = subject.envelope
    spans: list[Span] = [(_who(envelope.actor), "actor")]
    if envelope.actor is not None and (role := envelope.labels.get(ACTOR_ROLE_LABEL)):
        spans.append((f" ({visible(role)})", "text"))
    for optional, pieces in _segments(subject.row.phrase):
        part: list[Span] = []
        for words, name in pieces:
            if words:
                part.append((words, "text"))
            if name:
                called = _called(subject, name)
                if not called and optional:
                    break
                part.append((called or _UNNAMED.get(name, f"a {name} that is not named"), "thing"))
        else:
            spans += part
    project = envelope.project
    # Said once: not again where it is what was acted on.
    if (
        project is not None
        and (title := project.name or project.id)
        and project.id not in [target.id for target in envelope.targets]
    ):
        spans.append((" in project ", "text"))
        spans.append((visible(title), "thing"))
    if NEW_COUNTRY_TAG in envelope.tags:
        spans.append((", from a new country", "text"))
    return spans


def _who(actor: Actor | None) -> str:
    if actor is None:
        return "Somebody"
    if name := actor.name or actor.email or actor.id:
        return visible(name)
    if actor.api_key_id:
        return f"API key {visible(actor.api_key_id)}"
    return "Somebody"


def _called(subject: Subject, name: str) -> str:
    """What to call the thing that a phrase has in braces; '' where it is not there."""
    match name:
        case "target":
            return _all_called(subject)
        case "principal":
            if subject.user is None and subject.group is not None:
                return f"the group {_name(subject, subject.group)}"
            return _name(subject, subject.user or subject.principal)
        case "role":
            return visible(subject.role_name or "")
        case "resource":
            return _with_kind(subject)
        case "error":
            return visible(": ".join(filter(None, subject.error)))
        case "type":
            return visible(subject.envelope.type)
    return _name(subject, next((target for target in subject.envelope.targets if target.type == name), None))


def _name(subject: Subject, target: Target | None) -> str:
    if target is None:
        return ""
    if target.name is None and target.type == "project" and (project := subject.envelope.project) is not None:
        return visible((project.name if project.id == target.id else None) or target.id or "")
    return visible(target.name or target.id or "")


def _with_kind(subject: Subject) -> str:
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
