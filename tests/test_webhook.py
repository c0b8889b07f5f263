"""The webhook sink against Standard Webhooks 1.0.0, verified by the specification's own library."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from streamer.errors import ConfigError, PermanentError, RetryableError
from streamer.model import Batch
from streamer.sinks.webhook import (
    WebhookOptions,
    event_webhook_id,
    open_webhook,
    probe_webhook,
    sign,
    signing_keys,
)
from tests.receiver import Request, batch, context, ids, message, receiver, says, script
from tests.shared_folder import shared_json

OLD = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NEW = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


def options(url: str, **more: Any) -> WebhookOptions:
    return WebhookOptions.model_validate({"url": url, **more})


def test_published_vectors() -> None:
    """Goal: signatures are the specification's. Method: its published vectors and others made with its library."""
    vectors = shared_json("checks/webhooks/vectors.json")
    for vector in vectors:
        keys = signing_keys("secret", vector["secret"])
        assert sign(keys, vector["id"], vector["timestamp"], vector["body"].encode()) == vector["signature"]
    assert len(vectors) >= 4


async def test_signed_and_verified_by_the_reference_library(tmp_path: Path) -> None:
    """Goal: a receiver that uses the reference library takes us, and refuses a changed body. Method: verify what a real server received."""
    async with receiver(lambda _: says(204)) as server:
        async with open_webhook(options(server.url, secret=OLD), context(tmp_path)) as sink:
            await sink.write(batch(1))
        request = server.requests[0]
    verified = Webhook(OLD).verify(request.body, dict(request.headers))
    assert verified == request.json
    assert request.headers["webhook-id"] == "audit_log-000000000000000000000001"
    assert verified["type"] == "api_key.created"
    assert verified["timestamp"] == "2026-01-01T12:00:01Z"
    assert verified["data"]["schema"] == "streamer.envelope/1"
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(request.body.replace(b"medium", b"low"), dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(request.body, dict(request.headers))


async def test_two_secrets_sign_together_during_a_rotation(tmp_path: Path) -> None:
    """Goal: a secret rotates without a gap. Method: a file that holds the old, both, then the new; receivers with either key."""
    file = tmp_path / "secret"
    accepted: list[tuple[bool, bool]] = []

    def verify(request: Request) -> Any:
        def ok(secret: str) -> bool:
            try:
                Webhook(secret).verify(request.body, dict(request.headers))
            except WebhookVerificationError:
                return False
            return True

        accepted.append((ok(OLD), ok(NEW)))
        return says(200)

    file.write_text(OLD)
    async with (
        receiver(verify) as server,
        open_webhook(options(server.url, secret_file=file), context(tmp_path)) as sink,
    ):
        await sink.write(batch(1))
        file.write_text(f"{NEW}\n{OLD}\n")
        await sink.write(batch(1))
        file.write_text(NEW + "\n")
        await sink.write(batch(1))
    assert accepted == [(True, False), (True, True), (False, True)]


async def test_ed25519(tmp_path: Path) -> None:
    """Goal: `v1a` is ed25519 over the same content. Method: verify with the public key, for both forms of the private one."""
    private = Ed25519PrivateKey.generate()
    seed = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    async with receiver(lambda _: says(200)) as server:
        for key in (seed, seed + public):
            secret = "whsk_" + base64.b64encode(key).decode() + " " + OLD
            async with open_webhook(options(server.url, secret=secret), context(tmp_path)) as sink:
                await sink.write(batch(1))
    for request in server.requests:
        asymmetric, symmetric = request.headers["webhook-signature"].split()
        content = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
        private.public_key().verify(base64.b64decode(asymmetric.removeprefix("v1a,")), content)
        assert symmetric.startswith("v1,")
    assert len(server.requests) == 2


async def test_unsigned_without_a_secret(tmp_path: Path) -> None:
    """Goal: signing is optional. Method: no secret; id and timestamp are there, no signature is."""
    async with receiver(lambda _: says(200)) as server:
        async with open_webhook(options(server.url), context(tmp_path)) as sink:
            await sink.write(batch(1))
        headers = server.requests[0].headers
    assert "webhook-signature" not in headers
    assert headers["webhook-timestamp"].isdigit()


@pytest.mark.parametrize("layout", ["single", "json_array", "ndjson"])
async def test_a_retry_repeats_the_same_id_and_bytes(tmp_path: Path, layout: str) -> None:
    """Goal: the receiver can drop what it has. Method: 503, then success; compare the two requests."""
    async with receiver(script(lambda: says(503), lambda: says(200))) as server:
        async with open_webhook(options(server.url, secret=OLD, layout=layout), context(tmp_path)) as sink:
            events = batch(1 if layout == "single" else 3)
            with pytest.raises(RetryableError):
                await sink.write(events)
            await sink.write(events)
        first, second = server.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert "." not in first.headers["webhook-id"]


async def test_single_events_go_in_order_and_a_second_try_sends_only_the_rest(tmp_path: Path) -> None:
    """Goal: single events are batched without being sent twice. Method: the third of five fails once."""
    answers = iter([200, 200, 503, 200, 200, 200])
    events = batch(5)
    async with (
        receiver(lambda _: says(next(answers))) as server,
        open_webhook(options(server.url), context(tmp_path)) as sink,
    ):
        with pytest.raises(RetryableError):
            await sink.write(events)
        await sink.write(events)
        seen = [r.headers["webhook-id"] for r in server.requests]
        assert seen == [*ids(events.messages[:3]), *ids(events.messages[2:])]
        answers = iter([200] * 5)
        await sink.write(events)
    assert [r.headers["webhook-id"] for r in server.requests[6:]] == ids(events.messages)


async def test_a_refused_single_event_is_named(tmp_path: Path) -> None:
    """Goal: only the bad record is blamed. Method: 422 for the second of three, then the parts as delivery writes them."""
    bad = message(2)
    async with receiver(lambda r: says(422 if r.json["data"]["id"].endswith("2") else 200)) as server:
        async with open_webhook(options(server.url), context(tmp_path)) as sink:
            events = Batch([message(1), bad, message(3)])
            with pytest.raises(PermanentError) as caught:
                await sink.write(events)
            assert caught.value.rejected == [1]
            await sink.write(Batch(events.messages[:1]))
            with pytest.raises(PermanentError):
                await sink.write(Batch([bad]))
            await sink.write(Batch(events.messages[2:]))
        seen = [r.json["data"]["id"][-1] for r in server.requests]
    assert seen == ["1", "2", "2", "3"]


async def test_batches_as_json_array_and_ndjson(tmp_path: Path) -> None:
    """Goal: many events a request, in order, in both layouts and bodies. Method: read them back from the request."""
    events = batch(4)
    async with receiver(lambda _: says(200)) as server:
        for layout in ("json_array", "ndjson"):
            for body in ("standard", "bare"):
                made = options(server.url, layout=layout, body=body, secret=OLD)
                async with open_webhook(made, context(tmp_path)) as sink:
                    await sink.write(events)
    array, bare_array, lines, bare_lines = server.requests
    assert [e["data"]["id"] for e in array.json] == ids(events.messages)
    assert [e["id"] for e in bare_array.json] == ids(events.messages)
    assert lines.lines == array.json
    assert bare_lines.lines == bare_array.json
    assert bare_lines.body == b"".join(m.body + b"\n" for m in events.messages)
    assert array.headers["Content-Type"] == "application/json"
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    assert len({r.headers["webhook-id"] for r in server.requests}) == 4
    assert all(r.headers["webhook-id"].startswith("batch_") for r in server.requests)


async def test_text_formats(tmp_path: Path) -> None:
    """Goal: CEF and LEEF travel too. Method: a text body in each layout: a JSON string inside JSON, itself as a line."""
    events = batch(2, body=lambda _: 'CEF:0|a|b|"c"\\|ë'.encode())
    async with receiver(lambda _: says(200)) as server:
        for layout, body in (
            ("single", "standard"),
            ("single", "bare"),
            ("json_array", "bare"),
            ("ndjson", "bare"),
            ("ndjson", "standard"),
        ):
            made = options(server.url, layout=layout, body=body, format="cef")
            async with open_webhook(made, context(tmp_path)) as sink:
                await sink.write(events if layout != "single" else Batch(events.messages[:1]))
    text = 'CEF:0|a|b|"c"\\|ë'
    single, bare, array, plain, lines = server.requests
    assert single.json["data"] == text
    assert bare.body.decode() == text
    assert array.json == [text, text]
    assert plain.body.decode() == f"{text}\n{text}\n"
    assert [line["data"] for line in lines.lines] == [text, text]
    assert [r.headers["Content-Type"].partition(";")[0] for r in server.requests] == [
        "application/json",
        "text/plain",
        "application/json",
        "text/plain",
        "application/x-ndjson",
    ]


async def test_what_is_signed_is_the_body_before_gzip(tmp_path: Path) -> None:
    """Goal: receivers verify what their framework hands them. Method: gzip on, verify the decompressed body."""
    async with receiver(lambda _: says(200)) as server:
        async with open_webhook(options(server.url, secret=OLD, gzip=True, layout="ndjson"), context(tmp_path)) as sink:
            await sink.write(batch(10))
        request = server.requests[0]
    assert request.headers["Content-Encoding"] == "gzip"
    signature = request.headers["webhook-signature"]
    stamp = int(request.headers["webhook-timestamp"])
    assert sign(signing_keys("s", OLD), request.headers["webhook-id"], stamp, request.body) == signature


async def test_replays_are_marked_in_a_header(tmp_path: Path) -> None:
    """Goal: a replay can be told, with the same id and body. Method: the same event as new and as replayed."""
    async with receiver(lambda _: says(200)) as server:
        async with open_webhook(options(server.url), context(tmp_path)) as sink:
            await sink.write(batch(1))
            await sink.write(batch(1, replayed=True))
        new, old = server.requests
    assert "webhook-replayed" not in new.headers
    assert old.headers["webhook-replayed"] == "true"
    assert (new.body, new.headers["webhook-id"]) == (old.body, old.headers["webhook-id"])


@pytest.mark.parametrize(
    ("status", "verdict"), [(410, ConfigError), (401, ConfigError), (302, ConfigError), (409, ConfigError)]
)
async def test_answers_that_hold(tmp_path: Path, status: int, verdict: type[Exception]) -> None:
    """Goal: 410 and other refusals of us, not of the event, hold the sink and dead-letter nothing. Method: each status."""
    async with (
        receiver(lambda _: says(status, "no")) as server,
        open_webhook(options(server.url), context(tmp_path)) as sink,
    ):
        with pytest.raises(verdict, match="no"):
            await sink.write(batch(1))


@pytest.mark.parametrize("status", [429, 502, 504])
async def test_throttling_answers_carry_the_wait(tmp_path: Path, status: int) -> None:
    """Goal: 429, 502 and 504 slow us down by what the receiver says. Method: each with Retry-After."""
    async with (
        receiver(lambda _: says(status, Retry_After="120")) as server,
        open_webhook(options(server.url), context(tmp_path)) as sink,
    ):
        with pytest.raises(RetryableError) as caught:
            await sink.write(batch(1))
    assert caught.value.retry_after == 120


def test_ids_that_a_header_or_the_signed_content_cannot_hold() -> None:
    """Goal: every id gives a usable, stable, distinct webhook-id. Method: ids with dots, spaces, other letters, great length."""
    odd = ["a.b", "a b", "a_b", "ä", "", "x" * 500, "x" * 501, "a\nb"]
    made = [event_webhook_id(text) for text in odd]
    assert len(set(made)) == len(odd)
    assert all(text.isascii() and text.isprintable() and "." not in text and 0 < len(text) <= 200 for text in made)
    assert event_webhook_id("audit_log-1") == "audit_log-1"
    assert made == [event_webhook_id(text) for text in odd]


def test_a_batch_id_tells_batches_apart() -> None:
    """Goal: only the same batch has the same id. Method: the digest of known bytes."""
    from streamer.sinks.webhook import batch_webhook_id

    assert batch_webhook_id(b"a") == "batch_" + hashlib.sha256(b"a").hexdigest()[:32]
    assert batch_webhook_id(b"a") != batch_webhook_id(b"b")


@pytest.mark.parametrize(
    "bad",
    [
        {"secret": "plain"},
        {"secret": "whsec_!!"},
        {"secret": "whsec_" + base64.b64encode(b"short").decode()},
        {"secret": "whsk_" + base64.b64encode(bytes(31)).decode()},
        {"secret": OLD, "secret_file": "/f"},
        {"url": "ftp://h"},
        {"url": "https://user:pw@h/"},
        {"url": "https://h/a b"},
        {"url": None},
        {"layout": "xml"},
    ],
)
def test_mistakes_are_found_in_the_configuration(bad: dict[str, Any]) -> None:
    """Goal: `check` finds them, without repeating a secret. Method: one mistake each."""
    with pytest.raises(ValidationError) as caught:
        WebhookOptions.model_validate({"url": "https://h/", **bad})
    assert "user:pw" not in json.dumps([e["msg"] for e in caught.value.errors()])


async def test_a_bad_secret_file_is_found_when_opening(tmp_path: Path) -> None:
    """Goal: a file that holds no key is a sentence at the start. Method: a missing, an empty and a wrong file."""
    file = tmp_path / "secret"
    for text in (None, "", "nonsense"):
        if text is not None:
            file.write_text(text)
        with pytest.raises(ConfigError, match=r"sinks\.out\.secret"):
            async with open_webhook(options("https://h/", secret_file=file), context(tmp_path)):
                pass


async def test_probe_sends_no_event(tmp_path: Path) -> None:
    """Goal: `check --online` is not noticed as an event. Method: see what the server was asked; a refusal is a verdict."""
    async with receiver(script(lambda: says(405), lambda: says(401))) as server:
        sentence = await probe_webhook(options(server.url + "/secret", secret=OLD), context(tmp_path))
        with pytest.raises(ConfigError):
            await probe_webhook(options(server.url), context(tmp_path))
    assert [r.method for r in server.requests] == ["HEAD", "HEAD"]
    assert "signed with 1 key(s)" in sentence
    assert "/secret" not in sentence
