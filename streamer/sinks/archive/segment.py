"""The open part of an archive: one append-only file of blocks, each the lines of one partition.

A bookmark names the segment and its length; what lies behind that length was never acknowledged and is cut off. Nothing but
this file is ever appended to, and nobody but us reads it.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamer import folders
from streamer.errors import NOT_JSON, ConfigError
from streamer.model import Message
from streamer.sinks.archive.layout import ObjectKind, Partition
from streamer.sinks.archive.manifest import Place
from streamer.sinks.archive.store import disk_errors

_READ = 256 << 10


class _Facts(msgspec.Struct, gc=False):
    id: str
    source: str
    time: str
    late: bool = False


class BlockHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a block holds; it stands on a line before the block's bytes."""

    source: str
    date: str
    kind: ObjectKind
    events: int
    size: int
    crc: int
    first: Place
    last: Place
    low: int
    """The lowest `seq`."""
    high: int

    @property
    def partition(self) -> Partition:
        return Partition(self.source, self.date, self.kind)


class Block(NamedTuple):
    """A block and where its bytes begin."""

    head: BlockHead
    offset: int


_facts = msgspec.json.Decoder(_Facts).decode
_encode_head = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(BlockHead).decode


def make_blocks(messages: Sequence[Message]) -> list[bytes]:
    """Heads and bodies by turns, one pair for each partition that the messages fall into, in their order."""
    partitions: dict[Partition, list[tuple[Message, _Facts]]] = {}
    for message in messages:
        facts = _facts(message.record.line)
        kind: ObjectKind = "replay" if message.replayed else "late" if facts.late else "events"
        partitions.setdefault(Partition(facts.source, facts.time[:10], kind), []).append((message, facts))
    pieces: list[bytes] = []
    for partition, members in partitions.items():
        body = b"\n".join([message.body for message, _ in members]) + b"\n"
        seqs = [message.record.seq for message, _ in members]
        head = BlockHead(
            source=partition.source,
            date=partition.date,
            kind=partition.kind,
            events=len(members),
            size=len(body),
            crc=zlib.crc32(body),
            first=_place(*members[0]),
            last=_place(*members[-1]),
            low=min(seqs),
            high=max(seqs),
        )
        pieces += (_encode_head(head) + b"\n", body)
    return pieces


def _place(message: Message, facts: _Facts) -> Place:
    return Place(message.record.seq, facts.id, facts.time)


class Segment:
    """The file of one interval, open for appending."""

    def __init__(self, path: Path, length: int) -> None:
        """`length`: of the file that is there; all behind it is cut off with the next append."""
        self.path, self.name = path, path.stem
        self.length = length
        with disk_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @classmethod
    def create(cls, path: Path) -> "Segment":
        with disk_errors(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            folders.sync(path.parent)
        return cls(path, 0)

    def append(self, pieces: Sequence[bytes]) -> None:
        """Durable as a whole, or without effect."""
        with disk_errors(self.path):
            if os.fstat(self._file).st_size != self.length:
                os.ftruncate(self._file, self.length)
            end = self.length
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    written = os.pwrite(self._file, rest, end)
                    rest, end = rest[written:], end + written
            os.fsync(self._file)
        self.length = end

    def close(self) -> None:
        os.close(self._file)


def read_blocks(path: Path, length: int) -> Iterator[Block]:
    """The blocks of a segment's first `length` bytes; ends early where the file does not go on as a segment does."""
    with disk_errors(path), path.open("rb") as file:
        while file.tell() < length:
            line = file.readline(_READ)
            try:
                head = _decode_head(line)
            except NOT_JSON:
                return
            offset = file.tell()
            if not line.endswith(b"\n") or offset + head.size > length:
                return
            yield Block(head, offset)
            file.seek(offset + head.size)


def read_body(path: Path, block: Block) -> Iterator[bytes]:
    """A block's bytes in pieces. ConfigError after the last one if they are not what was written."""
    with disk_errors(path), path.open("rb", buffering=0) as file:
        file.seek(block.offset)
        left, crc = block.head.size, 0
        while left and (piece := file.read(min(left, _READ))):
            crc = zlib.crc32(piece, crc)
            left -= len(piece)
            yield piece
    if left or crc != block.head.crc:
        raise ConfigError(f"archive: {path}: damaged at byte {block.offset}; restore the file from a copy")


def whole_length(path: Path) -> int:
    """How far a segment of which no bookmark tells is whole."""
    with disk_errors(path):
        size = path.stat().st_size
    length = 0
    for block in read_blocks(path, size):
        try:
            for _ in read_body(path, block):
                pass
        except ConfigError:
            break
        length = block.offset + block.head.size
    return length
