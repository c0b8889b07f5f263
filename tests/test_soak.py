"""The judge of a long run: it sees what grows, and nothing where nothing does."""

import random
import xml.etree.ElementTree as ET

import pytest

from tests.soak.figures import FIGURES, Sample, as_csv, grown
from tests.soak.picture import picture


def an_hour(leak: float = 0.0, warm_up: float = 60.0, peaks: int = 0) -> list[Sample]:
    """Memory that fills for twenty minutes, then trembles, leaks so many MiB an hour, and has some peaks of 50 MiB."""
    chance = random.Random(1)
    high = {chance.randrange(360) for _ in range(peaks)}
    return [
        Sample(
            second := 10.0 * n,
            80 + warm_up * min(second / 1200, 1) + chance.uniform(-2, 2) + leak * second / 3600 + 50 * (n in high),
            *(30 + n % 3, 11, 4.0, 15.0, n / 10, n),
        )
        for n in range(360)
    ]


@pytest.mark.parametrize(
    ("samples", "grew"),
    [(an_hour(), False), (an_hour(peaks=60), False), (an_hour(leak=15), True), (an_hour(leak=15, peaks=60), True)],
)
def test_what_grows_is_seen_and_what_trembles_is_not(samples: list[Sample], grew: bool) -> None:
    """Goal: a leak of 15 MiB an hour fails a run, and a warm-up or peaks do not. Method: made-up hours of each kind."""
    memory, *others = FIGURES
    assert (grown(samples, memory) > memory.bound) is grew
    assert all(grown(samples, figure) <= figure.bound for figure in others)


def test_the_figures_are_written_and_drawn() -> None:
    """Goal: a table that a spreadsheet opens and a picture that a browser opens. Method: their lines; an XML reader."""
    samples = an_hour()
    lines = as_csv(samples).splitlines()
    assert len(lines) == 361
    assert lines[0].startswith("second,rss_mib,descriptors,")
    assert lines[2].split(",")[0] == "10"
    drawn = ET.fromstring(picture(samples))
    assert len(drawn.findall("{*}polyline")) == len(FIGURES)
