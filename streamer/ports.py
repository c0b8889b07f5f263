"""The seams. What is behind each can be replaced; what each promises is in its docstring.

Parameters are positional-only, so that an adapter cannot drift from its port by a name.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from streamer.model import (
    Batch,
    Bookmark,
    Entry,
    Envelope,
    Event,
    Listing,
    Progress,
    Record,
    Seq,
    SinkName,
    SourceName,
    Window,
)

Narrow = Callable[[Sequence[int]], int]
"""Asked by a walk after a page that brought events and leads on from the last of them, with the `effective_at` of all events so far: from which
second on the rest is still wanted. It never moves back, and never past an event that was seen."""


class WindowTooLarge(Exception):  # an answer that the planner acts on, not an error
    """A window holds more events than a walk may keep in memory."""

    def __init__(self, expected: int) -> None:
        """`expected`: how many events it holds, as far as those seen before the walk gave up can tell."""
        super().__init__(f"window too large, about {expected} events")
        self.expected = expected


class Source(Protocol):
    """One upstream organization."""

    name: SourceName
    listings: Sequence[Listing]

    async def walk(self, listing: Listing, window: Window, limit: int, narrow: Narrow | None = None, /) -> list[Event]:
        """All events of the window, or of what `narrow` has left of it, that are visible now, in any order, each once.

        All of it or an exception: RetryableError, ConfigError, or WindowTooLarge past `limit` events and, where `narrow` cannot be asked, as
        soon as so many seem likely (a window of one second is never too large). Never PermanentError. Waits for nothing but the network.
        """

    async def oldest(self, listing: Listing, /) -> int | None:
        """A Unix second at or before the oldest visible event and at most a day before it; None if there is no event."""

    async def look(self, listing: Listing, /) -> str:
        """What one small request shows of a listing, in a few words. Raises as `walk` does."""

    def now(self) -> float:
        """The time at upstream, in Unix seconds: our clock, corrected by theirs once they have answered."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that a sink can never take, kept whole."""

    number: int = 0
    """Given by the journal; what `dlq` commands name."""
    sink: SinkName
    seq: Seq
    id: str
    type: str
    reason: str
    """Ours, and the other side's answer, in a sentence."""
    attempts: int
    at: float
    """Unix seconds."""
    line: bytes
    """The envelope."""


class SinkPosition(msgspec.Struct, frozen=True):
    """Where one sink stands."""

    acked: Seq
    """Everything up to here is durable in the sink, dead-lettered or filtered out."""
    bookmark: Bookmark | None
    entered_as: SinkName
    """The name under which the journal first knew it. It stays when the sink is renamed, and no other sink of the journal has it."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A request to deliver a stretch of the journal again to one sink."""

    number: int
    sink: SinkName
    after: Seq
    """Delivered again: records with `after` < seq <= `until`."""
    until: Seq
    since: float = 0.0
    before: float = math.inf
    """Of these, those with `since` <= time < `before`, in Unix seconds."""


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """A request to walk a range of a listing again, because something in it is missing."""

    number: int
    since: int
    """Unix seconds; nothing before what the journal remembers, or it would be appended twice."""
    before: int


class Backlog(msgspec.Struct, frozen=True):
    """What one sink has not acknowledged."""

    events: int
    oldest_at: float | None
    """Unix seconds at which the oldest of them was appended; None without backlog."""


class JournalSize(msgspec.Struct, frozen=True):
    used_bytes: int
    """Live data, the write-ahead log included; what `journal.max_size` bounds."""
    records: int
    head: Seq
    oldest: Seq


class Journal(Protocol):
    """The durable, ordered log between intake and sinks.

    Every method is one short transaction and durable when it returns. Raises RetryableError while the disk is full or busy,
    ConfigError when the file is corrupt or cannot be written.
    """

    id: str
    """Made with the file: tells this journal from any other, so that a `seq` of one is not taken for the other's."""
    head: Seq
    """The newest record's place; 0 in a journal that never had one."""

    # intake
    async def progress(self, source: SourceName, listing: Listing, /) -> Progress | None:
        """None: never walked."""

    async def unknown(self, source: SourceName, events: Sequence[Event], /) -> list[Event]:
        """Those whose (source, effective_at, id) is not in the journal's memory, in the order given, each once."""

    async def append(
        self, source: SourceName, listing: Listing, entries: Sequence[Entry], progress: Progress, /
    ) -> int:
        """Append the entries that are not known yet, in the order given, and store the progress, in one transaction. Returns how many were new.

        RetryableError("journal full …") when the entries do not fit into `max_size`; the progress is then not stored either.
        """

    async def hours(self, source: SourceName, listing: Listing, since: int, /) -> list[tuple[int, int, int]]:
        """(hour since 1970, remembered events in it, `effective_at` of the newest) of every hour from Unix second `since` on that has any."""

    async def repairs(self, source: SourceName, listing: Listing, /) -> list[Repair]:
        """Repairs that an operator asked for, oldest first, at most 1,000."""

    async def repaired(self, repair: Repair, /) -> None:
        """Its range has been walked again: it goes."""

    # delivery
    async def position(
        self, sink: SinkName, start: Literal["earliest", "latest"], was: SinkName | None = None, /
    ) -> SinkPosition:
        """Where the sink stands; a sink that is new to this journal is entered at its `start`.

        `was`: the name it had before. All that the journal keeps under that name becomes the sink's; where nothing is, and the sink is
        known, that has been done. ConfigError where both names have a place, or where neither has in a journal that knows sinks.
        """

    async def read(self, after: Seq, events: int, size: int, /) -> list[Record]:
        """The records that follow `after`, in order: at most `events`, at most `size` bytes of lines, but at least one if there is one."""

    async def ack(self, sink: SinkName, upto: Seq, bookmark: Bookmark | None, dead: Sequence[DeadLetter], /) -> None:
        """The sink has everything up to `upto`; store its bookmark and the dead letters with it. Never moves backwards."""

    async def wait(self, after: Seq, seconds: float, /) -> bool:
        """Until a record follows `after`, or the time has passed. True when there is one. Touches no disk."""

    async def requeued(self, sink: SinkName, /) -> list[DeadLetter]:
        """Dead letters that an operator asked to deliver again, oldest first, at most 100."""

    async def dead_letters(self, limit: int, /) -> list[DeadLetter]:
        """The newest dead letters of all sinks, newest first, at most `limit`."""

    async def settle(self, letters: Sequence[DeadLetter], delivered: bool, bookmark: Bookmark | None, /) -> None:
        """The end of a retry: delivered (the letters go, the bookmark is stored) or refused again (they stay, with their new reasons)."""

    async def replays(self, sink: SinkName, /) -> list[Replay]:
        """Replays that an operator asked for, oldest first."""

    async def replayed(
        self, replay: Replay, upto: Seq, bookmark: Bookmark | None, dead: Sequence[DeadLetter], /
    ) -> None:
        """A replay has got to `upto`; it goes when that is its end. Dead letters are stored with it."""

    # operation
    def stamp(self) -> tuple[int, int]:
        """Another one once anything was written, by this process or another: who waits for something to be written need not read until then.
        Two changes within a tick of the kernel's clock may look like one, so it is to be read now and then all the same."""

    async def backlog(self, sink: SinkName, /) -> Backlog: ...
    async def size(self) -> JournalSize: ...
    async def prune(self, sinks: Sequence[SinkName], keep_seconds: float, remember_seconds: float, /) -> int:
        """Delete what every one of `sinks` has acknowledged and is older than `keep_seconds`; forget ids whose `effective_at` is older than
        `remember_seconds`. A sink that is not named does not pin anything. Returns how many records went."""


class Sink(Protocol):
    """A place that takes batches.

    `write` returns when the batch is durable there; the bookmark, if any, is stored in the transaction that acknowledges the batch.
    It never retries, batches, waits or logs payloads. It raises RetryableError, ConfigError, PermanentError or
    Repositioned; after any of them the same batch, or a part of it, is written again.

    A sink is made by an async context manager `open_<type>(options, context)` that touches no network: an unreachable server is
    a RetryableError of the first write.
    """

    async def write(self, batch: Batch, /) -> Bookmark | None: ...


@runtime_checkable
class Ticking(Protocol):
    """A sink that has something to do when no event comes (closing a file by its age)."""

    async def tick(self) -> Bookmark | None:
        """Called about once a second while idle. Raises as `write` does; a returned bookmark is stored."""


@runtime_checkable
class Finishing(Protocol):
    """A sink that keeps something open, and can close it early."""

    async def finish(self) -> Bookmark | None:
        """Called when everything was delivered and nothing more will come (`run --once`). Raises as `write` does; a returned bookmark is stored.
        After a stop or a crash it is not called."""


def _unheard(_count: int, _reason: str) -> None:
    """Where nobody counts."""


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink is told when it is opened."""

    name: SinkName
    position: SinkPosition
    """Where the journal believes the sink to stand, with the sink's last bookmark. What a sink keeps elsewhere under a name (a folder, a
    transactional id) it keeps under `entered_as`, so that a renamed sink finds it again."""
    journal: str
    """`Journal.id`."""
    folder: Path
    """The state folder, for what a sink must keep for itself; it may be empty, and it may be lost."""
    replica: str = ""
    """Tells this replica's writer from those of the others that share the sources; empty where there are none."""
    only_looking: bool = False
    """`check` opens sinks too, perhaps beside a running daemon: nothing may be made or locked then."""
    set_aside: Callable[[int, str], None] = _unheard
    """(count, reason): the other side took the batch and did not store so many of its records as asked, without saying
    which or letting us send them again. To be counted and said; it is no verdict."""


class Enricher(Protocol):
    """Adds to an envelope, in place, from what is in memory. Total (never raises) and local (never waits)."""

    def enrich(self, envelope: Envelope, /) -> None: ...


class Format(Protocol):
    """A record in the bytes of a store's schema: one line, no line break. Total: what does not fit is carried as unknown, never refused."""

    def encode(self, record: Record, /) -> bytes: ...


class Sighting(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What somebody says of a thing of the organization."""

    kind: str
    """In the words of the envelope's targets: `user`, `project`, `api_key` …"""
    id: str
    name: str | None = None
    email: str | None = None
    role: str | None = None
    """A user's, in the organization."""


class DirectoryPage(msgspec.Struct, frozen=True, gc=False):
    """A piece of one list."""

    sightings: list[Sighting]
    projects: list[str]
    """Ids of projects whose own lists can be read."""
    next: str | None
    """The cursor of what follows; None at the end."""


class DirectorySource(Protocol):
    """The names that one upstream organization knows, as lists: some of the organization, some of each of its projects."""

    name: SourceName
    lists: Sequence[str]
    project_lists: Sequence[str]

    async def read(self, name: str, project: str | None, cursor: str | None, /) -> DirectoryPage:
        """One request. `project` for those of `project_lists`; `cursor` from the page before. RetryableError or ConfigError."""

    def now(self) -> float:
        """As `Source.now`."""
