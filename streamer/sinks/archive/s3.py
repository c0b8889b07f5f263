"""The archive's objects in an S3 bucket, or in a store that speaks its protocol.

botocore is used synchronously: everything here runs in the archive's own thread, or in those of `verify`.
"""

import base64
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)

from streamer.errors import ConfigError, RetryableError
from streamer.sinks.archive.options import S3Options

PART_BYTES = 16 << 20
"""What is larger goes up in parts of this size."""
_MISSING = {"404", "NoSuchKey", "NotFound"}
_EXISTS = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_RETRYABLE = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "RequestTimeTooSkewed", "Throttling"}


@contextmanager
def map_errors(place: str) -> Iterator[None]:
    """What the store or the way to it did, to a verdict. Never PermanentError: an archive refuses no record."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        text = f"archive: {place}: {error.response.get('Error', {}).get('Message') or code} ({code}, {status})"
        if status >= 500 or status in (408, 409, 429) or code in _RETRYABLE:
            raise RetryableError(text) from error
        raise ConfigError(f"{text}; mend the bucket, its policy or the keys") from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise ConfigError(
            f"archive: {place}: {error}; give access_key_id and secret_access_key_file, or a role"
        ) from error
    except SSLError as error:
        raise ConfigError(f"archive: {place}: {error}; mend the certificate, or give ca_file") from error
    except (EndpointConnectionError, HTTPClientError, ConnectionError) as error:
        raise RetryableError(f"archive: {place}: {error}") from error
    except BotoCoreError as error:
        raise ConfigError(f"archive: {place}: {error}; mend the options under s3") from error


class S3Store:
    """A bucket and a prefix. Objects are written once: an earlier attempt's object is taken as it is."""

    def __init__(self, bucket: str, prefix: str, options: S3Options) -> None:
        self._bucket, self._prefix, self._options = bucket, f"{prefix}/" if prefix else "", options
        self._made: tuple[str | None, Any] | None = None

    # --- Store -------------------------------------------------------------------------------------------------------

    def place(self, key: str, file: Path, sha256: str, /) -> tuple[str, int]:
        with map_errors(self._name(key)):
            size = file.stat().st_size
            there = self._head(key)
            if there is None:
                try:
                    if size > PART_BYTES:
                        self._put_in_parts(key, file, sha256)
                    else:
                        self._put_object(key, file.read_bytes(), {"sha256": sha256}, IfNoneMatch="*")
                except ClientError as error:
                    if _code(error) not in _EXISTS:
                        raise
                there = self._head(key)
            if there is None or "sha256" not in there["Metadata"]:
                raise ConfigError(
                    f"archive: {self._name(key)} is there and is not ours; look into it, then move it away"
                )
            return there["Metadata"]["sha256"], there["ContentLength"]

    def create(self, key: str, data: bytes, /) -> bytes:
        there = self.get(key)
        if there is not None:
            return there
        with map_errors(self._name(key)):
            try:
                self._put_object(key, data, {}, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) not in _EXISTS:
                    raise
        return self.get(key) or data

    def put(self, key: str, data: bytes, /) -> None:
        with map_errors(self._name(key)):
            self._put_object(key, data, {})

    def get(self, key: str, /) -> bytes | None:
        body = self.open(key)
        if body is None:
            return None
        with body:
            return body.read()

    def open(self, key: str, /) -> BinaryIO | None:
        with map_errors(self._name(key)):
            try:
                answer = self._client().get_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
        body: Any = _Body(answer["Body"], self._name(key))
        opened: BinaryIO = body
        return opened

    def walk(self, prefix: str = "", /) -> Iterator[tuple[str, int]]:
        with map_errors(self._name(prefix)):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for row in page.get("Contents", ()):
                    yield row["Key"].removeprefix(self._prefix), row["Size"]

    def delete(self, key: str, /) -> None:
        with map_errors(self._name(key)):
            self._client().delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def locked(self, key: str, /) -> bool:
        with map_errors(self._name(key)):
            there = self._head(key)
        if there is None:
            return False
        until = there.get("ObjectLockRetainUntilDate")
        return there.get("ObjectLockLegalHoldStatus") == "ON" or (until is not None and until > datetime.now(UTC))

    def probe(self) -> str:
        with map_errors(self._name("")):
            self._client().head_bucket(Bucket=self._bucket)
            if self._options.lock is not None or self._options.legal_hold:
                self._client().get_object_lock_configuration(Bucket=self._bucket)
                return f"bucket {self._bucket} answers and locks objects"
        return f"bucket {self._bucket} answers"

    # --- requests ----------------------------------------------------------------------------------------------------

    def _put_object(self, key: str, data: bytes, metadata: dict[str, str], **conditions: str) -> None:
        self._client().put_object(
            Bucket=self._bucket,
            Key=self._prefix + key,
            Body=data,
            Metadata=metadata,
            ChecksumSHA256=_base64_sha256(data),
            **self._protection(),
            **conditions,
        )

    def _put_in_parts(self, key: str, file: Path, sha256: str) -> None:
        """Visible as a whole when it is complete; the parts of a failed attempt are thrown away."""
        client, place = self._client(), {"Bucket": self._bucket, "Key": self._prefix + key}
        upload = client.create_multipart_upload(
            **place, Metadata={"sha256": sha256}, ChecksumAlgorithm="SHA256", **self._protection()
        )["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            with file.open("rb") as source:
                while piece := source.read(PART_BYTES):
                    number, checksum = len(parts) + 1, _base64_sha256(piece)
                    answer = client.upload_part(
                        **place, UploadId=upload, PartNumber=number, Body=piece, ChecksumSHA256=checksum
                    )
                    parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum})
            client.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except (ClientError, BotoCoreError, OSError):
            client.abort_multipart_upload(**place, UploadId=upload)
            raise

    def _protection(self) -> dict[str, Any]:
        options, arguments = self._options, dict[str, Any]()
        if options.kms_key_id is not None:
            arguments |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": options.kms_key_id}
        if options.storage_class is not None:
            arguments["StorageClass"] = options.storage_class
        if options.lock is not None:
            arguments["ObjectLockMode"] = options.lock.mode.upper()
            arguments["ObjectLockRetainUntilDate"] = datetime.now(UTC) + timedelta(seconds=options.lock.period)
        if options.legal_hold:
            arguments["ObjectLockLegalHoldStatus"] = "ON"
        return arguments

    def _head(self, key: str) -> Any:
        try:
            return self._client().head_object(Bucket=self._bucket, Key=self._prefix + key)
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise

    def _client(self) -> Any:
        """Made anew when the secret's file has changed."""
        options = self._options
        secret = options.secret.reveal() if options.secret is not None else None
        if self._made is None or self._made[0] != secret:
            self._made = (secret, _make_client(options, secret))
        return self._made[1]

    def _name(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


class _Body(io.RawIOBase):
    """An answer's body whose trouble is a verdict; may be read from another thread."""

    def __init__(self, body: Any, name: str) -> None:
        super().__init__()
        self._body, self._name = body, name

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with map_errors(self._name):
            data: bytes = self._body.read(None if size < 0 else size)
            return data

    def close(self) -> None:
        self._body.close()
        super().close()


def _make_client(options: S3Options, secret: str | None) -> Any:
    is_elsewhere = options.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=10,
        read_timeout=options.timeout,
        retries={"mode": "standard", "total_max_attempts": 1},  # the delivery loop retries
        max_pool_connections=(os.cpu_count() or 1) * 8,
        s3={"addressing_style": "path"} if is_elsewhere else {},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return botocore.session.get_session().create_client(
        "s3",
        region_name=options.region,
        endpoint_url=options.endpoint_url,
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=secret,
        verify=str(options.ca_file) if options.ca_file else None,
        config=config,
    )


def _base64_sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
