"""What must hold, seen from outside: what arrived against the simulator's truth, the daemon's own numbers against what was counted here."""

import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.arrivals import NAMED, Arrived, Truth, file_lines, judge
from tests.chaos.world import TOPIC, World
from tests.kafka_mock import read_topic
from tests.outage import archive_lines

POOL = 5
"""Threads that asyncio's pool may add on two cores."""


# --- what arrived ----------------------------------------------------------------------------------------------------


def kafka_lines(world: World) -> Iterator[bytes]:
    assert world.kafka is not None
    for message in read_topic(world.kafka.servers, TOPIC, timeout_s=120):
        value = message.value()
        assert value is not None
        yield value


def judge_all(world: World, wanted: Truth) -> dict[str, Arrived]:
    """Each sink by its promise: exactly once, or at least once."""
    found = {
        "file": judge(file_lines(world.disk), wanted, once=True, ordered=True),
        "archive": judge(archive_lines(world.disk / "archive"), wanted, once=True, ordered=True),
    }
    hook = world.hook.ids
    lost = sorted(wanted.keys() - {i.decode() for i in hook})
    found["webhook"] = Arrived(len(hook), [f"{len(lost)} missing: {', '.join(lost[:NAMED])}"] if lost else [])
    if world.kafka is not None:
        found["kafka"] = judge(kafka_lines(world), wanted, once=True, ordered=False)
    return found


# --- what the program says of itself ---------------------------------------------------------------------------------


def proves(world: World, since: str) -> list[str]:
    """`reconcile` and `verify` as an operator runs them."""
    problems = []
    done = world.streamer("reconcile", "-c", str(world.config), "--since", since, "--json")
    if done.returncode != 0:
        problems.append(f"reconcile ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
    elif (total := json.loads(done.stdout)["total"])["missing"] or total["undelivered"] or total["dead_lettered"]:
        problems.append(f"reconcile: {total}")
    done = world.streamer("verify", str(world.disk / "archive"), "--key", str(world.folder / "signing.key.pub"))
    if done.returncode != 0:
        problems.append(f"verify ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
    return problems


def lies(before: dict[str, float], after: dict[str, float], events: int, sinks: Iterable[str]) -> list[str]:
    """What /metrics says of `events` events that came between two looks and are everywhere now, where it is not true."""
    received = sum(after[k] - before.get(k, 0) for k in after if k.startswith("streamer_events_received_total"))
    wrong = [] if received == events else [f"received {received:.0f} of {events}"]
    for sink in sinks:
        name = f'streamer_sink_delivered_total{{sink="{sink}"}}'
        delivered = after[name] - before.get(name, 0)
        if delivered != events:
            wrong.append(f"{name} grew by {delivered:.0f}, not by {events}")
        gauges = [f'{name}{{sink="{sink}"}}' for name in ("streamer_sink_backlog_events", "streamer_sink_held")]
        wrong += [f"{gauge} is {after[gauge]:.0f}" for gauge in gauges if after[gauge]]
    return [f"a metric lies: {one}" for one in wrong]


# --- what the system says of it --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """What a process holds."""

    descriptors: int
    threads: int
    memory_mib: float


def body(pid: int) -> Body:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Body(descriptors, int(status["Threads"]), int(status["VmRSS"].split()[0]) / 1024)


def peak_mib(pid: int) -> float:
    """The most it ever held; 0 when it is gone."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0.0
    return int(status.get("VmHWM", "0").split()[0]) / 1024


def settles(pid: int, before: Body, limit_s: float) -> list[str]:
    """After the storm it holds no more than before it; connections that are about to close get some time, and the loop's own pool
    may have made the rest of its threads."""
    deadline = time.monotonic() + limit_s
    while (now := body(pid)).descriptors > before.descriptors + 2 or now.threads > before.threads + POOL:
        if time.monotonic() > deadline:
            open_now = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True, check=False)
            return [f"leaked: {before} before the storm, {now} after it\n{open_now.stdout}"]
        time.sleep(0.1)
    return []
