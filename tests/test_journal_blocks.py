"""Blocks: packed for the disk, and kept in memory."""

import time

import pytest
from zstandard import ZstdError

from streamer.journal.blocks import BLOCK_BYTES, BLOCK_EVENTS, Kept, Packer, unpack
from tests.records import noise

KEPT_BYTES = 4 << 20


def test_lines_are_packed_in_order_and_come_back() -> None:
    """Goal: no line is cut, lost or moved. Method: none, few, many small ones, and large ones of which two fill a block."""
    pack = Packer().pack
    for lines in (
        [],
        [b"{}"],
        [b'{"n":%d}' % n for n in range(BLOCK_EVENTS * 2 + 1)],
        [noise(n, BLOCK_BYTES // 2) for n in range(5)],
        [b"{}", noise(1, BLOCK_BYTES * 3)],
        [b"[]", b""],
    ):
        packed = pack(lines)
        assert [line for block in packed for line in unpack(block.body, block.size)] == lines
        assert all(len(block.lines) <= BLOCK_EVENTS for block in packed)
        assert all(block.size < 2 * BLOCK_BYTES or len(block.lines) <= 2 for block in packed)


def test_blocks_of_earlier_versions_are_read() -> None:
    """Goal: what was stored as it is stays readable. Method: two lines."""
    assert unpack(b'{"a":1}\n{"b":2}', 15) == [b'{"a":1}', b'{"b":2}']


def test_a_block_of_another_size_is_refused() -> None:
    """Goal: the row and the frame must agree. Method: a size that is off by one."""
    [block] = Packer().pack([noise(1)])
    with pytest.raises(ZstdError):
        unpack(block.body, block.size + 1)


def test_blocks_in_memory_are_bounded_and_found_at_once() -> None:
    """Goal: blocks of one event are thousands, and reading them in turn stands still for nobody. Method: 20,000 of them, then every one asked
    for, beside the CPU time of a plain walk over a dictionary; large ones, of which few stay, the last used."""
    kept = Kept(KEPT_BYTES)
    for seq in range(1, 20_001):
        kept.put(seq, [b"x" * 400], 400)
    found = [seq for seq in range(1, 20_001) if kept.find(seq) is not None]
    assert found == list(range(20_000 - KEPT_BYTES // 400 + 1, 20_001))
    began = time.process_time()
    for seq in found:
        assert kept.find(seq) == (seq, [b"x" * 400])
    took = time.process_time() - began
    numbers = dict.fromkeys(range(100_000))
    began = time.process_time()
    for number in numbers:
        assert number >= 0
    assert took < 20 * max(time.process_time() - began, 0.002)
    large = Kept(KEPT_BYTES)
    large.put(10, [b"a" * (KEPT_BYTES // 3)] * 2, KEPT_BYTES // 3 * 2)
    large.put(20, [b"b" * (KEPT_BYTES // 4)], KEPT_BYTES // 4)
    assert large.find(9) is not None
    large.put(30, [b"c" * (KEPT_BYTES // 4)], KEPT_BYTES // 4)
    assert (large.find(20), large.find(11)) == (None, None), "used longest ago; never there"
    assert large.find(10) is not None
    assert large.find(30) is not None
    assert large.put(40, [b"d" * KEPT_BYTES * 2], KEPT_BYTES * 2) == large.find(40), "one is kept, however large"
    assert large.find(30) is None


def test_a_damaged_head_of_a_block_is_seen() -> None:
    """Goal: no wrong lines, and no memory for what a flipped bit asks for. Method: each bit of the frame's first bytes; one of them means
    nothing in the format, and harms nothing."""
    [block] = Packer().pack([noise(n) for n in range(20)])
    harmless = []
    for bit in range(24 * 8):
        body = bytearray(block.body)
        body[bit // 8] ^= 1 << bit % 8
        try:
            assert unpack(bytes(body), block.size) == block.lines
            harmless.append(bit)
        except ZstdError:
            continue
    assert harmless == [4 * 8 + 4]
