"""`python -m tests.lease_server`: the Lease endpoints of a Kubernetes API server, as far as leader election can tell.

Prints its address. Versions rise with every write of any object; a write with another version than the stored one is a 409; names are taken once; a bearer token
is asked for. `PUT /fault?status=503` makes it answer so until it is told otherwise; it ends when stdin does.
"""

import asyncio
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

TOKEN = "service-account-token"
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
ROOT = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def failure(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason}
    return web.json_response({**status, "code": code}, status=code)


class Leases:
    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.version = 100
        self.fault = 0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get(ROOT + "/{name}", self.read),
                web.post(ROOT, self.create),
                web.put(ROOT + "/{name}", self.replace),
                web.put("/fault", self.break_it),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != "/fault":
            if self.fault:
                return failure(self.fault, "ServiceUnavailable", "the server is currently unable to handle the request")
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return failure(401, "Unauthorized", "Unauthorized")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def break_it(self, request: web.Request) -> web.Response:
        self.fault = int(request.query["status"])
        return web.json_response({})

    async def read(self, request: web.Request) -> web.Response:
        lease = self.stored.get((request.match_info["namespace"], request.match_info["name"]))
        if lease is None:
            name = request.match_info["name"]
            return failure(404, "NotFound", f'leases.coordination.k8s.io "{name}" not found')
        return web.json_response(lease)

    async def create(self, request: web.Request) -> web.Response:
        lease = await request.json()
        key = (request.match_info["namespace"], lease["metadata"]["name"])
        if key in self.stored:
            return failure(409, "AlreadyExists", f'leases.coordination.k8s.io "{key[1]}" already exists')
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = {**lease["metadata"], "namespace": key[0], "uid": str(uuid.uuid4()), "creationTimestamp": now}
        return self._write(key, {**lease, "metadata": made}, 201)

    async def replace(self, request: web.Request) -> web.Response:
        lease, key = await request.json(), (request.match_info["namespace"], request.match_info["name"])
        stored = self.stored.get(key)
        if stored is None:
            return failure(404, "NotFound", f'leases.coordination.k8s.io "{key[1]}" not found')
        version = lease["metadata"].get("resourceVersion")
        if version is not None and version != stored["metadata"]["resourceVersion"]:
            return failure(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        kept = {name: stored["metadata"][name] for name in ("uid", "creationTimestamp", "namespace", "name")}
        return self._write(key, {**lease, "metadata": {**lease["metadata"], **kept}}, 200)

    def _write(self, key: tuple[str, str], lease: dict[str, Any], code: int) -> web.Response:
        spec = lease["spec"]
        times = [spec[name] for name in ("acquireTime", "renewTime") if name in spec]
        if not all(MICRO_TIME.fullmatch(at) for at in times) or spec["leaseDurationSeconds"] < 1:
            return failure(422, "Invalid", f"Lease is invalid: {spec}")
        self.version += 1
        lease["metadata"]["resourceVersion"] = str(self.version)
        self.stored[key] = lease
        return web.json_response(lease, status=code)


@contextmanager
def lease_server() -> Iterator[str]:
    """Its address, in a process of its own until the block ends."""
    command = [sys.executable, "-m", "tests.lease_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


async def main() -> None:
    runner = web.AppRunner(Leases().app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
