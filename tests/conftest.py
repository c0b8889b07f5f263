"""What all tests share: in CI, hypothesis draws the same examples every time, so that a red run can be run again."""

import os

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

LONGEST = (
    *(
        "test_compiled",
        "test_archive_s3",
        "test_kafka_broker",
        "test_image",
        "test_docs_site",
        "test_crash",
        "test_chaos",
        "test_outage",
    ),
    *("test_cli", "test_standby", "test_http_contract", "test_reconcile", "test_archive", "test_file", "test_faults"),
)
"""Files that take longest. They begin first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files keep together, and tests their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
