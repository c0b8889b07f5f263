"""Grafana Loki: three labels, the rest as structured metadata, lines that are the same on every try."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from pydantic import AfterValidator, Field

from streamer.config import BatchOptions
from streamer.model import Batch, Message
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import as_json_string, too_large, unix_nanos
from streamer.sinks.http import Http, Verdicts, open_http
from streamer.sinks.http_options import HttpAuthOptions, Line, SiteUrl, authorization

_PATH = "/loki/api/v1/push"
_LINE_BYTES = 256 << 10
# 260 says that the tenant's pushes are blocked: it is in none of the sets, so it holds.
_VERDICTS = Verdicts(success=frozenset({200, 204}), permanent=frozenset({400, 413}))


class LokiBatch(BatchOptions):
    events: Annotated[int, Field(ge=1, le=50_000)] = 1000


def _base(url: str) -> str:
    return url.removesuffix(_PATH)


class LokiOptions(HttpAuthOptions):
    """Grafana Loki, also Grafana Cloud."""

    url: Annotated[SiteUrl, AfterValidator(_base), Field(examples=["http://loki:3100"])]
    """Of Loki; `/loki/api/v1/push` is added."""
    tenant: Line | None = None
    """Sent as X-Scope-OrgID."""
    job: Line = "openai-audit"
    """The label `job`."""
    structured_metadata: bool = True
    """id, type, severity and actor beside each line; false for a Loki older than 3.0."""
    batch: LokiBatch = LokiBatch()

    @property
    def oldest_accepted_s(self) -> float:
        """`reject_old_samples_max_age` as Loki ships it. And a late event is refused once its stream is an hour ahead of it."""
        return 168 * 3600.0


Labels = tuple[str, str]
"""Source and family."""


def encode(messages: Sequence[Message], job: str, structured_metadata: bool) -> bytes:
    """One stream for each source and family, oldest event first, as Loki wants them."""
    streams: dict[Labels, list[tuple[int, bytes]]] = {}
    for message in messages:
        envelope = message.record.envelope
        nanos = unix_nanos(envelope.time)
        metadata = b"," + _metadata(message) if structured_metadata else b""
        value = b'["%d",%b%b]' % (nanos, as_json_string(message.body), metadata)
        streams.setdefault((envelope.source, envelope.family), []).append((nanos, value))
    parts = []
    for (org, family), values in streams.items():
        values.sort(key=lambda value: value[0])
        labels = msgspec.json.encode({"job": job, "org": org, "family": family})
        parts.append(b'{"stream":%b,"values":[%b]}' % (labels, b",".join(value for _, value in values)))
    return b'{"streams":[%b]}' % b",".join(parts)


def _metadata(message: Message) -> bytes:
    envelope = message.record.envelope
    found = {"event_id": envelope.id, "type": envelope.type, "severity": envelope.severity}
    if envelope.actor is not None and envelope.actor.id:
        found["actor"] = envelope.actor.id
    if message.replayed:
        found["replayed"] = "true"
    return msgspec.json.encode(found)


class LokiSink:
    def __init__(self, options: LokiOptions, http: Http) -> None:
        self._options, self._http = options, http
        self._headers = {"Content-Type": "application/json"}
        if options.tenant is not None:
            self._headers["X-Scope-OrgID"] = options.tenant

    async def write(self, batch: Batch, /) -> None:
        too_large((len(message.body) for message in batch.messages), _LINE_BYTES, "a line of Loki's")
        body = encode(batch.messages, self._options.job, self._options.structured_metadata)
        _VERDICTS.judge(await self._http.post(self._options.url + _PATH, body, self._headers))


@asynccontextmanager
async def open_loki(options: LokiOptions, context: SinkContext) -> AsyncIterator[LokiSink]:
    async with open_http(options, context, authorization(options, context)) as http:
        yield LokiSink(options, http)


async def probe_loki(options: LokiOptions, context: SinkContext) -> str:
    """Loki has no request that writes nothing and needs the right to write: shows that it can be reached."""
    async with open_http(options, context, authorization(options, context)) as http:
        return await http.reach(options.url + "/ready")


SINK = SinkType(LokiOptions, open_loki, probe_loki)
