"""Where a daemon under test lives: a folder with a configuration, a file system of its own, and what can be seen from outside."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port

LIMIT_S = 100.0
"""Patience costs nothing where all is well, and a busy machine may need it."""


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s"
        time.sleep(0.02)


def denied_s(pid: int) -> float:
    """How long it has been ready to run while this machine had no core for it; of its main thread."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; skips, saying so, where this user cannot mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a tmpfs, which this user cannot")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Place:
    """A folder with a good configuration, to be changed."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder, self.config, self.lines = folder, folder / "streamer.yaml", folder / "audit.jsonl"
        self.port = free_port()
        self.document: dict[str, Any] = {
            "state": str(folder / "state"),
            "admin": {"listen": f"127.0.0.1:{self.port}"},
            "sources": {
                "acme": {
                    "type": "openai_audit_logs",
                    "api_key": "sk-admin-simulated",
                    "base_url": base_url,
                    "start": "2d",
                    "poll_interval": "1s",
                }
            },
            "sinks": {"local": {"type": "file", "path": str(self.lines)}},
        }

    def change(self, path: str, value: Any) -> "Place":
        """One value by its dotted path; None removes it."""
        *parents, leaf = path.split(".")
        node = self.document
        for part in parents:
            node = node.setdefault(part, {})
        if value is None:
            del node[leaf]
        else:
            node[leaf] = value
        return self

    def write(self) -> Path:
        """Whole or not at all: a daemon may be reading it."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(self.document, sort_keys=False))
        return fresh.rename(self.config)

    def ids(self) -> list[str]:
        """Of the file's whole lines."""
        lines = self.lines.read_bytes().split(b"\n")[:-1] if self.lines.exists() else []
        return [json.loads(line)["id"] for line in lines]

    def status(self) -> dict[str, Any]:
        """What the running daemon says of itself; empty until it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as answer:
                rows: dict[str, Any] = json.loads(answer.read())
                return rows
        except OSError:
            return {}

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the admin port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def states(self) -> dict[str, str]:
        """Of the listings."""
        return {row["listing"]: row["state"] for row in self.status().get("listings", [])}
