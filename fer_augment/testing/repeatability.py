"""Checks that results are reproducible and that a strategy has no side effects."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.testing.stages import arguments_of, same, trial
from fer_augment.testing.subject import Subject


def same_seed_gives_the_same_bytes(subject: Subject) -> Iterator[str]:
    """Two runs with the same seed give bit-identical results."""
    once, again = subject.trials(), subject.trials()
    for stage in subject.stages:
        if not same(once[stage], again[stage]):
            yield f"{stage}: two runs with the same seed differ; use context.rng, context.generator or row_seeds"


def leaves_its_inputs_alone(subject: Subject) -> Iterator[str]:
    """Hooks do not modify their arguments (arrays, tensors, lists) in place, except for models."""
    for stage in subject.stages:
        for data in subject.datasets:
            for arguments, untouched in zip(arguments_of(stage, data), arguments_of(stage, data), strict=True):
                arguments.fold(subject.build())
                if not same(arguments.inputs(), untouched.inputs()):
                    yield f"{stage}: an argument was changed in place; work on a copy"


def leaves_global_random_numbers_alone(subject: Subject) -> Iterator[str]:
    """The states of the global generators of Python, numpy and torch are unchanged."""
    for stage in subject.stages:
        before = _global_random_states()
        for data in subject.datasets:
            trial(subject.build(), stage, data)
        for name, state in _global_random_states().items():
            if name in before and state != before[name]:
                yield f"{stage}: draws from or seeds {name}; use context.rng, context.generator or row_seeds"


def keeps_no_state_between_runs(subject: Subject) -> Iterator[str]:
    """An instance can be reused for any number of runs, and its parameters do not change."""
    strategy = subject.build()
    parameters = strategy.model_dump()
    for stage in subject.stages:
        for data in subject.datasets:
            first, _, again = (trial(strategy, stage, data, seed=seed) for seed in (0, 1, 0))
            if not same(first, again):
                yield f"{stage}: a second run gives a different result; keep no state on instance, class or module"
    if strategy.model_dump() != parameters:
        yield "the parameters of the instance changed during a run; do not modify them"


def emits_no_warnings(subject: Subject) -> Iterator[str]:
    """No stage emits a warning: raise an error, or handle the case."""
    with warnings.catch_warnings(record=True) as emitted:
        warnings.simplefilter("always")
        subject.trials()
    for warning in emitted:
        yield f"{warning.category.__name__}: {warning.message}; fix the cause"


def _global_random_states() -> dict[str, object]:
    """Return the states of the global generators as values that can be compared."""
    numpy_state: Any = np.random.get_state(legacy=False)
    key: NDArray[np.uint32] = numpy_state["state"]["key"]
    states: dict[str, object] = {
        "Python's global random": random.getstate(),
        "numpy's global random": (key.tobytes(), numpy_state["state"]["pos"]),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch's global generator"] = torch.get_rng_state().numpy().tobytes()
    return states
