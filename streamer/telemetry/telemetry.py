"""What the operator sees: every log line and its metrics are made here, by one method each.

Never a payload, never a secret. The same methods keep the rows that `/status` and the status page show.
"""

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry

from streamer import __version__
from streamer.model import Listing, Severity, SinkName, SourceName, from_epoch
from streamer.telemetry.metrics import Metrics
from streamer.telemetry.rows import (
    DirectoryStatus,
    KeyStatus,
    ListingState,
    ListingStatus,
    Recheck,
    SinkState,
    SinkStatus,
    Status,
)

SEEN_LIVE = 1000
"""So many of the last events make the quantiles of `/status`."""
MAX_UNKNOWN_TYPE_LABELS = 200
"""More distinct unknown types than that are counted under `other`."""


def _time(seconds: int) -> str:
    return f"{from_epoch(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _told(error: str | None) -> str | None:
    """A sentence without the ids of its request: what changes at every try is no change of state."""
    return error and re.sub(r"\((our )?request [^)]*\)", "", error)


class Telemetry:
    """Counts, rows and log lines. Has its own registry, so that two daemons in one process do not mix."""

    def __init__(self, clock: Callable[[], float] = time.time, steady: Callable[[], float] | None = None) -> None:
        """`steady`: as `steady_clock`, for what must not follow a wall clock that somebody sets; without it that is `clock` too."""
        self.clock, self.steady = clock, steady or clock
        self.log: structlog.types.FilteringBoundLogger = structlog.get_logger()
        self.registry = CollectorRegistry()
        self.status = Status(started_at=clock())
        self.metrics = Metrics(self.registry)
        self._unknown_types: set[str] = set()
        self._seen_live: dict[tuple[str, str], deque[float]] = {}
        self._waiting_for_room: set[tuple[str, str]] = set()
        self._directory_failing = self._geoip_failing = False
        self.recent_failures: deque[str] = deque(maxlen=20)

    # --- listings ----------------------------------------------------------------------------------------------------

    def listing_opened(self, source: SourceName, listing: Listing, poll_interval: float) -> ListingStatus:
        """The row goes on where it was when a source is opened anew."""
        row = self.status.listings.setdefault((source, listing), ListingStatus(source, listing, since=self.clock()))
        row.poll_interval, row.state, row.error = poll_interval, "starting", None
        self.metrics.source_held.labels(source, listing).set(0)
        self.metrics.unverified.labels(source, listing).set(0)
        self.metrics.received.labels(source, listing)
        self.metrics.late.labels(source, listing)
        return row

    def source_closed(self, source: str, kept: Sequence[str] = ()) -> None:
        """It is not configured any more, or only these listings of it are."""
        for key in [key for key in self.status.listings if key[0] == source and key[1] not in kept]:
            self.journal_full(self.status.listings.pop(key), False)
            self._seen_live.pop(key, None)
            self.metrics.forget(source=key[0], listing=key[1])
        if not kept:
            self.status.directories.pop(source, None)
            self.status.keys.pop(source, None)
            self.metrics.forget(source=source)

    def _listing_state(self, row: ListingStatus, state: ListingState, error: str | None) -> bool:
        """True when the state changed: then, and only then, a line is logged."""
        changed = row.state != state or (state == "held" and _told(row.error) != _told(error))
        if row.state != state:
            row.since = self.clock()
        row.state, row.error = state, error
        self.metrics.source_held.labels(row.source, row.listing).set(state == "held")
        return changed

    def listing_catching_up(self, row: ListingStatus, target: int) -> None:
        row.target, row.started_from = target, row.watermark
        if self._listing_state(row, "catching up", None):
            self.log.info(
                "catching up", source=row.source, listing=row.listing, since=_time(row.watermark), until=_time(target)
            )

    def listing_received(self, row: ListingStatus, appended: int) -> None:
        """So many events are durable."""
        row.received += appended
        if appended:
            self.metrics.received.labels(row.source, row.listing).inc(appended)
            self.log.debug("events appended", source=row.source, listing=row.listing, count=appended)

    def listing_walked(self, row: ListingStatus, watermark: int) -> None:
        """A window of a poll or a catch-up is whole and durable."""
        row.watermark, row.last_success = watermark, self.clock()
        if row.state in ("failing", "held"):
            self.log.info("listing recovered", source=row.source, listing=row.listing)
            self._listing_state(row, "starting", None)
        row.error = None
        self.metrics.watermark.labels(row.source, row.listing).set(watermark)
        self.metrics.last_success.labels(row.source, row.listing).set(row.last_success)

    def listing_expects(self, row: ListingStatus, canary: str, due: float) -> None:
        """`due`: Unix seconds; never moves back."""
        row.canary, row.canary_due = canary, max(row.canary_due, due)
        self.metrics.canary_due.labels(row.source, row.listing).set(row.canary_due)

    def listing_quiet(self, row: ListingStatus, now: float, usual_gap: float | None) -> None:
        """`now`: Unix seconds of upstream's clock."""
        row.usual_gap = usual_gap
        if row.last_event_at:
            row.quiet = max(now - row.last_event_at, 0.0)
            self.metrics.quiet.labels(row.source, row.listing).set(row.quiet)
        if usual_gap is not None:
            self.metrics.usual_gap.labels(row.source, row.listing).set(usual_gap)

    def listing_overlap(self, row: ListingStatus, seconds: float, why: str) -> None:
        if row.overlap and row.overlap != seconds:
            self.log.info(
                "overlap changed", source=row.source, listing=row.listing, before=row.overlap, seconds=seconds, why=why
            )
        row.overlap, row.overlap_why = seconds, why
        self.metrics.overlap.labels(row.source, row.listing).set(seconds)

    def rechecked(self, row: ListingStatus, window: str, missing: int) -> None:
        """`window`: of the recheck, as the configuration writes it."""
        done = row.rechecks[window] = Recheck(self.clock(), missing)
        self.metrics.missing.labels(row.source, row.listing, window).set(missing)
        self.metrics.rechecked.labels(row.source, row.listing, window).set(done.at)

    def recheck_failing(self, row: ListingStatus, error: str | None, wait_s: float = 0.0) -> None:
        """Polls go on meanwhile. None: it goes on."""
        if error is not None and row.recheck_error is None:
            self.log.warning(
                "recheck failing, will retry",
                source=row.source,
                listing=row.listing,
                error=error,
                wait_s=round(wait_s, 1),
            )
        elif error is None and row.recheck_error is not None:
            self.log.info("recheck recovered", source=row.source, listing=row.listing)
        row.recheck_error = error

    def rechecks_due(self, row: ListingStatus, due: Mapping[str, float]) -> None:
        """`due`: when each must be done, in Unix seconds, by its window. What is not in it is not configured any more."""
        for window in row.recheck_due.keys() - due.keys():
            row.rechecks.pop(window, None)
            self.metrics.forget(source=row.source, listing=row.listing, window=window)
        row.recheck_due = dict(due)
        for window, at in due.items():
            self.metrics.recheck_due.labels(row.source, row.listing, window).set(at)

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
            self.metrics.unverified.labels(row.source, row.listing).set(1)
            self.log.warning(
                "unverified: no event found; is audit logging enabled for this organization?",
                source=row.source,
                listing=row.listing,
            )

    def listing_verified(self, row: ListingStatus) -> None:
        row.unverified = False
        self.metrics.unverified.labels(row.source, row.listing).set(0)

    def event_seen_live(self, row: ListingStatus, lateness_s: float) -> None:
        self.metrics.lateness.labels(row.source, row.listing).observe(max(lateness_s, 0.0))
        seen = self._seen_live.setdefault((row.source, row.listing), deque(maxlen=SEEN_LIVE))
        seen.append(max(lateness_s, 0.0))

    def events_late(self, row: ListingStatus, count: int, oldest: int) -> None:
        row.late += count
        self.metrics.late.labels(row.source, row.listing).inc(count)
        self.log.warning("late events found", source=row.source, listing=row.listing, count=count, oldest=_time(oldest))

    def events_rated(self, severities: Iterable[Severity]) -> None:
        """Of each event."""
        for severity, events in Counter(severities).items():
            self.status.severities[severity] += events

    def unknown_type(self, name: str) -> None:
        if name not in self._unknown_types:
            if len(self._unknown_types) >= MAX_UNKNOWN_TYPE_LABELS:
                name = "other"
            else:
                self.log.warning("unknown event type, passed through whole", type=name)
            self._unknown_types.add(name)
        self.metrics.unknown_type.labels(name).inc()

    def unknown_fields(self, name: str) -> None:
        """`name`: the event's type; a known one, so the label is bounded."""
        self.metrics.unknown_field.labels(name).inc()

    def key_in_use(self, source: SourceName, fingerprint: str, place: int, of: int) -> None:
        """The API took it. `place`: 1 or 2, of the `of` keys that are configured."""
        row = self.status.keys.get(source)
        if row is not None and (row.fingerprint, row.place, row.of) == (fingerprint, place, of):
            return
        self.metrics.key.remove_by_labels({"source": source})
        self.metrics.key.labels(source, fingerprint, str(place)).set(1)
        if row is None or row.fingerprint != fingerprint:
            self.metrics.key_expires.remove_by_labels({"source": source})
            self.status.keys[source] = KeyStatus(source, fingerprint, place, of, since=self.clock())
            if row is not None:
                self.log.info("another API key is in use", source=source, fingerprint=fingerprint, place=place, of=of)
        else:
            row.place, row.of = place, of

    def key_expires(self, source: SourceName, at: int | None) -> None:
        """`at`: Unix seconds; None: never."""
        row = self.status.keys.get(source)
        if row is not None:
            row.expires_at = at
        if at is None:
            self.metrics.key_expires.remove_by_labels({"source": source})
        else:
            self.metrics.key_expires.labels(source).set(at)

    def api_request(self, source: SourceName, status: int | Literal["error"], seconds: float) -> None:
        self.metrics.requests.labels(source, str(status)).inc()
        self.metrics.request_seconds.labels(source).observe(seconds)

    def api_anomaly(self, source: SourceName, kind: str, detail: str) -> None:
        """`kind`: from the adapter's closed list."""
        self.metrics.anomalies.labels(source, kind).inc()
        self.log.warning("the API's answer contradicts its contract", source=source, kind=kind, detail=detail)

    def clock_skew(self, source: SourceName, seconds: float) -> None:
        self.metrics.skew.labels(source).set(round(seconds, 3))

    # --- sinks -------------------------------------------------------------------------------------------------------

    def sink_opened(self, sink: SinkName, kind: str, acked: int) -> SinkStatus:
        """As `listing_opened`."""
        row = self.status.sinks.setdefault(sink, SinkStatus(sink, since=self.clock()))
        row.type, row.acked, row.state, row.error = kind, acked, "starting", None
        self.metrics.sink_held.labels(sink).set(0)
        for metric in (
            self.metrics.delivered,
            self.metrics.retries,
            self.metrics.dead,
            self.metrics.filtered,
            self.metrics.set_aside,
        ):
            metric.labels(sink)
        return row

    def sink_closed(self, sink: SinkName) -> None:
        """It is not configured any more."""
        self.status.sinks.pop(sink, None)
        self.metrics.forget(sink=sink)

    def _sink_state(self, row: SinkStatus, state: SinkState, error: str | None) -> bool:
        changed = row.state != state or (state == "held" and _told(row.error) != _told(error))
        if row.state != state:
            row.since = self.clock()
        row.state, row.error = state, error
        self.metrics.sink_held.labels(row.sink).set(state == "held")
        return changed

    def sink_filtered(self, row: SinkStatus, count: int) -> None:
        if count:
            row.filtered += count
            self.metrics.filtered.labels(row.sink).inc(count)

    def sink_delivered(self, row: SinkStatus, acked: int, delivered: int, seconds: float) -> None:
        """An ack is durable."""
        row.acked, row.last_delivery = acked, self.clock()
        row.delivered += delivered
        if row.state in ("failing", "held"):
            self.log.info("sink recovered", sink=row.sink)
        self._sink_state(row, "delivering", None)
        self.metrics.delivered.labels(row.sink).inc(delivered)
        self.metrics.write_seconds.labels(row.sink).observe(seconds)

    def sink_idle(self, row: SinkStatus) -> None:
        if row.state in ("starting", "delivering"):
            self._sink_state(row, "idle", None)

    def sink_failing(self, row: SinkStatus, error: str, wait_s: float) -> None:
        row.retries += 1
        self.metrics.retries.labels(row.sink).inc()
        if self._sink_state(row, "failing", error):
            self.log.warning("sink failing, will retry", sink=row.sink, error=error, wait_s=round(wait_s, 1))

    def sink_held(self, row: SinkStatus, error: str) -> None:
        if self._sink_state(row, "held", error):
            self.log.error("sink held", sink=row.sink, error=error)

    def sink_set_aside(self, sink: SinkName, count: int, reason: str) -> None:
        """What a sink reports by `SinkContext.set_aside`."""
        self.metrics.set_aside.labels(sink).inc(count)
        self.log.error("records set aside by the receiver", sink=sink, count=count, reason=reason)

    def dead_letter(self, row: SinkStatus, event_id: str, event_type: str, reason: str) -> None:
        row.dead_letters += 1
        self.metrics.dead.labels(row.sink).inc()
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
        self.metrics.backlog.labels(row.sink).set(events)
        self.metrics.oldest.labels(row.sink).set(0 if oldest_at is None else max(self.clock() - oldest_at, 0.0))

    # --- what enriches -----------------------------------------------------------------------------------------------

    def directory_opened(self, source: SourceName) -> DirectoryStatus:
        row = DirectoryStatus(source)
        self.status.directories[source] = row
        return row

    def directory_counted(self, row: DirectoryStatus, counts: Mapping[str, int]) -> None:
        """`counts`: things by kind, from a closed list of kinds."""
        row.entries = sum(counts.values())
        for kind, count in counts.items():
            self.metrics.names.labels(row.source, kind).set(count)

    def directory_loaded(self, row: DirectoryStatus, requests: int, seconds: float) -> None:
        """At least one list could be read."""
        first, row.last_success = not row.last_success, self.clock()
        self.metrics.names_read.labels(row.source).set(row.last_success)
        log = self.log.info if first else self.log.debug
        log("names loaded", source=row.source, entries=row.entries, requests=requests, seconds=round(seconds, 1))

    def directory_list_read(self, row: DirectoryStatus, name: str) -> None:
        """Whole, in every project."""
        if row.failed.pop(name, None) is not None:
            self.log.info("list of names can be read again", source=row.source, list=name)
        self.metrics.names_failed.labels(row.source, name).set(0)

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
        self.metrics.names_failed.labels(row.source, name).set(times)

    def directory_saved(self) -> None:
        if self._directory_failing:
            self._directory_failing = False
            self.log.info("names can be written again")
        self.metrics.names_unsaved.set(0)

    def directory_unsaved(self, error: str) -> None:
        if not self._directory_failing:
            self._directory_failing = True
            self.log.warning("names cannot be written, will retry", error=error)
        self.metrics.names_unsaved.set(1)

    def directory_lost(self, error: str) -> None:
        self.log.error("names of former runs are lost, they are learned anew", error=error)

    def names_missing(self, counts: Mapping[str, int]) -> None:
        """`counts`: by kind, from a closed list of kinds."""
        for kind, count in counts.items():
            self.metrics.names_missing.labels(kind).inc(count)

    def geoip_read(self, built_at: float) -> None:
        self._geoip_failing = False
        self.metrics.geoip_built.set(built_at)
        self.log.info("geography file read", built_at=built_at)

    def geoip_failing(self, error: str) -> None:
        if not self._geoip_failing:
            self._geoip_failing = True
            self.log.warning("geography file cannot be read, the one before stays in use", error=error)

    # --- journal and process -----------------------------------------------------------------------------------------

    def journal_size(self, used_bytes: int, max_bytes: int, records: int, head: int) -> None:
        row = self.status.journal
        row.bytes, row.max_bytes, row.records, row.head = used_bytes, max_bytes, records, head
        self.metrics.journal_bytes.set(used_bytes)
        self.metrics.journal_max.set(max_bytes)
        self.metrics.journal_records.set(records)

    def journal_full(self, row: ListingStatus, full: bool, detail: str = "") -> None:
        """One listing that finds room does not speak for another that waits."""
        self._wait_for_room((row.source, row.listing), full, detail)

    def journal_unopened(self, error: str | None) -> None:
        """It cannot be opened for now, said once; None: it is open."""
        self.status.journal.error = error
        self._wait_for_room(("", ""), error is not None, error or "")

    def _wait_for_room(self, who: tuple[str, str], full: bool, detail: str) -> None:
        (self._waiting_for_room.add if full else self._waiting_for_room.discard)(who)
        full = bool(self._waiting_for_room)
        if full != self.status.journal.full:
            self.status.journal.full = full
            self.metrics.journal_full.set(full)
            if full:
                self.log.error("journal full, intake waits", detail=detail)
            else:
                self.log.info("journal has room again")

    def pruned(self, records: int) -> None:
        if records:
            self.metrics.pruned.inc(records)
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

    def configuration_taken(self, changes: Sequence[str]) -> None:
        """`changes`: in words; none of them: it is what it was."""
        row = self.status.configuration
        if changes:
            row.taken_at = self.clock()
            self.metrics.config_taken.set(row.taken_at)
            self.log.info("configuration taken", changes=list(changes))
        elif row.refused:
            self.log.info("the configuration file is again what is in force")
        self.metrics.config_reloads.labels("taken" if changes else "unchanged").inc()
        row.refused, row.refused_at = [], 0.0
        self.metrics.config_refused.set(0)

    def configuration_refused(self, problems: Sequence[str]) -> None:
        row = self.status.configuration
        self.metrics.config_reloads.labels("refused").inc()
        self.metrics.config_refused.set(1)
        if row.refused != list(problems):
            row.refused, row.refused_at = list(problems), self.clock()
            self.log.error("configuration refused, the one before stays in force", problems=row.refused)

    def part_held(self, name: str, error: str) -> None:
        """Something that a new configuration asks for cannot be opened."""
        self.log.error("cannot be opened, will retry", part=name, error=error)

    def stands_by(self) -> None:
        self.log.info("standing by, another process is at work or may be")
        self.status.standby.since = self.clock()

    def leads(self) -> None:
        row = self.status.standby
        if row.since:
            self.log.info("it is our turn", waited_s=round(self.clock() - row.since, 1))
        row.leading, row.since = True, self.clock()
        self.metrics.leader.set(1)

    def lease_seen(self, holder: str) -> None:
        row = self.status.standby
        if row.error is not None:
            self.log.info("the lease can be asked for again", holder=holder)
        row.holder, row.error = holder, None

    def lease_failing(self, error: str) -> None:
        """Said once, until it can be read or renewed again."""
        row = self.status.standby
        if row.error is None:
            self.log.error("the lease cannot be asked for; whoever holds it ends before it runs out", error=error)
        row.error = error

    def lease_lost(self, holder: str) -> None:
        self.log.error("the lease was taken from us, ending at once", holder=holder)

    def started(self, sources: int, sinks: int, replica: str = "") -> None:
        """`replica`: its index, where others read other sources."""
        self.status.configuration.taken_at = self.clock()
        self.metrics.config_taken.set(self.status.configuration.taken_at)
        more = {"replica": replica} if replica else {}
        self.log.info("started", version=__version__, sources=sources, sinks=sinks, **more)

    def stopping(self, reason: str) -> None:
        self.log.info("stopping", reason=reason)

    def hangup(self) -> None:
        self.log.info(
            "SIGHUP: the configuration is read again; a file that was moved away is opened anew with the next event"
        )

    def still_running(self, names: list[str], seconds: float) -> None:
        self.log.warning("cancelled at the stop deadline", still_running=names, after_s=seconds)

    def stopped(self) -> None:
        self.log.info("stopped")
