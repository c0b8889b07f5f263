"""top: status on a terminal, every second, with rates."""

import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.admin.verdict import trouble
from streamer.cli.options import ConfigFile, load_config
from streamer.cli.status import from_daemon, view

if TYPE_CHECKING:
    from streamer.config import Config

RATE_SAMPLES = 10
"""A rate is that of so many refreshes."""


def top(
    config: ConfigFile,
    interval: Annotated[float, typer.Option("--interval", min=0.2, help="Seconds between two looks.")] = 1.0,
) -> None:
    """A running daemon, live, until Ctrl-C. Each listing and sink with its rate, lag and backlog."""
    from rich.console import Console
    from rich.live import Live

    from streamer.errors import StreamerError

    loaded = load_config(config)
    if loaded.admin is None:
        raise StreamerError("admin is null: a running daemon has nothing to ask; set admin.listen")
    rows = from_daemon(loaded)
    if rows is None:
        raise StreamerError(f"no daemon answers at {loaded.admin.listen}; start it with `streamer run -c {config}`")
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        try:
            _follow(loaded, rows, interval, live.update)
        except KeyboardInterrupt:
            return


def _follow(config: "Config", rows: dict[str, Any], interval: float, show: Any) -> None:
    looks: deque[tuple[float, dict[str, int]]] = deque(maxlen=RATE_SAMPLES)
    while True:
        answer = from_daemon(config)
        rows = answer or rows | {"running": False}
        rows["trouble"] = trouble(rows)
        if answer:
            looks.append((rows["now"], counts(rows)))
        show(view(rows, rates(looks)), refresh=True)
        time.sleep(interval)


def counts(rows: dict[str, Any]) -> dict[str, int]:
    """What each listing and sink has counted since the daemon started."""
    listings = {f"{row['source']}/{row['listing']}": row["received"] for row in rows["listings"]}
    return listings | {row["sink"]: row["delivered"] for row in rows["sinks"]}


def rates(looks: "deque[tuple[float, dict[str, int]]]") -> dict[str, float]:
    """Events a second between the oldest look and the newest; a daemon that began anew counts from nothing."""
    if len(looks) < 2:
        return {}
    (then, before), (now, after) = looks[0], looks[-1]
    seconds = max(now - then, 0.001)
    return {name: max(count - before.get(name, 0), 0) / seconds for name, count in after.items()}
