"""Records are kept in blocks: many lines in one row of the database, compressed together."""

import io
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable
from itertools import chain, repeat
from typing import NamedTuple

import zstandard

BLOCK_BYTES = 2 << 20
"""Of lines: what a walk of a window of usual events brings."""
BLOCK_EVENTS = 1000
APPENDED_BYTES = 4 << 20
"""In memory, of what was appended last. A sink that falls further behind has to load blocks, falls back more by it, and reaches the head only
after all is caught up: so there is room for what comes while the file sink writes a batch."""
LOADED_BYTES = 4 << 20
LEVEL = 1
"""Of Zstandard. Higher ones take longer than the disk is spared."""


class Block(NamedTuple):
    lines: list[bytes]
    size: int
    """Bytes of the lines, with line breaks between them."""
    body: bytes
    """As it is stored: one Zstandard frame that knows its size and has a checksum."""


class Packer:
    """Makes blocks. For one thread; others run while it compresses.

    Its buffer stays: a text of its own for every block would come from the system as pages of zeros, which costs more than to fill it.
    """

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(LEVEL, write_checksum=True).compress
        self._text = io.BytesIO()

    def pack(self, lines: Iterable[bytes]) -> list[Block]:
        """Blocks of at most BLOCK_EVENTS lines and about BLOCK_BYTES bytes."""
        return [self._packed(block) for block in _split(lines)]

    def _packed(self, lines: list[bytes]) -> Block:
        text = self._text
        text.seek(0)
        text.writelines(chain.from_iterable(zip(lines, repeat(b"\n"))))
        size = text.tell() - 1
        with text.getbuffer() as view, view[:size] as block:
            body = self._compress(block)
        if size > 2 * BLOCK_BYTES:  # of one large event: its room is not kept
            self._text = io.BytesIO()
        return Block(lines, size, body)


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
        self.appended, self.loaded = Kept(APPENDED_BYTES), Kept(LOADED_BYTES)

    def find(self, seq: int) -> tuple[int, list[bytes]] | None:
        """(first seq, lines) of the block that holds `seq`."""
        return self.appended.find(seq) or self.loaded.find(seq)


class Kept:
    """What was put here or found here last, up to `most` bytes of lines: thousands of blocks where each is one event."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._blocks: OrderedDict[int, tuple[int, list[bytes]]] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._order: list[int] = []
        """The last seq of each, rising."""
        self._bytes = 0

    def put(self, last_seq: int, lines: list[bytes], size: int) -> tuple[int, list[bytes]]:
        """(first seq, lines). `size`: their bytes."""
        if last_seq not in self._blocks:
            insort(self._order, last_seq)
            self._blocks[last_seq] = (last_seq - len(lines) + 1, lines)
            self._sizes[last_seq] = size
            self._bytes += size
            while len(self._blocks) > 1 and self._bytes > self._most:
                oldest, _ = self._blocks.popitem(last=False)
                del self._order[bisect_left(self._order, oldest)]
                self._bytes -= self._sizes.pop(oldest)
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
