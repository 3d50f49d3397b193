"""Parse documentation pages for tests: sections, code blocks, commands and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: name of the file.
        language: info string of the fence.
        text: the code.
        line: line of the page on which the code begins.
        section: nearest heading above.
    """

    page: str
    language: str
    text: str
    line: int
    section: str


def blocks_of(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    blocks: list[Block] = []
    section, language, code = "", None, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.fullmatch(r"```(\w*)", line)
        if fence and language is None:
            language, code = fence[1], []
        elif fence:
            blocks.append(Block(page.name, language or "", "\n".join(code) + "\n", number - len(code), section))
            language = None
        elif language is not None:
            code.append(line)
        elif line.startswith("#"):
            section = line.lstrip("# ")
    assert language is None, f"{page.name}: a block is not closed"
    return blocks


def pages() -> list[Path]:
    """Return all pages of documentation."""
    top = (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    return [*top, *sorted(DOCS.rglob("*.md"))]


def prose_of(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))


def commands_of(page: Path) -> list[list[str]]:
    """Return the arguments of each `fer-augment …` command in the `sh` and `console` blocks of a page."""
    commands = []
    for block in blocks_of(page):
        prompt = {"sh": "", "console": "$ "}.get(block.language)
        if prompt is not None:
            lines = block.text.replace("\\\n", " ").splitlines()
            typed = [line.removeprefix(prompt) for line in lines if line.startswith(prompt)]
            commands += [words[1:] for line in typed if (words := _words(line))[:1] == ["fer-augment"]]
    return commands


def mentioned_commands_of(page: Path) -> list[list[str]]:
    """Return the arguments of each inline command `fer-augment …`; required arguments may be missing."""
    return [_words(command)[1:] for command in re.findall(r"`(fer-augment\s[^`]+)`", prose_of(page))]


def headings_of(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, in GitHub's format."""
    return {_anchor(heading) for heading in re.findall(r"(?m)^#+ (.+)$", prose_of(page))}


def links_of(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and anchor of each link within the project; the file may be the page itself."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


def _words(line: str) -> list[str]:
    """Return the words of a command up to a comment, a pipe or a redirection."""
    words = shlex.split(line, comments=True)
    ends = [place for place, word in enumerate(words) if word in ("|", ">", "&&")]
    return words[: min(ends, default=len(words))]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
