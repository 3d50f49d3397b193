"""The synthetic faces are deterministic, distinct, and have the class proportions of FER2013."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np
import pytest

import fer_augment as fa
from fer_augment.readers._demo_faces import (
    CLASS_NAMES,
    FER2013_TRAINING_COUNTS,
    DemoSplit,
    demo_splits,
    draw_actions,
    draw_capture,
    draw_faces,
    draw_identity,
)
from fer_augment.readers._face_renderer import FACES_AT_ONCE, Columns, render_faces

ONE_FACE = np.arange(48 * 48, dtype=np.uint8).reshape(48, 48, 1)
ONE_OF_EACH = np.arange(len(CLASS_NAMES))


@pytest.fixture(scope="module")
def splits():
    return {name: (split.draw(), split.labels) for name, split in demo_splits().items()}


Table = TypeVar("Table", bound=Columns)


def rows_of(table: Table, rows) -> Table:
    return replace(table, **{field.name: getattr(table, field.name)[rows] for field in fields(table)})


def test_splits_have_the_documented_shapes_and_types(splits):
    assert {name: len(labels) for name, (_, labels) in splits.items()} == {
        "train": 2872,
        "validation": 717,
        "test": 1437,
    }
    for images, labels in splits.values():
        assert images.shape == (len(labels), 48, 48, 1)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64


def test_class_proportions_are_those_of_fer2013_and_rows_are_shuffled(splits):
    for _, labels in splits.values():
        counts = np.bincount(labels, minlength=len(CLASS_NAMES))
        expected = np.array(FER2013_TRAINING_COUNTS) / sum(FER2013_TRAINING_COUNTS) * len(labels)
        np.testing.assert_allclose(counts, expected, atol=1)
        assert (np.diff(labels) != 0).mean() > 0.5
    assert np.bincount(splits["test"][1])[CLASS_NAMES.index("disgust")] >= 20


def test_images_are_unique(splits):
    images = np.concatenate([images for images, _ in splits.values()])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_they_are_drawn_once_and_kept_in_the_cache(splits, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path))
    drawn = []

    def draw(split):
        drawn.append(split)
        return ONE_FACE

    monkeypatch.setattr(DemoSplit, "draw", draw)
    first, second = (fa.read_data("demo", progress=False) for _ in range(2))
    assert len(drawn) == 3
    assert first.fingerprint == second.fingerprint
    for name, (_, labels) in splits.items():
        part = second.parts[name]
        np.testing.assert_array_equal(part.labels, labels)
        np.testing.assert_array_equal(part.images[:], np.broadcast_to(ONE_FACE, (len(labels), *ONE_FACE.shape)))


def test_the_reader_gives_the_faces_as_drawn(splits):
    read = fa.read_data("demo", progress=False)
    for name, (images, labels) in splits.items():
        np.testing.assert_array_equal(read.parts[name].images[:], images)
        np.testing.assert_array_equal(read.parts[name].labels, labels)


def test_images_depend_on_the_seed():
    first, second = (draw_faces(ONE_OF_EACH, np.random.default_rng(1)) for _ in range(2))
    other = draw_faces(ONE_OF_EACH, np.random.default_rng(2))
    np.testing.assert_array_equal(first, second)
    assert all((one != another).any() for one, another in zip(first, other, strict=True))


def test_images_do_not_depend_on_the_process():
    draw = "draw_faces(np.arange(7), np.random.default_rng(1)).tobytes()"
    script = (
        "import hashlib, numpy as np; from fer_augment.readers._demo_faces import draw_faces; "
        f"print(hashlib.sha256({draw}).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    here = hashlib.sha256(draw_faces(ONE_OF_EACH, np.random.default_rng(1)).tobytes()).hexdigest()
    assert printed == {here}


def test_each_image_depends_on_its_own_row_only():
    count = 2 * FACES_AT_ONCE + 5
    rng = np.random.default_rng(3)
    labels = np.resize(ONE_OF_EACH, count)
    actions, identity, capture = draw_actions(labels, rng), draw_identity(count, rng), draw_capture(count, rng)
    together = render_faces(actions, identity, capture)
    rows = rng.permutation(count)[: FACES_AT_ONCE + 3]
    alone = render_faces(rows_of(actions, rows), rows_of(identity, rows), rows_of(capture, rows))
    np.testing.assert_array_equal(alone, together[rows])


def test_mean_faces_of_the_classes_differ(splits):
    images, labels = splits["train"]
    means = np.stack([images[labels == label].mean(axis=0).ravel() for label in ONE_OF_EACH])
    distances = np.abs(means[:, None] - means[None]).mean(axis=2)
    assert distances[~np.eye(len(means), dtype=bool)].min() > 1


def test_expressions_change_the_image():
    rng = np.random.default_rng(4)
    count = len(CLASS_NAMES)
    first = np.zeros(count, dtype=int)
    one_person, one_shot = rows_of(draw_identity(1, rng), first), rows_of(draw_capture(1, rng), first)
    faces = render_faces(draw_actions(ONE_OF_EACH, rng), one_person, one_shot)
    assert len({face.tobytes() for face in faces}) == count


def test_the_global_random_state_is_unchanged():
    np.random.seed(0)
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    draw_faces(ONE_OF_EACH, np.random.default_rng(5))
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], before)


def test_no_labels_give_no_images():
    assert draw_faces(np.empty(0, dtype=np.int64), np.random.default_rng(0)).shape == (0, 48, 48, 1)
