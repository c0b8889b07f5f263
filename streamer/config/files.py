"""The files that a configuration names: secrets, keys, certificates, rules."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Stamp = tuple[int, int, int]
"""Changes whenever the file is written or replaced; the target's, where it is a link."""


def named_files(options: Any, where: str = "") -> Iterator[tuple[str, Path]]:
    """(place in the configuration, path) of every file below `options`. Files that are written are not meant: they are called `path`."""
    if isinstance(options, BaseModel):
        parts = [(name, getattr(options, name)) for name in type(options).model_fields]
    else:
        parts = list(options.items()) if isinstance(options, dict) else []
    for name, value in parts:
        place = f"{where}.{name}".removeprefix(".")
        if isinstance(value, Path) and (name.endswith("_file") or where.endswith("_files")):
            yield place, value
        yield from named_files(value, place)


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp | None]:
    """None: not there."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def content_mark(paths: Iterable[Path]) -> str:
    """Differs when the content of one of them does; reveals nothing of it."""
    mark = hashlib.sha256()
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            content = f"unreadable: {error.errno}".encode()
        mark.update(hashlib.sha256(content).digest())
    return mark.hexdigest()
