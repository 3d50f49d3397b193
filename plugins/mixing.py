"""Mixing pairs of images and labels: mixup, CutMix, CMO, Remix, and mixup between confused classes.

Shapes: B rows of a batch, H, W, C height, width and channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fer_augment import Context, Effect, ImageDataset, Strategy, StrategyError, hookimpl

if TYPE_CHECKING:
    import torch


class _Mixing(Strategy):
    """Base class: partners from the batch, and an image's share of the mix (lambda) from a beta distribution."""

    alpha: float = Field(
        default=1.0,
        gt=0,
        description="both parameters of the beta distribution of an image's share of the mix: 1: uniform; below 1: "
        "mostly near 0 or 1; above 1: mostly near 0.5.",
    )
    probability: float = Field(default=1.0, ge=0, le=1, description="probability that an image is mixed.")

    @property
    def effects(self) -> Effect:
        """Random soft targets, unless the probability is 0."""
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
        """Mix the image and the target of each row with those of another row of the batch."""
        import torch

        rng = context.rng
        partners = self._partners(training_set.labels[rows], training_set, context)
        drawn = rng.beta(self.alpha, self.alpha, len(rows))
        share = np.where(rng.random(len(rows)) < self.probability, drawn, 1.0)
        indices = torch.from_numpy(partners).to(images.device)
        mixed, share = self._mix(images, images[indices], share, rng)
        share = self._label_share(share, training_set.labels[rows], training_set.labels[rows[partners]], training_set)
        return mixed, targets.lerp(targets[indices], torch.from_numpy(1 - share).to(targets)[:, None])

    def _partners(self, labels: NDArray[np.int64], training_set: ImageDataset, context: Context) -> NDArray[np.int64]:
        """Return the index of each row's partner within the batch, `(B,)`: a random permutation."""
        return context.rng.permutation(len(labels))

    def _mix(
        self, images: torch.Tensor, others: torch.Tensor, share: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[torch.Tensor, NDArray[np.float64]]:
        """Mix `(B, C, H, W)` images with their partners; return them with the actual share of each image, `(B,)`."""
        import torch

        return images.lerp(others, torch.from_numpy(1 - share).to(images)[:, None, None, None]), share

    def _label_share(
        self,
        share: NDArray[np.float64],
        labels: NDArray[np.int64],
        other_labels: NDArray[np.int64],
        training_set: ImageDataset,
    ) -> NDArray[np.float64]:
        """Return the share of each row's own label, `(B,)`, given the share of its image."""
        return share


class Mixup(_Mixing):
    """Apply mixup: blend each image with another image of the batch, and their labels in the same proportion.

    With a share s from Beta(alpha, alpha) for each row: image s x_i + (1 - s) x_j, target s y_i + (1 - s) y_j. The
    authors' code draws one share per batch; here each row has its own, as in the paper's formula.

    When: the network overfits or is overconfident.

    Cost: 0.1 s for the rows of FER2013. It pays off over many epochs. Partners are drawn at random from the batch, so
    class imbalance is unchanged; `remix` addresses it.

    Try: alpha 0.2; alpha 1 mixes most images strongly.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 28.6 %
    with alpha 1: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI, tables in the
    code repository.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz 2018, "mixup: Beyond Empirical Risk Minimization", ICLR, which
    recommends alpha from 0.1 to 0.4 for ImageNet and uses 1 for CIFAR.
    """

    alpha: float = Field(
        default=0.2,
        gt=0,
        description="both parameters of the beta distribution of an image's share of the mix; small values: one of "
        "the two images dominates.",
    )


class CutMix(_Mixing):
    """Apply CutMix: paste a rectangle of another image of the batch into each image, and mix the labels by area.

    With a share s from Beta(alpha, alpha) for each row, the sides of the rectangle are sqrt(1 - s) times those of the
    image and its center is anywhere in the image; parts outside the image are cut off. The share of the row's own label
    is the fraction of its pixels that remain. The authors' code draws one rectangle per batch; here each row has its
    own.

    When: as for `mixup`, if predictions depend on a single part of the image. Pixels are not blended.

    Cost: 0.2 s for the rows of FER2013. Labels are mixed by area, but mouth, eyes and eyebrows carry most of an
    expression: a pasted mouth may deserve more than its share. Class imbalance is unchanged.

    Try: alpha 1 with `probability: 0.5`.

    Source: Yun, Han, Oh, Chun, Choe and Yoo 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features", ICCV.
    """

    @classmethod
    def strategy_name(cls) -> str:
        """Return `cutmix`: the method is written as one word."""
        return "cutmix"

    def _mix(
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


class Cmo(CutMix):
    """Apply CMO: paste a rectangle of an image of a small class into each image, and mix the labels by area.

    Backgrounds are the rows of the batch, drawn as usual, so mostly of large classes. Each foreground is drawn from the
    whole training set, a row of a class of n rows with weight n^-exponent: with exponent 1, all classes equally often.
    So small classes are seen on many backgrounds instead of a few images again and again. Rectangles and labels are
    those of `cutmix`. Foregrounds are pasted as they are, without the random changes of earlier steps to the batch.

    When: small classes are overfitted by drawing or weighting their rows more often.

    Cost: as much time as `cutmix`. Labels are mixed by area, see there. Large classes lose pixels and labels to small
    ones.

    Try: alpha 1, probability 0.5 and exponent 1, as in the authors' code.

    Measured: on FER2013 (recipe `modern_cmo`), `resnet_small`, 10 epochs, n = 3 runs: balanced accuracy +4.0 points
    (95 % CI +2.1 to +5.8), better; accuracy -0.7 points (-1.7 to +0.3), no evidence of a difference.

    Source: Park, Hong, Heo, Yun and Choi 2022, "The Majority Can Help The Minority: Context-rich Minority Oversampling
    for Long-tailed Classification", CVPR. The authors' code does not mix in the first four and the last three epochs.
    The exponent is that of their code, which weights rows; in the paper it is that of the probabilities of classes.
    """

    probability: float = Field(default=0.5, ge=0, le=1, description="probability that an image is mixed.")
    exponent: float = Field(
        default=1.0,
        ge=0,
        description="0: foregrounds are drawn as backgrounds; 1: all classes equally often; above 1: small ones more.",
    )

    @classmethod
    def strategy_name(cls) -> str:
        """Return `cmo`."""
        return "cmo"

    @property
    def effects(self) -> Effect:
        """As for all mixing; also favors small classes."""
        favors = Effect.FAVORS_SMALL_CLASSES if self.exponent else Effect(0)
        return super().effects | favors if self.probability else Effect(0)

    @hookimpl
    def augment_batch(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        rows: NDArray[np.int64],
        training_set: ImageDataset,
        context: Context,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Paste a rectangle of a drawn image into the image of each row, and mix their targets."""
        import torch

        height, width, channels = training_set.image_shape
        if images.shape[1:] != (channels, height, width):
            raise StrategyError(
                f"cmo draws images of the training set, which are {height}x{width}, into images of "
                f"{images.shape[2]}x{images.shape[3]}; give BatchAugmentation all training images (images=…)"
            )
        rng = context.rng
        foregrounds = self._foregrounds(training_set, len(rows), rng)
        drawn = rng.beta(self.alpha, self.alpha, len(rows))
        share = np.where(rng.random(len(rows)) < self.probability, drawn, 1.0)
        drawn_images = training_set.images[foregrounds]
        pixels = torch.from_numpy(drawn_images.transpose(0, 3, 1, 2).astype(np.float32) / 255).to(images)
        mixed, share = self._mix(images, pixels, share, rng)
        if training_set.targets is None:
            soft = np.eye(len(training_set.class_names), dtype=np.float32)[training_set.labels[foregrounds]]
        else:
            soft = training_set.targets[foregrounds]
        others = torch.from_numpy(soft).to(targets)
        return mixed, targets.lerp(others, torch.from_numpy(1 - share).to(targets)[:, None])

    def _foregrounds(self, training_set: ImageDataset, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw `count` rows by the sizes of their classes, independent of the order of the set."""
        in_order, cumulative = training_set.rows_by_key, self._cumulative_weights(training_set)
        drawn = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
        rows: NDArray[np.int64] = in_order[drawn.clip(0, len(in_order) - 1)]
        return rows

    def _cumulative_weights(self, training_set: ImageDataset) -> NDArray[np.float64]:
        """Return the running sum of the weights of the rows in the order of their keys, `(N,)`."""
        cached = _WEIGHTS_CACHE.setdefault(training_set, {})
        if self.exponent not in cached:
            rows_in_class = training_set.counts[training_set.labels[training_set.rows_by_key]]
            weights = (rows_in_class / rows_in_class.min()) ** -self.exponent  # 1 for the smallest class
            cached[self.exponent] = np.cumsum(weights)
        return cached[self.exponent]


_WEIGHTS_CACHE: WeakKeyDictionary[ImageDataset, dict[float, NDArray[np.float64]]] = WeakKeyDictionary()
"""Running sums by training set and exponent: every batch needs them, and computing them takes all N rows."""


class Remix(_Mixing):
    """Apply Remix: blend images as in mixup, and assign the label to the rarer class if class sizes differ strongly.

    With n_i and n_j rows of the two classes and share s of image i, the share of label i is 0 if n_i / n_j >= kappa and
    s < tau; 1 if n_i / n_j <= 1 / kappa and 1 - s < tau; else s. Rows are counted in the training set as rewritten by
    earlier steps.

    When: as for `mixup`, if some classes are several times larger than others.

    Cost: 0.1 s for the rows of FER2013. Large classes lose labels, and with them recall, to small ones. It has no
    effect between classes whose sizes differ by a factor of less than kappa.

    Try: kappa 3 and tau 0.5, as in the paper, with alpha 1. On FER2013, this affects only Disgust; every other class is
    at least seven times larger.

    Elsewhere: error on long-tailed CIFAR-10 (imbalance ratio 100, ResNet-32, no spread given) 30.1 % without, 28.6 %
    with mixup, 29.5 % with it: Zhang, Wei, Zhou and Wu 2021, "Bag of Tricks for Long-Tailed Visual Recognition", AAAI,
    tables in the code repository.

    Source: Chou, Chang, Pan, Wei and Juan 2020, "Remix: Rebalanced Mixup", ECCV Workshops, LNCS 12540; kappa and tau
    are the paper's.
    """

    kappa: float = Field(
        default=3.0, ge=1, description="smallest ratio of class sizes at which the larger class can lose its label."
    )
    tau: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="the larger class loses its label if its image has a smaller share than this.",
    )

    @property
    def effects(self) -> Effect:
        """As for all mixing; also favors small classes."""
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
    """Apply mixup between confused classes: blend each image with one of a class that its own class is confused with.

    The class of the partner is drawn from the classes in the batch, in proportion to the probability that the scout
    assigns to it, averaged over the training rows of the row's own class. The partner is a random row of that class in
    the batch.

    When: some classes are confused far more often than others, and training should focus on the boundary between them.

    Cost: `out_of_fold` trains `training.scout.folds` additional networks per seed. Confusion is computed once per run;
    mixing takes 0.2 s for the rows of FER2013. Classes that are confused with many others are partners more often.

    Try: alpha 0.2, compared with `mixup` at the same alpha as a control.

    Source: based on Yoon, Hong, Joo, Qin, Jeong and Lee 2024, "Mix from Failure: Confusion-Pairing Mixup for
    Long-Tailed Recognition", arXiv:2411.07621. In the paper, confusion is counted on the model during training, and
    labels are mixed with regard to class imbalance; here, confusion is the scout's, and labels are mixed as in mixup.
    """

    predictions: Literal["in_sample", "out_of_fold"] = Field(
        default="out_of_fold",
        description="in_sample: by the model trained on these rows; out_of_fold: by models not trained on the row.",
    )

    @property
    def effects(self) -> Effect:
        """As for all mixing; also needs a scout, which chooses the partners."""
        in_sample = self.predictions == "in_sample"
        mining = Effect.IN_SAMPLE_MINING if in_sample else Effect.OUT_OF_FOLD_MINING
        return super().effects | mining if self.probability else Effect(0)

    def _partners(self, labels: NDArray[np.int64], training_set: ImageDataset, context: Context) -> NDArray[np.int64]:
        """Return the index of each row's partner, `(B,)`; its own index if no confused class is in the batch."""
        confusion = self._confusion(training_set, context)
        in_batch = np.bincount(labels, minlength=len(confusion))
        weights = confusion[labels][:, labels] / in_batch[labels]
        cumulative = np.cumsum(weights, axis=1)
        drawn = context.rng.random(len(labels)) * cumulative[:, -1]
        partners = (cumulative <= drawn[:, None]).sum(axis=1)
        return np.where(cumulative[:, -1] > 0, partners, np.arange(len(labels)))

    def _confusion(self, training_set: ImageDataset, context: Context) -> NDArray[np.float64]:
        """Return the mean predicted probability of each class over the rows of each class, `(K, K)`, diagonal 0."""
        scout = context.require_scout()
        cached, key = _CONFUSION_CACHE.setdefault(scout, {}), (training_set.fingerprint, self.predictions)
        if key not in cached:
            cached[key] = _confusion_of(training_set, scout.probabilities(training_set, how=self.predictions))
        return cached[key]


_CONFUSION_CACHE: WeakKeyDictionary[object, dict[tuple[str, str], NDArray[np.float64]]] = WeakKeyDictionary()
"""Confusion by scout and training set: every batch needs it, and computing it takes predictions of all N rows."""


def _confusion_of(training_set: ImageDataset, probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    in_order, classes = training_set.rows_by_key, probabilities.shape[1]
    predicted = in_order[np.isfinite(probabilities[in_order]).all(axis=1)]
    labels = training_set.labels[predicted]
    # No BLAS, whose sums depend on threads.
    sums = [np.bincount(labels, column, minlength=classes) for column in probabilities[predicted].T]
    confusion = np.stack(sums, axis=1) / np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]
    return np.where(np.eye(classes, dtype=bool), 0.0, confusion)


def _span(length: NDArray[np.float64], center: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    """Return `(B, side)` masks of the positions within half a length of a center."""
    position = np.arange(side)
    half = length[:, None] // 2
    return (position >= center[:, None] - half) & (position < center[:, None] + half)


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategies of this module."""
    return [Mixup, CutMix, Cmo, Remix, ConfusionMix]
