"""What every HTTP sink shares: the session, one `post`, one `map_errors`, one way from a status to a verdict.

A sink on top of it has its options, a pure `encode` of a batch, and the reading of the answer; nothing here retries.
"""

import asyncio
import base64
import ipaddress
import os
import re
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from pydantic import AfterValidator, Field, SecretStr, model_validator

from streamer import __version__
from streamer.config import Duration, FormatName, Secret, SinkOptions, Url, one_secret, show_duration
from streamer.errors import NOT_JSON, ConfigError, PermanentError, RetryableError
from streamer.model import EPOCH, Batch, Message, Record
from streamer.ports import SinkContext
from streamer.retry import parse_retry_after
from streamer.sinks.tls import Tls, TlsOptions

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult
    from multidict import CIMultiDict

JSON_FORMATS: frozenset[FormatName] = frozenset({"envelope", "raw", "ocsf", "ecs"})
"""Formats whose bytes are one JSON value; the others are text."""

_ANSWER_LIMIT = 32 << 20
"""Of an answer, in bytes; more is not read."""
_GZIP_FROM = 1024
"""Smaller bodies are not worth a header."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {"content-length", "content-type", "content-encoding", "transfer-encoding", "connection"}


# --- options ---------------------------------------------------------------------------------------------------------


class HttpOptions(SinkOptions):
    """What every HTTP sink takes."""

    tls: TlsOptions = TlsOptions()
    """Certificates, for https."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every request."""
    header_files: dict[str, Path] = Field(default_factory=dict)
    """The same, each value in a file."""
    gzip: bool = True
    """Compress requests."""
    timeout: Duration = 30.0
    """Of one request, until its answer is read."""
    proxy: SecretStr | None = None
    """http://USER:PASSWORD@HOST:PORT; a secret, since it may hold a password."""
    proxy_file: Path | None = None
    private_addresses: Literal["allow", "refuse"] = "allow"
    """`refuse`: connect to no loopback, private, link-local or reserved address, whatever the name resolves to."""

    @model_validator(mode="after")
    def _checked(self) -> "HttpOptions":
        one_secret("proxy", self.proxy, self.proxy_file)
        if (self.proxy or self.proxy_file) and self.private_addresses == "refuse":
            raise ValueError("private_addresses: refuse cannot work through a proxy, which resolves the name; drop one")
        seen: set[str] = set()
        for name in (*self.headers, *self.header_files):
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(f"{name!r} is no header that can be set; remove it")
            if name.lower() in seen:
                raise ValueError(f"header {name} is there twice; keep one")
            seen.add(name.lower())
        return self


Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1024)]
"""A text that can stand in a header."""


class HttpAuthOptions(HttpOptions):
    """HTTP sinks whose receiver may ask for a bearer token, or a user name and password."""

    bearer: SecretStr | None = None
    """Sent as `Authorization: Bearer …`."""
    bearer_file: Path | None = None
    username: str | None = None
    """For basic authentication, with `password`."""
    password: SecretStr | None = None
    """Of `username`."""
    password_file: Path | None = None

    @model_validator(mode="after")
    def _one_authorization(self) -> "HttpAuthOptions":
        bearer = one_secret("bearer", self.bearer, self.bearer_file)
        password = one_secret("password", self.password, self.password_file)
        if (self.username is None) != (password is None):
            raise ValueError("username and password (or password_file) come together; add the other")
        if bearer is not None and password is not None:
            raise ValueError("bearer and username exclude each other; keep one")
        return self


class SecretUrlOptions(SinkOptions):
    """Sinks whose URL may itself be the credential."""

    url: Annotated[SecretStr | None, Field(examples=["https://siem.example.com/in"])] = None
    """Where to send; a secret, since it may hold one."""
    url_file: Path | None = None

    @model_validator(mode="after")
    def _has_url(self) -> "SecretUrlOptions":
        if one_secret("url", self.url, self.url_file) is None:
            raise ValueError("url is missing; add it, or url_file")
        if self.url is not None:
            try:
                checked_url("url", self.url.get_secret_value())
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self


def checked_url(where: str, text: str) -> str:
    """The text, if it is an http(s) URL with a host and no user name; ConfigError that does not repeat it."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f]", text):
        raise ConfigError(f"{where}: not a URL; begin with https:// (or http://) and a host, without user name")
    return text


def _without_user(text: str) -> str:
    try:
        return checked_url("it", text)
    except ConfigError as error:
        raise ValueError(str(error)) from None


SiteUrl = Annotated[Url, AfterValidator(_without_user)]
"""An http(s) URL that holds no credential, so that it can be shown."""


# --- credentials -----------------------------------------------------------------------------------------------------


class Credential(NamedTuple):
    """A header that carries a secret: `name: scheme secret`."""

    name: str
    secret: Secret
    scheme: str = ""
    username: str | None = None
    """With it the value is that of Basic: base64 of `username:secret`."""

    def value(self, revealed: str) -> str:
        if self.username is not None:
            revealed = base64.b64encode(f"{self.username}:{revealed}".encode()).decode()
        return self.scheme + revealed


def secret_at(context: SinkContext, key: str, value: SecretStr | None, file: Path | None) -> Secret | None:
    """`one_secret` of a sink's option, named by its place in the configuration."""
    return one_secret(f"sinks.{context.name}.{key}", value, file)


def authorization(options: HttpAuthOptions, context: SinkContext) -> Iterator[Credential]:
    """Bearer or Basic, if the options have one."""
    bearer = secret_at(context, "bearer", options.bearer, options.bearer_file)
    password = secret_at(context, "password", options.password, options.password_file)
    if bearer is not None:
        yield Credential("Authorization", bearer, "Bearer ")
    elif password is not None:
        yield Credential("Authorization", password, "Basic ", options.username)


def _own_headers(options: HttpOptions, context: SinkContext) -> Iterator[Credential]:
    for name, value in options.headers.items():
        yield Credential(name, Secret(f"sinks.{context.name}.headers.{name}", value, None))
    for name, file in options.header_files.items():
        yield Credential(name, Secret(f"sinks.{context.name}.header_files.{name}", None, file))


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
        self._credentials = [*_own_headers(options, context), *credentials]
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


# --- bodies and batches ---------------------------------------------------------------------------------------------------------


def unix_nanos(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def as_json(message: Message, is_json: bool) -> bytes:
    """The format's bytes as a JSON value: text (CEF, LEEF) becomes a string."""
    return message.body if is_json else as_json_string(message.body)


def as_json_string(body: bytes) -> bytes:
    return msgspec.json.encode(body.decode("utf-8", "replace"))


class Taken:
    """The records of a batch that failed half-way which the other side has already taken, so that the next try sends only the rest.

    Records count as the same while they are the same object: what is read from the journal again is sent again.
    """

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}

    def rest(self, batch: Batch) -> list[int]:
        """Indexes of the messages that are still to be sent."""
        return [i for i, message in enumerate(batch.messages) if id(message.record) not in self._records]

    def add(self, message: Message) -> None:
        self._records[id(message.record)] = message.record

    def finish(self, batch: Batch) -> None:
        """The batch is through: forget it."""
        for message in batch.messages:
            self._records.pop(id(message.record), None)


def too_large(sizes: Iterable[int], limit: int, what: str) -> None:
    """PermanentError that names the entries over a limit which the store answers by cutting or refusing."""
    over = [i for i, size in enumerate(sizes) if size > limit]
    if over:
        raise PermanentError(f"too large: {what} takes at most {limit} bytes", rejected=over)


def check_request(body: bytes, limit: int, store: str) -> bytes:
    """The body, or PermanentError, on which the batch is halved, if it is over the store's limit."""
    if len(body) > limit:
        raise PermanentError(f"{len(body)} bytes in one request: {store} takes at most {limit}")
    return body
