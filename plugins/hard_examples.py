"""Hard example mining: oversample the training rows that a model finds hard."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fer_augment import ClassName, Context, Effect, ImageDataset, Strategy, hookimpl, predicted_classes

Pair = tuple[ClassName, ClassName]

_REQUIRES_WHEN = {"copies": "rewrite", "transform": "rewrite", "weight": "sampling"}
_DEFAULT_MARGIN = 0.2


class HardExamples(Strategy):
    """Oversample hard training rows, found with a scout's predictions: append copies or raise their sampling weight.

    The rules, each with its order from hard to easy:

    - `misclassified`: rows whose label is not the most probable class, or not alone, by increasing probability of the
      label.
    - `small_margin`: rows whose two most probable classes differ by at most `margin`, by increasing difference. With
      `pairs`: rows whose label and prediction are both in a pair and whose probabilities for its two classes differ by
      at most `margin`.
    - `predicted_in_pair`: rows whose label or prediction is in a pair, by increasing probability of the label. If
      several classes are equally the most probable, there is no prediction.

    The hardest rows are often mislabeled; exclude them with `min_label_probability`. Rows without predictions (NaN) are
    never chosen.

    When: the network makes errors on rows that are hard but correctly labeled, in one pair of classes or in all.

    Cost: `out_of_fold` trains `training.scout.folds` additional networks per seed. Each copy needs the memory of a row;
    `when: sampling` needs none. Mislabeled rows are repeated along with hard ones, and easy rows are seen less often.
    Without `max_per_class`, most copies go to the classes with the most errors, often the large ones.

    Try: `misclassified` with `max_per_class: 300` and `min_label_probability: 0.05`, as in the recipe `hard_examples`;
    for two classes, `small_margin` with margin 0.2.

    Sources: the originating report (2021) proposes the two rules on pairs ("everything labeled 4 or 6", "where the
    likelihood for 4 is close to 6"); hard example mining: Shrivastava, Gupta and Girshick 2016, "Training Region-based
    Object Detectors with Online Hard Example Mining", CVPR; out-of-fold probability of the label as an indicator of
    label noise: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
    70.
    """

    example: ClassVar[Mapping[str, Any]] = {"rule": "small_margin", "pairs": [["ant", "bee"]], "margin": 1.0}

    rule: Literal["misclassified", "small_margin", "predicted_in_pair"] = Field(
        default="misclassified", description="which rows count as hard."
    )
    pairs: list[Pair] | None = Field(
        default=None, min_length=1, description="[class, class] pairs for small_margin and predicted_in_pair."
    )
    margin: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=f"small_margin: largest difference between two probabilities; {_DEFAULT_MARGIN} by default.",
    )
    predictions: Literal["in_sample", "out_of_fold"] = Field(
        default="out_of_fold",
        description="in_sample: by the model trained on these rows; out_of_fold: by models not trained on the row.",
    )
    min_label_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="exclude rows whose label has a lower probability: they may be mislabeled.",
    )
    max_per_class: int | None = Field(
        default=None, ge=1, description="largest number of rows per class, the hardest first; all by default."
    )
    when: Literal["rewrite", "sampling"] = Field(
        default="rewrite",
        description="rewrite: append copies before training; sampling: draw hard rows more often during training.",
    )
    copies: int | None = Field(
        default=None, ge=1, description="rewrite: number of copies of each chosen row to append; 1 by default."
    )
    transform: Literal["none", "mirror"] | None = Field(
        default=None, description="rewrite: append copies unchanged (the default) or mirrored left to right."
    )
    weight: float | None = Field(
        default=None, gt=0, description="sampling: factor for the sampling weight of chosen rows; 2 by default."
    )

    @model_validator(mode="after")
    def _parameters_fit_each_other(self) -> HardExamples:
        for name, when in _REQUIRES_WHEN.items():
            if getattr(self, name) is not None and self.when != when:
                raise ValueError(f"`{name}` requires `when: {when}`")
        if self.margin is not None and self.rule != "small_margin":
            raise ValueError("`margin` requires `rule: small_margin`")
        if self.pairs is not None and self.rule == "misclassified":
            raise ValueError("`pairs` requires `rule: small_margin` or `rule: predicted_in_pair`")
        if self.pairs is None and self.rule == "predicted_in_pair":
            raise ValueError("`rule: predicted_in_pair` requires `pairs`")
        for one, other in self.pairs or []:
            if one == other:
                raise ValueError(f"a pair must name two different classes; both are {one!r}")
        return self

    @property
    def watched_pairs(self) -> Collection[tuple[str, str]]:
        """The pairs given in the recipe, if any, in both directions, as the rules count both."""
        pairs = self.pairs or []
        return tuple(dict.fromkeys([*pairs, *((other, one) for one, other in pairs)]))

    @property
    def effects(self) -> Effect:
        """Hard rows, and so their classes, are drawn more often."""
        effects = Effect.SHIFTS_CLASS_PRIOR
        if self.transform == "mirror":
            effects |= Effect.MIRRORED_COPIES
        in_sample = self.predictions == "in_sample"
        return effects | (Effect.IN_SAMPLE_MINING if in_sample else Effect.OUT_OF_FOLD_MINING)

    @property
    def idle_at(self) -> Collection[str]:
        """The stage that `when` does not select."""
        return ["sampling_weights" if self.when == "rewrite" else "rewrite_training_set"]

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Append copies of the chosen rows (`when: rewrite`)."""
        parents = np.repeat(self._chosen_rows(training_set, context), self.copies or 1)
        images = training_set.images[parents]
        return training_set.append(images[:, :, ::-1] if self.transform == "mirror" else images, parents=parents)

    @hookimpl
    def sampling_weights(
        self, weights: NDArray[np.float64], training_set: ImageDataset, context: Context
    ) -> NDArray[np.float64]:
        """Multiply the sampling weights of the chosen rows (`when: sampling`)."""
        raised = weights.copy()
        raised[self._chosen_rows(training_set, context)] *= self.weight or 2
        return raised

    def _chosen_rows(self, training_set: ImageDataset, context: Context) -> NDArray[np.int64]:
        """Return the sorted indices of the chosen rows."""
        predictions = context.require_scout().probabilities(training_set, how=self.predictions)
        predicted_rows = np.flatnonzero(np.isfinite(predictions).all(axis=1))
        labels, probabilities = training_set.labels[predicted_rows], predictions[predicted_rows].astype(np.float64)
        of_label = probabilities[np.arange(len(predicted_rows)), labels]
        pairs = [[training_set.class_number(name) for name in pair] for pair in self.pairs or []]
        ease = self._ease(labels, probabilities, of_label, pairs)
        hard = np.flatnonzero(np.isfinite(ease) & (of_label >= self.min_label_probability))
        # Break ties by row key, so that the result does not depend on the order of rows in the set.
        keys = training_set.row_keys(predicted_rows[hard])
        hardest_first = hard[np.lexsort((keys, ease[hard]))]
        kept = [hardest_first[labels[hardest_first] == label][: self.max_per_class] for label in np.unique(labels)]
        return np.sort(predicted_rows[np.concatenate([np.empty(0, dtype=np.int64), *kept])])

    def _ease(
        self,
        labels: NDArray[np.int64],
        probabilities: NDArray[np.float64],
        of_label: NDArray[np.float64],
        pairs: Sequence[Sequence[int]],
    ) -> NDArray[np.float64]:
        """Return the ease of each of n rows, `(n,)`: smallest for the hardest row, infinite for rows that are not hard.

        Args:
            labels: `(n,)` class numbers.
            probabilities: `(n, K)` class probabilities.
            of_label: `(n,)`, the probability of each row's label.
            pairs: the class numbers of the pairs.
        """
        predicted = predicted_classes(probabilities)
        if self.rule == "misclassified":
            return np.where(predicted != labels, of_label, np.inf)
        if self.rule == "predicted_in_pair":
            in_pairs = np.unique(pairs)
            return np.where(np.isin(labels, in_pairs) | np.isin(predicted, in_pairs), of_label, np.inf)
        margins = _margins_in_pairs(labels, probabilities, pairs) if pairs else _top_two_margins(probabilities)
        return np.where(margins <= (_DEFAULT_MARGIN if self.margin is None else self.margin), margins, np.inf)


def _top_two_margins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the difference between the two largest probabilities of each row, `(n,)`."""
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return np.asarray(first - second)


def _margins_in_pairs(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], pairs: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return the difference between the probabilities of a row's pair, `(n,)`; infinite for rows in no pair."""
    largest = probabilities.max(axis=1)
    margins = np.full(len(labels), np.inf)
    for one, other in pairs:
        in_pair = np.isin(labels, (one, other)) & (probabilities[:, [one, other]].max(axis=1) == largest)
        difference = np.abs(probabilities[:, one] - probabilities[:, other])
        margins = np.where(in_pair, np.minimum(margins, difference), margins)
    return margins


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [HardExamples]
