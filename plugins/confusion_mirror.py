"""The step of the originating report: append mirrored copies of the training images that a model confuses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fer_augment import ClassName, Context, Effect, ImageDataset, Strategy, hookimpl, predicted_classes

Pair = tuple[ClassName, ClassName]


class ConfusionMirror(Strategy):
    """Append mirrored copies of the training rows of one class that the scout predicts as another.

    `predictions: in_sample` uses the model trained on these same rows, as the report did; it makes few errors on them.
    `out_of_fold`, the default, predicts each row with a model that was not trained on it, and so does not underestimate
    confusion. Rows without predictions (NaN) are never chosen, nor are rows with several most probable classes.

    Two controls isolate the cause of a gain: `transform: none` appends the same rows unmirrored; `rows:
    random_same_class` appends as many random rows of the same classes that are not confused. If more than half of a
    class is confused, there are too few of these: all of them are added, and random confused rows make up the number.

    When: one class is often predicted as another, and mirroring preserves the class.

    Cost: `out_of_fold` trains `training.scout.folds` additional networks per seed; `in_sample` trains none if the same
    recipe without this step is an arm. More rows of one class shift predictions away from the other: check the recall
    of both. With a random flip, a mirrored copy is no different from an unmirrored one.

    Try: `out_of_fold` with the pairs that are confused most often on the validation split, together with both controls
    (recipes `confusion_unmirrored` and `confusion_random_rows`).

    Measured: on FER2013, Sad predicted as Neutral (recipe `confusion_mirror`), 10 epochs, n = 3 runs: balanced accuracy
    -1.2 points (95 % CI -1.7 to -0.6), worse; recall of Sad +14.9 (+5.9 to +24.0) and of Neutral -16.6 (-32.9 to -0.2),
    no evidence of a difference for either.

    Source: the originating report (2021), "Model 6": the trained model 5 predicts its own training set, the 149 images
    of Sad that it predicts as Neutral are mirrored and inserted at random positions, and the network is trained again.
    """

    example: ClassVar[Mapping[str, Any]] = {"pairs": [["ant", "bee"], ["bee", "cat"]]}

    pairs: list[Pair] = Field(
        min_length=1,
        description="[true class, predicted class]: rows of the first class predicted as the second are added.",
    )
    both_directions: bool = Field(
        default=False, description="also add rows of the second class of each pair that are predicted as the first."
    )
    rows: Literal["confused", "random_same_class"] = Field(
        default="confused",
        description="random_same_class: instead of the confused rows, as many random others of each class (a control).",
    )
    predictions: Literal["in_sample", "out_of_fold"] = Field(
        default="out_of_fold",
        description="in_sample: by the model trained on these rows; out_of_fold: by models not trained on the row.",
    )
    transform: Literal["mirror", "none"] = Field(
        default="mirror", description="mirror the added images, or add them unchanged (a control)."
    )
    axis: Literal["left_right", "up_down"] = Field(
        default="left_right", description="mirror images left to right, or upside down."
    )
    copies: int = Field(default=1, ge=1, description="number of identical copies of each chosen row.")
    insert: Literal["random", "end"] = Field(
        default="random",
        description="random: at random positions among the existing rows; end: after them. It affects exported sets "
        "only: training shuffles rows regardless of their positions, so both train bit-identical networks, unless a "
        "later step goes by positions (`imblearn`, `dedup`).",
    )

    @field_validator("pairs")
    @classmethod
    def _names_two_classes(cls, pairs: list[Pair]) -> list[Pair]:
        for true, predicted in pairs:
            if true == predicted:
                raise ValueError(f"a pair must name two different classes, [true, predicted]; both are {true!r}")
        return pairs

    @property
    def watched_pairs(self) -> Collection[tuple[str, str]]:
        """The pairs given in the recipe; with `both_directions`, their reverse as well."""
        return tuple(self._directed)

    @property
    def _directed(self) -> list[Pair]:
        swapped = [(predicted, true) for true, predicted in self.pairs if self.both_directions]
        return list(dict.fromkeys([*self.pairs, *swapped]))

    @property
    def effects(self) -> Effect:
        """Adds rows of the confused classes; left-right mirroring is redundant with a random flip."""
        effects = Effect.SHIFTS_CLASS_PRIOR
        if self.transform == "mirror" and self.axis == "left_right":
            effects |= Effect.MIRRORED_COPIES
        in_sample = self.predictions == "in_sample"
        effects |= Effect.IN_SAMPLE_MINING if in_sample else Effect.OUT_OF_FOLD_MINING
        if self.insert == "random" or self.rows == "random_same_class":
            effects |= Effect.RANDOM
        return effects

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Append the mirrored rows; return the set unchanged if no row is confused."""
        chosen = self._confused_rows(training_set, context)
        if self.rows == "random_same_class":
            chosen = _others_of_each_class(training_set, chosen, context.rng)
        parents = np.repeat(chosen, self.copies)
        if not len(parents):
            return training_set
        images = training_set.images[parents]
        if self.transform == "mirror":
            images = images[:, :, ::-1] if self.axis == "left_right" else images[:, ::-1]
        grown = training_set.append(images, parents=parents)
        if self.insert == "end":
            return grown
        return grown.take(_new_rows_between(len(training_set), len(parents), context.rng))

    def _confused_rows(self, training_set: ImageDataset, context: Context) -> NDArray[np.int64]:
        probabilities = context.require_scout().probabilities(training_set, how=self.predictions)
        predicted = predicted_classes(probabilities)
        chosen = np.zeros(len(training_set), dtype=bool)
        for true_name, predicted_name in self._directed:
            is_true_class = training_set.labels == training_set.class_number(true_name)
            chosen |= is_true_class & (predicted == training_set.class_number(predicted_name))
        return np.flatnonzero(chosen)


def _others_of_each_class(
    training_set: ImageDataset, rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return as many distinct random rows of each class as `rows` has, `(n,)`, with rows not in `rows` first.

    The choice is independent of the order of the set; the rows are returned in it.
    """
    labels, in_order = training_set.labels, training_set.rows_by_key
    is_excluded = np.isin(np.arange(len(labels)), rows)
    drawn = [np.empty(0, dtype=np.int64)]
    for label, count in enumerate(np.bincount(labels[rows])):
        shuffled = rng.permutation(in_order[labels[in_order] == label])
        others_first = shuffled[np.argsort(is_excluded[shuffled], kind="stable")]
        drawn.append(others_first[:count])
    return np.sort(np.concatenate(drawn))


def _new_rows_between(old: int, new: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return an order that places the new rows, shuffled, at random positions among the old ones."""
    is_new = np.zeros(old + new, dtype=bool)
    is_new[rng.choice(old + new, size=new, replace=False)] = True
    order = np.empty(old + new, dtype=np.int64)
    order[is_new] = old + rng.permutation(new)
    order[~is_new] = np.arange(old)
    return order


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Register the strategy of this module."""
    return [ConfusionMirror]
