"""Coverage-guided fuzzing of one target or all of them: `python -m tests.fuzz TARGET MINUTES`, in `make fuzz`.

Each target runs in a process of its own, because libFuzzer ends its process. What it finds lies under `.fuzz/` afterwards:
inputs that reach new code, and a file for each crash. Exit 1 where there was one.
"""

import hashlib
import logging
import re
import subprocess
import sys
import traceback
from pathlib import Path

FOUND = Path(".fuzz")
CORPUS = Path(__file__).parent / "corpus"
SLOWEST_S = 10
"""One input that takes longer counts as a crash."""
MEMORY_MIB = 2048


def fuzz_here(target: str, arguments: list[str]) -> None:
    """Does not return."""
    import atheris  # its own requirements file; nothing else needs it

    with atheris.instrument_imports(include=["streamer"]):
        import structlog

        from tests.fuzz.targets import TARGETS
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    def one(raw: bytes) -> None:
        try:
            TARGETS[target](raw)
        except BaseException:
            (FOUND / f"crash-{target}-{hashlib.sha256(raw).hexdigest()[:12]}").write_bytes(raw)
            sys.stderr.write(traceback.format_exc())
            raise

    atheris.Setup([target, *arguments], one)
    atheris.Fuzz()


def fuzz(target: str, minutes: float) -> tuple[int, int, bool]:
    """Runs, seconds, and whether a crash was found."""
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-max_total_time={round(minutes * 60)}",
        f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        "-max_len=8192",
        f"-artifact_prefix={FOUND}/crash-{target}-",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz", "--here", target, *limits, str(found), str(CORPUS / target)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    done = re.search(r"Done (\d+) runs in (\d+) second", ended.stderr)
    if ended.returncode or done is None:
        told = [line for line in ended.stderr.splitlines() if not line.startswith(("INFO:", "#"))]
        sys.stdout.write("\n".join([*told[-60:], ""]))
        return 0, 0, True
    return int(done[1]), int(done[2]), False


def main() -> int:
    if sys.argv[1:2] == ["--here"]:
        fuzz_here(sys.argv[2], sys.argv[3:])
    targets = sorted(path.name for path in CORPUS.iterdir())
    chosen, minutes = sys.argv[1], float(sys.argv[2])
    if chosen != "all":
        targets = [chosen]
    crashed = False
    for target in targets:
        runs, seconds, crash = fuzz(target, minutes / len(targets))
        crashed |= crash
        sys.stdout.write(f"{target}: {'a crash' if crash else f'{runs:,} runs in {seconds:,} s, no crash'}\n")
        sys.stdout.flush()
    return int(crashed)


if __name__ == "__main__":
    sys.exit(main())
