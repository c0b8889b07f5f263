"""Where events go: one file a sink, one line here.

A sink's module is cheap to import: it names its client library inside the function that opens it.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from streamer.config import SinkOptions
from streamer.ports import Sink, SinkContext
from streamer.sinks.elasticsearch import ElasticsearchOptions, open_elasticsearch, probe_elasticsearch
from streamer.sinks.kafka import KafkaOptions, open_kafka, probe_kafka
from streamer.sinks.splunk_hec import SplunkHecOptions, open_splunk_hec, probe_splunk_hec
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
    "elasticsearch": SinkType(ElasticsearchOptions, open_elasticsearch, probe_elasticsearch),
    "kafka": SinkType(KafkaOptions, open_kafka, probe_kafka),
    "splunk_hec": SinkType(SplunkHecOptions, open_splunk_hec, probe_splunk_hec),
    "webhook": SinkType(WebhookOptions, open_webhook, probe_webhook),
}


def sink_options() -> dict[str, type[SinkOptions]]:
    return {name: kind.options for name, kind in SINKS.items()}
