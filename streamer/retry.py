"""How long to wait before the next try. Pure; the loops do the waiting."""

import random
from dataclasses import dataclass

HOLD_S = 60.0
"""The slowest pace: how often a held job looks whether an operator has mended it."""


@dataclass
class Backoff:
    """Exponential with full jitter. One per job; `reset` after a success."""

    first_s: float = 0.5
    longest_s: float = HOLD_S
    attempts: int = 0

    def next(self, retry_after: float | None = None, jitter: float | None = None) -> float:
        """Seconds to wait. `retry_after` is honoured as a minimum, up to an hour; `jitter` in 0..1 replaces chance."""
        ceiling = min(self.first_s * 2.0 ** min(self.attempts, 30), self.longest_s)
        self.attempts += 1
        wait = ceiling * (random.random() if jitter is None else jitter)  # noqa: S311 - spreads load, guards nothing
        return max(wait, min(retry_after or 0.0, 3600.0))

    def reset(self) -> None:
        self.attempts = 0


def parse_retry_after(value: str | None, now: float) -> float | None:
    """A `Retry-After` header, in seconds or as an HTTP date (RFC 9110 10.2.3), to seconds from `now` (Unix seconds)."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
