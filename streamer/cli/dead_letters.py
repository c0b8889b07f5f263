"""dlq: what sinks refused for good."""

from typing import Annotated

import orjson
import typer

from streamer.cli.options import ConfigFile, load_config
from streamer.model import from_epoch

app = typer.Typer(help="Dead letters: what a sink refused for good.", no_args_is_help=True)

Sink = Annotated[str | None, typer.Option("--sink", help="Only this sink's.")]
Numbers = Annotated[list[int] | None, typer.Argument(help="Numbers from `dlq list`.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
def list_(
    config: ConfigFile,
    sink: Sink = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False,
) -> None:
    """One line each: number, sink, type, id, attempts, why."""
    from streamer.journal.operator import open_operator

    with open_operator(load_config(config).state) as operator:
        letters = operator.dead_letters(sink)
    for letter in letters:
        row = {
            "number": letter.number,
            "sink": letter.sink,
            "at": from_epoch(letter.at).isoformat(timespec="seconds"),
            "type": letter.type,
            "id": letter.id,
            "attempts": letter.attempts,
            "reason": letter.reason,
        }
        typer.echo(orjson.dumps(row).decode() if as_json else "  ".join(str(v) for v in row.values()))
    if not letters and not as_json:
        typer.echo("no dead letters")


@app.command()
def show(config: ConfigFile, number: int) -> None:
    """One letter whole: why, when, how often, and the event."""
    from streamer.errors import StreamerError
    from streamer.journal.operator import open_operator

    with open_operator(load_config(config).state) as operator:
        letter = operator.dead_letter(number)
    if letter is None:
        raise StreamerError(f"no dead letter {number}; `dlq list` shows what there is")
    row = {
        "number": letter.number,
        "sink": letter.sink,
        "at": from_epoch(letter.at).isoformat(timespec="seconds"),
        "attempts": letter.attempts,
        "reason": letter.reason,
        "envelope": orjson.Fragment(letter.line),
    }
    typer.echo(orjson.dumps(row, option=orjson.OPT_INDENT_2).decode())


@app.command()
def retry(config: ConfigFile, numbers: Numbers = None, sink: Sink = None, everything: All = False) -> None:
    """Deliver again, now if the daemon runs, else when it starts."""
    count = _change(config, "requeue", numbers, sink, everything)
    typer.echo(f"{count} to be delivered again")


@app.command()
def discard(config: ConfigFile, numbers: Numbers = None, sink: Sink = None, everything: All = False) -> None:
    """Forget for good."""
    count = _change(config, "discard", numbers, sink, everything)
    typer.echo(f"{count} discarded")


def _change(config: ConfigFile, what: str, numbers: list[int] | None, sink: str | None, everything: bool) -> int:
    from streamer.errors import StreamerError
    from streamer.journal.operator import open_operator

    if not numbers and not everything and sink is None:
        raise typer.BadParameter("name numbers, a --sink, or --all")
    with open_operator(load_config(config).state) as operator:
        change = operator.requeue if what == "requeue" else operator.discard
        count = change(numbers or None, sink)
    if numbers and not count:
        raise StreamerError(f"no dead letter {', '.join(map(str, numbers))}; `dlq list` shows what there is")
    return count
