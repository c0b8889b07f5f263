"""MinIO, an S3-compatible server that is not ours: built once, started on loopback, stopped with the test."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session

from tests.integration.child import go_installed, running
from tests.ports import free_port

MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
"""Two minutes to build, on two cores."""
USER, PASSWORD = "audit", "audit-password"


class Minio:
    """A server that can be stopped and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._life = ExitStack()

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
        command = [
            str(go_installed(MINIO)),
            "server",
            "--quiet",
            "--address",
            f"127.0.0.1:{self.port}",
            str(self._folder / "data"),
        ]
        self._life.enter_context(running(command, self._folder / "log", lambda _: self._is_ready(), environment))

    def stop(self) -> None:
        self._life.close()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

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
