"""simulate: the stand-in for the upstream API, alone."""

import sys

import typer

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def simulate(context: typer.Context) -> None:
    """The simulator alone, with its faults as options; --help shows them."""
    from pydantic import ValidationError

    from streamer.simulator import serve
    from streamer.simulator.__main__ import parse

    try:
        options = parse(context.args)
    except ValidationError as error:
        for problem in error.errors():
            place = "--" + str(problem["loc"][0]).replace("_", "-") if problem["loc"] else "options"
            sys.stderr.write(f"streamer: simulate {place}: {problem['msg']}\n")
        raise typer.Exit(2) from None
    serve(options)
