"""The configuration changes while the daemon runs: taken without losing a place, or refused with the reason."""

import asyncio
import json
import os
import signal
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.config import Config, parse, stamps
from streamer.errors import ConfigError, RetryableError
from streamer.reload import Reloading, refusals
from streamer.stop import Stop
from streamer.supervise import Opening, Part, Work
from streamer.telemetry import Telemetry
from tests import warm
from tests.places import Place, until
from tests.simulation import Child, simulated_in_child

ENV = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}


@contextmanager
def running(config: Path) -> Iterator[warm.Process]:
    """`streamer run`, its log beside the configuration; gone afterwards."""
    with (config.parent / "daemon.log").open("wb") as log:
        process = warm.start("streamer", "run", "-c", config, stderr=log, env=ENV)
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def daemon(config: Path) -> Iterator[warm.Process]:
    """`running`, and ended by SIGTERM, with 0."""
    with running(config) as process:
        yield process
        process.terminate()
        assert process.wait(30) == 0, log_of(config)[-3:]


def log_of(config: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.parent / "daemon.log").read_bytes().splitlines()]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Child]:
    with simulated_in_child(events=600, days=1, rate=15, seed=4) as child:
        yield child


@pytest.fixture
def place(tmp_path: Path, simulator: Child) -> Place:
    made = Place(tmp_path, simulator.base_url)
    made.change("sources.acme.poll_interval", "200ms").change("enrich", {"directory": None})
    return made.change("sinks.local.batch", {"wait": "50ms"}).change("reload.watch", "100ms")


RULES = """
rules:
- name: mark
  title: Every event
  severity: low
  tags: [marked]
  match: {types: ["*"]}
"""


def metric(place: Place, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name + " ")))


def taken(place: Place) -> int:
    return sum(line["event"] == "configuration taken" for line in log_of(place.config))


def sinks(place: Place) -> dict[str, dict[str, Any]]:
    return {row["sink"]: row for row in place.status().get("sinks", [])}


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


class SilentServer:
    """Takes requests and never answers one; `hang_up` ends them all, and those that come later at once."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/"
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with self._server:
            while True:
                try:
                    self.taken.append(self._server.accept()[0])
                except OSError:
                    return

    def hang_up(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        for one in self.taken:
            one.close()


def test_what_changes_is_taken_and_no_place_is_lost(place: Place, simulator: Child, tmp_path: Path) -> None:
    """Goal: sinks, sources, rules, networks and the log level change while events flow; every file has every event once, and a sink that
    hangs delays no other. Method: eight changes of the file, against the simulator's truth."""
    second, silent = tmp_path / "second.jsonl", SilentServer()
    place.change("sinks.stuck", {"type": "webhook", "url": silent.url, "timeout": "90s"})
    with daemon(place.write()):
        until(lambda: place.states() == {"organization": "live", "tenant": "live"} and silent.taken)
        done = 0

        def change(path: str, value: Any) -> None:
            nonlocal done
            place.change(path, value).write()
            done += 1
            until(lambda: taken(place) == done)

        # The hanging sink is to be another now, which waits for the request that is under way; nobody else does.
        change("sinks.stuck.layout", "json_array")
        change("sinks.second", {"type": "file", "path": str(second), "batch": {"wait": "50ms"}})
        until(lambda: ids(second))
        change("sinks.local.rotate", {"size": "64KiB", "keep": 999})
        change("sources.acme.overlap", "20s")
        change("sources.other", {**place.document["sources"]["acme"], "listings": ["tenant"]})
        until(lambda: any(row["source"] == "other" and row["state"] == "live" for row in place.status()["listings"]))
        change("enrich.networks", {"office": ["198.51.100.0/24"]})
        rules = tmp_path / "rules.yaml"
        rules.write_text("include: builtin\n")
        change("enrich.rules", str(rules))
        rules.write_text(RULES)
        done += 1
        until(lambda: taken(place) == done)
        change("log.level", "debug")
        renamed = place.document["sinks"].pop("second")
        change("sinks.renamed", {**renamed, "was": "second"})
        until(lambda: sinks(place).keys() == {"stuck", "local", "renamed"})
        change("sources.other", None)
        until(lambda: {row["source"] for row in place.status()["listings"]} == {"acme"})
        change("sinks.stuck", None)
        assert len(silent.taken) == 1
        assert "stuck" in sinks(place)
        silent.hang_up()
        until(lambda: "stuck" not in sinks(place))
        simulator.control("POST", "events", {"type": "logout.succeeded", "count": 3})
        shown = {e["id"] for name in ("organization", "tenant") for e in simulator.truth(name)}
        until(lambda: shown <= {i for p in tmp_path.glob("audit.jsonl*") for i in ids(p)} and shown <= set(ids(second)))
        assert place.status()["configuration"]["refused"] == []
        assert metric(place, "streamer_config_refused") == 0
    for paths in (tmp_path.glob("audit.jsonl*"), [second]):
        lines = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
        every = Counter((line["source"], line["id"]) for line in lines)
        assert {source for source, _ in every} == {"acme", "other"}
        assert {key: n for key, n in every.items() if n > 1} == {}
    assert "marked" in json.loads(second.read_bytes().splitlines()[-1])["tags"]
    assert [line["event"] for line in log_of(place.config) if line["event"] == "configuration refused"] == []


def test_what_is_wrong_is_refused_once_and_the_former_goes_on(place: Place, simulator: Child, tmp_path: Path) -> None:
    """Goal: a mistake, a missing rule file and another state folder are one log line, a metric and a row each, and events go on. Method:
    each in turn, by SIGHUP, then the good file again."""
    good = place.change("reload", {"watch": None}).write().read_text()
    wrong = {
        "sinks.local.format: must be": good.replace("type: file", "type: file\n    format: xml"),
        "none.yaml": good.replace("directory: null", f"rules: {tmp_path}/none.yaml"),
        "state: cannot change from": good.replace(f"{tmp_path}/state", f"{tmp_path}/elsewhere"),
        "not YAML": good + "}",
    }
    with daemon(place.config) as process:
        until(lambda: place.states() == {"organization": "live", "tenant": "live"})
        times = 0.0
        for sentence, text in wrong.items():
            place.config.write_text(text)
            for _ in range(2):  # the second is not said again
                process.send_signal(signal.SIGHUP)
                times += 1
                until(lambda wanted=times: metric(place, 'streamer_config_reloads_total{result="refused"}') == wanted)
            assert any(sentence in problem for problem in place.status()["configuration"]["refused"])
            assert metric(place, "streamer_config_refused") == 1
        simulator.control("POST", "events", {"type": "logout.succeeded", "count": 1})
        shown = {e["id"] for name in ("organization", "tenant") for e in simulator.truth(name)}
        until(lambda: shown <= set(place.ids()))
        place.config.write_text(good)
        process.send_signal(signal.SIGHUP)
        until(lambda: place.status()["configuration"]["refused"] == [])
        assert metric(place, "streamer_config_refused") == 0
    said = [line for line in log_of(place.config) if line["event"].startswith("configuration refused")]
    assert len(said) == len(wrong)
    assert not (tmp_path / "elsewhere").exists()


def test_a_mounted_config_map_is_noticed_when_its_link_is_swapped(place: Place, tmp_path: Path) -> None:
    """Goal: what Kubernetes does with a changed ConfigMap is taken. Method: a folder of links through `..data`, swapped as kubelet does."""
    mount = tmp_path / "mount"

    def project(version: str) -> None:
        (mount / version).mkdir(parents=True)
        (mount / version / "streamer.yaml").write_text(yaml.safe_dump(place.document))
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").rename(mount / "..data")

    project("..1")
    (mount / "streamer.yaml").symlink_to("..data/streamer.yaml")
    with daemon(mount / "streamer.yaml"):
        until(lambda: sinks(place))
        place.change("sinks.second", {"type": "file", "path": str(tmp_path / "second.jsonl")})
        project("..2")
        until(lambda: "second" in sinks(place) and ids(tmp_path / "second.jsonl"))


def configured(state: str) -> Config:
    return parse(f"state: {state}\nsources: {{a: {{}}}}\nsinks: {{b: {{}}}}\n", "test", sources={}, sinks={}, env={})


def test_only_what_an_open_journal_rests_on_is_refused() -> None:
    """Goal: as much as possible is taken. Method: the pure function, with the same and with another state folder."""
    assert refusals(configured("/a"), configured("/a")) == []
    (problem,) = refusals(configured("/a"), configured("/b"))
    assert problem.startswith("state: cannot change from /a to /b while the daemon runs; stop it")


async def test_what_cannot_be_looked_at_for_now_ends_nothing(tmp_path: Path) -> None:
    """Goal: a full disk while a configuration is checked is no end of the daemon. Method: a check that fails so once, then a good one."""
    telemetry, stop, answers = Telemetry(), Stop(), [RetryableError("the disk is full"), configured("/a")]
    told: list[list[str]] = []

    def reread() -> Config:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def take(_: Config) -> list[str]:
        told.append(telemetry.status.configuration.refused)
        stop.set()
        return []

    reloading = Reloading(tmp_path / "streamer.yaml", configured("/a"), {}, reread, telemetry, stop)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reloading.run(lambda: configured("/a"), take))
        while not stop.is_set():
            reloading.ask()
            await asyncio.sleep(0.01)
    assert told == [["the disk is full"]]


@pytest.mark.parametrize("changed", ["streamer.yaml", "rules.yaml", None])
async def test_what_changes_while_the_daemon_starts_is_a_change(tmp_path: Path, changed: str | None) -> None:
    """Goal: a ConfigMap that is swapped in the half second between the reading of the file and the first look is not missed for ever. Method: the file, or one
    that it names, written before the job begins to look; and none."""
    path, rules, stop, taken = tmp_path / "streamer.yaml", tmp_path / "rules.yaml", Stop(), asyncio.Event()
    path.write_text("as it was")
    rules.write_text("as they were")
    before = stamps([path])
    text = f"state: /a\nsources: {{a: {{}}}}\nsinks: {{b: {{}}}}\nenrich: {{rules: {rules}}}\nreload: {{watch: 10ms}}\n"
    config = parse(text, "test", sources={}, sinks={}, env={})
    if changed == "streamer.yaml":
        path.write_text("as it is when it was just read")

    async def take(_: Config) -> list[str]:
        taken.set()
        return []

    reloading = Reloading(path, config, before, lambda: config, Telemetry(), stop)
    if changed == "rules.yaml":
        rules.write_text("as they are when they were just read")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reloading.run(lambda: config, take))
        with suppress(TimeoutError):
            await asyncio.wait_for(taken.wait(), 20 if changed else 0.2)
        stop.set()
    assert taken.is_set() is (changed is not None)


async def test_a_part_that_cannot_be_opened_is_tried_until_it_can_or_becomes_another() -> None:
    """Goal: what was good when it was checked and is not when it opens is said and tried again, by itself. Method: an opening that fails twice;
    then one that always fails, which becomes nothing."""
    told: list[str] = []
    opened: list[str] = []

    def opening(name: str, failures: int) -> Opening:
        async def open_it(stack: AsyncExitStack, stop: Stop) -> Work:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise ConfigError(f"{name} fails")
            opened.append(name)
            stack.callback(opened.append, f"{name} closed")
            if name == "first":
                part.become(opening("second", 2))
            elif name == "second":
                part.become(opening("third", 10**9))
            return Work({"wait": stop.wait})

        return Opening(name, open_it)

    def held(error: str) -> None:
        told.append(error)
        if len(told) == 4:
            part.become(None)

    part = Part(Stop(), held, retry_s=0.001)
    await part.open(opening("first", 0))
    await part.run()
    assert opened == ["first", "first closed", "second", "second closed"]
    assert told == ["second fails"] * 2 + ["third fails"] * 2
