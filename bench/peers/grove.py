"""HashiCorp Grove from PyPI with the connector of `others/grove`, its local file backends, one process run as a scheduler would run it."""

import gzip
import json
import zlib
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

from bench.peers.peer import HERE, KEY, Job, environment
from bench.peers.process import Command

PLACE = HERE / "others" / "grove"
LOCK_S = 1
"""Grove's default of 300 would have every run after a `kill -9` refused for five minutes."""


class Grove:
    name = "Grove"
    keeps_position = True

    def install(self) -> str:
        self._bin = environment("grove", PLACE / "requirements.txt", PLACE)
        return _version(self._bin)

    def command(self, job: Job, /) -> Command:
        for name in ("connectors", "cache", "output"):
            (job.folder / name).mkdir(exist_ok=True)
        for operation in ("all", "tenant") if job.tenant else ("all",):
            document = {
                "name": f"openai-{operation}",
                "identity": "acme",
                "connector": "openai_audit_logs",
                "key": KEY,
                "base_url": job.base_url,
                "operation": operation,
                "since": job.since,
                "delay": job.patience_s,
                "frequency": 1,
                "outputs": {"logs": "raw"},
            }
            (job.folder / "connectors" / f"{operation}.json").write_text(json.dumps(document))
        settings = {
            "GROVE_CONFIG_HANDLER": "local_file",
            "GROVE_CONFIG_LOCAL_FILE_PATH": str(job.folder / "connectors"),
            "GROVE_CACHE_HANDLER": "local_file",
            "GROVE_CACHE_LOCAL_FILE_PATH": str(job.folder / "cache"),
            "GROVE_LOCK_DURATION": str(LOCK_S),
        }
        if job.hook:
            output = {"GROVE_OUTPUT_HANDLER": "remote_http", "GROVE_OUTPUT_REMOTE_HTTP_URL": job.hook}
        else:
            output = {"GROVE_OUTPUT_HANDLER": "local_file", "GROVE_OUTPUT_LOCAL_FILE_PATH": str(job.folder / "output")}
        return Command([str(self._bin / "grove")], settings | output, job.folder / "log")

    def ids(self, job: Job, /) -> Iterator[str]:
        for path in sorted((job.folder / "output").rglob("*.json.gz")):
            yield from (json.loads(line)["id"] for line in lines_of(path))

    def checkpoint(self, job: Job, /) -> list[Path]:
        return sorted((job.folder / "cache").rglob("*.cache"))


def lines_of(path: Path) -> list[bytes]:
    """A file that a kill has cut short has none: no reader of gzip takes it, and Grove writes its events again elsewhere."""
    try:
        return gzip.decompress(path.read_bytes()).splitlines()
    except (EOFError, zlib.error):
        return []


def _version(binaries: Path) -> str:
    """Raises SystemExit where the distribution is somebody else's: it is a common name."""
    (path,) = binaries.parent.glob("lib/python*/site-packages/grove-*.dist-info/METADATA")
    metadata = HeaderParser().parsestr(path.read_text())
    if not metadata["Author"].startswith("HashiCorp") or metadata["License"] != "MPL-2.0":
        raise SystemExit(f"{path} is not HashiCorp's Grove; its author is {metadata['Author']!r}")
    return metadata["Version"]
