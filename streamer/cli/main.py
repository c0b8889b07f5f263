"""All verbs in one table, and what becomes of an error: exit codes are decided here and nowhere else."""

import os
import signal
import sys
import traceback
from typing import NoReturn

import typer

from streamer import __version__
from streamer.cli import (
    archive,
    daemon,
    dead_letters,
    drift,
    facts,
    reading,
    reconcile,
    replay,
    rules,
    simulate,
    status,
    top,
)
from streamer.errors import ConfigError, verdicts

NO, USAGE, BUG, CONFIG = 1, 2, 70, 78
"""0 done, 1 the answer is no, 2 usage, 70 a bug, 78 configuration (sysexits.h)."""

app = typer.Typer(
    name="streamer",
    help="Streams OpenAI's organization audit log into your own hands: complete, in order, understood, provable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command("run")(daemon.run)
app.command("check")(daemon.check)
app.command("demo")(daemon.demo)
app.command("simulate", context_settings=simulate.CONTEXT)(simulate.simulate)
app.command("status")(status.status)
app.command("top")(top.top)
app.command("tail")(reading.tail)
app.command("explain")(reading.explain)
app.command("replay")(replay.replay)
app.command("reconcile")(reconcile.reconcile)
app.command("verify")(archive.verify)
app.command("keygen")(archive.keygen)
app.command("types")(facts.types)
app.command("drift")(drift.drift)
app.command("schema")(facts.schema)
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(rules.app, name="rules")


def main() -> NoReturn:
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of stdout has gone; that is how a pipe ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NO)
    except Exception as error:  # noqa: BLE001 - the last place: whatever is no verdict is a bug
        _end(error)
    sys.exit(0)


def _end(error: Exception) -> NoReturn:
    found = verdicts(error)
    if not found:
        traceback.print_exception(error)
        sys.stderr.write("streamer: this is a bug; please report it with the lines above\n")
        sys.exit(BUG)
    for verdict in found:
        for line in str(verdict).splitlines():
            sys.stderr.write(f"streamer: {line}\n")
    sys.exit(CONFIG if any(isinstance(v, ConfigError) for v in found) else NO)
