"""The Grafana dashboard, from one table of panels. `python -m deploy.make` writes dashboard.json from it."""

from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_HERE = 'job=~"$job", instance=~"$instance"'
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    title: str
    why: str
    """What a reader learns from it."""
    queries: dict[str, str]
    """Legend to PromQL; `%s` stands for the labels of the chosen daemon."""
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    red_from: float | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


BAD_FROM_ONE = 1.0
HEIGHTS = {"stat": 4, "timeseries": 8, "table": 8}

ROWS = (
    Row(
        "Is everything all right?",
        (
            Panel(
                "Held",
                "Listings and sinks that wait for an operator. Must be 0.",
                {"listings": "sum(streamer_source_held{%s})", "sinks": "sum(streamer_sink_held{%s})"},
                kind="stat",
                width=5,
                red_from=BAD_FROM_ONE,
            ),
            Panel(
                "Last read",
                "How long ago the slowest listing was read whole.",
                {"": "time() - min(streamer_source_last_success_seconds{%s})"},
                kind="stat",
                unit="s",
                width=4,
                red_from=300,
            ),
            Panel(
                "Oldest undelivered",
                "How long the oldest event waits for the slowest sink.",
                {"": "max(streamer_sink_oldest_undelivered_seconds{%s})"},
                kind="stat",
                unit="s",
                width=4,
                red_from=900,
            ),
            Panel(
                "Dead letters, 24 h",
                "Events that a sink refused for good.",
                {"": "sum(increase(streamer_dead_letters_total{%s}[24h]))"},
                kind="stat",
                width=4,
                red_from=BAD_FROM_ONE,
            ),
            Panel(
                "Journal",
                "How full it is. Intake waits when it is full.",
                {"": "max(streamer_journal_bytes{%s} / streamer_journal_max_bytes{%s})"},
                kind="stat",
                unit="percentunit",
                width=4,
                red_from=0.8,
            ),
            Panel("Version", "What runs.", {"{{version}}": "streamer_build_info{%s}"}, kind="stat", width=3),
        ),
    ),
    Row(
        "Is everything there?",
        (
            Panel(
                "Missing, by recheck",
                "Events that the last recheck of each window found upstream and not in the journal (they are now). 0 for 2d: we have every event of yesterday.",
                {
                    "{{source}}/{{listing}} {{window}}": "max by (source, listing, window) (streamer_reconcile_missing{%s})",
                },
                kind="stat",
                width=8,
                red_from=BAD_FROM_ONE,
            ),
            Panel(
                "Since the last recheck",
                "How long ago each window was last compared with the API.",
                {
                    "{{source}}/{{listing}} {{window}}": "time() - max by (source, listing, window) (streamer_reconcile_last_success_seconds{%s})"
                },
                kind="stat",
                unit="s",
                width=8,
            ),
            Panel(
                "Canary overdue",
                "How long ago the canary should have shown up; below 0 while it is not due.",
                {"{{source}}/{{listing}}": "time() - streamer_source_canary_due_seconds{%s}"},
                kind="stat",
                unit="s",
                width=8,
                red_from=BAD_FROM_ONE,
            ),
        ),
    ),
    Row(
        "Coming in",
        (
            Panel(
                "Events received",
                "Events a second, by listing.",
                {
                    "{{source}}/{{listing}}": "sum by (source, listing) (rate(streamer_events_received_total{%s}[$__rate_interval]))"
                },
                unit="cps",
            ),
            Panel(
                "Behind the clock",
                "Now minus the watermark: everything before it has been read.",
                {"{{source}}/{{listing}}": "time() - streamer_source_watermark_seconds{%s}"},
                unit="s",
            ),
            Panel(
                "How late events appear",
                "From the time of an event to our first sight of it, while live.",
                {
                    "p50": "histogram_quantile(0.5, sum by (le) (rate(streamer_event_lateness_seconds_bucket{%s}[1h])))",
                    "p99": "histogram_quantile(0.99, sum by (le) (rate(streamer_event_lateness_seconds_bucket{%s}[1h])))",
                    "overlap {{source}}/{{listing}}": "streamer_source_overlap_seconds{%s}",
                },
                unit="s",
            ),
            Panel(
                "Silence",
                "Since the newest event, and what is usual at this hour.",
                {
                    "quiet {{source}}/{{listing}}": "streamer_source_quiet_seconds{%s}",
                    "usual {{source}}/{{listing}}": "streamer_source_usual_quiet_seconds{%s}",
                },
                unit="s",
            ),
            Panel(
                "API requests",
                "Answers a minute, by status; `error`: none came.",
                {"{{status}}": "60 * sum by (status) (rate(streamer_api_requests_total{%s}[$__rate_interval]))"},
                unit="cpm",
            ),
            Panel(
                "API latency, p95",
                "Of one request.",
                {
                    "{{source}}": "histogram_quantile(0.95, sum by (le, source) (rate(streamer_api_request_seconds_bucket{%s}[$__rate_interval])))"
                },
                unit="s",
            ),
            Panel(
                "Late, anomalous, unverified",
                "Events found by a recheck, answers that contradict the API's contract, listings that never showed an event.",
                {
                    "late {{source}}/{{listing}}": "sum by (source, listing) (increase(streamer_events_late_total{%s}[1h]))",
                    "anomaly {{kind}}": "sum by (kind) (increase(streamer_api_anomalies_total{%s}[1h]))",
                    "unverified {{source}}/{{listing}}": "streamer_source_unverified{%s}",
                },
            ),
        ),
    ),
    Row(
        "Going out",
        (
            Panel(
                "Events delivered",
                "Acknowledged events a second, by sink.",
                {"{{sink}}": "sum by (sink) (rate(streamer_sink_delivered_total{%s}[$__rate_interval]))"},
                unit="cps",
            ),
            Panel(
                "Backlog", "Events that a sink has not acknowledged.", {"{{sink}}": "streamer_sink_backlog_events{%s}"}
            ),
            Panel(
                "Oldest undelivered, by sink",
                "Seconds that the oldest of them has waited.",
                {"{{sink}}": "streamer_sink_oldest_undelivered_seconds{%s}"},
                unit="s",
            ),
            Panel(
                "Write latency, p95",
                "Of writes that succeeded.",
                {
                    "{{sink}}": "histogram_quantile(0.95, sum by (le, sink) (rate(streamer_sink_write_seconds_bucket{%s}[$__rate_interval])))"
                },
                unit="s",
            ),
            Panel(
                "Retries",
                "Writes a minute that had to be tried again.",
                {"{{sink}}": "60 * sum by (sink) (rate(streamer_sink_retries_total{%s}[$__rate_interval]))"},
                unit="cpm",
            ),
            Panel(
                "Dead letters and records set aside",
                "Refused for good by us, or taken and not stored as asked by the receiver; an hour each.",
                {
                    "dead {{sink}}": "sum by (sink) (increase(streamer_dead_letters_total{%s}[1h]))",
                    "set aside {{sink}}": "sum by (sink) (increase(streamer_sink_set_aside_total{%s}[1h]))",
                },
            ),
        ),
    ),
    Row(
        "In between",
        (
            Panel(
                "Journal size",
                "Live data, and what it may grow to.",
                {"used": "streamer_journal_bytes{%s}", "max": "streamer_journal_max_bytes{%s}"},
                unit="bytes",
            ),
            Panel("Journal records", "Held for sinks and for replay.", {"records": "streamer_journal_records{%s}"}),
            Panel(
                "Unknown to the catalogue",
                "Types, and known types with unknown fields, in the last day.",
                {
                    "type {{type}}": "increase(streamer_unknown_types_total{%s}[24h])",
                    "fields of {{type}}": "increase(streamer_unknown_fields_total{%s}[24h])",
                },
                kind="table",
            ),
            Panel(
                "Names known",
                "Things in the directory, by kind.",
                {"{{source}} {{kind}}": "streamer_directory_entries{%s}"},
            ),
            Panel(
                "Names missing",
                "Lists that could not be read, and things in events without a name, an hour.",
                {
                    "list {{list}}": "streamer_directory_failed{%s}",
                    "{{kind}}": "sum by (kind) (increase(streamer_names_missing_total{%s}[1h]))",
                },
            ),
            Panel(
                "Clock difference",
                "The upstream's clock minus ours.",
                {"{{source}}": "streamer_source_clock_skew_seconds{%s}"},
                unit="s",
            ),
        ),
    ),
)


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.why,
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHTS[panel.kind], "w": panel.width, "x": x, "y": y},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": DATASOURCE,
                "expr": query.replace("%s", OF_HERE),
                "legendFormat": legend or "__auto",
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
    }
    match panel.kind:
        case "stat":
            name = "name" if panel.title == "Version" else "auto"
            made["options"] = {"colorMode": "background", "textMode": name, "reduceOptions": {"calcs": ["lastNotNull"]}}
        case "timeseries":
            made["fieldConfig"]["defaults"] |= {"min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}
            made["options"] = {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi", "sort": "desc"}}
            if "Clock" in panel.title:
                del made["fieldConfig"]["defaults"]["min"]
    return made


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        header = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        panels.append({"id": len(panels) + 1, "type": "row", "title": row.title, "gridPos": header, "panels": []})
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHTS[panel.kind]
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x += panel.width
        y += HEIGHTS[row.panels[-1].kind]
    return {
        "uid": "openai-audit-streamer",
        "title": "OpenAI audit log streamer",
        "tags": ["openai-audit-streamer"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("job", "Job", "label_values(streamer_build_info, job)"),
                _variable("instance", "Instance", 'label_values(streamer_build_info{job=~"$job"}, instance)'),
            ]
        },
        "panels": panels,
    }
