"""Replicas that share the sources: who reads which, and what happens when their number changes."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from streamer.config import Config, own_sources, owner, parse, replica_of
from streamer.errors import ConfigError
from tests.places import Place, until
from tests.simulation import Child, simulated_in_child
from tests.test_reload import daemon

NAMES = [f"source-{n}" for n in range(400)]
OWNERS = [2, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def configured(shard: str, start: str = "1h") -> Config:
    sources = ", ".join(f"{name}: {{start: {start}}}" for name in NAMES[:20])
    text = f"shard: {shard}\nsources: {{{sources}}}\nsinks: {{out: {{}}}}\n"
    return parse(text, "test", sources={}, sinks={}, env={})


def test_every_source_has_one_owner_and_few_move_when_a_replica_comes() -> None:
    """Goal: shares of about the same size; another replica takes from all and moves nothing between them. Method: 400 names, 1 to 9 replicas."""
    for count in range(1, 9):
        before = {name: owner(name, count) for name in NAMES}
        after = {name: owner(name, count + 1) for name in NAMES}
        moved = [name for name in NAMES if before[name] != after[name]]
        assert all(after[name] == count for name in moved)
        assert len(moved) < 1.5 * len(NAMES) / (count + 1)
        sizes = Counter(before.values())
        assert sizes.keys() == set(range(count))
        assert max(sizes.values()) < 1.5 * len(NAMES) / count


def test_owners_never_change_between_versions() -> None:
    """Goal: an upgrade moves no source. Method: what they were when this was written."""
    assert [owner(name, 3) for name in NAMES[:12]] == OWNERS


def test_the_index_comes_from_the_host_or_the_setting_and_mistakes_are_told() -> None:
    """Goal: a StatefulSet needs no more than `count`. Method: names of hosts and settings."""
    config = configured("{count: 3}")
    shares = [own_sources(config, lambda index=index: f"audit-{index}") for index in range(3)]  # type: ignore[misc]  # bound at once
    assert sorted(name for share in shares for name in share) == sorted(NAMES[:20])
    assert own_sources(configured("{count: 3, index: 1}"), lambda: "laptop") == shares[1]
    assert own_sources(configured("null"), lambda: "laptop").keys() == set(NAMES[:20])
    assert (replica_of(config, lambda: "audit-2"), replica_of(configured("null"))) == ("2", "")
    for shard, host, problem in (
        ("{count: 3}", "laptop", "laptop has none; set STREAMER_SHARD__INDEX"),
        ("{count: 3}", "audit-3", "replica 3 is beyond shard.count 3"),
        ("{count: 3, index: 7}", "audit-0", "replica 7 is beyond shard.count 3"),
    ):
        with pytest.raises(ConfigError, match=problem):
            own_sources(configured(shard), lambda host=host: host)  # type: ignore[misc]  # bound at once
    with pytest.raises(ConfigError, match="shard: a source that moves .* give source-0 one that reaches further back"):
        configured("{count: 3}", start="now")


class Replica(Place):
    def __init__(self, folder: Path, base_url: str, index: int, sources: list[str]) -> None:
        folder.mkdir()
        super().__init__(folder, base_url)
        acme = self.document["sources"].pop("acme") | {"poll_interval": "500ms", "start": "3h"}
        self.document["sources"] = dict.fromkeys(sources, acme)
        self.change("enrich", {"directory": None}).change("reload.watch", "100ms").change("shard.index", index)

    def reads(self) -> set[str]:
        return {row["source"] for row in self.status().get("listings", [])}

    def delivered(self) -> Counter[tuple[str, str]]:
        lines = self.lines.read_bytes().split(b"\n")[:-1] if self.lines.exists() else []
        return Counter((row["source"], row["id"]) for row in map(json.loads, lines))


@pytest.fixture(scope="module")
def simulator() -> Any:
    with simulated_in_child(events=120, days=0.1, rate=4, seed=6) as child:
        yield child


@pytest.mark.timeout(300)
def test_replicas_share_the_sources_and_a_third_takes_its_part(tmp_path: Path, simulator: Child) -> None:
    """Goal: two replicas read every source once; when there are three, only what the third takes moves, nothing is missing, and what was delivered
    before the move may be there again, from the third alone. Method: real processes, six sources, their files against the truth."""
    sources = NAMES[:6]
    replicas = [Replica(tmp_path / str(index), simulator.base_url, index, sources) for index in range(3)]

    def shares(count: int) -> list[set[str]]:
        return [{name for name in sources if owner(name, count) == index} for index in range(count)]

    def shown() -> set[str]:
        return {event["id"] for listing in ("organization", "tenant") for event in simulator.truth(listing)}

    with ExitStack() as stack:
        for replica in replicas[:2]:
            stack.enter_context(daemon(replica.change("shard.count", 2).write()))
        until(lambda: [replica.reads() for replica in replicas[:2]] == shares(2))
        first = {(name, event) for name in sources for event in shown()}
        until(lambda: first <= replicas[0].delivered().keys() | replicas[1].delivered().keys())
        assert not replicas[0].delivered().keys() & replicas[1].delivered().keys()
        for replica in replicas:
            replica.change("shard.count", 3).write()
        stack.enter_context(daemon(replicas[2].config))
        until(lambda: [replica.reads() for replica in replicas] == shares(3))
        simulator.control("POST", "events", {"type": "logout.succeeded", "count": 2})
        all_of_them = {(name, event) for name in sources for event in shown()}
        until(lambda: all_of_them <= {key for replica in replicas for key in replica.delivered()})
    delivered = [replica.delivered() for replica in replicas]
    assert all(times == 1 for counts in delivered for times in counts.values())
    twice = [key for key, times in Counter(key for counts in delivered for key in counts).items() if times > 1]
    assert {name for name, _ in twice} <= shares(3)[2]
    assert {name for name, _ in delivered[2]} == shares(3)[2] != set()


def test_a_replica_without_a_source_is_well(tmp_path: Path, simulator: Child) -> None:
    """Goal: one source and two replicas is no trouble for either. Method: the replica that has nothing to read, its readiness and its sentence."""
    replica = Replica(tmp_path / "idle", simulator.base_url, 1 - owner(NAMES[0], 2), NAMES[:1])
    with daemon(replica.change("shard.count", 2).write()):
        until(lambda: replica.status().get("configuration", {}).get("taken_at"))
        assert replica.reads() == set()
        assert replica.get("/readyz") == (200, "ready\n")
