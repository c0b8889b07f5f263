"""Writes what is derived: the dashboard, and the alert rules as an object of the Prometheus operator.

`python -m deploy.make`; a test says when it has to be run again.
"""

import json
from pathlib import Path

import yaml

from deploy.grafana.make import dashboard

HERE = Path(__file__).parent


def derived() -> dict[Path, str]:
    """Every derived file and its text."""
    rules = yaml.safe_load((HERE / "prometheus/alerts.yaml").read_text("utf-8"))
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "openai-audit-streamer"},
        "spec": rules,
    }
    return {
        HERE / "grafana/dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
        HERE / "kustomize/monitoring/prometheusrule.yaml": "# Made from prometheus/alerts.yaml by deploy/make.py.\n"
        + yaml.safe_dump(rule, sort_keys=False, width=120),
    }


if __name__ == "__main__":
    for path, text in derived().items():
        path.write_text(text, "utf-8")
