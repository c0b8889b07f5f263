"""The demo: the simulator, the daemon and its sinks in one process, then a count of what arrived."""

import os
import shutil
import socket
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from streamer import logs
from streamer.app import Daemon, open_daemon, run
from streamer.cli.options import load_config
from streamer.cli.reading import line
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.model import LISTINGS, EventId, Record, Seq
from streamer.simulator import DEFAULT_KEY, Simulator, SimulatorOptions
from streamer.sinks.archive.signing import keygen
from streamer.sinks.archive.verify import verify
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
SHOWN = 5
LONGER = "longer with make demo FOR=10m, or streamer demo --for 10m"


async def demonstrate(folder: Path, port: int, seconds: float | None) -> None:
    """Until Ctrl-C or `seconds`; then everything that the simulator made must be in the file exactly once."""
    _fresh(folder)
    logs.configure("error", "auto")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    simulated = SimulatorOptions(events=EVENTS, days=30, rate=EVENTS_PER_S, faults=FAULTS)
    async with Simulator(simulated).serve() as simulator:
        config = _configure(folder, _free_port(port), simulator.base_url)
        await _tail(config, seconds, console)
        simulator.upstream.end_traffic()
        truth = {entry.event.id for listing in LISTINGS for entry in simulator.upstream.truth(listing)}
        console.print("[bold]stopping[/]   what is still under way is fetched and delivered")
        await run(config, Telemetry(), Stop(), once=True)
    _conclude(console, folder, truth)


async def _tail(config: Config, seconds: float | None, console: Console) -> None:
    telemetry, stop = Telemetry(), Stop()

    async def clock() -> None:
        await (stop.wait() if seconds is None else stop.sleep(seconds))
        stop.set()

    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, telemetry))
        daemon = await stack.enter_async_context(open_daemon(config, telemetry, stop))
        _introduce(console, daemon, config.state.parent, seconds)
        await supervise(daemon.jobs(), {**daemon.background(), "clock": clock}, stop, telemetry)


def _introduce(console: Console, daemon: Daemon, folder: Path, seconds: float | None) -> None:
    console.print(f"[bold]simulator[/]  {EVENTS:,} events of 30 days, then {EVENTS_PER_S:g} a second, on a bad network")
    for name, sink in daemon.config.sinks.items():
        console.print(f"[bold]sink[/]       {name}: {sink.path}")  # type: ignore[attr-defined]  # the demo's sinks have one
    console.print(
        f"[bold]status[/]     http://127.0.0.1:{daemon.admin_port}/  (as JSON at /status, metrics at /metrics)"
    )
    console.print(f"[bold]look[/]       streamer status -c {folder}/streamer.yaml, or tail, or top")
    console.print(
        "[bold]running[/]    " + ("until Ctrl-C" if seconds is None else f"for {seconds:g} s, {LONGER}; Ctrl-C ends it")
    )


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


CONFIGURATION = """\
# Made by `streamer demo`; the other verbs read it: streamer status|tail|top -c {folder}/streamer.yaml
state: {folder}/state
admin: {{listen: 127.0.0.1:{port}}}
sources:
  demo:
    type: openai_audit_logs
    api_key: {key}
    base_url: {base_url}
    start: beginning
    poll_interval: 2s
enrich:
  networks: {{office: [198.51.100.0/24]}}
sinks:
  file: {{type: file, path: {folder}/audit.jsonl}}
  archive: {{type: archive, path: {folder}/archive, signing_key_file: {folder}/archive.key, roll: {{age: 10s}}}}
"""


def _configure(folder: Path, port: int, base_url: str) -> Config:
    keygen(folder / "archive.key")
    path = folder / "streamer.yaml"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, key=DEFAULT_KEY, base_url=base_url), "utf-8")
    return load_config(path)


def _free_port(port: int) -> int:
    """`port`, or any that is free for 0: the other verbs must know it."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a demo that has just ended takes nothing from this one
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise ConfigError(f"--port: {port} cannot be had: {reason}; give another, or 0 for any") from error
        found: int = probe.getsockname()[1]
        return found


def _conclude(console: Console, folder: Path, truth: set[EventId]) -> None:
    """What an analyst reads, what arrived of what the simulator made, and whether the archive is whole."""
    path = folder / "audit.jsonl"
    with path.open("rb") as file:
        records = [Record(Seq(number), line.rstrip(b"\n")) for number, line in enumerate(file, 1)]
    severe = [record for record in records if record.envelope.severity in ("high", "critical")]
    console.print(f"[bold]severe[/]     the last of {len(severe)} events that a rule or their type makes severe:")
    for record in severe[-SHOWN:]:
        console.print("           ", line(record))
    counts = Counter(record.envelope.id for record in records)
    missing, twice = len(truth - counts.keys()), sum(n - 1 for n in counts.values())
    whole = verify(str(folder / "archive"), folder / "archive.key.pub").whole
    good, bad = "[green]", "[red]"
    console.print(
        f"[bold]result[/]     {len(truth):,} events made, {bad if missing or twice else good}{missing} missing, {twice} twice[/] in {path}; "
        f"the archive is {good + 'whole' if whole else bad + 'not whole'}[/]"
    )
    console.print(
        f"[bold]ended[/]      the page too; the files stay in {folder} until the next demo, which runs {LONGER}"
    )
    if missing or twice or not whole:
        sys.exit(1)
