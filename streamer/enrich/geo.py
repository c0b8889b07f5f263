"""Countries, cities and networks' owners of addresses: upstream's own word first, then a MaxMind file's."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from streamer.enrich.networks import parse_address
from streamer.model import Envelope, Geo

REMEMBERED = 16_384
"""Addresses; about 8 MiB."""

Find = Callable[[str], object]
"""An address, well-formed, to the file's record; None where it has none. May raise ValueError for a damaged file."""


class Located(NamedTuple):
    """What a record says, in the order of `Geo`: where the address is, and who runs its network."""

    country: str | None = None
    region: str | None = None
    city: str | None = None
    asn: int | None = None
    as_name: str | None = None
    latitude: float | None = None
    longitude: float | None = None


NOWHERE = Located()


class Geography:
    """An Enricher: fills `actor.geo` where upstream left it empty. What fills is exchanged while it runs."""

    def __init__(self) -> None:
        self.use(lambda _: None)

    def use(self, find: Find) -> None:
        """From now on this file's records; what was remembered of another one is forgotten."""

        def locate(text: str) -> Located:
            address = parse_address(text)
            if address is None:
                return NOWHERE
            try:
                return read_record(find(str(address).partition("%")[0]))
            except ValueError:
                return NOWHERE

        self.locate = lru_cache(maxsize=REMEMBERED)(locate)

    def enrich(self, envelope: Envelope, /) -> None:
        actor = envelope.actor
        if actor is None or not actor.ip:
            return
        found = self.locate(actor.ip)
        if found is NOWHERE:
            return
        if actor.geo is None:
            actor.geo = Geo(*found)
        else:
            _complete(actor.geo, found)


def _complete(geo: Geo, found: Located) -> None:
    """The parts that upstream left empty. A place is one source's word or the other's: a mixture may lie nowhere."""
    if geo.country is None and geo.region is None and geo.city is None and geo.latitude is None:
        geo.country, geo.region, geo.city = found.country, found.region, found.city
        geo.latitude, geo.longitude = found.latitude, found.longitude
    if geo.as_name is None and geo.asn in (None, found.asn):
        geo.asn, geo.as_name = found.asn, found.as_name


def read_record(record: object) -> Located:
    """A record of a City, Country, ASN, ISP or Enterprise file. Total: what is not as it should be is left out."""
    if not isinstance(record, Mapping):
        return NOWHERE
    regions = record.get("subdivisions")
    region = regions[0] if isinstance(regions, list) and regions else None
    latitude, longitude = (_number(record, "location", key) for key in ("latitude", "longitude"))
    asn = record.get("autonomous_system_number")
    found = Located(
        _text(record, "country", "iso_code"),
        _text(region, "names", "en") or _text(region, "iso_code"),
        _text(record, "city", "names", "en"),
        asn if isinstance(asn, int) and not isinstance(asn, bool) and 0 <= asn < 2**32 else None,
        _text(record, "autonomous_system_organization"),
        latitude if longitude is not None else None,
        longitude if latitude is not None else None,
    )
    return found if found != NOWHERE else NOWHERE


def _at(value: Any, *path: str) -> object:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _text(value: object, *path: str) -> str | None:
    found = _at(value, *path)
    return found if isinstance(found, str) and found else None


def _number(value: object, *path: str) -> float | None:
    found = _at(value, *path)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
