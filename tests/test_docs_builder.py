"""The strategies page: sections are complete, and pictures exist, have alternative texts and are up to date."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from docs.builder.charts import bar_chart, line_chart
from docs.builder.page import catalog_page
from docs.builder.pictures import ILLUSTRATIONS, write_pictures
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.strategy_description import described
from tests.libraries import need_library_of
from tests.markdown import DOCS

PICTURES = DOCS / "pictures"
SHIPPED = [
    described(offer)
    for offer in installed_plugins().of_kind("strategy")
    if offer.module.startswith("fer_augment_plugins.")
]
SVG = "{http://www.w3.org/2000/svg}"


class TestSections:
    @pytest.mark.parametrize("one", SHIPPED, ids=lambda one: one.name)
    def test_a_section_has_when_cost_values_and_sources(self, one):
        assert one.when and one.cost and one.values and one.sources
        section = catalog_page().split(f"\n## {one.name}\n")[1].split("\n## ")[0]
        for label, text in (("helps when", one.when), ("costs", one.cost), ("try", one.values)):
            assert f"\n- **{label}**: {text}\n" in section

    def test_every_strategy_is_used_by_a_shipped_recipe(self):
        assert [one.name for one in SHIPPED if not one.recipes] == []

    @pytest.mark.parametrize("one", [one for one in SHIPPED if one.measured], ids=lambda one: one.name)
    def test_measured_differences_are_those_of_the_recipe_on_the_results_page(self, one):
        (recipe,) = re.findall(r"\(recipe `(\w+)`\)", one.measured)
        assert recipe in one.recipes
        results = (DOCS / "results.md").read_text(encoding="utf-8")
        passages = re.split(r"\n(?=\n|- |\|)", results)  # paragraphs, list items and rows of tables
        measured = differences(one.measured)
        assert len(measured) == one.measured.count(" to ") > 0
        assert any(f"`{recipe}`" in passage and measured <= differences(passage) for passage in passages)

    def test_lists_in_docstrings_are_rendered_as_lists(self):
        assert "\n- `misclassified`: rows" in catalog_page()


class TestPictures:
    @pytest.fixture(scope="class")
    @classmethod
    def redrawn(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("pictures")
        (folder / "removed_strategy.png").write_bytes(b"")
        write_pictures(folder)
        return folder

    def test_each_shipped_strategy_has_exactly_one_picture(self, redrawn):
        assert list(ILLUSTRATIONS) == [one.name for one in SHIPPED]
        files = {f"{name}{illustration.suffix}" for name, illustration in ILLUSTRATIONS.items()}
        assert {file.name for file in PICTURES.iterdir()} == files
        drawn = {f"{name}{one.suffix}" for name, one in ILLUSTRATIONS.items() if one.is_drawable}
        assert {file.name for file in redrawn.iterdir()} == drawn

    def test_each_section_shows_its_picture_with_a_distinct_alternative_text(self):
        page = (DOCS / "strategies.md").read_text(encoding="utf-8")
        pictures = re.findall(r"\n## (\w+)\n\n[^\n]+\n\n!\[([^\]]+)\]\(pictures/([^)]+)\)\n", page)
        assert pictures == [(name, one.alt, f"{name}{one.suffix}") for name, one in ILLUSTRATIONS.items()]
        texts = [text for _, text, _ in pictures]
        assert len(set(texts)) == len(texts)
        assert all(len(text.split()) >= 10 and text.endswith(".") for text in texts)

    def test_files_are_small(self):
        sizes = {file.name: file.stat().st_size for file in PICTURES.iterdir()}
        assert max(sizes.values()) < 48_000, sizes
        assert sum(sizes.values()) < 1_000_000

    @pytest.mark.parametrize("name", ILLUSTRATIONS)
    def test_pictures_are_up_to_date(self, name, redrawn):
        need_library_of(name)
        file = f"{name}{ILLUSTRATIONS[name].suffix}"
        old, new = PICTURES / file, redrawn / file
        advice = "out of date: run make docs"
        if file.endswith(".svg"):
            assert words_and_numbers(old)[0] == words_and_numbers(new)[0], advice
            assert words_and_numbers(new)[1] == pytest.approx(words_and_numbers(old)[1], abs=2), advice
            return
        # A few pixels may be rounded differently with other processors or library versions.
        actual, expected = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (new, old))
        assert actual.shape == expected.shape, advice
        assert np.abs(actual.astype(int) - expected).mean() < 0.5, advice

    @pytest.mark.parametrize("name", ["confusion_mix", "hard_examples", "random_erasing", "power_sampler"])
    def test_drawing_is_deterministic(self, name, redrawn):
        need_library_of(name)
        assert ILLUSTRATIONS[name].draw() == (redrawn / f"{name}{ILLUSTRATIONS[name].suffix}").read_bytes()


def differences(text: str) -> set[tuple[str, ...]]:
    """Return each difference with the limits of its interval, from `+3.8 points (95 % CI +2.1 to +5.5)` or shorter."""
    number = r"([+-]\d+\.\d)"
    return set(re.findall(rf"{number}(?: points)? \((?:95 % CI )?{number} to {number}\)", " ".join(text.split())))


def words_and_numbers(file: Path) -> tuple[str, list[float]]:
    """Return the text of a chart without its numbers, and the numbers, which may differ in the last digit."""
    number = r"-?\d+(?:\.\d+)?"
    text = file.read_text(encoding="utf-8")
    return re.sub(number, "0", text), [float(digits) for digits in re.findall(number, text)]


class TestCharts:
    @staticmethod
    def bars(chart: str, color: str) -> list[tuple[float, float]]:
        """Return the start and length of each bar of a color; the first rectangle is the square in the legend."""
        rects = ElementTree.fromstring(chart).iter(f"{SVG}rect")
        return [
            (float(rect.attrib["x"]), float(rect.attrib["width"])) for rect in rects if rect.attrib["fill"] == color
        ][1:]

    def test_bars_start_at_zero_with_lengths_proportional_to_their_values(self):
        chart = bar_chart("T", ["a", "b", "c"], {"without": [1, 1, 1], "with": [2, 0, -1]}, baseline="without")
        (zero, unit), *_ = self.bars(chart, "#8a929b")
        assert self.bars(chart, "#8a929b") == [(zero, unit)] * 3
        positive, empty, negative = self.bars(chart, "#0072b2")
        assert positive == pytest.approx((zero, 2 * unit), abs=0.2)
        assert empty == pytest.approx((zero, 0))
        assert negative == pytest.approx((zero - unit, unit), abs=0.2)

    def test_values_and_names_are_shown_and_escaped(self):
        chart = bar_chart("T & <t>", ["<b>", "c"], {'"s"': [0.123, -4]}, digits=1)
        texts = [text.text for text in ElementTree.fromstring(chart).iter(f"{SVG}text")]
        assert {"T & <t>", "<b>", "c", '"s"', "0.1", "-4.0"} <= set(texts)
        assert ElementTree.fromstring(chart).findtext(f"{SVG}title") == "T & <t>"

    def test_lines_go_through_their_points(self):
        chart = line_chart("T", "x", {"one": [(0, 0), (1, 2)], "other": [(0, 2), (1, 0)]})
        one, other = (line.attrib["points"].split() for line in ElementTree.fromstring(chart).iter(f"{SVG}polyline"))
        (left, bottom), (right, top) = (map(float, point.split(",")) for point in one)
        assert other == [f"{left},{top}", f"{right},{bottom}"]
        assert left < right and top < bottom
