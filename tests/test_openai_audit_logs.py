"""The walk reads a window to its end or not at all; what contradicts the API's contract is noticed; nothing is lost on the way."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.decode import decode_event
from streamer.errors import ConfigError, RetryableError
from streamer.model import Event, Listing, SourceName, Window
from streamer.ports import Source, WindowTooLarge
from streamer.slices import Slicer
from streamer.sources import SOURCES
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.sources.openai_pages import Page
from streamer.sources.openai_walk import EMPTY_ASKS, EMPTY_PAGES, MAX_PAGES, Walk
from streamer.telemetry import Telemetry
from tests.wire import CUT, Asked, FaithfulList, Script, Wire, anomalies, event, page, reply, script, wire

KIND = SOURCES["openai_audit_logs"]
NAME = SourceName("acme")
NOW = 1_800_000_000
TENANT_TYPE = "tenant.admin_api_key.created"


@asynccontextmanager
async def source(answer: Script, telemetry: Telemetry | None = None, **more: Any) -> AsyncIterator[tuple[Source, Wire]]:
    async with wire(answer) as upstream:
        options = OpenAIAuditLogsOptions.model_validate(
            {"api_key": "sk-admin-x", "base_url": upstream.base_url, **more}
        )
        async with KIND.open(NAME, options, telemetry or Telemetry(lambda: float(NOW))) as opened:
            yield opened, upstream


def raws(events: Iterable[Event]) -> list[bytes]:
    return sorted(one.raw for one in events)


def numbered(count: int, at: Callable[[int], int] = lambda n: 1000 + n) -> list[tuple[str, int, bytes]]:
    return [(f"audit_log-{n:024d}", at(n), event(n, at(n))) for n in range(count)]


# --- what is asked ---------------------------------------------------------------------------------------------------


async def test_the_query_of_each_listing() -> None:
    """Goal: parameters go over the wire as the API names them. Method: the raw query of an open and a closed window of both listings."""
    async with source(script(reply(page([])))) as (acme, upstream):
        await acme.walk("organization", Window(10, 20), 100)
        await acme.walk("organization", Window(10, None), 100)
        await acme.walk("tenant", Window(10, 20), 100)
        await acme.walk("tenant", Window(0, 20), 100)
    assert [asked.target for asked in upstream.asked] == [
        "/v1/organization/audit_logs?limit=100&effective_at%5Bgte%5D=10&effective_at%5Blt%5D=20",
        "/v1/organization/audit_logs?limit=100&effective_at%5Bgte%5D=10",
        "/v1/organization/audit_logs?limit=100&effective_at%5Bgte%5D=10&effective_at%5Blt%5D=20&tenant_only=true",
        "/v1/organization/audit_logs?limit=100&effective_at%5Blt%5D=20&tenant_only=true",
    ]


async def test_filters_are_repeated_parameters() -> None:
    """Goal: each value of a filter is its own parameter, with its odd characters. Method: two values of every filter, raw and as a server
    reads them."""
    filters = {
        "event_types": ["api_key.created", "user.added"],
        "project_ids": ["proj_1", "proj/2"],
        "actor_ids": ["user-1", "user,2"],
        "actor_emails": ["a+b@example.com", "ü&c=d@example.com"],
        "resource_ids": ["r 1", "r#2"],
    }
    async with source(script(reply(page([]))), filters=filters) as (acme, upstream):
        await acme.walk("organization", Window(10, 20), 100)
    (asked,) = upstream.asked
    assert asked.query == (
        "limit=100&effective_at%5Bgte%5D=10&effective_at%5Blt%5D=20&event_types%5B%5D=api_key.created&event_types%5B%5D=user.added"
        "&project_ids%5B%5D=proj_1&project_ids%5B%5D=proj%2F2&actor_ids%5B%5D=user-1&actor_ids%5B%5D=user%2C2"
        "&actor_emails%5B%5D=a%2Bb%40example.com&actor_emails%5B%5D=%C3%BC%26c%3Dd%40example.com"
        "&resource_ids%5B%5D=r%201&resource_ids%5B%5D=r%232"
    )
    assert asked.parameters[3:] == [(f"{name}[]", value) for name, values in filters.items() for value in values]


async def test_types_are_asked_of_the_listing_that_holds_them() -> None:
    """Goal: tenant types never go to the organization listing, nor the other way round: upstream refuses that. Method: a filter with both
    kinds, with one kind, and with a type nobody knows."""
    both = {"event_types": ["api_key.created", TENANT_TYPE, "role.bound_to_resource", "tenant.new_thing", "new.thing"]}
    async with source(script(reply(page([]))), filters=both) as (acme, upstream):
        for listing in acme.listings:
            await acme.walk(listing, Window(1, 2), 100)
    types = [[value for name, value in asked.parameters if name == "event_types[]"] for asked in upstream.asked]
    assert types == [["api_key.created", "new.thing"], [TENANT_TYPE, "role.bound_to_resource", "tenant.new_thing"]]
    async with source(script(reply(page([]))), filters={"event_types": ["api_key.created"]}) as (acme, _):
        assert acme.listings == ["organization"]
    async with source(script(reply(page([]))), listings=["tenant"]) as (acme, _):
        assert acme.listings == ["tenant"]


# --- a whole window --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 777])
async def test_a_walk_is_everything_of_the_window(count: int) -> None:
    """Goal: all events of the window, byte for byte, each once, and none else. Method: a faithful list with events before and after the window
    and several in the same second."""
    inside = numbered(count, lambda n: 1000 + n // 3)
    outside = [(f"x-{n}", at, event(10_000 + n, at)) for n, at in enumerate([1, 999, 2000, 9999])]
    telemetry = Telemetry()
    async with source(FaithfulList(inside + outside), telemetry) as (acme, upstream):
        events = await acme.walk("organization", Window(1000, 2000), 1000)
    assert raws(events) == sorted(each[2] for each in inside)
    assert {one.id: one.effective_at for one in events} == {each[0]: each[1] for each in inside}
    assert len(upstream.asked) == max(-(-count // 100), 1)
    assert anomalies(telemetry) == {}


async def test_the_cursor_is_last_id_or_else_the_last_events_id() -> None:
    """Goal: pages are followed by last_id, and without one by the last event. Method: a page with an odd last_id, one with null, one without ids."""
    pages = [
        page([event(1, 15)], True, "x y&z/ü"),
        page([event(2, 14)], True, None),
        page([event(3, 13)], True, 17),
        page([event(4, 12)], False),
    ]
    async with source(script(*map(reply, pages))) as (acme, upstream):
        assert len(await acme.walk("organization", Window(10, 20), 100)) == 4
    cursors = [dict(asked.parameters).get("after") for asked in upstream.asked]
    assert cursors == [None, "x y&z/ü", "audit_log-" + "2".zfill(24), "audit_log-" + "3".zfill(24)]
    assert upstream.asked[1].query.endswith("&after=x%20y%26z%2F%C3%BC")


async def test_records_that_are_no_events_come_along() -> None:
    """Goal: what cannot be read is an event too. Method: a page with non-objects, a broken record, an unreadable and a missing time."""
    odd = [
        b"null",
        b'"text"',
        b'{"a":NaN}',
        event(5, 15),
        b'{"id":"x","type":"t","effective_at":"soon"}',
        b'{"id":"y","type":"t"}',
    ]
    telemetry = Telemetry()
    async with source(script(reply(page(odd)))) as (acme, _):
        assert raws(await acme.walk("organization", Window(10, 20), 100)) == sorted(odd)
    async with source(script(reply(page(odd))), telemetry) as (acme, _):
        await acme.walk("organization", Window(10, 20), 100)
    assert anomalies(telemetry) == {"invalid_json": 1}


async def test_a_failed_page_fails_the_walk() -> None:
    """Goal: a window is whole or it did not happen. Method: a good page, then each kind of failure; the same source then succeeds."""
    good, rest = reply(page([event(1, 15)], True)), reply(page([event(2, 14)]))
    for bad in (reply("x", 500), reply("{", length=9) + CUT, reply("[]"), reply(page([event(2, 14)])[:-2])):
        async with source(script(good, bad, good, rest)) as (acme, _):
            with pytest.raises(RetryableError, match=r"sources.acme \(listing organization\)"):
                await acme.walk("organization", Window(10, 20), 100)
            assert len(await acme.walk("organization", Window(10, 20), 100)) == 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"data":[' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]}", "nested too deeply"),
        (b'{"error":"try later"}', "an error object: try later"),
        (b"", "an empty body"),
        (page([event(1, 15, note="private")])[:-3], "cut short"),
    ],
)
async def test_a_body_that_is_no_page(body: bytes, says: str) -> None:
    """Goal: such a body is asked for again, with the server's words and the request's ids, but nothing of an event. Method: one of each kind."""
    async with source(script(reply(body))) as (acme, _):
        with pytest.raises(RetryableError, match=rf"the answer is .*{says} \(request req_test") as caught:
            await acme.walk("tenant", Window(10, 20), 100)
    assert "private" not in str(caught.value)


# --- contradictions --------------------------------------------------------------------------------------------------


async def test_concatenated_documents_are_counted() -> None:
    """Goal: several lists in one body are read, and counted once a walk. Method: two pages, each of two documents."""
    first = page([event(1, 15)], True) + b"\n" + page([event(2, 14)], True)
    second = page([event(3, 13)], True) + page([event(4, 12)], False)
    telemetry = Telemetry()
    async with source(script(reply(first), reply(second), reply(page([]))), telemetry) as (acme, _):
        assert len(await acme.walk("organization", Window(10, 20), 100)) == 4
    assert anomalies(telemetry) == {"concatenated_documents": 1}


@pytest.mark.parametrize(
    ("pages", "kind"),
    [
        ([page([event(1, 15)], True, "a"), page([event(2, 14)], True, "a")], "cursor_repeated"),
        (
            [page([event(1, 15)], True, "a"), page([event(2, 14)], True, "b"), page([event(3, 13)], True, "a")],
            "cursor_repeated",
        ),
        ([page([event(1, 15)], True, "a"), page([event(1, 15)], True, "b")], "page_repeated"),
    ],
)
async def test_pages_that_go_in_circles(pages: list[bytes], kind: str) -> None:
    """Goal: a cursor that repeats or does not advance ends the walk as failed, not as whole, and not never. Method: each kind of circle."""
    telemetry = Telemetry()
    async with source(script(*map(reply, pages)), telemetry) as (acme, upstream):
        with pytest.raises(
            RetryableError, match=r"listing organization.*request req_test, our request .*the walk begins again"
        ):
            await acme.walk("organization", Window(10, 20), 100)
        assert len(upstream.asked) == len(pages)
    assert anomalies(telemetry)[kind] == 1


async def test_overlapping_pages_are_read_through() -> None:
    """Goal: an event that is on two pages comes once. Method: pages that share events and still advance."""
    one, two, three = event(1, 15), event(2, 14), event(3, 13)
    telemetry = Telemetry()
    async with source(script(reply(page([one, two], True)), reply(page([two, three]))), telemetry) as (acme, _):
        assert raws(await acme.walk("organization", Window(10, 20), 100)) == sorted([one, two, three])
    assert anomalies(telemetry) == {"event_repeated": 1}


async def test_one_id_at_two_times_is_two_events() -> None:
    """Goal: ids are told apart as the journal does, with their time. Method: one id at two times, on one page."""
    async with source(script(reply(page([event(1, 15), event(1, 14)])))) as (acme, _):
        assert len(await acme.walk("organization", Window(10, 20), 100)) == 2


async def test_a_page_that_does_not_say_whether_more_follow() -> None:
    """Goal: without has_more a full page is followed, a short one is the end. Method: 100 events, then 3, has_more null."""
    full, short = [event(n, 15) for n in range(100)], [event(n, 14) for n in range(100, 103)]
    telemetry = Telemetry()
    async with source(script(reply(page(full, None)), reply(page(short, None))), telemetry) as (acme, upstream):
        assert len(await acme.walk("organization", Window(10, 20), 1000)) == 103
        assert len(upstream.asked) == 2
    assert anomalies(telemetry) == {"has_more_missing": 1}


async def test_a_passing_empty_page_loses_nothing() -> None:
    """Goal: an empty page that promises more is asked for again before it is believed. Method: some in the middle of a walk, fewer than it
    takes to be believed."""
    hollow = reply(page([], True))
    pages = [reply(page([event(1, 15)], True)), *[hollow] * (EMPTY_ASKS - 1), reply(page([event(2, 14)]))]
    telemetry = Telemetry()
    async with source(script(*pages), telemetry) as (acme, upstream):
        assert len(await acme.walk("organization", Window(10, 20), 100)) == 2
    assert len({asked.query for asked in upstream.asked[1:]}) == 1, "the same is asked again"
    assert anomalies(telemetry) == {}


async def test_an_empty_page_that_stays_is_the_end_of_an_empty_window() -> None:
    """Goal: a server that always promises more ends the walk. Method: nothing but empty pages that promise more."""
    telemetry = Telemetry()
    async with source(script(reply(page([], True))), telemetry) as (acme, upstream):
        assert await acme.walk("tenant", Window(10, 20), 100) == []
    assert len(upstream.asked) == EMPTY_ASKS
    assert anomalies(telemetry) == {"empty_page": 1}


async def test_an_empty_page_that_stays_is_checked_against_the_time() -> None:
    """Goal: behind events that were seen, an end that promises more is believed only when asking by time shows nothing older either.
    Method: a list that always says has_more, with the true end, and with a cursor that wrongly leads nowhere."""
    listed = FaithfulList(numbered(250))

    def always_more(asked: Asked) -> bytes:
        return listed(asked).replace(b'"has_more": false', b'"has_more":  true')

    def lost_cursors(asked: Asked) -> bytes:
        return reply(page([], True)) if "after" in dict(asked.parameters) else always_more(asked)

    for answer in (always_more, lost_cursors):
        telemetry = Telemetry()
        async with source(answer, telemetry) as (acme, _):
            assert raws(await acme.walk("organization", Window(1000, 2000), 1000)) == sorted(
                each[2] for each in listed.events
            )
        assert anomalies(telemetry)["empty_page"] == 1


async def test_events_that_vanish_are_no_end() -> None:
    """Goal: when even events that were seen do not show any more, the walk failed. Method: one page, then emptiness for ever."""
    async with source(script(reply(page([event(1, 15)], True)), reply(page([], True)))) as (acme, upstream):
        with pytest.raises(RetryableError, match="do not show when they are asked for by time"):
            await acme.walk("organization", Window(10, 20), 100)
    assert upstream.asked[-1].query.endswith("effective_at%5Bgte%5D=10&effective_at%5Blt%5D=16")


async def test_empty_pages_with_new_cursors_are_followed_but_not_for_ever() -> None:
    """Goal: emptiness does not stop the walk and cannot keep it either. Method: a few empty pages with cursors before the end; then endless ones."""
    few = [reply(page([], True, f"c{n}")) for n in range(EMPTY_PAGES)]
    async with source(script(*few, reply(page([event(1, 15)])))) as (acme, _):
        assert len(await acme.walk("organization", Window(10, 20), 100)) == 1
    async with source(script(*few, reply(page([], True, "one more")))) as (acme, _):
        with pytest.raises(RetryableError, match="empty pages in a row"):
            await acme.walk("organization", Window(10, 20), 100)


async def test_a_window_without_an_end_is_given_up() -> None:
    """Goal: pages that lead on for ever do not fill the memory. Method: a second whose every page has a new event and a new cursor."""
    walk = Walk("here", "organization", Window(10, 11), 5, frozenset())
    with pytest.raises(RetryableError, match=f"{MAX_PAGES} pages of one window promise more events"):
        for number in range(MAX_PAGES + 1):
            walk.take(Page([event(number, 10)], True, str(number)), "request r")
    assert len(walk.events) == MAX_PAGES


async def test_without_any_cursor_time_leads_on() -> None:
    """Goal: pages without a cursor do not end the walk early. Method: events without ids and null last_ids; then so many in one second that time
    does not lead on either."""
    listed = FaithfulList([(str(n), 1000 + n, b'{"type":"t","effective_at":%d}' % (1000 + n)) for n in range(250)])
    telemetry = Telemetry()
    async with source(listed, telemetry) as (acme, _):
        assert len(await acme.walk("organization", Window(1000, 2000), 1000)) == 250
    assert anomalies(telemetry)["cursor_missing"] == 1
    crowded = FaithfulList([(str(n), 1000, b'{"type":"t","effective_at":1000,"n":%d}' % n) for n in range(101)])
    async with source(crowded) as (acme, _):
        with pytest.raises(RetryableError, match="names no cursor"):
            await acme.walk("organization", Window(1000, 2000), 1000)


@pytest.mark.parametrize(
    ("window", "at"), [(Window(10, 20), 20), (Window(10, 20), 9), (Window(10, None), 9), (Window(10, 20), 99)]
)
async def test_a_server_that_ignores_the_time_range(window: Window, at: int) -> None:
    """Goal: an ignored range is the operator's matter: nothing that answers so can be tailed. Method: an event at each wrong side."""
    telemetry = Telemetry()
    async with source(script(reply(page([event(1, 15), event(2, at)]))), telemetry) as (acme, _):
        with pytest.raises(
            ConfigError, match=f"the server ignores the time range: 1 of 2 events .* the first at {at} .*check base_url"
        ):
            await acme.walk("organization", window, 100)
    assert anomalies(telemetry) == {"time_not_asked_for": 1}


async def test_events_of_types_that_were_not_asked_for_are_kept() -> None:
    """Goal: an ignored filter never loses an event, and shows. Method: other types in a filtered listing; organization types in the tenant listing."""
    telemetry = Telemetry()
    both = script(reply(page([event(1, 15), event(2, 14, "user.added"), event(3, 13, "user.added")])))
    async with source(both, telemetry, filters={"event_types": ["api_key.created"]}) as (acme, _):
        assert len(await acme.walk("organization", Window(10, 20), 100)) == 3
    assert anomalies(telemetry) == {"type_not_asked_for": 1}
    telemetry = Telemetry()
    mixed = script(reply(page([event(1, 15), event(2, 14, TENANT_TYPE), event(3, 13, "tenant.of_tomorrow")])))
    async with source(mixed, telemetry) as (acme, _):
        assert len(await acme.walk("tenant", Window(10, 20), 100)) == 3
        assert len(await acme.walk("organization", Window(10, 20), 100)) == 3
    assert anomalies(telemetry) == {"listing_not_asked_for": 1}


# --- too much --------------------------------------------------------------------------------------------------------


async def test_a_window_with_too_many_events_is_given_back() -> None:
    """Goal: a walk that is going to find far more than `limit` stops at once, and one that just passes it then, and says how many there may be.
    Method: 1000 events, limits around the page size and around the whole."""
    listed = FaithfulList(numbered(1000))
    for limit, pages in ((99, 1), (100, 1), (450, 1), (1300, 1), (1400, 10)):
        async with source(listed) as (acme, upstream):
            if limit < 1400:
                with pytest.raises(WindowTooLarge) as caught:
                    await acme.walk("organization", Window(1000, 2000), limit)
                assert caught.value.expected == pytest.approx(1000, rel=0.1 if limit > 100 else 1)
            else:
                assert len(await acme.walk("organization", Window(1000, 2000), limit)) == 1000
        assert len(upstream.asked) == pages, limit
    lately = FaithfulList(numbered(1000, lambda n: 1000 + n // 3))
    async with source(lately) as (acme, upstream):
        with pytest.raises(WindowTooLarge):
            await acme.walk("organization", Window(1000, 1334), 950)
    assert len(upstream.asked) <= 10


async def test_a_window_is_made_narrower_on_the_way() -> None:
    """Goal: nothing is read twice, and what is left is complete; method: 1000 events, the start moved up after the third page, and every request."""
    listed = FaithfulList(numbered(1000))
    told: list[int] = []

    def narrow(times: Sequence[int]) -> int:
        told.append(len(times))
        assert list(times) == list(range(1999, 1999 - len(times), -1))
        return 1000 if len(times) < 300 else 1450

    async with source(listed) as (acme, upstream):
        events = await acme.walk("organization", Window(1000, 2000), 10_000, narrow)
    assert sorted(one.effective_at for one in events) == list(range(1450, 2000))
    assert told == [100, 200, 300, 400, 500], "not after the last page"
    asked = [dict(one.parameters) for one in upstream.asked]
    assert [one["effective_at[gte]"] for one in asked] == ["1000"] * 3 + ["1450"] * 3
    assert [one["effective_at[lt]"] for one in asked] == ["2000"] * 6
    assert [one.get("after") for one in asked] == [None, *(f"audit_log-{n:024d}" for n in (900, 800, 700, 600, 500))]


async def test_a_window_that_was_made_narrower_is_still_judged() -> None:
    """Goal: the limit holds for what is left, and what is only likely is the planner's to judge; method: a window that is too large before it is made
    narrower, and one that is so after."""
    async with source(FaithfulList(numbered(1000))) as (acme, upstream):
        assert len(await acme.walk("organization", Window(1000, 2000), 400, lambda _: 1800)) == 200
        assert len(upstream.asked) == 2
        with pytest.raises(WindowTooLarge):
            await acme.walk("organization", Window(1000, 2000), 400, lambda _: 1001)
        assert len(upstream.asked) == 2 + 5


async def test_a_cursor_that_leads_elsewhere_is_not_asked_in_a_narrower_window() -> None:
    """Goal: an event that the cursor names is in what is asked for; method: pages whose last_id is not that of their last event."""
    pages = [
        reply(page([event(1, 15), event(2, 14)], has_more=True, last_id="elsewhere")),
        reply(page([event(3, 13)], has_more=False)),
    ]
    async with source(script(*pages)) as (acme, upstream):
        assert len(await acme.walk("organization", Window(10, 20), 100, lambda _: 14)) == 3
    assert all("gte%5D=10&" in asked.target for asked in upstream.asked)


Tied = Literal["ends", "says more, then ends", "goes on as it began"]


def tied(listed: FaithfulList, how: Tied) -> Script:
    """A server whose cursors hold only in the window that they were given in, and what it does in another one."""
    given: dict[str, str] = {}
    emptied: set[str] = set()

    def answer(asked: Asked) -> bytes:
        said = dict(asked.parameters)
        after, since = said.get("after", ""), said["effective_at[gte]"]
        if given.get(after, since) != since:
            if how == "goes on as it began":
                asked = replace(asked, target=asked.target.replace(f"gte%5D={since}", f"gte%5D={given[after]}"))
                since = given[after]
            else:
                more = how != "ends" and after not in emptied
                emptied.add(after)
                return reply(page([], has_more=more))
        body = listed(asked)
        given.update({found.decode(): since for found in re.findall(rb'"last_id": "([^"]*)"', body)})
        return body

    return answer


@pytest.mark.parametrize("how", get_args(Tied))
@pytest.mark.parametrize(
    ("at", "whole"),
    [(lambda n: 1000 + n, Window(1000, 2000)), (lambda n: 1999 - max(n - 250, 0) // 60, Window(1980, 2000))],
    ids=["spread", "bursts"],
)
async def test_a_cursor_that_holds_only_in_its_window_hides_nothing(
    how: Tied, at: Callable[[int], int], whole: Window
) -> None:
    """Goal: a server that ties a cursor to the window it was given in costs requests, not events. Method: ways to do so, and the real planner,
    which is asked again where all that was seen is of one second."""
    listed, slicer = FaithfulList(numbered(1000, at)), Slicer(0, 0)
    pending, found, window = [whole], list[Event](), whole

    def narrow(seen: Sequence[int]) -> int:
        nonlocal window
        window = Window(slicer.narrow(window, seen, share=len(seen) <= 200), window.end)
        while (part := slicer.take()) is not None:
            pending.append(part)
        return window.start

    async with source(tied(listed, how)) as (acme, upstream):
        while pending:
            window = pending.pop()
            try:
                found += await acme.walk("organization", window, 10_000, narrow)
            except RetryableError:
                pending.append(window)
            assert len(upstream.asked) < 300
    assert sorted(one.effective_at for one in found) == sorted(at for _, at, _ in listed.events)


async def test_a_window_that_really_ends_where_it_was_made_narrower() -> None:
    """Goal: an end that is one is believed; method: a bound at the last event of a page."""
    async with source(FaithfulList(numbered(1000))) as (acme, upstream):
        events = await acme.walk("organization", Window(1000, 2000), 10_000, lambda _: 1900)
    assert sorted(one.effective_at for one in events) == list(range(1900, 2000))
    assert len(upstream.asked) <= 4


async def test_one_second_is_never_too_large() -> None:
    """Goal: a window that cannot be split is read whatever it holds. Method: 300 events in one second, limit 10."""
    async with source(FaithfulList(numbered(300, lambda n: 1000))) as (acme, _):
        assert len(await acme.walk("organization", Window(1000, 1001), 10)) == 300


# --- the oldest event ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "oldest",
    [
        NOW,
        NOW - 1,
        NOW - 86_400,
        NOW - 90 * 86_400,
        1_577_836_800,
        1_577_836_801,
        1_577_836_799,
        1_000_000_000,
        5,
        NOW + 500,
    ],
)
async def test_the_oldest_event_is_found_to_a_day(oldest: int) -> None:
    """Goal: a second at most a day before the oldest event, in few requests. Method: lists that begin at many times, with and without newer events."""
    for others in ([], [(f"n{n}", oldest + n * 1000, event(n, oldest + n * 1000)) for n in range(1, 50)]):
        async with source(FaithfulList([("a", oldest, event(0, oldest)), *others])) as (acme, upstream):
            found = await acme.oldest("organization")
        assert found is not None
        assert oldest - 86_400 <= found <= oldest
        assert len(upstream.asked) <= 17
        assert all(dict(asked.parameters)["limit"] == "1" for asked in upstream.asked)
    assert len(upstream.asked) <= 14 or oldest < 1_577_836_800


async def test_no_oldest_event() -> None:
    """Goal: an empty listing is told in one request. Method: an empty list, tenant."""
    async with source(script(reply(page([])))) as (acme, upstream):
        assert await acme.oldest("tenant") is None
    assert [asked.query for asked in upstream.asked] == ["limit=1&tenant_only=true"]


async def test_oldest_with_times_that_cannot_be_read() -> None:
    """Goal: the search ends whatever the events say of their time. Method: a server that answers every question with an event without a time."""
    async with source(script(reply(page([b'{"id":"a","type":"t"}'])))) as (acme, upstream):
        assert await acme.oldest("organization") == 0
    assert len(upstream.asked) < 20


# --- check --online --------------------------------------------------------------------------------------------------


async def test_the_probe_says_what_each_listing_said() -> None:
    """Goal: `check --online` shows each listing for itself. Method: one that is readable, one that is empty; one that is forbidden; one that fails."""

    def answer(asked: Asked) -> bytes:
        if "tenant_only" in asked.query:
            return reply('{"error":"You have insufficient permissions. Missing scopes: api.audit_logs.read"}', 403)
        return reply(page([event(1, 1_700_000_000)], True))

    async def probe(script: Script, **more: Any) -> dict[Listing, Any]:
        async with wire(script) as upstream:
            given = {"api_key": "sk-admin-x", "base_url": upstream.base_url, **more}
            found = await KIND.probe(NAME, OpenAIAuditLogsOptions.model_validate(given), Telemetry())
            assert len(upstream.asked) == len(found)
            return dict(found)

    said = await probe(answer)
    assert said["organization"] == "readable, newest event api_key.created at 2023-11-14T22:13:20Z"
    assert isinstance(said["tenant"], ConfigError)
    assert "give the key the scope api.audit_logs.read" in str(said["tenant"])
    said = await probe(script(reply(page([])), reply("x", 503)))
    assert said["organization"] == "readable, but no events: is audit logging enabled for this organization?"
    assert isinstance(said["tenant"], RetryableError)
    said = await probe(script(reply(page([]))), filters={"project_ids": ["p"]}, listings=["organization"])
    assert list(said) == ["organization"]
    assert "do the filters fit?" in said["organization"]
    said = await probe(script(reply(page([b'{"id":"x"}']))), listings=["organization"])
    assert said["organization"] == "readable, newest event unknown at an unreadable time"


def test_the_configuration_does_not_bring_the_client(capfd: pytest.CaptureFixture[str]) -> None:
    """Goal: reading a configuration stays cheap. Method: another interpreter imports the registry and has no aiohttp."""
    import subprocess
    import sys

    code = "import sys, streamer.sources; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert capfd.readouterr().err == ""


# --- any pages whatever ----------------------------------------------------------------------------------------------

some_events = st.lists(st.tuples(st.integers(0, 12), st.integers(10, 14)).map(lambda x: event(x[0], x[1])), max_size=3)
some_pages = st.builds(
    Page,
    some_events,
    st.sampled_from([True, True, False, None]),
    st.sampled_from([None, "a", "b", "c", "d", "e"]),
)


@given(st.lists(some_pages, max_size=30), st.booleans())
def test_any_pages_end_in_a_verdict_and_lose_nothing(pages: list[Page], narrow: bool) -> None:
    """Goal: whatever pages come, a walk ends, and what it returns is all that it was shown. Method: random pages with few ids, times and cursors,
    so that every contradiction occurs; after them the emptiness that promises more."""
    walk = Walk("here", "organization", Window(10, 11 if narrow else 15), 5, frozenset())
    shown: set[tuple[int, str]] = set()
    endless = iter([*pages, *[Page([], True, None)] * 1000])
    try:
        while walk.unfinished:
            given_page = next(endless)
            shown |= {(one.effective_at, one.id) for one in map(decode_event, given_page.records)}
            walk.take(given_page, "request r")
    except WindowTooLarge as large:
        assert not narrow
        assert large.expected > 5 * 3 / 4
    except RetryableError as error:
        assert re.match(r"here: .*\(request r\); the walk begins again", str(error))
    except ConfigError:
        assert walk.anomalies.keys() >= {"time_not_asked_for"}
    else:
        assert set(walk.events) == shown
