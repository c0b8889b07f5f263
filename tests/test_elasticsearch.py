"""The elasticsearch sink against a server that keeps `_bulk`'s contract."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch
from streamer.ports import SinkContext
from streamer.sinks.elasticsearch import (
    ElasticsearchOptions,
    document_id,
    open_elasticsearch,
    probe_elasticsearch,
)
from tests.receiver import Request, batch, context, ids, message, receiver, says


def options(url: str, **more: Any) -> ElasticsearchOptions:
    return ElasticsearchOptions.model_validate({"url": url, "format": "envelope", **more})


class Store:
    """An index: `create` only, one document an id, and answers of a test's choice for some ids."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.actions: list[dict[str, Any]] = []
        self.faults: dict[str, list[int]] = {}
        """Id to the statuses of its next tries."""

    def __call__(self, request: Request) -> web.Response:
        assert request.path.startswith("/_bulk?")
        lines = request.lines
        items: list[dict[str, Any]] = []
        for head, source in zip(lines[::2], lines[1::2], strict=True):
            self.actions.append(head["create"])
            status = self.create(head["create"]["_id"], source)
            item: dict[str, Any] = {"status": status}
            if status >= 400:
                item["error"] = {"type": f"type_{status}", "reason": "because"}
            items.append({"create": item})
        return says(200, {"errors": any(i["create"]["status"] >= 400 for i in items), "items": items})

    def create(self, identity: str, source: dict[str, Any]) -> int:
        faults = self.faults.get(identity)
        if faults:
            return faults.pop(0)
        if identity in self.documents:
            return 409
        self.documents[identity] = source
        return 201


async def test_documents_are_created_under_our_id_in_order(tmp_path: Path) -> None:
    """Goal: every event is one document. Method: read the index back."""
    store = Store()
    events = batch(3)
    async with receiver(store) as server, open_elasticsearch(options(server.url), context(tmp_path)) as sink:
        await sink.write(events)
        assert server.requests[0].headers["Content-Type"] == "application/x-ndjson"
    assert list(store.documents) == ids(events.messages)
    first = store.documents[ids(events.messages)[0]]
    assert first["@timestamp"] == "2026-01-01T12:00:01Z"
    assert {k: v for k, v in first.items() if k != "@timestamp"} == json.loads(events.messages[0].body)
    assert store.actions[0]["_index"] == "logs-openai.audit-default"


async def test_what_is_there_already_is_a_success(tmp_path: Path) -> None:
    """Goal: a batch that is sent again after a crash changes nothing. Method: the same events twice, as new records."""
    store = Store()
    async with receiver(store) as server, open_elasticsearch(options(server.url), context(tmp_path)) as sink:
        await sink.write(batch(3))
        before = dict(store.documents)
        await sink.write(batch(4))
    assert {k: store.documents[k] for k in before} == before
    assert len(store.documents) == 4


async def test_only_items_that_failed_are_sent_again(tmp_path: Path) -> None:
    """Goal: per-item retry. Method: 429 for one and 503 for another item, then success."""
    store = Store()
    events = batch(4)
    second, fourth = ids(events.messages)[1], ids(events.messages)[3]
    store.faults = {second: [429], fourth: [503]}
    async with receiver(store) as server, open_elasticsearch(options(server.url), context(tmp_path)) as sink:
        with pytest.raises(RetryableError, match="2 of 4 documents"):
            await sink.write(events)
        await sink.write(events)
        sent_again = [line["create"]["_id"] for line in server.requests[1].lines[::2]]
    assert sent_again == [second, fourth]
    assert set(store.documents) == set(ids(events.messages))


async def test_bad_documents_are_named_and_the_others_are_not_sent_again(tmp_path: Path) -> None:
    """Goal: a document that the mapping refuses is dead-lettered alone. Method: 400 for one, 429 for another, then the parts as delivery writes them."""
    store = Store()
    events = batch(4)
    bad, slow = ids(events.messages)[1], ids(events.messages)[2]
    store.faults = {bad: [400, 400], slow: [429]}
    async with receiver(store) as server, open_elasticsearch(options(server.url), context(tmp_path)) as sink:
        with pytest.raises(PermanentError, match="type_400: because") as caught:
            await sink.write(events)
        assert caught.value.rejected == [1]
        await sink.write(Batch(events.messages[:1]))
        with pytest.raises(PermanentError):
            await sink.write(Batch(events.messages[1:2]))
        await sink.write(Batch(events.messages[2:]))
        sent = [[line["create"]["_id"] for line in r.lines[::2]] for r in server.requests]
    assert sent == [ids(events.messages), [bad], [slow]]
    assert set(store.documents) == set(ids(events.messages)) - {bad}


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_item_that_is_not_allowed_holds(tmp_path: Path, status: int) -> None:
    """Goal: a missing index or right dead-letters nothing. Method: one such item beside a bad one."""
    store = Store()
    events = batch(2)
    store.faults = {ids(events.messages)[0]: [400], ids(events.messages)[1]: [status]}
    async with receiver(store) as server, open_elasticsearch(options(server.url), context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match=f"answered {status} for 1 of 2"):
            await sink.write(events)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda: says(429, Retry_After="3"), RetryableError),
        (lambda: says(503), RetryableError),
        (lambda: says(413), PermanentError),
        (lambda: says(401, {"error": {"reason": "no"}}), ConfigError),
        (lambda: says(404), ConfigError),
        (lambda: says(200, "<html>hello"), ConfigError),
        (lambda: says(200, {"errors": False, "items": []}), RetryableError),
    ],
)
async def test_whole_answers(tmp_path: Path, answer: Any, verdict: type[Exception]) -> None:
    """Goal: an answer to the whole request has its verdict. Method: one of each."""
    async with (
        receiver(lambda _: answer()) as server,
        open_elasticsearch(options(server.url), context(tmp_path)) as sink,
    ):
        with pytest.raises(verdict):
            await sink.write(batch(2))


async def test_what_went_into_the_failure_store_is_said(tmp_path: Path) -> None:
    """Goal: a document that is stored elsewhere is not silent. Method: an item with `failure_store: used`."""
    heard: list[tuple[int, str]] = []
    items = [{"create": {"status": 201}}, {"create": {"status": 201, "failure_store": "used"}}]
    told = context(tmp_path)
    listening = SinkContext(
        name=told.name,
        position=told.position,
        journal=told.journal,
        folder=told.folder,
        set_aside=lambda count, reason: heard.append((count, reason)),
    )
    async with (
        receiver(lambda _: says(200, {"errors": False, "items": items})) as server,
        open_elasticsearch(options(server.url), listening) as sink,
    ):
        await sink.write(batch(2))
    assert [count for count, _ in heard] == [1]


async def test_modes(tmp_path: Path) -> None:
    """Goal: `raw` feeds Elastic's own integration, `ecs` passes it by. Method: the action and the document of each."""
    store = Store()
    raw = b'{"id":"x","type":"api_key.created","api_key.created":{"id":"k"}}'
    async with receiver(store) as server:
        for n, (name, body) in enumerate(
            {"raw": raw, "ecs": b'{"@timestamp":"t","ecs":{}}', "envelope": b'{"a":1}'}.items()
        ):
            async with open_elasticsearch(options(server.url, format=name), context(tmp_path)) as sink:
                await sink.write(Batch([message(n, body=lambda _, body=body: body)]))  # type: ignore[misc] # bound now
        async with open_elasticsearch(options(server.url, pipeline="mine", index="i"), context(tmp_path)) as sink:
            await sink.write(batch(1, at=None, id="last"))
    as_raw, as_ecs, as_envelope, _ = store.documents.values()
    assert json.loads(as_raw["message"]) == json.loads(raw)
    assert set(as_raw) == {"@timestamp", "message"}
    assert as_ecs == {"@timestamp": "t", "ecs": {}}
    assert as_envelope["a"] == 1
    assert [a.get("pipeline") for a in store.actions] == [None, "_none", None, "mine"]
    assert store.actions[3]["_index"] == "i"


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"api_key": "aWQ6a2V5"}, "ApiKey aWQ6a2V5"),
        ({"bearer": "t0ken"}, "Bearer t0ken"),
        ({"username": "u", "password": "p"}, "Basic dTpw"),
        ({}, None),
    ],
)
async def test_authorization(tmp_path: Path, given: dict[str, str], header: str | None) -> None:
    """Goal: each way of signing in. Method: the header that arrives."""
    store = Store()
    async with receiver(store) as server, open_elasticsearch(options(server.url, **given), context(tmp_path)) as sink:
        await sink.write(batch(1))
        assert server.requests[0].headers.get("Authorization") == header


def test_ids_that_are_too_long_become_a_digest() -> None:
    """Goal: every event has an id that the store takes. Method: lengths around the limit."""
    assert document_id("audit_log-1") == "audit_log-1"
    assert document_id("x" * 512) == "x" * 512
    assert len(document_id("x" * 513)) == 64
    assert len(document_id("ä" * 257)) == 64
    assert len(document_id("")) == 64


@pytest.mark.parametrize("bad", [{"format": "cef"}, {"api_key": "a", "bearer": "b"}, {"url": "elastic:9200"}])
def test_mistakes_are_found_in_the_configuration(bad: dict[str, str]) -> None:
    """Goal: `check` finds them. Method: one each."""
    with pytest.raises(ValidationError):
        ElasticsearchOptions.model_validate({"url": "https://h:9200", **bad})


async def test_probe_names_the_server(tmp_path: Path) -> None:
    """Goal: `check --online` shows what answers. Method: OpenSearch's and Elasticsearch's greeting, a refusal, a page."""
    answers = iter(
        [
            says(200, {"version": {"distribution": "opensearch", "number": "3.0"}}),
            says(200, {"version": {"number": "9.4.0"}, "tagline": "You Know, for Search"}),
            says(401),
            says(200, "hello"),
        ]
    )
    async with receiver(lambda _: next(answers)) as server:
        assert "opensearch 3.0" in await probe_elasticsearch(options(server.url), context(tmp_path))
        assert "elasticsearch 9.4.0" in await probe_elasticsearch(options(server.url), context(tmp_path))
        for _ in range(2):
            with pytest.raises(ConfigError):
                await probe_elasticsearch(options(server.url), context(tmp_path))
