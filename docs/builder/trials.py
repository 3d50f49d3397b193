"""A strategy alone on data that anybody may see: what the pictures of the catalog are made from.

Legend of shapes: K classes, H, W, C height, width and channels of an image.
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
"""The rows of each class in FER2013's Training."""


@functools.cache
def demo_faces() -> ImageDataset:
    """Return the training split of the demo faces: drawn, and in FER2013's classes."""
    return installed_plugins().read("demo").train


@functools.cache
def fer2013_labels() -> ImageDataset:
    """Return a set with the labels of FER2013's Training in the order of the classes, and a black pixel for each."""
    counts = list(FER2013_COUNTS.values())
    labels = np.repeat(np.arange(len(counts)), counts)
    return ImageDataset.from_arrays(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, tuple(FER2013_COUNTS))


def alone(data: ImageDataset, strategy: str, **parameters: Any) -> Pipeline:
    """Return the pipeline of a run whose recipe has one step; its scout goes by the nearest mean image of a class."""
    step = installed_plugins().strategy(strategy).value(**parameters)
    context = Context(seed=0, class_names=data.class_names)
    return Pipeline(steps_of([step]), context, scout_for=lambda step: NearestMeanScout())
