"""Records are kept in blocks: many lines in one row of the database, compressed together."""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import zstandard

BLOCK_BYTES = 2 << 20
"""Of lines: what a walk of a window of usual events brings."""
BLOCK_EVENTS = 1000
KEPT_BYTES = 4 << 20
LEVEL = 1
"""Of Zstandard. Higher ones take longer than the disk is spared."""


class Block(NamedTuple):
    lines: list[bytes]
    size: int
    """Bytes of the lines, with line breaks between them."""
    body: bytes
    """As it is stored: one Zstandard frame that knows its size and has a checksum."""


def pack(lines: Iterable[bytes]) -> list[Block]:
    """Blocks of at most BLOCK_EVENTS lines and about BLOCK_BYTES bytes. Other threads run while it compresses."""
    compress = zstandard.ZstdCompressor(LEVEL, write_checksum=True).compress
    blocks: list[Block] = []
    for block in _split(lines):
        text = b"\n".join(block)
        blocks.append(Block(block, len(text), compress(text)))
    return blocks


def unpack(body: bytes, size: int) -> list[bytes]:
    """The lines. ZstdError where it is damaged. Of a journal of version 3 or older they are stored as they are."""
    if body.startswith(b"{"):
        return body.split(b"\n")
    frame = zstandard.get_frame_parameters(body)
    # Not left to the frame alone: a bit that flips in its head asks for any amount of memory, or spares it the checksum.
    if frame.content_size != size or not frame.has_checksum:
        raise zstandard.ZstdError("a block's head is damaged")
    return zstandard.decompress(body).split(b"\n")


def _split(lines: Iterable[bytes]) -> list[list[bytes]]:
    blocks: list[list[bytes]] = []
    size = BLOCK_BYTES
    for line in lines:
        if size >= BLOCK_BYTES or len(blocks[-1]) >= BLOCK_EVENTS:
            blocks.append([])
            size = 0
        blocks[-1].append(line)
        size += len(line)
    return blocks


class Blocks:
    """Blocks in memory, split into lines. For one thread, the loop's.

    Those that were appended last: sinks near the head share them and never touch the disk. And those that were loaded last for sinks that are
    behind: what is appended meanwhile pushes none of them out, so that a sink finds the one that it is in the middle of.
    """

    def __init__(self) -> None:
        self.appended, self.loaded = Kept(), Kept()

    def find(self, seq: int) -> tuple[int, list[bytes]] | None:
        """(first seq, lines) of the block that holds `seq`."""
        return self.appended.find(seq) or self.loaded.find(seq)


class Kept:
    """What was put here or found here last, up to KEPT_BYTES of lines: thousands of blocks where each is one event."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, tuple[int, list[bytes]]] = OrderedDict()
        self._order: list[int] = []
        """The last seq of each, rising."""
        self._bytes = 0

    def put(self, last_seq: int, lines: list[bytes]) -> tuple[int, list[bytes]]:
        """(first seq, lines)."""
        if last_seq not in self._blocks:
            insort(self._order, last_seq)
            self._blocks[last_seq] = (last_seq - len(lines) + 1, lines)
            self._bytes += _size(lines)
            while len(self._blocks) > 1 and self._bytes > KEPT_BYTES:
                oldest, (_, dropped) = self._blocks.popitem(last=False)
                del self._order[bisect_left(self._order, oldest)]
                self._bytes -= _size(dropped)
        return self._blocks[last_seq]

    def find(self, seq: int) -> tuple[int, list[bytes]] | None:
        place = bisect_left(self._order, seq)
        if place == len(self._order):
            return None
        last = self._order[place]
        if self._blocks[last][0] > seq:
            return None
        self._blocks.move_to_end(last)
        return self._blocks[last]


def _size(lines: list[bytes]) -> int:
    return sum(map(len, lines))
