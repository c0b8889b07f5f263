"""The documentation as a site: built strictly, whole, and from nothing but itself."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.docs_fences import PAGES, ROOT

SITE = ROOT / "site"


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    """HTML by its name. mkdocs ends with an error for a dead link, a missing heading or a page of the navigation that is not there."""
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.relative_to(SITE).as_posix(): path.read_text("utf-8") for path in SITE.rglob("*.html")}


@pytest.mark.timeout(400)
def test_every_page_is_there(site: dict[str, str]) -> None:
    """Goal: no page is left out; method: a file of HTML for each, and a place in the navigation of the first page."""
    names = {}
    for page in PAGES:
        inside = page.is_relative_to(ROOT / "docs")
        name = page.relative_to(ROOT / "docs") if inside else Path("repository") / page.relative_to(ROOT)
        names[page] = name.with_name("index" if name.name == "README.md" else name.stem).as_posix() + ".html"
    assert [name for name in names.values() if name not in site] == []
    start = site["index.html"]
    left_out = [name for name in names.values() if name != "index.html" and f'href="{name}"' not in start]
    assert left_out == [], "add them to nav in mkdocs.yml"
    listed = Counter(re.findall(r"^ +- (?:.+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert len(listed) > 20
    assert [name for name, times in listed.items() if times > 1] == []


@pytest.mark.timeout(400)
def test_nothing_comes_from_elsewhere(site: dict[str, str]) -> None:
    """Goal: it can be read without a network, and tells nobody who reads it; method: what each page loads; style sheets likewise."""
    loaded = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(https?:)?//|<link\b[^>]*\bhref=\"?(https?:)?//")
    assert [name for name, html in site.items() if loaded.search(html)] == []
    sheets = [
        path.name for path in SITE.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", path.read_text("utf-8"))
    ]
    assert sheets == []
    assert not re.search("https?://(fonts|unpkg|cdn)", site["index.html"])


@pytest.mark.timeout(400)
def test_lists_and_blocks_are_rendered(site: dict[str, str]) -> None:
    """Goal: a page looks on the site as it does on a forge, whose Markdown takes more; method: no list within a paragraph, no fence in the text,
    none that ends the list that it stands in."""
    swallowed = re.compile(r"<p>(?:(?!</p>|<div)[\s\S])*?\n(?:[-*]|\d+\.) ")
    assert [(name, found[0][-120:]) for name, html in site.items() if (found := swallowed.search(html))] == []
    outside = {name: re.sub(r"<pre[\s\S]*?</pre>", "", html) for name, html in site.items()}
    assert [name for name, html in outside.items() if "```" in html] == []
    assert [p.name for p in PAGES if re.search(r"^(?:    )* {1,3}```", p.read_text("utf-8"), re.MULTILINE)] == []
