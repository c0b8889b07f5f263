"""Ports on loopback for servers that a test starts, and may start again."""

import secrets
import socket

PORTS = range(10_000, 32_768)
"""Below those that Linux hands out by itself, to a client or to who asks for port 0: one of these may be somebody else's before its server listens."""
_given = set[int]()


def free_port() -> int:
    """One that nobody listens on, and that was not given before in this process."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
