"""What can go wrong, the same for everybody: a story of runs and events, then what a consumer has lost and has twice.

Every story ends with runs until one adds nothing, as a scheduler would go on.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.peers.outcome import Outcome, compare
from bench.peers.peer import Job, Peer
from bench.peers.process import run
from bench.peers.speed import newest, place
from tests.outage import Hook, receiving
from tests.simulation import Child

EVENTS = 2_000
BACKFILL = 5_000
KILLED_AFTER_PAGES = (15, 30)
LATE_S = 10
MUCH_LATER_S = 3600
PATIENCE_S = 30
OUTAGE_S = 10
AGAIN = 6
"""Runs at most after the fault; each begins in a second of its own, which Grove's file names need."""


@dataclass
class Story:
    """One peer, one fault."""

    peer: Peer
    child: Child
    job: Job
    hook: Hook | None = None
    statuses: list[int] = field(default_factory=list)
    """How its runs ended."""

    def go(self, until: Callable[[], bool] | None = None) -> None:
        """One run."""
        time.sleep(1.0 - time.time() % 1.0)
        self.statuses.append(run(self.peer.command(self.job), until).status)

    def settle(self) -> None:
        """Runs until one adds nothing."""
        before = -1
        for _ in range(AGAIN):
            self.go()
            count = len(self.got())
            if count == before:
                return
            before = count

    def got(self) -> list[str]:
        return [event_id.decode() for event_id in self.hook.ids] if self.hook else list(self.peer.ids(self.job))

    def pages(self) -> int:
        return int(self.child.stats()["pages"])

    def happens(self, at: float | None = None, kind: str = "login.succeeded") -> None:
        """One event of now, or of that Unix time, in the listing of its type."""
        second = int(time.time() if at is None else at)
        event = {"id": f"audit_log-{time.time_ns()}", "type": kind, "effective_at": second}
        self.child.control("POST", "events", [event])

    def outcome(self) -> Outcome:
        rows = (row for name in ("organization", "tenant") for row in self.child.truth(name))
        return compare({row["id"] for row in rows if row["effective_at"] >= self.job.since}, self.got())


def page_4(story: Story) -> None:
    began, slow, struck = story.pages(), {"latency": {"value": 0.1}}, False

    def fourth() -> bool:
        nonlocal struck
        if not struck and story.pages() - began >= 3:
            story.child.set_faults(**slow, internal_error={"count": 1, "on": "organization"})
            struck = True
        return False

    story.child.set_faults(**slow)
    story.go(fourth)
    story.child.set_faults()
    story.settle()


def killed(story: Story) -> None:
    story.child.set_faults(latency={"value": 0.02})
    for pages in KILLED_AFTER_PAGES:
        began = story.pages()
        story.go(lambda began=began, pages=pages: story.pages() - began >= pages)
    story.settle()
    story.child.set_faults()


def emptied(story: Story) -> None:
    _without_checkpoint(story, lambda path: os.truncate(path, 0))


def removed(story: Story) -> None:
    _without_checkpoint(story, lambda path: path.unlink())


def _without_checkpoint(story: Story, strike: Callable[[Path], None]) -> None:
    story.go()
    for path in story.peer.checkpoint(story.job):
        strike(path)
    for _ in range(10):
        story.happens()
    story.settle()


def late(story: Story) -> None:
    now = time.time()
    story.happens(now)
    story.go()
    story.happens(now - LATE_S)
    story.settle()
    if story.job.patience_s:
        time.sleep(story.job.patience_s)
        story.settle()


def much_later(story: Story) -> None:
    story.go()
    story.happens(time.time() - MUCH_LATER_S)
    story.settle()


def tenant(story: Story) -> None:
    story.go()
    story.happens(kind="tenant.scim.enabled")
    story.settle()


def dead(story: Story) -> None:
    """The receiver takes five requests, then answers 503 for some seconds."""
    assert story.hook is not None
    left, ends = [200] * 5, 0.0

    def answer(_: bytes) -> int:
        nonlocal ends
        if left:
            return left.pop()
        ends = ends or time.monotonic() + OUTAGE_S
        return 200 if time.monotonic() > ends else 503

    story.hook.answer = answer
    while not ends or time.monotonic() < ends:
        story.go()
    story.happens()
    story.settle()


@dataclass(frozen=True)
class Case:
    title: str
    tell: Callable[[Story], None]
    events: int = EVENTS
    changes: Mapping[str, object] = field(default_factory=dict)
    """To the job."""
    only: frozenset[str] = frozenset()
    """Names of peers; empty: all."""
    kills: bool = False
    """At moments that are not the same each time: done several times."""


OTHERS = frozenset({"Grove", "dlt"})
CASES = (
    Case("HTTP 500 after the third page of a backfill", page_4),
    Case(f"backfills of {BACKFILL:,}, `kill -9` twice in each", killed, BACKFILL, kills=True),
    Case("its checkpoint emptied, then 10 events", emptied),
    Case("its checkpoint removed, then 10 events", removed),
    Case(f"an event appears that is {LATE_S} s older than the newest", late),
    Case(
        f"the same, with a delay (Grove) or lag (dlt) of {PATIENCE_S} s",
        late,
        changes={"patience_s": PATIENCE_S},
        only=OTHERS,
    ),
    Case("an event appears an hour late (this: by the next recheck)", much_later, changes={"recheck": "1s"}),
    Case("a tenant event", tenant),
    Case(f"its receiver down for {OUTAGE_S} s in a backfill", dead, only=frozenset({"this", "Grove"})),
)


def suffer(peer: Peer, child: Child, case: Case, times: int) -> str:
    """What was lost and repeated, as a cell of the table; of all times together."""
    if not peer.keeps_position or (case.only and peer.name not in case.only):
        return ""
    told = [_suffer_once(peer, child, case) for _ in range(times if case.kills else 1)]
    outcomes, statuses, beside = zip(*told, strict=True)
    said = str(sum(outcomes[1:], outcomes[0]))
    if short := sum(1 for outcome in outcomes if outcome.lost and case.kills):
        said += f", incomplete in {short} of {times}"
    if ended := sorted({status for run in statuses for status in run if status > 0}):
        said += f" (exit {', '.join(map(str, ended))})"
    return said + (f"; the file beside it {beside[0]}" if beside[0] else "")


def _suffer_once(peer: Peer, child: Child, case: Case) -> tuple[Outcome, list[int], Outcome | None]:
    child.set_faults()
    since, _ = newest(child, case.events)
    with place() as folder, receiving(Hook()) as hook:
        at_hook = case.tell is dead
        job = replace(Job(folder, child.base_url, since, hook=hook.url if at_hook else None), **case.changes)
        story = Story(peer, child, job, hook if at_hook else None)
        case.tell(story)
        beside = replace(story, hook=None).outcome() if at_hook and list(peer.ids(job)) else None
        return story.outcome(), story.statuses, beside
