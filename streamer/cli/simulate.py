"""simulate: the stand-in for the upstream API, alone."""

import sys

import typer

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def simulate(context: typer.Context) -> None:
    """The simulator alone, with its faults as options."""
    from pydantic import ValidationError

    from streamer.simulator import serve
    from streamer.simulator.__main__ import complaints, parse

    try:
        options = parse(context.args, context.command_path)
    except ValidationError as error:
        for sentence in complaints(error):
            sys.stderr.write(f"streamer: {sentence}\n")
        raise typer.Exit(2) from None
    serve(options)
