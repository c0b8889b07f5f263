"""The otlp, loki, datadog, sentinel and sumologic sinks against servers that keep their contracts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from pydantic import ValidationError
from structlog.testing import capture_logs

from streamer.app import open_daemon
from streamer.config import config_model
from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch
from streamer.sinks import sink_options
from streamer.sinks.datadog import DatadogOptions, open_datadog, probe_datadog
from streamer.sinks.loki import LokiOptions, open_loki, probe_loki
from streamer.sinks.otlp import OtlpOptions, open_otlp, probe_otlp
from streamer.sinks.sentinel import SentinelOptions, open_sentinel, probe_sentinel
from streamer.sinks.sumologic import SumologicOptions, open_sumologic, probe_sumologic
from streamer.sources import source_options
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.receiver import AT, Request, batch, context, ids, message, receiver, says

OPEN: dict[str, Any] = {
    "otlp": (OtlpOptions, open_otlp),
    "loki": (LokiOptions, open_loki),
    "datadog": (DatadogOptions, open_datadog),
    "sumologic": (SumologicOptions, open_sumologic),
    "sentinel": (SentinelOptions, open_sentinel),
}


def given(name: str, url: str) -> dict[str, Any]:
    """The least that an operator writes."""
    match name:
        case "datadog":
            return {"url": url, "api_key": "dd-key"}
        case "sentinel":
            return {
                "endpoint": url,
                "authority": url,
                "rule": "dcr-1",
                "tenant_id": "t",
                "client_id": "c",
                "client_secret": "client-secret",
            }
    return {"url": url}


def token_or(answer: web.Response, request: Request) -> web.Response:
    return says(200, {"access_token": "tok", "expires_in": 3600}) if "oauth2" in request.path else answer


async def verdict(name: str, folder: Path, status: int, **headers: str) -> BaseException | None:
    """What a write raises when the server answers so."""
    options, opened = OPEN[name]
    async with (
        receiver(lambda r: token_or(says(status, "text", **headers), r)) as server,
        opened(options.model_validate(given(name, server.url)), context(folder)) as sink,
    ):
        try:
            await sink.write(batch(2))
        except (ConfigError, RetryableError, PermanentError) as error:
            return error
    return None


@pytest.mark.parametrize(
    ("name", "success", "retry", "permanent", "config"),
    [
        ("otlp", [200], [429, 502, 503, 504], [400, 408, 413, 500, 507], [202, 302, 401, 403, 404, 501]),
        ("loki", [200, 204], [429, 500, 502, 503, 504], [400, 413], [201, 260, 302, 401, 403, 404]),
        ("datadog", [200, 202], [408, 429, 500, 502, 503, 504], [400, 413], [204, 302, 401, 403, 404]),
        ("sentinel", [200, 204], [408, 429, 500, 502, 503, 504], [400, 413], [201, 302, 401, 403, 404]),
        ("sumologic", [200], [408, 429, 500, 502, 503, 504], [413], [202, 302, 400, 401, 404]),
    ],
)
async def test_every_status_has_its_verdict(
    tmp_path: Path, name: str, success: list[int], retry: list[int], permanent: list[int], config: list[int]
) -> None:
    """Goal: each sink's small table. Method: answer each status and look at what is raised."""
    kinds = {None: success, RetryableError: retry, PermanentError: permanent, ConfigError: config}
    for kind, statuses in kinds.items():
        for status in statuses:
            error = await verdict(name, tmp_path, status, Retry_After="9")
            assert (type(error) if error else None) is kind, status
            if isinstance(error, RetryableError):
                assert error.retry_after == 9


@pytest.mark.parametrize("name", ["otlp", "loki", "datadog", "sentinel", "sumologic"])
async def test_a_retry_repeats_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Goal: a store that drops exact duplicates can. Method: 503, then success; compare the bodies."""
    options, opened = OPEN[name]
    statuses = iter([503, 200])
    async with (
        receiver(lambda r: token_or(web.Response(), r) if "oauth2" in r.path else says(next(statuses))) as server,
        opened(options.model_validate(given(name, server.url)), context(tmp_path)) as sink,
    ):
        events = batch(5)
        with pytest.raises(RetryableError):
            await sink.write(events)
        await sink.write(events)
        first, second = [r for r in server.requests if "oauth2" not in r.path]
    assert first.body == second.body
    assert first.headers["Content-Encoding"] == "gzip"


# --- otlp ------------------------------------------------------------------------------------------------------------


def otlp(url: str, **more: Any) -> OtlpOptions:
    return OtlpOptions.model_validate({"url": url, **more})


async def test_otlp_log_records(tmp_path: Path) -> None:
    """Goal: records as the OTLP JSON mapping has them. Method: read them from the request."""
    async with receiver(lambda _: says(200, "{}")) as server:
        async with open_otlp(otlp(server.url + "/v1/logs"), context(tmp_path)) as sink:
            events = [message(1, severity=s, replayed=s == "low") for s in ("informational", "low", "medium", "high")]
            await sink.write(Batch([*events, message(5, severity="critical")]))
        request = server.requests[0]
    assert request.path == "/v1/logs"
    resource = request.json["resourceLogs"][0]
    assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "openai"}}]
    records = resource["scopeLogs"][0]["logRecords"]
    assert [r["severityNumber"] for r in records] == [9, 10, 13, 17, 21]
    first = records[0]
    assert first["timeUnixNano"] == str(int(AT.timestamp() + 1) * 10**9)
    assert first["observedTimeUnixNano"].isdigit()
    assert first["eventName"] == "api_key.created"
    assert first["body"]["stringValue"].encode() == events[0].body
    assert {"key": "event.id", "value": {"stringValue": ids(events)[0]}} in first["attributes"]
    assert [any(a["key"] == "streamer.replayed" for a in r["attributes"]) for r in records] == [0, 1, 0, 0, 0]


async def test_otlp_partial_success_is_counted_and_never_sent_again(tmp_path: Path) -> None:
    """Goal: rejected records are not silent, and the batch is not sent again. Method: one of three rejected, then all, then a warning only."""
    heard: list[tuple[int, str]] = []
    made = context(tmp_path)
    listening = type(made)(
        name=made.name,
        position=made.position,
        journal=made.journal,
        folder=made.folder,
        set_aside=lambda count, reason: heard.append((count, reason)),
    )
    answers = iter(
        [
            {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}},
            {"partialSuccess": {"errorMessage": "a warning"}},
            {"partialSuccess": {"rejectedLogRecords": 3, "errorMessage": "all bad"}},
        ]
    )
    async with (
        receiver(lambda _: says(200, next(answers))) as server,
        open_otlp(otlp(server.url), listening) as sink,
    ):
        await sink.write(batch(3))
        assert [(n, "too old" in reason) for n, reason in heard] == [(1, True)]
        await sink.write(batch(3))
        events = batch(3)
        with pytest.raises(PermanentError, match="all bad") as caught:
            await sink.write(events)
        assert caught.value.rejected == [0, 1, 2]
        for one in events.messages:
            with pytest.raises(PermanentError, match="all bad"):
                await sink.write(Batch([one]))
        assert len(server.requests) == 3
    assert len(heard) == 1


async def test_otlp_probe_sends_no_record(tmp_path: Path) -> None:
    """Goal: `check --online` asks with an empty request. Method: see it arrive."""
    async with receiver(lambda _: says(200, "{}")) as server:
        assert "takes logs" in await probe_otlp(otlp(server.url), context(tmp_path))
        assert server.requests[0].json == {"resourceLogs": []}


# --- loki ------------------------------------------------------------------------------------------------------------


def loki(url: str, **more: Any) -> LokiOptions:
    return LokiOptions.model_validate({"url": url, **more})


async def test_loki_streams(tmp_path: Path) -> None:
    """Goal: three labels, oldest first, the rest as metadata. Method: events out of order from two sources and families."""
    events = [
        message(3, family="api_key"),
        message(1, family="api_key", replayed=True),
        message(2, family="api_key", source="other"),
        message(4, type="login.failed", family="login", actor=None),
    ]
    async with receiver(lambda _: says(204)) as server:
        async with open_loki(loki(server.url, tenant="t1"), context(tmp_path)) as sink:
            await sink.write(Batch(events))
        request = server.requests[0]
    assert request.path == "/loki/api/v1/push"
    assert request.headers["X-Scope-OrgID"] == "t1"
    streams = {tuple(s["stream"].values()): s["values"] for s in request.json["streams"]}
    assert set(streams) == {
        ("openai-audit", "acme", "api_key"),
        ("openai-audit", "other", "api_key"),
        ("openai-audit", "acme", "login"),
    }
    assert all(list(s["stream"]) == ["job", "org", "family"] for s in request.json["streams"])
    for values in streams.values():
        stamps = [int(v[0]) for v in values]
        assert stamps == sorted(stamps)
    login = streams[("openai-audit", "acme", "login")][0]
    assert login[0] == str(int(AT.timestamp() + 4) * 10**9)
    assert login[1].encode() == events[3].body
    assert login[2] == {
        "event_id": ids(events)[3],
        "type": "login.failed",
        "severity": events[3].record.envelope.severity,
    }
    replayed = [v for values in streams.values() for v in values if "replayed" in v[2]]
    assert [v[2]["event_id"] for v in replayed] == [ids(events)[1]]
    assert replayed[0][2]["actor"] == events[1].record.envelope.actor.id  # type: ignore[union-attr] # it has one


async def test_loki_without_structured_metadata_and_too_long_lines(tmp_path: Path) -> None:
    """Goal: older Lokis work, and a line that Loki would cut is not sent. Method: the option off; a line over 256 KiB among others."""
    async with (
        receiver(lambda _: says(204)) as server,
        open_loki(loki(server.url, structured_metadata=False), context(tmp_path)) as sink,
    ):
        await sink.write(batch(2))
        assert all(len(v) == 2 for s in server.requests[0].json["streams"] for v in s["values"])
        with pytest.raises(PermanentError, match="too large") as caught:
            await sink.write(Batch([message(1), message(2, body=lambda line: line + b" " * (256 << 10))]))
        assert caught.value.rejected == [1]
        assert len(server.requests) == 1
    assert loki("http://h/loki/api/v1/push").url == "http://h"
    assert loki("http://h").oldest_accepted_s == 7 * 86_400


async def test_loki_probe(tmp_path: Path) -> None:
    """Goal: `check --online` reaches it and writes nothing. Method: see what was asked."""
    async with receiver(lambda _: says(200, "ready")) as server:
        assert "reachable" in await probe_loki(loki(server.url), context(tmp_path))
        assert [(r.method, r.path) for r in server.requests] == [("HEAD", "/ready")]


# --- datadog ---------------------------------------------------------------------------------------------------------


def datadog(url: str, **more: Any) -> DatadogOptions:
    return DatadogOptions.model_validate({"url": url, "api_key": "dd-key", **more})


async def test_datadog_entries(tmp_path: Path) -> None:
    """Goal: entries as the intake has them; what is too old keeps no date that would lose it. Method: a fresh, an old and a replayed event."""
    fresh = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    old = fresh - timedelta(hours=18)
    events = [message(1, at=fresh), message(2, at=old), message(3, at=fresh, replayed=True)]
    async with receiver(lambda _: says(202, {})) as server:
        async with open_datadog(datadog(server.url, tags=["env:prod"], hostname="h"), context(tmp_path)) as sink:
            await sink.write(Batch(events))
        request = server.requests[0]
    assert request.headers["DD-API-KEY"] == "dd-key"
    first, second, third = request.json
    assert first["message"].encode() == events[0].body
    assert first["timestamp"] == fresh.isoformat().replace("+00:00", "Z")
    assert (first["ddsource"], first["service"], first["hostname"]) == ("openai", "openai-audit", "h")
    assert first["event_id"] == ids(events)[0]
    assert first["ddtags"].split(",")[0] == "source:acme"
    assert "env:prod" in first["ddtags"]
    assert "timestamp" not in second
    assert "redated:true" in second["ddtags"]
    assert "replayed:true" in third["ddtags"]
    assert [e["status"] for e in request.json] == [
        {"informational": "info", "low": "notice", "medium": "warning", "high": "error", "critical": "critical"}[
            e.record.envelope.severity
        ]
        for e in events
    ]


async def test_datadog_limits(tmp_path: Path) -> None:
    """Goal: nothing is cut or refused for its size without us knowing. Method: an entry over 1 MB, a request over 5 MB."""
    async with receiver(lambda _: says(202)) as server, open_datadog(datadog(server.url), context(tmp_path)) as sink:
        with pytest.raises(PermanentError) as caught:
            await sink.write(Batch([message(1), message(2, body=lambda _: b"x" * 1_000_000)]))
        assert caught.value.rejected == [1]
        with pytest.raises(PermanentError) as caught:
            await sink.write(batch(8, body=lambda _: b"x" * 900_000))
        assert caught.value.rejected is None
        assert server.requests == []
    with pytest.raises(ValidationError):
        datadog("https://h", batch={"events": 1001})
    with pytest.raises(ValidationError):
        datadog("https://h", format="ecs")
    with pytest.raises(ValidationError):
        DatadogOptions.model_validate({})
    assert datadog("https://h").oldest_accepted_s == 18 * 3600


async def test_datadog_probe(tmp_path: Path) -> None:
    """Goal: another intake is only reached. Method: see what was asked."""
    async with receiver(lambda _: says(404)) as server:
        assert "reachable" in await probe_datadog(datadog(server.url), context(tmp_path))
        assert [r.method for r in server.requests] == ["HEAD"]


# --- sentinel --------------------------------------------------------------------------------------------------------


def sentinel(url: str, **more: Any) -> SentinelOptions:
    return SentinelOptions.model_validate({**given("sentinel", url), **more})


class Azure:
    """A token endpoint and an ingestion endpoint that takes the newest token only."""

    def __init__(self, lifetime: int = 3600) -> None:
        self.lifetime, self.issued, self.rows = lifetime, 0, list[Any]()

    def __call__(self, request: Request) -> web.Response:
        if request.path == "/t/oauth2/v2.0/token":
            form = parse_qs(request.body.decode())
            if form["client_secret"] != ["client-secret"]:
                return says(401, {"error": "invalid_client", "error_description": f"bad {form['client_secret'][0]}"})
            assert form["scope"] == ["https://monitor.azure.com/.default"]
            assert form["grant_type"] == ["client_credentials"]
            self.issued += 1
            return says(
                200, {"token_type": "Bearer", "access_token": f"token-{self.issued}", "expires_in": self.lifetime}
            )
        if request.headers.get("Authorization") != f"Bearer token-{self.issued}":
            return says(401, {"error": "stale " + request.headers["Authorization"]})
        assert request.path == "/dataCollectionRules/dcr-1/streams/Custom-OpenAIAuditLogs_CL?api-version=2023-01-01"
        self.rows += request.json
        return says(204)


async def test_sentinel_rows_and_its_token(tmp_path: Path) -> None:
    """Goal: Microsoft's own columns; one token until its end, and a fresh one after a 401. Method: a server that withdraws a token between writes."""
    azure = Azure()
    events = batch(8)
    async with receiver(azure) as server, open_sentinel(sentinel(server.url), context(tmp_path)) as sink:
        await sink.write(events)
        await sink.write(batch(1))
        assert azure.issued == 1
        azure.issued = 2  # the first token is withdrawn
        await sink.write(batch(1))
        assert azure.issued == 3
    for sent, row in zip(events.messages, azure.rows, strict=False):
        envelope, event = sent.record.envelope, json.loads(bytes(sent.record.envelope.event))
        assert row == {
            "id": envelope.id,
            "type": envelope.type,
            "effective_at": int(envelope.time.timestamp()),
            "project": event.get("project"),
            "actor": event.get("actor"),
            "EventDetails": json.loads(bytes(envelope.details)),
            "friendlyName": "acme",
        }
    assert len(azure.rows) == 10


async def test_sentinel_token_is_renewed_before_its_end(tmp_path: Path) -> None:
    """Goal: no request goes out with a token that is about to end. Method: tokens that live for less than the margin."""
    azure = Azure(lifetime=200)
    async with receiver(azure) as server, open_sentinel(sentinel(server.url), context(tmp_path)) as sink:
        await sink.write(batch(1))
        await sink.write(batch(1))
    assert azure.issued == 2


async def test_sentinel_refused_credentials_hold_and_stay_secret(tmp_path: Path) -> None:
    """Goal: a wrong secret dead-letters nothing and shows nowhere. Method: an echoing token endpoint; tokens that are never accepted; a broken endpoint."""
    azure = Azure()
    async with receiver(azure) as server:
        async with open_sentinel(sentinel(server.url, client_secret="wrong-secret"), context(tmp_path)) as sink:
            with pytest.raises(ConfigError, match="gave no token") as caught:
                await sink.write(batch(1))
        assert "wrong-secret" not in str(caught.value)
        with pytest.raises(ConfigError):
            await probe_sentinel(sentinel(server.url, client_secret="wrong-secret"), context(tmp_path))
        assert "gave a token" in await probe_sentinel(sentinel(server.url), context(tmp_path))
    never = Azure()
    async with (
        receiver(lambda r: never(r) if "oauth2" in r.path else says(401, f"no {r.headers['Authorization']}")) as server,
        open_sentinel(sentinel(server.url), context(tmp_path)) as sink,
    ):
        with pytest.raises(ConfigError) as caught:
            await sink.write(batch(1))
        assert never.issued == 2
        assert "token-2" not in str(caught.value)
    for status, kind in ((400, ConfigError), (404, ConfigError), (429, RetryableError), (503, RetryableError)):
        async with (
            receiver(lambda r, status=status: says(status, "x")) as server,  # type: ignore[misc] # bound now
            open_sentinel(sentinel(server.url), context(tmp_path)) as sink,
        ):
            with pytest.raises(kind):
                await sink.write(batch(1))


async def test_sentinel_other_formats_and_limits(tmp_path: Path) -> None:
    """Goal: own streams take a format as it is; what Azure would cut is not sent. Method: the envelope; a long field; a long request."""
    azure = Azure()
    async with (
        receiver(azure) as server,
        open_sentinel(sentinel(server.url, format="envelope"), context(tmp_path)) as sink,
    ):
        events = batch(2)
        await sink.write(events)
        assert azure.rows == [json.loads(m.body) for m in events.messages]
        long = message(2, body=lambda _: b'{"a":"' + b"x" * (64 << 10) + b'"}')
        with pytest.raises(PermanentError) as caught:
            await sink.write(Batch([message(1), long]))
        assert caught.value.rejected == [1]
        with pytest.raises(PermanentError) as caught:
            await sink.write(batch(20, body=lambda _: b'{"a":"' + b"x" * 60_000 + b'"}'))
        assert caught.value.rejected is None
    with pytest.raises(ValidationError):
        sentinel("https://h", format="leef")
    with pytest.raises(ValidationError):
        sentinel("https://h", batch={"bytes": "2MiB"})


# --- sumologic -------------------------------------------------------------------------------------------------------


async def test_sumologic_lines_and_headers(tmp_path: Path) -> None:
    """Goal: one event a line, its metadata in headers, the URL a secret. Method: read the request; let it fail."""
    url_file = tmp_path / "url"
    async with receiver(lambda _: says(200)) as server:
        url_file.write_text(server.url + "/receiver/v1/http/c0de\n")
        made = SumologicOptions.model_validate(
            {"url_file": url_file, "category": "openai/audit", "name": "n", "host": "h", "fields": {"env": "prod"}}
        )
        async with open_sumologic(made, context(tmp_path)) as sink:
            events = batch(3)
            await sink.write(events)
            await sink.write(batch(1, replayed=True))
        assert "reachable" in await probe_sumologic(made, context(tmp_path))
        first, second, _ = server.requests
    assert first.path == "/receiver/v1/http/c0de"
    assert first.body.split(b"\n") == [m.body for m in events.messages]
    assert first.headers["X-Sumo-Category"] == "openai/audit"
    assert (first.headers["X-Sumo-Name"], first.headers["X-Sumo-Host"]) == ("n", "h")
    assert first.headers["X-Sumo-Fields"] == "env=prod"
    assert second.headers["X-Sumo-Fields"] == "env=prod,replayed=true"
    url_file.write_text("http://127.0.0.1:9/receiver/v1/http/c0de")
    async with open_sumologic(made, context(tmp_path)) as sink:
        with pytest.raises(RetryableError) as caught:
            await sink.write(batch(1))
    assert "c0de" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [{}, {"url": "h"}, {"url": "https://h", "fields": {"a": "b,c"}}, {"url": "https://h", "name": "a\nb"}]
)
def test_sumologic_mistakes(bad: dict[str, Any]) -> None:
    """Goal: `check` finds them. Method: one each."""
    with pytest.raises(ValidationError):
        SumologicOptions.model_validate(bad)


# --- history ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sink", "start", "warned"),
    [
        ({"type": "loki", "url": "http://127.0.0.1:9"}, "30d", ("30d", "1w")),
        ({"type": "datadog", "url": "http://127.0.0.1:9", "api_key": "k"}, "beginning", ("", "18h")),
        ({"type": "loki", "url": "http://127.0.0.1:9"}, "6d", None),
        ({"type": "loki", "url": "http://127.0.0.1:9", "start": "latest"}, "30d", None),
        ({"type": "sumologic", "url": "http://127.0.0.1:9"}, "30d", None),
    ],
)
async def test_a_backfill_that_a_sink_would_refuse_is_warned_of_at_the_start(
    tmp_path: Path, sink: dict[str, Any], start: str, warned: tuple[str, str] | None
) -> None:
    """Goal: an operator hears of it before the dead letters; method: the daemon is opened with a source that reaches further back than the sink takes,
    and with three that do not; what it logs."""
    source = {"type": "openai_audit_logs", "api_key": "k", "base_url": "http://127.0.0.1:9", "start": start}
    config = config_model(source_options(), sink_options()).model_validate(
        {"state": tmp_path / "state", "admin": None, "sources": {"acme": source}, "sinks": {"siem": sink}}
    )
    with capture_logs() as logs:
        async with open_daemon(config, Telemetry(), Stop()):
            pass
    said = [line for line in logs if "sink_takes" in line]
    assert [line["sink"] for line in said] == (["siem"] if warned else [])
    if warned:
        back, takes = warned
        assert (said[0]["log_level"], said[0]["sink_takes"]) == ("warning", takes)
        assert said[0]["history_reaches_back"].startswith(back)
