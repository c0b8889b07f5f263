"""tail, explain, replay, verify, keygen, rules: the verbs that read, as a user runs them, on what one real run left."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import warm
from tests.simulation import Child, simulated_in_child


class Installation:
    """A configuration, its folders, and what `run --once` has delivered."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder, self.config = folder, folder / "streamer.yaml"
        self.config.write_text(
            f"""
state: {folder}/state
admin: null
sources: {{acme: {{type: openai_audit_logs, api_key: sk-admin-simulated, base_url: "{base_url}", start: beginning}}}}
sinks:
  local: {{type: file, path: {folder}/audit.jsonl}}
  lake: {{type: archive, path: {folder}/archive, signing_key_file: {folder}/key}}
"""
        )

    def streamer(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return warm.run("streamer", *arguments, timeout=100)

    def good(self, *arguments: str) -> str:
        done = self.streamer(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Child]:
    with simulated_in_child(events=400) as child:
        yield child


@pytest.fixture(scope="module")
def installed(simulator: Child, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installation = Installation(tmp_path_factory.mktemp("reading"), simulator.base_url)
    said = installation.good("keygen", str(installation.folder / "key"))
    assert "fingerprint" in said
    installation.good("run", "-c", str(installation.config), "--once")
    return installation


def test_keygen_never_overwrites(installed: Installation) -> None:
    """A lost key cannot be had again; method: a second keygen to the same name."""
    again = installed.streamer("keygen", str(installed.folder / "key"))
    assert again.returncode == 78
    assert "never overwritten" in again.stderr


def test_tail_shows_names_and_filters(installed: Installation) -> None:
    """Goal: one readable line an event; method: the last events, then only the severe ones, then the last two of these."""
    shown = installed.good("tail", "-c", str(installed.config), "--no-follow", "--last", "50").splitlines()
    assert len(shown) == 50
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  (info|low|medium|high|critical) ", line) for line in shown)
    severe = installed.good("tail", "-c", str(installed.config), "-F", "-n", "400", "--where", "{min_severity: high}")
    assert severe
    assert all(" high " in line or " critical " in line for line in severe.splitlines())
    newest = installed.good("tail", "-c", str(installed.config), "-F", "-n", "2", "--where", "{min_severity: high}")
    assert newest.splitlines() == severe.splitlines()[-2:]


def test_tail_refuses_a_wrong_where(installed: Installation) -> None:
    """Goal: one sentence; method: a severity that does not exist."""
    done = installed.streamer("tail", "-c", str(installed.config), "-F", "--where", "{min_severity: loud}")
    assert done.returncode == 78
    assert done.stderr.startswith("streamer: --where: ")
    assert len(done.stderr.splitlines()) == 1


def test_explain_shows_an_event_in_every_format(installed: Installation) -> None:
    """Goal: what we know of one event and why; method: the last line of the file, looked up by its id."""
    event = installed.lines()[-1]
    said = installed.good("explain", "-c", str(installed.config), str(event["id"]))
    for heading in ("envelope", "raw", "ocsf", "ecs", "cef", "leef", "looked", "matched"):
        assert f"\n{heading}" in said
    assert said.count(str(event["id"])) >= 6
    assert "\nenvelope, sinks local, lake\n" in said
    assert "\nocsf 1.8.0, no sink\n" in said
    missing = installed.streamer("explain", "-c", str(installed.config), "audit_log-none")
    assert missing.returncode == 1
    assert "no event audit_log-none" in missing.stderr


def test_explain_shows_what_each_sink_gets(installed: Installation) -> None:
    """Goal: what is shown is what is sent, in its version, redacted, or not at all; method: four sinks in a configuration beside the real one."""
    event = next(line for line in installed.lines() if line["actor"] and line["severity"] != "critical")  # type: ignore[index]
    text = installed.config.read_text().replace(
        "  local:",
        """  siem: {type: stdout, format: ocsf, ocsf_version: 1.9.0}
  older: {type: stdout, format: ocsf}
  partner: {type: stdout, event: drop, redact: [{field: actor.id, with: mask}]}
  pager: {type: stdout, format: cef, where: {min_severity: critical}}
  local:""",
    )
    config = installed.config.with_name("more.yaml")
    config.write_text(text)
    said = installed.good("explain", "-c", str(config), str(event["id"]))
    shown = dict(pair.split("\n")[:2] for pair in said.split("\n\n") if ", sink" in pair or ", not for" in pair)
    assert json.loads(shown["ocsf 1.9.0, sink siem"])["metadata"]["version"] == "1.9.0"
    assert json.loads(shown["ocsf 1.8.0, sink older"])["metadata"]["version"] == "1.8.0"
    partner = json.loads(shown["envelope, sink partner"])
    assert "event" not in partner
    assert partner["actor"]["id"] == "***"
    assert json.loads(shown["envelope, sinks local, lake"]) == event
    assert shown["cef, not for sink pager"] == "left out by `where`"


def test_verify_answers_with_its_exit_code(installed: Installation) -> None:
    """Goal: whole is 0, anything else 1 and named; method: the archive, then with a byte of it changed."""
    archive, key = installed.folder / "archive", installed.folder / "key.pub"
    assert "whole" in installed.good("verify", str(archive), "--key", str(key), "--deep")
    victim = next(archive.rglob("*.jsonl.zst"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    try:
        done = installed.streamer("verify", str(archive), "--key", str(key))
        assert done.returncode == 1
        assert "altered" in done.stdout
        assert victim.name in done.stdout
    finally:
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)


@pytest.mark.parametrize("origin", ["journal", "archive"])
def test_replay_delivers_the_same_events_again(installed: Installation, origin: str) -> None:
    """Goal: a sink gets a stretch of time again, same ids; method: ask while stopped, then `run --once`."""
    before = installed.lines()
    asked = ["replay", "-c", str(installed.config), "--sink", "local", "--since", "10d"]
    if origin == "archive":
        asked += ["--archive", str(installed.folder / "archive")]
    said = installed.good(*asked)
    count = int(said.split()[0].replace(",", ""))
    assert 0 < count < len(before)
    installed.good("run", "-c", str(installed.config), "--once")
    again = installed.lines()[len(before) :]
    known = {event["id"] for event in before}
    repeated = [event for event in again if event["id"] in known]
    assert len(repeated) == count
    assert {json.dumps(e) for e in repeated} <= {json.dumps(e) for e in before}


def test_replay_names_the_sinks_there_are(installed: Installation) -> None:
    """Goal: the mend is in the sentence; method: a sink that does not exist."""
    done = installed.streamer("replay", "-c", str(installed.config), "--sink", "lokal", "--since", "1d")
    assert done.returncode == 78
    assert "there are local, lake" in done.stderr


def test_rules_are_listed_tested_and_exported(installed: Installation, tmp_path: Path) -> None:
    """Goal: detections can be read, checked and taken along; method: the built-in ones."""
    table = json.loads(installed.good("rules", "list", "--json"))
    assert {"name", "severity", "attack"} <= table[0].keys()
    assert installed.good("rules", "test").rstrip().endswith(" 0 failed")
    said = installed.good("rules", "sigma", str(tmp_path / "sigma"))
    exported = list((tmp_path / "sigma").glob("*.yml"))
    assert len(exported) == sum("left out" not in line for line in said.splitlines()) > 5


RULES = """
rules:
  - name: loud-keys
    title: A key was made
    severity: high
    match: {types: [api_key.*]}
    tests:
      - name: a key that was deleted is not made
        events:
          - {type: api_key.deleted}
"""


def test_rules_that_fail_say_why(installed: Installation, tmp_path: Path) -> None:
    """Goal: exit 1 with the rule, the test and what happened, and one sentence for a place that is no folder; method: a rule that matches too much, a
    file instead of a folder."""
    (tmp_path / "rules.yaml").write_text(RULES)
    done = installed.streamer("rules", "test", str(tmp_path / "rules.yaml"))
    assert done.returncode == 1
    assert "loud-keys, test a key that was deleted is not made: " in done.stdout
    assert done.stdout.rstrip().endswith("0 passed, 1 failed")
    listed = installed.good("rules", "list", str(tmp_path / "rules.yaml"))
    assert listed.split("\t")[:2] == ["loud-keys", "high"]
    (tmp_path / "taken").write_text("")
    done = installed.streamer("rules", "sigma", str(tmp_path / "taken"))
    assert (done.returncode, "choose another folder" in done.stderr) == (78, True)


def test_top_says_why_it_has_nothing_to_show(installed: Installation, tmp_path: Path) -> None:
    """Goal: one sentence with the mend; method: no admin address, and nobody who listens there."""
    done = installed.streamer("top", "-c", str(installed.config))
    assert (done.returncode, "admin is null" in done.stderr) == (1, True), done.stderr
    listening = tmp_path / "streamer.yaml"
    listening.write_text(installed.config.read_text().replace("admin: null", "admin: {listen: '127.0.0.1:9'}"))
    done = installed.streamer("top", "-c", str(listening))
    assert (done.returncode, "no daemon answers at 127.0.0.1:9; start it with" in done.stderr) == (1, True), done.stderr
