"""What is in deploy/: every configuration loads, every metric exists, every alert has its runbook, what is derived is up to date."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import ByteSize, TypeAdapter

from deploy.make import derived
from streamer import __version__
from streamer.cli.main import app
from streamer.config import Config, parse
from streamer.simulator import DEFAULT_KEY
from streamer.sinks import sink_options
from streamer.sources import source_options
from streamer.telemetry import METRICS, Metric, Telemetry

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text("utf-8"))
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text("utf-8")

CHART = DEPLOY / "helm/openai-audit-streamer"
SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
ENV = {"CREDENTIALS_DIRECTORY": "/run/credentials/x", "OPENAI_BASE_URL": "http://simulator:8080/v1"}
SHAPES = {"standalone": DEPLOY / "kustomize/standalone", "sidecar": DEPLOY / "kustomize/sidecar/base"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def merged(base: Any, over: Any) -> Any:
    """Values over values as Helm lays them: deep, and null takes away."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    both = {key: merged(base.get(key), value) for key, value in over.items()}
    return {key: value for key, value in {**base, **both}.items() if value is not None}


def values(name: str) -> dict[str, Any]:
    result: dict[str, Any] = merged(load(CHART / "values.yaml"), load(CHART / name))
    return result


VALUES = ["values.yaml", "ci/full-values.yaml", "ci/sidecar-values.yaml"]
CONFIGURATIONS = {
    **{str(path.relative_to(DEPLOY)): path.read_text("utf-8") for path in sorted(DEPLOY.rglob("streamer.yaml"))},
    **{f"helm {name}": yaml.safe_dump(values(name)["config"]) for name in VALUES},
}
del CONFIGURATIONS["compose/grafana/dashboards/streamer.yaml"]


def config_of(text: str) -> Config:
    return parse(text, "streamer.yaml", sources=source_options(), sinks=sink_options(), env=ENV)


def secret_files(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key.endswith("_file"):
                yield str(value)
            yield from secret_files(value)


def exposed() -> set[str]:
    """Every sample name that the daemon can expose."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        metric.name + suffix for metric in Telemetry().registry.collect() for suffix in suffixes.get(metric.type, [""])
    }


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_in_alerts_and_dashboard_exists(where: str, expression: str) -> None:
    """Goal: no query asks for what is never exposed; method: the names in it against what a registry of the daemon collects."""
    names = set(re.findall(r"streamer_\w+", expression))
    assert names, where
    assert names <= exposed(), where


def test_every_metric_that_matters_is_on_the_dashboard_or_in_an_alert() -> None:
    """Goal: a new metric is shown or left out on purpose; method: METRICS without those that are used, against a list with reasons."""
    left_out = {
        "streamer_sink_filtered_total",  # what `where` leaves out is the operator's wish
        "streamer_journal_pruned_total",  # seen by the journal's size
        "streamer_directory_last_success_seconds",  # a failing list is shown
        "streamer_directory_unsaved",  # costs a warm start, and is logged
        "streamer_geoip_built_seconds",  # the age of the operator's own file
        "streamer_source_key_info",  # which key it is matters while one is rotated
        "streamer_config_taken_seconds",  # the log says what changed, and when
        "streamer_config_reloads_total",  # what needs somebody is the refusal
    }
    text = " ".join(expression for _, expression in expressions())
    unused = {name for name in METRICS if not re.search(rf"\b{name}(_bucket)?\b", text)}
    assert unused == left_out
    assert set(get_args(Metric)) >= left_out


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    """Goal: who is woken finds what to do; method: the anchors of the alerts against the headings, and each entry names its alert and severity."""
    entries = dict(re.findall(r"^## ([\w-]+)\n\n\*(\w+, \w+)\.\*", RUNBOOKS, re.MULTILINE))
    linked = {
        rule["annotations"]["runbook_url"].removeprefix(
            "docs/runbooks.md#"
        ): f"{rule['alert']}, {rule['labels']['severity']}"
        for rule in RULES
    }
    assert len(linked) == len(RULES) == 18
    assert entries == linked


@pytest.mark.parametrize("page", ["runbooks.md", "deployment.md"])
def test_links_of_the_pages_lead_somewhere(page: str) -> None:
    """Goal: no dead link; method: every target against headings and files."""
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / page).read_text("utf-8"))
    assert targets
    for target in targets:
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs" / (file or page)).read_text("utf-8")
        assert not anchor or re.search(rf"^#+ {anchor.replace('-', '[- ]')}$", text, re.MULTILINE | re.IGNORECASE), (
            target
        )


def test_every_alert_is_shown_to_fire_and_to_keep_quiet() -> None:
    """Goal: no alert without a rule test of both kinds; method: what alerts_test.yaml expects, by name (promtool runs it)."""
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yaml").read_text("utf-8"))["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == names
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == names


def test_the_dashboard_is_well_formed() -> None:
    """Goal: it imports, and nothing lies upon another; method: unique ids, every panel within 24 columns, no overlap."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", list(derived()), ids=lambda path: path.name)
def test_derived_files_are_up_to_date(path: Path) -> None:
    """Goal: one source each; method: make them again. When this fails: python -m deploy.make"""
    assert path.read_text("utf-8") == derived()[path]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_loads_with_the_real_options(name: str) -> None:
    """Goal: what is deployed starts; method: the daemon's own reader, with every source and sink that exists."""
    config = config_of(CONFIGURATIONS[name])
    assert str(config.state).startswith("/var/lib/streamer")
    assert config.admin is not None
    assert config.admin.port == 9464
    assert config.admin.host == ("127.0.0.1" if name.startswith("systemd") else "0.0.0.0")


@pytest.mark.parametrize(("shape", "folder"), SHAPES.items())
def test_a_kustomize_pod_is_restricted_and_has_what_its_configuration_names(shape: str, folder: Path) -> None:
    """Goal: the pod fits the restricted profile, its secrets, and its volume; method: the manifest against the configuration beside it."""
    spec = load(folder / "statefulset.yaml")["spec"]
    text = (folder / "streamer.yaml").read_text("utf-8")
    check_stateful_set(spec, text)
    streamer = [c for c in containers(spec) if c["name"] == "streamer"]
    assert len(streamer) == 1
    assert streamer[0].get("restartPolicy") == ("Always" if shape == "sidecar" else None)


def containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    pod = spec["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def check_stateful_set(spec: Mapping[str, Any], config: str, shards: int = 1) -> None:
    """What must hold for every StatefulSet of ours, whatever rendered it."""
    pod = spec["template"]["spec"]
    assert spec["replicas"] == shards
    assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] > 20
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(spec):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, container["name"]
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
    (streamer,) = [c for c in containers(spec) if c["name"] == "streamer"]
    told = {variable["name"]: variable["value"] for variable in streamer.get("env", [])}
    assert told.get("STREAMER_SHARD__COUNT") == (str(shards) if shards > 1 else None)
    assert streamer["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert streamer["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert [p["containerPort"] for p in streamer["ports"]] == [9464]
    mounts = {m["name"]: m["mountPath"] for m in streamer["volumeMounts"]}
    (secrets,) = [v["projected"] for v in pod["volumes"] if v["name"] == "secrets"]
    there = {f"{mounts['secrets']}/{item['path']}" for s in secrets["sources"] for item in s["secret"]["items"]}
    assert set(secret_files(yaml.safe_load(config))) <= there
    loaded = config_of(config)
    assert loaded.state.is_relative_to(mounts["state"])
    (claim,) = spec["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert loaded.journal.max_size < TypeAdapter(ByteSize).validate_python(f"{size}B")


@pytest.mark.parametrize("name", VALUES)
def test_values_follow_their_schema(name: str) -> None:
    """Goal: the schema takes what is good; method: the chart's values and each example laid over them."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(values(name), SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    "wrong",
    [
        "replicaCount: 2",
        "shards: 0",
        "image: {tagg: x}",
        "image: {digest: latest}",
        "config: {sinks: {out: null}}",
        "config: {admin: null}",
        'config: {admin: {listen: "0.0.0.0:1"}}',
        "config: {state: /tmp}",
        "secrets: [{items: []}]",
        "persistence: {size: 10}",
        "persistence: {accessModes: [ReadWriteMany]}",
        "terminationGracePeriodSeconds: 5",
        "monitoring: {podMonitor: {interval: 30}}",
    ],
)
def test_the_schema_refuses_what_would_not_work(wrong: str) -> None:
    """Goal: a mistake is told before it is applied; method: one mistake laid over good values each."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            merged(load(CHART / "values.yaml"), yaml.safe_load(wrong)), SCHEMA, jsonschema.Draft7Validator
        )


def test_the_schema_knows_every_value() -> None:
    """Goal: schema and values do not drift; method: their keys, where the schema is closed."""

    def compare(schema: Mapping[str, Any], value: Any, path: str) -> None:
        schema = SCHEMA["definitions"]["scrape"] if "$ref" in schema else schema
        if schema.get("additionalProperties") is False and isinstance(value, Mapping):
            known = set(schema["properties"]) - {"global", "nameOverride", "fullnameOverride"}
            assert known == set(value), path
            for key in known:
                compare(schema["properties"][key], value[key], f"{path}.{key}")

    compare(SCHEMA, load(CHART / "values.yaml"), "values")


def test_the_version_is_the_same_everywhere() -> None:
    """Goal: a release changes no file by half; method: every place that names it against the package's."""
    chart = load(CHART / "Chart.yaml")
    images = [load(folder / "kustomization.yaml")["images"][0]["newTag"] for folder in SHAPES.values()]
    compose = load(DEPLOY / "compose/compose.yaml")["services"]
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert {chart["version"], chart["appVersion"], *images} == {__version__}
    assert compose["streamer"]["image"] == compose["simulator"]["image"] == f"openai-audit-streamer:{__version__}"
    assert f"ARG VERSION={__version__}\n" in dockerfile


def test_the_chart_carries_the_rules_and_the_dashboard() -> None:
    """Goal: one source of each; method: the chart's files are links to them."""
    assert (CHART / "files/alerts.yaml").resolve() == DEPLOY / "prometheus/alerts.yaml"
    assert (CHART / "files/dashboard.json").resolve() == DEPLOY / "grafana/dashboard.json"


def test_the_image_runs_as_a_number_and_its_verbs_exist() -> None:
    """Goal: the last stage starts the daemon without root, and its health check is a verb; method: the Dockerfile's last stage, the CLI's table."""
    last = (ROOT / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2]
    verbs = {command.name for command in app.registered_commands}
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert not re.search(r"^RUN ", last, re.MULTILINE)
    assert set(re.findall(r'CMD \["(?:streamer", ")?(\w+)"\]', last)) == {"status", "run"} <= verbs


def test_compose_mounts_what_exists() -> None:
    """Goal: nothing is mounted as an empty folder; method: every relative path of compose.yaml."""
    compose = load(DEPLOY / "compose/compose.yaml")
    paths = [v.split(":")[0] for s in compose["services"].values() for v in s.get("volumes", []) if v.startswith(".")]
    assert len(paths) == 6
    for path in paths:
        assert (DEPLOY / "compose" / path).exists(), path
    assert (DEPLOY / "compose/simulated-key").read_text("utf-8").strip() == DEFAULT_KEY
    assert load(DEPLOY / "compose/prometheus.yaml")["rule_files"] == ["/etc/prometheus/alerts.yaml"]


def test_the_systemd_unit_gives_what_its_configuration_names() -> None:
    """Goal: folders and the key are there; method: the unit against the configuration beside it."""
    unit = (DEPLOY / "systemd/openai-audit-streamer.service").read_text("utf-8")
    given = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    config = config_of(CONFIGURATIONS["systemd/streamer.yaml"])
    assert f"/var/lib/{given['StateDirectory']}" == str(config.state)
    assert "path: /var/log/" + given["LogsDirectory"] in CONFIGURATIONS["systemd/streamer.yaml"]
    key = given["LoadCredential"].partition(":")[0]
    assert set(secret_files(load(DEPLOY / "systemd/streamer.yaml"))) == {"${CREDENTIALS_DIRECTORY}/" + key}


def test_the_pages_name_what_exists() -> None:
    """Goal: a path or an image that is typed from the page is there; method: every deploy/… path, the example values of Helm, the version."""
    page = (ROOT / "docs/deployment.md").read_text("utf-8")
    paths = set(re.findall(r"deploy/[\w./-]+\w", page))
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    (example,) = re.findall(r"```yaml[^\n]*\n(.*?)```", page, re.DOTALL)
    laid = merged(load(CHART / "values.yaml"), yaml.safe_load(example))
    jsonschema.validate(laid, SCHEMA, jsonschema.Draft7Validator)
    assert list(config_of(yaml.safe_dump(laid["config"])).sinks) == ["bus"]
    assert set(re.findall(r"openai-audit-streamer:(\d[\w.]*)", page)) == {__version__}
