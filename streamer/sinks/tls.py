"""TLS for every sink: certificates from files that are read again when they change."""

import ssl
from pathlib import Path

from pydantic import model_validator

from streamer.config import Strict
from streamer.errors import ConfigError


class TlsOptions(Strict):
    """Files in PEM."""

    ca_file: Path | None = None
    """Trusted instead of the system's authorities."""
    cert_file: Path | None = None
    """Our certificate, for servers that ask for one."""
    key_file: Path | None = None
    """Its key, unless `cert_file` holds both."""

    @model_validator(mode="after")
    def _paired(self) -> "TlsOptions":
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file is the key of cert_file; add cert_file")
        return self


_Stamp = tuple[tuple[int, int, int], ...]


class Tls:
    """The TLS context of this moment."""

    def __init__(self, where: str, options: TlsOptions) -> None:
        """`where`: what messages call it, like `sinks.hook.tls`."""
        self._where, self._options = where, options
        self._made: tuple[_Stamp, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """The same object as long as the files stay the same, so that connections live on. ConfigError for a file that cannot be used."""
        stamp = tuple(
            self._stat(key, path)
            for key, path in (
                ("ca_file", self._options.ca_file),
                ("cert_file", self._options.cert_file),
                ("key_file", self._options.key_file),
            )
            if path is not None
        )
        if self._made is None or self._made[0] != stamp:
            self._made = (stamp, self._load())
        return self._made[1]

    def _stat(self, key: str, path: Path) -> tuple[int, int, int]:
        try:
            stat = path.stat()
        except OSError as error:
            raise ConfigError(
                f"{self._where}.{key}: cannot read {path}: {error.strerror}; put the PEM file there"
            ) from None
        return (stat.st_mtime_ns, stat.st_ino, stat.st_size)

    def _load(self) -> ssl.SSLContext:
        options = self._options
        path = options.ca_file
        try:
            context = ssl.create_default_context(cafile=path)
            path = options.cert_file
            if path is not None:
                # Without a password a locked key would ask at the terminal of a daemon.
                context.load_cert_chain(path, options.key_file, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(
                f"{self._where}: cannot use {path}: {reason}; it must be PEM, a key without password"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
