"""Makes the repository's Markdown a site (mkdocs calls these hooks): pages link to files beside docs/ as they do on a forge, and those
files become part of the site."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#]+)")
REST = "Also"
"""The section of pages that the navigation does not name."""


def place(path: Path) -> str:
    """Of a file of the repository in the site."""
    inside = path.is_relative_to(DOCS)
    return path.relative_to(DOCS).as_posix() if inside else f"repository/{path.relative_to(ROOT).as_posix()}"


def links(page: Path, text: str) -> Iterator[tuple[str, Path]]:
    """What a page links to inside of the repository, as it is written and as a path."""
    for target in LINK.findall(text):
        if not re.match(r"[a-z]+:", target):
            yield target, Path(posixpath.normpath(page.parent / target))


def on_config(config: Any) -> Any:
    """Decisions are listed by themselves; so is, at the end, what the navigation forgot."""
    decisions = sorted(f"decisions/{path.name}" for path in DOCS.glob("decisions/*.md"))
    named = set(re.findall(r"[\w/.-]+\.md", str(config.nav)))
    pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md"))
    config.nav.append({"Decisions": decisions})
    if rest := [page for page in pages if page not in named and page not in decisions]:
        config.nav.append({REST: rest})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds what is linked outside of docs/, and what that links to."""
    waiting, seen = [path for path in DOCS.glob("**/*.md")], set[Path]()
    while waiting:
        page = waiting.pop()
        for _, target in links(page, page.read_text("utf-8")):
            if target in seen or target.is_relative_to(DOCS) or not target.is_file():
                continue
            seen.add(target)
            files.append(File.generated(config, place(target), abs_src_path=str(target)))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links from and to files beside docs/ lead to their place in the site."""
    here = Path(page.file.abs_src_path)
    for written, target in links(here, markdown):
        moved = posixpath.relpath(place(target), posixpath.dirname(place(here)))
        markdown = re.sub(rf"(?<=\]\(){re.escape(written)}(?=[)#\s])", moved, markdown)
    return markdown
