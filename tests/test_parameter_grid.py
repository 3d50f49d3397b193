"""Grids: the arms that `--grid` makes, and the choice among them on validation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import fer_augment as fa
from fer_augment.arguments import grid_lines
from fer_augment.errors import FerAugmentError, RecipeError, RunError
from fer_augment.recipe.parameter_grid import MAX_ARMS, GridArm, grid_arms
from fer_augment.recipe.recipe import Recipe
from fer_augment.reports.grids import overview, validation_overview
from fer_augment.reports.html import report_html
from fer_augment.reports.tables import markdown
from fer_augment.reports.wording import choice_sentence
from fer_augment.results.comparison import ComparisonRecord, read_comparison, save_comparison
from fer_augment.results.verdicts import compare_runs
from fer_augment.significance import holm
from tests.command_line import assert_refused, fer_augment
from tests.comparison_place import write_place
from tests.html_page import parse
from tests.synthetic_runs import counts_by_split, write_arm

BASE = Recipe(name="base", model="tiny")
SAMPLED = Recipe(name="sampled", description="Sampled.", model="tiny", strategies=[{"sampler": {"mode": "x"}}])
EXPONENT = "strategies.sampler.exponent"
LINES = "must be a mapping, or lines of text such as "


def names(arms: list[GridArm]) -> list[str]:
    return [arm.recipe.name for arm in arms]


class TestArms:
    def test_without_a_grid_are_the_recipes(self) -> None:
        assert grid_arms([BASE, SAMPLED], []) == [GridArm(BASE), GridArm(SAMPLED)]

    def test_there_is_one_for_each_value_where_the_step_is(self) -> None:
        base, *others = grid_arms([BASE, SAMPLED], [f"{EXPONENT}=0.25, 0.5,1"])
        assert base == GridArm(BASE)
        assert names(others) == ["sampled-exponent-0.25", "sampled-exponent-0.5", "sampled-exponent-1"]
        assert [arm.recipe.strategies[0].parameters for arm in others] == [
            {"mode": "x", "exponent": exponent} for exponent in (0.25, 0.5, 1)
        ]
        assert others[0].values == {EXPONENT: 0.25}
        assert others[0].recipe.description == "Sampled. Here exponent = 0.25."

    def test_a_description_without_a_full_stop_is_ended(self) -> None:
        recipe = SAMPLED.model_copy(update={"description": "sampler"})
        assert grid_arms([BASE, recipe], [f"{EXPONENT}=0,1"])[1].recipe.description == "sampler. Here exponent = 0."

    def test_several_grids_give_all_combinations(self) -> None:
        arms = grid_arms([BASE, SAMPLED], ["training.epochs=2,4", f"{EXPONENT}=0,1"])
        assert names(arms) == ["base-epochs-2", "base-epochs-4"] + [
            f"sampled-epochs-{epochs}-exponent-{exponent}" for epochs in (2, 4) for exponent in (0, 1)
        ]
        assert [arm.recipe.training.epochs for arm in arms] == [2, 4, 2, 2, 4, 4]

    def test_values_are_yaml(self) -> None:
        arms = grid_arms([SAMPLED], [f"{EXPONENT}=1e-4, null, yes, true, [1, 2], 'a, b', {{a: 1}}"])
        values = [arm.values[EXPONENT] for arm in arms]
        assert values == [1e-4, None, "yes", True, [1, 2], "a, b", {"a": 1}]
        assert [name.removeprefix("sampled-exponent-") for name in names(arms)] == [
            *("0.0001", "null", "yes", "true", "1-2", "a-b", "a-1")
        ]

    def test_networks_are_chosen_by_name_and_parameter(self) -> None:
        other = Recipe(name="other", model={"wide": {"width": 3}})
        arms = grid_arms([BASE, other], ["model.wide.width=8,16"])
        assert names(arms) == ["base", "other-width-8", "other-width-16"]
        assert [arm.recipe.model.parameters for arm in arms] == [{}, {"width": 8}, {"width": 16}]

    @pytest.mark.parametrize(
        "grid",
        [
            [f"{EXPONENT}=a/b, a-b, a b"],
            [f"{EXPONENT}=1e20, 1e-20, -1, [-1], [1]"],
            [f"{EXPONENT}={'x' * 300}, {'x' * 301}"],
            [f"{EXPONENT}=../.., '', '\u00e9\u0301\u202e<b>', A, a"],
            [f"{EXPONENT}=1,2", "strategies.other.exponent=1,2"],
        ],
        ids=["separators", "signs", "long", "unsafe", "same-key"],
    )
    def test_names_are_folders_and_unique(self, grid: list[str]) -> None:
        recipe = Recipe(name="sampled", model="tiny", strategies=["sampler", "other"])
        found = names(grid_arms([recipe], grid))
        assert len({name.casefold() for name in found}) == len(found) > 1
        assert all(re.fullmatch(r"\w[\w.-]{0,99}", name) for name in found)
        assert all(Recipe(name=name, model="tiny").name == name for name in found)

    def test_long_names_are_cut_by_their_bytes(self) -> None:
        recipe = Recipe(name="\u00e9" * 100, model="tiny", strategies=["sampler"])
        found = names(grid_arms([recipe], [f"{EXPONENT}=1,2"]))
        assert len(set(found)) == 2
        assert all(re.fullmatch(r"\u00e9{45}-[0-9a-f]{8}", name) for name in found)

    def test_a_recipe_may_have_the_name_of_an_arm(self) -> None:
        twin = Recipe(name="sampled-exponent-1", model="tiny")
        found = names(grid_arms([SAMPLED, twin], [f"{EXPONENT}=0,1"]))
        assert found[0] == "sampled-exponent-0" and found[2] == "sampled-exponent-1"
        assert re.fullmatch(r"sampled-exponent-1-[0-9a-f]{8}", found[1])

    def test_the_ceiling_is_refused_in_one_line(self) -> None:
        values = ",".join(map(str, range(1, MAX_ARMS)))
        assert len(grid_arms([BASE, SAMPLED], [f"{EXPONENT}={values}"])) == MAX_ARMS
        with pytest.raises(RecipeError, match=f"makes {MAX_ARMS + 1} arms, at most {MAX_ARMS} are possible"):
            grid_arms([BASE, SAMPLED], [f"{EXPONENT}={values},{MAX_ARMS}"])

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (EXPONENT, "write it as key=value, for example strategies.power_sampler.exponent=0.25,0.5,1"),
            (f"{EXPONENT}=1", "give at least two values with commas between them; use --set for a single one"),
            (f"{EXPONENT}=", "give at least two values with commas between them; use --set for a single one"),
            (f"{EXPONENT}=[1, 2]", "give at least two values with commas between them; omit the brackets"),
            (f"{EXPONENT}=1,2,1.0", "the value 1.0 is given twice; remove one of them"),
            (f"{EXPONENT}=1,,2", "while parsing a flow node, expected the node content, but found ','"),
            (f"{EXPONENT}=1],[2", "expected '<document start>', but found ','"),
            ("strategies.samplr.exponent=1,2", "no recipe has a step 'samplr'; did you mean 'sampler'?"),
            ("model.tny.width=1,2", "no recipe has the model 'tny'; did you mean 'tiny'?"),
            ("training.epoch=1,2", "training.epoch: unknown key; did you mean 'epochs'?"),
            ("training.epochs=1,no", "training.epochs: should be a valid integer, got 'no'"),
            ("extends=a,b", "'extends' can only be set in a recipe file"),
            ("name=a,b", "'name' changes no training; a grid names its arms after their values"),
        ],
    )
    def test_an_invalid_line_is_refused(self, line: str, message: str) -> None:
        with pytest.raises(RecipeError) as refused:
            grid_arms([BASE, SAMPLED], [line])
        assert str(refused.value) == f"--grid {line}: {message}"

    def test_a_key_has_one_grid(self) -> None:
        with pytest.raises(RecipeError, match="has two grids; give all its values in one"):
            grid_arms([SAMPLED], [f"{EXPONENT}=1,2", f"{EXPONENT}=3,4"])


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> ComparisonRecord:
    """Two arms of a grid between a weak baseline and an arm that is better than all but not of the grid."""
    folder = tmp_path_factory.mktemp("runs")
    recalls = {"base": 0.5, "weak": 0.3, "strong": 0.8, "other": 0.97}
    runs = {name: write_arm(folder, name, (recall,) * 3) for name, recall in recalls.items()}
    return compare_runs(
        runs,
        baseline="base",
        source="faces",
        fingerprint="f" * 64,
        counts=counts_by_split((40, 30, 20)),
        grid={"weak": {EXPONENT: 1}, "strong": {EXPONENT: [2, "x"]}, "unfinished": {EXPONENT: None}},
    )


class TestChoice:
    def test_is_the_arm_of_the_grid_that_is_best_on_validation(self, chosen: ComparisonRecord) -> None:
        assert chosen.grid is not None and chosen.grid.chosen == "strong"

    def test_does_not_look_at_the_test_split(self, tmp_path: Path) -> None:
        runs = {name: write_arm(tmp_path, name, (0.5,) * 3, seeds=range(2)) for name in ("base", "a", "b", "c")}
        record = compare_runs(
            runs,
            baseline="base",
            source="faces",
            fingerprint="f" * 64,
            counts=counts_by_split((40, 30, 20)),
            grid={name: {"k": name} for name in "abc"},
        )
        means = {
            split: {name: getattr(record.arm(name), split).balanced_accuracy.mean for name in "abc"}
            for split in ("validation", "test")
        }
        best = {split: max(of_arms, key=of_arms.__getitem__) for split, of_arms in means.items()}
        assert best["validation"] != best["test"], "otherwise this test shows nothing"
        assert record.grid is not None and record.grid.chosen == best["validation"]

    def test_sorts_and_marks_the_tables(self, chosen: ComparisonRecord) -> None:
        expected = ["base (baseline)", "other", "strong (chosen on validation)", "weak"]
        of_validation = validation_overview(chosen)
        assert of_validation is not None
        for grid in (overview(chosen), of_validation):
            assert [row[0] for row in grid.groups[0]] == expected
        plain = chosen.model_copy(update={"grid": None})
        assert [row[0] for row in overview(plain).groups[0]] == ["base (baseline)", "weak", "strong", "other"]

    def test_is_explained_in_every_format(self, chosen: ComparisonRecord, tmp_path: Path) -> None:
        sentence = choice_sentence(chosen)
        assert sentence is not None
        assert sentence.startswith("strong was chosen on validation among the 3 arms of the grid: its mean balanced")
        assert "so its test score and its difference are unbiased by it" in sentence
        page = parse(report_html(chosen, tmp_path)).text
        for text in (markdown(chosen), page):
            assert sentence in " ".join(text.split()) and "strong (chosen on validation)" in text
        assert choice_sentence(chosen.model_copy(update={"grid": None})) is None

    def test_is_stored_and_optional(self, chosen: ComparisonRecord, tmp_path: Path) -> None:
        file = save_comparison(chosen, tmp_path)
        assert read_comparison(tmp_path).grid == chosen.grid
        content = json.loads(file.read_text())
        assert content["grid"]["chosen"] == "strong" and content["grid"]["arms"]["strong"] == {EXPONENT: [2, "x"]}
        file.write_text(json.dumps(content | {"grid": content["grid"] | {"chosen": "other"}}))
        with pytest.raises(RunError, match=r"grid\.chosen: is not an arm of the grid"):
            read_comparison(tmp_path)
        del content["grid"]
        file.write_text(json.dumps(content))
        assert read_comparison(tmp_path).grid is None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_place(tmp_path)
    (tmp_path / "sampler.yaml").write_text("extends: ./small.yaml\nstrategies: [power_sampler]\n")
    return tmp_path


def test_a_grid_is_compared_resumed_and_reported(place: Path) -> None:
    key = "strategies.power_sampler.exponent"
    arguments = ["compare", "small.yaml", "sampler.yaml", "--data", "faces", "--seeds", "2", "--jobs", "1"]
    command = [*arguments, "--grid", f"{key}=0,1", "--out", "out"]
    dry = fer_augment(*command, "--dry-run", "--json")
    assert [one["for"][0] for one in json.loads(dry.out)][::2] == [
        *("small, seed 0", "sampler-exponent-0, seed 0", "sampler-exponent-1, seed 0")
    ]
    ran = fer_augment(*command)
    assert ran.code == 0, ran.err
    assert "chosen on validation among the 2 arms of the grid" in " ".join(ran.out.split())
    first = fa.load_comparison("out")
    assert first.grid is not None and first.grid.chosen is not None
    assert first.grid.arms == {f"sampler-exponent-{value}": {key: value} for value in (0, 1)}
    scores = {name: np.mean([_balanced(run) for run in first.runs[name]]) for name in first.grid.arms}
    assert scores[first.grid.chosen] == max(scores.values())
    assert [run.record.steps[0].parameters["exponent"] for run in first.runs["sampler-exponent-1"]] == [1, 1]

    grown = fa.compare(
        ["small.yaml", "sampler.yaml"], "faces", seeds=2, jobs=1, out="out", grid={key: [0, 0.5, 1]}, progress=False
    )
    assert [arm.recipe for arm in grown.arms] == ["small", *(f"sampler-exponent-{value}" for value in (0, 0.5, 1))]
    assert set(grown.arm("sampler-exponent-1").run_keys) == set(first.arm("sampler-exponent-1").run_keys)
    assert not (place / "out" / "earlier").exists()
    judgments = [versus.balanced_accuracy for versus in grown.versus]
    assert [one.p_adjusted for one in judgments] == holm([one.p for one in judgments])
    assert set(grown.to_frame()["arm"]) == {arm.recipe for arm in grown.arms}
    report = fer_augment("report", "out", "--format", "markdown")
    assert report.code == 0 and "(chosen on validation)" in report.out


def _balanced(run: fa.Run) -> float:
    validation = run.predictions("validation")
    is_correct = validation.logits.argmax(axis=1) == validation.labels
    return float(np.mean([is_correct[validation.labels == label].mean() for label in np.unique(validation.labels)]))


def test_a_choice_in_a_cross_validation_is_said_to_be_biased(place: Path) -> None:
    comparison = fa.compare(
        "sampler.yaml", "faces", folds=2, repeats=1, jobs=1, grid=["training.epochs=1,2"], progress=False
    )
    sentence = choice_sentence(comparison)
    assert sentence is not None and "slightly too high by this choice" in sentence and "unbiased" not in sentence


def test_mistakes_are_refused_in_one_line(place: Path) -> None:
    command = ["compare", "small.yaml", "sampler.yaml", "--data", "faces", "--grid"]
    assert_refused(fer_augment(*command, "strategies.power_sampler.exponnt=0,1"), "exponnt", "did you mean 'exponent'")
    assert_refused(fer_augment(*command, "strategies.mixup.alpha=0,1"), "no recipe has a step 'mixup'")
    for grid, message in (
        ({"training.epochs": 3}, "grid: training.epochs: must be a list of values, got 3"),
        ({"training.epochs": "3,4"}, "grid: training.epochs: must be a list of values, got '3,4'"),
        ({"training.epochs": np.array(3)}, "grid: training.epochs: must be a list of values, got 3"),
        ({"training.epochs": [object(), 2]}, "grid: values must be numbers, text, truth values or lists of them"),
        ([("training.epochs", [5, 10])], f"grid: {LINES}'training.epochs=5,10', got ('training.epochs', [5, 10])"),
        (5, f"grid: {LINES}'training.epochs=5,10', got 5"),
    ):
        with pytest.raises(FerAugmentError, match=re.escape(message)):
            fa.prepare(["small.yaml"], "faces", grid=grid, progress=False)  # type: ignore[arg-type]
    with pytest.raises(FerAugmentError, match=f"overrides: {LINES}'model=convnet2', got None"):
        fa.prepare(["small.yaml"], "faces", overrides=None, progress=False)


def test_the_values_of_a_grid_may_be_an_array() -> None:
    values = [0.25, 0.5, 1.0]
    assert grid_lines({EXPONENT: np.array(values)}) == grid_lines({EXPONENT: values}) == [f"{EXPONENT}=0.25, 0.5, 1.0"]
