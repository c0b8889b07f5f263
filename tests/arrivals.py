"""What arrived, against the simulator's truth: the one judge of every run that kills, freezes or starves a daemon."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.simulation import Child

PROMPT_S = 2.0
"""An event that shows up within so long after its time was neither hidden nor rounded."""
NAMED = 10
"""So many ids are named of each kind of trouble."""


class Line(msgspec.Struct):
    """What is read of an envelope."""

    id: str
    listing: str
    time: str
    late: bool
    event: msgspec.Raw


class Row(msgspec.Struct):
    """One event of the simulator's truth."""

    id: str
    listing: str
    effective_at: int
    visible_at: float
    sha256: str

    @property
    def is_prompt(self) -> bool:
        return self.visible_at - self.effective_at < PROMPT_S


Truth = dict[str, Row]


def truth(child: Child) -> Truth:
    """Every event that the simulator has shown or will show, by its id."""
    decoder = msgspec.json.Decoder(Row)
    rows = map(decoder.decode, child.control("GET", "truth").splitlines())
    return {row.id: row for row in rows}


def file_lines(folder: Path, name: str = "audit.jsonl") -> Iterator[bytes]:
    """Of all files, the oldest first."""
    numbered = [path for path in folder.glob(f"{name}.*") if path.suffix[1:].isdigit()]
    for path in [*sorted(numbered, key=lambda p: -int(p.suffix[1:])), folder / name]:
        if path.exists():
            yield from path.read_bytes().splitlines()


@dataclass
class Arrived:
    """What one sink has, judged."""

    events: int
    problems: list[str]


def judge(
    lines: Iterable[bytes],
    wanted: Truth,
    *,
    once: bool,
    ordered: bool,
    known: Truth | None = None,
    hidden: bool = True,
) -> Arrived:
    """All of `wanted`, byte for byte, and nothing that is not `known`, which is `wanted` where nothing came since; `once`: each a single time;
    `ordered`: in time order within a listing. An event may stand behind a newer one only if it was found late, which its line says, or, where the API
    was told to hide events and to round their times (`hidden`), if it showed up late, which the simulator knows, or by less than PROMPT_S.
    """
    known = wanted if known is None else known
    decoder = msgspec.json.Decoder(Line)
    counts: Counter[str] = Counter()
    altered, disorder = [], []
    newest = {"organization": 0, "tenant": 0}
    for text in lines:
        line = decoder.decode(text)
        counts[line.id] += 1
        row = known.get(line.id)
        if row is None:
            continue
        if (line.listing, hashlib.sha256(line.event).hexdigest()) != (row.listing, row.sha256):
            altered.append(line.id)
        if not line.late:
            behind_s = newest[row.listing] - row.effective_at
            if behind_s > (PROMPT_S if hidden else 0) and (row.is_prompt or not hidden):
                disorder.append(line.id)
            newest[row.listing] = max(newest[row.listing], row.effective_at)
    found = {
        "missing": sorted(wanted.keys() - counts.keys()),
        "foreign": sorted(counts.keys() - known.keys()),
        "twice": [i for i, count in counts.items() if count > 1] if once else [],
        "altered": altered,
        "out of order": disorder if ordered else [],
    }
    problems = [f"{len(ids)} {kind}: {', '.join(ids[:NAMED])}" for kind, ids in found.items() if ids]
    return Arrived(counts.total(), problems)
