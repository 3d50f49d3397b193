"""Documentation as a test sees it: sections and blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: the name of the file.
        language: what stands behind the fence.
        text: the code.
        line: the line of the page on which the code begins.
        section: the nearest heading above.
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
