"""The whole daemon against the simulator on its bad days: whatever it does, everything arrives, once, unaltered, in order."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.app import Daemon, open_daemon
from streamer.config import config_model
from streamer.model import LISTINGS, Listing
from streamer.simulator import DEFAULT_KEY, FAULTS, Simulator
from streamer.simulator.faults import Setting
from streamer.simulator.store import Truth
from streamer.sinks import sink_options
from streamer.sources import source_options
from streamer.stop import Stop
from streamer.supervise import supervise
from streamer.telemetry import Telemetry
from tests.arrivals import Line
from tests.places import mounted
from tests.simulation import simulated

LIMIT_S = 60.0
SLOWEST_S = 0.3
"""Between two tries of what fails; a minute in earnest."""

HARD = {
    # Five empty pages in a row are believed; more of them are no fault but an empty log.
    "empty_page": Setting(count=4),
    "slow_body": Setting(value=0.2),
    "late": Setting(value=2.0),
    "rate_limited": Setting(count=3),
    "rate_limited_date": Setting(count=3),
}
"""How a fault strikes from the start; others strike always, as hard as they do by default."""
HOLDING = {"forbidden", "bad_request", "revoked_key", "access_refused", "ignored_filter"}
"""Faults that wait for an operator."""


@dataclass
class Running:
    """A daemon in this process, with a file sink."""

    simulator: Simulator
    daemon: Daemon
    telemetry: Telemetry
    stop: Stop
    path: Path

    async def until(self, condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, (condition, self.telemetry.status.as_dict(time.time()))
            await asyncio.sleep(0.01)

    def lines(self) -> list[Line]:
        whole = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        return [msgspec.json.decode(line, type=Line) for line in whole]

    def truth(self) -> dict[str, tuple[Listing, Truth]]:
        return {t.event.id: (one, t) for one in LISTINGS for t in self.simulator.upstream.truth(one)}

    def faults(self, **settings: Setting) -> None:
        self.simulator.faults.settings = settings

    @property
    def states(self) -> set[str]:
        return {row.state for row in self.telemetry.status.listings.values()}

    async def everything_arrived(self, *, as_served: Callable[[bytes], object] = bytes) -> None:
        """All that is visible now is in the file, once, unaltered, in time order."""
        truth = {i: found for i, found in self.truth().items() if found[1].visible_at <= time.time()}
        await self.until(lambda: truth.keys() <= {line.id for line in self.lines()})
        lines = self.lines()
        assert len(lines) == len({line.id for line in lines}), "doubled"
        served = self.truth()
        for line in lines:
            listing, entry = served[line.id]
            assert (line.listing, as_served(bytes(line.event))) == (listing, as_served(entry.event.raw))
        for listing in LISTINGS:
            times = [line.time for line in lines if line.listing == listing and not self._was_late(line, served)]
            assert times == sorted(times), f"disorder in {listing}"

    def _was_late(self, line: Line, served: dict[str, tuple[Listing, Truth]]) -> bool:
        entry = served[line.id][1]
        return line.late or entry.visible_at > entry.event.effective_at + 1


@asynccontextmanager
async def running(
    simulator: Simulator,
    folder: Path,
    *,
    state: Path | None = None,
    path: Path | None = None,
    once: bool = False,
    **source: Any,
) -> AsyncIterator[Running]:
    path = path or folder / "audit.jsonl"
    config = config_model(source_options(), sink_options()).model_validate(
        {
            "state": state or folder / "state",
            "admin": None,
            "enrich": {"directory": None},
            "sources": {
                "acme": {
                    "type": "openai_audit_logs",
                    "api_key": DEFAULT_KEY,
                    "base_url": simulator.base_url,
                    "start": "beginning",
                    "poll_interval": "200ms",
                    "overlap": "90s",
                    "recheck": [{"every": "1s", "window": "3h"}],
                    "timeouts": {"connect": "5s", "read": "5s", "total": "20s"},
                    **source,
                }
            },
            "sinks": {"local": {"type": "file", "path": path}},
        }
    )
    telemetry, stop = Telemetry(), Stop()
    async with open_daemon(config, telemetry, stop, once=once, slowest_s=SLOWEST_S) as daemon:
        job = asyncio.create_task(supervise(daemon.jobs(), daemon.background(), stop, telemetry))
        try:
            yield Running(simulator, daemon, telemetry, stop, path)
        finally:
            stop.set()
            await job


CASES = [pytest.param(name, HARD.get(name, Setting()), id=name) for name in FAULTS]
CASES.append(pytest.param("clock_offset", Setting(value=-3600.0), id="clock_offset behind"))


@pytest.mark.parametrize(("fault", "hard"), CASES)
async def test_everything_arrives_through_each_fault(fault: str, hard: Setting, tmp_path: Path) -> None:
    """Goal: nothing lost, doubled, altered or disordered; method: the fault from the first request on, then now and then while
    events come, then not at all; a row says what is wrong as long as it is."""
    async with simulated(events=1500, days=0.1, rate=6, seed=5) as simulator:
        simulator.faults.settings = {fault: msgspec.structs.replace(hard)}
        async with running(simulator, tmp_path) as daemon:
            await daemon.until(lambda: simulator.faults.struck.get(fault) or daemon.states == {"live"})
            await daemon.until(lambda: daemon.states <= {"live", "failing", "held"})
            rows = list(daemon.telemetry.status.listings.values())
            if fault in HOLDING:
                await daemon.until(lambda: daemon.states == {"held"})
            for row in rows:
                if row.state in ("failing", "held"):
                    assert row.error is not None
                    assert row.error.startswith("sources.acme")
            daemon.faults(**{fault: Setting(probability=0.1, value=hard.value)})
            before = len(daemon.truth())
            await daemon.until(lambda: len(daemon.truth()) >= before + 12)
            daemon.faults()
            await daemon.until(lambda: daemon.states == {"live"})
            # Indented JSON has line breaks, which an envelope cannot hold: it is the same JSON, in one line.
            await daemon.everything_arrived(as_served=msgspec.json.decode if fault == "pretty" else bytes)
            assert all(row.error is None for row in rows)
        assert simulator.faults.struck.get(fault), "the fault never struck"


async def test_late_events_are_found_within_one_recheck_interval_and_marked(tmp_path: Path) -> None:
    """Goal: what shows only after its time was walked is found soon and called late; method: every third event shows 4 s late,
    while polls read one second again and a recheck every 2 s reads a minute."""
    async with simulated(events=50, days=0.01, rate=10, seed=6, faults=("late:probability=0.33,value=4",)) as simulator:
        recheck = [{"every": "2s", "window": "60s"}]
        async with running(simulator, tmp_path, overlap="1s", recheck=recheck) as daemon, stalls() as stall:
            first_seen: dict[str, float] = {}
            began = time.time()
            while time.time() < began + 12:
                for line in daemon.lines():
                    first_seen.setdefault(line.id, time.time())
                await asyncio.sleep(0.05)
            daemon.faults()
            await daemon.everything_arrived()
            lines, truth = {line.id: line for line in daemon.lines()}, daemon.truth()
            hidden = {i: truth[i][1] for i in lines if truth[i][1].visible_at > truth[i][1].event.effective_at + 3}
            marked = {i for i, line in lines.items() if line.late}
            assert len(hidden) > 20
            assert marked == hidden.keys()
            waits = [seen - hidden[i].visible_at for i, seen in first_seen.items() if i in hidden]
            assert max(waits) < 2 + 0.2 + 0.5 + 3 * stall.longest
            rows = daemon.telemetry.status.listings.values()
            assert sum(row.late for row in rows) == len(marked)


@pytest.mark.parametrize(
    ("past", "days", "latency_s", "again"),
    [(50, 0.01, 0.0, [{"every": "1s", "window": "3h"}]), (6_000, 0.9, 0.2, [{"every": "2s", "window": "1d"}])],
    ids=["a quiet day", "a busy day walked again all the time"],
)
async def test_an_event_is_in_the_file_within_a_poll_and_half_a_second(
    tmp_path: Path, past: int, days: float, latency_s: float, again: list[dict[str, str]]
) -> None:
    """Goal: freshness; method: some 40 events at odd moments, a poll a second, the file watched; the latency of a page, and what this machine itself was
    held up by meanwhile, are granted."""
    async with (
        simulated(events=past, days=days, rate=3.7, seed=7) as simulator,
        running(simulator, tmp_path, poll_interval="1s", overlap="5m", recheck=again) as daemon,
        stalls() as stall,
    ):
        await daemon.until(lambda: daemon.states == {"live"})
        daemon.faults(**({"latency": Setting(value=latency_s)} if latency_s else {}))
        received = sum(row.received for row in daemon.telemetry.status.listings.values())
        await daemon.until(lambda: len(daemon.lines()) >= received)
        seen: dict[str, float] = {line.id: 0.0 for line in daemon.lines()}
        old = set(seen)
        while len(seen) < len(old) + 40:
            for line in daemon.lines():
                seen.setdefault(line.id, time.time())
            await asyncio.sleep(0.02)
        truth = daemon.truth()
        waits = sorted(at - truth[i][1].visible_at for i, at in seen.items() if i not in old)
        assert waits[len(waits) // 2] < 1.1 + latency_s + stall.longest
        assert waits[-1] < 1.5 + latency_s + 3 * stall.longest
        rechecks = [done for row in daemon.telemetry.status.listings.values() for done in row.rechecks.values()]
        assert len(rechecks) == len(LISTINGS) * len(again)


async def test_once_ends_with_all_that_is_new_where_what_is_old_cannot_be_walked_again(tmp_path: Path) -> None:
    """Goal: a CronJob is no daemon; method: a run, then one in which no cursor is followed, so that rechecks fail and polls, of one page, do not."""
    async with simulated(events=1500, days=0.1, rate=3, seed=9) as simulator:
        async with running(simulator, tmp_path, once=True) as daemon:
            await daemon.until(daemon.stop.is_set)
            assert daemon.daemon.outcome.left_behind == []
        await asyncio.sleep(1.1)  # A recheck is due a second after the last one.
        await daemon.until(lambda: len(daemon.truth()) > len(daemon.lines()))
        simulator.faults.settings = {"unknown_cursor": Setting()}
        before = len(daemon.lines())
        async with running(simulator, tmp_path, once=True, overlap="5s") as daemon:
            await daemon.until(daemon.stop.is_set)
            said = daemon.daemon.outcome.left_behind
        assert said
        assert all(one.startswith("what should be walked again is left to the next run: sources.acme") for one in said)
        assert len(daemon.lines()) > before
        daemon.faults()
        visible = {i for i, (_, truth) in daemon.truth().items() if truth.visible_at <= time.time()}
        async with running(simulator, tmp_path, once=True) as daemon:
            await daemon.until(daemon.stop.is_set)
            assert daemon.daemon.outcome.left_behind == []
        ids = [line.id for line in daemon.lines()]
        assert visible <= set(ids)
        assert len(ids) == len(set(ids))


@dataclass
class Stall:
    longest: float = 0.0


@asynccontextmanager
async def stalls() -> AsyncIterator[Stall]:
    """How long this process was held up, by others or by itself."""
    stall, ended = Stall(), False

    async def watch() -> None:
        while not ended:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            stall.longest = max(stall.longest, time.monotonic() - before - 0.01)

    job = asyncio.create_task(watch())
    try:
        yield stall
    finally:
        ended = True
        await job


# --- full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "size=8m") as folder:
        yield folder


def fill(folder: Path, leave: int) -> Path:
    """A file that takes all room but so many bytes; others may write there meanwhile."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(path, path.stat().st_size - leave)
    return path


async def test_intake_waits_while_the_disk_of_the_journal_is_full(tmp_path: Path, small_disk: Path) -> None:
    """Goal: a full disk is waiting, said, and not losing; method: a tmpfs filled to the last page while events come, then freed."""
    async with (
        simulated(events=200, days=0.01, rate=5, seed=8) as simulator,
        running(simulator, tmp_path, state=small_disk / "state") as daemon,
    ):
        await daemon.until(lambda: daemon.states == {"live"})
        filler = fill(small_disk, 0)
        simulator.upstream.invent(None, 3000)
        journal = daemon.telemetry.status.journal
        await daemon.until(lambda: journal.full)
        await daemon.until(lambda: daemon.states == {"failing"})
        row = next(iter(daemon.telemetry.status.listings.values()))
        assert row.error is not None
        assert "full; free disk space, intake waits until there is room" in row.error
        assert str(small_disk) in row.error
        filler.unlink()
        await daemon.until(lambda: daemon.states == {"live"})
        assert journal.full is False
        await daemon.everything_arrived()
        assert len(daemon.lines()) > 3200


@pytest.mark.parametrize("leave", [0, 4096])
async def test_a_sink_waits_while_its_disk_is_full(tmp_path: Path, small_disk: Path, leave: int) -> None:
    """Goal: intake goes on, the sink says what it lacks, nothing is torn or doubled; method: a tmpfs without room, or with room for a part
    of a batch, then with room."""
    path = small_disk / "audit.jsonl"
    async with (
        simulated(events=200, days=0.01, rate=5, seed=9) as simulator,
        running(simulator, tmp_path, path=path) as daemon,
    ):
        await daemon.until(lambda: daemon.states == {"live"})
        await daemon.everything_arrived()
        filler = fill(small_disk, leave)
        simulator.upstream.invent(None, 300)
        (sink,) = daemon.telemetry.status.sinks.values()
        await daemon.until(lambda: sink.state == "failing" and sink.retries > 3)
        assert sink.error is not None
        assert sink.error.startswith("disk full: sinks.local.path: ")
        assert sink.error.endswith(f"at {path}; free some space")
        await daemon.until(lambda: sink.backlog > 100)
        assert daemon.states == {"live"}
        filler.unlink()
        await daemon.everything_arrived()
        await daemon.until(lambda: sink.state in ("delivering", "idle"))
