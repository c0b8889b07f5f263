"""Dotted paths into an envelope, compiled to functions. A list on the way is entered: the path then means all of its items."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec
import orjson

from streamer.enrich.rules.document import did_you_mean
from streamer.model import Actor, Envelope, Geo, Project

TIMES = frozenset({"time", "observed_at"})
WORDS = frozenset({"listing", "outcome", "severity"})
"""Fields that are always there, each one of a few words in small letters."""
_PLAIN = ("id", "source", "listing", "type", "family", "action", "known", "late", "outcome", "severity", "tags")
_ACTOR = tuple(name for name in Actor.__struct_fields__ if name != "geo")
_ACTOR_TEXTS = frozenset((*_ACTOR, "country", "region", "city"))
_TARGET = ("type", "id", "name")
_KNOWN = (
    *_PLAIN,
    *sorted(TIMES),
    *(f"actor.{name}" for name in _ACTOR),
    *(f"actor.geo.{name}" for name in Geo.__struct_fields__),
    *(f"project.{name}" for name in Project.__struct_fields__),
    *(f"targets.{name}" for name in _TARGET),
)
MAX_STEPS = 12


class View:
    """An envelope while rules look at it: what is dear to read is read once, and only when a rule asks."""

    __slots__ = ("envelope", "read", "seconds")

    def __init__(self, envelope: Envelope, seconds: int) -> None:
        self.envelope = envelope
        self.seconds = seconds
        """The event's time, since 1970."""
        self.read: dict[str, Any] = {}
        """`details` and `event` as plain values; by path, what was read as a text."""


Getter = Callable[[View], Any]
"""None: it is not there. A list: several values."""


def _json(raw: msgspec.Raw) -> Any:
    try:
        return orjson.loads(memoryview(raw))
    except orjson.JSONDecodeError:
        return None  # numbers beyond any kind, in a record that came damaged


def check_path(path: str) -> str | None:
    """What is wrong with it, in a sentence; None: nothing."""
    steps = _steps(path)
    if not all(steps) or len(steps) > MAX_STEPS:
        return f"{path!r} is no path; write names with dots between, at most {MAX_STEPS}, such as actor.geo.country"
    head = steps[0]
    if head in ("details", "event", "labels"):
        return None if len(steps) > 1 else f"{path} is no single field; name one in it, such as {path}.id"
    if head == "targets" and len(steps) == 3 and steps[2] in _TARGET:
        return None
    plain = ".".join(steps)
    if plain in _KNOWN:
        return None
    return f"an envelope has no field {plain}; {did_you_mean(plain, [*_KNOWN, 'details.…', 'labels.…', 'event.…'])}"


def getter(path: str) -> Getter:
    """The function that reads a path that `check_path` has found right."""
    steps = _steps(path)
    match steps:
        case ["details" | "event" as part, *rest]:
            return _of_json(part, rest)
        case ["labels", *rest]:
            label = ".".join(rest)
            return lambda view: view.envelope.labels.get(label)
        case ["targets", kind, name]:
            return lambda view: [getattr(t, name) for t in view.envelope.targets if t.type == kind]
        case ["targets", name]:
            return lambda view: [getattr(target, name) for target in view.envelope.targets]
        case ["actor", "geo", name]:
            return _of_geo(name)
        case ["actor" | "project" as part, name]:
            return _of_part(part, name)
        case [name]:
            return attrgetter(f"envelope.{name}")
    raise ValueError(f"{path!r} was not checked")


def _steps(path: str) -> list[str]:
    return [step.removesuffix("[]") for step in path.split(".")]


def _of_part(part: str, name: str) -> Getter:
    inner = attrgetter(name)
    if part == "project":
        return lambda view: None if (project := view.envelope.project) is None else inner(project)

    def get(view: View) -> Any:
        actor = view.envelope.actor
        return None if actor is None else inner(actor)

    return get


def _of_geo(name: str) -> Getter:
    inner = attrgetter(name)

    def get(view: View) -> Any:
        actor = view.envelope.actor
        return None if actor is None or actor.geo is None else inner(actor.geo)

    return get


def _of_json(part: str, steps: list[str]) -> Getter:
    raw_of = attrgetter(part)

    def get(view: View) -> Any:
        read = view.read
        if part in read:
            value = read[part]
        else:
            value = read[part] = _json(raw_of(view.envelope))
        return _walk(value, steps)

    return get


def _walk(value: Any, steps: list[str]) -> Any:
    for number, step in enumerate(steps):
        if type(value) is dict:
            value = value.get(step)
        elif type(value) is list:
            return _enter(value, steps[number:])
        else:
            return None
    return value


def _enter(items: list[Any], steps: list[str]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        inner = _walk(item, steps)
        if type(inner) is list:
            found += inner
        elif inner is not None:
            found.append(inner)
    return found


def text_getter(path: str) -> Callable[[View], str | None]:
    """One value, as it compares: of a list the first that is there."""
    steps = _steps(path)
    if steps[0] == "actor" and steps[-1] in _ACTOR_TEXTS:
        return _text_of_actor(steps[1:])
    get = getter(path)

    def text(view: View) -> str | None:
        read = view.read
        if path in read:  # several rules ask for the same key
            known: str | None = read[path]
            return known
        value = get(view)
        if type(value) is list:
            value = next((item for item in value if item is not None), None)
        found = read[path] = None if value is None else as_text(value)
        return found

    return text


def _text_of_actor(steps: list[str]) -> Callable[[View], str | None]:
    """What is asked for most, in one call instead of three."""
    inner, is_geo = attrgetter(".".join(steps)), len(steps) > 1

    def text(view: View) -> str | None:
        actor = view.envelope.actor
        if actor is None or (is_geo and actor.geo is None):
            return None
        value = inner(actor)
        return None if value is None else value.casefold()

    return text


def key_getter(paths: tuple[str, ...]) -> Callable[[View], tuple[str, ...] | None]:
    """The source and the fields, as texts; None where one of them is not there."""
    if len(paths) == 1 and paths[0].startswith("actor.") and paths[0].removeprefix("actor.") in _ACTOR:
        return _key_of_actor(paths[0].removeprefix("actor."))
    fields = tuple(text_getter(path) for path in paths)

    def key_of(view: View) -> tuple[str, ...] | None:
        found = [str(view.envelope.source)]
        for text_of in fields:
            text = text_of(view)
            if text is None:
                return None
            found.append(text)
        return tuple(found)

    return key_of


def _key_of_actor(name: str) -> Callable[[View], tuple[str, ...] | None]:
    """Nearly every rule's key."""
    inner = attrgetter(name)

    def key_of(view: View) -> tuple[str, ...] | None:
        envelope = view.envelope
        actor = envelope.actor
        if actor is None or (value := inner(actor)) is None:
            return None
        return envelope.source, value.casefold()

    return key_of


def as_text(value: object) -> str:
    """How values compare: as text, without regard to case; upstream has numbers in quotes and without."""
    if type(value) is str:
        return value.casefold()
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and value.is_integer():
        return str(int(value))
    return str(value).casefold()
