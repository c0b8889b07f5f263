"""What a person sees in a real terminal: a pseudo-terminal of a width, and all that the program writes into it."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.places import Place
from tests.places import until as wait_until
from tests.simulation import Child, simulated_in_child
from tests.test_reload import running

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def typed(columns: int, *arguments: str, until: str = "", ends: int = 0, limit_s: float = 60) -> str:
    """All that `streamer` shows, without colours and moves; it gets SIGINT as soon as it shows `until`. `ends`: its exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "streamer", *arguments]
    # Where the tests run in the background of a shell, SIGINT is ignored, and would be by what they start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, preexec_fn=heed) as process:
        os.close(theirs)
        signal_sent = not until
        shown = b""
        try:
            while data := read(ours):
                shown += data
                if not signal_sent and re.search(until, plain(shown)):
                    process.send_signal(signal.SIGINT)
                    signal_sent = True
            assert process.wait(limit_s) == ends, plain(shown)
        finally:
            os.close(ours)
            process.kill()
    return plain(shown)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux says so when the last who could write has gone
        return b""


def plain(shown: bytes) -> str:
    return CONTROL.sub("", shown.decode("utf-8", "replace"))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Child]:
    with simulated_in_child(events=4000, faults=["latency:value=0.1"]) as child:
        yield child


@pytest.mark.timeout(120)
def test_catching_up_has_a_bar_for_each_listing(tmp_path: Path, simulator: Child) -> None:
    """Goal: who starts it sees how far it is; method: `run` in a terminal on a slow API, ended as soon as events are counted."""
    place = Place(tmp_path, simulator.base_url).change("enrich", {"directory": None})
    place.change("sources.acme.start", "beginning").change("admin", None).write()
    shown = typed(
        150, "run", "-c", str(place.config), until=r"acme/tenant.*acme/organization.*[1-9]\d* events, at 20\d\d-"
    )
    assert re.search(r"acme/organization .*\d+ % +[\d,]+ events, at 20\d\d-\d\d-\d\d \d\d:\d\d 0:00:\d\d", shown)


@pytest.mark.parametrize(("columns", "has_attack"), [(160, True), (90, False)])
def test_rules_are_a_table_as_wide_as_the_terminal(columns: int, has_attack: bool) -> None:
    """Goal: what says least gives way first, a name never; method: a wide and a narrow terminal."""
    shown = typed(columns, "rules", "list").splitlines()
    assert shown[0].split()[:2] == ["rule", "severity"]
    assert ("ATT&CK" in shown[0]) is has_attack
    assert max(map(len, shown)) <= columns
    assert any(line.startswith("builtin-") or re.match(r"[a-z-]+ +(low|medium|high|critical)", line) for line in shown)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One that is live, with three events a second."""
    with simulated_in_child(events=50, days=0.1, rate=3) as child:
        place = Place(tmp_path_factory.mktemp("live"), child.base_url).change("enrich", {"directory": None})
        with running(place.write()):
            wait_until(lambda: place.states() == {"organization": "live", "tenant": "live"})
            yield place


@pytest.mark.timeout(120)
def test_tail_goes_on_as_events_come(daemon: Place) -> None:
    """Goal: what comes is shown when it comes; method: begin with none, and end when there are three lines."""
    line = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ"
    shown = typed(
        200, "tail", "-c", str(daemon.config), "-n", "0", until=rf"(?s)({line}.*){{3}}", ends=128 + signal.SIGINT
    )
    assert len(re.findall(rf"(?m)^{line}  (?:info|low|medium|high|critical) ", shown)) >= 3


@pytest.mark.timeout(120)
def test_top_is_live_and_ends_as_one_expects(daemon: Place) -> None:
    """Goal: listings, sinks and rates on one screen; method: end it when it has seen a rate."""
    shown = typed(140, "top", "-c", str(daemon.config), "--interval", "0.5", until=r"acme/organization[^\n]*live")
    assert "Everything is all right" in shown
    assert re.search(r"local", shown)
