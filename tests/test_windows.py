"""What to ask next: pure decisions, held against models by hypothesis."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import Recheck
from streamer.model import Progress, Window
from streamer.windows import (
    LONGEST_SLICE_S,
    MAX_SLICE_EVENTS,
    SLICE_EVENTS,
    Density,
    Overlap,
    Slicer,
    due_rechecks,
    expected,
    expected_events,
    is_behind,
    is_too_large,
    live_window,
    longest_reach_s,
    reach,
    reach_back,
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


@given(
    start=st.integers(0, 10_000),
    length=st.integers(1, 2_000_000),
    walkers=st.integers(1, 8),
    bursts=st.dictionaries(st.integers(0, 2_000_000), st.integers(1, 40_000), max_size=12),
    newest_first=st.booleans(),
    dice=st.randoms(use_true_random=False),
)
def test_slices_tile_the_range_whatever_the_density(
    start: int, length: int, walkers: int, bursts: dict[int, int], newest_first: bool, dice: random.Random
) -> None:
    """Nothing is left out or walked twice as a result; method: walk a model of events per second in any order, page by page, narrowing where
    that is asked, at times to share, and splitting what is too large."""
    slicer = Slicer(start, start + length, walkers)
    done: list[Window] = []
    for _ in range(200_000):
        window = slicer.take()
        if window is None:
            break
        assert window.end is not None
        inside = [start + at for at in sorted(bursts, reverse=newest_first) if window.start <= start + at < window.end]
        times: list[int] = []
        for at in inside:
            if at < window.start:
                continue  # as upstream leaves out what is not asked for any more
            times += [at] * bursts[at - start]
            narrowed = slicer.narrow(window, times, share=dice.random() < 0.3)
            assert window.start <= narrowed <= min(times), "what was seen stays"
            window = Window(narrowed, window.end)
            if is_too_large(window, times, MAX_SLICE_EVENTS, guess=dice.random() < 0.3):
                slicer.too_large(window, len(times))
                break
        else:
            slicer.found(window, times)
            done.append(window)
    assert not slicer.more
    done.sort(key=lambda w: w.start)
    assert done[0].start == start
    assert done[-1].end == start + length
    assert all(a.end == b.start for a, b in pairwise(done))


def test_slices_find_the_density() -> None:
    """At a steady rate, slices come to hold about what they should; method: 2 events a second, far from the end."""
    slicer = Slicer(0, 10_000_000)
    counts = []
    for _ in range(20):
        window = slicer.take()
        assert window is not None
        assert window.end is not None
        counts.append(2 * (window.end - window.start))
        slicer.found(window, list(range(window.start, window.end)) * 2)
    assert counts[-1] == pytest.approx(SLICE_EVENTS, abs=2)


def test_too_much_is_guessed_from_the_newest() -> None:
    """Goal: a walk gives up as soon as it is likely that it must, and one that comes in another order only when it must. Method: a page of the newest
    tenth, of the whole, without times, of an open window and of one second."""
    window = Window(1000, 2000)
    newest, spread, unreadable = list(range(1999, 1899, -1)), list(range(1000, 2000, 10)), [0] * 100
    assert [expected_events(window, times) for times in (newest, spread, unreadable)] == [1000, 100, 100]
    assert expected_events(window, list(range(1499, 1399, -1))) == 166, "the window's end is covered, too"
    assert expected_events(Window(1000, None), [1499, 1400]) == 10, "an open window ends at its newest event"
    assert is_too_large(window, newest, 1000)
    assert not is_too_large(window, newest, 2000)
    assert not is_too_large(window, newest[:99], 1000)
    assert not is_too_large(window, spread, 140)
    assert is_too_large(window, spread, 99)
    assert not is_too_large(window, newest, 1000, guess=False)
    assert is_too_large(window, newest, 99, guess=False)
    assert is_too_large(Window(1000, None), newest, 1000)
    assert not is_too_large(Window(1999, 2000), [1999] * 100_000, 10)


def test_silence_widens_slices_up_to_a_limit() -> None:
    """Years of nothing cost few requests; method: empty walks over ten years."""
    slicer, walks = Slicer(0, 10 * 365 * 86_400), 0
    while (window := slicer.take()) is not None:
        assert window.end is not None
        assert window.end - window.start <= LONGEST_SLICE_S
        slicer.found(window, [])
        walks += 1
    assert walks < 140


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


@pytest.mark.parametrize(
    ("walks", "width_s"),
    [
        ([(3600, 0)], 4 * 3600),
        ([(3600, 1)], 4 * 3600),
        ([(3600, SLICE_EVENTS)], 3600),
        ([(3600, 100 * SLICE_EVENTS)], 36),
        ([(3600, 100 * SLICE_EVENTS), (36, SLICE_EVENTS)], 36),
        ([(3600, 100 * SLICE_EVENTS), *[(36, 1)] * 7], 38),
        ([(3600, 100 * SLICE_EVENTS), *[(36, 1)] * 8], 4 * 36),
        ([(10, 0), (36, 0), (10, 0)], 4 * 36),
        ([(1, 10_000)], 1),
        ([(LONGEST_SLICE_S, 0)], LONGEST_SLICE_S),
        ([(LONGEST_SLICE_S, 1)], LONGEST_SLICE_S),
    ],
)
def test_the_width_of_the_next_slice(walks: list[tuple[int, int]], width_s: int) -> None:
    """Goal: slices hold about SLICE_EVENTS, by the last eight, and widen with care; method: (width, events) of walks, one after the other."""
    slicer = Slicer(10**8, 10**9)
    for width, events in walks:
        slicer.found(Window(500, 500 + width), [500] * events)
    window = slicer.take()
    assert window is not None
    assert window.end == 10**8 + width_s


def at(*hours: float) -> list[int]:
    return [int(hour * 3600) for hour in hours]


@pytest.mark.parametrize(("hour", "quiet_hours"), [(7, 1), (20, 12)], ids=["before day", "in the evening"])
def test_an_hour_is_expected_to_be_like_the_week_before(hour: int, quiet_hours: int) -> None:
    """Goal: quiet nights get wide slices and busy days narrow ones, from the second week on; method: a week of 300 events an hour by day and 10 by night, and
    a slice that begins so many hours before day."""
    slicer = Slicer(at(7 * 24 + hour)[0], 10**7)
    for walked in range(7 * 24 + hour):
        busy = 8 <= walked % 24 < 20
        slicer.found(Window(*at(walked, walked + 1)), at(*[walked + 0.5] * (300 if busy else 10)))
    window = slicer.take()
    assert window is not None
    assert window.end is not None
    # Half an event more an hour: no count tells that for sure.
    by_day_s = 3600 * (SLICE_EVENTS - quiet_hours * 10.5) / 300.5
    assert window.end - window.start == pytest.approx(quiet_hours * 3600 + by_day_s, abs=2)


def test_half_an_hour_tells_what_an_hour_holds_and_less_does_not() -> None:
    """Goal: what was not walked is not taken for quiet; method: an hour of which a half, or more, was walked."""
    half, more = Density(), Density()
    half.add(Window(0, 1800), [10] * 90)
    more.add(Window(0, 1000), [10] * 50)
    more.add(Window(1000, 1801), [1010] * 40)
    assert not half.knows(168)
    assert more.knows(168)
    assert not more.knows(169)
    assert half.rate(0.25)(168) == 0.25
    assert more.rate(0.25)(168) == 90.5 / 1801
    assert more.rate(0.25, scale=3.0)(168) == 3 * 90.5 / 1801


def test_only_a_week_is_remembered() -> None:
    """Goal: memory does not grow with the range; method: a year, hour by hour, and at once."""
    bit, whole = Density(), Density()
    for hour in range(366 * 24):
        bit.add(Window(*at(hour, hour + 1)), [])
    whole.add(Window(0, 366 * 86_400), [])
    for density in (bit, whole):
        assert len(density._hours) <= 400
        assert all(density.knows(hour) for hour in range(366 * 24, 366 * 24 + 168))


@pytest.mark.parametrize(
    ("seen", "before"),
    [(200, 101 * 200 / 200.5), (401, 202), (101, 101 * 101 / 200.5), (402, 804), (99, 198)],
)
def test_what_is_left_of_a_window_is_like_the_week_before_as_long_as_it_was_like_then(seen: int, before: float) -> None:
    """Goal: a busy evening does not make the quiet day before it look busy, unless the week before tells nothing; method: 50, 50 and 200 events in three
    hours, a week later up to twice and down to half as many in the third, more, and fewer; and a first week."""
    density = Density()
    for hour, events in enumerate((50, 50, 200)):
        density.add(Window(*at(hour, hour + 1)), at(hour) * events)
    rate = density.rate_before(Window(*at(170, 171)), seen)
    assert expected(rate, *at(168, 170)) == pytest.approx(before)
    first_week = Density().rate_before(Window(*at(170, 171)), seen)
    assert expected(first_week, *at(168, 170)) == pytest.approx(2 * seen)


def test_expected_events_and_the_way_to_them() -> None:
    """Goal: `reach` and `reach_back` find what `expected` counts; method: 1, 2 and 4 events a second in hours 0, 1 and 2."""

    def rate(hour: int) -> float:
        return 2.0**hour

    start, end = at(0.5, 2.5)
    assert expected(rate, start, end) == 1800 + 7200 + 7200
    assert expected(rate, start, end, enough=1800) == 1800
    assert expected(rate, end, start) == 0
    assert reach(rate, start, end, 1800) == 3600
    assert reach(rate, start, end, 1801) == 3600, "whole seconds, rounded down"
    assert reach(rate, start, end, 1802) == 3601
    assert reach(rate, start, end, 9000 + 4) == 7201
    assert reach(rate, start, end, 10**6) == end
    assert reach(rate, start, end, 0) == start + 1, "never nothing"
    assert reach(lambda _: 0.0, start, end, 1) == end
    assert reach_back(rate, start, end, 7200) == 7200
    assert reach_back(rate, start, end, 7200 + 200) == 7100
    assert reach_back(rate, start, end, 4) == end - 1
    assert reach_back(rate, start, end, 10**6) == start
    assert reach_back(lambda _: 0.0, start, end, 1) == start


@pytest.mark.parametrize(
    ("expected", "cuts"),
    [
        (1, [10, 15, 20]),
        (2 * SLICE_EVENTS, [10, 15, 20]),
        (3 * SLICE_EVENTS, [10, 13, 16, 20]),
        (10**6, [10, 11, 12, 13, 14, 15, 16, 18, 20]),
    ],
)
def test_a_window_that_is_too_large_is_cut_evenly(expected: int, cuts: list[int]) -> None:
    """Goal: each part should hold a slice's events, none is empty, and what was known of the density before does not count any more; method:
    few, some and very many events."""
    slicer = Slicer(10**6, 10**7)
    slicer.found(Window(0, 100), [10] * 80_000)
    slicer.too_large(Window(10, 20), expected)
    assert slicer.parts == len(cuts) - 1
    assert [slicer.take() for _ in cuts[1:]] == [Window(*part) for part in pairwise(cuts)]
    assert slicer.parts == 0
    window = slicer.take()
    assert window is not None
    assert window.end == 10**6 + min(max(SLICE_EVENTS * 10 // expected, 1), 40)


def test_there_are_never_too_many_parts() -> None:
    """Goal: one window does not become thousands of requests; method: a wide one with a billion events."""
    slicer = Slicer(0, 10**7)
    slicer.too_large(Window(0, 6400), 10**9)
    assert slicer.parts == 8


def newest(events: int, window: Window, seen: int) -> list[int]:
    """The `effective_at` of the first pages of a window over which so many events are spread evenly."""
    assert window.end is not None
    return [window.end - 1 - number * (window.end - window.start) // events for number in range(seen)]


@pytest.mark.parametrize(
    ("events", "seen", "share", "kept"),
    [
        (1350, 100, False, None),
        (1410, 100, False, 900),
        (3500, 100, False, 900),
        (3610, 100, False, 200),
        (3610, 200, True, 300),
        (1700, 1000, False, 1100),
        (1590, 1000, False, None),
        (900, 100, True, 500),
        (900, 700, True, 800),
        (900, 790, True, None),
        (200, 100, True, None),
    ],
)
def test_a_walk_goes_on_with_the_newest_part(events: int, seen: int, share: bool, kept: int | None) -> None:
    """Goal: what is about to hold too much keeps what a slice should hold, and at least a page more than it has read, if the rest is worth a walk; with
    somebody to share with, half of what is left, if that is more than a page; of what is hopeless one page more. Method: events spread evenly,
    how many were seen, how many the rest of the window should hold."""
    slicer, window = Slicer(0, 10**6), Window(100_000, 200_000)
    start = slicer.narrow(window, newest(events, window, seen), share=share)
    assert window.end is not None
    if kept is None:
        assert start == window.start
        assert slicer.parts == 0
        return
    assert (window.end - start) * events / 100_000 == pytest.approx(kept, rel=0.01)
    assert slicer.parts == max(round((events - kept) / SLICE_EVENTS), 1)
    parts = [slicer.take() for _ in range(slicer.parts)]
    assert [part and part.start for part in parts] == [100_000, *(part and part.end for part in parts[:-1])]
    assert parts[-1] is not None
    assert parts[-1].end == start


def test_another_order_than_the_newest_first_is_left_alone() -> None:
    """Goal: nothing that was seen falls out of a window; method: pages whose oldest event is the window's first, or has no time that can be read."""
    slicer, window = Slicer(0, 10**6), Window(1000, 2000)
    for times in (list(range(1000, 2000)) * 3, [1999] * 2000 + [1000], [0] * 3000):
        assert slicer.narrow(window, times, share=True) == 1000
    assert slicer.narrow(Window(1000, 1001), [1000] * 3000) == 1000
    assert slicer.parts == 0


def test_a_time_that_cannot_be_read_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: one odd event does not make every page of a walk wait for a sum over all hours since 1970; method: a page that has one, and sums that fail."""
    monkeypatch.setattr("streamer.windows.expected", None)
    slicer, window = Slicer(NOW, NOW + 10**6), Window(NOW, NOW + 86_400)
    assert slicer.narrow(window, [*range(NOW + 86_399, NOW + 86_300, -1), 0], share=True) == NOW


def test_slices_get_narrower_at_the_end() -> None:
    """Goal: walkers that work at once finish at once; method: five of them over a thousand seconds of a known density."""
    slicer = Slicer(0, 1000, walkers=5)
    slicer.found(Window(0, 100), [0] * SLICE_EVENTS)
    widths = []
    while window := slicer.take():
        assert window.end is not None
        widths.append(window.end - window.start)
    assert sum(widths) == 1000
    assert widths[:8] == [100, 100, 100, 100, 100, 100, 80, 64]
    assert widths == sorted(widths, reverse=True)
    assert all(width >= 33 for width in widths[:-1])


def test_decades_without_an_event_cost_few_requests() -> None:
    """Goal: `start: 1970-01-01` is no harm; method: 57 empty years, walked one slice after the other."""
    slicer, walks = Slicer(0, 1_800_000_000, 8), 0
    while (window := slicer.take()) is not None:
        slicer.found(window, [])
        walks += 1
    assert walks < 120
