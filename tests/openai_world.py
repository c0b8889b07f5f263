"""An Admin API that answers by script, one that asks it, and the key that no message may show."""

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamer.errors import ConfigError, RetryableError, StreamerError
from streamer.model import SourceName
from streamer.sources.openai_api import AdminApi, open_admin_api
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.telemetry import Telemetry
from tests.wire import Script, Wire, reply, wire

KEY = "sk-admin-Very_Secret-0123456789"
WHERE = "sources.acme (listing tenant)"
GOOD = reply('{"data":[]}')
ERROR = '{"error":{"message":"It is so.","type":"some_error","param":"limit","code":null}}'


def made(base_url: str, **more: Any) -> OpenAIAuditLogsOptions:
    key = {} if "api_key_file" in more else {"api_key": KEY}
    return OpenAIAuditLogsOptions.model_validate({"base_url": base_url, **key, **more})


@asynccontextmanager
async def asking(
    answer: Script, telemetry: Telemetry | None = None, **more: Any
) -> AsyncIterator[tuple[AdminApi, Wire]]:
    async with (
        wire(answer) as upstream,
        open_admin_api(SourceName("acme"), made(upstream.base_url, **more), telemetry or Telemetry()) as api,
    ):
        yield api, upstream


async def get(api: AdminApi, query: str = "limit=1") -> bytes:
    return (await api.get("organization/audit_logs", query, WHERE, bytes))[0]


async def failing(answer: Script, query: str = "limit=1", **more: Any) -> StreamerError:
    """The verdict; whatever it is, the key is not in it."""
    async with asking(answer, **more) as (api, _):
        with pytest.raises((ConfigError, RetryableError)) as caught:
            await get(api, query)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in repr(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value
