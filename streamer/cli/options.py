"""Options that several verbs share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.config import Config
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.sinks.archive.options import S3Options

ConfigFile = Annotated[
    Path,
    typer.Option("-c", "--config", envvar="STREAMER_CONFIG_FILE", help="The configuration file.", show_default=False),
]

Since = Annotated[str, typer.Option("--since", help="From when: a time (RFC 3339) or a duration back, like 30d.")]
Until = Annotated[str | None, typer.Option("--until", help="Until when, likewise; now if not given.")]


def load_config(path: Path) -> Config:
    """With the options of every source and sink that exists. ConfigError holds every mistake."""
    config, problems = load_what_is_good(path)
    if problems or config is None:
        raise ConfigError(*problems)
    return config


def load_what_is_good(path: Path) -> tuple[Config | None, list[str]]:
    """The configuration without its mistakes, and the mistakes."""
    from streamer.config import load
    from streamer.sinks import sink_options
    from streamer.sources import source_options

    return load(path, sources=source_options(), sinks=sink_options())


def bucket_access(config: Config, archive: str) -> "S3Options | None":
    """As the sink that writes this archive reaches its bucket; None where no sink does: then as the AWS tools would."""
    from streamer.sinks.archive import ArchiveOptions

    sinks = config.sinks.values()
    return next((o.s3 for o in sinks if isinstance(o, ArchiveOptions) and o.path == archive.rstrip("/")), None)
