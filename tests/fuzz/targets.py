"""What is fuzzed: bytes go in, and whatever they are, only what the documentation promises comes out.

One function a target, total over bytes: it returns where every promise held and raises otherwise. The hypothesis tests
and `make fuzz` call the same ones.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import aiohttp
import msgspec
import yaml
from multidict import CIMultiDict, CIMultiDictProxy

from streamer.cli.checking import decode_for_tests
from streamer.config import FormatName, effective, judge
from streamer.enrich.rules import RuleSet, to_sigma, why_not
from streamer.errors import ConfigError, PermanentError, RetryableError, StreamerError
from streamer.formats import make_format
from streamer.model import Batch, Listing, Record, Seq, SourceName, Window, encode_envelope
from streamer.ports import WindowTooLarge
from streamer.retry import parse_retry_after
from streamer.sinks import sink_options
from streamer.sinks.datadog import DatadogSink
from streamer.sinks.elasticsearch import ElasticsearchSink
from streamer.sinks.http import Answer, Http
from streamer.sinks.loki import LokiSink
from streamer.sinks.otlp import OtlpSink
from streamer.sinks.sentinel import SentinelSink
from streamer.sinks.splunk_hec import SplunkHecSink
from streamer.sinks.sumologic import SumologicSink
from streamer.sinks.webhook import WebhookSink, open_webhook
from streamer.sources import openai_api, source_options
from streamer.sources.openai_audit_logs import OpenAIAuditLogs
from streamer.sources.openai_directory import LISTS, OpenAIDirectory
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.telemetry import Telemetry
from tests.every_type import enrich
from tests.receiver import batch
from tests.receiver import context as a_context
from tests.reference_parsers import parse_cef, parse_leef
from tests.test_decode import decoded

T = TypeVar("T")

SECRET = "sk-admin-fuzzed-secret"
NOW = 1_790_000_000.0
TELEMETRY = Telemetry(clock=lambda: NOW)


def one_sentence(error: StreamerError) -> None:
    """What an operator reads: a line that a terminal can show, and no secret in it."""
    for line in error.problems if isinstance(error, ConfigError) else [str(error)]:
        assert line, "an empty message"
        assert len(line.splitlines()) == 1, f"a line break in {line!r}"
        assert SECRET not in line


# --- events ----------------------------------------------------------------------------------------------------------


def decode(raw: bytes) -> None:
    """One record becomes one envelope that has every byte of it."""
    decoded(raw)


FORMATS = {name: make_format(name, {"acme": "org-1"}) for name in get_args(FormatName)}


def formats(raw: bytes) -> None:
    """Every format makes one line that its readers read, of the event as it is and with hostile names added."""
    envelope = decoded(raw).envelope
    check_formats(Record(Seq(1), encode_envelope(envelope)))
    enrich(envelope, raw.decode("utf-8", "replace")[:200])
    check_formats(Record(Seq(2), encode_envelope(envelope)))


def check_formats(record: Record) -> None:
    for name, format in FORMATS.items():
        line = format.encode(record)
        assert not {b"\n"[0], b"\r"[0]} & set(line), name
        if name == "cef":
            assert parse_cef(line.decode()).pairs
        elif name == "leef":
            assert parse_leef(line.decode()).pairs
        else:
            json.loads(line)
            msgspec.json.decode(line)
    assert FORMATS["raw"].encode(record) == bytes(record.envelope.event)


# --- the operator's files --------------------------------------------------------------------------------------------

ENVIRONMENT = b"\n# environment\n"
"""Before it the file, after it a variable a line."""


def config(raw: bytes) -> None:
    """A configuration, or sentences about what is wrong with it."""
    file, _, variables = raw.partition(ENVIRONMENT)
    env = dict(
        line.split("=", 1)
        for line in variables.decode("utf-8", "replace").splitlines()
        if "=" in line and line[0] != "="
    )
    try:
        made, problems = judge(
            file.decode("utf-8", "replace"), "c.yaml", sources=source_options(), sinks=sink_options(), env=env
        )
    except ConfigError as error:
        one_sentence(error)
        return
    if problems:
        one_sentence(ConfigError(*problems))
    assert made is not None or problems
    if made is not None:
        shown = effective(made)
        assert SECRET not in shown
        assert isinstance(yaml.safe_load(shown), dict)


def rules(raw: bytes) -> None:
    """Rules that run, or sentences about what is wrong with the file."""
    try:
        made = RuleSet.parse(raw.decode("utf-8", "replace"), "rules.yaml")
    except ConfigError as error:
        one_sentence(error)
        return
    engine = made.engine()
    for envelope in some_events():
        engine.enrich(envelope)
        encode_envelope(envelope)
    for result in made.run_tests(decode_for_tests):
        assert result.passed == (not result.problems)
    for rule in made.rules:
        assert why_not(rule) is not None or yaml.safe_load(to_sigma(rule))
    json.dumps(made.table())


def some_events() -> list[Any]:
    return [decode_for_tests(bytes(message.record.envelope.event)) for message in batch(8).messages]


# --- answers ---------------------------------------------------------------------------------------------------------

NEXT = b"\n%%\n"
"""Between two answers. Each is a status, headers and a blank line as on the wire but with bare line feeds, then the body."""

Said = tuple[int, CIMultiDictProxy[str], bytes]


def said(raw: bytes) -> list[Said]:
    """At most eight answers."""
    return [_answer(part) for part in raw.split(NEXT)[:8]]


def _answer(raw: bytes) -> Said:
    head, _, body = raw.partition(b"\n\n")
    status, *lines = head.decode("latin-1").split("\n")
    pairs = [(name.strip(), value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon]
    return (
        int(status) if status.isascii() and status.isdigit() and len(status) == 3 else 200,
        CIMultiDictProxy(CIMultiDict(pairs)),
        body,
    )


class ScriptedApi(openai_api.AdminApi):
    """The client with its network replaced: what the server says is given, all that is made of it is real."""

    def __init__(self, name: SourceName, options: OpenAIAuditLogsOptions, answers: list[Said]) -> None:
        super().__init__(name, options, TELEMETRY, cast(aiohttp.ClientSession, None))
        self._answers = answers

    async def _ask(self, url: object, key: str, where: str) -> openai_api.Answer:
        """As the real one, once the bytes are there."""
        if not self._answers:
            return openai_api.Answer(200, {}, b'{"data":[],"has_more":false}', "request none")
        status, headers, body = self._answers.pop(0)
        with openai_api.map_errors(where, self._options, key, "request r"):
            coding = headers.get("Content-Encoding", "")
            if coding.strip().lower() not in ("", "identity"):
                body = openai_api.decompress(body, coding)
        self._clock.observe(headers, NOW, NOW + 0.1)
        theirs = openai_api.clean(headers.get("x-request-id", ""), key)
        return openai_api.Answer(status, headers, body, f"request {theirs}")


@cache
def api_options() -> OpenAIAuditLogsOptions:
    return OpenAIAuditLogsOptions.model_validate({"api_key": SECRET, "organization_id": "org-1"})


def api(raw: bytes) -> None:
    """Answers of the API: a walk of the audit log ends in its events or in a verdict, and so does each list of names."""
    name = SourceName("acme")
    for listing in ("organization", "tenant"):
        answers = said(raw)
        source = OpenAIAuditLogs(name, api_options(), TELEMETRY, ScriptedApi(name, api_options(), answers))
        try:
            events = finished(source.walk(cast(Listing, listing), Window(1_700_000_000, 1_900_000_000), 50))
        except (ConfigError, RetryableError) as error:
            one_sentence(error)
        except WindowTooLarge as error:
            assert 1_700_000_000 < error.median < 1_900_000_000
        else:
            assert len({(event.effective_at, event.id) for event in events}) == len(events)
    for one in LISTS:
        try:
            page = finished(
                OpenAIDirectory(name, ScriptedApi(name, api_options(), said(raw)), TELEMETRY).read(
                    one, "proj_1", "cursor"
                )
            )
        except (ConfigError, RetryableError) as error:
            one_sentence(error)
        else:
            assert all(sighting.id for sighting in page.sightings)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise AssertionError("it waits for something")


class ScriptedHttp(Http):
    """As ScriptedApi, for sinks. When all is said the server is busy."""

    answers: list[Said]

    async def _request(self, method: str, url: str, body: bytes, headers: object, hide: object) -> Answer:
        where = f"{self._name}: https://siem.example.com"
        _, hidden = self._reveal()
        if not self.answers:
            return Answer(where, 503)
        status, told, text = self.answers.pop(0)
        return Answer(where, status, text, parse_retry_after(told.get("Retry-After"), NOW), (*hidden, SECRET))


SINKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "webhook": ("webhook", {"url": "https://siem.example.com/"}),
    "webhook_batch": ("webhook", {"url": "https://siem.example.com/", "layout": "json_array"}),
    "splunk_hec": ("splunk_hec", {"url": "https://siem.example.com", "token": SECRET}),
    "splunk_hec_ack": (
        "splunk_hec",
        {"url": "https://siem.example.com", "token": SECRET, "ack": True, "ack_poll": "1ms", "ack_timeout": "4ms"},
    ),
    "elasticsearch": ("elasticsearch", {"url": "https://siem.example.com"}),
    "otlp": ("otlp", {"url": "https://siem.example.com"}),
    "loki": ("loki", {"url": "https://siem.example.com"}),
    "datadog": ("datadog", {"api_key": SECRET}),
    "sentinel": (
        "sentinel",
        {
            "endpoint": "https://siem.example.com",
            "rule": "dcr-1",
            "tenant_id": "t",
            "client_id": "c",
            "client_secret": SECRET,
        },
    ),
    "sumologic": ("sumologic", {"url": "https://siem.example.com/"}),
}


@cache
def sink_made_of(name: str) -> Any:
    kind, options = SINKS[name]
    return sink_options()[kind].model_validate({"gzip": False, **options})


def a_sink(name: str, answers: list[Said], set_aside: Callable[[int, str], None]) -> Any:
    options: Any = sink_made_of(name)
    context = msgspec.structs.replace(a_context(Path("/nowhere"), name), set_aside=set_aside)
    http = ScriptedHttp(options, context, cast(aiohttp.ClientSession, None), ())
    http.answers = answers
    match SINKS[name][0]:
        case "webhook":
            return WebhookSink(options, context, http)
        case "splunk_hec":
            return SplunkHecSink(options, http)
        case "elasticsearch":
            return ElasticsearchSink(options, context, http)
        case "otlp":
            return OtlpSink(options, context, http)
        case "loki":
            return LokiSink(options, http)
        case "datadog":
            return DatadogSink(options, http)
        case "sentinel":
            return SentinelSink(options, openai_secret(), http)
    return SumologicSink(options, context, http)


def openai_secret() -> Any:
    return api_options().key(SourceName("acme"))


BATCH = batch(3)
LOOP = asyncio.new_event_loop()


def sinks(raw: bytes) -> None:
    """Answers to a sink (its name is the first line): each write ends in one of three verdicts or is done; who is blamed is there."""
    first, _, rest = raw.partition(b"\n")
    name = first.decode("latin-1")
    if name not in SINKS:
        name = list(SINKS)[len(first) % len(SINKS)]
    answers = said(rest)
    asides: list[tuple[int, str]] = []
    sink = a_sink(name, answers, lambda count, reason: asides.append((count, reason)))
    LOOP.run_until_complete(_written(sink, answers))
    for count, reason in asides:
        assert count > 0
        one_sentence(RetryableError(reason))


async def _written(sink: Any, answers: list[Said]) -> None:
    """As the delivery loop would: again after a failure, without those that were refused, until all is said."""
    left = BATCH.messages
    while left:
        try:
            await sink.write(Batch(left))
            left = []
        except PermanentError as error:
            one_sentence(error)
            if error.rejected is not None:
                assert error.rejected, "refused, and nobody blamed"
                assert set(error.rejected) <= set(range(len(left)))
                left = [message for i, message in enumerate(left) if i not in error.rejected]
        except (ConfigError, RetryableError) as error:
            one_sentence(error)
        if not answers:
            return


# --- the wire --------------------------------------------------------------------------------------------------------


def wire(raw: bytes) -> None:
    """Any bytes as the answer on a connection, to the real clients: what comes of it is a verdict or a whole answer."""
    LOOP.run_until_complete(_on_the_wire(raw))


async def _on_the_wire(raw: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw)
            await writer.drain()
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        await _asked(url)
        await _posted(url)


async def _asked(url: str) -> None:
    options = OpenAIAuditLogsOptions.model_validate(
        {"api_key": SECRET, "base_url": url, "timeouts": {"read": "1s", "total": "1s"}}
    )
    name = SourceName("acme")
    async with openai_api.open_admin_api(name, options, TELEMETRY) as client:
        try:
            await OpenAIAuditLogs(name, options, TELEMETRY, client).look("organization")
        except (ConfigError, RetryableError) as error:
            one_sentence(error)


async def _posted(url: str) -> None:
    options: Any = sink_options()["webhook"].model_validate(
        {"url": url, "timeout": "1s", "bearer": SECRET, "layout": "ndjson"}
    )
    async with open_webhook(options, a_context(Path("/nowhere"))) as sink:
        try:
            await sink.write(BATCH)
        except (ConfigError, RetryableError, PermanentError) as error:
            one_sentence(error)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "decode": decode,
    "formats": formats,
    "config": config,
    "rules": rules,
    "api": api,
    "sinks": sinks,
    "wire": wire,
}

CORPUS = Path(__file__).parent / "corpus"


def seeds(target: str) -> list[bytes]:
    """The examples that a target begins from."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
