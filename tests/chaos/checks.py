"""What must hold, seen from outside: what arrived against the simulator's truth, the daemon's own numbers against what was counted here."""

import hashlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.chaos.world import TOPIC, World
from tests.kafka_mock import read_topic
from tests.outage import archive_lines

PROMPT_S = 2.0
"""An event that shows up within so long after its time was neither hidden nor rounded."""
POOL = 5
"""Threads that asyncio's pool may add on two cores."""
NAMED = 10
"""So many ids are named of each kind of trouble."""


class Line(msgspec.Struct):
    """What is read of an envelope."""

    id: str
    listing: str
    time: str
    late: bool
    event: msgspec.Raw


class Row(msgspec.Struct):
    """One event of the simulator's truth."""

    id: str
    listing: str
    effective_at: int
    visible_at: float
    sha256: str

    @property
    def is_prompt(self) -> bool:
        return self.visible_at - self.effective_at < PROMPT_S


Truth = dict[str, Row]


def truth(world: World) -> Truth:
    decoder = msgspec.json.Decoder(Row)
    rows = map(decoder.decode, world.child.control("GET", "truth").splitlines())
    return {row.id: row for row in rows}


# --- what arrived ----------------------------------------------------------------------------------------------------


def file_lines(folder: Path, name: str = "audit.jsonl") -> Iterator[bytes]:
    """Of all files, the oldest first."""
    numbered = [path for path in folder.glob(f"{name}.*") if path.suffix[1:].isdigit()]
    for path in [*sorted(numbered, key=lambda p: -int(p.suffix[1:])), folder / name]:
        if path.exists():
            yield from path.read_bytes().splitlines()


def kafka_lines(world: World) -> Iterator[bytes]:
    assert world.kafka is not None
    for message in read_topic(world.kafka.servers, TOPIC, timeout_s=120):
        value = message.value()
        assert value is not None
        yield value


@dataclass
class Arrived:
    """What one sink has, judged."""

    events: int
    problems: list[str]


def judge(lines: Iterable[bytes], wanted: Truth, *, once: bool, ordered: bool) -> Arrived:
    """All of `wanted`, byte for byte; `once`: each a single time; `ordered`: in time order within a listing.

    An event may stand behind a newer one only if it showed up late, which the simulator knows, or was found late, which its line says.
    """
    decoder = msgspec.json.Decoder(Line)
    counts: Counter[str] = Counter()
    altered, disorder = [], []
    newest = {"organization": 0, "tenant": 0}
    for text in lines:
        line = decoder.decode(text)
        counts[line.id] += 1
        row = wanted.get(line.id)
        if row is None:
            continue
        if (line.listing, hashlib.sha256(line.event).hexdigest()) != (row.listing, row.sha256):
            altered.append(line.id)
        if not line.late:
            if row.is_prompt and row.effective_at < newest[row.listing] - PROMPT_S:
                disorder.append(line.id)
            newest[row.listing] = max(newest[row.listing], row.effective_at)
    found = {
        "missing": sorted(wanted.keys() - counts.keys()),
        "foreign": sorted(counts.keys() - wanted.keys()),
        "twice": [i for i, count in counts.items() if count > 1] if once else [],
        "altered": altered,
        "out of order": disorder if ordered else [],
    }
    problems = [f"{len(ids)} {kind}: {', '.join(ids[:NAMED])}" for kind, ids in found.items() if ids]
    return Arrived(counts.total(), problems)


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
