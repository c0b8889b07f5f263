"""One window of the audit log, page by page: what the pages have brought, and what to ask for next. Pure.

A walk reads the pages of a window to their end, and checks that what comes back is what was asked for.
"""

from typing import Literal

from streamer.catalog import lookup
from streamer.decode import decode_event
from streamer.errors import ConfigError, RetryableError
from streamer.model import MAX_EPOCH_SECONDS, Event, EventId, Listing, Window
from streamer.ports import Narrow, WindowTooLarge
from streamer.slices import expected_events, is_too_large
from streamer.sources.openai_pages import Page

PAGE = 100
"""Events a page; the most that upstream gives."""
EMPTY_ASKS = 5
"""An empty page that promises more, without a new cursor, is asked for so many times in all before it is believed."""
EMPTY_PAGES = 20
"""Empty pages in a row, each with a new cursor, that a walk follows."""
MAX_PAGES = 2000
"""Of a walk. A window that is wider than a second is given back long before; no second of an audit log holds so much."""

Anomaly = Literal[
    "cursor_repeated",
    "cursor_missing",
    "page_repeated",
    "empty_page",
    "has_more_missing",
    "concatenated_documents",
    "invalid_json",
    "event_repeated",
    "type_not_asked_for",
    "listing_not_asked_for",
    "time_not_asked_for",
]
"""What an answer can do against the contract; the label of streamer_api_anomalies_total."""


class Walk:
    """What the pages of one window have brought so far, and what to ask for next. Pure.

    It follows cursors. Where pages stop leading anywhere but promise more, the older rest of the window is asked for by time.
    """

    def __init__(
        self,
        where: str,
        listing: Listing,
        window: Window,
        limit: float,
        types: frozenset[str],
        page_size: int = PAGE,
        narrow: Narrow | None = None,
    ) -> None:
        """`where`: what messages call the place; `limit`: events; `types`: those that were asked for, empty: all."""
        self.where, self.listing, self.page_size = where, listing, page_size
        self.start, self.end, self._first = window.start, window.end, window.start
        self.cursor: str | None = None
        self.unfinished = True
        self.events: dict[tuple[int, EventId], Event] = {}
        self.anomalies: dict[Anomaly, str] = {}
        """The first of each kind, in a few words."""
        self._limit, self._types, self._narrow = limit, types, narrow
        self._window = window
        """What is wanted of it: all, or what `narrow` has left."""
        self._cursors: set[str] = set()
        self._pages = self._empty_asks = self._empty_pages = 0
        self._by_time = False
        self._narrowed = False
        """By the last page that had events."""
        self._request = ""
        self._times: list[int] = []
        """Of all events of all pages."""
        self._answered = False
        """Events came since the walk began, or since it went on by time."""

    def take(self, page: Page, request: str) -> None:
        """Add a page; `unfinished`, `start`, `end` and `cursor` then say how to go on. `request`: its ids, for messages.

        RetryableError: the pages contradict each other. ConfigError: the server ignores the range. WindowTooLarge.
        """
        self._request = request
        events = [decode_event(record) for record in page.records]
        self._check(page, events)
        known = len(self.events)
        for event in events:
            self.events.setdefault((event.effective_at, event.id), event)
        new = len(self.events) - known
        self._times += [event.effective_at for event in events]
        if new < len(events) and not self._by_time:
            self._note("event_repeated", f"{len(events) - new} of {len(events)} events of a page were there before")
        if page.has_more is False or (page.has_more is None and len(events) < self.page_size):
            # Should a server tie a cursor to the window that it was given in, it would say so by an empty page: a second witness, then.
            self.unfinished = self._narrowed and not events and self._ask_by_time()
        elif events:
            self._answered = True
            self._empty_asks = self._empty_pages = 0
            self._go_on(page.last_id or _usable_id(events[-1]), new)
        else:
            self._go_on_from_nothing(page.last_id)
        self._pages += 1
        self._narrowed = self._narrowed and not events
        leads_on = self.unfinished and new and not self._by_time and self.cursor == _usable_id(events[-1])
        guess = self._narrow is None or not leads_on
        if self._narrow is not None and leads_on:
            # The event that the cursor names is in what is left; so it leads to the rest of that, too.
            start = self._narrow(self._times)
            self._narrowed, self.start = start > self.start, start
            self._window = Window(start, self._window.end)
        if self.unfinished and new and is_too_large(self._window, self._times, self._limit, guess=guess):
            raise WindowTooLarge(expected_events(self._window, self._times))
        if self.unfinished and self._pages >= MAX_PAGES:
            raise self._contradiction(f"{MAX_PAGES} pages of one window promise more events")

    def _check(self, page: Page, events: list[Event]) -> None:
        """The page against what was asked for. An event too many is kept: it is an event."""
        if page.documents > 1:
            self._note("concatenated_documents", f"{page.documents} JSON documents in one body")
        if page.salvaged:
            self._note("invalid_json", "a body that is not valid JSON; its records were told apart by their brackets")
        if page.has_more is None:
            self._note("has_more_missing", f"a page of {len(events)} events does not say whether more follow")
        start, end = self.start, MAX_EPOCH_SECONDS + 1 if self.end is None else self.end
        # 0 is a time that could not be read.
        outside = [
            event.effective_at for event in events if not start <= event.effective_at < end and event.effective_at
        ]
        if outside:
            asked = f"{start} <= effective_at < {end}"
            if all(self._first <= at < self.start for at in outside):
                raise self._contradiction("events came that are not asked for since the window was made narrower")
            self._note("time_not_asked_for", f"effective_at {outside[0]} where {asked} was asked for")
            raise ConfigError(
                f"{self.where}: the server ignores the time range: {len(outside)} of {len(events)} events lie outside of {asked}, "
                f"the first at {outside[0]} ({self._request}); check base_url: what answers there does not filter audit logs by effective_at"
            )
        types = {event.type for event in events}
        if self._types and (others := types - self._types):
            self._note("type_not_asked_for", f"events of type {min(others)[:100]}; they are kept")
        if self.listing == "tenant":
            foreign = [name for name in types if (row := lookup(name)).known and row.listing != "tenant"]
            if foreign:
                self._note("listing_not_asked_for", f"events of type {min(foreign)}; they are kept")

    def _go_on(self, cursor: str | None, new: int) -> None:
        if cursor is None:
            self._note(
                "cursor_missing", "more events are promised, but neither last_id nor the last event names a cursor"
            )
            if not self._ask_by_time():
                raise self._contradiction("a page promises more events and names no cursor to them")
        elif cursor in self._cursors:
            self._note("cursor_repeated", "a page ends at a cursor that was followed before")
            raise self._contradiction("the pages go in a circle: a cursor came twice")
        elif new == 0 and not self._by_time:
            self._note("page_repeated", "a page holds only events that were there before")
            raise self._contradiction("the pages do not advance: one held only events that were there before")
        else:
            self._follow(cursor)

    def _go_on_from_nothing(self, cursor: str | None) -> None:
        """An empty page that promises more. One that stays so is the end, if the known events still show when asked by time."""
        if cursor is not None and cursor not in self._cursors:
            self._empty_pages += 1
            if self._empty_pages > EMPTY_PAGES:
                raise self._contradiction(f"{EMPTY_PAGES} empty pages in a row promise more events")
            self._follow(cursor)
            return
        self._empty_asks += 1
        if self._empty_asks < EMPTY_ASKS:
            return
        self._note("empty_page", "an empty page promises more events and names no new cursor")
        if self._ask_by_time():
            return
        if self.events and not self._answered:
            raise self._contradiction("events that were there before do not show when they are asked for by time")
        self.unfinished = False

    def _follow(self, cursor: str) -> None:
        self.cursor = cursor
        self._cursors.add(cursor)

    def _ask_by_time(self) -> bool:
        """Go on with everything up to the oldest second seen. False where that is the question that was asked already."""
        times = [time for time, _ in self.events if time]
        if not times or (self._by_time and self.end is not None and min(times) + 1 >= self.end):
            return False
        self.end, self.cursor, self._by_time, self._answered = min(times) + 1, None, True, False
        self._cursors.clear()
        self._empty_asks = self._empty_pages = 0
        return True

    def _contradiction(self, what: str) -> RetryableError:
        return RetryableError(f"{self.where}: {what} ({self._request}); the walk begins again")

    def _note(self, kind: Anomaly, detail: str) -> None:
        self.anomalies.setdefault(kind, f"{self.listing}: {detail}")


def _usable_id(event: Event) -> str | None:
    """Upstream's id; None where we made one."""
    return None if event.id.startswith("sha256-") else event.id
