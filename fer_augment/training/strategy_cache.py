"""The folders in the cache that strategies keep their work in, see `Context.cached`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fer_augment.errors import StrategyError
from fer_augment.hooks.pipeline import Step
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.training.distributions import distribution_versions
from fer_augment.training.keys import step_identity
from fer_augment.training.store import TrainingStore


@dataclass(frozen=True)
class StrategyCache:
    """The cache of a step.

    A folder is found again by everything that decides its content as far as the framework knows it: the strategy's
    code, the files it reads, its parameters, the versions of the libraries it uses, and the key that it chose. Its
    place in the recipe, the rest of the recipe and the data are not part of it.

    Attributes:
        root: the folder of all strategies.
        step: the step.
        bound: its recipe.
    """

    root: Path
    step: Step
    bound: BoundRecipe

    def __call__(self, key: str, make: Callable[[Path], None]) -> Path:
        """Return the folder of a key; do the work unless it was done before.

        Of several processes that need it at once, one does the work and the others wait. If the work fails or is
        interrupted, nothing of it is kept.
        """
        identity = {name: value for name, value in step_identity(self.step).items() if name != "number"}
        versions = distribution_versions(replace(self.bound, steps=(self.step,), providers=()))
        content = json.dumps([key, identity, versions], sort_keys=True)
        name = f"{self.step.name}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
        try:
            folder = TrainingStore(self.root).obtain(name, lambda scratch, _: make(scratch)).path
            os.utime(folder)
        except OSError as error:
            if not (error.filename and error.strerror):
                raise  # of the work, such as one about a damaged image; the pipeline names its place
            raise StrategyError(f"context.cached({key!r}, ...): {error.filename}: {error.strerror}") from error
        return folder
