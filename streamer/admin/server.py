"""What the daemon says of itself, on a port of its own: /metrics /healthz /readyz /status, and the status page."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streamer.admin import page
from streamer.admin.access import COOKIE, Access, is_loopback
from streamer.admin.history import History
from streamer.admin.latest import Filter, Latest, in_every_format, one
from streamer.admin.verdict import SLACK_S
from streamer.config import AdminOptions
from streamer.errors import ConfigError, StreamerError
from streamer.formats.line import render
from streamer.ports import Journal
from streamer.stop import Stop
from streamer.telemetry import ListingStatus, Telemetry

READY_INTERVALS = 3
"""A listing that has not been read within so many poll intervals is not ready."""
NEWS_S = 1.0
MAX_WATCHERS = 20
MAX_LETTERS = 50
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FILES = {"/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def unready(rows: list[ListingStatus], now: float) -> list[str]:
    """Why we are not ready, a sentence each; empty when every listing has been read lately."""
    if not rows:
        return ["no listing has been opened yet"]
    reasons = []
    for row in rows:
        name = f"{row.source}/{row.listing}"
        limit_s = READY_INTERVALS * row.poll_interval + SLACK_S
        if row.state == "held":
            reasons.append(f"{name} is held: {row.error}")
        elif not row.last_success:
            reasons.append(f"{name} has not been read yet" + (f": {row.error}" if row.error else ""))
        elif now - row.last_success > limit_s:
            reasons.append(f"{name} was last read {now - row.last_success:.0f} s ago, more than {limit_s:.0f} s")
        if row.canary is not None and now > row.canary_due:
            reasons.append(f"{name} should have shown the canary {row.canary} {now - row.canary_due:.0f} s ago")
    return reasons


class Admin:
    """The handlers."""

    def __init__(
        self,
        options: AdminOptions,
        telemetry: Telemetry,
        journal: Journal | None,
        history: History,
        configuration: Callable[[], str],
        stop: Stop,
    ) -> None:
        """`journal`: None where there is no page. `configuration`: the one in force, without secrets."""
        self._options, self._telemetry, self._stop = options, telemetry, stop
        self._journal_of_the_page = journal
        self._history, self._configuration = history, configuration
        self._access = Access(options)
        self._access.check()
        self._watchers = 0
        self._charts: tuple[int, str] = (-1, "")
        self._made: tuple[str, dict[str, str]] = ("", {})
        self._made_at = -math.inf

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 16)
        app.on_response_prepare.append(_harden)
        app.add_routes(
            [
                web.get("/metrics", self.metrics),
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/status", self.status),
            ]
        )
        if self._options.page:
            app.add_routes(
                [
                    web.get("/", self._guarded(self.overview)),
                    web.get("/events", self._guarded(self.events), allow_head=False),
                    web.get(r"/event/{seq:\d{1,18}}", self._guarded(self.event)),
                    *(web.get(path, _file(path, kind)) for path, kind in FILES.items()),
                ]
            )
        return app

    @property
    def _journal(self) -> Journal:
        assert self._journal_of_the_page is not None
        return self._journal_of_the_page

    # --- for machines ------------------------------------------------------------------------------------------------

    async def metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._telemetry.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(self, _: web.Request) -> web.Response:
        """That this is answered is the proof: jobs that die end the process, and a blocked loop does not answer."""
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        status = self._telemetry.status
        if status.journal.error is not None:
            return web.Response(text=status.journal.error + "\n", status=503)
        # A replica that has no source has nothing to wait for.
        if status.standby.since and not status.standby.leading:
            return web.Response(text="standing by\n")
        reading = status.listings or status.configuration.sources or not status.configuration.taken_at
        reasons = unready(list(status.listings.values()), self._telemetry.clock()) if reading else []
        return web.Response(text="\n".join(reasons or ["ready"]) + "\n", status=503 if reasons else 200)

    async def status(self, request: web.Request) -> web.Response:
        """Holds no event; without a token it is told to whoever asks on this machine (`streamer status` in a container)."""
        if not self._allows(request) and (self._access.has_token or not is_loopback(request.remote)):
            raise web.HTTPUnauthorized(text="a token is needed: Authorization: Bearer …\n", headers=_CHALLENGE)
        return web.Response(body=orjson.dumps(self._rows()), content_type="application/json")

    def _rows(self) -> page.Rows:
        return self._telemetry.status.as_dict(self._telemetry.clock())

    # --- who may look ------------------------------------------------------------------------------------------------

    def _allows(self, request: web.Request) -> bool:
        return self._access.allows(request.headers, request.cookies, request.host)

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            offered = request.query.get("token")
            if offered is not None and request.path == "/" and self._access.is_token(offered):
                return self._let_in(request)
            if self._allows(request):
                return await handler(request)
            if not self._access.has_token:
                said = "This page is for this machine only: open it by 127.0.0.1 or localhost, or set admin.token_file."
                return _html(page.message("Not from here", said), status=403)
            said = "That is not the token." if offered is not None else "It is set as admin.token or admin.token_file."
            return _html(page.message("A token is needed", said, ask=True), status=401, headers=_CHALLENGE)

        return guarded

    def _let_in(self, request: web.Request) -> web.Response:
        """The token leaves the address bar at once."""
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(COOKIE, self._access.cookie(), httponly=True, samesite="Strict", secure=request.secure)
        return answer

    # --- the page ----------------------------------------------------------------------------------------------------

    async def overview(self, request: web.Request) -> web.Response:
        wanted = Filter.of(request.query.get("q", ""), request.query.get("severity", ""))
        rows = self._rows()
        sections = await self._sections(rows)
        sections["events"] = await self._events_section(Latest(self._journal, wanted), wanted)
        return _html(page.overview(sections, wanted, rows, self._configuration()))

    async def event(self, request: web.Request) -> web.Response:
        seq = int(request.match_info["seq"])
        try:
            record = await one(self._journal, seq)
        except StreamerError as error:
            return _html(page.message("The journal cannot be read", str(error)), status=503)
        if record is None:
            said = f"The journal has no record {seq}: it is not there yet, or was deleted after every sink had it."
            return _html(page.message("No such event", said), status=404)
        return _html(page.detail(seq, render(record), in_every_format(record), self._journal.head))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: once a second the sections that have changed, as long as somebody watches."""
        if self._watchers >= MAX_WATCHERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_WATCHERS} pages are open already; close one\n")
        wanted = Filter.of(request.query.get("q", ""), request.query.get("severity", ""))
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._watchers += 1
        try:
            await answer.prepare(request)
            await self._tell(answer, Latest(self._journal, wanted), wanted)
        except ConnectionError:
            pass  # The reader has gone; that is how a stream ends.
        finally:
            self._watchers -= 1
        return answer

    async def _tell(self, answer: web.StreamResponse, latest: Latest, wanted: Filter) -> None:
        told: dict[str, str] = {}
        await answer.write(b"retry: 2000\n\n")
        while True:
            title, sections = await self._moment()
            now = {**sections, "events": await self._events_section(latest, wanted)}
            news = {name: html for name, html in now.items() if told.get(name) != html}
            told = now
            await answer.write(b"event: sections\ndata: " + orjson.dumps({"title": title, "sections": news}) + b"\n\n")
            if await self._stop.sleep(NEWS_S):
                return

    async def _moment(self) -> tuple[str, dict[str, str]]:
        """The title, and the sections that are the same for all: made once for all pages that are open."""
        now = asyncio.get_running_loop().time()
        if now - self._made_at > NEWS_S / 2:
            rows = self._rows()
            self._made_at, self._made = now, (page.title(rows), await self._sections(rows))
        return self._made

    async def _sections(self, rows: page.Rows) -> dict[str, str]:
        """All but the events."""
        listing_rates, sink_rates = self._history.rates()
        if self._charts[0] != self._history.taken:
            self._charts = (self._history.taken, page.charts_section(self._history.samples))
        return {
            "verdict": page.verdict_section(rows),
            "flow": page.flow_section(rows, listing_rates, sink_rates),
            "charts": self._charts[1],
            "dead": await self._dead_section(),
            "names": page.names_section(rows),
        }

    async def _events_section(self, latest: Latest, wanted: Filter) -> str:
        try:
            await latest.look()
        except StreamerError as error:
            return page.events_section([], wanted, str(error))
        return page.events_section(latest.found, wanted)

    async def _dead_section(self) -> str:
        try:
            return page.dead_section(await self._journal.dead_letters(MAX_LETTERS))
        except StreamerError as error:
            return page.dead_section([], str(error))


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="streamer"'}


async def _harden(_: web.Request, answer: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)


def _html(text: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def _file(path: str, kind: str) -> Handler:
    body = files("streamer.admin").joinpath("static", path[1:]).read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return answer


@asynccontextmanager
async def serve_admin(
    options: AdminOptions,
    telemetry: Telemetry,
    journal: Journal | None,
    history: History,
    configuration: Callable[[], str],
    stop: Stop,
) -> AsyncIterator[int]:
    """Listen; yields the port. ConfigError when the address cannot be had."""
    admin = Admin(options, telemetry, journal, history, configuration, stop)
    runner = web.AppRunner(admin.app(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port)
        try:
            await site.start()
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "no such host"
            raise ConfigError(
                f"admin.listen: {options.listen} cannot be had: {reason}; choose another address or port"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
