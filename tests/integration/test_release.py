"""What is published: the wheel, the source archive and the list of what is inside, made and used as a user would."""

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer import __version__
from tests.integration.child import fetch
from tests.integration.test_deploy_tools import python_tool, tool
from tests.test_deploy import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PIPX = "pipx==1.8.0"


@pytest.fixture(scope="module")
def wheel() -> Path:
    """Made anew, with the list beside it; the tools check what they make."""
    fetch(["make", "dist", "sbom"], ROOT)
    (made,) = (ROOT / "dist").glob("*.whl")
    return made


def test_the_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Goal: what is audited is what is installed; method: the wheel made from the archive, against one made from this folder, byte for byte."""
    python = ROOT / ".venv-publish/bin/python"
    fetch([str(python), "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path)], ROOT)
    (direct,) = tmp_path.glob("*.whl")
    assert direct.name == wheel.name
    assert hashlib.sha256(direct.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_the_wheel_has_the_program_and_nothing_else(wheel: Path) -> None:
    """Goal: no file is forgotten, no test travels; method: its files against what git knows of streamer/, its version against the program's."""
    known = set(tool(["git", "-C", str(ROOT), "ls-files", "streamer"]).splitlines())
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == known
    assert wheel.name.split("-")[1] == __version__


def test_the_list_of_what_is_inside_is_the_lock_file(wheel: Path) -> None:
    """Goal: an auditor sees every library that the image holds; method: names, versions and hashes of the list against the lock file's."""
    found = json.loads((wheel.parent / "sbom.cdx.json").read_text())
    assert found["bomFormat"] == "CycloneDX"
    main = found["metadata"]["component"]
    assert (main["name"], main["version"]) == ("openai-audit-streamer", __version__)
    lock = (ROOT / "requirements/runtime.txt").read_text()
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE)
    assert sorted((c["name"], c["version"]) for c in found["components"]) == sorted(pinned)
    hashes = [h["content"] for c in found["components"] for r in c["externalReferences"] for h in r.get("hashes", ())]
    assert sorted(hashes) == sorted(re.findall(r"--hash=sha256:(\w+)", lock))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program in an environment of its own, by `pipx install`."""
    folder = tmp_path_factory.mktemp("pipx")
    env = {
        **os.environ,
        "PYTHONPATH": str(python_tool(PIPX)),
        "PIPX_HOME": str(folder / "home"),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_MAN_DIR": str(folder / "man"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
    }
    fetch([sys.executable, "-m", "pipx", "install", "--quiet", str(wheel)], folder, env)
    yield folder / "bin/streamer"


def test_a_user_installs_it_and_sees_it_run(installed: Path, tmp_path: Path) -> None:
    """Goal: `pipx install` is all that is needed; method: pipx on the wheel in an empty folder, then the version and the demo."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [str(installed), "--version"]
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [__version__]
    command = [str(installed), "demo", "--for", "5s", "--dir", str(tmp_path / "demo"), "--port", "0"]
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert re.search(r"[1-9],\d+ events made, 0 missing, 0 twice", said.stderr)
    assert "the archive is whole" in said.stderr
