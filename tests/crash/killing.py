"""`python -m tests.crash.killing CONFIG KILLS SEED`: a daemon killed so often at random, then one that finishes. Prints how many died.

A program of its own because it forks, which a process with threads should not.
"""

import random
import sys
from pathlib import Path

from tests.crash.daemon import kill, spawn, wait

LONGEST_S = 1.5


def main() -> None:
    config, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    for _ in range(kills):
        pid = spawn(config)
        status = wait(pid, chance.uniform(0.05, LONGEST_S))
        if status is not None:
            sys.exit(f"a daemon ended by itself with {status}:\n{(config.parent / 'daemon.log').read_text()[-2000:]}")
        kill(pid)
    last = spawn(config, once=True)
    status = wait(last, 120)
    if status is None:
        kill(last)
    if status != 0:
        sys.exit(f"the last run ended with {status}:\n{(config.parent / 'daemon.log').read_text()[-2000:]}")
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main()
