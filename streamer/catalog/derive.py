"""From the few things a row states to everything that is known about a type. All rules; the rows are in `rows.py`.

Figures: OCSF 1.8.0 (and where 1.9.0 has moved things), ECS 9.4.0.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from streamer.catalog.payloads import Open
from streamer.model import Listing, Outcome, Severity

Path = tuple[str, ...]
"""Field names from the payload downwards."""

Payload = type[msgspec.Struct]

Area = Literal["admin", "authentication", "configuration", "federation", "group", "user"]
"""What kind of thing a type is about; decides the ECS categories and the first of its types."""

Condition = Literal["group_principal", "no_role", "user_target"]
"""What a payload can say that moves an event to another OCSF class: the principal is a group; no role is given; a user is
what was acted on."""


class TargetAt(msgspec.Struct, frozen=True):
    """Where a payload names something that was acted on."""

    type: str
    """What it is, unless `type_at` says otherwise."""
    id: Path = ("id",)
    name: Path | None = None
    type_at: Path | None = None
    each: str | None = None
    """A list in the payload: one target for each item; the paths then start at the item."""


class Ocsf(msgspec.Struct, frozen=True):
    class_uid: int
    class_name: str
    activity_id: int
    activity_name: str
    """Upstream's own verb where the activity is 99, Other."""

    @property
    def type_uid(self) -> int:
        return self.class_uid * 100 + self.activity_id


class Ecs(msgspec.Struct, frozen=True):
    category: tuple[str, ...]
    type: tuple[str, ...]
    action: str
    """The type with hyphens for dots, as Elastic's own integration has it."""


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known about a type of event."""

    type: str
    since: str | None
    """The first version of the official Python SDK that has it; None: no version that we know of."""
    reference: bool
    """One of the 59 types of SDK 2.42.0, which OpenAI's reference lists."""
    documented: bool
    """The fields of its payload are known."""
    listing: Listing
    family: str
    action: str
    title: str
    """A few words for a human: `API key created`."""
    noun: str
    """What it is about: `api_key`."""
    phrase: str
    """What the actor did, to go on with after a name: `created the API key {target}`; see `row`."""
    severity: Severity
    """As it stands, before any rule has looked at the event."""
    outcome: Outcome
    payload: Payload
    targets: tuple[TargetAt, ...]
    ocsf: Ocsf
    ocsf_when: Mapping[Condition, Ocsf]
    ocsf_1_9: Ocsf
    """The same under OCSF 1.9."""
    ocsf_1_9_when: Mapping[Condition, Ocsf]
    entity: tuple[int, str] | None
    """OCSF `managed_entity`: type_id and type; None outside of class 3004."""
    ecs: Ecs
    known: bool
    """False for what only the words of its name tell of."""


class SeverityNumbers(msgspec.Struct, frozen=True):
    """One severity on the scales of the formats."""

    ocsf: int
    cef: int
    leef: int
    syslog: int
    otlp: int


SEVERITY_NUMBERS: Mapping[Severity, SeverityNumbers] = MappingProxyType(
    {
        "informational": SeverityNumbers(ocsf=1, cef=1, leef=1, syslog=6, otlp=9),
        "low": SeverityNumbers(ocsf=2, cef=3, leef=3, syslog=5, otlp=10),
        "medium": SeverityNumbers(ocsf=3, cef=5, leef=5, syslog=4, otlp=13),
        "high": SeverityNumbers(ocsf=4, cef=8, leef=8, syslog=3, otlp=17),
        "critical": SeverityNumbers(ocsf=5, cef=10, leef=10, syslog=2, otlp=21),
    }
)
"""CEF and LEEF 0 to 10, syslog of RFC 5424 (0 is worst), OpenTelemetry severity numbers."""

OCSF_STATUS: Mapping[Outcome, int] = MappingProxyType({"unknown": 0, "success": 1, "failure": 2})

OCSF_CLASSES: Mapping[int, str] = MappingProxyType(
    {
        3001: "Account Change",
        3002: "Authentication",
        3004: "Entity Management",
        3005: "User Access Management",
        3006: "Group Management",
    }
)
OCSF_OTHER = 99

_ACTIVITIES: Mapping[int, Mapping[int, str]] = {
    3001: {1: "Create", 6: "Delete", 7: "Attach Policy", 8: "Detach Policy"},
    3002: {1: "Logon", 2: "Logoff"},
    3004: {
        1: "Create",
        2: "Read",
        3: "Update",
        4: "Delete",
        5: "Move",
        6: "Enroll",
        7: "Unenroll",
        8: "Enable",
        9: "Disable",
        10: "Activate",
        11: "Deactivate",
    },
    3005: {1: "Assign Privileges", 2: "Revoke Privileges"},
    3006: {
        1: "Assign Privileges",
        2: "Revoke Privileges",
        3: "Add User",
        4: "Remove User",
        5: "Delete",
        6: "Create",
    },
}

_CLASSES_1_9 = {**OCSF_CLASSES, 3007: "User Management", 3008: "Role Management"}
_ACTIVITIES_1_9: Mapping[int, Mapping[int, str]] = {
    **_ACTIVITIES,
    3006: {**_ACTIVITIES[3006], 9: "Update", 12: "Assign Roles", 13: "Remove Roles"},
    3007: {
        1: "Create",
        2: "Update",
        3: "Delete",
        10: "Attach Policies",
        11: "Detach Policies",
        15: "Remove Privileges",
        16: "Assign Roles",
        17: "Remove Roles",
        19: "Remove Programmatic Credentials",
    },
    3008: {1: "Create", 2: "Update", 3: "Delete", 6: "Assign Resources", 7: "Remove Resources"},
}

_ENTITY_IDS = {"user": 2, "organization": 4, "policy": 5, "ip_allowlist": 7}
_ENTITY_NAMES = {"ip_allowlist": "Network Zone"}

_VERBS = {
    # the last word of a type: OCSF activity of class 3004, ECS type
    "accepted": (OCSF_OTHER, "change"),
    "activated": (10, "change"),
    "added": (OCSF_OTHER, "creation"),
    "archived": (9, "change"),
    "attached": (3, "change"),
    "bound": (3, "change"),
    "created": (1, "creation"),
    "deactivated": (11, "change"),
    "declined": (OCSF_OTHER, "change"),
    "deleted": (4, "deletion"),
    "detached": (3, "change"),
    "disabled": (9, "change"),
    "enabled": (8, "change"),
    "invited": (1, "creation"),
    "migrated": (5, "change"),
    "registered": (6, "creation"),
    "removed": (4, "deletion"),
    "revoked": (9, "change"),
    "sent": (1, "creation"),
    "unbound": (3, "change"),
    "updated": (3, "change"),
    "upserted": (3, "change"),
}
_MEDIUM_VERBS = frozenset({"deactivated", "deleted", "disabled", "removed", "revoked"})
_OUTCOMES: Mapping[str, Outcome] = {
    "failed": "failure",
    "requested": "unknown",
    "started": "unknown",
    "submitted": "unknown",
}

_ECS_AREAS: Mapping[Area, tuple[tuple[str, ...], str | None]] = {
    "admin": (("iam",), "admin"),
    "authentication": (("authentication",), None),
    "configuration": (("configuration",), None),
    "federation": (("iam", "configuration"), "admin"),
    "group": (("iam",), "group"),
    "user": (("iam",), "user"),
}

# Where 1.9 has moved what 1.8 puts into Account Change, User Access and Group Management.
_MOVED_IN_1_9 = {
    (3001, 1): (3007, 1),
    (3001, 6): (3007, 3),
    (3001, 7): (3007, 10),
    (3001, 8): (3007, 11),
    (3001, 99): (3007, 2),
    (3005, 1): (3007, 16),
    (3005, 2): (3007, 17),
    (3006, 1): (3006, 12),
    (3006, 2): (3006, 13),
    (3006, 99): (3006, 9),
}
_ROLES_IN_1_9 = {1: 1, 3: 2, 4: 3}

_WORDS = {
    "api": "API",
    "chatgpt": "ChatGPT",
    "entra": "Entra",
    "ip": "IP",
    "microsoft": "Microsoft",
    "scim": "SCIM",
    "sso": "SSO",
}

_REFERENCE = (2, 42, 0)


def family_and_action(name: str) -> tuple[str, str]:
    """`role.assignment.created`: role, assignment.created; tenant types carry two words in front: tenant.group, member.added."""
    head, _, rest = name.partition(".")
    if head == "tenant" and "." in rest:
        second, _, rest = rest.partition(".")
        head = f"tenant.{second}"
    return head or name, rest or name


def noun_of(name: str) -> str:
    """What a type is about, as one word: `checkpoint.permission.created`: checkpoint_permission."""
    return "_".join(name.removeprefix("tenant.").split(".")[:-1]) or name


def verb_of(name: str) -> str:
    """`bound` of `role.bound_to_resource`."""
    return name.rpartition(".")[2].partition("_")[0]


def title_of(name: str) -> str:
    plain = name.removeprefix("tenant.")
    words = [_WORDS.get(word, word) for word in re.split(r"[._]+", plain) if word]
    text = " ".join(words) or name
    text = text[:1].upper() + text[1:]
    return text if plain == name else f"Tenant: {text}"


def phrase_of(name: str) -> str:
    """`tenant.user.looked_up`: looked up the tenant's user {target}."""
    plain = name.removeprefix("tenant.")
    things, _, verb = plain.rpartition(".")
    words = " ".join(_WORDS.get(word, word) for word in re.split(r"[._]+", things) if word)
    owned = words if plain == name else f"tenant's {words}"
    return f"{verb.replace('_', ' ')} the {owned}[ {{target}}]"


def label_of(noun: str) -> str:
    """`scim_directory`: SCIM Directory."""
    return " ".join(_WORDS.get(word, word[:1].upper() + word[1:]) for word in noun.split("_") if word) or noun


def ocsf_of(name: str, stated: str | None) -> Ocsf:
    """`stated`: `class:activity`, and after a space a name for activity 99; None: what the verb says, in class 3004."""
    numbers, _, activity_name = (stated or f"3004:{_VERBS.get(verb_of(name), (OCSF_OTHER, ''))[0]}").partition(" ")
    class_uid, activity_id = map(int, numbers.split(":"))
    if activity_id == OCSF_OTHER:
        activity_name = activity_name or label_of(name.rpartition(".")[2]) or name
    else:
        activity_name = _ACTIVITIES[class_uid][activity_id]
    return Ocsf(class_uid, OCSF_CLASSES[class_uid], activity_id, activity_name)


def ocsf_1_9_of(ocsf: Ocsf, noun: str | None = None, stated: str | None = None) -> Ocsf:
    """`noun`: what the type is about; None for a variant, which follows its class alone."""
    here = ocsf.class_uid, ocsf.activity_id
    if stated:
        class_uid, activity_id = map(int, stated.split(":"))
    elif noun == "role" and ocsf.activity_id in _ROLES_IN_1_9:
        class_uid, activity_id = 3008, _ROLES_IN_1_9[ocsf.activity_id]
    else:
        class_uid, activity_id = _MOVED_IN_1_9.get(here, here)
    name = ocsf.activity_name if activity_id == OCSF_OTHER else _ACTIVITIES_1_9[class_uid][activity_id]
    return Ocsf(class_uid, _CLASSES_1_9[class_uid], activity_id, name)


def ecs_of(name: str, area: Area, stated: str | None) -> Ecs:
    """`stated`: the second ECS type, where it is not what the verb says."""
    category, subject = _ECS_AREAS[area]
    activity = stated or _VERBS.get(verb_of(name), (OCSF_OTHER, "info"))[1]
    # ECS has no administration that only informs.
    types = (activity,) if subject is None or (subject == "admin" and activity == "info") else (subject, activity)
    return Ecs(category, types, name.replace(".", "-"))


def _listing_of(name: str) -> Listing:
    return "tenant" if name.startswith("tenant.") else "organization"


def row(
    name: str,
    since: str | None,
    severity: Severity,
    area: Area,
    payload: Payload = Open,
    *,
    noun: str | None = None,
    name_at: str | None = None,
    targets: Iterable[TargetAt] | None = None,
    listing: Listing | None = None,
    ocsf: str | None = None,
    ocsf_when: Mapping[Condition, str] | None = None,
    ocsf_1_9: str | None = None,
    ecs: str | None = None,
    phrase: str | None = None,
) -> EventType:
    """One type. What is not stated follows from its name.

    `noun`: what it is about; `name_at`: where the payload names that, if not under `name`; `targets`: where there is more to
    it than one thing with an `id`; `ocsf`, `ocsf_1_9`: `class:activity`; `ecs`: the activity among its ECS types;
    `phrase`: braces hold the type of a target, or `target`, `principal`, `resource`, `error`, `type`; what stands in brackets is left out
    where its braces find nothing.
    """
    family, action = family_and_action(name)
    noun = noun or noun_of(name)
    event = ocsf_of(name, ocsf)
    variants = {when: ocsf_of(name, text) for when, text in (ocsf_when or {}).items()}
    return EventType(
        type=name,
        since=since,
        reference=since is not None and tuple(map(int, since.split("."))) <= _REFERENCE,
        documented=payload is not Open,
        listing=listing or _listing_of(name),
        family=family,
        action=action,
        title=title_of(name),
        noun=noun,
        phrase=phrase or phrase_of(name),
        severity=severity,
        outcome=_OUTCOMES.get(name.rpartition(".")[2], "success"),
        payload=payload,
        targets=tuple(targets) if targets is not None else (target(noun, name=name_at or _name_in(payload)),),
        ocsf=event,
        ocsf_when=MappingProxyType(variants),
        ocsf_1_9=ocsf_1_9_of(event, noun, ocsf_1_9),
        ocsf_1_9_when=MappingProxyType({when: ocsf_1_9_of(variant) for when, variant in variants.items()}),
        entity=_entity_of(event, noun),
        ecs=ecs_of(name, area, ecs),
        known=since is not None,
    )


def target(
    noun: str, at: str = "id", name: str | None = None, *, type_at: str | None = None, each: str | None = None
) -> TargetAt:
    """`at`, `name`, `type_at`: dotted paths."""
    return TargetAt(noun, _path(at), _path(name) if name else None, _path(type_at) if type_at else None, each)


def unknown(name: str) -> EventType:
    """A type that no SDK has shown us yet, by the words of its name."""
    severity: Severity = "medium" if verb_of(name) in _MEDIUM_VERBS else "low"
    return row(name, None, severity, "configuration", name_at="name", phrase="did {type}[ to {target}]")


def _path(dotted: str) -> Path:
    return tuple(dotted.split("."))


def _name_in(payload: Payload) -> str | None:
    return "name" if "name" in payload.__struct_fields__ else None


def _entity_of(ocsf: Ocsf, noun: str) -> tuple[int, str] | None:
    if ocsf.class_uid != 3004:
        return None
    return _ENTITY_IDS.get(noun, OCSF_OTHER), _ENTITY_NAMES.get(noun) or label_of(noun)
