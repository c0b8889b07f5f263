"""The generator of events: a background rhythm, a story, and every type once.

Pure but for the company, which it changes as it tells (people join, keys come and go), so that the directory agrees
with the log. The same seed and the same times give the same bytes.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import cycle, pairwise
from typing import Any, Literal, get_args

import orjson

from streamer.catalog import TYPES, lookup
from streamer.model import Event, EventId, Listing
from streamer.simulator.chapters import Step, Steps, chapters, new_key, victim_of
from streamer.simulator.company import ApiKey, Company, Draw, Person
from streamer.simulator.payloads import IN_DETAILS, SCOPES, payload_of

Profile = Literal["company", "story", "quiet", "bulk"]
PROFILES: tuple[Profile, ...] = get_args(Profile)

Stamp = Callable[[int, Listing], int]
"""The time that an event of a listing tells, from when it happened; both in Unix seconds."""

WEEKEND_SHARE = 0.15
"""Of a working day's events."""
RECENT = 200
"""So many keys that the story itself has made stay before the oldest is deleted."""


def rhythm(draw: Draw, count: int, start: int, end: int) -> list[int]:
    """`count` moments in [start, end), ascending, in Unix seconds: few at weekends, most in Europe's office hours."""
    if count <= 0:
        return []
    edges = [start, *range(start - start % 3600 + 3600, end, 3600), end]
    weights = [_busyness(a) * (b - a) for a, b in pairwise(edges)]
    total, carried, moments = sum(weights), 0.0, []
    for weight, (a, b) in zip(weights, pairwise(edges), strict=True):
        carried += count * weight / total
        number = int(carried + 1e-6)
        carried -= number
        moments += sorted(a + int(draw.random() * (b - a)) for _ in range(number))
    while len(moments) < count:
        moments.append(end - 1)
    return moments


def _busyness(at: int) -> float:
    hour = at // 3600 % 24
    share = WEEKEND_SHARE if _weekend(at) else 1.0
    return share * (1.0 if 8 <= hour < 18 else 0.4 if 18 <= hour < 24 else 0.2)


def _weekend(at: int) -> bool:
    return (at // 86_400 + 3) % 7 >= 5


GUESSED_S = 30 * 60
"""So long after wrong passwords a login looks as if the right one had been guessed; as the rule login-after-failures has it."""


class Story:
    """Tells one company's events; `history` first, then `live`, one at a time, for ever."""

    def __init__(self, company: Company, seed: int, profile: Profile) -> None:
        self.company = company
        self._draw = Draw(f"story {seed}")
        self._profile = profile
        self._recent_keys: list[ApiKey] = []
        self._active = [project for project in company.projects if project.archived_at is None]
        self._typo_by = cycle(range(len(company.people)))
        self._shifts: list[list[Person]] = [[] for _ in range(24)]
        self._rostered = 0
        self._background = self._mix()
        self._live_types = cycle(TYPES)
        self._live_steps: Steps = iter(())
        self._victim: Person | None = None
        """Whose account is broken into, in the seconds of `_besieged`. A login of theirs in that time would be told as a second break-in."""
        self._besieged = range(0)

    def history(self, count: int, start: int, end: int, stamp: Stamp) -> Iterator[tuple[Listing, Event]]:
        """`count` events of [start, end), in the order in which they happened."""
        if not count:
            return
        special: list[tuple[int, Step]] = []
        if self._profile == "company":
            moments = rhythm(self._draw, len(TYPES), start, end)
            special += [(at, self.of_type(name)) for at, name in zip(moments, TYPES, strict=True)]
        if self._profile in ("company", "story"):
            special += self._chapters_until(start, end)
        special = sorted(special, key=lambda item: item[0])[-count:]
        plain = rhythm(self._draw, count - len(special), start, end)
        steps: Iterator[tuple[int, Step | None]] = merge(
            ((at, None) for at in plain), special, key=lambda item: item[0]
        )
        for at, step in steps:
            told = step or self._next_background(at)
            listing = lookup(told.type).listing
            yield listing, self.render(told, stamp(at, listing))

    def live(self, at: int, stamp: Stamp) -> tuple[Listing, Event]:
        """The next event, at `at`."""
        step, dice = None, self._draw.random()
        if self._profile == "company" and dice < 0.1:
            step = self.of_type(next(self._live_types))
        elif self._profile in ("company", "story") and dice < 0.2:
            _, step = next(self._live_steps, (0, None))
            if step is None:
                self._live_steps = chapters(self._draw, self.company, at)
                _, step = next(self._live_steps)
        told = step or self._next_background(at)
        listing = lookup(told.type).listing
        return listing, self.render(told, stamp(at, listing))

    def of_type(self, event_type: str) -> Step:
        """A plausible event of the type, whatever it is."""
        owner = self._draw.one(self.company.owners)
        project = self._draw.one(self.company.projects).reference if self._draw.random() < 0.5 else None
        return Step(event_type, owner.sessions[0], payload_of(event_type, self._draw, self.company), project)

    def render(self, step: Step, at: int) -> Event:
        event_id = "audit_log-" + self._draw.token()
        body: dict[str, Any] = {
            "object": "organization.audit_log",
            "id": event_id,
            "type": step.type,
            "effective_at": at,
        }
        if step.project is not None:
            body["project"] = step.project
        if step.actor is not None:
            body["actor"] = step.actor
        if step.payload is not None:
            body["details" if step.type in IN_DETAILS else step.type] = step.payload
        # A copy, because the bytes that orjson makes keep their whole working buffer, some 8 KiB, for as long as they live.
        raw = bytes(memoryview(orjson.dumps(body)))
        return Event(raw, EventId(event_id), step.type, at)

    # --- the background ----------------------------------------------------------------------------------------------

    def _roster(self, person: Person) -> None:
        """From eight to six where the person sits."""
        for local_hour in range(8, 18):
            self._shifts[(local_hour - person.office.utc_offset_h) % 24].append(person)

    def _mix(self) -> list[Callable[[int], Step]]:
        """What the next event may be, each as often as it is likely."""
        quiet: list[tuple[int, Callable[[int], Step]]] = [
            (34, self._login),
            (14, self._logout),
            (1, self._typo),
            (8, self._plainly("tenant.user.looked_up")),
            (9, self._plainly("tenant.principal_authentication_policy.resolved")),
            (12, self._plainly("tenant.workload_identity.access_token.issued", by_machine=True)),
            (4, self._plainly("tenant.resource_access.updated")),
            (2, self._plainly("project.updated", by_machine=True)),
            (2, self._plainly("group.updated", by_machine=True)),
        ]
        administration: list[tuple[int, Callable[[int], Step]]] = [
            (4, self._create_key),
            (2, self._plainly("api_key.updated")),
            (2, self._plainly("role.bound_to_resource")),
            (2, self._plainly("tenant.group.member.added")),
            (1, self._plainly("rate_limit.updated")),
            (1, self._plainly("role.updated")),
            (1, self._plainly("tenant.usage_limit.user.updated")),
        ]
        wordy: list[tuple[int, Callable[[int], Step]]] = [
            (15, self._login),
            (30, self._plainly("role.updated")),
            (15, self._plainly("rate_limit.updated")),
            (10, self._create_key),
            (10, self._plainly("role.bound_to_resource")),
            (12, self._plainly("tenant.principal_authentication_policy.resolved")),
            (8, self._plainly("tenant.user.looked_up")),
        ]
        mixes = {"company": quiet + administration, "story": quiet, "quiet": quiet, "bulk": wordy}
        rows = mixes[self._profile]
        return [make for weight, make in rows for _ in range(weight)]

    def _next_background(self, at: int) -> Step:
        if self._profile != "bulk" and _weekend(at):
            return self._plainly("tenant.workload_identity.access_token.issued", by_machine=True)(at)
        return self._draw.one(self._background)(at)

    def _anyone(self, at: int) -> Person:
        if self._rostered < len(self.company.people):
            for person in self.company.people[self._rostered :]:
                self._roster(person)
            self._rostered = len(self.company.people)
        return self._draw.one(self._shifts[at // 3600 % 24] or self.company.people)

    def _session_of(self, person: Person) -> Any:
        return person.sessions[0] if self._draw.random() < 0.7 else person.sessions[1]

    def _login(self, at: int) -> Step:
        person = self._anyone(at)
        quiet = at in self._besieged and person is self._victim
        return Step("logout.succeeded" if quiet else "login.succeeded", self._session_of(person))

    def _logout(self, at: int) -> Step:
        return Step("logout.succeeded", self._session_of(self._anyone(at)))

    def _typo(self, at: int) -> Step:
        """A wrong password now and then, everybody in turn, so that it never looks like an attack."""
        person = self.company.people[next(self._typo_by) % len(self.company.people)]
        return Step("login.failed", person.sessions[0], payload_of("login.failed", self._draw, self.company))

    def _plainly(self, event_type: str, *, by_machine: bool = False) -> Callable[[int], Step]:
        machine = self.company.admin_keys[0].actor
        default_project = self.company.projects[0].reference

        def make(at: int) -> Step:
            actor = machine if by_machine else self._session_of(self._anyone(at))
            return Step(event_type, actor, payload_of(event_type, self._draw, self.company), default_project)

        return make

    def _create_key(self, at: int) -> Step:
        """A new key; when there are many, the oldest of them goes instead."""
        actor, company = self._anyone(at), self.company
        if len(self._recent_keys) >= RECENT:
            gone = self._recent_keys.pop(0)
            company.keys.remove(gone)
            place = company.project(gone.project_id)
            return Step("api_key.deleted", self._session_of(actor), {"id": gone.id}, place and place.reference)
        project = self._draw.one(self._active)
        key = new_key(self._draw, company, actor, project, at)
        self._recent_keys.append(key)
        created = {"id": key.id, "data": {"scopes": self._draw.some(SCOPES, 6)}}
        return Step("api_key.created", self._session_of(actor), created, project.reference)

    def _chapters_until(self, start: int, end: int) -> list[tuple[int, Step]]:
        """The story so that it ends just before `end`; squeezed where the time is too short for it."""
        self._victim = victim_of(self.company)
        steps = list(chapters(self._draw, self.company, end))
        length = steps[-1][0]
        pace = min(1.0, (end - start) * 0.5 / length)
        begin = end - 1 - int(length * pace * 1.05)
        told = [(begin + int(offset * pace), step) for offset, step in steps]
        wrong = [at for at, step in told if step.type == "login.failed"]
        self._besieged = range(wrong[0], wrong[-1] + GUESSED_S)
        return told
