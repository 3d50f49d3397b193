"""The HTML report: whole, self-contained, safe with any names, and honest about what is not there."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_augment.data.records import RunDirectory
from fer_augment.errors import RunError
from fer_augment.metrics import score
from fer_augment.reports.axes import Axis
from fer_augment.reports.curves import accuracy_charts, loss_charts
from fer_augment.reports.figures import dot_figures, drawn_figures, reliability_figures, rewritten_figures
from fer_augment.reports.forest import forest_plot
from fer_augment.reports.html import SECTIONS, report_html, write_report
from fer_augment.reports.matrices import confusion_matrix_figure, difference_matrix_figures
from fer_augment.reports.pictures import LARGEST, data_uri
from fer_augment.reports.run_files import RunFiles
from fer_augment.reports.wording import cost_sentence, interval, percent, points, verdict_sentence
from fer_augment.results.comparison import ComparisonRecord, Failure, save_comparison
from tests.comparison_directory import COUNTS, write_comparison
from tests.data_files import random_images
from tests.html_page import Element, parse
from tests.synthetic_runs import evaluation

HOSTILE = "<script>alert('x')</script>"
QUOTES = "a\" onload='b' &amp; {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def comparison(folder) -> ComparisonRecord:
    failed = Failure(recipe="same", seed=9, message="the loss stopped being finite")
    return write_comparison(folder, failures=[failed], warnings=["the faces are drawn"])


@pytest.fixture(scope="module")
def page(folder, comparison) -> Element:
    return parse(report_html(comparison, folder))


@pytest.fixture(scope="module")
def hostile_html(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    comparison = write_comparison(
        folder,
        arms=(HOSTILE, QUOTES),
        class_names=("</style><b>", "<img src=x onerror=alert(1)>", "c\u202e\x00d"),
        failures=[Failure(recipe="</svg>", seed=1, message="<i>no</i>")],
        warnings=["<u>careful</u>"],
        source="<a href=http://example.org>data</a>",
        settings={"description": "<h1>best</h1>", "model": "<net>"},
        environment={"<env>": "<value>"},
    )
    return report_html(comparison, folder)


def section(page: Element, name: str) -> Element:
    return next(page.find("section", id=name))


def everything(html: str) -> list[Element]:
    return list(parse(html).all())


# --- the file


def test_the_report_is_written_beside_the_comparison(folder, comparison):
    file = write_report(folder)
    assert file == folder / "report.html"
    assert file.read_text(encoding="utf-8") == report_html(comparison, folder)
    assert [other.name for other in folder.glob(".*")] == []


def test_without_a_comparison_there_is_no_report(tmp_path):
    with pytest.raises(RunError, match=r"comparison\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_reporting_loads_neither_torch_nor_matplotlib(folder, comparison):
    save_comparison(comparison, folder)
    code = (
        "import sys; from pathlib import Path; from fer_augment.reports.html import write_report; "
        "write_report(Path(sys.argv[1])); sys.exit(sorted({'torch', 'matplotlib', 'scipy.stats'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 or ran.stderr.strip() == "[]", ran.stderr


# --- the page


@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(kind, page, hostile_html):
    elements = list(page.all()) if kind == "plain" else everything(hostile_html)
    assert not [
        one.tag for one in elements if one.tag in ("script", "iframe", "object", "base", "form", "foreignobject")
    ]
    references = {
        value
        for one in elements
        for name, value in one.attributes.items()
        if name in ("src", "href", "srcset", "xlink:href", "action", "data", "poster")
    }
    assert all(value.startswith(("#", "data:image/png;base64,")) or value == "data:," for value in references)
    assert not [name for one in elements for name in one.attributes if name.startswith("on")]
    styles = [one.text for one in elements if one.tag == "style"]
    assert len(styles) == 1
    assert "url(" not in styles[0] and "@import" not in styles[0]
    (policy,) = [one for one in elements if one.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.attributes["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_anchors_are_unique_and_lead_somewhere(page):
    ids = [one.attributes["id"] for one in page.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    targets = {link.attributes["href"].removeprefix("#") for link in page.find("a")}
    assert targets == set(SECTIONS)
    labels = {one.attributes["aria-labelledby"] for one in page.all() if "aria-labelledby" in one.attributes}
    assert targets | labels <= set(ids)


def test_sections_come_in_order_and_none_is_empty(page):
    sections = list(page.find("section"))
    assert [one.attributes["id"] for one in sections] == list(SECTIONS)
    for one, title in zip(sections, SECTIONS.values(), strict=True):
        assert one.text.startswith(title)
        assert len(one.text) > len(title) + 40


def test_pictures_and_drawings_have_an_alternative_in_words(page):
    assert all(image.attributes.get("alt") for image in page.find("img"))
    drawings = [one for one in page.find("svg") if one.attributes.get("aria-hidden") != "true"]
    assert drawings
    for drawing in drawings:
        assert drawing.attributes["role"] == "img"
        assert next(drawing.find("title")).text


def test_figures_say_what_to_see_and_tables_name_their_rows_and_columns(page):
    figures, tables = list(page.find("figure")), list(page.find("table"))
    assert len(figures) >= 8 and len(tables) >= 12
    assert all(len(next(figure.find("figcaption")).text) > 60 for figure in figures)
    for table in tables:
        assert next(table.find("caption")).text
        headings = list(table.find("th"))
        assert {one.attributes["scope"] for one in headings} == {"col", "row"}
        columns = len(list(next(table.find("tr")).find("th")))
        rows = [row for body in table.find("tbody") for row in body.find("tr")]
        assert all(len([one for one in row.children if isinstance(one, Element)]) == columns for row in rows)


def test_headings_do_not_jump(page):
    levels = [int(one.tag[1]) for one in page.all() if re.fullmatch(r"h[1-6]", one.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_any_name_is_shown_as_it_is_and_never_as_html(hostile_html):
    page = parse(hostile_html)
    for text in (HOSTILE, QUOTES, "</style><b>", "<img src=x onerror=alert(1)>", "<i>no</i>", "<u>careful</u>",
                 "<a href=http://example.org>data</a>", "<h1>best</h1>", "<net>", "<env>", "<value>"):  # fmt: skip
        assert text in page.text
    assert "c??d" in page.text
    assert "\u202e" not in hostile_html and "\x00" not in hostile_html
    assert not list(page.find("b")) + list(page.find("i")) + list(page.find("u"))
    assert len(list(page.find("h1"))) == 1


# --- what it says


def test_the_verdict_stands_first_with_what_it_cost(page, comparison):
    first = section(page, "verdict")
    for versus in comparison.versus:
        assert verdict_sentence(versus) in first.text
        assert cost_sentence(versus) in first.text
    assert next(first.find("div", class_="better")).text.startswith("good is better than base")
    assert "same, seed 9: the loss stopped being finite" in first.text
    assert "the faces are drawn" in first.text


def test_the_forest_plot_has_every_change_with_its_interval(page, comparison):
    tables = list(section(page, "recall").find("table"))
    assert len(tables) == 2
    for table, versus in zip(tables, comparison.versus, strict=True):
        rows = {next(row.find("th")).text.split(" ")[0]: row for body in table.find("tbody") for row in body.find("tr")}
        judged = {**versus.recall, "balanced": versus.balanced_accuracy, "accuracy": versus.accuracy}
        assert rows.keys() == judged.keys()
        for name, said in judged.items():
            assert f"{points(said.delta)} [{interval(said.ci95)}]" in rows[name].text
            assert str(said.verdict) in rows[name].text
        without = versus.test_deduplicated.recall["ant"]
        assert f"{points(without.delta)} [{interval(without.ci95)}] without copies" in rows["ant"].text


def test_filled_marks_are_those_that_are_better_or_worse(page):
    style = next(page.find("style")).text
    assert ".whisker .point { fill: var(--paper);" in style
    assert ".whisker .better .point, .whisker .worse .point { fill: var(--tone); }" in style
    assert "Filled marks are shown to be better or worse, hollow ones are not." in section(page, "recall").text


def test_marks_of_the_forest_plot_stand_where_the_numbers_say(comparison):
    forest = forest_plot(comparison)
    for panel, versus in zip(forest.panels, comparison.versus, strict=True):
        for row, said in zip(panel.classes, versus.recall.values(), strict=True):
            mark = row.change.whisker
            span = forest.axis.high - forest.axis.low
            assert mark.at == pytest.approx(100 * (100 * said.delta - forest.axis.low) / span, abs=0.01)
            assert mark.low <= mark.at <= mark.high
            assert mark.goes_on_below == (said.ci95[0] * 100 < forest.axis.low)
            assert mark.goes_on_above == (said.ci95[1] * 100 > forest.axis.high)
    zero = forest.axis.at(0)
    assert 0 < zero < 100


def test_one_interval_that_tells_nothing_does_not_press_the_others_together(comparison):
    wide = comparison.versus[0].recall["cat"].model_copy(update={"ci95": (-0.9, 0.95)})
    first = comparison.versus[0].model_copy(update={"recall": comparison.versus[0].recall | {"cat": wide}})
    forest = forest_plot(comparison.model_copy(update={"versus": (first, *comparison.versus[1:])}))
    assert -90 < forest.axis.low < forest.axis.high < 95
    mark = forest.panels[0].classes[2].change.whisker
    assert (mark.low, mark.high, mark.goes_on_below, mark.goes_on_above) == (0, 100, True, True)


def test_every_run_is_a_dot_at_its_score(folder, comparison):
    figure = dot_figures(comparison, RunFiles(folder))[0]
    for row, arm in zip(figure.rows, comparison.arms, strict=True):
        assert [dot.seed for dot in row.dots] == list(arm.seeds)
        mean = np.mean([dot.at for dot in row.dots])
        assert mean == pytest.approx(row.mean, abs=0.02)
        assert row.low < row.mean < row.high
    paths = sorted(folder.glob("runs/arm-1/*"))
    said = [RunDirectory(path).predictions("test") for path in paths]
    balanced = [score(one.labels, one.logits.argmax(axis=1), 3).balanced_accuracy for one in said]
    assert [dot.score for dot in figure.rows[1].dots] == [f"{100 * value:.1f}" for value in balanced]


def test_matrices_show_shares_of_a_class_and_rows_a_run(comparison):
    arm, base = comparison.arm("good"), comparison.arms[0]
    matrix = confusion_matrix_figure(arm, comparison.class_names)
    counts = np.array(arm.test.confusion) / 3
    shown = [[float(cell.main) for cell in cells] for _, cells in matrix.rows]
    np.testing.assert_allclose(shown, 100 * counts / counts.sum(axis=1, keepdims=True), atol=0.51)
    assert matrix.rows[0][1][0].told == f"ant as ant: {counts[0, 0]:.0f} rows a run, {100 * counts[0, 0] / 60:.1f} %"
    (difference,) = difference_matrix_figures([arm], base, comparison.class_names)
    moved = [[float(cell.count) for cell in cells] for _, cells in difference.rows]
    np.testing.assert_allclose(moved, counts - np.array(base.test.confusion) / 3, atol=0.051)
    right, lost = difference.rows[0][1][0], difference.rows[0][1][1]
    assert (right.main[0], right.tone, lost.main[0], lost.tone) == ("+", "better", "-", "better")
    assert difference.rows[2][1][2].tone == "worse"


def test_curves_go_through_the_means(comparison):
    figure = accuracy_charts(comparison)[0]
    line = figure.lines[0]
    for text, point in zip(line.points.split(), comparison.arms[0].curve, strict=True):
        across, down = map(float, text.split(","))
        assert across == pytest.approx(figure.x.at(point.epoch), abs=0.01)
        assert down == pytest.approx(100 - figure.y.at(100 * point.validation_accuracy.mean), abs=0.02)
    assert [one.label for one in figure.lines] == ["base", "good", "same"]
    assert len({one.look for one in figure.lines}) == 3
    losses = loss_charts(comparison)
    assert [one.title for one in losses] == ["base", "good", "same"]
    assert len({one.y for one in losses}) == 1


def test_losses_that_are_measured_alike_are_told_from_the_one_that_strategies_change(page, comparison):
    labels = [line.label for line in loss_charts(comparison)[0].lines]
    assert labels == [
        "validation split",
        "rows of the training set",
        "batches, with what strategies make of rows and loss",
    ]
    caption = next(section(page, "training").find("figcaption")).text
    assert "measured alike, by the recipe's own loss" in caption
    assert "by the loss that strategies made of the recipe's; that line is to be compared with no other" in caption
    assert "recipe's loss" in [heading.text for heading in section(page, "training").find("th")]


def test_losses_of_different_kinds_get_axes_of_their_own(comparison, folder):
    arms = tuple(arm.model_copy(update={"loss": "other"}) if arm.recipe == "same" else arm for arm in comparison.arms)
    other = comparison.model_copy(update={"arms": arms})
    assert "different losses" in report_html(other, folder)
    assert "different losses" not in report_html(comparison, folder)


def test_class_counts_show_what_strategies_did(page, comparison, folder):
    (rewritten,) = rewritten_figures(comparison)
    assert (rewritten.title, rewritten.total) == ("good", "240 → 247 rows")
    assert [bar.told for bar in rewritten.bars] == ["120", "80", "40 → 47"]
    (drawn,) = drawn_figures(comparison, RunFiles(folder))
    assert drawn.title == "same"
    assert drawn.bars[2].told == "16.7 → 20.0 %"
    text = section(page, "classes").text
    assert "Test split without copies 114 rows" in text
    assert "base and same train on as many rows" in text


def test_added_rows_stand_beside_their_sources(page):
    added = section(page, "added")
    (gallery,) = added.find("figure")
    assert "grow in good: 7 rows in a run" in gallery.text
    sources, results = (list(gallery.find("img", alt=alt)) for alt in ("source row of cat", "row of cat made from it"))
    assert len(sources) == len(results) == 3
    assert not {one.attributes["src"] for one in sources} & {one.attributes["src"] for one in results}
    assert "plain copies" not in gallery.text
    assert "No rows were added by blur in good" in added.text


def test_confused_images_stand_with_the_scores_of_all_classes(page):
    text = section(page, "confused").text
    assert "ant taken for bee test images" in text and "ant taken for bee training images" in text
    assert "the 2 most confident of 14 images, seed 0" in text and "2 images, seed 0" in text
    scores = next(section(page, "confused").find("ol", class_="class-scores"))
    assert [one.text for one in scores.find("li")] == ["ant 0.15", "bee 0.75", "cat 0.10"]
    assert next(scores.find("li", class_="true")).text == "ant 0.15"
    assert next(scores.find("li", class_="predicted")).text == "bee 0.75"


def test_confused_images_of_another_comparison_are_left_out(tmp_path, comparison, folder):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.copyfile(folder / "confused.safetensors", tmp_path / "confused.safetensors")
    assert "ant taken for bee" in parse(report_html(comparison, tmp_path)).text
    arms = tuple(arm.model_copy(update={"run_keys": ("x", "y", "z")}) for arm in comparison.arms)
    html = report_html(comparison.model_copy(update={"arms": arms}), tmp_path)
    assert "No confused images were kept" in section(parse(html), "confused").text


def test_reliability_is_that_of_all_runs_together(folder, comparison, page):
    assert "drawn are" not in section(page, "calibration").text
    figure = reliability_figures(comparison, RunFiles(folder))[1]
    runs = RunFiles(folder).of(comparison.arm("good"))
    rows = sum(run.calibration.rows for run in runs)
    assert rows.sum() == 3 * sum(COUNTS)
    assert len(figure.bins) == (rows > 0).sum()
    for one, number in zip(figure.bins, np.flatnonzero(rows), strict=True):
        assert number / 15 * 100 <= one.confidence <= (number + 1) / 15 * 100 + 0.01
        right = sum(run.calibration.right[number] for run in runs)
        assert one.accuracy == pytest.approx(100 * right / rows[number], abs=0.01)


def test_how_it_was_made_can_be_looked_up(page):
    text = section(page, "setup").text
    for told in ("name: arm-1", "grow here 1.0", "aaaaaaaaaaaa", "Tries arm-0.", "torch 2.13.0", "12 s", "key-arm-1-2"):
        assert told in text


# --- what is not there


def test_one_seed_gives_no_interval_and_no_verdict(tmp_path):
    page = parse(report_html(write_comparison(tmp_path, seeds=(0,)), tmp_path))
    assert "one run cannot tell a recipe from luck" in section(page, "verdict").text
    recall = section(page, "recall")
    assert not list(recall.find("line", class_="interval"))
    assert "There are no intervals and no verdicts" in recall.text
    assert "adjusted p" not in section(page, "verdict").text.lower()
    assert "better" not in {name for row in recall.find("tr") for name in row.attributes.get("class", "").split()}


def test_without_run_directories_the_numbers_remain(tmp_path, comparison):
    page = parse(report_html(comparison, tmp_path))
    assert "good is better than base" in section(page, "verdict").text
    assert len(list(section(page, "recall").find("table"))) == 2
    assert "there are no dots" in section(page, "scores").text
    assert "no pictures of added rows" in section(page, "added").text
    assert "No confused images were kept" in section(page, "confused").text
    assert "no reliability diagrams" in section(page, "calibration").text
    assert "Of 9 runs, 9 have no readable directory" in section(page, "setup").text


def test_damaged_files_are_as_good_as_gone(tmp_path, comparison, folder):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    (tmp_path / "confused.safetensors").write_bytes(b"\0" * 7)
    (tmp_path / "runs/arm-0/1/record.json").write_text("{")
    (tmp_path / "runs/arm-1/0/examples.safetensors").write_bytes(b"no")
    (tmp_path / "runs/arm-2/2/predictions.safetensors").unlink()
    page = parse(report_html(comparison, tmp_path))
    assert "Of 9 runs, 2 have no readable directory" in section(page, "setup").text
    assert "not found" in section(page, "setup").text
    assert "added in the run of seed 1" in section(page, "added").text
    calibration = section(page, "calibration")
    assert "drawn are no more than 2 of the 3 runs of base and 2 of the 3 runs of same" in calibration.text
    headings = [heading.text for heading in calibration.find("h3")]
    assert headings[0] == f"base ECE {percent(comparison.arms[0].test.ece)} %, n = 3"
    assert "No confused images were kept" in section(page, "confused").text


def test_an_arm_alone_is_shown_without_a_verdict(tmp_path):
    page = parse(report_html(write_comparison(tmp_path, arms=("base",)), tmp_path))
    assert "nothing to compare with" in section(page, "verdict").text
    assert "No change is drawn" in section(page, "recall").text
    assert "No arm has a strategy." in section(page, "added").text


def test_a_baseline_that_failed_is_told(tmp_path, comparison):
    left = comparison.model_copy(update={"arms": comparison.arms[1:], "versus": ()})
    page = parse(report_html(left, tmp_path))
    assert "no run of the baseline base finished" in section(page, "verdict").text
    assert len(list(section(page, "confusion").find("table"))) == 2


def test_one_evaluation_makes_no_curve(tmp_path):
    page = parse(report_html(write_comparison(tmp_path, curve=(evaluation(2, 3),)), tmp_path))
    assert "evaluated only once" in section(page, "training").text
    assert not list(section(page, "training").find("polyline"))


def test_runs_without_curves_and_classes_without_rows_are_told(tmp_path):
    comparison = write_comparison(tmp_path, counts=(60, 40, 0), copies=(), curve=())
    page = parse(report_html(comparison, tmp_path))
    assert "There are no curves" in section(page, "training").text
    recall = section(page, "recall")
    (row,) = [row for row in next(recall.find("table")).find("tr") if row.text.startswith("cat")]
    assert "cannot be tested" in row.text and not list(row.find("circle"))
    assert "without copies" not in recall.text
    assert "No test row is byte for byte the same" in section(page, "data").text
    assert "nan" not in page.text.lower().split()


# --- its parts


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.sampled_from([Axis.over, Axis.close_to]))
def test_an_axis_covers_its_values_in_order_with_labels_in_place(values, make):
    axis = make(values)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(axis.covers(value) for value in values)
    assert 1 <= len(axis.ticks) <= 15
    for tick in axis.ticks:
        value = float(tick.label.replace(",", ""))
        assert tick.at == pytest.approx(100 * (value - axis.low) / (axis.high - axis.low), abs=0.02)
    assert len({tick.label for tick in axis.ticks}) == len(axis.ticks)


def test_ticks_are_round_and_signed_where_asked():
    assert [tick.label for tick in Axis.over([0, 0.5]).ticks] == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]
    assert [tick.label for tick in Axis.close_to([-3, 6], is_signed=True).ticks] == ["-2", "0", "+2", "+4", "+6"]
    assert [tick.label for tick in Axis.over([0, 28709]).ticks] == ["0", "10,000", "20,000", "30,000"]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [8, 200])
def test_pictures_are_png_files_of_the_same_pixels(channels, side):
    (image,) = random_images(1, side, channels)
    uri = data_uri(image)
    assert uri.startswith("data:image/png;base64,")
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.shape[:2] == (min(side, LARGEST),) * 2
    if side == 8 and channels in (1, 3):
        assert np.array_equal(np.atleast_3d(decoded)[..., ::-1], image)


def luminance(color: str) -> float:
    channels = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out_in_both_themes(page, theme):
    style = next(page.find("style")).text
    blocks = re.findall(r":root \{(.*?)\}", style)
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[theme]))
    for name in ("ink", "muted", "better", "worse", "open"):
        assert min(contrast(colors[name], colors[ground]) for ground in ("paper", "panel")) >= 4.5, name
    for number in range(8):
        assert contrast(colors[f"look-{number}"], colors["paper"]) >= 3, number
    for heat in re.findall(r"--heat[\w-]*: (\d+ \d+ \d+)", blocks[theme]):
        darkest = "#" + "".join(f"{int(channel):02x}" for channel in heat.split())
        assert contrast(colors["ink"], darkest) >= 4.5, heat
