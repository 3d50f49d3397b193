"""Comparisons of many classes and arms: reports stay small and show what matters."""

from __future__ import annotations

import base64
import re
import shutil
from typing import Any

import cv2
import numpy as np
import pytest

import fer_augment as fa
from fer_augment.reports.html import report_html
from fer_augment.reports.matrices import confusion_matrix_figure, difference_maps, heat_maps
from fer_augment.reports.notable import MOST_ROWS, SHOWN_CELLS, SHOWN_ROWS, matrix_classes, notable_classes
from fer_augment.reports.tables import csv_table, markdown
from fer_augment.results.comparison import Confusion, Statistic, read_comparison, save_comparison
from tests.html_page import parse

CLASSES = 100
ROWS = 20
SEEDS = 5
BETTER, WORSE = "class_007", "class_042"


def compared(classes: int = CLASSES, arms: int = 3, rows: int = ROWS) -> fa.Comparison:
    """Compare arms of which the last is much better in one class and much worse in another."""
    true = np.repeat(np.arange(classes), rows)
    names = np.array([f"class_{number:03}" for number in range(classes)])
    tables: list[Any] = []
    for arm in range(arms):
        recall = np.full(classes, 0.6)
        recall[7], recall[42 % classes] = (1.0, 0.0) if arm == arms - 1 else (0.1, 0.9)
        for seed in range(SEEDS):
            rng = np.random.default_rng([arm, seed])
            right = rng.random(len(true)) < recall[true]
            predicted = np.where(right, true, (true + rng.integers(1, classes, len(true))) % classes)
            tables.append(
                {
                    "id": np.arange(len(true)),
                    "true": names[true],
                    "predicted": names[predicted],
                    "arm": [f"arm_{arm}"] * len(true),
                    "seed": [seed] * len(true),
                }  # fmt: skip
            )
    return fa.judge(tables, baseline="arm_0", progress=False)


@pytest.fixture(scope="module")
def comparison() -> fa.Comparison:
    return compared()


@pytest.fixture(scope="module")
def html(comparison, tmp_path_factory) -> str:
    return report_html(comparison, tmp_path_factory.mktemp("runs"))


def test_tables_have_the_classes_that_changed_most(comparison):
    changed = comparison.versus[-1]
    assert {changed.recall[BETTER].verdict, changed.recall[WORSE].verdict} == {"better", "worse"}
    shown = notable_classes(comparison, changed)
    assert len(shown) == SHOWN_ROWS and {BETTER, WORSE} <= set(shown)
    assert list(shown) == sorted(shown), "in class order"
    least = min(abs(changed.recall[name].delta) for name in shown)
    others = set(comparison.class_names) - set(shown)
    assert max(abs(changed.recall[name].delta) for name in others) <= least
    assert "70 other classes changed less; all are in the CSV table." in markdown(comparison)


def test_watched_classes_come_first(comparison):
    one = Statistic(mean=0.0, sd=0.0, n=3, ci95=(0.0, 0.0))
    watched = (Confusion(true="class_098", predicted="class_099", count=one),)
    arms = tuple(arm.model_copy(update={"watched": watched}) for arm in comparison.arms)
    changed = comparison.model_copy(update={"arms": arms})
    assert {"class_098", "class_099"} <= set(matrix_classes(changed)) & set(notable_classes(changed, changed.versus[0]))


def test_all_classes_are_in_the_csv_table(comparison):
    assert all(f",recall,{name}," in csv_table(comparison) for name in comparison.class_names)


def test_few_classes_are_all_shown():
    few = compared(MOST_ROWS, arms=2)
    assert notable_classes(few, few.versus[0]) == few.class_names


def test_matrices_have_some_classes_and_a_column_for_the_others(comparison):
    shown = matrix_classes(comparison)
    assert len(shown) == SHOWN_CELLS and {BETTER, WORSE} <= set(shown)
    figure = confusion_matrix_figure(comparison, comparison.arms[0], shown)
    assert figure.classes == (*shown, "88 others")
    for _, cells in figure.rows:
        assert sum(int(cell.main) for cell in cells) == pytest.approx(100, abs=len(cells) / 2)


def test_the_choice_of_classes_in_matrices_is_explained(comparison, html, tmp_path):
    alone = report_html(comparison.model_copy(update={"arms": comparison.arms[:1], "versus": ()}), tmp_path)
    for page, words in ((html, "whose recall changed most"), (alone, "have the lowest recall in the first arm")):
        assert f"that are watched or {words}." in " ".join(page.split())


def pixels_of(picture: str) -> np.ndarray:
    content = base64.b64decode(picture.removeprefix("data:image/png;base64,"))
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_heat_maps_have_a_pixel_for_each_pair(comparison):
    (heat_map, *_) = heat_maps(comparison.arms, comparison.class_names)
    pixels = pixels_of(heat_map.picture)
    confusion = np.array(comparison.arms[0].test.confusion)
    assert pixels.shape == (CLASSES, CLASSES, 3)
    assert (pixels[confusion == 0] == 255).all() and (pixels[confusion > 5] < 255).any(axis=-1).all()
    true, predicted, text = heat_map.largest[0]
    np.fill_diagonal(confusion, 0)
    assert confusion[int(true[-3:]), int(predicted[-3:])] == confusion.max()
    assert re.fullmatch(r"\d+ %, [\d.]+ images", text)


def test_difference_maps_are_blue_where_better_and_orange_where_worse(comparison):
    baseline, *others = comparison.arms
    pixels = pixels_of(difference_maps(others, baseline, comparison.class_names)[-1].picture).astype(int)
    better, worse = pixels[7, 7], pixels[42, 42]
    assert better[2] > better[0] and worse[0] > worse[2]


def test_the_report_is_small_and_complete(html):
    assert len(html) < 1e6
    page = parse(html)
    assert len(list(page.find("table", class_="matrix"))) == 5
    assert len(list(page.find("img", class_="heat"))) == 5
    assert len(list(page.find("svg", class_="caterpillar"))) == 2
    assert "All 100 classes in order of their difference" in html
    assert "the 12 that are watched or whose recall changed most" in " ".join(html.split())


def test_the_size_hardly_grows_with_the_number_of_classes(html, tmp_path):
    many = report_html(compared(400, arms=3, rows=3), tmp_path)
    assert len(many) < 1.5 * len(html), "four times as many classes"
    assert "Recall, precision and F1 of all 400 classes" in many


def test_counts_are_written_in_one_line_and_read_back(comparison, tmp_path):
    file = save_comparison(comparison, tmp_path)
    assert read_comparison(tmp_path).arms == comparison.arms
    text = file.read_text(encoding="utf-8")
    assert re.search(r"\n *\[(\d+,){99}\d+\]", text)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on PATH")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(html, tmp_path, width):
    from tests.test_report_in_browser import measured

    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    layout = measured(path, tmp_path, width)
    assert (layout["scroll"], layout["over"], layout["empty"], layout["unread"]) == (width, [], 0, 0)
