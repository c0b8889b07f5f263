"""Geography: upstream's word first, then a MaxMind file's, read again when it is replaced, whatever is wrong with it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from streamer.enrich.geo import NOWHERE, Geography, read_record
from streamer.enrichment.geoip import GeoipFile, watch
from streamer.errors import RetryableError
from streamer.model import Actor, Geo
from streamer.stop import Stop
from streamer.telemetry import Telemetry
from tests.records import envelope

LISBON = {
    "country": {"iso_code": "PT", "names": {"en": "Portugal"}},
    "subdivisions": [{"iso_code": "11", "names": {"en": "Lisbon District"}}],
    "city": {"names": {"en": "Lisbon", "de": "Lissabon"}},
    "location": {"latitude": 38.7167, "longitude": -9.1333},
}
REYKJAVIK = {"country": {"iso_code": "IS"}, "city": {"names": {"en": "Reykjavík"}}}
OWNER = {"autonomous_system_number": 64496, "autonomous_system_organization": "Tidewater"}


def write(path: Path, records: Mapping[str, Any], ip_version: int = 6) -> None:
    """A new MaxMind file in the place of the old, as their updater does it."""
    writer = MMDBWriter(ip_version, "Test-City", ipv4_compatible=ip_version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    fresh = path.with_suffix(".new")
    writer.to_db_file(str(fresh))
    fresh.replace(path)


def located(geography: Geography, ip: str | None, geo: Geo | None = None) -> Geo | None:
    one = envelope(1)
    one.actor = Actor(ip=ip, geo=geo)
    geography.enrich(one)
    return one.actor.geo


async def opened(path: Path, telemetry: Telemetry | None = None) -> tuple[Geography, GeoipFile]:
    geography = Geography()
    file = GeoipFile(path, geography, telemetry or Telemetry())
    await file.read()
    return geography, file


async def test_a_file_tells_where_addresses_are(tmp_path: Path) -> None:
    """Goal: country, region, city, place and owner of IPv4 and IPv6 addresses. Method: a real file, read as it will be."""
    path = tmp_path / "city.mmdb"
    write(path, {"1.2.3.0/24": LISBON, "2a00:1::/32": LISBON, "5.6.0.0/16": OWNER})
    geography, _ = await opened(path)
    lisbon = Geo("PT", "Lisbon District", "Lisbon", None, None, 38.7167, -9.1333)
    assert located(geography, "1.2.3.4") == lisbon
    assert located(geography, "::ffff:1.2.3.4") == lisbon
    assert located(geography, "2a00:1::7") == lisbon
    assert located(geography, "5.6.7.8") == Geo(asn=64496, as_name="Tidewater")
    for nowhere in ("9.9.9.9", "nonsense", "", None, "fe80::1%eth0", "1.2.3.4:443"):
        assert located(geography, nowhere) is None


async def test_upstream_is_believed_first(tmp_path: Path) -> None:
    """Goal: what upstream says stands; a place is never mixed of two sources. Method: geo with and without a place and an owner."""
    path = tmp_path / "city.mmdb"
    write(path, {"1.2.3.0/24": {**LISBON, **OWNER}})
    geography, _ = await opened(path)
    assert located(geography, "1.2.3.4", Geo(country="DE")) == Geo(country="DE", asn=64496, as_name="Tidewater")
    assert located(geography, "1.2.3.4", Geo(country="DE", asn=64500)) == Geo(country="DE", asn=64500)
    found = located(geography, "1.2.3.4", Geo(asn=64496))
    assert found == Geo("PT", "Lisbon District", "Lisbon", 64496, "Tidewater", 38.7167, -9.1333)


async def test_a_file_of_ipv4_alone_has_no_word_for_ipv6(tmp_path: Path) -> None:
    """Goal: an address that the file cannot hold is nowhere. Method: a file of IPv4, asked for IPv6."""
    path = tmp_path / "v4.mmdb"
    write(path, {"1.2.3.0/24": LISBON}, ip_version=4)
    geography, _ = await opened(path)
    assert located(geography, "2a00:1::7") is None
    assert located(geography, "1.2.3.4") is not None


async def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    """Goal: new records count at once, what was remembered is forgotten. Method: replace the file while the watch runs."""
    path = tmp_path / "city.mmdb"
    write(path, {"1.2.3.0/24": LISBON})
    telemetry, stop = Telemetry(), Stop()
    geography, file = await opened(path, telemetry)
    assert located(geography, "1.2.3.4", None) is not None
    write(path, {"1.2.3.0/24": REYKJAVIK})

    class Until(Stop):
        """Stops when the new file is there, or after many looks."""

        looks = 0

        async def sleep(self, seconds: float) -> bool:
            self.looks += 1
            geo = located(geography, "1.2.3.4")
            return (geo is not None and geo.country == "IS") or self.looks > 50 or await stop.sleep(0.001)

    until = Until()
    await watch(lambda: file, until)
    assert located(geography, "1.2.3.4") == Geo(country="IS", city="Reykjavík")
    assert until.looks == 2, "an unchanged file is not read again"


async def test_a_broken_replacement_leaves_the_former_file_in_use(tmp_path: Path) -> None:
    """Goal: a half-written or missing file costs nothing, is said once, and mends itself. Method: break, remove, mend the file."""
    path = tmp_path / "city.mmdb"
    write(path, {"1.2.3.0/24": LISBON})
    telemetry = Telemetry()
    geography, file = await opened(path, telemetry)
    whole = path.read_bytes()

    class Script(Stop):
        step = 0

        async def sleep(self, seconds: float) -> bool:
            geo = located(geography, "1.2.3.4")
            assert geo is not None
            assert geo.city == "Lisbon"
            self.step += 1
            match self.step:
                case 1:
                    path.write_bytes(whole[: len(whole) // 2])
                case 2:
                    path.unlink()
                case 3:
                    path.write_bytes(b"")
                case 4:
                    path.write_bytes(whole)
            return self.step == 6

    await watch(lambda: file, Script())
    failed = GeoipFile(tmp_path / "none.mmdb", geography, telemetry)
    with pytest.raises(RetryableError, match="cannot read .*none.mmdb: No such file or directory; put a MaxMind file"):
        await failed.read()
    path.write_bytes(b"no database")
    with pytest.raises(RetryableError, match="it is no whole MaxMind file"):
        await file.read()


async def test_damage_inside_a_file_never_raises(tmp_path: Path) -> None:
    """Goal: enriching is total. Method: flip bytes all over a file; every one of its variants is asked for every address."""
    path = tmp_path / "city.mmdb"
    write(path, {"1.2.3.0/24": {**LISBON, **OWNER}, "2a00:1::/32": REYKJAVIK})
    whole = path.read_bytes()
    opened_files = refused = 0
    for at in range(0, len(whole), max(len(whole) // 400, 1)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            geography, _ = await opened(path)
        except RetryableError:
            refused += 1
            continue
        opened_files += 1
        for ip in ("1.2.3.4", "2a00:1::7", "9.9.9.9"):
            located(geography, ip)
    assert opened_files > 100
    assert refused > 0


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        "PT",
        {},
        {"country": "PT"},
        {"country": {"iso_code": 7}},
        {"subdivisions": [None], "city": [], "location": {"latitude": 1.5}},
        {"autonomous_system_number": "AS7"},
        {"autonomous_system_number": -1},
    ],
)
def test_odd_records_tell_nothing(record: object) -> None:
    """Goal: files of other makers are no danger. Method: records of other shapes."""
    assert read_record(record) is NOWHERE


def test_the_reader_in_use_is_the_real_one(tmp_path: Path) -> None:
    """Goal: the files of these tests are MaxMind files. Method: their own reader says what is in one."""
    path = tmp_path / "city.mmdb"
    write(path, {"1.2.3.0/24": LISBON})
    with maxminddb.open_database(os.fspath(path)) as reader:
        assert reader.get("1.2.3.4") == LISBON
