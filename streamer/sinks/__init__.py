"""Where events go: one module a sink, one name here.

A sink's module is imported when a configuration names its type: most use one or two. It names its client library inside the function that opens it.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from streamer.config import SinkOptions
from streamer.ports import Sink, SinkContext

T = TypeVar("T")


@dataclass(frozen=True)
class SinkType:
    """How a `type` of the configuration becomes a sink."""

    options: type[SinkOptions]
    open: Callable[[Any, SinkContext], AbstractAsyncContextManager[Sink]]
    """(options, context): touches no network."""
    probe: Callable[[Any, SinkContext], Awaitable[str]]
    """(options, context): asks the other side once whether it would take us, writes nothing that an operator would notice; what it said, in a sentence, or a
    verdict. For `check --online`."""
    looks_inside: bool = True
    """It asks records for their envelopes, beside the bodies that it writes."""


class OnDemand(Mapping[str, T]):
    """Names are there at once, each value when it is asked for."""

    def __init__(self, names: Iterable[str], load: Callable[[str], T]) -> None:
        self._names, self._load = tuple(names), load

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _sink(name: str) -> SinkType:
    row: SinkType = import_module(f"streamer.sinks.{name}").SINK
    return row


SINKS: Mapping[str, SinkType] = OnDemand(
    (
        "archive",
        "datadog",
        "elasticsearch",
        "file",
        "kafka",
        "loki",
        "otlp",
        "sentinel",
        "splunk_hec",
        "stdout",
        "sumologic",
        "syslog",
        "webhook",
    ),
    _sink,
)


def sink_options() -> Mapping[str, type[SinkOptions]]:
    return OnDemand(SINKS, lambda name: SINKS[name].options)
