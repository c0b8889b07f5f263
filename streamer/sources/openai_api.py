"""One request to OpenAI's Admin API: the key, the limits, a verdict on whatever comes back, and the server's clock.

No retry: a failed request is a verdict, and the loops know what to do with it. The one exception is a 401 while there is another
key, because the file was replaced or holds two: that is no failure yet.
"""

import os
import re
import ssl
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Literal, TypeVar

import aiohttp
import msgspec
from yarl import URL

from streamer import __version__
from streamer.errors import NOT_JSON, ConfigError, RetryableError
from streamer.model import SourceName
from streamer.retry import parse_retry_after
from streamer.sources.openai_key import fingerprint, is_shortened, keys_in
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.sources.openai_pages import NotAPage
from streamer.telemetry import Telemetry

T = TypeVar("T")

AUDIT_LOGS_SCOPE = "api.audit_logs.read"
MAX_BODY = 32 << 20
"""Bytes of a response body, before and after decompression. A page of 100 events has about 100 KiB."""
MAX_GZIP_MEMBERS = 100
"""A gzip body may be several, one after the other; each costs a copy of what follows."""
MAX_SAID = 300
"""Characters of the server's own words that an error repeats."""
KEEPALIVE_S = 75.0
"""Longer than a poll interval, so that a live source stays on one connection."""
DNS_CACHE_S = 60
SKEW_TOLERATED_S = 2.0
"""`Date` has whole seconds and answers take time to travel: a smaller difference is no wrong clock."""
PLAUSIBLE_DATES = range(1_577_836_800, 4_102_444_800)
"""2020 to 2100. A `Date` outside of it tells of a broken server, not of the time."""


class Answer(msgspec.Struct, frozen=True):
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request: str
    """The request's ids, theirs and ours, for messages."""


class AdminApi:
    """GETs of one organization. `get` returns the body of a 200; everything else is a ConfigError or a RetryableError."""

    def __init__(
        self,
        name: SourceName,
        options: OpenAIAuditLogsOptions,
        telemetry: Telemetry,
        session: aiohttp.ClientSession,
    ) -> None:
        self.name, self._options, self._telemetry, self._session = name, options, telemetry, session
        self._secret = options.key(name)
        self._in_use = ""
        """The fingerprint of the key that was last taken."""
        self._clock = ServerClock(telemetry.steady)

    def now(self) -> float:
        return self._clock.now()

    async def get(
        self, path: str, query: str, where: str, read: Callable[[bytes], T], /, scope: str = AUDIT_LOGS_SCOPE
    ) -> tuple[T, str]:
        """What `read` makes of the body (or NotAPage), and the request's ids for messages.

        `path` below base_url; `query` percent-encoded, sent as it is; `where`: what messages call the place; `scope`: what
        the key needs for it.
        """
        url = URL(f"{self._options.base_url}/{path}?{query}", encoded=True)
        keys = keys_in(self._secret.reveal(), where)
        key = self._of_two(keys)
        answer = await self._ask(url, key, where)
        if answer.status == 401:
            # The file may have been replaced a moment ago: read it afresh, whatever its time stamp says.
            self._secret = self._options.key(self.name)
            keys = keys_in(self._secret.reveal(), where)
            for other in (one for one in keys if one != key):
                key, answer = other, await self._ask(url, other, where)
                if answer.status != 401:
                    break
        if answer.status == 200:
            self._in_use = fingerprint(key)
            self._telemetry.key_in_use(self.name, self._in_use, keys.index(key) + 1, len(keys))
        error = judge(answer, where, self._options, key, self.now(), scope, resumed="&after=" in query)
        if error is not None:
            raise error
        try:
            return read(answer.body), answer.request
        except NotAPage as error:
            raise RetryableError(
                f"{where}: the answer is {error}{_quoted(answer.body, key, may_hold_events=True)} ({answer.request}); the request is made again"
            ) from None

    def _of_two(self, keys: list[str]) -> str:
        """The one that was taken before, as long as it is there."""
        return next((key for key in keys if fingerprint(key) == self._in_use), keys[0])

    def is_ours(self, shown: str) -> bool:
        """Whether a list that shortens keys shows the one in use."""
        return is_shortened(self._of_two(keys_in(self._secret.reveal(), f"sources.{self.name}")), shown)

    async def _ask(self, url: URL, key: str, where: str) -> Answer:
        client_request_id = str(uuid.uuid4())
        headers = {"Authorization": f"Bearer {key}", "X-Client-Request-Id": client_request_id}
        status: int | Literal["error"] = "error"
        started, sent_at = time.perf_counter(), self._telemetry.steady()
        try:
            with map_errors(where, self._options, key, f"our request {client_request_id}"):
                async with self._session.get(
                    url, headers=headers, allow_redirects=False, proxy=self._options.proxy
                ) as response:
                    answered_at = self._telemetry.steady()
                    body = await _read_body(response)
                    status = response.status
        finally:
            self._telemetry.api_request(self.name, status, time.perf_counter() - started)
        if status == 200:
            self._clock.observe(response.headers, sent_at, answered_at)
            skew = self.now() - self._telemetry.clock()
            self._telemetry.clock_skew(self.name, skew if abs(skew) > SKEW_TOLERATED_S else 0.0)
        theirs = clean(response.headers.get("x-request-id", ""), key)
        ids = f"request {theirs}, our request {client_request_id}" if theirs else f"our request {client_request_id}"
        return Answer(status, response.headers, body, ids)


@asynccontextmanager
async def open_admin_api(
    name: SourceName, options: OpenAIAuditLogsOptions, telemetry: Telemetry
) -> AsyncIterator[AdminApi]:
    """Touches no network. ConfigError when the key or the certificates cannot be read."""
    connector = aiohttp.TCPConnector(
        limit=options.concurrency + 2,  # the walks of catching up, and one live poll of each listing
        keepalive_timeout=KEEPALIVE_S,
        ttl_dns_cache=DNS_CACHE_S,
        ssl=_tls(name, options),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(
            total=options.timeouts.total, sock_connect=options.timeouts.connect, sock_read=options.timeouts.read
        ),
        headers={
            "User-Agent": f"openai-audit-streamer/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        },
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # done here in one piece, with its limit
        trust_env=False,
        read_bufsize=1 << 20,  # a usual page without pausing the transport
    ) as session:
        api = AdminApi(name, options, telemetry, session)
        keys_in(options.key(name).reveal(), f"sources.{name}")
        yield api


def _tls(name: SourceName, options: OpenAIAuditLogsOptions) -> ssl.SSLContext | bool:
    if not any(url and url.startswith("https") for url in (options.base_url, options.proxy)):
        return True
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:  # an unreadable certificate is an ssl.SSLError, which is an OSError too
        raise ConfigError(
            f"sources.{name}.ca_file: cannot load {options.ca_file}: {clean(error.strerror or str(error))}; "
            "put PEM certificates there"
        ) from None


# --- bodies ----------------------------------------------------------------------------------------------------------


class BadBody(Exception):  # `map_errors` makes the verdict of it
    """A body that cannot be taken as it came."""


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = list[bytes](), 0
    announced = response.content_length or 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if max(size, announced) > MAX_BODY:
            response.close()
            raise BadBody(f"a body of more than {MAX_BODY >> 20} MiB")
    body = b"".join(pieces)
    encoding = response.headers.get("Content-Encoding", "")
    return body if encoding.strip().lower() in ("", "identity") else decompress(body, encoding)


def decompress(body: bytes, encoding: str) -> bytes:
    """BadBody when it is cut, corrupt, in a coding we did not ask for, or larger than MAX_BODY inside."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise BadBody(f"a body in the content coding {encoding!r}, which was not asked for")
    whole = b""
    for _ in range(MAX_GZIP_MEMBERS):
        stream = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
        try:
            whole += stream.decompress(body, MAX_BODY + 1 - len(whole))
        except zlib.error:
            raise BadBody("a corrupt compressed body") from None
        if len(whole) > MAX_BODY:
            raise BadBody(f"a body of more than {MAX_BODY >> 20} MiB when decompressed")
        if not stream.eof:
            raise BadBody("a compressed body that is cut short")
        body = stream.unused_data
        if not body:
            return whole
    raise BadBody(f"a compressed body of more than {MAX_GZIP_MEMBERS} members")


# --- verdicts --------------------------------------------------------------------------------------------------------


@contextmanager
def map_errors(where: str, options: OpenAIAuditLogsOptions, key: str, request: str) -> Iterator[None]:
    """No answer, or half of one, to a verdict. `from None` because aiohttp's exceptions carry the request's headers."""
    host, asked = URL(options.base_url).host, f"({request})"
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        said = clean(getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error), key)
        raise ConfigError(
            f"{where}: the certificate of {error.host} cannot be trusted: {said} {asked}; "
            "check base_url, or name the issuing authority in ca_file"
        ) from None
    except aiohttp.InvalidURL:
        raise ConfigError(f"{where}: {options.base_url} is not a URL that can be asked; check base_url") from None
    except aiohttp.ClientHttpProxyError as error:
        sentence = f"{where}: the proxy answered {error.status} to CONNECT {host} {asked}"
        if error.status in (401, 403, 407):
            raise ConfigError(f"{sentence}; check proxy, its user and password") from None
        raise RetryableError(f"{sentence}; check the proxy if it stays") from None
    except BadBody as error:
        raise RetryableError(
            f"{where}: {host} sent {clean(str(error), key)} {asked}; the request is made again"
        ) from None
    except TimeoutError:
        limits = options.timeouts
        raise RetryableError(
            f"{where}: no whole answer from {host} within the timeouts (connect {limits.connect:g} s, "
            f"read {limits.read:g} s, total {limits.total:g} s) {asked}; raise timeouts if it stays"
        ) from None
    except aiohttp.ClientPayloadError:
        raise RetryableError(
            f"{where}: the answer of {host} was cut short {asked}; the request is made again"
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        said = clean(_reason(error), key)
        raise RetryableError(
            f"{where}: cannot talk to {host}: {said} {asked}; check the network and base_url if it stays"
        ) from None


def _reason(error: BaseException) -> str:
    """In words that carry no request: aiohttp's own texts may hold headers or a proxy's password."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "its answer is not HTTP"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {(cause.reason or 'no handshake').lower().replace('_', ' ')}"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()
    return type(cause).__name__


def judge(
    answer: Answer, where: str, options: OpenAIAuditLogsOptions, key: str, now: float, scope: str, resumed: bool
) -> ConfigError | RetryableError | None:
    """The verdict on a whole answer; None: a 200 from the right organization that is no web page.

    `resumed`: the request followed a cursor, so the same one without it was accepted before.
    """
    headers, status = answer.headers, answer.status
    if status == 200:
        return _judge_success(answer, where, options, key)
    sentence = f"{where}: {status}{_quoted(answer.body, key)} ({answer.request})"
    if status in (400, 404, 422) and resumed:
        return RetryableError(f"{sentence}; only the cursor can be wrong, so it is read again from the beginning")
    if status in (408, 409, 425, 429) or (status >= 500 and status != 501) or status < 300:
        meaning = "the API asks for fewer requests" if status == 429 else "the request is made again"
        return RetryableError(f"{sentence}; {meaning}", retry_after=_retry_after(headers, now))
    return ConfigError(f"{sentence}; {_mend(answer, options, key, scope)}")


def _judge_success(
    answer: Answer, where: str, options: OpenAIAuditLogsOptions, key: str
) -> ConfigError | RetryableError | None:
    found, wanted = answer.headers.get("openai-organization", ""), options.organization_id
    # The header is known to carry an organization's handle too; only an id can be compared with an id.
    if wanted and found and found != wanted and found.startswith("org-") == wanted.startswith("org-"):
        return ConfigError(
            f"{where}: the key belongs to {clean(found, key)} and not to {wanted} ({answer.request}); "
            "use a key of that organization, or change organization_id"
        )
    if "html" in answer.headers.get("Content-Type", "").lower() or answer.body[:64].lstrip()[:1] == b"<":
        return RetryableError(
            f"{where}: a web page instead of JSON{_quoted(answer.body, key, may_hold_events=True)} ({answer.request}); "
            "check base_url and proxy if it stays"
        )
    return None


def _mend(answer: Answer, options: OpenAIAuditLogsOptions, secret: str, scope: str) -> str:
    """What an operator has to do about a status that will not go away by itself."""
    key = f"in {options.api_key_file}" if options.api_key_file else "as api_key"
    match answer.status:
        case 400 | 404 | 422 if scope != AUDIT_LOGS_SCOPE:
            return "check base_url, if it stays"
        case 400 | 422:
            return "check filters and listings"
        case 401:
            return f"put a valid admin key (sk-admin-…) {key}"
        case 403:
            missing = re.search(r"missing scopes?:?\s*([\w.,\s]+)", server_says(answer.body, secret), re.IGNORECASE)
            scopes = re.findall(r"\w+(?:\.\w+)+", missing[1]) if missing else []
            return f"give the key the scope {', '.join(scopes) or scope}, or put another key {key}"
        case 404:
            return "check base_url, and whether audit logging is enabled for this organization"
        case 407:
            return "check proxy, its user and password"
        case status if status < 400:
            target = clean(answer.headers.get("Location", "").partition("?")[0], secret)
            return f"it points to {target or 'nowhere'}, where the key is not sent; set base_url to the API itself"
    return "check base_url"


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    milliseconds = headers.get("retry-after-ms", "").strip()
    if milliseconds.isascii() and milliseconds.isdigit():
        return int(milliseconds[:12]) / 1000
    return parse_retry_after(headers.get("Retry-After"), now)


# --- the server's own words ------------------------------------------------------------------------------------------


def server_says(body: bytes, *secrets: str) -> str:
    """The message of an error body in any of its shapes: OpenAI's object, a bare string, other JSON, HTML, text."""
    head = body[: 64 << 10]
    said = _stated(head)
    if said is None:
        said = re.sub(r"<[^>]*>", " ", head.decode("utf-8", "replace"))
    return clean(said, *secrets)


def _stated(head: bytes) -> str | None:
    """What a body states in a place that is made for it: a JSON error, an HTML title."""
    try:
        return _message(msgspec.json.decode(head))
    except NOT_JSON:
        title = re.search(rb"<title[^>]*>([^<]*)", head, re.IGNORECASE)
        return title[1].decode("utf-8", "replace") if title else None


def _quoted(body: bytes, key: str, *, may_hold_events: bool = False) -> str:
    """For a sentence. Of a body that may hold events nothing is repeated but a message in its own place."""
    said = clean(_stated(body[: 64 << 10]) or "", key) if may_hold_events else server_says(body, key)
    return f": {said}" if said else ""


def _message(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    if not isinstance(tree, dict):
        return ""
    error = tree.get("error") or tree.get("message") or tree.get("detail")
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    code = error.get("code") or error.get("type")
    code = code if isinstance(code, str) else ""
    param = error.get("param")
    about = f" ({param})" if isinstance(param, str) and param else ""
    message = error.get("message")
    return f"{code}{about}: {message}" if code and isinstance(message, str) else str(message or code)


def clean(text: str, *secrets: str) -> str:
    """Foreign text for a log line: one line, printable, short, and without anything that looks like a key."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    for secret in secrets:
        text = text.replace(secret, "***")
    text = re.sub(r"\bsk-[\w*.-]+", "sk-***", text)
    return text if len(text) <= MAX_SAID else text[: MAX_SAID - 1] + "…"


# --- the server's clock ----------------------------------------------------------------------------------------------


class ServerClock:
    """Our clock, corrected by `Date` headers where it is wrong by more than their precision can explain. It is the steady one: a step of
    the wall clock would else count as the time at upstream until two answers have contradicted it.

    Each answer bounds the difference of the two clocks; the bounds of all answers are intersected. An answer that
    contradicts them is believed when a second one in a row agrees with it: one odd machine must not move the time.
    """

    def __init__(self, local: Callable[[], float]) -> None:
        self._local = local
        self._bounds = (float("-inf"), float("inf"))
        self._doubt: tuple[float, float] | None = None

    @property
    def offset(self) -> float:
        """Seconds that upstream is ahead of us; 0 where our clock may be right."""
        low, high = self._bounds
        return 0.0 if low <= SKEW_TOLERATED_S and high >= -SKEW_TOLERATED_S else (low + high) / 2

    def now(self) -> float:
        return self._local() + self.offset

    def observe(self, headers: Mapping[str, str], sent_at: float, answered_at: float) -> None:
        """Learn from an answer to a request sent at `sent_at` (our clock)."""
        date = _date(headers.get("Date", ""))
        if date is None or headers.get("Age", "0") != "0" or answered_at < sent_at:
            return
        reading = (date - answered_at, date + 1 - sent_at)
        both = _intersection(self._bounds, reading)
        if both is None:
            agreed = _intersection(self._doubt, reading) if self._doubt else None
            self._doubt, both = (None, agreed) if agreed else (reading, self._bounds)
        else:
            self._doubt = None
        self._bounds = both


def _intersection(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float] | None:
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (low, high) if low <= high else None


@lru_cache(maxsize=16)
def _date(text: str) -> float | None:
    """Unix seconds; None for no date and for one that cannot be."""
    try:
        date = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return date if int(date) in PLAUSIBLE_DATES else None
