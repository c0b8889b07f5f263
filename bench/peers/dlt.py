"""dlt from PyPI: its REST source into its filesystem destination, one process a collection."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from bench.peers.peer import HERE, KEY, Job, environment
from bench.peers.process import Command

PLACE = HERE / "others" / "dlt"


class Dlt:
    name = "dlt"
    keeps_position = True

    def install(self) -> str:
        requirements = PLACE / "requirements.txt"
        self._bin = environment("dlt", requirements)
        return next(line for line in requirements.read_text().splitlines() if line.startswith("dlt==")).removeprefix(
            "dlt=="
        )

    def command(self, job: Job, /) -> Command:
        told = {
            "base_url": job.base_url,
            "key": KEY,
            "since": job.since,
            "tenant": job.tenant,
            "folder": str(job.folder),
            "lag_s": job.patience_s,
        }
        quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DLT_DATA_DIR": str(job.folder)}
        return Command(
            [str(self._bin / "python"), str(PLACE / "collect.py"), json.dumps(told)], quiet, job.folder / "log"
        )

    def ids(self, job: Job, /) -> Iterator[str]:
        for listing in ("organization", "tenant"):
            for path in sorted((job.folder / "output" / "audit" / listing).glob("*.jsonl.gz")):
                yield from (json.loads(line)["id"] for line in gzip.decompress(path.read_bytes()).splitlines())

    def checkpoint(self, job: Job, /) -> list[Path]:
        """Its working folder, and the copy of its state that it keeps beside the data."""
        state = (job.folder / "output" / "audit" / "_dlt_pipeline_state").rglob("*")
        return sorted(path for path in (*(job.folder / "pipelines").rglob("*"), *state) if path.is_file())
