"""The file sink: the contract of all sinks, and what is its own: torn tails, rotation, and others who meddle with the file."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from streamer.errors import ConfigError, Repositioned, RetryableError, StreamerError
from streamer.model import Batch, Seq
from streamer.ports import SinkContext, SinkPosition
from streamer.sinks.file import (
    LINES_PER_WRITE,
    TAIL,
    TORN_MARGIN,
    FileOptions,
    FileSink,
    check_place,
    is_torn,
    last_of,
    plan_removal,
    plan_shift,
    probe_file,
    verdict,
    write_lines,
)
from tests.records import batch
from tests.sink_contract import JOURNAL, NAME, Arrived, OtherSide, Pump, SinkContract, expected


def read_lines(*paths: Path) -> list[Arrived]:
    """The events of the files, one after the other; every line is whole."""
    data = b"".join(p.read_bytes() for p in paths)
    assert data == b"" or data.endswith(b"\n")
    return [(msgspec.json.decode(body)["id"], body) for body in data.splitlines()]


class FileSide(OtherSide):
    kind = "file"
    guarantee = "exactly once"

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder)
        self.path = folder / "audit.jsonl"
        self._options = options

    def options(self) -> dict[str, Any]:
        return {"path": str(self.path), **self._options}

    async def arrived(self) -> list[Arrived]:
        """Oldest first, over all rotated files."""
        rotated = [p for n in range(999, 0, -1) if (p := self.path.with_name(f"{self.path.name}.{n}")).exists()]
        return read_lines(*rotated, self.path)


class TestFileContract(SinkContract):
    @pytest.fixture
    def side(self, tmp_path: Path) -> FileSide:
        return FileSide(tmp_path)


class TestRotatingFileContract(SinkContract):
    """With every second batch in a new file."""

    @pytest.fixture
    def side(self, tmp_path: Path) -> FileSide:
        return FileSide(tmp_path, rotate={"size": "16KiB", "keep": 200})


ROOT = Path(__file__).parent.parent
BATCH = 5
"""Events a batch, in the tests that count batches."""


def options_of(side: FileSide) -> FileOptions:
    return TypeAdapter(FileOptions).validate_python(side.options())


NEW = SinkPosition(Seq(0), None, NAME)


def context_of(side: FileSide, position: SinkPosition = NEW) -> SinkContext:
    return SinkContext(name=NAME, position=position, journal=JOURNAL, folder=side.folder)


def files_in(folder: Path) -> dict[str, int]:
    """Names and sizes."""
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def numbered(number: int) -> Batch:
    """Batch 1, 2, 3 … of a stream."""
    return batch(BATCH, first=1 + (number - 1) * BATCH)


def size_of(*batches: Batch) -> int:
    return sum(len(body) + 1 for _, body in expected(*batches))


@pytest.fixture
def side(tmp_path: Path) -> FileSide:
    return FileSide(tmp_path)


# --- crashes ---------------------------------------------------------------------------------------------------------


def crash_everywhere(folder: Path, batches: int, size: int, limit: int, keep: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.file_crash", str(folder), *map(str, (batches, size, limit, keep))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.crash
@pytest.mark.timeout(400)
async def test_killed_at_every_call_each_event_is_there_once(tmp_path: Path) -> None:
    """Goal: no moment of writing and rotating is unsafe; method: a process is killed at its first, second, third … call to the
    operating system until it lives through, goes on, is killed again, and goes on."""
    runs = crash_everywhere(tmp_path, 4, BATCH, 1024, 100)
    assert len(runs) > 40
    for run in runs:
        arrived = await FileSide(Path(run["folder"])).arrived()
        assert arrived == expected(batch(4 * BATCH)), f"killed at call {run['die_at']}"


@pytest.mark.crash
@pytest.mark.timeout(400)
async def test_killed_at_every_call_rotation_deletes_no_more_than_it_should(tmp_path: Path) -> None:
    """Goal: a rotation that is done again after a crash does not push out another file; method: as above with `keep` 2 and a batch a
    file: the last three batches are there, whenever the process was killed."""
    runs = crash_everywhere(tmp_path, 5, BATCH, 1024, 2)
    assert len(runs) > 50
    for run in runs:
        arrived = await FileSide(Path(run["folder"])).arrived()
        assert arrived == expected(*map(numbered, (3, 4, 5))), f"killed at call {run['die_at']}"


@pytest.mark.crash
def test_bytes_and_names_are_durable_before_the_ack(tmp_path: Path) -> None:
    """Goal: power may fail after any ack; method: in the order of calls, a sync follows the last write of a batch, and the folder is
    synced when a name in it was made or changed, before anything is written."""
    calls = crash_everywhere(tmp_path, 3, BATCH, 1024, 5)[-1]["calls"]
    assert calls.count("writev") == 3
    for at, call in enumerate(calls):
        if call == "writev":
            assert calls[at + 1] == "fdatasync"
        if call in ("fchmod", "rename"):
            rest = calls[at:]
            assert "fsync" in rest[: rest.index("writev")]


ACTIONS = [
    "deliver",
    "crash",
    "crash_torn",
    "crash_torn_moved",
    "moved",
    "moved_created",
    "copytruncate",
    "foreign",
    "foreign_torn",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=12), st.integers(0, 2**32), st.booleans())
def test_whatever_happens_each_event_is_there_once(actions: list[str], chance: int, rotates: bool) -> None:
    """Goal: exactly once through every order of crashes and of what others do to the file, and no byte of theirs lost.
    Method: random stories; in the end every event stands once in all files together, in lines of its own."""
    with tempfile.TemporaryDirectory() as folder:
        story = Story(FileSide(Path(folder), **({"rotate": {"size": "8KiB", "keep": 99}} if rotates else {})), chance)
        asyncio.run(story.play([*actions, "deliver"]))
        story.check()


class Story:
    """What happens to one file. A crash: the batch was written, and never acknowledged; torn: only some of its bytes reached the disk.
    Until the sink has written again, others only move the file."""

    def __init__(self, side: FileSide, chance: int) -> None:
        self.side, self.chance, self.pump = side, chance, Pump(side)
        self.batches = self.notes = self.copies = 0
        self.is_torn = False

    async def play(self, actions: list[str]) -> None:
        left = list(actions)
        while left:
            async with self.pump.running():
                crash = await self.live(left)
            if crash:
                self.crash(crash)

    async def live(self, left: list[str]) -> str | None:
        """Until the next crash, which is returned."""
        while left:
            action = left.pop(0)
            if action == "deliver":
                self.batches += 1
                await self.pump.write(numbered(self.batches))
                self.is_torn = False
            elif action.startswith("crash"):
                await self.pump.try_write(numbered(self.batches + 1))
                self.is_torn = True
                return action
            elif self.side.path.exists() and (not self.is_torn or action.startswith("moved")):
                self.meddle(action)
        return None

    def crash(self, action: str) -> None:
        bookmark = self.pump.position.bookmark
        assert bookmark is not None
        size = self.side.path.stat().st_size
        if "torn" in action:
            os.truncate(self.side.path, size - self.chance % (size - bookmark["length"] + 1))
        if action.endswith("moved"):
            self.meddle("moved")

    def meddle(self, action: str) -> None:
        path = self.side.path
        self.copies += 1
        aside = path.with_name(f"{path.name}-{self.copies}")
        match action:
            case "moved":
                path.rename(aside)
            case "moved_created":
                path.rename(aside)
                path.touch()
            case "copytruncate":
                aside.write_bytes(path.read_bytes())
                os.truncate(path, 0)
            case "foreign" | "foreign_torn":
                self.notes += 1
                with path.open("ab") as file:
                    file.write(b"<note %d>" % self.notes + (b"\n" if action == "foreign" else b""))

    def check(self) -> None:
        lines = [line for path in self.side.folder.iterdir() for line in path.read_bytes().splitlines()]
        ours = [body for n in range(1, self.batches + 1) for _, body in expected(numbered(n))]
        notes = [line for line in lines if line.startswith(b"<")]
        assert sorted(line for line in lines if line not in notes) == sorted(ours)
        assert sorted(b"".join(notes).replace(b">", b"> ").split(b"> ")[:-1]) == sorted(
            b"<note %d" % n for n in range(1, self.notes + 1)
        )


# --- others who meddle -----------------------------------------------------------------------------------------------


async def test_a_bookmark_is_durable_before_the_bytes_it_speaks_of(side: FileSide) -> None:
    """Goal: a torn tail can always be told; method: the first write, and the first after a move, write nothing but say where they stand."""
    sink = FileSink(options_of(side), context_of(side))
    for _ in range(2):
        with pytest.raises(Repositioned) as moved:
            await sink.write(numbered(1))
        assert moved.value.bookmark["length"] == side.path.stat().st_size == 0
        assert (await sink.write(numbered(1)))["length"] == side.path.stat().st_size == size_of(numbered(1))
        side.path.rename(side.path.with_name("away"))
    sink.close()


async def test_moved_away_and_a_new_file_is_begun(side: FileSide) -> None:
    """Goal: logrotate needs no signal; method: move the file while the sink runs, with and without one in its place."""
    async with Pump(side).running() as pump:
        await pump.write(numbered(1))
        side.path.rename(side.folder / "a")
        await pump.write(numbered(2))
        side.path.rename(side.folder / "b")
        side.path.touch(0o640)
        await pump.write(numbered(3))
    assert [read_lines(side.folder / n) for n in ("a", "b", "audit.jsonl")] == [
        expected(numbered(n)) for n in (1, 2, 3)
    ]
    assert side.path.stat().st_mode & 0o777 == 0o640, "a file that others made keeps its mode"


async def test_copied_and_truncated(side: FileSide) -> None:
    """Goal: logrotate's copytruncate leaves no hole; method: truncate while the sink runs."""
    async with Pump(side).running() as pump:
        await pump.write(numbered(1))
        os.truncate(side.path, 0)
        await pump.write(numbered(2))
    assert await side.arrived() == expected(numbered(2))


async def test_what_was_there_stays(side: FileSide) -> None:
    """Goal: an existing file is added to, its open last line ended; method: a file of somebody, then one that somebody adds to."""
    side.path.write_bytes(b"old\nnot ended")
    async with Pump(side).running() as pump:
        await pump.write(numbered(1))
        with side.path.open("ab") as file:
            file.write(b"a note")
        await pump.write(numbered(2))
    lines = side.path.read_bytes().splitlines()
    assert lines[:2] == [b"old", b"not ended"]
    assert lines[2 + BATCH] == b"a note"
    assert [json.loads(line)["id"] for line in lines[2 : 2 + BATCH] + lines[3 + BATCH :]] == [
        event for event, _ in expected(numbered(1), numbered(2))
    ]


async def test_a_file_that_looks_like_ours_is_not_cut(side: FileSide) -> None:
    """Goal: nobody's bytes are cut off; method: the bookmarked empty file is replaced by somebody's, with whatever inode."""
    pump = Pump(side)
    async with side.open(pump.position) as sink:
        with pytest.raises(Repositioned) as moved:
            await sink.write(numbered(1))
    pump.keep(Seq(0), moved.value.bookmark)
    side.path.write_bytes(b"somebody's\n")
    async with pump.running():
        await pump.write(numbered(1))
    assert side.path.read_bytes().startswith(b"somebody's\n{")


async def test_known_by_what_stands_in_it_after_a_copy_to_another_disk(side: FileSide) -> None:
    """Goal: moving to another machine keeps exactly-once; method: a torn file is replaced by its copy, which has another inode."""
    pump = Pump(side)
    async with pump.running():
        await pump.write(numbered(1))
        await pump.try_write(numbered(2))
    copy = side.path.with_name("copy")
    copy.write_bytes(side.path.read_bytes()[:-7])
    assert copy.stat().st_ino != side.path.stat().st_ino
    copy.replace(side.path)
    async with pump.running():
        await pump.write(numbered(2))
    assert await side.arrived() == expected(numbered(1), numbered(2))


async def test_a_file_much_newer_than_the_state_is_not_cut(side: FileSide) -> None:
    """Goal: a journal from an old backup destroys nothing; method: more bytes behind the bookmark than a batch can have."""
    pump = Pump(side)
    async with pump.running():
        await pump.write(numbered(1))
    more = 4 * int(options_of(side).batch.bytes) + TORN_MARGIN + 1
    os.truncate(side.path, side.path.stat().st_size + more)
    size = side.path.stat().st_size
    async with pump.running():
        for _ in range(2):
            with pytest.raises(ConfigError, match="the state folder is older than the file"):
                await pump.try_write(numbered(2))
        assert side.path.stat().st_size == size
        side.path.rename(side.path.with_name("away"))
        await pump.write(numbered(2))
    assert await side.arrived() == expected(numbered(2))


async def test_one_file_has_one_writer(side: FileSide) -> None:
    """Goal: two sinks cannot tear each other's lines; method: a second sink on the same file, which goes on when the first is gone."""
    other = Pump(side)
    async with other.running():
        async with Pump(side).running() as pump:
            await pump.write(numbered(1))
            with pytest.raises(ConfigError, match="give each its own file"):
                await other.try_write(numbered(2))
        await other.write(numbered(2))
    assert await side.arrived() == expected(numbered(1), numbered(2))


async def test_links_are_followed(tmp_path: Path) -> None:
    """Goal: a link stays a link, also when its file is rotated, and a link that is turned elsewhere is followed; method: do both."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    side = FileSide(tmp_path, rotate={"size": "1KiB"})
    side.path.symlink_to(tmp_path / "here" / "data")
    async with Pump(side).running() as pump:
        await pump.write(numbered(1))
        await pump.write(numbered(2))
        side.path.unlink()
        side.path.symlink_to(tmp_path / "there" / "data")
        await pump.write(numbered(3))
    assert side.path.is_symlink()
    found = [read_lines(tmp_path / name) for name in ("here/data.1", "here/data", "there/data")]
    assert found == [expected(numbered(n)) for n in (1, 2, 3)]


# --- rotation --------------------------------------------------------------------------------------------------------


async def test_rotation_by_size(tmp_path: Path) -> None:
    """Goal: no file is larger than asked, none is cut inside of a batch, `keep` are kept; method: a size that two batches fit into."""
    limit = max(size_of(numbered(n), numbered(n + 1)) for n in range(1, 9))
    assert limit < min(size_of(*map(numbered, (n, n + 1, n + 2))) for n in range(1, 8))
    side = FileSide(tmp_path, rotate={"size": limit, "keep": 2})
    async with Pump(side).running() as pump:
        for number in range(1, 10):
            await pump.write(numbered(number))
    assert set(files_in(tmp_path)) == {"audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"}
    assert max(files_in(tmp_path).values()) <= limit
    assert await side.arrived() == expected(*map(numbered, range(5, 10)))


async def test_rotation_by_age_counts_from_when_the_file_was_begun(tmp_path: Path) -> None:
    """Goal: a restart does not make a file young; method: a clock in the test's hand."""
    side = FileSide(tmp_path, rotate={"age": "1h"})
    position = NEW
    for at, files in ((0, 1), (3599, 1), (3600, 2), (7199, 2), (7200, 3)):
        sink = FileSink(options_of(side), context_of(side, position), clock=partial(float, 1000 + at))
        for _ in range(3):
            try:
                position = SinkPosition(Seq(0), await sink.write(numbered(1)), NAME)
                break
            except Repositioned as moved:
                position = SinkPosition(Seq(0), moved.bookmark, NAME)
        sink.close()
        assert len(files_in(tmp_path)) == files, f"after {at} s"


def test_shifting_stops_at_the_first_gap() -> None:
    """Goal: a crash half-way pushes out nothing; method: numbers that are taken, and the renames that follow."""
    assert plan_shift(set(), 3) == []
    assert plan_shift({1}, 3) == [(1, 2)]
    assert plan_shift({1, 2}, 3) == [(2, 3), (1, 2)]
    assert plan_shift({1, 2, 3}, 3) == [(2, 3), (1, 2)]
    assert plan_shift({2, 3}, 3) == []
    assert plan_shift({1, 3}, 3) == [(1, 2)]
    assert plan_shift({1}, 1) == []


def test_only_our_own_numbers_are_removed() -> None:
    """Goal: a smaller `keep` deletes what it leaves over, and no file that is called by its date; method: examples."""
    assert plan_removal({1, 2, 3, 4, 5}, 3) == [5, 4]
    assert plan_removal({1, 2, 3, 20260131}, 3) == []
    assert plan_removal({5, 6}, 3) == []
    assert plan_removal({4}, 3) == [4]


async def test_a_smaller_keep_deletes_what_is_left_over(tmp_path: Path) -> None:
    """Goal: `keep` is kept after it was made smaller, and other files stay; method: rotate with 4, then with 2."""
    (tmp_path / "audit.jsonl.20260131").write_text("by date")
    (tmp_path / "audit.jsonl.1.gz").write_text("packed")
    position = NEW
    for keep, first in ((4, 1), (2, 7)):
        side = FileSide(tmp_path, rotate={"size": "1KiB", "keep": keep})
        pump = Pump(side)
        pump.position = position
        async with pump.running():
            for number in range(first, first + 6):
                await pump.write(numbered(number))
        position = pump.position
    names = {"audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.20260131", "audit.jsonl.1.gz"}
    assert set(files_in(tmp_path)) == names
    assert await side.arrived() == expected(*map(numbered, (10, 11, 12)))


# --- what the world can do to it -------------------------------------------------------------------------------------


def test_a_full_disk_holds_and_heals(tmp_path: Path) -> None:
    """Goal: a full disk loses nothing, leaves no half line, and says so; method: a small disk that is really full."""
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        sys.executable,
        "-m",
        "tests.file_on_full_disk",
        str(tmp_path),
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here to mount a small disk with")
    if done.returncode != 0 and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no small disk can be mounted here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["complete"] is True
    assert len(result["refused"]) == 3
    assert all(sentence.startswith("disk full: sinks.out.path: ") for sentence in result["refused"])
    assert all(size == known for size, known in result["lengths"]), "the half-written batch was taken back"


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, RetryableError, "disk full: sinks.out.path"),
        (errno.EDQUOT, RetryableError, "disk full: sinks.out.path"),
        (errno.EIO, RetryableError, "cannot write /a"),
        (errno.ESTALE, RetryableError, "cannot write /a"),
        (errno.EMFILE, RetryableError, "cannot write /a"),
        (errno.EACCES, ConfigError, "let this user write there"),
        (errno.EROFS, ConfigError, "let this user write there"),
        (errno.ENOENT, ConfigError, "create its folder"),
        (errno.EISDIR, ConfigError, "give another path"),
        (errno.EFBIG, ConfigError, "set rotate.size"),
    ],
)
def test_every_error_has_its_verdict(number: int, kind: type[StreamerError], words: str) -> None:
    """Goal: what passes by itself is retried, what an operator must mend is held; method: the errors by number."""
    found = verdict(OSError(number, os.strerror(number)), "sinks.out.path", "/a")
    assert type(found) is kind
    assert words in str(found)
    assert "/a" in str(found)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def make_dangling_folder(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere" / "file")


def make_nothing_in_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_folder, "is a folder, which cannot be cut to a length; give a regular file, or use type: stdout"),
        (make_pipe, "is a pipe, which"),
        (make_device, "is a device, which"),
        (make_dangling_folder, "create"),
        (make_nothing_in_a_file, "there is no folder"),
    ],
)
async def test_places_that_cannot_be_written(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    """Goal: one sentence with the mend, when opening, when probing, and when it came to be so later; method: odd things in the file's place."""
    folder = tmp_path / "logs"
    folder.mkdir()
    side = FileSide(folder)
    sink = FileSink(options_of(side), context_of(side))
    make(side.path)
    for attempt in (check_place, lambda o, c: asyncio.run(probe_file(o, c))):
        with pytest.raises(ConfigError, match=words):
            await asyncio.to_thread(attempt, options_of(side), context_of(side))
    with pytest.raises(ConfigError) as refused:
        await sink.write(numbered(1))
    assert "sinks.out.path" in str(refused.value)
    sink.close()


async def test_a_place_that_is_mended_heals(side: FileSide) -> None:
    """Goal: a held sink goes on by itself; method: a folder in the file's place, then none."""
    async with Pump(side).running() as pump:
        side.path.mkdir()
        with pytest.raises(ConfigError):
            await pump.try_write(numbered(1))
        side.path.rmdir()
        await pump.write(numbered(1))
    assert await side.arrived() == expected(numbered(1))


async def test_opening_and_probing_leave_no_trace(side: FileSide) -> None:
    """Goal: `check` changes nothing; method: open and probe without a write, before and after there is a file."""
    assert "will be created" in await probe_file(options_of(side), context_of(side))
    async with Pump(side).running():
        pass
    assert files_in(side.folder) == {}
    async with Pump(side).running() as pump:
        await pump.write(numbered(1))
    before = side.path.stat()
    assert f"{before.st_size} bytes" in await probe_file(options_of(side), context_of(side))
    assert side.path.stat() == before


@pytest.mark.parametrize("mode", ["0600", "0640", 0o640])
async def test_mode_whatever_the_umask(tmp_path: Path, mode: object) -> None:
    """Goal: a log of who did what is not for everybody, and has the mode that was asked for; method: wide and narrow umasks."""
    for umask in (0o000, 0o077):
        side = FileSide(tmp_path / f"{umask:03o}", mode=mode)
        side.folder.mkdir()
        before = os.umask(umask)
        try:
            async with Pump(side).running() as pump:
                await pump.write(numbered(1))
        finally:
            os.umask(before)
        assert side.path.stat().st_mode & 0o777 == (0o600 if mode == "0600" else 0o640)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "0666"}, "'0600' or '0640'"),
        ({"rotate": {}}, "give size, age or both"),
        ({"rotate": {"size": "10"}}, "greater than or equal to 1024"),
        ({"rotate": {"size": "1MiB", "keep": 0}}, "greater than or equal to 1"),
        ({"rotate": {"age": "0s"}}, "must be longer than 0"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Goal: mistakes are found in the configuration; method: one each."""
    with pytest.raises(ValidationError, match=words):
        options_of(FileSide(tmp_path, **options))


async def test_a_bookmark_of_somebody_else_is_none(side: FileSide) -> None:
    """Goal: odd bookmarks are no crash; method: those of other sinks and of other versions."""
    side.path.write_bytes(b"there\n")
    for bookmark in (
        {},
        {"taken": 3},
        {"path": 1, "inode": "x"},
        {"path": "a", "inode": 1, "length": -5, "crc": 0, "since": 0},
    ):
        pump = Pump(side)
        pump.position = SinkPosition(Seq(0), bookmark, NAME)
        async with pump.running():
            await pump.write(numbered(1))
    assert side.path.read_bytes() == b"there\n" + b"".join(body + b"\n" for _, body in expected(numbered(1))) * 4


def test_what_can_be_torn() -> None:
    """Goal: a torn tail is the beginning of what is written next, or the other way round; method: examples."""
    assert is_torn(b"", b"ab\n")
    assert is_torn(b"a", b"ab\n")
    assert is_torn(b"ab\ncd\n", b"ab\n")
    assert not is_torn(b"b", b"ab\n")


def test_a_write_that_a_signal_cuts_short_goes_on_where_it_ended() -> None:
    """Goal: the kernel may take less than it was given, and no byte is left out or written twice; method: a pipe that is full, a signal meanwhile, and a
    reader that begins after it."""
    reading, writing = os.pipe()
    bodies = [b"%d " % n + b"x" * (n % 700) for n in range(3 * LINES_PER_WRITE)]
    interrupted = threading.Event()
    found = bytearray()

    def read() -> None:
        interrupted.wait(10)
        while data := os.read(reading, 1 << 16):
            found.extend(data)

    before = signal.signal(signal.SIGUSR1, lambda *_: interrupted.set())
    reader = threading.Thread(target=read)
    killer = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    reader.start()
    killer.start()
    try:
        written = write_lines(writing, bodies)
    finally:
        os.close(writing)
        reader.join()
        killer.join()
        os.close(reading)
        signal.signal(signal.SIGUSR1, before)
    assert interrupted.is_set(), "the write was really interrupted"
    assert bytes(found) == b"".join(body + b"\n" for body in bodies)
    assert written == len(found)


@pytest.mark.parametrize("before", [b"", b"open", b"x" * 2 * TAIL])
def test_the_end_of_a_file_is_known_without_reading_it(before: bytes) -> None:
    """Goal: what the mark is made of is what stands there; method: bodies from none to more than a tail, beside the whole text."""
    for bodies in ([], [b""], [b"", b"a"], [b"a" * (TAIL - 1)], [b"a" * TAIL], [b"b" * 100] * 100):
        whole = before + b"".join(body + b"\n" for body in bodies)
        assert last_of(before, bodies) == whole[-TAIL:]
