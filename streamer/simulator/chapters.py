"""What happens to the company: people join, an account is broken into, rights grow, defences fall, all is mended.

Told as steps with offsets in seconds; the company changes with them, so the directory agrees with the log.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from streamer.simulator.company import (
    AGENTS,
    ELSEWHERE,
    MACHINE_AGENT,
    AdminKey,
    ApiKey,
    Assignment,
    Company,
    Draw,
    Invite,
    Person,
    Project,
    api_key_actor,
    hire,
    redacted,
    session,
)
from streamer.simulator.payloads import Payload, assignment_payload, office_networks


class Step(NamedTuple):
    """An event that has no time and no id yet."""

    type: str
    actor: Any = None
    """Rendered JSON; None: the event has no actor."""
    payload: Payload | None = None
    project: Any = None
    """Rendered JSON; None: the event has no project."""


Steps = Iterator[tuple[int, Step]]
"""Seconds since the story began, ascending, and what happens then."""


def new_key(draw: Draw, company: Company, person: Person, project: Project, at: int) -> ApiKey:
    name = f"{person.email.split('@')[0]}-{draw.token(4)}"
    key = ApiKey("key_" + draw.token(16), name, project.id, person.id, at, redacted(draw, "proj"))
    company.keys.append(key)
    return key


def victim_of(company: Company) -> Person:
    """Whose account the next story has broken into."""
    return company.owners[-1]


def chapters(draw: Draw, company: Company, at: int) -> Steps:
    """The whole story, about two and a half hours of it. `at`, in Unix seconds, dates what it creates."""
    victim = victim_of(company)
    guard = next((person for person in company.owners if person is not victim), company.people[0])
    joiners = [_recruit(draw, company, at) for _ in range(3)]
    for number, (person, invite) in enumerate(joiners):
        yield from _joins(draw, company, guard, person, invite, at, number * 600)
    yield from _breaks_in(draw, victim, 4000)
    thief = session(draw, ELSEWHERE, MACHINE_AGENT, {"id": victim.id, "email": victim.email})
    stolen = [new_key(draw, company, victim, company.projects[0], at) for _ in range(3)]
    accomplice = joiners[-1][0]
    admin_key = _admin_key(draw, victim, at)
    yield from _escalates(company, accomplice, stolen, admin_key, thief, 4600)
    yield from _disarms(company, thief, 6000)
    yield from _mends(company, guard, victim, accomplice, stolen, admin_key, 8000)


def _recruit(draw: Draw, company: Company, at: int) -> tuple[Person, Invite]:
    person = hire(draw, company.hired, "reader", at)
    company.hired += 1
    return person, Invite("invite-" + draw.token(), person.email, "reader", "pending", at)


def _admin_key(draw: Draw, owner: Person, at: int) -> AdminKey:
    key_id = "key_" + draw.token(16)
    actor = api_key_actor(key_id, owner.id, owner.email)
    return AdminKey(key_id, "backup", owner.id, at, redacted(draw, "admin"), actor)


def _joins(draw: Draw, company: Company, boss: Person, person: Person, invite: Invite, at: int, begin: int) -> Steps:
    """Invited, accepted, in a group, and a first key."""
    home, group = company.projects[0], draw.one(company.groups)
    company.invites.append(invite)
    sent = {"id": invite.id, "data": {"email": invite.email, "role": invite.role}}
    yield begin, Step("invite.sent", boss.sessions[0], sent, home.reference)
    invite.status = "accepted"
    company.people.append(person)
    home.members[person.id] = "member"
    yield begin + 60, Step("invite.accepted", person.sessions[0], {"id": invite.id}, home.reference)
    yield begin + 61, Step("user.added", person.sessions[0], {"id": person.id, "data": {"role": "reader"}})
    yield begin + 62, Step("login.succeeded", person.sessions[0])
    group.members.append(person.id)
    member = {"group_id": group.id, "group_name": group.name, "user_id": person.id}
    yield begin + 180, Step("tenant.group.member.added", boss.sessions[0], member)
    key = new_key(draw, company, person, home, at)
    created = {"id": key.id, "data": {"scopes": ["model.request"]}}
    yield begin + 240, Step("api_key.created", person.sessions[0], created, home.reference)


def _breaks_in(draw: Draw, victim: Person, begin: int) -> Steps:
    """Fourteen wrong passwords for one account from five addresses in six minutes, then the right one."""
    known = {"id": victim.id, "email": victim.email}
    wrong = {"error_code": "invalid_credentials", "error_message": "The password is wrong."}
    for number in range(14):
        actor = session(draw, ELSEWHERE, MACHINE_AGENT, known, f"{ELSEWHERE.prefix}{20 + number % 5}")
        yield begin + number * 25, Step("login.failed", actor, wrong)
    nobody = session(draw, ELSEWHERE, MACHINE_AGENT, None)
    yield begin + 352, Step("login.failed", nobody, {"error_code": "unknown_user", "error_message": "No such user."})
    yield begin + 380, Step("login.succeeded", session(draw, ELSEWHERE, AGENTS[2], known))


def _escalates(
    company: Company, accomplice: Person, stolen: list[ApiKey], admin_key: AdminKey, thief: Any, begin: int
) -> Steps:
    """Owner rights for a build account and for a newcomer, three keys that may do everything, an admin key."""
    home, bot, owner_role = company.projects[0], company.service_accounts[0], company.roles[0]
    company.assignments.append(Assignment("service_account", bot.id, owner_role.id, company.id))
    given = assignment_payload("service_account", bot.id, owner_role.id, company.id)
    yield begin, Step("role.assignment.created", thief, given, home.reference)
    accomplice.role = "owner"
    raised = {"id": accomplice.id, "changes_requested": {"role": "owner"}}
    yield begin + 90, Step("user.updated", thief, raised, home.reference)
    for number, key in enumerate(stolen):
        created = {"id": key.id, "data": {"scopes": ["all"]}}
        yield begin + 200 + number * 120, Step("api_key.created", thief, created, home.reference)
    company.admin_keys.append(admin_key)
    yield begin + 700, Step("tenant.admin_api_key.created", thief, {"id": admin_key.id, "name": admin_key.name})


def _disarms(company: Company, thief: Any, begin: int) -> Steps:
    """The allowlist opened to the world, provisioning off, call logging off."""
    home = company.projects[0].reference
    opened = {"id": "ipal_offices", "allowed_ips": ["0.0.0.0/0"]}
    yield begin, Step("ip_allowlist.updated", thief, opened, home)
    yield begin + 60, Step("scim.disabled", thief, {"id": company.id}, home)
    unlogged = {"id": company.id, "changes_requested": {"api_call_logging": "disabled"}}
    yield begin + 120, Step("organization.updated", thief, unlogged, home)


def _mends(
    company: Company,
    guard: Person,
    victim: Person,
    accomplice: Person,
    stolen: list[ApiKey],
    admin_key: AdminKey,
    begin: int,
) -> Steps:
    """Everything that the intruder did is taken back, by another owner from the office."""
    home, bot, owner_role, hands = company.projects[0], company.service_accounts[0], company.roles[0], guard.sessions[0]
    yield begin, Step("login.succeeded", hands)
    yield begin + 30, Step("tenant.session_revocation.started", hands, {"id": "revocation_1", "user_id": victim.id})
    for number, key in enumerate(stolen):
        company.keys.remove(key)
        yield begin + 60 + number, Step("api_key.deleted", hands, {"id": key.id}, home.reference)
    company.admin_keys.remove(admin_key)
    yield begin + 70, Step("tenant.admin_api_key.deleted", hands, {"id": admin_key.id, "name": admin_key.name})
    company.assignments.remove(Assignment("service_account", bot.id, owner_role.id, company.id))
    taken = assignment_payload("service_account", bot.id, owner_role.id, company.id)
    yield begin + 100, Step("role.assignment.deleted", hands, taken, home.reference)
    accomplice.role = "reader"
    lowered = {"id": accomplice.id, "changes_requested": {"role": "reader"}}
    yield begin + 130, Step("user.updated", hands, lowered, home.reference)
    closed = {"id": "ipal_offices", "allowed_ips": office_networks()}
    yield begin + 200, Step("ip_allowlist.updated", hands, closed, home.reference)
    yield begin + 230, Step("scim.enabled", hands, {"id": company.id}, home.reference)
    logged = {"id": company.id, "changes_requested": {"api_call_logging": "enabled_per_call"}}
    yield begin + 260, Step("organization.updated", hands, logged, home.reference)
