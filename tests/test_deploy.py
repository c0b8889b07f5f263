"""What is in deploy/: every configuration loads, every metric exists, every alert has its runbook, what is derived is up to date."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from deploy.make import derived
from streamer.telemetry import METRICS, Metric, Telemetry

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text("utf-8"))
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text("utf-8")


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
    assert len(linked) == len(RULES) == 12
    assert entries == linked


def test_links_within_the_runbooks_lead_somewhere() -> None:
    """Goal: no dead link; method: every target against headings and files."""
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOKS):
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs" / file).read_text("utf-8") if file else RUNBOOKS
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
