"""A long range in slices: pure decisions, held against a model by hypothesis."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import Window
from streamer.slices import (
    HOUR,
    LONGEST_SLICE_S,
    MAX_SLICE_EVENTS,
    SLICE_EVENTS,
    Density,
    Slicer,
    expected,
    expected_events,
    is_too_large,
    reach,
    reach_back,
)

NOW = 1_700_000_000


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
    slicer = Slicer(start, start + length)
    done: list[Window] = []
    for _ in range(200_000):
        window = slicer.take(walkers if dice.random() < 0.9 else 1)
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


@pytest.mark.parametrize(
    ("range_s", "width_s"),
    [
        (1800, 1800),
        (16 * HOUR, HOUR),
        (64 * HOUR, 4 * HOUR),
        (256 * HOUR, 16 * HOUR),
        (10_000 * HOUR, 16 * HOUR),
    ],
)
def test_the_first_slice_is_a_small_part_of_the_range(range_s: int, width_s: int) -> None:
    """Goal: walkers that begin at once and know nothing do not give out most of a short range; method: its first slice, no walk done."""
    assert Slicer(10**9, 10**9 + range_s).take() == Window(10**9, 10**9 + width_s)


def test_silence_widens_slices_up_to_a_limit() -> None:
    """Years of nothing cost few requests; method: empty walks over ten years."""
    slicer, walks = Slicer(0, 10 * 365 * 86_400), 0
    while (window := slicer.take()) is not None:
        assert window.end is not None
        assert window.end - window.start <= LONGEST_SLICE_S
        slicer.found(window, [])
        walks += 1
    assert walks < 140


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
    monkeypatch.setattr("streamer.slices.expected", None)
    slicer, window = Slicer(NOW, NOW + 10**6), Window(NOW, NOW + 86_400)
    assert slicer.narrow(window, [*range(NOW + 86_399, NOW + 86_300, -1), 0], share=True) == NOW


def test_slices_get_narrower_at_the_end() -> None:
    """Goal: walkers that work at once finish at once; method: five of them over a thousand seconds of a known density."""
    slicer = Slicer(0, 1000)
    slicer.found(Window(0, 100), [0] * SLICE_EVENTS)
    widths = []
    while window := slicer.take(5):
        assert window.end is not None
        widths.append(window.end - window.start)
    assert sum(widths) == 1000
    assert widths[:8] == [100, 100, 100, 100, 100, 100, 80, 64]
    assert widths == sorted(widths, reverse=True)
    assert all(width >= 33 for width in widths[:-1])


def test_slices_stay_wide_where_nobody_has_to_finish() -> None:
    """Goal: no pages that are half empty while another listing has enough to do for all; method: as above, with one walker that may finish alone."""
    slicer = Slicer(0, 1000)
    slicer.found(Window(0, 100), [0] * SLICE_EVENTS)
    widths = []
    while window := slicer.take():
        assert window.end is not None
        widths.append(window.end - window.start)
    assert widths == [100] * 10


def test_decades_without_an_event_cost_few_requests() -> None:
    """Goal: `start: 1970-01-01` is no harm; method: 57 empty years, walked one slice after the other."""
    slicer, walks = Slicer(0, 1_800_000_000), 0
    while (window := slicer.take(8)) is not None:
        slicer.found(window, [])
        walks += 1
    assert walks < 120
