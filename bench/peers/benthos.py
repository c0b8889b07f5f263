"""Benthos, the free engine of Redpanda Connect, built from its module: its http_client input into its file output."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from bench.peers.peer import CACHE, HERE, KEY, Job, made
from bench.peers.process import Command

PLACE = HERE / "others" / "benthos"


class Benthos:
    name = "Benthos"
    keeps_position = False

    def install(self) -> str:
        self._program = CACHE / "benthos" / "benthos"
        with made(self._program.parent, [PLACE / name for name in ("main.go", "go.mod", "go.sum")]) as stale:
            if stale:
                if shutil.which("go") is None:
                    raise SystemExit(
                        "Benthos is built with Go, which is not here: install it, or leave Benthos out with --only"
                    )
                print("building Benthos, some minutes", flush=True)
                subprocess.run(["go", "build", "-trimpath", "-o", str(self._program), "."], cwd=PLACE, check=True)
        (version,) = re.findall(r"benthos/v4 v(\S+)", (PLACE / "go.mod").read_text())
        return version

    def command(self, job: Job, /) -> Command:
        document = yaml.safe_load((PLACE / "collect.yaml").read_text())
        if not job.tenant:
            del document["input"]["broker"]["inputs"][1:]
        config = job.folder / "collect.yaml"
        config.write_text(yaml.safe_dump(document))
        settings = {"BASE_URL": job.base_url, "API_KEY": KEY, "SINCE": str(job.since), "OUTPUT": str(self._output(job))}
        return Command([str(self._program), "run", str(config)], settings, job.folder / "log")

    def ids(self, job: Job, /) -> Iterator[str]:
        if self._output(job).exists():
            with self._output(job).open("rb") as file:
                yield from (json.loads(line)["id"] for line in file)

    def checkpoint(self, _: Job, /) -> list[Path]:
        return []

    def _output(self, job: Job) -> Path:
        return job.folder / "audit.jsonl"
