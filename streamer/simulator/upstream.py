"""The simulated organization and its log: what there is, what is visible now, what comes into being as time goes by.

No HTTP in here. Live events are made when somebody looks: all that have become due since the last look.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from streamer.catalog import lookup
from streamer.model import LISTINGS, Event, EventId, Listing
from streamer.simulator.company import make_company
from streamer.simulator.faults import Switchboard, parse_fault
from streamer.simulator.options import SimulatorOptions
from streamer.simulator.store import Store, Truth, parse
from streamer.simulator.story import Story

MAX_LIVE_BURST = 200_000
"""At most so many live events are made at one look; a longer gap is cut off at its old end."""


class Upstream:
    def __init__(self, options: SimulatorOptions, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.faults = Switchboard(options.seed, dict(map(parse_fault, options.faults)))
        now = int(clock() if options.until is None else options.until)
        self.company = make_company(
            options.seed,
            now,
            people=options.people,
            projects=options.projects,
            keys=options.keys,
            service_accounts=options.service_accounts,
        )
        self._stores: dict[Listing, Store] = {listing: Store() for listing in LISTINGS}
        self._story = Story(self.company, options.seed, options.profile)
        self._rate = options.rate
        self._live_since = clock()
        self._live_made = 0
        start = now - max(int(options.days * 86_400), 1)
        for listing, event in self._story.history(options.events, start, now, self._stamp):
            self._stores[listing].add(event, event.effective_at, clock())

    def store(self, listing: Listing) -> Store:
        """The listing as it is visible now."""
        now = self.clock()
        self._live(now)
        store = self._stores[listing]
        store.reveal(now)
        return store

    def truth(self, listing: Listing) -> Iterator[Truth]:
        """Every event that is or will be visible."""
        yield from self.store(listing).truth()

    def inject(self, raw: bytes, listing: Listing | None = None) -> Event:
        """Take one JSON text into the log as it stands. Without a readable `effective_at` its place is now.

        `listing` defaults to where its type belongs. Raises ValueError if it is no JSON.
        """
        tree = parse(raw)
        fields: dict[str, Any] = tree if isinstance(tree, dict) else {}
        kind, event_id, at = fields.get("type"), fields.get("id"), fields.get("effective_at")
        kind = kind if isinstance(kind, str) else "unknown"
        now = self.clock()
        event = Event(
            raw=raw,
            id=EventId(event_id if isinstance(event_id, str) else "sha256-" + hashlib.sha256(raw).hexdigest()),
            type=kind,
            effective_at=at if isinstance(at, int) and at >= 0 else int(now),
        )
        self._add(listing or lookup(kind).listing, event, now, now)
        return event

    def invent(self, event_type: str | None, count: int) -> list[Event]:
        """`count` new events of now: of one type, or what the story has next."""
        now, made = self.clock(), []
        for _ in range(count):
            if event_type is None:
                listing, event = self._story.live(int(now), self._stamp)
            else:
                step = self._story.of_type(event_type)
                listing = lookup(event_type).listing
                event = self._story.render(step, self._stamp(int(now), listing))
            self._add(listing, event, now, now)
            made.append(event)
        return made

    def end_traffic(self) -> None:
        """Nothing more happens by itself: what there is now is all there will be."""
        self._live(self.clock())
        self._rate = 0

    def _live(self, now: float) -> None:
        due = int((now - self._live_since) * self._rate)
        self._live_made = max(self._live_made, due - MAX_LIVE_BURST)
        while self._live_made < due:
            self._live_made += 1
            moment = self._live_since + self._live_made / self._rate
            listing, event = self._story.live(int(moment), self._stamp)
            self._add(listing, event, moment, now)

    def _add(self, listing: Listing, event: Event, born_at: float, now: float) -> None:
        """Visible when it is born, unless the fault `late` holds it back. (The past lies open: `late` spares it.)"""
        hidden = self.faults.strikes("late", listing)
        visible_at = born_at if hidden is None else max(born_at, event.effective_at + float(hidden))
        self._stores[listing].add(event, visible_at, now)

    def _stamp(self, at: int, listing: Listing) -> int:
        step = self.faults.strikes("equal_times", listing)
        return at if step is None else at - at % max(int(float(step)), 1)


class Line(msgspec.Struct, omit_defaults=True):
    """One event of the truth, as `/_sim/truth` tells it."""

    id: str
    listing: Listing
    type: str
    effective_at: int
    visible_at: float
    sha256: str | None = None
    raw: str | None = None


def truth_lines(truth: Iterator[Truth], listing: Listing, *, raw: bool) -> Iterator[bytes]:
    """NDJSON: with the event's text as a string, or the hash of its bytes."""
    encode = msgspec.json.Encoder().encode
    for entry in truth:
        event = entry.event
        line = Line(event.id, listing, event.type, event.effective_at, entry.visible_at)
        if raw:
            line.raw = event.raw.decode()
        else:
            line.sha256 = hashlib.sha256(event.raw).hexdigest()
        yield encode(line) + b"\n"
