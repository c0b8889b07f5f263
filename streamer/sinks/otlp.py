"""OpenTelemetry logs over HTTP, in JSON (OTLP 1.x)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from pydantic import AfterValidator, Field

from streamer import __version__
from streamer.catalog import SEVERITY_NUMBERS
from streamer.config import BatchOptions
from streamer.errors import PermanentError
from streamer.model import Batch, Message, Record
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import as_json_string, check_request, unix_nanos
from streamer.sinks.http import Answer, Http, Verdicts, open_http, read_json
from streamer.sinks.http_options import HttpAuthOptions, Line, SiteUrl, authorization

_PATH = "/v1/logs"
_REQUEST_BYTES = 64 << 20
_RETRY = frozenset({429, 502, 503, 504})
_VERDICTS = Verdicts(
    success=frozenset({200}),
    retry=_RETRY,
    # The specification lets nothing else be sent again. A smaller part of it may be, so it is halved and dead-lettered.
    permanent=frozenset({400, 408, 413, 422, 425, *range(500, 600)}) - _RETRY - {501},
)


class OtlpBatch(BatchOptions):
    events: Annotated[int, Field(ge=1, le=50_000)] = 1000


def _base(url: str) -> str:
    return url.removesuffix(_PATH)


class OtlpOptions(HttpAuthOptions):
    """An OpenTelemetry collector, or another receiver of OTLP/HTTP logs."""

    url: Annotated[SiteUrl, AfterValidator(_base), Field(examples=["http://collector:4318"])]
    """Of the receiver; `/v1/logs` is added."""
    service_name: Line = "openai"
    """The resource's `service.name`."""
    batch: OtlpBatch = OtlpBatch()


# --- the request -----------------------------------------------------------------------------------------------------


def frame(service_name: str) -> tuple[bytes, bytes]:
    """What stands around the log records of a request."""
    head = (
        b'{"resourceLogs":[{"resource":{"attributes":[%b]},"scopeLogs":[{"scope":{"name":"openai-audit-streamer","version":%b},"logRecords":['
        % (_attribute("service.name", service_name), msgspec.json.encode(__version__))
    )
    return head, b"]}]}]}"


def _attribute(key: str, value: str) -> bytes:
    return b'{"key":"%b","value":{"stringValue":%b}}' % (key.encode(), msgspec.json.encode(value))


def encode(messages: Sequence[Message], around: tuple[bytes, bytes]) -> bytes:
    return around[0] + b",".join(map(_log_record, messages)) + around[1]


def _log_record(message: Message) -> bytes:
    envelope = message.record.envelope
    attributes = [
        _attribute("event.id", envelope.id),
        _attribute("openai.audit.source", envelope.source),
        _attribute("openai.audit.family", envelope.family),
        _attribute("openai.audit.outcome", envelope.outcome),
    ]
    if message.replayed:
        attributes.append(b'{"key":"streamer.replayed","value":{"boolValue":true}}')
    return (
        b'{"timeUnixNano":"%d","observedTimeUnixNano":"%d","severityNumber":%d,"severityText":"%b",'
        b'"eventName":%b,"body":{"stringValue":%b},"attributes":[%b]}'
        % (
            unix_nanos(envelope.time),
            unix_nanos(envelope.observed_at),
            SEVERITY_NUMBERS[envelope.severity].otlp,
            envelope.severity.encode(),
            msgspec.json.encode(envelope.type),
            as_json_string(message.body),
            b",".join(attributes),
        )
    )


# --- the answer ------------------------------------------------------------------------------------------------------


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_log_records: int | str = 0
    """64-bit numbers are strings in protobuf's JSON."""
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


_decode = msgspec.json.Decoder(_Response).decode


def rejected(answer: Answer) -> tuple[int, str]:
    """How many log records a success has thrown away, and why. (A body that is no JSON says nothing.)"""
    response = read_json(answer.body, _decode)
    partial = response.partial_success if response is not None else None
    if partial is None:
        return 0, ""
    try:
        count = int(partial.rejected_log_records)
    except ValueError:
        return 0, ""
    return max(count, 0), answer.says(partial.error_message)


class OtlpSink:
    def __init__(self, options: OtlpOptions, context: SinkContext, http: Http) -> None:
        self._url, self._http, self._set_aside = options.url + _PATH, http, context.set_aside
        self._around = frame(options.service_name)
        self._refused: dict[int, tuple[Record, str]] = {}
        """What was refused without leave to send it again, until it is dead-lettered; by identity, as `Taken`."""

    async def write(self, batch: Batch, /) -> None:
        self._check_refused(batch)
        answer = await self._post(encode(batch.messages, self._around))
        count, why = rejected(answer)
        if not count:
            return
        reason = f"{answer.where} rejected {count} of {len(batch)} log records{why}"
        if count < len(batch):
            # It does not say which, and forbids to ask again: they can only be counted.
            self._set_aside(count, reason)
            return
        self._refused = {id(m.record): (m.record, reason) for m in batch.messages}
        self._check_refused(batch)

    def _check_refused(self, batch: Batch) -> None:
        known = [self._refused.get(id(m.record)) for m in batch.messages]
        refused = [i for i, found in enumerate(known) if found]
        if refused:
            raise PermanentError(next(found[1] for found in known if found), rejected=refused)

    async def _post(self, body: bytes) -> Answer:
        check_request(body, _REQUEST_BYTES, "OTLP")
        answer = await self._http.post(self._url, body, {"Content-Type": "application/json"})
        _VERDICTS.judge(answer)
        return answer

    async def probe(self) -> str:
        answer = await self._post(b'{"resourceLogs":[]}')
        return f"{answer.where} takes logs"


@asynccontextmanager
async def open_otlp(options: OtlpOptions, context: SinkContext) -> AsyncIterator[OtlpSink]:
    async with open_http(options, context, authorization(options, context)) as http:
        yield OtlpSink(options, context, http)


async def probe_otlp(options: OtlpOptions, context: SinkContext) -> str:
    async with open_otlp(options, context) as sink:
        return await sink.probe()


SINK = SinkType(OtlpOptions, open_otlp, probe_otlp)
