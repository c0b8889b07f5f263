"""The syslog sink: bytes against the RFC's vectors and an independent parser, connections against real servers."""

import asyncio
import base64
import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch
from streamer.sinks.syslog import (
    SyslogOptions,
    encode,
    frame,
    header_text,
    open_syslog,
    probe_syslog,
    structured_data,
    syslog_message,
)
from tests.certificates import Authority
from tests.receiver import batch, context, ids, message
from tests.shared_folder import shared_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its parser generator imports a deprecated module
    from syslog_rfc5424_parser import SyslogMessage


def options(port: int = 6514, **more: Any) -> SyslogOptions:
    return SyslogOptions.model_validate(
        {"host": "localhost", "port": port, "tls": None, "hostname": "collector-1", **more}
    )


def frames_of(data: bytes) -> list[bytes]:
    """Octet counting, read as a receiver does."""
    found: list[bytes] = []
    while data:
        length, _, rest = data.partition(b" ")
        assert not length.startswith(b"0"), length
        assert len(rest) >= int(length)
        found.append(rest[: int(length)])
        data = rest[int(length) :]
    return found


@dataclass
class Receiver:
    port: int = 0
    data: bytes = b""
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            while part := await reader.read(1 << 16):
                self.data += part
                async with self.changed:
                    self.changed.notify_all()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def messages(self, count: int) -> list[bytes]:
        """When so many have arrived."""
        wanted = count

        def there() -> bool:
            with contextlib.suppress(AssertionError, ValueError):
                return len(frames_of(self.data)) >= wanted
            return False

        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(there)
        return frames_of(self.data)


@contextlib.asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.talk, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for writer in receiver.writers:
            writer.close()


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_frames_of_the_vectors() -> None:
    """Goal: octet counting counts bytes. Method: the frames of the RFC's examples."""
    vectors = shared_json("checks/syslog/syslog_vectors.json")["vectors"]
    for vector in vectors:
        sent = base64.b64decode(vector["message_b64"])
        assert frame(sent, "octet_counting") == base64.b64decode(vector["frame_b64"])
        assert frame(sent, "octet_counting").startswith(vector["frame_prefix"].encode())
    assert len(vectors) == 5


def test_an_audit_message_of_the_vectors() -> None:
    """Goal: header, structured data and escapes to the byte. Method: build the last vector from its parts."""
    vector = shared_json("checks/syslog/syslog_vectors.json")["vectors"][4]
    body = "CEF:0|OpenAI|Audit Logs|v1|api_key.created|API key created|5|suser=Zoë@example.com".encode()
    made = syslog_message(
        ("2026-01-01T00:00:00Z", "collector-1", "openai-audit", "4711", "api_key.created"),
        13 * 8 + 4,
        {"origin": {"software": "x"}, "audit@32473": {"id": "audit_log-1", "note": 'a"b\\c]d'}},
        body,
    )
    assert made == base64.b64decode(vector["message_b64"])


def test_an_independent_parser_reads_what_we_send() -> None:
    """Goal: RFC 5424 as others read it. Method: parse every severity, a type longer than MSGID, and values with escapes."""
    for n, (severity, number) in enumerate(
        {"informational": 6, "low": 5, "medium": 4, "high": 3, "critical": 2}.items(), 1
    ):
        kind = "workload_identity_provider_mapping.created"
        sent = message(n, severity=severity, type=kind, family=kind.partition(".")[0], id='a"]\\b', replayed=n == 1)
        parsed = SyslogMessage.parse(encode(sent, options(), "collector-1").decode())
        assert parsed.facility.value == 13
        assert parsed.severity.value == number
        assert parsed.timestamp == f"2026-01-01T12:00:0{n}Z"
        assert (parsed.hostname, parsed.appname, parsed.procid) == ("collector-1", "openai-audit", None)
        assert parsed.msgid == "workload_identity_provider_mappi"
        sd = parsed.sd["audit@32473"]
        assert sd["type"] == kind
        assert sd["source"] == "acme"
        assert ("replayed" in sd) is (n == 1)
        assert parsed.msg.encode() == sent.body


def test_msg_begins_without_a_byte_order_mark() -> None:
    """Goal: receivers of CEF find CEF: at the start of MSG. Method: the bytes behind the structured data."""
    sent = encode(message(1, body=lambda _: b"CEF:0|a|"), options(), "h")
    assert sent.endswith(b'"] CEF:0|a|')


def test_header_fields_and_structured_data() -> None:
    """Goal: nothing in a header breaks it. Method: texts that it cannot hold."""
    assert header_text("x" * 40, 32) == "x" * 32
    assert header_text("", 32) == header_text("a b", 32) == header_text("ä", 32) == header_text("a\n", 32) == "-"
    assert structured_data({}) == "-"
    assert structured_data({"a@1": {}}) == "[a@1]"


def test_newline_framing_holds_no_newline() -> None:
    """Goal: one event a line. Method: a message with line breaks."""
    assert frame(b"a\nb", "newline") == b"a b\n"


@pytest.mark.parametrize(
    "bad",
    [
        {"host": "a b"},
        {"port": 0},
        {"app_name": "ä"},
        {"app_name": "x" * 49},
        {"framing": "newline", "tls": {}},
        {"max_message": 100},
        {"enterprise_number": 0},
    ],
)
def test_mistakes_are_found_in_the_configuration(bad: dict[str, Any]) -> None:
    """Goal: `check` finds them. Method: one each."""
    with pytest.raises(ValidationError):
        SyslogOptions.model_validate({"host": "h", **bad})


# --- connections -----------------------------------------------------------------------------------------------------


async def test_events_arrive_in_order_over_one_connection(tmp_path: Path) -> None:
    """Goal: a persistent connection, octet counting, characters beyond ASCII. Method: three batches; parse what arrived."""
    async with listening() as receiver, open_syslog(options(receiver.port), context(tmp_path)) as sink:
        for start in (1, 11, 21):
            await sink.write(Batch([message(n) for n in range(start, start + 10)]))
        received = await receiver.messages(30)
    assert receiver.connections == 1
    parsed = [SyslogMessage.parse(m.decode()) for m in received]
    assert [p.sd["audit@32473"]["id"] for p in parsed] == ids(batch(30).messages)
    assert [p.msg.encode() for p in parsed] == [m.body for m in batch(30).messages]


async def test_tls_with_our_certificate_and_the_given_authority(tmp_path: Path) -> None:
    """Goal: both sides are verified. Method: a server that asks for a certificate; without the authority, without ours."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("client")
    async with listening(authority.server(ask_client=True)) as receiver:
        tls = {"ca_file": authority.file, "cert_file": cert, "key_file": key}
        async with open_syslog(options(receiver.port, tls=tls), context(tmp_path)) as sink:
            await sink.write(batch(2))
            assert len(await receiver.messages(2)) == 2
        async with open_syslog(options(receiver.port, tls={}), context(tmp_path)) as sink:
            with pytest.raises(ConfigError, match="not trusted"):
                await sink.write(batch(1))
    assert "TLSv1" in await _probe_over_tls(authority, tmp_path)


async def _probe_over_tls(authority: Authority, folder: Path) -> str:
    async with listening(authority.server()) as receiver:
        return await probe_syslog(options(receiver.port, tls={"ca_file": authority.file}), context(folder))


async def test_the_end_is_announced_with_close_notify(tmp_path: Path) -> None:
    """Goal: the receiver can tell an end from a cut. Method: a blocking TLS server that refuses a ragged end."""
    authority = Authority(tmp_path)
    tls = authority.server()
    listener = socket.create_server(("127.0.0.1", 0))
    ended: list[str] = []

    def serve() -> None:
        raw, _ = listener.accept()
        with tls.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as connection:
            try:
                while connection.recv(1 << 16):
                    pass
                ended.append("clean")
            except ssl.SSLError as error:
                ended.append(str(error.reason))

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    async with open_syslog(options(port, tls={"ca_file": authority.file}), context(tmp_path)) as sink:
        await sink.write(batch(1))
    await asyncio.to_thread(thread.join, 10)
    listener.close()
    assert ended == ["clean"]


async def test_a_connection_that_the_receiver_closed_is_made_anew(tmp_path: Path) -> None:
    """Goal: a receiver's restart between batches loses nothing that we can know of. Method: the server closes, then the next batch."""
    async with listening() as receiver, open_syslog(options(receiver.port), context(tmp_path)) as sink:
        await sink.write(batch(2))
        await receiver.messages(2)
        receiver.writers[0].close()
        await receiver.writers[0].wait_closed()
        reader = sink._connection[0]  # type: ignore[index] # it has one
        async with asyncio.timeout(10):
            await reader.read()  # until its end has been seen
        await sink.write(batch(3))
        await receiver.messages(5)
    assert receiver.connections == 2


async def test_a_dead_receiver_is_retryable_and_comes_back(tmp_path: Path) -> None:
    """Goal: an outage is waited out. Method: nobody listens, then somebody does; a reset in between."""
    async with open_syslog(options(9), context(tmp_path)) as sink:
        with pytest.raises(RetryableError):
            await sink.write(batch(1))
    async with listening() as receiver, open_syslog(options(receiver.port), context(tmp_path)) as sink:
        await sink.write(batch(1))
        await receiver.messages(1)
        receiver.writers[0].transport.abort()
        async with asyncio.timeout(10):
            while receiver.connections < 2:
                with contextlib.suppress(RetryableError):
                    await sink.write(batch(1))
    assert receiver.connections == 2


async def test_a_receiver_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    """Goal: a stuck receiver holds nothing for ever. Method: a server that never reads, and more than the buffers hold."""
    release = asyncio.Event()

    async def stuck(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(stuck, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    big = batch(30, body=lambda _: b"x" * (1 << 20))
    made = options(port, timeout="300ms", max_message="2MiB")
    async with server, open_syslog(made, context(tmp_path)) as sink:
        with pytest.raises(RetryableError, match="300ms"):
            await sink.write(big)
        release.set()


async def test_a_message_that_the_receiver_would_cut_is_named(tmp_path: Path) -> None:
    """Goal: nothing is cut in silence. Method: a message over max_message among others; nothing is sent."""
    async with listening() as receiver, open_syslog(options(receiver.port), context(tmp_path)) as sink:
        with pytest.raises(PermanentError, match="max_message") as caught:
            await sink.write(Batch([message(1), message(2, body=lambda _: b"x" * 8192)]))
        assert caught.value.rejected == [1]
        assert receiver.connections == 0


async def test_tls_against_a_plain_port_holds(tmp_path: Path) -> None:
    """Goal: a wrong port is a mistake of ours. Method: a server that answers in plain text."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(b"220 hello\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_syslog(options(port, tls={}), context(tmp_path)) as sink:
        with pytest.raises(ConfigError, match="TLS"):
            await sink.write(batch(1))


async def test_probe(tmp_path: Path) -> None:
    """Goal: `check --online` connects and writes nothing. Method: plain TCP; nobody there; a missing file."""
    async with listening() as receiver:
        assert "plain TCP" in await probe_syslog(options(receiver.port), context(tmp_path))
        assert receiver.data == b""
    with pytest.raises(RetryableError):
        await probe_syslog(options(9), context(tmp_path))
    with pytest.raises(ConfigError, match="missing"):
        async with open_syslog(options(9, tls={"ca_file": tmp_path / "missing"}), context(tmp_path)):
            pass
