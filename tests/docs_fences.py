"""The fenced blocks of every page: what language, marked by which title, with which text."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "streamer/journal/DESIGN.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
OPENING = re.compile(r"^( *)```(.*)$")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    title: str
    """What it needs, or who runs it; empty: run as it stands."""
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Of a shell block, without comments; a backslash joins lines."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks(page: Path) -> Iterator[Block]:
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), 1))
    name = page.relative_to(ROOT).as_posix()
    for number, line in lines:
        if opening := OPENING.match(line):
            indent, info = opening.groups()
            text = []
            for _, inside in lines:
                if inside.strip() == "```":
                    break
                text.append(inside.removeprefix(indent))
            else:
                raise ValueError(f"{name}:{number}: a fence that does not end")
            title = re.search(r'title="([^"]+)"', info)
            yield Block(name, number, info.partition(" ")[0], title[1] if title else "", "\n".join(text) + "\n")


BLOCKS = [block for page in PAGES for block in blocks(page)]
