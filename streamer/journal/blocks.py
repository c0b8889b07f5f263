"""Records are kept in blocks: many lines in one row of the database, compressed together."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import zstandard

BLOCK_BYTES = 2 << 20
"""Of lines: what a walk of a window of usual events brings; as stored it is a tenth of that, or less."""
BLOCK_EVENTS = 1000
KEPT_BYTES = 4 << 20
LEVEL = 1
"""Of Zstandard. Higher ones take longer than the disk is spared."""


class Block(NamedTuple):
    lines: list[bytes]
    body: bytes
    """As it is stored: the lines, with line breaks between them, as one Zstandard frame with a checksum."""


def pack(lines: Iterable[bytes]) -> list[Block]:
    """Blocks of at most BLOCK_EVENTS lines and about BLOCK_BYTES bytes. Other threads run while it compresses."""
    compress = zstandard.ZstdCompressor(LEVEL, write_checksum=True).compress
    return [Block(block, compress(b"\n".join(block))) for block in _split(lines)]


def unpack(body: bytes) -> list[bytes]:
    """The lines. ZstdError where it is damaged. Of a journal of version 3 or older they are stored as they are."""
    return (body if body.startswith(b"{") else zstandard.decompress(body)).split(b"\n")


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

    The last that were appended: sinks near the head share them and never touch the disk. And of those that were loaded for a sink that is
    behind, the one it is in the middle of, which nothing that is appended meanwhile pushes out.
    """

    def __init__(self) -> None:
        self.appended, self.loaded = Kept(), Kept()

    def find(self, seq: int) -> tuple[int, list[bytes]] | None:
        """(first seq, lines) of the block that holds `seq`."""
        return self.appended.find(seq) or self.loaded.find(seq)


class Kept:
    """The newest of what was put here, up to KEPT_BYTES of lines."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, tuple[int, list[bytes]]] = OrderedDict()
        self._sizes: dict[int, int] = {}

    def put(self, last_seq: int, lines: list[bytes]) -> tuple[int, list[bytes]]:
        """(first seq, lines)."""
        self.drop(last_seq)
        block = self._blocks[last_seq] = (last_seq - len(lines) + 1, lines)
        self._sizes[last_seq] = sum(map(len, lines))
        while len(self._blocks) > 1 and sum(self._sizes.values()) > KEPT_BYTES:
            self.drop(next(iter(self._blocks)))
        return block

    def find(self, seq: int) -> tuple[int, list[bytes]] | None:
        return next((block for last, block in self._blocks.items() if block[0] <= seq <= last), None)

    def drop(self, last_seq: int) -> None:
        if self._blocks.pop(last_seq, None) is not None:
            del self._sizes[last_seq]
