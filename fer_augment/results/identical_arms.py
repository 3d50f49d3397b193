"""Arms whose trainings are those of the baseline, although their steps or settings differ."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence

from fer_augment.data.records import WEIGHTS_FILE, FoldIdentity, RunDirectory


def identical_arms(runs: Mapping[str, Sequence[RunDirectory]], baseline: str) -> Iterator[str]:
    """Yield a warning for each arm whose weights equal the baseline's in every run, under other training keys.

    Args:
        runs: finished runs of each arm.
        baseline: name of the baseline.
    """
    of_baseline = {_place(run): run for run in runs.get(baseline, ())}
    for recipe, of_arm in runs.items():
        pairs = [(run, of_baseline[place]) for run in of_arm if (place := _place(run)) in of_baseline]
        differ = any(run.record.training_key != other.record.training_key for run, other in pairs)
        if differ and all(_same_weights(*pair) for pair in pairs):
            yield (
                f"{recipe}: training is identical to that of {baseline}, with equal weights in every run: its steps "
                "change nothing on these data. Check their parameters."
            )


def _place(run: RunDirectory) -> tuple[int, FoldIdentity | None]:
    identity = run.record.identity
    return identity.seed, identity.fold


def _same_weights(run: RunDirectory, other: RunDirectory) -> bool:
    own, of_other = run.path / WEIGHTS_FILE, other.path / WEIGHTS_FILE
    return own.is_file() and of_other.is_file() and filecmp.cmp(own, of_other, shallow=False)
