"""run, check, demo: the verbs that open things."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.options import ConfigFile, load_what_is_good

if TYPE_CHECKING:
    from streamer.app import Outcome
    from streamer.config import Config, Stamp


def run(
    config: ConfigFile,
    once: Annotated[
        bool, typer.Option("--once", help="Catch up to now, deliver everything to every sink, exit.")
    ] = False,
) -> None:
    """The daemon: tail every listing, deliver to every sink."""
    gc.disable()  # until all is imported: what that makes stays, and looking through it for garbage is a seventh of the start
    from streamer.config import stamps
    from streamer.errors import ConfigError

    before = stamps([config])
    loaded = _load(config)
    try:
        outcome = _run(loaded, config, before, once=once)
    except ConfigError as error:
        # What else an operator has to mend before it can start.
        raise ConfigError(*dict.fromkeys([*error.problems, *asyncio.run(_check_all(loaded, online=False))])) from error
    for line in outcome.left_behind:
        sys.stderr.write(f"streamer: left behind: {line}\n")
    if outcome.refused:
        raise ConfigError(*outcome.refused)
    if outcome.left_behind:
        raise typer.Exit(1)


def _load(path: Path) -> "Config":
    """ConfigError holds the mistakes of the file and what a look at its good parts finds."""
    from streamer.errors import ConfigError

    config, problems = load_what_is_good(path)
    if problems or config is None:
        raise ConfigError(*problems, *(asyncio.run(_check_all(config, online=False)) if config else ()))
    return config


def _reread(path: Path) -> "Config":
    """As `check` looks at it; ConfigError holds every mistake."""
    from streamer.errors import ConfigError

    config = _load(path)
    problems = asyncio.run(_check_all(config, online=False))
    if problems:
        raise ConfigError(*problems)
    return config


def _run(config: "Config", path: Path, before: "Mapping[Path, Stamp | None]", *, once: bool) -> "Outcome":
    from streamer import logs
    from streamer.app import run as run_app
    from streamer.cli.progress import shown
    from streamer.reload import Reloading
    from streamer.stop import Stop
    from streamer.telemetry import Telemetry, steady_clock

    logs.configure(config.log.level, config.log.format)
    # The journal's thread gets the interpreter's lock back within a tenth of a millisecond, not five, while the loop is busy.
    sys.setswitchinterval(0.0001)
    _tame_the_heap()
    _spare_what_stays()
    telemetry = Telemetry(steady=steady_clock())

    async def main() -> "Outcome":
        stop = Stop()
        reloading = None if once else Reloading(path, config, before, lambda: _reread(path), telemetry, stop)
        async with shown(telemetry.status, stop):
            return await run_app(config, telemetry, stop, once=once, reloading=reloading)

    with asyncio.Runner(loop_factory=_event_loop()) as runner:
        return runner.run(main())


def _tame_the_heap() -> None:
    """glibc's malloc, elsewhere nothing. One heap: every thread would have its own, and what one frees no other gets, which with an archive is
    30 MB. And a block, a batch or a body goes back to the system as soon as it is done with, 7 MB less at most; what is small stays."""
    import ctypes

    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # of malloc.h
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(arena_max, 1)
        mallopt(mmap_threshold, 512 << 10)
        mallopt(trim_threshold, 4 << 20)


def _spare_what_stays() -> None:
    """The interpreter looks for garbage in cycles, of which there is little here, not in what the start has made and not after every 700
    objects: a twelfth of the time of catching up."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed (the extra `speed`), else the standard one."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def check(
    config: ConfigFile,
    online: Annotated[bool, typer.Option("--online", help="Also ask the API, each listing, and each sink.")] = False,
) -> None:
    """All mistakes of a configuration at once. Shows what is in force, without secrets."""
    from streamer.config import effective
    from streamer.errors import ConfigError

    loaded = _load(config)
    typer.echo(effective(loaded))
    problems = asyncio.run(_check_all(loaded, online=online))
    if problems:
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
    duration: Annotated[str, typer.Option("--for", help="How long, like 10m; 0s: until Ctrl-C.")] = "30s",
    folder: Annotated[Path, typer.Option("--dir", help="Where the demo writes.")] = Path("demo"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Of metrics and status; 0 takes any.")] = 9464,
) -> None:
    """The main job with no key. The simulator, every event type, real sinks, the status page."""
    from streamer.cli.demonstration import demonstrate
    from streamer.config import parse_duration

    try:
        seconds = parse_duration(duration) or None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    asyncio.run(demonstrate(folder, port, seconds))
