"""What is measured, and beside what: `make bench` and `make peers`."""

import os

# Programs run as they are installed, with bytecode; without it every start would compile all sources, half a second of it. A first run makes it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
