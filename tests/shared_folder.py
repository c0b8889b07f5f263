"""The folder of specifications and vectors that may lie beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest


def shared_json(path: str) -> Any:
    """A JSON file of it; the test is skipped, and says so, where the folder is absent."""
    root = Path(__file__).resolve().parents[1]
    for parent in (root.parent, root.parent.parent):
        if (parent / "shared" / path).is_file():
            return json.loads((parent / "shared" / path).read_text("utf-8"))
    pytest.skip(f"shared/{path} is not beside the repository")
