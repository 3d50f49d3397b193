"""Rows that a strategy appends without parents: what provenance, targets, scouts, checks and exports make of them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fer_augment as fa
from fer_augment import DatasetError, Effect, ImageDataset, Splits, Strategy, StrategyError, hookimpl
from fer_augment.data.audit import audit, drop_held_out_duplicates
from fer_augment.data.cross_validation import CrossValidation, Folds, pooled
from fer_augment.data.dataset import SourceRows
from fer_augment.data.export import write_export
from fer_augment.data.records import provenance_arrays
from fer_augment.testing import NearestMeanScout, check_strategy, tiny_dataset
from fer_augment.training.folds import folds_of
from fer_augment.training.rewriting_checks import near_held_out_warning, refuse_held_out_images
from fer_augment.training.store import TrainingStore
from fer_augment.training.training_files import examples_of
from fer_augment.training.trainings import TrainedScout, Trainings
from tests.command_line import fer_augment
from tests.comparison_place import write_place
from tests.test_rewriting_checks import STEP, dataset, scenes
from tests.test_trainings import bound
from tests.tiny_training import tiny_splits


def noise(count: int, data: ImageDataset) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *data.image_shape), np.uint8)


def grown(data: ImageDataset, images: int = 3, source: str = "generated") -> ImageDataset:
    return data.append(noise(images, data), [1] * images, source=source)


class TestAppend:
    def test_rows_say_what_they_come_from_and_have_keys_of_their_own(self) -> None:
        data = tiny_dataset()
        both = grown(grown(data), source="other_set")
        both = grown(both)  # the same source again

        assert both.outside == ("generated", "other_set")
        assert both.origins[len(data) :].ravel().tolist() == [-2] * 3 + [-3] * 3 + [-2] * 3
        assert both.copies[len(data) :].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]
        assert both.labels[len(data) :].tolist() == [1] * 9
        assert both.is_from_outside.tolist() == [False] * len(data) + [True] * 9
        assert len(np.unique(both.row_keys())) == len(both)
        assert both.name_of(len(data)) is None
        assert grown(data).fingerprint != grown(data, source="other_set").fingerprint

    def test_copies_and_blends_of_such_rows_keep_their_provenance(self) -> None:
        data = tiny_dataset()
        new = len(data)
        rows = grown(data).append(noise(2, data), parents=[[new, 0], [new, new]]).take([new, new, new + 3, new + 4])

        assert rows.origins.tolist() == [[-2, -1], [-2, -1], [-2, data.origin[0]], [-2, -1]]
        assert rows.is_from_outside.all()
        assert len(np.unique(rows.row_keys())) == 4

    def test_soft_labels_are_one_hot_for_rows_from_outside(self) -> None:
        soft = np.full((6, 2), 0.5, np.float32)
        few = tiny_dataset().take(np.arange(6))
        data = ImageDataset.from_arrays(few.images[:], [0, 1] * 3, ["ant", "bee"], sources=SourceRows(targets=soft))
        targets = data.append(noise(2, data), [1, 0]).targets
        assert targets is not None and targets.tolist() == [[0.5, 0.5]] * 6 + [[0, 1], [1, 0]]

    def test_they_are_resized_without_a_name_and_in_groups_of_their_own(self) -> None:
        few = tiny_dataset().take(np.arange(6))
        sources = SourceRows(tuple("abcdef"), np.arange(6) // 2)
        data = ImageDataset.from_arrays(few.images[:], [0, 1] * 3, ["ant", "bee"], sources=sources)
        splits = Splits(data.append(noise(2, data), [1, 0]).take([7, 1, 6]), data, data, "grown")
        smaller = fa.read_data(splits, size=4, progress=False).train
        assert [smaller.name_of(row) for row in range(3)] == [None, "b", None]
        assert smaller.sources is not None and smaller.sources.groups is not None
        first, of_source, last = smaller.sources.groups.tolist()
        assert of_source == 0 and len({first, last, 0, 1, 2}) == 5

    def test_images_without_parents_need_labels_and_a_word(self) -> None:
        data = tiny_dataset()
        images = noise(2, data)
        with pytest.raises(DatasetError, match="without parents need labels"):
            data.append(images)
        with pytest.raises(DatasetError, match="source must be a word of at most 60 letters.*got 'a b'"):
            data.append(images, [0, 1], source="a b")
        with pytest.raises(DatasetError, match="origins has -2, which is no row and names no source"):
            ImageDataset.from_arrays(images, [0, 1], data.class_names).__class__(
                data.blocks, data.index, data.labels, data.class_names, data.origins * 0 - 2, data.copies, data.step
            )

    def test_appending_none_changes_nothing(self) -> None:
        data = tiny_dataset()
        assert data.append(noise(0, data), []).fingerprint == data.fingerprint


class TestInTheDataOfAComparison:
    """Rows from outside that the data hold before any step of a recipe are rows like the others."""

    @pytest.fixture
    def splits(self) -> Splits:
        """12 training rows, of which the last 4 are from outside, all named but those, in pairs of one group."""
        few = tiny_dataset().take(np.arange(8))
        sources = SourceRows(tuple("abcdefgh"), np.arange(8) // 2, np.eye(2, dtype=np.float32)[[0, 1] * 4])
        data = ImageDataset.from_arrays(few.images[:], [0, 1] * 4, ["ant", "bee"], sources=sources)
        random = np.random.default_rng(1).integers(0, 256, (8, *data.image_shape), np.uint8)
        held_out = ImageDataset.from_arrays(random, [0, 1] * 4, data.class_names)
        outside = data.append(noise(4, data), [0, 1, 1, 0], source="page")
        test = held_out.append(255 - noise(1, data), [1], source="page")
        return Splits(outside, held_out, test, "grown")

    def test_they_are_source_rows_in_the_same_size(self, splits: Splits) -> None:
        train = fa.read_data(splits, progress=False).train
        assert train.origins.tolist() == [[row] for row in range(12)]
        assert not train.step.any() and not train.copies.any() and train.outside == ()
        assert [train.name_of(row) for row in range(7, 12)] == ["h", None, None, None, None]
        assert train.sources is not None and train.sources.groups is not None and train.targets is not None
        assert len(set(train.sources.groups.tolist())) == 8
        assert train.targets.argmax(axis=1).tolist() == train.labels.tolist()
        smaller = fa.read_data(splits, size=4, progress=False).train
        assert smaller.sources is not None and smaller.sources.names == train.sources.names

    def test_dropping_held_out_duplicates_keeps_their_groups_and_targets(self, splits: Splits) -> None:
        same = splits.train.images[[1]]
        test = ImageDataset.from_arrays(np.concatenate([splits.test.images[:], same]), [0, 1] * 5, ["ant", "bee"])
        kept = drop_held_out_duplicates(replace(splits, test=test)).train
        assert [kept.name_of(row) for row in range(len(kept))] == [*"acdefgh", None, None, None, None]
        assert kept.sources is not None and kept.sources.groups is not None and kept.targets is not None
        assert len(set(kept.sources.groups[-4:].tolist()) - {0, 1, 2, 3}) == 4
        assert kept.targets.argmax(axis=1).tolist() == kept.labels.tolist()

    def test_a_cross_validation_does_not_keep_them_with_other_rows(self, splits: Splits) -> None:
        rows = pooled(splits)
        assert rows.targets is not None and rows.targets.argmax(axis=1).tolist() == rows.labels.tolist()
        folds = Folds.of(splits, CrossValidation(3, 1))
        together = folds.together[:12].tolist()
        assert together[:8:2] == together[1:8:2] and len(set(together)) == 4 + 4
        first = folds.splits(splits, folds.settings.identities[0])
        assert sum(map(len, first.parts.values())) == 12 + 8 + 9

    def test_an_audit_counts_their_groups_apart_in_each_split(self, splits: Splits) -> None:
        groups = np.full(8, 5)
        test = replace(splits.validation, sources=SourceRows(groups=groups))
        grouped = replace(splits, test=test.append(noise(12, test)[11:], [0]))
        for size in (None, 8):
            found = audit(fa.read_data(grouped, size=size, progress=False)).source_groups
            assert found is not None and found.across == 0

    def test_folds_of_scouts_leave_them_out_like_other_rows(self, splits: Splits, tmp_path: Path) -> None:
        folds = folds_of(splits.train, splits.train, 3, seed=0)[:, 0]
        assert (folds[:8:2] == folds[1:8:2]).all() and set(folds.tolist()) == {0, 1, 2}

        asking = bound(GeneratesByAScout())
        trainings = Trainings(splits, 0, TrainingStore(tmp_path / "trainings")).of(asking)
        predicted = TrainedScout(trainings, asking.steps[0]).probabilities(splits.train)
        assert np.isfinite(predicted).all()


def test_every_fold_trains_on_them_and_none_predicts_them(tmp_path: Path) -> None:
    data = tiny_dataset()
    rows = grown(data)
    folds = folds_of(rows, data, 3, seed=0)
    assert (folds[len(data) :] == -2).all() and (folds[: len(data)] >= 0).all()
    probabilities = NearestMeanScout().probabilities(rows)
    assert np.isnan(probabilities[len(data) :]).all() and np.isfinite(probabilities[: len(data)]).all()

    splits = tiny_splits()
    trainings = Trainings(splits, 0, TrainingStore(tmp_path / "trainings")).of(bound(Generates(), GeneratesByAScout()))
    predicted = TrainedScout(trainings, trainings.bound.steps[1]).probabilities(trainings.rewritten)
    assert np.isnan(predicted[len(splits.train) :]).all() and np.isfinite(predicted[: len(splits.train)]).all()
    examples = examples_of(trainings.rewritten, trainings.trainings.splits.train)
    assert (examples["sources"] == 255).all() and not (examples["images"] == 255).all()


class Generates(Strategy):
    """Append noise for the class with the fewest rows."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        labels = [int(training_set.counts.argmin())] * 3
        return training_set.append(noise(3, training_set), labels, source="generated")


class GeneratesByAScout(Generates):
    """Append noise for the class with the fewest rows, and declare out-of-fold predictions."""

    @property
    def effects(self) -> Effect:
        return super().effects | Effect.OUT_OF_FOLD_MINING


def test_leak_checks_still_run() -> None:
    images = scenes(80, seed=0)
    splits = Splits(dataset(images[:40]), dataset(images[40:60]), dataset(images[60:], names="held"), "scenes")
    clean = splits.train.append(scenes(20, seed=9), [0] * 20).stamped(1)
    refuse_held_out_images(STEP, splits.train, clean, splits)
    assert near_held_out_warning(clean, splits) is None

    with pytest.raises(StrategyError, match="of 3 new images, 3 of the test split are held-out images"):
        refuse_held_out_images(
            STEP, splits.train, splits.train.append(splits.test.images[:3], [0] * 3).stamped(1), splits
        )
    brighter = np.clip(splits.test.images[:].astype(np.int16) + 9, 0, 255).astype(np.uint8)
    warning = near_held_out_warning(splits.train.append(brighter, [0] * 20).stamped(1), splits)
    assert warning is not None and "20 are near or mirrored duplicates" in warning


def test_exports_name_what_they_come_from(tmp_path: Path) -> None:
    splits = tiny_splits()
    rewritten = grown(splits.train, 2, "diffusion").stamped(1)
    write_export("npz", rewritten, splits, tmp_path, lambda rows: None)
    with np.load(tmp_path / "training_set.npz") as arrays:
        assert arrays["outside"].tolist() == ["diffusion"]
        assert arrays["origins"][-2:, 0].tolist() == [-2, -2]
    write_export("folder", rewritten, splits, tmp_path, lambda rows: None)
    with (tmp_path / "training_set" / "provenance.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))[-2:]
    assert [line["origins"] for line in lines] == ["diffusion", "diffusion"]
    assert [Path(line["file"]).name for line in lines] == ["diffusion_0_1.png", "diffusion_1_1.png"]
    assert bytes(provenance_arrays(rewritten)["outside"].astype(np.uint8)) == b"diffusion"
    assert "outside" not in provenance_arrays(splits.train)


def test_the_kit_accepts_them_and_reports_a_row_that_has_a_parent_after_all() -> None:
    class Copies(Strategy):
        """Append copies of training rows as if they were generated."""

        @hookimpl
        def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
            return training_set.append(training_set.images[:3], training_set.labels[:3])

    assert [result for result in check_strategy(Generates) if not result.passed] == []
    failed = {result.name: result.advice for result in check_strategy(Copies) if not result.passed}
    assert "has another row as its parent" in failed["keeps_provenance"]


STRATEGY = '''
import numpy as np

from fer_augment import Strategy, hookimpl


class Diffusion(Strategy):
    """Append made-up images of the last class."""

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        images = np.random.default_rng(5).integers(0, 256, (6, *training_set.image_shape), np.uint8)
        return training_set.append(images, [2] * 6, source="diffusion")
'''


SHORT = ("training.epochs=1",)


def test_a_comparison_with_them_is_reported_verified_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_place(tmp_path))
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    Path("steps.py").write_text(STRATEGY, encoding="utf-8")
    Path("made.yaml").write_text("extends: ./small.yaml\nstrategies: ['./steps.py:Diffusion']\n", encoding="utf-8")

    fa.compare(["small.yaml", "made.yaml"], "faces", seeds=1, out="results", jobs=1, progress=False, overrides=SHORT)

    report = Path("results/report.html").read_text(encoding="utf-8")
    assert "Where the left image is blank, the added\nimage was not made from a training row." in report
    (run,) = Path("results/runs/made").iterdir()
    stored = load_file(run / "provenance.safetensors")
    assert stored["origins"][-6:].ravel().tolist() == [-2] * 6
    assert bytes(stored["outside"].astype(np.uint8)) == b"diffusion"
    verified = fer_augment("verify", str(run), "--data", "faces", "--json")
    assert verified.code == 0, verified.out + verified.err
    assert fer_augment("rewrite", "made.yaml", "--data", "faces", "--out", "out").code == 0
    assert "was not made from a training row" in Path("out/README.md").read_text(encoding="utf-8")
