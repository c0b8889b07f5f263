"""What we ship for Kubernetes, judged and kept by a real API server, and the lease of two real daemons in it. Run by `make kubernetes`."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs_fences import ROOT, blocks
from tests.integration.child import go_installed
from tests.integration.test_deploy_tools import HELM, kinds, kustomize, rendered_chart, tool
from tests.kubernetes.api import VERSION, Api, Refused, cluster, kubeconfig
from tests.test_deploy import CHART, DEPLOY, VALUES

pytestmark = pytest.mark.timeout(3600)

KUSTOMIZED = ("standalone", "sidecar/fluent-bit", "sidecar/vector", "sidecar/otel-collector")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        assert running.ask("GET", "/version")["gitVersion"] == f"v{VERSION}"
        yield running


def first_pod(stateful_set: dict[str, Any]) -> dict[str, Any]:
    """As the controller makes it: no controller runs here."""
    template, claims = stateful_set["spec"]["template"], stateful_set["spec"].get("volumeClaimTemplates", [])
    named = [one["metadata"]["name"] for one in claims]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-audit-0"}} for name in named]
    spec = {**template["spec"], "volumes": [*template["spec"].get("volumes", []), *volumes]}
    return copy.deepcopy({"metadata": {**template["metadata"], "name": "audit-0"}, "spec": spec})


def applied(api: Api, rendered: list[dict[str, Any]], namespace: str) -> None:
    """All of it, twice: the second time nothing changes. Then the pod is admitted. The Prometheus operator's objects are unknown here."""
    ours = [one for one in rendered if not one["apiVersion"].startswith("monitoring.coreos.com/")]
    tests = [one for one in ours if one["kind"] == "Pod"]
    ours = [one for one in ours if one["kind"] != "Pod"]
    first = [api.apply(one, namespace)["metadata"] for one in ours]
    again = [api.apply(one, namespace)["metadata"] for one in ours]
    assert [one["resourceVersion"] for one in first] == [one["resourceVersion"] for one in again]
    pod = first_pod(kinds(ours)["StatefulSet"][0])
    # What the operator of a cluster makes.
    if name := pod["spec"].get("priorityClassName"):
        path = "/apis/scheduling.k8s.io/v1/priorityclasses?fieldManager=test"
        kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
        api.ask("POST", path, {**kind, "metadata": {"name": name}, "value": 1})
    for one in (pod, *tests):
        assert api.admits({"metadata": one["metadata"], "spec": one["spec"]}, namespace)["spec"]["containers"]


@pytest.mark.parametrize("name", KUSTOMIZED)
def test_the_kustomize_folders_are_taken(api: Api, name: str) -> None:
    """Goal: `kubectl apply -k` works and changes nothing the second time, and the restricted standard admits the pod; method: server-side apply
    with strict fields, in a namespace that enforces the standard."""
    applied(api, kustomize(DEPLOY / "kustomize" / name), api.namespace(name.replace("/", "-")))


@pytest.mark.parametrize("name", VALUES)
def test_what_the_chart_renders_is_taken(api: Api, name: str) -> None:
    """Goal and method as for the folders, for each example of values."""
    applied(api, rendered_chart(CHART / name), api.namespace(Path(name).stem + "-chart"))


def test_helm_installs_upgrades_and_takes_away(api: Api, tmp_path: Path) -> None:
    """Goal: the chart's life on a server; method: helm itself, and what is there after each step. A value that cannot be changed is not asked for."""
    namespace = api.namespace("by-helm")
    helm = [str(go_installed(HELM)), "--kubeconfig", str(kubeconfig(api, tmp_path / "kubeconfig")), "-n", namespace]
    sets = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    tool([*helm, "install", "audit", str(CHART)])
    (before,) = api.ask("GET", sets)["items"]
    tool([*helm, "upgrade", "audit", str(CHART), "--set", "config.log.level=debug"])
    (after,) = api.ask("GET", sets)["items"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"], "another configuration is no other pod"
    tool([*helm, "upgrade", "audit", str(CHART), "--set", "shards=2"])
    assert api.ask("GET", sets)["items"][0]["spec"]["replicas"] == 2
    tool([*helm, "uninstall", "audit"])
    assert api.ask("GET", sets)["items"] == []


def test_the_server_looks(api: Api) -> None:
    """Goal: what passes above was judged; method: a misspelt field, a value out of its range and a pod with a right too many are refused."""
    namespace = api.namespace("looks")
    (stateful_set,) = kinds(kustomize(DEPLOY / "kustomize/standalone"))["StatefulSet"]
    misspelt = copy.deepcopy(stateful_set)
    misspelt["spec"]["serviceNam"] = "x"
    with pytest.raises(Refused, match="serviceNam"):
        api.apply(misspelt, namespace)
    (budget,) = kinds(kustomize(DEPLOY / "kustomize/standalone"))["PodDisruptionBudget"]
    budget["spec"] = {**budget["spec"], "minAvailable": 1, "maxUnavailable": 1}
    with pytest.raises(Refused, match="cannot be both set"):
        api.apply(budget, namespace)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "openai-audit-streamer"}}
    api.apply(account, namespace)
    pod = first_pod(stateful_set)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Refused, match="violates PodSecurity"):
        api.admits(pod, namespace)


def test_two_daemons_hold_the_lease_in_turn_and_nothing_is_lost_or_doubled(api: Api, tmp_path: Path) -> None:
    """Goal: failover by a Lease of the real server, with no right but those that the documentation gives; method: a service account with that role,
    two daemons, of which the leader is killed, killed and frozen, against the simulator's truth. Another account is refused."""
    namespace = api.namespace("failover")
    (role,) = [
        yaml.safe_load(block.text) for block in blocks(ROOT / "docs/availability.md") if "kind: Role" in block.text
    ]
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "streamer", "namespace": namespace}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "streamer"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [subject],
    }
    for name in ("streamer", "other"):
        api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        (tmp_path / name).write_text(made["status"]["token"])
    for document in (role, binding):
        api.apply(document, namespace)
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    with pytest.raises(Refused, match="403"):
        Api(api.url, api.ca_file, (tmp_path / "other").read_text()).ask("GET", f"{leases}/audit")
    where = {
        "server": api.url,
        "namespace": namespace,
        "token_file": str(tmp_path / "streamer"),
        "ca_file": str(api.ca_file),
    }
    command = [
        sys.executable,
        "-m",
        "tests.crash.failover",
        "--by",
        "lease",
        "--rounds",
        "6",
        "--server",
        json.dumps(where),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    report = json.loads(run.stdout)
    assert report["kills"] == 6
    assert report["lines"] >= report["truth"] > 1500
    spec = api.ask("GET", f"{leases}/audit")["spec"]
    assert spec["leaseTransitions"] >= 6
    print(f"\n{report['truth']} events, {report['kills']} leaders taken away, {spec['leaseTransitions']} transitions")  # noqa: T201 - the figures
