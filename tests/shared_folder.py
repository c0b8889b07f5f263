"""The folder of specifications and vectors that may lie beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest


def find_shared(path: str) -> Path | None:
    root = Path(__file__).resolve().parents[1]
    candidates = [parent / "shared" / path for parent in (root.parent, root.parent.parent)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def shared_file(path: str) -> Path:
    """A file of it; the test is skipped, and says so, where the folder is absent."""
    return find_shared(path) or pytest.skip(f"shared/{path} is not beside the repository")


def shared_json(path: str) -> Any:
    """What a JSON file of it holds; skips like `shared_file`."""
    return json.loads(shared_file(path).read_text("utf-8"))
