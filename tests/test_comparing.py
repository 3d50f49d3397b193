"""`fer_augment.compare` and its kin, on real trainings of tiny data."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fer_augment as fa
from fer_augment.arguments import directory_name
from fer_augment.data.dataset import SourceRows
from fer_augment.errors import FerAugmentError, NothingFinishedError
from fer_augment.prepared_comparison import PreparedComparison
from tests.comparison_place import CLASSES, face_files, write_place
from tests.data_files import encoded, write_folder
from tests.html_page import parse

ARMS = ["small.yaml", "more.yaml", "mined.yaml"]


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def place(shared_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files of the shared place, and a cache that all tests share."""
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(shared_place / "cache"))
    for file in shared_place.iterdir():
        if file.name not in ("cache", "results"):
            (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def comparison(shared_place: Path) -> fa.Comparison:
    """A comparison of three arms with two seeds, in two processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(shared_place / "cache"))
        patch.chdir(shared_place)
        finished = fa.compare(ARMS, "faces", seeds=2, jobs=2, progress=False)
        return fa.load_comparison(shared_place / finished.directory)


def run_files(directory: Path) -> dict[str, bytes]:
    files = sorted((directory / "runs").rglob("*.safetensors"))
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


def without_times(comparison: fa.Comparison) -> dict[str, object]:
    """Return the content of a comparison but for wall times and the path of the data."""
    content = json.loads(comparison.model_dump_json())
    for arm in content["arms"]:
        del arm["training_seconds"]
    del content["data"]["source"]
    return content


class TestCompare:
    def test_writes_everything(self, comparison: fa.Comparison) -> None:
        assert [arm.recipe for arm in comparison.arms] == ["small", "more", "mined"]
        assert [arm.seeds for arm in comparison.arms] == [(0, 1)] * 3
        assert comparison.arm("more").rewritten_counts == (dict.fromkeys(CLASSES, 30),) * 2
        assert comparison.arm("small").watched[0].true == "<dog>"
        files = {path.name for path in comparison.directory.iterdir()}
        assert files == {"audit.json", "comparison.json", "confused.safetensors", "report.html", "runs"}
        assert not comparison.failures

    def test_scores_are_those_of_the_runs(self, comparison: fa.Comparison) -> None:
        accuracies = [
            (test.logits.argmax(axis=1) == test.labels).mean()
            for test in (run.predictions("test") for run in comparison.runs["more"])
        ]
        assert comparison.arm("more").test.accuracy.mean == pytest.approx(np.mean(accuracies))

    def test_adds_seeds_until_the_interval_is_narrow(self, place: Path) -> None:
        def half_width(comparison: fa.Comparison) -> float:
            low, high = comparison.versus[0].balanced_accuracy.ci95
            return 50 * (high - low)

        recipes = ARMS[:2]
        options: dict[str, Any] = {"jobs": 1, "progress": False}
        first = fa.compare(recipes, "faces", seeds=2, out="narrow", **options)
        assert set(first.seeds_for_precision) <= {"5", "3", "2", "1"}
        wide = fa.compare(recipes, "faces", seeds=2, precision=99, out="narrow", **options)
        assert wide.arms[0].seeds == (0, 1, 2, 3, 4) and half_width(wide) <= 99  # fewer say too little of their spread
        wanted = round(0.99 * half_width(first), 3)
        stopped = fa.compare(recipes, "faces", seeds=2, precision=wanted, max_seeds=2, out="stopped", **options)
        limit = f"Stopped at 2 seeds: ± {half_width(first):.3g} points, not ± {wanted:g}; allow more with --max-seeds."
        assert limit in stopped.warnings and not any("Stopped" in one for one in (*first.warnings, *wide.warnings))
        narrow = fa.compare(recipes, "faces", seeds=2, precision=wanted, max_seeds=6, out="narrow", **options)
        assert [arm.seeds for arm in narrow.arms] == [tuple(range(len(narrow.arms[0].seeds)))] * 2
        assert half_width(narrow) <= wanted or len(narrow.arms[0].seeds) == 6
        assert "Precision of the difference in balanced accuracy (95 % CI): ± " in " ".join(str(narrow).split())
        prepared = fa.comparing.prepare(recipes, "faces", seeds=2, out="narrow", progress=False)
        assert prepared.precision_so_far.startswith("Precision of the difference in balanced accuracy (95 % CI): ± ")
        other = fa.comparing.prepare(recipes, "faces", seeds=2, out="none", progress=False)
        assert other.precision_so_far.startswith("Precision, and the seeds that it takes, are known after")

    def test_test_images_of_one_group_are_a_warning_except_in_folds(self) -> None:
        data = fa.read_data("faces", progress=False)
        test = replace(data.test, sources=SourceRows(groups=np.arange(len(data.test)) // 2))
        grouped = replace(data, test=test)
        on_test = fa.compare("small.yaml", grouped, seeds=1, out="on_test", progress=False)
        in_folds = fa.compare("small.yaml", grouped, folds=2, repeats=1, out="in_folds", progress=False)
        for finished, is_warned in ((on_test, True), (in_folds, False)):
            assert any("count as independent ones" in warning for warning in finished.warnings) == is_warned

    def test_rounds_of_a_precision_report_each_run_once(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options: dict[str, Any] = {"seeds": 2, "precision": 0.001, "max_seeds": 3, "jobs": 1, "out": "rounds"}
        finished = fa.compare(ARMS[:2], "faces", track=["csv", "jsonl"], **options)
        runs = sorted((arm.recipe, str(seed)) for arm in finished.arms for seed in arm.seeds)
        assert len(runs) == 6
        with (place / "rounds" / "scores.csv").open(encoding="utf-8") as file:
            assert sorted((row["recipe"], row["seed"]) for row in csv.DictReader(file)) == runs
        events = [json.loads(line) for line in (place / "rounds" / "events.jsonl").read_text().splitlines()]
        for name in ("run_started", "run_finished"):
            reported = [(event["recipe"], str(event["seed"])) for event in events if event["event"] == name]
            assert sorted(reported) == runs
        points = [(event["key"], event["epoch"]) for event in events if event["event"] == "epoch_finished"]
        assert len(points) == len(set(points)) == 2 * len(runs)
        assert capsys.readouterr().err.count("done ") == len(runs)

    def test_a_repeated_precision_keeps_its_result(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options: dict[str, Any] = {"seeds": 2, "precision": 0.001, "max_seeds": 3, "jobs": 1, "progress": False}
        first = fa.compare(ARMS[:2], "faces", out="rounds", **options)
        written = (first.directory / "comparison.json").read_bytes()

        def killed(*arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(PreparedComparison, "_with", killed)
            fa.compare(ARMS[:2], "faces", out="rounds", **options)
        assert (first.directory / "comparison.json").read_bytes() == written
        again = fa.compare(ARMS[:2], "faces", out="rounds", **options)
        assert [arm.run_keys for arm in again.arms] == [arm.run_keys for arm in first.arms]
        assert fa.load_comparison("rounds").versus == first.versus
        assert not (first.directory / "earlier").exists()

    def test_memory_is_estimated_for_added_seeds_of_arms_that_had_none_to_do(
        self, place: Path, comparison: fa.Comparison, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        estimates = list[int]()

        def jobs(recipes: object, memory: int) -> int:
            estimates.append(memory)
            return 1

        monkeypatch.setattr("fer_augment.prepared_comparison.jobs_on_this_machine", jobs)
        options: dict[str, Any] = {"seeds": 2, "precision": 0.001, "max_seeds": 3, "progress": False}
        shutil.copytree(comparison.directory, "copy")
        fa.compare(ARMS, "faces", out="copy", **options)
        assert len(estimates) == 1 and estimates[0] > 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"precision": 0}, "precision: must be points between 0 and 100, such as 2, got 0"),
            ({"precision": 2, "folds": 5}, "precision: not with folds"),
            ({"precision": 2, "recipes": ARMS[:1]}, "name at least two recipes"),
            ({"precision": 2, "seeds": 5, "max_seeds": 4}, "max_seeds: must be at least the number of seeds, 5, got 4"),
        ],
    )
    def test_an_impossible_precision_is_refused(self, place: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(FerAugmentError, match=message):
            arguments: dict[str, Any] = {"recipes": ARMS, "data": "faces", "progress": False} | options
            fa.compare(**arguments)

    def test_shows_nothing_without_progress(self, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
        fa.compare("small.yaml", "faces", seeds=1, progress=False)
        assert capfd.readouterr() == ("", "")

    def test_recipes_data_and_seeds_may_be_objects(self, place: Path, comparison: fa.Comparison) -> None:
        recipes = [fa.load_recipe(name) for name in ARMS]
        same = fa.compare(
            recipes, fa.read_data("faces", progress=False), seeds=[1, 0], out=place / "o", jobs=1, progress=False
        )
        assert run_files(same.directory) == run_files(comparison.directory)
        first, second = without_times(same), without_times(comparison)
        first["warnings"], second["warnings"] = [], []  # one run more may have been entered in the ledger
        assert first == second

    def test_a_recipe_built_in_python_takes_overrides(self, place: Path) -> None:
        recipe = fa.Recipe(
            name="mine",
            model="convnet4",
            training={"epochs": 7, "precision": "float32"},
            strategies=[{"name": "imblearn", "parameters": {"sampler": "SMOTE"}}],
        )
        overrides = ["training.epochs=1", "strategies.imblearn.sampler=RandomOverSampler"]
        (run,) = fa.compare(recipe, "faces", seeds=1, overrides=overrides, progress=False).runs["mine"]
        assert run.record.recipe["training"]["epochs"] == 1
        assert run.record.steps[0].parameters["sampler"] == "RandomOverSampler"

    def test_resumes_with_the_same_bytes(self, place: Path) -> None:
        fa.compare(ARMS, "faces", seeds=[0], out="resumed", jobs=1, progress=False)
        first = run_files(place / "resumed")
        fa.compare(ARMS, "faces", seeds=2, out="resumed", jobs=1, progress=False)
        files = run_files(place / "resumed")
        assert {name: content for name, content in files.items() if "seed-0" in name} == first
        assert len(files) == 2 * len(first)

    def test_a_comparison_of_other_settings_is_kept(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first = fa.compare("small.yaml", "faces", seeds=1, progress=False)
        content = (first.directory / "comparison.json").read_bytes()
        fa.compare("small.yaml", "faces", seeds=2, jobs=1, progress=False)
        assert not (first.directory / "earlier").exists(), "more seeds add to it"
        fa.compare("small.yaml", "faces", seeds=1, progress=False)
        (earlier,) = (first.directory / "earlier").iterdir()
        assert {arm.seeds for arm in fa.load_comparison(earlier).arms} == {(0, 1)}
        fa.compare("small.yaml", "faces", seeds=1, overrides={"training.epochs": 1})
        assert "kept the comparison of other recipes or settings" in " ".join(capsys.readouterr().err.split())
        kept = {(folder / "comparison.json").read_bytes() for folder in (first.directory / "earlier").iterdir()}
        assert len(kept) == 2 and content in kept

    def test_warnings_come_before_the_first_training(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (place / "never.yaml").write_text(
            "extends: ./small.yaml\ntraining: {batch_size: 8}\nstrategies: [{power_sampler: {from_epoch: 9}}]\n"
        )
        fa.prepare(["small.yaml", "never.yaml"], "faces")
        err = " ".join(capsys.readouterr().err.split())
        assert "warning: never differs from small" in err and "warning: never: Training has" in err

    def test_what_is_not_used_of_the_data_is_named_before_training_and_in_the_comparison(
        self, place: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        notes = (fa.Omission("3 rows: no label"), "78 images of the class dropped resized", fa.Omission("extra files"))
        data = replace(fa.read_data("faces", progress=False), notes=notes)
        omissions = [notes[0], notes[2]]

        def shown() -> list[str]:
            lines = capsys.readouterr().err.splitlines()
            return [line.removeprefix("warning: ") for line in lines if any(note in line for note in notes)]

        fa.prepare(["small.yaml", "more.yaml"], data, seeds=1, out="noted")
        assert shown() == omissions
        fa.rewrite("small.yaml", data)
        assert shown() == omissions
        fa.run("small.yaml", data, out="one")
        assert shown() == omissions
        first = fa.compare("small.yaml", data, seeds=1, out="noted", jobs=1)
        assert shown() == omissions
        fa.run("small.yaml", data, out="one")
        again = fa.compare("small.yaml", data, seeds=1, out="noted", jobs=1)
        assert shown() == [], "nothing is trained"
        for comparison in (first, again):
            assert [warning for warning in comparison.warnings if warning in notes] == omissions

    def test_near_duplicates_of_training_rows_are_named_before_training_and_left_out(
        self, place: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        splits = fa.read_data("faces", progress=False)
        test = splits.test
        images = test.images[:]
        brighter = np.clip(splits.train.images[[0]][0].astype(np.int16) + 3, 0, 255)
        images[1], images[2] = brighter.astype(np.uint8), splits.train.images[[1]][0]
        leaking = replace(splits, test=fa.ImageDataset.from_arrays(images, test.labels, test.class_names))
        result = fa.compare(["small.yaml", "more.yaml"], leaking, seeds=1, out="leaking", jobs=1)
        err = capsys.readouterr().err
        warning = f"1 of {len(test)} test rows ({100 / len(test):.1f} %) have a near or mirrored duplicate"
        assert warning in " ".join(err.split()).split("small, seed 0")[0]
        assert result.warnings[0].startswith(warning), "it leads"
        assert sum(result.data.counts["test_near_duplicates"].values()) == 1
        assert result.arm("more").test_deduplicated.rows == len(test) - 2
        frame = result.to_frame()
        is_deduplicated = (frame["split"] == "test_deduplicated") & (frame["endpoint"] == "accuracy")
        assert set(frame[is_deduplicated]["rows"]) == {len(test) - 2}

    def test_failed_runs_are_not_in_the_ledger(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "cache"))
        comparison = fa.compare(["small.yaml", "breaks.yaml"], "faces", seeds=[1], progress=False)
        assert comparison.failures
        (ledger,) = (place / "cache/scored").iterdir()
        assert len(ledger.read_text().split()) == 1

    def test_a_failed_run_does_not_affect_others(self, place: Path) -> None:
        comparison = fa.compare(["small.yaml", "breaks.yaml"], "faces", seeds=2, jobs=1, progress=False)
        assert [arm.seeds for arm in comparison.arms] == [(0, 1), (0,)]
        (failure,) = comparison.failures
        assert failure.message.endswith("RuntimeError: not [today] (broken.py, line 11)")
        assert {recipe: len(runs) for recipe, runs in comparison.runs.items()} == {"small": 2, "breaks": 1}
        traceback = (comparison.directory / "failures/breaks-seed-1.txt").read_text()
        assert 'raise RuntimeError("not [today]")' in traceback

    def test_nothing_is_written_if_all_runs_fail(self, place: Path) -> None:
        with pytest.raises(NothingFinishedError, match=r"no run finished.*breaks.* seed 1: step 1 \(breaks\)"):
            fa.compare("breaks.yaml", "faces", seeds=[1], progress=False)
        assert not list(place.glob("results/**/*.json"))

    def test_a_script_needs_no_main_guard(self, place: Path) -> None:
        script = place / "script.py"
        script.write_text(
            "import fer_augment as fa\n"
            "print('imported')\n"
            "comparison = fa.compare(['small.yaml', 'more.yaml'], 'faces', seeds=2, jobs=2, out='scripted')\n"
            "print([arm.seeds for arm in comparison.arms])\n"
        )
        ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=place)
        assert (ran.returncode, ran.stdout) == (0, "imported\n[(0, 1), (0, 1)]\n"), ran.stderr


class TestComparison:
    def test_frame_has_a_row_for_every_endpoint(self, comparison: fa.Comparison) -> None:
        frame = comparison.to_frame()
        judged = frame[(frame.arm == "more") & (frame.split == "test")]
        assert set(judged.endpoint) == {"accuracy", "balanced_accuracy", "recall"}
        assert list(judged[judged.endpoint == "recall"]["class"]) == sorted(CLASSES)
        (balanced,) = judged[judged.endpoint == "balanced_accuracy"].to_dict("records")
        versus = comparison.versus[0].balanced_accuracy
        assert (balanced["delta"], balanced["verdict"]) == (versus.delta, str(versus.verdict))
        assert balanced["n"] == 2

    def test_displays_itself_in_a_notebook_with_names_escaped(self, comparison: fa.Comparison) -> None:
        html = comparison._repr_html_()
        page = parse(html)
        assert "no evidence of a difference" in page.text
        assert "<dog>" in page.text and "<dog>" not in html

    def test_prints_its_result_and_shows_a_summary(self, comparison: fa.Comparison) -> None:
        assert repr(comparison) == "Comparison('small' (2 runs), 'more' (2 runs), 'mined' (2 runs); baseline 'small')"
        assert "balanced accuracy" in str(comparison) and "more vs. small" in str(comparison)
        assert not any(line.endswith(" ") for line in str(comparison).splitlines())

    def test_an_unknown_arm_is_refused(self, comparison: fa.Comparison) -> None:
        with pytest.raises(fa.RunError, match="no arm 'smal' with finished runs; did you mean 'small'"):
            comparison.arm("smal")

    def test_a_comparison_in_memory_has_no_directory(self, comparison: fa.Comparison) -> None:
        with pytest.raises(fa.RunError, match="has no directory"):
            _ = fa.Comparison.model_validate(comparison.model_dump()).runs

    def test_a_missing_run_is_named(self, place: Path) -> None:
        comparison = fa.compare("small.yaml", "faces", seeds=1, progress=False)
        (record,) = comparison.directory.rglob("record.json")
        record.unlink()
        with pytest.raises(fa.RunError, match="the run of small with seed 0 is missing or damaged"):
            _ = comparison.runs


class TestRun:
    @pytest.fixture(scope="class")
    @staticmethod
    def finished(comparison: fa.Comparison) -> fa.Run:
        return comparison.runs["small"][0]

    def test_predicts_as_it_did_for_the_test_split(self, finished: fa.Run) -> None:
        test = fa.read_data("faces", progress=False).test
        probabilities = finished.predict(test.images[:])
        assert probabilities.shape == (len(test), 3)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        predicted = finished.predictions("test").logits.argmax(axis=1)
        assert (probabilities.argmax(axis=1) == predicted).all()
        np.testing.assert_array_equal(finished.predict(test.images[:][..., 0]), probabilities)

    def test_has_predictions_for_held_out_splits_only(self, finished: fa.Run) -> None:
        with pytest.raises(fa.RunError, match="for validation and test, not for 'train'"):
            finished.predictions("train")

    def test_gives_its_network(self, finished: fa.Run) -> None:
        model = finished.load_model()
        images = fa.read_data("faces", progress=False).test.images[:]
        with torch.inference_mode():
            logits = model(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
        assert isinstance(model, torch.nn.Module) and not model.training
        np.testing.assert_allclose(logits.softmax(dim=1).numpy(), finished.predict(images), atol=1e-5)

    def test_gives_a_network_of_its_own(self, finished: fa.Run) -> None:
        images = fa.read_data("faces", progress=False).test.images[:]
        before = finished.predict(images)
        for parameter in finished.load_model().parameters():
            torch.nn.init.zeros_(parameter)
        np.testing.assert_array_equal(finished.predict(images), before)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(finished)).predict(images), before)

    @pytest.mark.parametrize("seed", [True, -1, 1.0, "1", None, 2**63])
    def test_refuses_other_seeds(self, place: Path, seed: Any) -> None:
        with pytest.raises(fa.RecipeError, match="seed: must be a number from 0"):
            fa.run("small.yaml", "faces", seed=seed, progress=False)
        with pytest.raises(fa.RecipeError, match="seeds: must be how many"):
            fa.prepare("small.yaml", "faces", seeds=[0, seed], progress=False)
        if seed is not None:  # the default number of seeds
            with pytest.raises(fa.RecipeError, match="seeds: must be how many"):
                fa.prepare("small.yaml", "faces", seeds=seed, progress=False)

    @pytest.mark.parametrize(
        "images", [np.zeros((1, 12, 12, 3), np.uint8), np.zeros((1, 12, 12)), np.zeros((12, 12), np.uint8)]
    )
    def test_refuses_other_images(self, finished: fa.Run, images: np.ndarray) -> None:
        with pytest.raises(fa.DatasetError, match=r"must be uint8 of shape \(N, 12, 12, 1\), got"):
            finished.predict(images)

    def test_says_how_to_read_images_of_its_size(self, finished: fa.Run) -> None:
        with pytest.raises(fa.DatasetError, match=r"got uint8 .*`read_data\(…, size=12\)` and `predict_files"):
            finished.predict(np.zeros((2, 24, 24, 1), np.uint8))

    def test_is_loaded_by_its_directory(self, finished: fa.Run, comparison: fa.Comparison) -> None:
        assert fa.load_run(finished.path).record == finished.record
        with pytest.raises(fa.RunError, match="not a run directory.*such as .*seed-0"):
            fa.load_run(comparison.directory)

    def test_may_be_done_alone(self, place: Path, finished: fa.Run) -> None:
        alone = fa.run("small.yaml", "faces", out="alone", progress=False)
        assert alone.record.identity == finished.record.identity
        with pytest.raises(fa.RunError, match=r"breaks, seed 1 failed: .*not \[today\]"):
            fa.run("breaks.yaml", "faces", seed=1, progress=False)


class TestRewrite:
    def test_returns_the_rewritten_training_set_with_provenance(self, place: Path) -> None:
        rewriting = fa.rewrite("more.yaml", "faces", progress=False)
        assert rewriting.before.counts.tolist() == [10, 30, 20]
        assert rewriting.after.counts.tolist() == [30, 30, 30]
        (result,) = rewriting.steps
        assert (result.step.name, result.made, result.removed) == ("imblearn", 30, 0)
        assert (rewriting.after.step == 1).sum() == 30

    def test_shows_the_warnings_of_a_run_unless_progress_is_off(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("fer_augment.runs.preflight.emulates_bfloat16", lambda training: True)
        (place / "never.yaml").write_text("extends: ./small.yaml\nstrategies: [{power_sampler: {from_epoch: 9}}]\n")
        fa.rewrite("never.yaml", "faces")
        err = " ".join(capsys.readouterr().err.split())
        assert "warning: never: training.precision is bfloat16" in err and "warning: Training has only" in err
        fa.rewrite("never.yaml", "faces", progress=False)
        assert capsys.readouterr().err == ""


class TestPlan:
    def test_lists_distinct_trainings_and_writes_nothing(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "empty"))
        prepared = fa.prepare(ARMS, "faces", seeds=2, progress=False)
        assert [one.needed.name for one in prepared.plan.trainings] == ["small"] * 2 + ["more"] * 2 + ["mined"] * 2
        assert prepared.plan.trainings[0].runs == ("small, seed 0", "mined, seed 0")
        assert len(prepared.plan.missing) == 6
        assert prepared.plan.minutes(1) > 0
        assert not (place / "results").exists() and not (place / "empty").exists()

    def test_finds_what_is_cached(self, comparison: fa.Comparison) -> None:
        plan = fa.prepare(ARMS, "faces", seeds=12, progress=False).plan
        stored = {run: one.is_stored for one in plan.trainings for run in one.runs}
        for name in ("small", "more", "mined"):
            assert stored[f"{name}, seed 0"] and stored[f"{name}, seed 1"] and not stored[f"{name}, seed 11"]
        assert len(plan.missing) == [one.is_stored for one in plan.trainings].count(False)

    def test_times_the_data_that_will_be_trained_on(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half of the training rows are exact duplicates of held-out rows, and dropped."""
        files = dict(face_files())
        files |= {
            f"train/bird/copy-{name.replace('/', '-')}": content
            for name, content in files.items()
            if "test/bird" in name
        }
        write_folder(place / "leaky", files)
        monkeypatch.setattr("fer_augment.runs.plan.seconds_per_step", lambda training: len(training.training_set))
        rows = [
            fa.prepare("small.yaml", "leaky", seeds=1, overrides=overrides, progress=False).plan.minutes(1)
            for overrides in (
                ["training.batch_size=1000"],
                ["training.batch_size=1000", "data.held_out_duplicates=drop"],
            )
        ]
        assert [round(minutes * 60 / 2) for minutes in rows] == [72, 60]


_RAISES = """
from fer_augment import Strategy, hookimpl

class Raises(Strategy):
    @property
    def effects(self):
        return 1 / 0

    @hookimpl
    def rewrite_training_set(self, training_set):
        return training_set
"""


class TestPreflight:
    """Everything is refused before the first training, and by every entry alike."""

    @pytest.fixture(autouse=True)
    @staticmethod
    def nothing_is_trained(place: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "unused"))
        yield
        assert not (place / "unused").exists()

    def assert_refused(self, recipe: str, match: str, *, data: str = "faces") -> None:
        with pytest.raises(FerAugmentError, match=match):
            fa.prepare(["small.yaml", recipe], data, progress=False)
        with pytest.raises(FerAugmentError, match=match):
            fa.run(recipe, data, progress=False)
        with pytest.raises(FerAugmentError, match=match):
            fa.rewrite(recipe, data, progress=False)

    def write(self, place: Path, content: str) -> str:
        (place / "refused.yaml").write_text(f"extends: ./small.yaml\n{content}\n")
        return "refused.yaml"

    def test_unknown_classes(self, place: Path) -> None:
        recipe = self.write(place, "strategies: [{confusion_mirror: {pairs: [[bird, dog]]}}]")
        self.assert_refused(recipe, r"'refused', step 1 \(confusion_mirror\): .*no class 'dog'")

    def test_a_network_without_a_linear_head(self) -> None:
        self.assert_refused("refining.yaml", r"recipe 'refining': step 1 \(tau_norm\): .*linear last layer")

    def test_a_network_that_a_step_cannot_prepare(self, place: Path) -> None:
        recipe = self.write(place, "strategies: [ldam_loss]")
        self.assert_refused(recipe, r"recipe 'refused': step 1 \(ldam_loss\), prepare_model: .*linear last layer")

    def test_images_too_small_for_the_network(self, place: Path) -> None:
        files = [f"{split}/{name}/{row}.png" for split in ("train", "val", "test") for name in "ab" for row in range(9)]
        images = {file: encoded(np.full((4, 4), shade, np.uint8)) for shade, file in enumerate(files)}
        write_folder(place / "minute", images)
        recipe = self.write(place, "model: vgg_mini")
        self.assert_refused(recipe, "recipe '.*': .* needs images of at least 8x8", data="minute")

    def test_a_cache_that_is_a_file(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "small.yaml" / "cache"))
        self.assert_refused("more.yaml", "small.yaml is a file; set FER_AUGMENT_CACHE to a directory")

    def test_declarations_that_raise(self, place: Path) -> None:
        (place / "mine.py").write_text(_RAISES)
        recipe = self.write(place, "strategies: [mine.py:Raises]")
        self.assert_refused(recipe, r"recipe '.*': step 1 \(raises\): effects raised ZeroDivisionError: ")

    def test_a_device_that_is_missing(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        self.assert_refused(self.write(place, "training: {device: cuda}"), "recipe 'refused': training.device is cuda")

    def test_a_file_that_a_strategy_reads(self, place: Path) -> None:
        (place / "reads.py").write_text(
            "from pathlib import Path\n"
            "from fer_augment import Strategy, hookimpl\n\n"
            "class Reads(Strategy):\n"
            '    """Reads a file."""\n\n'
            "    file: Path\n\n"
            "    @property\n"
            "    def files(self):\n"
            "        return [self.file]\n\n"
            "    @hookimpl\n"
            "    def sampling_weights(self, weights):\n"
            "        return weights\n"
        )
        recipe = self.write(place, "strategies: [{./reads.py:Reads: {file: gone.csv}}]")
        self.assert_refused(recipe, r"'refused': step 1 \(reads\): gone.csv: cannot be read \(No such file")

    @pytest.mark.parametrize("entry", [fa.prepare, fa.run])
    def test_a_directory_that_cannot_be_written(self, entry, place: Path) -> None:
        (place / "taken").write_text("")
        for out, reason in (
            ("taken", "taken: is a file"),
            ("taken/below", "taken/below: cannot be created, .*taken is a file"),
            ("/proc/x", r"/proc/x: cannot be written \("),
        ):
            with pytest.raises(fa.RecipeError, match=f"{reason}.*; name another directory with --out"):
                entry("small.yaml", "faces", out=out, progress=False)

    def test_an_executor_jobs_or_seeds_that_do_not_exist(self) -> None:
        with pytest.raises(fa.RunError, match="executor: must be 'local' or 'ray', got 'slurm'"):
            fa.prepare("small.yaml", "faces", executor="slurm", progress=False)  # type: ignore[arg-type] # the point
        with pytest.raises(fa.RecipeError, match="jobs: must be 1 or more, got 0"):
            fa.prepare("small.yaml", "faces", jobs=0, progress=False)
        with pytest.raises(fa.RecipeError, match="jobs: must be at most 1,024, got 100000"):
            fa.prepare("small.yaml", "faces", jobs=100_000, progress=False)
        for seeds in (0, -1, [], [1, 1], [-1], "3", 10**12, [2**63], range(10**12)):
            with pytest.raises(fa.RecipeError, match="seeds: must be how many"):
                fa.prepare("small.yaml", "faces", seeds=seeds, progress=False)  # type: ignore[arg-type] # the point

    def test_no_recipe_and_the_same_recipe_twice(self) -> None:
        with pytest.raises(fa.RecipeError, match="no recipe given"):
            fa.prepare([], "faces", progress=False)
        with pytest.raises(fa.RecipeError, match="a Recipe object and small.yaml are all named 'small'"):
            fa.prepare(["small.yaml", fa.load_recipe("small.yaml")], "faces", progress=False)


def test_a_comparison_on_other_data_is_not_overwritten(place: Path) -> None:
    fa.compare("small.yaml", "faces", seeds=1, progress=False)
    file = place / "results/small/comparison.json"
    first = file.read_bytes()
    write_folder(place / "others", dict(list(face_files())[1:]))
    with pytest.raises(fa.RecipeError, match=r"results/small: holds a comparison on other data, .*another directory"):
        fa.prepare("small.yaml", "others", progress=False)
    with pytest.raises(fa.RecipeError, match=r"with other images: data\.size, .*another directory"):
        fa.prepare("small.yaml", "faces", overrides=["data.size=16"], progress=False)
    with pytest.raises(fa.RecipeError, match="a comparison on a fixed test split, not on 2 folds, of "):
        fa.prepare("small.yaml", "faces", folds=2, progress=False)
    assert file.read_bytes() == first
    fa.prepare("small.yaml", "others", out="new", progress=False)
    file.write_text("{")  # what cannot be read is not protected
    fa.prepare("small.yaml", "others", progress=False)


def test_long_lists_of_recipes_with_the_same_beginning_get_directories_of_their_own() -> None:
    names = [f"recipe_number_{number}" for number in range(12)]
    directories = {directory_name(names[:count]) for count in range(1, 13)}
    assert len(directories) == 12
    assert max(map(len, directories)) == 80
    assert directory_name(["paper", "smote"]) == "paper_smote"
    assert len(directory_name(["𝐚" * 50, "b"]).encode()) <= 80


@pytest.mark.skipif(not os.environ.get("FER2013"), reason="FER2013 is not set: the folder of the image release")
def test_the_reports_experiment_on_a_fraction_of_fer2013(place: Path) -> None:
    source = Path(os.environ["FER2013"])
    if not (source / "make_csv.py").is_file():
        pytest.skip("FER2013 has no make_csv.py, which writes a fraction of it as fer2013.csv")
    make = [sys.executable, str(source / "make_csv.py"), str(place / "fer2013.csv"), "--fraction", "0.03"]
    subprocess.run(make, check=True, capture_output=True)
    comparison = fa.compare(
        ["paper", "confusion_mirror", "oversample"],
        "fer2013.csv",
        seeds=2,
        overrides=["training.epochs=1", "data.size=24"],
        progress=False,
    )
    assert comparison.class_names[0] == "angry" and comparison.class_names[6] == "neutral"
    assert sum(comparison.data.counts["train"].values()) == pytest.approx(0.03 * 28_709, rel=0.02)
    assert len(set(comparison.arm("oversample").rewritten_counts[0].values())) == 1
    assert comparison.arm("paper").optimizer_steps == comparison.arm("oversample").optimizer_steps
