"""Everything that can go wrong with the API, on demand: one row a fault.

A fault strikes with a probability, a number of times, or both, at one listing or at all. As text, for options:
`NAME`, or `NAME:probability=0.1,count=5,value=30,on=tenant`. As JSON, for `/_sim/faults`: `{"NAME": {"count": 5}}`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from streamer.model import LISTINGS
from streamer.simulator.answers import (
    READ_AUDIT_LOGS,
    Answer,
    access_refused,
    bad_request,
    html,
    http_date,
    missing_scope,
    server_trouble,
    too_many_requests,
    wrong_key,
)
from streamer.simulator.company import Draw
from streamer.simulator.lists import PLACES as LISTS_AND_COSTS
from streamer.simulator.store import Page, Query

Value = float | str
PLACES: tuple[str, ...] = (*LISTINGS, "directory", *LISTS_AND_COSTS)
"""The two listings of the audit log, the other lists all together, and each of them."""


class Setting(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How often a fault strikes, how hard, and where."""

    probability: float = 1.0
    """Of striking, at each opportunity."""
    count: int | None = None
    """Strikes that are left; None has no end."""
    value: Value | None = None
    """The row's meaning; None takes the row's default."""
    on: str | None = None
    """One of PLACES; None is both listings of the audit log."""


@dataclass(frozen=True)
class Fault:
    name: str
    does: str
    value: Value | None = None
    """Its default."""
    means: str = "nothing"
    """What the value says."""
    answer: Callable[[Value, float], Answer] | None = None
    """Instead of a page: from the value and the time (Unix seconds)."""
    query: Callable[[Query, Value], Query] | None = None
    """Asks something else than was asked."""
    page: Callable[[Page, Query, Draw], Page] | None = None
    """Changes the page that was found."""


def _seconds(value: Value) -> str:
    return str(int(float(value)))


def _without_filter(query: Query, name: Value) -> Query:
    times = name in ("all", "effective_at")
    kept = tuple(item for item in query.filters if name not in ("all", item[0]))
    everything = Query()
    return msgspec.structs.replace(
        query,
        filters=kept,
        start=everything.start if times else query.start,
        end=everything.end if times else query.end,
    )


def _repeat_cursor(page: Page, query: Query, _: Draw) -> Page:
    return msgspec.structs.replace(page, last_id=query.after or page.first_id)


def _empty(page: Page, query: Query, _: Draw) -> Page:
    return Page([], [], [], True, None, None)


def _shuffle(page: Page, query: Query, draw: Draw) -> Page:
    """The order of events of the same second is drawn anew; the cursor stays where the page really ends."""
    order = sorted(range(len(page.bodies)), key=lambda row: (-page.times[row], draw.random()))
    return msgspec.structs.replace(
        page, bodies=[page.bodies[row] for row in order], ids=[page.ids[row] for row in order]
    )


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        # instead of a page
        Fault(
            "rate_limited",
            "429 with Retry-After in seconds",
            1,
            "the seconds",
            answer=lambda value, now: too_many_requests({"Retry-After": _seconds(value)}),
        ),
        Fault(
            "rate_limited_date",
            "429 with Retry-After as a date",
            1,
            "seconds from now to that date",
            answer=lambda value, now: too_many_requests({"Retry-After": http_date(now + float(value))}),
        ),
        Fault(
            "rate_limited_bare",
            "429 without Retry-After",
            answer=lambda value, now: too_many_requests(),
        ),
        Fault("internal_error", "500", answer=lambda value, now: server_trouble(500)),
        Fault("bad_gateway", "502 with an HTML body", answer=lambda value, now: html(502, "502 Bad Gateway")),
        Fault("unavailable", "503", answer=lambda value, now: server_trouble(503)),
        Fault(
            "html",
            "an HTML page where JSON is due",
            200,
            "its status",
            answer=lambda value, now: html(int(float(value)), "Just a moment"),
        ),
        Fault(
            "forbidden",
            "403 whose error is a bare string",
            READ_AUDIT_LOGS,
            "the scope that it names",
            answer=lambda value, now: missing_scope(str(value)),
        ),
        Fault(
            "bad_request",
            "400 to everything",
            answer=lambda value, now: bad_request("This organization has no such listing.", "tenant_only"),
        ),
        Fault("revoked_key", "401, whatever the key", answer=lambda value, now: wrong_key()),
        Fault("access_refused", "401 rejected_by_access_enforcement", answer=lambda value, now: access_refused()),
        # another page than was asked for
        Fault(
            "unknown_cursor",
            "400 to a cursor that the server gave itself; strikes only where there is one",
        ),
        Fault(
            "stuck_cursor",
            "the cursor is not followed: the first page again, its last_id too; strikes where there is one",
            query=lambda query, value: msgspec.structs.replace(query, after=None, before=None),
        ),
        Fault(
            "ignored_filter",
            "a filter is not applied",
            "all",
            "effective_at, one of the lists' names, or all",
            query=_without_filter,
        ),
        Fault(
            "repeated_events",
            "a page begins with the end of the one before",
            5,
            "so many events",
            query=lambda query, value: msgspec.structs.replace(query, overlap=min(int(float(value)), query.limit - 1)),
        ),
        # a page that is not as it should be
        Fault("repeated_cursor", "last_id is the cursor that was sent", page=_repeat_cursor),
        Fault("empty_page", "no events, no last_id, and has_more is true", page=_empty),
        Fault("shuffled", "another order inside each second at every request", page=_shuffle),
        Fault("concatenated", "several JSON documents, one a line, in one body", 2, "the number of documents"),
        Fault("pretty", "indented JSON"),
        # the wire
        Fault("latency", "an answer comes late", 0.05, "seconds"),
        Fault("slow_body", "a body trickles", 5, "seconds from its first byte to its last"),
        Fault("cut_body", "the connection ends in the middle of a body", 0.5, "the share of it that is sent"),
        Fault("reset", "the connection is reset instead of an answer"),
        Fault("clock_offset", "the Date header is wrong", 3600, "seconds ahead (negative: behind)"),
        # events, as they come into being
        Fault("late", "an event shows only some time after its effective_at", 30, "seconds"),
        Fault(
            "equal_times", "effective_at is rounded down, so that many are equal", 60, "to multiples of so many seconds"
        ),
    )
}


def parse_fault(text: str) -> tuple[str, Setting]:
    """`NAME:probability=0.1,count=5,value=30,on=tenant` to a name and its setting. Raises ValueError."""
    name, _, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    return check_fault(name, {key: value for key, _, value in pairs}, strict=False)


def check_fault(name: str, fields: object, *, strict: bool = True) -> tuple[str, Setting]:
    """Raises ValueError with a sentence."""
    fault = FAULTS.get(name)
    if fault is None:
        raise ValueError(f"no fault is called {name!r}; there are {', '.join(FAULTS)}")
    try:
        setting = msgspec.convert(fields, Setting, strict=strict)
        if setting.value is not None and not isinstance(fault.value, str):
            setting.value = float(setting.value)
        if setting.on is not None and setting.on not in PLACES:
            raise ValueError(f"on={setting.on} is none of {', '.join(PLACES)}")
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"fault {name!r}: {error}") from None
    return name, setting


def _reach(on: str | None) -> tuple[str, ...]:
    if on is None:
        return LISTINGS
    return PLACES[len(LISTINGS) :] if on == "directory" else (on,)


class Switchboard:
    """Which faults are on, and when they strike."""

    def __init__(self, seed: int, settings: Mapping[str, Setting]) -> None:
        self._draw = Draw(f"faults {seed}")
        self.settings = dict(settings)
        self.struck: dict[str, int] = {}
        """How often each has struck so far."""

    def strikes(self, name: str, where: str) -> Value | None:
        """The fault's value if it strikes now, which counts; else None."""
        setting = self.settings.get(name)
        if setting is None or where not in _reach(setting.on):
            return None
        if setting.count == 0 or self._draw.random() >= setting.probability:
            return None
        if setting.count is not None:
            setting.count -= 1
        self.struck[name] = self.struck.get(name, 0) + 1
        value = setting.value if setting.value is not None else FAULTS[name].value
        return 0 if value is None else value

    def answer(self, where: str, now: float) -> Answer | None:
        """What is said instead of a page, if anything."""
        for name in self._active():
            make = FAULTS[name].answer
            if make and (value := self.strikes(name, where)) is not None:
                return make(value, now)
        return None

    def query(self, query: Query, where: str) -> Query:
        for name in self._active():
            change = FAULTS[name].query
            needless = name in ("stuck_cursor", "repeated_events") and query.after is None
            if change and not needless and (value := self.strikes(name, where)) is not None:
                query = change(query, value)
        return query

    def page(self, page: Page, query: Query, where: str) -> Page:
        for name in self._active():
            change = FAULTS[name].page
            if change and self.strikes(name, where) is not None:
                page = change(page, query, self._draw)
        return page

    def _active(self) -> Sequence[str]:
        return tuple(self.settings)
