"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from streamer.config import Config

ConfigFile = Annotated[
    Path,
    typer.Option("-c", "--config", envvar="STREAMER_CONFIG_FILE", help="The configuration file.", show_default=False),
]


def load_config(path: Path) -> Config:
    """With the options of every source and sink that exists."""
    from streamer.config import load
    from streamer.sinks import sink_options
    from streamer.sources import source_options

    return load(path, sources=source_options(), sinks=sink_options())
