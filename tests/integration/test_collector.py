"""The otlp sink against a real OpenTelemetry collector."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamer.catalog import SEVERITY_NUMBERS
from streamer.errors import RetryableError
from streamer.model import Batch
from streamer.sinks.otlp import OtlpOptions, open_otlp, probe_otlp
from tests.integration.child import go_built, running
from tests.ports import free_port
from tests.receiver import Receiver, batch, context, receiver, says

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def program() -> Path:
    return go_built("collector", Path(__file__).parent / "collector")


@asynccontextmanager
async def collector(program: Path, folder: Path, forward_to: str, port: int | None = None) -> AsyncIterator[str]:
    port = port or free_port()
    config = folder / "collector.yaml"
    config.write_text(
        f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{otlphttp: {{endpoint: "{forward_to}", encoding: json, compression: none, sending_queue: {{enabled: false}}, retry_on_failure: {{enabled: false}}}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [otlp], exporters: [otlphttp]}}}}
"""
    )
    with running([str(program), f"--config=file:{config}"], folder / "log", lambda said: "Everything is ready" in said):
        yield f"http://127.0.0.1:{port}"


def records_of(server: Receiver) -> list[dict[str, Any]]:
    return [
        record
        for request in server.requests
        for resource in request.json["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


async def test_the_collector_understands_every_record(program: Path, tmp_path: Path) -> None:
    """Goal: what we send is OTLP to the reference implementation; method: it hands on what it understood, compared field by field."""
    events = batch(50)
    async with receiver(lambda _: says(200, "{}")) as server, collector(program, tmp_path, server.url) as url:
        made = OtlpOptions.model_validate({"url": url})
        assert "takes logs" in await probe_otlp(made, context(tmp_path))
        async with open_otlp(made, context(tmp_path)) as sink:
            await sink.write(events)
        found = records_of(server)
        assert (
            server.requests[-1].json["resourceLogs"][0]["resource"]["attributes"][0]["value"]["stringValue"] == "openai"
        )
    assert len(found) == 50
    for record, sent in zip(found, events.messages, strict=True):
        envelope = sent.record.envelope
        assert record["body"]["stringValue"].encode() == sent.body
        assert record["severityNumber"] == SEVERITY_NUMBERS[envelope.severity].otlp
        assert record["severityText"] == envelope.severity
        assert record["eventName"] == envelope.type
        assert int(record["timeUnixNano"]) == int(envelope.time.timestamp()) * 10**9
        attributes = {a["key"]: a["value"] for a in record["attributes"]}
        assert attributes["event.id"]["stringValue"] == envelope.id


async def test_a_collector_whose_backend_is_down_is_waited_for(program: Path, tmp_path: Path) -> None:
    """Goal: the collector's own answer to trouble behind it is retryable; method: its backend answers 503, then takes."""
    statuses = [503]
    async with receiver(lambda _: says(statuses[0], "{}")) as server, collector(program, tmp_path, server.url) as url:
        async with open_otlp(OtlpOptions.model_validate({"url": url}), context(tmp_path)) as sink:
            with pytest.raises(RetryableError):
                await sink.write(batch(3))
            statuses[0] = 200
            await sink.write(batch(3))
        assert len(records_of(server)) == 6


async def test_a_collector_that_goes_and_comes_back(program: Path, tmp_path: Path) -> None:
    """Goal: an outage of the collector loses nothing; method: write before, while and after it is gone, with one sink."""
    port = free_port()
    made = OtlpOptions.model_validate({"url": f"http://127.0.0.1:{port}"})
    events = batch(9)
    first, second = Batch(events.messages[:4]), Batch(events.messages[4:])
    async with receiver(lambda _: says(200, "{}")) as server, open_otlp(made, context(tmp_path)) as sink:
        async with collector(program, tmp_path, server.url, port):
            await sink.write(first)
        with pytest.raises(RetryableError):
            await sink.write(second)
        async with collector(program, tmp_path, server.url, port):
            await sink.write(second)
        assert [r["body"]["stringValue"].encode() for r in records_of(server)] == [m.body for m in events.messages]
