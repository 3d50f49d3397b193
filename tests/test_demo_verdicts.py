"""`python -m benchmarks demo-verdicts` judges disjoint lists of seeds and counts verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.demo_verdicts import KIND, PLACE, judged_lists, verdict_table
from benchmarks.gains_page import check_place
from fer_augment.data.records import RunDirectory
from fer_augment.results.verdicts import compare_runs
from tests.synthetic_runs import counts_by_split, write_arm

COUNTS = (60, 60, 60)
NAMES: dict[str, Any] = {"class_names": ("disgust", "surprise", "cat")}
ENVIRONMENT = {"torch": "2.13.0", "device": "cpu", "processor": "Some", "architecture": "x86_64"}
FACTS: dict[str, Any] = {
    "baseline": "base",
    "source": "demo",
    "fingerprint": "f" * 64,
    "counts": counts_by_split(COUNTS),
}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, list[RunDirectory]]:
    """Seven runs each: one arm is far better in one class, one is the baseline again with other noise."""
    recalls = {"base": (0.1, 0.7, 0.7), "better": (0.9, 0.7, 0.7), "same": (0.1, 0.7, 0.7)}
    return {
        name: write_arm(tmp_path, name, recall, seeds=range(7), counts=COUNTS, environment=ENVIRONMENT, **NAMES)
        for name, recall in recalls.items()
    }


def test_lists_are_disjoint_and_judged_like_a_comparison_of_their_seeds(runs: dict[str, list[RunDirectory]]) -> None:
    whole = compare_runs(runs, **FACTS)
    lists = list(judged_lists(whole, runs, 3))
    assert [one.arm("base").seeds for one in lists] == [(0, 1, 2), (3, 4, 5)]
    second = compare_runs({name: of_arm[3:6] for name, of_arm in runs.items()}, **FACTS)
    assert lists[1].versus == second.versus


def test_the_table_counts_the_verdicts_of_the_lists(runs: dict[str, list[RunDirectory]]) -> None:
    whole = compare_runs(runs, **FACTS)
    text = verdict_table(whole, list(judged_lists(whole, runs, 3)))
    rows = [[cell.strip() for cell in line.split("|")[1:6]] for line in text.splitlines() if line.startswith("| `")]
    assert rows[:2] == [
        ["`better`", "balanced accuracy", "2", "0", "0"],
        ["`better`", "disgust", "2", "0", "0"],
    ]
    assert [row[:2] for row in rows[3:]] == [["`same`", end] for end in ("balanced accuracy", "disgust", "surprise")]
    assert all(sum(map(int, row[2:])) == 2 for row in rows)


def test_the_results_page_has_the_place_of_the_table() -> None:
    check_place(Path(__file__).parents[1] / "docs" / "results.md", PLACE, kind=KIND)
