"""What an event of each type tells: one row a type, made from the company, so that ids and names belong together.

Documented payloads have their documented fields; of the others nobody has published one, so theirs are plausible.
A type without a row (one that the catalogue has learned since) gets an id.
"""

from collections.abc import Callable
from typing import Any

from streamer.simulator.company import ELSEWHERE, OFFICES, Company, Draw

Payload = dict[str, Any]
Maker = Callable[[Draw, Company], Payload]

SCOPES = (
    "model.request",
    "files.read",
    "files.write",
    "vector_stores.read",
    "assistants.read",
    "evals.read",
    "fine_tuning.jobs.read",
    "batches.read",
    "batches.write",
    "responses.write",
)
PERMISSIONS = (
    "api.model.request",
    "api.files.read",
    "api.files.write",
    "api.usage.read",
    "api.groups.read",
    "api.rate_limits.read",
    "api.webhooks.read",
    "api.evals.read",
)
CONNECTORS = ("Drive", "Tickets", "Wiki", "Calendar", "Code host")
MODELS = ("gpt-5", "gpt-5-mini", "gpt-realtime", "text-embedding-3-large", "gpt-image-1")

IN_DETAILS = frozenset(
    {"tenant.session_policy.created", "tenant.session_policy.updated", "tenant.session_policy.deleted"}
)
"""Undocumented types whose payload stands under `details`, as the documentation hints, and not under the type."""


def office_networks() -> list[str]:
    return sorted({office.prefix + "0/24" for office in OFFICES})


def _user(draw: Draw, company: Company) -> Payload:
    person = draw.one(company.people)
    return {"id": person.id, "email": person.email}


def _named(prefix: str, *names: str) -> Maker:
    """A thing with an id and a name, and what was asked to change in it."""
    return lambda draw, _: {"id": f"{prefix}_{draw.token()}", "name": draw.one(names)}


def _bare(prefix: str) -> Maker:
    return lambda draw, _: {"id": f"{prefix}_{draw.token()}"}


def _changed(prefix: str, **choices: tuple[Any, ...]) -> Maker:
    """A thing and what was asked to change in it: one of the values for each field."""
    return lambda draw, _: {
        "id": f"{prefix}_{draw.token()}",
        "changes_requested": {field: draw.one(values) for field, values in choices.items()},
    }


def _about_user(**choices: tuple[Any, ...]) -> Maker:
    return lambda draw, company: {
        **_user(draw, company),
        **{field: draw.one(values) for field, values in choices.items()},
    }


def _invite(draw: Draw, company: Company) -> Payload:
    invite = draw.one(company.invites)
    return {"id": invite.id, "email": invite.email, "role": invite.role}


def _provider(draw: Draw, company: Company) -> Payload:
    provider = draw.one(company.providers)
    return {"id": provider.id, "name": provider.name, "issuer": provider.issuer}


def _mapping(draw: Draw, company: Company) -> Payload:
    account = draw.one(company.service_accounts)
    return {
        "id": "idpmap_" + draw.token(),
        "identity_provider_id": draw.one(company.providers).id,
        "project_id": account.project_id,
        "service_account_id": account.id,
    }


def _mapping_created(draw: Draw, company: Company) -> Payload:
    mapping = _mapping(draw, company)
    rest = {"project_id": mapping.pop("project_id"), "service_account_id": mapping.pop("service_account_id")}
    return {**mapping, "data": {**rest, "attribute_matchers": {"repository": "tidewater/gateway"}}}


def _certificate(draw: Draw, company: Company) -> Payload:
    certificate = draw.one(company.certificates)
    return {"id": certificate.id, "name": certificate.name}


def _certificates(draw: Draw, company: Company) -> Payload:
    return {"certificates": [{"id": c.id, "name": c.name} for c in draw.some(company.certificates, 2)]}


def _role_assignment(draw: Draw, company: Company) -> Payload:
    assignment = draw.one(company.assignments)
    return assignment_payload(
        assignment.principal_type, assignment.principal_id, assignment.role_id, assignment.resource_id
    )


def assignment_payload(principal_type: str, principal_id: str, role_id: str, resource_id: str) -> Payload:
    """The id of an assignment is composite and carries the role, and the role its kind of resource."""
    kind = "organization" if resource_id.startswith("org-") else "project"
    return {
        "id": f"role_assignment_{role_id}__api-{kind}__{resource_id}_{principal_id}",
        "principal_id": principal_id,
        "principal_type": principal_type,
        "resource_id": resource_id,
        "resource_type": f"api.{kind}",
    }


def _role_binding(draw: Draw, company: Company) -> Payload:
    connector = draw.one(CONNECTORS)
    resource_id = "connector_" + draw.token()
    return {
        "id": resource_id,
        "connector_id": resource_id,
        "connector_name": connector,
        "enabled": draw.random() < 0.7,
        "permissions": draw.some(("read", "search", "write"), 3),
        "resource_id": resource_id,
        "resource_type": "connector",
        "role_id": draw.one(company.roles).id,
        "source": draw.one(("role_toggle", "role_connector_update", "workspace_permissions", "connector_publish")),
        "workspace_id": "ws_" + company.id[4:],
    }


def _storage(draw: Draw, _: Company) -> Payload:
    provider = {
        "type": "aws",
        "account_id": "000000000000",
        "bucket": "tidewater-model-data",
        "external_id": draw.token(12),
        "region": "eu-central-1",
        "role_arn": "arn:aws:iam::000000000000:role/model-data",
    }
    return {"id": "extstore_" + draw.token(), "data": {"geography": "EU", "provider": provider}}


def _rate_limit(draw: Draw, _: Company) -> Payload:
    changes = {
        "max_requests_per_1_minute": draw.one((500, 1000, 5000)),
        "max_tokens_per_1_minute": draw.one((30_000, 200_000, 2_000_000)),
        "batch_1_day_max_input_tokens": draw.one((90_000, 1_350_000)),
    }
    return {"id": f"rl-{draw.one(MODELS)}", "changes_requested": changes}


def _key_created(draw: Draw, company: Company) -> Payload:
    return {"id": draw.one(company.keys).id, "data": {"scopes": draw.some(SCOPES, 6)}}


def _key_updated(draw: Draw, company: Company) -> Payload:
    """The schema has `changes_requested`, the published example has `data`: both occur."""
    place = "changes_requested" if draw.random() < 0.8 else "data"
    return {"id": draw.one(company.keys).id, place: {"scopes": draw.some(SCOPES, 6)}}


def _role_created(draw: Draw, company: Company) -> Payload:
    return {
        "id": "role_" + draw.token(),
        "role_name": draw.one(("Evaluator", "Support lead", "Prompt editor")),
        "permissions": draw.some(PERMISSIONS, 5),
        "resource_id": company.id,
        "resource_type": "api.organization",
    }


def _role_updated(draw: Draw, company: Company) -> Payload:
    role = company.roles[-1]
    changes = {
        "role_name": role.name,
        "description": role.description,
        "permissions_added": draw.some(PERMISSIONS, 4),
        "permissions_removed": draw.some(PERMISSIONS, 2),
        "resource_id": company.id,
        "resource_type": role.resource_type,
    }
    return {"id": role.id, "changes_requested": changes}


def _organization(draw: Draw, company: Company) -> Payload:
    return {"id": company.id, "changes_requested": {"threads_ui_visibility": draw.one(("ANY", "OWNERS", "NONE"))}}


def _project_created(draw: Draw, company: Company) -> Payload:
    project = draw.one(company.projects)
    return {"id": project.id, "data": {"name": project.name, "title": project.name}}


def _group_member(draw: Draw, company: Company) -> Payload:
    group = draw.one(company.groups)
    return {"group_id": group.id, "group_name": group.name, "user_id": draw.one(company.people).id}


def _usage_limit(owner: str) -> Maker:
    def make(draw: Draw, company: Company) -> Payload:
        ids = {
            "workspace": "ws_" + company.id[4:],
            "group": draw.one(company.groups).id,
            "user": draw.one(company.people).id,
        }
        return {"id": ids[owner], "changes_requested": {"monthly_credits": draw.one((100, 500, 2500)), "hard": False}}

    return make


def _tenant_role_assignment(draw: Draw, company: Company) -> Payload:
    person, role = draw.one(company.people), draw.one(company.roles)
    return {
        "id": "ra_" + draw.token(),
        "principal_id": person.id,
        "principal_type": "user",
        "role_id": role.id,
        "role_name": role.name,
    }


def _resource_role_assignment(draw: Draw, company: Company) -> Payload:
    return {
        **_tenant_role_assignment(draw, company),
        "resource_id": "gpt_" + draw.token(),
        "resource_type": "custom_gpt",
    }


def _token_issued(draw: Draw, company: Company) -> Payload:
    account, provider = draw.one(company.service_accounts), draw.one(company.providers)
    return {
        "id": "wiat_" + draw.token(),
        "identity_provider_id": provider.id,
        "principal_id": account.id,
        "subject": f"repo:tidewater/{account.name}:ref:refs/heads/main",
        "audience": "https://api.tidewater.example",
        "expires_in_seconds": draw.one((900, 3600)),
        "scopes": draw.some(SCOPES, 4),
    }


def _authentication_policy(draw: Draw, company: Company) -> Payload:
    return {**_user(draw, company), "policy": draw.one(("sso_required", "password_and_mfa")), "resolved_by": "domain"}


def _resource_access(draw: Draw, company: Company) -> Payload:
    return {
        "id": "gpt_" + draw.token(),
        "resource_type": "custom_gpt",
        "visibility": draw.one(("workspace", "invite_only")),
        "owner_id": draw.one(company.people).id,
    }


def _share_grant(draw: Draw, _: Company) -> Payload:
    return {
        "id": "grant_" + draw.token(),
        "resource_id": "gpt_" + draw.token(),
        "recipient_tenant_id": "tenant_partner",
        "permission": draw.one(("view", "use")),
    }


def _ip_allowlist(draw: Draw, _: Company) -> Payload:
    return {"id": "ipal_offices", "name": "Offices", "allowed_ips": office_networks()}


PAYLOADS: dict[str, Maker] = {
    "api_key.created": _key_created,
    "api_key.updated": _key_updated,
    "api_key.deleted": lambda draw, company: {"id": "key_" + draw.token(16)},
    "certificate.created": _certificate,
    "certificate.updated": _certificate,
    "certificate.deleted": lambda draw, company: {
        **_certificate(draw, company),
        "certificate": f"-----BEGIN CERTIFICATE-----\n{draw.token(64)}\n-----END CERTIFICATE-----\n",
    },
    "certificates.activated": _certificates,
    "certificates.deactivated": _certificates,
    "checkpoint.permission.created": lambda draw, company: {
        "id": "cp_" + draw.token(),
        "data": {
            "fine_tuned_model_checkpoint": f"ft:gpt-5-mini:tidewater:claims:{draw.token(8)}",
            "project_id": draw.one(company.projects).id,
        },
    },
    "checkpoint.permission.deleted": _bare("cp"),
    "external_key.registered": lambda draw, company: {
        "id": "extkey_" + draw.token(),
        "data": {"type": "aws", "purpose": "ekm", "kms_arn": "arn:aws:kms:eu-central-1:000000000000:key/at-rest"},
    },
    "external_key.removed": _bare("extkey"),
    "external_storage.registered": _storage,
    "external_storage.removed": _bare("extstore"),
    "group.created": lambda draw, company: {
        "id": "group_" + draw.token(),
        "data": {"group_name": "Guild " + draw.token(4)},
    },
    "group.updated": lambda draw, company: {
        "id": (group := draw.one(company.groups)).id,
        "changes_requested": {"group_name": group.name},
    },
    "group.deleted": _bare("group"),
    "invite.sent": lambda draw, company: {
        "id": (invite := draw.one(company.invites)).id,
        "data": {"email": invite.email, "role": invite.role},
    },
    "invite.accepted": lambda draw, company: {"id": draw.one(company.invites).id},
    "invite.deleted": lambda draw, company: {"id": "invite-" + draw.token()},
    "ip_allowlist.created": _ip_allowlist,
    "ip_allowlist.updated": lambda draw, company: {"id": "ipal_offices", "allowed_ips": office_networks()},
    "ip_allowlist.deleted": lambda draw, company: {
        "id": "ipal_guests",
        "name": "Guests",
        "allowed_ips": [ELSEWHERE.prefix + "0/28"],
    },
    "ip_allowlist.config.activated": lambda draw, company: {"configs": [{"id": "ipal_offices", "name": "Offices"}]},
    "ip_allowlist.config.deactivated": lambda draw, company: {
        "configs": [{"id": "ipal_offices", "name": "Offices"}, {"id": "ipal_guests", "name": "Guests"}]
    },
    "login.failed": lambda draw, company: {
        "error_code": "invalid_credentials",
        "error_message": "The password is wrong.",
    },
    "logout.failed": lambda draw, company: {
        "error_code": "session_expired",
        "error_message": "The session had ended already.",
    },
    "organization.updated": _organization,
    "project.created": _project_created,
    "project.updated": lambda draw, company: {
        "id": (project := draw.one(company.projects)).id,
        "changes_requested": {"title": project.name},
    },
    "project.archived": lambda draw, company: {"id": draw.one(company.projects).id},
    "project.deleted": _bare("proj"),
    "rate_limit.updated": _rate_limit,
    "rate_limit.deleted": lambda draw, company: {"id": f"rl-{draw.one(MODELS)}"},
    "resource.deleted": lambda draw, company: {
        "id": "file-" + draw.token(),
        "resource_type": draw.one(("file", "vector_store")),
    },
    "tunnel.created": _named("tunnel", "Data centre", "Laboratory"),
    "tunnel.updated": _changed("tunnel", name=("Data centre", "Laboratory")),
    "tunnel.deleted": _bare("tunnel"),
    "workload_identity_provider.created": lambda draw, company: {
        "id": (provider := draw.one(company.providers)).id,
        "data": {"name": provider.name, "issuer": provider.issuer, "audience": "https://api.tidewater.example"},
    },
    "workload_identity_provider.updated": lambda draw, company: {
        "id": draw.one(company.providers).id,
        "changes_requested": {"audience": "https://api.tidewater.example/v2"},
    },
    "workload_identity_provider.deleted": _named("idp", "Former build system"),
    "workload_identity_provider_mapping.created": _mapping_created,
    "workload_identity_provider_mapping.updated": lambda draw, company: {
        "id": "idpmap_" + draw.token(),
        "identity_provider_id": draw.one(company.providers).id,
        "changes_requested": {"attribute_matchers": {"ref": "refs/heads/main"}},
    },
    "workload_identity_provider_mapping.deleted": _mapping,
    "role.created": _role_created,
    "role.updated": _role_updated,
    "role.deleted": _bare("role"),
    "role.assignment.created": _role_assignment,
    "role.assignment.deleted": _role_assignment,
    "role.bound_to_resource": _role_binding,
    "role.unbound_from_resource": _role_binding,
    "scim.enabled": lambda draw, company: {"id": company.id},
    "scim.disabled": lambda draw, company: {"id": company.id},
    "service_account.created": lambda draw, company: {
        "id": draw.one(company.service_accounts).id,
        "data": {"role": "member"},
    },
    "service_account.updated": lambda draw, company: {
        "id": draw.one(company.service_accounts).id,
        "changes_requested": {"role": "member"},
    },
    "service_account.deleted": _bare("user"),
    "user.added": lambda draw, company: {"id": draw.one(company.people).id, "data": {"role": "reader"}},
    "user.updated": lambda draw, company: {"id": draw.one(company.people).id, "changes_requested": {"role": "reader"}},
    "user.deleted": _bare("user"),
    "tenant.metadata.updated": _changed("tenant", display_name=("Tidewater", "Tidewater Group")),
    "tenant.microsoft_entra_mapping.upserted": lambda draw, company: {
        "id": "entra_" + draw.token(),
        "entra_tenant_id": "00000000-0000-4000-8000-000000000001",
        "domain": company.domain,
    },
    "tenant.microsoft_entra_mapping.deleted": _bare("entra"),
    "tenant.workload_identity.provider.created": _provider,
    "tenant.workload_identity.provider.updated": _provider,
    "tenant.workload_identity.provider.archived": _provider,
    "tenant.workload_identity.mapping.created": _mapping,
    "tenant.workload_identity.mapping.updated": _mapping,
    "tenant.workload_identity.mapping.archived": _mapping,
    "tenant.workload_identity.binding.created": _mapping,
    "tenant.workload_identity.principal.provisioned": lambda draw, company: {
        "id": draw.one(company.service_accounts).id,
        "identity_provider_id": draw.one(company.providers).id,
    },
    "tenant.workload_identity.access_token.issued": _token_issued,
    "tenant.admin_api_key.created": lambda draw, company: {
        "id": (key := draw.one(company.admin_keys)).id,
        "name": key.name,
    },
    "tenant.admin_api_key.updated": lambda draw, company: {
        "id": (key := draw.one(company.admin_keys)).id,
        "name": key.name,
    },
    "tenant.admin_api_key.deleted": _named("key", "old export"),
    "tenant.project_api_key.created": lambda draw, company: {
        "id": (key := draw.one(company.keys)).id,
        "name": key.name,
        "project_id": key.project_id,
    },
    "tenant.trusted_access.business_verification.started": _bare("verification"),
    "tenant.trusted_access.application.submitted": _named("application", "Cyber research", "Life sciences"),
    "tenant.chatgpt_access_token.revoked": _about_user(reason=("user_request", "rotation")),
    "tenant.migration.completed": _named("migration", "organizations to tenant"),
    "tenant.sso.migrated": _bare("conn"),
    "tenant.domains.migrated": lambda draw, company: {"id": "tenant_" + company.id[4:], "domains": [company.domain]},
    "tenant.sso_connection.created": _named("conn", "Tidewater SAML", "Tidewater OIDC"),
    "tenant.sso_connection.updated": _changed("conn", enforced=(True, False)),
    "tenant.sso_connection.deleted": _named("conn", "Former SAML"),
    "tenant.sso_connection.setup.started": _bare("conn"),
    "tenant.policy.created": _named("policy", "Data export", "External sharing"),
    "tenant.policy.updated": _named("policy", "Data export", "External sharing"),
    "tenant.policy.deleted": _named("policy", "Data export", "External sharing"),
    "tenant.policy.attached": lambda draw, company: {
        "id": "policy_" + draw.token(),
        "target_id": draw.one(company.groups).id,
    },
    "tenant.policy.detached": lambda draw, company: {
        "id": "policy_" + draw.token(),
        "target_id": draw.one(company.groups).id,
    },
    "tenant.principal_authentication_policy.resolved": _authentication_policy,
    "tenant.scim.setup.started": _bare("scim"),
    "tenant.scim.deletion.requested": _bare("scim"),
    "tenant.scim.directory.created": _named("scim", "Tidewater directory"),
    "tenant.product_access_policy.updated": _changed(
        "policy", product=("codex", "chatgpt"), access=("allowed", "denied")
    ),
    "tenant.resource_share_grant.created": _share_grant,
    "tenant.resource_share_grant.updated": _share_grant,
    "tenant.resource_share_grant.accepted": _share_grant,
    "tenant.resource_share_grant.declined": _share_grant,
    "tenant.resource_share_grant.revoked": _share_grant,
    "tenant.resource_share_grant.deleted": _share_grant,
    "tenant.service_account.updated": lambda draw, company: {
        "id": (account := draw.one(company.service_accounts)).id,
        "name": account.name,
    },
    "tenant.service_account.deleted": _named("user", "former-bot"),
    "tenant.service_account.token.revoked": lambda draw, company: {
        "id": "token_" + draw.token(),
        "service_account_id": draw.one(company.service_accounts).id,
    },
    "tenant.billing.overage_limit.updated": _changed("billing", monthly_limit_usd=(1000, 5000, 20_000)),
    "tenant.billing.alerts.updated": _changed("billing", threshold_percent=(50, 80, 100)),
    "tenant.billing.info.updated": _changed("billing", tax_id=("PT000000000", "DE000000000")),
    "tenant.usage_limit.workspace.updated": _usage_limit("workspace"),
    "tenant.usage_limit.group.updated": _usage_limit("group"),
    "tenant.usage_limit.user.updated": _usage_limit("user"),
    "tenant.usage_limit.increase_request.updated": _about_user(requested_credits=(500, 1000)),
    "tenant.usage_limit.increase_request.resolved": _about_user(decision=("approved", "declined")),
    "tenant.group.created": _named("group", "Guild"),
    "tenant.group.updated": lambda draw, company: {
        "id": (group := draw.one(company.groups)).id,
        "group_name": group.name,
    },
    "tenant.group.deleted": _named("group", "Former guild"),
    "tenant.group.member.added": _group_member,
    "tenant.group.member.removed": _group_member,
    "tenant.migration_rollout.status.updated": _changed("rollout", status=("scheduled", "running", "done")),
    "tenant.migration_rollout.tier.updated": _changed("rollout", tier=("pilot", "general")),
    "tenant.role.metadata.updated": lambda draw, company: {
        "id": (role := draw.one(company.roles)).id,
        "role_name": role.name,
    },
    "tenant.custom_role.created": _role_created,
    "tenant.custom_role.updated": _role_updated,
    "tenant.custom_role.deleted": _bare("role"),
    "tenant.role_assignment.created": _tenant_role_assignment,
    "tenant.role_assignment.deleted": _tenant_role_assignment,
    "tenant.resource_role_assignment.created": _resource_role_assignment,
    "tenant.resource_role_assignment.deleted": _resource_role_assignment,
    "tenant.resource_access.updated": _resource_access,
    "tenant.resource_access.deleted": _resource_access,
    "tenant.ads_account.onboarding.redemption": _bare("ads"),
    "tenant.session_policy.created": _named("policy", "Session length"),
    "tenant.session_policy.updated": _changed("policy", max_session_hours=(8, 12, 24)),
    "tenant.session_policy.deleted": _bare("policy"),
    "tenant.session_revocation.started": lambda draw, company: {
        "id": "revocation_" + draw.token(),
        "scope": "user",
        "user_id": draw.one(company.people).id,
    },
    "tenant.third_party_app_policy.updated": _changed("policy", default=("block", "review")),
    "tenant.user.added": _about_user(role=("reader",)),
    "tenant.user.updated": _about_user(role=("reader",)),
    "tenant.user.removed": lambda draw, company: {
        "id": "user-" + draw.token(),
        "email": f"former{draw.randrange(100)}@{company.domain}",
    },
    "tenant.user.looked_up": _user,
    "tenant.user.invited": _invite,
    "tenant.membership.revoked": _about_user(workspace=("Tidewater",)),
    "tenant.api_organization_invite.upserted": _invite,
    "tenant.api_organization_invite.deleted": _invite,
    "tenant.chatgpt_workspace_invite.upserted": _invite,
    "tenant.membership.accepted": _about_user(workspace=("Tidewater",)),
    "tenant.membership.declined": _about_user(workspace=("Tidewater",)),
    "tenant.workspace_invite_email_settings.updated": _changed("ws", emails=("all", "none")),
}

WITHOUT_PAYLOAD = frozenset({"login.succeeded", "logout.succeeded"})


def payload_of(event_type: str, draw: Draw, company: Company) -> Payload | None:
    """A plausible payload; None for a type that has none."""
    if event_type in WITHOUT_PAYLOAD:
        return None
    maker = PAYLOADS.get(event_type)
    return maker(draw, company) if maker else {"id": "obj_" + draw.token()}
