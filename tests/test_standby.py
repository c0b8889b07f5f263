"""A second process stands by: it leads when the first is gone, and never beside it. `tests/crash/failover.py` has the machinery of the kills."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from streamer.config import LeaseOptions
from streamer.lease import LostRace, Seen, decide, open_lease
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.lease_server import TOKEN, lease_server
from tests.places import Place, until
from tests.simulation import Child, simulated_in_child
from tests.test_reload import daemon, log_of, metric, running

DURATION_S = 6


@pytest.mark.parametrize(
    ("seen", "now", "verdict"),
    [
        (None, 0.0, "create"),
        (Seen("me", 15, "1", 0.0), 100.0, "renew"),
        (Seen("", 15, "1", 0.0), 0.0, "take"),
        (Seen("other", 15, "1", 100.0), 114.9, "wait"),
        (Seen("other", 15, "1", 100.0), 115.0, "take"),
        (Seen("other", 60, "1", 100.0), 115.0, "wait"),
    ],
)
def test_a_lease_is_taken_when_nobody_has_renewed_it_for_its_own_duration(
    seen: Seen | None, now: float, verdict: str
) -> None:
    """Goal: the holder's duration counts, from when we saw its last renewal; method: the pure decision."""
    assert decide(seen, "me", now) == verdict


OVERSLEEPER = """
import os, signal, sys, time
from streamer.lease import _end_at
end = time.monotonic() + 2.0
_end_at(end)
with open(sys.argv[1], "ab", buffering=0) as file:
    file.write(b"x" * 100)
    print(end, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        file.write(b"x")
"""


def test_who_was_stopped_past_the_end_writes_nothing_when_woken(tmp_path: Path) -> None:
    """Goal: the kernel's timer comes before the next instruction; method: two processes that write, stop before their end, are woken after it, and
    would do nothing but write."""
    paths = [tmp_path / str(number) for number in range(2)]
    with ExitStack() as stack:
        processes = []
        for path in paths:
            command = [sys.executable, "-c", OVERSLEEPER, str(path)]
            processes.append(stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)))
        for process in processes:
            stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert stopped is not None
            assert stopped.si_status == signal.SIGSTOP
            assert process.stdout is not None
            end = float(process.stdout.readline())
            until(lambda end=end: time.monotonic() > end + 0.1)  # the clock is the same in every process
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
        assert [process.wait(30) for process in processes] == [-signal.SIGALRM] * len(paths)
    assert [path.stat().st_size for path in paths] == [100] * len(paths)


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("by", "rounds"), [("lock", 6), ("lease", 3)])
def test_nothing_is_lost_or_doubled_when_the_leader_is_killed_or_frozen(by: str, rounds: int) -> None:
    """Goal: file and archive have every event once, whoever leads; method: two daemons on one state folder, every third leader is frozen and wakes
    up when its lease is gone, the others are killed; against the simulator's truth."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.crash.failover", "--by", by, "--rounds", str(rounds)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    report = json.loads(run.stdout)
    assert report["kills"] == rounds
    assert report["lines"] >= report["truth"] > 1500
    assert len(report["waits"]) >= rounds * 2 // 3


@pytest.fixture(scope="module")
def simulator() -> Iterator[Child]:
    with simulated_in_child(events=100, days=0.2, rate=2, seed=3) as child:
        yield child


@pytest.fixture
def leases() -> Iterator[str]:
    with lease_server() as address:
        yield address


@pytest.mark.timeout(240)
def test_a_standby_says_so_takes_over_at_once_from_one_that_ends_and_ends_itself_without_the_api_server(
    tmp_path: Path, simulator: Child, leases: str
) -> None:
    """Goal: a standby is alive, ready and says who is at work; a leader that is stopped hands over without a wait; one that cannot renew ends
    before another may begin, and says why first. Method: two real processes and a server that begins to fail."""
    (tmp_path / "token").write_text(TOKEN)
    lease = {"name": "audit", "server": leases, "token_file": str(tmp_path / "token"), "duration": f"{DURATION_S}s"}
    places = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        place = Place(tmp_path / str(number), simulator.base_url).change("standby", {"lease": lease})
        place.change("state", str(tmp_path / "state")).change("enrich", {"directory": None})
        places.append(place.change("sinks.local.path", str(tmp_path / "audit.jsonl")))
    first, second = places
    with running(second.write()) as survivor:
        with daemon(first.write()):
            until(lambda: {metric_of(first), metric_of(second)} == {0.0, 1.0})
            leading, waiting = (first, second) if metric_of(first) else (second, first)
            assert waiting.get("/readyz") == (200, "standing by\n")
            assert waiting.get("/healthz")[0] == 200
            until(lambda: holder(waiting) == holder(leading) != "")
            until(lambda: leading.states() == {"organization": "live", "tenant": "live"})
        until(lambda: metric_of(second))
        until(lambda: second.states() == {"organization": "live", "tenant": "live"})
        request = urllib.request.Request(leases + "/fault?status=503", method="PUT")
        urllib.request.urlopen(request, timeout=5).close()
        assert survivor.wait(60) == -signal.SIGALRM
        said = [line for line in log_of(second.config) if line["event"].startswith("the lease cannot be asked for")]
        assert len(said) == 1
        assert "503" in said[0]["error"]


@pytest.fixture
def alarm() -> Iterator[None]:
    """A lease that is held sets this process's own end: taken back, whatever a test does."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def lease_options(server: str, token: Path, duration: str) -> LeaseOptions:
    return LeaseOptions.model_validate(
        {"name": "audit", "server": server, "token_file": str(token), "duration": duration}
    )


async def test_one_holds_a_lease_and_gives_it_back(tmp_path: Path, leases: str, alarm: None) -> None:
    """Goal: one at a time, and no wait after a release; method: two in turn on one server, and a third who lost a race for a new name."""
    (tmp_path / "token").write_text(TOKEN)
    options = lease_options(leases, tmp_path / "token", "60s")
    telemetry = Telemetry(time.time)
    async with open_lease(options, "a", telemetry) as first, open_lease(options, "b", telemetry) as second:
        assert await first.acquire(Stop())
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 30, "the kernel ends who does not renew"
        assert not await second._turn()
        assert telemetry.status.standby.holder == "a"
        assert await first._turn(), "renewed"
        await first.release()
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
        assert await second.acquire(Stop())
        async with open_lease(options, "c", telemetry) as third:
            await third._read()
            assert await second._turn()
            assert third._document is not None
            third._seen = None  # as if nobody had held it when it was read
            with pytest.raises(LostRace):
                await third._put("c", 60)
            assert not await third._turn(), "who lost reads again"
            stop = Stop()
            stop.set()
            assert not await third.acquire(stop)
        await second.release()


@pytest.mark.parametrize(
    ("token", "server", "said"),
    [
        ("another", "", "401 to GET: .*; give the service account get, create and update on leases"),
        (None, "", "standby.lease.token_file: cannot read .*: No such file or directory; mount the token there"),
        (b"\xff", "", "it is not text; mount the token there"),
        (TOKEN, "http://127.0.0.1:9", "the API server does not answer: "),
        (TOKEN, "simulator", "is no Lease; check standby.lease.server|404|401"),
    ],
)
async def test_why_a_lease_cannot_be_asked_for(
    tmp_path: Path, leases: str, simulator: Child, alarm: None, token: str | bytes | None, server: str, said: str
) -> None:
    """Goal: one sentence with the mend, said once, and nothing held; method: wrong tokens, nobody there, another server."""
    if token is not None:
        (tmp_path / "token").write_bytes(token if isinstance(token, bytes) else token.encode())
    address = {"": leases, "simulator": simulator.base_url}.get(server, server)
    options = lease_options(address, tmp_path / "token", "6s")
    telemetry = Telemetry(time.time)
    async with open_lease(options, "a", telemetry) as lease:
        assert not await lease._turn()
        assert re.search(said, telemetry.status.standby.error or ""), telemetry.status.standby.error


def holder(place: Place) -> str | None:
    """Who leads, as this one sees it; None while it does not answer."""
    found: str | None = place.status().get("standby", {}).get("holder")
    return found


def metric_of(place: Place) -> float:
    try:
        return metric(place, "streamer_leader")
    except OSError:
        return -1.0
