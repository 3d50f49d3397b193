"""Single strategies on freely available data, the input of the pictures in docs/strategies.md.

Shapes: K classes; H, W, C height, width and channels of an image.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import Context
from fer_augment.testing import NearestMeanScout

FER2013_COUNTS = {
    "angry": 3995,
    "disgust": 436,
    "fear": 4097,
    "happy": 7215,
    "sad": 4830,
    "surprise": 3171,
    "neutral": 4965,
}
"""Number of rows of each class in the training split of FER2013."""


@functools.cache
def demo_faces() -> ImageDataset:
    """Return the training split of the demo data: synthetic faces with the classes of FER2013."""
    return installed_plugins().read("demo").train


@functools.cache
def fer2013_labels() -> ImageDataset:
    """Return a data set with the labels of FER2013's training split, sorted by class, and one black pixel per row."""
    counts = list(FER2013_COUNTS.values())
    labels = np.repeat(np.arange(len(counts)), counts)
    return ImageDataset.from_arrays(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, tuple(FER2013_COUNTS))


def alone(data: ImageDataset, strategy: str, **parameters: Any) -> Pipeline:
    """Return the pipeline of a recipe with a single step; its scout predicts the class with the nearest mean image."""
    step = installed_plugins().strategy(strategy).value(**parameters)
    context = Context(seed=0, class_names=data.class_names)
    return Pipeline(steps_of([step]), context, scout_for=lambda step: NearestMeanScout())
