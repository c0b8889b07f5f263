"""The simulated API over HTTP.

    async with Simulator(SimulatorOptions(events=500)).serve() as simulator:
        simulator.base_url  # http://127.0.0.1:PORT/v1

Under `/_sim/`, on the same port and without a key, it is steered while it runs: see `control.py`.
"""

import asyncio
import gzip
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec
from aiohttp import web

from streamer.errors import ConfigError
from streamer.simulator import control
from streamer.simulator.answers import (
    READ_AUDIT_LOGS,
    Answer,
    Refusal,
    bad_request,
    http_date,
    missing_scope,
    no_key,
    not_found,
    wrong_key,
)
from streamer.simulator.company import Draw
from streamer.simulator.directory import Directory
from streamer.simulator.faults import Switchboard
from streamer.simulator.lists import COSTS, COSTS_PATH, LISTS, List
from streamer.simulator.options import SimulatorOptions
from streamer.simulator.pages import concatenated, indented, listing_asked, page_body, read_query
from streamer.simulator.parameters import Parameters
from streamer.simulator.store import UnknownCursor
from streamer.simulator.upstream import Upstream
from streamer.stop import Stop

MAX_REQUEST_LINE = 65_536
"""All event types in one query string are longer than the usual limit."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TIMER_LATE_S = 0.001
"""What the loop's timers are late by: they wait in whole milliseconds, and one more."""
JSON_HEADERS = {"Content-Type": "application/json"}
DRIPS = 10
"""A slow body comes in so many pieces."""


class Stats(msgspec.Struct):
    """What the API was asked; `/_sim/` does not count."""

    requests: int = 0
    by_status: dict[str, int] = {}
    pages: int = 0
    events: int = 0
    """On pages of the audit log, each time it was served."""
    concurrent: int = 0
    max_concurrent: int = 0
    aborted: int = 0
    """Connections that a fault has ended."""


class Simulator:
    """The upstream API for one organization."""

    def __init__(self, options: SimulatorOptions | None = None, *, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds; what the simulator takes for now."""
        self.options = options or SimulatorOptions()
        self.upstream = Upstream(self.options, clock)
        self.directory = Directory(
            self.upstream.company,
            self.options.scopes,
            self.options.requests_per_minute,
            self.options.failing_projects,
        )
        self.stats = Stats()
        self.api_keys = set(self.options.api_keys)
        self.base_url = ""
        self._clock = clock
        self._draw = Draw(f"requests {self.options.seed}")
        self._stop = Stop()
        self._date = (0, "")

    @property
    def faults(self) -> Switchboard:
        return self.upstream.faults

    @asynccontextmanager
    async def serve(self, port: int | None = None) -> "AsyncIterator[Simulator]":
        """`port`: instead of the option's. Raises ConfigError where it cannot listen."""
        host, port = self.options.host, self.options.port if port is None else port
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1, max_line_size=MAX_REQUEST_LINE)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                reason = error.strerror or str(error)
                raise ConfigError(f"the simulator cannot listen on {host}:{port}: {reason}; choose another") from None
            name = f"[{host}]" if ":" in host else host
            self.base_url = f"http://{name}:{runner.addresses[0][1]}/v1"
            yield self
        finally:
            self._stop.set()
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application()
        control.add_routes(application, self)
        application.router.add_get("/v1/organization/audit_logs", self._audit_logs)
        for entry in LISTS:
            application.router.add_get("/v1" + entry.path, self._listing(entry))
        application.router.add_get("/v1" + COSTS_PATH, self._costs)
        application.router.add_route("*", "/{path:.*}", self._nowhere)
        return application

    async def _audit_logs(self, request: web.Request) -> web.StreamResponse:
        parameters = _parameters(request)
        try:
            where: str = listing_asked(parameters)
        except Refusal:
            where = "organization"
        return await self._respond(request, where, lambda: self._page(parameters))

    def _listing(self, entry: List) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._respond(
                request,
                entry.name,
                lambda: self.directory.read(entry, request.match_info, _parameters(request), self._clock()),
            )

        return handle

    async def _costs(self, request: web.Request) -> web.StreamResponse:
        return await self._respond(request, COSTS, lambda: self.directory.costs(_parameters(request), self._clock()))

    async def _nowhere(self, request: web.Request) -> web.StreamResponse:
        return await self._respond(request, "nowhere", lambda: not_found(request.method, request.path))

    def _page(self, parameters: Parameters) -> Answer:
        listing = listing_asked(parameters)
        if READ_AUDIT_LOGS not in self.options.scopes:
            raise Refusal(missing_scope(READ_AUDIT_LOGS))
        query = read_query(parameters)
        faults = self.faults
        if (query.after or query.before) and faults.strikes("unknown_cursor", listing) is not None:
            raise Refusal(_unknown_cursor("after" if query.after else "before", query.after or query.before or ""))
        query = faults.query(query, listing)
        try:
            page = self.upstream.store(listing).page(query)
        except UnknownCursor as error:
            raise Refusal(_unknown_cursor(error.parameter, error.cursor)) from None
        page = faults.page(page, query, listing)
        self.stats.pages += 1
        self.stats.events += len(page.bodies)
        if (documents := faults.strikes("concatenated", listing)) is not None:
            return Answer(200, concatenated(page, int(float(documents))), JSON_HEADERS)
        body = page_body(page.bodies, page.first_id, page.last_id, page.has_more)
        if faults.strikes("pretty", listing) is not None:
            body = indented(body)
        return Answer(200, body, JSON_HEADERS)

    def _check_key(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(no_key())
        if key not in self.api_keys:
            raise Refusal(wrong_key())

    async def _respond(self, request: web.Request, where: str, produce: Callable[[], Answer]) -> web.StreamResponse:
        """The key, the faults, then the answer."""
        stats, faults = self.stats, self.faults
        stats.requests += 1
        stats.concurrent += 1
        stats.max_concurrent = max(stats.max_concurrent, stats.concurrent)
        try:
            if (seconds := faults.strikes("latency", where)) is not None:
                await self._stop.sleep(float(seconds) - TIMER_LATE_S)
            if faults.strikes("reset", where) is not None:
                return self._abort(request)
            try:
                self._check_key(request)
                answer = faults.answer(where, self._clock()) or produce()
            except Refusal as refusal:
                answer = refusal.answer
            status = str(answer.status)
            stats.by_status[status] = stats.by_status.get(status, 0) + 1
            return await self._send(request, where, answer)
        finally:
            stats.concurrent -= 1

    async def _send(self, request: web.Request, where: str, answer: Answer) -> web.StreamResponse:
        headers = {**answer.headers, **self._common_headers(where)}
        body = answer.body
        if self.options.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        share = self.faults.strikes("cut_body", where)
        seconds = self.faults.strikes("slow_body", where)
        if share is None and seconds is None:
            return web.Response(status=answer.status, body=body, headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(body)
        sent = body if share is None else body[: min(int(len(body) * float(share)), len(body) - 1)]
        size = max(len(sent), 1) if seconds is None else max(-(-len(sent) // DRIPS), 1)
        pause = float(seconds or 0) / max(-(-len(sent) // size) - 1, 1)
        with suppress(ConnectionError):  # the client has had enough
            await response.prepare(request)
            for start in range(0, len(sent), size):
                if start:
                    await self._stop.sleep(pause)
                await response.write(sent[start : start + size])
            if share is None:
                await response.write_eof()
        if share is not None and request.transport is not None:
            self.stats.aborted += 1
            request.transport.close()
        return response

    def _abort(self, request: web.Request) -> web.Response:
        """Ends the connection with a reset; what is returned goes nowhere."""
        self.stats.aborted += 1
        if request.transport is not None:
            connection: socket.socket | None = request.transport.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
        return web.Response(status=500)

    def _common_headers(self, where: str) -> dict[str, str]:
        now = self._clock()
        if (offset := self.faults.strikes("clock_offset", where)) is not None:
            date = http_date(now + float(offset))
        else:
            if self._date[0] != int(now):
                self._date = (int(now), http_date(now))
            date = self._date[1]
        return {
            "Date": date,
            "x-request-id": "req_" + self._draw.hexadecimal(32),
            "openai-organization": self.upstream.company.id,
            "openai-version": "2020-10-01",
        }


def _unknown_cursor(parameter: str, cursor: str) -> Answer:
    return bad_request(f"Invalid '{parameter}': no such object: '{cursor}'.", parameter)


def _parameters(request: web.Request) -> Parameters:
    query = request.query
    found: Mapping[str, list[str]] = {name: query.getall(name) for name in query}
    return found


def serve(options: SimulatorOptions) -> None:
    """Serve until SIGTERM or SIGINT. The base URL is the first line of standard output. Raises ConfigError."""
    with asyncio.Runner() as runner:
        runner.run(_serve(options))


async def _serve(options: SimulatorOptions) -> None:
    stop, loop = Stop(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.stop_with_parent:
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 4096) else stop.set())
    async with Simulator(options).serve() as simulator:
        sys.stdout.write(f"{simulator.base_url}\nkey {next(iter(options.api_keys))}\n")
        sys.stdout.flush()
        await stop.wait()
