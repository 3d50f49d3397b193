"""A strategy gives the same result every time, and leaves everything else as it was."""

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
    """Two runs with one seed give the same result to the last bit."""
    once, again = subject.trials(), subject.trials()
    for stage in subject.stages:
        if not same(once[stage], again[stage]):
            yield f"{stage}: two runs with one seed differ; use context.rng, context.generator or row_seeds"


def leaves_its_inputs_alone(subject: Subject) -> Iterator[str]:
    """Arrays, tensors and lists that a hook is given are the same afterwards; only a model may be changed."""
    for stage in subject.stages:
        for data in subject.datasets:
            for given, untouched in zip(arguments_of(stage, data), arguments_of(stage, data), strict=True):
                given.fold(subject.build())
                if not same(given.inputs(), untouched.inputs()):
                    yield f"{stage}: an argument was changed in place; work on a copy"


def leaves_global_random_numbers_alone(subject: Subject) -> Iterator[str]:
    """The global generators of Python, numpy and torch stand where they stood."""
    for stage in subject.stages:
        before = _global_random_states()
        for data in subject.datasets:
            trial(subject.build(), stage, data)
        for name, state in _global_random_states().items():
            if name in before and state != before[name]:
                yield f"{stage}: drew from or seeded {name}; use context.rng, context.generator or row_seeds"


def keeps_no_state_between_runs(subject: Subject) -> Iterator[str]:
    """One instance can be used for run after run; its parameters stay what they are."""
    strategy = subject.build()
    parameters = strategy.model_dump()
    for stage in subject.stages:
        for data in subject.datasets:
            first, _, again = (trial(strategy, stage, data, seed=seed) for seed in (0, 1, 0))
            if not same(first, again):
                yield f"{stage}: a second run gives another result; keep no state on instance, class or module"
    if strategy.model_dump() != parameters:
        yield "the instance's parameters changed during a run; leave them alone"


def emits_no_warnings(subject: Subject) -> Iterator[str]:
    """No stage warns: what matters is an error, what does not is handled."""
    with warnings.catch_warnings(record=True) as emitted:
        warnings.simplefilter("always")
        subject.trials()
    for warning in emitted:
        yield f"{warning.category.__name__}: {warning.message}; avoid its cause"


def _global_random_states() -> dict[str, object]:
    """Return what the global generators stand at, in a form that can be compared."""
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
