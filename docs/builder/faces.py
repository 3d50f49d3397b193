"""What strategies make of demo faces, as PNG files: rows before and after.

Legend of shapes: n images, H, W, C height, width and channels, B rows of a batch, K classes.
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
_SEEN_BITS = 0b11111100
"""Of a pixel; the others cost a third of the file and nobody sees them."""


def of_batches(strategy: str, **parameters: Any) -> bytes:
    """Draw one face of each class, and what a strategy that acts on batches makes of them in two epochs."""
    data = demo_faces()
    rows = _typical_rows(data)
    lines: list[Line] = [("Rows of a batch", data.images[rows], _labels(data, rows))]
    for epoch, heading in enumerate(("What the network is shown in one epoch", "and in the next")):
        images, _ = _batch(data, rows, epoch, strategy, **parameters)
        lines.append((heading, images, ()))
    return _sheet(*lines)


def of_mixing(strategy: str, *settings: Mapping[str, Any], classes: Sequence[str] = ()) -> bytes:
    """Draw rows of a batch, one of each class by default, and what each setting mixes of them, with the labels."""
    data = demo_faces()
    rows = _typical_rows(data, classes)
    lines: list[Line] = [("Rows of a batch", data.images[rows], _labels(data, rows))]
    for parameters in settings:
        images, targets = _batch(data, rows, 0, strategy, **parameters)
        told = ", ".join(f"{name} {value}" for name, value in parameters.items())
        lines.append((f"What the network is shown, and the label in % ({told})", images, _shares(data, targets)))
    return _sheet(*lines)


def of_confusion_mirror(**parameters: Any) -> bytes:
    """Draw the rows that the scout is surest to take for the other class, and the copies that are added."""
    data = demo_faces()
    (true, predicted) = parameters["pairs"][0]
    grown = alone(data, "confusion_mirror", **parameters).fold("rewrite_training_set", data)
    probability = NearestMeanScout().probabilities(data)[:, data.class_number(predicted)]
    added = np.flatnonzero(grown.step != AS_READ)
    added = added[np.argsort(-probability[grown.origin[added]], kind="stable")][: len(data.class_names)]
    rows = grown.origin[added]
    told = [f"{predicted} {_percent(probability[row])}" for row in rows]
    return _sheet(
        (f"Rows of {true} that the scout takes for {predicted}", data.images[rows], told),
        (f"Rows that are added to {true}", grown.images[added], ["mirrored"] * len(rows)),
    )


def of_hard_examples(**parameters: Any) -> bytes:
    """Draw for each class the hardest row that is repeated, and one that is left out as it may be mislabeled."""
    data = demo_faces()
    repeated = _repeated_rows(data, **parameters)
    left_out = np.setdiff1d(_repeated_rows(data, **{**parameters, "min_label_probability": 0}), repeated)
    least = _percent(parameters["min_label_probability"])
    return _sheet(
        _hardest_line("The hardest rows that are repeated, and what the scout gives to two classes", data, repeated),
        _hardest_line(f"Left out, as they may be mislabeled: their label gets less than {least}", data, left_out),
        gap=_WIDE_GAP,
    )


def _repeated_rows(data: ImageDataset, **parameters: Any) -> NDArray[np.int64]:
    grown = alone(data, "hard_examples", **parameters).fold("rewrite_training_set", data)
    return np.unique(grown.origin[grown.step != AS_READ])


def _hardest_line(heading: str, data: ImageDataset, rows: NDArray[np.int64]) -> Line:
    """Show for each class the row whose label the scout finds least probable, with the class it takes the row for."""
    probabilities = NearestMeanScout().probabilities(data)
    hardest_first = rows[np.argsort(probabilities[rows, data.labels[rows]], kind="stable")]
    _, first = np.unique(data.labels[hardest_first], return_index=True)
    shown = hardest_first[first]
    told = [
        ", ".join(f"{data.class_names[label]} {_percent(probabilities[row, label])}" for label in labels)
        for row, labels in zip(shown, np.stack([data.labels, probabilities.argmax(axis=1)], axis=1)[shown], strict=True)
    ]
    return heading, data.images[shown], told


def of_copies(strategy: str, **parameters: Any) -> bytes:
    """Draw a row of each class that grows, and the row that was made of it."""
    data = demo_faces()
    grown = alone(data, strategy, **parameters).fold("rewrite_training_set", data)
    added = _first_of_each_class(grown)
    rows = grown.origin[added]
    return _sheet(
        ("Rows", data.images[rows], _labels(data, rows)),
        ("Copies that are appended", grown.images[added], _labels(grown, added)),
    )


def of_blends(**parameters: Any) -> bytes:
    """Draw a new image of each class that grows, between the two rows that it was made from."""
    data = demo_faces()
    grown = alone(data, "imblearn", **parameters).fold("rewrite_training_set", data)
    added = _first_of_each_class(grown)
    base, neighbor = grown.origins[added].T
    return _sheet(
        ("A row", data.images[base], _labels(data, base)),
        ("One of its nearest neighbors in the class", data.images[neighbor], _labels(data, neighbor)),
        ("The new row, somewhere between the two", grown.images[added], _labels(grown, added)),
    )


def of_dedup(**parameters: Any) -> bytes:
    """Draw three faces that stand there several times, one of them under two labels as often, and what stays."""
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
    stays = np.isin(np.arange(len(labels)), kept)
    faded = np.where(stays[:, None, None, None], images, 255 - (255 - images) // 8).astype(np.uint8)
    return _sheet(
        ("Rows", images, labels),
        (
            "What is kept of them",
            faded,
            [label if kept else "dropped" for label, kept in zip(labels, stays, strict=True)],
        ),
    )


def of_mirror_views(**parameters: Any) -> bytes:
    """Draw an image of each class, and the two views of each that are predicted from."""
    data = demo_faces()
    image, mirrored = _views(data, _typical_rows(data), "mirror_views", **parameters)
    return _sheet(("Each image is predicted as it is", image, ()), ("and mirrored", mirrored, ()))


def of_ten_crop_views(**parameters: Any) -> bytes:
    """Draw the ten views of one image that are predicted from."""
    data = demo_faces()
    views = np.concatenate(_views(data, _typical_rows(data, ["happy"]), "ten_crop_views", **parameters))
    return _sheet(
        ("An image as it is, and moved towards each corner", views[:5], ()),
        ("and the mirror images of these", views[5:], ()),
    )


def _views(data: ImageDataset, rows: NDArray[np.int64], strategy: str, **parameters: Any) -> list[NDArray[np.uint8]]:
    pipeline = alone(data, strategy, **parameters)
    return [_as_images(view) for view in pipeline.fold("predict_views", [as_tensor(data.images[rows])])]


def _batch(
    data: ImageDataset, rows: NDArray[np.int64], epoch: int, strategy: str, **parameters: Any
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a batch's images `(B, H, W, C)` and targets `(B, K)` as a strategy makes them."""
    import torch

    batch = as_tensor(data.images[rows]), torch.eye(len(data.class_names))[torch.from_numpy(data.labels[rows])]
    images, targets = alone(data, strategy, **parameters).fold(
        "augment_batch", batch, epoch=epoch, rows=rows, training_set=data
    )
    return _as_images(images), targets.numpy()


def _as_images(batch: torch.Tensor) -> NDArray[np.uint8]:
    return np.asarray(np.rint(255 * batch.numpy().transpose(0, 2, 3, 1)), np.uint8)


def _typical_rows(data: ImageDataset, classes: Sequence[str] = ()) -> NDArray[np.int64]:
    """Return for each class named, or of all, the row that the scout is surest of; of a class named again, the next."""
    names = classes or data.class_names
    probabilities = NearestMeanScout().probabilities(data)
    rows = []
    for place, name in enumerate(names):
        own = np.flatnonzero(data.labels == data.class_number(name))
        surest_first = own[np.argsort(-probabilities[own, data.class_number(name)], kind="stable")]
        rows.append(surest_first[names[:place].count(name)])
    return np.array(rows)


def _first_of_each_class(grown: ImageDataset) -> NDArray[np.int64]:
    """Return the first new row of each class that has any."""
    added = np.flatnonzero(grown.step != AS_READ)
    _, first = np.unique(grown.labels[added], return_index=True)
    return added[first]


def _labels(data: ImageDataset, rows: NDArray[np.int64]) -> list[str]:
    return [data.class_names[label] for label in data.labels[rows]]


def _shares(data: ImageDataset, targets: NDArray[np.float32]) -> list[str]:
    """Tell `(B, K)` targets in words, the larger share first."""
    told = []
    for target in targets:
        classes = np.argsort(-target, kind="stable")[: max(1, int((target >= 0.005).sum()))]
        told.append(", ".join(f"{100 * target[label]:.0f} {data.class_names[label]}" for label in classes))
    return told


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _sheet(*lines: Line, gap: int = _GAP) -> bytes:
    """Set lines of faces one below the other, as a small PNG file."""
    import cv2

    longest = max(len(images) for _, images, _ in lines)
    sheet = Sheet(2 * _MARGIN + longest * (_SIDE + gap), margin=_MARGIN)
    for heading, images, captions in lines:
        sheet.write(heading, size=13)
        sheet.show([picture_of(image & _SEEN_BITS, _SIDE) for image in images], captions, gap=gap)
    page = cv2.imdecode(np.frombuffer(sheet.png(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert page is not None, "a sheet is a PNG file"
    return bytes(cv2.imencode(".png", page[:-gap], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])
