"""replay: deliver again, from the journal or from an archive."""

import time
from typing import Annotated

import typer

from streamer.cli.options import ConfigFile, Since, Until, bucket_access, load_config


def replay(
    config: ConfigFile,
    sink: Annotated[str, typer.Option("--sink", help="The sink that gets them again.")],
    since: Since,
    until: Until = None,
    archive: Annotated[
        str | None,
        typer.Option("--archive", help="From this archive (a folder, or s3://…) instead of from the journal."),
    ] = None,
) -> None:
    """Deliver the events of a time again to one sink. Now if the daemon runs, else when it starts. Marked as replayed, same ids."""
    from streamer.config import parse_moment, resolve_moment
    from streamer.errors import ConfigError
    from streamer.journal.operator import open_operator

    loaded = load_config(config)
    if sink not in loaded.sinks:
        raise ConfigError(f"--sink: there is no sink {sink}; there are {', '.join(loaded.sinks)}")
    now = time.time()
    begin = resolve_moment(parse_moment(since), now)
    end = resolve_moment(parse_moment(until), now) if until else now + 86_400
    with open_operator(loaded.state) as operator:
        if archive is None:
            count = operator.replay(sink, begin, end)
        else:
            from streamer.sinks.archive.read import read_archive

            lines = read_archive(archive, begin, end, s3=bucket_access(loaded, archive))
            count = operator.deliver(sink, lines, now)
    typer.echo(f"{count:,} events will be delivered again to {sink}")
