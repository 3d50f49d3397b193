"""The example notebook runs from top to bottom in a Jupyter kernel, and is committed without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.html_page import parse

NOTEBOOK = Path(__file__).parents[1] / "docs" / "compare_recipes.ipynb"


def test_it_runs_and_displays_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells[3].source = notebook.cells[3].source.replace("seeds=3", "seeds=2, overrides=['training.epochs=1']")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (displayed,) = (
        output["data"]["text/html"]
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.endswith("\ncomparison")
        for output in cell.outputs
        if output.output_type == "execute_result"
    )
    text = parse(displayed).text
    assert "demo_balanced" in text and "balanced accuracy" in text
    assert (tmp_path / "results/notebook/report.html").is_file()


def test_it_has_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
