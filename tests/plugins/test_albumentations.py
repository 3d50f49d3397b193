"""The strategy `albumentations`: results equal those of the library, and invalid transforms raise errors."""

from __future__ import annotations

import os
import pickle
import random
import re
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from typing import Any

import cv2
import numpy as np
import pytest

from fer_augment import Context, Effect, ImageDataset, StrategyError, StrategyWarning
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins

Albumentations: Any = installed_plugins().strategy("albumentations").value
NAMES = ("ant", "bee", "cat")
COUNTS = (4, 10, 20)
PIPELINE: list[Any] = [
    {"HorizontalFlip": {"p": 0.5}},
    {"Affine": {"rotate": [-20, 20], "p": 0.8}},
    {"OneOf": {"transforms": [{"GaussNoise": {"p": 1}}, {"Blur": {"p": 1}}], "p": 0.7}},
]


def dataset(channels: int = 1) -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, (sum(COUNTS), 12, 12, channels), dtype=np.uint8)
    return ImageDataset.from_arrays(images, np.repeat([0, 1, 2], COUNTS), NAMES)


def pipeline(strategy: Any, seed: int = 0) -> Pipeline:
    return Pipeline(steps_of([strategy]), Context(seed, NAMES))


def rewritten(data: ImageDataset | None = None, seed: int = 0, **parameters: Any) -> ImageDataset:
    strategy = Albumentations(when="rewrite", **parameters)
    return pipeline(strategy, seed).fold("rewrite_training_set", data or dataset())


def augmented(rows: np.ndarray, strategy: Any = None, channels: int = 1, **parameters: Any) -> np.ndarray:
    data = dataset(channels)
    return pipeline(strategy or Albumentations(**parameters)).fold(
        "augment_rows", data.images[rows], labels=data.labels[rows], rows=rows, training_set=data, epoch=2
    )


def contents(data: ImageDataset) -> list[Any]:
    """Return key, label and digest of each row, in the order of the keys."""
    return sorted(zip(data.row_keys().tolist(), data.labels.tolist(), data.digests.tolist(), strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_row_equals_the_librarys_result_for_the_seed_of_the_row(channels: int) -> None:
    import albumentations as A

    data = dataset(channels)
    rows = np.arange(len(data))
    pipeline = A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-20, 20), p=0.8),
            A.OneOf([A.GaussNoise(p=1), A.Blur(p=1)], p=0.7),
        ]
    )
    context = Context(0, NAMES, stream=("albumentations", 0, "augment_rows", 2))
    result = augmented(rows, channels=channels, transforms=PIPELINE)
    for row, seed in enumerate(context.row_seeds(data.row_keys()).tolist()):
        pipeline.set_random_state(np.random.Generator(np.random.Philox(key=seed)), random.Random(seed))
        assert (result[row] == pipeline(image=data.images[row][0])["image"]).all()
    assert (result != data.images[:]).any(axis=(1, 2, 3)).mean() > 0.8


def test_probabilities_of_transforms_are_independent() -> None:
    flips = [{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}]
    data = dataset()
    result = rewritten(data, transforms=flips, copies=20)
    original = data.images[result.origin[len(data) :]]
    copies = result.images[len(data) :]
    outcomes = (original, original[:, :, ::-1], original[:, ::-1], original[:, ::-1, ::-1])
    shares = [(copies == outcome).all(axis=(1, 2, 3)).mean() for outcome in outcomes]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([0.25] * 4, abs=0.07)


def test_results_depend_neither_on_the_batch_nor_on_the_process() -> None:
    rows = np.array([30, 2, 17, 9])
    strategy = Albumentations(transforms=PIPELINE)
    whole = augmented(np.arange(34), strategy)
    assert (augmented(rows, strategy) == whole[rows]).all()
    assert (augmented(rows, pickle.loads(pickle.dumps(strategy))) == whole[rows]).all()


def test_copies_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are started for few images because their startup time is set to 0."""
    strategy = Albumentations(transforms=PIPELINE, when="rewrite", copies=2)
    from fer_augment import row_transforms as module

    monkeypatch.setattr(module, "_TIMED_IMAGES", 5)
    serial = pipeline(strategy).fold("rewrite_training_set", dataset())
    futures: list[Future[Any]] = []

    class RecordingExecutor(ProcessPoolExecutor):
        def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            futures.append(super().submit(function, *args, **kwargs))
            return futures[-1]

    monkeypatch.setattr(module, "ProcessPoolExecutor", RecordingExecutor)
    monkeypatch.setattr(Albumentations, "startup_seconds", 0.0)
    parallel = Pipeline(steps_of([strategy]), Context(0, NAMES, cores=3)).fold("rewrite_training_set", dataset())
    assert len({future.cancelled() for future in futures}) == 2, "the calling process and the workers share the work"
    assert np.array_equal(parallel.images[:], serial.images[:]) and len(serial) == 3 * sum(COUNTS)


def test_a_repeated_row_is_transformed_differently() -> None:
    twice = augmented(np.array([3, 3]), transforms=[{"GaussNoise": {"p": 1}}])
    assert (twice[0] != twice[1]).any()


def test_only_rows_of_the_given_classes_are_transformed() -> None:
    data = dataset()
    changed = augmented(np.arange(34), transforms=["InvertImg"], classes=["bee"]) != data.images[:]
    inverted = augmented(np.arange(34), transforms=[{"InvertImg": {"p": 1}}], classes=["bee"])
    assert not changed[data.labels != 1].any()
    assert (inverted[data.labels == 1] == 255 - data.images[data.labels == 1]).all()


def test_rows_are_transformed_with_the_probability_of_their_class() -> None:
    labels = np.repeat([0, 1, 2], 1000)
    data = ImageDataset.from_arrays(np.zeros((3000, 2, 2), np.uint8), labels, NAMES)
    strategy = Albumentations(transforms=[{"InvertImg": {"p": 1}}], classes={"ant": 1, "bee": 0.3})
    result = pipeline(strategy).fold(
        "augment_rows", data.images[:], labels=labels, rows=np.arange(3000), training_set=data, epoch=0
    )
    inverted = (result == 255).all(axis=(1, 2, 3)).reshape(3, 1000).mean(axis=1)
    assert inverted.tolist() == [1, pytest.approx(0.3, abs=0.05), 0]


def test_copies_of_every_row_are_appended() -> None:
    result = rewritten(transforms=["GaussNoise"], copies=2, classes=["ant", "bee"])
    assert result.counts.tolist() == [12, 30, 20]
    assert np.bincount(result.origin).tolist() == [3] * 14 + [1] * 20
    assert (result.step == 1).sum() == 28


@pytest.mark.parametrize(
    ("parameters", "counts"),
    [
        ({"target_count": "largest_class"}, [20, 20, 20]),
        ({"target_count": "largest_class", "classes": ["ant"]}, [20, 10, 20]),
        ({"target_count": 15}, [15, 15, 20]),
    ],
)
def test_target_count_enlarges_classes_with_evenly_repeated_rows(parameters: dict[str, Any], counts: list[int]) -> None:
    result = rewritten(transforms=["GaussNoise"], **parameters)
    assert result.counts.tolist() == counts
    for label in range(3):
        rows_of_each = np.bincount(result.origin[result.labels == label])
        assert np.ptp(rows_of_each[rows_of_each > 0]) <= 1


def test_a_target_that_all_classes_have_gives_a_warning() -> None:
    with pytest.warns(StrategyWarning, match="`target_count` is 5, and all classes have as many rows already"):
        assert len(rewritten(transforms=["GaussNoise"], target_count=5, classes=["bee", "cat"])) == len(dataset())


@pytest.mark.parametrize("amount", [{"target_count": "largest_class"}, {"target_count": 45}, {"copies": 2}])
def test_copies_do_not_depend_on_the_order_of_rows(amount: dict[str, Any]) -> None:
    """The set has inverted copies of some rows."""
    data = dataset()
    data = data.append(255 - data.images[:7], parents=np.arange(7))
    shuffled = data.take(np.random.default_rng(1).permutation(len(data)))
    filled, refilled = (rewritten(one, transforms=PIPELINE, **amount) for one in (data, shuffled))
    assert contents(filled) == contents(refilled)
    assert len(filled) > len(data)


def test_random_numbers_of_a_copy_depend_on_its_copy_number_only() -> None:
    result = rewritten(transforms=PIPELINE, copies=2)
    again = rewritten(transforms=PIPELINE, copies=1)
    assert (result.images[: len(again)] == again.images[:]).all()
    assert (result.images[34:68] != result.images[68:]).any(axis=(1, 2, 3)).mean() > 0.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"transforms": ["HorizontalFlipp"]},
            "no transform 'HorizontalFlipp'; did you mean 'HorizontalFlip'",
        ),
        (
            {"transforms": [{"Affine": {"rotation": 3}}]},
            "Affine has no parameter 'rotation'; did you mean 'rotate'",
        ),
        ({"transforms": [{"Affine": {"p": 3}}]}, "Affine: p: Input should be less than or equal to 1"),
        (
            {"transforms": [{"OneOf": {"transforms": [{"Blur": {"size": 3}}]}}]},
            "Blur has no parameter 'size'",
        ),
        ({"transforms": [{"Blur": {}, "Rotate": {}}]}, r"each transform is one .*\['Blur', 'Rotate'\]"),
        ({"transforms": ["MaskDropout"]}, "MaskDropout requires mask besides the image"),
        ({"transforms": ["Lambda"]}, "no transform 'Lambda'"),
        ({"transforms": []}, "at least 1"),
        ({"transforms": ["Blur"], "when": "rewrite"}, "either `copies` or `target_count`"),
        ({"transforms": ["Blur"], "when": "rewrite", "copies": 1, "target_count": 9}, "either `copies`"),
        ({"transforms": ["Blur"], "when": "rewrite", "target_count": 0}, "greater than or equal to 1"),
        ({"transforms": ["Blur"], "copies": 1}, "`copies` requires `when: rewrite`"),
        (
            {"transforms": ["Blur"], "when": "rewrite", "copies": 1, "classes": {"ant": 0.5}},
            "requires `when: batch`",
        ),
        ({"transforms": ["Blur"], "classes": {"ant": 1.5}}, "less than or equal to 1"),
    ],
)
def test_invalid_parameters_are_rejected(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Albumentations(**parameters)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"RandomFog": {"p": 1}}, "RandomFog cannot transform images of 12x12x1: .*3-channel"),
        (
            {"OneOf": {"transforms": [{"ISONoise": {"p": 1}}], "p": 1}},
            "ISONoise cannot transform images of 12x12x1",
        ),
        (
            {"CenterCrop": {"height": 8, "width": 8}},
            r"CenterCrop changed the image shape from \(12, 12, 1\) to \(8, 8, 1\).* append .*Resize",
        ),
        (
            {"ToRGB": {"p": 1}},
            r"ToRGB changed the image shape from \(12, 12, 1\) to \(12, 12, 3\); .*remove .*set data.channels: color$",
        ),
        ({"ToFloat": {"p": 1}}, "ToFloat returned float32 pixels instead of uint8 pixels; remove ToFloat: "),
    ],
)
def test_errors_name_the_failed_transform_and_the_reason(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        augmented(np.arange(3), transforms=[transform])


def test_advice_to_remove_conversions_works_when_followed() -> None:
    transforms = ["HorizontalFlip", "Normalize", "ToTensorV2"]
    with pytest.raises(StrategyError) as caught:
        augmented(np.arange(3), transforms=transforms)
    advice = re.search(
        r"returned a value of type Tensor instead of uint8 pixels; remove (.+?): the trainer", str(caught.value)
    )
    assert advice
    remaining = [name for name in transforms if name not in advice[1].split(", ")]
    assert remaining == ["HorizontalFlip"]
    assert augmented(np.arange(3), transforms=remaining).dtype == np.uint8


def test_a_crop_followed_by_a_resize_is_accepted() -> None:
    crop = [{"RandomCrop": {"height": 9, "width": 9}}, {"Resize": {"height": 12, "width": 12}}]
    assert augmented(np.arange(5), transforms=crop).shape == (5, 12, 12, 1)


def test_warnings_of_the_library_are_passed_on_once() -> None:
    # The first warns when created, the second on each gray image; pytest turns other warnings into errors.
    warning = [{"ShiftScaleRotate": {"p": 1}}, {"ToGray": {"p": 1}}]
    with pytest.warns(StrategyWarning) as caught:
        augmented(np.arange(3), transforms=warning)
    assert [str(one.message) for one in caught] == [
        "albumentations: ShiftScaleRotate is a special case of Affine transform. Please use Affine transform instead.",
        "albumentations: The image is already gray.",
    ]


def test_the_librarys_online_version_check_is_disabled() -> None:
    Albumentations(transforms=["Blur"])
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


@pytest.mark.parametrize("fails", [False, True])
def test_opencv_uses_one_thread_and_its_setting_is_restored(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    import albumentations  # not at the top: the strategy has disabled its online version check by now

    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    threads_used: list[int] = []

    def blur(self: object, image: np.ndarray, **_: object) -> np.ndarray:
        threads_used.append(cv2.getNumThreads())
        return image[:-1] if fails else image

    monkeypatch.setattr(albumentations.Blur, "apply", blur)
    try:
        with pytest.raises(StrategyError) if fails else nullcontext():
            augmented(np.arange(3), transforms=[{"Blur": {"p": 1}}])
        assert set(threads_used) == {1}
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)


def test_effects_depend_on_the_transforms_and_the_stage() -> None:
    mirror = [{"OneOf": {"transforms": ["HorizontalFlip", "Blur"]}}]
    assert Albumentations(transforms=["Blur"]).effects == Effect.RANDOM
    assert Albumentations(transforms=mirror).effects == Effect.RANDOM | Effect.RANDOM_FLIP
    copying = Albumentations(transforms=mirror, when="rewrite", copies=1)
    assert copying.effects == Effect.RANDOM | Effect.MIRRORED_COPIES
    filling = Albumentations(transforms=["Blur"], when="rewrite", target_count=9)
    assert filling.effects == Effect.RANDOM | Effect.SHIFTS_CLASS_PRIOR


def test_it_acts_only_at_the_stage_selected_by_when() -> None:
    rewriting = pipeline(Albumentations(transforms=["Blur"], when="rewrite", copies=1))
    transforming = pipeline(Albumentations(transforms=["Blur"]))
    acts = [
        [run.acts_at(stage) for stage in ("rewrite_training_set", "augment_rows")] for run in (rewriting, transforming)
    ]
    assert acts == [[True, False], [False, True]]
    assert transforming.fold("rewrite_training_set", dataset()).fingerprint == dataset().fingerprint
