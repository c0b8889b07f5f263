"""What the operator sees: every log line and its metrics are made here, by one method each, from a closed list of names.

Never a payload, never a secret. The same methods keep the rows that `/status` and the status page show.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer import __version__
from streamer.model import SEVERITIES, Listing, Severity, SinkName, SourceName, from_epoch

Metric = Literal[
    "streamer_build_info",
    "streamer_events_received_total",
    "streamer_events_late_total",
    "streamer_event_lateness_seconds",
    "streamer_source_watermark_seconds",
    "streamer_source_last_success_seconds",
    "streamer_source_quiet_seconds",
    "streamer_source_usual_quiet_seconds",
    "streamer_source_canary_due_seconds",
    "streamer_source_overlap_seconds",
    "streamer_reconcile_missing",
    "streamer_reconcile_last_success_seconds",
    "streamer_source_held",
    "streamer_source_unverified",
    "streamer_source_clock_skew_seconds",
    "streamer_api_requests_total",
    "streamer_api_request_seconds",
    "streamer_api_anomalies_total",
    "streamer_unknown_types_total",
    "streamer_unknown_fields_total",
    "streamer_sink_delivered_total",
    "streamer_sink_filtered_total",
    "streamer_sink_backlog_events",
    "streamer_sink_oldest_undelivered_seconds",
    "streamer_sink_held",
    "streamer_sink_retries_total",
    "streamer_sink_write_seconds",
    "streamer_sink_set_aside_total",
    "streamer_dead_letters_total",
    "streamer_journal_bytes",
    "streamer_journal_max_bytes",
    "streamer_journal_records",
    "streamer_journal_full",
    "streamer_journal_pruned_total",
    "streamer_directory_entries",
    "streamer_directory_last_success_seconds",
    "streamer_directory_failed",
    "streamer_directory_unsaved",
    "streamer_names_missing_total",
    "streamer_geoip_built_seconds",
]
METRICS: tuple[Metric, ...] = get_args(Metric)

ListingState = Literal["starting", "catching up", "live", "failing", "held"]
SinkState = Literal["starting", "delivering", "idle", "failing", "held"]

SEEN_LIVE = 1000
"""So many of the last events make the quantiles of `/status`."""
MAX_UNKNOWN_TYPE_LABELS = 200
"""More distinct unknown types than that are counted under `other`."""


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
    """By their `window`."""
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
class JournalStatus:
    bytes: int = 0
    max_bytes: int = 0
    records: int = 0
    head: int = 0
    full: bool = False


@dataclass
class Status:
    """What `/status` answers."""

    version: str = __version__
    started_at: float = field(default_factory=time.time)
    listings: dict[tuple[str, str], ListingStatus] = field(default_factory=dict)
    sinks: dict[str, SinkStatus] = field(default_factory=dict)
    directories: dict[str, DirectoryStatus] = field(default_factory=dict)
    journal: JournalStatus = field(default_factory=JournalStatus)
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
            "journal": asdict(self.journal),
            "severities": dict(self.severities),
        }


def _time(seconds: int) -> str:
    return f"{from_epoch(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _told(error: str | None) -> str | None:
    """A sentence without the ids of its request: what changes at every try is no change of state."""
    return error and re.sub(r"\((our )?request [^)]*\)", "", error)


class Telemetry:
    """Counts, rows and log lines. Has its own registry, so that two daemons in one process do not mix."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.log: structlog.types.FilteringBoundLogger = structlog.get_logger()
        self.registry = CollectorRegistry()
        self.status = Status(started_at=clock())
        self._unknown_types: set[str] = set()
        self._directory_failing = self._geoip_failing = False
        self.recent_failures: deque[str] = deque(maxlen=20)
        self._define()

    def _define(self) -> None:
        def counter(name: Metric, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: Metric, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        build = gauge("streamer_build_info", "Always 1; the version is a label", "version")
        build.labels(__version__).set(1)
        at = ("source", "listing")
        self._received = counter("streamer_events_received_total", "Events appended to the journal", *at)
        self._late = counter(
            "streamer_events_late_total", "Events found by a recheck, after their time was walked", *at
        )
        self._lateness = Histogram(
            "streamer_event_lateness_seconds",
            "First seen minus effective_at, for events seen while live",
            at,
            buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 172800),
            registry=self.registry,
        )
        self._quiet = gauge("streamer_source_quiet_seconds", "Time since the newest event", *at)
        self._usual_gap = gauge(
            "streamer_source_usual_quiet_seconds",
            "Time between events at this hour, on average over the last week",
            *at,
        )
        self._canary_due = gauge(
            "streamer_source_canary_due_seconds", "Unix time by which the canary must show up", *at
        )
        self._overlap = gauge(
            "streamer_source_overlap_seconds", "What every poll reads again before the watermark", *at
        )
        self._missing = gauge(
            "streamer_reconcile_missing",
            "Events that the last recheck of this window found upstream and not in the journal",
            *at,
            "window",
        )
        self._rechecked = gauge(
            "streamer_reconcile_last_success_seconds", "Unix time of the last whole recheck", *at, "window"
        )
        self._seen_live: dict[tuple[str, str], deque[float]] = {}
        self._watermark = gauge("streamer_source_watermark_seconds", "Everything before this Unix time is walked", *at)
        self._last_success = gauge("streamer_source_last_success_seconds", "Unix time of the last whole walk", *at)
        self._source_held = gauge("streamer_source_held", "1 while an operator has to act on this listing", *at)
        self._unverified = gauge(
            "streamer_source_unverified", "1 while no event has shown that audit logging is enabled", *at
        )
        self._skew = gauge("streamer_source_clock_skew_seconds", "The upstream's clock minus ours", "source")
        self._requests = counter(
            "streamer_api_requests_total", "Requests by status; `error`: no answer", "source", "status"
        )
        self._request_seconds = Histogram(
            "streamer_api_request_seconds",
            "Duration of a request to the upstream API",
            ("source",),
            registry=self.registry,
        )
        self._anomalies = counter(
            "streamer_api_anomalies_total", "Answers that contradict the API's contract", "source", "kind"
        )
        self._unknown_type = counter(
            "streamer_unknown_types_total", "Events whose type the catalogue does not know", "type"
        )
        self._unknown_field = counter(
            "streamer_unknown_fields_total", "Events with fields the catalogue does not know", "type"
        )
        self._delivered = counter("streamer_sink_delivered_total", "Records acknowledged by the sink", "sink")
        self._filtered = counter("streamer_sink_filtered_total", "Records that the sink's `where` leaves out", "sink")
        self._backlog = gauge("streamer_sink_backlog_events", "Records not acknowledged yet", "sink")
        self._oldest = gauge(
            "streamer_sink_oldest_undelivered_seconds", "Age of the oldest undelivered record; 0: none", "sink"
        )
        self._sink_held = gauge("streamer_sink_held", "1 while an operator has to act on this sink", "sink")
        self._retries = counter("streamer_sink_retries_total", "Writes that have to be tried again", "sink")
        self._write_seconds = Histogram(
            "streamer_sink_write_seconds", "Duration of a write that succeeded", ("sink",), registry=self.registry
        )
        self._set_aside = counter(
            "streamer_sink_set_aside_total", "Records that the sink took and did not store as asked", "sink"
        )
        self._dead = counter("streamer_dead_letters_total", "Records that the sink can never take", "sink")
        self._journal_bytes = gauge("streamer_journal_bytes", "Live data in the journal")
        self._journal_max = gauge("streamer_journal_max_bytes", "journal.max_size")
        self._journal_records = gauge("streamer_journal_records", "Records in the journal")
        self._waiting_for_room: set[tuple[str, str]] = set()
        self._journal_full = gauge("streamer_journal_full", "1 while intake waits for room in the journal")
        self._pruned = counter("streamer_journal_pruned_total", "Records deleted after every sink had them")
        self._names = gauge("streamer_directory_entries", "Things that the directory knows", "source", "kind")
        self._names_read = gauge(
            "streamer_directory_last_success_seconds", "Unix time at which names were last read", "source"
        )
        self._names_failed = gauge(
            "streamer_directory_failed",
            "Times that this list could not be read in the last load: 1, or so many projects",
            "source",
            "list",
        )
        self._names_unsaved = gauge("streamer_directory_unsaved", "1 while names cannot be written to the state folder")
        self._names_missing = counter(
            "streamer_names_missing_total", "Things in events whose name was not known in time", "kind"
        )
        self._geoip_built = gauge("streamer_geoip_built_seconds", "Unix time at which the geography file was built")

    # --- listings ----------------------------------------------------------------------------------------------------

    def listing_opened(self, source: SourceName, listing: Listing, poll_interval: float) -> ListingStatus:
        row = ListingStatus(source, listing, poll_interval=poll_interval, since=self.clock())
        self.status.listings[(source, listing)] = row
        self._source_held.labels(source, listing).set(0)
        self._unverified.labels(source, listing).set(0)
        self._received.labels(source, listing)
        self._late.labels(source, listing)
        return row

    def _listing_state(self, row: ListingStatus, state: ListingState, error: str | None) -> bool:
        """True when the state changed: then, and only then, a line is logged."""
        changed = row.state != state or (state == "held" and _told(row.error) != _told(error))
        if row.state != state:
            row.since = self.clock()
        row.state, row.error = state, error
        self._source_held.labels(row.source, row.listing).set(state == "held")
        return changed

    def listing_catching_up(self, row: ListingStatus, target: int) -> None:
        row.target, row.started_from = target, row.watermark
        if self._listing_state(row, "catching up", None):
            self.log.info(
                "catching up", source=row.source, listing=row.listing, since=_time(row.watermark), until=_time(target)
            )

    def listing_walked(self, row: ListingStatus, watermark: int, appended: int) -> None:
        """A window is whole and durable."""
        row.watermark, row.last_success = watermark, self.clock()
        row.received += appended
        if row.state in ("failing", "held"):
            self.log.info("listing recovered", source=row.source, listing=row.listing)
            self._listing_state(row, "starting", None)
        row.error = None
        self._watermark.labels(row.source, row.listing).set(watermark)
        self._last_success.labels(row.source, row.listing).set(row.last_success)
        if appended:
            self._received.labels(row.source, row.listing).inc(appended)
            self.log.debug("events appended", source=row.source, listing=row.listing, count=appended)

    def listing_expects(self, row: ListingStatus, canary: str, due: float) -> None:
        """`due`: Unix seconds; never moves back."""
        row.canary, row.canary_due = canary, max(row.canary_due, due)
        self._canary_due.labels(row.source, row.listing).set(row.canary_due)

    def listing_quiet(self, row: ListingStatus, now: float, usual_gap: float | None) -> None:
        """`now`: Unix seconds of upstream's clock."""
        row.usual_gap = usual_gap
        if row.last_event_at:
            row.quiet = max(now - row.last_event_at, 0.0)
            self._quiet.labels(row.source, row.listing).set(row.quiet)
        if usual_gap is not None:
            self._usual_gap.labels(row.source, row.listing).set(usual_gap)

    def listing_overlap(self, row: ListingStatus, seconds: float, why: str) -> None:
        if row.overlap and row.overlap != seconds:
            self.log.info(
                "overlap changed", source=row.source, listing=row.listing, before=row.overlap, seconds=seconds, why=why
            )
        row.overlap, row.overlap_why = seconds, why
        self._overlap.labels(row.source, row.listing).set(seconds)

    def rechecked(self, row: ListingStatus, window: str, missing: int) -> None:
        """`window`: of the recheck, as the configuration writes it."""
        done = row.rechecks[window] = Recheck(self.clock(), missing)
        self._missing.labels(row.source, row.listing, window).set(missing)
        self._rechecked.labels(row.source, row.listing, window).set(done.at)

    def listing_live(self, row: ListingStatus) -> None:
        seen = sorted(self._seen_live.get((row.source, row.listing), ()))
        if seen:
            row.lateness = {
                "p50": round(seen[len(seen) // 2], 3),
                "p99": round(seen[len(seen) * 99 // 100], 3),
                "max": round(seen[-1], 3),
            }
        if self._listing_state(row, "live", None):
            self.log.info("live", source=row.source, listing=row.listing, received=row.received)

    def listing_failing(self, row: ListingStatus, error: str, wait_s: float) -> None:
        if self._listing_state(row, "failing", error):
            self.log.warning(
                "listing failing, will retry",
                source=row.source,
                listing=row.listing,
                error=error,
                wait_s=round(wait_s, 1),
            )

    def listing_held(self, row: ListingStatus, error: str) -> None:
        if self._listing_state(row, "held", error):
            self.log.error("listing held", source=row.source, listing=row.listing, error=error)

    def listing_unverified(self, row: ListingStatus) -> None:
        if not row.unverified:
            row.unverified = True
            self._unverified.labels(row.source, row.listing).set(1)
            self.log.warning(
                "unverified: no event found; is audit logging enabled for this organization?",
                source=row.source,
                listing=row.listing,
            )

    def listing_verified(self, row: ListingStatus) -> None:
        row.unverified = False
        self._unverified.labels(row.source, row.listing).set(0)

    def event_seen_live(self, row: ListingStatus, lateness_s: float) -> None:
        self._lateness.labels(row.source, row.listing).observe(max(lateness_s, 0.0))
        seen = self._seen_live.setdefault((row.source, row.listing), deque(maxlen=SEEN_LIVE))
        seen.append(max(lateness_s, 0.0))

    def events_late(self, row: ListingStatus, count: int, oldest: int) -> None:
        row.late += count
        self._late.labels(row.source, row.listing).inc(count)
        self.log.warning("late events found", source=row.source, listing=row.listing, count=count, oldest=_time(oldest))

    def unknown_type(self, name: str) -> None:
        if name not in self._unknown_types:
            if len(self._unknown_types) >= MAX_UNKNOWN_TYPE_LABELS:
                name = "other"
            else:
                self.log.warning("unknown event type, passed through whole", type=name)
            self._unknown_types.add(name)
        self._unknown_type.labels(name).inc()

    def event_rated(self, severity: Severity) -> None:
        self.status.severities[severity] += 1

    def unknown_fields(self, name: str) -> None:
        """`name`: the event's type; a known one, so the label is bounded."""
        self._unknown_field.labels(name).inc()

    def api_request(self, source: SourceName, status: int | Literal["error"], seconds: float) -> None:
        self._requests.labels(source, str(status)).inc()
        self._request_seconds.labels(source).observe(seconds)

    def api_anomaly(self, source: SourceName, kind: str, detail: str) -> None:
        """`kind`: from the adapter's closed list."""
        self._anomalies.labels(source, kind).inc()
        self.log.warning("the API's answer contradicts its contract", source=source, kind=kind, detail=detail)

    def clock_skew(self, source: SourceName, seconds: float) -> None:
        self._skew.labels(source).set(round(seconds, 3))

    # --- sinks -------------------------------------------------------------------------------------------------------

    def sink_opened(self, sink: SinkName, kind: str, acked: int) -> SinkStatus:
        row = SinkStatus(sink, kind, acked=acked, since=self.clock())
        self.status.sinks[sink] = row
        self._sink_held.labels(sink).set(0)
        for metric in (self._delivered, self._retries, self._dead, self._filtered, self._set_aside):
            metric.labels(sink)
        return row

    def _sink_state(self, row: SinkStatus, state: SinkState, error: str | None) -> bool:
        changed = row.state != state or (state == "held" and _told(row.error) != _told(error))
        if row.state != state:
            row.since = self.clock()
        row.state, row.error = state, error
        self._sink_held.labels(row.sink).set(state == "held")
        return changed

    def sink_filtered(self, row: SinkStatus, count: int) -> None:
        if count:
            row.filtered += count
            self._filtered.labels(row.sink).inc(count)

    def sink_delivered(self, row: SinkStatus, acked: int, delivered: int, seconds: float) -> None:
        """An ack is durable."""
        row.acked, row.last_delivery = acked, self.clock()
        row.delivered += delivered
        if row.state in ("failing", "held"):
            self.log.info("sink recovered", sink=row.sink)
        self._sink_state(row, "delivering", None)
        self._delivered.labels(row.sink).inc(delivered)
        self._write_seconds.labels(row.sink).observe(seconds)

    def sink_idle(self, row: SinkStatus) -> None:
        if row.state in ("starting", "delivering"):
            self._sink_state(row, "idle", None)

    def sink_failing(self, row: SinkStatus, error: str, wait_s: float) -> None:
        row.retries += 1
        self._retries.labels(row.sink).inc()
        if self._sink_state(row, "failing", error):
            self.log.warning("sink failing, will retry", sink=row.sink, error=error, wait_s=round(wait_s, 1))

    def sink_held(self, row: SinkStatus, error: str) -> None:
        if self._sink_state(row, "held", error):
            self.log.error("sink held", sink=row.sink, error=error)

    def sink_set_aside(self, sink: SinkName, count: int, reason: str) -> None:
        """What a sink reports by `SinkContext.set_aside`."""
        self._set_aside.labels(sink).inc(count)
        self.log.error("records set aside by the receiver", sink=sink, count=count, reason=reason)

    def dead_letter(self, row: SinkStatus, event_id: str, event_type: str, reason: str) -> None:
        row.dead_letters += 1
        self._dead.labels(row.sink).inc()
        self.log.error("dead letter", sink=row.sink, id=event_id, type=event_type, reason=reason)

    def dead_letters_delivered(self, row: SinkStatus, count: int) -> None:
        self.log.info("dead letters delivered", sink=row.sink, count=count)

    def records_gone(self, row: SinkStatus, count: int) -> None:
        self.log.error(
            "records were pruned while this sink was not configured; bring them back from an archive with replay",
            sink=row.sink,
            count=count,
        )

    def sink_backlog(self, row: SinkStatus, events: int, oldest_at: float | None) -> None:
        row.backlog, row.oldest_at = events, oldest_at
        self._backlog.labels(row.sink).set(events)
        self._oldest.labels(row.sink).set(0 if oldest_at is None else max(self.clock() - oldest_at, 0.0))

    # --- what enriches -----------------------------------------------------------------------------------------------

    def directory_opened(self, source: SourceName) -> DirectoryStatus:
        row = DirectoryStatus(source)
        self.status.directories[source] = row
        return row

    def directory_counted(self, row: DirectoryStatus, counts: Mapping[str, int]) -> None:
        """`counts`: things by kind, from a closed list of kinds."""
        row.entries = sum(counts.values())
        for kind, count in counts.items():
            self._names.labels(row.source, kind).set(count)

    def directory_loaded(self, row: DirectoryStatus, requests: int, seconds: float) -> None:
        """At least one list could be read."""
        first, row.last_success = not row.last_success, self.clock()
        self._names_read.labels(row.source).set(row.last_success)
        log = self.log.info if first else self.log.debug
        log("names loaded", source=row.source, entries=row.entries, requests=requests, seconds=round(seconds, 1))

    def directory_list_read(self, row: DirectoryStatus, name: str) -> None:
        """Whole, in every project."""
        if row.failed.pop(name, None) is not None:
            self.log.info("list of names can be read again", source=row.source, list=name)
        self._names_failed.labels(row.source, name).set(0)

    def directory_list_failed(self, row: DirectoryStatus, name: str, times: int, error: str) -> None:
        """Said once, until it can be read again."""
        if name not in row.failed:
            self.log.warning(
                "list of names cannot be read, its things go without a name",
                source=row.source,
                list=name,
                times=times,
                error=error,
            )
        row.failed[name] = error
        self._names_failed.labels(row.source, name).set(times)

    def directory_saved(self) -> None:
        if self._directory_failing:
            self._directory_failing = False
            self.log.info("names can be written again")
        self._names_unsaved.set(0)

    def directory_unsaved(self, error: str) -> None:
        if not self._directory_failing:
            self._directory_failing = True
            self.log.warning("names cannot be written, will retry", error=error)
        self._names_unsaved.set(1)

    def directory_lost(self, error: str) -> None:
        self.log.error("names of former runs are lost, they are learned anew", error=error)

    def names_missing(self, counts: Mapping[str, int]) -> None:
        """`counts`: by kind, from a closed list of kinds."""
        for kind, count in counts.items():
            self._names_missing.labels(kind).inc(count)

    def geoip_read(self, built_at: float) -> None:
        self._geoip_failing = False
        self._geoip_built.set(built_at)
        self.log.info("geography file read", built_at=built_at)

    def geoip_failing(self, error: str) -> None:
        if not self._geoip_failing:
            self._geoip_failing = True
            self.log.warning("geography file cannot be read, the one before stays in use", error=error)

    # --- journal and process -----------------------------------------------------------------------------------------

    def journal_size(self, used_bytes: int, max_bytes: int, records: int, head: int) -> None:
        row = self.status.journal
        row.bytes, row.max_bytes, row.records, row.head = used_bytes, max_bytes, records, head
        self._journal_bytes.set(used_bytes)
        self._journal_max.set(max_bytes)
        self._journal_records.set(records)

    def journal_full(self, row: ListingStatus, full: bool, detail: str = "") -> None:
        """One listing that finds room does not speak for another that waits."""
        (self._waiting_for_room.add if full else self._waiting_for_room.discard)((row.source, row.listing))
        full = bool(self._waiting_for_room)
        if full != self.status.journal.full:
            self.status.journal.full = full
            self._journal_full.set(full)
            if full:
                self.log.error("journal full, intake waits", detail=detail)
            else:
                self.log.info("journal has room again")

    def pruned(self, records: int) -> None:
        if records:
            self._pruned.inc(records)
            self.log.debug("journal pruned", records=records)

    def rules_state_lost(self, error: str) -> None:
        self.log.warning("what stateful rules had learned is lost in part", error=error)

    def reaches_too_far(self, sink: SinkName, start: str, limit: str) -> None:
        self.log.warning(
            "this sink refuses or redates old events; a new one should begin with `start: latest`",
            sink=sink,
            history_reaches_back=start,
            sink_takes=limit,
        )

    def retention_failing(self, error: str) -> None:
        self.log.warning("pruning failed, will retry", error=error)

    def started(self, sources: int, sinks: int) -> None:
        self.log.info("started", version=__version__, sources=sources, sinks=sinks)

    def stopping(self, reason: str) -> None:
        self.log.info("stopping", reason=reason)

    def hangup(self) -> None:
        self.log.info("SIGHUP: a file that was moved away is opened anew with the next event")

    def still_running(self, names: list[str], seconds: float) -> None:
        self.log.warning("cancelled at the stop deadline", still_running=names, after_s=seconds)

    def stopped(self) -> None:
        self.log.info("stopped")
