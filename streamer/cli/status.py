"""status: what a running daemon says of itself, or what its journal says while it does not run."""

import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from streamer.admin.verdict import ago, lateness, progress, quiet, span, trouble, verdict
from streamer.cli.options import ConfigFile, load_config

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from streamer.config import Config

HTTP_TIMEOUT_S = 3.0
PIPE_COLUMNS = 160


def status(
    config: ConfigFile,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """How far each listing and sink is, held or not and why. Exit 1 when something is held or stale."""
    loaded = load_config(config)
    rows = from_daemon(loaded) or _from_journal(loaded)
    rows["trouble"] = trouble(rows)
    if as_json:
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(rows)
    if rows["trouble"]:
        raise typer.Exit(1)


def from_daemon(config: "Config") -> dict[str, Any] | None:
    """What a running daemon answers; None without one. StreamerError when it refuses to tell us."""
    import urllib.error
    import urllib.request

    from streamer.config import one_secret
    from streamer.errors import StreamerError

    if config.admin is None:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.admin.host, config.admin.host)  # noqa: S104 - compared, not bound
    url = f"http://{f'[{host}]' if ':' in host else host}:{config.admin.port}/status"
    token = one_secret("admin.token", config.admin.token, config.admin.token_file)
    headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=HTTP_TIMEOUT_S) as answer:
            rows: dict[str, Any] = orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED:
            raise StreamerError(
                f"{url} refuses: the daemon runs with another token; set admin.token_file as it has it"
            ) from None
        return None
    except (OSError, orjson.JSONDecodeError):
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


def _show(rows: dict[str, Any]) -> None:
    from rich.console import Console

    # In a pipe there is no edge to fold lines at.
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(view(rows))


def view(rows: dict[str, Any], rates: dict[str, float] | None = None) -> "RenderableType":
    """For a terminal. `rates`: events a second by listing and sink, where they are known; data is text here, never markup."""
    from rich.console import Group
    from rich.text import Text

    said = [Text(line, "bold red") for line in rows["trouble"]] or [Text(verdict(rows), "bold green")]
    overlaps = [
        Text(f"{row['source']}/{row['listing']} reads {span(row['overlap'])} again, {row['overlap_why']}", "dim")
        for row in rows["listings"]
        if row.get("overlap_why", "").startswith("auto")
    ]
    return Group(*said, "", _listings(rows, rates), *overlaps, "", _sinks(rows, rates))


COLOURS = {"held": "bold red", "failing": "yellow", "not running": "red"}


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        words = column in ("listing", "sink", "state")
        table.add_column(column, justify="left" if words else "right", no_wrap=words)
    return table


def _listings(rows: dict[str, Any], rates: dict[str, float] | None) -> "Table":
    from rich.text import Text

    columns = ("listing", "state", "walked up to", "last event", "events", "late", "lateness p50/p99/max")
    table = _table(*columns, *(["rate"] if rates is not None else []))
    for row in rows["listings"]:
        name = f"{row['source']}/{row['listing']}"
        table.add_row(
            name,
            Text(progress(row), COLOURS.get(row["state"], "green")),
            f"{ago(rows['now'], row['watermark'])} ago",
            quiet(rows["now"], row),
            f"{row.get('received', 0):,}",
            f"{row.get('late', 0):,}",
            lateness(row),
            *([] if rates is None else [f"{rates.get(name, 0.0):,.1f}/s"]),
        )
    return table


def _sinks(rows: dict[str, Any], rates: dict[str, float] | None) -> "Table":
    from rich.text import Text

    columns = ("sink", "state", "backlog", "oldest", "delivered", "dead letters")
    table = _table(*columns, *(["rate"] if rates is not None else []))
    for row in rows["sinks"]:
        table.add_row(
            row["sink"],
            Text(row["state"], COLOURS.get(row["state"], "green")),
            f"{row['backlog']:,}",
            ago(rows["now"], row["oldest_at"]),
            f"{row.get('delivered', 0):,}",
            f"{row['dead_letters']:,}",
            *([] if rates is None else [f"{rates.get(row['sink'], 0.0):,.1f}/s"]),
        )
    return table
