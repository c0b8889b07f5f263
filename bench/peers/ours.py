"""This project's daemon, `run --once`, into a fsynced file: its defaults, but where a load asks for more walks at once."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import yaml

from bench.peers.peer import KEY, Job
from bench.peers.process import Command
from streamer import __version__
from tests.outage import file_ids


class Ours:
    name = "this"
    keeps_position = True

    def install(self) -> str:
        return __version__

    def command(self, job: Job, /) -> Command:
        sinks: dict[str, dict[str, object]] = {"local": {"type": "file", "path": str(job.folder / "audit.jsonl")}}
        if job.hook:
            sinks["hook"] = {
                "type": "webhook",
                "url": job.hook,
                "layout": "ndjson",
                "body": "bare",
                "batch": {"events": 500},
            }
        document = {
            "state": str(job.folder / "state"),
            "admin": None,
            "log": {"level": "warning"},
            "sources": {
                "acme": {
                    "type": "openai_audit_logs",
                    "api_key": KEY,
                    "base_url": job.base_url,
                    "start": datetime.fromtimestamp(job.since, UTC).isoformat(),
                    "listings": ["organization", "tenant"] if job.tenant else ["organization"],
                    "concurrency": job.concurrency,
                    "recheck": [{"every": job.recheck, "window": "2h"}],
                }
            },
            "enrich": {"directory": None},
            "sinks": sinks,
        }
        config = job.folder / "streamer.yaml"
        config.write_text(yaml.safe_dump(document))
        return Command([sys.executable, "-m", "streamer", "run", "-c", str(config), "--once"], {}, job.folder / "log")

    def ids(self, job: Job, /) -> Iterator[str]:
        path = job.folder / "audit.jsonl"
        if path.exists():
            yield from (event_id.decode() for event_id in file_ids(path))

    def checkpoint(self, job: Job, /) -> list[Path]:
        return sorted(path for path in (job.folder / "state").rglob("*") if path.is_file())
