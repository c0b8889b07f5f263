"""Microsoft Sentinel, by Azure Monitor's Logs Ingestion API."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
from pydantic import ByteSize, Field, SecretStr, model_validator

from streamer.config import BatchOptions, FormatName, Secret, one_secret
from streamer.errors import ConfigError
from streamer.model import Batch, Message
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import check_request, too_large
from streamer.sinks.http import Answer, Http, Verdicts, open_http, read_json
from streamer.sinks.http_options import HttpOptions, SiteUrl, secret_at

_REQUEST_BYTES = 1 << 20
"""Counted compressed and uncompressed."""
_FIELD_BYTES = 64 << 10
"""Longer ones are cut there without a word."""
_EARLY_S = 300.0
"""A token is renewed so long before its end."""
_VERDICTS = Verdicts(success=frozenset({200, 204}), permanent=frozenset({400, 413}))
_TOKEN = Verdicts(success=frozenset({200}), permanent=frozenset())


class SentinelBatch(BatchOptions):
    bytes: Annotated[ByteSize, Field(ge=1024, le=_REQUEST_BYTES)] = ByteSize(512 << 10)


class SentinelOptions(HttpOptions):
    """Logs Ingestion API with the client credentials of an app registration that may write to the data collection rule.

    The format decides what a row is: `raw` (default) fills the columns of Microsoft's own OpenAI stream, so that what is written for its table
    works; `envelope`, `ocsf` and `ecs` are rows as they stand, for a stream of your own.
    """

    endpoint: Annotated[SiteUrl, Field(examples=["https://NAME.REGION-1.ingest.monitor.azure.com"])]
    """Logs ingestion endpoint of the data collection rule or endpoint."""
    rule: Annotated[str, Field(pattern=r"^dcr-[0-9a-zA-Z]+$")]
    """Immutable id of the data collection rule."""
    stream: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "Custom-OpenAIAuditLogs_CL"
    """The stream of the rule."""
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")]
    """Of Entra ID."""
    client_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]+$")]
    """Of the app registration."""
    client_secret: SecretStr | None = None
    """Of the app registration."""
    client_secret_file: Path | None = None
    authority: SiteUrl = "https://login.microsoftonline.com"
    """Where tokens come from; another one in national clouds."""
    audience: SiteUrl = "https://monitor.azure.com"
    """What tokens are for; another one in national clouds."""
    format: FormatName = "raw"
    """What a row is: `raw`, `envelope`, `ocsf` or `ecs`."""
    batch: SentinelBatch = SentinelBatch()

    @model_validator(mode="after")
    def _fits(self) -> "SentinelOptions":
        if one_secret("client_secret", self.client_secret, self.client_secret_file) is None:
            raise ValueError("client_secret is missing; add it, or client_secret_file")
        if self.format in ("cef", "leef"):
            raise ValueError(f"format: {self.format} is text and no row; use raw, envelope, ocsf or ecs")
        return self


# --- the rows --------------------------------------------------------------------------------------------------------


class _Upstream(msgspec.Struct):
    actor: msgspec.Raw = msgspec.Raw(b"null")
    project: msgspec.Raw = msgspec.Raw(b"null")


_upstream = msgspec.json.Decoder(_Upstream).decode


def columns(message: Message) -> bytes:
    """A row of Microsoft's stream: upstream's own objects, the payload under one name."""
    envelope = message.record.envelope
    try:
        event = _upstream(envelope.event)
    except msgspec.DecodeError:
        event = _Upstream()
    row: dict[str, Any] = {
        "id": envelope.id,
        "type": envelope.type,
        "effective_at": int(envelope.time.timestamp()),
        "project": event.project,
        "actor": event.actor,
        "EventDetails": envelope.details,
        "friendlyName": envelope.source,
    }
    return msgspec.json.encode(row)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def encode(messages: Sequence[Message], name: FormatName) -> bytes:
    """A JSON array of rows."""
    rows = [columns(message) if name == "raw" else message.body for message in messages]
    longest = (max((len(bytes(field)) for field in _fields(row).values()), default=0) for row in rows)
    too_large(longest, _FIELD_BYTES, "a column of Azure Monitor's")
    return check_request(b"[" + b",".join(rows) + b"]", _REQUEST_BYTES, "Azure Monitor")


# --- the requests ----------------------------------------------------------------------------------------------------


class _Grant(msgspec.Struct):
    access_token: str
    expires_in: int = 3600


_decode_grant = msgspec.json.Decoder(_Grant).decode


class SentinelSink:
    def __init__(self, options: SentinelOptions, secret: Secret, http: Http) -> None:
        self._options, self._secret, self._http = options, secret, http
        self._url = f"{options.endpoint}/dataCollectionRules/{options.rule}/streams/{quote(options.stream)}?api-version=2023-01-01"
        self._token: tuple[str, float] = ("", 0.0)
        """And until when it is used, on the monotonic clock."""

    async def write(self, batch: Batch, /) -> None:
        body = encode(batch.messages, self._options.format)
        answer = await self._send(body)
        if answer.status == 401:
            # A token can be withdrawn before its end; a fresh one that is refused too is our mistake.
            self._token = ("", 0.0)
            answer = await self._send(body)
        _VERDICTS.judge(answer)

    async def _send(self, body: bytes) -> Answer:
        token = await self.bearer()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        return await self._http.post(self._url, body, headers, hide=(token,))

    async def bearer(self) -> str:
        """The token of this moment. A refusal is ours to mend; nothing of it is about the events."""
        token, until = self._token
        if time.monotonic() < until:
            return token
        secret = self._secret.reveal()
        form = {
            "grant_type": "client_credentials",
            "client_id": self._options.client_id,
            "client_secret": secret,
            "scope": self._options.audience + "/.default",
        }
        answer = await self._http.post(
            f"{self._options.authority}/{self._options.tenant_id}/oauth2/v2.0/token",
            urlencode(form).encode(),
            {"Content-Type": "application/x-www-form-urlencoded"},
            hide=(secret,),
            gzip=False,
        )
        if _TOKEN.verdict(answer.status) != "config":
            _TOKEN.judge(answer)
            grant = read_json(answer.body, _decode_grant)
            if grant is not None:
                self._token = (grant.access_token, time.monotonic() + max(grant.expires_in - _EARLY_S, 0))
                return grant.access_token
        raise ConfigError(
            f"{answer.where} gave no token: {answer.status}{answer.says()}; check tenant_id, client_id and client_secret"
        )


@asynccontextmanager
async def open_sentinel(options: SentinelOptions, context: SinkContext) -> AsyncIterator[SentinelSink]:
    secret = secret_at(context, "client_secret", options.client_secret, options.client_secret_file)
    assert secret is not None
    async with open_http(options, context) as http:
        yield SentinelSink(options, secret, http)


async def probe_sentinel(options: SentinelOptions, context: SinkContext) -> str:
    """A token shows the credentials; whether they may write to the rule shows only with a row."""
    async with open_sentinel(options, context) as sink:
        await sink.bearer()
        return f"{options.authority} gave a token"


SINK = SinkType(SentinelOptions, open_sentinel, probe_sentinel)
