"""`context.cached` and `context.progress` in the rewriting of a training set."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fer_augment import Context, ImageDataset, Strategy, StrategyError, hookimpl
from fer_augment.cache import entries, prune
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.progress import Advance
from fer_augment.testing import tiny_dataset
from fer_augment.training.store import TrainingStore
from fer_augment.training.strategy_cache import StrategyCache
from fer_augment.training.trainings import Trainings
from tests.test_trainings import bound
from tests.tiny_training import tiny_splits


class Slow(Strategy):
    """Append a slowly made image; counts how often it is made."""

    brightness: int = 3
    key: str = "v1"

    made: ClassVar[list[int]] = []
    fails: ClassVar[list[OSError]] = []

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        def make(folder: Path) -> None:
            self.made.append(self.brightness)
            for image in range(5):
                context.progress(image + 1, 5)
            np.save(folder / "image.npy", np.full((1, *training_set.image_shape), self.brightness, np.uint8))
            for error in self.fails:
                raise error

        folder = context.cached(f"{training_set.fingerprint} {self.key}", make)
        return training_set.append(np.load(folder / "image.npy"), [0])


@pytest.fixture
def rewritten(tmp_path: Path) -> Callable[..., ImageDataset]:
    Slow.made.clear()
    Slow.fails.clear()

    def rewrite(*strategies: Strategy, seed: int = 0, **options: Any) -> ImageDataset:
        trainings = Trainings(tiny_splits(), seed, TrainingStore(tmp_path / "trainings"), **options)
        return trainings.of(bound(*strategies)).rewritten

    return rewrite


def test_work_is_done_once_for_all_seeds_and_places_in_recipes(rewritten: Callable[..., ImageDataset]) -> None:
    first, second = rewritten(Slow()), rewritten(Slow(), seed=1)
    assert first.fingerprint == second.fingerprint and (first.images[-1:] == 3).all()
    rewritten(Slow(), Slow(brightness=5))
    assert Slow.made == [3, 5]


@pytest.mark.parametrize("other", [{"brightness": 4}, {"key": "v2"}])
def test_other_parameters_and_keys_are_other_work(
    other: dict[str, Any], rewritten: Callable[..., ImageDataset]
) -> None:
    rewritten(Slow())
    rewritten(Slow(**other))
    assert len(Slow.made) == 2


def test_other_code_and_files_are_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = bound(Slow())
    cache = StrategyCache(tmp_path, recipe.steps[0], recipe)
    made: list[Path] = []
    assert cache("key", made.append) == cache("key", made.append)
    monkeypatch.setattr("fer_augment.training.keys.source_digest", lambda thing: "edited")
    assert cache("key", made.append) != cache("other", made.append)
    assert len(made) == 3 and len(list(tmp_path.iterdir())) == 3
    moved = replace(recipe.steps[0], number=7)
    assert StrategyCache(tmp_path, moved, recipe)("key", made.append) and len(made) == 3


def test_reuse_counts_as_use(tmp_path: Path) -> None:
    store = TrainingStore(tmp_path)
    path = store.obtain("key", lambda scratch, _: None).path
    os.utime(path, (1, 1))
    assert store.obtain("key", lambda scratch, _: None).was_reused
    assert path.stat().st_mtime > 1


def test_failed_work_leaves_nothing(tmp_path: Path, rewritten: Callable[..., ImageDataset]) -> None:
    Slow.fails.append(OSError(28, "No space left on device", "image.npy"))
    with pytest.raises(StrategyError, match=r"step 1 \(slow\), rewrite_training_set: .*image.npy: No space left"):
        rewritten(Slow())
    Slow.fails.clear()
    assert not entries(tmp_path)
    rewritten(Slow())
    (entry,) = entries(tmp_path)
    assert entry.kind == "strategies" and entry.path.name.startswith("slow-") and Slow.made == [3, 3]


def test_work_in_progress_is_not_pruned(tmp_path: Path) -> None:
    recipe, unfinished, pruned = bound(Slow()), list[str](), list[str]()

    def make(folder: Path) -> None:
        held = entries(tmp_path)
        unfinished.extend(entry.path.name for entry in held)
        pruned.extend(entry.path.name for entry in prune(held, unused_days=1, now=1e12))

    folder = StrategyCache(tmp_path / "strategies", recipe.steps[0], recipe)("key", make)
    assert len(unfinished) == 1 and unfinished[0].startswith(".slow-") and pruned == []
    assert [entry.path for entry in prune(entries(tmp_path), unused_days=1, now=1e12)] == [folder]


@pytest.mark.parametrize("error", [OSError("image file is truncated"), OSError(28, "No space left on device")])
def test_an_error_that_names_no_file_is_shown_with_its_place(
    error: OSError, rewritten: Callable[..., ImageDataset]
) -> None:
    Slow.fails.append(error)
    place = r"\(test_strategy_cache.py, line \d+\)$"
    with pytest.raises(StrategyError, match=rf"step 1 \(slow\), .*: OSError: {re.escape(str(error))} {place}"):
        rewritten(Slow())


def test_progress_is_reported_with_the_name_of_the_step(rewritten: Callable[..., ImageDataset]) -> None:
    events: list[Any] = []
    rewritten(Slow(), report=events.append)
    steps = [event for event in events if isinstance(event, Advance) and event.activity == "slow"]
    assert [(event.done, event.total) for event in steps] == [(1, 5), (5, 5)]  # those in between came too soon


def test_without_a_run_work_is_done_in_a_temporary_folder() -> None:
    Slow.made.clear()
    data = tiny_dataset()
    pipeline = Pipeline(steps_of([Slow()]), Context(0, data.class_names))
    assert len(pipeline.fold("rewrite_training_set", data)) == len(pipeline.fold("rewrite_training_set", data)) == 50
    assert Slow.made == [3, 3]


def test_faults_are_told(tmp_path: Path) -> None:
    context = Context(0, ("ant",))
    with pytest.raises(StrategyError, match="the key must be a text, got 3"):
        context.cached(3, lambda folder: None)  # type: ignore[arg-type] # the fault
    with pytest.raises(StrategyError, match=r"context.progress\(6, 5\): the first number"):
        context.progress(6, 5)
    with pytest.raises(StrategyError, match="not available at stages that are called for each batch"):
        replace(context, cache=None).cached("key", lambda folder: None)


class InEachBatch(Strategy):
    """Asks for the cache in each batch."""

    @hookimpl
    def augment_rows(self, images: Any, context: Context) -> Any:
        context.cached("key", lambda folder: None)
        return images


def test_stages_of_batches_have_no_cache() -> None:
    data = tiny_dataset()
    pipeline = Pipeline(steps_of([InEachBatch()]), Context(0, data.class_names))
    with pytest.raises(StrategyError, match="not available at stages that are called for each batch"):
        pipeline.fold(
            "augment_rows", data.images[:2], epoch=0, labels=data.labels[:2], rows=np.arange(2), training_set=data
        )
