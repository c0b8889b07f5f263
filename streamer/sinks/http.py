"""What every HTTP sink shares: the session, one `post`, one `map_errors`, one way from a status to a verdict.

A sink on top of it has its options, a pure `encode` of a batch, and the reading of the answer; nothing here retries.
"""

import asyncio
import ipaddress
import os
import re
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from streamer import __version__
from streamer.config import show_duration
from streamer.errors import NOT_JSON, ConfigError, PermanentError, RetryableError
from streamer.ports import SinkContext
from streamer.retry import parse_retry_after
from streamer.sinks.http_options import Credential, HttpOptions, own_headers, secret_at
from streamer.sinks.tls import Tls

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult
    from multidict import CIMultiDict


_ANSWER_LIMIT = 32 << 20
"""Of an answer, in bytes; more is not read."""
_GZIP_FROM = 1024
"""Smaller bodies are not worth a header."""


# --- answers and verdicts --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    where: str
    """The sink and the server's origin: scheme, host and port; the rest of a URL may be a secret."""
    status: int
    body: bytes = b""
    retry_after: float | None = None
    hidden: tuple[str, ...] = field(default=(), repr=False)
    """Secrets of the request, which its text may repeat."""

    def says(self, text: str | None = None) -> str:
        """Its own words (or `text`, taken out of them), in brackets, fit for a log: short, printable, without our secrets."""
        text = self.body[:2000].decode("utf-8", "replace") if text is None else text
        for secret in self.hidden:
            text = text.replace(secret, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return f" ({text[:300]}{'…' if len(text) > 300 else ''})" if text else ""


T = TypeVar("T")


def read_json(body: bytes, decode: Callable[[bytes], T]) -> T | None:
    """What a msgspec decoder makes of an answer; None where it is no JSON, or not such."""
    try:
        return decode(body)
    except NOT_JSON:
        return None


Verdict = Literal["success", "retry", "permanent", "config"]

_ANY_2XX = frozenset(range(200, 300))
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)}) - {501}


@dataclass(frozen=True)
class Verdicts:
    """Which status means what to one kind of server; a status that is in none of its sets is `config`."""

    success: frozenset[int] = _ANY_2XX
    retry: frozenset[int] = _TRANSIENT
    permanent: frozenset[int] = frozenset({400, 413, 422})

    def verdict(self, status: int) -> Verdict:
        if status in self.success:
            return "success"
        if status in self.retry:
            return "retry"
        return "permanent" if status in self.permanent else "config"

    def judge(self, answer: Answer, said: str | None = None) -> None:
        """Returns for a success, else raises the verdict. `said`: the part of the body that is worth repeating."""
        sentence = f"{answer.where} answered {answer.status}{answer.says(said)}"
        match self.verdict(answer.status):
            case "success":
                return
            case "retry":
                raise RetryableError(sentence, retry_after=answer.retry_after)
            case "permanent":
                raise PermanentError(sentence)
            case "config":
                raise ConfigError(f"{sentence}; {_mend(answer.status)}")


def _mend(status: int) -> str:
    if status in (401, 403, 407):
        return "check the credentials and their permissions"
    if status == 410:
        return "the receiver wants no more; enable it again there, or remove the sink"
    if 300 <= status < 400:
        return "redirects are not followed: give the URL that it leads to"
    return "check the URL"


@contextmanager
def map_errors(where: str, timeout: float) -> Iterator[None]:
    """Everything that the client library and the network can raise, to a verdict. Never repeats a URL."""
    import aiohttp

    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or "not valid"
        raise ConfigError(
            f"{where}: its certificate is not trusted: {reason}; give its authority as tls.ca_file"
        ) from None
    except (aiohttp.ClientSSLError, aiohttp.ClientConnectorSSLError) as error:
        reason = getattr(error.os_error, "reason", None) or "handshake failed"
        raise ConfigError(
            f"{where}: TLS: {reason}; check the URL's scheme, and tls.cert_file if it asks for one"
        ) from None
    except aiohttp.ClientHttpProxyError as error:
        if error.status in _TRANSIENT:
            raise RetryableError(f"{where}: the proxy answered {error.status}") from None
        raise ConfigError(f"{where}: the proxy answered {error.status}; check proxy and what it allows") from None
    except (aiohttp.InvalidURL, UnicodeError):
        raise ConfigError(f"{where}: not a URL that can be asked; check it") from None
    except TimeoutError:
        raise RetryableError(f"{where}: no answer within {show_duration(timeout)}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise RetryableError(f"{where}: {_why(error)}") from None


def _why(error: Exception) -> str:
    import aiohttp

    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientProxyConnectionError():
            return "cannot connect to the proxy"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            return "the connection was closed before an answer"
        case aiohttp.ClientPayloadError():
            return "the answer was cut short"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            return f"cannot connect: {os.strerror(number).lower() if number else type(error.os_error).__name__}"
        case OSError() if error.strerror:
            return error.strerror
    return type(error).__name__


# --- addresses -------------------------------------------------------------------------------------------------------

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_private(text: str) -> bool:
    """Whether an IP address (also one inside a mapped, 6to4 or NAT64 one) is anything but a public unicast one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    return not address.is_global or address.is_multicast


def _refused(sink: str, host: str, address: str) -> ConfigError:
    return ConfigError(
        f"{sink}: {host} is at {address}, which private_addresses: refuse forbids; use another receiver, or set it to allow"
    )


def _refuse_literal(sink: str, host: str) -> None:
    """An address in the URL is never resolved, so the resolver cannot see it."""
    try:
        private = is_private(host)
    except ValueError:
        return
    if private:
        raise _refused(sink, host, host)


def _public_resolver(sink: str) -> "AbstractResolver":
    import aiohttp

    class PublicResolver(aiohttp.ThreadedResolver):
        """Looks at what is going to be connected to, so that no name and no change of DNS gets around it."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> "list[ResolveResult]":
            found = await super().resolve(host, port, family)
            for result in found:
                if is_private(result["host"]):
                    raise _refused(sink, host, result["host"])
            return found

    return PublicResolver()


# --- the client ------------------------------------------------------------------------------------------------------


class Http:
    """Posts for one sink. Reads secrets and certificates anew for every request."""

    def __init__(
        self,
        options: HttpOptions,
        context: SinkContext,
        session: "aiohttp.ClientSession",
        credentials: Iterable[Credential],
    ) -> None:
        self._options, self._session, self._name = options, session, f"sinks.{context.name}"
        self._credentials = [*own_headers(options, context), *credentials]
        self._proxy = secret_at(context, "proxy", options.proxy, options.proxy_file)
        self._tls = Tls(f"{self._name}.tls", options.tls)

    def check(self) -> None:
        """ConfigError where a secret or certificate cannot be used."""
        self._reveal()
        self._tls.context()

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, hide: Sequence[str] = (), gzip: bool | None = None
    ) -> Answer:
        """One request and its whole answer, whatever its status. `hide`: further secrets that an answer may repeat; `gzip`: None is as configured."""
        headers = dict(headers)
        if (self._options.gzip if gzip is None else gzip) and len(body) >= _GZIP_FROM:
            # In a thread, where it holds no lock; wbits 31 is gzip with no time in it, so that a retry has the same bytes.
            body = await asyncio.to_thread(zlib.compress, body, 5, 31)
            headers["Content-Encoding"] = "gzip"
        return await self._request("POST", url, body, headers, hide)

    async def get(self, url: str) -> Answer:
        return await self._request("GET", url, b"", {}, ())

    async def reach(self, url: str) -> str:
        """Ask for nothing, to see that there is a server that lets us in; what it said."""
        answer = await self._request("HEAD", url, b"", {}, ())
        if answer.status in (401, 403, 407) or answer.status in _TRANSIENT:
            Verdicts().judge(answer)
        return f"{answer.where} is reachable (HEAD: {answer.status})"

    async def _request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], hide: Sequence[str]
    ) -> Answer:
        parts = urlsplit(url)
        where = f"{self._name}: {parts.scheme}://{parts.netloc}"
        if self._options.private_addresses == "refuse":
            _refuse_literal(self._name, parts.hostname or "")
        all_headers, hidden = self._reveal()
        all_headers.update(headers)
        target: dict[str, Any] = {"allow_redirects": False, "headers": all_headers}
        if self._proxy is not None:
            proxy = self._proxy.reveal()
            target["proxy"] = proxy
            hidden.append(proxy)
        if parts.scheme == "https":
            target["ssl"] = self._tls.context()
        if body:
            target["data"] = body
        with map_errors(where, self._options.timeout):
            async with self._session.request(method, url, **target) as response:
                text = await _read(response.content)
                return Answer(
                    where=where,
                    status=response.status,
                    body=text,
                    retry_after=parse_retry_after(response.headers.get("Retry-After"), time.time()),
                    hidden=(*hidden, *hide),
                )

    def _reveal(self) -> "tuple[CIMultiDict[str], list[str]]":
        """The headers that are sent with every request, and the secrets in them."""
        from multidict import CIMultiDict

        headers: CIMultiDict[str] = CIMultiDict()
        hidden: list[str] = []
        for credential in self._credentials:
            secret = credential.secret.reveal()
            if re.search(r"[\x00-\x1f\x7f]", secret):
                raise ConfigError(f"{self._name}: the value of {credential.name} must be one line; mend its secret")
            headers[credential.name] = credential.value(secret)
            hidden += [secret, headers[credential.name].removeprefix(credential.scheme)]
        return headers, hidden


async def _read(content: "aiohttp.StreamReader") -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < _ANSWER_LIMIT and (part := await content.read(1 << 16)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


@asynccontextmanager
async def open_http(
    options: HttpOptions, context: SinkContext, credentials: Iterable[Credential] = (), *, cookies: bool = False
) -> AsyncIterator[Http]:
    """A client for one sink. `cookies`: keep them, for load balancers that bind a session to a server by one."""
    import aiohttp

    connector = aiohttp.TCPConnector(
        limit=4,
        keepalive_timeout=15,
        resolver=_public_resolver(f"sinks.{context.name}")
        if options.private_addresses == "refuse"
        else aiohttp.ThreadedResolver(),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=options.timeout, sock_connect=min(options.timeout, 10.0)),
        cookie_jar=aiohttp.CookieJar(unsafe=True) if cookies else aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"openai-audit-streamer/{__version__}", "Accept": "application/json, */*;q=0.1"},
        trust_env=False,
        max_line_size=16_384,
        max_field_size=16_384,
    ) as session:
        http = Http(options, context, session, credentials)
        http.check()
        yield http
