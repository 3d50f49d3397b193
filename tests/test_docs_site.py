"""The documentation site: built strictly, every link and picture exists, the API is there, and all pages are listed."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.markdown import DOCS, ROOT

SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
NOT_LISTED = {"hooks", "decisions"}
"""Folders whose index is listed."""


def listed(nav: object) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    entries = nav.values() if isinstance(nav, dict) else nav
    assert isinstance(entries, list) or hasattr(entries, "__iter__")
    return set().union(*map(listed, entries))


def test_every_page_is_listed_once() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    top = {page for page in pages if page.partition("/")[0] not in NOT_LISTED or page.endswith("README.md")}
    assert listed(SETTINGS["nav"]) == top


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site of a copy of the pages."""
    pytest.importorskip("zensical", reason="zensical is not installed: pip install 'fer_augment[docs]'")
    copy = tmp_path_factory.mktemp("project")
    shutil.copyfile(ROOT / "mkdocs.yml", copy / "mkdocs.yml")
    shutil.copytree(DOCS, copy / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "fer_augment").symlink_to(ROOT / "fer_augment")
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return copy / "site"


def broken_links(site: Path) -> list[str]:
    """Return links and pictures that lead to no file or no place in it."""
    contents = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html") if page.name != "404.html"}
    broken = []
    for page, text in contents.items():
        for link in map(html.unescape, re.findall(r'(?:href|src)="([^"]+)"', text)):
            path, _, place = link.partition("#")
            if re.match(r"[a-z]+:|//", link) or place.startswith("__"):
                continue
            target = Path(os.path.normpath(page.parent / path)) if path else page
            if not target.exists() or (place and f'id="{place}"' not in contents.get(target, f'id="{place}"')):
                broken.append(f"{page.relative_to(site)}: {link}")
    return broken


def test_no_link_is_broken(site: Path) -> None:
    assert broken_links(site) == []


def test_the_api_has_signatures_and_docstrings(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "api.html").read_text(encoding="utf-8"))
    for part in (
        "Compare recipes on the same data; the first one is the baseline.",
        "seeds",
        "Augment batches with strategies",
    ):
        assert part in text


def test_pages_can_be_searched_and_the_first_one_has_the_screens(site: Path) -> None:
    assert "balanced accuracy" in (site / "search.json").read_text(encoding="utf-8")
    first = (site / "index.html").read_text(encoding="utf-8")
    assert "screens/terminal.svg" in first and "screens/report.png" in first
    assert (site / "screens" / "report.png").stat().st_size > 10_000


def test_the_terminal_loads_nothing_from_elsewhere() -> None:
    text = (DOCS / "screens" / "terminal.svg").read_text(encoding="utf-8")
    assert not re.findall(r"url\(\"?https?:|href=\"https?:", text)
    assert "fer-augment report" in html.unescape(text).replace("\xa0", " ")
