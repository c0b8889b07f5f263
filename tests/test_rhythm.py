"""How often a listing usually has an event."""

from streamer.rhythm import DAYS, Rhythm

HOUR = 1_750_000_000 // 3600
NOW = HOUR * 3600 + 1800.0


def test_the_gap_is_that_of_this_hour_of_the_day() -> None:
    """Goal: a quiet night is no alarm, a quiet noon is; method: 90 events an hour around this hour, one an hour otherwise."""
    rhythm = Rhythm()
    for hour in range(HOUR - 24 * DAYS, HOUR):
        busy = (hour - HOUR) % 24 in (23, 0, 1)
        rhythm.add([hour * 3600 + n for n in range(90 if busy else 1)])
    assert rhythm.usual_gap(NOW) == 40
    night = rhythm.usual_gap(NOW - 12 * 3600)
    assert night == 3600


def test_too_few_events_say_nothing() -> None:
    """Goal: no guess; method: none, then four, then five events in the hour before."""
    rhythm = Rhythm()
    assert rhythm.usual_gap(NOW) is None
    rhythm.add([(HOUR - 1) * 3600] * 4)
    assert rhythm.usual_gap(NOW) is None
    rhythm.add([(HOUR - 1) * 3600])
    assert rhythm.usual_gap(NOW) == 720


def test_what_is_older_than_a_week_is_forgotten() -> None:
    """Goal: bounded; method: a year of hours."""
    rhythm = Rhythm()
    rhythm.add(3600 * hour for hour in range(HOUR - 365 * 24, HOUR))
    rhythm.usual_gap(NOW)
    assert len(rhythm.hours) == 24 * DAYS + 1
