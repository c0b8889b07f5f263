"""What an operator sets for a `kafka` sink."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, field_validator, model_validator

from streamer.config import Duration, Secret, SinkOptions, Strict, one_secret

DEFAULT_PORT = 9092

Key = Literal["source", "id", "type", "actor.id", "project.id", "none"]
Compression = Literal["zstd", "gzip", "lz4", "snappy", "none"]


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def parse_address(text: str) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port` to host and port; ValueError otherwise."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/]+)(?::(\d{1,5}))?", text)
    if match is None or not 0 < int(match[2] or DEFAULT_PORT) < 65_536:
        raise ValueError(f"{text!r} is no broker; write HOST:PORT, like kafka:9092, several with commas between")
    return match[1].strip("[]"), int(match[2] or DEFAULT_PORT)


class TlsOptions(Strict):
    """`tls: {}` trusts the system's authorities. Files are read again at every connection."""

    ca_file: Path | None = None
    """Authorities that are trusted instead of the system's, PEM."""
    cert_file: Path | None = None
    """Our certificate and its chain, PEM."""
    key_file: Path | None = None
    """Its key; may be left out where `cert_file` holds it too."""
    key_password: SecretStr | None = None
    """Of `key_file`."""
    key_password_file: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.password()
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file, the certificate that the key belongs to")
        return self

    def password(self) -> Secret | None:
        return one_secret("key_password", self.key_password, self.key_password_file)


class SaslOptions(Strict):
    """Who we are. Files are read again at every login."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
    """How we log in."""
    username: str | None = None
    """For PLAIN and SCRAM."""
    password: SecretStr | None = None
    """For PLAIN and SCRAM."""
    password_file: Path | None = None
    token: SecretStr | None = None
    """For OAUTHBEARER."""
    token_file: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        login, token = self.login(), self.bearer()
        if self.mechanism == "OAUTHBEARER":
            if token is None or login is not None or self.username is not None:
                raise ValueError("OAUTHBEARER takes token or token_file, and neither username nor password")
        elif login is None or not self.username or token is not None:
            raise ValueError(f"{self.mechanism} takes username and password or password_file, and no token")
        return self

    def login(self) -> Secret | None:
        return one_secret("password", self.password, self.password_file)

    def bearer(self) -> Secret | None:
        return one_secret("token", self.token, self.token_file)


class KafkaOptions(SinkOptions):
    """An Apache Kafka topic."""

    bootstrap_servers: Annotated[
        list[str], BeforeValidator(_split, json_schema_input_type=str | list[str]), Field(min_length=1)
    ]
    """`host:port`, several with commas between."""
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    """It must exist; it is not created."""
    client_id: Annotated[str, Field(min_length=1, max_length=200)] = "openai-audit-streamer"
    """What the brokers call us in their logs and quotas."""
    key: Key = "source"
    """Events with the same key stay in order. An event without that field, and every event with `none`, has no key."""
    compression: Compression = "zstd"
    """Of record batches."""
    exactly_once: bool = False
    """Events and our position in one transaction; consumers read with `isolation.level=read_committed`."""
    transactional_id: Annotated[str, Field(min_length=1, max_length=249)] | None = None
    """Also the consumer group that keeps our position. Default: `streamer.<topic>.<sink>`,
    with `shard` also `.<index>`: each replica has its own."""
    tls: TlsOptions | None = None
    """null: plain TCP."""
    sasl: SaslOptions | None = None
    """null: no login."""
    request_timeout: Duration = 30.0
    """For one answer of a broker."""
    delivery_timeout: Duration = 120.0
    """For one batch with all its requests, and for a transaction."""
    max_request_size: Annotated[ByteSize, Field(ge=1024, le=64 << 20)] = ByteSize(1 << 20)
    """The largest event, and the largest record batch, before compression."""

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, servers: list[str]) -> list[str]:
        for server in servers:
            parse_address(server)
        return servers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.transactional_id is not None and not self.exactly_once:
            raise ValueError("transactional_id is for exactly_once: true; set that, or remove it")
        return self

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [parse_address(server) for server in self.bootstrap_servers]
