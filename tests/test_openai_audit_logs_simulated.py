"""The source against the simulator: both listings come out equal to its truth, through every fault it has."""

import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamer.errors import ConfigError, RetryableError
from streamer.model import LISTINGS, Event, Listing, SourceName, Window
from streamer.ports import Source, WindowTooLarge
from streamer.simulator import FAULTS, Setting, Simulator
from streamer.sources import SOURCES
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.telemetry import Telemetry
from tests.simulation import KEY, simulated
from tests.wire import anomalies

KIND = SOURCES["openai_audit_logs"]
NAME = SourceName("acme")
EVERYTHING = Window(1, None)
MANY = 10**9


@asynccontextmanager
async def tailing(simulator: Simulator, telemetry: Telemetry | None = None, **more: Any) -> AsyncIterator[Source]:
    options = OpenAIAuditLogsOptions.model_validate({"api_key": KEY, "base_url": simulator.base_url, **more})
    async with KIND.open(NAME, options, telemetry or Telemetry()) as source:
        yield source


def truth(simulator: Simulator, listing: Listing) -> list[bytes]:
    return sorted(entry.event.raw for entry in simulator.upstream.truth(listing))


def raws(events: list[Event]) -> list[bytes]:
    return sorted(event.raw for event in events)


async def until_whole(source: Source, listing: Listing, tries: int = 300) -> list[Event]:
    """As the intake loop does, without its waits."""
    for _ in range(tries):
        try:
            return await source.walk(listing, EVERYTHING, MANY)
        except RetryableError:
            continue
    raise AssertionError(f"no whole walk in {tries} tries")


@pytest.mark.parametrize("gzip", [False, True])
async def test_both_listings_are_the_truth(gzip: bool) -> None:
    """Goal: every event of both listings, byte for byte, once. Method: the simulator's truth against one walk of each listing, plain and compressed."""
    telemetry = Telemetry()
    async with simulated(events=3000, gzip=gzip) as simulator, tailing(simulator, telemetry) as source:
        assert list(source.listings) == list(LISTINGS)
        for listing in source.listings:
            expected = truth(simulator, listing)
            assert len(expected) > 100
            assert raws(await source.walk(listing, EVERYTHING, MANY)) == expected
    assert anomalies(telemetry) == {}


async def test_windows_add_up_to_the_truth() -> None:
    """Goal: windows side by side, split where they are too large, hold every event in exactly one. Method: the whole past, halved until each
    part fits."""
    async with simulated(events=2000, faults=("equal_times:value=7200",)) as simulator, tailing(simulator) as source:
        for listing in LISTINGS:
            pending, found, splits = [Window(1, int(time.time()) + 1)], list[Event](), 0
            while pending:
                window = pending.pop()
                assert window.end is not None
                try:
                    found += await source.walk(listing, window, 150)
                except WindowTooLarge as large:
                    assert large.expected > 100
                    middle = (window.start + window.end) // 2
                    pending += [Window(window.start, middle), Window(middle, window.end)]
                    splits += 1
            assert raws(found) == truth(simulator, listing)
            assert splits > 0


async def by_parts(source: Source, listing: Listing, tries: int = 3000) -> list[Event]:
    """The whole past by walks that are each made narrower after any of their pages, as the planner does, and tried until they succeed."""
    pending, found, dice = [Window(1, int(time.time()) + 1)], list[Event](), random.Random(5)
    for _ in range(tries):
        if not pending:
            return found
        window = pending.pop()

        def narrow(times: Sequence[int]) -> int:
            nonlocal window
            start = dice.randint(window.start, min(times)) if dice.random() < 0.5 else window.start
            if start > window.start:
                pending.append(Window(window.start, start))
                window = Window(start, window.end)
            return start

        try:
            found += await source.walk(listing, window, MANY, narrow)
        except RetryableError:
            pending.append(window)
    raise AssertionError(f"no end after {tries} walks")


async def test_windows_that_are_made_narrower_add_up_to_the_truth() -> None:
    """Goal: a walk and the rest that it leaves hold every event in exactly one. Method: narrowed at random, also where an hour's events bear the
    same second."""
    for faults in ((), ("equal_times:value=7200",)):
        async with simulated(events=2000, faults=faults) as simulator, tailing(simulator) as source:
            for listing in LISTINGS:
                before = simulator.stats.pages
                assert raws(await by_parts(source, listing)) == truth(simulator, listing)
                assert simulator.stats.pages - before > 1


PASSING = {
    **{
        name: 0.2
        for name in (
            "rate_limited",
            "rate_limited_date",
            "rate_limited_bare",
            "internal_error",
            "bad_gateway",
            "unavailable",
        )
    },
    **{name: 0.2 for name in ("html", "cut_body", "reset", "unknown_cursor", "stuck_cursor", "repeated_cursor")},
    "repeated_events": 0.5,
    "empty_page": 0.3,
    **{name: 1.0 for name in ("shuffled", "concatenated")},
}
"""Faults that a walk comes through, and how often each strikes here."""
HOLDING = ("forbidden", "bad_request", "revoked_key", "access_refused", "ignored_filter")


@pytest.mark.parametrize("fault", PASSING)
async def test_a_passing_fault_loses_nothing(fault: str) -> None:
    """Goal: through each fault, a walk that ends is whole. Method: retried until it ends, then against the truth."""
    chance = {fault: Setting(probability=PASSING[fault])}
    async with simulated(events=1000) as simulator, tailing(simulator) as source:
        simulator.faults.settings.update(chance)
        for listing in LISTINGS:
            assert raws(await until_whole(source, listing)) == truth(simulator, listing)
            assert raws(await by_parts(source, listing)) == truth(simulator, listing)
        assert simulator.faults.struck[fault] > 0


async def test_indented_pages() -> None:
    """Goal: white space between tokens changes no event. Method: pretty pages, compared as JSON."""
    async with simulated(events=300, faults=("pretty",)) as simulator, tailing(simulator) as source:
        events = await source.walk("organization", EVERYTHING, MANY)
        expected = {entry.event.id: json.loads(entry.event.raw) for entry in simulator.upstream.truth("organization")}
    assert {event.id: json.loads(event.raw) for event in events} == expected


@pytest.mark.parametrize("fault", HOLDING)
async def test_a_lasting_fault_is_the_operators_matter_for_one_listing(fault: str) -> None:
    """Goal: one listing is held and the other goes on. Method: each such fault on the tenant listing alone."""
    async with simulated(events=500, faults=(f"{fault}:on=tenant",)) as simulator, tailing(simulator) as source:
        with pytest.raises(ConfigError, match=r"sources.acme \(listing tenant\)") as caught:
            await source.walk("tenant", Window(1, int(time.time()) - 86_400), MANY)
        assert "our request " in str(caught.value)
        assert raws(await source.walk("organization", EVERYTHING, MANY)) == truth(simulator, "organization")


def test_every_fault_of_the_simulator_is_told_apart() -> None:
    """Goal: a new fault does not go untested here. Method: the lists above against the simulator's."""
    others = {"pretty", "latency", "slow_body", "clock_offset", "late", "equal_times"}
    assert {*PASSING, *HOLDING, *others} == set(FAULTS)


async def test_a_slow_server_is_waited_for_and_a_slower_one_is_not() -> None:
    """Goal: latency alone changes nothing, and waits are bounded. Method: late and trickling answers within and beyond the timeouts."""
    slow = ("latency:value=0.05", "slow_body:value=0.2,count=2")
    async with simulated(events=150, faults=slow) as simulator:
        async with tailing(simulator) as source:
            assert raws(await source.walk("tenant", EVERYTHING, MANY)) == truth(simulator, "tenant")
        simulator.faults.settings["slow_body"] = Setting(value=30.0)
        async with tailing(simulator, timeouts={"total": "200ms"}) as source:
            with pytest.raises(RetryableError, match="within the timeouts"):
                await source.walk("tenant", EVERYTHING, MANY)


@pytest.mark.parametrize("ahead", [-3600, 3600])
async def test_now_is_the_servers_time(ahead: int) -> None:
    """Goal: the Date header corrects a wrong clock. Method: a server whose clock differs by an hour."""
    async with simulated(events=10, faults=(f"clock_offset:value={ahead}",)) as simulator, tailing(simulator) as source:
        await source.walk("tenant", EVERYTHING, MANY)
        assert source.now() == pytest.approx(time.time() + ahead, abs=2)


async def test_now_is_our_time_when_it_is_right() -> None:
    """Goal: no correction without need. Method: an honest server."""
    async with simulated(events=10) as simulator, tailing(simulator) as source:
        await source.walk("tenant", EVERYTHING, MANY)
        assert source.now() == pytest.approx(time.time(), abs=0.1)


async def test_filters() -> None:
    """Goal: filters reach the server as it understands them. Method: types, projects and e-mail addresses, against the truth."""
    async with simulated(events=2000) as simulator:
        everything = [json.loads(entry.event.raw) for entry in simulator.upstream.truth("organization")]
        project = next(one["project"]["id"] for one in everything if one.get("project"))
        types = ["login.succeeded", "user.added"]
        async with tailing(simulator, filters={"event_types": types}) as source:
            found = await source.walk("organization", EVERYTHING, MANY)
            assert sorted(e.id for e in found) == sorted(one["id"] for one in everything if one["type"] in types)
            assert list(source.listings) == ["organization"]
        async with tailing(simulator, filters={"project_ids": [project]}) as source:
            found = await source.walk("organization", EVERYTHING, MANY)
        expected = [one["id"] for one in everything if (one.get("project") or {}).get("id") == project]
        assert sorted(e.id for e in found) == sorted(expected)


async def test_a_filter_that_the_server_ignores_shows() -> None:
    """Goal: an ignored type filter is noticed and costs no event. Method: the fault for that one filter."""
    telemetry = Telemetry()
    async with (
        simulated(events=500, faults=("ignored_filter:value=event_types",)) as simulator,
        tailing(simulator, telemetry, filters={"event_types": ["user.added"]}) as source,
    ):
        assert raws(await source.walk("organization", EVERYTHING, MANY)) == truth(simulator, "organization")
    assert anomalies(telemetry) == {"type_not_asked_for": 1}


async def test_the_oldest_event() -> None:
    """Goal: the start of the log is found to a day. Method: both listings of a year's log, against the truth."""
    async with simulated(events=300, days=365) as simulator, tailing(simulator) as source:
        for listing in LISTINGS:
            oldest = min(entry.event.effective_at for entry in simulator.upstream.truth(listing))
            found = await source.oldest(listing)
            assert found is not None
            assert oldest - 86_400 <= found <= oldest
        assert simulator.stats.requests <= 30


async def test_the_organization_of_the_key() -> None:
    """Goal: a key of another organization is refused. Method: the simulator's organization id, and another one."""
    async with simulated(events=10) as simulator:
        async with tailing(simulator, organization_id=simulator.upstream.company.id) as source:
            assert await source.walk("organization", EVERYTHING, MANY)
        async with tailing(simulator, organization_id="org-other") as source:
            with pytest.raises(ConfigError, match="and not to org-other"):
                await source.walk("organization", EVERYTHING, MANY)


async def test_the_probe() -> None:
    """Goal: `check --online` tells a good key from a bad one and from one without the scope. Method: three simulators."""

    async def probe(key: str = KEY, **options: Any) -> list[str]:
        async with simulated(**options) as simulator:
            options_ = OpenAIAuditLogsOptions.model_validate({"api_key": key, "base_url": simulator.base_url})
            return [str(said) for said in (await KIND.probe(NAME, options_, Telemetry())).values()]

    assert all("readable, newest event" in said for said in await probe(events=100))
    assert all("is audit logging enabled for this organization?" in said for said in await probe(events=0))
    assert all("put a valid admin key" in said for said in await probe("sk-admin-other", events=0))
    without = await probe(events=100, scopes=("api.management.read",))
    assert all("403: " in said and "give the key the scope api.audit_logs.read" in said for said in without)
