"""A strategy class under test, and the ways in which checks run it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import FerAugmentError
from fer_augment.hooks.specs import PROJECT, STAGES
from fer_augment.hooks.strategy import Strategy
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.stages import Arrays, arguments_of, some_rows, trial


@dataclass(frozen=True)
class Subject:
    """A strategy class under test, and what the checks ask of it."""

    strategy_class: type[Strategy]

    def build(self) -> Strategy:
        """Make a new instance from the example."""
        return self.strategy_class(**self.strategy_class.example)

    @cached_property
    def stages(self) -> list[str]:
        """The stages that the class implements."""
        return [name for name in STAGES if hasattr(getattr(self.strategy_class, name, None), f"{PROJECT}_impl")]

    @cached_property
    def datasets(self) -> list[ImageDataset]:
        """The tiny data that the strategy takes: gray, color, or both."""
        return [data for data in (tiny_dataset(1), tiny_dataset(3)) if not self.refusals(data)]

    def refusals(self, data: ImageDataset) -> list[str]:
        """Run all stages on some data; return what the strategy refused by an error of its own.

        Raises:
            FerAugmentError: if it failed in any other way.
        """
        refused = []
        for stage in self.stages:
            try:
                trial(self.build(), stage, data)
            except FerAugmentError as error:
                if not isinstance(error.__cause__, FerAugmentError):
                    raise
                refused.append(str(error))
        return refused

    def trials(self, seed: int = 0, **options: Any) -> dict[str, Arrays]:
        """Run all stages on all data, each with a new instance; return what came out of each stage."""
        return {
            stage: [array for data in self.datasets for array in trial(self.build(), stage, data, seed=seed, **options)]
            for stage in self.stages
        }

    def together_and_alone(self, stage: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Run one stage, if the class implements it, on a batch and on each of its rows alone."""
        if stage in self.stages:
            for data in self.datasets:
                rows = some_rows(data)
                together = trial(self.build(), stage, data, rows=rows)
                alone = [trial(self.build(), stage, data, rows=rows[[place]]) for place in range(len(rows))]
                for whole, *parts in zip(together, *alone, strict=True):
                    yield whole, np.concatenate(parts)

    def results(self, stage: str) -> Iterator[tuple[ImageDataset, Any]]:
        """Run one stage, if the class implements it; give the data and what the hook returned."""
        if stage in self.stages:
            for data in self.datasets:
                for given in arguments_of(stage, data):
                    yield data, given.fold(self.build())
