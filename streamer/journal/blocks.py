"""Records are kept in blocks: many lines in one row of the database."""

from collections import OrderedDict
from collections.abc import Iterator

BLOCK_BYTES = 1 << 20
BLOCK_EVENTS = 1000
CACHED_BLOCKS = 4


class Blocks:
    """The last few blocks, split into lines: sinks near the head share them and never touch the disk. For one thread, the loop's."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, tuple[int, list[bytes]]] = OrderedDict()

    def put(self, last_seq: int, lines: list[bytes]) -> tuple[int, list[bytes]]:
        """(first seq, lines)."""
        block = self._blocks[last_seq] = (last_seq - len(lines) + 1, lines)
        self._blocks.move_to_end(last_seq)
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return block

    def find(self, seq: int) -> tuple[int, list[bytes]] | None:
        """(first seq, lines) of the block that holds `seq`."""
        for last, (first, lines) in self._blocks.items():
            if first <= seq <= last:
                self._blocks.move_to_end(last)
                return first, lines
        return None


def split(head: int, lines: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """(last seq, lines) of blocks of at most BLOCK_EVENTS lines and about BLOCK_BYTES bytes."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        head += 1
        if size >= BLOCK_BYTES or len(block) >= BLOCK_EVENTS:
            yield head, block
            block, size = [], 0
    if block:
        yield head, block
