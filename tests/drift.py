"""What the installed openai SDK knows and our catalogue does not. `python -m tests.drift` says it in words; exit 1 if there is any.

Both sides are brought to one form first: a shape is a mapping from dotted paths to kinds, as in
`{"id": "string", "data": "object", "data.scopes": "list", "data.scopes[]": "string"}`; the alternatives of a union stand in
angle brackets.
"""

import sys
import types
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import inspect
from openai.types.admin.organization import AuditLogListResponse, audit_log_list_params
from pydantic import BaseModel

from streamer.catalog import TYPES, EventType
from streamer.catalog.frame import Frame

Shape = Mapping[str, str]


class Api(NamedTuple):
    """One side's idea of the audit log."""

    frame: Shape
    """Without the payloads."""
    payloads: Mapping[str, Shape | None]
    """By type; None: its fields are not documented."""


def sdk() -> Api:
    """Of the installed `openai` package."""
    fields = {field.alias or name: field.annotation for name, field in AuditLogListResponse.model_fields.items()}
    known = dict.fromkeys(get_args(fields["type"]))
    filters = audit_log_list_params.AuditLogListParams.__annotations__["event_types"]
    known |= dict.fromkeys(_literals(_resolved(filters)))
    frame: dict[str, str] = {}
    for name, annotation in fields.items():
        if name not in known:
            _add_sdk(frame, name, annotation)
    payloads: dict[str, Shape | None] = {}
    for name in known:
        shape: dict[str, str] = {}
        if name in fields:
            _add_sdk(shape, "", fields[name])
        payloads[name] = shape if len(shape) > 1 else None  # {"": "any"} documents nothing
    return Api(frame, payloads)


def catalogue(rows: Mapping[str, EventType] = TYPES) -> Api:
    """Of `streamer.catalog`."""
    return Api(
        {path: kind for path, kind in shape_of(Frame).items() if path},
        {name: shape_of(row.payload) if row.documented else None for name, row in rows.items()},
    )


def findings(theirs: Api, ours: Api) -> list[str]:
    """What they have and we do not, a sentence each."""
    found = [_sentence("Every event", *difference) for difference in _differences(theirs.frame, ours.frame)]
    for name, shape in theirs.payloads.items():
        if name not in ours.payloads:
            fields = ", ".join(path for path in shape or () if path) or "none documented"
            found.append(f"Type {name} is new (payload fields: {fields}): add a row to streamer/catalog/rows.py.")
        elif shape is not None:
            mine = ours.payloads[name]
            if mine is None:
                fields = ", ".join(path for path in shape if path)
                found.append(f"Type {name} has a documented payload now: {fields}.")
            else:
                found += [_sentence(f"Type {name}", *difference) for difference in _differences(shape, mine)]
    return found


def shape_of(struct: type[msgspec.Struct]) -> Shape:
    shape: dict[str, str] = {}
    _add_ours(shape, "", inspect.type_info(struct))
    return shape


def _differences(theirs: Shape, ours: Shape) -> list[tuple[str, str, str | None]]:
    return [(path, kind, ours.get(path)) for path, kind in theirs.items() if ours.get(path) not in (kind, "any")]


def _sentence(subject: str, path: str, kind: str, ours: str | None) -> str:
    if ours is None:
        return f"{subject} has a new field {path} ({kind})."
    return f"{subject} has field {path} as {kind}; the catalogue has it as {ours}."


_SCALARS: Mapping[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    object: "any",
    Any: "any",
}


def _add_sdk(shape: dict[str, str], path: str, annotation: Any) -> None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _add_sdk(shape, path, arguments[0])
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        if len(options) == 1:
            return _add_sdk(shape, path, options[0])
        shape[path] = "union"
        for option in options:
            _add_sdk(shape, f"{path}<{_sdk_tag(option)}>", option)
    elif origin is list:
        shape[path] = "list"
        _add_sdk(shape, f"{path}[]", arguments[0])
    elif origin is Literal:
        shape[path] = "string"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        shape[path] = "object"
        for name, field in annotation.model_fields.items():
            _add_sdk(shape, _join(path, field.alias or name), field.annotation)
    else:
        shape[path] = _SCALARS.get(annotation, repr(annotation))
    return None


def _add_ours(shape: dict[str, str], path: str, info: inspect.Type) -> None:
    match info:
        case inspect.UnionType(types=options):
            rest = [option for option in options if not isinstance(option, inspect.NoneType)]
            if len(rest) == 1:
                _add_ours(shape, path, rest[0])
                return
            structs = [option for option in rest if isinstance(option, inspect.StructType)]
            shape[path] = "union" if structs else " or ".join(_kind(option) for option in rest)
            for option in structs:
                _add_ours(shape, f"{path}<{option.tag}>", option)
        case inspect.StructType(fields=fields, tag_field=tag_field):
            shape[path] = "object"
            if tag_field is not None:
                shape[_join(path, tag_field)] = "string"
            for field in fields:
                _add_ours(shape, _join(path, field.encode_name), field.type)
        case inspect.ListType(item_type=item):
            shape[path] = "list"
            _add_ours(shape, f"{path}[]", item)
        case _:
            shape[path] = _kind(info)


_KINDS: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.AnyType: "any",
}


def _kind(info: inspect.Type) -> str:
    return _KINDS.get(type(info), type(info).__name__)


def _sdk_tag(model: Any) -> str:
    """A discriminated model's tag: the one value of its `type`."""
    return "|".join(_literals(model.model_fields["type"].annotation))


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [text for argument in get_args(annotation) for text in _literals(argument)]


def _resolved(annotation: Any) -> Any:
    """TypedDicts of modules with postponed annotations hold them as text."""
    text = getattr(annotation, "__forward_arg__", annotation)
    return eval(text, vars(audit_log_list_params)) if isinstance(text, str) else annotation


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def main() -> int:
    found = findings(sdk(), catalogue())
    name = f"openai {version('openai')}"
    sys.stdout.write("".join(f"{line}\n" for line in found) or f"The catalogue has all that {name} has.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
