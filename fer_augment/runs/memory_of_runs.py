"""Memory of the runs of a comparison: refused where a run does not fit, and how many fit at a time."""

from __future__ import annotations

from collections.abc import Sequence

from fer_augment.errors import RecipeError
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training.machine import device_of
from fer_augment.training.memory import available_memory, training_memory
from fer_augment.training.store import TrainingStore
from fer_augment.training.trainings import Trainings


def memory_of_a_run(arms: Sequence[BoundRecipe], data: RecipeData, store: TrainingStore) -> int:
    """Estimate the peak memory of the largest run, and refuse it if this machine does not have as much.

    Runs on an accelerator are not estimated.

    Returns:
        Bytes; 0 if there are no runs, or all are on an accelerator.

    Raises:
        RecipeError: if a run does not fit into the memory that is available; the message says what to set.
    """
    if not arms:
        return 0
    available, largest = available_memory(), 0
    of_kind: dict[str, int] = {}
    for arm in arms:
        if device_of(arm.recipe.training) != "cpu":
            continue
        steps = [repr(step.strategy) for step in arm.steps if step.acts_at(["prepare_model", "optimizer_step"])]
        kind = f"{arm.recipe.model_dump_json(include={'model', 'training', 'data'})} {steps}"
        if kind not in of_kind:
            of_kind[kind] = training_memory(Trainings(data.splits_for(arm.recipe, data.first_fold), 0, store).of(arm))
        needed = of_kind[kind]
        if available is not None and needed > available:
            height, width, _ = data.as_read(arm.recipe).train.image_shape
            raise RecipeError(
                f"recipe {arm.recipe.name!r}: a run needs about {_gigabytes(needed)} of memory, but "
                f"{_gigabytes(available)} are available; set a smaller data.size (now [{height}, {width}]"
                f"{', try 96' if min(height, width) > 96 else ''}) or "
                f"training.batch_size (now {arm.recipe.training.batch_size})"
            )
        largest = max(largest, needed)
    return largest


def jobs_that_fit(needed: int) -> int | None:
    """Return how many runs of a size fit into the memory that is available; None if that is unknown."""
    available = available_memory()
    return None if available is None or not needed else max(1, available // needed)


def memory_notice(jobs: int, needed: int) -> str | None:
    """Return a sentence if more runs were asked for than fit into memory."""
    fitting = jobs_that_fit(needed)
    if fitting is None or jobs <= fitting:
        return None
    return (
        f"{jobs} runs at a time need about {_gigabytes(jobs * needed)} of memory, "
        f"{_gigabytes(available_memory() or 0)} are available: use --jobs {fitting}"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
