"""Every metric: its name from a closed list, what it means, its labels."""

from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer import __version__

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
    "streamer_reconcile_due_seconds",
    "streamer_source_held",
    "streamer_source_unverified",
    "streamer_source_clock_skew_seconds",
    "streamer_source_key_info",
    "streamer_source_key_expires_seconds",
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
    "streamer_leader",
    "streamer_config_taken_seconds",
    "streamer_config_refused",
    "streamer_config_reloads_total",
]
METRICS: tuple[Metric, ...] = get_args(Metric)


T = TypeVar("T", Counter, Gauge, Histogram)


class Metrics:
    """The instruments, on a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._labelled: list[tuple[tuple[str, ...], Counter | Gauge | Histogram]] = []

        def counter(name: Metric, text: str, *labels: str) -> Counter:
            return self._noted(labels, Counter(name, text, labels, registry=registry))

        def gauge(name: Metric, text: str, *labels: str) -> Gauge:
            return self._noted(labels, Gauge(name, text, labels, registry=registry))

        def histogram(
            name: Metric, text: str, *labels: str, buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS
        ) -> Histogram:
            return self._noted(labels, Histogram(name, text, labels, buckets=buckets, registry=registry))

        build = gauge("streamer_build_info", "Always 1; the version is a label", "version")
        build.labels(__version__).set(1)
        at = ("source", "listing")
        self.received = counter("streamer_events_received_total", "Events appended to the journal", *at)
        self.late = counter("streamer_events_late_total", "Events found by a recheck, after their time was walked", *at)
        self.lateness = histogram(
            "streamer_event_lateness_seconds",
            "First seen minus effective_at, for events seen while live",
            *at,
            buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 172800),
        )
        self.quiet = gauge("streamer_source_quiet_seconds", "Time since the newest event", *at)
        self.usual_gap = gauge(
            "streamer_source_usual_quiet_seconds",
            "Time between events at this hour, on average over the last week",
            *at,
        )
        self.canary_due = gauge("streamer_source_canary_due_seconds", "Unix time by which the canary must show up", *at)
        self.overlap = gauge("streamer_source_overlap_seconds", "What every poll reads again before the watermark", *at)
        self.missing = gauge(
            "streamer_reconcile_missing",
            "Events that the last recheck of this window found upstream and not in the journal",
            *at,
            "window",
        )
        self.rechecked = gauge(
            "streamer_reconcile_last_success_seconds", "Unix time of the last whole recheck", *at, "window"
        )
        self.recheck_due = gauge(
            "streamer_reconcile_due_seconds", "Unix time by which the next recheck must be done", *at, "window"
        )
        self.watermark = gauge("streamer_source_watermark_seconds", "Everything before this Unix time is walked", *at)
        self.last_success = gauge("streamer_source_last_success_seconds", "Unix time of the last whole walk", *at)
        self.source_held = gauge("streamer_source_held", "1 while an operator has to act on this listing", *at)
        self.unverified = gauge(
            "streamer_source_unverified", "1 while no event has shown that audit logging is enabled", *at
        )
        self.skew = gauge("streamer_source_clock_skew_seconds", "The upstream's clock minus ours", "source")
        self.key = gauge(
            "streamer_source_key_info",
            "Always 1; labels tell which of the configured API keys is in use, by its fingerprint and its place",
            "source",
            "fingerprint",
            "place",
        )
        self.key_expires = gauge(
            "streamer_source_key_expires_seconds",
            "Unix time at which the API key in use expires, where that is known",
            "source",
        )
        self.requests = counter(
            "streamer_api_requests_total", "Requests by status; `error`: no answer", "source", "status"
        )
        self.request_seconds = histogram(
            "streamer_api_request_seconds", "Duration of a request to the upstream API", "source"
        )
        self.anomalies = counter(
            "streamer_api_anomalies_total", "Answers that contradict the API's contract", "source", "kind"
        )
        self.unknown_type = counter(
            "streamer_unknown_types_total", "Events whose type the catalogue does not know", "type"
        )
        self.unknown_field = counter(
            "streamer_unknown_fields_total", "Events with fields the catalogue does not know", "type"
        )
        self.delivered = counter("streamer_sink_delivered_total", "Records acknowledged by the sink", "sink")
        self.filtered = counter("streamer_sink_filtered_total", "Records that the sink's `where` leaves out", "sink")
        self.backlog = gauge("streamer_sink_backlog_events", "Records not acknowledged yet", "sink")
        self.oldest = gauge(
            "streamer_sink_oldest_undelivered_seconds", "Age of the oldest undelivered record; 0: none", "sink"
        )
        self.sink_held = gauge("streamer_sink_held", "1 while an operator has to act on this sink", "sink")
        self.retries = counter("streamer_sink_retries_total", "Writes that have to be tried again", "sink")
        self.write_seconds = histogram("streamer_sink_write_seconds", "Duration of a write that succeeded", "sink")
        self.set_aside = counter(
            "streamer_sink_set_aside_total", "Records that the sink took and did not store as asked", "sink"
        )
        self.dead = counter("streamer_dead_letters_total", "Records that the sink can never take", "sink")
        self.journal_bytes = gauge("streamer_journal_bytes", "Live data in the journal")
        self.journal_max = gauge("streamer_journal_max_bytes", "journal.max_size")
        self.journal_records = gauge("streamer_journal_records", "Records in the journal")
        self.journal_full = gauge("streamer_journal_full", "1 while intake waits for room in the journal")
        self.pruned = counter("streamer_journal_pruned_total", "Records deleted after every sink had them")
        self.names = gauge("streamer_directory_entries", "Things that the directory knows", "source", "kind")
        self.names_read = gauge(
            "streamer_directory_last_success_seconds", "Unix time at which names were last read", "source"
        )
        self.names_failed = gauge(
            "streamer_directory_failed",
            "Times that this list could not be read in the last load: 1, or so many projects",
            "source",
            "list",
        )
        self.names_unsaved = gauge("streamer_directory_unsaved", "1 while names cannot be written to the state folder")
        self.names_missing = counter(
            "streamer_names_missing_total", "Things in events whose name was not known in time", "kind"
        )
        self.geoip_built = gauge("streamer_geoip_built_seconds", "Unix time at which the geography file was built")
        self.leader = gauge(
            "streamer_leader", "1: this process reads and delivers; 0: it stands by, or has not begun yet"
        )
        self.config_taken = gauge(
            "streamer_config_taken_seconds", "Unix time since which the configuration in force is in force"
        )
        self.config_refused = gauge(
            "streamer_config_refused",
            "1 while the configuration file as it is now was refused and the one before stays in force",
        )
        self.config_reloads = counter(
            "streamer_config_reloads_total",
            "Times that the configuration was read again: taken, unchanged or refused",
            "result",
        )
        for result in ("taken", "unchanged", "refused"):
            self.config_reloads.labels(result)

    def _noted(self, labels: tuple[str, ...], instrument: T) -> T:
        self._labelled.append((labels, instrument))
        return instrument

    def forget(self, **labels: str) -> None:
        """Everything that is said of a source, a listing, a sink that is not there any more."""
        for names, instrument in self._labelled:
            if labels.keys() <= set(names):
                instrument.remove_by_labels(labels)
