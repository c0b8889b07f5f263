"""The operator's MaxMind file: read into memory, and read again when it is replaced.

In memory and not mapped, because a mapped file that somebody writes over ends the process.
"""

from asyncio import to_thread
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.enrich.geo import Geography
from streamer.errors import ConfigError, RetryableError
from streamer.stop import Stop, to_next_beat
from streamer.telemetry import Telemetry

if TYPE_CHECKING:
    from maxminddb import Reader

LOOK_EVERY_S = 30.0
MAX_BYTES = 1 << 30

Stamp = tuple[int, int, int]


class GeoipFile:
    """Reads the file at `path` into a Geography."""

    def __init__(self, path: Path, geography: Geography, telemetry: Telemetry) -> None:
        self._path, self._geography, self._telemetry = path, geography, telemetry
        self._stamp: Stamp | None = None

    async def read(self) -> None:
        """Once. RetryableError for a file that is not there or damaged, ConfigError without the package that reads it."""
        stamp, reader = await to_thread(self._open)
        self._stamp = stamp
        self._geography.use(_finder(reader))
        self._telemetry.geoip_read(float(reader.metadata().build_epoch))

    async def look(self) -> None:
        """A file that was replaced is read; one that cannot be read leaves the former one in use."""
        try:
            if await to_thread(self._stamp_now) != self._stamp:
                await self.read()
        except (ConfigError, RetryableError) as error:
            self._telemetry.geoip_failing(str(error))

    def _stamp_now(self) -> Stamp:
        try:
            stat = self._path.stat()
        except OSError as error:
            raise RetryableError(self._unreadable(error.strerror)) from None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _unreadable(self, reason: str | None) -> str:
        return f"enrich.geoip: cannot read {self._path}: {reason}; put a MaxMind file (.mmdb) there"

    def _open(self) -> tuple[Stamp, "Reader"]:
        try:
            import maxminddb
        except ImportError:
            raise ConfigError(
                "enrich.geoip needs the package maxminddb; install openai-audit-streamer[geoip]"
            ) from None
        stamp = self._stamp_now()
        if stamp[2] > MAX_BYTES:
            raise RetryableError(self._unreadable(f"it is larger than {MAX_BYTES >> 30} GiB"))
        try:
            return stamp, maxminddb.open_database(self._path, maxminddb.MODE_MEMORY)
        except OSError as error:
            raise RetryableError(self._unreadable(error.strerror)) from None
        except (maxminddb.InvalidDatabaseError, ValueError, LookupError, TypeError):
            raise RetryableError(self._unreadable("it is no whole MaxMind file")) from None


async def watch(file: Callable[[], GeoipFile | None], stop: Stop, every_s: float = LOOK_EVERY_S) -> None:
    """Look at the file that is in use, until stop."""
    while not await stop.sleep(to_next_beat(every_s)):
        if (used := file()) is not None:
            await used.look()


def _finder(reader: "Reader") -> Callable[[str], Any]:
    """Everything that a damaged file can do becomes a ValueError; so does IPv6 in a file of IPv4."""
    import maxminddb

    def find(address: str) -> object:
        try:
            return reader.get(address)
        except (maxminddb.InvalidDatabaseError, LookupError, TypeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from None

    return find
