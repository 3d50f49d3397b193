"""The tables of gains say what the comparisons say, and are put where they belong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.__main__ import main
from benchmarks.gains_families import QUICK, families_of, find_arms
from benchmarks.gains_page import Gains, gains_in_markdown, put_in
from benchmarks.gains_times import relative_times
from fer_augment import Splits
from fer_augment.errors import FerAugmentError, RecipeError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import load_recipe, load_recipes, shipped_recipes
from fer_augment.reports.wording import interval, points
from fer_augment.results.comparison import ComparisonRecord, Failure, read_comparison
from fer_augment.training.store import CACHE_VARIABLE
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


def extending(folder: Path, name: str, steps: str) -> Path:
    """Write a recipe that extends `tiny.yaml`; `steps` are lines of YAML."""
    file = folder / f"{name}.yaml"
    file.write_text("extends: tiny.yaml\nstrategies:\n" + "".join(f"  {line}\n" for line in steps.splitlines()))
    return file


def table_rows(markdown: str, name: str) -> list[list[str]]:
    """Return the cells behind the name in each of the rows that begin with it."""
    lines = [line for line in markdown.splitlines() if line.startswith(f"| `{name}` |")]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]


class TestTheCommand:
    """One baseline and four arms on drawn squares, measured for real."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        folder = tmp_path_factory.mktemp("gains")
        write_recipe(folder, "tiny")
        steps = {"balanced": BALANCED, "adjusted": ADJUSTED, "mirrored": MIRRORED, "repeated": REPEATED}
        for name, told in steps.items():
            extending(folder, name, told)
        extending(folder, "elsewhere", MIRRORED.replace("bee", "dog"))
        write_squares(folder / "squares")
        (folder / "page.md").write_text("# Page\n\n<!-- gains: squares -->\nold\n<!-- end -->\n\nProse.\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
            yield folder

    @staticmethod
    def arguments(place: Path, *recipes: str) -> list[object]:
        told = [word for recipe in recipes for word in ("--recipe", place / f"{recipe}.yaml")]
        settings = ["--set", "training.scout.folds=2", "--jobs", 1]
        return ["--data", place / "squares", "--seeds", 2, "--out", place / "out", *settings, *told]

    @pytest.fixture(scope="class")
    @classmethod
    def measured(cls, place: Path) -> str:
        recipes = ("balanced", "adjusted", "mirrored", "repeated", "elsewhere")
        ran = gains(*cls.arguments(place, *recipes), "--page", place / "page.md")
        assert ran.exit_code == 0, ran.stderr
        return ran.stdout

    def test_the_tables_are_those_of_the_comparison(self, measured: str, place: Path) -> None:
        comparison = read_comparison(place / "out" / "tiny")
        assert [versus.recipe for versus in comparison.versus] == ["balanced", "adjusted", "mirrored", "repeated"]
        for versus in comparison.versus:
            changes, recalls = table_rows(measured, versus.recipe)
            said = versus.balanced_accuracy
            assert changes[:2] == ["2", f"{points(said.delta)} ({interval(said.ci95)}), {said.verdict}"]
            assert [cell.split(" ± ")[0] for cell in recalls] == [points(one.delta) for one in versus.recall.values()]
        assert "| recall of | ant (10) | bee (8) | cat (6) |" in measured

    def test_it_says_on_what_and_how(self, measured: str, place: Path) -> None:
        assert "python -m benchmarks gains --data squares --seeds 2" in measured
        assert str(place) not in measured
        assert "72 training rows and 24 test rows" in " ".join(measured.split())
        assert re.search(r"cores, .*torch [\d.]+.* precision float32.*; \d{4}-\d\d-\d\d\.", " ".join(measured.split()))
        assert "Overrides of all arms: `training.scout.folds=2`." in measured

    def test_what_does_not_fit_the_data_is_left_out_with_the_reason(self, measured: str) -> None:
        assert re.search(r"(?m)^- Left out: `elsewhere`; .*dog", measured)

    def test_time_is_what_comes_on_top_of_the_baseline_whoever_made_the_scouts(
        self, measured: str, place: Path
    ) -> None:
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

    def test_the_page_and_the_file_hold_the_same(self, measured: str, place: Path) -> None:
        text = measured.rstrip("\n")
        expected = f"# Page\n\n<!-- gains: squares -->\n\n{text}\n\n<!-- end -->\n\nProse.\n"
        assert (place / "page.md").read_text() == expected
        assert (place / "out" / "gains.md").read_text() == measured

    def test_it_goes_on_where_it_stopped(self, measured: str, place: Path) -> None:
        """The rest is done of a comparison of which a run, and what it alone trained, is gone."""
        trainings, runs = place / "cache" / "trainings", place / "out" / "tiny" / "runs"
        stood = {path: path.stat().st_mtime_ns for path in (*trainings.iterdir(), *runs.glob("*/*"))}
        (gone,) = runs.glob("balanced/seed-1-*")
        gone.rename(place / "gone")
        again = gains(*self.arguments(place, "balanced", "adjusted", "mirrored", "repeated", "elsewhere"))
        assert again.exit_code == 0
        assert gone.is_dir()
        found = {path: path.stat().st_mtime_ns for path in (*trainings.iterdir(), *runs.glob("*/*"))}
        assert {path for path in found if found[path] != stood.get(path)} == {gone}
        assert again.stdout == measured

    def test_a_failed_run_is_told_and_costs_no_other(self, place: Path) -> None:
        (place / "breaking.py").write_text(
            "from fer_augment import Strategy, hookimpl\n\n\nclass Break(Strategy):\n    @hookimpl\n"
            "    def rewrite_training_set(self, training_set):\n        raise ValueError('it broke')\n"
        )
        extending(place, "breaks", "- breaking.py:Break")
        ran = gains(*self.arguments(place, "breaks", "balanced"), "--out", place / "failing")
        assert ran.exit_code == 1
        assert len(table_rows(ran.stdout, "balanced")) == 2
        assert re.search(r"(?m)^- `breaks` with seed 1 failed: .*it broke", ran.stdout)


class TestWhatIsRefused:
    """The user's mistakes: one line, exit code 2."""

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--recipe", "flpi"], "did you mean 'flip'?"),
            (["--recipe", "paper"], "name one with --baseline"),
            (["--recipe", "flip", "--set", "strategies.mixup.alpha=1"], "mixup"),
            (["--recipe", "flip", "--page", "README.md", "--place", "nowhere"], "<!-- gains: nowhere -->"),
            (["--recipe", "flip", "--page", "no.md"], "no.md: cannot be read"),
            (["--recipe", "flip", "--data", "no.csv"], "no.csv"),
        ],
    )
    def test_it_is_told_in_a_line(self, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        ran = gains(*arguments)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert told in ran.stderr
        assert ran.stderr.count("\n") == 1


class TestFamilies:
    def test_every_shipped_recipe_is_compared_with_the_root_of_what_it_extends(self) -> None:
        families = families_of([])
        assert {family.name for family in families} == {"demo", "modern", "paper"}
        members = [recipe for family in families for recipe in (family.baseline, *family.recipes)]
        assert sorted(members) == sorted(shipped_recipes())

    def test_a_family_is_given_the_overrides_that_it_knows(self) -> None:
        told = ["training.epochs=3", "strategies.mixup.alpha=1"]
        of_family = {one.name: one.overrides for one in families_of(["flip", "modern_mixup"], told)}
        assert of_family == {"paper": ("training.epochs=3",), "modern": tuple(told)}

    def test_an_override_takes_the_place_of_a_quick_setting(self) -> None:
        (family,) = families_of(["flip"], ["training.epochs=3"], quick=True)
        assert sorted(family.overrides) == sorted({*QUICK["paper"], "training.epochs=3"} - {"training.epochs=10"})

    @pytest.fixture(scope="class")
    @classmethod
    def faces(cls) -> Splits:
        return installed_plugins().read("demo", lambda done, total: None)

    def test_quick_all_recipes_can_be_compared_but_those_of_other_networks(self, faces: Splits) -> None:
        families = families_of([], quick=True)
        for family in families:
            find_arms(family, faces, installed_plugins())
        left_out = {name for family in families for name in family.left_out}
        assert left_out == {f"convnet{number}" for number in range(6)}

    def test_what_would_never_act_is_left_out(self, faces: Splits) -> None:
        (family,) = families_of(["modern_deferred_sampler"], ["training.epochs=10", "model=convnet0"])
        find_arms(family, faces, installed_plugins())
        assert "it never acts" in family.left_out["modern_deferred_sampler"]

    def test_a_baseline_may_be_named(self) -> None:
        (family,) = families_of([str(OWN_RECIPES / "bfloat16.yaml")], baseline=str(OWN_RECIPES / "float32.yaml"))
        arms = load_recipes([family.baseline, *family.recipes])
        assert [arm.training.precision for arm in arms] == ["float32", "bfloat16"]
        assert arms[0].training.model_copy(update={"precision": "bfloat16"}) == arms[1].training
        with pytest.raises(RecipeError, match="nothing"):
            families_of(["flip"], baseline="nothing")

    @pytest.mark.parametrize("file", sorted((OWN_RECIPES / "quick").iterdir()), ids=lambda file: file.stem)
    def test_quick_recipes_differ_from_the_shipped_ones_in_epochs_alone(self, file: Path) -> None:
        counted = ("from_epoch", "ramp_epochs")

        def without_epochs(recipe: str) -> list[tuple[str, dict[str, object]]]:
            steps = load_recipe(recipe).strategies
            return [(step.name, {k: v for k, v in step.parameters.items() if k not in counted}) for step in steps]

        assert without_epochs(str(file)) == without_epochs(file.stem)


class TestTheTables:
    """Comparisons of made-up runs."""

    @staticmethod
    def shown(comparison: ComparisonRecord, **changes: object) -> str:
        told = Gains("base", comparison, **changes)
        return gains_in_markdown([told], command="make it", cores=2, date="2030-01-02")

    def test_the_words_are_those_of_the_verdicts(self, tmp_path: Path) -> None:
        comparison = write_comparison(tmp_path)
        good, same = comparison.versus
        (changes, _), (same_changes, _) = (table_rows(self.shown(comparison), name) for name in ("good", "same"))
        assert changes[1].endswith(", better")
        assert same_changes[1].endswith(", no evidence of a difference")
        assert changes[2] == f"{good.balanced_accuracy.detectable * 100:.1f}"
        assert changes[3] == f"{points(good.test_deduplicated.balanced_accuracy.delta)} (" + (
            f"{interval(good.test_deduplicated.balanced_accuracy.ci95)})"
        )
        moved = {verdict: [n for n, one in good.recall.items() if one.verdict == verdict] for verdict in ("better",)}
        assert moved["better"]
        assert all(f"{name} {points(good.recall[name].delta)}" in changes[5] for name in moved["better"])
        assert {one.verdict for one in same.recall.values()} == {"no evidence of a difference"}
        assert same_changes[5] == "-"
        read = " ".join(self.shown(comparison).split())
        assert "before that correction; with several arms or classes it takes more" in read

    def test_without_copies_there_is_no_column_for_it(self, tmp_path: Path) -> None:
        assert "| without copies |" in self.shown(write_comparison(tmp_path / "some"))
        assert "without copies" not in self.shown(write_comparison(tmp_path / "none", duplicates=()))

    def test_one_run_gives_differences_and_no_verdict(self, tmp_path: Path) -> None:
        changes, recalls = table_rows(self.shown(write_comparison(tmp_path, seeds=(0,))), "good")
        assert re.fullmatch(r"[+-][\d.]+, not tested \(one run\)", changes[1])
        assert (changes[0], changes[2], changes[5], changes[6]) == ("1", "-", "-", "-")
        assert all(re.fullmatch(r"[+-]?[\d.]+", cell) for cell in recalls)

    def test_times_are_means_with_n(self, tmp_path: Path) -> None:
        text = self.shown(write_comparison(tmp_path), times={"good": (1.0, 2.0), "same": (0.0, 0.0)})
        assert table_rows(text, "good")[0][-1] == "1.50 (n = 2)"
        assert table_rows(text, "same")[0][-1] == "none"

    def test_names_from_files_are_shown_as_text(self, tmp_path: Path) -> None:
        failed = Failure(recipe="good", seed=7, message="<script>|")
        comparison = write_comparison(
            tmp_path, class_names=("a|b", "<b>", "<!-- end -->"), failures=[failed], source="/home/me/<i>.csv"
        )
        text = self.shown(comparison, left_out={"other": "<u>"})
        assert not re.search(r"<(script|b|i|u|!--)", text)
        assert "/home/me" not in text
        assert {line.count("|") - line.count("\\|") for line in text.splitlines() if "recall of" in line} == {5}

    def test_a_family_without_a_result_says_why(self, tmp_path: Path) -> None:
        lost = Gains("lost", None, trouble="no run finished", left_out={"other": "it is idle"})
        text = gains_in_markdown(
            [lost, Gains("base", write_comparison(tmp_path))], command="make it", cores=2, date="2030-01-02"
        )
        assert "### Against `lost`" in text
        assert "- Nothing finished: no run finished" in text
        with pytest.raises(FerAugmentError, match="nothing to compare: no run finished"):
            gains_in_markdown([lost], command="make it", cores=2, date="2030-01-02")


class TestThePage:
    PAGE = "before\n<!-- gains: a -->\nold\n<!-- end -->\nbetween\n<!-- gains: b -->\n<!-- end -->\nafter\n"

    def test_only_its_own_place_changes(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(self.PAGE)
        put_in(page, "b", "new")
        assert page.read_text() == self.PAGE.replace(
            "<!-- gains: b -->\n<!-- end -->", "<!-- gains: b -->\n\nnew\n\n<!-- end -->"
        )
        put_in(page, "b", "newer")
        put_in(page, "a", "new")
        assert page.read_text().split("<!-- end -->") == [
            "before\n<!-- gains: a -->\n\nnew\n\n",
            "\nbetween\n<!-- gains: b -->\n\nnewer\n\n",
            "\nafter\n",
        ]

    @pytest.mark.parametrize("text", ["", PAGE, "<!-- gains: c -->\n", "<!-- gains: c -->\n" + PAGE])
    def test_a_page_without_the_place_stays_as_it_is(self, tmp_path: Path, text: str) -> None:
        page = tmp_path / "page.md"
        page.write_text(text)
        with pytest.raises(FerAugmentError, match="gains: c"):
            put_in(page, "c", "new")
        assert page.read_text() == text

    @pytest.mark.parametrize("place", ["demo", "precision"])
    def test_the_page_of_results_has_the_places_of_make(self, place: str, tmp_path: Path) -> None:
        page = tmp_path / "results.md"
        page.write_text((ROOT / "docs" / "results.md").read_text(encoding="utf-8"), encoding="utf-8")
        put_in(page, place, "new")
