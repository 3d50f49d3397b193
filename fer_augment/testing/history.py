"""Checks of strategies that use the last outputs of the network for every training row."""

from __future__ import annotations

from collections.abc import Iterator

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.history import History
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Effect
from fer_augment.testing.stages import arguments_of, same, tiny_history
from fer_augment.testing.subject import Subject


def copes_with_any_history(subject: Subject) -> Iterator[str]:
    """A strategy that declares `Effect.USES_HISTORY` works with no, some and all rows drawn, and uses what it is given.

    Without rows drawn, as in the first epoch and after a change of the training set, all logits are NaN. Rows that were
    drawn were drawn in the epoch before.
    """
    if Effect.USES_HISTORY not in subject.build().effects:
        return
    differs = False
    for stage in (stage for stage in subject.stages if STAGES[stage].is_per_epoch):
        for data in subject.datasets:
            for arguments in arguments_of(stage, data):
                results, epoch = [], arguments.epoch or 0
                for case, history in (
                    ("no row was drawn", History(len(data), len(data.class_names))),
                    ("some rows were drawn", tiny_history(data, epoch)),
                    ("all rows were drawn", tiny_history(data, epoch, left_out=0)),
                    ("all rows are wrong", tiny_history(data, epoch, left_out=0, all_wrong=True)),
                ):
                    try:
                        results.append(arguments.outcome(subject.build(), history=history))
                    except FerAugmentError as error:
                        yield f"{stage}: fails if {case}: {error}"
                differs = differs or not all(same(results[0], other) for other in results[1:])
    if not differs:
        yield "the history changes no result; remove Effect.USES_HISTORY, or use context.history"
