"""Syslog (RFC 5424) over TLS (RFC 5425) or TCP (RFC 6587).

Syslog has no acknowledgement: what is written when the connection breaks may be lost, and what is sent again may be there twice.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from pydantic import ByteSize, Field, model_validator

from streamer.catalog import SEVERITY_NUMBERS
from streamer.config import Duration, SinkOptions, show_duration
from streamer.errors import ConfigError, RetryableError
from streamer.model import Batch, Message
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import rfc3339, too_large
from streamer.sinks.tls import Tls, TlsOptions

_FACILITY = 13
"""Log audit."""
_CLOSE_S = 3.0
"""How long the other side may take to answer close_notify."""

HeaderText = Annotated[str, Field(pattern=r"^[!-~]+$")]
"""Printable ASCII without spaces."""
Framing = Literal["octet_counting", "newline"]


class SyslogOptions(SinkOptions):
    """A syslog receiver. At most once: see the documentation before you choose it."""

    host: Annotated[str, Field(pattern=r"^[^\s/]+$")]
    """The receiver."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 6514
    """6514 is for TLS."""
    tls: TlsOptions | None = TlsOptions()
    """null: plain TCP."""
    framing: Framing = "octet_counting"
    """How messages are told apart (RFC 6587)."""
    hostname: Annotated[HeaderText, Field(max_length=255)] | None = None
    """None: this machine's."""
    app_name: Annotated[HeaderText, Field(max_length=48)] = "openai-audit"
    """APP-NAME of each message."""
    enterprise_number: Annotated[int, Field(ge=1)] = 32_473
    """Of the structured data; 32473 is the one for documentation."""
    max_message: Annotated[ByteSize, Field(ge=480, le=16 << 20)] = ByteSize(8192)
    """What the receiver is set to take; it would cut a longer message, so that is dead-lettered."""
    timeout: Duration = 30.0
    """To connect, and to hand over a batch."""

    @model_validator(mode="after")
    def _fits(self) -> "SyslogOptions":
        if self.framing == "newline" and self.tls is not None:
            raise ValueError("framing: newline is for plain TCP (tls: null); over TLS only octet_counting is defined")
        return self


# --- messages --------------------------------------------------------------------------------------------------------

_NIL = "-"


def header_text(text: str, longest: int) -> str:
    """A field of the header: cut, and `-` where it is empty or holds what a header cannot."""
    return text[:longest] if re.fullmatch(r"[!-~]+", text) else _NIL


def structured_data(elements: Mapping[str, Mapping[str, str]]) -> str:
    return "".join(_element(name, parameters) for name, parameters in elements.items()) or _NIL


def _element(name: str, parameters: Mapping[str, str]) -> str:
    escaped = ((key, re.sub(r'(["\\\]])', r"\\\1", value)) for key, value in parameters.items())
    return f"[{name}" + "".join(f' {key}="{value}"' for key, value in escaped) + "]"


def syslog_message(
    header: Iterable[str], priority: int, elements: Mapping[str, Mapping[str, str]], body: bytes
) -> bytes:
    """One message. `header`: timestamp, hostname, app-name, procid, msgid. No byte order mark: receivers of CEF look at the first bytes of the text."""
    return f"<{priority}>1 {' '.join(header)} {structured_data(elements)} ".encode() + body


def frame(message: bytes, framing: Framing) -> bytes:
    """Octet counting counts bytes; newline framing cannot hold a newline."""
    if framing == "newline":
        return message.replace(b"\n", b" ") + b"\n"
    return b"%d %b" % (len(message), message)


def encode(message: Message, options: SyslogOptions, hostname: str) -> bytes:
    """MSGID is the family, since some types are longer than the 32 characters that it holds."""
    envelope = message.record.envelope
    parameters = {"id": envelope.id, "type": envelope.type, "source": envelope.source, "severity": envelope.severity}
    if message.replayed:
        parameters["replayed"] = "true"
    return syslog_message(
        (rfc3339(envelope.time), hostname, options.app_name, _NIL, header_text(envelope.family, 32)),
        _FACILITY * 8 + SEVERITY_NUMBERS[envelope.severity].syslog,
        {f"audit@{options.enterprise_number}": parameters},
        message.body,
    )


# --- the connection --------------------------------------------------------------------------------------------------


class SyslogSink:
    def __init__(self, options: SyslogOptions, context: SinkContext) -> None:
        self._options = options
        self._where = f"sinks.{context.name}: {options.host}:{options.port}"
        self._hostname = header_text(options.hostname or socket.gethostname(), 255)
        self._tls = Tls(f"sinks.{context.name}.tls", options.tls) if options.tls is not None else None
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._context: ssl.SSLContext | None = None

    def check(self) -> None:
        """ConfigError where a certificate cannot be used."""
        if self._tls is not None:
            self._tls.context()

    async def write(self, batch: Batch, /) -> None:
        messages = [encode(message, self._options, self._hostname) for message in batch.messages]
        too_large(map(len, messages), self._options.max_message, f"{self._where} (max_message)")
        await self.connect()
        assert self._connection is not None
        reader, writer = self._connection
        try:
            with self._map_errors():
                async with asyncio.timeout(self._options.timeout):
                    writer.write(b"".join(frame(message, self._options.framing) for message in messages))
                    await writer.drain()
                    await asyncio.sleep(0)  # a turn of the loop, in which a close that has come in is seen
            if reader.at_eof() or writer.is_closing():
                raise RetryableError(f"{self._where}: the connection was closed while events were written")
        except BaseException:
            self._abort()  # half a message may be out
            raise

    async def connect(self) -> None:
        """A connection that is not known to be dead, with the certificates of this moment."""
        context = self._tls.context() if self._tls else None
        if self._connection is not None:
            reader, writer = self._connection
            if context is self._context and not reader.at_eof() and not writer.is_closing():
                return
            await self.close()
        with self._map_errors():
            async with asyncio.timeout(self._options.timeout):
                self._connection = await asyncio.open_connection(
                    self._options.host,
                    self._options.port,
                    ssl=context,
                    ssl_shutdown_timeout=_CLOSE_S if context else None,
                )
        self._context = context

    async def close(self) -> None:
        """With close_notify, so that the receiver knows the end for one."""
        if self._connection is None:
            return
        _, writer = self._connection
        self._connection = None
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S + 1):
                await writer.wait_closed()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection[1].transport.abort()
            self._connection = None

    @contextlib.contextmanager
    def _map_errors(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(
                f"{self._where}: its certificate is not trusted: {error.verify_message}; give its authority as tls.ca_file"
            ) from None
        except ssl.SSLError as error:
            reason = error.reason or "handshake failed"
            raise ConfigError(
                f"{self._where}: TLS: {reason}; check port and tls, and tls.cert_file if it asks for one"
            ) from None
        except TimeoutError:
            raise RetryableError(f"{self._where}: not reached within {show_duration(self._options.timeout)}") from None
        except socket.gaierror:
            raise RetryableError(f"{self._where}: its name cannot be resolved") from None
        except OSError as error:
            raise RetryableError(f"{self._where}: {error.strerror or type(error).__name__}") from None

    async def probe(self) -> str:
        await self.connect()
        assert self._connection is not None
        secured = self._connection[1].get_extra_info("ssl_object")
        return f"{self._where} is reachable over " + (secured.version() if secured else "plain TCP")


@asynccontextmanager
async def open_syslog(options: SyslogOptions, context: SinkContext) -> AsyncIterator[SyslogSink]:
    sink = SyslogSink(options, context)
    sink.check()
    try:
        yield sink
    finally:
        await sink.close()


async def probe_syslog(options: SyslogOptions, context: SinkContext) -> str:
    async with open_syslog(options, context) as sink:
        return await sink.probe()


SINK = SinkType(SyslogOptions, open_syslog, probe_syslog)
