"""Named networks and the scope of an address: held against Python's own ipaddress, for every kind of text."""

import random
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config import parse
from streamer.enrich.networks import IP_SCOPES, Networks, Ranges, parse_address
from streamer.errors import ConfigError
from streamer.model import Actor
from streamer.sources import source_options
from tests.records import envelope

CORP = {
    "corp": ["203.0.113.0/24", "2001:db8::/32"],
    "lab": ["203.0.113.64/26", "2001:db8:7::/48"],
    "door": ["203.0.113.65", "2001:db8:7::1"],
}


LOCAL_TRANSLATION = ip_network("64:ff9b:1::/48")
"""RFC 8215: private by the registry; older versions of Python do not know it yet."""


def enriched(ip: str | None, networks: dict[str, list[str]] | None = None) -> dict[str, str]:
    one = envelope(1)
    one.labels.clear()
    one.actor = Actor(ip=ip)
    Networks(networks or {}).enrich(one)
    return one.labels


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("203.0.113.1", "corp"),
        ("203.0.113.63", "corp"),
        ("203.0.113.64", "lab"),
        ("203.0.113.65", "door"),
        ("203.0.113.127", "lab"),
        ("203.0.113.128", "corp"),
        ("203.0.113.255", "corp"),
        ("203.0.114.0", None),
        ("203.0.112.255", None),
        ("0.0.0.0", None),
        ("255.255.255.255", None),
        ("2001:db8::", "corp"),
        ("2001:db8:7::1", "door"),
        ("2001:DB8:7:0:0:0:0:2", "lab"),
        ("2001:db9::", None),
        ("::ffff:203.0.113.65", "door"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
    ],
)
def test_the_most_specific_network_names_an_address(ip: str, name: str | None) -> None:
    """Goal: nested networks of both families name what they hold, up to their edges. Method: first and last addresses."""
    assert enriched(ip, CORP).get("network") == name


@pytest.mark.parametrize(
    ("ip", "scope"),
    [
        ("8.8.8.8", "public"),
        ("2606:4700::1", "public"),
        ("64:ff9b::808:808", "public"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.0", "public"),
        ("192.168.0.1", "private"),
        ("fd00::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("100.64.0.1", "shared"),
        ("100.128.0.0", "public"),
        ("127.8.8.8", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link_local"),
        ("fe80::1%eth0", "link_local"),
        ("224.0.0.251", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("198.51.100.7", "documentation"),
        ("2001:db8::7", "documentation"),
        ("0.1.2.3", "reserved"),
        ("255.255.255.255", "reserved"),
        ("4000::1", "reserved"),
        ("203.0.113.7:443", "invalid"),
        ("203.0.113.7, 10.0.0.1", "invalid"),
        ("010.0.0.1", "invalid"),
        ("unknown", "invalid"),
        ("1" * 100_000, "invalid"),
        ("\x00\ud800", "invalid"),
    ],
)
def test_every_text_has_a_scope(ip: str, scope: str) -> None:
    """Goal: the scope of every kind of address, and `invalid` for what is none. Method: one of each of the registries."""
    assert enriched(ip) == {"ip_scope": scope}


def test_without_an_address_nothing_is_said() -> None:
    """Goal: no label where there is no address. Method: an actor without one, an empty one, no actor."""
    assert enriched(None) == {}
    assert enriched("") == {}
    nobody = envelope(1)
    nobody.actor = None
    nobody.labels.clear()
    Networks(CORP).enrich(nobody)
    assert nobody.labels == {}


@settings(deadline=None)
@given(st.ip_addresses())
def test_scopes_agree_with_python(address: object) -> None:
    """Goal: our table of special addresses contradicts nobody. Method: what Python calls loopback, multicast, link-local is that for us."""
    labels = enriched(str(address))
    plain = parse_address(str(address))
    assert plain is not None
    assert labels["ip_scope"] in IP_SCOPES
    assert (labels["ip_scope"] == "loopback") == plain.is_loopback
    assert (labels["ip_scope"] == "link_local") == plain.is_link_local
    assert (labels["ip_scope"] == "multicast") == plain.is_multicast
    assert (labels["ip_scope"] == "unspecified") == plain.is_unspecified
    if labels["ip_scope"] == "private" and plain not in LOCAL_TRANSLATION:
        assert plain.is_private


def test_ranges_agree_with_a_linear_search() -> None:
    """Goal: bisection finds what a search through all networks finds. Method: 400 random nested networks of both families, 4,000 addresses."""
    chance = random.Random(7)
    networks: dict[str, list[str]] = {}
    for number in range(400):
        bits, text = (32, "v4") if number % 2 else (128, "v6")
        prefix = chance.randint(4, 16)
        base = chance.getrandbits(6) << (bits - 6) | chance.getrandbits(10) << (bits - 16)
        address = ip_address(base) if text == "v4" else ip_address(base | 1 << 127)
        network = str(ip_network((address, prefix), strict=False))
        if all(network not in texts for texts in networks.values()):
            networks[f"{text}-{number}"] = [network]
    ranges = Ranges(networks)
    flat = [(ip_network(texts[0]), name) for name, texts in networks.items()]
    found = 0
    for number in range(4_000):
        address = ip_address(chance.getrandbits(32) if number % 2 else chance.getrandbits(128) | 1 << 127)
        holding = [(n.prefixlen, name) for n, name in flat if n.version == address.version and address in n]
        expected = max(holding)[1] if holding else None
        assert ranges.find(address) == expected
        found += expected is not None
    assert 400 < found < 4_000


@pytest.mark.parametrize(
    ("networks", "sentence"),
    [
        ("{corp: [203.0.113.5/24]}", "'203.0.113.5/24' is not a CIDR range; write 203.0.113.0/24 for the range, or"),
        ("{corp: [203.0.113.0/33]}", "'203.0.113.0/33' is not a CIDR range; write an address and a prefix length"),
        ("{corp: [office]}", "'office' is not a CIDR range; write an address and a prefix length"),
        ("{a: [10.0.0.0/8], b: ['10.0.0.0/8']}", "10.0.0.0/8 stands under a and b; keep one"),
    ],
)
def test_a_wrong_range_is_refused_when_the_configuration_is_read(networks: str, sentence: str) -> None:
    """Goal: the operator reads what is wrong and how to mend it, with the line. Method: a configuration with one mistake."""
    text = (
        f"sources:\n  a: {{type: openai_audit_logs, api_key: x}}\nsinks:\n  b: {{}}\nenrich:\n  networks: {networks}\n"
    )
    with pytest.raises(ConfigError, match="x:6: enrich.networks: ") as caught:
        parse(text, "x", sources=source_options(), sinks={}, env={})
    assert sentence in str(caught.value)
