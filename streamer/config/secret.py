"""Secrets, by value or by file."""

from pathlib import Path

from pydantic import SecretStr

from streamer.errors import ConfigError


class Secret:
    """A secret by value or by file. A file is read again whenever it changes, so that a key is rotated by replacing it."""

    def __init__(self, name: str, value: SecretStr | None, file: Path | None) -> None:
        self._name, self._value, self._file = name, value, file
        self._read: tuple[tuple[int, int, int], str] | None = None

    def reveal(self) -> str:
        """The secret of this moment. ConfigError when its file cannot be read or is empty."""
        if self._file is None:
            assert self._value is not None
            return self._value.get_secret_value()
        try:
            stat = self._file.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, self._file.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"{self._name}: cannot read {self._file}: {reason}; mount the secret there") from None
        if not self._read[1]:
            raise ConfigError(f"{self._name}: {self._file} is empty; write the secret into it")
        return self._read[1]

    def __repr__(self) -> str:
        return f"Secret({self._name}={'file ' + str(self._file) if self._file else '***'})"


def one_secret(where: str, value: SecretStr | None, file: Path | None) -> Secret | None:
    """The Secret of an option that comes as `name` or `name_file`; None where neither is set. ValueError for both."""
    if value is not None and file is not None:
        raise ValueError(f"{where} and {where}_file exclude each other; keep one")
    if value is None and file is None:
        return None
    if value is not None and not value.get_secret_value().strip():
        raise ValueError(f"{where} is empty; set it or use {where}_file")
    return Secret(where, value, file)
