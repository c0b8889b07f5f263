"""What an operator can say about an archive."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, SecretStr, model_validator

from streamer.config import BatchOptions, Duration, Secret, SinkOptions, Strict, Url, one_secret

Compression = Literal["zstd", "gzip", "none"]


class RollOptions(Strict):
    """An object is closed by whichever comes first; it never holds events of two days."""

    size: Annotated[ByteSize, Field(ge=1, le=8 << 30)] = ByteSize(64 << 20)
    """Bytes of events before compression, all objects of one interval together."""
    age: Duration = 300.0
    """How long the first event waits."""


class LockOptions(Strict):
    """S3 Object Lock, set on every object and manifest."""

    mode: Literal["governance", "compliance"]
    """As S3 calls them: `compliance` cannot be lifted by anybody."""
    period: Duration
    """Retained from the moment of writing; rounded up to whole seconds."""


class S3Options(Strict):
    """How to reach a bucket. Without keys here, the usual places of the AWS tools are asked (environment, profile, instance role)."""

    region: str | None = None
    """Of the bucket."""
    endpoint_url: Url | None = None
    """An S3-compatible store; addressed by path."""
    access_key_id: str | None = None
    """With `secret_access_key`."""
    secret_access_key: SecretStr | None = None
    """With `access_key_id`."""
    secret_access_key_file: Path | None = None
    ca_file: Path | None = None
    """Authorities that are trusted instead of the system's, PEM."""
    kms_key_id: str | None = None
    """Encrypt with this KMS key (SSE-KMS)."""
    storage_class: str | None = None
    """Like `STANDARD_IA`."""
    lock: LockOptions | None = None
    legal_hold: bool = False
    """Set one on every object."""
    timeout: Duration = 60.0
    """For one answer of the store."""

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if (self.secret is None) != (self.access_key_id is None):
            raise ValueError("access_key_id and secret_access_key belong together; give both or neither")
        return self

    @property
    def secret(self) -> Secret | None:
        return one_secret("secret_access_key", self.secret_access_key, self.secret_access_key_file)


def _place(text: str) -> str:
    if text.startswith("s3://") and not text.removeprefix("s3://").strip("/"):
        raise ValueError("s3:// names no bucket; write s3://bucket/prefix")
    return text.rstrip("/") or "/"


class ArchiveOptions(SinkOptions):
    """The compliance archive: closed, hashed, signed objects in a folder or an S3 bucket."""

    path: Annotated[str, Field(min_length=1), AfterValidator(_place)]
    """A folder, or s3://bucket/prefix."""
    objects: Literal["jsonl", "parquet"] = "jsonl"
    """JSON lines, or Parquet with the envelope's columns."""
    compression: Compression = "zstd"
    """Of JSON lines."""
    level: Annotated[int, Field(ge=1, le=19)] = 3
    """Of the compression; gzip goes up to 9."""
    roll: RollOptions = RollOptions()
    """When an object is closed."""
    heartbeat: Duration = 3600.0
    """While nothing comes, a manifest says so this often."""
    signing_key: SecretStr | None = None
    """An Ed25519 private key, PEM (`streamer keygen`)."""
    signing_key_file: Path | None = None
    """An Ed25519 private key (`streamer keygen`). Without it the manifests are chained by hashes but not signed."""
    retention: Duration | None = None
    """Delete objects whose day lies further back, and write down that we did. Never what is locked. None: keep for ever."""
    s3: S3Options = S3Options()
    """For `path: s3://…`."""
    batch: BatchOptions = BatchOptions(events=1000, bytes=ByteSize(2 << 20))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.objects == "parquet" and self.format != "envelope":
            raise ValueError(f"parquet has the columns of the envelope, not of {self.format}; use objects: jsonl")
        if self.compression == "gzip" and self.level > 9:
            raise ValueError(f"gzip has levels 1 to 9, not {self.level}; lower level")
        if self.retention is not None and self.retention < 86_400:
            raise ValueError("retention is counted in days; write 1d or more")
        self.key  # noqa: B018 - says so when both forms are given
        return self

    @property
    def key(self) -> Secret | None:
        return one_secret("signing_key", self.signing_key, self.signing_key_file)
