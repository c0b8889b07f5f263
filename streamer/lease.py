"""A Lease of Kubernetes (coordination.k8s.io/v1): one of several processes holds it, and the others know when it may be taken.

Whoever holds it and cannot renew it in time is ended by the kernel, by a timer that is set before each renewal is asked for: whether the
process runs, hangs or was stopped and wakes up again, the signal comes before its next instruction. So nobody writes past his time.
"""

import json
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import aiohttp

from streamer.config import LeaseOptions
from streamer.errors import RetryableError
from streamer.stop import Stop
from streamer.telemetry import Telemetry

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TRIES_A_TERM = 6
"""So often in `duration` it is renewed, and looked at by those who wait."""
END_AFTER = 2 / 3
"""Of `duration`: whoever has not renewed it for so long ends. The rest is for clocks that run unequally and for a write that the kernel is in."""

Verdict = Literal["create", "take", "renew", "wait"]


@dataclass(frozen=True)
class Seen:
    """A lease as it was last read."""

    holder: str
    duration_s: float
    version: str
    changed_at: float
    """When we first saw it so, in seconds of our monotonic clock: clocks of others are not believed."""


def decide(seen: Seen | None, me: str, now: float) -> Verdict:
    """What to do about it. `now`: monotonic."""
    if seen is None:
        return "create"
    if seen.holder == me:
        return "renew"
    if not seen.holder or now >= seen.changed_at + seen.duration_s:
        return "take"
    return "wait"


class Lease:
    """One process's hold on it, or wait for it."""

    def __init__(self, options: LeaseOptions, me: str, session: aiohttp.ClientSession, telemetry: Telemetry) -> None:
        self._options, self.me, self._session, self._telemetry = options, me, session, telemetry
        self._url = f"{_server(options)}/apis/coordination.k8s.io/v1/namespaces/{_namespace(options)}/leases"
        self._document: dict[str, Any] | None = None
        self._seen: Seen | None = None
        self._ended = Stop()
        self._every_s = options.duration / TRIES_A_TERM

    async def acquire(self, stop: Stop) -> bool:
        """Until it is ours. False when the program stops first."""
        while not stop.is_set():
            if await self._turn():
                return True
            await stop.sleep(self._every_s)
        return False

    async def keep(self) -> None:
        """Renew it, until `end`."""
        while not await self._ended.sleep(self._every_s):
            if not await self._turn() and self._seen is not None and self._seen.holder != self.me:
                # Somebody has taken it by hand. What was written is written; nothing more must be.
                self._telemetry.lease_lost(self._seen.holder)
                os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        """Of `keep`."""
        self._ended.set()

    async def release(self) -> None:
        """So that the next one need not wait; if that fails, it does."""
        with suppress(RetryableError, LostRace):
            await self._put("", 1)
        signal.setitimer(signal.ITIMER_REAL, 0)

    async def _turn(self) -> bool:
        """One look or renewal. True: it is ours for another while."""
        began = time.monotonic()
        try:
            if self._seen is None or self._seen.holder != self.me:
                await self._read()
            verdict = decide(self._seen, self.me, time.monotonic())
            if verdict != "wait":
                await self._put(self.me, self._options.duration)
                _end_at(began + END_AFTER * self._options.duration)
        except LostRace:
            self._document = self._seen = None
            try:
                await self._read()
            except RetryableError as error:
                self._telemetry.lease_failing(str(error))
            return False
        except RetryableError as error:
            self._telemetry.lease_failing(str(error))
            return False
        holder = self._seen.holder if self._seen is not None else ""
        self._telemetry.lease_seen(holder)
        return holder == self.me

    async def _read(self) -> None:
        self._note(await self._ask("GET", f"{self._url}/{self._options.name}"))

    def _note(self, document: dict[str, Any] | None) -> None:
        self._document = document
        if document is None:
            self._seen = None
            return
        version, spec = str(document["metadata"]["resourceVersion"]), document.get("spec") or {}
        if self._seen is None or self._seen.version != version:
            holder, lasts = spec.get("holderIdentity") or "", float(spec.get("leaseDurationSeconds") or 1)
            self._seen = Seen(holder, lasts, version, time.monotonic())

    async def _put(self, holder: str, duration_s: float) -> None:
        """With the version that was read, so that of two who try one fails."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = self._document
        spec = dict((before or {}).get("spec") or {})
        if spec.get("holderIdentity") != holder:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (before is not None)
            spec["acquireTime"] = now
        spec |= {"holderIdentity": holder, "leaseDurationSeconds": max(int(duration_s), 1), "renewTime": now}
        if before is None:
            document = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._options.name, "namespace": _namespace(self._options)},
                "spec": spec,
            }
            self._note(await self._ask("POST", self._url, document))
        else:
            self._note(await self._ask("PUT", f"{self._url}/{self._options.name}", {**before, "spec": spec}))

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """None: there is none. LostRace for a conflict, RetryableError for everything else: who waits can only try again."""
        where = f"standby.lease: {self._options.name}"
        headers = {"Authorization": f"Bearer {_token(self._options)}"} if _has_token(self._options) else {}
        try:
            async with self._session.request(method, url, json=body, headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RetryableError(
                f"{where}: the API server does not answer: {str(error) or type(error).__name__}"
            ) from None
        if answer.status == 404 and method == "GET":
            return None
        if answer.status == 409:
            raise LostRace
        if answer.status not in (200, 201):
            mend = "; give the service account get, create and update on leases" if answer.status in (401, 403) else ""
            raise RetryableError(f"{where}: {answer.status} to {method}: {text[:200]}{mend}")
        try:
            document: dict[str, Any] = json.loads(text)
            document["metadata"]["resourceVersion"]
        except (ValueError, KeyError, TypeError):
            raise RetryableError(f"{where}: the answer to {method} is no Lease; check standby.lease.server") from None
        return document


class LostRace(Exception):  # an answer that the caller acts on, not an error
    """Somebody else has written it meanwhile."""


def _end_at(deadline: float) -> None:
    """The kernel ends this process then, whatever it does. `deadline`: monotonic."""
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0.001))


# --- where it is -----------------------------------------------------------------------------------------------------


def _server(options: LeaseOptions) -> str:
    if options.server is not None:
        return options.server
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host or 'kubernetes.default.svc'}:{port}"


def _namespace(options: LeaseOptions) -> str:
    if options.namespace is not None:
        return options.namespace
    try:
        return (ACCOUNT / "namespace").read_text("utf-8").strip()
    except OSError:
        return "default"


def _has_token(options: LeaseOptions) -> bool:
    return options.token_file is not None or (ACCOUNT / "token").exists()


def _token(options: LeaseOptions) -> str:
    """Read for each request: Kubernetes replaces it."""
    path = options.token_file or ACCOUNT / "token"
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RetryableError(f"standby.lease.token_file: cannot read {path}: {reason}; mount the token there") from None


def _tls(options: LeaseOptions) -> ssl.SSLContext | bool:
    path = options.ca_file or ACCOUNT / "ca.crt"
    return ssl.create_default_context(cafile=path) if path.exists() else True


@asynccontextmanager
async def open_lease(options: LeaseOptions, me: str, telemetry: Telemetry) -> AsyncIterator[Lease]:
    """`me`: of this process alone. Touches no network."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_tls(options)),
        timeout=aiohttp.ClientTimeout(total=options.duration / 3),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        yield Lease(options, me, session, telemetry)
