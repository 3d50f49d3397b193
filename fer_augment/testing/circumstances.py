"""Checks that results do not depend on processor cores, on the number of calls, or on the process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.stages import STAGES
from fer_augment.testing.stages import Arguments, Arrays, arguments_of, same, some_rows
from fer_augment.testing.subject import Subject

_CORES = 3
_BUILDS_A_FUNCTION = ("prepare_model", "build_loss", "refine_model", "build_adjustment")


def ignores_the_number_of_cores(subject: Subject) -> Iterator[str]:
    """The result does not depend on `context.cores`, the number of processor cores that may be used."""
    several = subject.trials(cores=_CORES)
    for stage in subject.stages:
        if not close(several[stage], subject.first_trials[stage]):
            yield f"{stage}: the result depends on context.cores; use it for speed only"


def gives_the_same_result_at_every_call(subject: Subject) -> Iterator[str]:
    """A batch of rows or views is the same whatever was called before in the run, and so is a loss or an adjustment.

    `augment_batch` may draw on from batch to batch. `sampling_weights` and `build_loss` receive the epoch.
    """
    for stage in subject.stages:
        for data in subject.datasets:
            for arguments in arguments_of(stage, data) if stage in _BUILDS_A_FUNCTION else ():
                if _depends_on_earlier_calls(subject, arguments):
                    yield f"{stage}: what it returns gives another result at its second call; keep no state in it"
            if stage in _ADVICE and _depends_on_earlier_batches(subject, stage, data):
                yield f"{stage}: the result for a row depends on the batches before it in the run; {_ADVICE[stage]}"


_ADVICE = {
    "augment_rows": "seed each row by context.row_seeds(training_set.row_keys(rows), draws)",
    "predict_views": "draw no random numbers here, or the same ones for each batch",
}


def gives_the_same_result_in_any_process(subject: Subject) -> Iterator[str]:
    """The result does not depend on earlier runs in the process, nor on PYTHONHASHSEED.

    The strategy is run in another process, with other seeds first, unless its class cannot be found there, as one that
    is defined in a function or a notebook.
    """
    if subject.asked_elsewhere is None:
        return
    request, *_ = subject.asked_elsewhere
    try:
        here = replace(request, seeds=request.seeds[::-1]).answered()
    except Exception:  # noqa: BLE001 - the data has more classes; accepts_any_number_of_classes_and_size reports this
        return
    try:
        there = subject.answer_from_elsewhere
    except EOFError:
        yield "another process that runs the strategy ends; a strategy must not exit or crash"
        return
    if isinstance(there, str):
        yield f"in another process: {there}"
    if not isinstance(there, dict):
        return
    for stage in subject.stages:
        if any(not close(here[key], there[key]) for key in here if key[0] == stage):
            yield (
                f"{stage}: another process gives another result; sort sets, use no hash() of strings, and cache "
                "nothing in a module between runs"
            )


def _depends_on_earlier_batches(subject: Subject, stage: str, data: ImageDataset) -> bool:
    """Whether a batch has another result after a batch of the same rows in reverse order.

    In both, the rows count as drawn for the first time, so only what the strategy itself keeps makes a difference.
    """
    rows = some_rows(data)
    for earlier, batch in zip(arguments_of(stage, data, rows[::-1].copy()), arguments_of(stage, data), strict=True):
        if STAGES[stage].counts_draws:
            for arguments in (earlier, batch):
                arguments.others["draws"] = np.zeros(len(rows), dtype=np.int64)
        pipeline = batch.pipeline(subject.build())
        earlier.fold_in(pipeline)
        if not close(batch.arrays_of(batch.fold_in(pipeline)), batch.outcome(subject.build())):
            return True
    return False


def _depends_on_earlier_calls(subject: Subject, arguments: Arguments) -> bool:
    strategy = subject.build()
    built, softness = arguments.fold(strategy), arguments.softness(strategy)
    first, second = (arguments.arrays_of(built, softness) for _ in range(2))
    return not same(first, second)


def close(some: Arrays, others: Arrays) -> bool:
    """Whether two results are equal up to rounding."""
    return len(some) == len(others) and all(
        one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
        for one, other in zip(some, others, strict=True)
    )
