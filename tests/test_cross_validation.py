"""Folds of a data set, and comparisons by repeated cross-validation on real trainings of tiny data."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fer_augment as fa
from fer_augment.data.audit import audit
from fer_augment.data.audit_records import audit_warnings
from fer_augment.data.cross_validation import CrossValidation, Folds, pooled
from fer_augment.data.dataset import ImageDataset, SourceRows, Splits
from fer_augment.data.duplicates import group_ids
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.records import FoldIdentity
from fer_augment.data.splitting import SplitSettings, splits_from_rows
from fer_augment.errors import DatasetError, FerAugmentError, NothingFinishedError, RecipeError
from fer_augment.results.comparison import Failure
from fer_augment.results.comparison_warnings import warnings_of_repeats
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.runs.verification import verify_run
from fer_augment.significance import balanced_accuracy_weights, fold_differences
from tests.command_line import assert_readable, assert_refused, fer_augment
from tests.near_images import sequence
from tests.tiny_runs import write_recipe


def splits_of(labels, *, groups=None, copies=(), seed=0, names=("ant", "bee", "cat")) -> Splits:
    """Return random 8 x 8 images in three splits; `copies` are pairs (row, row that gets the same pixels)."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    images = rng.integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    for original, copy in copies:
        images[copy] = images[original]
    sources = SourceRows(groups=None if groups is None else np.asarray(groups))
    ends = [0, len(labels) * 6 // 10, len(labels) * 8 // 10, len(labels)]
    parts = [
        ImageDataset.from_arrays(
            images[start:end], labels[start:end], names, sources=sources.taken(np.arange(start, end))
        )
        for start, end in zip(ends, ends[1:], strict=False)
    ]
    train, validation, test = parts
    return Splits(train, validation, test, "random images (validation: 1 in 4 rows of train, split off)")


LABELS = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [40, 30, 10]))


def splits_alike_in_small() -> Splits:
    """Return images of 32 x 32 pixels; in 8 x 8, the first twenty in training are exact duplicates in pairs."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(60, 196, (80, 8, 8))
    coarse[:20:2] = coarse[1:20:2]
    noise = rng.permuted(np.repeat([-60, 60], 8) * np.ones((80, 8, 8, 1), dtype=np.int64), axis=3)
    images = coarse[:, :, None, :, None] + noise.reshape(80, 8, 8, 4, 4).transpose(0, 1, 3, 2, 4)
    images = images.reshape(80, 32, 32).astype(np.uint8)
    train, validation, test = (
        ImageDataset.from_arrays(images[rows], LABELS[rows], ("ant", "bee", "cat"))
        for rows in (slice(48), slice(48, 64), slice(64, 80))
    )
    return Splits(train, validation, test, "blocks of pixels")


class TestFolds:
    def test_every_row_is_held_out_once_in_each_repeat(self) -> None:
        data = splits_of(LABELS)
        folds = Folds.of(data, CrossValidation(5, 3))
        for repeat in range(3):
            held_out = [folds.held_out(fold)[0] for fold in folds.settings.identities if fold.repeat == repeat]
            assert sorted(np.concatenate(held_out).tolist()) == list(range(80))
        assert not np.array_equal(folds.of_repeat[0], folds.of_repeat[1])

    def test_unsigned_groups_of_some_splits_stay_together(self) -> None:
        data = splits_of(LABELS, groups=np.arange(80, dtype=np.uint64) // 2)
        data = replace(data, test=replace(data.test, sources=None))
        assert len(np.unique(Folds.of(data, CrossValidation(5, 1)).together)) == 32 + 16

    def test_splits_of_a_fold_are_disjoint_and_hold_all_rows(self) -> None:
        data = splits_of(LABELS)
        folds = Folds.of(data, CrossValidation(5, 1))
        rows = pooled(data)
        for fold in folds.settings.identities:
            splits = folds.splits(data, fold)
            parts = [part.digests for part in splits.parts.values()]
            assert sorted(np.concatenate(parts).tolist()) == sorted(rows.digests.tolist())
            held_out, _ = folds.held_out(fold)
            assert (splits.test.digests == rows.digests[held_out]).all()
            assert (splits.test.labels == rows.labels[held_out]).all()
            assert len(splits.validation) == pytest.approx(0.1 * (80 - len(held_out)), abs=3)
            assert all(splits.train.counts > 0)

    def test_folds_are_stratified(self) -> None:
        folds = Folds.of(splits_of(LABELS), CrossValidation(5, 2))
        labels = pooled(splits_of(LABELS)).labels
        for repeat in folds.of_repeat:
            counts = np.array([np.bincount(labels[repeat == fold], minlength=3) for fold in range(5)])
            assert (counts == [8, 6, 2]).all()

    def test_groups_and_exact_duplicates_stay_together(self) -> None:
        groups = np.arange(80) // 4
        data = splits_of(LABELS, groups=groups, copies=[(0, 79), (10, 45)])
        folds = Folds.of(data, CrossValidation(4, 3))
        exact = group_ids(pooled(data).digests)
        for repeat in folds.of_repeat:
            for together in (groups, exact):
                assert len(np.unique(np.stack([together, repeat]), axis=1).T) == len(np.unique(together))
        assert folds.together[0] == folds.together[79] and folds.together[0] == folds.together[3]

    def test_a_repeat_does_not_depend_on_the_number_of_repeats(self) -> None:
        data = splits_of(LABELS)
        one, three = (Folds.of(data, CrossValidation(5, repeats)) for repeats in (1, 3))
        assert np.array_equal(one.of_repeat[0], three.of_repeat[0])
        fold = FoldIdentity(repeat=0, number=2, folds=5)
        assert one.splits(data, fold).fingerprint == three.splits(data, fold).fingerprint
        assert one.fingerprint(data) == three.fingerprint(data) != data.fingerprint

    def test_the_test_split_may_be_kept_out(self) -> None:
        data = splits_of(LABELS)
        folds = Folds.of(data, CrossValidation(5, 1, keeps_test=True))
        assert folds.of_repeat.shape == (1, 64)
        for fold in folds.settings.identities:
            for part in folds.splits(data, fold).parts.values():
                assert not np.isin(part.digests, data.test.digests).any()

    def test_near_duplicates_may_be_parted_if_the_source_says_so(self) -> None:
        frames = np.concatenate([sequence(12, np.random.default_rng(seed)) for seed in range(3)])
        rows = ImageDataset.from_arrays(frames, np.resize([0, 1], 36), ("ant", "bee"))
        unassigned = np.full(36, -1, np.int8)
        apart = splits_from_rows("scenes", rows, unassigned, SplitSettings(keep_near_duplicates=False))
        together = replace(apart, keeps_near_duplicates=True)
        with pytest.raises(DatasetError, match="scenes .*: 3 images, or groups of images .*, are too few for 5 folds"):
            Folds.of(together, CrossValidation(5, 1))
        folds = Folds.of(apart, CrossValidation(5, 1))
        assert len(np.unique(folds.together)) == 36
        assert folds.fingerprint(apart) != folds.fingerprint(together)

    def test_splits_that_share_pixels_are_joined_without_copying(self) -> None:
        rows = ImageDataset.from_arrays(
            np.arange(20 * 64, dtype=np.uint16).astype(np.uint8).reshape(20, 8, 8), np.tile([0, 1], 10), ("a", "b")
        )
        parts = [
            ImageDataset.from_arrays(rows.blocks[0], rows.labels[start::3], ("a", "b"), rows=np.arange(start, 20, 3))
            for start in range(3)
        ]
        together = pooled(Splits(parts[0], parts[1], parts[2], "shared"))
        assert together.blocks == rows.blocks
        order = np.concatenate([np.arange(start, 20, 3) for start in range(3)])
        assert (together.images[:] == rows.images[order]).all() and (together.labels == rows.labels[order]).all()

    @pytest.mark.parametrize(
        ("labels", "folds", "message"),
        [
            ([0, 1] * 20 + [2], 5, "all 1 images of cat are in one fold"),
            ([0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 11, "too few for 11 folds"),
        ],
    )
    def test_data_that_cannot_be_divided_are_refused(self, labels, folds, message) -> None:
        labels = np.asarray(labels)
        names = ("ant", "bee", "cat")
        images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
        whole = ImageDataset.from_arrays(images, labels, names)
        held_out = whole.take(np.arange(2))
        with pytest.raises(DatasetError, match=message):
            Folds.of(Splits(whole, held_out, held_out, "few"), CrossValidation(folds, 1, keeps_test=True))

    def test_impossible_settings_are_refused(self) -> None:
        with pytest.raises(DatasetError, match="folds: must be 2 or more, such as 5, got 1"):
            CrossValidation(1)
        with pytest.raises(DatasetError, match="repeats: must be 1 or more"):
            CrossValidation(5, 0)


# --- comparisons

FRAGILE = '''
import os
import numpy as np
from fer_augment import Strategy, StrategyError, hookimpl

class Fragile(Strategy):
    """Append darker copies of four rows, or fail with the seeds that the environment names."""

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        if str(context.seed) in os.environ.get("NO_POWER_WITH_SEEDS", "").split():
            raise StrategyError("no power")
        rows = np.arange(4)
        return training_set.append(training_set.images[rows] // 2, parents=rows)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_recipe(folder, "plain")
    write_recipe(folder, "mined", steps="- hard_examples: {}\n- logit_adjustment: {}")
    (folder / "own.py").write_text(FRAGILE)
    write_recipe(folder, "fragile", steps="- ./own.py:Fragile: {}")
    write_recipe(folder, "frail", steps="- ./own.py:Fragile: {}\n- logit_adjustment: {}")
    return folder


@pytest.fixture(scope="module")
def data() -> Splits:
    return splits_of(LABELS, copies=[(0, 79)])


@pytest.fixture(scope="module", autouse=True)
def cache(place: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(place / "cache"))
        yield place / "cache"


def compared(place: Path, data: Splits, recipes: list[Path] | None = None, **settings) -> fa.Comparison:
    recipes = recipes or [place / "plain.yaml", place / "mined.yaml"]
    defaults: dict[str, Any] = {"folds": 3, "out": place / "results", "jobs": 1, "progress": False}
    return fa.compare(recipes, data, **defaults | settings)


@pytest.fixture(scope="module")
def comparison(place: Path, data: Splits) -> fa.Comparison:
    return compared(place, data)


class TestComparison:
    def test_every_image_is_scored_once_in_each_repeat(self, comparison: fa.Comparison) -> None:
        assert comparison.cross_validation.model_dump() == {"folds": 3, "repeats": 2, "keeps_test": False}
        assert comparison.data.counts["test"] == {"ant": 40, "bee": 30, "cat": 10}
        for arm in comparison.arms:
            assert arm.test.rows == 80 and arm.n == 2 and arm.seeds == (0, 1, 2, 3, 4, 5)
            assert [str(fold) for fold in arm.folds[:2]] == ["repeat 1, fold 1 of 3", "repeat 1, fold 2 of 3"]
            assert np.array(arm.test.confusion).sum() == 160
            assert arm.test_deduplicated is None and arm.validation.accuracy.n == 6

    def test_arms_have_the_same_folds_and_seeds(self, comparison: fa.Comparison) -> None:
        rows = {name: [run.predictions("test").rows.tolist() for run in runs] for name, runs in comparison.runs.items()}
        assert rows["plain"] == rows["mined"]
        prints = {name: [run.record.data_fingerprint for run in runs] for name, runs in comparison.runs.items()}
        assert prints["plain"] == prints["mined"] and len(set(prints["plain"])) == 6

    def test_verdicts_are_those_of_the_test_for_folds(self, comparison: fa.Comparison, data: Splits) -> None:
        rows = pooled(data)
        correct = {name: np.zeros((2, 80), dtype=bool) for name in comparison.runs}
        folds = np.zeros((2, 80), dtype=int)
        for name, runs in comparison.runs.items():
            for run in runs:
                fold, predictions = run.record.identity.fold, run.predictions("test")
                correct[name][fold.repeat, predictions.rows] = predictions.logits.argmax(axis=1) == predictions.labels
                folds[fold.repeat, predictions.rows] = fold.number
        together = Folds.of(data, CrossValidation(3, 2)).together
        ((expected,),) = fold_differences(
            correct["plain"],
            [correct["mined"]],
            rows.labels,
            folds,
            balanced_accuracy_weights(rows.labels, 3),
            group_ids(rows.digests),
            together,
        )
        judgment = comparison.versus[0].balanced_accuracy
        assert judgment.delta == pytest.approx(expected.delta)
        assert judgment.p == pytest.approx(expected.p)
        assert judgment.ci95 == pytest.approx(expected.ci95)

    def test_duplicates_across_given_splits_are_no_warning_as_folds_keep_them_together(
        self, place: Path, data: Splits, tmp_path: Path
    ) -> None:
        images = data.test.images[:]
        images[:3] = data.train.images[[5, 6, 7]][:, :, ::-1]
        test = ImageDataset.from_arrays(images, data.test.labels, data.class_names)
        mirrored = replace(data, test=test)
        assert "have a near or mirrored duplicate" in " ".join(audit_warnings(audit(mirrored)))
        folds = compared(place, mirrored, [place / "plain.yaml"], folds=2, repeats=1, out=tmp_path)
        assert "duplicate" not in " ".join(folds.warnings)

    def test_the_report_says_what_the_interval_is_about(self, comparison: fa.Comparison) -> None:
        report = (comparison.directory / "report.html").read_text(encoding="utf-8")
        for text in (str(comparison), " ".join(report.split())):
            words = " ".join(text.split())
            assert "Every image was held out once in each repeat, by trainings that had not seen it" in words
            assert "It is not a score on an official test split." in words
            assert "80 images, 3-fold cross-validation, 2 times" in words
        assert str(comparison).startswith("random images: 3 classes, 80 images, 3-fold")
        assert "not by those of the held-out folds" in str(comparison)
        assert "Predictions for held-out images." in report and "held-out images per repeat" in report
        assert "images per run" not in report and "split off" not in report
        assert "new trainings and new data sets" in " ".join(report.split())
        assert "repeat 2, fold 3 of 3" in report

    def test_the_frame_counts_repeats(self, comparison: fa.Comparison) -> None:
        pytest.importorskip("pandas")
        frame = comparison.to_frame()
        assert set(frame["split"]) == {"test"} and set(frame["n"]) == {2}
        assert frame.loc[frame["endpoint"] == "accuracy", "rows"].tolist() == [80, 80]

    def test_a_loaded_comparison_is_the_same(self, comparison: fa.Comparison) -> None:
        assert fa.load_comparison(comparison.directory) == comparison

    def test_scouts_are_trained_within_the_fold_and_shared(self, comparison: fa.Comparison, place: Path) -> None:
        for run in comparison.runs["mined"]:
            assert run.record.steps[0].rows > 0
            test = run.predictions("test")
            assert sum(run.record.train_counts) + len(test.labels) + len(run.predictions("validation").labels) == 80
        prepared = fa.comparing.prepare(
            [place / "plain.yaml", place / "mined.yaml"],
            splits_of(LABELS, copies=[(0, 79)]),
            folds=3,
            out=place / "results",
            progress=False,
        )
        names = Counter(one.needed.name.partition(",")[0] for one in prepared.plan.trainings)
        assert names["scout of hard_examples"] == 6 * 5 and all(one.is_stored for one in prepared.plan.trainings)

    def test_another_number_of_folds_needs_another_directory(self, place: Path, data: Splits, comparison) -> None:
        with pytest.raises(FerAugmentError, match="holds a comparison on 3 folds, not on 4 folds, of "):
            compared(place, data, folds=4)
        with pytest.raises(FerAugmentError, match="on 3 folds, not on 3 folds without the test split, of "):
            compared(place, data, keep_test=True)
        with pytest.raises(FerAugmentError, match="on 3 folds, not on a fixed test split, of .*another directory"):
            compared(place, data, folds=None, seeds=2)

    def test_an_incomplete_repeat_is_left_out_until_the_comparison_is_resumed(
        self, place: Path, data: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipes = [place / "plain.yaml", place / "fragile.yaml"]
        monkeypatch.setenv("NO_POWER_WITH_SEEDS", "4")
        partial = compared(place, data, recipes=recipes, out=tmp_path / "results")
        assert [str(failure) for failure in partial.failures] == ["fragile, repeat 2, fold 2 of 3"]
        report = (partial.directory / "report.html").read_text(encoding="utf-8")
        for text in (str(partial), report):
            assert "fragile, repeat 2, fold 2 of 3: step 1 (fragile)" in " ".join(text.split())
        assert [arm.n for arm in partial.arms] == [2, 1]
        assert partial.versus[0].balanced_accuracy.p is not None  # one repeat can be tested
        assert "Incomplete repeats are not scored" in " ".join(partial.warnings)
        assert "Unequal numbers of repeats (plain 2, fragile 1)" in " ".join(partial.warnings)
        monkeypatch.delenv("NO_POWER_WITH_SEEDS")
        again = compared(place, data, recipes=recipes, out=tmp_path / "results")
        assert not again.failures and [arm.n for arm in again.arms] == [2, 2]
        assert again.versus == compared(place, data, recipes=recipes, out=tmp_path / "at_once").versus

    @pytest.mark.parametrize(("baseline", "name"), [("plain", "fragile"), ("fragile", "the baseline fragile")])
    def test_an_arm_without_a_complete_repeat_is_named(self, baseline: str, name: str) -> None:
        failed = [
            Failure(recipe="fragile", seed=number, message="no", fold=FoldIdentity(repeat=0, number=number, folds=3))
            for number in (1, 2)
        ]
        warnings = warnings_of_repeats(baseline, {"plain": [0]}, failed, {"ant": 20}, {"ant": 20})
        assert any(warning.startswith(f"No repeat of {name} is complete") for warning in warnings)

    def test_without_a_complete_repeat_there_is_no_comparison(
        self, place: Path, data: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipes = [place / "fragile.yaml", place / "frail.yaml"]
        monkeypatch.setenv("NO_POWER_WITH_SEEDS", "1 4")
        message = "no repeat is complete; fragile, repeat 1, fold 2 of 3: .*no power"
        with pytest.raises(NothingFinishedError, match=message):
            compared(place, data, recipes=recipes, out=tmp_path / "results", overrides=["training.learning_rate=0.002"])

    def test_a_run_is_verified_with_the_folds_of_the_baseline(self, place: Path, tmp_path: Path) -> None:
        data, design = splits_alike_in_small(), CrossValidation(2, 1)
        (place / "shrunk.yaml").write_text("extends: ./plain.yaml\ndata: {size: 8}\n")
        recipes = [place / "plain.yaml", place / "shrunk.yaml"]
        comparison = compared(place, data, recipes=recipes, folds=2, repeats=1, out=tmp_path / "results")
        baseline, own = RecipeData.of(data), RecipeData.of(data)
        baseline.divide(PixelSettings(), design)
        own.divide(PixelSettings((8, 8)), design)
        assert baseline.folds and own.folds and (baseline.folds.of_repeat != own.folds.of_repeat).any()
        for runs in comparison.runs.values():
            verified = verify_run(runs[1], RecipeData.of(data), tmp_path / runs[1].path.name, lambda event: None)
            assert verified.is_equal and not verified.changes
            assert runs[1].record.fold_pixels == PixelSettings()

    def test_repeats_can_be_added(self, comparison: fa.Comparison, place: Path, data: Splits) -> None:
        keys = {arm.recipe: arm.run_keys for arm in comparison.arms}
        more = compared(place, data, repeats=3)
        assert all(arm.run_keys[:6] == keys[arm.recipe] and arm.n == 3 for arm in more.arms)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 3}, "seeds: not with folds"),
        ({"folds": None, "repeats": 2}, "repeats: is for folds"),
        ({"folds": None, "keep_test": True}, "keep_test: is for folds"),
        ({"folds": 1}, "folds: must be 2 or more"),
        ({"folds": 2.5}, "folds: must be a whole number, got 2.5"),
        ({"repeats": 0}, "repeats: must be 1 or more"),
        ({"folds": 10**12}, "folds: must be at most 1,000, got 1000000000000"),
        ({"repeats": 10**12}, "repeats: must be at most 1,000, got 1000000000000"),
    ],
)
def test_invalid_designs_are_refused(place: Path, data: Splits, settings, message) -> None:
    with pytest.raises((RecipeError, DatasetError), match=message):
        compared(place, data, **settings)


class TestCommand:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, place: Path, data: Splits) -> Path:
        """Write the data as npz, so that commands can read them."""
        short = {"train": "train", "validation": "val", "test": "test"}
        arrays: dict[str, Any] = {f"{short[name]}_images": part.images[:][..., 0] for name, part in data.parts.items()}
        arrays |= {f"{short[name]}_labels": part.labels for name, part in data.parts.items()}
        np.savez(place / "data.npz", **arrays)
        return place

    def test_compares_by_folds_and_verifies_a_run(self, folder: Path, tmp_path: Path) -> None:
        out, data = tmp_path / "out", folder / "data.npz"
        recipes = f"{folder}/plain.yaml", f"{folder}/mined.yaml"
        design = "--folds", "2", "--repeats", "1", "--keep-test"
        ran = fer_augment("compare", *recipes, "--data", str(data), *design, "--jobs", "1", "--out", str(out), "--json")
        assert ran.code == 0, ran.err
        content = json.loads((out / "comparison.json").read_text())
        assert json.loads(ran.out) == content
        assert content["cross_validation"] == {"folds": 2, "repeats": 1, "keeps_test": True}
        assert content["versus"][0]["balanced_accuracy"]["p"] is not None
        run = next((out / "runs" / "mined").glob("seed-1-*"))
        verified = fer_augment("verify", str(run), "--data", str(data))
        assert verified.code == 0 and "different" not in verified.out, verified.err
        report = fer_augment("report", str(out))
        assert_readable(report)
        assert "The given test split was not scored." in " ".join(report.out.split())
        for kind in ("markdown", "csv"):
            assert fer_augment("report", str(out), "--format", kind).code == 0

    def test_a_dry_run_lists_the_trainings_of_all_folds(self, folder: Path) -> None:
        ran = fer_augment(
            "compare", f"{folder}/plain.yaml", "--data", f"{folder}/data.npz", "--folds", "5", "--dry-run"
        )
        assert ran.code == 0 and "10 distinct trainings" in ran.out, ran.err
        assert "Precision is not estimated for folds" in ran.out

    def test_seeds_and_folds_exclude_each_other(self, folder: Path) -> None:
        arguments = f"{folder}/plain.yaml", "--data", f"{folder}/data.npz", "--folds", "5", "--seeds", "3"
        assert_refused(fer_augment("compare", *arguments), "seeds: not with folds")
