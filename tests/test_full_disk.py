"""Started while a disk is full, the daemon waits for room, as it does when a disk fills while it runs."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer.admin.verdict import trouble
from streamer.app import open_daemon
from streamer.config import config_model
from streamer.sinks import sink_options
from streamer.sources import source_options
from streamer.stop import Stop
from streamer.supervise import supervise
from streamer.telemetry import Telemetry
from tests import outage
from tests.outage import file_ids, running, truth
from tests.places import Place, mounted, until
from tests.simulation import Child, simulated_in_child
from tests.test_faults import fill


@pytest.fixture(scope="module")
def simulator() -> Iterator[Child]:
    with simulated_in_child(events=200, days=1, seed=5) as child:
        yield child


def bytes_gone(disk: Path) -> Callable[[], None]:
    filler = fill(disk, 8192)
    return filler.unlink


def names_gone(disk: Path) -> Callable[[], None]:
    """No file can be made there any more; what is there can grow."""
    made = []
    try:
        for number in range(1000):
            made.append(disk / f"filler-{number}")
            made[-1].touch()
    except OSError:
        made.pop()

    def free() -> None:
        for path in made:
            path.unlink()

    return free


@pytest.mark.parametrize(("gone", "has_journal"), [(bytes_gone, False), (names_gone, True)])
def test_it_waits_for_room_and_goes_on(
    tmp_path: Path, simulator: Child, gone: Callable[[Path], Callable[[], None]], has_journal: bool
) -> None:
    """Goal: no restart loop: it says once what it lacks, is alive and not ready, and goes on when there is room. Method: the first start of all,
    as a standby whose turn it is, and a later start without; a tmpfs without room, or without room for names, that is then freed."""
    with mounted(tmp_path / "small", "size=8m,nr_inodes=40") as disk:
        place = Place(tmp_path, simulator.base_url).change("state", str(disk / "state"))
        if has_journal:
            assert outage.once(place) == 0
        else:
            place.change("standby", {})
        free = gone(disk)
        with running(place) as daemon:
            until(lambda: place.status().get("journal", {}).get("full"))
            assert place.get("/healthz")[0] == 200
            status, said = place.get("/readyz")
            assert (status, "free disk space" in said) == (503, True)
            assert place.status()["journal"]["error"] + "\n" == said
            assert "the journal is full: intake waits (" in trouble(place.status())[0]
            assert (daemon.metric("streamer_journal_full"), daemon.metric("streamer_leader")) == (1, 0)
            free()
            until(lambda: daemon.has_all("local", len(truth(simulator))))
            until(lambda: place.get("/readyz")[0] == 200)
            assert place.status()["journal"]["error"] is None
            assert (daemon.metric("streamer_journal_full"), daemon.metric("streamer_leader")) == (0, 1)
    assert (tmp_path / "daemon.log").read_text().count("journal full, intake waits") == 1
    lines = file_ids(place.lines)
    assert len(lines) == len(set(lines))
    assert set(lines) == truth(simulator)


def test_it_can_be_stopped_while_it_waits(tmp_path: Path, simulator: Child) -> None:
    """Goal: SIGTERM is obeyed. Method: a full disk that stays full; `running` asks for exit 0."""
    with mounted(tmp_path / "small", "size=1m") as disk:
        place = Place(tmp_path, simulator.base_url).change("state", str(disk / "state"))
        fill(disk, 0)
        with running(place):
            until(lambda: place.get("/readyz")[0] == 503 if place.status() else False)


def test_once_does_not_wait(tmp_path: Path, simulator: Child) -> None:
    """Goal: a CronJob ends and says why, and that is no bug. Method: `run --once` on a full disk."""
    with mounted(tmp_path / "small", "size=8m") as disk:
        place = Place(tmp_path, simulator.base_url).change("state", str(disk / "state"))
        fill(disk, 0)
        assert outage.once(place) == 1
        (said,) = (tmp_path / "daemon.log").read_text().splitlines()
        assert said == f"streamer: state: {disk}/state: no space left on device; free disk space"


async def test_a_sink_that_cannot_be_opened_for_now_is_opened_later(tmp_path: Path) -> None:
    """Goal: a full disk of one sink is its own trouble at the start too. Method: an archive where no folder can be made beside a file, then room."""
    with mounted(tmp_path / "small", "size=1m,nr_inodes=20") as disk:
        free = names_gone(disk)
        source = {"type": "openai_audit_logs", "api_key": "k", "base_url": "http://127.0.0.1:9"}
        sinks = {
            "lake": {"type": "archive", "path": str(disk / "archive")},
            "local": {"type": "file", "path": str(tmp_path / "lines")},
        }
        config = config_model(source_options(), sink_options()).model_validate(
            {
                "state": tmp_path / "state",
                "admin": None,
                "enrich": {"directory": None},
                "sources": {"acme": source},
                "sinks": sinks,
            }
        )
        telemetry, stop = Telemetry(), Stop()
        async with open_daemon(config, telemetry, stop, slowest_s=0.1) as daemon:
            job = asyncio.create_task(supervise(daemon.jobs(), daemon.background(), stop, telemetry))
            try:
                rows = telemetry.status.sinks
                await becomes(lambda: "lake" in rows and rows["lake"].state == "held")
                assert "No space left on device" in str(rows["lake"].error)
                await becomes(lambda: rows["local"].state == "idle")
                free()
                await becomes(lambda: rows["lake"].state == "idle")
            finally:
                stop.set()
                await job


async def becomes(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
