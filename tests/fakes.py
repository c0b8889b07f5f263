"""Stand-ins for the ports that misbehave on demand; typed against the ports, so that they cannot drift from them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from streamer.decode import decode_event
from streamer.model import Batch, Bookmark, Event, Listing, SourceName, Window
from streamer.ports import Narrow, Sink, Source, WindowTooLarge

ACME = SourceName("acme")


@dataclass
class ScriptedSink:
    """Remembers what it took; before each write it does what the script says next: None takes, an exception is raised."""

    script: Iterator[Exception | None] = field(default_factory=lambda: iter(()))
    refuses: Callable[[Batch], Exception | None] = lambda _: None
    taken: list[bytes] = field(default_factory=list)
    replayed: list[bool] = field(default_factory=list)
    """Of each that was taken."""
    writes: int = 0

    async def write(self, batch: Batch, /) -> Bookmark | None:
        self.writes += 1
        trouble = next(self.script, None) or self.refuses(batch)
        if trouble is not None:
            raise trouble
        self.taken += [m.body for m in batch.messages]
        self.replayed += [m.replayed for m in batch.messages]
        return {"taken": len(self.taken)}


_: type[Sink] = ScriptedSink


@dataclass
class FakeSource:
    """A listing in memory: events by id with the time at which they become visible; trouble on demand."""

    name: SourceName = ACME
    listings: Sequence[Listing] = ("organization",)
    clock: Callable[[], float] = lambda: 0.0
    events: list[tuple[float, Event]] = field(default_factory=list)
    """(visible from, event)."""
    trouble: Iterator[Exception | None] = field(default_factory=lambda: iter(()))
    walks: list[Window] = field(default_factory=list)

    def make(self, number: int, at: int, visible: float | None = None, kind: str = "logout.succeeded") -> Event:
        raw = b'{"id":"e%d","type":"%s","effective_at":%d}' % (number, kind.encode(), at)
        event = decode_event(raw)
        self.events.append((at if visible is None else visible, event))
        return event

    async def walk(self, listing: Listing, window: Window, limit: int, narrow: Narrow | None = None, /) -> list[Event]:
        self.walks.append(window)
        trouble = next(self.trouble, None)
        if trouble is not None:
            raise trouble
        end = float("inf") if window.end is None else window.end
        now = self.clock()
        found = [e for visible, e in self.events if visible <= now and window.start <= e.effective_at < end]
        if len(found) > limit and (window.end is None or window.end - window.start > 1):
            raise WindowTooLarge(len(found))
        return found[::-1]

    async def look(self, listing: Listing, /) -> str:
        return "readable"

    async def oldest(self, listing: Listing, /) -> int | None:
        return min((e.effective_at for _, e in self.events), default=None)

    def now(self) -> float:
        return self.clock()


__: type[Source] = FakeSource
