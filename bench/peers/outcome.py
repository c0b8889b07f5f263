"""What a consumer ends up with, against the truth."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    wanted: int
    lost: int
    """Events of the truth that never came out."""
    repeated: int
    """Copies beyond the first, of anything."""
    foreign: int
    """Different ids that the truth does not know."""

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            *(getattr(self, name) + getattr(other, name) for name in ("wanted", "lost", "repeated", "foreign"))
        )

    def __str__(self) -> str:
        said = f"{self.lost:,} lost, {self.repeated:,} repeated"
        return said + (f", {self.foreign:,} foreign" if self.foreign else "")


def compare(wanted: Collection[str], got: Iterable[str]) -> Outcome:
    copies, truth = Counter(got), set(wanted)
    return Outcome(
        wanted=len(truth),
        lost=sum(1 for event_id in truth if event_id not in copies),
        repeated=copies.total() - len(copies),
        foreign=sum(1 for event_id in copies if event_id not in truth),
    )
