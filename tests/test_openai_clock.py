"""A wrong clock of ours is noticed by the Date of the API's answers, and nothing else is taken for one."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from streamer.errors import RetryableError
from streamer.sources.openai_api import ServerClock
from streamer.telemetry import Telemetry, steady_clock
from tests.openai_world import asking, get
from tests.wire import reply, script

NOW = 1_800_000_000.0


def dated(at: float, **more: str) -> dict[str, str]:
    return {"Date": format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True), **more}


def clock_after(*readings: tuple[dict[str, str], float]) -> float:
    """The offset after answers that took the given seconds, the request always being sent at NOW."""
    clock = ServerClock(lambda: NOW)
    for headers, seconds in readings:
        clock.observe(headers, NOW, NOW + seconds)
    assert clock.now() == NOW + clock.offset
    return clock.offset


@pytest.mark.parametrize("ahead", [-86_400, -3600, -5, 5, 60, 3600, 1_000_000])
def test_a_wrong_clock_is_corrected(ahead: int) -> None:
    """Goal: now() is upstream's time to within a second. Method: a Date that is ahead by more than its precision."""
    assert abs(clock_after((dated(NOW + ahead), 0.1)) - ahead) <= 1


@pytest.mark.parametrize("ahead", [-2, -1, 0, 1, 2])
def test_a_clock_that_may_be_right_is_left_alone(ahead: int) -> None:
    """Goal: no correction for what the Date's whole seconds and the way can explain. Method: small differences, fast and slow answers."""
    assert clock_after((dated(NOW + ahead), 0.1)) == 0
    assert clock_after((dated(NOW + ahead), 20.0)) == 0


def test_a_slow_answer_is_no_wrong_clock() -> None:
    """Goal: time on the way is not taken for a difference. Method: an answer of 20 s whose Date is of its beginning, or of its end."""
    assert clock_after((dated(NOW), 20.0)) == 0
    assert clock_after((dated(NOW + 19), 20.0)) == 0
    assert clock_after((dated(NOW + 3600), 20.0), (dated(NOW + 3600), 0.1)) == pytest.approx(3600.45)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Date": ""},
        {"Date": "yesterday"},
        {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"},
        {"Date": "Sun, 99 Nov 2026 08:49:37 GMT"},
        dated(NOW - 3600, Age="3600"),
    ],
)
def test_no_date_that_can_be_believed_is_no_correction(headers: dict[str, str]) -> None:
    """Goal: a missing, absurd or cached Date changes nothing. Method: each."""
    assert clock_after((headers, 0.1)) == 0


def test_one_odd_answer_does_not_move_the_clock() -> None:
    """Goal: a single contradicting machine is not believed, a lasting change is. Method: one odd Date among good ones; two that agree."""
    good, odd, other = (dated(NOW), 0.1), (dated(NOW + 500), 0.1), (dated(NOW - 900), 0.1)
    assert clock_after(good, odd) == 0
    assert clock_after(good, odd, good, odd) == 0
    assert clock_after(good, odd, other, odd) == 0
    assert clock_after(good, odd, odd) == pytest.approx(500, abs=1)
    assert clock_after(odd, good, good) == 0


async def test_the_correction_comes_from_good_answers_only() -> None:
    """Goal: now() follows the API's Date, not that of an error page, and the skew is a metric. Method: a 502 and a 200 with Dates."""
    telemetry = Telemetry(lambda: NOW)
    wrong, right = dated(NOW + 9000)["Date"], dated(NOW + 3600)["Date"]
    async with asking(script(reply("x", 502, Date=wrong), reply("{}", Date=right)), telemetry) as (api, _):
        assert api.now() == NOW
        with pytest.raises(RetryableError):
            await get(api)
        assert api.now() == NOW
        await get(api)
        assert api.now() == pytest.approx(NOW + 3600, abs=1)
    skew = telemetry.registry.get_sample_value("streamer_source_clock_skew_seconds", {"source": "acme"})
    assert skew == pytest.approx(3600, abs=1)


async def test_a_step_of_our_clock_is_not_taken_for_the_time_at_upstream() -> None:
    """Goal: somebody sets the clock, and no watermark follows; it is said as skew. Method: the wall clock an hour ahead after the first answer."""
    wall = [NOW]
    telemetry = Telemetry(lambda: wall[0], steady=steady_clock(lambda: NOW, lambda: 5.0))
    async with asking(lambda _: reply("{}", Date=dated(NOW)["Date"]), telemetry) as (api, _):
        await get(api)
        assert api.now() == NOW
        wall[0] += 3600
        assert api.now() == NOW
        await get(api)
        assert api.now() == NOW
    skew = telemetry.registry.get_sample_value("streamer_source_clock_skew_seconds", {"source": "acme"})
    assert skew == -3600
