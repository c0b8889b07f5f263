"""Blocks of a segment to the file of one object."""

import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from streamer.sinks.archive.options import ArchiveOptions, Compression
from streamer.sinks.archive.store import disk_errors

SUFFIXES: dict[Compression, str] = {"zstd": "jsonl.zst", "gzip": "jsonl.gz", "none": "jsonl"}


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(options: ArchiveOptions) -> _Compressor:
    match options.compression:
        case "zstd":
            return zstandard.ZstdCompressor(
                options.level, write_checksum=True
            ).compressobj()  # one frame, which every reader takes
        case "gzip":
            return zlib.compressobj(options.level, wbits=31)
        case "none":
            return _Plain()


class _Hashed:
    """A file that knows the SHA-256 of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self._file.write(data)


def suffix(options: ArchiveOptions) -> str:
    """How the names of its objects end."""
    return "parquet" if options.objects == "parquet" else SUFFIXES[options.compression]


def write_object(path: Path, options: ArchiveOptions, bodies: Iterable[bytes]) -> str:
    """Write one object's file from pieces of lines; its SHA-256 in hex. Not yet durable."""
    with disk_errors(path):
        if options.objects == "parquet":
            from streamer.sinks.archive.parquet import write_table

            return write_table(path, options, bodies)
        return _write_lines(path, options, bodies)


def _write_lines(path: Path, options: ArchiveOptions, bodies: Iterable[bytes]) -> str:
    compressor = _compressor(options)
    with path.open("wb") as file:
        out = _Hashed(file)
        for body in bodies:
            out.write(compressor.compress(body))
        out.write(compressor.flush())
    return out.sha256.hexdigest()
