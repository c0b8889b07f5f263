"""The loop that forgets, with a real journal: what it prunes, and that trouble is told and not fatal."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.model import Entry, EventId, Progress, Seq, SinkName, SourceName
from streamer.retention import Retention
from streamer.stop import Stop
from streamer.telemetry import Telemetry

SINK = SinkName("local")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    async with open_journal(tmp_path, 1 << 30) as opened:
        entries = [Entry(EventId(f"e{n}"), n, b"{}") for n in range(10)]
        await opened.append(SourceName("acme"), "organization", entries, Progress(1))
        await opened.position(SINK, "earliest")
        await opened.ack(SINK, Seq(10), None, [])
        yield opened


def retention(journal: SqliteJournal, keep_s: float) -> Retention:
    return Retention(journal, [SINK], keep_s, 1e6, 1 << 30, Telemetry(), Stop())


async def once(loop: Retention) -> None:
    """One round: it measures and prunes before it first waits, and leaves there."""
    loop.stop.set()
    async with asyncio.timeout(10):
        await loop.run()


@pytest.mark.parametrize(("keep_s", "full", "left"), [(0.0, False, 0), (3600.0, False, 10), (3600.0, True, 0)])
async def test_what_everybody_has_and_is_old_enough_goes(
    journal: SqliteJournal, keep_s: float, full: bool, left: int
) -> None:
    """Goal: history is kept as long as asked; a stop ends the round before it prunes. Method: a journal that is full or not, and both ages."""
    loop = retention(journal, keep_s)
    loop.telemetry.status.journal.full = full
    await once(loop)
    assert (await journal.size()).records == 10, "a loop that is to stop prunes nothing"
    loop.stop = Stop()
    await loop._prune()
    assert (await journal.size()).records == left


async def test_a_journal_that_cannot_be_pruned_is_told_and_tried_again(journal: SqliteJournal) -> None:
    """Goal: trouble of the disk ends nothing. Method: a table that is not there for a while, as SQLite reports damage."""
    loop = retention(journal, 0.0)
    held = sqlite3.connect(journal.path, isolation_level=None)
    held.execute("PRAGMA busy_timeout = 0")
    held.execute("BEGIN EXCLUSIVE")
    journal._db.execute("PRAGMA busy_timeout = 10")
    with capture_logs() as logs:
        running = asyncio.create_task(loop.run())
        async with asyncio.timeout(20):
            while not any(one["log_level"] in ("warning", "error") for one in logs):
                await asyncio.sleep(0.01)
            held.execute("ROLLBACK")
            held.close()
            while (await journal.size()).records:
                await asyncio.sleep(0.05)
        loop.stop.set()
        await running
