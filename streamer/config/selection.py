"""What of the stream a sink gets: which events, and which of their fields."""

import difflib
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import inspect
from pydantic import AfterValidator, ConfigDict, Field

from streamer.config.values import Strict
from streamer.model import FRAME_FIELDS, Envelope, Listing, Outcome, Severity


class Where(Strict):
    """Which events a sink takes: all of the given conditions must hold; within a list, one."""

    types: list[str] = []
    """Event types; `*` stands for any characters."""
    families: list[str] = []
    """As `streamer types` shows them."""
    min_severity: Severity | None = None
    """This severity and above."""
    sources: list[str] = []
    """Names of sources."""
    listings: list[Listing] = []
    """`organization`, `tenant`."""
    projects: list[str] = []
    """Project ids or names."""
    outcome: Outcome | None = None
    """How it ended."""
    tags: list[str] = []
    """Tags that rules and networks have set."""
    all: list["Where"] = []
    """Nested conditions: all must hold."""
    any: list["Where"] = []
    """Nested conditions: one must hold."""
    none: list["Where"] = []
    """Nested conditions: none may hold."""


def _envelope_paths(kind: inspect.Type, path: str = "") -> Iterator[str]:
    """Every dotted path of the schema below `path` that may be redacted; `*` is an item of a list. What may hold anything ends in `.`"""
    match kind:
        case inspect.StructType(fields=fields):
            for field in fields:
                if path or field.encode_name not in FRAME_FIELDS:
                    name = f"{path}.{field.encode_name}".lstrip(".")
                    yield name
                    yield from _envelope_paths(field.type, name)
        case inspect.ListType(item_type=item):
            yield f"{path}.*"
            yield from _envelope_paths(item, f"{path}.*")
        case inspect.UnionType(types=types):
            for part in types:
                yield from _envelope_paths(part, path)
        case inspect.DictType() | inspect.RawType():
            yield f"{path}."


_FIELDS = list(_envelope_paths(inspect.type_info(Envelope)))


def _is_field(known: str, path: str) -> bool:
    if known.endswith("."):
        return path.startswith(known)
    ours, theirs = path.split("."), known.split(".")
    same = (
        step == name or (step == "*" and i > 0) or (name == "*" and step.isdecimal())
        for i, (step, name) in enumerate(zip(ours, theirs, strict=False))
    )
    return len(ours) == len(theirs) and all(same)


def _envelope_field(path: str) -> str:
    """A path that an envelope can have, as far as the schema goes."""
    if all(path.split(".")) and any(_is_field(known, path) for known in _FIELDS):
        return path
    if path.split(".")[0] in FRAME_FIELDS:
        raise ValueError(f"{path} cannot be redacted, every sink needs it; filter with where instead")
    near = difflib.get_close_matches(path, _FIELDS, 1, 0.5)
    raise ValueError(
        f"{path} is no field of an envelope; "
        + (f"did you mean {near[0].rstrip('.')}?" if near else "see streamer schema envelope")
    )


class Redaction(Strict):
    """One field of the envelope, dotted; `*` stands for one step. Its copies in `details` and `event`, and wherever else the record
    has the same text, go too.

    drop: it is not there. mask: `***`. hash: 32 hex digits of HMAC-SHA256 with `redact_key`. truncate: the first characters (4, at
    most a third); of an address its /24 or /48.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    field: Annotated[str, AfterValidator(_envelope_field)]
    """Like `actor.email` or `targets.*.name`."""
    with_: Annotated[Literal["drop", "mask", "hash", "truncate"], Field(alias="with")]
    """Left out, masked, hashed with `redact_key`, or cut (an address to its network, a text to its beginning)."""
