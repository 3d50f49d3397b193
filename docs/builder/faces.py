"""Pictures of the effects of strategies on the demo faces as PNG files: rows before and after.

Shapes: n images; H, W, C height, width and channels; B rows of a batch; K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from docs.builder.trials import alone, demo_faces
from fer_augment.data.dataset import AS_READ, ImageDataset
from fer_augment.sheets import Sheet, picture_of
from fer_augment.testing import NearestMeanScout
from fer_augment.testing.fixtures import as_tensor

if TYPE_CHECKING:
    import torch

Line = tuple[str, NDArray[np.uint8], Sequence[str]]
"""A heading, images `(n, H, W, C)` and a caption for each."""

_SIDE = 96
_GAP = 24
_WIDE_GAP = 44
_MARGIN = 16
_VISIBLE_BITS = 0b11111100
"""Bits of a pixel that are kept; the others are invisible and take a third of the file size."""


def of_batches(strategy: str, **parameters: Any) -> bytes:
    """Draw one face of each class, and the faces as augmented in two epochs."""
    data = demo_faces()
    rows = _typical_rows(data)
    lines: list[Line] = [("Rows of a batch", data.images[rows], _labels(data, rows))]
    for epoch, heading in enumerate(("Augmented in one epoch", "Augmented in the next epoch")):
        images, _ = _batch(data, rows, epoch, strategy, **parameters)
        lines.append((heading, images, ()))
    return _sheet(*lines)


def of_mixing(strategy: str, *settings: Mapping[str, Any], classes: Sequence[str] = ()) -> bytes:
    """Draw rows of a batch, one of each class by default, and the mixed images and labels for each setting."""
    data = demo_faces()
    rows = _typical_rows(data, classes)
    lines: list[Line] = [("Rows of a batch", data.images[rows], _labels(data, rows))]
    for parameters in settings:
        images, targets = _batch(data, rows, 0, strategy, **parameters)
        setting = ", ".join(f"{name} {value}" for name, value in parameters.items())
        lines.append((f"Mixed images, and their labels in % ({setting})", images, _shares(data, targets)))
    return _sheet(*lines)


def of_confusion_mirror(**parameters: Any) -> bytes:
    """Draw the rows that the scout confuses with the highest probability, and their appended copies."""
    data = demo_faces()
    (true, predicted) = parameters["pairs"][0]
    rewritten = alone(data, "confusion_mirror", **parameters).fold("rewrite_training_set", data)
    probability = NearestMeanScout().probabilities(data)[:, data.class_number(predicted)]
    added = np.flatnonzero(rewritten.step != AS_READ)
    added = added[np.argsort(-probability[rewritten.origin[added]], kind="stable")][: len(data.class_names)]
    rows = rewritten.origin[added]
    captions = [f"{predicted} {_percent(probability[row])}" for row in rows]
    return _sheet(
        (f"Rows of {true} that the scout predicts as {predicted}", data.images[rows], captions),
        (f"Rows added to {true}", rewritten.images[added], ["mirrored"] * len(rows)),
    )


def of_hard_examples(**parameters: Any) -> bytes:
    """Draw for each class the hardest repeated row, and the hardest row excluded as probably mislabeled."""
    data = demo_faces()
    repeated = _repeated_rows(data, **parameters)
    excluded = np.setdiff1d(_repeated_rows(data, **{**parameters, "min_label_probability": 0}), repeated)
    threshold = _percent(parameters["min_label_probability"])
    return _sheet(
        _hardest_line("Hardest repeated rows, with the scout's probabilities of label and prediction", data, repeated),
        _hardest_line(f"Excluded as probably mislabeled: probability of the label below {threshold}", data, excluded),
        gap=_WIDE_GAP,
    )


def _repeated_rows(data: ImageDataset, **parameters: Any) -> NDArray[np.int64]:
    rewritten = alone(data, "hard_examples", **parameters).fold("rewrite_training_set", data)
    return np.unique(rewritten.origin[rewritten.step != AS_READ])


def _hardest_line(heading: str, data: ImageDataset, rows: NDArray[np.int64]) -> Line:
    """Return for each class the row with the lowest probability of its label, captioned with label and prediction."""
    probabilities = NearestMeanScout().probabilities(data)
    hardest_first = rows[np.argsort(probabilities[rows, data.labels[rows]], kind="stable")]
    _, first = np.unique(data.labels[hardest_first], return_index=True)
    hardest = hardest_first[first]
    label_and_prediction = np.stack([data.labels, probabilities.argmax(axis=1)], axis=1)[hardest]
    captions = [
        ", ".join(f"{data.class_names[label]} {_percent(probabilities[row, label])}" for label in labels)
        for row, labels in zip(hardest, label_and_prediction, strict=True)
    ]
    return heading, data.images[hardest], captions


def of_copies(strategy: str, **parameters: Any) -> bytes:
    """Draw one row of each enlarged class, and its appended copy."""
    data = demo_faces()
    rewritten = alone(data, strategy, **parameters).fold("rewrite_training_set", data)
    added = _first_of_each_class(rewritten)
    rows = rewritten.origin[added]
    return _sheet(
        ("Rows", data.images[rows], _labels(data, rows)),
        ("Appended copies", rewritten.images[added], _labels(rewritten, added)),
    )


def of_blends(**parameters: Any) -> bytes:
    """Draw one synthetic image of each enlarged class, and its two parents."""
    data = demo_faces()
    rewritten = alone(data, "imblearn", **parameters).fold("rewrite_training_set", data)
    added = _first_of_each_class(rewritten)
    base, neighbor = rewritten.origins[added].T
    return _sheet(
        ("A row", data.images[base], _labels(data, base)),
        ("One of its nearest neighbors in the class", data.images[neighbor], _labels(data, neighbor)),
        ("Synthetic row, interpolated between the two", rewritten.images[added], _labels(rewritten, added)),
    )


def of_dedup(**parameters: Any) -> bytes:
    """Draw three faces that occur several times, two of them with conflicting labels, and the kept rows."""
    faces = demo_faces()
    labels = ("neutral", "neutral", "happy", "happy", "sad", "fear", "surprise")
    rows = np.repeat(_typical_rows(faces, ("neutral", "happy", "fear")), (2, 3, 2))
    images, others = faces.images[rows], faces.without(rows)
    data = ImageDataset.from_arrays(
        np.concatenate([images, others.images[:]]),
        np.concatenate([[faces.class_number(label) for label in labels], others.labels]),
        faces.class_names,
    )
    kept = alone(data, "dedup", **parameters).fold("rewrite_training_set", data).origin
    is_kept = np.isin(np.arange(len(labels)), kept)
    faded = np.where(is_kept[:, None, None, None], images, 255 - (255 - images) // 8).astype(np.uint8)
    captions = [label if keep else "dropped" for label, keep in zip(labels, is_kept, strict=True)]
    return _sheet(("Rows", images, labels), ("Kept and dropped rows", faded, captions))


def of_mirror_views(**parameters: Any) -> bytes:
    """Draw the two views of one image of each class."""
    data = demo_faces()
    image, mirrored = _views(data, _typical_rows(data), "mirror_views", **parameters)
    return _sheet(("Original views", image, ()), ("Mirrored views", mirrored, ()))


def of_ten_crop_views(**parameters: Any) -> bytes:
    """Draw the ten views of one image."""
    data = demo_faces()
    views = np.concatenate(_views(data, _typical_rows(data, ["happy"]), "ten_crop_views", **parameters))
    return _sheet(
        ("Original image, and shifted toward each corner", views[:5], ()),
        ("Mirror images of these views", views[5:], ()),
    )


def _views(data: ImageDataset, rows: NDArray[np.int64], strategy: str, **parameters: Any) -> list[NDArray[np.uint8]]:
    pipeline = alone(data, strategy, **parameters)
    return [_as_images(view) for view in pipeline.fold("predict_views", [as_tensor(data.images[rows])])]


def _batch(
    data: ImageDataset, rows: NDArray[np.int64], epoch: int, strategy: str, **parameters: Any
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the images `(B, H, W, C)` and targets `(B, K)` of a batch, augmented by a strategy."""
    import torch

    batch = as_tensor(data.images[rows]), torch.eye(len(data.class_names))[torch.from_numpy(data.labels[rows])]
    images, targets = alone(data, strategy, **parameters).fold(
        "augment_batch", batch, epoch=epoch, rows=rows, training_set=data
    )
    return _as_images(images), targets.numpy()


def _as_images(batch: torch.Tensor) -> NDArray[np.uint8]:
    return np.asarray(np.rint(255 * batch.numpy().transpose(0, 2, 3, 1)), np.uint8)


def _typical_rows(data: ImageDataset, classes: Sequence[str] = ()) -> NDArray[np.int64]:
    """Return the row with the scout's most confident prediction for each class (all by default).

    If a class is repeated, the next most confident row is returned.
    """
    names = classes or data.class_names
    probabilities = NearestMeanScout().probabilities(data)
    rows = []
    for index, name in enumerate(names):
        own = np.flatnonzero(data.labels == data.class_number(name))
        most_confident_first = own[np.argsort(-probabilities[own, data.class_number(name)], kind="stable")]
        rows.append(most_confident_first[names[:index].count(name)])
    return np.array(rows)


def _first_of_each_class(rewritten: ImageDataset) -> NDArray[np.int64]:
    """Return the first added row of each class that has any."""
    added = np.flatnonzero(rewritten.step != AS_READ)
    _, first = np.unique(rewritten.labels[added], return_index=True)
    return added[first]


def _labels(data: ImageDataset, rows: NDArray[np.int64]) -> list[str]:
    return [data.class_names[label] for label in data.labels[rows]]


def _shares(data: ImageDataset, targets: NDArray[np.float32]) -> list[str]:
    """Format `(B, K)` targets as percentages and class names, the largest share first."""
    captions = []
    for target in targets:
        classes = np.argsort(-target, kind="stable")[: max(1, int((target >= 0.005).sum()))]
        captions.append(", ".join(f"{100 * target[label]:.0f} {data.class_names[label]}" for label in classes))
    return captions


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _sheet(*lines: Line, gap: int = _GAP) -> bytes:
    """Render lines of faces below each other as a small PNG file."""
    import cv2

    longest = max(len(images) for _, images, _ in lines)
    sheet = Sheet(2 * _MARGIN + longest * (_SIDE + gap), margin=_MARGIN)
    for heading, images, captions in lines:
        sheet.write(heading, size=13)
        sheet.show([picture_of(image & _VISIBLE_BITS, _SIDE) for image in images], captions, gap=gap)
    page = cv2.imdecode(np.frombuffer(sheet.png(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert page is not None, "png() returns a PNG file"
    return bytes(cv2.imencode(".png", page[:-gap], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])
