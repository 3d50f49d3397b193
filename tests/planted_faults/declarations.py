"""Strategies with faults in their declaration or in what their hooks return."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, FilePath

from fer_augment import Effect, ImageDataset, Strategy, hookimpl
from tests.planted_faults.fault import PlantedFault


class HasNoSuchHook(Strategy):
    """Misspell a hook."""

    @hookimpl
    def rewrite_trainingset(self, training_set: ImageDataset) -> ImageDataset:
        return training_set


class HasNoDocstring(Strategy):
    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class HasNoExample(Strategy):
    """Require a parameter, without an example."""

    exponent: float

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class DeclaresASet(Strategy):
    """Declare effects as a set."""

    @property
    def effects(self) -> Any:
        return {Effect.RANDOM}

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class ForgetsToReturn(Strategy):
    """Append a row, without returning the result."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        training_set.append(training_set.images[[0]], parents=[0])


class ChangesTheDtype(Strategy):
    """Return float pixels."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return images.astype(np.float32)


class ChangesTheShape(Strategy):
    """Crop a column."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images[:, :, :, 1:], targets


class GivesLabelsOutOfRange(Strategy):
    """Append rows of a class that does not exist."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return training_set.append(training_set.images[[0]], labels=[7], parents=[0])


class Crashes(Strategy):
    """Divide by zero."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights * (1 // 0)


class MakesRowsWithoutAppend(Strategy):
    """Make a larger data set from the same pixels, without `append`."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        twice = np.concatenate([training_set.images[:]] * 2)
        return ImageDataset.from_arrays(twice, np.tile(training_set.labels, 2), training_set.class_names)


class HasNoSchema(Strategy):
    """Have a value for whose type there is no JSON Schema."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    slot: slice = slice(1)

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class CannotBeWritten(Strategy):
    """Have a value that JSON cannot represent."""

    ceiling: float = float("inf")

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class HasAnAlias(Strategy):
    """Have a parameter whose name in recipes is a word of Python."""

    example: ClassVar[dict[str, Any]] = {"from": 1}

    start: int = Field(alias="from")

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class ReadsAFile(Strategy):
    """Scale weights by the length of a file, whose content is no part of the training key."""

    example: ClassVar[dict[str, Any]] = {"file": str(Path(__file__).parents[2] / "README.md")}

    file: str

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights * len(Path(self.file).read_bytes())


class NamesTheFileByItsType(ReadsAFile):
    """Scale weights by the length of a file that a parameter names."""

    file: FilePath  # type: ignore[assignment]


class ReturnsTheFile(ReadsAFile):
    """Scale weights by the length of a file that is returned by `files`."""

    @property
    def files(self) -> Collection[Path]:
        return [Path(self.file)]


class ReadsWhatItWrote(Strategy):
    """Scale weights by the length of a temporary file."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/weights.npy", weights)
            return np.load(f"{folder}/weights.npy") / len(Path(folder, "weights.npy").read_bytes())


FAULTS: list[PlantedFault] = [
    (HasNoSuchHook, "is_declared_as_a_strategy", "did you mean 'rewrite_training_set'"),
    (HasNoDocstring, "is_declared_as_a_strategy", "docstring"),
    (HasNoExample, "builds_from_its_example", "exponent"),
    (DeclaresASet, "builds_from_its_example", "effects must be an Effect, is {<Effect.RANDOM"),
    (ForgetsToReturn, "keeps_the_contract_of_its_stages", "returned nothing"),
    (ChangesTheDtype, "keeps_the_contract_of_its_stages", "must return uint8 images"),
    (ChangesTheShape, "keeps_the_contract_of_its_stages", "shapes and dtypes"),
    (GivesLabelsOutOfRange, "keeps_the_contract_of_its_stages", "label 7 is outside 0..2"),
    (Crashes, "keeps_the_contract_of_its_stages", "ZeroDivisionError"),
    (MakesRowsWithoutAppend, "keeps_the_contract_of_its_stages", "descend from the set"),
    (HasNoSchema, "can_be_written_to_a_recipe", "use types and values for parameters that JSON can represent"),
    (CannotBeWritten, "can_be_written_to_a_recipe", "JSON"),
    (ReadsAFile, "declares_the_files_that_it_reads", "README.md is read, but not a part of the training key"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (HasAnAlias, "can_be_written_to_a_recipe"),
    (NamesTheFileByItsType, "declares_the_files_that_it_reads"),
    (ReturnsTheFile, "declares_the_files_that_it_reads"),
    (ReadsWhatItWrote, "declares_the_files_that_it_reads"),
]
