"""reconcile: what upstream shows against the journal's memory and the sinks' acks, alone and as a user runs it."""

import base64
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from streamer.journal.sqlite import open_journal
from streamer.model import Entry, EventId, Progress, SinkName, SourceName
from streamer.reconcile import (
    MAX_IDS,
    ListingCount,
    Remembered,
    Shown,
    SinkCount,
    Standing,
    count_window,
    is_complete,
    joined,
)
from streamer.sinks.archive.signing import load_verifier
from tests import warm
from tests.simulation import Child, simulated_in_child

EVENTS = 1500


# --- the counting, alone ---------------------------------------------------------------------------------------------


def counted(
    shown: list[Shown], remembered: list[Remembered], standing: Standing, head: int = 1 << 40, watermark: int = 1 << 40
) -> tuple[ListingCount, SinkCount]:
    listing, sink = ListingCount("acme", "organization", watermark), SinkCount("file")
    count_window(shown, remembered, listing, [(sink, standing)], head)
    return listing, sink


def both(count: int) -> tuple[list[Shown], list[Remembered]]:
    return (
        [Shown(n, f"e{n}") for n in range(count)],
        [Remembered(n, f"e{n}", "organization", n + 1) for n in range(count)],
    )


def test_everything_delivered_is_complete() -> None:
    """Goal: a whole window counts as such; method: 10 events, all remembered, all acknowledged."""
    listing, sink = counted(*both(10), Standing(10, frozenset()))
    assert (listing.upstream, listing.missing, sink) == (10, 0, SinkCount("file", delivered=10))
    assert is_complete([listing], [sink])


def test_each_event_is_counted_in_one_place() -> None:
    """Goal: missing, undelivered, dead-lettered, delivered and extra do not overlap; method: some of each in one window."""
    shown, remembered = both(20)
    remembered[3:5] = []
    remembered.append(Remembered(7, "gone", "organization", 5))
    remembered.append(Remembered(7, "other list", "tenant", 6))
    listing, sink = counted(shown, remembered, Standing(15, frozenset({1, 12, 99})))
    assert (listing.missing, listing.missing_ids, listing.spans) == (2, ["e3", "e4"], [(3, 5)])
    assert (listing.extra, listing.extra_ids) == (1, ["gone"])
    assert sink == SinkCount("file", delivered=11, undelivered=5, dead_lettered=2, extra=1)
    assert not is_complete([listing], [sink])


def test_what_is_extra_is_no_loss_and_what_waits_is() -> None:
    """Goal: the answer depends on losses alone; method: extra only, undelivered only, unreadable only."""
    whole = ListingCount("acme", "organization", 1)
    assert is_complete([whole], [SinkCount("file", extra=3)])
    assert not is_complete([whole], [SinkCount("file", undelivered=1)])
    assert not is_complete([whole], [SinkCount("file", dead_lettered=1)])
    assert not is_complete([ListingCount("acme", "tenant", 1, error="no")], [])


def test_what_came_after_the_walk_began_is_not_extra() -> None:
    """Goal: a daemon that works beside us makes no false alarm; method: a record that is newer than the head at the start."""
    listing, sink = counted([], [Remembered(5, "new", "organization", 8)], Standing(8, frozenset()), head=7)
    assert (listing.extra, sink.extra) == (0, 0)


def test_what_is_not_walked_yet_is_not_to_be_repaired() -> None:
    """Goal: the ordinary walk brings what lies after the watermark; method: nothing is known, the watermark in the middle."""
    shown, _ = both(10)
    listing, _ = counted(shown, [], Standing(0, frozenset()), watermark=6)
    assert (listing.missing, listing.ahead, listing.spans) == (10, 4, [(0, 6)])


def test_named_ids_have_a_limit_and_counts_have_none() -> None:
    """Goal: constant memory; method: more missing events than are named."""
    shown, _ = both(MAX_IDS + 5)
    listing, _ = counted(shown, [], Standing(0, frozenset()))
    assert (listing.missing, len(listing.missing_ids)) == (MAX_IDS + 5, MAX_IDS)


def test_spans_are_joined_where_they_are_closest() -> None:
    """Goal: a bounded list that covers everything; method: four spans into two."""
    assert joined([(0, 1), (10, 11), (12, 20), (100, 101)], 2) == [(0, 20), (100, 101)]
    assert joined([(0, 1), (10, 11)], 2) == [(0, 1), (10, 11)]


async def test_what_was_forgotten_is_never_walked_again(tmp_path: Path) -> None:
    """Goal: a repair appends nothing twice; method: ids forgotten by retention, then a repair that reaches further back."""
    now, sink = 1_000_000.0, SinkName("local")
    async with open_journal(tmp_path, 1 << 30, lambda: now) as journal:
        acme = SourceName("acme")
        entries = [Entry(EventId(f"e{n}"), 1000 * n, b"{}") for n in range(1, 1000)]
        await journal.append(acme, "organization", entries, Progress(1_000_000))
        await journal.position(sink, "latest")
        await journal.prune([sink], -1, 100_000)
        journal._db.execute(
            "INSERT INTO repairs (source, listing, since, before) VALUES ('acme', 'organization', 5, 950000)"
        )
        (repair,) = await journal.repairs(acme, "organization")
        assert (repair.since, repair.before) == (900_000, 950_000)
        await journal.repaired(repair)
        assert await journal.repairs(acme, "organization") == []


# --- as a user runs it -----------------------------------------------------------------------------------------------


class Installation:
    """A configuration and what `run --once` has delivered of the simulator's events."""

    def __init__(self, folder: Path, child: Child) -> None:
        self.folder, self.child, self.config = folder, child, folder / "streamer.yaml"
        self.config.write_text(
            f"""
state: {folder}/state
admin: null
enrich: {{directory: null}}
sources: {{acme: {{type: openai_audit_logs, api_key: sk-admin-simulated, base_url: "{child.base_url}", start: beginning, overlap: 1s, poll_interval: 1s}}}}
journal: {{keep: 365d}}
sinks:
  local: {{type: file, path: {folder}/audit.jsonl}}
  lake: {{type: archive, path: {folder}/archive, compression: none, signing_key_file: {folder}/key}}
"""
        )

    def streamer(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return warm.run("streamer", *arguments, timeout=100)

    def run_once(self) -> None:
        done = self.streamer("run", "-c", str(self.config), "--once")
        assert done.returncode == 0, done.stderr

    def report(self, *arguments: str, expect: int) -> dict[str, Any]:
        done = self.streamer("reconcile", "-c", str(self.config), "--since", "300d", "--json", *arguments)
        assert done.returncode == expect, done.stderr + done.stdout
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def change(self, statement: str, *rows: tuple[object, ...]) -> None:
        with sqlite3.connect(self.folder / "state/journal.db") as db:
            db.executemany(statement, rows)
        db.close()

    def ids(self) -> list[tuple[int, str, str, int]]:
        with sqlite3.connect(self.folder / "state/journal.db") as db:
            rows = db.execute("SELECT effective_at, id, listing, seq FROM ids ORDER BY seq").fetchall()
        db.close()
        return rows


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installation]:
    with simulated_in_child(events=EVENTS) as child:
        installation = Installation(tmp_path, child)
        assert installation.streamer("keygen", str(tmp_path / "key")).returncode == 0
        installation.run_once()
        yield installation


def test_reconcile_finds_each_removed_event_and_repairs_it(installed: Installation) -> None:
    """Goal: 100 events that the journal never saw are found, and nothing else; method: removed from its memory, reconcile,
    repair without a daemon, deliver, reconcile again."""
    whole = installed.report(expect=0)
    assert whole["total"]["upstream"] >= EVENTS
    assert whole["complete"] is True
    removed = random.Random(5).sample(installed.ids()[:-50], 100)
    installed.change("DELETE FROM ids WHERE seq = ?", *[(row[3],) for row in removed])
    found = installed.report(expect=1)
    assert {i for row in found["listings"] for i in row["missing_ids"]} == {row[1] for row in removed}
    assert (found["total"]["missing"], found["total"]["undelivered"], found["total"]["extra"]) == (100, 0, 0)
    repaired = installed.report("--repair", expect=1)
    assert (repaired["repaired"], repaired["total"]["missing"]) == (100, 0)
    assert {row["undelivered"] for row in repaired["sinks"]} == {100}
    before = (installed.folder / "audit.jsonl").read_text().splitlines()
    installed.run_once()
    installed.report(expect=0)
    lines = (installed.folder / "audit.jsonl").read_text().splitlines()[len(before) :]
    late = {e["id"] for e in map(json.loads, lines) if e["late"]}
    assert late == {row[1] for row in removed}


def test_a_running_daemon_repairs_and_delivers(installed: Installation) -> None:
    """Goal: --repair needs no downtime; method: events removed beside a running daemon, repaired by it, delivered late."""
    removed = random.Random(6).sample(installed.ids()[:-50], 5)
    file = installed.folder / "audit.jsonl"
    before = len(file.read_text().splitlines())
    command = [sys.executable, "-m", "streamer", "run", "-c", str(installed.config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            next(line for line in process.stderr if '"event":"live"' in line)
            installed.change("DELETE FROM ids WHERE seq = ?", *[(row[3],) for row in removed])
            done = installed.streamer("reconcile", "-c", str(installed.config), "--since", "300d", "--json", "--repair")
            report = json.loads(done.stdout)
            assert (report["repaired"], report["total"]["missing"]) == (5, 0)
        finally:
            process.terminate()
            process.communicate(timeout=30)
    installed.run_once()
    lines = [json.loads(line) for line in file.read_text().splitlines()[before:]]
    assert {e["id"] for e in lines if e["late"]} == {row[1] for row in removed}
    installed.report(expect=0)


def test_undelivered_dead_letters_and_extra_are_counted_per_sink(installed: Installation) -> None:
    """Goal: each number means one thing; method: an ack moved back, three dead letters, two ids that upstream never had."""
    head = len(installed.ids())
    installed.change("UPDATE sinks SET acked = ? WHERE name = 'local'", (head - 40,))
    letters = [("lake", seq, "x", "t", "refused", 1, 0.0, b"{}") for seq in (1, 5, 9)]
    installed.change(
        "INSERT INTO dead_letters (sink, seq, id, type, reason, attempts, at, line) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *letters,
    )
    at = installed.ids()[20][0]
    installed.change(
        "INSERT INTO ids VALUES (1, ?, ?, 'organization', ?)", (at, "withdrawn-1", 20), (at, "withdrawn-2", head)
    )
    sinks = {row["sink"]: row for row in installed.report(expect=1)["sinks"]}
    upstream = sinks["lake"]["delivered"] + 3
    assert sinks["local"] == {
        "sink": "local",
        "delivered": upstream - 40,
        "missing": 0,
        "undelivered": 40,
        "dead_lettered": 0,
        "extra": 1,
    }
    assert (sinks["lake"]["undelivered"], sinks["lake"]["dead_lettered"], sinks["lake"]["extra"]) == (0, 3, 2)


def test_an_archive_is_proven_alone(installed: Installation) -> None:
    """Goal: an auditor needs the archive and the API; method: whole, then with lines taken out of its objects, the journal gone."""
    archive = str(installed.folder / "archive")
    (installed.folder / "state/journal.db").rename(installed.folder / "away.db")
    whole = installed.report("--archive", archive, expect=0)
    assert [row["sink"] for row in whole["sinks"]] == [archive]
    victim = max((installed.folder / "archive").rglob("*.jsonl"), key=lambda path: path.stat().st_size)
    lines = victim.read_text().splitlines()
    victim.write_text("".join(f"{line}\n" for line in lines[3:]))
    found = installed.report("--archive", archive, expect=1)
    assert {i for row in found["listings"] for i in row["missing_ids"]} == {json.loads(one)["id"] for one in lines[:3]}


def test_the_report_is_signed_with_the_archives_key(installed: Installation) -> None:
    """Goal: a report can be handed to somebody who does not trust the messenger; method: verified with the public key, then altered."""
    report = installed.report(expect=0)
    signature = report.pop("signature")
    verifier = load_verifier(installed.folder / "key.pub")
    bare = json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signed = base64.b64decode(signature["ed25519"])
    assert verifier.holds(signature["key"], signed, bare)
    assert not verifier.holds(signature["key"], signed, bare.replace(b'"missing":0', b'"missing":1'))


def test_the_table_says_it_in_one_line(installed: Installation) -> None:
    """Goal: a person reads missing=0; method: the verb without --json."""
    done = installed.streamer("reconcile", "-c", str(installed.config), "--since", "300d")
    assert done.returncode == 0, done.stderr
    assert "complete: missing=0 undelivered=0 dead_lettered=0 extra=0" in done.stdout


def test_the_report_says_how_far_it_compared(installed: Installation) -> None:
    """Goal: no report vouches for what it has not looked at; method: a range up to now, of which the overlap is left out, and one within it."""
    installed.config.write_text(installed.config.read_text().replace("overlap: 1s", "overlap: 5m"))
    report = installed.report(expect=0)
    until, asked = (datetime.fromisoformat(report[name]) for name in ("until", "asked_until"))
    assert 299 <= (asked - until).total_seconds() <= 301
    young = installed.streamer("reconcile", "-c", str(installed.config), "--since", "4m")
    assert young.returncode == 2
    assert "--since: nothing of it is old enough" in " ".join(young.stderr.split())


def test_a_listing_that_cannot_be_read_is_not_complete(installed: Installation) -> None:
    """Goal: what was not compared is never called whole; method: a key that the API refuses."""
    text = installed.config.read_text()
    installed.config.write_text(text.replace("sk-admin-simulated", "sk-admin-revoked"))
    report = installed.report(expect=1)
    assert report["complete"] is False
    assert all("acme" in row["error"] for row in report["listings"])
    done = installed.streamer("reconcile", "-c", str(installed.config), "--since", "300d")
    assert done.returncode == 1
    assert "could not be read" in done.stdout


def test_an_archive_is_not_repaired(installed: Installation) -> None:
    """Goal: wrong use is said at once; method: both options."""
    archive = str(installed.folder / "archive")
    done = installed.streamer("reconcile", "-c", "x", "--since", "1d", "--repair", "--archive", archive)
    assert done.returncode == 2
    assert "an archive is never changed" in done.stderr


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("openssl")), reason="needs jq and openssl")
def test_the_signature_is_checked_with_the_tools_of_the_page(installed: Installation) -> None:
    """Goal: an auditor needs nothing of ours; method: the three lines of docs/completeness.md."""
    done = installed.streamer("reconcile", "-c", str(installed.config), "--since", "300d", "--json")
    (installed.folder / "report.json").write_text(done.stdout)
    page = (Path(__file__).parents[1] / "docs/completeness.md").read_text("utf-8")
    block = next(part for part in page.split("```") if "pkeyutl" in part)
    script = block.partition("\n")[2].replace("signing.key.pub", "key.pub")
    said = subprocess.run(["bash", "-ec", script], cwd=installed.folder, capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in said.stdout, said.stderr


def test_it_refuses_to_judge_what_the_journal_has_forgotten(installed: Installation) -> None:
    """Goal: forgotten is not missing; method: a memory that begins yesterday."""
    installed.change("INSERT INTO forgotten VALUES (1, 'organization', ?)", (installed.ids()[-1][0],))
    done = installed.streamer("reconcile", "-c", str(installed.config), "--since", "300d")
    assert done.returncode == 78
    assert "--archive" in done.stderr
    assert len(done.stderr.splitlines()) == 1
