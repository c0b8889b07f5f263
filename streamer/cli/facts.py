"""types, schema: what this version knows."""

from enum import StrEnum
from typing import Annotated

import orjson
import typer


class Schema(StrEnum):
    config = "config"
    envelope = "envelope"


def types(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Every event type. Its family, severity, listing, OCSF class, since when."""
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
    # Plain columns, never cut or coloured: this is read with grep as often as by eye.
    table = [[*rows[0]], *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def schema(which: Annotated[Schema, typer.Argument(help="Of the configuration file or of the envelope.")]) -> None:
    """The JSON Schema of the configuration or of the envelope."""
    if which is Schema.config:
        from streamer.cli.reference import configuration_schema

        document = configuration_schema()
    else:
        from streamer.schema import envelope_schema

        document = envelope_schema()
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
