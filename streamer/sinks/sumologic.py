"""Sumo Logic's HTTP source: one event a line, to a URL that is itself the credential."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import AfterValidator, ByteSize, Field

from streamer.config import BatchOptions
from streamer.model import Batch
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import JSON_FORMATS
from streamer.sinks.http import Http, Verdicts, open_http
from streamer.sinks.http_options import HttpOptions, Line, SecretUrlOptions, checked_url, secret_at

# The source looks at no event, so a 400 is about our headers. 200 also when a budget of theirs drops the data: nothing tells.
_VERDICTS = Verdicts(success=frozenset({200}), permanent=frozenset({413}))


class SumologicBatch(BatchOptions):
    bytes: Annotated[ByteSize, Field(ge=1024, le=1_000_000)] = ByteSize(500_000)


def _fields(fields: Mapping[str, str]) -> Mapping[str, str]:
    if any("," in text or "=" in text for pair in fields.items() for text in pair):
        raise ValueError("a field holds neither , nor =")
    return fields


class SumologicOptions(HttpOptions, SecretUrlOptions):
    """Sumo Logic, Hosted Collector, HTTP Logs source."""

    name: Line | None = None
    """X-Sumo-Name."""
    host: Line | None = None
    """X-Sumo-Host."""
    category: Line | None = None
    """X-Sumo-Category."""
    fields: Annotated[dict[Line, Line], AfterValidator(_fields)] = Field(default_factory=dict)
    """Sent as X-Sumo-Fields; the account must know them."""
    batch: SumologicBatch = SumologicBatch()


def headers(options: SumologicOptions, replayed: bool) -> dict[str, str]:
    fields = {**options.fields, **({"replayed": "true"} if replayed else {})}
    found = {
        "Content-Type": "application/json" if options.format in JSON_FORMATS else "text/plain; charset=utf-8",
        "X-Sumo-Name": options.name,
        "X-Sumo-Host": options.host,
        "X-Sumo-Category": options.category,
        "X-Sumo-Fields": ",".join(f"{key}={value}" for key, value in fields.items()) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def encode(batch: Batch) -> bytes:
    return b"\n".join(message.body for message in batch.messages)


class SumologicSink:
    def __init__(self, options: SumologicOptions, context: SinkContext, http: Http) -> None:
        url = secret_at(context, "url", options.url, options.url_file)
        assert url is not None
        self._options, self._http, self._url, self._where = options, http, url, f"sinks.{context.name}.url"

    async def write(self, batch: Batch, /) -> None:
        sent = headers(self._options, batch.messages[0].replayed)
        _VERDICTS.judge(await self._http.post(self.url(), encode(batch), sent))

    def url(self) -> str:
        return checked_url(self._where, self._url.reveal())

    async def probe(self) -> str:
        """A request with a body would be an event: shows that the collector can be reached."""
        return await self._http.reach(self.url())


@asynccontextmanager
async def open_sumologic(options: SumologicOptions, context: SinkContext) -> AsyncIterator[SumologicSink]:
    async with open_http(options, context) as http:
        sink = SumologicSink(options, context, http)
        sink.url()
        yield sink


async def probe_sumologic(options: SumologicOptions, context: SinkContext) -> str:
    async with open_sumologic(options, context) as sink:
        return await sink.probe()


SINK = SinkType(SumologicOptions, open_sumologic, probe_sumologic)
