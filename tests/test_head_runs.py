"""Runs, comparisons and plans of recipes that train the head alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fer_augment as fa
from fer_augment.data.records import BACKBONE_FILE, RunDirectory, weights_files
from fer_augment.finished import Run
from fer_augment.results.checking import damages_in
from fer_augment.runs.verification import verify_run
from fer_augment.training.memory import training_memory
from fer_augment.training.trainings import Trainings
from tests.command_line import fer_augment
from tests.data_files import write_squares

TRAINING = "training: {train: head, epochs: 2, batch_size: 16, precision: float32, evaluate_every: 1}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a run in `backbone`, and the recipes `head.yaml` and `balanced.yaml`."""
    folder = tmp_path_factory.mktemp("heads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(folder / "cache"))
        write_squares(folder / "data")
        (folder / "whole.yaml").write_text(
            "model: vgg_tiny\ntraining: {epochs: 1, batch_size: 16, precision: float32}\n"
        )
        fa.run(folder / "whole.yaml", folder / "data", out=folder / "out", progress=False).path.rename(
            folder / "backbone"
        )
        (folder / "head.yaml").write_text(f"model: {{vgg_tiny: {{weights: backbone}}}}\n{TRAINING}\n")
        (folder / "balanced.yaml").write_text(
            "extends: head.yaml\nstrategies: [{power_sampler: {exponent: 1.0}}, mirror_views, crt]\n"
        )
        yield folder


@pytest.fixture(scope="module")
def comparison(place):
    return fa.compare(
        [place / "head.yaml", place / "balanced.yaml"],
        place / "data",
        seeds=2,
        out=place / "results",
        jobs=2,
        progress=False,
    )


def runs_of(comparison: fa.Comparison) -> list[Run]:
    return [run for runs in comparison.runs.values() for run in runs]


def test_comparison_has_verdicts_and_complete_runs(comparison, place):
    assert not comparison.failures
    runs = runs_of(comparison)
    assert len(runs) == 4
    for run in runs:
        assert [file.name for file in weights_files(run.path)] == ["weights.safetensors", BACKBONE_FILE]
        assert set(load_file(run.path / "weights.safetensors")) == {"head.weight", "head.bias"}
    backbones = {(run.path / BACKBONE_FILE).stat().st_ino for run in runs}
    assert len(backbones) == 1, "hard links"
    assert len(list((place / "cache" / "features").iterdir())) == 1


def test_finished_run_predicts_what_it_stored(comparison, place):
    test = fa.read_data(place / "data").test
    for run in runs_of(comparison):
        stored = RunDirectory(run.path).predictions("test").logits
        expected = np.exp(stored - stored.max(axis=1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(run.predict(test.images[:]), expected, atol=1e-4)


def test_parameters_are_those_of_the_whole_network(comparison, place):
    whole = RunDirectory(place / "backbone").record
    assert {run.record.parameter_count for run in runs_of(comparison)} == {whole.parameter_count}


def test_run_is_verified_without_cached_features(comparison, place, tmp_path):
    for run in runs_of(comparison)[::2]:
        source = fa.prepare([place / "head.yaml"], place / "data", progress=False).experiment.data
        verification = verify_run(RunDirectory(run.path), source, tmp_path / run.path.name, lambda event: None)
        assert verification.is_equal and not verification.changes
        assert (tmp_path / run.path.name / "features").is_dir()


def test_run_of_a_head_gives_initial_weights(comparison, place):
    first = runs_of(comparison)[0].path
    (place / "again.yaml").write_text(f"model: {{vgg_tiny: {{weights: {first}}}}}\n{TRAINING}\n")
    again = fa.run(place / "again.yaml", place / "data", out=place / "again", progress=False)
    before, after = load_file(first / BACKBONE_FILE), load_file(again.path / BACKBONE_FILE)
    assert {name: tensor.tobytes() for name, tensor in before.items()} == {
        name: tensor.tobytes() for name, tensor in after.items()
    }


def test_plan_counts_missing_features_once(place, monkeypatch, tmp_path):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "fer_augment.training.frozen_features.FrozenFeatures.seconds_per_image", lambda self, dataset: 60.0
    )
    monkeypatch.setattr("fer_augment.runs.plan.seconds_per_step", lambda training, steps: 0.0)
    prepared = fa.prepare([place / "head.yaml"], place / "data", seeds=3, progress=False)
    parts = fa.read_data(place / "data").parts.values()
    images = sum(len(np.unique(part.digests)) for part in parts)
    assert prepared.plan.minutes(jobs=1) == prepared.plan.missing_features == images
    dry_run = fer_augment("compare", str(place / "head.yaml"), "--data", str(place / "data"), "--dry-run")
    assert f"Features of {images} images are missing and will be computed once." in dry_run.out
    fa.run(place / "head.yaml", place / "data", out=tmp_path / "out", progress=False)
    assert fa.prepare([place / "head.yaml"], place / "data", seeds=3, progress=False).plan.minutes(jobs=1) == 0


def test_plan_computes_no_features_of_all_images(place, monkeypatch, tmp_path):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
    minutes = fa.prepare([place / "balanced.yaml"], place / "data", progress=False).plan.minutes(jobs=1)
    assert minutes is not None and minutes > 0
    assert not (tmp_path / "features").exists()


def test_estimated_memory_grows_with_the_features_and_not_with_the_batch(place):
    def estimate(recipe: Path, *overrides: str) -> int:
        prepared = fa.prepare([recipe], place / "data", overrides=overrides, progress=False)
        arm, experiment = prepared.arms[0], prepared.experiment
        return training_memory(Trainings(experiment.data.splits_for(arm.recipe), 0, experiment.store).of(arm))

    head = estimate(place / "head.yaml")
    assert head == estimate(place / "head.yaml", "training.batch_size=4096")
    assert head < estimate(place / "whole.yaml", "training.batch_size=1024")


def test_missing_backbone_is_named(comparison, tmp_path):
    copied = shutil.copytree(runs_of(comparison)[0].path, tmp_path / "run")
    assert not list(damages_in(copied))
    (copied / BACKBONE_FILE).unlink()
    assert [(Path(damage.file).name, damage.reason) for damage in damages_in(copied)] == [(BACKBONE_FILE, "is missing")]


def test_random_backbone_is_refused_before_anything_is_computed(place):
    with pytest.raises(fa.RecipeError, match=r"recipe 'whole': training.train: head .* vgg_tiny starts from random"):
        fa.prepare([place / "whole.yaml"], place / "data", overrides=["training.train=head"], progress=False)
