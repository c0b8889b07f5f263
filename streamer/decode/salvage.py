"""Records that a strict JSON reader refuses, read with more patience."""

import json
import math
import re
from typing import Any

import msgspec
import orjson

MAX_DEPTH = 128
"""Levels of nesting; common readers stop somewhere between 100 and 1,000."""


def read_patiently(raw: bytes) -> tuple[Any, bool]:
    """The record as Python objects, and whether a strict reader can take its bytes. None where it is no JSON at all."""
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and too_deep(raw):
        return salvaged(shallow(raw)), False
    try:
        return orjson.loads(raw), True
    except orjson.JSONDecodeError:
        return salvaged(raw), False


_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def too_deep(raw: bytes) -> bool:
    depth = 0
    for found in _BRACKETS.finditer(raw):
        match raw[found.start()]:
            case 0x5B | 0x7B:
                depth += 1
                if depth > MAX_DEPTH:
                    return True
            case 0x5D | 0x7D:
                depth -= 1
    return False


def shallow(raw: bytes) -> bytes:
    """The record with null for every array and object that lies too deep."""
    pieces, depth, kept = [], 0, 0
    for found in _BRACKETS.finditer(raw):
        match raw[found.start()]:
            case 0x5B | 0x7B:
                if depth == MAX_DEPTH:
                    pieces += [raw[kept : found.start()], b"null"]
                depth += 1
            case 0x5D | 0x7D:
                depth -= 1
                if depth == MAX_DEPTH:
                    kept = found.end()
    return b"".join(pieces) + raw[kept:]


def salvaged(raw: bytes) -> Any:
    """The record read with more patience: a byte that is not UTF-8 and half of a surrogate pair become lone surrogates,
    a number beyond its kind becomes null."""
    try:
        return json.loads(
            raw.decode("utf-8", "surrogateescape"),
            parse_int=lambda digits: int(digits) if len(digits) <= 400 else None,
            parse_float=lambda digits: number if math.isfinite(number := float(digits)) else None,
            parse_constant=_refused,
        )
    except (ValueError, RecursionError):
        return None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def mended(value: Any) -> Any:
    """A salvaged value without lone surrogates, so that it can be encoded."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {mended(name): mended(inner) for name, inner in value.items()}
        case list():
            return [mended(inner) for inner in value]
    return value


def as_text(raw: bytes) -> bytes:
    """A JSON string of bytes that are no JSON."""
    try:
        return msgspec.json.encode(raw.decode())
    except UnicodeDecodeError:
        return msgspec.json.encode(raw.decode("latin-1"))


def encoded(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=False).encode())
