"""The planner of a catch-up, in virtual time: no machine is too slow for these figures."""

import pytest

from bench.planner import FAST, SLOW, Machine, catch_up, histories


def test_eight_requests_at_once_are_nearly_always_under_way() -> None:
    """Goal: 50,000 events at 50 ms a page come at 85 % of what eight requests can bring, and a tenth more requests than full pages would need at most. Method:
    the simulator's history of a month, walked in virtual time with what a processor and a disk take on a fast machine."""
    outcome = catch_up(histories(1, 50_000, 30), 31, 0.05, FAST)
    assert outcome.ideal > 0.86
    assert outcome.at_once > 7.7
    assert outcome.fewest_requests <= outcome.requests < 1.1 * outcome.fewest_requests


@pytest.mark.parametrize("machine", [FAST, SLOW])
def test_a_slow_processor_is_the_limit_where_there_is_no_latency(machine: Machine) -> None:
    """Goal: neither walking nor storing keeps the processor waiting; method: pages that take no time, and what the processor does for all of them."""
    told = histories(1, 10_000, 30)
    outcome = catch_up(told, 31, 1e-6, machine)
    took_s = 10_000 / (outcome.ideal * 8 * 100 / 1e-6)
    processor_s = outcome.requests * machine.page + 10_000 * machine.event
    assert processor_s <= took_s < 1.15 * processor_s
