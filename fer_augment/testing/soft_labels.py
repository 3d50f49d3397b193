"""What strategies do with soft labels: a strategy keeps them, or declares that it needs hard labels.

Legend of shapes: B rows of a batch, N rows of the training set, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset, SourceRows
from fer_augment.hooks.strategy import Effect, PredictionKind
from fer_augment.testing.fixtures import NearestMeanScout
from fer_augment.testing.stages import Arguments, arguments_of, some_logits, with_features
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch

_SHARE = 0.3
"""Share of the votes for another class in the soft labels of the check; too little to change the majority."""
_ROUNDING = 1e-5
_DECLARE = f"declare Effect.{Effect.NEEDS_HARD_LABELS.name}"


def failures_with_soft_labels(subject: Subject) -> Iterator[str]:
    """Yield how losses and batches fail with soft labels, unless the strategy declares that it needs hard ones."""
    if Effect.NEEDS_HARD_LABELS in subject.build().effects:
        return
    for stage, keeps in (("build_loss", _loss_depends_on_shares), ("augment_batch", _batch_keeps_shares)):
        if stage in subject.stages:
            for data in subject.datasets:
                for arguments in arguments_of(stage, data):
                    try:
                        is_kept = keeps(subject, arguments)
                    except Exception as error:  # noqa: BLE001 - a strategy may raise anything
                        yield f"{stage}: raises {type(error).__name__} for soft labels; {_DECLARE}"
                    else:
                        if not is_kept:
                            yield (
                                f"{stage}: the shares of soft labels are lost; use the targets that are given, of "
                                f"other rows training_set.targets, or {_DECLARE}"
                            )


def _loss_depends_on_shares(subject: Subject, arguments: Arguments) -> bool:
    """Whether a vote for another class changes the loss of a row, except for rows without any loss."""
    import torch

    loss = with_features(arguments.fold(subject.build()), arguments.rows)
    logits, classes = some_logits(arguments.rows, len(arguments.data.class_names)), len(arguments.data.class_names)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(arguments.rows % classes), classes).float()
    hard, soft = loss(logits, one_hot).detach(), loss(logits, _softened(one_hot)).detach()
    counted = (hard != 0) | (soft != 0)
    return not bool(counted.any()) or not torch.allclose(hard[counted], soft[counted])


def _batch_keeps_shares(subject: Subject, arguments: Arguments) -> bool:
    """Whether targets are weighted sums of given ones, and of others that depend on no labels, such as predictions.

    Both are kept if the labels of the whole set become soft. Otherwise the targets have to be linear in those of the
    batch, up to a constant, and may not depend on the labels of single other rows regardless of their shares; they may
    on means of classes.
    """
    import torch

    images, targets = arguments.first

    def targets_of(given: torch.Tensor, training_set: ImageDataset) -> NDArray[np.float32]:
        others = {**arguments.others, "training_set": training_set}
        batch = replace(arguments, first=(images, given), others=others)
        result: torch.Tensor = batch.fold(subject.build(), scout=_ScoutOf(arguments.data))[1]
        return result.detach().numpy()

    data, soft_data = arguments.data, _with_soft_labels(arguments.data)
    of_hard, of_soft = targets_of(targets, data), targets_of(_softened(targets), soft_data)
    if _close(of_soft, _softened(torch.from_numpy(of_hard)).numpy()):
        return True
    of_next, of_both = (targets_of(given, data) for given in (targets.roll(1, dims=1), _softened(targets)))
    is_linear = _close(of_both, (1 - _SHARE) * of_hard + _SHARE * of_next) and not _close(of_both, of_hard)
    if not is_linear or not _close(targets_of(targets, soft_data), of_hard):
        return is_linear
    changes = targets_of(targets, _with_other_labels(data, arguments.rows)) - of_hard
    return _is_of_classes(changes, data.labels[arguments.rows])


def _is_of_classes(changes: NDArray[np.float32], labels: NDArray[np.int64]) -> bool:
    """Whether the `(B, K)` changes of all rows of a class, if any, have the same direction, as if made by its mean."""
    norms = np.linalg.norm(changes, axis=1)
    directions, labels = changes[norms > _ROUNDING] / norms[norms > _ROUNDING, None], labels[norms > _ROUNDING]
    of_classes = [directions[labels == label] for label in np.unique(labels)]
    return all(np.allclose(of_class, of_class[0], atol=0.01) for of_class in of_classes)


def _close(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return np.allclose(one, other, atol=_ROUNDING)


class _ScoutOf(NearestMeanScout):
    """A scout that predicts the same whatever the labels of the rows that it is asked for."""

    def __init__(self, data: ImageDataset) -> None:
        super().__init__()
        self.label_of = np.zeros(int(data.origin.max()) + 1, dtype=np.int64)
        self.label_of[data.origin] = data.labels

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return `(N, K) float32` probabilities."""
        return super().probabilities(replace(training_set, labels=self.label_of[training_set.origin]), how)


def _with_other_labels(data: ImageDataset, kept: NDArray[np.int64]) -> ImageDataset:
    """Exchange the labels of all rows but some, so that class counts stay."""
    others = np.setdiff1d(np.arange(len(data)), kept)
    labels = data.labels.copy()
    labels[others] = np.random.default_rng(0).permutation(labels[others])
    return replace(data, labels=labels)


def _with_soft_labels(data: ImageDataset) -> ImageDataset:
    """Soften the labels of a set, of which a strategy may mix further rows into a batch."""
    import torch

    of_source = np.zeros((int(data.origin.max()) + 1, len(data.class_names)), dtype=np.float32)
    of_source[data.origin, data.labels] = 1
    of_source[of_source.sum(axis=1) == 0, 0] = 1  # source rows that are not in the set
    soft = _softened(torch.from_numpy(of_source)).numpy()
    return replace(data, sources=replace(data.sources or SourceRows(), targets=soft))


def _softened(targets: torch.Tensor) -> torch.Tensor:
    """Move a share of the weight of each class to the next one."""
    return (1 - _SHARE) * targets + _SHARE * targets.roll(1, dims=1)
