"""A sink that is down costs nobody else anything: a real daemon, its sinks, and what happens to one of them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import outage, warm
from tests.outage import ENV, Hook, archive_ids, dead_letters, file_ids, id_of, receiving, running, three_sinks, truth
from tests.places import Place, until
from tests.simulation import Child, simulated_in_child

EVENTS = int(os.environ.get("OUTAGE_EVENTS", "20000"))
MOST_MIB = 143
"""150 MB."""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Child]:
    with simulated_in_child(events=EVENTS, days=30, profile="bulk", seed=3) as child:
        yield child


@pytest.fixture(scope="module")
def small() -> Iterator[Child]:
    with simulated_in_child(events=600, days=30, seed=5) as child:
        yield child


def ask(place: Place, *arguments: str, expected: int = 0) -> str:
    """A verb beside the running daemon; what it printed."""
    done = warm.run("streamer", *arguments, "-c", place.config, env=ENV)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_an_outage_costs_the_others_nothing(tmp_path: Path, simulator: Child) -> None:
    """Goal: one sink down for all events, two finish, the third then gets all in order, in little memory.
    Method: a webhook that answers 503 until file and archive have everything; OUTAGE_EVENTS sets how many."""
    with receiving(Hook()) as hook:
        seen = outage.outage(Place(tmp_path, simulator.base_url), simulator, hook, 250)
    assert seen.events >= EVENTS
    assert seen.in_order
    assert seen.refused > 0
    assert seen.most_mib < MOST_MIB


@pytest.mark.timeout(300)
def test_a_full_journal_waits_and_everything_arrives(tmp_path: Path, simulator: Child) -> None:
    """Goal: a dead sink and a small journal stop intake, not the sinks that work, and lose nothing.
    Method: 2 MiB of journal for 20 MB of events; what works has all that intake took before the webhook is mended."""
    place, wanted = Place(tmp_path, simulator.base_url), truth(simulator)
    place.change("journal", {"max_size": "2MiB", "keep": "1s"})
    with receiving(Hook(answer=lambda _: 503)) as hook:
        three_sinks(place, hook)
        with running(place) as daemon:
            until(lambda: place.status().get("journal", {}).get("full"))
            until(lambda: "journal full" in str([row["error"] for row in place.status()["listings"]]))
            until(
                lambda: (
                    0
                    < place.status()["journal"]["head"]
                    == daemon.sink("local")["acked"]
                    == daemon.sink("lake")["acked"]
                )
            )
            head = place.status()["journal"]["head"]
            assert daemon.metric("streamer_journal_full") == 1
            assert 0 < head < len(wanted)
            assert "the journal is full" in ask(place, "status", expected=1)
            hook.answer = lambda _: 200
            until(lambda: daemon.has_all("hook", len(wanted)), 200)
            until(lambda: daemon.has_all("local", len(wanted)) and daemon.has_all("lake", len(wanted)))
    order = file_ids(place.lines)
    assert set(order) == wanted
    assert len(order) == len(wanted)
    assert hook.ids == order
    assert outage.once(place) == 0, "which closes the archive's last object"
    assert sorted(archive_ids(tmp_path / "archive")) == sorted(order)


def file_seconds(place: Place, hook: Hook | None) -> float:
    """The file's time to its last line, beside a slow webhook or without one."""
    place.folder.mkdir(parents=True)
    place.change("enrich", {"directory": None}).change("sources.acme.start", "31d")
    if hook is not None:
        three_sinks(place, hook)
        place.change("sinks.lake", None)
    with running(place) as daemon:
        until(place.status)
        began = time.monotonic()
        until(lambda: daemon.has_all("local", EVENTS))
        took = time.monotonic() - began
        assert hook is None or daemon.sink("hook")["acked"] < EVENTS
    return took


@pytest.mark.timeout(600)
def test_a_slow_sink_slows_no_other(tmp_path: Path, simulator: Child) -> None:
    """Goal: sinks do not wait for each other. Method: the file's time to its last line beside a webhook that takes half a second a batch, against
    the file alone, one right after the other. The margin would not see a few percent."""
    with receiving(Hook(delay_s=0.5)) as hook:
        alone = file_seconds(Place(tmp_path / "alone", simulator.base_url), None)
        beside = file_seconds(Place(tmp_path / "beside", simulator.base_url), hook)
    assert beside < 1.5 * alone + 1


def test_sinks_come_go_and_come_back(tmp_path: Path, small: Child) -> None:
    """Goal: a new sink gets everything (or only what is new, if asked), a removed one costs nothing, one that comes back goes on
    where it was, and nobody gets anything twice. Method: `run --once` with one configuration after the other."""
    place = Place(tmp_path, small.base_url).change("sources.acme.start", "31d")
    other = {"type": "file", "path": str(tmp_path / "other.jsonl")}
    new = {"type": "file", "path": str(tmp_path / "new.jsonl"), "start": "latest"}
    place.change("sinks.other", other)
    assert outage.once(place) == 0
    first = file_ids(place.lines)
    assert set(first) == truth(small)
    assert file_ids(tmp_path / "other.jsonl") == first
    place.change("sinks.other", None).change("sinks.new", new)
    assert outage.once(place) == 0
    expected = more(small, 3)
    assert outage.once(place) == 0
    added = file_ids(place.lines)[len(first) :]
    assert sorted(added) == sorted(expected)
    assert file_ids(tmp_path / "new.jsonl") == added
    assert file_ids(tmp_path / "other.jsonl") == first
    place.change("sinks.new", None).change("sinks.other", other)
    assert outage.once(place) == 0
    assert file_ids(tmp_path / "other.jsonl") == first + added
    assert file_ids(place.lines) == first + added
    assert file_ids(tmp_path / "new.jsonl") == added


def test_a_renamed_sink_goes_on_where_it_was(tmp_path: Path, small: Child) -> None:
    """Goal: a new name sends nothing again and loses nothing: place, dead letters, replays, an open segment and a chain go on. Method: a file, an archive
    and a webhook with a dead letter, all renamed between two runs, more events, and a third run with `was` still there."""
    place = Place(tmp_path, small.base_url)
    bad = sorted(truth(small))[10]
    with receiving(Hook(answer=lambda body: 400 if bad in body else 200)) as hook:
        three_sinks(place, hook)
        place.change("sinks.lake.roll", {"age": "1h"})
        with running(place) as daemon:
            count = len(truth(small))
            until(lambda: all(daemon.has_all(name, count) for name in ("local", "lake", "hook")))
        assert list((tmp_path / "archive").rglob("*.jsonl.zst")) == [], "the segment is open"
        taken = list(hook.ids)
        said = ask(place, "replay", "--sink", "local", "--since", "40d")
        assert int(said.split()[0]) == count

        sinks = place.document["sinks"]
        place.change("sinks", {f"{name}-now": options | {"was": name} for name, options in sinks.items()})
        added = set(more(small, 5))
        assert outage.once(place) == 0
        assert [(row["sink"], row["id"].encode()) for row in dead_letters(place)] == [("hook-now", bad)]
        assert outage.once(place) == 0
    lines = file_ids(place.lines)
    assert lines[:count] == lines[count : 2 * count], "what was asked for under the old name came under the new one"
    assert set(lines[2 * count :]) == added == set(hook.ids[len(taken) :])
    assert len(lines) == 2 * count + len(added)
    assert sorted(archive_ids(tmp_path / "archive")) == sorted(truth(small))
    assert warm.run("streamer", "verify", tmp_path / "archive", env=ENV).returncode == 0


def test_a_sink_that_was_away_too_long_is_told_what_it_missed(tmp_path: Path, small: Child) -> None:
    """Goal: no silent gap. Method: remove a sink, let the journal forget, bring it back; the log counts, and so do we."""
    place = Place(tmp_path, small.base_url).change("sources.acme.start", "31d").change("journal", {"keep": "1ms"})
    place.change("sinks.other", {"type": "file", "path": str(tmp_path / "other.jsonl")})
    assert outage.once(place) == 0
    other = place.document["sinks"].pop("other")
    missed = len(more(small, 5))
    with running(place) as daemon:
        until(lambda: daemon.has_all("local", len(truth(small))))
    with running(place):
        until(lambda: (seen := place.status().get("journal", {})).get("head") and seen["records"] == 0)
    place.change("sinks.other", other)
    assert outage.once(place) == 0
    said = [line for line in (tmp_path / "daemon.log").read_text().splitlines() if "records were pruned" in line]
    assert len(said) == 1
    assert f'"count":{missed}' in said[0]
    assert len(file_ids(tmp_path / "other.jsonl")) == len(truth(small)) - missed


def more(child: Child, count: int) -> list[bytes]:
    """So many more events upstream, of now; their ids."""
    before = truth(child)
    child.control("POST", "events", {"count": count})
    return list(truth(child) - before)


def test_a_held_sink_says_why_everywhere(tmp_path: Path, small: Child) -> None:
    """Goal: an operator sees what to mend: `status`, /status, one metric. Method: a webhook that answers 401, then is mended."""
    place = Place(tmp_path, small.base_url)
    with receiving(Hook(answer=lambda _: 401)) as hook:
        three_sinks(place, hook)
        with running(place) as daemon:
            until(lambda: daemon.sink("hook").get("state") == "held")
            row = daemon.sink("hook")
            assert "401" in row["error"]
            assert daemon.metric('streamer_sink_held{sink="hook"}') == 1
            assert daemon.metric('streamer_sink_held{sink="local"}') == 0
            said = " ".join(ask(place, "status", expected=1).split())
            assert "sink hook is held" in said
            assert "401" in said
            assert dead_letters(place) == []
            until(lambda: daemon.sink("local").get("backlog") == 0)


@pytest.mark.timeout(300)
def test_dead_letters_and_replays_while_the_daemon_runs(tmp_path: Path, small: Child) -> None:
    """Goal: `dlq retry`, `dlq discard` and `replay` act on a running daemon, and what comes again is marked and has its id.
    Method: a webhook that refuses two events for good until it is mended."""
    wanted = sorted(truth(small))
    bad = {wanted[10], wanted[20]}

    def refuses(body: bytes) -> int:
        return 400 if any(id_of(line) in bad for line in body.splitlines()) else 200

    place = Place(tmp_path, small.base_url)
    with receiving(Hook(answer=refuses)) as hook:
        three_sinks(place, hook)
        with running(place) as daemon:
            until(lambda: daemon.has_all("hook", len(wanted)))
            assert sorted(hook.ids) == sorted(set(wanted) - bad)
            letters = dead_letters(place)
            assert {row["id"].encode() for row in letters} == bad
            assert all("400" in row["reason"] and row["attempts"] == 1 for row in letters)
            assert not any("webhook-replayed" in headers for headers in hook.headers)

            hook.answer = lambda _: 200
            assert ask(place, "dlq", "discard", str(letters[1]["number"])) == "1 discarded\n"
            assert ask(place, "dlq", "retry", "--all") == "1 to be delivered again\n"
            until(lambda: "dead letters delivered" in (tmp_path / "daemon.log").read_text())
            assert dead_letters(place) == []
            assert hook.ids[-1] == letters[0]["id"].encode()
            assert hook.headers[-1]["webhook-replayed"] == "true"

            count = len(hook.ids)
            said = ask(place, "replay", "--sink", "hook", "--since", "40d")
            assert int(said.split()[0].replace(",", "")) == len(wanted)
            until(lambda: len(hook.ids) == count + len(wanted))
            assert sorted(hook.ids[count:]) == wanted
            assert hook.headers[-1]["webhook-replayed"] == "true"
    assert sorted(file_ids(place.lines)) == wanted
