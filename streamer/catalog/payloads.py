"""The documented payloads: the object under the key that is named like the event's type.

Field for field those of the official SDK; a field it does not have says where it was seen. Every field may be missing or
null. `data` is what a creation was given, `changes_requested` what an update was asked for; neither is the resulting state.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from streamer.catalog.frame import Part


def kind_of_resource(resource_type: str | None) -> str | None:
    """`api.project` names a project: upstream puts the product in front."""
    return resource_type.rpartition(".")[2] or None if resource_type else None


class Open(msgspec.Struct, gc=False):
    """A payload that nobody documents: any JSON. Its targets are read from these, where they are there; all but the first two
    are guesses by the words that documented payloads use."""

    id: str | None = None
    name: str | None = None
    group_id: str | None = None
    group_name: str | None = None
    principal_id: str | None = None
    principal_type: str | None = None
    resource_id: str | None = None
    resource_type: str | None = None
    role_id: str | None = None
    role_name: str | None = None
    user_id: str | None = None

    @property
    def resource_kind(self) -> str | None:
        return kind_of_resource(self.resource_type)


class Identified(Part):
    id: str | None = None


class Named(Part):
    id: str | None = None
    name: str | None = None


class Failure(Part):
    """A login or logout that failed."""

    error_code: str | None = None
    error_message: str | None = None


class ApiKeyData(Part):
    scopes: list[str] | None = None


class ApiKeyCreated(Part):
    id: str | None = None
    data: ApiKeyData | None = None


class ApiKeyChanges(Part):
    expires_in_seconds: int | None = None
    """Counted from the request."""
    scopes: list[str] | None = None


class ApiKeyUpdated(Part):
    id: str | None = None
    changes_requested: ApiKeyChanges | None = None
    data: ApiKeyData | None = None
    """Not in the SDK: the official example has the scopes here."""


class CertificateDeleted(Part):
    id: str | None = None
    certificate: str | None = None
    """PEM."""
    name: str | None = None


class Certificates(Part):
    certificates: list[Named] | None = None


class CheckpointPermissionData(Part):
    fine_tuned_model_checkpoint: str | None = None
    """The checkpoint's id."""
    project_id: str | None = None
    """Who may use it."""


class CheckpointPermissionCreated(Part):
    id: str | None = None
    data: CheckpointPermissionData | None = None


class OpenCreated(Part):
    """A creation whose configuration has no documented fields."""

    id: str | None = None
    data: Any = None


class OpenUpdated(Part):
    """A change whose fields are not documented."""

    id: str | None = None
    changes_requested: Any = None


class AwsStorage(Part, tag_field="type", tag="aws"):
    account_id: str | None = None
    bucket: str | None = None
    external_id: str | None = None
    region: str | None = None
    role_arn: str | None = None


class AzureStorage(Part, tag_field="type", tag="azure"):
    account_name: str | None = None
    container: str | None = None
    region: str | None = None
    resource_group: str | None = None
    subscription_id: str | None = None
    tenant_id: str | None = None


class GcpStorage(Part, tag_field="type", tag="gcp"):
    audience: str | None = None
    bucket: str | None = None
    region: str | None = None
    workload_identity_pool_id: str | None = None
    workload_identity_project_number: str | None = None
    workload_identity_provider_id: str | None = None


class OciStorage(Part, tag_field="type", tag="oci"):
    bucket: str | None = None
    region: str | None = None
    tenancy_ocid: str | None = None


class ExternalStorageData(Part):
    geography: str | None = None
    """Upstream's own geography, derived from the region."""
    provider: AwsStorage | AzureStorage | GcpStorage | OciStorage | None = None

    @property
    def bucket(self) -> str | None:
        """The bucket's or container's name."""
        match self.provider:
            case None:
                return None
            case AzureStorage(container=container):
                return container
            case other:
                return other.bucket


class ExternalStorageRegistered(Part):
    id: str | None = None
    data: ExternalStorageData | None = None


class GroupDetails(Part):
    group_name: str | None = None


class GroupCreated(Part):
    id: str | None = None
    data: GroupDetails | None = None


class GroupUpdated(Part):
    id: str | None = None
    changes_requested: GroupDetails | None = None


class InviteData(Part):
    email: str | None = None
    role: str | None = None
    """`owner` or `member`."""


class InviteSent(Part):
    id: str | None = None
    data: InviteData | None = None


class IpAllowlist(Part):
    id: str | None = None
    allowed_ips: list[str] | None = None
    """Addresses and CIDR ranges: all of them, not the change."""
    name: str | None = None


class IpAllowlistUpdated(Part):
    id: str | None = None
    allowed_ips: list[str] | None = None
    """Addresses and CIDR ranges: the new set."""


class IpAllowlistConfigs(Part):
    configs: list[Named] | None = None


class OrganizationChanges(Part):
    api_call_logging: str | None = None
    """`disabled`, `enabled_per_call`, `enabled_for_all_projects`, `enabled_for_selected_projects`."""
    api_call_logging_project_ids: str | None = None
    description: str | None = None
    name: str | None = None
    threads_ui_visibility: str | None = None
    """`ANY_ROLE`, `OWNERS`, `NONE`."""
    title: str | None = None
    usage_dashboard_visibility: str | None = None
    """`ANY_ROLE`, `OWNERS`."""

    @property
    def shown_name(self) -> str | None:
        return self.title or self.name


class OrganizationUpdated(Part):
    id: str | None = None
    changes_requested: OrganizationChanges | None = None


class ProjectData(Part):
    name: str | None = None
    title: str | None = None
    """What the dashboard shows."""

    @property
    def shown_name(self) -> str | None:
        return self.title or self.name


class ProjectCreated(Part):
    id: str | None = None
    data: ProjectData | None = None


class ProjectChanges(Part):
    title: str | None = None


class ProjectUpdated(Part):
    id: str | None = None
    changes_requested: ProjectChanges | None = None


class RateLimits(Part):
    """Which of them there are depends on the model."""

    batch_1_day_max_input_tokens: int | None = None
    max_audio_megabytes_per_1_minute: int | None = None
    max_images_per_1_minute: int | None = None
    max_requests_per_1_day: int | None = None
    max_requests_per_1_minute: int | None = None
    max_tokens_per_1_minute: int | None = None


class RateLimitUpdated(Part):
    id: str | None = None
    changes_requested: RateLimits | None = None


class RoleCreated(Part):
    id: str | None = None
    permissions: list[str] | None = None
    resource_id: str | None = None
    resource_type: str | None = None
    role_name: str | None = None

    @property
    def resource_kind(self) -> str | None:
        return kind_of_resource(self.resource_type)


class RoleChanges(Part):
    description: str | None = None
    metadata: Any = None
    permissions_added: list[str] | None = None
    permissions_removed: list[str] | None = None
    resource_id: str | None = None
    resource_type: str | None = None
    role_name: str | None = None

    @property
    def resource_kind(self) -> str | None:
        return kind_of_resource(self.resource_type)


class RoleUpdated(Part):
    id: str | None = None
    changes_requested: RoleChanges | None = None


class AssignedRole(NamedTuple):
    id: str | None
    name: str | None


@lru_cache(maxsize=64)  # a row asks twice, for the id and for the name
def assigned_role(assignment_id: str | None) -> AssignedRole:
    """The role in a composite `role_assignment_<role id>__<resource type>__<resource id>_<principal id>`.

    The ids of built-in roles hold their names: `role-api-organization-owner` is `owner` of an `api-organization`.
    """
    prefix = "role_assignment_"
    if assignment_id is None or not assignment_id.startswith(prefix):
        return AssignedRole(None, None)
    role_id, _, rest = assignment_id.removeprefix(prefix).partition("__")
    if not role_id or not rest:
        return AssignedRole(None, None)
    built_in = f"role-{rest.partition('__')[0]}-"
    return AssignedRole(role_id, role_id.removeprefix(built_in) if role_id.startswith(built_in) else None)


class RoleAssignment(Part):
    id: str | None = None
    """Composite; see `assigned_role`."""
    principal_id: str | None = None
    principal_type: str | None = None
    """`user` or `group`, so the SDK; a service account is possible."""
    resource_id: str | None = None
    resource_type: str | None = None
    """`api.organization`, `api.project`."""

    @property
    def role_id(self) -> str | None:
        return assigned_role(self.id).id

    @property
    def role_name(self) -> str | None:
        return assigned_role(self.id).name

    @property
    def resource_kind(self) -> str | None:
        return kind_of_resource(self.resource_type)


class RoleBinding(Part):
    """Both `id` and `resource_id` are the resource; the role is `role_id`."""

    id: str | None = None
    """`<workspace id>__<connector id>` for a connector of a ChatGPT workspace."""
    connector_id: str | None = None
    connector_name: str | None = None
    """Its id, where the name could not be found."""
    enabled: bool | None = None
    """Of the connector, for this role."""
    permissions: list[str] | None = None
    """Granted, or left after an unbinding."""
    resource_id: str | None = None
    resource_type: str | None = None
    role_id: str | None = None
    source: str | None = None
    """`role_toggle`, `role_connector_update`, `role_delete`, `workspace_permissions`, `connector_publish`."""
    workspace_id: str | None = None

    @property
    def resource(self) -> str | None:
        return self.resource_id or self.id

    @property
    def resource_kind(self) -> str | None:
        return kind_of_resource(self.resource_type)


class RoleHolder(Part):
    role: str | None = None
    """`owner` or `member`."""


class HolderCreated(Part):
    """A user or service account that came into a project or organization."""

    id: str | None = None
    data: RoleHolder | None = None


class HolderUpdated(Part):
    """A user or service account whose role was to change."""

    id: str | None = None
    """The user or the service account; for users the SDK calls it the project's id, surely a slip."""
    changes_requested: RoleHolder | None = None


class MappingCreated(Part):
    id: str | None = None
    data: Any = None
    identity_provider_id: str | None = None


class MappingUpdated(Part):
    id: str | None = None
    changes_requested: Any = None
    identity_provider_id: str | None = None


class MappingDeleted(Part):
    id: str | None = None
    identity_provider_id: str | None = None
    project_id: str | None = None
    service_account_id: str | None = None
