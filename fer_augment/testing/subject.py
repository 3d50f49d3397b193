"""A strategy under test, and the ways in which checks run it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import FerAugmentError, StrategyError
from fer_augment.hooks.specs import PROJECT
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Strategy
from fer_augment.testing.file_reads import recorded_reads
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.other_process import Answer, OtherProcess, Request, other_process
from fer_augment.testing.stages import Arrays, arguments_of, some_rows, trial


@dataclass(frozen=True, eq=False)
class Subject:
    """A strategy under test.

    Attributes:
        strategy_class: the class.
        instance_parameters: the parameters of the instance under test; None to use the `example` of the class.
        reads: the files that were read in `refusals`, which runs all stages before anything else does.
    """

    strategy_class: type[Strategy]
    instance_parameters: Mapping[str, Any] | None = None
    reads: set[Path] = field(default_factory=set)

    @classmethod
    def of(cls, strategy: type[Strategy] | Strategy) -> Subject:
        """Make a subject of a class, with its `example`, or of an instance, with its own parameters."""
        if isinstance(strategy, type):
            return cls(strategy)
        return cls(type(strategy), _parameters_of(strategy) if isinstance(strategy, Strategy) else None)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters that instances are built with."""
        return self.strategy_class.example if self.instance_parameters is None else self.instance_parameters

    @property
    def label(self) -> str:
        """The name of the strategy, for an instance with its parameters, such as `mirror(copies=2)`."""
        named = getattr(self.strategy_class, "strategy_name", None)  # it may be a class of something else
        name = named() if named else self.strategy_class.__name__
        if not self.instance_parameters:
            return name
        return f"{name}({', '.join(f'{key}={value}' for key, value in self.instance_parameters.items())})"

    def build(self) -> Strategy:
        """Make a new instance."""
        return self.strategy_class(**self.parameters)

    @cached_property
    def stages(self) -> list[str]:
        """The stages that the class implements."""
        return [name for name in STAGES if hasattr(getattr(self.strategy_class, name, None), f"{PROJECT}_impl")]

    def takes(self, stage: str, argument: str) -> bool:
        """Whether the class implements a stage with a hook that has an argument of a name."""
        return stage in self.stages and argument in inspect.signature(getattr(self.strategy_class, stage)).parameters

    @cached_property
    def datasets(self) -> list[ImageDataset]:
        """The tiny data sets that the strategy accepts: gray, color, or both."""
        return [data for data in (tiny_dataset(1), tiny_dataset(3)) if not self.refusals(data)]

    def refusals(self, data: ImageDataset) -> list[str]:
        """Run all stages on some data; return the messages of each `StrategyError` that the strategy raised itself.

        Raises:
            FerAugmentError: if the strategy failed in any other way.
        """
        refused = []
        for stage in self.stages:
            try:
                with recorded_reads(self.reads):
                    trial(self.build(), stage, data)
            except FerAugmentError as error:
                if not isinstance(error.__cause__, StrategyError):
                    raise
                refused.append(str(error))
        return refused

    def trials(self, seed: int = 0, **options: Any) -> dict[str, Arrays]:
        """Run all stages on all data, each with a new instance; return the results by stage."""
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

    @cached_property
    def asked_elsewhere(self) -> tuple[Request, OtherProcess, int] | None:
        """What another process was asked to run, and the number of the request; None if it cannot find the class."""
        if not self.datasets:
            return None
        channels = self.datasets[0].image_shape[2]
        request = Request(self.strategy_class, self.parameters, tuple(self.stages), channels, seeds=(1, 0))
        process = other_process()
        number = process.send(request)
        return None if number is None else (request, process, number)

    @cached_property
    def answer_from_elsewhere(self) -> Answer | str | None:
        """What the other process answered; None if it was not asked, or did not find the class.

        Raises:
            EOFError: if the process died.
        """
        if self.asked_elsewhere is None:
            return None
        _, process, number = self.asked_elsewhere
        return process.receive(number)

    @cached_property
    def first_trials(self) -> dict[str, Arrays]:
        """The results of all stages on all data with the seed 0, by stage."""
        return self.trials()

    def results(self, stage: str, seed: int = 0) -> Iterator[tuple[ImageDataset, Any]]:
        """Run one stage, if the class implements it; yield the data and the return value of the hook."""
        if stage in self.stages:
            for data in self.datasets:
                for arguments in arguments_of(stage, data):
                    yield data, arguments.fold(self.build(), seed=seed)


def _parameters_of(strategy: Strategy) -> dict[str, Any]:
    """Return the parameters that were given to an instance, under the names that its class accepts."""
    fields = type(strategy).model_fields
    return {fields[name].alias or name: getattr(strategy, name) for name in fields if name in strategy.model_fields_set}
