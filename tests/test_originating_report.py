"""Recipes that reproduce the originating report, and the tables that show its numbers beside ours."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import Recipe, load_recipe, shipped_recipes
from fer_augment.reports.html import SECTIONS
from fer_augment.reports.published import PUBLISHED, TEST_COUNTS
from fer_augment.results.comparison import read_comparison, save_comparison
from fer_augment.results.verdicts import compare_runs
from fer_augment.training.keys import training_key
from tests.command_line import Ran, assert_readable, assert_refused, fer_augment
from tests.markdown import DOCS
from tests.networks import network_named
from tests.synthetic_runs import counts_by_split, write_arm
from tests.tiny_training import tiny_splits

NETWORKS = [f"convnet{number}" for number in range(6)]
ARMS = [*NETWORKS, "confusion_mirror"]
"""Models 0 to 6 of the report."""

PAGE = (DOCS / "reproducing_the_report.md").read_text(encoding="utf-8")
ARCHIVE = Path(os.environ.get("FER2013", "nowhere")) / "fer2013_images.zip"


def settings_of(recipe: Recipe) -> dict[str, object]:
    return recipe.model_dump(exclude={"name", "description"})


def test_every_model_of_the_report_has_a_recipe() -> None:
    assert {name for model in PUBLISHED for name in model.recipes} == {"paper", *ARMS}
    assert {"paper", *ARMS} <= set(shipped_recipes())
    assert [model.recipes[-1] for model in PUBLISHED] == ARMS


@pytest.mark.parametrize("name", NETWORKS)
def test_network_recipes_differ_from_paper_in_the_model_only(name: str) -> None:
    assert settings_of(load_recipe(name)) == settings_of(load_recipe("paper")) | {"model": name}


def test_convnet5_and_paper_share_a_training_key() -> None:
    keys = {training_key(bind(load_recipe(name), installed_plugins()), 0, tiny_splits()) for name in ARMS[:6]}
    paper = training_key(bind(load_recipe("paper"), installed_plugins()), 0, tiny_splits())
    assert len(keys) == 6 and paper in keys


def test_table_of_networks_matches_the_code() -> None:
    rows = re.findall(r"(?m)^\| (\d)\b.*?\| `(\w+)`.*\| ([\d,]+) \|$", PAGE)
    assert [name for _, name, _ in rows] == ARMS
    for number, name, weights in rows:
        model = network_named(load_recipe(name).model.name, (48, 48, 1), 7)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert (PUBLISHED[int(number)].recipes[-1], weights) == (name, f"{count:,}")


def test_html_report_sections_named_on_the_page_exist() -> None:
    sections = set(re.findall(r"report\.html, \*([^*]+)\*", PAGE))
    assert sections and sections <= set(SECTIONS.values())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return the report on synthetic runs of all seven arms, with the class counts of FER2013's PrivateTest."""
    folder, counts = tmp_path_factory.mktemp("the_report"), tuple(TEST_COUNTS.values())
    runs = {
        name: write_arm(folder, name, [0.5] * 7, seeds=[0], counts=counts, class_names=tuple(TEST_COUNTS))
        for name in ARMS
    }
    facts: dict[str, Any] = {"source": "faces", "fingerprint": "f" * 64, "counts": counts_by_split(counts)}
    save_comparison(compare_runs(runs, baseline="convnet0", **facts), folder)
    return fer_augment("report", str(folder), "--format", "markdown", "--published")


@pytest.mark.parametrize(
    ("number", "name", "accuracy", "test_loss", "training_loss"),
    [
        (0, "convnet0", "45.8", "2,594.5", "1,925.6"),
        (1, "convnet1", "61.4", "1,883.8", "15.2"),
        (2, "convnet2", "59.1", "2,013.6", "16.6"),
        (3, "convnet3", "59.2", "1,998.6", "11.6"),
        (4, "convnet4", "57.3", "2,082.8", "28.2"),
        (5, "convnet5", "61.2", "1,942.7", "1,119.3"),
        (6, "confusion_mirror", "61.3", "1,962.5", "1,133.7"),
    ],
)
def test_table_2_has_the_published_numbers(
    table: Ran, number: int, name: str, accuracy: str, test_loss: str, training_loss: str
) -> None:
    assert table.code == 0, table.err
    for figure, reported in (
        ("test accuracy, %", accuracy),
        ("test loss, sum", test_loss),
        ("training loss, sum", training_loss),
    ):
        assert f"| {number} | {name} | 1 | {figure} | {reported} | " in table.out


@pytest.mark.parametrize(("number", "name"), [(5, "convnet5"), (6, "confusion_mirror")])
def test_tables_3_to_6_have_all_classes(table: Ran, number: int, name: str) -> None:
    _, _, below = table.out.partition(f"## Model {number} of the report and {name}")
    classes = [line.split(" | ")[0].removeprefix("| ") for line in below.splitlines() if line.startswith("| ")]
    assert classes[:9] == ["class", ":--", *TEST_COUNTS]


def compare(folder: Path, data: str, *arms: str) -> Ran:
    few = ("--seeds", "1", "--jobs", "1", "--set", "training.epochs=1", "--set", "data.size=24")
    return fer_augment("compare", *arms, "--data", data, "--out", str(folder), *few)


def test_published_is_refused_for_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    ran = compare(tmp_path / "out", "demo", "convnet0")
    assert ran.code == 0, ran.err
    assert_refused(fer_augment("report", str(tmp_path / "out"), "--format", "terminal", "--published"), *ARMS)


@pytest.mark.skipif(not ARCHIVE.is_file(), reason="FER2013 is not set to a folder with fer2013_images.zip")
def test_published_works_on_fer2013(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for one epoch on 1/40 of the training images at half their size; score on all of PrivateTest."""
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(ARCHIVE) as source, zipfile.ZipFile(tmp_path / "part.zip", "w") as part:
        images = [name for name in sorted(source.namelist()) if name.endswith(".jpg")]
        for name in [name for number, name in enumerate(images) if "PrivateTest_" in name or number % 40 == 0]:
            part.writestr(name, source.read(name))
    ran = compare(tmp_path / "out", str(tmp_path / "part.zip"), "convnet5", "confusion_mirror", "convnet0")
    assert ran.code == 0, ran.err
    assert read_comparison(tmp_path / "out").data.counts["test"] == TEST_COUNTS
    shown = fer_augment("report", str(tmp_path / "out"), "--format", "terminal", "--published")
    assert shown.code == 0, shown.err
    assert_readable(shown)
    models = {tuple(line.split()[:2]) for line in shown.out.splitlines()}
    assert {("0", "convnet0"), ("5", "convnet5"), ("6", "confusion_mirror")} <= models
