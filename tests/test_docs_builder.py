"""The catalog of strategies: every card is complete, every picture is there, described in words, and up to date."""

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
from tests.markdown import DOCS

PICTURES = DOCS / "pictures"
BUILT_IN = [
    described(offer)
    for offer in installed_plugins().of_kind("strategy")
    if offer.module.startswith("fer_augment_plugins.")
]
SVG = "{http://www.w3.org/2000/svg}"


class TestCards:
    @pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
    def test_a_strategy_says_when_it_helps_what_it_costs_and_what_to_try(self, one):
        assert one.when and one.cost and one.values and one.sources
        card = catalog_page().split(f"\n## {one.name}\n")[1].split("\n## ")[0]
        for fact, text in (("helps when", one.when), ("costs", one.cost), ("try", one.values)):
            assert f"\n- **{fact}**: {text}\n" in card

    def test_every_strategy_is_used_by_a_shipped_recipe(self):
        assert [one.name for one in BUILT_IN if not one.recipes] == []

    @pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
    def test_what_is_said_to_be_measured_stands_on_the_page_of_results(self, one):
        results = (DOCS / "results.md").read_text(encoding="utf-8")
        for number in re.findall(r"[+-]?\d+\.\d", one.measured):
            assert number in results

    def test_lists_stay_lists(self):
        assert "\n- `misclassified`: rows" in catalog_page()


class TestPictures:
    @pytest.fixture(scope="class")
    @classmethod
    def redrawn(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("pictures")
        (folder / "of_a_strategy_that_is_gone.png").write_bytes(b"")
        write_pictures(folder)
        return folder

    def test_every_strategy_that_comes_with_the_package_has_one_and_there_are_no_others(self, redrawn):
        assert list(ILLUSTRATIONS) == [one.name for one in BUILT_IN]
        files = {f"{name}{illustration.suffix}" for name, illustration in ILLUSTRATIONS.items()}
        assert {file.name for file in PICTURES.iterdir()} == files
        assert {file.name for file in redrawn.iterdir()} == files

    def test_the_page_shows_each_with_a_text_of_its_own_in_its_place(self):
        page = (DOCS / "strategies.md").read_text(encoding="utf-8")
        shown = re.findall(r"\n## (\w+)\n\n[^\n]+\n\n!\[([^\]]+)\]\(pictures/([^)]+)\)\n", page)
        assert shown == [(name, one.alt, f"{name}{one.suffix}") for name, one in ILLUSTRATIONS.items()]
        texts = [text for _, text, _ in shown]
        assert len(set(texts)) == len(texts)
        assert all(len(text.split()) >= 10 and text.endswith(".") for text in texts)

    def test_they_are_small(self):
        sizes = {file.name: file.stat().st_size for file in PICTURES.iterdir()}
        assert max(sizes.values()) < 48_000, sizes
        assert sum(sizes.values()) < 1_000_000

    @pytest.mark.parametrize("name", ILLUSTRATIONS)
    def test_it_is_what_is_drawn_today(self, name, redrawn):
        file = f"{name}{ILLUSTRATIONS[name].suffix}"
        old, new = PICTURES / file, redrawn / file
        advice = "draw it again: make docs"
        if file.endswith(".svg"):
            assert words_and_numbers(old)[0] == words_and_numbers(new)[0], advice
            assert words_and_numbers(new)[1] == pytest.approx(words_and_numbers(old)[1], abs=2), advice
            return
        # Another processor or another version of a library may round a few pixels in another way.
        drawn, kept = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (new, old))
        assert drawn.shape == kept.shape, advice
        assert np.abs(drawn.astype(int) - kept).mean() < 0.5, advice

    @pytest.mark.parametrize("name", ["confusion_mix", "hard_examples", "random_erasing", "power_sampler"])
    def test_it_is_drawn_the_same_every_time(self, name, redrawn):
        assert ILLUSTRATIONS[name].draw() == (redrawn / f"{name}{ILLUSTRATIONS[name].suffix}").read_bytes()


def words_and_numbers(file: Path) -> tuple[str, list[float]]:
    """Take a chart apart, as numbers may differ in the last digit."""
    number = r"-?\d+(?:\.\d+)?"
    text = file.read_text(encoding="utf-8")
    return re.sub(number, "0", text), [float(found) for found in re.findall(number, text)]


class TestCharts:
    @staticmethod
    def bars(chart: str, color: str) -> list[tuple[float, float]]:
        """Return where each bar of a color begins and how long it is; the first is the square in the legend."""
        rects = ElementTree.fromstring(chart).iter(f"{SVG}rect")
        return [
            (float(rect.attrib["x"]), float(rect.attrib["width"])) for rect in rects if rect.attrib["fill"] == color
        ][1:]

    def test_bars_begin_at_zero_and_are_as_long_as_their_values(self):
        chart = bar_chart("T", ["a", "b", "c"], {"without": [1, 1, 1], "with": [2, 0, -1]}, plain="without")
        (zero, unit), *_ = self.bars(chart, "#8a929b")
        assert self.bars(chart, "#8a929b") == [(zero, unit)] * 3
        (up, nothing, down) = self.bars(chart, "#0072b2")
        assert up == pytest.approx((zero, 2 * unit), abs=0.2)
        assert nothing == pytest.approx((zero, 0))
        assert down == pytest.approx((zero - unit, unit), abs=0.2)

    def test_values_and_names_stand_beside_them_whatever_they_are(self):
        chart = bar_chart("T & <t>", ["<b>", "c"], {'"s"': [0.123, -4]}, digits=1)
        texts = [text.text for text in ElementTree.fromstring(chart).iter(f"{SVG}text")]
        assert {"T & <t>", "<b>", "c", '"s"', "0.1", "-4.0"} <= set(texts)
        assert ElementTree.fromstring(chart).findtext(f"{SVG}title") == "T & <t>"

    def test_lines_go_through_their_points(self):
        chart = line_chart("T", "across", {"one": [(0, 0), (1, 2)], "other": [(0, 2), (1, 0)]})
        one, other = (line.attrib["points"].split() for line in ElementTree.fromstring(chart).iter(f"{SVG}polyline"))
        (left, bottom), (right, top) = (map(float, point.split(",")) for point in one)
        assert other == [f"{left},{top}", f"{right},{bottom}"]
        assert left < right and top < bottom
