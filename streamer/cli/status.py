"""status: what a running daemon says of itself, or what its journal says while it does not run."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from streamer.cli.options import ConfigFile, load_config

if TYPE_CHECKING:
    from streamer.config import Config

HTTP_TIMEOUT_S = 3.0
STALE_INTERVALS = 3
SLACK_S = 5.0


def status(
    config: ConfigFile,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """How far each listing and sink is, held or not and why. Exit 1 when something is held or stale."""
    loaded = load_config(config)
    rows = _from_daemon(loaded) or _from_journal(loaded)
    rows["trouble"] = trouble(rows)
    if as_json:
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(rows)
    if rows["trouble"]:
        raise typer.Exit(1)


def _from_daemon(config: "Config") -> dict[str, Any] | None:
    import urllib.error
    import urllib.request

    if config.admin is None:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.admin.host, config.admin.host)  # noqa: S104 - compared, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{config.admin.port}/status"
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as answer:
            rows: dict[str, Any] = orjson.loads(answer.read())
    except (OSError, urllib.error.URLError, orjson.JSONDecodeError):
        return None
    return rows | {"running": True}


def _from_journal(config: "Config") -> dict[str, Any]:
    from dataclasses import asdict

    from streamer.journal.operator import open_operator

    with open_operator(config.state) as operator:
        listings = [asdict(row) | {"state": "not running", "error": None} for row in operator.listings()]
        configured = set(config.sinks)
        sinks = [asdict(r) | {"state": "not running", "error": None} for r in operator.sinks() if r.sink in configured]
    return {"running": False, "now": time.time(), "listings": listings, "sinks": sinks}


def trouble(rows: dict[str, Any]) -> list[str]:
    """A sentence for everything that is held or stale."""
    found = [] if rows["running"] else ["the daemon is not running"]
    for row in rows["listings"]:
        name = f"{row['source']}/{row['listing']}"
        if row["state"] in ("held", "failing"):
            found.append(f"{name} is {row['state']}: {row['error']}")
        elif rows["running"]:
            silent_s = rows["now"] - (row["last_success"] or rows["started_at"])
            if silent_s > STALE_INTERVALS * row["poll_interval"] + SLACK_S:
                found.append(f"{name} has not been read for {silent_s:.0f} s")
        if rows["running"] and row.get("canary") and rows["now"] > row["canary_due"]:
            found.append(
                f"{name} should have shown the canary {row['canary']} {rows['now'] - row['canary_due']:.0f} s ago"
            )
    found += [
        f"sink {row['sink']} is {row['state']}: {row['error']}"
        for row in rows["sinks"]
        if row["state"] in ("held", "failing")
    ]
    if rows.get("journal", {}).get("full"):
        found.append("the journal is full: intake waits")
    return found


def ago(now: float, then: float | None) -> str:
    """A rough distance, for reading: `12 s`, `3 min`, `2 h`, `5 d`."""
    return span(max(now - then, 0)) if then else "-"


def span(seconds: float) -> str:
    """As `ago`, of a duration."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def quiet(now: float, row: dict[str, Any]) -> str:
    """When the newest event was, against the usual rhythm of this hour."""
    if not row.get("last_event_at"):
        return "-"
    usual = row.get("usual_gap")
    return f"{ago(now, row['last_event_at'])} ago" + (f", usually every {span(usual)}" if usual else "")


def lateness(row: dict[str, Any]) -> str:
    seen = row.get("lateness")
    return f"{seen['p50']:.1f}/{seen['p99']:.1f}/{seen['max']:.1f} s" if seen else "-"


def _show(rows: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, now = Console(highlight=False), rows["now"]
    colours = {"held": "bold red", "failing": "yellow", "not running": "red"}
    columns = ("listing", "state", "walked up to", "last event", "events", "late", "lateness p50/p99/max")
    listings = Table(*columns, box=None, padding=(0, 2))
    for row in rows["listings"]:
        listings.add_row(
            f"{row['source']}/{row['listing']}",
            Text(row["state"], colours.get(row["state"], "green")),
            f"{ago(now, row['watermark'])} ago",
            quiet(now, row),
            f"{row.get('received', 0):,}",
            f"{row.get('late', 0):,}",
            lateness(row),
        )
    sinks = Table("sink", "state", "backlog", "oldest", "delivered", "dead letters", box=None, padding=(0, 2))
    for row in rows["sinks"]:
        sinks.add_row(
            row["sink"],
            Text(row["state"], colours.get(row["state"], "green")),
            f"{row['backlog']:,}",
            ago(now, row["oldest_at"]),
            f"{row.get('delivered', 0):,}",
            f"{row['dead_letters']:,}",
        )
    good = Text("everything is all right", "bold green")
    for line in rows["trouble"] or [good]:
        console.print(line if isinstance(line, Text) else Text(line, "bold red"))
    console.print()
    console.print(listings)
    console.print()
    console.print(sinks)
