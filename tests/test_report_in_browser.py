"""The HTML report in a browser: layout at several widths, content security policy, printing. Needs `chromium`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fer_augment as fa
from fer_augment.reports.html import SECTIONS, write_report
from tests.comparison_directory import write_comparison
from tests.html_page import parse

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip

MEASURE = """<script>
const width = document.documentElement.clientWidth;
const boxOf = one => one.getBoundingClientRect();
const over = [...document.body.querySelectorAll("*")].filter(one => one.closest(".scroll, .hidden, svg") === null)
  .filter(one => boxOf(one).right > width + 0.5 || boxOf(one).left < -0.5);
const boxes = [...document.querySelectorAll("section, figure, svg[role=img], img")].map(boxOf);
const measured = document.createElement("pre");
measured.id = "measured";
measured.textContent = JSON.stringify({
  width,
  scroll: document.documentElement.scrollWidth,
  over: over.map(one => `${one.tagName}.${one.className}: ${one.textContent.slice(0, 60)}`),
  empty: boxes.filter(box => box.width < 4 || box.height < 4).length,
  unread: [...document.images].filter(one => !one.complete || one.naturalWidth === 0).length,
});
document.body.append(measured);
</script>"""
FRAME = """<!doctype html><iframe src="measured.html" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>onload = () => document.body.append(frames[0].document.getElementById("measured"))</script>"""
LONG_NAME = "recipe_with_a_name_that_goes_on_and_on_" * 3


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder, warnings=["the faces are synthetic"])
    return write_report(folder)


def browse(page: Path, profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser without network access."""
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [str(CHROMIUM), *FLAGS, offline, f"--user-data-dir={profile}", *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def console_of(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the console messages of a page, including those of the browser."""
    return re.findall(r"CONSOLE[:(].*", ran.stderr)


def measured(report: Path, folder: Path, width: int) -> dict[str, object]:
    """Lay a report out at a width, without its content security policy, and measure what overflows."""
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text(encoding="utf-8"))
    (folder / "measured.html").write_text(html.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    page = folder / "frame.html"  # a window would be at least 500 pixels wide
    page.write_text(FRAME.format(width=width), encoding="utf-8")
    ran = browse(page, folder / "profile", "--allow-file-access-from-files", "--dump-dom")
    (measurements,) = parse(ran.stdout).find("pre", id="measured")
    return json.loads(measurements.text)


def test_the_console_is_empty_and_all_sections_are_rendered(report, tmp_path):
    ran = browse(report, tmp_path / "profile", "--dump-dom")
    assert console_of(ran) == []
    page = parse(ran.stdout)
    assert [one.attributes["id"] for one in page.find("section")] == list(SECTIONS)


def test_a_violation_of_the_policy_is_reported_on_the_console(report, tmp_path):
    page = tmp_path / "broken.html"
    broken = report.read_text(encoding="utf-8").replace(
        "</body>", '<img src="https://example.org/x.png" alt="x"></body>'
    )
    page.write_text(broken, encoding="utf-8")
    assert any(
        "Content Security Policy" in line for line in console_of(browse(page, tmp_path / "profile", "--dump-dom"))
    )


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_nothing_is_wider_than_the_window(report, tmp_path, width):
    layout = measured(report, tmp_path, width)
    assert layout == {"width": width, "scroll": width, "over": [], "empty": 0, "unread": 0}


def test_long_names_and_many_classes_fit_a_phone(tmp_path):
    write_comparison(
        tmp_path,
        arms=(LONG_NAME, f"{LONG_NAME}2"),
        class_names=("bee", "an insect of the family Formicidae, with spaces", "cat" * 30),
        source="/a/long/path" * 12,
        settings={"description": "word" * 60},
        environment={"a name" * 10: "value" * 40},
    )
    layout = measured(write_report(tmp_path), tmp_path, 390)
    assert (layout["width"], layout["scroll"], layout["over"]) == (390, 390, [])


def test_bars_of_every_two_arms_fit_a_phone(tmp_path):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    tables: list[dict[str, Any]] = [
        {
            "id": np.arange(300), "true": true, "arm": [f"recipe_with_a_long_name_{arm}"] * 300, "seed": [seed] * 300,
            "predicted": np.where(rng.random(300) < 0.5 + 0.02 * arm, true, (true + 1) % 3),
        }
        for arm in range(20) for seed in range(3)
    ]  # fmt: skip
    fa.judge(tables, against="all", out=tmp_path, progress=False)
    layout = measured(tmp_path / "report.html", tmp_path, 390)
    assert layout == {"width": 390, "scroll": 390, "over": [], "empty": 0, "unread": 0}


def test_it_prints(report, tmp_path):
    pdf = tmp_path / "report.pdf"
    browse(report, tmp_path / "profile", f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 30
