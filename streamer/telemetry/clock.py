"""The time of this machine, told by two clocks."""

import time
from collections.abc import Callable


def steady_clock(
    wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Unix seconds that no step of the wall clock moves: what it said now, going on by the monotonic clock."""
    began = wall() - monotonic()
    return lambda: began + monotonic()
