"""Where an address belongs: the operator's named networks, and what kind of address it is.

Addresses repeat, so the last ones are remembered; any other costs a parse and two bisections.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple, cast, get_args

from streamer.model import Envelope

REMEMBERED = 16_384
"""Addresses; about 4 MiB."""
MAX_ADDRESS_CHARACTERS = 64
"""The longest IPv6 address has 45, and a zone may follow."""

IpScope = Literal[
    "public",
    "private",
    "shared",
    "loopback",
    "link_local",
    "multicast",
    "unspecified",
    "documentation",
    "reserved",
    "invalid",
]
"""`shared`: carrier-grade NAT (RFC 6598); `reserved`: no host has it; `invalid`: no address at all."""
IP_SCOPES: tuple[IpScope, ...] = get_args(IpScope)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The registries of special-purpose addresses (RFC 6890 and its updates), as far as an event can hold them.
_SCOPES: dict[str, Sequence[str]] = {
    "public": ("0.0.0.0/0", "2000::/3", "64:ff9b::/96"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "64:ff9b:1::/48"),
    "shared": ("100.64.0.0/10",),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link_local": ("169.254.0.0/16", "fe80::/10"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "unspecified": ("0.0.0.0/32", "::/128"),
    "documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    "reserved": ("::/0", "0.0.0.0/8", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "2001:2::/48"),
}


class _Family:
    """Networks of one address family as ranges that do not overlap: inside a network another one is more specific."""

    def __init__(self, networks: Iterable[tuple[Network, str]]) -> None:
        self.starts: list[int] = [0]
        self.names: list[str | None] = [None]
        open_: list[tuple[int, str]] = []  # the networks we are in, outermost first: where each ends, its name
        for network, name in sorted(networks, key=lambda one: (int(one[0].network_address), one[0].prefixlen)):
            first = int(network.network_address)
            self._leave(open_, first)
            self._begin(first, name)
            open_.append((int(network.broadcast_address) + 1, name))
        self._leave(open_, None)

    def _leave(self, open_: list[tuple[int, str]], before: int | None) -> None:
        while open_ and (before is None or open_[-1][0] <= before):
            end, _ = open_.pop()
            self._begin(end, open_[-1][1] if open_ else None)

    def _begin(self, start: int, name: str | None) -> None:
        if self.starts[-1] == start:
            self.names[-1] = name
        else:
            self.starts.append(start)
            self.names.append(name)

    def find(self, address: int) -> str | None:
        return self.names[bisect_right(self.starts, address) - 1]


class Ranges:
    """Named networks of both families; the most specific one that holds an address names it."""

    def __init__(self, networks: Mapping[str, Iterable[str]]) -> None:
        """`networks`: name to CIDR ranges. ValueError for what is no range."""
        parsed = [(ip_network(text), name) for name, texts in networks.items() for text in texts]
        self._v4 = _Family(one for one in parsed if one[0].version == 4)
        self._v6 = _Family(one for one in parsed if one[0].version == 6)

    def find(self, address: Address) -> str | None:
        return (self._v4 if address.version == 4 else self._v6).find(int(address))


def parse_address(text: str) -> Address | None:
    """None for what is no address. IPv4 that is written as IPv6 (`::ffff:10.0.0.1`) is IPv4."""
    if len(text) > MAX_ADDRESS_CHARACTERS:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address


_SCOPE_RANGES = Ranges(_SCOPES)


def scope_of(address: Address) -> IpScope:
    return cast(IpScope, _SCOPE_RANGES.find(address))  # the ranges are named by scopes and leave no gap


class Belonging(NamedTuple):
    scope: IpScope
    network: str | None


class Networks:
    """An Enricher: `labels.ip_scope` for every address, `labels.network` where the operator has a name for it."""

    def __init__(self, networks: Mapping[str, Sequence[str]]) -> None:
        """`networks`: as EnrichOptions has checked them."""
        ranges = Ranges(networks)

        def find(text: str) -> Belonging:
            address = parse_address(text)
            if address is None:
                return Belonging("invalid", None)
            return Belonging(scope_of(address), ranges.find(address))

        self.find = lru_cache(maxsize=REMEMBERED)(find)

    def enrich(self, envelope: Envelope, /) -> None:
        actor = envelope.actor
        if actor is None or not actor.ip:
            return
        scope, network = self.find(actor.ip)
        envelope.labels["ip_scope"] = scope
        if network is not None:
            envelope.labels["network"] = network
