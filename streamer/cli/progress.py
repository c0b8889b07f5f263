"""Catching up, shown on a terminal; nothing elsewhere, where the log tells."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamer.model import from_epoch
from streamer.stop import Stop
from streamer.telemetry import Status

REFRESH_S = 0.25


@asynccontextmanager
async def shown(status: Status, stop: Stop) -> AsyncIterator[None]:
    """While the body runs, a bar for each listing that is catching up."""
    if not sys.stderr.isatty():
        yield
        return
    task = asyncio.ensure_future(_show(status, stop))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _show(status: Status, stop: Stop) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[tuple[str, str], TaskID] = {}
        while not await stop.sleep(REFRESH_S):
            for key, row in status.listings.items():
                if row.state != "catching up":
                    if key in bars:
                        progress.remove_task(bars.pop(key))
                    continue
                if key not in bars:
                    total = max(row.target - row.started_from, 1)
                    bars[key] = progress.add_task(f"{row.source}/{row.listing}", total=total, said="")
                said = f"{row.received:,} events, at {from_epoch(row.watermark):%Y-%m-%d %H:%M}"
                progress.update(bars[key], completed=row.watermark - row.started_from, said=said)
