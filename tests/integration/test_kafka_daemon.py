"""The daemon as a whole, killed while it tails into Apache Kafka exactly once."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.kafka_broker import Kafka, kafka_broker
from tests.kafka_mock import read_topic
from tests.outage import once, truth
from tests.places import Place
from tests.simulation import simulated_in_child

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

EVENTS, KILLS, SEED = 12_000, 20, 7


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


def bus(kafka: Kafka, topic: str) -> dict[str, Any]:
    kafka.create(topic)
    return {"type": "kafka", "bootstrap_servers": kafka.servers, "topic": topic, "exactly_once": True}


def seen(kafka: Kafka, topic: str) -> list[str]:
    return [json.loads(found.value())["id"] for found in read_topic(kafka.servers, topic)]


def test_kill_9_of_the_daemon_and_every_event_is_seen_once(tmp_path: Path, kafka: Kafka) -> None:
    """Goal: exactly once holds for the whole road, from the API to a consumer that reads committed. Method: `streamer run` killed 20 times at random,
    then `--once`; what librdkafka's consumer reads is the simulator's truth, each id once. The killing forks, so it is a program of its own."""
    with simulated_in_child(events=EVENTS, days=2, rate=40, seed=SEED) as child:
        config = tmp_path / "streamer.yaml"
        source = {"type": "openai_audit_logs", "api_key": "sk-admin-simulated", "base_url": child.base_url}
        document = {
            "state": str(tmp_path / "state"),
            "admin": None,
            "sources": {"acme": source | {"start": "beginning", "poll_interval": "200ms"}},
            "enrich": {"directory": None},
            "sinks": {"bus": bus(kafka, "audit") | {"batch": {"events": 100, "wait": "0s"}}},
        }
        config.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "tests.crash.killing", str(config), str(KILLS), str(SEED)]
        # All that was there before the last run, which is the truth that must be complete.
        before = {row["id"] for listing in ("organization", "tenant") for row in child.truth(listing)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == f"{KILLS}\n"
        after = {row["id"] for listing in ("organization", "tenant") for row in child.truth(listing)}
        found = seen(kafka, "audit")
    assert len(found) == len(set(found)), "an event was seen twice"
    assert before <= set(found) <= after
    assert len(before) >= EVENTS


def test_a_renamed_sink_finds_what_kafka_has(tmp_path: Path, kafka: Kafka) -> None:
    """Goal: a renaming keeps exactly once, also where Kafka has more than the journal knows. Method: the journal is set back to a copy, the sink
    renamed, and everything delivered once more; then again with a journal that is new."""
    options = bus(kafka, "renamed")
    with simulated_in_child(events=300, days=2, seed=SEED) as child:
        place = Place(tmp_path, child.base_url).change("enrich", {"directory": None})
        place.change("sources.acme.start", "beginning").change("sinks", {"bus": options})

        def delivered_once() -> None:
            child.control("POST", "events", {"count": 20})
            assert once(place) == 0, (tmp_path / "daemon.log").read_text()
            found = seen(kafka, "renamed")
            assert len(found) == len(set(found)), "an event was seen twice"
            assert {one.encode() for one in found} == truth(child)

        delivered_once()
        shutil.copytree(tmp_path / "state", tmp_path / "older")
        delivered_once()
        shutil.rmtree(tmp_path / "state")
        (tmp_path / "older").rename(tmp_path / "state")
        place.change("sinks", {"audit-bus": options | {"was": "bus"}})
        delivered_once()
        shutil.rmtree(tmp_path / "state")
        delivered_once()
