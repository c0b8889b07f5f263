"""What events mean, through the real daemon: detections, names, every format, redaction, and what survives a restart."""

import json
import re
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.catalog import TYPES
from streamer.config import FormatName
from tests import warm
from tests.places import Place
from tests.reference_parsers import parse_cef, parse_leef
from tests.shared_checks import ecs_checker, ocsf_validator
from tests.simulation import KEY, Child, simulated_in_child
from tests.test_rules import STORY

FORMATS: tuple[FormatName, ...] = ("envelope", "raw", "ocsf", "ecs", "cef", "leef")
LIMIT_S = 120


def streamer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run("streamer", *arguments, timeout=LIMIT_S)


def once(place: Place) -> str:
    """Its log."""
    done = streamer("run", "-c", place.write(), "--once")
    assert done.returncode == 0, done.stderr
    return done.stderr


def envelopes(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.lines.read_text().splitlines()]


def organization_of(simulator: Child) -> str:
    """The header in which the API names the organization of a key."""
    url = simulator.base_url + "/organization/audit_logs?limit=1"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        name: str = answer.headers["openai-organization"]
        return name


def told(folder: Path, simulator: Child) -> Place:
    """A place that reads everything that lies in the past."""
    return Place(folder, simulator.base_url).change("sources.acme.start", "beginning")


# --- detections and names ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    with simulated_in_child(profile="story", seed=1) as simulator:
        place = told(tmp_path_factory.mktemp("story"), simulator)
        once(place)
        yield envelopes(place)


def test_the_story_raises_exactly_its_rules(story: list[dict[str, Any]]) -> None:
    """Goal: an intrusion is told in full and nothing beside it. Method: the first catch-up of a new daemon, read in its file."""
    assert Counter(rule for event in story for rule in event.get("rules", ())) == Counter(
        {rule: sum(types.values()) for rule, types in STORY.items()}
    )


def test_the_first_catch_up_has_names(story: list[dict[str, Any]]) -> None:
    """Goal: the tail waits for the first load, so that the oldest event is named too. Method: actor, project, target and role of the
    role assignment, whose id is composite, and the actors and projects of all."""
    assigned = next(event for event in story if event["type"] == "role.assignment.created")
    assert assigned["severity"] == "critical"
    assert assigned["actor"]["name"]
    assert {target["type"] for target in assigned["targets"] if target.get("name")} >= {"role"}
    known = [event for event in story if (event.get("actor") or {}).get("id")]
    assert all(event["actor"]["name"] for event in known)
    assert len(known) > 0.9 * len(story)
    assert all(event["project"]["name"] for event in story if event.get("project"))


def test_a_quiet_company_raises_nothing(tmp_path: Path) -> None:
    """Goal: no false alarm. Method: the quiet profile through the daemon."""
    with simulated_in_child(profile="quiet", seed=1) as simulator:
        place = told(tmp_path, simulator)
        once(place)
    assert [event["rules"] for event in envelopes(place) if event.get("rules")] == []
    assert len(envelopes(place)) == 2000


# --- a company, in every format ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One run into a file of each format."""
    with simulated_in_child(events=400, seed=5) as simulator:
        place = told(tmp_path_factory.mktemp("company"), simulator)
        place.change("sources.acme.organization_id", organization_of(simulator))
        for name in FORMATS:
            place.change(f"sinks.{name}", {"type": "file", "path": str(place.folder / f"{name}.out"), "format": name})
        once(place)
        yield place


def lines(place: Place, name: str) -> list[str]:
    return (place.folder / f"{name}.out").read_text().removesuffix("\n").split("\n")


@pytest.mark.parametrize("name", FORMATS)
def test_one_event_is_one_line_and_carries_its_id(company: Place, name: FormatName) -> None:
    """Goal: no format loses, splits or repeats an event. Method: the nth line of each file holds the id of the nth event, of all types."""
    events = envelopes(company)
    assert {event["type"] for event in events} == set(TYPES)
    assert [event["id"] in line for event, line in zip(events, lines(company, name), strict=True)] == [True] * len(
        events
    )


def test_the_lines_are_valid_in_their_schemas(company: Place) -> None:
    """Goal: a store takes what the daemon wrote. Method: the validators of OCSF and ECS, and parsers of CEF and LEEF that are not ours."""
    ocsf, ecs = ocsf_validator("1.8.0"), ecs_checker()
    assert [found for line in lines(company, "ocsf") for found in ocsf.check(json.loads(line))] == []
    assert [found for line in lines(company, "ecs") for found in ecs.check(json.loads(line))] == []
    ids = [event["id"] for event in envelopes(company)]
    assert [parse_cef(line).pairs["externalId"] for line in lines(company, "cef")] == ids
    assert all(parse_leef(line).pairs for line in lines(company, "leef"))


def test_explain_prints_the_lines_that_the_sinks_got(company: Place) -> None:
    """Goal: what is explained is what was sent. Method: three events, each line of each file is a whole line of the output."""
    for number in (0, 150, 399):
        event = envelopes(company)[number]
        said = streamer("explain", "-c", company.config, event["id"]).stdout.split("\n")
        missing = [name for name in FORMATS if lines(company, name)[number] not in said]
        assert missing == [], event["type"]


# --- redaction -------------------------------------------------------------------------------------------------------------


def test_no_redacted_value_is_in_the_file_and_hashes_are_stable(tmp_path: Path) -> None:
    """Goal: what a sink may not have is in none of its bytes, and the same value is the same hash in another run. Method: e-mails hashed and
    addresses masked in two sinks of every readable format, in two installations, against a sink without redaction."""
    hidden = [{"field": "actor.email", "with": "hash"}, {"field": "actor.ip", "with": "mask"}]
    where = {
        "any": [
            {"types": ["login.*"]},
            {"all": [{"types": ["role.*", "user.*"]}, {"none": [{"min_severity": "critical"}]}]},
        ]
    }
    with simulated_in_child(profile="story", seed=1, events=600) as simulator:
        runs = []
        for run in ("first", "second"):
            folder = tmp_path / run
            folder.mkdir()
            place = told(folder, simulator)
            for name in ("envelope", "ocsf", "cef"):
                sink = {"type": "file", "path": str(folder / f"{name}.out"), "format": name, "where": where}
                place.change(f"sinks.{name}", sink | {"redact": hidden, "redact_key": "k" * 32})
            once(place)
            runs.append(place)
    chosen = [
        event
        for event in envelopes(runs[0])
        if event["family"] == "login" or (event["family"] in ("role", "user") and event["severity"] != "critical")
    ]
    secrets = {event["actor"][key] for event in chosen for key in ("email", "ip") if event["actor"].get(key)}
    assert len(secrets) > 5
    for place in runs:
        for name in ("envelope", "ocsf", "cef"):
            text = (place.folder / f"{name}.out").read_text()
            assert [secret for secret in secrets if secret in text] == []
            assert text.count("\n") == len(chosen)
    first, second = ([json.loads(line)["actor"].get("email") for line in lines(place, "envelope")] for place in runs)
    assert first == second
    assert len(set(filter(None, first))) == len({e["actor"]["email"] for e in chosen if e["actor"].get("email")})


# --- the rules' own file and memory ----------------------------------------------------------------------------------------

STATEFUL = """
rules:
  - name: two
    title: A second project within a month
    match: {types: [project.created]}
    count: {key: [type], at_least: 2, within: 30d}
"""


def test_a_rule_file_with_a_mistake_is_refused_with_its_line(tmp_path: Path) -> None:
    """Goal: no daemon runs on rules that are not what was meant. Method: an unknown key on line 4, at `run` and at `check`."""
    place = Place(tmp_path, "http://127.0.0.1:1/v1").change("admin", None)
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - name: one\n    title: One\n    metch: {types: ['*']}\n")
    place.change("enrich.rules", str(rules)).write()
    for verb in (("run", "--once"), ("check",)):
        done = streamer(*verb, "-c", place.config)
        assert done.returncode == 78, done.stderr
        assert f"{rules}:4" in done.stderr or "line 4" in done.stderr
        assert "metch" in done.stderr


def test_what_rules_learned_survives_a_restart(tmp_path: Path) -> None:
    """Goal: an event before the restart and one after it count together. Method: a rule that needs two, one `run --once` for each."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(STATEFUL)
    with simulated_in_child(profile="quiet", events=10) as simulator:
        place = told(tmp_path, simulator).change("enrich.rules", str(rules))
        for _ in range(2):
            simulator.control("POST", "events", {"type": "project.created", "count": 1})
            once(place)
    created = [event.get("rules", []) for event in envelopes(place) if event["type"] == "project.created"]
    assert created[-2:] == [[], ["two"]]


def test_a_state_that_cannot_be_read_is_told_and_not_fatal(tmp_path: Path) -> None:
    """Goal: detections begin to learn anew and say so; events still come. Method: bytes that are no state."""
    with simulated_in_child(profile="quiet", events=50) as simulator:
        place = told(tmp_path, simulator)
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        (state / "rules.state").write_bytes(b"no state")
        log = once(place)
    assert "what stateful rules had learned is lost" in log
    assert len(envelopes(place)) == 50
    assert (state / "rules.state").read_bytes() != b"no state"


# --- the pages -------------------------------------------------------------------------------------------------------------


def test_the_start_page_has_every_page() -> None:
    """Goal: no page is lost and no link is dead. Method: the links of docs/index.md are the files that there are."""
    docs = Path(__file__).parent.parent / "docs"
    linked = {(docs / link).resolve() for link in re.findall(r"\]\(([^)#]+)", (docs / "index.md").read_text())}
    assert all(page.exists() for page in linked)
    assert {page.resolve() for page in docs.glob("*.md")} - {docs.resolve() / "index.md"} <= linked
