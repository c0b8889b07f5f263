"""What the pages show works: every configuration loads, every command runs, and what cannot is marked with what it needs."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.config import judge
from streamer.enrich.rules import parse_rules
from streamer.sinks import sink_options
from streamer.sources import source_options
from tests.docs_fences import BLOCKS, PAGES, ROOT, Block
from tests.docs_reference import commands
from tests.outage import Hook, id_of, receiving
from tests.places import until
from tests.ports import free_port
from tests.simulation import simulated_in_child

OTHERS = {"text", "json", "sql", "spl", "kusto", "logql"}
"""Languages that nothing here runs; all but the first two are marked with where they are."""
MARKS = ("needs ", "run by ", "in ", "while ", "values of the chart", "rules.yaml")


def of(language: str, *, marked: bool = False) -> list[Any]:
    chosen = [block for block in BLOCKS if block.language == language and bool(block.title) == marked]
    return [pytest.param(block, id=block.place) for block in chosen]


def test_every_block_says_what_it_is() -> None:
    """Goal: nothing is shown that no rule covers; method: each has a language, and a mark is one of few, whose file exists."""
    assert len(BLOCKS) > 40
    wrong = [b.place for b in BLOCKS if b.language not in OTHERS | {"sh", "yaml"}]
    assert wrong == [], "write the language behind the fence: sh and yaml are tried, the others are in OTHERS"
    unmarked = [b.place for b in BLOCKS if b.language in OTHERS - {"text", "json"} and not b.title]
    unmarked += [b.place for b in BLOCKS if b.title and not b.title.startswith(MARKS)]
    assert unmarked == [], f"say what it needs: ```sh title=…, beginning with one of {', '.join(MARKS)}"
    tests = [(b.place, name) for b in BLOCKS for name in re.findall(r"^run by (\S+)", b.title)]
    assert [found for found in tests if not (ROOT / found[1]).is_file()] == []


# --- configurations --------------------------------------------------------------------------------------------------


def completed(text: str) -> str:
    """A fragment made whole: what is missing of `sources` and `sinks`, and the type and the key of a source, are added."""
    document = yaml.safe_load(text)
    sources = document.setdefault("sources", {"acme": {}})
    for source in sources.values():
        source.setdefault("type", "openai_audit_logs")
        if "api_key_file" not in source:
            source.setdefault("api_key", "sk-admin-example")
    document.setdefault("sinks", {"local": {"type": "file", "path": "/var/log/openai/audit.jsonl"}})
    return yaml.safe_dump(document, sort_keys=False)


@pytest.mark.parametrize("block", of("yaml"))
def test_a_configuration_loads(block: Block) -> None:
    """Goal: what is copied from a page is taken; method: the daemon's own reader, fragments made whole."""
    _, problems = judge(completed(block.text), block.place, sources=source_options(), sinks=sink_options(), env={})
    assert problems == []


@pytest.mark.parametrize("block", [p for p in of("yaml", marked=True) if p.values[0].title == "rules.yaml"])
def test_a_rule_file_loads(block: Block) -> None:
    """Goal: likewise for rules; method: their own reader."""
    assert parse_rules(block.text, block.place)


# --- commands --------------------------------------------------------------------------------------------------------

VERBS = dict(commands())
ENDLESS = {"run": signal.SIGTERM, "simulate": signal.SIGTERM, "tail": signal.SIGINT, "top": signal.SIGINT}
"""Verbs that go on until they are told to stop, and how; `--once` ends by itself."""
ANSWERS = {"streamer reconcile": (0, 1), "streamer status": (0, 1), "streamer tail": (130,), "streamer top": (0, 130)}
"""Exit codes that are right: one dead letter is there on purpose, which reconcile and status say; Ctrl-C is 130."""
STAND_INS = {"NAME": "hook", "NUMBER": "1", "30s": "3s", "8089": "0"}
"""For what a page cannot know, and for what would take long."""
CONFIGURATION = """\
state: state
admin: {{listen: "127.0.0.1:{port}"}}
sources: {{acme: {{type: openai_audit_logs, api_key: sk-admin-simulated, base_url: "{base_url}", start: 31d, poll_interval: 1s}}}}
sinks:
  local: {{type: file, path: audit.jsonl}}
  lake: {{type: archive, path: data/archive, signing_key_file: archive-key, roll: {{age: 1s}}}}
  hook: {{type: webhook, url: "{hook}", body: bare}}
"""


def verb_of(words: list[str]) -> str:
    """The longest name of a verb that the words begin with."""
    found = [name for name in VERBS if words[: len(name.split())] == name.split()]
    assert found, f"there is no verb {' '.join(words[:3])}"
    return max(found, key=len)


def invoke(words: list[str], folder: Path, out: Path) -> None:
    """In a process of its own that has imported everything already."""
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background leaves ignored
    os.environ["STREAMER_CONFIG_FILE"] = "streamer.yaml"
    if words[1] == "top":
        os.environ["FORCE_COLOR"] = "1"  # draws as on a terminal
    sys.argv = words
    from streamer.cli.main import main

    main()


class Workshop:
    """A folder in which a daemon is at work, as the pages suppose."""

    def __init__(self, folder: Path, base_url: str, hook: Hook) -> None:
        self.folder, self._base_url, self._hook = folder, base_url, hook
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["streamer.cli.main", "streamer.app", "streamer.simulator.server"])
        self._count = 0

    def prepare(self, folder: Path) -> Path:
        (folder / "data").mkdir(parents=True)
        text = CONFIGURATION.format(port=free_port(), base_url=self._base_url, hook=self._hook.url)
        (folder / "streamer.yaml").write_text(text)
        assert self.run(["streamer", "keygen", "archive-key"], folder)[0] == 0
        (folder / "signing-key.pub").write_bytes((folder / "archive-key.pub").read_bytes())
        return folder

    def start(self, words: list[str], folder: Path) -> tuple[Any, Path]:
        self._count += 1
        out = self.folder / f"out-{self._count}"
        process = self._context.Process(target=invoke, args=(words, folder, out), daemon=True)
        process.start()
        return process, out

    def run(self, words: list[str], folder: Path) -> tuple[int | None, str]:
        process, out = self.start(words, folder)
        return self._ended(process, out)

    def _ended(self, process: Any, out: Path) -> tuple[int | None, str]:
        process.join(60)
        code = process.exitcode
        process.kill()
        return code, out.read_text()

    def run_until_it_speaks(self, words: list[str], folder: Path) -> tuple[int | None, str]:
        """Then it is told to stop."""
        process, out = self.start(words, folder)
        until(lambda: (out.exists() and out.read_text()) or process.exitcode is not None)
        os.kill(process.pid, ENDLESS[words[1]])
        return self._ended(process, out)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Everything is delivered but one event, which the hook refuses for good."""
    folder = tmp_path_factory.mktemp("workshop")
    refused: list[bytes] = []

    def answer(body: bytes) -> int:
        refused.append(id_of(body))
        return 400 if id_of(body) == refused[0] else 200

    with simulated_in_child(events=300) as child, receiving(Hook(answer=answer)) as hook:
        made = Workshop(folder, child.base_url, hook)
        home = made.prepare(folder / "home")
        daemon, log = made.start(["streamer", "run"], home)
        try:
            until(lambda: len(hook.ids) == 299)
            until(lambda: (home / "data/archive/_manifests/latest.json").exists())
            yield made
        finally:
            daemon.terminate()
            daemon.join(30)
        assert daemon.exitcode == 0, log.read_text()


def adapted(words: list[str], folder: Path) -> list[str]:
    """Absolute paths lie below the folder; what a page cannot know is filled in."""
    return [str(folder / word[1:]) if word.startswith("/") else STAND_INS.get(word, word) for word in words]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", of("sh"))
def test_a_command_runs(block: Block, workshop: Workshop) -> None:
    """Goal: what a page tells to type does what it says; method: each command as it stands beside a daemon that works on the simulator; make's
    targets exist; whatever else is there needs a mark."""
    home = workshop.folder / "home"
    for words in block.commands():
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
            continue
        assert words[0] == "streamer", f'{block.place}: mark it with what it needs, ```sh title="needs …"'
        target = words.pop() if ">" in words else None
        words, verb = [word for word in words if word != ">"], verb_of(words)
        fresh = verb == "streamer run"  # it shares a folder with nobody
        folder = workshop.prepare(workshop.folder / f"fresh-{block.line}-{len(words)}") if fresh else home
        endless = verb.split()[1] in ENDLESS and "--once" not in words
        run = workshop.run_until_it_speaks if endless else workshop.run
        code, said = run(adapted(words, folder), folder)
        assert code in ANSWERS.get(verb, (0,)), f"{words}: {code}\n{said}"
        assert "Traceback" not in said
        assert said
        if target is not None:
            (folder / target).write_text(said)


INLINE = re.compile(r"`(streamer [a-z][^`]*)`")


def test_commands_in_sentences_name_what_there_is() -> None:
    """Goal: no verb and no option is invented in prose; method: each `streamer …` in a sentence against the verbs and their options."""
    wrong, count = [], 0
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for found in INLINE.findall(text):
            words = found.replace("|", " ").split()
            count += 1
            names = [name for name in VERBS if words[: len(name.split())] == name.split()]
            groups = {" ".join(name.split()[:2]) for name in VERBS}
            if not names and " ".join(words[:2]) not in groups:
                wrong.append((page.name, found))
                continue
            known = {o for name in names for p in VERBS[name].params for o in (*p.opts, *p.secondary_opts)}
            wrong += [(page.name, found) for word in words if names and word.startswith("--") and word not in known]
    assert wrong == []
    assert count > 40
