"""The lists of the Admin API other than the audit log: where each stands, what is on it, and how it looks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streamer.simulator.answers import Refusal, bad_request, error
from streamer.simulator.company import (
    DAY_S,
    AdminKey,
    ApiKey,
    Company,
    Group,
    Person,
    Project,
    Role,
    ServiceAccount,
)
from streamer.simulator.parameters import Parameters, last_value, read_flag

Style = Literal["last_id", "data_id", "next"]
Ids = Mapping[str, str]
"""What stands in the path: project_id, group_id, user_id."""
Tree = dict[str, Any]


@dataclass(frozen=True)
class List:
    name: str
    path: str
    style: Style
    things: Callable[[Company, Ids, Parameters], Sequence[Any]]
    """What is listed, oldest first."""
    show: Callable[[Company, Ids, Any], Tree]
    most: int = 100
    """The highest `limit`."""


# --- how things look -------------------------------------------------------------------------------------------------


def _user(company: Company, _: Ids, person: Person) -> Tree:
    return {
        "object": "organization.user",
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "role": person.role,
        "added_at": person.added_at,
        "is_service_account": False,
        "is_scim_managed": False,
    }


def _project(_: Company, __: Ids, project: Project) -> Tree:
    return {
        "object": "organization.project",
        "id": project.id,
        "name": project.name,
        "created_at": project.created_at,
        "archived_at": project.archived_at,
        "status": "active" if project.archived_at is None else "archived",
    }


def _project_user(company: Company, ids: Ids, person: Person) -> Tree:
    project = company.project(ids["project_id"])
    return {
        "object": "organization.project.user",
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "role": project.members[person.id] if project else "member",
        "added_at": person.added_at,
    }


def _service_account(_: Company, __: Ids, account: ServiceAccount) -> Tree:
    return {
        "object": "organization.project.service_account",
        "id": account.id,
        "name": account.name,
        "role": account.role,
        "created_at": account.created_at,
    }


def _api_key(company: Company, ids: Ids, key: ApiKey) -> Tree:
    person = company.person(key.owner_id)
    owner: Tree = {}
    if person is not None:
        owner = {"type": "user", "user": _project_owner(person)}
    else:
        account = next((a for a in company.service_accounts if a.id == key.owner_id), None)
        if account is not None:
            owner = {"type": "service_account", "service_account": _service_account(company, ids, account)}
    return {
        "object": "organization.project.api_key",
        "id": key.id,
        "name": key.name,
        "created_at": key.created_at,
        "last_used_at": key.created_at + DAY_S,
        "redacted_value": key.redacted_value,
        "owner": owner,
        "owner_project_access": "active" if key.active else "inactive",
    }


def _project_owner(person: Person) -> Tree:
    return {
        "object": "organization.project.user",
        "id": person.id,
        "name": person.name,
        "email": person.email,
        "role": "owner" if person.role == "owner" else "member",
        "created_at": person.added_at,
    }


def _admin_key(company: Company, _: Ids, key: AdminKey) -> Tree:
    person = company.person(key.owner_id)
    owner = {"type": "user", "object": "organization.user", "id": key.owner_id, "created_at": key.created_at}
    if person is not None:
        owner |= {"name": person.name, "role": person.role, "created_at": person.added_at}
    return {
        "object": "organization.admin_api_key",
        "id": key.id,
        "name": key.name,
        "created_at": key.created_at,
        "last_used_at": None,
        "redacted_value": key.redacted_value,
        "expires_at": key.expires_at,
        "owner": owner,
    }


def _group(_: Company, __: Ids, group: Group) -> Tree:
    return {
        "id": group.id,
        "name": group.name,
        "created_at": group.created_at,
        "group_type": "group",
        "is_scim_managed": group.scim,
    }


def _project_group(_: Company, ids: Ids, group: Group) -> Tree:
    """Has no `id`."""
    return {
        "object": "project.group",
        "project_id": ids["project_id"],
        "group_id": group.id,
        "group_name": group.name,
        "group_type": "group",
        "created_at": group.created_at,
    }


def _group_user(_: Company, __: Ids, person: Person) -> Tree:
    return {"id": person.id, "name": person.name, "email": person.email}


def _role(_: Company, __: Ids, role: Role) -> Tree:
    return {
        "object": "role",
        "id": role.id,
        "name": role.name,
        "description": role.description,
        "permissions": role.permissions,
        "resource_type": role.resource_type,
        "predefined_role": role.predefined,
    }


def _assigned_role(company: Company, ids: Ids, role: Role) -> Tree:
    tree = _role(company, ids, role)
    del tree["object"]
    return {**tree, "created_at": None, "created_by": None, "metadata": {}, "updated_at": None}


def _plain(kind: str, *fields: str) -> Callable[[Company, Ids, Any], Tree]:
    def show(_: Company, __: Ids, thing: Any) -> Tree:
        return {"object": kind, **{field: getattr(thing, field) for field in ("id", *fields)}}

    return show


def _certificate(company: Company, ids: Ids, thing: Any) -> Tree:
    tree = _plain("organization.certificate", "name", "active", "created_at")(company, ids, thing)
    details = {"valid_at": thing.created_at, "expires_at": thing.created_at + 365 * DAY_S}
    return {**tree, "certificate_details": details}


def _invite(company: Company, ids: Ids, thing: Any) -> Tree:
    tree = _plain("organization.invite", "email", "role", "status", "created_at")(company, ids, thing)
    return {**tree, "expires_at": thing.created_at + 7 * DAY_S, "projects": []}


def _provider(company: Company, ids: Ids, thing: Any) -> Tree:
    tree = _plain("organization.workload_identity_provider", "name", "issuer", "created_at")(company, ids, thing)
    return {
        **tree,
        "type": "oidc",
        "enabled": True,
        "audience": "https://api.tidewater.example",
        "attribute_transformations": [],
        "updated_at": thing.created_at,
        "verification": {"type": "discovery", "discovery_url": thing.issuer + "/.well-known/openid-configuration"},
    }


# --- what is listed --------------------------------------------------------------------------------------------------


def _projects(company: Company, _: Ids, parameters: Parameters) -> Sequence[Project]:
    archived = read_flag(parameters, "include_archived")
    return [project for project in company.projects if archived or project.archived_at is None]


def _api_keys(company: Company, ids: Ids, parameters: Parameters) -> Sequence[ApiKey]:
    """Without `owner_project_access=any`, keys of people who have left the project stay hidden."""
    access = last_value(parameters, "owner_project_access") or "active"
    if access not in ("active", "inactive", "any"):
        raise Refusal(bad_request(f"Invalid 'owner_project_access': {access!r}.", "owner_project_access"))
    return [
        key
        for key in company.keys
        if key.project_id == ids["project_id"] and access in ("any", "active" if key.active else "inactive")
    ]


def _members(company: Company, ids: Ids, _: Parameters) -> Sequence[Person]:
    project = company.project(ids["project_id"])
    return [person for person in company.people if project and person.id in project.members]


def _group_members(company: Company, ids: Ids, _: Parameters) -> Sequence[Person]:
    group = next((group for group in company.groups if group.id == ids["group_id"]), None)
    if group is None:
        raise Refusal(error(404, f"No such group: '{ids['group_id']}'."))
    members = set(group.members)
    return [person for person in company.people if person.id in members]


def _roles_of(kind: str) -> Callable[[Company, Ids, Parameters], Sequence[Role]]:
    return lambda company, ids, _: [role for role in company.roles if role.resource_type == kind]


def _assigned(principal: str) -> Callable[[Company, Ids, Parameters], Sequence[Role]]:
    """The roles of a user or group, in the organization or the project that the path names."""

    def things(company: Company, ids: Ids, _: Parameters) -> Sequence[Role]:
        resource = ids.get("project_id", company.id)
        held = {
            assignment.role_id
            for assignment in company.assignments
            if assignment.principal_id == ids[principal] and assignment.resource_id == resource
        }
        project = company.project(resource)
        if project is not None and ids[principal] in project.members:
            held |= {
                role.id
                for role in company.roles
                if role.predefined
                and role.resource_type == "api.project"
                and role.name == project.members[ids[principal]]
            }
        return [role for role in company.roles if role.id in held]

    return things


def _project_groups(company: Company, ids: Ids, _: Parameters) -> Sequence[Group]:
    project = company.project(ids["project_id"])
    return [group for group in company.groups if project and any(member in project.members for member in group.members)]


_ORGANIZATION, _PROJECT = "/organization", "/organization/projects/{project_id}"

LISTS: tuple[List, ...] = (
    List("users", f"{_ORGANIZATION}/users", "last_id", lambda c, i, p: c.people, _user),
    List("projects", f"{_ORGANIZATION}/projects", "last_id", _projects, _project),
    List("project_users", f"{_PROJECT}/users", "last_id", _members, _project_user),
    List(
        "service_accounts", f"{_PROJECT}/service_accounts", "last_id",
        lambda c, i, p: [account for account in c.service_accounts if account.project_id == i["project_id"]],
        _service_account,
    ),
    List("project_api_keys", f"{_PROJECT}/api_keys", "last_id", _api_keys, _api_key),
    List("project_groups", f"{_PROJECT}/groups", "next", _project_groups, _project_group),
    List("project_certificates", f"{_PROJECT}/certificates", "last_id", lambda c, i, p: [], _certificate),
    List("admin_api_keys", f"{_ORGANIZATION}/admin_api_keys", "data_id", lambda c, i, p: c.admin_keys, _admin_key),
    List("groups", f"{_ORGANIZATION}/groups", "next", lambda c, i, p: c.groups, _group, 1000),
    List("group_users", f"{_ORGANIZATION}/groups/{{group_id}}/users", "next", _group_members, _group_user, 1000),
    List("roles", f"{_ORGANIZATION}/roles", "next", _roles_of("api.organization"), _role, 1000),
    List("project_roles", "/projects/{project_id}/roles", "next", _roles_of("api.project"), _role, 1000),
    List("user_roles", f"{_ORGANIZATION}/users/{{user_id}}/roles", "next", _assigned("user_id"), _assigned_role, 1000),
    List("group_roles", f"{_ORGANIZATION}/groups/{{group_id}}/roles", "next", _assigned("group_id"), _assigned_role, 1000),
    List(
        "project_user_roles", "/projects/{project_id}/users/{user_id}/roles", "next",
        _assigned("user_id"), _assigned_role, 1000,
    ),
    List(
        "project_group_roles", "/projects/{project_id}/groups/{group_id}/roles", "next",
        _assigned("group_id"), _assigned_role, 1000,
    ),
    List("certificates", f"{_ORGANIZATION}/certificates", "last_id", lambda c, i, p: c.certificates, _certificate),
    List("invites", f"{_ORGANIZATION}/invites", "last_id", lambda c, i, p: c.invites, _invite),
    List(
        "workload_identity_providers", f"{_ORGANIZATION}/workload_identity_providers", "data_id",
        lambda c, i, p: c.providers, _provider,
    ),
)  # fmt: skip
COSTS = "costs"
COSTS_PATH = f"{_ORGANIZATION}/costs"
PLACES: tuple[str, ...] = (*(entry.name for entry in LISTS), COSTS)
"""Where a fault can strike, by name."""
