"""The verbs as a user runs them: real processes, what they print, how they end."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jsonschema
import pytest
import yaml

from streamer import __version__
from streamer.catalog import TYPES
from streamer.journal.sqlite import open_journal
from streamer.model import Entry, EventId, Progress, Seq, SinkName, SourceName, encode_envelope
from streamer.ports import DeadLetter
from tests import warm
from tests.places import Place, denied_s, mounted, until
from tests.records import envelope
from tests.simulation import Child, simulated_in_child

ENV = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
COMMAND = (sys.executable, "-m", "streamer")
LIMIT_S = 60
VERBS = (
    "run",
    "check",
    "demo",
    "simulate",
    "status",
    "tail",
    "replay",
    "reconcile",
    "dlq",
    "verify",
    "types",
    "schema",
)


def streamer(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return warm.run("streamer", *arguments, env=ENV | env, timeout=LIMIT_S)


Started = subprocess.Popen[bytes] | warm.Process


@contextmanager
def daemon(config: Path, *, fresh: bool = False) -> Iterator[Started]:
    """`streamer run`; it has ended when the body ends. `fresh`: in an interpreter that begins with it."""
    verb, nowhere, here = ["streamer", "run", "-c", str(config)], subprocess.DEVNULL, config.parent
    with (here / "daemon.log").open("wb") as log:
        process: Started = (
            subprocess.Popen([sys.executable, "-m", *verb], stdout=nowhere, stderr=log, env=ENV, cwd=here)
            if fresh
            else warm.start(*verb, stdout=nowhere, stderr=log, env=ENV, cwd=here)
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def stop(process: Started, config: Path) -> tuple[int, str]:
    """Its exit status and what it wrote to stderr, after a SIGTERM."""
    process.terminate()
    return process.wait(LIMIT_S), (config.parent / "daemon.log").read_text()


def problems(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The sentences on stderr; nothing else may be there."""
    lines = result.stderr.splitlines()
    assert all(line.startswith("streamer: ") for line in lines), result.stderr
    return [line.removeprefix("streamer: ") for line in lines]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Child]:
    with simulated_in_child(events=300, days=1, seed=3) as child:
        yield child


@pytest.fixture
def no_faults(simulator: Child) -> Iterator[None]:
    """Whatever the test does to the simulator ends with it."""
    yield
    simulator.set_faults()


@pytest.fixture
def place(tmp_path: Path, simulator: Child) -> Place:
    return Place(tmp_path, simulator.base_url)


def truth(simulator: Child) -> set[str]:
    return {row["id"] for listing in ("organization", "tenant") for row in simulator.truth(listing)}


# --- bad input -------------------------------------------------------------------------------------------------------

KEY = "sources.acme.api_key"
BAD = {
    "no key": (KEY, None, "sources.acme: api_key is missing; set api_key or api_key_file"),
    "no key file": (
        "sources.acme.api_key_file",
        "/nowhere/key",
        "api_key and api_key_file exclude each other; keep one",
    ),
    "unknown listing": (
        "sources.acme.listings",
        ["organisation"],
        "sources.acme.listings[0]: must be organization or tenant",
    ),
    "unknown key": (
        "sources.acme.pol_interval",
        "1s",
        "sources.acme.pol_interval: unknown key; did you mean poll_interval?",
    ),
    "URL without scheme": (
        "sources.acme.base_url",
        "api.openai.com/v1",
        "'api.openai.com/v1' is not a URL; begin with https://",
    ),
    "start in the future": ("sources.acme.start", "2999-01-01T00:00:00Z", "lies in the future; use now"),
    "state below a file": (
        "state",
        "FOLDER/plain/state",
        "state: FOLDER/plain/state cannot be written: not a directory",
    ),
    "state is a file": (
        "state",
        "FOLDER/plain",
        "state: FOLDER/plain cannot be written: it is not a folder; give this",
    ),
    "sink below a file": ("sinks.local.path", "FOLDER/plain/a.jsonl", "sinks.local.path: "),
    "sink in no folder": ("sinks.local.path", "FOLDER/none/a.jsonl", "there is no folder FOLDER/none; create it"),
    "sink is a folder": ("sinks.local.path", "FOLDER", "sinks.local.path: FOLDER is a folder"),
    "port out of range": (
        "admin.listen",
        "127.0.0.1:70000",
        "admin.listen: 127.0.0.1:70000 has no port; the highest is",
    ),
    "sink without type": ("sinks.local.type", None, "sinks.local: needs a type"),
    "unknown sink": ("sinks.local.type", "fil", "sinks.local: unknown type fil; did you mean file?"),
    "duration without unit": (
        "sources.acme.overlap",
        300,
        "sources.acme.overlap: '300' is not a duration; write a number",
    ),
}


@pytest.mark.parametrize(
    ("verb", "case"),
    [
        *(("check", case) for case in BAD),
        *(("run", case) for case in ("no key", "unknown listing", "state below a file", "sink in no folder")),
    ],
)
def test_bad_input_is_one_sentence_and_78(place: Place, verb: str, case: str) -> None:
    """Goal: an operator sees what, where and how to mend it; method: each mistake alone, in a real process."""
    key, value, expected = BAD[case]
    (place.folder / "plain").touch()
    here = str(place.folder)
    config = place.change(key, value.replace("FOLDER", here) if isinstance(value, str) else value).write()
    result = streamer(verb, "-c", config)
    (problem,) = problems(result)
    assert expected.replace("FOLDER", here) in problem
    assert result.returncode == 78
    assert not (place.folder / "audit.jsonl").exists()


@pytest.mark.parametrize(
    ("verb", "text", "expected"),
    [
        ("run", None, "cannot be read: No such file or directory; give the configuration file with -c"),
        ("check", "sources: [\nsinks: {", "streamer.yaml:2: not YAML: "),
        ("status", "- 1", "streamer.yaml:1: not a configuration"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_sentence_and_78(
    place: Place, verb: str, text: str | None, expected: str
) -> None:
    """Goal: as above, for the file itself; method: none, broken YAML, another document."""
    if text is not None:
        place.config.write_text(text)
    result = streamer(verb, "-c", place.config)
    (problem,) = problems(result)
    assert expected in problem
    assert result.returncode == 78


@pytest.mark.parametrize("verb", ["check", "run"])
def test_all_mistakes_are_told_at_once(place: Place, verb: str) -> None:
    """Goal: one run shows them all, also those that need a look at the disk; method: most of the above in one file."""
    place.change(KEY, None).change("sources.acme.listings", ["all"]).change("sources.acme.pol_interval", "1s")
    place.change("sources.acme.base_url", "localhost").change("sources.acme.start", "2999-01-01")
    place.change("sinks.local.path", "/nowhere/a.jsonl").change("state", "/proc/state")
    result = streamer(verb, "-c", place.write())
    found = problems(result)
    parts = ("api_key is missing", "listings[0]", "pol_interval", "is not a URL", "future", "/nowhere", "/proc/state")
    assert [part for part in parts if not any(part in p for p in found)] == []
    assert len(found) == len(parts)
    assert result.returncode == 78


def test_a_taken_port_is_one_sentence_and_78(place: Place) -> None:
    """Goal: two daemons on one port are told apart; method: the test holds the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.port))
        taken.listen()
        result = streamer("run", "-c", place.write())
    (problem,) = [p for p in result.stderr.splitlines() if p.startswith("streamer: ")]
    assert f"admin.listen: 127.0.0.1:{place.port} cannot be had: address already in use; choose another" in problem
    assert result.returncode == 78


def test_a_key_file_that_is_not_there_or_empty_is_one_sentence_and_78(place: Place) -> None:
    """Goal: a secret that was not mounted; method: no file, then an empty one."""
    key = place.folder / "key"
    config = place.change(KEY, None).change("sources.acme.api_key_file", str(key)).write()
    for expected in (f"cannot read {key}: No such file or directory; mount the secret there", f"{key} is empty; write"):
        for verb in ("check", "run"):
            result = streamer(verb, "-c", config)
            (problem,) = problems(result)
            assert problem.startswith("sources.acme.api_key: ")
            assert expected in problem
            assert result.returncode == 78
        key.touch()


def test_a_read_only_state_folder_is_one_sentence_and_78(place: Place, read_only: Path) -> None:
    """Goal: root can be refused too; method: a file system that takes nothing."""
    config = place.change("state", str(read_only / "state")).write()
    for verb in ("check", "run"):
        result = streamer(verb, "-c", config)
        (problem,) = problems(result)
        assert problem.startswith(f"state: {read_only}/state cannot be written: ")
        assert problem.endswith("give this user the folder or set another `state`")
        assert result.returncode == 78


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "read_only", "ro,size=64k") as folder:
        yield folder


@pytest.fixture(scope="module")
def left_by_a_run(tmp_path_factory: pytest.TempPathFactory, simulator: Child) -> Place:
    place = Place(tmp_path_factory.mktemp("once"), simulator.base_url)
    result = streamer("run", "--once", "-c", place.write())
    assert result.returncode == 0, result.stderr
    return place


@pytest.fixture
def once(place: Place, left_by_a_run: Place) -> Place:
    """A place where a daemon has been."""
    shutil.copytree(left_by_a_run.folder / "state", place.folder / "state")
    shutil.copy(left_by_a_run.lines, place.lines)
    place.write()
    return place


@pytest.mark.parametrize("verb", [("run",), ("check",), ("status",), ("dlq", "list")])
def test_a_journal_from_a_newer_version_is_one_sentence_and_78(once: Place, verb: tuple[str, ...]) -> None:
    """Goal: a downgrade does not guess; method: a journal whose version is raised."""
    with sqlite3.connect(once.folder / "state/journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = once.ids()
    result = streamer(*verb, "-c", once.config)
    (problem,) = problems(result)
    assert "state/journal.db: " in problem
    assert "version 99" in problem
    assert result.returncode == 78
    assert once.ids() == before


@pytest.mark.parametrize(
    ("verb", "keep_header"),
    [(("run",), False), (("run",), True), (("check",), False), (("status",), True), (("dlq", "list"), True)],
)
def test_a_corrupt_journal_is_one_sentence_and_78(once: Place, verb: tuple[str, ...], keep_header: bool) -> None:
    """Goal: no traceback, no overwriting; method: the journal's pages are overwritten, with and without the first."""
    journal = once.folder / "state/journal.db"
    content = journal.read_bytes()
    kept = content[:4096] if keep_header else b""
    journal.write_bytes(kept + b"\xff" * (len(content) - len(kept)))
    spoilt = journal.read_bytes()
    result = streamer(*verb, "-c", once.config)
    (problem,) = problems(result)
    assert f"journal {journal}: corrupt" in problem
    assert "move it away" in problem
    assert result.returncode == 78
    assert journal.read_bytes() == spoilt


def test_a_second_process_on_the_same_state_is_one_sentence_and_78(place: Place) -> None:
    """Goal: two daemons never share a journal; method: run, while one runs, with `--once` and without."""
    config = place.change("sinks.lake", {"type": "archive", "path": str(place.folder / "lake")}).write()
    with daemon(config) as process:
        until(lambda: place.states() == {"organization": "live", "tenant": "live"})
        for extra in ((), ("--once",)):
            result = streamer("run", "-c", config, *extra)
            (problem,) = problems(result)
            assert f"state is in use by another streamer (process {process.pid}); stop it or give" in problem
            assert result.returncode == 78
        assert problems(streamer("check", "-c", config)) == []
        assert stop(process, place.config)[0] == 0


# --- a key that is refused -------------------------------------------------------------------------------------------


def test_a_wrong_key_is_78_for_check_online_and_once(place: Place) -> None:
    """Goal: a key that nobody accepts is for an operator, and is not repeated; method: both verbs, each listing named."""
    config = place.change(KEY, "sk-admin-wrong").write()
    for arguments in (("check", "--online"), ("run", "--once")):
        result = streamer(*arguments, "-c", config)
        sentences = [line for line in result.stderr.splitlines() if line.startswith("streamer: ")]
        assert result.returncode == 78
        assert [s.partition(": 401")[0] for s in sentences] == [
            "streamer: sources.acme (listing organization)",
            "streamer: sources.acme (listing tenant)",
        ]
        assert all("put a valid admin key (sk-admin-…) as api_key" in s for s in sentences)
        assert "sk-admin-wrong" not in result.stdout + result.stderr


def test_a_running_daemon_holds_on_a_wrong_key_and_goes_on_with_the_right_one(place: Place) -> None:
    """Goal: a restart loop helps nobody; method: a key file that is wrong, a status of 1 that says why, then the right key."""
    key = place.folder / "key"
    key.write_text("sk-admin-wrong")
    place.change(KEY, None).change("sources.acme.api_key_file", str(key))
    with daemon(place.write()) as process:
        until(lambda: place.states() == {"organization": "held", "tenant": "held"})
        result = streamer("status", "-c", place.config)
        assert result.returncode == 1
        assert "acme/tenant is held: sources.acme (listing tenant): 401" in " ".join(result.stdout.split())
        assert process.poll() is None
        code, log = stop(process, place.config)
    assert code == 0
    assert log.count('"event":"listing held"') == 2
    key.write_text("sk-admin-simulated")
    assert streamer("run", "--once", "-c", place.config).returncode == 0
    assert place.ids()


def test_once_delivers_what_it_can_and_says_what_it_could_not(place: Place, simulator: Child, no_faults: None) -> None:
    """Goal: one refused listing does not take the other with it; method: 403 for the tenant listing."""
    simulator.set_faults(forbidden={"on": "tenant"})
    result = streamer("run", "--once", "-c", place.write())
    assert result.returncode == 78
    assert result.stderr.splitlines()[-1].startswith("streamer: sources.acme (listing tenant): 403: ")
    assert set(place.ids()) == {row["id"] for row in simulator.truth("organization")}


def test_once_says_once_that_a_listing_was_refused_on_its_way(place: Place, simulator: Child, no_faults: None) -> None:
    """Goal: several walkers are refused together, and an operator reads it once, and gets the other listing; method: 403 for the tenant listing when
    the first of its slices is walked."""
    simulator.set_faults(latency={"value": 0.5})
    config, before = place.write(), simulator.stats()["pages"]
    looks_and_slices = 4
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(streamer, "run", "--once", "-c", config)
        until(lambda: simulator.stats()["pages"] >= before + looks_and_slices)
        simulator.set_faults(forbidden={"on": "tenant"})
        result = running.result()
    assert result.returncode == 78
    assert result.stderr.count("streamer: sources.acme (listing tenant): 403: ") == 1
    assert "Traceback" not in result.stderr
    assert {row["id"] for row in simulator.truth("organization")} <= set(place.ids())


def test_once_is_1_when_a_sink_is_left_behind(place: Place, simulator: Child) -> None:
    """Goal: a CronJob sees it; method: a webhook at an address that takes none, beside a file that works."""
    hook = {"type": "webhook", "url": f"{simulator.base_url}/nothing", "secret": "whsec_" + "A" * 32}
    result = streamer("run", "--once", "-c", place.change("sinks.hook", hook).write())
    assert result.returncode == 1
    assert "streamer: left behind: sinks.hook" in result.stderr
    assert place.ids()


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_shows_the_effective_configuration_and_says_good(place: Place) -> None:
    """Goal: defaults are seen, secrets are not, nothing is left behind; method: the output is a configuration again."""
    place.change("sinks.lake", {"type": "archive", "path": str(place.folder / "lake")})
    result = streamer("check", "-c", place.write())
    assert (result.returncode, result.stderr) == (0, "")
    assert "sk-admin" not in result.stdout
    shown, _, verdict = result.stdout.rpartition("\n\n")
    assert verdict == f"{place.config}: good\n"
    assert yaml.safe_load(shown)["sources"]["acme"]["overlap"] == "5m"
    assert sorted(p.name for p in place.folder.iterdir()) == ["streamer.yaml"]


def test_check_names_every_file_that_cannot_be_read(place: Place) -> None:
    """Goal: also those that an adapter reads only when it connects; method: secrets and certificates of four sinks, none of them there."""
    place.document["sinks"] = {
        "bus": {
            "type": "kafka",
            "bootstrap_servers": "localhost:1",
            "topic": "t",
            "tls": {"ca_file": "/none/ca"},
            "sasl": {"mechanism": "PLAIN", "username": "u", "password_file": "/none/k"},
        },
        "hook": {"type": "webhook", "url": "http://localhost:1", "header_files": {"X-Key": "/none/header"}},
        "lake": {"type": "archive", "path": str(place.folder / "lake"), "signing_key_file": "/none/k.ey"},
        "azure": {
            "type": "sentinel",
            "endpoint": "https://localhost:1",
            "rule": "dcr-1",
            "tenant_id": "t",
            "client_id": "c",
            "client_secret_file": "/none/secret",
        },
    }
    found = problems(streamer("check", "-c", place.write()))
    assert sorted(problem.partition(": ")[0] for problem in found) == [
        "sinks.azure.client_secret_file",
        "sinks.bus.sasl.password_file",
        "sinks.bus.tls.ca_file",
        "sinks.hook.header_files.X-Key",
        "sinks.lake.signing_key",
    ]
    assert all("cannot read /none/" in problem for problem in found)


def test_check_online_asks_every_listing_and_sink(place: Place) -> None:
    """Goal: a check that does not lie; method: both listings readable, the file writable."""
    result = streamer("check", "--online", "-c", place.write())
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    for start in (
        "source acme, organization: readable, newest event ",
        "source acme, tenant: readable, newest ",
        "sink local: ",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert not place.lines.exists()


def test_check_online_names_the_scope_that_a_listing_lacks(place: Place, simulator: Child, no_faults: None) -> None:
    """Goal: which listing, which scope; method: 403 for the tenant listing alone, with a bare string."""
    simulator.set_faults(forbidden={"on": "tenant", "value": "api.audit_logs.tenant.read"})
    result = streamer("check", "--online", "-c", place.write())
    (problem,) = problems(result)
    assert problem.startswith("sources.acme (listing tenant): 403: ")
    assert problem.endswith("give the key the scope api.audit_logs.tenant.read, or put another key as api_key")
    assert "source acme, organization: readable" in result.stdout
    assert result.returncode == 78


# --- run and status --------------------------------------------------------------------------------------------------


def test_once_brings_everything_and_ends(place: Place, simulator: Child) -> None:
    """Goal: both listings complete; method: the file against the simulator's truth, twice."""
    for _ in range(2):
        assert streamer("run", "--once", "-c", place.write()).returncode == 0
        assert sorted(place.ids()) == sorted(truth(simulator))


def test_a_daemon_starts_within_seconds_tails_and_stops_on_sigterm(place: Place, simulator: Child) -> None:
    """Goal: start to first poll; SIGHUP is survived; SIGTERM ends it cleanly; method: the simulator counts requests."""
    config, asked = place.write(), simulator.stats()["requests"]
    began = time.monotonic()
    denied = denied_s(simulator.pid)
    with daemon(config, fresh=True) as process:
        until(lambda: simulator.stats()["requests"] > asked)
        took = time.monotonic() - began - denied_s(process.pid) - (denied_s(simulator.pid) - denied)
        assert took < 3, "start to first poll, but for what this machine had no core for"
        until(lambda: sorted(place.ids()) == sorted(truth(simulator)))
        place.lines.rename(place.folder / "moved")
        process.send_signal(signal.SIGHUP)
        simulator.control("POST", "events", {"type": "logout.succeeded", "count": 1})
        until(lambda: len(place.ids()) == 1)
        code, log = stop(process, place.config)
    assert code == 0
    told = [json.loads(line) for line in log.splitlines()]
    assert told[0]["event"] == "started"
    assert told[-1]["event"] == "stopped"


def test_status_of_a_running_daemon(place: Place, simulator: Child, no_faults: None) -> None:
    """Goal: 0 and a table when all is well, 1 and a sentence when a listing fails; method: a healthy daemon, then 500s."""
    with daemon(place.write()) as process:
        until(lambda: place.states() == {"organization": "live", "tenant": "live"})
        until(lambda: sorted(place.ids()) == sorted(truth(simulator)))
        until(lambda: [(r["state"], r["backlog"]) for r in place.status().get("sinks", [])] == [("idle", 0)])
        result = streamer("status", "-c", place.config)
        assert (result.returncode, result.stdout.splitlines()[0]) == (
            0,
            "Everything is all right: every listing is live and every sink has every event.",
        )
        assert "acme/organization" in result.stdout
        result = streamer("status", "--json", "-c", place.config)
        rows = json.loads(result.stdout)
        assert (rows["running"], rows["trouble"]) == (True, [])
        assert {(r["source"], r["listing"]) for r in rows["listings"]} == {("acme", "organization"), ("acme", "tenant")}
        assert [(r["sink"], r["backlog"]) for r in rows["sinks"]] == [("local", 0)]
        simulator.set_faults(internal_error={"on": "tenant"})
        until(lambda: place.states()["tenant"] == "failing")
        result = streamer("status", "--json", "-c", place.config)
        assert result.returncode == 1
        (trouble,) = json.loads(result.stdout)["trouble"]
        assert trouble.startswith("acme/tenant is failing: sources.acme (listing tenant): 500")
        assert stop(process, place.config)[0] == 0


def test_status_without_a_daemon_reads_the_journal(once: Place) -> None:
    """Goal: what is there is shown, that nobody tails is said; method: after `--once`, for people and as JSON."""
    result = streamer("status", "-c", once.config)
    assert (result.returncode, result.stdout.splitlines()[0]) == (1, "the daemon is not running")
    rows = json.loads(streamer("status", "--json", "-c", once.config).stdout)
    assert rows["running"] is False
    written = once.lines.stat().st_mtime
    assert all(abs(written - row["watermark"]) < 120 for row in rows["listings"])
    assert [(r["sink"], r["backlog"], r["acked"]) for r in rows["sinks"]] == [("local", 0, len(once.ids()))]


@pytest.mark.parametrize(
    ("status", "said"), [(401, "the daemon runs with another token"), (500, "the daemon is not running")]
)
def test_status_of_something_else(once: Place, status: int, said: str) -> None:
    """Goal: a wrong token is said, and who is no daemon is none; method: a server at the daemon's address that answers so."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Not on our standard error."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            config = once.folder / "other.yaml"
            text = yaml.safe_load(once.config.read_text())
            text["admin"] = {"listen": f"127.0.0.1:{server.server_port}"}
            config.write_text(yaml.safe_dump(text))
            result = streamer("status", "-c", config)
        finally:
            server.shutdown()
            thread.join()
    assert result.returncode == 1
    assert said in result.stdout + result.stderr


def test_status_without_a_journal_is_78(place: Place) -> None:
    """Goal: a wrong `state` is told; method: a folder where nothing ran."""
    result = streamer("status", "-c", place.write())
    (problem,) = problems(result)
    assert problem.startswith(f"state: no journal in {place.folder}/state; run `streamer run` first")
    assert result.returncode == 78


def test_stdout_is_for_data_and_stderr_for_the_log(place: Place, simulator: Child) -> None:
    """Goal: `streamer run | jq`; method: a stdout sink of raw events."""
    place.document["sinks"] = {"out": {"type": "stdout", "format": "raw"}}
    result = streamer("run", "--once", "-c", place.write())
    assert result.returncode == 0
    assert {json.loads(line)["id"] for line in result.stdout.splitlines()} == truth(simulator)
    assert all(json.loads(line)["event"] for line in result.stderr.splitlines())


def test_demo_shows_the_whole_road_and_its_proof(tmp_path: Path) -> None:
    """Goal: no key, no configuration; method: three seconds of it, in a folder of its own, twice."""
    for _ in range(2):
        result = streamer("demo", "--for", "3s", "--dir", tmp_path / "demo", "--port", "0")
        assert result.returncode == 0, result.stderr
        lines = (tmp_path / "demo/audit.jsonl").read_bytes().splitlines()
        assert f"{len(lines):,} events made, 0 missing, 0 twice" in result.stderr
    seen = {json.loads(line)["type"] for line in lines}
    assert seen == set(TYPES)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("--for", "soon"), 2, "'soon' is not a duration; write a number and a unit"),
        (("--port", "70000"), 2, "--port"),
        (
            ("--dir", "/proc/demo"),
            78,
            "--dir: /proc/demo cannot be made: no such file or directory; give another folder",
        ),
        (("--dir", "/usr"), 78, "--dir: /usr exists and is not a demo's; give another folder"),
    ],
)
def test_demo_refuses_what_it_cannot_do(arguments: tuple[str, ...], code: int, expected: str) -> None:
    """Goal: no traceback, nobody's folder is deleted; method: each wrong option."""
    result = streamer("demo", *arguments)
    assert result.returncode == code
    assert expected in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_demo_says_that_its_port_is_taken(tmp_path: Path) -> None:
    """Goal: a second demo, or a daemon beside it, is no bug; method: a port that is listened on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = streamer("demo", "--dir", str(tmp_path / "demo"), "--port", str(port))
    assert problems(result) == [f"--port: {port} cannot be had: address already in use; give another, or 0 for any"]
    assert result.returncode == 78


# --- dead letters ----------------------------------------------------------------------------------------------------


def bury(place: Place, count: int) -> list[str]:
    """Put records into the journal that the sink has refused; their ids."""

    async def write() -> list[str]:
        records = [envelope(id=f"refused-{n}") for n in range(count)]
        async with open_journal(place.folder / "state", 1 << 30) as journal:
            entries = [Entry(EventId(e.id), 1_750_000_000 + n, encode_envelope(e)) for n, e in enumerate(records)]
            await journal.append(SourceName("acme"), "organization", entries, Progress(int(time.time())))
            await journal.position(SinkName("local"), "earliest")
            letters = [
                DeadLetter(
                    sink=SinkName("local"),
                    seq=Seq(n + 1),
                    id=e.id,
                    type=e.type,
                    reason="too large",
                    attempts=1,
                    at=time.time(),
                    line=encode_envelope(e),
                )
                for n, e in enumerate(records)
            ]
            await journal.ack(SinkName("local"), Seq(count), None, letters)
        return [e.id for e in records]

    return asyncio.run(write())


def test_dead_letters_are_listed_shown_retried_and_discarded(place: Place) -> None:
    """Goal: what a sink refused is an operator's to decide; method: three letters, one shown, one retried and delivered, two discarded."""
    ids = bury(place, 3)
    place.change("sources.acme.start", "now")
    config = place.write()
    rows = [json.loads(line) for line in streamer("dlq", "list", "--json", "-c", config).stdout.splitlines()]
    assert [(row["id"], row["sink"], row["reason"], row["attempts"]) for row in rows] == [
        (one, "local", "too large", 1) for one in ids
    ]
    numbers = [str(row["number"]) for row in rows]
    assert len(streamer("dlq", "list", "--sink", "other", "--json", "-c", config).stdout) == 0
    assert ids[0] in streamer("dlq", "list", "-c", config).stdout
    letter = json.loads(streamer("dlq", "show", "-c", config, numbers[1]).stdout)
    assert (letter["envelope"]["id"], letter["reason"]) == (ids[1], "too large")
    assert streamer("dlq", "retry", "-c", config, numbers[1]).stdout == "1 to be delivered again\n"
    assert streamer("run", "--once", "-c", config).returncode == 0
    assert ids[1] in place.ids()
    assert streamer("dlq", "discard", "-c", config, "--sink", "local").stdout == "2 discarded\n"
    assert streamer("dlq", "list", "-c", config).stdout == "no dead letters\n"


def test_dead_letters_that_are_not_there_are_1_and_naming_none_is_2(once: Place) -> None:
    """Goal: a typing error changes nothing and is told; method: wrong numbers, and no number at all."""
    for verb in ("show", "retry", "discard"):
        result = streamer("dlq", verb, "-c", once.config, "7")
        assert problems(result) == ["no dead letter 7; `dlq list` shows what there is"]
        assert result.returncode == 1
    for verb in ("retry", "discard"):
        result = streamer("dlq", verb, "-c", once.config)
        assert "name numbers, a --sink, or --all" in result.stderr
        assert result.returncode == 2


# --- facts -----------------------------------------------------------------------------------------------------------


def test_types_lists_every_type_for_eyes_and_for_programs() -> None:
    """Goal: what this version knows; method: both forms against the catalogue, nothing cut off."""
    table = streamer("types").stdout.splitlines()
    assert table[0].split() == ["type", "family", "severity", "listing", "ocsf_class", "since"]
    assert [line.split()[0] for line in table[1:]] == list(TYPES)
    rows = json.loads(streamer("types", "--json").stdout)
    assert [tuple(row.values()) for row in rows] == [
        (t.type, t.family, t.severity, t.listing, t.ocsf.class_uid, t.since) for t in TYPES.values()
    ]


def test_the_schema_of_the_configuration_takes_what_check_takes(place: Place) -> None:
    """Goal: an editor with the schema helps; method: a good file passes it, wrong ones do not."""
    schema = json.loads(streamer("schema", "config").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(place.document)
    for path, value in (("sources.acme.pol_interval", "1s"), ("sinks.local.type", "fil"), ("sources.acme.overlap", 5)):
        spoilt = Place(place.folder, "http://localhost").change(path, value).document
        assert not validator.is_valid(spoilt), path


def test_the_schema_of_the_envelope_takes_every_line(once: Place) -> None:
    """Goal: consumers can rest on it; method: every line of a real run."""
    schema = json.loads(streamer("schema", "envelope").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    lines = [json.loads(line) for line in once.lines.read_bytes().splitlines()]
    assert lines
    assert [error.message for line in lines for error in validator.iter_errors(line)] == []


def test_version_help_and_wrong_use() -> None:
    """Goal: 0 for help, 2 for what does not exist; method: each of them."""
    assert streamer("--version").stdout == f"{__version__}\n"
    text = streamer("--help").stdout
    assert [verb for verb in VERBS if f"  {verb} " not in text] == []
    assert "..." not in text.partition("Commands:")[2]
    for verb in ("run", "dlq"):
        result = streamer(verb, "--help")
        assert (result.returncode, result.stderr) == (0, ""), verb
        assert "--help" in result.stdout
    for wrong in (("fly",), ("run",), ("schema", "sink"), ("simulate", "--bogus"), ()):
        assert streamer(*wrong).returncode == 2, wrong


def test_simulate_explains_its_options_and_refuses_wrong_ones() -> None:
    """Goal: faults are found and typing errors told; method: help, an unknown fault, a port that is none."""
    text = streamer("simulate", "--help").stdout
    assert "usage: python -m streamer simulate" in text
    assert "--fault" in text
    result = streamer("simulate", "--fault", "nonsense", "--port", "x")
    assert result.returncode == 2
    assert [p.partition(": ")[0] for p in problems(result)] == ["--port", "--fault"]
    assert "no fault is called 'nonsense'; there are rate_limited, " in result.stderr


def test_a_reader_that_goes_away_is_no_bug() -> None:
    """Goal: `streamer types | head -1`; method: the pipe is closed before the first line."""
    with subprocess.Popen([*COMMAND, "types"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode in (0, 1)
    assert errors == b""


def test_a_bug_is_70_with_a_traceback(once: Place) -> None:
    """Goal: what is no verdict is not hidden, and a supervisor restarts; method: a table of the journal is gone."""
    with sqlite3.connect(once.folder / "state/journal.db") as db:
        db.execute("DROP TABLE dead_letters")
    db.close()
    result = streamer("run", "--once", "-c", once.config)
    assert result.returncode == 70
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("streamer: this is a bug; please report it with the lines above\n")
