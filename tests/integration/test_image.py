"""The Dockerfile, built and run as it is deployed: as user 65532, without capabilities, on a root file system that is read-only.

The base image is made of Debian packages, because no registry of images is needed or asked; it stands in for python:slim.
"""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.child import cached, fetch, running, wait_until
from tests.ports import free_port
from tests.simulation import KEY, simulated_in_child
from tests.test_deploy import DEPLOY, ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="making a base image and changing the root folder need root"),
]

BASE = "bookworm python3,python3-venv,python3-pip,ca-certificates"
BASE_IMAGE, IMAGE = "localhost/python:test", "localhost/openai-audit-streamer:test"
OF_PIP = ("/etc/pip.conf", os.environ.get("PIP_CERT", ""))
"""What this machine's pip needs to reach its index, lent to the build."""


@dataclass(frozen=True)
class Builder:
    """buildah with a store of its own."""

    folder: Path

    def __call__(self, *arguments: str) -> str:
        store = ["--storage-driver", "vfs", "--root", f"{self.folder}/images", "--runroot", f"{self.folder}/run"]
        return fetch(["buildah", *store, *arguments], ROOT, {**os.environ, "BUILDAH_ISOLATION": "chroot"}).strip()

    @property
    def unsigned(self) -> str:
        policy = self.folder / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        return f"--signature-policy={policy}"


def base_root() -> Path:
    """Debian with Python, as far as python:slim has it: `python`, and a pip that installs beside the system's packages."""

    def make(folder: Path) -> None:
        suite, packages = BASE.split()
        sites = fetch(["apt-get", "indextargets", "--format", "$(SITE)", "Origin: Debian"], folder).split()
        root = folder / "root"
        fetch(["debootstrap", "--variant=minbase", f"--include={packages}", suite, str(root), sites[0]], folder)
        (root / "usr/bin/python").symlink_to("python3")
        if (root / "proc").is_symlink():  # so debootstrap leaves it where it takes the machine for a container
            (root / "proc").unlink()
            (root / "proc").mkdir()
        for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()
        shutil.rmtree(root / "var/cache/apt")

    return cached("debian-python", BASE, make) / "root"


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    folder = tmp_path_factory.mktemp("images")
    build = Builder(folder)
    try:
        container = build("from", "scratch")
        build("add", "--quiet", container, str(base_root()), "/")
        build("commit", "--quiet", build.unsigned, container, BASE_IMAGE)
        build("rm", container)
        lent = [part for path in OF_PIP if path and Path(path).is_file() for part in ("--volume", f"{path}:{path}:ro")]
        bases = [f"--build-arg={name}={BASE_IMAGE}" for name in ("BUILD_IMAGE", "RUNTIME_IMAGE")]
        build("build", build.unsigned, "--pull-never", "--format=docker", f"--tag={IMAGE}", *lent, *bases, str(ROOT))
        yield build
        build("umount", "--all")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_image_says_how_it_is_run(builder: Builder) -> None:
    """Goal: it runs without root and judges its own health; method: its configuration as an engine reads it."""
    found: dict[str, Any] = json.loads(builder("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    assert (found["User"], found["Entrypoint"], found["Cmd"]) == ("65532:65532", ["streamer"], ["run"])
    assert found["Healthcheck"]["Test"] == ["CMD", "streamer", "status"]
    assert found["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


ENTER = """
set -eu
root=$1; shift
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
mount --bind "$STATE" "$root/var/lib/streamer"
mount --bind "$RUN" "$root/run"
mount -t proc proc "$root/proc"
exec chroot "$root" setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  env -i PATH=/opt/streamer/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 STREAMER_CONFIG_FILE=/run/streamer.yaml \
  STREAMER_SOURCES__ACME__BASE_URL="$UPSTREAM" STREAMER_ADMIN__LISTEN="$LISTEN" "$@"
"""


def test_the_image_runs_is_healthy_and_stops(builder: Builder, tmp_path: Path) -> None:
    """Goal: the image does its job under the manifests' confinement; method: the standalone configuration on the simulator, probes, health check, SIGTERM."""
    root = builder("mount", builder("from", builder.unsigned, "--pull-never", IMAGE))
    state, run = tmp_path / "state", tmp_path / "run"
    (run / "secrets/streamer").mkdir(parents=True)
    state.mkdir()
    os.chown(state, 65532, 65532)
    shutil.copy(DEPLOY / "kustomize/standalone/streamer.yaml", run)
    (run / "secrets/streamer/openai-admin-key").write_text(KEY)
    address = f"127.0.0.1:{free_port()}"

    def ready(_: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    with simulated_in_child(events=300) as upstream:
        env = {**os.environ, "STATE": str(state), "RUN": str(run), "UPSTREAM": upstream.base_url, "LISTEN": address}
        inside = ["unshare", "--mount", "sh", "-c", ENTER, "sh", root]
        log = tmp_path / "log"
        with running([*inside, "streamer", "run"], log, ready, env):
            wait_until(lambda: log.read_text().count('"schema":"streamer.envelope/1"') == 300, 30, log.read_text)
            health = subprocess.run(
                [*inside, "streamer", "status"], env=env, capture_output=True, text=True, check=False
            )
            assert health.returncode == 0, health.stdout + health.stderr
            assert "everything is all right" in health.stdout.lower()
    assert '"event":"stopped"' in log.read_text()
    assert {path.name for path in state.iterdir()} >= {"journal.db"}
    assert {path.stat().st_uid for path in state.iterdir()} == {65532}
