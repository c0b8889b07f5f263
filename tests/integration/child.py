"""What the tests against real servers share: fetched once into `.cache`, run as children that end with their test."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache"
FETCH_S = 900
GO_FLAGS = ("-trimpath", "-gcflags=all=-N -l -dwarf=false")
"""Neither optimised nor with what a debugger reads: two thirds of the processor's time to build. The same for all, so that what two programs share is
built once."""


def cached(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` has filled; made again when the recipe changes or it was left half-way. Who comes second waits."""
    folder = CACHE / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    done = folder / ".complete"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def fetch(
    command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, *, limit_s: float = FETCH_S
) -> str:
    """Runs to its end; a failure fails the test and says why."""
    assert shutil.which(command[0]), f"{command[0]} is needed for the integration tests; install it"
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-2000:]}"
    return done.stdout


def go_installed(target: str) -> Path:
    """A program built from its published sources (`module/path@version`), once."""
    name = re.sub(r"/v\d+@.*|@.*", "", target).rpartition("/")[2]

    def make(folder: Path) -> None:
        env = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(folder)}
        fetch(["go", "install", *GO_FLAGS, "-ldflags=-s -w", target], folder, env)

    return cached(name, " ".join((*GO_FLAGS, target)), make) / name


def go_built(name: str, sources: Path, *, ldflags: str = "", limit_s: float = FETCH_S) -> Path:
    """A program built from a folder of ours, once."""
    recipe = [*GO_FLAGS, ldflags, *((sources / file).read_text() for file in ("main.go", "go.mod", "go.sum"))]

    def make(folder: Path) -> None:
        flags = (*GO_FLAGS, f"-ldflags=-s -w {ldflags}", "-mod=readonly")
        env = {**os.environ, "CGO_ENABLED": "0"}
        fetch(["go", "build", *flags, "-o", str(folder / name), "."], sources, env, limit_s=limit_s)

    return cached(name, "".join(recipe), make) / name


def maven_jars(name: str, *artifacts: str) -> str:
    """The class path of artifacts (`group:name:version`) and all that they need when they run."""
    dependency = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
    pom = (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>local</groupId><artifactId>jars</artifactId><version>1</version><dependencies>"
        f"{''.join(dependency.format(*artifact.split(':')) for artifact in artifacts)}</dependencies></project>"
    )

    def make(folder: Path) -> None:
        (folder / "pom.xml").write_text(pom)
        copy = ["mvn", "-q", "-B", "-C", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        fetch([*copy, f"-DoutputDirectory={folder / 'jars'}"], folder)

    return f"{cached(name, pom, make) / 'jars'}/*"


def debian_root(name: str, packages: Sequence[str]) -> Path:
    """The files of Debian packages, unpacked and not installed: no service starts, no rights are needed."""

    def make(folder: Path) -> None:
        state = folder / "apt"
        for part in ("lists/partial", "archives/partial"):
            (state / part).mkdir(parents=True)
        own = [
            *("-o", f"Dir::State::lists={state / 'lists'}"),
            *("-o", f"Dir::Cache={state}"),
            *("-o", "APT::Sandbox::User="),
            *("-o", "Debug::NoLocking=1"),
        ]
        fetch(["apt-get", *own, "-qq", "update"], folder)
        fetch(["apt-get", *own, "-qq", "download", *packages], folder)
        for package in sorted(folder.glob("*.deb")):
            fetch(["dpkg-deb", "-x", str(package), str(folder / "root")], folder)
        shutil.rmtree(state)

    return cached(name, " ".join(packages), make) / "root"


def wait_until(true: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.05)


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[str], bool], env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server, from the moment when `ready` likes what it has printed, which is yielded. Ends with the block, and with this process."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=log.parent,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def said() -> str:
        return log.read_text(errors="replace")

    def is_ready() -> bool:
        assert child.poll() is None, f"{command[0]} ended:\n{said()[-2000:]}"
        return ready(said())

    try:
        wait_until(is_ready, 60, lambda: said()[-2000:])
        yield said()
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
