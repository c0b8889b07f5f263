"""Standard Webhooks 1.0.0: one event a request, or a batch of them, signed."""

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from pydantic import Field, SecretStr, model_validator

from streamer.config import BatchOptions, one_secret
from streamer.errors import ConfigError, PermanentError
from streamer.model import Batch, Message
from streamer.ports import SinkContext
from streamer.sinks import SinkType
from streamer.sinks.bodies import JSON_FORMATS, Taken, as_json, as_json_string, rfc3339
from streamer.sinks.http import Http, Verdicts, open_http
from streamer.sinks.http_options import HttpAuthOptions, SecretUrlOptions, authorization, checked_url, secret_at

Layout = Literal["single", "json_array", "ndjson"]


class WebhookBatch(BatchOptions):
    events: Annotated[int, Field(ge=1, le=50_000)] = 100


class WebhookOptions(HttpAuthOptions, SecretUrlOptions):
    """HTTP POST with the headers of Standard Webhooks."""

    secret: SecretStr | None = None
    """`whsec_…` (HMAC, `v1`) or `whsk_…` (ed25519, `v1a`). Several with a space between them sign together, for the time of a rotation. None: not signed."""
    secret_file: Path | None = None
    layout: Layout = "single"
    """A request holds one event, a JSON array of them, or one a line."""
    body: Literal["standard", "bare"] = "standard"
    """`standard`: {"type", "timestamp", "data"} with the event under `data`; `bare`: the event alone."""
    gzip: bool = False
    """Compress requests; most receivers of webhooks do not expect it."""
    batch: WebhookBatch = WebhookBatch()

    @model_validator(mode="after")
    def _usable_secret(self) -> "WebhookOptions":
        one_secret("secret", self.secret, self.secret_file)
        if self.secret is not None:
            try:
                signing_keys("secret", self.secret.get_secret_value())
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self


# --- signing ---------------------------------------------------------------------------------------------------------

Key = Callable[[bytes], str]
"""From the signed content to one signature, `v1,…` or `v1a,…`."""


def signing_keys(where: str, text: str) -> list[Key]:
    """The keys of a secret, in its order. ConfigError that does not repeat them."""
    keys = [_key(where, word) for word in text.split()]
    if not keys:
        raise ConfigError(f"{where}: holds no key; write whsec_… or whsk_…")
    return keys


def _key(where: str, word: str) -> Key:
    kind, _, encoded = word.partition("_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise ConfigError(f"{where}: a key is not base64 behind its {kind[:5]}_; copy it whole") from None
    if kind == "whsec" and 24 <= len(key) <= 64:
        return lambda content: "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    if kind == "whsk" and len(key) in (32, 64):  # the seed, or the seed and the public key
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(key[:32])
        return lambda content: "v1a," + base64.b64encode(private.sign(content)).decode()
    raise ConfigError(
        f"{where}: a key must be whsec_ and 24 to 64 bytes in base64, or whsk_ and an ed25519 private key"
    )


def sign(keys: Sequence[Key], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return " ".join(key(content) for key in keys)


def event_webhook_id(event_id: str) -> str:
    """The event's id; where it has characters that the header or the signed content cannot hold, cleaned and told apart by a digest."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,200}", event_id):
        return event_id
    digest = hashlib.sha256(event_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return re.sub(r"[^A-Za-z0-9_-]", "_", event_id)[:100] + "-" + digest


def batch_webhook_id(body: bytes) -> str:
    """The same events in the same order have the same id, on whichever attempt."""
    return "batch_" + hashlib.sha256(body).hexdigest()[:32]


# --- requests --------------------------------------------------------------------------------------------------------


def encode_one(message: Message, standard: bool, is_json: bool) -> bytes:
    """One event; text (CEF, LEEF) becomes a JSON string where it stands inside JSON."""
    if not standard:
        return message.body
    envelope = message.record.envelope
    return b'{"type":%b,"timestamp":"%b","data":%b}' % (
        msgspec.json.encode(envelope.type),
        rfc3339(envelope.time).encode(),
        as_json(message, is_json),
    )


def encode_batch(messages: Sequence[Message], layout: Layout, standard: bool, is_json: bool) -> bytes:
    """Several events in one body."""
    parts = [encode_one(message, standard, is_json) for message in messages]
    if layout == "ndjson":
        return b"\n".join(parts) + b"\n"
    if not (standard or is_json):
        parts = [as_json_string(part) for part in parts]
    return b"[" + b",".join(parts) + b"]"


_VERDICTS = Verdicts()


class WebhookSink:
    def __init__(self, options: WebhookOptions, context: SinkContext, http: Http) -> None:
        url = secret_at(context, "url", options.url, options.url_file)
        assert url is not None
        self._name, self._http, self._url = f"sinks.{context.name}", http, url
        self._secret = secret_at(context, "secret", options.secret, options.secret_file)
        self._layout = options.layout
        self._standard, self._is_json = options.body == "standard", options.format in JSON_FORMATS
        self._keys: tuple[str, list[Key]] = ("", [])
        self._taken = Taken()

    async def write(self, batch: Batch, /) -> None:
        if self._layout != "single":
            body = encode_batch(batch.messages, self._layout, self._standard, self._is_json)
            await self._post(batch_webhook_id(body), body, batch.messages[0].replayed)
            return
        for i in self._taken.rest(batch):
            message = batch.messages[i]
            body = encode_one(message, self._standard, self._is_json)
            try:
                await self._post(event_webhook_id(message.record.envelope.id), body, message.replayed)
            except PermanentError as error:
                raise PermanentError(str(error), rejected=[i]) from None
            self._taken.add(message)
        self._taken.finish(batch)

    async def _post(self, webhook_id: str, body: bytes, replayed: bool) -> None:
        """What is signed is the body before gzip, as the receiver's framework hands it over."""
        now = int(time.time())
        headers = {
            "Content-Type": self._content_type(),
            "webhook-id": webhook_id,
            "webhook-timestamp": str(now),
        }
        keys = self.signing_keys()
        if keys:
            headers["webhook-signature"] = sign(keys, webhook_id, now, body)
        if replayed:
            headers["webhook-replayed"] = "true"
        _VERDICTS.judge(await self._http.post(self.url(), body, headers))

    async def probe(self) -> str:
        keys = self.signing_keys()
        return f"{await self._http.reach(self.url())}; " + (f"signed with {len(keys)} key(s)" if keys else "not signed")

    def _content_type(self) -> str:
        if self._layout == "ndjson":
            return "application/x-ndjson" if self._standard or self._is_json else "text/plain; charset=utf-8"
        if self._layout == "single" and not self._standard and not self._is_json:
            return "text/plain; charset=utf-8"
        return "application/json"

    def url(self) -> str:
        return checked_url(f"{self._name}.url", self._url.reveal())

    def signing_keys(self) -> list[Key]:
        """Those of this moment; none without a secret."""
        if self._secret is None:
            return []
        text = self._secret.reveal()
        if text != self._keys[0]:
            self._keys = (text, signing_keys(f"{self._name}.secret", text))
        return self._keys[1]


@asynccontextmanager
async def open_webhook(options: WebhookOptions, context: SinkContext) -> AsyncIterator[WebhookSink]:
    async with open_http(options, context, authorization(options, context)) as http:
        sink = WebhookSink(options, context, http)
        sink.url()
        sink.signing_keys()
        yield sink


async def probe_webhook(options: WebhookOptions, context: SinkContext) -> str:
    """Sends no event, which would be taken for a real one: shows that the receiver can be reached, not that it takes our signature."""
    async with open_webhook(options, context) as sink:
        return await sink.probe()


SINK = SinkType(WebhookOptions, open_webhook, probe_webhook)
