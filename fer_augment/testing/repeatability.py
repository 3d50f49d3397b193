"""Checks that results are reproducible and that a strategy has no side effects."""

from __future__ import annotations

import contextlib
import random
import secrets
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import FerAugmentError, StrategyWarning
from fer_augment.hooks.loss_features import asks_for_features
from fer_augment.testing.fixtures import with_reversed_counts
from fer_augment.testing.stages import Arguments, arguments_of, same, some_features, some_logits, trial
from fer_augment.testing.subject import Subject


def same_seed_gives_the_same_bytes(subject: Subject) -> Iterator[str]:
    """Two runs with the same seed give bit-identical results."""
    once, again = subject.first_trials, subject.trials()
    for stage in subject.stages:
        if not same(once[stage], again[stage]):
            yield f"{stage}: two runs with the same seed differ; use context.rng, context.generator or row_seeds"


def leaves_its_inputs_alone(subject: Subject) -> Iterator[str]:
    """Hooks do not modify their arguments (arrays, tensors, lists) in place, except for models.

    Nor does a loss, an adjustment, or a function of `optimizer_step` that a hook returns.
    """
    for stage in subject.stages:
        for data in subject.datasets:
            for arguments, untouched in zip(arguments_of(stage, data), arguments_of(stage, data), strict=True):
                built = arguments.fold(subject.build())
                if not same(arguments.inputs(), untouched.inputs()):
                    yield f"{stage}: an argument was changed in place; work on a copy"
                if _changes_what_it_is_called_with(arguments, built):
                    yield f"{stage}: what it returns changes its arguments in place; work on copies"


def _changes_what_it_is_called_with(arguments: Arguments, built: Any) -> bool:
    """Whether a function that a hook returned changes logits, targets, weights or features."""
    import torch

    classes = len(arguments.data.class_names)
    logits = some_logits(arguments.rows, classes).requires_grad_() * 1  # as of a network, which is no leaf
    targets = torch.nn.functional.one_hot(torch.from_numpy(arguments.rows % classes), classes).float()
    given = {
        "build_loss": [logits, targets],
        "optimizer_step": [targets, torch.ones(len(targets))],
        "build_adjustment": [logits.detach()],
    }.get(arguments.stage, [])
    asks = arguments.stage == "build_loss" and asks_for_features(built)
    named = {"features": some_features(arguments.rows)} if asks else {}
    before = [tensor.clone() for tensor in (*given, *named.values())]
    if given:
        built(*given, **named)
    return not all(map(torch.equal, (*given, *named.values()), before))


def leaves_global_random_numbers_alone(subject: Subject) -> Iterator[str]:
    """The states of the global generators of Python, numpy and torch are unchanged.

    New layers may draw weights from torch's, which a run seeds at `prepare_model` and `refine_model`.
    """
    with unusual_global_states():
        for stage in subject.stages:
            for name in changed_generators(
                lambda: [trial(subject.build(), stage, data) for data in subject.datasets]  # noqa: B023 - called at once
            ):
                yield f"{stage}: draws from or seeds {name}; use context.rng, context.generator or row_seeds"
            if stage.endswith("_model") and any(_seeds_torch(subject, stage, data) for data in subject.datasets):
                yield f"{stage}: seeds torch's global generator; a run has done it, so that its seed decides"


def _seeds_torch(subject: Subject, stage: str, data: ImageDataset) -> bool:
    import torch

    seed = secrets.randbits(63)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for arguments in arguments_of(stage, data):
            arguments.fold_in(arguments.pipeline(subject.build()))
        return torch.initial_seed() != seed


def changed_generators(call: Callable[[], object]) -> list[str]:
    """Call a function; return the names of the global generators whose states it changed."""
    before = _global_random_states()
    call()
    return [name for name, state in _global_random_states().items() if name in before and state != before[name]]


@contextmanager
def unusual_global_states() -> Iterator[None]:
    """Seed the global generators by the operating system, so that a hook that seeds them changes their states."""
    of_python, of_numpy, torch = random.getstate(), np.random.get_state(), sys.modules.get("torch")
    of_torch = torch.get_rng_state() if torch else None
    random.seed(secrets.randbits(64))
    np.random.seed(secrets.randbits(32))
    if torch:
        torch.manual_seed(secrets.randbits(63))
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        if torch:
            torch.set_rng_state(of_torch)


def keeps_no_state_between_runs(subject: Subject) -> Iterator[str]:
    """An instance can be reused for any number of runs, and its parameters do not change."""
    strategy = subject.build()
    parameters = strategy.model_dump()
    for stage in subject.stages:
        for data in subject.datasets:
            with contextlib.suppress(FerAugmentError):  # other data may be refused
                trial(strategy, stage, with_reversed_counts(data), seed=1)
        for _ in range(2):
            again = [array for data in subject.datasets for array in trial(strategy, stage, data)]
            if not same(again, subject.first_trials[stage]):
                yield f"{stage}: a second run gives a different result; keep no state on instance, class or module"
    if strategy.model_dump() != parameters:
        yield "the parameters of the instance changed during a run; do not modify them"


def emits_no_warnings(subject: Subject) -> Iterator[str]:
    """No stage emits a warning, except a StrategyWarning for users: raise an error, or handle the case."""
    with warnings.catch_warnings(record=True) as emitted:
        warnings.simplefilter("always")
        subject.trials()
    for warning in emitted:
        if not issubclass(warning.category, StrategyWarning):
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
