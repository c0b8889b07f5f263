"""reconcile: the API asked again, compared with what the journal saw and each sink acknowledged."""

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from streamer.cli.options import ConfigFile, Since, Until, load_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.cli.reconciling import Outcome, Shows
    from streamer.config import Config
    from streamer.sinks.archive.signing import Signer


def reconcile(
    config: ConfigFile,
    since: Since,
    until: Until = None,
    repair: Annotated[bool, typer.Option("--repair", help="Append what is missing; it then travels as usual.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON, signed with the archive's key.")] = False,
    archive: Annotated[
        str | None,
        typer.Option("--archive", help="Compare with this archive (a folder, or s3://…) instead of with the journal."),
    ] = None,
) -> None:
    """Whether every event upstream is in every sink.

    Walks a past range of the API again and compares it with what the journal saw and each sink acknowledged. Runs beside a daemon
    or without one. Exit 1 if something is missing.
    """
    from streamer import logs
    from streamer.cli.reconciling import reconcile as compare
    from streamer.cli.reconciling import repair as mend
    from streamer.config import parse_moment, resolve_moment
    from streamer.reconcile import is_complete

    if repair and archive is not None:
        raise typer.BadParameter("an archive is never changed; replay fills a sink", param_hint="--repair")
    loaded, now = load_config(config), time.time()
    logs.configure("warning", loaded.log.format)
    begin = int(resolve_moment(parse_moment(since), now))
    end = int(resolve_moment(parse_moment(until), now)) if until else int(now)
    signer = _signer(loaded)

    def ask() -> "Outcome":
        with _progress() as show:
            return asyncio.run(compare(loaded, begin, end, archive, show))

    outcome, repaired = ask(), 0
    if _compared(outcome, end) <= begin:
        said = (
            "nothing of it is old enough: events of the age of the overlap are still appearing; ask for an earlier time"
        )
        raise typer.BadParameter(said, param_hint="--since")
    wanted = sum(row.missing - row.ahead for row in outcome.listings)
    if repair and wanted:
        if not asyncio.run(mend(loaded, outcome)):
            typer.echo("streamer: the daemon has not repaired it yet; ask again later", err=True)
        outcome = ask()
        repaired = max(wanted - sum(row.missing - row.ahead for row in outcome.listings), 0)
    report = _report(outcome, begin, end, archive, repaired)
    if as_json:
        typer.echo(_signed(report, signer).decode())
    else:
        _show(report)
    if not is_complete(outcome.listings, outcome.sinks):
        raise typer.Exit(1)


@contextmanager
def _progress() -> "Iterator[Shows]":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[events]:,} events"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("walking again", total=1.0, events=0)
        yield lambda row, part: progress.update(
            task, description=f"{row.source}/{row.listing}", completed=part, events=row.upstream
        )


def _signer(config: "Config") -> "Signer | None":
    from streamer.sinks.archive import ArchiveOptions
    from streamer.sinks.archive.signing import load_signer

    for name, options in config.sinks.items():
        if isinstance(options, ArchiveOptions) and options.key is not None:
            return load_signer(options.key.reveal(), f"sinks.{name}.signing_key")
    return None


def _compared(outcome: "Outcome", until: int) -> int:
    """How far every listing that could be read was compared, in Unix seconds."""
    return min((row.until for row in outcome.listings if row.error is None), default=until)


def _report(outcome: "Outcome", since: int, until: int, archive: str | None, repaired: int) -> dict[str, Any]:
    from streamer import __version__
    from streamer.model import from_epoch
    from streamer.reconcile import SCHEMA, tree

    def moment(seconds: float) -> str:
        return from_epoch(int(seconds)).isoformat().replace("+00:00", "Z")

    return {
        "schema": SCHEMA,
        "streamer": __version__,
        "made_at": moment(time.time()),
        "since": moment(since),
        "until": moment(_compared(outcome, until)),
        "asked_until": moment(until),
        "against": "journal" if archive is None else archive,
        "repaired": repaired,
        **tree(outcome.listings, outcome.sinks),
    }


def _signed(report: dict[str, Any], signer: "Signer | None") -> bytes:
    """The report in its canonical form: keys sorted, no space; the signature is of that form without itself."""
    from base64 import b64encode

    if signer is not None:
        signature = signer.sign(orjson.dumps(report, option=orjson.OPT_SORT_KEYS))
        report = report | {"signature": {"key": signer.fingerprint, "ed25519": b64encode(signature).decode()}}
    return orjson.dumps(report, option=orjson.OPT_SORT_KEYS)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)

    def number(value: int) -> Text:
        return Text(f"{value:,}", "bold red" if value else "green")

    younger = "; what is younger is still appearing" if report["until"] < report["asked_until"] else ""
    console.print(f"{report['since']} to {report['until']}, against {report['against']}{younger}", markup=False)
    listings = Table("listing", "upstream", "missing", "not walked yet", box=None, padding=(0, 2))
    for row in report["listings"]:
        name = f"{row['source']}/{row['listing']}"
        listings.add_row(name, f"{row['upstream']:,}", number(row["missing"]), f"{row['not_walked_yet']:,}")
    sinks = Table("sink", "delivered", "missing", "undelivered", "dead-lettered", "extra", box=None, padding=(0, 2))
    for row in report["sinks"]:
        counts = [number(row[name]) for name in ("missing", "undelivered", "dead_lettered")]
        sinks.add_row(row["sink"], f"{row['delivered']:,}", *counts, f"{row['extra']:,}")
    console.print(listings)
    console.print(sinks)
    for row in report["listings"]:
        if row["error"]:
            console.print(Text(f"{row['source']}/{row['listing']} could not be read: {row['error']}", "bold red"))
    if report["repaired"]:
        console.print(f"repaired={report['repaired']}")
    total = report["total"]
    said = " ".join(f"{name}={total[name]}" for name in ("missing", "undelivered", "dead_lettered", "extra"))
    console.print(Text(("complete: " if report["complete"] else "not complete: ") + said, "bold"))
