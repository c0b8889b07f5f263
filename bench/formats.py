"""What each format costs an event: from the line in the journal to the sink's bytes, decoding included."""

import time
from collections.abc import Callable

from streamer.config import FormatName
from streamer.formats import make_format
from streamer.formats.line import render
from streamer.model import Record, Seq
from tests import records

LINES = tuple(records.line(number) for number in range(400))
FORMATS: tuple[FormatName, ...] = ("envelope", "raw", "ocsf", "ecs", "cef", "leef")


def cost_us(call: Callable[[Record], object], rounds: int = 15) -> float:
    """CPU microseconds an event, of the best round."""
    best = float("inf")
    for _ in range(rounds):
        fresh = [Record(Seq(1), line) for line in LINES]
        begin = time.process_time()
        for record in fresh:
            call(record)
        best = min(best, time.process_time() - begin)
    return best / len(LINES) * 1e6


def decoding_us(rounds: int = 15) -> float:
    return cost_us(lambda record: record.envelope, rounds)


def main() -> None:
    base = decoding_us()
    print(f"decoding an envelope of {sum(map(len, LINES)) / len(LINES):,.0f} bytes: {base:.1f} us")
    calls = {name: make_format(name, {"acme": "org-1"}).encode for name in FORMATS}
    for name, call in {**calls, "line of tail": render}.items():
        cost = cost_us(call)
        print(f"{name:>12}: {cost:5.1f} us an event, {cost / base:4.1f} times decoding")


if __name__ == "__main__":
    main()
