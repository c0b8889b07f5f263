"""OpenAI's organization audit log: two listings of one organization, newest first, in pages of 100.

The list has no ascending order, whole-second times and cursors that only lead into the past; so nothing here rests on
order. What the pages of a window come to is in openai_walk.py.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from streamer.errors import ConfigError, RetryableError, StreamerError
from streamer.model import Event, EventId, Listing, SourceName, Window, from_epoch
from streamer.ports import Narrow, Source
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.sources.openai_pages import Page, read_page
from streamer.sources.openai_walk import Walk
from streamer.telemetry import Telemetry

if TYPE_CHECKING:
    from streamer.sources.openai_api import AdminApi  # brings aiohttp, which only an open source needs

PATH = "organization/audit_logs"
DAY = 86_400
FIRST_YEAR = 1_577_836_800
"""2020-01-01: before the audit log existed. `oldest` looks below it once, in case a stand-in has older events."""


@asynccontextmanager
async def open_openai_audit_logs(
    name: SourceName, options: OpenAIAuditLogsOptions, telemetry: Telemetry
) -> AsyncIterator[Source]:
    """Touches no network. ConfigError when the key or the certificates cannot be read."""
    from streamer.sources.openai_api import open_admin_api

    async with open_admin_api(name, options, telemetry) as api:
        yield OpenAIAuditLogs(name, options, telemetry, api)


async def probe_openai_audit_logs(
    name: SourceName, options: OpenAIAuditLogsOptions, telemetry: Telemetry
) -> dict[Listing, str | StreamerError]:
    """Ask each listing once: what it said, in a few words, or the verdict. ConfigError when it cannot even be asked."""
    from streamer.sources.openai_api import open_admin_api

    said: dict[Listing, str | StreamerError] = {}
    async with open_admin_api(name, options, telemetry) as api:
        source = OpenAIAuditLogs(name, options, telemetry, api)
        for listing in source.listings:
            try:
                said[listing] = await source.look(listing)
            except (ConfigError, RetryableError) as error:
                said[listing] = error
    return said


class OpenAIAuditLogs:
    """The `Source` port."""

    def __init__(
        self, name: SourceName, options: OpenAIAuditLogsOptions, telemetry: Telemetry, api: "AdminApi"
    ) -> None:
        self.name = name
        self.listings: Sequence[Listing] = options.readable_listings()
        self._api, self._telemetry = api, telemetry
        self._filters = {listing: _filter_query(options, listing) for listing in self.listings}
        self._types = {listing: frozenset(options.types_of(listing)) for listing in self.listings}
        self._filtered = any(options.filters.model_dump().values())

    def now(self) -> float:
        return self._api.now()

    async def walk(self, listing: Listing, window: Window, limit: int, narrow: Narrow | None = None, /) -> list[Event]:
        """As the port says."""
        walk = Walk(self._where(listing), listing, window, limit, self._types[listing], narrow=narrow)
        return list((await self._read(walk)).values())

    async def oldest(self, listing: Listing, /) -> int | None:
        """Binary search over "is there an event before T?": about twelve requests for six years."""
        newest = await self._first(listing, Window(0, None))
        if newest is None:
            return None
        low, high = FIRST_YEAR, max(int(self.now()), newest.effective_at) + 1
        if await self._first(listing, Window(0, low)) is not None:
            low, high = 0, low
        while high - low > DAY:  # no event lies before `low`, one lies before `high`
            middle = (low + high) // 2
            event = await self._first(listing, Window(0, middle))
            if event is None:
                low = middle
            else:
                high = event.effective_at + 1 if low <= event.effective_at < middle else middle
        return low

    async def look(self, listing: Listing) -> str:
        """What one request shows of a listing, in a few words."""
        event = await self._first(listing, Window(0, None))
        if event is not None:
            time = (
                f"{from_epoch(event.effective_at):%Y-%m-%dT%H:%M:%SZ}" if event.effective_at else "an unreadable time"
            )
            return f"readable, newest event {event.type} at {time}"
        if self._filtered:
            return "readable, but no events: is audit logging enabled for this organization, and do the filters fit?"
        return "readable, but no events: is audit logging enabled for this organization?"

    async def _first(self, listing: Listing, window: Window) -> Event | None:
        """The first event that the server gives of a window; with the order known so far, its newest."""
        walk = Walk(self._where(listing), listing, window, math.inf, self._types[listing], page_size=1)
        events = await self._read(walk, enough=1)
        return max(events.values(), key=lambda event: event.effective_at, default=None)

    async def _read(self, walk: Walk, enough: float = math.inf) -> dict[tuple[int, EventId], Event]:
        try:
            while walk.unfinished and len(walk.events) < enough:
                walk.take(*await self._next_page(walk))
        finally:
            for kind, detail in walk.anomalies.items():
                self._telemetry.api_anomaly(self.name, kind, detail)
        return walk.events

    async def _next_page(self, walk: Walk) -> tuple[Page, str]:
        query = f"{_time_query(walk.start, walk.end, walk.page_size)}{self._filters[walk.listing]}"
        if walk.cursor is not None:
            query += f"&after={quote(walk.cursor, safe='')}"
        return await self._api.get(PATH, query, walk.where, read_page)

    def _where(self, listing: Listing) -> str:
        return f"sources.{self.name} (listing {listing})"


def _time_query(start: int, end: int | None, page_size: int) -> str:
    upto = f"&effective_at%5Blt%5D={end}" if end is not None else ""
    since = f"&effective_at%5Bgte%5D={start}" if start > 0 else ""
    return f"limit={page_size}{since}{upto}"


def _filter_query(options: OpenAIAuditLogsOptions, listing: Listing) -> str:
    """What a listing adds to every request, percent-encoded."""
    lists = options.filters.model_dump() | {"event_types": options.types_of(listing)}
    pairs = [f"{name}%5B%5D={quote(value, safe='')}" for name, values in lists.items() for value in values]
    return "".join(f"&{pair}" for pair in ([*pairs, "tenant_only=true"] if listing == "tenant" else pairs))
