"""What happens to the daemon, and when: pure, and decided by one seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.roads import Weather
from tests.crash.run import POINTS

Ending = Literal["kill", "point", "stop"]
"""SIGKILL from outside, by its own hand at a named point, SIGTERM."""
What = Literal[
    "burst",
    "freeze",
    "fill disk",
    "step clock",
    "rotate key",
    "restart webhook",
    "restart kafka",
    "change configuration",
]

GENTLE = {
    "rate_limited": 1.0,
    "rate_limited_date": 1.0,
    "rate_limited_bare": None,
    "internal_error": None,
    "bad_gateway": None,
    "unavailable": None,
    "html": None,
    "stuck_cursor": None,
    "repeated_events": None,
    "repeated_cursor": None,
    "empty_page": None,
    "shuffled": None,
    "concatenated": None,
    "latency": 0.3,
    "slow_body": 0.5,
    "cut_body": None,
    "reset": None,
    "unknown_cursor": None,
}
"""Faults of the simulator and how hard they strike. What is not here: `pretty`, which changes the bytes of an event on purpose."""
BIRTH = {"late": (1.0, 30.0), "equal_times": (2.0, 8.0)}
"""Faults of events as they come into being, from and to how many seconds."""
HOLDING = ("forbidden", "bad_request", "revoked_key", "access_refused", "ignored_filter")
"""What waits for an operator: a minute, so they are rare and end with the life."""
ROADS = ("upstream", "webhook", "kafka")


@dataclass(frozen=True)
class Act:
    """Something that happens at a moment of a life."""

    at_s: float
    what: What
    size: float = 0.0
    """Seconds (of a freeze, of a step, that a server is away), bytes that a disk has left, events of a burst; of a
    configuration: whether SIGHUP says so, or the daemon has to see it itself."""
    lasts_s: float = 0.0
    """How long a disk stays full; how long the old key is refused before the new one is there."""


@dataclass(frozen=True)
class Life:
    number: int
    fair: bool
    """It is given time to become live, and then lives for `seconds`."""
    seconds: float
    """At most; it may die at its point before."""
    ending: Ending
    point: int | None
    """Of POINTS."""
    clock_s: float
    """What its clock is off by when it is born."""
    acts: list[Act]
    faults: dict[str, dict[str, Any]]
    """As `/_sim/faults` takes them."""
    weather: dict[str, Weather]
    configuration: dict[str, Any] = field(default_factory=dict)
    """Dotted keys that differ from the configuration that everything began with; empty: as the life before."""


@dataclass(frozen=True)
class Kinds:
    """What this place can do."""

    kafka: bool = True
    clock: bool = True


def lives(seed: int, kinds: Kinds, first: int = 0) -> Iterator[Life]:
    """Without end. A life depends on the seed and its number alone."""
    number = first
    while True:
        chance = random.Random(f"{seed}/{number}")
        yield _life(number, chance, kinds)
        number += 1


def _life(number: int, chance: random.Random, kinds: Kinds) -> Life:
    """Fair or foul: under a foul sky hardly a window is walked to its end, and where nothing is walked there is nothing to lose."""
    fair = chance.random() < 0.35
    ending: Ending = chance.choices(("kill", "point", "stop"), (87, 10, 3))[0]
    seconds = chance.uniform(0, 2.5) if fair else chance.choice((chance.uniform(0.02, 0.5), chance.uniform(0.5, 2.5)))
    acts = list(_acts(chance, seconds, kinds))
    clock_s = step(chance) if kinds.clock and chance.random() < 0.25 else 0.0
    stepped = clock_s != 0 or any(act.what == "step clock" for act in acts)
    foul_api = {} if fair else faults(chance, date_may_lie=not stepped, holding=chance.random() < 0.04)
    sky = {road: weather(chance) for road in ROADS}
    return Life(
        number=number,
        seconds=round(seconds, 3),
        ending=ending,
        point=chance.randrange(len(POINTS)) if ending == "point" else None,
        clock_s=clock_s,
        acts=sorted(acts, key=lambda act: act.at_s),
        fair=fair,
        faults=foul_api | births(chance),
        weather=sky | {"upstream": Weather()} if fair else sky,
        configuration=configuration(chance) if chance.random() < 0.3 else {},
    )


def _acts(chance: random.Random, seconds: float, kinds: Kinds) -> Iterator[Act]:
    def moment() -> float:
        return round(chance.uniform(0, seconds), 3)

    for _ in range(chance.choice((1, 1, 2))):
        yield Act(moment(), "burst", int(min(chance.paretovariate(0.9) * 8, 800)))
    if chance.random() < 0.2:
        yield Act(moment(), "freeze", round(chance.uniform(0.05, 1.5), 3))
    if chance.random() < 0.2:
        yield Act(moment(), "fill disk", chance.choice((0, 4096, 65536, 262_144)), round(chance.uniform(0.2, 2), 3))
    if kinds.clock and chance.random() < 0.2:
        yield Act(moment(), "step clock", step(chance))
    if chance.random() < 0.08:
        yield Act(moment(), "rotate key", 0, round(chance.choice((0, 0, chance.uniform(0, 0.5))), 3))
    if chance.random() < 0.05:
        yield Act(moment(), "restart webhook", round(chance.uniform(0, 1), 3))
    if kinds.kafka and chance.random() < 0.008:
        yield Act(moment(), "restart kafka")
    if chance.random() < 0.12:
        yield Act(moment(), "change configuration", chance.choice((0, 1)))


def step(chance: random.Random) -> float:
    """Half a second to two days, in either direction."""
    return round(chance.choice((-1, 1)) * 0.5 * (2 * 172_800) ** chance.random(), 1)


def faults(chance: random.Random, *, date_may_lie: bool, holding: bool) -> dict[str, dict[str, Any]]:
    """`date_may_lie`: not while our own clock is wrong as well: then nobody would know the time."""
    chosen: dict[str, dict[str, Any]] = {}
    for name in chance.sample(sorted(GENTLE), chance.randint(2, 6)):
        chosen[name] = {"probability": round(chance.uniform(0.01, 0.1), 3)}
        if GENTLE[name] is not None:
            chosen[name]["value"] = GENTLE[name]
    if "empty_page" in chosen:  # five in a row are believed: no fault, but an empty log
        chosen["empty_page"] |= {"probability": 0.1, "count": 4}
    if date_may_lie and chance.random() < 0.15:
        chosen["clock_offset"] = {"probability": round(chance.uniform(0.05, 1), 2), "value": step(chance)}
    if holding:
        chosen[chance.choice(HOLDING)] = {"probability": 0.2, "count": 2}
    return chosen


def births(chance: random.Random) -> dict[str, dict[str, Any]]:
    """Events that show up late, or whose time is rounded."""
    chosen: dict[str, dict[str, Any]] = {}
    for name, (low, high) in BIRTH.items():
        if chance.random() < 0.7:
            chosen[name] = {
                "probability": round(chance.uniform(0.01, 0.15), 3),
                "value": round(chance.uniform(low, high), 1),
            }
    return chosen


def weather(chance: random.Random) -> Weather:
    """Calm half of the time; never so bad that nothing gets through, or nothing would be tried."""
    if chance.random() < 0.5:
        return Weather()
    return Weather(
        refuse=round(chance.uniform(0, 0.15), 3),
        cut=round(chance.uniform(0, 0.03), 3),
        delay=round(chance.uniform(0, 0.08), 3),
        corrupt=round(chance.uniform(0, 0.015), 3),
        stall=round(chance.uniform(0, 0.004), 4),
    )


def configuration(chance: random.Random) -> dict[str, Any]:
    """Another way of doing the same."""
    return {
        "sources.acme.poll_interval": chance.choice(("100ms", "200ms", "500ms")),
        "sources.acme.overlap": chance.choice(("5s", "10s", "30s")),
        "sources.acme.concurrency": chance.choice((1, 3, 8)),
        "sources.acme.recheck": chance.choice(
            (
                [{"every": "2s", "window": "2m"}],
                [{"every": "1s", "window": "45s"}, {"every": "3s", "window": "4m"}],
            )
        ),
        "sinks.local.rotate.size": chance.choice(("256KiB", "1MiB", "4MiB")),
        "sinks.local.batch": {"events": chance.choice((7, 200, 5000)), "wait": chance.choice(("0s", "200ms"))},
        "sinks.lake.roll": {"size": chance.choice(("64KiB", "4MiB")), "age": chance.choice(("1s", "5s"))},
        "sinks.lake.batch": {"events": chance.choice((13, 1000))},
        "sinks.hook.batch": {"events": chance.choice((1, 50, 500)), "wait": "0s"},
        "journal.max_size": chance.choice(("32MiB", "256MiB", "256MiB", "256MiB")),
    }


def point_name(index: int) -> str:
    point = POINTS[index]
    return f"{point.name} {point.when} {point.nth}"
