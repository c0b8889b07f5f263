"""What every event has besides its payload: facts, actor, project.

The fields are those of the official SDK and, marked "live", what the API has been seen to send beyond it. All but the first
three may be missing or null. Unknown fields are refused, so that the decoder learns of them.
"""

import msgspec


class Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A JSON object all of whose fields are known."""


class User(Part):
    id: str | None = None
    email: str | None = None


class ServiceAccount(Part):
    id: str | None = None


class AddressDetails(Part):
    """Live only. Where upstream believes an address to be; its numbers come as strings."""

    country: str | None = None
    """ISO 3166-1 alpha-2."""
    city: str | None = None
    region: str | None = None
    region_code: str | None = None
    asn: str | int | None = None
    """Autonomous system number, without the letters AS."""
    latitude: str | float | None = None
    """Degrees, north is positive."""
    longitude: str | float | None = None
    """Degrees, east is positive."""


class Session(Part):
    ip_address: str | None = None
    user: User | None = None
    """Missing on some failed logins."""
    user_agent: str | None = None
    """Live only."""
    ja3: str | None = None
    """Live only: a fingerprint of the TLS client."""
    ja4: str | None = None
    """Live only: its successor."""
    ip_address_details: AddressDetails | None = None


class ApiKey(Part):
    id: str | None = None
    type: str | None = None
    """`user` or `service_account`; others have been seen."""
    user: User | None = None
    service_account: ServiceAccount | None = None


class Actor(Part):
    type: str | None = None
    """`session` or `api_key`; `user` has been seen, and no type at all."""
    session: Session | None = None
    api_key: ApiKey | None = None
    user: User | None = None
    """Live only, with the type `user`."""


class Project(Part):
    id: str | None = None
    name: str | None = None


class Frame(msgspec.Struct, gc=False):
    """An event without its payload, whose key is the event's type."""

    id: str
    type: str
    effective_at: int
    """Unix seconds."""
    object: str | None = None
    """Live only: `organization.audit_log`."""
    actor: Actor | None = None
    project: Project | None = None
    """Missing or null where the action was not scoped to one; admin keys act in the default project."""


# --- the same, read in parts -------------------------------------------------------------------------------------------

NULL = msgspec.Raw(b"null")


class Facts(msgspec.Struct, gc=False):
    """What every event must have."""

    id: str
    type: str
    effective_at: int


class Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A frame without a field too many; actor and payload are read by themselves."""

    id: str
    type: str
    effective_at: int
    object: str | None = None
    actor: msgspec.Raw = NULL
    project: Project | None = None
    details: msgspec.Raw = NULL
    """Where the documentation mentions a payload, too."""
