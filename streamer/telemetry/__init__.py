"""What the operator sees of a daemon: metrics, rows of `/status`, log lines."""

from streamer.telemetry.clock import steady_clock
from streamer.telemetry.metrics import METRICS, Metric
from streamer.telemetry.rows import ListingStatus, SinkStatus, Status
from streamer.telemetry.telemetry import Telemetry

__all__ = ["METRICS", "ListingStatus", "Metric", "SinkStatus", "Status", "Telemetry", "steady_clock"]
