"""The demo: the simulator, the daemon and its sinks in one process, then a count of what arrived."""

import json
import shutil
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from streamer import logs
from streamer.app import Daemon, open_daemon, run
from streamer.config import Config, config_model
from streamer.errors import ConfigError
from streamer.model import LISTINGS, EventId
from streamer.simulator import DEFAULT_KEY, Simulator, SimulatorOptions
from streamer.sinks import sink_options
from streamer.sources import source_options
from streamer.stop import Stop
from streamer.supervise import stop_on_signals, supervise
from streamer.telemetry import Telemetry

EVENTS = 3000
EVENTS_PER_S = 5.0
FAULTS = (
    "latency:value=0.01",
    "rate_limited:probability=0.02",
    "bad_gateway:probability=0.02",
    "cut_body:probability=0.01",
)
MARK = ".streamer-demo"


async def demonstrate(folder: Path, port: int, seconds: float | None) -> None:
    """Until Ctrl-C or `seconds`; then everything that the simulator made must be in the file exactly once."""
    _fresh(folder)
    logs.configure("error", "auto")
    console = Console(stderr=True, highlight=False)
    simulated = SimulatorOptions(events=EVENTS, days=30, rate=EVENTS_PER_S, faults=FAULTS)
    async with Simulator(simulated).serve() as simulator:
        config = _config(folder, port, simulator.base_url)
        await _tail(config, seconds, console)
        truth = {entry.event.id for listing in LISTINGS for entry in simulator.upstream.truth(listing)}
        console.print("[bold]stopping[/]   what is still under way is fetched and delivered")
        await run(config, Telemetry(), Stop(), once=True)
    _count(console, folder / "audit.jsonl", truth)


async def _tail(config: Config, seconds: float | None, console: Console) -> None:
    telemetry, stop = Telemetry(), Stop()

    async def clock() -> None:
        await (stop.wait() if seconds is None else stop.sleep(seconds))
        stop.set()

    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, telemetry))
        daemon = await stack.enter_async_context(open_daemon(config, telemetry, stop))
        _introduce(console, daemon, seconds)
        await supervise(daemon.jobs(), {**daemon.background(), "clock": clock}, stop, telemetry)


def _introduce(console: Console, daemon: Daemon, seconds: float | None) -> None:
    console.print(f"[bold]simulator[/]  {EVENTS:,} events of 30 days, then {EVENTS_PER_S:g} a second, on a bad network")
    for name, sink in daemon.config.sinks.items():
        console.print(f"[bold]sink[/]       {name}: {sink.path}")  # type: ignore[attr-defined]  # the demo's sinks have one
    console.print(f"[bold]status[/]     http://127.0.0.1:{daemon.admin_port}/status  (metrics at /metrics)")
    console.print("[bold]running[/]    " + ("until Ctrl-C" if seconds is None else f"for {seconds:g} s"))


def _fresh(folder: Path) -> None:
    if folder.exists():
        if not (folder / MARK).exists():
            raise ConfigError(f"--dir: {folder} exists and is not a demo's; give another folder")
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True)
        (folder / MARK).write_text("made by streamer demo; made anew by the next one\n")
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise ConfigError(f"--dir: {folder} cannot be made: {reason}; give another folder") from error


def _config(folder: Path, port: int, base_url: str) -> Config:
    return config_model(source_options(), sink_options()).model_validate(
        {
            "state": folder / "state",
            "admin": {"listen": f"127.0.0.1:{port}"},
            "sources": {
                "demo": {
                    "type": "openai_audit_logs",
                    "api_key": DEFAULT_KEY,
                    "base_url": base_url,
                    "start": "beginning",
                    "poll_interval": "2s",
                }
            },
            "sinks": {"file": {"type": "file", "path": folder / "audit.jsonl"}},
        }
    )


def _count(console: Console, path: Path, truth: set[EventId]) -> None:
    """What the simulator made up to the last walk, against the lines of the file."""
    with path.open("rb") as file:
        lines = Counter(json.loads(line)["id"] for line in file)
    missing, twice = len(truth - lines.keys()), sum(n - 1 for n in lines.values())
    colour = "green" if not missing and not twice else "red"
    console.print(
        f"[bold]result[/]     {len(truth):,} events made, [{colour}]{missing} missing, {twice} twice[/] in {path}"
    )
    if missing or twice:
        sys.exit(1)
