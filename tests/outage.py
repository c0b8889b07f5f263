"""One sink of a real daemon down, slow or mended, beside two that work: what each got, and what the daemon cost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import zstandard

from tests import warm
from tests.places import Place, until
from tests.simulation import Child

ENV = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
SKIP = b'"id":"'


def id_of(line: bytes) -> bytes:
    """Of an envelope, without decoding it: its first id is its own."""
    start = line.index(SKIP) + len(SKIP)
    return line[start : line.index(b'"', start)]


@dataclass
class Hook:
    """A webhook receiver that an operator can break and mend. Takes one event or NDJSON a request."""

    answer: Callable[[bytes], int] = lambda _: 200
    """The status for a body."""
    delay_s: float = 0.0
    ids: list[bytes] = field(default_factory=list)
    """Of all events taken, in their order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of the requests taken."""
    refused: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    def take(self, headers: dict[str, str], body: bytes) -> int:
        if self.delay_s:
            time.sleep(self.delay_s)
        status = self.answer(body)
        if status == 200:
            self.headers.append(headers)
            self.ids += [id_of(line) for line in body.splitlines() if line]
        else:
            self.refused += 1
        return status


@contextmanager
def receiving(hook: Hook) -> Iterator[Hook]:
    """A thread that answers on loopback until the body ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the connection ended within it
                self.close_connection = True
                return
            status = hook.take({k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A connection that was cut is the test's own doing; what is wrong shows in `hook`."""
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", hook.port), Handler)
    server.daemon_threads = True
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Running:
    """`streamer run` in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes] | warm.Process, place: Place) -> None:
        self.process, self.place = process, place

    def sink(self, name: str) -> dict[str, Any]:
        """Its row in /status; empty until there is one."""
        return next((row for row in self.place.status().get("sinks", []) if row["sink"] == name), {})

    def has_all(self, name: str, count: int) -> bool:
        return bool(self.sink(name).get("acked", 0) >= count)

    def metric(self, name: str) -> float:
        """One sample of /metrics, with its labels as they stand there."""
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{self.place.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == name))

    def memory_mib(self, what: str = "VmHWM") -> float:
        """The most it ever held (or `VmRSS`: holds now) in real memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(what))) / 1024


@contextmanager
def running(place: Place, *, fresh: bool = False) -> Iterator[Running]:
    """It has ended well, by a SIGTERM, when the body has. `fresh`: in an interpreter of its own, so that all its memory is."""
    verb = ["streamer", "run", "-c", str(place.write())]
    with (place.folder / "daemon.log").open("ab") as log:
        process = (
            subprocess.Popen([sys.executable, "-m", *verb], stdout=log, stderr=log, env=ENV)
            if fresh
            else warm.start(*verb, stdout=log, stderr=log, env=ENV)
        )
    try:
        yield Running(process, place)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def once(place: Place) -> int:
    """`streamer run --once`; its exit status."""
    with (place.folder / "daemon.log").open("ab") as log:
        return warm.start("streamer", "run", "--once", "-c", place.write(), stdout=log, stderr=log, env=ENV).wait(600)


def file_ids(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [id_of(line) for line in file]


def archive_lines(folder: Path) -> Iterator[bytes]:
    """Of closed objects: one interval after the other, each by its days, as their names say."""
    for path in sorted(folder.rglob("*.jsonl.zst"), key=lambda p: (p.name.split("-")[-3], p.parent.name)):
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as text:
            yield from text.read().splitlines()


def archive_ids(folder: Path) -> list[bytes]:
    return [id_of(line) for line in archive_lines(folder)]


def truth(child: Child) -> set[bytes]:
    return {row["id"].encode() for listing in ("organization", "tenant") for row in child.truth(listing)}


def three_sinks(place: Place, hook: Hook) -> None:
    """A file, an archive and a webhook."""
    place.change("sinks.lake", {"type": "archive", "path": str(place.folder / "archive"), "roll": {"age": "2s"}})
    place.change(
        "sinks.hook",
        {
            "type": "webhook",
            "url": hook.url,
            "layout": "ndjson",
            "body": "bare",
            "batch": {"events": 500, "wait": "0s"},
        },
    )
    place.change("sources.acme.start", "31d")
    place.change("enrich", {"directory": None})


@dataclass
class Outage:
    """What an outage looked like."""

    events: int
    others_s: float
    """From the first event until the file and the archive had all of them."""
    recovery_s: float
    """From the mending until the webhook had all of them."""
    most_mib: float
    in_order: bool
    refused: int


def outage(place: Place, child: Child, hook: Hook, limit_s: float) -> Outage:
    """The webhook answers 503 while everything comes in; it is mended when the two others have all."""
    wanted = truth(child)
    hook.answer = lambda _: 503
    three_sinks(place, hook)
    with running(place, fresh=True) as daemon:
        until(lambda: daemon.sink("local").get("acked", 0) > 0)
        began = time.monotonic()
        until(lambda: all(daemon.has_all(name, len(wanted)) for name in ("local", "lake")), limit_s)
        others_s = time.monotonic() - began
        assert (daemon.sink("hook")["acked"], daemon.sink("hook")["state"], hook.ids) == (0, "failing", [])
        hook.answer = lambda _: 200
        began = time.monotonic()
        until(lambda: daemon.has_all("hook", len(wanted)), limit_s)
        recovery_s = time.monotonic() - began
        most = daemon.memory_mib()
    order = file_ids(place.lines)
    assert set(order) == wanted
    assert len(order) == len(wanted)
    assert once(place) == 0, "which closes the archive's last object"
    in_order = hook.ids == order and sorted(archive_ids(place.folder / "archive")) == sorted(order)
    return Outage(len(wanted), others_s, recovery_s, most, in_order, hook.refused)


def dead_letters(place: Place, *arguments: str) -> list[dict[str, Any]]:
    """`streamer dlq list --json`."""
    done = warm.run("streamer", "dlq", "list", "--json", "-c", place.config, *arguments, env=ENV)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
