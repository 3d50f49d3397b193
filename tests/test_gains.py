"""`python -m benchmarks gains`: families, tables of comparisons, and their insertion into a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.gains_families import QUICK, families_of, select_arms
from benchmarks.gains_page import Gains, gains_in_markdown, insert_tables
from benchmarks.gains_times import relative_times
from fer_augment import Splits
from fer_augment.cache import CACHE_VARIABLE
from fer_augment.errors import FerAugmentError, RecipeError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import load_recipe, load_recipes, shipped_recipes
from fer_augment.reports.wording import interval, points
from fer_augment.results.comparison import ComparisonRecord, Failure, read_comparison
from tests.comparison_directory import write_comparison
from tests.tiny_runs import write_recipe, write_squares

ROOT = Path(__file__).parents[1]
OWN_RECIPES = ROOT / "benchmarks" / "recipes"

BALANCED = "- power_sampler: {exponent: 1}"
ADJUSTED = "- logit_adjustment: {tau: 1}"
MIRRORED = "- confusion_mirror: {pairs: [[ant, bee]], predictions: out_of_fold}"
REPEATED = "- confusion_mirror: {pairs: [[ant, bee]], predictions: out_of_fold, transform: none}"


def gains(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["gains", *map(str, arguments)], catch_exceptions=False)


def write_extension(folder: Path, name: str, steps: str) -> Path:
    """Write a recipe that extends `tiny.yaml`; `steps` are lines of YAML."""
    file = folder / f"{name}.yaml"
    file.write_text("extends: tiny.yaml\nstrategies:\n" + "".join(f"  {line}\n" for line in steps.splitlines()))
    return file


def table_rows(markdown: str, name: str) -> list[list[str]]:
    """Return the cells after the name in each table row of an arm."""
    lines = [line for line in markdown.splitlines() if line.startswith(f"| `{name}` |")]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]


class TestCommand:
    """A baseline and four arms on images of squares, trained and compared."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        folder = tmp_path_factory.mktemp("gains")
        write_recipe(folder, "tiny")
        steps = {"balanced": BALANCED, "adjusted": ADJUSTED, "mirrored": MIRRORED, "repeated": REPEATED}
        for name, lines in steps.items():
            write_extension(folder, name, lines)
        write_extension(folder, "unfit", MIRRORED.replace("bee", "dog"))
        write_squares(folder / "squares")
        (folder / "page.md").write_text("# Page\n\n<!-- gains: squares -->\nold\n<!-- end -->\n\nProse.\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
            yield folder

    @staticmethod
    def arguments(place: Path, *recipes: str) -> list[object]:
        names = [word for recipe in recipes for word in ("--recipe", place / f"{recipe}.yaml")]
        settings = ["--set", "training.scout.folds=2", "--jobs", 1]
        return ["--data", place / "squares", "--seeds", 2, "--out", place / "out", *settings, *names]

    @pytest.fixture(scope="class")
    @classmethod
    def measured(cls, place: Path) -> str:
        recipes = ("balanced", "adjusted", "mirrored", "repeated", "unfit")
        result = gains(*cls.arguments(place, *recipes), "--page", place / "page.md")
        assert result.exit_code == 0, result.stderr
        return result.stdout

    def test_tables_match_the_comparison(self, measured: str, place: Path) -> None:
        comparison = read_comparison(place / "out" / "tiny")
        assert [versus.recipe for versus in comparison.versus] == ["balanced", "adjusted", "mirrored", "repeated"]
        for versus in comparison.versus:
            scores, recalls = table_rows(measured, versus.recipe)
            judgment = versus.balanced_accuracy
            assert scores[:2] == ["2", f"{points(judgment.delta)} ({interval(judgment.ci95)}), {judgment.verdict}"]
            assert [cell.split(" ± ")[0] for cell in recalls] == [points(one.delta) for one in versus.recall.values()]
        assert "| recall of | ant (10) | bee (8) | cat (6) |" in measured

    def test_text_names_command_data_environment_and_overrides(self, measured: str, place: Path) -> None:
        assert "python -m benchmarks gains --data squares --seeds 2" in measured
        assert str(place) not in measured
        assert "72 training rows and 24 test rows" in " ".join(measured.split())
        assert re.search(r"cores, .*torch [\d.]+.* precision float32.*; \d{4}-\d\d-\d\d\.", " ".join(measured.split()))
        assert "Overrides of all arms: `training.scout.folds=2`." in measured

    def test_recipe_with_an_unknown_class_is_left_out_with_the_reason(self, measured: str) -> None:
        assert re.search(r"(?m)^- Left out: `unfit`; .*dog", measured)

    def test_time_includes_scouts_shared_with_other_arms(self, measured: str, place: Path) -> None:
        assert table_rows(measured, "adjusted")[0][-1] == "none"
        names = ["tiny", "balanced", "adjusted", "mirrored", "repeated"]
        recipes = load_recipes([str(place / f"{name}.yaml") for name in names], ["training.scout.folds=2"])
        arms = [bind(recipe, installed_plugins()) for recipe in recipes]
        splits = installed_plugins().read(str(place / "squares"), lambda done, total: None)
        times = relative_times(arms, splits, (0, 1, 2))
        assert {name: len(shares) for name, shares in times.items()} == dict.fromkeys(names[1:], 2)  # of three seeds
        first, second = (math.fsum(times[name]) for name in ("mirrored", "repeated"))
        assert min(first, second) > math.fsum(times["balanced"]) > 0
        assert table_rows(measured, "repeated")[0][-1] == f"{second / 2:.2f} (n = 2)"

    def test_page_and_file_have_the_same_tables(self, measured: str, place: Path) -> None:
        text = measured.rstrip("\n")
        expected = f"# Page\n\n<!-- gains: squares -->\n\n{text}\n\n<!-- end -->\n\nProse.\n"
        assert (place / "page.md").read_text() == expected
        assert (place / "out" / "gains.md").read_text() == measured

    def test_second_call_does_only_the_missing_run(self, measured: str, place: Path) -> None:
        trainings, runs = place / "cache" / "trainings", place / "out" / "tiny" / "runs"
        before = {path: path.stat().st_mtime_ns for path in (*trainings.glob("*/*"), *runs.glob("*/*"))}
        (removed,) = runs.glob("balanced/seed-1-*")
        removed.rename(place / "removed")
        again = gains(*self.arguments(place, "balanced", "adjusted", "mirrored", "repeated", "unfit"))
        assert again.exit_code == 0
        assert removed.is_dir()
        after = {path: path.stat().st_mtime_ns for path in (*trainings.glob("*/*"), *runs.glob("*/*"))}
        assert {path for path in after if after[path] != before.get(path)} == {removed}
        assert again.stdout == measured

    def test_failed_run_is_reported_and_others_are_done(self, place: Path) -> None:
        (place / "breaking.py").write_text(
            "from fer_augment import Strategy, hookimpl\n\n\nclass Break(Strategy):\n    @hookimpl\n"
            "    def rewrite_training_set(self, training_set):\n        raise ValueError('it broke')\n"
        )
        write_extension(place, "breaks", "- breaking.py:Break")
        result = gains(*self.arguments(place, "breaks", "balanced"), "--out", place / "failing")
        assert result.exit_code == 1
        assert len(table_rows(result.stdout, "balanced")) == 2
        assert re.search(r"(?m)^- `breaks` with seed 1 failed: .*it broke", result.stdout)


class TestInvalidInput:
    """Invalid input gives one line on stderr and exit code 2."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--recipe", "flpi"], "did you mean 'flip'?"),
            (["--recipe", "paper"], "select one with --baseline"),
            (["--recipe", "flip", "--set", "strategies.mixup.alpha=1"], "mixup"),
            (["--recipe", "flip", "--page", "README.md", "--place", "nowhere"], "<!-- gains: nowhere -->"),
            (["--recipe", "flip", "--page", "no.md"], "no.md: cannot be read"),
            (["--recipe", "flip", "--data", "no.csv"], "no.csv"),
        ],
    )
    def test_message_has_one_line(self, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        result = gains(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


class TestFamilies:
    def test_baseline_of_a_shipped_recipe_is_the_root_recipe_that_it_extends(self) -> None:
        families = families_of([])
        assert {family.name for family in families} == {"demo", "modern", "paper"}
        members = [recipe for family in families for recipe in (family.baseline, *family.recipes)]
        assert sorted(members) == sorted(shipped_recipes())

    def test_overrides_of_steps_apply_only_to_families_with_these_steps(self) -> None:
        overrides = ["training.epochs=3", "strategies.mixup.alpha=1"]
        by_family = {family.name: family.overrides for family in families_of(["flip", "modern_mixup"], overrides)}
        assert by_family == {"paper": ("training.epochs=3",), "modern": tuple(overrides)}

    def test_override_replaces_a_quick_setting(self) -> None:
        (family,) = families_of(["flip"], ["training.epochs=3"], quick=True)
        assert sorted(family.overrides) == sorted({*QUICK["paper"], "training.epochs=3"} - {"training.epochs=10"})

    @pytest.fixture(scope="class")
    @classmethod
    def faces(cls) -> Splits:
        return installed_plugins().read("demo", lambda done, total: None)

    def test_quick_selects_all_recipes_except_those_with_other_networks(self, faces: Splits) -> None:
        families = families_of([], quick=True)
        for family in families:
            select_arms(family, faces, installed_plugins())
        left_out = {name for family in families for name in family.left_out}
        assert left_out == {f"convnet{number}" for number in range(6)}

    def test_recipe_with_a_step_that_never_acts_is_left_out(self, faces: Splits) -> None:
        (family,) = families_of(["modern_deferred_sampler"], ["training.epochs=10", "model=convnet0"])
        select_arms(family, faces, installed_plugins())
        assert "it never acts" in family.left_out["modern_deferred_sampler"]

    def test_baseline_can_be_selected(self) -> None:
        (family,) = families_of([str(OWN_RECIPES / "bfloat16.yaml")], baseline=str(OWN_RECIPES / "float32.yaml"))
        arms = load_recipes([family.baseline, *family.recipes])
        assert [arm.training.precision for arm in arms] == ["float32", "bfloat16"]
        assert arms[0].training.model_copy(update={"precision": "bfloat16"}) == arms[1].training
        with pytest.raises(RecipeError, match="nothing"):
            families_of(["flip"], baseline="nothing")

    @pytest.mark.parametrize("file", sorted((OWN_RECIPES / "quick").iterdir()), ids=lambda file: file.stem)
    def test_quick_recipes_differ_from_the_shipped_ones_only_in_epoch_numbers(self, file: Path) -> None:
        epoch_numbers = ("from_epoch", "ramp_epochs")

        def without_epochs(recipe: str) -> list[tuple[str, dict[str, object]]]:
            steps = load_recipe(recipe).strategies
            return [(step.name, {k: v for k, v in step.parameters.items() if k not in epoch_numbers}) for step in steps]

        assert without_epochs(str(file)) == without_epochs(file.stem)


class TestTables:
    """Tables of synthetic runs."""

    @staticmethod
    def tables(comparison: ComparisonRecord, **changes: Any) -> str:
        gains = Gains("base", comparison, **changes)
        return gains_in_markdown([gains], command="make it", cores=2, date="2030-01-02")

    def test_cells_match_the_judgments(self, tmp_path: Path) -> None:
        comparison = write_comparison(tmp_path)
        good, same = comparison.versus
        (good_cells, _), (same_cells, _) = (table_rows(self.tables(comparison), name) for name in ("good", "same"))
        assert good_cells[1].endswith(", better")
        assert same_cells[1].endswith(", no evidence of a difference")
        assert good_cells[2] == f"{good.balanced_accuracy.detectable * 100:.1f}"
        assert good_cells[3] == f"{points(good.test_deduplicated.balanced_accuracy.delta)} (" + (
            f"{interval(good.test_deduplicated.balanced_accuracy.ci95)})"
        )
        better = [name for name, judgment in good.recall.items() if judgment.verdict == "better"]
        assert better
        assert all(f"{name} {points(good.recall[name].delta)}" in good_cells[5] for name in better)
        assert {judgment.verdict for judgment in same.recall.values()} == {"no evidence of a difference"}
        assert same_cells[5] == "-"
        text = " ".join(self.tables(comparison).split())
        assert "with 80 % power, unadjusted; with several arms or classes it is larger" in text

    def test_deduplicated_column_exists_only_if_there_are_duplicates(self, tmp_path: Path) -> None:
        assert "| deduplicated |" in self.tables(write_comparison(tmp_path / "some"))
        assert "deduplicated" not in self.tables(write_comparison(tmp_path / "none", duplicates=()))

    def test_one_run_gives_differences_without_verdicts(self, tmp_path: Path) -> None:
        cells, recalls = table_rows(self.tables(write_comparison(tmp_path, seeds=(0,))), "good")
        assert re.fullmatch(r"[+-][\d.]+, not tested \(one run\)", cells[1])
        assert (cells[0], cells[2], cells[5], cells[6]) == ("1", "-", "-", "-")
        assert all(re.fullmatch(r"[+-]?[\d.]+", cell) for cell in recalls)

    def test_times_are_means_with_n(self, tmp_path: Path) -> None:
        text = self.tables(write_comparison(tmp_path), times={"good": (1.0, 2.0), "same": (0.0, 0.0)})
        assert table_rows(text, "good")[0][-1] == "1.50 (n = 2)"
        assert table_rows(text, "same")[0][-1] == "none"

    def test_names_from_files_are_escaped(self, tmp_path: Path) -> None:
        failed = Failure(recipe="good", seed=7, message="<script>|")
        comparison = write_comparison(
            tmp_path, class_names=("a|b", "<b>", "<!-- end -->"), failures=[failed], source="/home/me/<i>.csv"
        )
        text = self.tables(comparison, left_out={"other": "<u>"})
        assert not re.search(r"<(script|b|i|u|!--)", text)
        assert "/home/me" not in text
        assert {line.count("|") - line.count("\\|") for line in text.splitlines() if "recall of" in line} == {5}

    def test_family_without_a_comparison_shows_the_reason(self, tmp_path: Path) -> None:
        error = "nothing to compare: no run finished"
        failed = Gains("failed", None, error=error, left_out={"other": "it never acts"})
        text = gains_in_markdown(
            [failed, Gains("base", write_comparison(tmp_path))], command="make it", cores=2, date="2030-01-02"
        )
        assert "### Against `failed`" in text
        assert f"- Failed: {error}" in text
        with pytest.raises(FerAugmentError, match=f"^{error}$"):
            gains_in_markdown([failed], command="make it", cores=2, date="2030-01-02")
        with pytest.raises(FerAugmentError, match="^nothing to compare: it never acts$"):
            gains_in_markdown(
                [Gains("base", None, left_out={"other": "it never acts"})], command="", cores=2, date="2030-01-02"
            )


class TestPage:
    PAGE = "before\n<!-- gains: a -->\nold\n<!-- end -->\nbetween\n<!-- gains: b -->\n<!-- end -->\nafter\n"

    def test_only_the_named_place_changes(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(self.PAGE)
        insert_tables(page, "b", "new")
        assert page.read_text() == self.PAGE.replace(
            "<!-- gains: b -->\n<!-- end -->", "<!-- gains: b -->\n\nnew\n\n<!-- end -->"
        )
        insert_tables(page, "b", "newer")
        insert_tables(page, "a", "new")
        assert page.read_text().split("<!-- end -->") == [
            "before\n<!-- gains: a -->\n\nnew\n\n",
            "\nbetween\n<!-- gains: b -->\n\nnewer\n\n",
            "\nafter\n",
        ]

    @pytest.mark.parametrize("text", ["", PAGE, "<!-- gains: c -->\n", "<!-- gains: c -->\n" + PAGE])
    def test_page_without_the_place_is_refused_and_unchanged(self, tmp_path: Path, text: str) -> None:
        page = tmp_path / "page.md"
        page.write_text(text)
        with pytest.raises(FerAugmentError, match="gains: c"):
            insert_tables(page, "c", "new")
        assert page.read_text() == text

    @pytest.mark.parametrize("place", ["demo", "precision"])
    def test_results_page_has_the_places_of_the_make_targets(self, place: str, tmp_path: Path) -> None:
        page = tmp_path / "results.md"
        page.write_text((ROOT / "docs" / "results.md").read_text(encoding="utf-8"), encoding="utf-8")
        insert_tables(page, place, "new")
