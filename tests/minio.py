"""MinIO, an S3-compatible server that is not ours: built once into `.cache/bin`, started on loopback, stopped with the test."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
import pytest

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
USER, PASSWORD = "audit", "audit-password"
BINARIES = Path(__file__).parent.parent / ".cache" / "bin"


def binary() -> Path:
    """Built if it is not there; the test is skipped, saying so, where there is no Go to build it with."""
    path = BINARIES / "minio"
    if not path.exists():
        go = shutil.which("go")
        if go is None:
            pytest.skip("MinIO is built with Go, which is not installed here")
        environment = {**os.environ, "GOBIN": str(BINARIES), "GOFLAGS": "-mod=mod"}
        command = [go, "install", f"github.com/minio/minio@{VERSION}"]
        built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr[-2000:]
    return path


class Minio:
    """A server that can be stopped and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {
            **os.environ,
            "MINIO_ROOT_USER": USER,
            "MINIO_ROOT_PASSWORD": PASSWORD,
            "MINIO_KMS_SECRET_KEY": "audit-key:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        address = ["--address", f"127.0.0.1:{self.port}", "--quiet"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), "server", *address, self._folder / "data"], env=environment, stdout=log, stderr=log
            )
        for _ in range(600):
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise AssertionError("MinIO did not become ready")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def client(self) -> Any:
        return botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=USER,
            aws_secret_access_key=PASSWORD,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )


@contextmanager
def minio(folder: Path) -> Iterator[Minio]:
    (folder / "data").mkdir(parents=True)
    server = Minio(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
