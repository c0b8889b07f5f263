"""The simulated Admin API's other lists: against the official SDK and against the company."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import openai
import pytest

from streamer.simulator import Setting, Simulator
from streamer.simulator.answers import READ_AUDIT_LOGS, Refusal
from streamer.simulator.company import Company
from streamer.simulator.directory import Allowance
from streamer.simulator.lists import LISTS
from tests.simulation import KEY, simulated

Organization = Any  # client.admin.organization: generated code that is typed by its resources only


async def with_sdk(simulator: Simulator, ask: Callable[[Organization], Any]) -> Any:
    """What `ask` makes of `client.admin.organization`, in a thread of its own."""

    def run() -> Any:
        with openai.OpenAI(api_key="unused", admin_api_key=KEY, base_url=simulator.base_url, max_retries=0) as client:
            return ask(client.admin.organization)

    return await asyncio.to_thread(run)


def ids(things: Iterable[Any]) -> list[str]:
    """Their ids; what comes from the SDK must hold against its model, required fields and all."""
    found = list(things)
    for thing in found:
        if isinstance(thing, openai.BaseModel):
            type(thing).model_validate(thing.to_dict(mode="json"))
    return [thing.id for thing in found]


PLAIN: list[tuple[str, Callable[[Organization], Any], Callable[[Company], list[str]]]] = [
    ("users", lambda o: o.users.list(limit=7), lambda c: ids(c.people)),
    ("all projects", lambda o: o.projects.list(include_archived=True, limit=5), lambda c: ids(c.projects)),
    (
        "active projects",
        lambda o: o.projects.list(),
        lambda c: [project.id for project in c.projects if project.archived_at is None],
    ),
    ("admin keys", lambda o: o.admin_api_keys.list(limit=1), lambda c: ids(c.admin_keys)),
    ("groups", lambda o: o.groups.list(limit=2), lambda c: ids(c.groups)),
    (
        "roles",
        lambda o: o.roles.list(limit=1),
        lambda c: [role.id for role in c.roles if role.resource_type == "api.organization"],
    ),
    ("certificates", lambda o: o.certificates.list(limit=1), lambda c: ids(c.certificates)),
    ("invites", lambda o: o.invites.list(limit=2), lambda c: ids(c.invites)),
    ("providers", lambda o: o.workload_identity_providers.list(limit=1), lambda c: ids(c.providers)),
    (
        "members of a group",
        lambda o: o.groups.users.list(o.groups.list().data[0].id, limit=3),
        lambda c: [person.id for person in c.people if person.id in c.groups[0].members],
    ),
]


@pytest.mark.parametrize(("name", "ask", "expected"), PLAIN, ids=[row[0] for row in PLAIN])
async def test_sdk_reads_a_list_through(
    name: str, ask: Callable[[Organization], Any], expected: Callable[[Company], list[str]]
) -> None:
    """Goal: each list is whole in its own pagination style. Method: the SDK's pages, small ones, against the company."""
    async with simulated(events=300, projects=41) as simulator:
        seen = await with_sdk(simulator, lambda organization: ids(ask(organization)))
        assert seen == expected(simulator.upstream.company)
        assert len(seen) >= 2


async def test_what_is_below_projects() -> None:
    """Goal: users, accounts, keys, groups and roles of every project. Method: the SDK reads them, the company agrees."""
    async with simulated(events=0, projects=6, keys=90) as simulator:
        company = simulator.upstream.company

        def read(organization: Organization) -> dict[str, dict[str, Any]]:
            projects = organization.projects
            return {
                project.id: {
                    "users": ids(projects.users.list(project.id, limit=9)),
                    "accounts": ids(projects.service_accounts.list(project.id)),
                    "keys": list(projects.api_keys.list(project.id, owner_project_access="any", limit=4)),
                    "shown": ids(projects.api_keys.list(project.id)),
                    "roles": ids(projects.roles.list(project.id)),
                    "groups": [group.group_id for group in projects.groups.list(project.id, limit=1)],
                }
                for project in projects.list()
            }

        seen = await with_sdk(simulator, read)
        assert set(seen) == {project.id for project in company.projects if project.archived_at is None}
        hidden = 0
        for project in company.projects:
            found = seen[project.id]
            keys = [key for key in company.keys if key.project_id == project.id]
            assert set(found["users"]) == set(project.members)
            assert found["accounts"] == [a.id for a in company.service_accounts if a.project_id == project.id]
            assert ids(found["keys"]) == ids(keys)
            assert found["shown"] == [key.id for key in keys if key.active]
            assert len(found["roles"]) == 3
            assert found["groups"]
            hidden += len(keys) - len(found["shown"])
            for key in found["keys"]:
                owner = key.owner.user or key.owner.service_account
                assert owner.id in project.members or owner.id in found["accounts"]
        assert hidden > 0


async def test_role_assignments() -> None:
    """Goal: who holds which role. Method: an owner, a reader, a group, and a member of a project, through the SDK."""
    async with simulated(events=0) as simulator:
        company = simulator.upstream.company
        owner, reader = company.people[0], company.people[1]
        project = next(p for p in company.projects[1:] if p.members)
        member = next(iter(project.members))
        group = next(a.principal_id for a in company.assignments if a.principal_type == "group")

        def read(organization: Organization) -> list[list[str]]:
            return [
                [role.name for role in organization.users.roles.list(owner.id)],
                [role.name for role in organization.users.roles.list(reader.id)],
                [role.name for role in organization.groups.roles.list(group)],
                [role.name for role in organization.projects.users.roles.list(member, project_id=project.id)],
            ]

        owners, readers, groups, members = await with_sdk(simulator, read)
        assert (owners, readers, len(groups)) == (["owner"], ["reader"], 1)
        assert members == [project.members[member]]


async def get(simulator: Simulator, path: str) -> tuple[int, Any, Any]:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.get(simulator.base_url + path) as response,
    ):
        return response.status, json.loads(await response.read()), response.headers


async def test_the_styles_are_told_apart() -> None:
    """Goal: a reader that takes the wrong cursor notices. Method: the shape of each style, and ids where `next` is due."""
    async with simulated(events=0) as simulator:
        _, users, _ = await get(simulator, "/organization/users?limit=2")
        _, keys, _ = await get(simulator, "/organization/admin_api_keys?limit=2")
        _, groups, _ = await get(simulator, "/organization/groups?limit=2")
        assert set(users) == {"object", "data", "has_more", "first_id", "last_id"}
        assert set(keys) == {"object", "data", "has_more"}
        assert set(groups) == {"object", "data", "has_more", "next"}
        assert (await get(simulator, f"/organization/groups?after={groups['data'][-1]['id']}"))[0] == 400
        assert (await get(simulator, "/organization/users?after=user-nobody"))[0] == 400
        assert (await get(simulator, "/organization/users?limit=101"))[0] == 400
        assert (await get(simulator, "/organization/groups?limit=1000"))[0] == 200
        _, backwards, _ = await get(simulator, "/organization/groups?order=desc&limit=1")
        assert backwards["data"][0]["id"] == simulator.upstream.company.groups[-1].id


async def test_costs_come_by_page_token() -> None:
    """Goal: the fourth style. Method: follow next_page over three weeks; too far back and a wrong group are refused."""
    async with simulated(events=0) as simulator:
        now = simulator.upstream.clock()
        days, page = [], ""
        while page is not None:
            query = f"start_time={int(now) - 20 * 86_400}&limit=5" + (f"&page={page}" if page else "")
            _, answer, _ = await get(simulator, f"/organization/costs?{query}")
            days += [bucket["start_time"] for bucket in answer["data"]]
            page = answer["next_page"]
            assert answer["has_more"] is (page is not None)
        assert len(days) == 21
        assert days == sorted(set(days))
        status, answer, _ = await get(simulator, "/organization/costs?start_time=1")
        assert (status, answer["error"]["code"]) == (400, "reporting_lookback_exceeded")
        assert (await get(simulator, f"/organization/costs?start_time={int(now)}&group_by[]=api_key_id"))[0] == 400


async def test_troubles_of_projects() -> None:
    """Goal: a failing, an archived and an unknown project answer each in its way. Method: read below each."""
    async with simulated(events=0, projects=41, failing_projects=1) as simulator:
        company = simulator.upstream.company
        failing = next(iter(simulator.directory.failing))
        archived = next(project.id for project in company.projects if project.archived_at is not None)
        statuses = [
            (await get(simulator, f"/organization/projects/{project}/users"))[0]
            for project in (company.projects[0].id, failing, archived, "proj_nothing")
        ]
        assert statuses == [200, 500, 400, 404]
        assert (await get(simulator, "/organization/groups/group_nothing/users"))[0] == 404


async def test_missing_scopes_and_faults_by_list() -> None:
    """Goal: a key that may tail but not enrich; one list that is refused. Method: a scope less, then a fault on a list."""
    async with simulated(events=3, scopes=(READ_AUDIT_LOGS,)) as simulator:
        status, answer, _ = await get(simulator, "/organization/users")
        assert status == 403
        assert "api.management.read" in answer["error"]
        assert (await get(simulator, "/organization/audit_logs"))[0] == 200
    async with simulated(events=3) as simulator:
        simulator.faults.settings = {"forbidden": Setting(on="groups", value="api.groups.read")}
        status, answer, _ = await get(simulator, "/organization/groups")
        assert (status, "api.groups.read" in answer["error"]) == (403, True)
        assert (await get(simulator, "/organization/users"))[0] == 200
        simulator.faults.settings = {"unavailable": Setting(on="directory")}
        assert (await get(simulator, "/organization/users"))[0] == 503
        assert (await get(simulator, "/organization/audit_logs"))[0] == 200


def test_the_allowance() -> None:
    """Goal: so many requests a minute, a second's worth at once. Method: a clock that the test turns."""
    allowance = Allowance(120)
    assert allowance.take(0.0)["x-ratelimit-limit-requests"] == "120"
    assert allowance.take(0.0)["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(Refusal) as refused:
        allowance.take(0.1)
    assert refused.value.answer.status == 429
    assert refused.value.answer.headers["Retry-After"] == "1"
    assert refused.value.answer.headers["x-ratelimit-reset-requests"] == "400ms"
    assert allowance.take(0.5)
    served = 0
    for tick in range(60_000):
        try:
            allowance.take(1 + tick / 1000)
        except Refusal:
            continue
        served += 1
    assert 119 <= served <= 123
    assert Allowance(0).take(0.0) == {}


async def test_rate_limit_over_http() -> None:
    """Goal: the limit reaches clients, and spares the audit log. Method: two requests of one a minute."""
    async with simulated(events=3, requests_per_minute=1) as simulator:
        status, _, headers = await get(simulator, "/organization/users")
        assert (status, headers["x-ratelimit-remaining-requests"]) == (200, "0")
        status, _, headers = await get(simulator, "/organization/users")
        assert status == 429
        assert 55 <= int(headers["Retry-After"]) <= 60
        assert (await get(simulator, "/organization/audit_logs"))[0] == 200


async def test_things_are_renamed_and_deleted() -> None:
    """Goal: the company can change behind the log's back. Method: rename a project, delete a user, look again."""
    async with simulated(events=3) as simulator, aiohttp.ClientSession() as session:
        company = simulator.upstream.company
        project, person = company.projects[3], company.people[5]
        url = simulator.base_url.removesuffix("/v1") + "/_sim/directory"
        for change, expected in [
            ({"list": "projects", "id": project.id, "name": "Renamed"}, 200),
            ({"list": "users", "id": person.id}, 200),
            ({"list": "users", "id": person.id}, 400),
            ({"list": "weather", "id": "x"}, 400),
        ]:
            async with session.post(url, json=change) as response:
                assert response.status == expected
        _, projects, _ = await get(simulator, "/organization/projects?limit=100")
        _, users, _ = await get(simulator, "/organization/users?limit=100")
        assert next(p["name"] for p in projects["data"] if p["id"] == project.id) == "Renamed"
        assert person.id not in {user["id"] for user in users["data"]}


async def test_a_large_company_is_read_whole() -> None:
    """Goal: 5,000 users, 500 projects and 2,000 keys come out. Method: the SDK pages through users and every project's keys."""
    async with simulated(events=0, people=5000, projects=500, keys=2000) as simulator:

        def read(organization: Organization) -> tuple[list[str], list[str]]:
            users = ids(organization.users.list(limit=100))
            projects = ids(organization.projects.list(limit=100))
            keys = [
                key
                for project in projects
                for key in ids(organization.projects.api_keys.list(project, owner_project_access="any", limit=100))
            ]
            return users, keys

        users, keys = await with_sdk(simulator, read)
        company = simulator.upstream.company
        active = {project.id for project in company.projects if project.archived_at is None}
        assert len(users) == 5000
        assert set(keys) == {key.id for key in company.keys if key.project_id in active}


def test_lists_have_names_and_paths_of_their_own() -> None:
    """Goal: no two lists are mixed up. Method: names and paths are unique."""
    assert len({entry.name for entry in LISTS}) == len(LISTS)
    assert len({entry.path for entry in LISTS}) == len(LISTS)
