"""Datadog's log intake."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from pydantic import ByteSize, Field, SecretStr, model_validator

from streamer.config import BatchOptions, one_secret
from streamer.model import Batch, Message, Severity
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import as_json_string, check_request, rfc3339, too_large
from streamer.sinks.http import Http, Verdicts, open_http
from streamer.sinks.http_options import Credential, HttpOptions, Line, SiteUrl, secret_at

_REQUEST_BYTES = 5_000_000
_ENTRY_BYTES = 1_000_000
"""Longer ones are cut there, and still answered with 202."""
_OLDEST_S = 18 * 3600.0
_MARGIN_S = 1800.0
"""For the way there, and for the clocks."""
_VERDICTS = Verdicts(success=frozenset({200, 202}), permanent=frozenset({400, 413}))
_STATUS: dict[Severity, str] = {
    "informational": "info",
    "low": "notice",
    "medium": "warning",
    "high": "error",
    "critical": "critical",
}


class DatadogBatch(BatchOptions):
    events: Annotated[int, Field(ge=1, le=1000)] = 1000
    bytes: Annotated[ByteSize, Field(ge=1024, le=_REQUEST_BYTES)] = ByteSize(2 << 20)


class DatadogOptions(HttpOptions):
    """Datadog logs. An event older than 18 hours, which Datadog would throw away, is dated by its arrival and tagged `redated:true`."""

    site: Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")] = "datadoghq.com"
    """Your Datadog site, like `datadoghq.eu`."""
    url: SiteUrl | None = None
    """Instead of the intake of `site`."""
    api_key: SecretStr | None = None
    """An API key (not an application key)."""
    api_key_file: Path | None = None
    service: Line = "openai-audit"
    """Datadog's `service`."""
    hostname: Line | None = None
    """Datadog's `hostname`."""
    tags: list[Annotated[str, Field(pattern=r"^[^,\x00-\x1f]+$", max_length=200)]] = Field(default_factory=list)
    """`key:value`, added to every event."""
    batch: DatadogBatch = DatadogBatch()

    @model_validator(mode="after")
    def _fits(self) -> "DatadogOptions":
        if one_secret("api_key", self.api_key, self.api_key_file) is None:
            raise ValueError("api_key is missing; add it, or api_key_file")
        if self.format == "ecs":
            raise ValueError("format: ecs dates events by a field of its own, so Datadog drops old ones; use envelope")
        return self

    @property
    def oldest_accepted_s(self) -> float:
        return _OLDEST_S


def entry(message: Message, options: DatadogOptions, now: float) -> bytes:
    """One log. `now` in Unix seconds tells what is too old to keep its date."""
    envelope = message.record.envelope
    old = now - envelope.time.timestamp() > _OLDEST_S - _MARGIN_S
    tags = [f"source:{envelope.source}", f"family:{envelope.family}", *options.tags]
    tags += ["redated:true"] if old else []
    tags += ["replayed:true"] if message.replayed else []
    keys = {
        "ddsource": "openai",
        "ddtags": ",".join(tags),
        "service": options.service,
        "hostname": options.hostname,
        "status": _STATUS[envelope.severity],
        "timestamp": None if old else rfc3339(envelope.time),
        "event_id": envelope.id,
    }
    head = msgspec.json.encode({k: v for k, v in keys.items() if v is not None})
    return head[:-1] + b',"message":' + as_json_string(message.body) + b"}"


def encode(messages: Sequence[Message], options: DatadogOptions, now: float) -> bytes:
    entries = [entry(message, options, now) for message in messages]
    too_large(map(len, entries), _ENTRY_BYTES, "a log of Datadog's")
    return check_request(b"[" + b",".join(entries) + b"]", _REQUEST_BYTES, "Datadog")


class DatadogSink:
    def __init__(self, options: DatadogOptions, http: Http) -> None:
        self._options, self._http = options, http
        self._url = options.url or f"https://http-intake.logs.{options.site}/api/v2/logs"

    async def write(self, batch: Batch, /) -> None:
        body = encode(batch.messages, self._options, time.time())
        _VERDICTS.judge(await self._http.post(self._url, body, {"Content-Type": "application/json"}))

    async def probe(self) -> str:
        """The site tells whether it knows the key; another intake can only be reached."""
        if self._options.url is not None:
            return await self._http.reach(self._url)
        answer = await self._http.get(f"https://api.{self._options.site}/api/v1/validate")
        _VERDICTS.judge(answer)
        return f"{answer.where} knows the API key"


@asynccontextmanager
async def open_datadog(options: DatadogOptions, context: SinkContext) -> AsyncIterator[DatadogSink]:
    key = secret_at(context, "api_key", options.api_key, options.api_key_file)
    assert key is not None
    async with open_http(options, context, [Credential("DD-API-KEY", key)]) as http:
        yield DatadogSink(options, http)


async def probe_datadog(options: DatadogOptions, context: SinkContext) -> str:
    async with open_datadog(options, context) as sink:
        return await sink.probe()


SINK = SinkType(DatadogOptions, open_datadog, probe_datadog)
