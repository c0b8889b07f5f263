"""Names for ids: what the Admin API lists, and what events themselves told, deleted things included.

Statements carry their time, and the newest is believed: a list that was read just now knows more than an event of last
month that is only being read now.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import msgspec

from streamer.model import Actor, Envelope, Project, Target, to_epoch
from streamer.ports import Sighting

MAX_THINGS = 200_000
"""Of one source; about 100 MiB. What was told of longest ago is forgotten first."""
MAX_ID_CHARACTERS = 256
MAX_TEXT_CHARACTERS = 512
MAX_KIND_CHARACTERS = 64
HOUR_S = 3600

Key = tuple[str, str]
"""Kind and id."""

# The kinds that the Admin API lists. Of others only events tell, so that nobody can expect their names.
LISTED_KINDS: tuple[str, ...] = (
    "user",
    "service_account",
    "project",
    "api_key",
    "admin_api_key",
    "group",
    "role",
    "certificate",
    "invite",
    "workload_identity_provider",
)
OTHER_KIND = "other"

_USERS = ("user", "service_account")
_SERVICE_ACCOUNTS = ("service_account", "user")
# Events have more words for things than the lists: a service account's id looks like a user's, an admin key is a key too.
_LOOKED_UP_AS: Mapping[str, tuple[str, ...]] = {
    **{kind: (kind,) for kind in LISTED_KINDS},
    "user": _USERS,
    "service_account": _SERVICE_ACCOUNTS,
    "api_key": ("api_key", "admin_api_key"),
    "admin_api_key": ("admin_api_key", "api_key"),
    "principal": (*_USERS, "group", "principal"),
    "membership": (*_USERS, "membership"),
    "workload_identity_principal": (*_SERVICE_ACCOUNTS, "workload_identity_principal"),
    "resource": ("project", "organization", "resource"),
}
_EXPECTED = frozenset((*LISTED_KINDS, "principal"))


class Known(msgspec.Struct, gc=False):
    """The newest that was said of a thing, and when it was first and last spoken of, in Unix seconds."""

    name: str | None
    email: str | None
    role: str | None
    first_seen: int
    last_seen: int

    @property
    def shown(self) -> str | None:
        return self.name or self.email


class Row(NamedTuple):
    """A thing as it is kept."""

    source: str
    kind: str
    id: str
    name: str | None
    email: str | None
    role: str | None
    first_seen: int
    last_seen: int


class Changes(NamedTuple):
    """What has to be written down. What is forgotten goes before the rows come."""

    forgotten: list[tuple[str, Key]]
    rows: list[Row]

    def __bool__(self) -> bool:
        return bool(self.forgotten or self.rows)


class _Organization:
    """What is known of one source. The dictionary is in the order in which things were last told of, hour by hour."""

    def __init__(self, source: str, max_things: int) -> None:
        self.source, self.max_things = source, max_things
        self.known: dict[Key, Known] = {}
        self.unsaved: set[Key] = set()
        self.forgotten: list[Key] = []
        self.counts = Counter[str]()

    def put(self, key: Key, known: Known) -> None:
        if len(self.known) >= self.max_things:
            for old in list(islice(self.known, max(self.max_things // 100, 1))):
                self._forget(old)
        self.known[key] = known
        self.counts[_counted_as(key[0])] += 1

    def _forget(self, key: Key) -> None:
        del self.known[key]
        self.counts[_counted_as(key[0])] -= 1
        self.unsaved.discard(key)
        self.forgotten.append(key)

    def teach(self, key: Key, name: str | None, email: str | None, role: str | None, at: int) -> Known | None:
        """The thing as it is known now; None where this cannot be kept."""
        known = self.known.get(key)
        if known is None:
            if not _is_sane(key, name, email, role):
                return None
            known = Known(name, email, role, at, at)
            self.put(key, known)
            self.unsaved.add(key)
            return known
        if at < known.last_seen:
            self._fill(key, known, name, email, role, at)
            return known
        if (
            (name and name != known.name) or (email and email != known.email) or (role and role != known.role)
        ) and _is_sane(key, name, email, role):
            known.name, known.email, known.role = name or known.name, email or known.email, role or known.role
            self.unsaved.add(key)
        if at // HOUR_S > known.last_seen // HOUR_S:  # often enough to be written down, and to be kept longer
            self.known[key] = self.known.pop(key)
            self.unsaved.add(key)
        known.last_seen = at
        return known

    def _fill(self, key: Key, known: Known, name: str | None, email: str | None, role: str | None, at: int) -> None:
        """Old news: they fill gaps only."""
        if ((name and not known.name) or (email and not known.email) or (role and not known.role)) and _is_sane(
            key, name, email, role
        ):
            known.name, known.email, known.role = known.name or name, known.email or email, known.role or role
            self.unsaved.add(key)
        if at < known.first_seen:
            known.first_seen = at
            self.unsaved.add(key)

    def find(self, kind: str, identity: str) -> Known | None:
        for one in _LOOKED_UP_AS.get(kind) or (kind,):
            known = self.known.get((one, identity))
            if known is not None and (known.name is not None or known.email is not None):
                return known
        return None


class Directory:
    """An Enricher, and where everything that it knows is put in."""

    def __init__(self, max_things: int = MAX_THINGS) -> None:
        self._max_things = max_things
        self._missing: dict[str, int] = {}
        self._organizations: dict[str, _Organization] = {}

    def _of(self, source: str) -> _Organization:
        found = self._organizations.get(source)
        if found is None:
            found = self._organizations[source] = _Organization(source, self._max_things)
        return found

    # --- what is known -----------------------------------------------------------------------------------------------

    def teach(self, source: str, said: Sighting, at: int) -> None:
        """`at`: the Unix second at which this was so."""
        self._of(source).teach((said.kind, said.id), said.name, said.email, said.role, at)

    def find(self, source: str, kind: str, identity: str) -> Known | None:
        """What is known under this id, `kind` being an event's word or a list's; None without a name."""
        return self._of(source).find(kind, identity)

    def counts(self, source: str) -> Mapping[str, int]:
        """Things by kind; those that only events tell of are `other`."""
        return self._of(source).counts

    def take_missing(self) -> Mapping[str, int]:
        """So many things in events since the last call had no name that was known, by kind (of LISTED_KINDS, or `principal`)."""
        taken, self._missing = self._missing, {}
        return taken

    # --- what is kept ------------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[Row]) -> None:
        """What was written down, the longest unseen first."""
        for row in rows:
            self._of(row.source).put((row.kind, row.id), Known(*row[3:]))

    def take_changes(self, limit: int) -> Changes:
        """At most `limit` rows that are not written down yet. Whoever takes them writes them, or puts them back."""
        changes = Changes([], [])
        for one in self._organizations.values():
            changes.forgotten.extend((one.source, key) for key in one.forgotten)
            one.forgotten.clear()
            while one.unsaved and len(changes.rows) < limit:
                key = one.unsaved.pop()
                changes.rows.append(Row(one.source, *key, *msgspec.structs.astuple(one.known[key])))
        return changes

    def put_back(self, changes: Changes) -> None:
        for source, key in changes.forgotten:
            self._of(source).forgotten.append(key)
        for row in changes.rows:
            one = self._of(row.source)
            if (row.kind, row.id) in one.known:
                one.unsaved.add((row.kind, row.id))

    # --- what is asked -----------------------------------------------------------------------------------------------

    def enrich(self, envelope: Envelope, /) -> None:
        organization = self._organizations.get(envelope.source) or self._of(envelope.source)
        # An event from the future must not be believed longer than one of now.
        time, observed_at = envelope.time, envelope.observed_at
        at = to_epoch(time if time < observed_at else observed_at)
        if envelope.actor is not None:
            self._name_actor(organization, envelope.actor, envelope.labels, at)
        if envelope.project is not None:
            self._name(organization, "project", envelope.project, at)
        for target in envelope.targets:
            self._name(organization, target.type, target, at)

    def _name_actor(self, organization: _Organization, actor: Actor, labels: dict[str, str], at: int) -> None:
        if actor.id is not None:
            kind = "service_account" if actor.type == "service_account" else "user"
            known = None
            if actor.email is not None:
                known = organization.teach((kind, actor.id), None, actor.email, None, at)
            if known is None or known.name is None:
                known = organization.find(kind, actor.id)
            if known is not None:
                actor.name, actor.email = actor.name or known.name, actor.email or known.email
                if known.role is not None:
                    labels["actor_role"] = known.role
            if actor.name is None:
                self._miss(kind)
        if actor.api_key_id is not None:
            key = organization.find("api_key", actor.api_key_id)
            if key is not None and key.name is not None:
                labels["api_key_name"] = key.name
            else:
                self._miss("api_key")

    def _miss(self, kind: str) -> None:
        self._missing[kind] = self._missing.get(kind, 0) + 1

    def _name(self, organization: _Organization, kind: str, thing: Project | Target, at: int) -> None:
        if thing.id is None:
            return
        if thing.name is not None:
            organization.teach((kind, thing.id), thing.name, None, None, at)
            return
        known = organization.find(kind, thing.id)
        if known is not None:
            thing.name = known.shown
        elif kind in _EXPECTED:
            self._miss(kind)


def _counted_as(kind: str) -> str:
    return kind if kind in _LISTED else OTHER_KIND


_LISTED = frozenset(LISTED_KINDS)


def _is_sane(key: Key, *texts: str | None) -> bool:
    kind, identity = key
    return (
        0 < len(kind) <= MAX_KIND_CHARACTERS
        and 0 < len(identity) <= MAX_ID_CHARACTERS
        and any(texts)
        and all(text is None or len(text) <= MAX_TEXT_CHARACTERS for text in texts)
    )
