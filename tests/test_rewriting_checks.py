"""What is refused or warned of after a rewriting: held-out images, vanished classes, arms that change nothing."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fer_augment as fa
from fer_augment import ImageDataset, Splits, Strategy, StrategyError
from fer_augment.data.dataset import SourceRows
from fer_augment.errors import StrategyWarning
from fer_augment.hooks.pipeline import Step
from fer_augment.hooks.strategy_warnings import collected_warnings
from fer_augment.training.rewriting_checks import lost_rows, near_held_out_warning, refuse_held_out_images
from tests.command_line import fer_augment
from tests.comparison_place import write_place

CLASSES = ("ant", "bee")
STEP = Step(Strategy(), "leaky", 1)


def scenes(count: int, seed: int) -> np.ndarray:
    """Return smooth random images, of which no two are alike."""
    import cv2

    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 12, 12)).astype(np.uint8)
    return np.stack([cv2.resize(image, (48, 48), interpolation=cv2.INTER_CUBIC) for image in coarse])[..., None]


def dataset(images: np.ndarray, names: str | None = None) -> ImageDataset:
    sources = SourceRows(tuple(f"{names}/{row}.png" for row in range(len(images)))) if names else None
    return ImageDataset.from_arrays(images, np.arange(len(images)) % 2, CLASSES, sources=sources)


@pytest.fixture(scope="module")
def splits() -> Splits:
    images = scenes(80, seed=0)
    return Splits(dataset(images[:40]), dataset(images[40:60]), dataset(images[60:], names="held"), "scenes")


def with_images(splits: Splits, images: np.ndarray, parent: int = 0) -> ImageDataset:
    """Return the training set with more images, as step 1 makes them."""
    return splits.train.append(images, parents=np.full(len(images), parent)).stamped(1)


class TestHeldOutImages:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_a_leak_is_refused_with_step_count_and_example(self, splits, mirrored):
        test = splits.test.images[[3, 7, 8]]
        images = np.concatenate([255 - splits.train.images[[0]], test[:, :, ::-1] if mirrored else test])
        message = (
            r"step 1 \(leaky\), rewrite_training_set: of 4 new images, 3 of the test split are held-out images, "
            r"exactly or mirrored, such as test row 3 \(held/3.png\)"
        )
        with pytest.raises(StrategyError, match=message):
            refuse_held_out_images(STEP, splits.train, with_images(splits, images), splits)

    def test_both_splits_are_counted(self, splits):
        images = np.concatenate([splits.validation.images[[1, 2]], splits.test.images[[5]]])
        with pytest.raises(StrategyError, match=r"1 of the test split and 2 of the validation split"):
            refuse_held_out_images(STEP, splits.train, with_images(splits, images), splits)

    def test_rows_that_replace_the_set_are_checked(self, splits):
        """Not only those that are appended: a strategy may return any set."""
        with pytest.raises(StrategyError, match="20 of the test split"):
            refuse_held_out_images(STEP, splits.train, replace(splits.test, sources=None), splits)

    def test_copies_of_training_rows_that_are_also_held_out_are_no_new_leak(self, splits):
        train = splits.train.images
        leaking = np.concatenate([train[[0]], train[[1]][:, :, ::-1], splits.test.images[2:]])
        leaked = replace(splits, test=dataset(leaking))
        copies = np.concatenate([train[[0]], train[[0]][:, :, ::-1], train[[1]], train[[1]][:, :, ::-1]])
        rewritten = splits.train.append(copies, parents=[0, 0, 1, 1]).stamped(1)
        refuse_held_out_images(STEP, splits.train, rewritten, leaked)
        assert near_held_out_warning(rewritten, leaked) is None

    def test_blank_images_are_no_leak(self, splits):
        blank = np.zeros((1, 48, 48, 1), dtype=np.uint8)
        leaked = replace(splits, test=dataset(np.concatenate([blank, splits.test.images[1:]])))
        refuse_held_out_images(STEP, splits.train, with_images(splits, blank), leaked)

    def test_ordinary_augmentation_passes(self, splits):
        train = splits.train.images[:]
        noisy = np.clip(train + np.random.default_rng(1).normal(0, 12, train.shape), 0, 255).astype(np.uint8)
        rewritten = with_images(splits, np.concatenate([noisy, train[:, :, ::-1]]))
        refuse_held_out_images(STEP, splits.train, rewritten, splits)
        assert near_held_out_warning(rewritten, splits) is None
        assert near_held_out_warning(splits.train, splits) is None


class TestNearDuplicates:
    def test_altered_held_out_images_are_a_warning(self, splits):
        brighter = np.clip(splits.test.images[:].astype(np.int16) + 9, 0, 255).astype(np.uint8)
        message = near_held_out_warning(with_images(splits, brighter), splits)
        assert message is not None
        assert message.startswith("Of 20 new training images sampled, 20 are near or mirrored duplicates of validation")
        assert "test row 0 (held/0.png)" in message

    def test_near_duplicates_of_the_source_images_are_not_counted(self, splits):
        """A training row that is near a test row leaks in the data, and the audit says so."""
        train = splits.train.images[:20].astype(np.int16)
        leaking = replace(splits, test=dataset(np.clip(train + 6, 0, 255).astype(np.uint8)))
        darker = np.clip(train - 5, 0, 255).astype(np.uint8)
        rewritten = leaking.train.append(darker, parents=np.arange(20)).stamped(1)
        assert near_held_out_warning(rewritten, leaking) is None


class TestLostRows:
    def test_a_class_that_vanishes_is_refused(self, splits):
        after = splits.train.without(splits.train.rows_of(["bee"]))
        with pytest.raises(StrategyError, match=r"drops all 20 rows of bee; .*classes: \{drop: \[bee\]\}"):
            list(lost_rows(STEP, splits.train, after))

    def test_a_class_that_loses_more_than_half_is_a_warning(self, splits):
        bees = splits.train.rows_of(["bee"])
        assert list(lost_rows(STEP, splits.train, splits.train.without(bees[:10]))) == []
        (warning,) = lost_rows(STEP, splits.train, splits.train.without(bees[:11]))
        assert warning == "step 1 (leaky) leaves 9 of 20 training rows of bee."

    def test_a_class_without_rows_stays_without(self, splits):
        no_bees = splits.train.without(splits.train.rows_of(["bee"]))
        assert list(lost_rows(STEP, no_bees, no_bees.take([0, 1]))) == [
            "step 1 (leaky) leaves 2 of 20 training rows of ant."
        ]


def test_warnings_of_strategies_are_collected_once():
    with pytest.warns(DeprecationWarning, match="other"), collected_warnings() as messages:
        for _ in range(3):
            warnings.warn("too gray", StrategyWarning, stacklevel=1)
        warnings.warn("other", DeprecationWarning, stacklevel=1)
    assert messages == ["too gray"]


STRATEGIES = '''
from pathlib import Path

import cv2
import numpy as np

from fer_augment import Effect, Strategy, hookimpl


class Leaks(Strategy):
    """Append the images of the test folder."""

    @hookimpl
    def rewrite_training_set(self, training_set):
        files = sorted(Path("faces/test").rglob("*.png"))
        images = np.stack([cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files])[..., None]
        labels = [training_set.class_number(file.parent.name) for file in files]
        return training_set.append(images, labels, parents=np.zeros(len(files), dtype=int))


class Cleans(Strategy):
    """Keep few rows of the first class."""

    keep: int = 4

    @property
    def effects(self):
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set):
        return training_set.without(np.flatnonzero(training_set.labels == 0)[self.keep :])
'''
RECIPES = {
    "leaks": "'./steps.py:Leaks': {}",
    "cleans": "'./steps.py:Cleans': {}",
    "empties": "'./steps.py:Cleans': {keep: 0}",
    "grays": "albumentations: {transforms: [{ToGray: {p: 1.0}}]}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_place(tmp_path_factory.mktemp("place"))
    (folder / "steps.py").write_text(STRATEGIES)
    for name, step in RECIPES.items():
        (folder / f"{name}.yaml").write_text(f"extends: ./small.yaml\nstrategies: [{{{step}}}]\n")
    return folder


@pytest.fixture(autouse=True)
def in_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "place" in request.fixturenames:
        folder = request.getfixturevalue("place")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(folder / "cache"))


def test_a_comparison_refuses_leaks_and_empty_classes_and_warns_of_lost_rows_and_idle_arms(place: Path) -> None:
    recipes = ["small.yaml", *(f"{name}.yaml" for name in RECIPES)]
    result = fa.compare(recipes, "faces", seeds=2, out="results", jobs=1, progress=False)
    messages = {failure.recipe: failure.message for failure in result.failures}
    assert set(messages) == {"leaks", "empties"}
    assert "of 30 new images, 30 of the test split are held-out images" in messages["leaks"]
    assert "drops all 10 rows of <dog>" in messages["empties"]
    text = "\n".join(result.warnings)
    assert "cleans: step 1 (cleans) leaves 4 of 10 training rows of <dog>." in text
    assert "grays: albumentations: The image is already gray." in text
    assert (
        "grays: training is identical to that of small, with equal weights in every run: its steps change nothing on "
        "these data."
    ) in text
    assert "cleans: training is identical" not in text
    again = fa.compare(recipes, "faces", seeds=2, out="results", jobs=1, progress=False)
    assert again.warnings == result.warnings, "cached runs keep their warnings"


def test_rewrite_refuses_and_warns(place: Path) -> None:
    with pytest.raises(StrategyError, match="30 of the test split are held-out images"):
        fa.rewrite("leaks.yaml", "faces", progress=False)
    assert any("leaves 4 of 10 training rows of <dog>" in text for text in fa.rewrite("cleans.yaml", "faces").warnings)
    ran = fer_augment("rewrite", "cleans.yaml", "--data", "faces", "--dry-run")
    assert "leaves 4 of 10 training rows of <dog>" in " ".join(ran.out.split())


def test_arms_that_share_a_training_are_not_named(place: Path) -> None:
    (place / "later.yaml").write_text("extends: ./small.yaml\nstrategies: [{logit_adjustment: {}}]\n")
    result = fa.compare(["small.yaml", "later.yaml"], "faces", seeds=1, out="later", jobs=1, progress=False)
    assert not any("identical" in warning for warning in result.warnings)
