"""What surrounds the daemon: an API, four sinks, a small disk, a network, a clock, and a configuration."""

import contextlib
import copy
import json
import os
import random
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.certificates import Authority
from tests.chaos.nursery import Nursery, nursery
from tests.chaos.roads import CALM, Road, Weather, opened
from tests.chaos.schedule import Kinds
from tests.integration.kafka_broker import PASSWORD, USER, Kafka, kafka_broker
from tests.outage import ENV, Hook, receiving
from tests.places import Place
from tests.simulation import Child, simulated_in_child

ROOM = "4g"
"""Of the disk when it is not full; it is memory only as far as it is used."""
TOPIC = "audit"


class World:
    def __init__(self, folder: Path, child: Child, roads: dict[str, Road], kafka: Kafka | None, hook: Hook) -> None:
        self.folder, self.child, self.roads, self.kafka = folder, child, roads, kafka
        self.hook, self._hook_up = hook, contextlib.ExitStack()
        self.disk = folder / "disk"
        self.keys = 0
        self.acts: Counter[str] = Counter()
        """What was done, by kind; what the roads and the simulator did is counted there."""
        self.nursery: Nursery
        self._restarting: threading.Thread | None = None
        self.place = Place(folder, f"https://127.0.0.1:{roads['upstream'].port}/v1")
        self._configure()
        self._plain = copy.deepcopy(self.place.document)

    @property
    def config(self) -> Path:
        return self.place.config

    def _configure(self) -> None:
        authority, place, disk = self.folder / "ca.pem", self.place, self.disk
        place.document["state"] = str(disk / "state")
        place.document["enrich"] = {"directory": None}
        place.document["reload"] = {"watch": "1s"}
        place.document["journal"] = {"keep": "4d", "max_size": "256MiB"}
        place.document["sources"]["acme"] = {
            "type": "openai_audit_logs",
            "api_key_file": str(self.folder / "api.key"),
            "base_url": f"https://127.0.0.1:{self.roads['upstream'].port}/v1",
            "ca_file": str(authority),
            "start": "beginning",
            "poll_interval": "200ms",
            "overlap": "10s",
            "recheck": [{"every": "2s", "window": "2m"}],
            "concurrency": 3,
            "timeouts": {"connect": "3s", "read": "3s", "total": "6s"},
        }
        place.document["sinks"] = {
            "local": {"type": "file", "path": str(disk / "audit.jsonl"), "rotate": {"size": "1MiB", "keep": 9999}},
            "lake": {
                "type": "archive",
                "path": str(disk / "archive"),
                "signing_key_file": str(self.folder / "signing.key"),
                "roll": {"age": "5s"},
                "batch": {"events": 200, "wait": "0s"},
            },
            "hook": {
                "type": "webhook",
                "url": f"https://127.0.0.1:{self.roads['webhook'].port}/in",
                "tls": {"ca_file": str(authority)},
                "layout": "ndjson",
                "body": "bare",
                "timeout": "4s",
                "batch": {"events": 500, "wait": "0s"},
            },
        }
        if self.kafka is not None:
            place.document["sinks"]["bus"] = {
                "type": "kafka",
                "bootstrap_servers": f"127.0.0.1:{self.roads['kafka'].port}",
                "topic": TOPIC,
                "key": "id",
                "exactly_once": True,
                "request_timeout": "4s",
                "delivery_timeout": "15s",
                "tls": {"ca_file": str(authority)},
                "sasl": {"mechanism": "PLAIN", "username": USER, "password": PASSWORD},
                "batch": {"events": 100, "wait": "0s"},
            }
        place.write()

    # --- what happens ------------------------------------------------------------------------------------------------

    def configure(self, changes: dict[str, Any]) -> None:
        """The first configuration with these changes; a running daemon is not told."""
        self.place.document = copy.deepcopy(self._plain)
        for path, value in changes.items():
            self.place.change(path, value)
        self.place.write()

    def set_faults(self, faults: dict[str, Any]) -> None:
        self.child.control("PUT", "faults", faults)

    def set_weather(self, weather: dict[str, Weather]) -> None:
        for name, road in self.roads.items():
            road.weather = weather.get(name, CALM)

    def burst(self, events: int) -> None:
        self.child.control("POST", "events", {"count": events})

    def fill(self, left: int) -> None:
        """Nothing but so many bytes are free on the disk of the state, the file and the archive."""
        for _ in range(20):  # a daemon may write meanwhile
            used = os.statvfs(self.disk)
            taken = (used.f_blocks - used.f_bfree) * used.f_frsize
            if self._resize(str(max(taken + left, used.f_frsize))):  # 0 would be no limit, for ever
                return
        raise AssertionError("the disk could not be filled")

    def free(self) -> None:
        assert self._resize(ROOM)

    def _resize(self, size: str) -> bool:
        command = ["mount", "-o", f"remount,size={size}", str(self.disk)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def new_key(self) -> str:
        self.keys += 1
        return f"sk-admin-simulated-{self.keys}"

    def accept(self, *keys: str) -> None:
        self.child.control("POST", "keys", {"keys": list(keys)})

    def write_key(self, key: str) -> None:
        fresh = self.folder / "api.key.new"
        fresh.write_text(key + "\n")
        fresh.rename(self.folder / "api.key")

    def close_webhook(self) -> None:
        self._hook_up.close()

    def open_webhook(self) -> None:
        self._hook_up.enter_context(receiving(self.hook))

    def restart_kafka(self) -> None:
        """Killed at once; up again some seconds later, while lives go on."""
        self.await_kafka()
        kafka = self.kafka
        assert kafka is not None
        kafka.kill()
        self._restarting = threading.Thread(target=kafka.start, name="kafka starts")
        self._restarting.start()

    def await_kafka(self) -> None:
        if self._restarting is not None:
            self._restarting.join(120)
            self._restarting = None

    def heal(self) -> None:
        """The weather is calm, the API answers, the clock is right, the disk is empty, everybody is up, and the key is good."""
        self.set_faults({})
        self.set_weather({})
        self.free()
        key = self.new_key()
        self.accept(key)
        self.write_key(key)
        self.await_kafka()
        self.configure({})

    # --- what there is -----------------------------------------------------------------------------------------------

    def struck(self) -> dict[str, int]:
        """Every fault that happened so far, by what it was."""
        faults: dict[str, int] = json.loads(self.child.control("GET", "faults"))["struck"]
        found = {f"api: {name}": count for name, count in faults.items()}
        for name, road in self.roads.items():
            found |= {f"{name} connection: {kind}": count for kind, count in road.struck.items()}
        return found | dict(self.acts)

    def file_stamp(self) -> tuple[int, int]:
        """Changes when the file gets something."""
        try:
            found = (self.disk / "audit.jsonl").stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.place.port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def streamer(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamer", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=600, check=False)


@contextmanager
def world(folder: Path, seed: int, kinds: Kinds, events: int) -> Iterator[World]:
    """Everything is up, until the block ends. The caller owns a mount namespace, in which the disk is mounted."""
    with contextlib.ExitStack() as stack:
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=700", "tmpfs", str(disk)], check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
        authority = Authority(folder, valid=timedelta(days=3650))
        kafka = stack.enter_context(kafka_broker(folder / "kafka")) if kinds.kafka else None
        if kafka is not None:
            kafka.create(TOPIC)
        child = stack.enter_context(simulated_in_child(events=events, days=2, seed=seed))
        hook = Hook()
        with receiving(hook):  # which gives it its port
            pass
        roads = {
            "upstream": Road("upstream", int(child.base_url.split(":")[2].split("/")[0]), random.Random(f"{seed}/up")),
            "webhook": Road("webhook", hook.port, random.Random(f"{seed}/hook")),
        }
        if kafka is not None:
            there, behind = kafka.relay
            roads["kafka"] = Road("kafka", behind, random.Random(f"{seed}/kafka"), port=there)
        stack.enter_context(opened(list(roads.values()), authority.server()))
        made = World(folder, child, roads, kafka, hook)
        made.open_webhook()
        stack.callback(made.close_webhook)
        stack.callback(made.await_kafka)
        done = made.streamer("keygen", str(folder / "signing.key"))
        assert done.returncode == 0, done.stderr
        made.nursery = stack.enter_context(nursery(folder, clock=kinds.clock))
        yield made
