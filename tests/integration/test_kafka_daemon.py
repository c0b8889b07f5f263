"""The daemon as a whole, killed while it tails into Apache Kafka exactly once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.kafka_broker import kafka_broker
from tests.kafka_mock import read_topic
from tests.simulation import simulated_in_child

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

EVENTS, KILLS, SEED = 12_000, 20, 7


def test_kill_9_of_the_daemon_and_every_event_is_seen_once(tmp_path: Path) -> None:
    """Goal: exactly once holds for the whole road, from the API to a consumer that reads committed. Method: `streamer run` killed 20 times at random,
    then `--once`; what librdkafka's consumer reads is the simulator's truth, each id once. The killing forks, so it is a program of its own."""
    with (
        kafka_broker(tmp_path / "kafka") as kafka,
        simulated_in_child(events=EVENTS, days=2, rate=40, seed=SEED) as child,
    ):
        kafka.create("audit")
        config = tmp_path / "streamer.yaml"
        bus = {"type": "kafka", "bootstrap_servers": kafka.servers, "topic": "audit", "exactly_once": True}
        source = {"type": "openai_audit_logs", "api_key": "sk-admin-simulated", "base_url": child.base_url}
        document = {
            "state": str(tmp_path / "state"),
            "admin": None,
            "sources": {"acme": source | {"start": "beginning", "poll_interval": "200ms"}},
            "enrich": {"directory": None},
            "sinks": {"bus": bus | {"batch": {"events": 100, "wait": "0s"}}},
        }
        config.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "tests.crash.killing", str(config), str(KILLS), str(SEED)]
        # All that was there before the last run, which is the truth that must be complete.
        before = {row["id"] for listing in ("organization", "tenant") for row in child.truth(listing)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == f"{KILLS}\n"
        after = {row["id"] for listing in ("organization", "tenant") for row in child.truth(listing)}
        seen = [json.loads(found.value())["id"] for found in read_topic(kafka.servers, "audit")]
    assert len(seen) == len(set(seen)), "an event was seen twice"
    assert before <= set(seen) <= after
    assert len(before) >= EVENTS
