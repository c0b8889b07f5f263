"""docs/sinks.md speaks of every sink, and its neighbours of every option."""

import importlib
import re
from pathlib import Path
from typing import TypeGuard

from streamer.sinks import SINKS
from tests.sink_contract import OtherSide

DOCS = Path(__file__).parents[1] / "docs"


def test_every_sink_has_its_guarantee() -> None:
    """Goal: nobody has to guess what a sink promises. Method: the first cells of the table are the registry's names, none is empty."""
    rows = [line.split("|")[1:-1] for line in (DOCS / "sinks.md").read_text().splitlines() if line.startswith("| `")]
    assert [row[0].strip().strip("`") for row in rows] == sorted(SINKS)
    assert all(len(row) == 4 and all(cell.strip() for cell in row) for row in rows)


def test_every_option_is_documented() -> None:
    """Goal: no option is found only in the code. Method: each model's fields in the sink's own part of docs/configuration.md, or in
    the part for every type."""
    parts = re.split(r"^## ", (DOCS / "configuration.md").read_text(), flags=re.MULTILINE)
    common = next(part for part in parts if part.startswith("`sinks.NAME`, every type"))
    for name, kind in SINKS.items():
        own = next(part for part in parts if part.startswith(f"`sinks.NAME`, `type: {name}`"))
        missing = {field for field in kind.options.model_fields if f"| `{field}" not in own + common}
        assert not missing, f"{name}: {missing}"


def test_links_lead_somewhere() -> None:
    """Goal: a reader is never lost. Method: every relative link of the two pages names a file."""
    for page in ("sinks.md", "compatibility.md"):
        for target in re.findall(r"\]\(([^)#]+)", (DOCS / page).read_text()):
            assert (DOCS / target).exists(), f"{page}: {target}"


def test_every_sink_keeps_the_contract() -> None:
    """Goal: a new sink cannot leave the contract suite out. Method: the kinds for which the tests have another side, against the registry."""
    sides = [
        importlib.import_module(f"tests.{name}")
        for name in ("test_http_contract", "test_kafka", "test_stdout", "test_file", "archive")
    ]
    kinds = {thing.kind for module in sides for thing in vars(module).values() if _is_side(thing)}
    assert kinds == set(SINKS)


def _is_side(thing: object) -> TypeGuard[type[OtherSide]]:
    return isinstance(thing, type) and issubclass(thing, OtherSide) and hasattr(thing, "kind")
