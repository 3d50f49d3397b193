"""`fer-augment report`: formats, exit codes and error messages."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import Any

import pytest

from fer_augment.reports.published import TEST_COUNTS
from fer_augment.results.comparison import ComparisonRecord, save_comparison
from fer_augment.results.verdicts import compare_runs
from tests.command_line import assert_readable, assert_refused, fer_augment
from tests.synthetic_runs import counts_by_split, write_arm


def written(folder, recipes, counts, names) -> ComparisonRecord:
    recall = [0.5] * len(names)
    runs = {one: write_arm(folder / "runs", one, recall, counts=counts, class_names=names) for one in recipes}
    facts: dict[str, Any] = {"source": "faces", "fingerprint": "f" * 64, "counts": counts_by_split(counts)}
    comparison = compare_runs(runs, baseline=recipes[0], **facts)
    save_comparison(comparison, folder)
    return comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def comparison(folder):
    return written(folder, ["base", "other"], (40, 30, 20), ("ant", "bee", "cat"))


@pytest.mark.usefixtures("comparison")
def test_the_terminal_format_is_readable_at_80_columns(folder):
    ran = fer_augment("report", str(folder), "--format", "terminal")
    assert (ran.code, ran.err) == (0, "")
    assert_readable(ran)
    assert "other vs. base" in ran.out


def test_json_is_the_comparison(folder, comparison):
    ran = fer_augment("report", str(folder), "--format", "json")
    assert ComparisonRecord.model_validate(json.loads(ran.out)) == comparison


def test_csv_and_markdown_go_to_stdout(folder, comparison):
    rows = list(csv.DictReader(io.StringIO(fer_augment("report", str(folder), "--format", "csv").out)))
    assert {row["arm"] for row in rows} == {"base", "other"}
    assert float(rows[0]["mean"]) == comparison.arms[0].test.accuracy.mean
    assert fer_augment("report", str(folder), "--format", "markdown").out.startswith(
        "# faces: 3 classes, 90 test images"
    )


def test_without_a_format_the_summary_is_printed_and_the_html_report_rewritten(tmp_path, comparison):
    save_comparison(comparison, tmp_path)
    file = tmp_path / "report.html"
    file.write_text("an old report")
    ran = fer_augment("report", str(tmp_path))
    assert ran.out == fer_augment("report", str(tmp_path), "--format", "terminal").out
    assert (ran.code, ran.err) == (0, f"Report with figures: {file}\n")
    assert "other" in file.read_text() and "an old report" not in file.read_text()


def test_the_html_format_writes_the_report_and_prints_its_path(tmp_path, comparison):
    save_comparison(comparison, tmp_path)
    ran = fer_augment("report", str(tmp_path), "--format", "html")
    assert (ran.code, ran.out, ran.err) == (0, f"{tmp_path / 'report.html'}\n", "")
    assert "<html" in (tmp_path / "report.html").read_text()


def test_published_results_are_added_by_the_option(tmp_path):
    written(tmp_path, ["paper", "confusion_mirror"], tuple(TEST_COUNTS.values()), tuple(TEST_COUNTS))
    for chosen in ("terminal", "markdown"):
        plain = fer_augment("report", str(tmp_path), "--format", chosen).out
        ran = fer_augment("report", str(tmp_path), "--format", chosen, "--published")
        assert ran.code == 0
        assert "Originating report (one training) and our results" in ran.out
        assert "Originating report" not in plain
    assert "| 5 | paper | 3 | test accuracy, % | 61.2 |" in ran.out


@pytest.mark.usefixtures("comparison")
def test_published_results_are_refused_for_other_data(folder):
    ran = fer_augment("report", str(folder), "--format", "terminal", "--published")
    assert_refused(ran, "--published: ", "FER2013's PrivateTest split", "paper, convnet5, confusion_mirror")


@pytest.mark.usefixtures("comparison")
@pytest.mark.parametrize("chosen", ["csv", "html", "json"])
def test_published_results_are_refused_for_other_formats(folder, chosen):
    ran = fer_augment("report", str(folder), "--format", chosen, "--published")
    assert (ran.code, ran.out) == (2, "")
    assert f"not {chosen}" in ran.err


def test_a_directory_without_a_comparison_is_refused(tmp_path):
    assert_refused(fer_augment("report", str(tmp_path)), "comparison.json: ", "`fer-augment compare")
    assert_refused(fer_augment("report", str(tmp_path / "nowhere")), "nowhere", "`fer-augment compare")


@pytest.mark.parametrize("options", [[], ["--format", "html"]])
def test_a_report_that_cannot_be_written_is_a_one_line_error(tmp_path, comparison, options):
    save_comparison(comparison, tmp_path)
    (tmp_path / "report.html").mkdir()
    ran = fer_augment("report", str(tmp_path), *options)
    assert ran.code == 2
    assert ran.err == f"fer-augment: {tmp_path / 'report.html'}: cannot be written (Is a directory)\n"


@pytest.mark.parametrize("content", ["{", '{"schema_version": 7}', "[1]"])
def test_a_damaged_comparison_is_refused(tmp_path, content):
    (tmp_path / "comparison.json").write_text(content)
    assert_refused(fer_augment("report", str(tmp_path)), str(tmp_path / "comparison.json"))


@pytest.mark.usefixtures("comparison")
@pytest.mark.parametrize("chosen", ["terminal", "markdown", "csv", "json"])
def test_slow_imports_are_avoided(folder, chosen):
    program = (
        f"from fer_augment.cli import main; main(['report', {str(folder)!r}, '--format', {chosen!r}]); "
        "import sys; sys.exit(sorted({'torch', 'albumentations', 'scipy.stats', 'matplotlib', 'cv2'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stderr.strip() == "[]"
