"""Elasticsearch and OpenSearch: `_bulk` with `create` and our id, so that what is sent twice is there once."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from pydantic import ByteSize, Field, SecretStr, model_validator

from streamer.config import BatchOptions, FormatName, one_secret
from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch, Message
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import Taken, as_json_string, rfc3339
from streamer.sinks.http import Answer, Http, Verdict, Verdicts, open_http, read_json
from streamer.sinks.http_options import Credential, HttpAuthOptions, SiteUrl, authorization, secret_at

_ID_BYTES = 512
_VERDICTS = Verdicts(success=frozenset({200}), permanent=frozenset({400, 413}))
_ITEM = Verdicts(success=frozenset({200, 201, 409}), permanent=frozenset({400, 413}))
"""409: a document of that id is there already, from an earlier try."""
_FILTER = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.failure_store"


class ElasticsearchBatch(BatchOptions):
    events: Annotated[int, Field(ge=1, le=50_000)] = 1000
    bytes: Annotated[ByteSize, Field(ge=1024, le=64 << 20)] = ByteSize(4 << 20)


class ElasticsearchOptions(HttpAuthOptions):
    """Elasticsearch or OpenSearch, an index or a data stream.

    The format decides what a document is: `ecs` (default) is sent past the index's own ingest pipeline, `raw` is upstream's
    JSON under `message` for Elastic's OpenAI integration to work on, `envelope` and `ocsf` stand as they are.
    """

    url: Annotated[SiteUrl, Field(examples=["https://elastic.example.com:9200"])]
    """Of the cluster."""
    api_key: SecretStr | None = None
    """As Elasticsearch shows it once: base64 of id:key."""
    api_key_file: Path | None = None
    index: str = "logs-openai.audit-default"
    """An index, or a data stream (a name that begins with `logs-`)."""
    pipeline: str | None = None
    """An ingest pipeline. None: `_none` for `ecs`, else what the index has."""
    format: FormatName = "ecs"
    """`ecs`, `envelope`, `ocsf` or `raw`: what a document is."""
    event: Literal["keep", "string", "drop"] = "string"
    batch: ElasticsearchBatch = ElasticsearchBatch()

    @model_validator(mode="after")
    def _fits(self) -> "ElasticsearchOptions":
        if self.format in ("cef", "leef"):
            raise ValueError(f"format: {self.format} is text and no document; use ecs, envelope, ocsf or raw")
        key = one_secret("api_key", self.api_key, self.api_key_file)
        if key is not None and (self.bearer or self.bearer_file or self.username):
            raise ValueError("api_key excludes bearer and username; keep one")
        return self


# --- the request -----------------------------------------------------------------------------------------------------


def action(options: ElasticsearchOptions) -> tuple[bytes, bytes]:
    """What stands before and behind the id in every action line."""
    pipeline = options.pipeline or ("_none" if options.format == "ecs" else None)
    tail = b',"pipeline":' + msgspec.json.encode(pipeline) if pipeline else b""
    return b'{"create":{"_index":' + msgspec.json.encode(options.index) + b',"_id":', tail + b"}}\n"


def document_id(event_id: str) -> str:
    encoded = event_id.encode("utf-8", "surrogatepass")
    return event_id if 0 < len(encoded) <= _ID_BYTES else hashlib.sha256(encoded).hexdigest()


def document(message: Message, name: FormatName) -> bytes:
    """One document; a data stream wants `@timestamp` in each."""
    if name == "ecs":
        return message.body
    stamp = b'{"@timestamp":"%b",' % rfc3339(message.record.envelope.time).encode()
    if name == "raw":
        return stamp + b'"message":' + as_json_string(message.body) + b"}"
    return stamp + message.body[1:]


def encode(messages: Sequence[Message], around: tuple[bytes, bytes], name: FormatName) -> bytes:
    """NDJSON: an action and a document for each."""
    before, behind = around
    parts: list[bytes] = []
    for message in messages:
        identity = msgspec.json.encode(document_id(message.record.envelope.id))
        parts += (before, identity, behind, document(message, name), b"\n")
    return b"".join(parts)


# --- the answer ------------------------------------------------------------------------------------------------------


class _Error(msgspec.Struct):
    type: str = ""
    reason: str | None = ""


class _Item(msgspec.Struct):
    status: int
    error: _Error | None = None
    failure_store: str | None = None


class _Bulk(msgspec.Struct):
    errors: bool
    items: list[dict[str, _Item]] = []


_decode = msgspec.json.Decoder(_Bulk).decode


def read(answer: Answer, count: int) -> list[_Item]:
    """The items of an answer to that many documents, in their order."""
    _VERDICTS.judge(answer)
    bulk = read_json(answer.body, _decode)
    if bulk is None:
        raise ConfigError(f"{answer.where} does not answer as _bulk does{answer.says()}; check the URL")
    items = [next(iter(item.values())) for item in bulk.items if item]
    if len(items) != count:
        raise RetryableError(f"{answer.where} answered for {len(items)} of {count} documents")
    return items


class ElasticsearchSink:
    def __init__(self, options: ElasticsearchOptions, context: SinkContext, http: Http) -> None:
        self._options, self._http, self._set_aside = options, http, context.set_aside
        self._around = action(options)
        self._taken = Taken()

    async def write(self, batch: Batch, /) -> None:
        rest = self._taken.rest(batch)
        if rest:
            body = encode([batch.messages[i] for i in rest], self._around, self._options.format)
            url = f"{self._options.url}/_bulk?{_FILTER}"
            answer = await self._http.post(url, body, {"Content-Type": "application/x-ndjson"})
            self._judge(batch, rest, read(answer, len(rest)), answer)
        self._taken.finish(batch)

    def _judge(self, batch: Batch, sent: Sequence[int], items: Sequence[_Item], answer: Answer) -> None:
        """Remembers what was taken; raises the gravest verdict over the others."""
        failed: dict[Verdict, list[tuple[int, _Item]]] = {}
        stored_elsewhere = 0
        for i, item in zip(sent, items, strict=True):
            verdict = _ITEM.verdict(item.status)
            if verdict == "success":
                self._taken.add(batch.messages[i])
                stored_elsewhere += item.failure_store == "used"
            else:
                failed.setdefault(verdict, []).append((i, item))
        if stored_elsewhere:
            self._set_aside(stored_elsewhere, f"{answer.where} put them into the failure store; look there for why")
        for verdict in ("config", "permanent", "retry"):
            if verdict in failed:
                raise _error(verdict, failed[verdict], len(batch), answer)


def _error(verdict: Verdict, failed: Sequence[tuple[int, _Item]], count: int, answer: Answer) -> Exception:
    item = failed[0][1]
    why = f"{item.error.type}: {item.error.reason}" if item.error else ""
    sentence = f"{answer.where} answered {item.status} for {len(failed)} of {count} documents{answer.says(why)}"
    if verdict == "permanent":
        return PermanentError(sentence, rejected=[i for i, _ in failed])
    if verdict == "retry":
        return RetryableError(sentence, retry_after=answer.retry_after)
    return ConfigError(f"{sentence}; check index, its template and the permissions on it")


# --- opening ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _client(options: ElasticsearchOptions, context: SinkContext) -> AsyncIterator[Http]:
    key = secret_at(context, "api_key", options.api_key, options.api_key_file)
    credentials = [Credential("Authorization", key, "ApiKey ")] if key else authorization(options, context)
    async with open_http(options, context, credentials) as http:
        yield http


@asynccontextmanager
async def open_elasticsearch(options: ElasticsearchOptions, context: SinkContext) -> AsyncIterator[ElasticsearchSink]:
    async with _client(options, context) as http:
        yield ElasticsearchSink(options, context, http)


class _Version(msgspec.Struct):
    number: str = "?"
    distribution: str = "elasticsearch"


class _About(msgspec.Struct):
    version: _Version


_decode_about = msgspec.json.Decoder(_About).decode


async def probe_elasticsearch(options: ElasticsearchOptions, context: SinkContext) -> str:
    async with _client(options, context) as http:
        answer = await http.get(options.url + "/")
        _VERDICTS.judge(answer)
        about = read_json(answer.body, _decode_about)
        if about is None:
            raise ConfigError(f"{answer.where} is no Elasticsearch{answer.says()}; check the URL")
        return f"{answer.where} is {about.version.distribution} {about.version.number}"


SINK = SinkType(ElasticsearchOptions, open_elasticsearch, probe_elasticsearch)
