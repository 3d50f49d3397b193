"""The HTML report and the notebook fragment: self-contained, escaped, and complete when files are missing."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from fer_augment.data.digests import write_digests
from fer_augment.data.records import FoldIdentity, RunDirectory, RunIdentity
from fer_augment.errors import RunError
from fer_augment.finished import load_comparison
from fer_augment.metrics import score
from fer_augment.reports.axes import Axis
from fer_augment.reports.curves import accuracy_charts, loss_charts
from fer_augment.reports.figures import dot_figures, reliability_figures, rewritten_figures, sampling_figures
from fer_augment.reports.forest import forest_plot
from fer_augment.reports.html import SECTIONS, comparison_html, report_html, write_report
from fer_augment.reports.matrices import Matrix, confusion_matrix_figure, difference_matrix_figures
from fer_augment.reports.pictures import LARGEST, data_uri
from fer_augment.reports.run_files import LocatedRun, RunFiles
from fer_augment.reports.wording import (
    cost_sentence,
    duplicates_sentence,
    interval,
    notes,
    p_value,
    percent,
    percent_interval,
    points,
    verdict_sentence,
)
from fer_augment.results.checking import damages_in
from fer_augment.results.comparison import ComparisonRecord, Failure, FoldDesign, save_comparison
from fer_augment.results.confused_images import CONFUSED_FILE, load_confused, save_confused
from fer_augment.results.verdicts import compare_runs
from tests.comparison_directory import COUNTS, write_comparison
from tests.data_files import random_images
from tests.html_page import Element, parse
from tests.synthetic_runs import counts_by_split, evaluation, labels_of, predictions, record, write_run

HOSTILE = "<script>alert('x')</script>"
QUOTES = "a\" onload='b' &amp; {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def comparison(folder) -> ComparisonRecord:
    failed = Failure(recipe="same", seed=9, message="the loss stopped being finite")
    return write_comparison(folder, failures=[failed], warnings=["the faces are synthetic; `data audit` says more"])


@pytest.fixture(scope="module")
def page(folder, comparison) -> Element:
    return parse(report_html(comparison, folder))


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def hostile(hostile_folder) -> ComparisonRecord:
    return write_comparison(
        hostile_folder,
        arms=(HOSTILE, QUOTES),
        class_names=("</style><b>", "<img src=x onerror=alert(1)>", "c\u202e\x00d"),
        failures=[Failure(recipe="</svg>", seed=1, message="<i>no</i>")],
        warnings=["<u>careful</u>", "`<u>code</u>` and a ` alone"],
        source="<a href=http://example.org>data</a>",
        settings={"description": "<h1>best</h1>", "model": "<net>"},
        environment={"<env>": "<value>"},
    )


@pytest.fixture(scope="module")
def hostile_html(hostile_folder, hostile) -> str:
    return report_html(hostile, hostile_folder)


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


def test_no_report_without_a_comparison(tmp_path):
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
def test_the_page_has_no_scripts_and_no_external_references(kind, page, hostile_html):
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


def test_anchors_are_unique_and_links_have_targets(page):
    ids = [one.attributes["id"] for one in page.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    targets = {link.attributes["href"].removeprefix("#") for link in page.find("a")}
    assert targets == set(SECTIONS)
    labels = {one.attributes["aria-labelledby"] for one in page.all() if "aria-labelledby" in one.attributes}
    assert targets | labels <= set(ids)


def test_sections_are_in_order_and_not_empty(page):
    sections = list(page.find("section"))
    assert [one.attributes["id"] for one in sections] == list(SECTIONS)
    for one, title in zip(sections, SECTIONS.values(), strict=True):
        assert one.text.startswith(title)
        assert len(one.text) > len(title) + 40


def test_images_and_svgs_have_a_text_alternative(page):
    assert all(image.attributes.get("alt") for image in page.find("img"))
    svgs = [one for one in page.find("svg") if one.attributes.get("aria-hidden") != "true"]
    assert svgs
    for svg in svgs:
        assert svg.attributes["role"] == "img"
        assert next(svg.find("title")).text


def test_figures_have_captions_and_tables_have_headings(page):
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


def test_heading_levels_are_not_skipped(page):
    levels = [int(one.tag[1]) for one in page.all() if re.fullmatch(r"h[1-6]", one.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_names_are_escaped(hostile_html):
    page = parse(hostile_html)
    for text in (HOSTILE, QUOTES, "</style><b>", "<img src=x onerror=alert(1)>", "<i>no</i>", "<u>careful</u>",
                 "<u>code</u>", " and a ` alone", "<a href=http://example.org>data</a>", "<h1>best</h1>", "<net>",
                 "<env>", "<value>"):  # fmt: skip
        assert text in page.text
    assert "c??d" in page.text
    assert "\u202e" not in hostile_html and "\x00" not in hostile_html
    assert not list(page.find("b")) + list(page.find("i")) + list(page.find("u"))
    assert len(list(page.find("h1"))) == 1


# --- its contents


def test_the_first_section_has_verdicts_costs_failures_and_warnings(page, comparison):
    first = section(page, "verdict")
    for versus in comparison.versus:
        assert verdict_sentence(versus) in first.text
        assert cost_sentence(versus) in first.text
    assert next(first.find("div", class_="better")).text.startswith("good is better than base")
    assert "same, seed 9: the loss stopped being finite" in first.text
    assert "the faces are synthetic" in first.text
    assert [code.text for code in first.find("code")] == ["data audit"]


def test_the_forest_plot_has_every_difference_with_its_interval(page, comparison):
    tables = list(section(page, "recall").find("table"))
    assert len(tables) == 2
    for table, versus in zip(tables, comparison.versus, strict=True):
        rows = {next(row.find("th")).text.split(" ")[0]: row for body in table.find("tbody") for row in body.find("tr")}
        judgments = {**versus.recall, "balanced": versus.balanced_accuracy, "accuracy": versus.accuracy}
        assert rows.keys() == judgments.keys()
        for name, judgment in judgments.items():
            assert f"{points(judgment.delta)} [{interval(judgment.ci95)}]" in rows[name].text
            assert str(judgment.verdict) in rows[name].text
        deduplicated = versus.test_deduplicated.recall["ant"]
        assert f"{points(deduplicated.delta)} [{interval(deduplicated.ci95)}] deduplicated" in rows["ant"].text


def test_significant_marks_are_filled(page):
    style = next(page.find("style")).text
    assert ".whisker .point { fill: var(--paper);" in style
    assert ".whisker .better .point, .whisker .worse .point { fill: var(--tone); }" in style
    caption = "Filled marks are significant (adjusted p below 0.05), hollow marks are not."
    assert caption in section(page, "recall").text


def test_marks_of_the_forest_plot_are_at_the_positions_of_their_values(comparison):
    forest = forest_plot(comparison)
    for panel, versus in zip(forest.panels, comparison.versus, strict=True):
        for row, judgment in zip(panel.classes, versus.recall.values(), strict=True):
            mark = row.difference.whisker
            span = forest.axis.high - forest.axis.low
            assert mark.at == pytest.approx(100 * (100 * judgment.delta - forest.axis.low) / span, abs=0.01)
            assert mark.low <= mark.at <= mark.high
            assert mark.is_clipped_below == (judgment.ci95[0] * 100 < forest.axis.low)
            assert mark.is_clipped_above == (judgment.ci95[1] * 100 > forest.axis.high)
    zero = forest.axis.at(0)
    assert 0 < zero < 100


def test_one_very_wide_interval_is_clipped(comparison):
    wide = comparison.versus[0].recall["cat"].model_copy(update={"ci95": (-0.9, 0.95)})
    first = comparison.versus[0].model_copy(update={"recall": comparison.versus[0].recall | {"cat": wide}})
    forest = forest_plot(comparison.model_copy(update={"versus": (first, *comparison.versus[1:])}))
    assert -90 < forest.axis.low < forest.axis.high < 95
    mark = forest.panels[0].classes[2].difference.whisker
    assert (mark.low, mark.high, mark.is_clipped_below, mark.is_clipped_above) == (0, 100, True, True)


def test_every_run_is_a_dot_at_its_score(folder, comparison):
    figure = dot_figures(comparison, RunFiles(folder))[0]
    for row, arm in zip(figure.rows, comparison.arms, strict=True):
        assert [dot.run for dot in row.dots] == [f"seed {seed}" for seed in arm.seeds]
        mean = np.mean([dot.at for dot in row.dots])
        assert mean == pytest.approx(row.mean, abs=0.02)
        assert row.low < row.mean < row.high
    paths = sorted(folder.glob("runs/arm-1/*"))
    of_runs = [RunDirectory(path).predictions("test") for path in paths]
    balanced = [score(one.labels, one.logits.argmax(axis=1), 3).balanced_accuracy for one in of_runs]
    assert [dot.score for dot in figure.rows[1].dots] == [f"{100 * value:.1f}" for value in balanced]


def test_matrices_have_shares_of_the_class_and_images_per_run(comparison):
    arm, base = comparison.arm("good"), comparison.arms[0]
    matrix = confusion_matrix_figure(comparison, arm, comparison.class_names)
    counts = np.array(arm.test.confusion) / 3
    shown = [[float(cell.main) for cell in cells] for _, cells in matrix.rows]
    np.testing.assert_allclose(shown, 100 * counts / counts.sum(axis=1, keepdims=True), atol=0.51)
    text = f"ant predicted as ant: {counts[0, 0]:.0f} images per run, {100 * counts[0, 0] / 60:.1f} %"
    assert matrix.rows[0][1][0].description == text
    (difference,) = difference_matrix_figures(comparison, [arm], base, comparison.class_names)
    changes = [[float(cell.count) for cell in cells] for _, cells in difference.rows]
    np.testing.assert_allclose(changes, counts - np.array(base.test.confusion) / 3, atol=0.051)
    correct, confused = difference.rows[0][1][0], difference.rows[0][1][1]
    assert (correct.main[0], correct.tone, confused.main[0], confused.tone) == ("+", "better", "-", "better")
    assert difference.rows[2][1][2].tone == "worse"
    (same,) = difference_matrix_figures(comparison, [base], base, comparison.class_names)
    assert {(cell.main, cell.tone) for _, cells in same.rows for cell in cells} == {("0.0", "share")}


def test_the_longest_word_of_the_names_of_a_matrix_is_known():
    assert Matrix("", ("basal cell carcinoma", "keratosis-like\tlesions"), ()).letters == len("carcinoma")


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


def test_comparable_losses_are_distinguished_from_the_batch_loss(page, comparison):
    labels = [line.label for line in loss_charts(comparison)[0].lines]
    assert labels == [
        "validation split",
        "sample of the training set",
        "training batches (augmented, loss as modified by strategies)",
    ]
    caption = next(section(page, "training").find("figcaption")).text
    assert "are both the recipe's loss without augmentation and are comparable" in caption
    assert (
        "The loss of training batches includes augmentation, dropout and changes of the loss by strategies" in caption
    )
    assert "is not comparable with the others" in caption
    assert "recipe's loss" in [heading.text for heading in section(page, "training").find("th")]


def test_caption_warns_of_different_losses(comparison, folder):
    arms = tuple(arm.model_copy(update={"loss": "other"}) if arm.recipe == "same" else arm for arm in comparison.arms)
    other = comparison.model_copy(update={"arms": arms})
    assert "different losses" in report_html(other, folder)
    assert "different losses" not in report_html(comparison, folder)


def test_class_counts_before_and_after_rewriting_and_sampling(page, comparison, folder):
    (rewritten,) = rewritten_figures(comparison)
    assert (rewritten.title, rewritten.total) == ("good", "240 → 247 rows")
    assert [bar.text for bar in rewritten.bars] == ["120", "80", "40 → 47"]
    (sampling,) = sampling_figures(comparison, RunFiles(folder))
    assert sampling.title == "same"
    assert sampling.bars[2].text == "16.7 → 20.0 %"
    text = section(page, "classes").text
    assert "Deduplicated test split 114 rows" in text
    assert "Rows per class not changed by rewriting: base and same." in text


def test_exact_and_near_duplicates_of_each_class(tmp_path):
    exact_only = section(parse(report_html(write_comparison(tmp_path / "old"), tmp_path / "old")), "data").text
    assert "Test images with an exact duplicate in the training split" in exact_only
    assert "ant 60 3 5.0 %" in exact_only and "near or mirrored" not in exact_only
    comparison = write_comparison(tmp_path / "new", near_train=(3, 4, 119))
    text = section(parse(report_html(comparison, tmp_path / "new")), "data").text
    assert "Test images with a duplicate in the training split" in text
    assert "class test images exact duplicate near or mirrored share ant 60 3 2 8.3 %" in text
    assert "cat 20 1 1 10.0 %" in text and "(6 exact, 3 near or mirrored; most duplicates: cat 2 of 20" in text


def test_added_rows_are_shown_beside_their_sources(page):
    added = section(page, "added")
    (gallery,) = added.find("figure")
    assert "grow in good: 7 rows per run" in gallery.text
    sources, results = (list(gallery.find("img", alt=f"{kind} image of cat")) for kind in ("source", "added"))
    assert len(sources) == len(results) == 3
    assert not {one.attributes["src"] for one in sources} & {one.attributes["src"] for one in results}
    assert "identical to their source" not in gallery.text
    assert "No rows were added by blur in good" in added.text


def test_confused_images_are_shown_with_class_probabilities(page):
    text = section(page, "confused").text
    assert "ant predicted as bee test images" in text and "ant predicted as bee training images" in text
    assert "the 2 most confident of 14 images, seed 0" in text and "2 images, seed 0" in text
    probabilities = next(section(page, "confused").find("ol", class_="class-scores"))
    assert [one.text for one in probabilities.find("li")] == ["ant 0.15", "bee 0.75", "cat 0.10"]
    assert next(probabilities.find("li", class_="true")).text == "ant 0.15"
    assert next(probabilities.find("li", class_="predicted")).text == "bee 0.75"


def test_confused_images_of_another_comparison_are_ignored(tmp_path, comparison, folder):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.copyfile(folder / "confused.safetensors", tmp_path / "confused.safetensors")
    assert "ant predicted as bee test images" in parse(report_html(comparison, tmp_path)).text
    arms = tuple(arm.model_copy(update={"run_keys": ("x", "y", "z")}) for arm in comparison.arms)
    html = report_html(comparison.model_copy(update={"arms": arms}), tmp_path)
    assert "No confused images were saved" in section(parse(html), "confused").text


def test_reliability_diagrams_pool_all_runs(folder, comparison, page):
    assert "The diagrams have only" not in section(page, "calibration").text
    figure = reliability_figures(comparison, RunFiles(folder))[1]
    runs = RunFiles(folder).of(comparison.arm("good"))
    rows = np.sum([run.calibration.rows for run in runs], axis=0)
    assert rows.sum() == 3 * sum(COUNTS)
    assert len(figure.bins) == (rows > 0).sum()
    for one, number in zip(figure.bins, np.flatnonzero(rows), strict=True):
        assert number / 15 * 100 <= one.confidence <= (number + 1) / 15 * 100 + 0.01
        right = sum(run.calibration.right[number] for run in runs)
        assert one.accuracy == pytest.approx(100 * right / rows[number], abs=0.01)


def test_setup_has_recipes_strategies_runs_and_environment(page):
    text = section(page, "setup").text
    for part in ("name: good", "grow here 1.0", "aaaaaaaaaaaa", "Tries base.", "torch 2.13.0", "12 s", "key-good-2"):
        assert part in text


# --- missing parts


def test_one_seed_gives_no_interval_and_no_verdict(tmp_path):
    page = parse(report_html(write_comparison(tmp_path, seeds=(0,)), tmp_path))
    assert "not tested (one run)" in section(page, "verdict").text
    recall = section(page, "recall")
    assert not list(recall.find("line", class_="interval"))
    assert "There are no intervals and no tests" in recall.text
    assert "adjusted p" not in section(page, "verdict").text.lower()
    assert "better" not in {name for row in recall.find("tr") for name in row.attributes.get("class", "").split()}


def test_without_run_directories_the_scores_are_still_shown(tmp_path, comparison):
    page = parse(report_html(comparison, tmp_path))
    assert "good is better than base" in section(page, "verdict").text
    assert len(list(section(page, "recall").find("table"))) == 2
    assert "No dots: the run directories are missing or damaged." in section(page, "scores").text
    assert "No examples of added rows: the run directories are missing or damaged." in section(page, "added").text
    assert "No confused images were saved" in section(page, "confused").text
    assert "No reliability diagrams" in section(page, "calibration").text
    assert "9 of 9 runs have no directory" in section(page, "setup").text


def test_damaged_files_count_as_missing(tmp_path, comparison, folder):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    (tmp_path / "confused.safetensors").write_bytes(b"\0" * 7)
    (tmp_path / "runs/arm-0/1/record.json").write_text("{")
    (tmp_path / "runs/arm-1/0/examples.safetensors").write_bytes(b"no")
    (tmp_path / "runs/arm-2/2/predictions.safetensors").unlink()
    page = parse(report_html(comparison, tmp_path))
    assert "2 of 9 runs have no directory" in section(page, "setup").text
    assert "missing missing missing" in section(page, "setup").text
    assert "added in the run with seed 1" in section(page, "added").text
    calibration = section(page, "calibration")
    assert "The diagrams have only 2 of the 3 runs of base and 2 of the 3 runs of same" in calibration.text
    headings = [heading.text for heading in calibration.find("h3")]
    test = comparison.arms[0].test
    assert headings[0] == f"base ECE {percent(test.ece)} % [{percent_interval(test.ece_ci95)}], n = 3"
    assert "No confused images were saved" in section(page, "confused").text


def rewrite(change, run: Path, name: str) -> None:
    """Change the arrays of a file of a run, as a version without digests may have written it."""
    arrays = load_file(run / name)
    change(arrays)
    save_file(arrays, run / name)
    (run / "SHA256SUMS").unlink(missing_ok=True)


@pytest.mark.parametrize("damage", [
    lambda run: rewrite(lambda arrays: arrays.update({"test.logits": arrays["test.logits"][:, :2].copy()}), run,
                        "predictions.safetensors"),
    lambda run: rewrite(lambda arrays: arrays.update({"test.labels": arrays["test.labels"] + 1}), run,
                        "predictions.safetensors"),
    lambda run: (run / "predictions.safetensors").write_bytes((run.parent / "1/predictions.safetensors").read_bytes()),
    lambda run: (run / "record.json").write_text((run / "record.json").read_text().replace('"bee"', '"eel"')),
])  # fmt: skip
def test_runs_that_are_damaged_or_have_changed_are_not_drawn(tmp_path, comparison, folder, damage):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    damage(tmp_path / "runs/arm-1/0")
    page = parse(report_html(comparison, tmp_path))
    assert "1 of 9 runs have no directory beside" in section(page, "setup").text
    assert "only 2 of the 3 runs of good" in section(page, "calibration").text


@pytest.mark.parametrize("change", [
    lambda arrays: arrays.update(labels=arrays["labels"] + 1),
    lambda arrays: arrays.update(images=arrays["images"].astype(np.float32)),
    lambda arrays: arrays.update(sources=arrays["sources"][:1]),
])  # fmt: skip
def test_examples_that_contradict_themselves_are_not_drawn(tmp_path, comparison, folder, change):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    rewrite(change, tmp_path / "runs/arm-1/0", "examples.safetensors")
    assert "added in the run with seed 1" in section(parse(report_html(comparison, tmp_path)), "added").text


def test_arms_that_share_run_keys_have_their_own_directories(tmp_path, comparison, folder):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for seed in range(3):
        file = tmp_path / f"runs/arm-2/{seed}/record.json"
        file.write_text(file.read_text().replace(f"key-same-{seed}", f"key-base-{seed}"))
        write_digests(file.parent)
    base, good, same = comparison.arms
    comparison = comparison.model_copy(
        update={"arms": (base, good, same.model_copy(update={"run_keys": base.run_keys}))}
    )
    files = RunFiles(tmp_path)
    names = [{run.recipe_yaml for run in files.of(arm)} for arm in comparison.arms]
    assert names == [{"name: base\n"}, {"name: good\n"}, {"name: same\n"}]
    save_comparison(comparison, tmp_path)
    shutil.rmtree(tmp_path / "runs/arm-0")
    missing = [str(damage) for damage in damages_in(tmp_path) if "with seed" in damage.reason]
    assert len(missing) == 3 and all("/base: the run with seed" in one for one in missing)
    with pytest.raises(RunError, match="the run of base with seed 0 is missing"):
        _ = load_comparison(tmp_path).runs


def test_a_step_without_examples_has_no_gallery(tmp_path, comparison, folder):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    for seed in range(3):
        run = tmp_path / f"runs/arm-1/{seed}"
        rewrite(lambda arrays: arrays.update(step=arrays["step"] + 1), run, "examples.safetensors")
    added = section(parse(report_html(comparison, tmp_path)), "added")
    assert "No examples of added rows were saved." in added.text and "identical" not in added.text


def test_a_run_of_a_fold_is_named_by_repeat_and_fold():
    fold = FoldIdentity(repeat=1, number=2, folds=5)
    of_fold = record(identity=RunIdentity(recipe="base", seed=7, key="key", fold=fold))
    assert LocatedRun(of_fold, RunDirectory(Path())).name == "repeat 2, fold 3 of 5"


def test_numbers_of_images_have_separators(tmp_path, folder, comparison):
    many = [
        replace(one, rows=one.rows.model_copy(update={"total": 12345})) for one in load_confused(folder / CONFUSED_FILE)
    ]
    save_confused(tmp_path / CONFUSED_FILE, many)
    assert "most confident of 12,345 images" in section(parse(report_html(comparison, tmp_path)), "confused").text
    counts = {"test": {"ant": 12_345, "bee": 5, "cat": 5}, "test_deduplicated": {"ant": 11_111, "bee": 5, "cat": 5}}
    counted = comparison.model_copy(update={"data": comparison.data.model_copy(update={"counts": counts})})
    assert "ant 1,234 of 12,345" in duplicates_sentence(counted)


def test_runs_and_images_that_do_not_vary_are_not_one_run(tmp_path):
    labels = labels_of(COUNTS)
    of_splits = {split: predictions(labels, labels) for split in ("test", "validation")}
    runs = {
        name: [write_run(tmp_path / name / str(seed), record(name, seed), of_splits) for seed in range(2)]
        for name in ("base", "same")
    }
    same = compare_runs(runs, baseline="base", source="s", fingerprint="f", counts=counts_by_split(COUNTS))
    recall = section(parse(report_html(same, tmp_path)), "recall")
    assert "because nothing varies over runs and images" in recall.text and "one run" not in recall.text
    assert any("Adjusted p" in note for note in notes(same))


def test_a_single_arm_has_no_verdict(tmp_path):
    page = parse(report_html(write_comparison(tmp_path, arms=("base",)), tmp_path))
    assert "No verdict: only base has finished runs." in section(page, "verdict").text
    assert "No differences" in section(page, "recall").text
    assert "No arm has a strategy." in section(page, "added").text


@pytest.mark.parametrize("design", [None, FoldDesign(folds=5, repeats=1, keeps_test=False)])
def test_a_failed_baseline_is_named(tmp_path, comparison, design):
    remaining = comparison.model_copy(update={"arms": comparison.arms[1:], "versus": (), "cross_validation": design})
    page = parse(report_html(remaining, tmp_path))
    what = "repeat of the baseline base is complete" if design else "run of the baseline base finished"
    assert f"No verdict: no {what}." in section(page, "verdict").text
    assert len(list(section(page, "confusion").find("table"))) == 2


def test_one_evaluation_makes_no_curve(tmp_path):
    page = parse(report_html(write_comparison(tmp_path, curve=(evaluation(2, 3),)), tmp_path))
    assert "evaluated once" in section(page, "training").text
    assert not list(section(page, "training").find("polyline"))


def test_runs_without_curves_and_classes_without_rows(tmp_path):
    comparison = write_comparison(tmp_path, counts=(60, 40, 0), duplicates=(), curve=())
    page = parse(report_html(comparison, tmp_path))
    assert "No training curves" in section(page, "training").text
    recall = section(page, "recall")
    (row,) = [row for row in next(recall.find("table")).find("tr") if row.text.startswith("cat")]
    assert "not testable" in row.text and not list(row.find("circle"))
    assert "deduplicated" not in recall.text
    assert "No test image has an exact duplicate" in section(page, "data").text
    assert "nan" not in page.text.lower().split()


# --- the fragment for notebooks


def cells(fragment: Element, title: str) -> dict[str, list[str]]:
    """Return the cells of the table with this title, by row label."""
    (table,) = [table for table in fragment.find("table") if next(table.find("caption")).text.startswith(title)]
    rows = [row for body in table.find("tbody") for row in body.find("tr")]
    return {next(row.find("th")).text: [cell.text for cell in row.find("td")] for row in rows}


def test_the_fragment_has_verdicts_recall_failures_and_warnings(comparison):
    fragment = parse(comparison_html(comparison))
    (root,) = [child for child in fragment.children if isinstance(child, Element)]
    assert (root.tag, root.attributes) == ("div", {"class": "fer-augment"})
    assert "squares: 3 classes, 120 test images. 3 runs per arm (seeds 0, 1, 2)." in root.text
    for versus in comparison.versus:
        assert verdict_sentence(versus) in root.text
        assert cost_sentence(versus) in root.text
        rows = cells(root, f"{versus.recipe} vs. base: recall in %")
        for name, judgment in versus.recall.items():
            scores = [percent(comparison.arm(recipe).test.recall[name]) for recipe in ("base", versus.recipe)]
            difference = [points(judgment.delta), interval(judgment.ci95), p_value(judgment.p_adjusted)]
            assert rows[name][1:] == [*scores, *difference, str(judgment.verdict)]
    assert "same, seed 9: the loss stopped being finite" in root.text
    assert "the faces are synthetic" in root.text
    assert [code.text for code in root.find("code")] == ["data audit"]


def test_the_fragment_is_escaped_and_self_contained(hostile):
    html = comparison_html(hostile)
    fragment = parse(html)
    for text in (HOSTILE, QUOTES, "</style><b>", "<img src=x onerror=alert(1)>", "<i>no</i>", "<u>careful</u>",
                 "<a href=http://example.org>data</a>"):  # fmt: skip
        assert text in fragment.text
    assert "c??d" in fragment.text
    assert "\u202e" not in html and "\x00" not in html
    tags = {one.tag for one in fragment.all()}
    assert tags.isdisjoint({"script", "b", "i", "u", "a", "img", "link", "iframe", "object"})
    assert not [name for one in fragment.all() for name in one.attributes if name.startswith("on")]
    style = next(fragment.find("style")).text
    assert "url(" not in style and "@import" not in style
    selectors = re.findall(r"(?:^|\})([^{}]+)\{", style)
    assert selectors
    assert all(one.strip().startswith(".fer-augment") for group in selectors for one in group.split(","))


@pytest.mark.parametrize("kept", ["baseline", "others"])
def test_the_fragment_without_tests_has_the_recall_of_each_arm(comparison, kept):
    arms = comparison.arms[:1] if kept == "baseline" else comparison.arms[1:]
    fragment = parse(comparison_html(comparison.model_copy(update={"arms": arms, "versus": ()})))
    rows = cells(fragment, "Recall per class")
    assert rows["bee"] == ["40", *(percent(arm.test.recall["bee"]) for arm in arms)]
    assert "No verdict: " in fragment.text
    assert "the faces are synthetic" in fragment.text


# --- its parts


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.sampled_from([Axis.over, Axis.close_to]))
def test_an_axis_covers_its_values_and_has_labels_at_their_positions(values, make):
    axis = make(values)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(axis.covers(value) for value in values)
    assert 1 <= len(axis.ticks) <= 15
    for tick in axis.ticks:
        value = float(tick.label.replace(",", ""))
        assert tick.at == pytest.approx(100 * (value - axis.low) / (axis.high - axis.low), abs=0.02)
    assert len({tick.label for tick in axis.ticks}) == len(axis.ticks)


def test_an_axis_over_one_very_large_value_has_ticks():
    for value in (1e30, -1e99):
        for axis in (Axis.over([value, value]), Axis.close_to([value])):
            assert len(axis.ticks) < 20 and axis.low < value < axis.high


def test_ticks_are_round_and_optionally_signed():
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
def test_contrast_in_both_themes(page, theme):
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
