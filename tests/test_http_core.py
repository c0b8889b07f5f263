"""The HTTP core: every way a request can end has its verdict, and no message holds a secret."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.sinks.http import Answer, Verdicts, is_private
from streamer.sinks.http_options import HttpAuthOptions, HttpOptions
from streamer.sinks.tls import TlsOptions
from streamer.sinks.webhook import WebhookOptions, WebhookSink, open_webhook
from tests.certificates import Authority
from tests.receiver import Request, batch, context, receiver, says, script


@contextlib.asynccontextmanager
async def opened(folder: Path, url: str, **options: object) -> AsyncIterator[WebhookSink]:
    made = WebhookOptions.model_validate({"url": url, "layout": "ndjson", **options})
    async with open_webhook(made, context(folder)) as sink:
        yield sink


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *[(s, None) for s in (200, 201, 202, 204, 260)],
        *[(s, ConfigError) for s in (301, 302, 307, 401, 403, 404, 405, 407, 409, 410, 418, 501)],
        *[(s, RetryableError) for s in (408, 425, 429, 500, 502, 503, 504, 507, 599)],
        *[(s, PermanentError) for s in (400, 413, 422)],
    ],
)
def test_every_status_has_its_verdict(status: int, verdict: type[Exception] | None) -> None:
    """Goal: the house's table holds. Method: judge one answer of each status."""
    answer = Answer("http://h", status)
    if verdict is None:
        Verdicts().judge(answer)  # does not raise
        assert status in Verdicts().success
        return
    with pytest.raises(verdict, match=str(status)):
        Verdicts().judge(answer)


def test_an_answer_is_quoted_short_printable_and_without_our_secrets() -> None:
    """Goal: a server cannot put a secret or a terminal code into our log. Method: an answer that tries both."""
    answer = Answer(
        "http://h", 401, b"no \x1b[31mred\x00 for token s3cr3t-t0ken\n\n" + b"x" * 5000, hidden=("s3cr3t-t0ken",)
    )
    with pytest.raises(ConfigError) as caught:
        Verdicts().judge(answer)
    text = str(caught.value)
    assert "s3cr3t" not in text
    assert "***" in text
    assert text.isprintable()
    assert len(text) < 500


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None)])
async def test_retry_after_is_honoured(tmp_path: Path, value: str, seconds: float | None) -> None:
    """Goal: Retry-After reaches the loop in both of its forms. Method: a server that answers 429 with it."""
    async with (
        receiver(lambda _: says(429, "slow", Retry_After=value)) as server,
        opened(tmp_path, server.url) as sink,
    ):
        with pytest.raises(RetryableError) as caught:
            await sink.write(batch())
    assert caught.value.retry_after == seconds


async def test_redirects_are_not_followed(tmp_path: Path) -> None:
    """Goal: events go only where the operator said. Method: a redirect to the same server, which must not be asked again."""
    async with (
        receiver(lambda _: says(307, Location="/elsewhere")) as server,
        opened(tmp_path, server.url) as sink,
    ):
        with pytest.raises(ConfigError, match="redirects are not followed"):
            await sink.write(batch())
        assert len(server.requests) == 1


async def test_an_unreachable_server_is_retryable_and_opening_touches_no_network(tmp_path: Path) -> None:
    """Goal: no crash loop for a dead server. Method: a port that nobody listens on."""
    async with opened(tmp_path, "http://127.0.0.1:9/secret-path") as sink:
        with pytest.raises(RetryableError, match="cannot connect") as caught:
            await sink.write(batch())
    assert "secret-path" not in str(caught.value)


async def test_an_unresolvable_name_is_retryable(tmp_path: Path) -> None:
    """Goal: DNS trouble is the world's. Method: a name that cannot exist."""
    async with opened(tmp_path, "http://nowhere.invalid/") as sink:
        with pytest.raises(RetryableError, match="cannot be resolved"):
            await sink.write(batch())


async def test_no_answer_in_time_is_retryable(tmp_path: Path) -> None:
    """Goal: a hanging server holds nothing for ever. Method: an answer that never comes and a short timeout."""
    release = asyncio.Event()

    async def hang(_: Request) -> object:
        await release.wait()
        return says(200)

    async with (
        receiver(hang) as server,  # type: ignore[arg-type] # the answer is never given
        opened(tmp_path, server.url, timeout="200ms") as sink,
    ):
        with pytest.raises(RetryableError, match="no answer within 200ms"):
            await sink.write(batch())
        release.set()


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", b"SSH-2.0-nonsense\r\n"])
async def test_a_connection_that_breaks_is_retryable(tmp_path: Path, cut: bytes) -> None:
    """Goal: half an answer is no answer. Method: a raw server that sends nothing, half a body, or another protocol."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(cut)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, opened(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as sink:
        with pytest.raises(RetryableError):
            await sink.write(batch())


async def test_gzip_has_the_same_bytes_on_a_retry(tmp_path: Path) -> None:
    """Goal: a retry repeats the same bytes. Method: two writes of one batch, with gzip and without."""
    async with receiver(script(lambda: says(503), lambda: says(200))) as server:
        async with opened(tmp_path, server.url, gzip=True) as sink:
            with pytest.raises(RetryableError):
                await sink.write(batch(20))
            await sink.write(batch(20))
        first, second = server.requests
        assert first.headers["Content-Encoding"] == "gzip"
        assert first.headers["Content-Length"] == second.headers["Content-Length"]
        assert first.body == second.body
        assert int(first.headers["Content-Length"]) < len(first.body)


async def test_secrets_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    """Goal: keys rotate by replacing a file. Method: replace bearer and header files between two writes."""
    bearer, own = tmp_path / "bearer", tmp_path / "own"
    bearer.write_text("first\n")
    own.write_text("one\n")
    async with (
        receiver(lambda _: says(200)) as server,
        opened(tmp_path, server.url, bearer_file=bearer, header_files={"X-Key": own}, headers={"X-Team": "a"}) as sink,
    ):
        await sink.write(batch())
        bearer.write_text("second!\n")
        own.write_text("three\n")
        await sink.write(batch())
        seen = [(r.headers["Authorization"], r.headers["X-Key"], r.headers["X-Team"]) for r in server.requests]
    assert seen == [("Bearer first", "one", "a"), ("Bearer second!", "three", "a")]


async def test_a_secret_that_cannot_be_a_header_is_a_configuration_error(tmp_path: Path) -> None:
    """Goal: a line break in a secret injects no header. Method: a key file with two lines."""
    file = tmp_path / "bearer"
    file.write_text("first\nX-Injected: yes\n")
    with pytest.raises(ConfigError, match="one line") as caught:
        async with opened(tmp_path, "http://127.0.0.1:9", bearer_file=file):
            pass
    assert "first" not in str(caught.value)


async def test_basic_authorization_and_its_echo(tmp_path: Path) -> None:
    """Goal: Basic is as RFC 7617 has it, and never shows. Method: a server that echoes the header in a 401."""
    async with (
        receiver(lambda r: says(401, f"bad {r.headers['Authorization']} hunter22")) as server,
        opened(tmp_path, server.url, username="zoë", password="hunter22") as sink,
    ):
        with pytest.raises(ConfigError) as caught:
            await sink.write(batch())
        sent = server.requests[0].headers["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "zoë:hunter22"
    assert "hunter22" not in str(caught.value)
    assert sent.removeprefix("Basic ") not in str(caught.value)


async def test_an_untrusted_certificate_holds_until_its_authority_is_given(tmp_path: Path) -> None:
    """Goal: TLS is verified, with the system's authorities or the given one. Method: a server with a certificate of its own."""
    authority = Authority(tmp_path)
    async with receiver(lambda _: says(200), authority.server()) as server:
        async with opened(tmp_path, server.url) as sink:
            with pytest.raises(ConfigError, match="not trusted"):
                await sink.write(batch())
        async with opened(tmp_path, server.url, tls={"ca_file": authority.file}) as sink:
            await sink.write(batch())
        assert len(server.requests) == 1


async def test_mutual_tls_and_a_certificate_that_comes_later(tmp_path: Path) -> None:
    """Goal: client certificates work and are read again. Method: a server that asks for one; the file is replaced by a wrong one."""
    authority = Authority(tmp_path)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    wrong = Authority(stranger).issue("client")
    cert, key = authority.issue("client")
    tls = {"ca_file": authority.file, "cert_file": cert, "key_file": key}
    async with receiver(lambda _: says(200), authority.server(ask_client=True)) as server:
        async with opened(tmp_path, server.url, tls={"ca_file": authority.file}) as sink:
            with pytest.raises((ConfigError, RetryableError)):
                await sink.write(batch())
        async with opened(tmp_path, server.url, tls=tls) as sink:
            await sink.write(batch())
            assert len(server.requests) == 1
            cert.write_bytes(wrong[0].read_bytes())
            key.write_bytes(wrong[1].read_bytes())
            with pytest.raises((ConfigError, RetryableError)):
                await sink.write(batch())
    assert len(server.requests) == 1


async def test_a_certificate_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Goal: a bad file is a sentence at the start. Method: a missing and a nonsense file."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    for file in (tmp_path / "missing.pem", nonsense):
        with pytest.raises(ConfigError, match=file.name):
            async with opened(tmp_path, "https://localhost:1", tls={"ca_file": file}):
                pass
        with pytest.raises(ConfigError, match=file.name):
            async with opened(tmp_path, "https://localhost:1", tls={"cert_file": file}):
                pass


async def test_a_proxy_is_asked_with_its_credentials(tmp_path: Path) -> None:
    """Goal: requests go through the proxy and nowhere else. Method: a server that acts as the proxy for a name that does not exist."""
    async with (
        receiver(lambda _: says(200)) as server,
        opened(tmp_path, "http://siem.invalid/in", proxy=server.url.replace("://", "://user:pw@")) as sink,
    ):
        await sink.write(batch())
        request = server.requests[0]
    assert request.headers["Host"] == "siem.invalid"
    assert request.headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"user:pw").decode()


async def test_a_dead_or_refusing_proxy(tmp_path: Path) -> None:
    """Goal: proxy trouble has its verdict and does not show its password. Method: no proxy, and one that answers CONNECT with 407, then 503."""
    answers = ["407 Proxy Authentication Required", "503 Service Unavailable"]
    async with opened(tmp_path, "http://siem.invalid/", proxy="http://user:hunter22@127.0.0.1:9") as sink:
        with pytest.raises(RetryableError, match="proxy") as caught:
            await sink.write(batch())
    assert "hunter22" not in str(caught.value)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {answers.pop(0)}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, opened(tmp_path, "https://siem.invalid/", proxy=f"http://127.0.0.1:{port}") as sink:
        with pytest.raises(ConfigError, match="proxy answered 407"):
            await sink.write(batch())
        with pytest.raises(RetryableError, match="proxy answered 503"):
            await sink.write(batch())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]"]
)
async def test_private_addresses_can_be_refused(tmp_path: Path, host: str) -> None:
    """Goal: no way of writing an address gets past the refusal. Method: names and literals of loopback while a server listens there."""
    async with receiver(lambda _: says(200)) as server:
        url = server.url.replace("127.0.0.1", host)
        async with opened(tmp_path, url, private_addresses="refuse") as sink:
            with pytest.raises(ConfigError):
                await sink.write(batch())
        assert server.requests == []


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("64:ff9b::808:808", False),
        ("10.1.2.3", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("fe80::1%eth0", True),
        ("fc00::1", True),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:0a00:0001::", True),
    ],
)
def test_what_counts_as_private(address: str, private: bool) -> None:
    """Goal: only public unicast passes. Method: one address of each kind."""
    assert is_private(address) is private


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Content-Length": "1"}},
        {"headers": {"bad name": "1"}},
        {"headers": {"X-A": "1"}, "header_files": {"x-a": "/f"}},
        {"proxy": "http://p", "private_addresses": "refuse"},
        {"proxy": "http://p", "proxy_file": "/f"},
        {"bearer": "b", "username": "u", "password": "p"},
        {"username": "u"},
        {"password_file": "/f"},
        {"tls": {"key_file": "/k"}},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, object]) -> None:
    """Goal: mistakes show in `check`. Method: one contradiction each."""
    with pytest.raises(ValidationError):
        HttpAuthOptions.model_validate(options)


def test_secrets_do_not_show_in_the_effective_configuration() -> None:
    """Goal: `check` prints no secret. Method: dump options that hold one in every place."""
    options = WebhookOptions(
        url=SecretStr("https://h/in?token=hunter22"),
        headers={"X": SecretStr("hunter22")},
        bearer=SecretStr("hunter22"),
        proxy=SecretStr("http://u:hunter22@p"),
        tls=TlsOptions(),
    )
    assert "hunter22" not in str(options.model_dump(mode="json")) + repr(options)
    assert HttpOptions().gzip is True
