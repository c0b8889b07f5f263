"""What the comparison with others counts, without the others."""

import gzip
from pathlib import Path

from bench.peers.grove import lines_of
from bench.peers.outcome import Outcome, compare
from bench.peers.peer import made


def test_lost_repeated_and_foreign_are_told_apart() -> None:
    """A consumer has one event three times, one that nobody knows twice, and not the third of the truth."""
    found = compare(["a", "b", "c"], ["b", "x", "a", "b", "x", "b"])
    assert found == Outcome(wanted=3, lost=1, repeated=3, foreign=1)
    assert str(found) == "1 lost, 3 repeated, 1 foreign"


def test_nothing_lost_and_nothing_twice() -> None:
    """The order does not matter, and two such outcomes add up."""
    found = compare(["a", "b"], iter(["b", "a"]))
    assert found == Outcome(2, 0, 0, 0)
    assert found + compare(["a"], []) == Outcome(3, 1, 0, 0)
    assert str(found) == "0 lost, 0 repeated"


def test_a_file_that_a_kill_cut_short_holds_nothing(tmp_path: Path) -> None:
    """A gzip file is read whole, then without its end, then empty, as no consumer could read it."""
    path, whole = tmp_path / "part.json.gz", gzip.compress(b'{"id":"a"}\r\n{"id":"b"}')
    path.write_bytes(whole)
    assert lines_of(path) == [b'{"id":"a"}', b'{"id":"b"}']
    for size in (len(whole) - 5, 12, 0):
        path.write_bytes(whole[:size])
        assert lines_of(path) == []


def test_a_program_is_made_anew_only_when_its_sources_change(tmp_path: Path) -> None:
    """The same sources twice, then others; and a making that failed is done again."""
    source, folder = tmp_path / "requirements.txt", tmp_path / "made"
    source.write_text("one")
    with made(folder, [source]) as stale:
        assert stale
        (folder / "program").write_text("built")
    with made(folder, [source]) as stale:
        assert not stale
    source.write_text("two")
    for _ in range(2):
        try:
            with made(folder, [source]) as stale:
                assert stale
                assert not (folder / "program").exists()
                raise OSError("no room")
        except OSError:
            pass
