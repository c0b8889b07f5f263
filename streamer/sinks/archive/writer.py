"""The archive's write side, synchronous: batches into the open segment, and a new segment when it is due.

A bookmark that `write` returned is stored before the next call. So at the begin of a call everything in the segment is acknowledged,
and only then is a segment sealed; and a segment is not appended to before a bookmark names it.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from streamer.errors import ConfigError, Repositioned
from streamer.model import Bookmark, Message
from streamer.sinks.archive.chain import Chain
from streamer.sinks.archive.closing import Closing, Seal
from streamer.sinks.archive.layout import instant, parse_object_key, segment_id, segment_milliseconds
from streamer.sinks.archive.manifest import Head
from streamer.sinks.archive.options import ArchiveOptions
from streamer.sinks.archive.segment import Segment, make_blocks, whole_length
from streamer.sinks.archive.store import Store, disk_errors

Clock = Callable[[], float]
"""Unix seconds."""

EXPIRED_AT_ONCE = 10_000
"""Retention takes at most so many objects with one closing."""
_DAY_S = 86_400


class _Mark(msgspec.Struct, frozen=True):
    """The bookmark."""

    archive: str
    segment: str
    length: int
    head: Head


class Archive:
    """One archive, used by one thread at a time. Methods raise the verdicts of `Sink.write`."""

    def __init__(
        self, options: ArchiveOptions, store: Store, folder: Path, journal: str, bookmark: Bookmark | None, clock: Clock
    ) -> None:
        """`folder`: of the open segment; it exists. Touches nothing before the first call."""
        self._options, self._store, self._journal, self._clock = options, store, journal, clock
        self._chain = Chain(store, options.key)
        self._closing = Closing(options, store, folder, self._chain)
        self._mark = _read_mark(bookmark)
        self._last = self._mark.segment if self._mark else ""
        self._segment: Segment | None = None
        self._sealing = False
        self._first_at: float | None = None
        self._expired_on: int | None = None

    def write(self, messages: Sequence[Message]) -> Bookmark:
        if self._turn(self._is_due):
            raise Repositioned(self._bookmark())
        assert self._segment is not None
        self._segment.append(make_blocks(messages))
        if self._first_at is None:
            self._first_at = self._clock()
        return self._bookmark()

    def tick(self) -> Bookmark | None:
        """Close what is due by its age."""
        return self._bookmark() if self._turn(self._is_due) else None

    def finish(self) -> Bookmark | None:
        """Close what is open, if it holds anything."""
        return self._bookmark() if self._turn(lambda segment: segment.length > 0) else None

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()

    # --- turning to a new segment ------------------------------------------------------------------------------------

    def _turn(self, is_over: Callable[[Segment], bool]) -> bool:
        """True when we stand in a new segment, whose bookmark must be stored before it is written to."""
        if self._segment is None:
            self._segment = self._recover()
        old = self._segment
        if old is not None:
            if not self._sealing and not is_over(old):
                return False
            self._sealing = True  # first, so that a half-made seal is never appended behind
            self._closing.seal(old.name, lambda: self._make_seal(old.length))
            self._closing.complete(old.name)
        self._segment = self._begin()
        if old is not None:
            old.close()
        return True

    def _is_due(self, segment: Segment) -> bool:
        began = segment_milliseconds(segment.name) / 1000
        now = self._clock()
        if segment.length == 0:
            return now >= began + self._options.heartbeat
        first_at = began if self._first_at is None else self._first_at
        is_old = not first_at <= now < first_at + self._options.roll.age  # a clock that was set back closes it too
        return is_old or segment.length >= self._options.roll.size

    def _begin(self) -> Segment:
        milliseconds = int(self._clock() * 1000)
        last = max(self._last, self._chain.segment)
        if last:
            milliseconds = max(milliseconds, segment_milliseconds(last) + 1)
        self._last = segment_id(milliseconds)
        segment = Segment.create(self._closing.path(self._last))
        self._sealing, self._first_at = False, None
        return segment

    def _bookmark(self) -> Bookmark:
        assert self._segment is not None
        mark = _Mark(self._chain.archive, self._segment.name, self._segment.length, self._chain.head)
        bookmark: Bookmark = msgspec.to_builtins(mark)
        return bookmark

    def _make_seal(self, length: int) -> Seal:
        to = max(self._now(), self._chain.head.until)
        return Seal(length, to, self._journal, self._chain.head, self._expirable())

    def _expirable(self) -> list[str]:
        """What retention takes with this closing; looked for once a day."""
        now = self._clock()
        if self._options.retention is None or self._expired_on == now // _DAY_S:
            return []
        cutoff = instant(int((now - self._options.retention) * 1000))[:10]
        found: list[str] = []
        for key, _ in self._store.walk():
            name = parse_object_key(key)
            if name is not None and name.partition.date < cutoff and not self._store.locked(key):
                found.append(key)
                if len(found) == EXPIRED_AT_ONCE:
                    return sorted(found)
        self._expired_on = int(now // _DAY_S)
        return sorted(found)

    def _now(self) -> str:
        return instant(int(self._clock() * 1000))

    # --- recovery ----------------------------------------------------------------------------------------------------

    def _recover(self) -> Segment | None:
        """Finish what was interrupted; the segment to go on with, if there is one."""
        mark = self._mark
        is_same = self._chain.attach(mark.archive if mark else None, mark.head if mark else None, self._now())
        is_open = mark is not None and self._is_open(mark, is_same)
        for name in self._closing.left_over():
            if not is_open or mark is None or name != mark.segment:
                self._rescue(name)
        return Segment(self._closing.path(mark.segment), mark.length) if is_open and mark else None

    def _is_open(self, mark: _Mark, is_same: bool) -> bool:
        """Whether the bookmark's segment goes on. What lies behind the bookmark was not acknowledged and comes again: it is cut off."""
        path = self._closing.path(mark.segment)
        with disk_errors(path):
            if self._closing.is_sealed(mark.segment):
                return False
            size = path.stat().st_size if path.exists() else -1
            if size >= mark.length:
                os.truncate(path, mark.length)
                return is_same  # otherwise what it holds goes into the archive that has taken the other's place
        if mark.length == 0 or self._closing.accepts_loss(mark.segment):
            return False
        if is_same and self._chain.speaks_of(mark.segment, mark.head):
            return False  # closed; the bookmark behind it was not stored
        raise ConfigError(
            f"archive: {path} holds {max(size, 0)} of the {mark.length} bytes that were acknowledged; restore it (where the archive moved, its "
            f"{path.parent.name} folder belongs to it), or make an empty file {mark.segment}.lost beside it to go on without them"
        )

    def _rescue(self, name: str) -> None:
        """A segment that is not gone on with: finish its closing, or close what it holds."""
        path = self._closing.path(name)
        if not self._closing.is_sealed(name) and (length := whole_length(path)):
            self._closing.seal(name, lambda: self._make_seal(length))
        self._closing.complete(name)
        self._closing.remove(name)


def _read_mark(bookmark: Bookmark | None) -> _Mark | None:
    """None too where the bookmark is another kind of sink's, of the same name."""
    try:
        return msgspec.convert(bookmark, _Mark | None)
    except msgspec.ValidationError:
        return None
