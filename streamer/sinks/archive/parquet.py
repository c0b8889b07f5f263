"""Objects as Parquet: the envelope's fields as typed columns, `details` and `event` as JSON text.

The schema is a promise: columns are added at the end, and none is changed or taken away.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from streamer.errors import ConfigError
from streamer.model import NO_DETAILS, Actor, Envelope, Project, Target, encode_envelope
from streamer.sinks.archive.options import ArchiveOptions

ROWS_IN_A_GROUP = 10_000

_TEXT = pa.string()
_TIME = pa.timestamp("us", tz="UTC")
_GEO = {
    "country": _TEXT,
    "region": _TEXT,
    "city": _TEXT,
    "asn": pa.int64(),
    "as_name": _TEXT,
    "latitude": pa.float64(),
    "longitude": pa.float64(),
}
_ACTOR = {name: _TEXT for name in Actor.__struct_fields__ if name != "geo"} | {"geo": pa.struct(list(_GEO.items()))}
SCHEMA = pa.schema(
    [
        ("schema", _TEXT),
        ("id", _TEXT),
        ("source", _TEXT),
        ("listing", _TEXT),
        ("type", _TEXT),
        ("family", _TEXT),
        ("action", _TEXT),
        ("known", pa.bool_()),
        ("time", _TIME),
        ("observed_at", _TIME),
        ("late", pa.bool_()),
        ("outcome", _TEXT),
        ("severity", _TEXT),
        ("tags", pa.list_(_TEXT)),
        ("rules", pa.list_(_TEXT)),
        ("actor", pa.struct(list(_ACTOR.items()))),
        ("project", pa.struct([("id", _TEXT), ("name", _TEXT)])),
        ("targets", pa.list_(pa.struct([("type", _TEXT), ("id", _TEXT), ("name", _TEXT)]))),
        ("details", _TEXT),
        ("labels", pa.map_(_TEXT, _TEXT)),
        ("event", _TEXT),
    ]
)


class _Verbatim(msgspec.Struct):
    """What goes in as the text that it was."""

    details: msgspec.Raw = NO_DETAILS
    event: msgspec.Raw = NO_DETAILS


_verbatim = msgspec.json.Decoder(_Verbatim).decode
_decode = msgspec.json.Decoder().decode


def write_table(path: Path, options: ArchiveOptions, bodies: Iterable[bytes]) -> str:
    """As `objects.write_object`."""
    compression = options.compression.upper()
    level = options.level if options.compression != "none" else None
    with pq.ParquetWriter(path, SCHEMA, compression=compression, compression_level=level) as writer:
        for group in _groups(_lines(bodies)):
            writer.write_table(pa.Table.from_pylist([_row(line) for line in group], SCHEMA))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(bodies: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for body in bodies:
        *lines, rest = (rest + body).split(b"\n")
        yield from lines


def _groups(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    for line in lines:
        group.append(line)
        if len(group) == ROWS_IN_A_GROUP:
            yield group
            group = []
    if group:
        yield group


def _row(line: bytes) -> dict[str, Any]:
    """Redaction may have left a text where a number was: what does not fit its column is null there, and still in `event`."""
    tree: dict[str, Any] = _decode(line)
    verbatim = _verbatim(line)
    row = {name: tree.get(name) for name in SCHEMA.names}
    row["time"], row["observed_at"] = _time(tree.get("time")), _time(tree.get("observed_at"))
    row["details"] = _json_text(verbatim.details)
    row["event"] = tree["event"] if isinstance(tree.get("event"), str) else _json_text(verbatim.event)
    row["labels"] = list((tree.get("labels") or {}).items())
    actor = tree.get("actor")
    if isinstance(actor, dict) and isinstance(actor.get("geo"), dict):
        geo = {name: _fitting(value, _GEO.get(name)) for name, value in actor["geo"].items()}
        row["actor"] = actor | {"geo": geo}
    return row


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _json_text(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text


def _fitting(value: Any, kind: pa.DataType | None) -> Any:
    is_number = isinstance(value, int | float)
    return value if is_number == (kind in (pa.int64(), pa.float64())) else None


def read_table(file: BinaryIO, key: str) -> Iterator[bytes]:
    """The envelopes again, each with a line break."""
    try:
        for batch in pq.ParquetFile(_seekable(file)).iter_batches(1000):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                yield encode_envelope(_envelope(row)) + b"\n"
    except (pa.ArrowException, msgspec.ValidationError, OSError) as error:
        raise ConfigError(f"archive: {key} cannot be read: {error}; streamer verify says more") from None


def count_rows(file: BinaryIO, key: str) -> int:
    """Reads all columns, so that every page is decompressed."""
    try:
        return sum(len(batch) for batch in pq.ParquetFile(_seekable(file)).iter_batches(ROWS_IN_A_GROUP))
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"archive: {key} cannot be read: {error}; streamer verify says more") from None


def _seekable(file: BinaryIO) -> BinaryIO:
    """Parquet is read from its end; what comes from a network is held in memory, no larger than `roll.size`."""
    return file if file.seekable() else io.BytesIO(file.read())


def _envelope(row: dict[str, Any]) -> Envelope:
    plain = {name: value for name, value in row.items() if name not in ("details", "event")}
    plain["actor"], plain["project"] = _known(row["actor"]), _known(row["project"])
    plain["targets"] = [_known(target) for target in row["targets"]]
    details, event = ((row[name] or "null").encode() for name in ("details", "event"))
    fields = {
        **plain,
        "actor": msgspec.convert(plain["actor"], Actor | None),
        "project": msgspec.convert(plain["project"], Project | None),
        "targets": msgspec.convert(plain["targets"], list[Target]),
        "details": msgspec.Raw(details),
        "event": msgspec.Raw(event),
    }
    return Envelope(**fields)


def _known(tree: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without what is null."""
    if tree is None:
        return None
    return {
        name: _known(value) if isinstance(value, dict) else value for name, value in tree.items() if value is not None
    }
