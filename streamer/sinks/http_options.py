"""What an operator says of an HTTP sink, and the credentials in it."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from streamer.config import Duration, Secret, SinkOptions, Url, one_secret
from streamer.errors import ConfigError
from streamer.ports import SinkContext
from streamer.sinks.tls import TlsOptions

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


def own_headers(options: HttpOptions, context: SinkContext) -> Iterator[Credential]:
    for name, value in options.headers.items():
        yield Credential(name, Secret(f"sinks.{context.name}.headers.{name}", value, None))
    for name, file in options.header_files.items():
        yield Credential(name, Secret(f"sinks.{context.name}.header_files.{name}", None, file))
