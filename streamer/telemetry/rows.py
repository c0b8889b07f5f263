"""What `/status` and the status page show, as rows."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from streamer import __version__
from streamer.model import SEVERITIES, Severity

ListingState = Literal["starting", "catching up", "live", "failing", "held"]
SinkState = Literal["starting", "delivering", "idle", "failing", "held"]


@dataclass
class Recheck:
    """What the standing comparison of a listing with the API found last."""

    at: float
    """Unix seconds."""
    missing: int
    """Events that were not in the journal; they are now."""


@dataclass
class ListingStatus:
    """One row of `/status`: a listing of a source."""

    source: str
    listing: str
    state: ListingState = "starting"
    watermark: int = 0
    """Unix seconds; 0: never walked."""
    target: int = 0
    """While catching up: the Unix second that the watermark is heading for."""
    started_from: int = 0
    """While catching up: the watermark at its start."""
    last_success: float = 0.0
    """Unix seconds of the last whole walk; 0: none yet."""
    last_event_at: int = 0
    """The newest `effective_at` seen, in Unix seconds; 0: none yet."""
    quiet: float | None = None
    """Seconds since then."""
    usual_gap: float | None = None
    """Seconds between events at this hour, on average over the last week; None: too few to say."""
    lateness: dict[str, float] | None = None
    """p50, p99 and max of the last events seen live: first seen minus `effective_at`, in seconds."""
    overlap: float = 0.0
    """Seconds that every poll reads again before the watermark."""
    overlap_why: str = ""
    rechecks: dict[str, Recheck] = field(default_factory=dict)
    """By their `window`; those that were done since the start."""
    recheck_due: dict[str, float] = field(default_factory=dict)
    """Unix seconds by which each must be done, by its `window`."""
    recheck_error: str | None = None
    """Why one that is under way does not get on, in a sentence."""
    canary: str | None = None
    """The event type that must show up; None: this listing has no canary."""
    canary_due: float = 0.0
    """Unix seconds by which it must."""
    poll_interval: float = 10.0
    received: int = 0
    late: int = 0
    unverified: bool = False
    """The first walk found nothing: is audit logging enabled?"""
    error: str | None = None
    """Why it is failing or held, in a sentence."""
    since: float = 0.0
    """Unix seconds of the last change of state."""


@dataclass
class SinkStatus:
    """One row of `/status`: a sink."""

    sink: str
    type: str = ""
    state: SinkState = "starting"
    acked: int = 0
    backlog: int = 0
    oldest_at: float | None = None
    """Unix seconds at which the oldest undelivered record was appended."""
    delivered: int = 0
    filtered: int = 0
    retries: int = 0
    dead_letters: int = 0
    last_delivery: float = 0.0
    """Unix seconds; 0: none yet."""
    error: str | None = None
    since: float = 0.0


@dataclass
class DirectoryStatus:
    """One row of `/status`: the names of one source."""

    source: str
    entries: int = 0
    last_success: float = 0.0
    """Unix seconds at which lists were last read; 0: never yet."""
    failed: dict[str, str] = field(default_factory=dict)
    """For each list that could not be read, or not of every project: why, in a sentence."""


@dataclass
class KeyStatus:
    """One row of `/status`: the API key of a source."""

    source: str
    fingerprint: str
    """Of the key in use; tells keys apart and leads back to none."""
    place: int
    """1 or 2: which of the keys that are configured."""
    of: int
    since: float
    """Unix seconds of its first use."""
    expires_at: int | None = None
    """Unix seconds; None: never, or not known (`enrich.directory` and the scope api.management.read tell)."""


@dataclass
class JournalStatus:
    bytes: int = 0
    max_bytes: int = 0
    records: int = 0
    head: int = 0
    full: bool = False
    error: str | None = None
    """Why it could not be opened yet, in a sentence."""


@dataclass
class ConfigurationStatus:
    sources: int = 0
    """So many this process reads; with `shard` perhaps none."""
    taken_at: float = 0.0
    """Unix seconds since which the one in force is in force."""
    refused: list[str] = field(default_factory=list)
    """Why the file as it is now is not taken, a sentence each; empty: it is in force."""
    refused_at: float = 0.0


@dataclass
class StandbyStatus:
    """Whose turn it is."""

    leading: bool = False
    """This process reads and delivers."""
    since: float = 0.0
    """Unix seconds."""
    holder: str = ""
    """Who holds the lease, as far as is known; empty without one."""
    error: str | None = None
    """Why the lease cannot be asked for."""


@dataclass
class Status:
    """What `/status` answers."""

    version: str = __version__
    started_at: float = field(default_factory=time.time)
    listings: dict[tuple[str, str], ListingStatus] = field(default_factory=dict)
    sinks: dict[str, SinkStatus] = field(default_factory=dict)
    directories: dict[str, DirectoryStatus] = field(default_factory=dict)
    keys: dict[str, KeyStatus] = field(default_factory=dict)
    journal: JournalStatus = field(default_factory=JournalStatus)
    standby: StandbyStatus = field(default_factory=StandbyStatus)
    configuration: ConfigurationStatus = field(default_factory=ConfigurationStatus)
    severities: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(SEVERITIES, 0))
    """Events seen since the start."""

    def as_dict(self, now: float) -> dict[str, Any]:
        """`now`: Unix seconds."""
        return {
            "version": self.version,
            "started_at": self.started_at,
            "now": now,
            "listings": [asdict(row) for row in self.listings.values()],
            "sinks": [asdict(row) for row in self.sinks.values()],
            "directories": [asdict(row) for row in self.directories.values()],
            "keys": [asdict(row) for row in self.keys.values()],
            "journal": asdict(self.journal),
            "standby": asdict(self.standby),
            "configuration": asdict(self.configuration),
            "severities": dict(self.severities),
        }
