"""The admin key: one, or two of which one is to replace the other."""

import hashlib
import re

from streamer.errors import ConfigError

MAX_KEYS = 2


def keys_in(text: str, where: str) -> list[str]:
    """One key, or two of which one is to replace the other. ConfigError for anything else."""
    keys = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if len(keys) > MAX_KEYS:
        raise ConfigError(f"{where}: {len(keys)} API keys; put one there, or two while one replaces the other")
    for key in keys:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"{where}: the API key holds characters that no key has; put the key alone there, on one line"
            )
    return keys


def fingerprint(key: str) -> str:
    """Tells keys apart and does not lead back to one: a key has far more chance in it than 8 digits can hold."""
    return hashlib.sha256(b"openai-audit-streamer " + key.encode()).hexdigest()[:8]


def is_shortened(key: str, shown: str) -> bool:
    """Whether the API shows `key` as `shown`: its beginning and its end, and stars or dots between them."""
    parts = re.fullmatch(r"([^*.…]+)(?:\*{3,}|\.{3,}|…)([^*.…]+)", shown)
    return parts is not None and key.startswith(parts[1]) and key.endswith(parts[2])
