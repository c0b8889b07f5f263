"""The validators that may lie beside the repository, as modules."""

import importlib.util
from types import ModuleType
from typing import Any

from tests.shared_folder import shared_file, shared_json


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("shared_check", shared_file(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ecs_checker() -> Any:
    return _module("checks/ecs/check_ecs.py").Checker(shared_json("checks/ecs/ecs-9.4.0-all.json"))


def ocsf_validator(version: str) -> Any:
    """The schema of 1.9.0 is that of a commit on the way to it, so its version reads 1.9.0-dev; we write 1.9.0."""
    name = "1.9.0-dev" if version == "1.9.0" else version
    schema = shared_json(f"checks/ocsf/ocsf-{name}.json") | {"version": version}
    return _module("checks/ocsf/check_ocsf.py").Validator(schema)
