"""What enriching costs an event: names out of a directory of 7,500 things, networks, geography, and the built-in rules."""

import time
from collections.abc import Sequence

from streamer.enrich.directory import Directory
from streamer.enrich.geo import Geography
from streamer.enrich.networks import Networks
from streamer.enrich.rules import load_rules
from streamer.model import Envelope, decode_envelope
from streamer.ports import Enricher, Sighting
from tests import records

EVENTS = 400
THINGS = 7_500


def fresh(turn: int) -> list[Envelope]:
    """As decoding leaves them: without names, places and labels. Each turn has events of its own, which follow those of the turn before."""
    made = [decode_envelope(records.line(turn * EVENTS + number)) for number in range(EVENTS)]
    for one in made:
        one.labels.clear()
        one.tags.clear()
        one.rules.clear()
        if one.actor is not None:
            one.actor.name = one.actor.geo = None
        if one.project is not None:
            one.project.name = None
        for target in one.targets:
            target.name = None
    return made


def directory() -> Directory:
    """Knows everything of the events, and a large company besides."""
    made = Directory()
    for number in range(THINGS):
        made.teach(records.SOURCE, Sighting(kind="api_key", id=f"key_{number:020}", name=f"key {number}"), 1)
    for one in (decode_envelope(records.line(number)) for number in range(EVENTS)):
        if one.actor is not None and one.actor.id is not None:
            person = Sighting(kind="user", id=one.actor.id, name="Ana", email=one.actor.email, role="owner")
            made.teach(records.SOURCE, person, 2_000_000_000)
        if one.project is not None and one.project.id is not None:
            made.teach(records.SOURCE, Sighting(kind="project", id=one.project.id, name="Payments"), 2_000_000_000)
    return made


def geography() -> Geography:
    made = Geography()
    made.use(lambda _: {"country": {"iso_code": "PT"}, "city": {"names": {"en": "Lisbon"}}})
    return made


def cost_us(enrichers: Sequence[Enricher], rounds: int = 30) -> float:
    """CPU microseconds an event, of the best round but the first, in which the rules remember nothing yet."""
    best = float("inf")
    for turn in range(rounds):
        envelopes = fresh(turn)
        begin = time.process_time()
        for envelope in envelopes:
            for enricher in enrichers:
                enricher.enrich(envelope)
        if turn:
            best = min(best, time.process_time() - begin)
    return best / EVENTS * 1e6


def main() -> None:
    networks = Networks({"corp": ["203.0.113.0/24", "2001:db8::/32"], "lab": ["203.0.113.64/26"]})
    looked_up: dict[str, Enricher] = {"directory": directory(), "networks": networks, "geography": geography()}
    # Each its own engine: one that has seen the events already would take them for late ones.
    rules, after_lookups = load_rules(None).engine(), load_rules(None).engine()
    for name, enricher in {**looked_up, "rules": rules}.items():
        print(f"{name:>12}: {cost_us([enricher]):5.1f} us an event")
    print(f"{'without rules':>12}: {cost_us([*looked_up.values()]):5.1f} us an event")
    print(f"{'all':>12}: {cost_us([*looked_up.values(), after_lookups]):5.1f} us an event")


if __name__ == "__main__":
    main()
