"""LEEF, judged by a parser that nobody here wrote: Tenzir's."""

import json
import re
import sys
from pathlib import Path

import pytest

from streamer.formats import make_format
from tests import every_type
from tests.integration.child import cached, fetch
from tests.reference_parsers import parse_leef

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

TENZIR = "tenzir==6.20.0"


def tenzir() -> Path:
    """The engine alone, out of its wheel (175 MB, once): what the package needs besides is for its server."""

    def make(folder: Path) -> None:
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(folder)]
        fetch([sys.executable, *install, TENZIR], folder)

    return cached("tenzir", TENZIR, make) / "tenzir/bundled/bin/tenzir"


QUOTED = re.compile(r"""(["'])((?:\\.|(?!\1)[^\\])*)\1""")
ESCAPED = re.compile(r"""\\([\\"'nrt])""")
MEANT = {"n": "\n", "r": "\r", "t": "\t"}


def as_tenzir_reads(value: str) -> str:
    """Habits of its own, which IBM's guide does not have: a value in quotes loses them, and backslashes escape."""
    if quoted := QUOTED.fullmatch(value):
        value = quoted[2]
    return ESCAPED.sub(lambda found: MEANT.get(found[1], found[1]), value)


def test_leef_is_read_back_by_tenzir(tmp_path: Path) -> None:
    """Goal: a parser of others reads every event to the values that we meant. Method: each type in its full, minimal and hostile shapes,
    as lines of a file; header and pairs against those of our own strict parser, Tenzir's habits taken into account. It also takes a quote
    that none follows for the begin of a value that holds tabs: lines in which one misleads it are few."""
    encode = make_format("leef", every_type.ORGANIZATIONS).encode
    lines = [encode(record) for record in every_type.all_records()]
    (tmp_path / "events.leef").write_bytes(b"".join(line + b"\n" for line in lines))
    (tmp_path / "read.tql").write_text(
        f'from_file "{tmp_path}/events.leef" {{ read_lines }}\nthis = line.parse_leef(raw=true)\nwrite_ndjson\nsave_stdout\n'
    )
    read = fetch([str(tenzir()), "-f", str(tmp_path / "read.tql")], tmp_path).split("\n")[:-1]
    assert len(read) == len(lines) > 10_000
    misled = []
    for line, theirs in zip(lines, map(json.loads, read), strict=True):
        header, pairs = parse_leef(line.decode())
        names = ("vendor", "product_name", "product_version", "event_class_id")
        assert [f"LEEF:{theirs['leef_version']}", *(theirs[name] for name in names)] == header
        expected = {key: as_tenzir_reads(value) for key, value in pairs.items()}
        if any(value.count('"') % 2 for value in pairs.values()) and theirs["attributes"] != expected:
            misled.append(line)
        else:
            assert theirs["attributes"] == expected
    assert len(misled) < 10
