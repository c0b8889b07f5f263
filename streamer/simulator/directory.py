"""The other lists of the Admin API: who and what there is in the company, in upstream's four pagination styles.

| style | the next page | lists |
|---|---|---|
| `last_id` | `after=last_id` while `has_more` | users, projects and what is below them, certificates, invites |
| `data_id` | `after=` the id of the last object; there is no `last_id` | admin keys, workload identity providers |
| `next` | `after=next`, an opaque cursor; some of these objects have no id | groups, roles, assignments |
| `page` | `page=next_page` | costs |
"""

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamer.simulator.answers import (
    READ_MANAGEMENT,
    READ_USAGE,
    Answer,
    Refusal,
    Scope,
    bad_request,
    error,
    json_answer,
    missing_scope,
    server_trouble,
    too_many_requests,
)
from streamer.simulator.company import DAY_S, Company, Project, reference
from streamer.simulator.lists import Ids, List, Tree
from streamer.simulator.parameters import Parameters, last_value, read_limit


class Allowance:
    """A simulated rate limit: a second's worth at once, then so many requests a minute."""

    def __init__(self, per_minute: int) -> None:
        """0: no limit."""
        self.per_minute = per_minute
        self._burst = max(per_minute / 60, 1.0)
        self._left = self._burst
        self._at: float | None = None

    def take(self, now: float) -> dict[str, str]:
        """The headers of an answer at `now`, in seconds. Raises Refusal when there is nothing left."""
        if not self.per_minute:
            return {}
        pace = self.per_minute / 60
        if self._at is not None:
            self._left = min(self._burst, self._left + max(now - self._at, 0) * pace)
        self._at = now
        refused = self._left < 1
        self._left -= 0 if refused else 1
        wait = max(1 - self._left, 0) / pace
        headers = {
            "x-ratelimit-limit-requests": str(self.per_minute),
            "x-ratelimit-remaining-requests": str(int(self._left)),
            "x-ratelimit-reset-requests": f"{math.ceil(wait * 1000)}ms",
        }
        if refused:
            raise Refusal(too_many_requests({**headers, "Retry-After": str(math.ceil(wait))}))
        return headers


class Directory:
    """Answers for one company."""

    def __init__(self, company: Company, scopes: Sequence[Scope], per_minute: int, failing_projects: int) -> None:
        self.company = company
        self._scopes = scopes
        self._allowance = Allowance(per_minute)
        active = [project.id for project in company.projects if project.archived_at is None]
        self.failing = frozenset(active[len(active) - failing_projects :])
        """Projects below which every read answers 500."""

    def read(self, entry: List, ids: Ids, parameters: Parameters, now: float) -> Answer:
        """Raises Refusal."""
        headers = self._admit(READ_MANAGEMENT, now)
        if "project_id" in ids:
            self._check_project(ids["project_id"])
        things = list(entry.things(self.company, ids, parameters))
        if last_value(parameters, "order") == "desc":
            things.reverse()
        limit = read_limit(parameters, default=min(entry.most, 100) if entry.most > 100 else 20, most=entry.most)
        start = _start(entry, [thing.id for thing in things], last_value(parameters, "after"))
        shown = [entry.show(self.company, ids, thing) for thing in things[start : start + limit]]
        has_more = start + limit < len(things)
        tree: Tree = {"object": "list", "data": shown, "has_more": has_more}
        if entry.style == "last_id":
            tree |= {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
        elif entry.style == "next":
            tree["next"] = _opaque(things[start + limit - 1].id) if has_more else None
        return json_answer(200, tree, headers)

    def costs(self, parameters: Parameters, now: float) -> Answer:
        """A bucket a day, up to today. Raises Refusal."""
        headers = self._admit(READ_USAGE, now)
        if "api_key_id" in parameters.get("group_by[]", ()):
            raise Refusal(bad_request("Invalid 'group_by': api_key_id cannot be grouped by.", "group_by"))
        start_text, page = last_value(parameters, "start_time") or "", last_value(parameters, "page")
        if not start_text.isdigit():
            raise Refusal(bad_request("Missing 'start_time', in Unix seconds.", "start_time"))
        if int(start_text) < now - 730 * DAY_S:
            raise Refusal(bad_request("'start_time' is too long ago.", "start_time", "reporting_lookback_exceeded"))
        limit = read_limit(parameters, default=7, most=180)
        day = int(_clear(page, "page")) if page else int(start_text) // DAY_S
        today = int(now) // DAY_S
        buckets = [_bucket(self.company, number) for number in range(day, min(day + limit, today + 1))]
        following = day + limit
        tree: Tree = {"object": "page", "data": buckets, "has_more": following <= today}
        tree["next_page"] = _opaque(str(following)) if following <= today else None
        return json_answer(200, tree, headers)

    def _admit(self, scope: Scope, now: float) -> dict[str, str]:
        headers = self._allowance.take(now)
        if scope not in self._scopes:
            raise Refusal(missing_scope(scope))
        return headers

    def _check_project(self, project_id: str) -> None:
        project = self.company.project(project_id)
        if project is None:
            raise Refusal(error(404, f"No such project: '{project_id}'."))
        if project_id in self.failing:
            raise Refusal(server_trouble(500))
        if project.archived_at is not None:
            raise Refusal(bad_request(f"Project '{project_id}' is archived.", "project_id"))


CHANGEABLE: Mapping[str, Callable[[Company], list[Any]]] = {
    "users": lambda company: company.people,
    "projects": lambda company: company.projects,
    "service_accounts": lambda company: company.service_accounts,
    "project_api_keys": lambda company: company.keys,
    "admin_api_keys": lambda company: company.admin_keys,
    "groups": lambda company: company.groups,
    "roles": lambda company: company.roles,
    "certificates": lambda company: company.certificates,
    "workload_identity_providers": lambda company: company.providers,
}


def change(company: Company, kind: str, thing_id: str, name: str | None) -> None:
    """Rename a thing of the company, or delete it (None). The log does not tell. Raises ValueError."""
    if kind not in CHANGEABLE:
        raise ValueError(f"list {kind!r} cannot be changed; there are {', '.join(CHANGEABLE)}")
    things = CHANGEABLE[kind](company)
    thing = next((thing for thing in things if thing.id == thing_id), None)
    if thing is None:
        raise ValueError(f"{kind} has no {thing_id!r}")
    if name is None and len(things) == 1:
        raise ValueError(f"{thing_id!r} is the last of {kind}, and stays")
    if name is None:
        things.remove(thing)
        return
    thing.name = name
    if isinstance(thing, Project):
        thing.reference = reference(thing.id, name)


def _start(entry: List, ids: Sequence[str], after: str | None) -> int:
    """The index that follows the cursor. Raises Refusal for one that is unknown."""
    if after is None:
        return 0
    known = _clear(after, "after") if entry.style == "next" else after
    if known not in ids:
        raise Refusal(bad_request(f"Invalid 'after': no such object: '{after}'.", "after"))
    return ids.index(known) + 1


def _opaque(text: str) -> str:
    return "cursor_" + urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _clear(cursor: str, parameter: str) -> str:
    """What `_opaque` was given. Raises Refusal."""
    body = cursor.removeprefix("cursor_")
    try:
        return urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    except ValueError:
        raise Refusal(bad_request(f"Invalid '{parameter}': '{cursor}'.", parameter)) from None


def _bucket(company: Company, day: int) -> Tree:
    amount = {"value": round(10 + len(company.keys) * (1 + day % 7) / 10, 2), "currency": "usd"}
    result = {"object": "organization.costs.result", "amount": amount, "line_item": None, "project_id": None}
    return {"object": "bucket", "start_time": day * DAY_S, "end_time": (day + 1) * DAY_S, "results": [result]}
