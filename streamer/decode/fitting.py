"""What upstream says against what the catalogue knows: all that fits, and a note of what does not."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

MAX_UNKNOWN_FIELDS = 16

S = TypeVar("S", bound=msgspec.Struct)


def shaped(value: dict[str, Any], struct: type[S], path: str, notes: list[str]) -> S:
    """The struct with all of `value` that fits into it; what does not is noted."""
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError:
        return _fitted(value, struct, path, notes)


def _fitted(value: dict[str, Any], struct: type[S], path: str, notes: list[str]) -> S:
    shape = _shape(struct)
    within = f"{path}." if path else ""
    given: dict[str, Any] = dict.fromkeys(shape.required)
    for name, inner in value.items():
        field = shape.fields.get(name)
        if field is not None:
            plain = type(inner) in field.scalars
            given[name] = inner if plain else _fitted_value(inner, field.info, within + name, notes)
        elif shape.closed and name != shape.tag_field:
            note(notes, within + name)
    if shape.tag_field is not None and value.get(shape.tag_field) != shape.tag:
        note(notes, within + shape.tag_field)
    return struct(**given)


def _fitted_value(value: Any, info: inspect.Type, path: str, notes: list[str]) -> Any:
    """`value` as the catalogue has it, or as near as it comes; None where nothing fits."""
    if isinstance(info, inspect.UnionType):
        if value is None:
            return None
        info = _option(value, info)
    match info:
        case inspect.StructType() if isinstance(value, dict):
            # A tagged struct alone would be taken without its tag.
            return (shaped if info.tag is None else _fitted)(value, info.cls, path, notes)
        case inspect.ListType() if isinstance(value, list):
            items = [_fitted_value(item, info.item_type, f"{path}[]", notes) for item in value]
            return [item for item in items if item is not None]
        case inspect.AnyType():
            return value
    if type(value) in _SCALARS.get(type(info), ()):
        return value
    note(notes, path)
    return _coerced(value, info)


_SCALARS: Mapping[type[inspect.Type], tuple[type, ...]] = {
    inspect.NoneType: (type(None),),
    inspect.StrType: (str,),
    inspect.IntType: (int,),
    inspect.FloatType: (float, int),
    inspect.BoolType: (bool,),
}


class _Field(NamedTuple):
    info: inspect.Type
    scalars: frozenset[type]
    """What needs no second look."""


class _Shape(NamedTuple):
    fields: Mapping[str, _Field]
    required: tuple[str, ...]
    closed: bool
    tag_field: str | None
    tag: str | int | None


@cache  # one entry a struct of the catalogue
def _shape(struct: type[msgspec.Struct]) -> _Shape:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return _Shape(
        {field.encode_name: _Field(field.type, _scalars(field.type)) for field in info.fields},
        tuple(field.name for field in info.fields if field.required),
        info.forbid_unknown_fields,
        info.tag_field,
        info.tag,
    )


def _scalars(info: inspect.Type) -> frozenset[type]:
    options = info.types if isinstance(info, inspect.UnionType) else (info,)
    return frozenset(kind for option in options for kind in _SCALARS.get(type(option), ()))


def _option(value: Any, union: inspect.UnionType) -> inspect.Type:
    """The alternative that is meant; the first, where none fits."""
    options = [option for option in union.types if not isinstance(option, inspect.NoneType)]
    for option in options:
        if isinstance(option, inspect.StructType) and isinstance(value, dict):
            if option.tag_field is None or value.get(option.tag_field) == option.tag:
                return option
        elif type(value) in _SCALARS.get(type(option), ()):
            return option
    return options[0]


def _coerced(value: Any, info: inspect.Type) -> str | int | None:
    """A number where text belongs and the other way round can still be understood."""
    if isinstance(info, inspect.StrType) and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(info, inspect.IntType) and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= 18 else None
    return None


def note(notes: list[str], path: str) -> None:
    if len(notes) < MAX_UNKNOWN_FIELDS:
        notes.append(re.sub(r"[^0-9A-Za-z_.\[\]<>-]", "?", path[:200]))
