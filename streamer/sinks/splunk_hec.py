"""Splunk's HTTP Event Collector, with indexer acknowledgement where the token has it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, ByteSize, Field, SecretStr, model_validator

from streamer.config import BatchOptions, Duration, one_secret, show_duration
from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch, Message
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import JSON_FORMATS, as_json
from streamer.sinks.http import Answer, Http, Verdicts, open_http, read_json
from streamer.sinks.http_options import Credential, HttpOptions, SiteUrl, secret_at

_PATH = "/services/collector"

# Codes of the body, which say more than the status: 400 stands for our configuration as well as for a bad event.
_CONFIG_CODES = frozenset({1, 2, 3, 4, 7, 10, 11, 14, 16, 21, 22})
_BAD_EVENT_CODES = frozenset({6, 12, 13, 15})
"""With these, `invalid-event-number` counts from 0. (With 7, a wrong index, it counts from 1: there it is not used.)"""
_NO_DATA = 5
_VERDICTS = Verdicts(success=frozenset({200}), permanent=frozenset({400, 413}))


class SplunkBatch(BatchOptions):
    bytes: Annotated[ByteSize, Field(ge=1024, le=256 << 20)] = ByteSize(750_000)


def _base(url: str) -> str:
    return url.removesuffix("/event").removesuffix(_PATH)


class SplunkHecOptions(HttpOptions):
    """Splunk HTTP Event Collector."""

    url: Annotated[SiteUrl, AfterValidator(_base), Field(examples=["https://splunk.example.com:8088"])]
    """The collector; `/services/collector` is added."""
    token: SecretStr | None = None
    """Of HTTP Event Collector."""
    token_file: Path | None = None
    index: str | None = None
    """None: the token's."""
    host: str | None = None
    """None: what Splunk fills in."""
    source: str = "openai-audit-streamer"
    """Splunk's `source`."""
    sourcetype: str = "openai:audit"
    """Splunk's `sourcetype`."""
    ack: bool = False
    """A batch counts only when the indexer has acknowledged it; the token must have acknowledgement on."""
    ack_poll: Duration = 2.0
    """How often the indexer is asked."""
    ack_timeout: Duration = 300.0
    """After that the batch is sent again."""
    batch: SplunkBatch = SplunkBatch()

    @model_validator(mode="after")
    def _has_token(self) -> "SplunkHecOptions":
        if one_secret("token", self.token, self.token_file) is None:
            raise ValueError("token is missing; add it, or token_file")
        return self


def metadata(options: SplunkHecOptions) -> bytes:
    """The keys that every event has alike, as the middle of a JSON object."""
    keys = {"host": options.host, "source": options.source, "sourcetype": options.sourcetype, "index": options.index}
    return msgspec.json.encode({k: v for k, v in keys.items() if v is not None})[1:-1]


def encode(messages: Sequence[Message], middle: bytes, is_json: bool) -> bytes:
    """JSON objects one behind the other, without an array around them."""
    return b"\n".join(_event(message, middle, is_json) for message in messages)


def _event(message: Message, middle: bytes, is_json: bool) -> bytes:
    envelope = message.record.envelope
    fields: dict[str, str] = {"event_id": envelope.id}
    if message.replayed:
        fields["replayed"] = "true"
    # Splunk refuses a time in exponent form.
    return b'{"time":%.3f,%b,"event":%b,"fields":%b}' % (
        envelope.time.timestamp(),
        middle,
        as_json(message, is_json),
        msgspec.json.encode(fields),
    )


def read(answer: Answer, events: int) -> dict[str, Any]:
    """The body of a success, or the verdict of a request with that many events."""
    said = _body(answer)
    code, text = said.get("code"), str(said.get("text", "")) or None
    sentence = f"{answer.where} answered {answer.status}, code {code}{answer.says(text)}"
    if code in _CONFIG_CODES:
        raise ConfigError(f"{sentence}; check token, index and ack")
    if code in _BAD_EVENT_CODES:
        number: Any = said.get("invalid-event-number")
        raise PermanentError(sentence, rejected=[number] if number in range(events) else None)
    _VERDICTS.judge(answer, text)
    if not isinstance(code, int) and "acks" not in said:
        raise ConfigError(f"{answer.where} does not answer as an event collector{answer.says()}; check the URL")
    return said


def _body(answer: Answer) -> dict[str, Any]:
    said = read_json(answer.body, msgspec.json.decode)
    return said if isinstance(said, dict) else {}


class SplunkHecSink:
    def __init__(self, options: SplunkHecOptions, http: Http) -> None:
        self._options, self._http = options, http
        self._middle, self._is_json = metadata(options), options.format in JSON_FORMATS
        self._channel = str(uuid.uuid4())
        self._headers = {"Content-Type": "application/json"}
        if options.ack:
            self._headers["X-Splunk-Request-Channel"] = self._channel

    async def write(self, batch: Batch, /) -> None:
        body = encode(batch.messages, self._middle, self._is_json)
        answer = await self._http.post(f"{self._options.url}{_PATH}/event", body, self._headers)
        said = read(answer, len(batch))
        if self._options.ack:
            ack = said.get("ackId")
            if not isinstance(ack, int):
                raise ConfigError(
                    f"{answer.where}: the token has no indexer acknowledgement; enable it there, or set ack: false"
                )
            await self._acknowledged(ack, answer.where)

    async def _acknowledged(self, ack: int, where: str) -> None:
        """Until the indexer has the request. `false` also stands for lost, so in the end the batch is sent again."""
        failure = ""
        try:
            async with asyncio.timeout(self._options.ack_timeout):
                while True:
                    try:
                        if await self._is_acknowledged(ack):
                            return
                    except RetryableError as error:
                        failure = f": {error}"  # asking again sends nothing twice
                    # The poll is the protocol's, not a retry of ours; the stop deadline cancels it.
                    await asyncio.sleep(self._options.ack_poll)
        except TimeoutError:
            limit = show_duration(self._options.ack_timeout)
            raise RetryableError(f"{where}: the indexer acknowledged nothing within {limit}{failure}") from None

    async def _is_acknowledged(self, ack: int) -> bool:
        url = f"{self._options.url}{_PATH}/ack?channel={self._channel}"
        answer = await self._http.post(url, b'{"acks":[%d]}' % ack, self._headers)
        try:
            acks = read(answer, 0).get("acks")
        except PermanentError as error:
            raise ConfigError(f"{error}; check that acknowledgement is on for the token") from None
        return isinstance(acks, dict) and acks.get(str(ack)) is True

    async def probe(self) -> str:
        """The health of the collector, then a request without events, which only a good token gets refused for having none."""
        health = await self._http.get(f"{self._options.url}{_PATH}/health")
        read(health, 0)
        answer = await self._http.post(f"{self._options.url}{_PATH}/event", b"", self._headers)
        if _body(answer).get("code") != _NO_DATA:
            read(answer, 0)
        return f"{answer.where} is healthy and takes the token"


@asynccontextmanager
async def open_splunk_hec(options: SplunkHecOptions, context: SinkContext) -> AsyncIterator[SplunkHecSink]:
    token = secret_at(context, "token", options.token, options.token_file)
    assert token is not None
    # Behind a load balancer an acknowledgement must be asked of the collector that took the events.
    async with open_http(
        options, context, [Credential("Authorization", token, "Splunk ")], cookies=options.ack
    ) as http:
        yield SplunkHecSink(options, http)


async def probe_splunk_hec(options: SplunkHecOptions, context: SinkContext) -> str:
    async with open_splunk_hec(options, context) as sink:
        return await sink.probe()


SINK = SinkType(SplunkHecOptions, open_splunk_hec, probe_splunk_hec)
