"""One request: every way it can end has its verdict, and no message holds the key."""

import asyncio
import gzip
import re
import zlib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from streamer import __version__
from streamer.errors import ConfigError, RetryableError, StreamerError
from streamer.model import SourceName
from streamer.sources.openai_api import MAX_BODY, clean, open_admin_api, server_says
from streamer.sources.openai_pages import NotAPage
from streamer.telemetry import Telemetry
from tests.certificates import Authority
from tests.openai_world import ERROR, GOOD, KEY, WHERE, asking, failing, get, made
from tests.wire import CUT, Asked, reply, requests, script, wire


async def test_a_request_as_it_goes_over_the_wire() -> None:
    """Goal: the key, the ids and the limits of a request are as documented. Method: two requests, their raw head looked at."""
    telemetry = Telemetry()
    async with asking(script(GOOD), telemetry) as (api, upstream):
        assert await get(api, "limit=1&a%5B%5D=%2Bx%40y") == b'{"data":[]}'
        await get(api)
    first, second = upstream.asked
    assert first.target == "/v1/organization/audit_logs?limit=1&a%5B%5D=%2Bx%40y"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.headers["user-agent"] == f"openai-audit-streamer/{__version__}"
    assert first.headers["accept-encoding"] == "gzip"
    assert "cookie" not in first.headers
    ids = {one.headers["x-client-request-id"] for one in (first, second)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f-]{36}", one) for one in ids)
    assert upstream.connections == 1, "keep-alive"
    assert requests(telemetry) == {"200": 2}


async def test_cookies_are_not_kept() -> None:
    """Goal: no state but the key. Method: a cookie is set, the next request carries none."""
    async with asking(script(reply('{"data":[]}', Set_Cookie="a=b; Path=/"))) as (api, upstream):
        await get(api)
        await get(api)
    assert "cookie" not in upstream.asked[1].headers


# --- statuses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 202, 204, 206, 408, 409, 425, 429, 500, 502, 503, 504, 520, 529, 599])
async def test_statuses_that_pass_by_themselves(status: int) -> None:
    """Goal: these are retried. Method: each as an answer, with an error body."""
    error = await failing(script(reply("" if status == 204 else ERROR, status)))
    assert isinstance(error, RetryableError)
    assert error.retry_after is None
    assert f"{WHERE}: {status}" in str(error)
    assert "request req_test, our request " in str(error)


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (400, "check filters"),
        (401, "put a valid admin key (sk-admin-…) as api_key"),
        (402, "check base_url"),
        (403, "give the key the scope api.audit_logs.read"),
        (404, "check base_url, and whether audit logging is enabled"),
        (405, "check base_url"),
        (407, "check proxy"),
        (410, "check base_url"),
        (422, "check filters"),
        (451, "check base_url"),
        (501, "check base_url"),
    ],
)
async def test_statuses_that_an_operator_must_mend(status: int, mend: str) -> None:
    """Goal: these hold the listing and say what to do. Method: each as an answer."""
    error = await failing(script(reply(ERROR, status)))
    assert isinstance(error, ConfigError)
    assert f"{WHERE}: {status}: some_error (limit): It is so. (request req_test, our request " in str(error)
    assert mend in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """Goal: the key goes to nobody else. Method: a redirect to a second server, which is asked nothing."""
    async with wire(script(GOOD)) as other:
        away = f"{other.base_url}/x?token=abc"
        error = await failing(script(reply("", status, Location=away)))
        assert other.asked == []
    assert isinstance(error, ConfigError)
    assert f"it points to {other.base_url}/x, where the key is not sent; set base_url" in str(error)


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_refused_cursor_is_not_the_operators_fault(status: int) -> None:
    """Goal: an unknown cursor begins the walk again instead of holding the listing. Method: the refusal of a request with `after`; a
    401 with `after` is still what it is."""
    assert isinstance(await failing(script(reply(ERROR, status)), "limit=1&after=x"), RetryableError)
    assert isinstance(await failing(script(reply(ERROR, 401)), "limit=1&after=x"), ConfigError)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "17"}, 17.0),
        ({"Retry_After": "0"}, 0.0),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "-5"}, None),
        ({"retry_after_ms": "1500", "Retry_After": "9"}, 1.5),
        ({"retry_after_ms": "x", "Retry_After": "9"}, 9.0),
        ({"Retry_After": format_datetime(datetime.fromtimestamp(1_800_000_060, UTC), usegmt=True)}, 60.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(status: int, headers: dict[str, str], seconds: float | None) -> None:
    """Goal: the server's wish to be left alone is handed on in seconds. Method: each of its forms, by a fixed clock."""
    telemetry = Telemetry(lambda: 1_800_000_000.0)
    error = await failing(script(reply(ERROR, status, **headers)), telemetry=telemetry)
    assert isinstance(error, RetryableError)
    assert error.retry_after == seconds


# --- the server's words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"error":{"message":"No.","type":"t","param":null,"code":"c"}}', "c: No."),
        ('{"error":{"message":"No.","type":"t","param":"p","code":null}}', "t (p): No."),
        ('{"error":{"message":"No."}}', "No."),
        ('{"error":{"code":"c"}}', "c"),
        ('{"error":{"message":17,"code":["x"]}}', "17"),
        ('{"error":{}}', ""),
        ('{"error":"You have insufficient permissions."}', "You have insufficient permissions."),
        ('{"message":"Forbidden"}', "Forbidden"),
        ('{"detail":"Not here"}', "Not here"),
        ('"just text"', "just text"),
        ("[1,2]", ""),
        ("", ""),
        ("upstream connect error or disconnect", "upstream connect error or disconnect"),
        ("<html><head><title>\n 502 Bad\tGateway </title></head><body>x</body></html>", "502 Bad Gateway"),
        ("<html><body><h1>Go away</h1></body></html>", "Go away"),
        ('{"error":' * 50_000, '{"error":{"error":{"error"'),
        ('{"error":"a\\u001b[31mred\\u0007\\u202egnp\\u2028x\\u0000"}', "a [31mred gnp x"),
        ('{"error":"\\ud800"}', '{"error":"\\ud800"}'),
        (f'{{"error":"bad key {KEY} or sk-proj-abc*****xyz."}}', "bad key *** or sk-***"),
    ],
)
def test_what_the_server_says(body: str, says: str) -> None:
    """Goal: any error body becomes a short printable sentence. Method: each shape that was seen, and hostile ones."""
    found = server_says(body.encode(), KEY)
    assert found.startswith(says)
    assert found == says or len(says) > 25
    assert len(found) <= 300
    assert found.isprintable()


def test_clean_hides_the_key_before_it_cuts() -> None:
    """Goal: no part of a key is left at the cut. Method: the key at every place around the limit."""
    for before in range(230, 310):
        assert "Secret" not in clean("x" * before + " " + KEY, KEY)
        assert "Secret" not in clean("x" * before + " token/" + KEY.replace("sk-", ""), KEY.replace("sk-", ""))


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        (
            "You have insufficient permissions for this operation. Missing scopes: api.audit_logs.read. Check it.",
            "api.audit_logs.read",
        ),
        ("Missing scopes: api.management.read, api.audit_logs.read", "api.management.read, api.audit_logs.read"),
        ("Something else", "api.audit_logs.read"),
    ],
)
async def test_a_missing_scope_is_named(text: str, scope: str) -> None:
    """Goal: the operator reads which scope to give. Method: 403 with a bare string."""
    assert f"give the key the scope {scope}, or" in str(await failing(script(reply(f'{{"error":"{text}"}}', 403))))


async def test_a_hostile_server_cannot_make_us_log_the_key_or_a_new_line() -> None:
    """Goal: nothing a server echoes brings the key or a line break into a message. Method: the key in every place that is quoted: body,
    request id, organization, location, content coding; `failing` looks for it."""
    for status in (200, 302, 400, 403, 429, 500):
        for body in (
            f'{{"error":"{KEY}"}}',
            f'{{"error":{{"message":"{KEY}","code":"{KEY}","param":"{KEY}"}}}}',
            f"<title>{KEY}",
        ):
            headers = {"x_request_id": KEY, "openai_organization": f"org-{KEY}", "Location": f"http://x/{KEY}"}
            error = await failing(script(reply(body, status, **headers)), organization_id="org-1")
            assert "***" in str(error)
    assert "***" in str(await failing(script(reply("x", Content_Encoding=KEY))))


# --- bodies and connections ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            reply("<html><title>Sign in</title></html>", Content_Type="text/html; charset=utf-8"),
            "a web page instead of JSON: Sign in",
        ),
        (reply("  <!doctype html>"), "a web page"),
        (reply("x", Content_Encoding="br"), "content coding 'br', which was not asked for"),
        (reply("not gzip", Content_Encoding="gzip"), "a corrupt compressed body"),
        (reply(gzip.compress(b"x" * 1000)[:-9], Content_Encoding="gzip"), "cut short"),
        (reply("", Content_Encoding="gzip"), "cut short"),
        (reply(gzip.compress(bytes(MAX_BODY + 1)), Content_Encoding="gzip"), "more than 32 MiB when decompressed"),
        (reply(gzip.compress(bytes(1 << 20)) * 33, Content_Encoding="gzip"), "more than 32 MiB when decompressed"),
        (reply(bytes(MAX_BODY + 1)), "more than 32 MiB"),
        (reply(b"{", length=MAX_BODY + 1), "more than 32 MiB"),
        (reply(gzip.compress(b"") * 100_000, Content_Encoding="gzip"), "more than 100 members"),
        (reply(b'{"data":[', length=100) + CUT, "cut short"),
        (CUT, "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n" + CUT, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel" + CUT, "cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", "not HTTP"),
    ],
)
async def test_bad_answers_are_asked_for_again(answer: bytes, says: str) -> None:
    """Goal: every answer that is not whole is retried. Method: each kind, byte for byte."""
    error = await failing(script(answer))
    assert isinstance(error, RetryableError)
    assert says in str(error)
    assert "our request " in str(error)


@pytest.mark.parametrize("status", [200, 403, 500])
@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
async def test_compressed_bodies(status: int, coding: str, compress: Any) -> None:
    """Goal: content codings are undone, of errors too. Method: each one that may come."""
    body = b'{"error":"It is compressed."}'
    answer = reply(compress(body), status, Content_Encoding=coding)
    if status == 200:
        async with asking(script(answer)) as (api, _):
            assert await get(api) == body
    else:
        assert "It is compressed." in str(await failing(script(answer)))


async def test_what_the_reader_refuses_is_asked_for_again() -> None:
    """Goal: a 200 whose content is no page is a RetryableError with the request's ids and the server's words. Method: a reader that refuses."""

    def read(body: bytes) -> bytes:
        raise NotAPage("an error object")

    async with asking(script(reply('{"error":"busy"}'))) as (api, _):
        with pytest.raises(
            RetryableError, match=r"the answer is an error object: busy \(request req_test, our request "
        ):
            await api.get("x", "", WHERE, read)


async def test_no_server() -> None:
    """Goal: an unreachable server is retried. Method: a port that nobody listens on any more."""
    telemetry = Telemetry()
    async with wire(script(GOOD)) as upstream:
        gone = upstream.base_url
    async with open_admin_api(SourceName("acme"), made(gone), telemetry) as api:
        with pytest.raises(RetryableError, match=r"cannot talk to 127\.0\.0\.1: .*refused"):
            await get(api)
    assert requests(telemetry) == {"error": 1}


async def test_an_unknown_name() -> None:
    """Goal: a name that does not resolve says so. Method: a name under .invalid."""
    async with open_admin_api(SourceName("acme"), made("http://api.openai.invalid/v1"), Telemetry()) as api:
        with pytest.raises(RetryableError, match="its name cannot be resolved"):
            await get(api)


async def test_a_server_that_does_not_answer() -> None:
    """Goal: the wait is bounded. Method: a server that never answers, and one that stops in the body; read timeouts of a moment."""
    never = asyncio.Event()

    async def silence(asked: Asked) -> bytes:
        await never.wait()
        return b""

    for answer in (silence, script(reply("{", length=10))):
        error = await failing(answer, timeouts={"read": "50ms"})
        assert isinstance(error, RetryableError)
        assert "within the timeouts (connect 10 s, read 0.05 s, total 120 s)" in str(error)
    assert isinstance(await failing(silence, timeouts={"total": "50ms"}), RetryableError)


async def test_certificates(tmp_path: Path) -> None:
    """Goal: a certificate that cannot be trusted is the operator's matter, and ca_file is the mend. Method: a server with a certificate of our
    own, asked without and with ca_file; a ca_file that is missing, and one that holds no certificate."""
    authority = Authority(tmp_path)
    name = SourceName("acme")
    async with wire(script(GOOD), authority.server()) as upstream:
        async with open_admin_api(name, made(upstream.base_url), Telemetry()) as api:
            with pytest.raises(
                ConfigError, match="certificate of localhost cannot be trusted: .*name the issuing authority in ca_file"
            ):
                await get(api)
        async with open_admin_api(name, made(upstream.base_url, ca_file=authority.file), Telemetry()) as api:
            assert await get(api) == b'{"data":[]}'
    (tmp_path / "empty.pem").write_text("nothing")
    for file in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=f"sources.acme.ca_file: cannot load .*{file}"):
            async with open_admin_api(name, made("https://x", ca_file=tmp_path / file), Telemetry()):
                raise AssertionError("opened")


async def test_tls_to_a_server_without() -> None:
    """Goal: https to a plain port is a sentence and not a crash. Method: a server that answers a TLS hello with HTTP."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(reply("x", 400))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        base_url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with open_admin_api(SourceName("acme"), made(base_url), Telemetry()) as api:
            with pytest.raises(
                RetryableError, match=r"cannot talk to 127\.0\.0\.1: TLS: .*check the network and base_url"
            ):
                await get(api)


async def test_a_proxy_is_used_only_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: the environment does not reroute the key. Method: a proxy in the environment is not asked; one in the options is, with its password
    in its own header, and a refusal by it is the operator's matter."""
    async with wire(script(reply("{}"), reply("no", 407))) as proxy:
        address = proxy.base_url.removesuffix("/v1")
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("HTTP_PROXY", address)
        async with asking(script(GOOD)) as (api, upstream):
            await get(api)
            assert (len(upstream.asked), len(proxy.asked)) == (1, 0)
        named = address.replace("//", "//me:pass-word@")
        async with asking(script(GOOD), proxy=named) as (api, upstream):
            assert await get(api) == b"{}"
            assert proxy.asked[0].target.startswith(f"{upstream.base_url}/organization")
            assert proxy.asked[0].headers["authorization"] == f"Bearer {KEY}"
            with pytest.raises(ConfigError, match="check proxy") as caught:
                await get(api)
            assert "pass-word" not in str(caught.value)
            assert upstream.asked == []


@pytest.mark.parametrize(
    ("status", "kind", "mend"),
    [(407, ConfigError, "check proxy, its user and password"), (502, RetryableError, "check the proxy if it stays")],
)
async def test_a_proxy_that_refuses_to_connect(status: int, kind: type[StreamerError], mend: str) -> None:
    """Goal: who is to blame is said, and the password is not. Method: a TLS address behind a proxy that answers CONNECT."""
    async with wire(script(reply("no", status))) as proxy:
        named = proxy.base_url.removesuffix("/v1").replace("//", "//me:pass-word@")
        options = made("https://api.invalid/v1", proxy=named)
        async with open_admin_api(SourceName("acme"), options, Telemetry()) as api:
            with pytest.raises(kind, match=f"the proxy answered {status} to CONNECT api.invalid .*; {mend}") as caught:
                await get(api)
    assert "pass-word" not in str(caught.value)


# --- the organization ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted", "verdict"),
    [
        ("org-1", "org-1", None),
        ("org-2", "org-1", ConfigError),
        ("acme-corp", "org-1", None),
        ("acme-corp", "other-corp", ConfigError),
        ("org-2", None, None),
        ("", "org-1", None),
    ],
)
async def test_the_organization_is_checked(found: str, wanted: str | None, verdict: type | None) -> None:
    """Goal: a key of another organization is noticed; a handle is not mistaken for one. Method: the header against the option."""
    answer = script(reply('{"data":[]}', openai_organization=found) if found else GOOD)
    if verdict is None:
        async with asking(answer, organization_id=wanted) as (api, _):
            assert await get(api)
    else:
        error = await failing(answer, organization_id=wanted)
        assert isinstance(error, verdict)
        assert f"the key belongs to {found} and not to {wanted}" in str(error)
