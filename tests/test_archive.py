"""The archive: where things lie, when they close, what a crash leaves, and who else can read it."""

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from streamer.config import SinkOptions
from streamer.delivery import Delivery
from streamer.errors import ConfigError, Repositioned, RetryableError
from streamer.formats import make_format
from streamer.journal.sqlite import open_journal
from streamer.model import Message, Progress, Record, Seq, SinkName, from_epoch
from streamer.ports import Finishing, SinkContext, SinkPosition, Ticking
from streamer.sinks import SINKS
from streamer.sinks.archive.layout import OPEN, object_key, parse_object_key
from streamer.sinks.archive.options import ArchiveOptions, LockOptions, RollOptions, S3Options
from streamer.sinks.archive.read import read_archive
from streamer.sinks.archive.signing import keygen, load_signer, load_verifier
from streamer.sinks.archive.verify import verify
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests import records
from tests.archive import START, ArchiveSide, Clock, Desk
from tests.sink_contract import SinkContract

DAY_S = 86_400


def ids(lines: list[bytes]) -> list[str]:
    return [msgspec.json.decode(line)["id"] for line in lines]


def message(number: int, **changes: Any) -> Message:
    record = records.record(number, **changes)
    return Message(record, record.line)


def spread_over_days(count: int, per_day: int) -> list[Message]:
    """Events in time order, `per_day` of them on each day, none of them late."""
    return [
        message(n, late=False, time=from_epoch(records.FIRST_SECOND + (n - 1) // per_day * DAY_S + n))
        for n in range(1, count + 1)
    ]


class TestArchiveContract(SinkContract):
    """Everything in the open segment."""

    @pytest.fixture
    def side(self, tmp_path: Path) -> ArchiveSide:
        return ArchiveSide(tmp_path)


class TestRollingArchiveContract(SinkContract):
    """Every batch in objects of its own."""

    @pytest.fixture
    def side(self, tmp_path: Path) -> ArchiveSide:
        return ArchiveSide(tmp_path, roll={"size": 1})


class TestParquetArchiveContract(SinkContract):
    @pytest.fixture
    def side(self, tmp_path: Path) -> ArchiveSide:
        return ArchiveSide(tmp_path, roll={"size": "16KiB"}, objects="parquet")


# --- what lies where -------------------------------------------------------------------------------------------------


def test_every_event_once_in_its_partition(tmp_path: Path) -> None:
    """Goal: each line lies once, byte for byte, in the object of its source, day and kind. Method: three days and late events, read back by name."""
    desk = Desk(tmp_path / "a")
    messages = spread_over_days(150, 50)
    messages += [message(n, late=True, time=from_epoch(records.FIRST_SECOND)) for n in range(151, 161)]
    desk.write(messages[:80])
    desk.write(messages[80:])
    desk.finish()
    names = [parse_object_key(key) for key in desk.objects()]
    found = {(n.partition.date, n.partition.kind, n.first, n.last) for n in names if n}
    assert found == {
        ("2026-01-01", "events", 1, 50),
        ("2026-01-01", "late", 151, 160),
        ("2026-01-02", "events", 51, 100),
        ("2026-01-03", "events", 101, 150),
    }
    assert sorted(desk.lines()) == sorted(m.body for m in messages)
    assert verify(str(desk.root), deep=True).whole


def test_names_that_could_leave_their_folder_stay_in_it(tmp_path: Path) -> None:
    """Goal: a source's name cannot lead out of the archive. Method: one with slashes and dots, as a foreign journal could hold it."""
    desk = Desk(tmp_path / "a")
    desk.write([message(1, source="../../evil/x")])
    desk.finish()
    assert desk.objects() == [key for key in desk.objects() if key.startswith("source=..%2F..%2Fevil%2Fx/")] != []
    assert verify(str(desk.root)).whole


def test_object_names_say_what_they_hold() -> None:
    """Goal: a name is read back as what it was made from. Method: there and back, and names that are not ours."""
    name = parse_object_key(
        "source=acme/date=2026-01-31/late-20260131T101502123Z-000000000001-123456789012345.jsonl.gz"
    )
    assert name is not None
    assert name.last == 123456789012345
    again = object_key(name.partition, name.segment, name.first, name.last, name.suffix)
    assert parse_object_key(again) == name
    for foreign in (
        "x",
        "source=a/date=2026-01-31/x.jsonl",
        again + ".bak",
        "a/" + again,
        again.replace("late", "lost"),
    ):
        assert parse_object_key(foreign) is None


def test_closes_by_size(tmp_path: Path) -> None:
    """Goal: an interval ends when its events reach the size. Method: small sizes, and a look at the counts in the manifests."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 20_000}})
    desk.write_events(100, step=10)
    sizes = [
        sum(o["bytes"] for n in (1,) for o in desk.manifest(m)["objects"]) for m in range(1, len(desk.manifests()) + 1)
    ]
    intervals = [m for m in range(1, len(desk.manifests()) + 1) if desk.manifest(m)["kind"] == "interval"]
    assert len(intervals) >= 3
    assert all(size <= 40_000 for size in sizes)
    assert desk.archive.finish() is not None
    assert sorted(ids(desk.lines())) == sorted(records.event_id(n) for n in range(1, 101))


def test_closes_by_age_while_nothing_comes(tmp_path: Path) -> None:
    """Goal: the first event waits no longer than the age. Method: ticks with a clock in hand."""
    desk = Desk(tmp_path / "a", {"roll": {"age": "5m"}})
    assert desk.tick()  # the first segment
    desk.clock.now += 1000
    desk.write_events(10)
    desk.clock.now += 299
    assert not desk.tick()
    assert desk.objects() == []
    desk.clock.now += 1
    assert desk.tick()
    assert sorted(ids(desk.lines())) == [records.event_id(n) for n in range(1, 11)]


def test_a_quiet_time_is_said(tmp_path: Path) -> None:
    """Goal: no events and no record of events are told apart. Method: two heartbeats without an event, and their manifests."""
    desk = Desk(tmp_path / "a", {"heartbeat": "1h"})
    desk.tick()
    for _ in range(2):
        desk.clock.now += 3599
        assert not desk.tick()
        desk.clock.now += 1
        assert desk.tick()
    first, second = desk.manifest(1), desk.manifest(2)
    assert (first["events"], first["objects"], first["kind"]) == (0, [], "interval")
    assert second["from"] == first["to"]
    assert second["to"] == "2026-01-01T04:00:00.000Z"
    assert verify(str(desk.root)).whole


def test_late_and_replayed_objects_have_their_own_manifests(tmp_path: Path) -> None:
    """Goal: what was added to a day later is told apart. Method: one interval with all three kinds."""
    desk = Desk(tmp_path / "a")
    desk.write_events(20)
    desk.write_events(5, replayed=True)
    desk.finish()
    kinds = {desk.manifest(n)["kind"]: desk.manifest(n) for n in (1, 2, 3)}
    assert set(kinds) == {"interval", "late", "replay"}
    assert [kinds[k]["events"] for k in ("interval", "late", "replay")] == [18, 2, 5]
    assert {m["from"] for m in kinds.values()} == {kinds["interval"]["from"]}
    assert verify(str(desk.root)).whole


def test_a_manifest_says_what_its_objects_hold(tmp_path: Path) -> None:
    """Goal: counts, first and last id and time are true. Method: compared with the lines that were written."""
    desk = Desk(tmp_path / "a", {"compression": "none"})
    messages = spread_over_days(30, 30)
    desk.write(messages)
    desk.finish()
    (entry,) = desk.manifest(1)["objects"]
    content = (desk.root / entry["key"]).read_bytes()
    first, last = (json.loads(m.body) for m in (messages[0], messages[-1]))
    assert entry["first"] == {"seq": 1, "id": first["id"], "time": first["time"]}
    assert entry["last"] == {"seq": 30, "id": last["id"], "time": last["time"]}
    assert (entry["events"], entry["bytes"], entry["size"]) == (30, len(content), len(content))
    assert content == b"".join(m.body + b"\n" for m in messages)


# --- what others read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compression", "tool"), [("zstd", "zstdcat"), ("gzip", "zcat"), ("none", "cat")])
def test_ordinary_tools_read_the_objects(tmp_path: Path, compression: str, tool: str) -> None:
    """Goal: nothing of ours is needed to read. Method: each tool's output against the bytes written."""
    desk = Desk(tmp_path / "a", {"compression": compression})
    messages = spread_over_days(200, 200)
    for begin in range(0, 200, 50):
        desk.write(messages[begin : begin + 50])
    desk.finish()
    (key,) = desk.objects()
    shown = subprocess.run([tool, desk.root / key], capture_output=True, check=True).stdout
    assert shown == b"".join(m.body + b"\n" for m in messages)


@pytest.mark.parametrize(
    ("options", "table"),
    [
        ({}, "read_json('{}/source=*/date=*/*.jsonl.zst', hive_partitioning = true)"),
        ({"compression": "gzip"}, "read_json('{}/source=*/date=*/*.jsonl.gz', hive_partitioning = true)"),
        ({"objects": "parquet"}, "read_parquet('{}/source=*/date=*/*.parquet', hive_partitioning = true)"),
    ],
)
def test_duckdb_reads_it_as_it_is(tmp_path: Path, options: dict[str, Any], table: str) -> None:
    """Goal: the archive is a table. Method: DuckDB counts days, types and actors; the counts are known."""
    desk = Desk(tmp_path / "a", options)
    desk.write(spread_over_days(90, 30))
    desk.finish()
    source = table.format(desk.root)
    days = duckdb.sql(f"SELECT CAST(date AS VARCHAR), count(*) FROM {source} GROUP BY 1 ORDER BY 1").fetchall()
    assert days == [("2026-01-01", 30), ("2026-01-02", 30), ("2026-01-03", 30)]
    people = duckdb.sql(f"SELECT count(DISTINCT actor.id), count(DISTINCT id) FROM {source}").fetchall()
    assert people == [(3, 90)]


def test_parquet_has_stable_types_and_loses_nothing(tmp_path: Path) -> None:
    """Goal: the columns keep their types whatever the events hold, and the envelope comes back byte for byte. Method: DuckDB describes it; lines compared."""
    desk = Desk(tmp_path / "a", {"objects": "parquet"})
    messages = spread_over_days(100, 100)
    desk.write(messages)
    desk.finish()
    (key,) = desk.objects()
    rows = duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{desk.root / key}')").fetchall()
    types = {row[0]: row[1] for row in rows}
    assert types["time"] == "TIMESTAMP WITH TIME ZONE"
    assert types["targets"] == 'STRUCT("type" VARCHAR, id VARCHAR, "name" VARCHAR)[]'
    assert (types["labels"], types["event"]) == ("MAP(VARCHAR, VARCHAR)", "VARCHAR")
    assert list(read_archive(str(desk.root))) == [m.body for m in messages]
    assert verify(str(desk.root), deep=True).whole


def test_parquet_takes_what_redaction_left(tmp_path: Path) -> None:
    """Goal: a text where a number belongs does not stop the sink. Method: a masked latitude, a dropped event, an event as text."""
    desk = Desk(tmp_path / "a", {"objects": "parquet"})
    tree = json.loads(records.line(1, late=False))
    tree["actor"]["geo"] |= {"latitude": "***", "asn": "***"}
    tree["event"] = json.dumps(tree["event"])
    masked = json.dumps(tree).encode()
    del tree["event"]
    record = records.record(1)
    desk.write([Message(record, masked), Message(Record(Seq(2), record.line), json.dumps(tree).encode())])
    desk.finish()
    found = duckdb.sql(f"SELECT actor.geo.latitude, event FROM read_parquet('{desk.root}/*/*/*.parquet')").fetchall()
    assert found == [(None, json.loads(masked)["event"]), (None, None)]


# --- reading it again ------------------------------------------------------------------------------------------------


def test_a_range_is_read_back(tmp_path: Path) -> None:
    """Goal: a replay gets exactly the events of a time, each once. Method: bounds within a day, replayed duplicates among them."""
    desk = Desk(tmp_path / "a")
    messages = spread_over_days(90, 30)
    desk.write(messages)
    desk.write([Message(m.record, m.body, True) for m in messages[40:50]])
    desk.finish()
    since = records.FIRST_SECOND + DAY_S + 41
    until = records.FIRST_SECOND + 2 * DAY_S + 75
    lines = list(read_archive(str(desk.root), since, until))
    assert lines == [m.body for m in messages[40:74]]
    assert len(list(read_archive(str(desk.root)))) == 90


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_large_objects_are_read_in_pieces(tmp_path: Path, compression: str) -> None:
    """Goal: an object of many pieces comes back whole, and one that is cut off is no shorter archive. Method: megabytes that do not compress; then a cut at the end
    of a line, where only the compression could tell."""
    chance = random.Random(3)
    bodies = [
        b'{"schema":"streamer.envelope/1","id":"e-%d","time":"2026-01-01T00:00:00Z","text":"%s"}'
        % (n, chance.randbytes(2000).hex().encode())
        for n in range(1500)
    ]
    desk = Desk(tmp_path / "a", {"compression": compression})
    desk.write([Message(records.record(1, late=False), body) for body in bodies])
    desk.finish()
    assert list(read_archive(str(desk.root))) == bodies
    assert verify(str(desk.root), deep=True).whole
    path = desk.root / desk.objects()[0]
    os.truncate(path, path.stat().st_size - 40)
    with pytest.raises(ConfigError, match="is cut off|ends within a line|cannot be decompressed"):
        list(read_archive(str(desk.root)))


def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    """Goal: no silent empty replay. Method: no archive, another format, a damaged object."""
    with pytest.raises(ConfigError, match="no archive is there"):
        list(read_archive(str(tmp_path / "none")))
    desk = Desk(tmp_path / "a")
    desk.write([Message(m.record, b'{"id": "x"}') for m in spread_over_days(1, 1)])
    desk.finish()
    with pytest.raises(ConfigError, match="does not hold envelopes"):
        list(read_archive(str(desk.root)))
    (desk.root / desk.objects()[0]).write_bytes(b"junk")
    with pytest.raises(ConfigError, match="cannot be decompressed"):
        list(read_archive(str(desk.root)))


# --- crashes and trouble ---------------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.timeout(400)
def test_killed_anywhere_every_event_once(tmp_path: Path) -> None:
    """Goal: SIGKILL at any point loses and doubles nothing. Method: a process killed before each of its touches of the disk in turn, up to three times over,
    then let run; verified with the key."""
    seed = os.environ.get("SEED", "1")
    command = [sys.executable, "-m", "tests.archive_crash", str(tmp_path / "x"), seed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 100


def test_what_was_not_acknowledged_is_cut_off(tmp_path: Path) -> None:
    """Goal: a batch that was written but not acknowledged is there once. Method: a restart with the bookmark of before."""
    desk = Desk(tmp_path / "a")
    desk.write_events(10)
    before = desk.position.read_bytes()
    desk.write_events(10, 11)
    desk.position.write_bytes(before)
    desk.open()
    assert desk.acked == 10
    desk.write_events(10, 11)
    desk.finish()
    assert sorted(ids(desk.lines())) == sorted(records.event_id(n) for n in range(1, 21))


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Goal: a write that fails half-way is retryable and has no effect. Method: a file size limit in the middle of a batch, then lifted."""
    desk = Desk(tmp_path / "a")
    desk.write_events(10)
    (segment,) = (desk.root / OPEN).glob("*.segment")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size + 3000, limits[1]))
    try:
        with pytest.raises(RetryableError, match="File too large"):
            desk.write_events(10, 11)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    desk.write_events(10, 11)
    desk.finish()
    assert sorted(ids(desk.lines())) == sorted(records.event_id(n) for n in range(1, 21))


def test_a_closing_that_failed_is_finished(tmp_path: Path) -> None:
    """Goal: trouble while closing is retried and nothing is appended behind the seal. Method: a file stands where a folder belongs, and goes."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 1}})
    desk.write_events(5)
    (desk.root / "source=acme").write_bytes(b"in the way")
    for _ in range(2):
        with pytest.raises(ConfigError, match="source=acme"):
            desk.write_events(5, 6)
    (desk.root / "source=acme").unlink()
    desk.write_events(5, 6)
    desk.finish()
    assert sorted(ids(desk.lines())) == sorted(records.event_id(n) for n in range(1, 11))
    assert verify(str(desk.root)).whole


def test_a_lost_open_segment_holds_the_sink(tmp_path: Path) -> None:
    """Goal: acknowledged events that are gone are never passed over in silence. Method: the segment removed, then the loss accepted."""
    desk = Desk(tmp_path / "a")
    desk.write_events(10)
    (segment,) = (desk.root / OPEN).glob("*.segment")
    segment.unlink()
    desk.open()
    with pytest.raises(ConfigError, match="bytes that were acknowledged"):
        desk.write_events(5, 11)
    segment.with_suffix(".lost").touch()
    desk.write_events(5, 11)
    desk.finish()
    assert sorted(ids(desk.lines())) == [records.event_id(n) for n in range(11, 16)]


def test_a_lost_state_keeps_what_was_open(tmp_path: Path) -> None:
    """Goal: without its bookmark the open segment is closed, not thrown away, and the chain goes on. Method: the position removed, a torn block behind it."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 12_000}})
    desk.write_events(30, step=10)
    count = len(desk.manifests())
    (segment,) = (desk.root / OPEN).glob("*.segment")
    with segment.open("ab") as file:
        file.write(segment.read_bytes()[:500])
    desk.position.unlink()
    desk.open()
    assert desk.tick()
    assert len(desk.manifests()) > count
    assert sorted(ids(desk.lines())) == sorted(records.event_id(n) for n in range(1, 31))
    assert verify(str(desk.root)).whole


def test_an_older_journal_goes_on_without_loss(tmp_path: Path) -> None:
    """Goal: a bookmark of long ago loses nothing and breaks no chain. Method: the position of an early day is put back."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 12_000}})
    desk.write_events(10)
    old = desk.position.read_bytes()
    desk.write_events(40, 11, step=10)
    desk.position.write_bytes(old)
    desk.open()
    desk.write_events(40, 11, step=10)
    desk.finish()
    assert set(ids(desk.lines())) == {records.event_id(n) for n in range(1, 51)}
    assert verify(str(desk.root)).whole


def test_manifests_that_were_taken_away_stay_a_gap(tmp_path: Path) -> None:
    """Goal: the daemon's own memory of the chain's end does not let it close over a cut. Method: the newest manifest removed with its objects, then more events."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 12_000}})
    desk.write_events(40, step=10)
    newest = desk.manifests()[-1]
    for entry in desk.manifest(len(desk.manifests()))["objects"]:
        (desk.root / entry["key"]).unlink()
    (desk.root / newest).unlink()
    desk.open()
    desk.write_events(20, 41, step=10)
    desk.finish()
    report = verify(str(desk.root))
    assert [(f.kind, f.name) for f in report.findings] == [("gap", newest)]


def test_somebody_elses_manifest_holds_the_sink(tmp_path: Path) -> None:
    """Goal: a forged next manifest is not built upon, nor overwritten. Method: one with the right links and a signature that is none."""
    keygen(tmp_path / "key")
    desk = Desk(tmp_path / "a", {"signing_key_file": tmp_path / "key"})
    desk.write_events(10)
    desk.finish()
    last = len(desk.manifests())
    forged = desk.root / desk.manifests()[-1].replace(f"{last:09}", f"{last + 1:09}")
    previous = json.dumps(desk.manifest(last)["previous"], separators=(",", ":"))
    text = (desk.root / desk.manifests()[-1]).read_bytes()
    sha256 = subprocess.run(["sha256sum", desk.root / desk.manifests()[-1]], capture_output=True, text=True).stdout[:64]
    text = text.replace(previous.encode(), f'{{"number":{last},"sha256":"{sha256}"}}'.encode())
    text = text.replace(f'"number": {last}'.encode(), f'"number": {last + 1}'.encode())
    forged.write_bytes(text)
    forged.with_name(forged.name + ".sig").write_bytes(bytes(64))
    desk.open()
    with pytest.raises(ConfigError, match=f"{last + 1:09}.json is there and does not follow"):
        desk.write_events(10, 11)
    assert forged.read_bytes() == text


@pytest.mark.parametrize("name", ["_manifests/archive.json", "the newest manifest", "the next manifest"])
def test_a_damaged_chain_holds_the_sink(tmp_path: Path, name: str) -> None:
    """Goal: nothing is built upon what cannot be read, and a copy that is put back ends it. Method: each file of the chain that is read when an archive
    is opened, overwritten; for the newest manifest without the bookmark, which knows where the chain ends."""
    desk = Desk(tmp_path / "a")
    desk.write_events(10)
    desk.finish()
    newest = desk.manifests()[-1]
    if name == "the newest manifest":
        name = newest
        desk.position.unlink()
    elif name == "the next manifest":
        number = len(desk.manifests())
        name = newest.replace(f"{number:09}", f"{number + 1:09}")
    file = desk.root / name
    copy = file.read_bytes() if file.exists() else None
    file.write_bytes(b"{")
    desk.open()
    with pytest.raises(ConfigError, match=f"{name} is damaged; restore it from a copy"):
        desk.write_events(10, 11)
    assert file.read_bytes() == b"{"
    if copy is None:
        file.unlink()
    else:
        file.write_bytes(copy)
    desk.open()
    desk.write_events(10, 11)
    desk.finish()
    assert verify(str(desk.root)).whole


@pytest.mark.parametrize(
    ("suffix", "damage", "sentence"),
    [
        ("sealed", lambda data: b"{" + data, "is damaged; restore the file from a copy"),
        ("segment", lambda data: data[:-1], "damaged at byte"),
        ("segment", lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "damaged at byte"),
    ],
)
def test_a_damaged_segment_is_not_closed(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes], sentence: str
) -> None:
    """Goal: an object is never made of bytes that are not those that were acknowledged. Method: a closing that trouble stopped, and a file of it that changes
    before it goes on; then the copy is put back."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 1}})
    desk.write_events(5)
    (desk.root / "source=acme").write_bytes(b"in the way")
    with pytest.raises(ConfigError, match="source=acme"):
        desk.write_events(5, 6)
    (desk.root / "source=acme").unlink()
    (file,) = (desk.root / OPEN).glob(f"*.{suffix}")
    copy = file.read_bytes()
    file.write_bytes(damage(copy))
    desk.open()
    with pytest.raises(ConfigError, match=sentence):
        desk.write_events(5, 6)
    assert set(ids(desk.lines())) < {records.event_id(n) for n in range(1, 6)}, "parts that are sound may lie there"
    assert desk.manifests() == []
    file.write_bytes(copy)
    desk.open()
    desk.write_events(5, 6)
    desk.finish()
    assert sorted(ids(desk.lines())) == sorted(records.event_id(n) for n in range(1, 11))


def test_a_clock_that_was_set_back_breaks_nothing(tmp_path: Path) -> None:
    """Goal: names stay unique and intervals in order. Method: the clock jumps back an hour between intervals."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 1}})
    desk.write_events(5)
    desk.clock.now -= 3600
    desk.write_events(5, 6)
    desk.write_events(5, 11)
    desk.finish()
    segments = [desk.manifest(n)["segment"] for n in range(1, len(desk.manifests()) + 1)]
    assert segments == sorted(segments)
    assert verify(str(desk.root)).whole
    assert len(desk.lines()) == 15


# --- retention -------------------------------------------------------------------------------------------------------


def test_retention_takes_whole_days_and_says_so(tmp_path: Path) -> None:
    """Goal: old days go, verify knows that they expired, manifests stay. Method: ten days, retention of five, the clock at the tenth."""
    desk = Desk(tmp_path / "a")
    desk.write(spread_over_days(100, 10))
    desk.finish()
    desk.close()
    clock = Clock(START + 9 * DAY_S)
    desk = Desk(tmp_path / "a", {"retention": "5d"}, clock)
    assert desk.tick()
    left = {name.partition.date for key in desk.objects() if (name := parse_object_key(key))}
    assert left == {f"2026-01-{day:02}" for day in range(5, 11)}
    report = verify(str(desk.root))
    assert (report.whole, report.expired, report.manifests) == (True, 4, 3)
    assert not (desk.root / "source=acme/date=2026-01-04").exists()


def test_without_retention_nothing_goes(tmp_path: Path) -> None:
    """Goal: nothing is deleted unless asked. Method: events of long ago, many closings."""
    desk = Desk(tmp_path / "a")
    desk.write([message(1, late=False, time=datetime.fromisoformat("1999-12-31T23:59:59+00:00"))])
    desk.finish()
    desk.clock.now += 400 * DAY_S
    assert desk.tick()
    assert len(desk.objects()) == 1


# --- the sink --------------------------------------------------------------------------------------------------------


def context(tmp_path: Path, bookmark: Any = None) -> SinkContext:
    name = SinkName("lake")
    position = SinkPosition(Seq(0), bookmark, name)
    return SinkContext(name=name, position=position, journal="j", folder=tmp_path / "state")


async def test_the_sink_opens_writes_ticks_and_finishes(tmp_path: Path) -> None:
    """Goal: the port's shape. Method: through the registry, as the daemon does."""
    options = ArchiveOptions(path=str(tmp_path / "a"))
    kind = SINKS["archive"]
    assert "will be made" in await kind.probe(options, context(tmp_path))
    async with kind.open(options, context(tmp_path)) as sink:
        assert isinstance(sink, Ticking)
        batch = records.batch(20)
        with pytest.raises(Repositioned) as moved:
            await sink.write(batch)
        bookmark = await sink.write(batch)
        assert bookmark is not None
        assert bookmark["segment"] == moved.value.bookmark["segment"]
        assert len(json.dumps(bookmark)) < 400
        assert await sink.tick() is None
        with pytest.raises(ConfigError, match="written by another sink or process"):
            async with kind.open(options, context(tmp_path)):
                raise AssertionError("opened twice")
    async with kind.open(options, context(tmp_path, bookmark)) as sink:
        assert isinstance(sink, Finishing)
        assert await sink.finish() is not None
    assert len(list(read_archive(str(tmp_path / "a")))) == 20
    assert "can be written" in await kind.probe(options, context(tmp_path))


async def test_a_renamed_sink_finds_its_open_segment(tmp_path: Path) -> None:
    """Goal: with a bucket, what is not closed yet lies under the sink's first name, whatever it is called now. Method: opened under another; nobody is asked."""
    s3 = {"endpoint_url": "http://127.0.0.1:9", "access_key_id": "x", "secret_access_key": "x"}
    options = ArchiveOptions.model_validate({"path": "s3://bucket", "s3": s3})
    position = SinkPosition(Seq(0), None, SinkName("lake"))
    renamed = SinkContext(name=SinkName("datalake"), position=position, journal="j", folder=tmp_path)
    async with SINKS["archive"].open(options, renamed):
        assert [path.name for path in tmp_path.iterdir()] == ["archive-lake"]  # noqa: ASYNC240 - nothing else runs here


async def test_a_run_to_the_end_closes_what_is_open(tmp_path: Path) -> None:
    """Goal: after `run --once` everything lies in objects and is vouched for. Method: the real delivery loop over a real journal, to its end."""
    kind, name = SINKS["archive"], SinkName("lake")
    options = ArchiveOptions(path=str(tmp_path / "a"))
    async with open_journal(tmp_path, 1 << 30) as journal:
        await journal.append(records.SOURCE, "organization", records.entries(70), Progress(1))
        position = await journal.position(name, "earliest")
        where = SinkContext(name=name, position=position, journal=journal.id, folder=tmp_path)
        async with kind.open(options, where) as sink:
            await Delivery(
                name=name,
                kind="archive",
                sink=sink,
                acked=position.acked,
                journal=journal,
                format=make_format("envelope"),
                where=None,
                redact=None,
                batch=options.batch,
                telemetry=Telemetry(),
                stop=Stop(),
                caught_up=lambda: True,
            ).run()
    report = verify(str(tmp_path / "a"))
    assert (report.whole, report.events, report.open_bytes) == (True, 70, 0)


async def test_a_cancelled_write_is_waited_for(tmp_path: Path) -> None:
    """Goal: closing the sink does not pull the file from under a write that goes on. Method: cancelled at once, then opened again with the old bookmark."""
    options = ArchiveOptions(path=str(tmp_path / "a"))
    kind = SINKS["archive"]
    async with kind.open(options, context(tmp_path)) as sink:
        with pytest.raises(Repositioned) as moved:
            await sink.write(records.batch(1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await sink.write(records.batch(2000))
    async with kind.open(options, context(tmp_path, moved.value.bookmark)) as sink:
        assert isinstance(sink, Finishing)
        await sink.write(records.batch(30))
        await sink.finish()
    assert len(list(read_archive(str(tmp_path / "a")))) == 30


def test_every_option_is_documented() -> None:
    """Goal: docs/archive.md names every option of the archive. Method: the options' own fields against its tables."""
    text = (Path(__file__).parent.parent / "docs" / "archive.md").read_text()
    ours = set(ArchiveOptions.model_fields) - set(SinkOptions.model_fields) - {"roll", "s3"}
    dotted = {f"roll.{name}" for name in RollOptions.model_fields} | {
        f"lock.{name}" for name in LockOptions.model_fields
    }
    wanted = ours | dotted | (set(S3Options.model_fields) - {"lock"})
    assert {name for name in wanted if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"objects": "parquet", "format": "ocsf"}, "parquet has the columns of the envelope"),
        ({"compression": "gzip", "level": 12}, "levels 1 to 9"),
        ({"retention": "1h"}, "counted in days"),
        ({"path": "s3://"}, "names no bucket"),
        ({"s3": {"access_key_id": "x"}}, "belong together"),
        ({"signing_key": "a", "signing_key_file": "b"}, "exclude each other"),
    ],
)
def test_mistakes_in_the_options_are_said(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    """Goal: what cannot work is refused with its mend. Method: one mistake at a time."""
    with pytest.raises(ValueError, match=sentence):
        ArchiveOptions(**{"path": str(tmp_path), **options})


async def test_a_key_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    """Goal: a wrong key is found before the first event. Method: a file that is no key."""
    (tmp_path / "key").write_text("not a key")
    options = ArchiveOptions(path=str(tmp_path / "a"), signing_key_file=tmp_path / "key")
    with pytest.raises(ConfigError, match="streamer keygen"):
        async with SINKS["archive"].open(options, context(tmp_path)):
            raise AssertionError("opened")


def test_day_of_the_clock_does_not_matter(tmp_path: Path) -> None:
    """Goal: an object's day is the events' own, on both sides of midnight. Method: events a second apart around midnight, one batch."""
    desk = Desk(tmp_path / "a")
    midnight = from_epoch(records.FIRST_SECOND + DAY_S)
    desk.write([message(1, late=False, time=midnight - timedelta(seconds=1)), message(2, late=False, time=midnight)])
    desk.finish()
    assert [key.split("/")[1] for key in desk.objects()] == ["date=2026-01-01", "date=2026-01-02"]


def test_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Goal: one sentence where a key cannot be used; method: an elliptic curve that is not Ed25519, text, and a damaged public key."""
    other = ec.generate_private_key(ec.SECP256R1())
    private = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ConfigError, match="it is not an Ed25519 key; make one with streamer keygen"):
        load_signer(private, "it")
    with pytest.raises(ConfigError, match="it is not an unencrypted private key in PEM"):
        load_signer("key", "it")
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text, said in (
        (public, "a key that is not Ed25519"),
        (b"key", "no public key in PEM"),
        (public.replace(b"MF", b"AA", 1), "holds a damaged public key; export it again"),
    ):
        (tmp_path / "key.pub").write_bytes(text)
        with pytest.raises(ConfigError, match=said):
            load_verifier(tmp_path / "key.pub")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_verifier(tmp_path / "none.pub")
