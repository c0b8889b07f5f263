"""/metrics /healthz /readyz /status, on a port of their own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streamer.config import AdminOptions
from streamer.errors import ConfigError
from streamer.telemetry import ListingStatus, Telemetry

READY_INTERVALS = 3
"""A listing that has not been read within so many poll intervals is not ready."""
SLACK_S = 5.0


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

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 16)
        app.add_routes(
            [
                web.get("/metrics", self.metrics),
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/status", self.status),
            ]
        )
        return app

    async def metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._telemetry.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(self, _: web.Request) -> web.Response:
        """That this is answered is the proof: jobs that die end the process, and a blocked loop does not answer."""
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        reasons = unready(list(self._telemetry.status.listings.values()), self._telemetry.clock())
        return web.Response(text="\n".join(reasons or ["ready"]) + "\n", status=503 if reasons else 200)

    async def status(self, _: web.Request) -> web.Response:
        body = orjson.dumps(self._telemetry.status.as_dict(self._telemetry.clock()))
        return web.Response(body=body, content_type="application/json")


@asynccontextmanager
async def serve_admin(options: AdminOptions, telemetry: Telemetry) -> AsyncIterator[int]:
    """Listen; yields the port. ConfigError when the address cannot be had."""
    runner = web.AppRunner(Admin(telemetry).app(), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port, shutdown_timeout=1.0)
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
