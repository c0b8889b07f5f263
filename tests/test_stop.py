"""Loops that wake together."""

import time

import pytest

from streamer.stop import AFTER_BEAT_S, Stop, to_next_beat


@pytest.mark.parametrize(
    ("now", "wait_s"),
    [(100.0, 2.0), (100.5, 1.5), (101.999, 0.001), (102.0, 2.0)],
    ids=["on it", "after", "before", "next"],
)
def test_the_next_beat_is_just_after_a_whole_multiple(
    now: float, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: who waits by the same period wakes in the same moment, wherever it began; method: moments between two multiples of 2 s."""
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert to_next_beat(2.0) == pytest.approx(wait_s + AFTER_BEAT_S)


async def test_a_wait_for_a_beat_ends_behind_it() -> None:
    """Goal: no beat is met twice, though timers may be early; method: ten real waits of a twentieth of a second."""
    beats = list[int]()
    for _ in range(10):
        await Stop().sleep(to_next_beat(0.05))
        beats.append(int(time.monotonic() / 0.05))
    assert len(set(beats)) == 10
