"""The archive's read side: objects to lines."""

import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import zstandard

from streamer.errors import NOT_JSON, ConfigError
from streamer.sinks.archive.layout import ObjectName, parse_object_key
from streamer.sinks.archive.options import S3Options
from streamer.sinks.archive.store import Store, make_store

_PIECE = 64 << 10


def read_archive(
    place: str, since: float | None = None, until: float | None = None, *, s3: S3Options | None = None
) -> Iterator[bytes]:
    """The envelopes of [since, until), Unix seconds of the events' own time, one line each without its break: day by day, within a day as they were archived. What a replay
    archived again comes once.

    ConfigError where nothing is there, an object is damaged, or the archive holds another format than the envelope.
    """
    store = make_store(place, s3 or S3Options())
    first, last = _day(since), _day(until)
    names = []
    for key, _ in store.walk():
        name = parse_object_key(key)
        if (
            name is not None
            and (not first or name.partition.date >= first)
            and (not last or name.partition.date <= last)
        ):
            names.append((name.partition.date, name.partition.kind == "replay", name.segment, name.first, key, name))
    if not names and not any(True for _ in store.walk()):
        raise ConfigError(f"{place}: no archive is there; give the path of the archive sink")
    names.sort(key=lambda row: row[:5])
    low, high = since if since is not None else float("-inf"), until if until is not None else float("inf")
    yield from _in_range(((row[4], row[5], read_lines(store, row[4])) for row in names), low, high)


class _Facts(msgspec.Struct, gc=False):
    schema: str
    id: str
    time: datetime


_facts = msgspec.json.Decoder(_Facts).decode


def _in_range(objects: Iterable[tuple[str, ObjectName, Iterator[bytes]]], low: float, high: float) -> Iterator[bytes]:
    seen: set[int] = set()
    day = ""
    for key, name, lines in objects:
        if name.partition.date != day:
            day, seen = name.partition.date, set()
        for line in lines:
            try:
                facts = _facts(line)
            except NOT_JSON:
                raise ConfigError(
                    f"archive: {key} does not hold envelopes; only format: envelope can be replayed"
                ) from None
            if not low <= facts.time.timestamp() < high:
                continue
            mark = hash((name.partition.source, facts.id, facts.time))
            if name.partition.kind != "replay" or mark not in seen:
                seen.add(mark)
                yield line


def read_lines(store: Store, key: str) -> Iterator[bytes]:
    """An object's lines without their breaks."""
    rest = b""
    for piece in read_pieces(store, key):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        raise ConfigError(f"archive: {key} ends within a line; streamer verify says more")


def read_pieces(store: Store, key: str) -> Iterator[bytes]:
    """An object's lines as bytes of any length. ConfigError where it cannot be read as what its name says."""
    file = store.open(key)
    if file is None:
        return
    with file:
        if key.endswith(".parquet"):
            from streamer.sinks.archive.parquet import read_table

            yield from read_table(file, key)
            return
        stream = _decompressor(key)
        while piece := file.read(_PIECE):
            yield _decompressed(key, stream, piece)
        if not stream.eof:
            raise ConfigError(f"archive: {key} is cut off; streamer verify says more")


def count_events(store: Store, key: str) -> tuple[int, int | None]:
    """How many events an object holds, and how many bytes they have with their line breaks; None for Parquet, whose rows are counted and not built."""
    if key.endswith(".parquet"):
        from streamer.sinks.archive.parquet import count_rows

        file = store.open(key)
        if file is None:
            return 0, None
        with file:
            return count_rows(file, key), None
    events = size = 0
    for piece in read_pieces(store, key):
        events += piece.count(b"\n")
        size += len(piece)
    return events, size


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Plain:
    eof = True

    def decompress(self, data: bytes, /) -> bytes:
        return data


def _decompressed(key: str, stream: _Decompressor, piece: bytes) -> bytes:
    try:
        return stream.decompress(piece)
    except (zlib.error, zstandard.ZstdError) as error:
        raise ConfigError(f"archive: {key} cannot be decompressed: {error}; streamer verify says more") from None


def _decompressor(key: str) -> _Decompressor:
    if key.endswith(".zst"):
        return zstandard.ZstdDecompressor().decompressobj()
    return zlib.decompressobj(wbits=31) if key.endswith(".gz") else _Plain()


def _day(moment: float | None) -> str:
    if moment is None:
        return ""
    return f"{datetime.fromtimestamp(max(moment, 0), UTC):%Y-%m-%d}"
