"""Demo data: synthetic faces with FER2013's classes and class imbalance, generated from a seed.

Each class is defined by a table of action units, after P. Ekman and W. V. Friesen, *Facial Action Coding System*
(Consulting Psychologists Press, 1978). The units of each face are scaled by a random intensity, so that classes overlap
as in real data: a weakly sad face is nearly neutral, fear and surprise share brows and lids, and disgust and anger
share the frown.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fer_augment.readers import _face_renderer
from fer_augment.readers._face_renderer import SIDE, ActionUnits, Capture, Column, Identity, render_faces

FACE_SHAPE = (SIDE, SIDE, 1)
"""Height, width and channels of a face."""
CLASS_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Classes in the order of FER2013's label numbers."""

FER2013_TRAINING_COUNTS = (3995, 436, 4097, 7215, 4830, 3171, 4965)
SHRUNK_BY = {"train": 10, "validation": 40, "test": 20}
"""Factor by which each split is smaller than FER2013's training split, in every class."""

EXPRESSIONS: Mapping[str, Mapping[str, float]] = {
    "angry": {"brow_lowerer": 1.0, "upper_lid_raiser": 0.35, "lid_tightener": 0.7, "lip_tightener": 0.9,
              "chin_raiser": 0.4, "lip_corner_depressor": 0.25},
    "disgust": {"nose_wrinkler": 1.0, "upper_lip_raiser": 1.0, "brow_lowerer": 0.45, "cheek_raiser": 0.3,
                "lip_corner_depressor": 0.4, "chin_raiser": 0.3, "lips_part": 0.4},
    "fear": {"inner_brow_raiser": 1.0, "outer_brow_raiser": 0.5, "brow_lowerer": 0.55,
             "upper_lid_raiser": 0.9, "lip_stretcher": 1.0, "lips_part": 0.9, "jaw_drop": 0.3},
    "happy": {"lip_corner_puller": 1.0, "cheek_raiser": 0.8, "lips_part": 0.7},
    "sad": {"inner_brow_raiser": 0.9, "brow_lowerer": 0.4, "lid_tightener": 0.35, "lip_corner_depressor": 1.0,
            "chin_raiser": 0.5},
    "surprise": {"inner_brow_raiser": 1.0, "outer_brow_raiser": 1.0, "upper_lid_raiser": 1.0, "jaw_drop": 1.0,
                 "lips_part": 0.4},
    "neutral": {},
}  # fmt: skip
"""Action units of each class at full intensity; all others are 0."""

INTENSITY = {
    "angry": (1.0, 0.7),
    "disgust": (2.0, 1.0),
    "fear": (1.0, 0.7),
    "happy": (1.4, 0.8),
    "sad": (0.85, 0.7),
    "surprise": (1.2, 0.7),
    "neutral": (1.0, 1.0),
}
"""Shape parameters of the beta distribution of the intensity, by class."""

UNIT_NOISE = 0.3
"""Relative standard deviation of a single action unit around the intensity of its face."""
STRAY_MOVEMENT = 0.06
"""Standard deviation of random movement of every action unit, independent of the expression."""

IDENTITY = {
    "head_width": (0.66, 0.78),
    "jaw_taper": (0.0, 0.3),
    "eye_distance": (0.31, 0.37),
    "eye_size": (0.85, 1.15),
    "eye_tilt": (-0.015, 0.015),
    "brow_height": (0.39, 0.46),
    "brow_thickness": (0.025, 0.07),
    "brow_arch": (0.0, 0.06),
    "nose_width": (0.10, 0.16),
    "nose_length": (0.15, 0.25),
    "mouth_width": (0.24, 0.32),
    "mouth_height": (0.47, 0.56),
    "mouth_curve": (-0.03, 0.03),
    "lip_fullness": (0.03, 0.08),
    "age": (0.0, 1.0),
    "skin": (0.45, 0.85),
    "hair": (0.04, 0.35),
    "hairline": (-0.9, -0.62),
    "hair_slant": (-0.25, 0.25),
    "hair_length": (-0.3, 1.0),
    "hair_volume": (0.04, 0.2),
    "beard": (0.4, 0.9),
    "glasses": (0.8, 1.0),
}
"""Range of the uniform distribution of each parameter of a person."""

CAPTURE = {
    "rotation": (-0.12, 0.12),
    "shift_x": (-0.05, 0.05),
    "shift_y": (-0.09, 0.01),
    "scale": (1.04, 1.16),
    "yaw": (-0.2, 0.2),
    "gaze": (-0.05, 0.05),
    "background": (0.15, 0.85),
    "light_x": (-0.6, 0.6),
    "light_y": (-0.4, 0.1),
    "hand": (1.0, 1.0),
    "hand_angle": (-math.pi, math.pi),
    "hand_reach": (0.25, 0.7),
    "contrast": (0.9, 1.1),
    "brightness": (-0.05, 0.05),
    "blur": (0.0, 0.3),
    "noise": (0.0, 0.012),
    "noise_seed": (0.0, 2.0**24),
}
"""Range of the uniform distribution of each parameter of the camera and pose."""

SHARE = {"beard": 0.2, "glasses": 0.12, "hand": 0.06}
"""Share of images with a non-zero value, for parameters that are 0 in all others."""


def draw_faces(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Generate one face per label.

    Args:
        labels: `(N,) int64`, positions in `CLASS_NAMES`.
        rng: random generator for expressions, persons and camera.

    Returns:
        `(N, 48, 48, 1) uint8`, gray, 0 is black and 255 is white.
    """
    count = len(labels)
    return render_faces(draw_actions(labels, rng), draw_identity(count, rng), draw_capture(count, rng))


def draw_actions(labels: NDArray[np.int64], rng: np.random.Generator) -> ActionUnits:
    """Sample the action units of one face per label: units of the class, scaled by intensity, plus noise."""
    shapes = np.array([INTENSITY[name] for name in CLASS_NAMES])[labels]
    intensity = rng.beta(shapes[:, 0], shapes[:, 1])

    def column(unit: str) -> Column:
        full = np.array([EXPRESSIONS[name].get(unit, 0.0) for name in CLASS_NAMES])[labels]
        own, stray = rng.standard_normal((2, len(labels)))
        amount: Column = full * intensity * (1 + UNIT_NOISE * own) + STRAY_MOVEMENT * stray
        return amount.clip(0, 1.2).astype(np.float32)

    return ActionUnits(**{unit.name: column(unit.name) for unit in fields(ActionUnits)})


def draw_identity(count: int, rng: np.random.Generator) -> Identity:
    """Sample the parameters of `count` persons."""
    return Identity(**_uniform_columns(IDENTITY, count, rng))


def draw_capture(count: int, rng: np.random.Generator) -> Capture:
    """Sample pose, light and camera of `count` images."""
    return Capture(**_uniform_columns(CAPTURE, count, rng))


@dataclass(frozen=True, eq=False)
class DemoSplit:
    """A split of the demo data, whose faces are not drawn yet.

    Attributes:
        labels: `(N,) int64`, shuffled; class proportions are those of FER2013's training split.
        rng: draws the faces next.
    """

    labels: NDArray[np.int64]
    rng: np.random.Generator

    def draw(self) -> NDArray[np.uint8]:
        """Draw the faces, `(N, 48, 48, 1) uint8`, in seconds; once, as the generator is used up then."""
        return draw_faces(self.labels, self.rng)


def version_of_faces() -> str:
    """Return a text that changes with the code that draws the faces, and with numpy."""
    code = "".join(map(inspect.getsource, (sys.modules[__name__], _face_renderer)))
    return f"{np.__version__} {hashlib.sha256(code.encode()).hexdigest()}"


def demo_splits(seed: int = 2013) -> dict[str, DemoSplit]:
    """Return `"train"`, `"validation"` and `"test"`; the same seed gives the same bytes.

    Args:
        seed: non-negative integer.
    """
    return {
        split: _demo_split(shrunk_by, np.random.default_rng((seed, number)))
        for number, (split, shrunk_by) in enumerate(SHRUNK_BY.items())
    }


def _demo_split(shrunk_by: int, rng: np.random.Generator) -> DemoSplit:
    counts = [round(count / shrunk_by) for count in FER2013_TRAINING_COUNTS]
    return DemoSplit(rng.permutation(np.repeat(np.arange(len(counts), dtype=np.int64), counts)), rng)


def _uniform_columns(
    ranges: Mapping[str, tuple[float, float]], count: int, rng: np.random.Generator
) -> dict[str, Column]:
    def column(name: str) -> Column:
        is_present = rng.random(count) < SHARE.get(name, 1.0)
        return (rng.uniform(*ranges[name], count) * is_present).astype(np.float32)

    return {name: column(name) for name in ranges}
