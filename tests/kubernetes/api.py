"""A real kube-apiserver on an etcd of Debian's, on loopback, and what one asks of it."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.certificates import Authority
from tests.integration.child import debian_root, go_built, running
from tests.ports import free_port

VERSION = "1.35.4"
BUILD_S = 3600
ADMIN = "administrator"
"""A bearer token."""

Document = dict[str, Any]


def program() -> Path:
    """Minutes to build, once."""
    major, minor, _ = VERSION.split(".")
    version = "k8s.io/component-base/version."
    flags = f"-X {version}gitVersion=v{VERSION} -X {version}gitMajor={major} -X {version}gitMinor={minor}"
    return go_built("apiserver", Path(__file__).parent / "apiserver", ldflags=flags, limit_s=BUILD_S)


class Refused(Exception):
    """With what the server said."""


@dataclass(frozen=True)
class Api:
    url: str
    ca_file: Path
    token: str = ADMIN

    def ask(self, method: str, path: str, body: Document | None = None, kind: str = "application/json") -> Document:
        """`kind`: what the body is."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls()) as answer:
                said: Document = json.loads(answer.read())
                return said
        except urllib.error.HTTPError as error:
            raise Refused(f"{error.code} to {method} {path}: {error.read().decode()}") from None

    def ready(self) -> bool:
        request = urllib.request.Request(self.url + "/readyz", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=self._tls()):
                return True
        except OSError:
            return False

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    def namespace(self, name: str) -> str:
        """A new one in which only pods by the restricted standard are admitted, with the account that a controller would make."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": name, "labels": labels}
        self.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, name)
        return name

    def place(self, document: Document, namespace: str) -> str:
        """The path of its kind, as the server says."""
        version = document["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        found = [
            r for r in self.ask("GET", root)["resources"] if r["kind"] == document["kind"] and "/" not in r["name"]
        ]
        assert len(found) == 1, document["kind"]
        return f"{root}/namespaces/{namespace}/{found[0]['name']}"

    def apply(self, document: Document, namespace: str) -> Document:
        """Server-side, and strictly: an unknown or doubled field is refused."""
        path = (
            f"{self.place(document, namespace)}/{document['metadata']['name']}?fieldManager=test&fieldValidation=Strict"
        )
        return self.ask("PATCH", path, document, "application/apply-patch+yaml")

    def admits(self, pod: Document, namespace: str) -> Document:
        """Would it be made? Says no by Refused."""
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict"
        return self.ask("POST", path, {"apiVersion": "v1", "kind": "Pod", **pod})


def kubeconfig(api: Api, path: Path) -> Path:
    """As command-line programs want it."""
    user = {"name": "admin", "user": {"token": api.token}}
    cluster = {"name": "test", "cluster": {"server": api.url, "certificate-authority": str(api.ca_file)}}
    context = {"name": "test", "context": {"cluster": "test", "user": "admin"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [user], "contexts": [context]}
    path.write_text(json.dumps({**config, "current-context": "test"}))
    return path


@contextmanager
def cluster(folder: Path) -> Iterator[Api]:
    """An empty cluster without controllers and nodes: what is written is judged and kept, and nothing runs."""
    etcd = debian_root("etcd", ["etcd-server"]) / "usr/bin/etcd"
    client, peer, port = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    authority = Authority(folder)
    certificate, key = authority.issue("kube-apiserver")
    accounts = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(accounts), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
    store = [
        *(
            str(etcd),
            "--data-dir",
            str(folder / "etcd"),
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
        ),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    ]
    server = [
        *(
            str(program()),
            "--etcd-servers",
            client,
            "--bind-address",
            "127.0.0.1",
            "--secure-port",
            port.rpartition(":")[2],
        ),
        *(
            "--tls-cert-file",
            str(certificate),
            "--tls-private-key-file",
            str(key),
            "--cert-dir",
            str(folder / "certificates"),
        ),
        *("--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", str(accounts)),
        *("--service-account-signing-key-file", str(accounts), "--token-auth-file", str(folder / "tokens.csv")),
        *(
            "--authorization-mode",
            "RBAC",
            "--service-cluster-ip-range",
            "10.0.0.0/24",
            "--endpoint-reconciler-type",
            "none",
        ),
    ]
    api = Api(port.replace("http", "https"), authority.file)
    with (
        running(store, folder / "etcd.log", lambda said: "serving insecure client requests" in said),
        running(server, folder / "server.log", lambda _: api.ready()),
    ):
        yield api
