"""Specifications of the observer hooks, which trackers implement.

Observers learn what happens to a comparison and its runs, and return nothing. They are called in the process that
called `compare` or `run`, wherever runs are done, so a tracker needs no locks, and its packages are needed there only.
A tracker declares only the arguments it needs, by name. The pages in `docs/hooks` have an example for each hook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fer_augment.data.records import Evaluation, RunIdentity, RunRecord
from fer_augment.hooks.specs import hookspec

if TYPE_CHECKING:
    from fer_augment.finished import Comparison


class ObserverSpecs(Protocol):
    """Observer hooks of trackers, in the order of a comparison."""

    @hookspec
    def comparison_started(self, recipes: Sequence[str], seeds: Sequence[int], source: str) -> None:
        """Called once per comparison, before its first run.

        Args:
            recipes: names of the recipes, the baseline first.
            seeds: the seeds.
            source: the data source.
        """

    @hookspec
    def run_started(self, run: RunIdentity, recipe: Mapping[str, Any], class_names: Sequence[str]) -> None:
        """Called when a run begins, also for a run that turns out to be cached.

        Args:
            run: recipe, seed and key of the run.
            recipe: the resolved recipe, as in its record.
            class_names: the K class names.
        """

    @hookspec
    def epoch_finished(self, run: RunIdentity, evaluation: Evaluation, class_names: Sequence[str]) -> None:
        """Called for each point of the curve of a run, also of a training that is reused.

        Args:
            run: recipe, seed and key of the run.
            evaluation: the latest point of the curve.
            class_names: the K class names.
        """

    @hookspec
    def run_finished(self, run: RunIdentity, record: RunRecord, scores: Mapping[str, float], directory: Path) -> None:
        """Called when a run has been trained, scored and written.

        Args:
            run: recipe, seed and key of the run.
            record: its record, with the complete curve.
            scores: scores on the test split by name, such as `test_accuracy` and `test_recall/CLASS`, as fractions
                of 1.
            directory: the directory of the run.
        """

    @hookspec
    def run_failed(self, run: RunIdentity, message: str) -> None:
        """Called when a run has failed or was interrupted.

        Args:
            run: recipe, seed and key of the run.
            message: the reason, in one line.
        """

    @hookspec
    def comparison_finished(self, comparison: Comparison) -> None:
        """Called once per comparison, after `comparison.json` and `report.html` have been written.

        Args:
            comparison: the result, with the verdicts.
        """

    @hookspec
    def comparison_failed(self, message: str) -> None:
        """Called when a comparison has no result: all runs failed, or it was interrupted.

        Args:
            message: the reason, in one line.
        """


OBSERVERS = tuple(name for name in vars(ObserverSpecs) if not name.startswith("_"))
"""Names of the observer hooks."""
