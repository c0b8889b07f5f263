"""Where events come from: one row a type.

A source's module is cheap to import: it names its client library inside the function that opens it.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from streamer.config import SourceOptions
from streamer.errors import StreamerError
from streamer.model import Listing, SourceName
from streamer.ports import DirectorySource, Source
from streamer.sources.openai_audit_logs import open_openai_audit_logs, probe_openai_audit_logs
from streamer.sources.openai_directory import open_openai_directory
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.telemetry import Telemetry


@dataclass(frozen=True)
class SourceType:
    """How a `type` of the configuration becomes a source."""

    options: type[SourceOptions]
    open: Callable[[SourceName, Any, Telemetry], AbstractAsyncContextManager[Source]]
    """(name, options, telemetry): touches no network."""
    directory: Callable[[SourceName, Any, Telemetry], AbstractAsyncContextManager[DirectorySource]]
    """As `open`: the names that the same upstream knows."""
    probe: Callable[[SourceName, Any, Telemetry], Awaitable[Mapping[Listing, str | StreamerError]]]
    """(name, options, telemetry): asks each listing once; what it said, in a few words, or its verdict. For `check --online`."""


SOURCES: Mapping[str, SourceType] = {
    "openai_audit_logs": SourceType(
        options=OpenAIAuditLogsOptions,
        open=open_openai_audit_logs,
        directory=open_openai_directory,
        probe=probe_openai_audit_logs,
    ),
}


def source_options() -> dict[str, type[SourceOptions]]:
    return {name: kind.options for name, kind in SOURCES.items()}
