"""Where events go: one file a sink, one line here.

A sink's module is cheap to import: it names its client library inside the function that opens it.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from streamer.config import SinkOptions
from streamer.ports import Sink, SinkContext
from streamer.sinks.archive import ArchiveOptions, open_archive, probe_archive
from streamer.sinks.datadog import DatadogOptions, open_datadog, probe_datadog
from streamer.sinks.elasticsearch import ElasticsearchOptions, open_elasticsearch, probe_elasticsearch
from streamer.sinks.file import FileOptions, open_file, probe_file
from streamer.sinks.kafka import KafkaOptions, open_kafka, probe_kafka
from streamer.sinks.loki import LokiOptions, open_loki, probe_loki
from streamer.sinks.otlp import OtlpOptions, open_otlp, probe_otlp
from streamer.sinks.sentinel import SentinelOptions, open_sentinel, probe_sentinel
from streamer.sinks.splunk_hec import SplunkHecOptions, open_splunk_hec, probe_splunk_hec
from streamer.sinks.stdout import StdoutOptions, open_stdout, probe_stdout
from streamer.sinks.sumologic import SumologicOptions, open_sumologic, probe_sumologic
from streamer.sinks.syslog import SyslogOptions, open_syslog, probe_syslog
from streamer.sinks.webhook import WebhookOptions, open_webhook, probe_webhook


@dataclass(frozen=True)
class SinkType:
    """How a `type` of the configuration becomes a sink."""

    options: type[SinkOptions]
    open: Callable[[Any, SinkContext], AbstractAsyncContextManager[Sink]]
    """(options, context): touches no network."""
    probe: Callable[[Any, SinkContext], Awaitable[str]]
    """(options, context): asks the other side once whether it would take us, writes nothing that an operator would notice; what it said, in a sentence, or a
    verdict. For `check --online`."""


SINKS: Mapping[str, SinkType] = {
    "archive": SinkType(ArchiveOptions, open_archive, probe_archive),
    "datadog": SinkType(DatadogOptions, open_datadog, probe_datadog),
    "elasticsearch": SinkType(ElasticsearchOptions, open_elasticsearch, probe_elasticsearch),
    "file": SinkType(FileOptions, open_file, probe_file),
    "kafka": SinkType(KafkaOptions, open_kafka, probe_kafka),
    "loki": SinkType(LokiOptions, open_loki, probe_loki),
    "otlp": SinkType(OtlpOptions, open_otlp, probe_otlp),
    "sentinel": SinkType(SentinelOptions, open_sentinel, probe_sentinel),
    "splunk_hec": SinkType(SplunkHecOptions, open_splunk_hec, probe_splunk_hec),
    "stdout": SinkType(StdoutOptions, open_stdout, probe_stdout),
    "sumologic": SinkType(SumologicOptions, open_sumologic, probe_sumologic),
    "syslog": SinkType(SyslogOptions, open_syslog, probe_syslog),
    "webhook": SinkType(WebhookOptions, open_webhook, probe_webhook),
}


def sink_options() -> dict[str, type[SinkOptions]]:
    return {name: kind.options for name, kind in SINKS.items()}
