"""run, check, demo: the verbs that open things."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.options import ConfigFile, load_config

if TYPE_CHECKING:
    from streamer.app import Outcome
    from streamer.config import Config


def run(
    config: ConfigFile,
    once: Annotated[
        bool, typer.Option("--once", help="Catch up to now, deliver everything to every sink, exit.")
    ] = False,
) -> None:
    """The daemon: tail every listing, deliver to every sink."""
    outcome = _run(load_config(config), once=once)
    for line in outcome.left_behind:
        sys.stderr.write(f"streamer: left behind: {line}\n")
    if outcome.left_behind:
        raise typer.Exit(1)


def _run(config: "Config", *, once: bool) -> "Outcome":
    from streamer import logs
    from streamer.app import run as run_app
    from streamer.cli.progress import shown
    from streamer.stop import Stop
    from streamer.telemetry import Telemetry

    logs.configure(config.log.level, config.log.format)
    # The journal's thread gets the interpreter's lock back within half a millisecond, not five, while the loop is busy.
    sys.setswitchinterval(0.0005)
    telemetry = Telemetry()

    async def main() -> "Outcome":
        stop = Stop()
        async with shown(telemetry.status, stop):
            return await run_app(config, telemetry, stop, once=once)

    return asyncio.run(main())


def check(
    config: ConfigFile,
    online: Annotated[bool, typer.Option("--online", help="Also ask the API, each listing, and each sink.")] = False,
) -> None:
    """All mistakes of the configuration at once; the effective configuration without secrets."""
    from streamer.config import effective

    loaded = load_config(config)
    typer.echo(effective(loaded))
    problems = asyncio.run(_check_all(loaded, online=online))
    if problems:
        from streamer.errors import ConfigError

        raise ConfigError(*problems)
    typer.echo(f"{config}: good")


async def _check_all(config: "Config", *, online: bool) -> list[str]:
    from streamer.cli.checking import check_offline, check_online

    problems = await check_offline(config)
    if online:
        async for ok, sentence in check_online(config):
            if ok:
                typer.echo(sentence)
            else:
                problems.append(sentence)
    return problems


def demo(
    duration: Annotated[str, typer.Option("--for", help="How long, like 30s; until Ctrl-C if not given.")] = "",
    folder: Annotated[Path, typer.Option("--dir", help="Where the demo writes.")] = Path("demo"),
    port: Annotated[int, typer.Option(help="Of metrics and status; 0 takes any.")] = 9464,
) -> None:
    """The main job with no key: the simulator, every event type, real sinks, the status page."""
    from streamer.cli.demonstration import demonstrate
    from streamer.config import parse_duration

    seconds = parse_duration(duration) if duration else None
    asyncio.run(demonstrate(folder, port, seconds))
