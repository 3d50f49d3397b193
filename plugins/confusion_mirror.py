"""The step of the originating report: mirror the training images that a model confuses, and add them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fer_augment import ClassName, Context, Effect, ImageDataset, Strategy, hookimpl

Pair = tuple[ClassName, ClassName]


class ConfusionMirror(Strategy):
    """Append mirrored copies of the training rows of one class that the scout takes for another.

    `predictions: in_sample` asks the model that was trained on these very rows, as the report did; it hardly errs on
    them. `out_of_fold`, the default, asks for each row a model that never saw it, and so does not under-report
    confusion. Rows that the scout cannot judge (NaN) are never chosen.

    Two controls tell what a gain is owed to: with `transform: none` the same rows are added plain, with `rows:
    random_same_class` as many random others of the same classes, which the scout does not confuse so. Where more than
    half of a class is confused, there are not enough others: all are added, and random confused ones to fill up.

    When: one class is often taken for another, and a mirror image of a row shows the same class.

    Cost: `out_of_fold` trains `training.scout.folds` networks more for each seed; `in_sample` none, where the same
    recipe without it is an arm. More rows of the one class move predictions away from the other: look at the recall of
    both. Where images are flipped at random, a mirrored copy is a second plain one.

    Try: `out_of_fold`, with the pairs that the validation split shows to be confused most, next to both controls
    (recipes `confusion_unmirrored` and `confusion_random_rows`).

    Measured: on FER2013, Sad taken for Neutral (recipe `confusion_mirror`), 10 epochs, n = 3 runs: balanced accuracy
    -1.2 points (95 % interval -1.7 to -0.6), worse; recall of Sad +14.9 (+5.9 to +24.0), of Neutral -16.6 (-32.9 to
    -0.2), no evidence of a difference for either.

    Source: the originating report (2021), "Model 6": the trained model 5 runs over its own training set, the 149 images
    of Sad that it takes for Neutral are mirrored and inserted at random positions, and the network is trained again.
    """

    example: ClassVar[Mapping[str, Any]] = {"pairs": [["ant", "bee"], ["bee", "cat"]]}

    pairs: list[Pair] = Field(
        min_length=1,
        description="[true class, predicted class]; rows of the first taken for the second are added.",
    )
    both_directions: bool = Field(
        default=False, description="also add rows of the second class of each pair that are taken for the first."
    )
    rows: Literal["confused", "random_same_class"] = Field(
        default="confused",
        description="random_same_class: in place of the confused rows as many random others of each class (a control).",
    )
    predictions: Literal["in_sample", "out_of_fold"] = Field(
        default="out_of_fold",
        description="in_sample: by the model trained on these rows; out_of_fold: by others.",
    )
    transform: Literal["mirror", "none"] = Field(
        default="mirror", description="mirror the added images, or add them as they are (a control)."
    )
    axis: Literal["left_right", "up_down"] = Field(
        default="left_right", description="which sides of an image a mirror exchanges."
    )
    copies: int = Field(
        default=1, ge=1, description="how many times each chosen row is added, the same image each time."
    )
    insert: Literal["random", "end"] = Field(
        default="random",
        description="random: at random positions between the old rows; end: after them. It shows in exported sets. "
        "Training shuffles by the rows themselves, not by their places: both train the same network, to the bit.",
    )

    @field_validator("pairs")
    @classmethod
    def _names_two_classes(cls, pairs: list[Pair]) -> list[Pair]:
        for true, predicted in pairs:
            if true == predicted:
                raise ValueError(f"a pair names two classes, [true, predicted]; both are {true!r}")
        return pairs

    @property
    def effects(self) -> Effect:
        """More rows of the confused classes; mirrored left to right they are what a random flip makes anyway."""
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
        """Append the mirrored rows; a set without such confusion is returned as it is."""
        chosen = self._confused_rows(training_set, context)
        if self.rows == "random_same_class":
            chosen = _others_of_each_class(training_set.labels, chosen, context.rng)
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
        judged = np.isfinite(probabilities).all(axis=1)
        predicted = np.argmax(probabilities, axis=1)
        chosen = np.zeros(len(training_set), dtype=bool)
        swapped = [(predicted, true) for true, predicted in self.pairs if self.both_directions]
        for true_name, predicted_name in [*self.pairs, *swapped]:
            is_pair = training_set.labels == training_set.class_number(true_name)
            chosen |= is_pair & judged & (predicted == training_set.class_number(predicted_name))
        return np.flatnonzero(chosen)


def _others_of_each_class(
    labels: NDArray[np.int64], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return as many distinct rows of each class as are given, `(n,)`: random others, and given ones if those end."""
    is_given = np.isin(np.arange(len(labels)), rows)
    drawn = [np.empty(0, dtype=np.int64)]
    for label, count in enumerate(np.bincount(labels[rows])):
        shuffled = rng.permutation(np.flatnonzero(labels == label))
        others_first = shuffled[np.argsort(is_given[shuffled], kind="stable")]
        drawn.append(others_first[:count])
    return np.sort(np.concatenate(drawn))


def _new_rows_between(old: int, new: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the order in which new rows, in random order, stand at random positions between the old ones."""
    is_new = np.zeros(old + new, dtype=bool)
    is_new[rng.choice(old + new, size=new, replace=False)] = True
    order = np.empty(old + new, dtype=np.int64)
    order[is_new] = old + rng.permutation(new)
    order[~is_new] = np.arange(old)
    return order


@hookimpl
def register_strategies() -> Sequence[type[Strategy]]:
    """Offer the strategy of this file."""
    return [ConfusionMirror]
