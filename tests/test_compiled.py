"""What may be compiled, and the compiled program against its own tests."""

import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[1]
SUITES = (
    "cef_leef", "decode", "decode_anything", "ecs", "entries", "formats", "geo", "intake", "line", "meaning", "networks", "ocsf", "openai_audit_logs", "rhythm", "routing",
    "rules", "slices",
)  # fmt: skip


def compiled_modules() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    files = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["include"]
    return [file.removeprefix("/").removesuffix(".py").replace("/", ".") for file in files]


@pytest.mark.parametrize("name", compiled_modules())
def test_no_struct_is_compiled(name: str) -> None:
    """Goal: msgspec decodes by annotations, and a compiled class has lost those of its fields that may be several things: it would then refuse,
    or take, what it should not. Method: no module that is compiled declares a struct."""
    module = importlib.import_module(name)
    structs = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, msgspec.Struct)]
    assert [kind.__name__ for kind in structs if kind.__module__ == name] == []


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_compiled_program_passes_the_tests_of_what_is_compiled() -> None:
    """Goal: machine code does what the source says. Method: `make compiled`; in its copy every module of the list is machine code, and the tests of
    what an event is, what it means and how it is written pass there."""
    subprocess.run(["make", "compiled", f"VENV={sys.prefix}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    copy = ROOT / "build/compiled/main"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    places = (
        "import importlib, sys; print(*(importlib.import_module(name).__file__ for name in sys.argv[1:]), sep='\\n')"
    )
    files = subprocess.run(
        [sys.executable, "-c", places, *compiled_modules()],
        cwd=copy, env=environment, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert files == [f"{copy / name.replace('.', '/')}{EXTENSION_SUFFIXES[0]}" for name in compiled_modules()]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-m", "not integration", *(f"tests/test_{name}.py" for name in SUITES)],
        cwd=copy, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-8000:]
