"""The believable company: people, service accounts, projects, keys, groups, roles and places that belong together.

Made from a seed, at any size. It is the present state of the simulated organization: the story changes it, the
directory lists it. Addresses are of the ranges kept for documentation and benchmarks, numbers of networks too.
"""

import random
import unicodedata
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import orjson

T = TypeVar("T")

DAY_S = 86_400
DEFAULT_KEY = "sk-admin-simulated"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIVEN = _words(
    "Ana Bruno Chiara Dmitri Elif Farah Goran Hana Ibrahim Jonas Kavya Liam Mei Nuno Olga Priya Quentin Rosa Sven "
    "Tariq Uma Viktor Wanjiru Ximena Yusuf Zofia Aiko Björn Camille Diego Esra Femi Greta Hugo Inês João Kofi "
    "Leila Marta Niamh Oskar Paula Rania Siobhán Tomasz Ulrike Valentina Wei Yara Zeynep Adaeze Benoît Cosmin "
    "Daria Emeka Fatima Giulia Henrik Isla Jakub Katarzyna Lucía Mateus Noor"
)
FAMILY = _words(
    "Silva Andersson Bauer Costa Duarte Eriksen Ferrari García Haddad Ivanova Jansen Kowalski Lindqvist Moreau "
    "Nakamura Okafor Petrov Quiroga Rossi Schmidt Tanaka Ueda Vargas Weber Xu Yilmaz Zhang Almeida Becker Chen "
    "Dimitrov Eze Fischer Gruber Hoffmann Ito Jensen Kumar Laurent Müller Novak Oliveira Patel Reyes Santos "
    "Torres Usman Virtanen Wójcik Yamada Zimmermann Abbas Bianchi Castro Díaz Engström Fontaine Georgiou Horvat "
    "Ilić Johansson Keller Lopes Mensah Nowak O'Brien Park Rahman Sato Teixeira Uzun Vasquez Wagner Yeo Zanetti "
    "Araújo Brandt Cohen Dubois Evans"
)

TEAMS = ("Platform", "Payments", "Search", "Support", "Security", "Data Science", "Mobile", "Finance", "People")
PRODUCTS = _words(
    "Payments Search Support-Copilot Fraud-Scoring Onboarding Recommendations Contract-Review Catalog Voice- "
    "Assistant Claims Forecasting Translation Moderation Pricing Knowledge-Base Invoicing Routing Returns "
    "Inventory Insights"
)
STAGES = ("production", "staging", "development", "sandbox", "evaluation")

AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/144.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/144.0.0.0 Safari/537.36 Edg/144.0.0.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7_2) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.2 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.2 Mobile/15E148 Safari/604.1",
)
MACHINE_AGENT = "go-resty/2.16.2 (https://github.com/go-resty/resty)"


class Place(NamedTuple):
    """Where somebody connects from, as `ip_address_details` tells it: numbers as strings."""

    country: str
    region: str
    region_code: str
    city: str
    asn: str
    latitude: str
    longitude: str
    prefix: str
    utc_offset_h: int


OFFICES = (
    Place("PT", "Lisboa", "11", "Lisbon", "64496", "38.71670", "-9.13330", "203.0.113.", 0),
    Place("DE", "Berlin", "BE", "Berlin", "64497", "52.52000", "13.40500", "203.0.113.", 1),
    Place("US", "California", "CA", "San Francisco", "64498", "37.77490", "-122.41940", "198.51.100.", -8),
    Place("SG", "Singapore", "SG", "Singapore", "64499", "1.35210", "103.81980", "192.0.2.", 8),
)
ELSEWHERE = Place("IS", "Höfuðborgarsvæðið", "1", "Reykjavík", "64510", "64.14660", "-21.94260", "198.19.7.", 0)
"""Where nobody of the company has ever been."""


class Person(msgspec.Struct):
    id: str
    name: str
    email: str
    role: Literal["owner", "reader"]
    team: str
    office: Place
    added_at: int
    sessions: list[orjson.Fragment]
    """The `actor` of an event, rendered: the first from the office, the second from home."""


class Project(msgspec.Struct):
    id: str
    name: str
    created_at: int
    archived_at: int | None
    members: dict[str, str]
    """User id to project role."""
    reference: orjson.Fragment
    """The `project` of an event, rendered."""


class ServiceAccount(msgspec.Struct):
    id: str
    name: str
    role: Literal["owner", "member"]
    project_id: str
    created_at: int


class ApiKey(msgspec.Struct):
    id: str
    name: str
    project_id: str
    owner_id: str
    """Of a person or a service account."""
    created_at: int
    redacted_value: str
    active: bool = True
    """Its owner still has access to the project."""


class AdminKey(msgspec.Struct):
    id: str
    name: str
    owner_id: str
    created_at: int
    redacted_value: str
    actor: orjson.Fragment
    expires_at: int | None = None


class Group(msgspec.Struct):
    id: str
    name: str
    created_at: int
    scim: bool
    members: list[str]


class Role(msgspec.Struct):
    id: str
    name: str
    description: str
    permissions: list[str]
    resource_type: Literal["api.organization", "api.project"]
    predefined: bool
    project_id: str | None = None


class Assignment(msgspec.Struct):
    principal_type: Literal["user", "group", "service_account"]
    principal_id: str
    role_id: str
    resource_id: str
    """Of the organization or a project."""


class Certificate(msgspec.Struct):
    id: str
    name: str
    active: bool
    created_at: int


InviteStatus = Literal["accepted", "expired", "pending"]
INVITE_STATUSES: tuple[InviteStatus, ...] = ("pending", "expired", "accepted")


class Invite(msgspec.Struct):
    id: str
    email: str
    role: Literal["owner", "reader"]
    status: InviteStatus
    created_at: int


class IdentityProvider(msgspec.Struct):
    id: str
    name: str
    issuer: str
    created_at: int


class Company(msgspec.Struct):
    """The organization as it stands. Lists are in the order of creation, oldest first."""

    id: str
    name: str
    domain: str
    people: list[Person]
    projects: list[Project]
    service_accounts: list[ServiceAccount]
    keys: list[ApiKey]
    admin_keys: list[AdminKey]
    groups: list[Group]
    roles: list[Role]
    assignments: list[Assignment]
    certificates: list[Certificate]
    invites: list[Invite]
    providers: list[IdentityProvider]
    hired: int
    """So many people have ever been; numbers the next."""

    def person(self, person_id: str) -> Person | None:
        return next((person for person in self.people if person.id == person_id), None)

    def project(self, project_id: str) -> Project | None:
        return next((project for project in self.projects if project.id == project_id), None)

    @property
    def owners(self) -> list[Person]:
        return [person for person in self.people if person.role == "owner"]


class Draw(random.Random):
    """A seeded source of choices, and of ids in upstream's forms."""

    def token(self, length: int = 24) -> str:
        """Base62, as upstream's ids have it. `length` is a multiple of four."""
        return b64encode(self.randbytes(length * 3 // 4), b"aZ").decode()

    def hexadecimal(self, length: int) -> str:
        return self.randbytes(length // 2).hex()

    def one(self, items: Sequence[T]) -> T:
        """`choice`, but three times as fast, which a million events feel."""
        return items[int(self.random() * len(items))]

    def some(self, items: Sequence[T], most: int) -> list[T]:
        """Between one and `most` of the items, in their order."""
        picked = sorted(self.sample(range(len(items)), min(len(items), 1 + int(self.random() * most))))
        return [items[i] for i in picked]


def session(draw: Draw, place: Place, agent: str, user: dict[str, str] | None, address: str | None = None) -> Any:
    """The `actor` of an event done in a session, rendered once and used many times."""
    details = {
        "country": place.country,
        "city": place.city,
        "region": place.region,
        "region_code": place.region_code,
        "asn": place.asn,
        "latitude": place.latitude,
        "longitude": place.longitude,
    }
    body: dict[str, Any] = {} if user is None else {"user": user}
    body["ip_address"] = address or place.prefix + str(draw.randrange(1, 255))
    body["user_agent"] = agent
    body["ja3"] = draw.hexadecimal(32)
    body["ja4"] = f"t13d1516h2_{draw.hexadecimal(12)}_{draw.hexadecimal(12)}"
    body["ip_address_details"] = details
    return orjson.Fragment(orjson.dumps({"type": "session", "session": body}))


def api_key_actor(key_id: str, owner_id: str, email: str | None) -> Any:
    """The `actor` of an event done with an API key; a service account has only an id."""
    if email is None:
        owner: dict[str, Any] = {"type": "service_account", "service_account": {"id": owner_id}}
    else:
        owner = {"type": "user", "user": {"id": owner_id, "email": email}}
    return orjson.Fragment(orjson.dumps({"type": "api_key", "api_key": {"id": key_id, **owner}}))


def redacted(draw: Draw, kind: str) -> str:
    return f"sk-{kind}-{draw.token(4)[:3]}***********{draw.token(4)[:3]}"


def _ascii(name: str) -> str:
    """A name as its owner's address spells it."""
    bare = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("ø", "o").replace("'", ""))
    return bare.encode("ascii", "ignore").decode()


def hire(draw: Draw, number: int, role: Literal["owner", "reader"], added_at: int) -> Person:
    """A person of the company; `number` makes the name, so that no two share an address."""
    given, family = GIVEN[number % len(GIVEN)], FAMILY[(number // len(GIVEN) + number * 7) % len(FAMILY)]
    again = number // (len(GIVEN) * len(FAMILY))
    local = _ascii(f"{given}.{family}").lower() + (str(again + 1) if again else "")
    user = {"id": "user-" + draw.token(), "email": f"{local}@tidewater.example"}
    office, agent = draw.one(OFFICES), draw.one(AGENTS)
    home = (
        f"2001:db8:{draw.randrange(1, 1 << 16):x}:{draw.randrange(1, 1 << 16):x}::{draw.randrange(2, 255):x}"
        if draw.random() < 0.25
        else f"198.18.{draw.randrange(256)}.{draw.randrange(1, 255)}"
    )
    return Person(
        id=user["id"],
        name=f"{given} {family}",
        email=user["email"],
        role=role,
        team=draw.one(TEAMS),
        office=office,
        added_at=added_at,
        sessions=[session(draw, office, agent, user), session(draw, office, draw.one(AGENTS), user, home)],
    )


def reference(project_id: str, name: str) -> Any:
    """The `project` of an event, rendered."""
    return orjson.Fragment(orjson.dumps({"id": project_id, "name": name}))


def found_project(draw: Draw, name: str, created_at: int, members: dict[str, str]) -> Project:
    project_id = "proj_" + draw.token()
    return Project(project_id, name, created_at, None, members, reference(project_id, name))


def _projects(draw: Draw, count: int, people: list[Person], since: int) -> list[Project]:
    """The default project, which everybody is in, and `count - 1` others; one in twenty is archived."""
    everybody = {person.id: "owner" if person.role == "owner" else "member" for person in people}
    projects = [found_project(draw, "Default project", since, everybody)]
    for number in range(count - 1):
        product, stage = PRODUCTS[number % len(PRODUCTS)], STAGES[number // len(PRODUCTS) % len(STAGES)]
        again = number // (len(PRODUCTS) * len(STAGES))
        team = draw.some(people, 8)
        members = {person.id: "owner" if person is team[0] else "member" for person in team}
        name = f"{product.replace('-', ' ')} {stage}" + (f" {again + 1}" if again else "")
        project = found_project(draw, name, since + number * 3600, members)
        if number % 20 == 19:
            project.archived_at = project.created_at + 90 * DAY_S
        projects.append(project)
    return projects


def _service_accounts(draw: Draw, count: int, projects: list[Project]) -> list[ServiceAccount]:
    purposes = ("build-bot", "batch-runner", "evaluator", "gateway", "nightly-sync", "terraform")
    accounts = []
    for number in range(count):
        project = projects[number % len(projects)]
        name = purposes[number % len(purposes)] + (f"-{number // len(purposes) + 1}" if number >= len(purposes) else "")
        accounts.append(
            ServiceAccount("user-" + draw.token(), name, "member", project.id, project.created_at + DAY_S + number)
        )
    return accounts


def _keys(draw: Draw, count: int, projects: list[Project], accounts: list[ServiceAccount]) -> list[ApiKey]:
    """Every project's keys; a third belong to service accounts, one in fifteen to somebody who has left the project."""
    keys = []
    for number in range(count):
        project = projects[number % len(projects)]
        if number % 3 == 0 and accounts:
            account = accounts[number // 3 % len(accounts)]
            place, owner = account.project_id, account.id
        else:
            place, owner = project.id, draw.one(list(project.members))
        name = (
            f"{draw.one(TEAMS).lower().replace(' ', '-')}-{draw.one(('laptop', 'notebook', 'ci', 'server'))}-{number}"
        )
        created_at = project.created_at + 2 * DAY_S + number
        keys.append(
            ApiKey("key_" + draw.token(16), name, place, owner, created_at, redacted(draw, "proj"), number % 15 != 14)
        )
    return keys


def _roles(draw: Draw) -> list[Role]:
    def role(name: str, text: str, permissions: list[str], place: str, predefined: bool) -> Role:
        kind: Literal["api.organization", "api.project"] = "api.project" if place == "project" else "api.organization"
        role_id = f"role-api-{place}-{name.lower()}" if predefined else "role_" + draw.token()
        return Role(role_id, name, text, permissions, kind, predefined)

    return [
        role("owner", "Everything in the organization", ["api.organization.manage"], "organization", True),
        role("reader", "Sees the organization", ["api.organization.read"], "organization", True),
        role("owner", "Everything in the project", ["api.project.manage"], "project", True),
        role("member", "Works in the project", ["api.model.request", "api.files.read"], "project", True),
        role("Billing viewer", "Sees usage and costs", ["api.usage.read"], "organization", False),
        role("Auditor", "Reads the audit log", ["api.audit_logs.read", "api.management.read"], "organization", False),
        role("Release manager", "Keeps keys and limits", ["api.keys.write", "api.rate_limits.write"], "project", False),
    ]


def make_company(
    seed: int, now: int, *, people: int = 60, projects: int = 12, keys: int = 80, service_accounts: int = 10
) -> Company:
    """`now`: Unix seconds; the company is a year old then. At least three people and one project."""
    draw = Draw(f"company {seed}")
    since = now - 365 * DAY_S
    staff = [
        hire(draw, number, "owner" if number % 20 == 0 else "reader", since + number * 60)
        for number in range(max(people, 3))
    ]
    work = _projects(draw, max(projects, 1), staff, since)
    accounts = _service_accounts(draw, service_accounts, work)
    roles = _roles(draw)
    organization_id = "org-" + draw.token()
    groups = [
        Group("group_" + draw.token(), team, since + 100 * n, n % 2 == 0, [p.id for p in staff if p.team == team])
        for n, team in enumerate(TEAMS)
    ]
    admin_keys = []
    for n, name in enumerate(("terraform", "audit export", "cost report")):
        owner, key_id = staff[n % len(staff)], "key_" + draw.token(16)
        admin_keys.append(
            AdminKey(
                key_id,
                name,
                owner.id,
                since + DAY_S * (n + 1),
                redacted(draw, "admin"),
                api_key_actor(key_id, owner.id, owner.email),
            )
        )
    # The key that our own requests come with is one of them.
    admin_keys[1].redacted_value = f"{DEFAULT_KEY[:12]}***********{DEFAULT_KEY[-3:]}"
    admin_keys[1].expires_at = now + 60 * DAY_S
    owner_role, reader_role = roles[0].id, roles[1].id
    return Company(
        hired=len(staff),
        id=organization_id,
        name="Tidewater",
        domain="tidewater.example",
        people=staff,
        projects=work,
        service_accounts=accounts,
        keys=_keys(draw, keys, work, accounts),
        admin_keys=admin_keys,
        groups=groups,
        roles=roles,
        assignments=[
            Assignment("user", p.id, owner_role if p.role == "owner" else reader_role, organization_id) for p in staff
        ]
        + [Assignment("group", groups[n].id, roles[4 + n % 2].id, organization_id) for n in (4, 7)],
        certificates=[
            Certificate("cert_" + draw.token(), f"{name} mutual TLS", n < 2, since + DAY_S * 30 * (n + 1))
            for n, name in enumerate(("gateway", "batch", "former gateway"))
        ],
        invites=[
            Invite("invite-" + draw.token(), f"guest{n}@tidewater.example", "reader", status, now - DAY_S * (n + 1) * 3)
            for n, status in enumerate(INVITE_STATUSES)
        ],
        providers=[
            IdentityProvider("idp_" + draw.token(), name, issuer, since + DAY_S * 60 * (n + 1))
            for n, (name, issuer) in enumerate(
                (
                    ("Build system", "https://ci.tidewater.example"),
                    ("Cluster", "https://oidc.tidewater.example/cluster"),
                )
            )
        ],
    )
