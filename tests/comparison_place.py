"""A directory with tiny faces and recipes whose comparison takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.data_files import encoded, write_folder

CLASSES = ("bird", "cat[x]", "<dog>")
_SMALL = """
model: convnet4
training: {epochs: 2, batch_size: 16, learning_rate: 0.01, loss: cross_entropy, precision: float32, evaluate_every: 1}
"""
_STEPS = {
    "more": "imblearn: {sampler: RandomOverSampler}",
    "mined": "confusion_mirror: {pairs: [['<dog>', bird]], predictions: in_sample}",
    "breaks": "./broken.py:Breaks: {}",
    "refining": "tau_norm: {}",
}
_BROKEN = '''
from fer_augment import Strategy, hookimpl


class Breaks(Strategy):
    """Fails with seed 1."""

    @hookimpl
    def rewrite_training_set(self, training_set, context):
        if context.seed == 1:
            raise RuntimeError("not [today]")
        return training_set
'''


def write_place(folder: Path) -> Path:
    """Write `faces`, the recipe `small.yaml`, and recipes that add one step to it, named as in `_STEPS`."""
    write_folder(folder / "faces", dict(face_files()))
    (folder / "small.yaml").write_text(_SMALL)
    for name, step in _STEPS.items():
        (folder / f"{name}.yaml").write_text(f"extends: ./small.yaml\nstrategies: [{{{step}}}]\n")
    (folder / "broken.py").write_text(_BROKEN)
    return folder


def face_files() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    for split, counts in (("train", (30, 20, 10)), ("val", (9, 8, 7)), ("test", (12, 10, 8))):
        for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
            for number in range(count):
                image = rng.integers(0, 120, (12, 12))
                image[:, label * 4 : label * 4 + 4] += 40
                yield f"{split}/{name}/{number}.png", encoded(image.astype(np.uint8))
