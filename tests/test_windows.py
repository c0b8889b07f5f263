"""What to ask next, and how far back: pure decisions."""

import pytest

from streamer.config import Recheck
from streamer.model import Progress, Window
from streamer.windows import (
    Overlap,
    due_rechecks,
    is_behind,
    live_window,
    longest_reach_s,
    with_rechecked,
)

RECHECKS = [Recheck(every="15m", window="2h"), Recheck(every="6h", window="48h")]
NOW = 1_700_000_000


def test_live_window_reaches_back_by_the_overlap_and_has_no_end() -> None:
    """Events ahead of our clock must be seen, too; method: one example and the floor at zero."""
    assert live_window(NOW, 300.0, 0) == Window(NOW - 300, None)
    assert live_window(100, 300.0, 0) == Window(0, None)


def test_nothing_reaches_back_before_start() -> None:
    """Goal: what was not asked for is not read, by no poll and no recheck; method: a listing that began an hour ago, and one that just did."""
    assert live_window(NOW, 300.0, NOW - 100) == Window(NOW - 100, None)
    begun = Progress(NOW, (NOW - 960, NOW), NOW - 3600)
    assert due_rechecks(begun, RECHECKS, NOW, 300.0) == [(0, Window(NOW - 3600, NOW - 300))]
    assert due_rechecks(Progress(NOW, (NOW - 960, NOW), NOW - 60), RECHECKS, NOW, 300.0) == [(0, None)]


def test_behind_means_more_than_a_poll_can_cover() -> None:
    """A pause of a few polls is one window, an outage is a catch-up; method: both sides of the limit."""
    assert not is_behind(NOW - 600, NOW, 300.0, 10.0)
    assert is_behind(NOW - 601, NOW, 300.0, 10.0)
    assert not is_behind(NOW - 6000, NOW, 300.0, 3600.0)


def test_a_fresh_start_owes_no_recheck() -> None:
    """All is about to be walked anyway; method: rechecked now."""
    assert due_rechecks(Progress(NOW, (NOW, NOW)), RECHECKS, NOW + 100, 300.0) == []


def test_a_due_recheck_reaches_back_from_where_it_ended() -> None:
    """Every second is walked again at the age of the window; method: the two configured ones, a minute overdue."""
    progress = Progress(NOW, (NOW - 960, NOW - 960))
    assert due_rechecks(progress, RECHECKS, NOW, 300.0) == [(0, Window(NOW - 960 - 7200, NOW - 300))]


def test_what_polls_passed_while_no_recheck_was_done_is_owed() -> None:
    """Goal: nothing is passed over, however long rechecks fail while polls go on; method: a day of that, then the shorter recheck."""
    (index, span), *_ = due_rechecks(Progress(NOW, (NOW - 86_400, NOW)), RECHECKS, NOW, 300.0)
    assert (index, span) == (0, Window(NOW - 86_400 - 7200, NOW - 300))


def test_under_a_clock_that_is_behind_no_recheck_is_due() -> None:
    """Goal: what is done never moves back, for the next one would pass over what lies between; method: two days behind, and at all."""
    progress = Progress(NOW, (NOW, NOW - 86_400))
    assert due_rechecks(progress, RECHECKS, NOW - 2 * 86_400, 300.0) == []
    assert due_rechecks(progress, RECHECKS, NOW - 1, 300.0)[0][0] == 1


def test_done_rechecks_are_remembered_each_alone() -> None:
    """Goal: marking one leaves the other, and a new one begins at the watermark."""
    assert with_rechecked(Progress(50, (10,), 7), 0, 2, 99.9) == Progress(50, (99, 50), 7)
    assert longest_reach_s(300.0, RECHECKS) == 48 * 3600 + 6 * 3600


def test_an_automatic_overlap_follows_what_was_observed() -> None:
    """Goal: wide where upstream is late, narrow where it is quick, within limits; method: latenesses, and a recheck that finds something."""
    overlap = Overlap(auto=True)
    for lateness, seconds in ((3, 60), (200, 400), (5000, 3600)):
        for _ in range(99):
            overlap.saw(lateness / 2)
        overlap.saw(lateness)
        overlap.settle()
        assert overlap.seconds == seconds, overlap.why
    for _ in range(1000):
        overlap.saw(1)
    overlap.settle()
    assert overlap.seconds == 60
    overlap.missed()
    assert overlap.seconds == 120
    overlap.settle()
    assert (overlap.seconds, overlap.why.partition(":")[0]) == (120, "auto")
    for _ in range(9):
        overlap.missed()
    assert overlap.seconds == 3600


def test_an_automatic_overlap_does_not_guess_from_few_events() -> None:
    """Goal: it begins as the default; method: 99 quick events, then the hundredth."""
    overlap = Overlap(auto=True)
    for _ in range(99):
        overlap.saw(1)
    overlap.settle()
    assert (overlap.seconds, overlap.why) == (300, "auto: too few events to say, 99 of 100")
    overlap.saw(1)
    overlap.settle()
    assert overlap.seconds == 60


def test_a_configured_overlap_stays() -> None:
    """Goal: the operator's word holds; method: late events and a recheck that finds something."""
    overlap = Overlap(30)
    for _ in range(200):
        overlap.saw(1000)
    overlap.missed()
    overlap.settle()
    assert (overlap.seconds, overlap.why) == (30, "as configured")


@pytest.mark.parametrize(
    ("overlap_s", "poll_interval_s", "limit_s"),
    [(300.0, 10.0, 600), (1.0, 1.0, 600), (600.0, 10.0, 1200), (300.0, 3600.0, 36_000)],
)
def test_how_far_is_behind(overlap_s: float, poll_interval_s: float, limit_s: int) -> None:
    """Goal: two overlaps, ten polls or ten minutes, whichever is longest; method: each of them as the longest, on both sides."""
    assert not is_behind(NOW - limit_s, NOW, overlap_s, poll_interval_s)
    assert is_behind(NOW - limit_s - 1, NOW, overlap_s, poll_interval_s)


def test_rechecks_come_in_the_order_of_their_reach_and_each_alone() -> None:
    """Goal: what is soonest late is found first, and one that is not due holds up no other; method: the longer one configured first."""
    long_first = RECHECKS[::-1]
    day = NOW - 86_400
    assert [index for index, _ in due_rechecks(Progress(NOW, (day, day)), long_first, NOW, 300.0)] == [1, 0]
    assert [index for index, _ in due_rechecks(Progress(NOW, (day, NOW)), long_first, NOW, 300.0)] == [0]


def test_the_ends_of_a_rechecks_windows() -> None:
    """Goal: it reaches back from its last end, nothing lies before 1970, and no window is empty; method: the three cases at their border."""
    just = Progress(NOW, (NOW - 7200, NOW))
    assert due_rechecks(just, RECHECKS, NOW, 300.0) == [(0, Window(NOW - 14_400, NOW - 300))]
    assert due_rechecks(Progress(5000, (100, 5000)), RECHECKS, 5000, 300.0) == [(0, Window(0, 4700))]
    assert due_rechecks(Progress(NOW, (NOW - 960, NOW), NOW - 300), RECHECKS, NOW, 300.0) == [(0, None)]
