"""Do the tests notice when a module is changed? `python -m tests.mutation TARGET [SAMPLE]`, in `make mutation`.

mutmut makes the changes and runs, for each, the tests that reach the changed function. All of them, or a sample drawn with a seed. What
survives is printed as a difference; docs/testing.md says of each why.
"""

import difflib
import json
import math
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from os import environ
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEED = 5
CHILDREN = 6
"""More than cores: most of these tests wait for something."""
TARGETS: Mapping[str, tuple[str, str]] = {
    "windows": ("windows.py", "test_windows.py"),
    "slices": ("slices.py", "test_slices.py"),
    "delivery": ("delivery.py", "test_delivery.py"),
    "journal": ("journal/*s*.py", "test_journal.py\n  tests/test_journal_blocks.py"),
    "decode": ("decode/*.py", "test_decode.py"),
}
"""The source (a pattern), and its tests; not those that measure time or would take a minute a change."""
SURVIVED, NO_TESTS = 0, 33
"""mutmut's numbers; any other end is a change that was noticed."""
SETTINGS = """[mutmut]
source_paths=streamer
only_mutate=streamer/{source}
pytest_add_cli_args_test_selection=
  tests/{tests}
pytest_add_cli_args=
  -x
  -pno:cacheprovider
also_copy=
  {copied}
use_git_change_detection=False
track_dependencies=False
"""


def prepare(folder: Path, target: str) -> list[Path]:
    """A copy of all that the tests read, with mutmut's settings; where it will note what came of each change, a file each."""
    copied = ("streamer", "tests", "bench", "config", "docs", "README.md", "pyproject.toml")
    for name in copied:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "integration"))
        else:
            shutil.copy(ROOT / name, folder)
    source, tests = TARGETS[target]
    settings = SETTINGS.format(source=source, tests=tests, copied="\n  ".join(copied))
    (folder / "setup.cfg").write_text(settings)
    mutated = folder / "mutants" / "streamer"
    return [mutated / f"{path.relative_to(folder / 'streamer')}.meta" for path in (folder / "streamer").glob(source)]


def mutmut(folder: Path, *names: str) -> None:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(CHILDREN), *names]
    quiet = subprocess.DEVNULL  # a spinner; and that no name is "none*"
    subprocess.run(command, cwd=folder, env={**environ, "CI": "1"}, stdout=quiet, stderr=quiet, check=False)


def ends(metas: Iterable[Path]) -> dict[str, int | None]:
    """mutmut's number of each change; None: not tried."""
    made = [meta for meta in metas if meta.exists()]  # nothing can be changed in a file without a function
    return {name: end for meta in made for name, end in json.loads(meta.read_text())["exit_code_by_key"].items()}


def functions(source: str) -> dict[str, str]:
    """The text of every function of mutmut's file, by name: originals and changed ones stand one below the other."""
    parts = re.split(r"^( *)((?:async )?def (\w+)\()", source, flags=re.MULTILINE)
    return {name: begin + rest for begin, name, rest in zip(parts[2::4], parts[3::4], parts[4::4], strict=True)}


def change(name: str, texts: Mapping[str, str]) -> Iterator[str]:
    """The lines that differ."""
    mutant = name.rpartition(".")[2]
    before = texts.get(re.sub(r"_\d+$", "_orig", mutant), "").splitlines()[1:]
    after = texts.get(mutant, "").splitlines()[1:]
    for line in difflib.unified_diff(before, after, lineterm="", n=0):
        if not line.startswith(("---", "+++", "@@")) and "mutmut" not in line:
            yield f"  {line[0]} {line[1:].strip()}"


def is_none(name: str, target: str, texts: Mapping[str, str]) -> bool:
    """No change at all: SQL knows no case."""
    lines = [line.lower() for line in change(name, texts)]
    before, after = ([line[3:] for line in lines if line[2] == sign] for sign in "-+")
    return target == "journal" and before == after


def interval(killed: int, tried: int) -> tuple[float, float]:
    """Wilson's, at 95 %, in percent."""
    z, share = 1.96, killed / tried
    middle = (share + z * z / (2 * tried)) / (1 + z * z / tried)
    half = z * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried)) / (1 + z * z / tried)
    return 100 * (middle - half), 100 * (middle + half)


def main() -> int:
    target, sample = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as scratch:
        folder = Path(scratch)
        metas = prepare(folder, target)
        mutmut(folder, "none*")  # makes the changes and learns which test reaches which function
        names = sorted(ends(metas))
        chosen = random.Random(SEED).sample(names, sample) if 0 < sample < len(names) else names
        mutmut(folder, *(chosen if len(chosen) < len(names) else ()))
        texts = functions("".join(meta.with_suffix("").read_text() for meta in metas if meta.exists()))
        came = {name: end for name, end in ends(metas).items() if name in set(chosen) and end is not None}
        tried = len(came)
        came = {name: end for name, end in came.items() if not is_none(name, target, texts)}
    alive = [name for name, end in came.items() if end in (SURVIVED, NO_TESTS)]
    for name in alive:
        sys.stdout.write("\n".join([name.rpartition(".")[2], *change(name, texts), ""]))
    killed = len(came) - len(alive)
    low, high = interval(killed, len(came))
    sys.stdout.write(
        f"{target}: {len(names)} changes, {tried} tried, {tried - len(came)} of them none, {killed} noticed: {100 * killed / len(came):.1f} % ({low:.1f} to {high:.1f})\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
