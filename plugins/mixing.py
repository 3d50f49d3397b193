"""Mixing two images of a batch and their labels: mixup, CutMix, Remix, and mixing what is confused.

Legend of shapes: B rows of a batch, H, W, C height, width and channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, hookimpl

if TYPE_CHECKING:
    import torch


class _Mixing(Strategy):
    """What the strategies of this file have in common: partners from the batch, and shares by a beta distribution."""

    alpha: float = Field(
        default=1.0,
        gt=0,
        description="both parameters of the beta distribution of an image's share: 1: all shares are equally likely; "
        "below: nearly all or nearly nothing; above: about half.",
    )
    probability: float = Field(default=1.0, ge=0, le=1, description="chance that an image is mixed at all.")

    @property
    def effects(self) -> Effect:
        """Targets are shared between classes, by chance, if anything is ever mixed."""
        return Effect.RANDOM | Effect.SOFT_TARGETS if self.probability else Effect(0)

    @hookimpl
    def augment_batch(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        rows: NDArray[np.int64],
        training_set: ImageDataset,
        context: Context,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix each image, and its target, with those of another row of the batch."""
        import torch

        rng = context.rng
        partners = self._partners(training_set.labels[rows], training_set, context)
        drawn = rng.beta(self.alpha, self.alpha, len(rows))
        share = np.where(rng.random(len(rows)) < self.probability, drawn, 1.0)
        places = torch.from_numpy(partners).to(images.device)
        mixed, share = self._mixed(images, images[places], share, rng)
        share = self._label_share(share, training_set.labels[rows], training_set.labels[rows[partners]], training_set)
        return mixed, targets.lerp(targets[places], torch.from_numpy(1 - share).to(targets)[:, None])

    def _partners(self, labels: NDArray[np.int64], training_set: ImageDataset, context: Context) -> NDArray[np.int64]:
        """Return for each row of a batch the place of its partner, `(B,)`: a random order of the batch."""
        return context.rng.permutation(len(labels))

    def _mixed(
        self, images: torch.Tensor, others: torch.Tensor, share: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[torch.Tensor, NDArray[np.float64]]:
        """Mix `(B, C, H, W)` images by the share, `(B,)`, that each keeps; return the share that it then has."""
        import torch

        return images.lerp(others, torch.from_numpy(1 - share).to(images)[:, None, None, None]), share

    def _label_share(
        self,
        share: NDArray[np.float64],
        labels: NDArray[np.int64],
        other_labels: NDArray[np.int64],
        training_set: ImageDataset,
    ) -> NDArray[np.float64]:
        """Return the share of a row's own label, `(B,)`, from the share of its image."""
        return share


class Mixup(_Mixing):
    """Blend each image with another one of the batch, and their labels in the same proportion.

    With a share s from Beta(alpha, alpha) for each row: image s x_i + (1 - s) x_j, target s y_i + (1 - s) y_j. The
    authors' code draws one share for a whole batch; here each row has its own, as in the paper's formula.

    When: the network learns its training images by heart, or is too sure of itself.

    Cost: a tenth of a second for as many rows as FER2013 has. It pays off over many epochs. Partners are drawn as rows
    come, so that classes stay as unequal as they are: `remix` is for that.

    Try: alpha 0.2; 1 mixes most images thoroughly.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 28.6 % with alpha 1:
    Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the tables of its code.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz 2018, "mixup: Beyond Empirical Risk Minimization", ICLR, which
    recommends alpha from 0.1 to 0.4 for ImageNet and uses 1 for CIFAR.
    """

    alpha: float = Field(
        default=0.2,
        gt=0,
        description="both parameters of the beta distribution of an image's share; small: one of the two prevails.",
    )


class CutMix(_Mixing):
    """Paste a rectangle of another image of the batch into each image; labels are shared by area.

    With a share s from Beta(alpha, alpha) for each row, the rectangle has sides of sqrt(1 - s) of the image's and a
    center anywhere in the image; what stands out is cut off. The row's own label has the share of the pixels that are
    left of its image. The authors' code draws one rectangle for a whole batch; here each row has its own.

    When: as `mixup`, where one part of an image decides alone. Every pixel stays one of a real image.

    Cost: a fifth of a second for as many rows as FER2013 has. Labels go by area, but an expression sits in mouth, eyes
    and brows: a pasted mouth may carry more than its share. Classes stay as unequal as they are.

    Try: alpha 1 with `probability: 0.5`.

    Source: Yun, Han, Oh, Chun, Choe and Yoo 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features", ICCV.
    """

    @classmethod
    def strategy_name(cls) -> str:
        """Return the name that the field writes in one word."""
        return "cutmix"

    def _mixed(
        self, images: torch.Tensor, others: torch.Tensor, share: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[torch.Tensor, NDArray[np.float64]]:
        import torch

        across = [
            _span(np.floor(side * np.sqrt(1 - share)), rng.integers(side, size=len(share)), side)
            for side in images.shape[2:]
        ]
        inside = across[0][:, :, None] & across[1][:, None, :]
        pasted = torch.where(torch.from_numpy(inside).to(images.device)[:, None], others, images)
        return pasted, 1 - inside.mean(axis=(1, 2))


class Remix(_Mixing):
    """Blend images as mixup does, and give the label to the rarer class where the classes differ much in size.

    With n_i and n_j rows of the two classes and a share s of image i, the share of label i is 0 if n_i / n_j >= kappa
    and s < tau; 1 if n_i / n_j <= 1 / kappa and 1 - s < tau; else s. Rows are counted in the training set as earlier
    steps have left it.

    When: as `mixup`, where some classes are several times larger than others.

    Cost: a tenth of a second for as many rows as FER2013 has. Large classes lose labels to small ones, and with them
    recall. It does nothing between classes that differ less than kappa times.

    Try: kappa 3 and tau 0.5, the paper's, with alpha 1; on FER2013 that concerns Disgust alone, which every other class
    outnumbers seven times or more.

    Elsewhere: error on CIFAR-10 made unequal 100 to 1 (ResNet-32, one number each) 30.1 % without, 28.6 % with mixup,
    29.5 % with it: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, in the
    tables of its code.

    Source: Chou, Chang, Pan, Wei and Juan 2020, "Remix: Rebalanced Mixup", ECCV Workshops, LNCS 12540; kappa and tau
    are the paper's.
    """

    kappa: float = Field(
        default=3.0, ge=1, description="how many times larger a class must be to lose its label to the other."
    )
    tau: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="the larger class loses its label where its image has less than this share.",
    )

    @property
    def effects(self) -> Effect:
        """As of all mixing; besides, labels lean to the rarer classes."""
        return super().effects | Effect.FAVORS_SMALL_CLASSES if self.probability else Effect(0)

    def _label_share(
        self,
        share: NDArray[np.float64],
        labels: NDArray[np.int64],
        other_labels: NDArray[np.int64],
        training_set: ImageDataset,
    ) -> NDArray[np.float64]:
        ratio = training_set.counts[labels] / training_set.counts[other_labels]
        loses = (ratio >= self.kappa) & (share < self.tau)
        wins = (ratio <= 1 / self.kappa) & (1 - share < self.tau)
        return np.where(loses, 0.0, np.where(wins, 1.0, share))


class ConfusionMix(_Mixing):
    """Blend each image, as mixup does, with one of a class that its own class is confused with.

    The class of the partner is drawn by how much probability the scout gives to each other class, on average over the
    training rows of the row's class, among the classes in the batch; the partner is any row of it.

    When: some classes are confused far more than others, and their border is to be taught most.

    Cost: `out_of_fold` trains `training.scout.folds` networks more for each seed. Confusions are counted once a run;
    mixing itself takes a fifth of a second for as many rows as FER2013 has. Classes that are confused with many are
    partners more often.

    Try: alpha 0.2, next to `mixup` with the same alpha, its control.

    Source: after the idea of Yoon, Hong, Joo, Qin, Jeong and Lee 2024, "Mix from Failure: Confusion-Pairing Mixup for
    Long-Tailed Recognition", arXiv:2411.07621. There confusions are counted on the model while it is trained, and
    labels are mixed with regard to the imbalance of classes; here they are the scout's, and labels are mixup's.
    """

    predictions: Literal["in_sample", "out_of_fold"] = Field(
        default="out_of_fold",
        description="in_sample: by the model trained on these rows; out_of_fold: by others.",
    )

    @property
    def effects(self) -> Effect:
        """As of all mixing; besides, a scout chooses the partners, if anything is ever mixed."""
        in_sample = self.predictions == "in_sample"
        mining = Effect.IN_SAMPLE_MINING if in_sample else Effect.OUT_OF_FOLD_MINING
        return super().effects | mining if self.probability else Effect(0)

    def _partners(self, labels: NDArray[np.int64], training_set: ImageDataset, context: Context) -> NDArray[np.int64]:
        """Return for each row the place of its partner, `(B,)`; its own where no confused class is in the batch."""
        confusion = self._confusion(training_set, context)
        in_batch = np.bincount(labels, minlength=len(confusion))
        weights = confusion[labels][:, labels] / in_batch[labels]
        reached = np.cumsum(weights, axis=1)
        aim = context.rng.random(len(labels)) * reached[:, -1]
        return np.where(reached[:, -1] > 0, (reached <= aim[:, None]).sum(axis=1), np.arange(len(labels)))

    def _confusion(self, training_set: ImageDataset, context: Context) -> NDArray[np.float64]:
        """Return what the rows of each class give to each other class on average, `(K, K)`; 0 to their own."""
        scout = context.require_scout()
        known, question = _KNOWN_CONFUSIONS.setdefault(scout, {}), (training_set.fingerprint, self.predictions)
        if question not in known:
            known[question] = _confusion_of(training_set, scout.probabilities(training_set, how=self.predictions))
        return known[question]


_KNOWN_CONFUSIONS: WeakKeyDictionary[object, dict[tuple[str, str], NDArray[np.float64]]] = WeakKeyDictionary()
"""What scouts say in this process, for as long as they live: each batch asks, and the answer takes all N rows."""


def _confusion_of(training_set: ImageDataset, probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    judged = np.isfinite(probabilities).all(axis=1)
    classes = probabilities.shape[1]
    own = np.eye(classes)[training_set.labels[judged]]
    confusion = own.T @ probabilities[judged] / np.maximum(own.sum(axis=0), 1)[:, None]
    return np.where(np.eye(classes, dtype=bool), 0.0, confusion)


def _span(length: NDArray[np.float64], center: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    """Return `(B, side)` masks of half a length to either side of a center."""
    position = np.arange(side)
    half = length[:, None] // 2
    return (position >= center[:, None] - half) & (position < center[:, None] + half)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategies of this file."""
    return [Mixup, CutMix, Remix, ConfusionMix]
