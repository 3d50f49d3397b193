"""What strategies do with soft labels: a strategy keeps them, or declares that it needs hard labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fer_augment.data.dataset import ImageDataset, SourceRows
from fer_augment.hooks.strategy import Effect
from fer_augment.testing.stages import Arguments, arguments_of, some_logits, with_features
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch

_SHARE = 0.3
"""Share of the votes for another class in the soft labels of the check; too little to change the majority."""
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
                                f"{stage}: the shares of soft labels are lost; use the targets that are given, or "
                                f"{_DECLARE}"
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
    """Whether targets are weighted sums of the given ones, whatever the shares in these are."""
    images, targets = arguments.first
    of_hard = arguments.fold(subject.build())[1]
    further = {"training_set": _with_soft_labels(arguments.data)} if "training_set" in arguments.others else {}
    soft = replace(arguments, first=(images, _softened(targets)), others=arguments.others | further)
    of_soft = soft.fold(subject.build())[1]
    return bool(np.allclose(of_soft.detach().numpy(), _softened(of_hard).detach().numpy(), atol=1e-5))


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
