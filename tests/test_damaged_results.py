"""Damaged comparisons and run records are shown, or refused in one line; nothing ends in a traceback.

Each case damages one file many times, from a seed. `FUZZ=N` (`make fuzz`) tries N times as many.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_augment.data.records import RunDirectory
from fer_augment.errors import FerAugmentError
from fer_augment.reports.console import ResultsConsole
from fer_augment.reports.html import report_html
from fer_augment.reports.tables import csv_table, github_summary, markdown
from fer_augment.reports.terminal import print_comparison
from fer_augment.results.comparison import ComparisonRecord, read_comparison
from tests.command_line import assert_refused, fer_augment
from tests.comparison_directory import write_comparison
from tests.mutations import mutated, mutated_json

FUZZ = int(os.environ.get("FUZZ", "1"))
LONGEST_MESSAGE = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder)
    return folder


def assert_one_line(error: Exception) -> None:
    assert str(error).isprintable() and len(str(error)) <= LONGEST_MESSAGE, error


def damaged_texts(content: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield damaged versions of a JSON file; every third one is damaged as bytes, the others in their structure."""
    value = json.loads(content)
    for number in range(count):
        if number % 3 == 0:
            yield mutated(content, rng)
        else:
            yield json.dumps(mutated_json(value, rng)).encode("utf-8", "surrogatepass")


def show(comparison: ComparisonRecord, folder: Path, *, with_html: bool) -> None:
    print_comparison(comparison, ResultsConsole(file=io.StringIO(), width=80))
    for text in (markdown(comparison), github_summary(comparison), csv_table(comparison)):
        assert all(line.isprintable() for line in text.splitlines())
    if with_html:
        report_html(comparison, folder)


def test_a_damaged_comparison_is_shown_or_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    whole, rng = (folder / "comparison.json").read_bytes(), random.Random(18)
    refused = shown = 0
    for content in damaged_texts(whole, rng, 700 * FUZZ):
        (tmp_path / "comparison.json").write_bytes(content)
        try:
            comparison = read_comparison(tmp_path)
        except FerAugmentError as error:
            assert_one_line(error)
            refused += 1
            continue
        try:
            show(comparison, tmp_path, with_html=shown % 10 == 0)
        except Exception as error:
            error.add_note(content.decode("utf-8", "replace"))
            raise
        shown += 1
    assert refused > 100 and shown > 10, "both happen"


def test_a_damaged_record_of_a_run_is_read_or_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    file = next(folder.glob("runs/*/*/record.json"))
    whole, rng = file.read_bytes(), random.Random(19)
    for content in damaged_texts(whole, rng, 700 * FUZZ):
        (tmp_path / "record.json").write_bytes(content)
        try:
            _ = RunDirectory(tmp_path).record
        except FerAugmentError as error:
            assert_one_line(error)
        except Exception as error:
            error.add_note(content.decode("utf-8", "replace"))
            raise


def test_a_report_beside_damaged_runs_is_written(folder: Path, tmp_path: Path) -> None:
    comparison, rng = read_comparison(folder), random.Random(20)
    copies = {file: tmp_path / file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    for number in range(12 * FUZZ):
        for file, copied in copies.items():
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(file.read_bytes())
        damaged = rng.choice([copied for copied in copies.values() if copied.name != "comparison.json"])
        if damaged.suffix == ".json":
            content = json.dumps(mutated_json(json.loads(damaged.read_bytes()), rng)).encode("utf-8", "surrogatepass")
        else:
            content = mutated(damaged.read_bytes(), rng)
        damaged.write_bytes(content)
        try:
            report_html(comparison, tmp_path)
        except FerAugmentError as error:
            assert_one_line(error)
        except Exception as error:
            error.add_note(f"{damaged} number {number}")
            raise


@settings(max_examples=60 * FUZZ, deadline=None, suppress_health_check=list(HealthCheck), derandomize=FUZZ == 1)
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_any_name_of_an_arm_and_any_warning_is_shown(comparison_json: str, name: str, warning: str) -> None:
    value = json.loads(comparison_json)
    value["warnings"] = [warning]
    for part in ("arms", "versus"):
        for one in value[part]:
            one["recipe"] = name if one["recipe"] == "good" else one["recipe"]
    try:
        comparison = ComparisonRecord.model_validate(value)
    except ValueError:  # the name of another arm
        return
    show(comparison, Path(os.devnull), with_html=False)


@pytest.fixture(scope="module")
def comparison_json(folder: Path) -> str:
    return (folder / "comparison.json").read_text(encoding="utf-8")


# --- cases that once ended in a traceback, hung, or passed


def changed(folder: Path, tmp_path: Path, change) -> Path:
    value = json.loads((folder / "comparison.json").read_bytes())
    change(value)
    (tmp_path / "comparison.json").write_text(json.dumps(value), encoding="utf-8")
    return tmp_path


def test_a_missing_class_is_refused_with_its_place(folder: Path, tmp_path: Path) -> None:
    ran = fer_augment("report", str(changed(folder, tmp_path, lambda value: value["arms"][1]["test"]["f1"].popitem())))
    assert_refused(ran, "comparison.json: is not a readable comparison (arms.1.test.f1: the classes differ")


@pytest.mark.parametrize(("change", "message"), [
    (lambda value: value.update(arms=[], versus=[]), "arms: Tuple should have at least 1 item"),
    (lambda value: value["arms"][0]["test"]["accuracy"].update(n=0), "arms.0.test.accuracy: expected the score of"),
    (lambda value: value["arms"][0]["test"]["recall"]["ant"].update(mean=1e30), "recall.ant: the mean 1e+30 is not"),
    (lambda value: value["seeds_for_precision"].update(x=3), "seeds_for_precision.x"),
    (lambda value: value.update(cross_validation={"folds": 0, "repeats": 1, "keeps_test": False}), "folds: Input"),
    (lambda value: value["data"]["counts"]["test"].update(ant=0), "test_deduplicated: more rows of a class than in"),
    (lambda value: value["arms"][1].update(train_counts={}), "arms.1.train_counts: the classes differ"),
    (lambda value: value["arms"][0].update(folds=[{"repeat": 0, "number": 0, "folds": 5}]), "arms.0.folds: expected a"),
    (lambda value: value["arms"][1].update(parameter_count=None), "arms: some have a parameter_count"),
])  # fmt: skip
def test_a_comparison_that_contradicts_itself_is_refused(folder: Path, tmp_path: Path, change, message: str) -> None:
    with pytest.raises(FerAugmentError, match=re.escape(message)):
        read_comparison(changed(folder, tmp_path, change))


def test_a_schema_version_that_is_a_list_is_refused(folder: Path, tmp_path: Path) -> None:
    ran = fer_augment("report", str(changed(folder, tmp_path, lambda value: value.update(schema_version=[2]))))
    assert_refused(ran, "has schema version [2]")


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").mkdir()
    assert_refused(fer_augment("report", str(tmp_path)), "comparison.json: Is a directory")


def test_many_and_long_warnings_are_cut(folder: Path, tmp_path: Path) -> None:
    def add(value) -> None:
        value["warnings"] = ["x" * 10_000_000, *(f"warning {number}" for number in range(100_000))]

    directory = changed(folder, tmp_path, add)
    for chosen in ("terminal", "markdown", "github"):
        ran = fer_augment("report", str(directory), "--format", chosen)
        assert ran.code == 0 and len(ran.out) < 50_000
        assert "and 99,901 more, see comparison.json" in ran.out
    assert fer_augment("report", str(directory), "--format", "html").code == 0
    assert (directory / "report.html").stat().st_size < 500_000


def test_escape_sequences_and_formulas_do_not_pass(folder: Path, tmp_path: Path) -> None:
    def rename(value) -> None:
        text = json.dumps(value).replace('"good"', '"\\u001b[31m=good"').replace('"bee"', '"=1+1"')
        value.clear()
        value.update(json.loads(text))

    directory = changed(folder, tmp_path, rename)
    for chosen in ("csv", "markdown", "github", "terminal"):
        out = fer_augment("report", str(directory), "--format", chosen).out
        assert "\x1b" not in out
        assert all(line.isprintable() for line in out.splitlines())
    table = fer_augment("report", str(directory), "--format", "csv").out
    assert ",'=1+1," in table and ",=1+1," not in table
