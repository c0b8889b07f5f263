"""Who may look: a token by header or cookie, or nobody but this machine."""

import hashlib
import hmac
from collections.abc import Mapping
from ipaddress import ip_address

from streamer.config import AdminOptions, one_secret

COOKIE = "streamer_admin"


class Access:
    """Decides for one request."""

    def __init__(self, options: AdminOptions) -> None:
        self._secret = one_secret("admin.token", options.token, options.token_file)
        self._loopback = options.loopback

    def check(self) -> None:
        """ConfigError when the token cannot be read."""
        if self._secret is not None:
            self._secret.reveal()

    def is_token(self, offered: str) -> bool:
        if self._secret is None:
            return False
        return hmac.compare_digest(offered.encode("utf-8", "replace"), self._secret.reveal().encode())

    def cookie(self) -> str:
        """What the browser keeps: worth nothing anywhere else, and nothing any more once the token changes."""
        assert self._secret is not None
        return hmac.new(self._secret.reveal().encode(), b"status page", hashlib.sha256).hexdigest()

    def allows(self, headers: Mapping[str, str], cookies: Mapping[str, str], host: str) -> bool:
        """`host`: as the browser wrote it."""
        if self._secret is None:
            # A foreign page cannot reach us under a name of its own that it lets point here.
            return self._loopback and _names_this_machine(host)
        scheme, _, offered = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(offered.strip()):
            return True
        return hmac.compare_digest(cookies.get(COOKIE, "").encode("utf-8", "replace"), self.cookie().encode())

    @property
    def has_token(self) -> bool:
        return self._secret is not None


def _names_this_machine(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() == "localhost" or is_loopback(name)


def is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
