"""drift: what the journal's events have that the catalogue does not know."""

from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from streamer.cli.options import ConfigFile, load_config


def drift(
    config: ConfigFile, as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False
) -> None:
    """Types and fields that the catalogue does not know.

    From the events in the journal: first seen, how often, and the shape of one example without its values, ready to paste into an issue.
    """
    from streamer import __version__
    from streamer.drift import Drift, report
    from streamer.journal.operator import open_operator

    found, after = Drift(), 0
    with open_operator(load_config(config).state) as operator:
        while records := operator.records(after):
            found.look(records)
            after = records[-1].seq
    if as_json:
        typer.echo(orjson.dumps([asdict(one) for one in found.findings.values()], option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(report(found, __version__))
