"""The step of the originating report: mirror the training images that a model confuses, and add them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fer_augment import ClassName, Context, Effect, ImageDataset, Strategy, StrategyError, hookimpl

Pair = tuple[ClassName, ClassName]


class ConfusionMirror(Strategy):
    """Append mirrored copies of the training rows of one class that the scout takes for another.

    Source: the originating report (2021), "Model 6": the trained model 5 runs over its own training set, the
    149 images of Sad that it takes for Neutral are mirrored and inserted at random positions, and the network
    is trained again. `predictions: in_sample` repeats that; `out_of_fold`, the default, asks for each row a
    model that never saw it, and so does not under-report confusion. `transform: none` is the control: the
    same rows, plain. Rows that the scout cannot judge (NaN) are never chosen.
    """

    example: ClassVar[Mapping[str, Any]] = {"pairs": [["ant", "bee"], ["bee", "cat"]]}

    pairs: list[Pair] = Field(
        min_length=1,
        description="[true class, predicted class]; rows of the first taken for the second are added.",
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
        default="random", description="random: at random positions between the old rows; end: after them."
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
        if self.predictions == "in_sample":
            effects |= Effect.IN_SAMPLE_MINING
        if self.insert == "random":
            effects |= Effect.RANDOM
        return effects

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset, context: Context) -> ImageDataset:
        """Append the mirrored rows; a set without such confusion is returned as it is."""
        parents = np.repeat(self._confused_rows(training_set, context), self.copies)
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
        if context.scout is None:
            raise StrategyError("there is no scout to ask for predictions about the training set")
        probabilities = context.scout.probabilities(training_set, how=self.predictions)
        judged = np.isfinite(probabilities).all(axis=1)
        predicted = np.argmax(probabilities, axis=1)
        chosen = np.zeros(len(training_set), dtype=bool)
        for true_name, predicted_name in self.pairs:
            is_pair = training_set.labels == training_set.class_number(true_name)
            chosen |= is_pair & judged & (predicted == training_set.class_number(predicted_name))
        return np.flatnonzero(chosen)


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
