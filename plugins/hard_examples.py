"""Show the training rows that a model finds hard more often: as added copies, or by their sampling weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fer_augment import ClassName, Context, Effect, ImageDataset, Strategy, hookimpl

Pair = tuple[ClassName, ClassName]

_BELONGS_TO = {"copies": "rewrite", "transform": "rewrite", "weight": "sampling"}


class HardExamples(Strategy):
    """Add copies of hard training rows, or draw them more often; the scout says which rows are hard.

    The rules, and what is hardest under each:

    - `misclassified`: rows whose label is not the most probable class; hardest is the least probable label.
    - `small_margin`: rows whose two most probable classes are at most `margin` apart; hardest is the smallest distance.
      With `pairs`, rows that are labeled as one of a pair, are predicted as one of it, and give the two probabilities
      at most `margin` apart.
    - `predicted_in_pair`: all rows that are labeled or predicted as one of a pair; hardest is the least probable
      label.

    The hardest rows of all are often mislabeled: `min_label_probability` leaves them out. Rows that the scout cannot
    judge (NaN) are never chosen.

    When: the network errs on rows that are hard and rightly labeled, in one pair of classes or in all.

    Cost: `out_of_fold` trains `training.scout.folds` networks more for each seed; copies take memory as rows do, `when:
    sampling` none. Wrong labels are repeated along with hard rows, and easy rows are seen less often. Without
    `max_per_class` most copies go to the classes that have most mistakes, often the large ones.

    Try: `misclassified` with `max_per_class: 300` and `min_label_probability: 0.05`, as in the recipe `hard_examples`;
    for two classes `small_margin` with a margin of 0.2.

    Sources: the originating report (2021) proposes the two rules on pairs ("everything labeled 4 or 6", "where the
    likelihood for 4 is close to 6"); hard example mining: Shrivastava, Gupta and Girshick 2016, "Training Region-based
    Object Detectors with Online Hard Example Mining", CVPR; the probability of a label out of fold as a sign of label
    noise: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70.
    """

    example: ClassVar[Mapping[str, Any]] = {"rule": "small_margin", "pairs": [["ant", "bee"]], "margin": 1.0}

    rule: Literal["misclassified", "small_margin", "predicted_in_pair"] = Field(
        default="misclassified", description="which rows are hard."
    )
    pairs: list[Pair] | None = Field(
        default=None, min_length=1, description="[class, class] pairs for small_margin and predicted_in_pair."
    )
    margin: float | None = Field(
        default=None, ge=0, le=1, description="small_margin: the largest distance of two probabilities; 0.2 by default."
    )
    predictions: Literal["in_sample", "out_of_fold"] = Field(
        default="out_of_fold",
        description="in_sample: by the model trained on these rows; out_of_fold: by others.",
    )
    min_label_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="leave out rows whose label is less probable than this: they may be mislabeled.",
    )
    max_per_class: int | None = Field(
        default=None, ge=1, description="at most this many rows of each class, the hardest ones; all by default."
    )
    when: Literal["rewrite", "sampling"] = Field(
        default="rewrite",
        description="rewrite: append copies before training; sampling: draw them more often while training.",
    )
    copies: int | None = Field(
        default=None, ge=1, description="rewrite: how many copies of each chosen row to append; 1 by default."
    )
    transform: Literal["none", "mirror"] | None = Field(
        default=None, description="rewrite: whether copies are plain (by default) or mirrored left to right."
    )
    weight: float | None = Field(
        default=None, gt=0, description="sampling: what to multiply the weight of chosen rows by; 2 by default."
    )

    @model_validator(mode="after")
    def _parameters_fit_each_other(self) -> HardExamples:
        for name, stage in _BELONGS_TO.items():
            if getattr(self, name) is not None and self.when != stage:
                raise ValueError(f"`{name}` belongs to `when: {stage}`")
        if self.margin is not None and self.rule != "small_margin":
            raise ValueError("`margin` belongs to `rule: small_margin`")
        if self.pairs is not None and self.rule == "misclassified":
            raise ValueError("`pairs` belongs to `rule: small_margin` or `rule: predicted_in_pair`")
        if self.pairs is None and self.rule == "predicted_in_pair":
            raise ValueError("`rule: predicted_in_pair` needs `pairs`")
        for one, other in self.pairs or []:
            if one == other:
                raise ValueError(f"a pair names two classes; both are {one!r}")
        return self

    @property
    def effects(self) -> Effect:
        """Hard rows, and so their classes, are seen more often."""
        effects = Effect.SHIFTS_CLASS_PRIOR
        if self.transform == "mirror":
            effects |= Effect.MIRRORED_COPIES
        in_sample = self.predictions == "in_sample"
        return effects | (Effect.IN_SAMPLE_MINING if in_sample else Effect.OUT_OF_FOLD_MINING)

    @property
    def idle_at(self) -> Collection[str]:
        """The stage that `when` does not name."""
        return ["sampling_weights" if self.when == "rewrite" else "rewrite_training_set"]

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Append copies of the chosen rows, with `when: rewrite`."""
        parents = np.repeat(self._chosen_rows(training_set, context), self.copies or 1)
        images = training_set.images[parents]
        return training_set.append(images[:, :, ::-1] if self.transform == "mirror" else images, parents=parents)

    @hookimpl
    def sampling_weights(
        self, weights: NDArray[np.float64], training_set: ImageDataset, context: Context
    ) -> NDArray[np.float64]:
        """Multiply the weights of the chosen rows, with `when: sampling`."""
        raised = weights.copy()
        raised[self._chosen_rows(training_set, context)] *= self.weight or 2
        return raised

    def _chosen_rows(self, training_set: ImageDataset, context: Context) -> NDArray[np.int64]:
        """Return the positions of the chosen rows, in order."""
        asked = context.require_scout().probabilities(training_set, how=self.predictions)
        judged = np.flatnonzero(np.isfinite(asked).all(axis=1))
        labels, probabilities = training_set.labels[judged], asked[judged].astype(np.float64)
        of_label = probabilities[np.arange(len(judged)), labels]
        pairs = [[training_set.class_number(name) for name in pair] for pair in self.pairs or []]
        ease = self._ease(labels, probabilities, of_label, pairs)
        hard = np.flatnonzero(np.isfinite(ease) & (of_label >= self.min_label_probability))
        # Ties go by the row itself, so that the order of rows in the set changes nothing.
        keys = training_set.row_keys(judged[hard])
        hardest_first = hard[np.lexsort((keys, ease[hard]))]
        kept = [hardest_first[labels[hardest_first] == label][: self.max_per_class] for label in np.unique(labels)]
        return np.sort(judged[np.concatenate([np.empty(0, dtype=np.int64), *kept])])

    def _ease(
        self,
        labels: NDArray[np.int64],
        probabilities: NDArray[np.float64],
        of_label: NDArray[np.float64],
        pairs: Sequence[Sequence[int]],
    ) -> NDArray[np.float64]:
        """Return for each of n rows how easy it is, `(n,)`: small for the hardest, infinite for those not hard."""
        predicted = probabilities.argmax(axis=1)
        if self.rule == "misclassified":
            return np.where(predicted != labels, of_label, np.inf)
        if self.rule == "predicted_in_pair":
            named = np.unique(pairs)
            return np.where(np.isin(labels, named) | np.isin(predicted, named), of_label, np.inf)
        distance = _distance_in_pairs(labels, probabilities, pairs) if pairs else _distance_of_the_top(probabilities)
        return np.where(distance <= (0.2 if self.margin is None else self.margin), distance, np.inf)


def _distance_of_the_top(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the two most probable classes of each row are apart, `(n,)`."""
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return np.asarray(first - second)


def _distance_in_pairs(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], pairs: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return how far the classes of a row's pair are apart, `(n,)`; infinite for rows outside of all pairs."""
    predicted = probabilities.argmax(axis=1)
    distance = np.full(len(labels), np.inf)
    for one, other in pairs:
        within = np.isin(labels, (one, other)) & np.isin(predicted, (one, other))
        apart = np.abs(probabilities[:, one] - probabilities[:, other])
        distance = np.where(within, np.minimum(distance, apart), distance)
    return distance


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [HardExamples]
