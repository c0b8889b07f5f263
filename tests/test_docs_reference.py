"""The documentation and the program agree: keys, metrics, verbs and examples."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from streamer.cli.checking import check_offline
from streamer.cli.reference import configuration_schema
from streamer.config import Config, judge
from streamer.sinks import SINKS, sink_options
from streamer.sources import SOURCES, source_options
from streamer.telemetry import METRICS
from tests.docs_reference import DOCS, PAGES, commands
from tests.shared_folder import shared_file

ROOT = DOCS.parent
EXAMPLES = sorted((ROOT / "config").glob("**/*.yaml"))
ENV = {"OPENAI_ADMIN_KEY": "sk-admin-example"}


def load(path: Path) -> Config:
    config, problems = judge(path.read_text(), path.name, sources=source_options(), sinks=sink_options(), env=ENV)
    assert problems == []
    assert config is not None
    return config


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    """Goal: docs/ is up to date; method: made again and compared; `make reference` mends it."""
    assert (DOCS / name).read_text("utf-8") == PAGES[name](), f"docs/{name} is behind the code; run make reference"


def test_every_key_of_the_configuration_says_what_it_means() -> None:
    """Goal: no key without a sentence, in the page and in editors; method: the table's last column."""
    rows = [line for line in (DOCS / "configuration.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_metric_of_the_code_and_of_the_contract_is_documented() -> None:
    """Goal: alerts rest on names that exist; method: the page against the closed list and against the contract."""
    documented = set(re.findall(r"^\| `(streamer_\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    assert documented == set(METRICS)
    contract = shared_file("design/CONTRACT.md").read_text()
    promised = set(re.findall(r"`(streamer_\w+)", contract))
    assert len(promised) > 15
    assert promised - documented == set()


def test_every_verb_is_documented_and_every_verb_of_the_contract_exists() -> None:
    """Goal: users script against verbs; method: docs/cli.md, the program and the contract."""
    page = (DOCS / "cli.md").read_text()
    names = [name for name, _ in commands()]
    assert [name for name in names if not re.search(rf"^## `{name}[` ]", page, re.MULTILINE)] == []
    contract = shared_file("design/CONTRACT.md").read_text()
    promised = set(re.findall(r"^\| `streamer (\w+)", contract, re.MULTILINE))
    assert len(promised) > 10
    assert promised - {name.split()[1] for name in names} == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_and_fits_the_schema(path: Path) -> None:
    """Goal: what is shown works; method: read strictly, and held against the JSON Schema that editors use."""
    config = load(path)
    assert config.sinks
    validator = jsonschema.Draft202012Validator(configuration_schema())
    assert [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []


def test_the_full_example_shows_every_source_and_sink_and_every_common_key() -> None:
    """Goal: nothing is hidden; method: types against the registries, keys of the shared parts against the text."""
    path = ROOT / "config" / "streamer.yaml"
    config, text = load(path), path.read_text()
    dumped = config.model_dump(mode="json", by_alias=True)
    assert {sink["type"] for sink in dumped["sinks"].values()} == set(SINKS)
    assert {source["type"] for source in dumped["sources"].values()} == set(SOURCES)
    keys = re.findall(
        r"^\| `([\w.\[\]]+)` ", (DOCS / "configuration.md").read_text().partition("## `sinks.NAME`, `")[0], re.M
    )
    spelled_otherwise = {"api_key", "redact_key", "admin.token"}  # as files
    nested = {"where.families", "where.sources", "where.all", "where.any"}  # as the ones beside them
    wanted = {key.replace("[]", "") for key in keys} - spelled_otherwise - nested
    missing = [key for key in sorted(wanted) if not re.search(rf"\b{key.rpartition('.')[2]}:", text)]
    assert missing == []


async def test_the_defaults_that_the_full_example_shows_are_the_defaults(tmp_path: Path) -> None:
    """Goal: an example that is copied changes nothing by accident; method: its values against an empty configuration's."""
    full, plain = load(ROOT / "config" / "streamer.yaml"), load(ROOT / "config" / "minimal.yaml")
    shown, default = full.sources["acme"], plain.sources["openai"]
    examples = {"organization_id", "api_key", "api_key_file"}
    assert shown.model_dump(exclude=examples) == default.model_dump(exclude=examples)
    assert (full.state, full.admin, full.log, full.reload, full.journal) == (
        plain.state,
        plain.admin,
        plain.log,
        plain.reload,
        plain.journal,
    )
    assert full.enrich.directory == plain.enrich.directory
    # And the minimal one is refused for nothing but the folders that this machine lacks.
    moved = plain.model_copy(update={"state": tmp_path / "state"})
    assert all("there is no folder /var/log/openai" in problem for problem in await check_offline(moved))


PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("**/*.md"))]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Goal: no dead link inside the repository, and no proof that is not there; method: relative links with their headings, and every
    test file that a page names."""
    text = path.read_text("utf-8")
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (heading and heading not in _anchors(there)):
            dead.append(target)
    dead += [name for name in re.findall(r"`(tests/[\w/]+\.py)`", text) if not (ROOT / name).exists()]
    assert dead == []


def _anchors(path: Path) -> set[str]:
    """Headings as the forges link them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
