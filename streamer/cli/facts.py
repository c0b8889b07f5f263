"""types, schema: what this version knows."""

from enum import StrEnum
from typing import Annotated

import orjson
import typer


class Schema(StrEnum):
    config = "config"
    envelope = "envelope"


def types(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """The event types with family, severity, listing, OCSF class, since when."""
    from streamer.catalog import TYPES

    rows = [
        {
            "type": t.type,
            "family": t.family,
            "severity": t.severity,
            "listing": t.listing,
            "ocsf_class": t.ocsf.class_uid,
            "since": t.since,
        }
        for t in TYPES.values()
    ]
    if as_json:
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], box=None, padding=(0, 2))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(highlight=False).print(table)


def schema(which: Annotated[Schema, typer.Argument(help="Of the configuration file or of the envelope.")]) -> None:
    """A JSON Schema."""
    if which is Schema.config:
        from streamer.config import config_model
        from streamer.sinks import sink_options
        from streamer.sources import source_options

        document = config_model(source_options(), sink_options()).model_json_schema()
    else:
        from streamer.schema import envelope_schema

        document = envelope_schema()
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
