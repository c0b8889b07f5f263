"""Who and what there is in an OpenAI organization: the Admin API's lists of things that have names.

The lists are a table. Three of upstream's four pagination styles occur in it; the fourth (`page=next_page`) belongs to
usage and costs, which name nothing.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from streamer.errors import NOT_JSON, RetryableError
from streamer.model import SourceName
from streamer.ports import DirectoryPage, DirectorySource, Sighting
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.sources.openai_pages import Page, read_page
from streamer.telemetry import Telemetry

if TYPE_CHECKING:
    from streamer.sources.openai_api import AdminApi  # brings aiohttp, which only an open source needs

SCOPE = "api.management.read"
"""One scope opens all of these lists; a key may have been given less, list by list."""

Style = Literal["last_id", "data_id", "next"]
"""Where a page says how to go on: its `last_id`; the id of its last object; its `next`, an opaque cursor."""


class NamedList(NamedTuple):
    name: str
    path: str
    """Below base_url; with `{project}` it is a list of each project."""
    style: Style
    kind: str
    """What its objects are, in the words of the envelope's targets."""
    limit: int = 100
    query: str = ""
    """What else is asked for."""


_ORGANIZATION, _PROJECT = "organization", "organization/projects/{project}"

LISTS: Mapping[str, NamedList] = {
    one.name: one
    for one in (
        # Archived projects have names too. Without `any`, keys whose owner has left the project are not listed.
        NamedList("projects", f"{_ORGANIZATION}/projects", "last_id", "project", query="&include_archived=true"),
        NamedList("users", f"{_ORGANIZATION}/users", "last_id", "user"),
        NamedList("groups", f"{_ORGANIZATION}/groups", "next", "group", limit=1000),
        NamedList("roles", f"{_ORGANIZATION}/roles", "next", "role", limit=1000),
        NamedList("admin_api_keys", f"{_ORGANIZATION}/admin_api_keys", "data_id", "admin_api_key"),
        NamedList("certificates", f"{_ORGANIZATION}/certificates", "last_id", "certificate"),
        NamedList("invites", f"{_ORGANIZATION}/invites", "last_id", "invite"),
        NamedList(
            "workload_identity_providers",
            f"{_ORGANIZATION}/workload_identity_providers",
            "data_id",
            "workload_identity_provider",
        ),
        NamedList("service_accounts", f"{_PROJECT}/service_accounts", "last_id", "service_account"),
        NamedList("project_api_keys", f"{_PROJECT}/api_keys", "last_id", "api_key", query="&owner_project_access=any"),
        NamedList("project_users", f"{_PROJECT}/users", "last_id", "user"),
        NamedList("project_roles", "projects/{project}/roles", "next", "role", limit=1000),
    )
}


@asynccontextmanager
async def open_openai_directory(
    name: SourceName, options: OpenAIAuditLogsOptions, telemetry: Telemetry
) -> AsyncIterator[DirectorySource]:
    """Touches no network. ConfigError when the key or the certificates cannot be read."""
    from streamer.sources.openai_api import open_admin_api

    async with open_admin_api(name, options, telemetry) as api:
        yield OpenAIDirectory(name, api, telemetry)


class OpenAIDirectory:
    """A DirectorySource."""

    lists: Sequence[str] = tuple(one.name for one in LISTS.values() if "{project}" not in one.path)
    project_lists: Sequence[str] = tuple(one.name for one in LISTS.values() if "{project}" in one.path)

    def __init__(self, name: SourceName, api: "AdminApi", telemetry: Telemetry) -> None:
        self.name, self._api, self._telemetry = name, api, telemetry

    def now(self) -> float:
        return self._api.now()

    async def read(self, name: str, project: str | None, cursor: str | None, /) -> DirectoryPage:
        asked = LISTS[name]
        path = asked.path.format(project=quote(project or "", safe=""))
        query = f"limit={asked.limit}{asked.query}" + (f"&after={quote(cursor, safe='')}" if cursor else "")
        where = f"sources.{self.name} (list {name}{f' of {project}' if project else ''})"
        page, request = await self._api.get(path, query, where, read_page, scope=SCOPE)
        things = [thing for record in page.records if (thing := _read(record)) is not None]
        for thing in things:
            if thing.redacted_value and self._api.is_ours(thing.redacted_value):
                self._telemetry.key_expires(self.name, thing.expires_at)
        following = next_cursor(asked.style, page, things)
        if following is not None and following == cursor:
            raise RetryableError(f"{where}: the cursor leads to where it came from ({request}); the list is read again")
        return DirectoryPage(
            [said for thing in things for said in sightings(asked, thing)],
            [thing.id for thing in things if name == "projects" and thing.id and thing.status != "archived"],
            following,
        )


# --- pages -----------------------------------------------------------------------------------------------------------


class Person(msgspec.Struct, gc=False):
    """Whoever owns a key, and the newer form of a user."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    role: str | None = None


class Owner(Person, gc=False):
    """Of a project's key: `user` or `service_account` holds who it is; of an admin key: it is here."""

    type: str | None = None
    user: Person | None = None
    service_account: Person | None = None


class Thing(Person, gc=False):
    """An object of any of the lists, as far as it names something."""

    status: str | None = None
    """A project's: `active`, `archived`."""
    redacted_value: str | None = None
    """A key's: its beginning and its end."""
    expires_at: int | None = None
    """A key's, in Unix seconds; None: never."""
    user: Person | None = None
    owner: Owner | None = None


_decode = msgspec.json.Decoder(Thing).decode
_decode_tree = msgspec.json.Decoder(dict[str, Any]).decode


def _read(record: bytes) -> Thing | None:
    """None for what is no object. A field that is not as it should be costs that field."""
    try:
        return _decode(record)
    except NOT_JSON:
        pass
    try:
        tree = _decode_tree(record)
    except NOT_JSON:
        return None
    plain = {key: value for key in ("id", "name", "email", "role", "status") if isinstance(value := tree.get(key), str)}
    return msgspec.convert(plain, Thing)


def next_cursor(style: Style, page: Page, things: list[Thing]) -> str | None:
    """None at the end of a list, and where no page says how to go on."""
    if page.has_more is False or not page.records:
        return None
    if style == "next":
        return page.next
    if page.has_more is None:
        return None
    last = things[-1].id if things else None
    return (page.last_id or last) if style == "last_id" else last


def sightings(asked: NamedList, thing: Thing) -> Iterable[Sighting]:
    """The object itself, and its owner."""
    person = thing.user or Person()
    name, email, role = thing.name or person.name, thing.email or person.email, thing.role or person.role
    if thing.id and (name or email):
        # A project knows a person's role in the project, not in the organization.
        role = role if asked.name == "users" else None
        yield Sighting(kind=asked.kind, id=thing.id, name=name, email=email, role=role)
    owner = thing.owner
    if owner is None:
        return
    holders = (("user", owner.user), ("service_account", owner.service_account), (owner.type or "user", owner))
    for kind, holder in holders:
        if holder is not None and holder.id and (holder.name or holder.email) and kind in ("user", "service_account"):
            yield Sighting(kind=kind, id=holder.id, name=holder.name, email=holder.email)
