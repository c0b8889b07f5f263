"""The jobs around the enrichers: names loaded from the Admin API's lists through everything that can go wrong there."""

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamer.config import Config, DirectoryOptions, parse
from streamer.enrich.directory import Directory
from streamer.enrich.networks import IP_SCOPES
from streamer.enrichment import Enrichment, Names, open_enrichment
from streamer.enrichment.refresh import FIRST_RETRY_S, LANES, READERS, REFUSALS, TRIES, DirectoryRefresh, Pace
from streamer.enrichment.rules import open_rules
from streamer.errors import ConfigError, RetryableError
from streamer.model import Actor, SourceName, Target
from streamer.ports import DirectoryPage, DirectorySource, Sighting
from streamer.simulator import Simulator
from streamer.simulator.directory import change
from streamer.sources import source_options
from streamer.sources.openai_directory import LISTS
from streamer.stop import Stop
from streamer.telemetry import METRICS, Telemetry
from tests.records import envelope
from tests.simulation import KEY, simulated

ACME = SourceName("acme")


def configured(folder: Path, base_url: str, enrich: str = "directory: {warmup: 100s}") -> Config:
    text = f"""
state: {folder}
sources:
  acme: {{type: openai_audit_logs, api_key: {KEY}, base_url: '{base_url}'}}
sinks: {{out: {{}}}}
enrich: {{{enrich}}}
"""
    return parse(text, "test", sources=source_options(), sinks={}, env={})


@dataclass
class Running:
    enrichment: Enrichment
    names: list[Names]

    async def ready(self) -> None:
        for names in self.names:
            await names.ready()


@asynccontextmanager
async def running(config: Config, telemetry: Telemetry | None = None) -> AsyncIterator[Running]:
    """With its jobs and the names of every source, as the daemon runs them; they have stopped afterwards."""
    stop = Stop()
    async with open_enrichment(config, telemetry or Telemetry(), stop) as enrichment, AsyncExitStack() as stack:
        of_sources = [enrichment.names(SourceName(name), options, stop) for name, options in config.sources.items()]
        names = [await stack.enter_async_context(one) for one in of_sources]
        async with asyncio.TaskGroup() as tasks:
            for job in [*enrichment.jobs.values(), *(one.refresh.run for one in names if one.refresh is not None)]:
                tasks.create_task(job())  # type: ignore[arg-type]  # every job is a coroutine function
            try:
                yield Running(enrichment, names)
            finally:
                stop.set()


@asynccontextmanager
async def loaded(config: Config, telemetry: Telemetry | None = None) -> AsyncIterator[Directory]:
    async with running(config, telemetry) as made:
        await made.ready()
        assert made.enrichment.directory is not None
        yield made.enrichment.directory


def name_of(directory: Directory, kind: str, identity: str) -> str | None:
    found = directory.find(ACME, kind, identity)
    return found.shown if found is not None else None


def samples(telemetry: Telemetry, metric: str) -> dict[str, float]:
    """Value by label; of several labels the last one."""
    return {
        list(sample.labels.values())[-1] if sample.labels else "": sample.value
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name == metric
    }


# --- a large company -----------------------------------------------------------------------------------------------------


def expected(simulator: Simulator) -> dict[tuple[str, str], str]:
    """Kind and id to name, of everything that can be read."""
    company = simulator.directory.company
    readable = {p.id for p in company.projects if p.archived_at is None} - simulator.directory.failing
    names = {("user", one.id): one.name for one in company.people}
    names |= {("project", one.id): one.name for one in company.projects}
    names |= {("api_key", one.id): one.name for one in company.keys if one.project_id in readable}
    names |= {("service_account", one.id): one.name for one in company.service_accounts if one.project_id in readable}
    names |= {("admin_api_key", one.id): one.name for one in company.admin_keys}
    names |= {("role", one.id): one.name for one in company.roles}
    names |= {("certificate", one.id): one.name for one in company.certificates}
    names |= {("invite", one.id): one.email for one in company.invites}
    names |= {("workload_identity_provider", one.id): one.name for one in company.providers}
    return names


FAILED_BELOW = {"service_accounts", "project_api_keys", "project_users", "project_roles"}


@pytest.mark.timeout(300)
async def test_a_large_company_is_known_completely(tmp_path: Path) -> None:
    """Goal: 5,000 people, 500 projects and 2,000 keys within the rate limit, without a list that is refused and a project that always
    fails. Method: one load at 9,000 requests a minute, held against the simulator's own company."""
    options: dict[str, Any] = {"people": 5000, "projects": 500, "keys": 2000, "service_accounts": 300, "events": 10}
    faults = ("forbidden:on=groups,value=api.management.read",)
    async with simulated(**options, requests_per_minute=9000, failing_projects=1, faults=faults) as simulator:
        telemetry = Telemetry()
        config = configured(tmp_path, simulator.base_url, "directory: {warmup: 280s}")
        names = expected(simulator)
        async with loaded(config, telemetry) as directory:
            assert {key: name_of(directory, *key) for key in names} == names
    assert len(names) > 7_000
    status = telemetry.status.directories[ACME]
    assert set(status.failed) == {"groups"} | FAILED_BELOW
    assert "give the key the scope api.management.read" in status.failed["groups"]
    whole = ("users", "projects", "roles", "admin_api_keys", "certificates", "invites", "workload_identity_providers")
    assert samples(telemetry, "streamer_directory_failed") == dict.fromkeys(whole, 0.0) | dict.fromkeys(
        status.failed, 1.0
    )
    requests = samples(telemetry, "streamer_api_requests_total")
    assert requests.get("429", 0) < 0.02 * requests["200"], "the pace keeps to what upstream bears"


async def test_the_list_of_keys_tells_when_ours_expires(tmp_path: Path) -> None:
    """Goal: an alarm before the key is dead, by the row of the key that we ask with. Method: the simulator's list, where one of three is ours."""
    async with simulated(events=10) as simulator:
        telemetry = Telemetry()
        async with loaded(configured(tmp_path, simulator.base_url), telemetry):
            pass
        (ours,) = [key for key in simulator.directory.company.admin_keys if key.expires_at is not None]
    assert samples(telemetry, "streamer_source_key_expires_seconds") == {"acme": ours.expires_at}
    assert telemetry.status.keys[ACME].expires_at == ours.expires_at
    telemetry.key_in_use(ACME, "another", 2, 2)
    assert samples(telemetry, "streamer_source_key_expires_seconds") == {}


async def test_renamed_and_deleted_things(tmp_path: Path) -> None:
    """Goal: a thing that is renamed between two loads has its new name, a deleted one is still known by its name, after a restart too. Method:
    two daemons one after the other on one state folder."""
    async with simulated(events=10) as simulator:
        config = configured(tmp_path, simulator.base_url)
        names = expected(simulator)
        async with loaded(config) as directory:
            assert {key: name_of(directory, *key) for key in names} == names
        company = simulator.directory.company
        person, project = company.people[17], company.projects[3]
        key = next(key for key in company.keys if ("api_key", key.id) in names)
        change(company, "projects", project.id, "Renamed")
        change(company, "users", person.id, None)
        change(company, "project_api_keys", key.id, None)
        async with loaded(config) as directory:
            assert name_of(directory, "project", project.id) == "Renamed"
            assert name_of(directory, "user", person.id) == names[("user", person.id)]
            assert name_of(directory, "api_key", key.id) == names[("api_key", key.id)]
            gone, present = directory.find(ACME, "api_key", key.id), directory.find(ACME, "project", project.id)
    assert gone is not None
    assert present is not None
    assert gone.first_seen == present.first_seen <= gone.last_seen <= present.last_seen


async def test_without_the_scope_nothing_is_named_and_nothing_stops(tmp_path: Path) -> None:
    """Goal: a key that may only tail is no error: each list says once what is missing. Method: a simulator that grants one scope."""
    async with simulated(scopes=["api.audit_logs.read"], events=10) as simulator:
        telemetry = Telemetry()
        async with loaded(configured(tmp_path, simulator.base_url), telemetry) as directory:
            assert directory.counts(ACME) == {}
        failed = telemetry.status.directories[ACME].failed
        assert len(failed) == 8
        assert all("give the key the scope api.management.read" in error for error in failed.values())
        assert samples(telemetry, "streamer_directory_last_success_seconds") == {}


async def test_the_warm_up_is_bounded(tmp_path: Path) -> None:
    """Goal: a slow upstream holds the first walk for `warmup` and no longer. Method: answers that take longer than that."""
    async with simulated(events=10, faults=("latency:value=2,on=directory",)) as simulator:
        config = configured(tmp_path, simulator.base_url, "directory: {warmup: 200ms}")
        async with running(config) as made:
            began = time.monotonic()
            await made.ready()
            waited = time.monotonic() - began
    assert 0.2 <= waited < 1.5


async def test_without_a_directory_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    """Goal: `directory: null` asks upstream nothing and keeps no names. Method: an address where nobody listens."""
    async with running(configured(tmp_path, "http://127.0.0.1:1", "directory: null")) as made:
        await made.ready()
        assert [names.refresh for names in made.names] == [None]
        assert [type(one).__name__ for one in made.enrichment.enrichers] == ["Networks", "RuleEngine"]
    assert [path.name for path in tmp_path.iterdir()] == ["rules.state"]  # noqa: ASYNC240 - nothing else runs here


async def test_a_geoip_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """Goal: a mistake in the configuration is seen at the start. Method: a path to nothing."""
    config = configured(tmp_path, "http://127.0.0.1:1", f"geoip: {tmp_path}/none.mmdb")
    with pytest.raises(ConfigError, match="enrich.geoip: cannot read .*none.mmdb: No such file"):
        async with open_enrichment(config, Telemetry(), Stop()):
            pytest.fail("it opened")


async def test_what_events_tell_survives_too(tmp_path: Path) -> None:
    """Goal: a name that only an event carried is known after a restart. Method: enrich, restart without an upstream, enrich an event with the id alone."""
    config = configured(tmp_path, "http://127.0.0.1:1", "directory: {warmup: 1ms}, networks: {corp: [203.0.113.0/24]}")
    telling = envelope(
        1, source=ACME, targets=[Target("tunnel", "t_1", "Data centre")], actor=Actor(ip="203.0.113.9"), labels={}
    )
    async with running(config) as made:
        for enricher in made.enrichment.enrichers:
            enricher.enrich(telling)
    assert telling.labels == {"ip_scope": "documentation", "network": "corp"}
    later = envelope(2, source=ACME, targets=[Target("tunnel", "t_1")])
    async with running(config) as made:
        for enricher in made.enrichment.enrichers:
            enricher.enrich(later)
    assert later.targets == [Target("tunnel", "t_1", "Data centre")]


async def test_missing_names_are_a_metric(tmp_path: Path) -> None:
    """Goal: what went out without a name is counted by kind. Method: two events of an unknown project and key, then the end of the jobs."""
    telemetry = Telemetry()
    async with running(configured(tmp_path, "http://127.0.0.1:1", "directory: {warmup: 1ms}"), telemetry) as made:
        for number in range(2):
            one = envelope(
                number, source=ACME, targets=[Target("project", "p")], actor=Actor(api_key_id="k"), project=None
            )
            for enricher in made.enrichment.enrichers:
                enricher.enrich(one)
    assert samples(telemetry, "streamer_names_missing_total") == {"project": 2, "api_key": 2}


@pytest.mark.parametrize("fault", ["internal_error", "html", "cut_body", "rate_limited_bare", "reset", "concatenated"])
async def test_lists_are_read_through_trouble(tmp_path: Path, fault: str) -> None:
    """Goal: trouble now and then costs time, no names. Method: a fault that strikes one request in ten."""
    async with (
        simulated(
            people=300, projects=8, keys=30, events=10, faults=(f"{fault}:probability=0.1,on=directory",)
        ) as simulator,
        loaded(configured(tmp_path, simulator.base_url)) as directory,
    ):
        names = expected(simulator)
        assert {key: name_of(directory, *key) for key in names} == names


# --- the loop, against an upstream that does as it is told ---------------------------------------------------------------


@dataclass
class Upstream:
    """A DirectorySource whose answers are a function; remembers what it was asked."""

    answer: Callable[[str, str | None, str | None], DirectoryPage]
    name: SourceName = ACME
    lists: tuple[str, ...] = ("projects", "users")
    project_lists: tuple[str, ...] = ("keys",)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def now(self) -> float:
        return 1_767_225_600.0

    async def read(self, name: str, project: str | None, cursor: str | None, /) -> DirectoryPage:
        self.asked.append((name, project, cursor))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return self.answer(name, project, cursor)


_: Callable[[Upstream], DirectorySource] = lambda upstream: upstream  # noqa: E731 - checked against its port


class Impatient(Stop):
    """Does not wait, but remembers for how long it should have; ends when it was asked to wait so often."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.waits = waits
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> bool:
        self.waited.append(seconds)
        if len(self.waited) >= self.waits:
            self.set()
        await asyncio.sleep(0)
        return self.is_set()


def page(*ids: str, projects: tuple[str, ...] = (), following: str | None = None) -> DirectoryPage:
    return DirectoryPage([Sighting(kind="user", id=one, name=one.upper()) for one in ids], list(projects), following)


async def refreshed(upstream: Upstream, waits: int = 1) -> tuple[Directory, Telemetry, list[float]]:
    """What is known after so many waits."""
    telemetry, stop = Telemetry(), Impatient(waits)
    directory = Directory()
    await DirectoryRefresh(upstream, directory, 900.0, telemetry, stop).run()
    return directory, telemetry, stop.waited


async def test_organizations_that_start_together_do_not_load_together_for_ever() -> None:
    """Goal: a hundred directories are not read in the same moment every time. Method: the wait after a first load, with a phase of a quarter."""
    stop = Impatient(1)
    await DirectoryRefresh(Upstream(lambda *_: page("u1")), Directory(), 900.0, Telemetry(), stop, 0.25).run()
    assert stop.waited == [pytest.approx(225, abs=5)]


async def test_many_directories_share_few_requests() -> None:
    """Goal: the names of a hundred organizations leave the loop to the tail. Method: six with four readers each, whose answers are counted while
    they are under way."""
    under_way, most, lanes, stop = 0, 0, asyncio.Semaphore(LANES), Impatient(6)

    class Slow(Upstream):
        async def read(self, name: str, project: str | None, cursor: str | None, /) -> DirectoryPage:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await super().read(name, project, cursor)
            finally:
                under_way -= 1

    many = [Slow(lambda *_: page("u1"), lists=tuple(f"list-{n}" for n in range(9))) for _ in range(6)]
    async with asyncio.TaskGroup() as tasks:
        for one in many:
            tasks.create_task(DirectoryRefresh(one, Directory(), 900.0, Telemetry(), stop, 1.0, lanes).run())
    assert most == LANES
    assert all(len(one.asked) == 9 for one in many)


async def test_every_page_of_every_list_is_read_by_few_readers() -> None:
    """Goal: organization and project lists, page after page, each once, READERS at a time. Method: 30 projects, two pages each."""

    def answer(name: str, project: str | None, cursor: str | None) -> DirectoryPage:
        if name == "projects":
            return page(projects=tuple(f"p{n}" for n in range(30)))
        return page(f"{name}-{project}-{cursor}", following=None if cursor else "more")

    upstream = Upstream(answer)
    directory, telemetry, waited = await refreshed(upstream)
    assert directory.counts(ACME) == {"user": 2 + 60}
    assert len(upstream.asked) == len(set(upstream.asked)) == 1 + 2 + 60
    assert upstream.most_at_once == READERS
    assert waited == [pytest.approx(900.0, abs=5)]
    assert samples(telemetry, "streamer_directory_entries") == {"user": 62}


async def test_a_list_that_failed_is_read_again_long_before_the_next_refresh() -> None:
    """Goal: a network that comes back brings the names; what stays broken is asked for at a growing distance. Method: users fail for a while."""
    troubles = iter([RetryableError("gone")] * (TRIES + 2))

    def answer(name: str, project: str | None, cursor: str | None) -> DirectoryPage:
        if name == "users" and (trouble := next(troubles, None)):
            raise trouble
        return page(name)

    upstream = Upstream(answer)
    directory, telemetry, waited = await refreshed(upstream, waits=TRIES - 1 + 1 + 2 + 1)
    assert directory.find(ACME, "user", "users") is not None
    assert waited[TRIES - 1] == FIRST_RETRY_S
    assert waited[-1] == pytest.approx(900.0, abs=5)
    assert [name for name, _, _ in upstream.asked].count("projects") == 1, "what was read is not read again"
    assert telemetry.status.directories[ACME].failed == {}


async def test_a_refused_list_is_not_asked_for_in_every_project() -> None:
    """Goal: a missing scope costs a few requests, not hundreds, and waits for the next refresh. Method: 403 in all of 200 projects."""

    def answer(name: str, project: str | None, cursor: str | None) -> DirectoryPage:
        if name == "keys":
            raise ConfigError("403: missing scope")
        return page(name, projects=tuple(f"p{n}" for n in range(200)) if name == "projects" else ())

    upstream = Upstream(answer)
    _, telemetry, waited = await refreshed(upstream)
    asked = [name for name, _, _ in upstream.asked].count("keys")
    assert REFUSALS <= asked <= REFUSALS + READERS
    assert telemetry.status.directories[ACME].failed == {"keys": "403: missing scope"}
    assert samples(telemetry, "streamer_directory_failed")["keys"] == 200
    assert waited == [pytest.approx(900.0, abs=5)]


async def test_one_failing_project_costs_its_own_names() -> None:
    """Goal: others go on; it is asked again alone. Method: a project that is always refused, one that always fails."""

    def answer(name: str, project: str | None, cursor: str | None) -> DirectoryPage:
        if project == "p1":
            raise ConfigError("404")
        if project == "p2":
            raise RetryableError("500")
        return page(f"{name}-{project}", projects=("p0", "p1", "p2", "p3") if name == "projects" else ())

    upstream = Upstream(answer)
    directory, telemetry, _ = await refreshed(upstream, waits=2 * TRIES)
    assert directory.find(ACME, "user", "keys-p0") is not None
    assert directory.find(ACME, "user", "keys-p3") is not None
    assert samples(telemetry, "streamer_directory_failed") == {"projects": 0, "users": 0, "keys": 2}
    assert [project for _, project, _ in upstream.asked].count("p1") == 1
    assert [project for _, project, _ in upstream.asked].count("p2") == 2 * TRIES


async def test_a_list_without_end_ends() -> None:
    """Goal: an upstream that always has another page keeps nobody busy for ever. Method: new cursors without end."""
    numbers: Iterator[int] = iter(range(10**9))
    upstream = Upstream(lambda *_: page(following=f"c{next(numbers)}"), lists=("users",), project_lists=())
    _, telemetry, _ = await refreshed(upstream)
    assert "more than 5000 pages" in telemetry.status.directories[ACME].failed["users"]
    assert len(upstream.asked) == 5000


async def test_requests_to_wait_are_honoured_and_remembered() -> None:
    """Goal: Retry-After holds all readers, and the pace afterwards is slower. Method: an upstream that asks for 7 s twice."""
    waits = iter([7.0, 7.0])

    def answer(name: str, project: str | None, cursor: str | None) -> DirectoryPage:
        if (seconds := next(waits, None)) is not None:
            raise RetryableError("429", retry_after=seconds)
        return page(name)

    upstream = Upstream(answer, lists=("users",))
    telemetry, stop = Telemetry(), Impatient(1)
    directory = Directory()
    await DirectoryRefresh(upstream, directory, 900.0, telemetry, stop).run()
    assert stop.waited == [pytest.approx(7.0, abs=0.5)]
    assert upstream.asked == [("users", None, None)], "stopped while it waited"


def test_the_pace_settles_below_what_upstream_bears() -> None:
    """Goal: few requests are refused, and little of what is allowed is left unused. Method: 3,000 turns, by a clock of our own, against a
    bucket of 10 that fills with 10 a second and asks for a second's wait when it is empty."""
    pace, now, left, refused, answered = Pace(), 0.0, 10.0, 0, 0
    while answered < 3000:
        wait = pace.turn(now)
        if wait:
            now, left = now + wait, min(10.0, left + wait * 10)
            continue
        now, left = now + 0.001, min(10.0, left + 0.01)  # a request takes its time
        if left >= 1:
            left, answered = left - 1, answered + 1
            pace.answered()
        else:
            refused += 1
            pace.asked_to_wait(now, 1.0)
    assert refused < 0.02 * answered
    assert 300 <= now < 450, "10 a second would take 300 s"


def test_the_page_names_everything() -> None:
    """Goal: docs/enrichment.md is complete. Method: every list, scope of an address, metric and option of these parts stands in it."""
    page = (Path(__file__).parent.parent / "docs" / "enrichment.md").read_text()
    metrics = [name for name in METRICS if re.match("streamer_(directory|names|geoip)_", name)]
    options = [*DirectoryOptions.model_fields, "directory", "networks", "geoip"]
    assert len(metrics) == 6
    for word in (*LISTS, *IP_SCOPES, *metrics):
        assert f"`{word}`" in page, word
    for option in options:
        assert re.search(rf"\b{option}:", page), option


async def test_names_that_cannot_be_saved_are_said_and_saved_later(tmp_path: Path) -> None:
    """Goal: no name is lost to a file that somebody holds, and it is said once; method: another process has the file, then lets it go."""
    config = configured(tmp_path, "http://127.0.0.1:1", "directory: {}")
    telemetry = Telemetry(time.time)
    async with open_enrichment(config, telemetry, Stop()) as enrichment:
        assert enrichment.directory is not None
        enrichment.directory.teach(SourceName("acme"), Sighting(kind="user", id="u1", name="Ana"), 1)
        await enrichment._save_names()
        other = sqlite3.connect(tmp_path / "directory.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with capture_logs() as logs:
            for turn in range(2):
                enrichment.directory.teach(SourceName("acme"), Sighting(kind="user", id="u2", name="Ben"), 2 + turn)
                await enrichment._save_names()
                assert telemetry.registry.get_sample_value("streamer_directory_unsaved") == 1
        assert [log["event"] for log in logs] == ["names cannot be written, will retry"]
        other.execute("ROLLBACK")
        with capture_logs() as logs:
            await enrichment._save_names()
        assert [log["event"] for log in logs] == ["names can be written again"]
        assert telemetry.registry.get_sample_value("streamer_directory_unsaved") == 0
        assert other.execute("SELECT name FROM things ORDER BY id").fetchall() == [("Ana",), ("Ben",)]
        other.close()


async def test_rules_whose_memory_cannot_be_read_or_written_go_on(tmp_path: Path) -> None:
    """Goal: a lost memory is said and costs nothing else; method: a folder where the file should be."""
    (tmp_path / "rules.state").mkdir()
    (tmp_path / "rules.state" / "kept").touch()
    with capture_logs() as logs:
        async with open_rules(tmp_path, None, Telemetry(time.time)) as kept:
            assert kept.engine.dump()
    said = [str(log) for log in logs]
    assert len(said) == 2
    assert "rules.state: Is a directory" in said[0]
    assert "rules.state cannot be written: " in said[1]


async def test_names_can_be_wanted_later_and_no_more(tmp_path: Path) -> None:
    """Goal: what enriches is replaced between two events, and what fails leaves all as it was. Method: no names, then names, then a geography that is not
    there, then no names again."""
    address = "http://127.0.0.1:1"
    without, wanted = (configured(tmp_path, address, f"directory: {names}") for names in ("null", "{}"))
    async with open_enrichment(without, Telemetry(), Stop()) as enrichment:

        def kinds() -> list[str]:
            return [type(one).__name__ for one in enrichment.enrichers]

        assert kinds() == ["Networks", "RuleEngine"]
        assert await enrichment.become(wanted)
        assert not await enrichment.become(wanted), "it is that already"
        assert kinds() == ["Directory", "Networks", "RuleEngine"]
        with pytest.raises(ConfigError, match="none.mmdb"):
            await enrichment.become(
                configured(tmp_path, address, f"{{directory: null, geoip: {tmp_path}/none.mmdb}}"[1:-1])
            )
        assert kinds() == ["Directory", "Networks", "RuleEngine"]
        assert await enrichment.become(without)
        assert kinds() == ["Networks", "RuleEngine"]
