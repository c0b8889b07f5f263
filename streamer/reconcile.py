"""What upstream shows against what is remembered and what each sink has acknowledged.

Pure, and one window at a time, so that memory does not grow with the range.
"""

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SCHEMA = "streamer.reconcile/1"
MAX_IDS = 1000
"""So many ids of each kind are named in a report; all are counted."""
MAX_SPANS = 1000
"""What is to be walked again is kept as at most so many spans; beyond that, neighbours are joined."""


class Shown(NamedTuple):
    """An event that upstream shows."""

    effective_at: int
    """Unix seconds."""
    id: str


class Remembered(NamedTuple):
    """An event that the journal has seen, or that an archive holds."""

    effective_at: int
    id: str
    listing: str
    seq: int


class Standing(NamedTuple):
    """Where a sink stands."""

    acked: int
    dead: Set[int]
    """The seqs of its dead letters."""


@dataclass
class SinkCount:
    """One sink, over all listings."""

    sink: str
    delivered: int = 0
    """Shown by upstream and acknowledged."""
    undelivered: int = 0
    dead_lettered: int = 0
    extra: int = 0
    """Acknowledged, and not shown by upstream any more."""


@dataclass
class ListingCount:
    """One listing of one source."""

    source: str
    listing: str
    watermark: int
    """Unix seconds: what lies after it has not been walked yet."""
    until: int = 0
    """Unix seconds: so far it was compared. What is younger is still appearing."""
    upstream: int = 0
    missing: int = 0
    """Shown by upstream and never seen by the journal: in no sink therefore."""
    ahead: int = 0
    """Of these, those at or after the watermark: the ordinary walk brings them."""
    extra: int = 0
    missing_ids: list[str] = field(default_factory=list)
    extra_ids: list[str] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Where something below the watermark is missing: half-open ranges of Unix seconds, in order."""
    error: str | None = None
    """Why it could not be read, in a sentence."""


def count_window(
    shown: Iterable[Shown],
    remembered: Collection[Remembered],
    listing: ListingCount,
    sinks: Sequence[tuple[SinkCount, Standing]],
    head: int,
) -> None:
    """Add one window to the counts. `remembered`: all of the window, of every listing of the source, read after the walk.

    `head`: the newest seq when the walk of the range began. What came later may have appeared after its window was walked, and is not taken for extra.
    """
    known = {(r.effective_at, r.id): r.seq for r in remembered}
    there = set(shown)
    seqs = {known[key] for key in there if key in known}
    listing.upstream += len(there)
    if len(seqs) < len(there):
        _miss(listing, sorted(key for key in there if key not in known))
    extra = [r for r in remembered if r.listing == listing.listing and r.seq <= head and (r[0], r[1]) not in there]
    listing.extra += len(extra)
    listing.extra_ids += [r.id for r in extra[: MAX_IDS - len(listing.extra_ids)]]
    for count, (acked, dead) in sinks:
        buried = len(dead & seqs) if dead else 0
        waiting = sum(seq > acked for seq in seqs - dead)
        count.dead_lettered += buried
        count.undelivered += waiting
        count.delivered += len(seqs) - buried - waiting
        count.extra += sum(r.seq <= acked and r.seq not in dead for r in extra)


def _miss(listing: ListingCount, missing: Sequence[Shown]) -> None:
    listing.missing += len(missing)
    listing.missing_ids += [m.id for m in missing[: MAX_IDS - len(listing.missing_ids)]]
    walked = [m.effective_at for m in missing if m.effective_at < listing.watermark]
    listing.ahead += len(missing) - len(walked)
    if walked:
        listing.spans = joined([*listing.spans, (walked[0], walked[-1] + 1)], MAX_SPANS)


def joined(spans: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most `most` spans that cover these, which are in order: the closest neighbours become one."""
    spans = list(spans)
    while len(spans) > most:
        near = min(range(1, len(spans)), key=lambda i: spans[i][0] - spans[i - 1][1])
        spans[near - 1 : near + 1] = [(spans[near - 1][0], max(spans[near - 1][1], spans[near][1]))]
    return spans


def is_complete(listings: Sequence[ListingCount], sinks: Sequence[SinkCount]) -> bool:
    """Every listing could be read, nothing is missing, and every sink has everything. What is extra is no loss."""
    return all(row.error is None and not row.missing for row in listings) and not any(
        row.undelivered or row.dead_lettered for row in sinks
    )


def tree(listings: Sequence[ListingCount], sinks: Sequence[SinkCount]) -> dict[str, Any]:
    """The counts as a report shows them: integers, texts and lists alone, so that it has one canonical form."""
    missing = sum(row.missing for row in listings)
    return {
        "complete": is_complete(listings, sinks),
        "total": {
            "upstream": sum(row.upstream for row in listings),
            "missing": missing,
            "undelivered": sum(row.undelivered for row in sinks),
            "dead_lettered": sum(row.dead_lettered for row in sinks),
            "extra": sum(row.extra for row in sinks),
        },
        "listings": [
            {
                "source": row.source,
                "listing": row.listing,
                "upstream": row.upstream,
                "missing": row.missing,
                "not_walked_yet": row.ahead,
                "extra": row.extra,
                "missing_ids": row.missing_ids,
                "extra_ids": row.extra_ids,
                "error": row.error,
            }
            for row in listings
        ],
        "sinks": [
            {
                "sink": row.sink,
                "delivered": row.delivered,
                "missing": missing,
                "undelivered": row.undelivered,
                "dead_lettered": row.dead_lettered,
                "extra": row.extra,
            }
            for row in sinks
        ],
    }
