"""The events of one listing as rendered bytes, newest first, and its pages.

A page costs two binary searches and a slice; nothing is parsed for it. Filters other than time are looked up in an
index that is built when the first of them comes. Events that are not visible yet wait in a heap.
"""

import heapq
import json
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import orjson

from streamer.model import Event, EventId

SEQUENCE_BITS = 24
MAX_EFFECTIVE_AT = (1 << 62 - SEQUENCE_BITS) - 1
"""Later times are listed as this one, so that time and number fit into one 64-bit key."""

FILTERS = ("event_types", "project_ids", "actor_ids", "actor_emails", "resource_ids")


class UnknownCursor(Exception):
    """`after` or `before` names no event of this listing."""

    def __init__(self, parameter: str, cursor: str) -> None:
        super().__init__(f"{parameter}={cursor}")
        self.parameter = parameter
        self.cursor = cursor


class Query(msgspec.Struct, frozen=True):
    """What one request asks of one listing."""

    start: int = 0
    """The first second that is wanted."""
    end: int = MAX_EFFECTIVE_AT + 1
    """The first second that is not wanted any more."""
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """For each filter that was given, the values of which one must match."""
    after: str | None = None
    before: str | None = None
    limit: int = 20
    overlap: int = 0
    """So many events that stand before the cursor are given once more."""


class Page(msgspec.Struct, frozen=True):
    """Events, newest first; all lists are as long."""

    bodies: list[bytes]
    ids: list[str]
    times: list[int]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Truth(msgspec.Struct, frozen=True):
    """One event as the simulator knows it: what a reader must have seen in the end."""

    event: Event
    visible_at: float


class Store:
    """One listing."""

    def __init__(self) -> None:
        self._keys = array("q")  # effective_at << SEQUENCE_BITS | sequence, ascending; the lists below run beside it
        self._bodies: list[bytes] = []
        self._ids: list[str] = []
        self._visible_at = array("d")
        self._key_of: dict[str, int] = {}
        self._sequence = 0
        self._pending: list[tuple[float, int, Event]] = []
        self._index: dict[tuple[str, str], array[int]] | None = None

    def __len__(self) -> int:
        """Events that are visible."""
        return len(self._bodies)

    @property
    def pending(self) -> int:
        return len(self._pending)

    def add(self, event: Event, visible_at: float, now: float) -> None:
        """Visible from `visible_at` on, in Unix seconds; what lies in the past is visible at once."""
        self._sequence += 1
        if visible_at > now:
            heapq.heappush(self._pending, (visible_at, self._sequence, event))
        else:
            self._insert(event, visible_at, self._sequence)

    def reveal(self, now: float) -> None:
        """Make visible what has become so by `now`."""
        while self._pending and self._pending[0][0] <= now:
            visible_at, sequence, event = heapq.heappop(self._pending)
            self._insert(event, visible_at, sequence)

    def page(self, query: Query) -> Page:
        """Raises UnknownCursor."""
        low = bisect_left(self._keys, query.start << SEQUENCE_BITS)
        high = bisect_left(self._keys, min(query.end, MAX_EFFECTIVE_AT + 1) << SEQUENCE_BITS)
        if query.after is not None:
            high = min(high, self._position("after", query.after) + query.overlap)
        if query.before is not None:
            low = max(low, self._position("before", query.before) + 1)
        forward = query.before is not None and query.after is None
        if query.filters:
            rows, has_more = self._matching(query, low, high, forward)
        elif forward:
            rows, has_more = range(min(low + query.limit, high) - 1, low - 1, -1), low + query.limit < high
        else:
            rows, has_more = range(high - 1, max(low, high - query.limit) - 1, -1), high - query.limit > low
        ids = [self._ids[row] for row in rows]
        return Page(
            bodies=[self._bodies[row] for row in rows],
            ids=ids,
            times=[self._keys[row] >> SEQUENCE_BITS for row in rows],
            has_more=has_more,
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
        )

    def truth(self) -> Iterator[Truth]:
        """Every event, oldest first; those that are not visible yet come last."""
        for key, body, event_id, visible_at in zip(self._keys, self._bodies, self._ids, self._visible_at, strict=True):
            yield Truth(as_event(body, event_id, key >> SEQUENCE_BITS), visible_at)
        for visible_at, _, event in sorted(self._pending, key=lambda item: item[:2]):
            yield Truth(event, visible_at)

    def _insert(self, event: Event, visible_at: float, sequence: int) -> None:
        key = min(max(event.effective_at, 0), MAX_EFFECTIVE_AT) << SEQUENCE_BITS | sequence
        row = len(self._keys) if not self._keys or key > self._keys[-1] else bisect_left(self._keys, key)
        self._keys.insert(row, key)
        self._bodies.insert(row, event.raw)
        self._ids.insert(row, event.id)
        self._visible_at.insert(row, visible_at)
        self._key_of[event.id] = key
        if self._index is not None:
            _enter(self._index, event.raw, key)

    def _position(self, parameter: str, cursor: str) -> int:
        key = self._key_of.get(cursor)
        if key is None:
            raise UnknownCursor(parameter, cursor)
        return bisect_left(self._keys, key)

    def _matching(self, query: Query, low: int, high: int, forward: bool) -> tuple[Sequence[int], bool]:
        """Rows of [low, high) that match every filter, newest first, and whether more follow."""
        if self._index is None:
            self._index = {}
            for body, key in zip(self._bodies, self._keys, strict=True):
                _enter(self._index, body, key)
        lists = [[self._index.get((name, value), array("q")) for value in values] for name, values in query.filters]
        lists.sort(key=lambda postings: sum(map(len, postings)))
        if low >= high:
            return [], False
        first, last = self._keys[low], self._keys[high - 1]
        candidates = _walk(lists[0], first, last, forward)
        keys = (key for key in candidates if all(any(_has(posting, key) for posting in some) for some in lists[1:]))
        found = list(islice(keys, query.limit + 1))
        rows = deque(bisect_left(self._keys, key) for key in found[: query.limit])
        if forward:
            rows.reverse()
        return rows, len(found) > query.limit


def _walk(postings: Iterable["array[int]"], first: int, last: int, forward: bool) -> Iterator[int]:
    """The keys of all postings in [first, last], each once, ascending if `forward`."""
    runs = [posting[bisect_left(posting, first) : bisect_right(posting, last)] for posting in postings]
    merged = heapq.merge(*runs) if forward else heapq.merge(*(reversed(run) for run in runs), reverse=True)
    previous = None
    for key in merged:
        if key != previous:
            yield key
        previous = key


def _has(posting: "array[int]", key: int) -> bool:
    row = bisect_left(posting, key)
    return row < len(posting) and posting[row] == key


def _enter(index: dict[tuple[str, str], "array[int]"], body: bytes, key: int) -> None:
    for facet in facets(body):
        posting = index.setdefault(facet, array("q"))
        if not posting or key > posting[-1]:
            posting.append(key)
        else:
            row = bisect_left(posting, key)
            if posting[row] != key:
                posting.insert(row, key)


def parse(body: bytes) -> Any:
    """JSON text, also what the strict parser refuses (lone surrogates, NaN). Raises ValueError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def as_event(body: bytes, event_id: str, effective_at: int) -> Event:
    tree = parse(body)
    kind = tree.get("type") if isinstance(tree, dict) else None
    return Event(body, EventId(event_id), kind if isinstance(kind, str) else "unknown", effective_at)


def facets(body: bytes) -> set[tuple[str, str]]:
    """What the filters may find an event by."""
    tree = parse(body)
    if not isinstance(tree, dict):
        return set()
    kind = tree.get("type")
    actor = _object(tree.get("actor"))
    holders = [_object(actor.get("session")), _object(actor.get("api_key"))]
    found: set[tuple[str, Any]] = {("event_types", kind), ("project_ids", _object(tree.get("project")).get("id"))}
    for holder in holders:
        user, account = _object(holder.get("user")), _object(holder.get("service_account"))
        found |= {("actor_ids", holder.get("id")), ("actor_ids", user.get("id")), ("actor_ids", account.get("id"))}
        found.add(("actor_emails", user.get("email")))
    payload = _object(tree.get(kind) if isinstance(kind, str) else None) or _object(tree.get("details"))
    for target in (payload, *_objects(payload)):
        found |= {("resource_ids", target.get("id")), ("resource_ids", target.get("resource_id"))}
    return {(name, value) for name, value in found if isinstance(value, str)}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The several targets that some payloads list."""
    for value in payload.values():
        if isinstance(value, list):
            yield from (item for item in value if isinstance(item, dict))
