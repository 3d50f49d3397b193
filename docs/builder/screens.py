"""Screenshots of the first page: a comparison in the terminal, and its report in a browser.

`python -m docs.builder.screens results/demo docs/screens` draws them from a finished comparison; needs Chromium.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fer_augment import Comparison, load_comparison
from fer_augment.reports.terminal import print_comparison

COLUMNS, SHOWN_LINES = 100, 35
REPORT_SIZE = (1200, 1500)


def draw(comparison_directory: Path, folder: Path) -> None:
    """Write `terminal.svg` and `report.png`.

    Raises:
        RuntimeError: if there is no Chromium.
    """
    folder.mkdir(parents=True, exist_ok=True)
    comparison = load_comparison(comparison_directory)
    (folder / "terminal.svg").write_text(terminal_svg(comparison), encoding="utf-8")
    photograph(comparison_directory / "report.html", folder / "report.png")


def terminal_svg(comparison: Comparison) -> str:
    """Return the first lines of the terminal output as an SVG, which loads nothing from elsewhere."""
    screen = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    screen.print("[bold]$ fer-augment report results/demo[/bold]")
    captured = Console(
        width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False, color_system="truecolor"
    )
    print_comparison(comparison, captured)
    assert isinstance(captured.file, io.StringIO)
    for line in captured.file.getvalue().splitlines()[:SHOWN_LINES]:
        screen.print(Text.from_ansi(line), soft_wrap=True)
    svg = screen.export_svg(title="fer-augment", unique_id="terminal")
    return re.sub(r"(?s)@font-face \{.*?\}\n", "", svg)  # fonts of a server; the browser has a monospace font


def photograph(page: Path, picture: Path) -> None:
    """Write a picture of the top of a page.

    Raises:
        RuntimeError: if there is no Chromium, or it fails.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise RuntimeError("there is no chromium on PATH")
    width, height = REPORT_SIZE
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            f"--window-size={width},{height}", f"--screenshot={picture.absolute()}", page.absolute().as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not picture.is_file():
        raise RuntimeError(f"chromium failed: {done.stderr.strip()[-300:]}")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
