"""The page of event types and the catalogue agree."""

import re

from streamer.catalog import TYPES
from tests.docs_events import PAGE, page


def test_the_page_is_the_catalogue() -> None:
    """Goal: docs/events.md is up to date. Method: made again and compared; `make events` mends it."""
    assert PAGE.read_text("utf-8") == page()


def test_every_type_has_one_row() -> None:
    """Goal: no type is missing and none is there twice. Method: the types in the first column, against the catalogue."""
    found = re.findall(r"^\| `([^`]+)`(?: ○)? \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(found) == sorted(TYPES)


def test_rows_hold_together_as_a_table() -> None:
    """Goal: the page renders. Method: every row has as many cells as its head."""
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {9}
