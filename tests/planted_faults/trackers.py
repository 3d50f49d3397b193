"""Trackers with one fault each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_augment import PluginError, Tracker, hookimpl


class Base:
    def __init__(self, out: Path) -> None:
        self.out = out


class MisspellsAHook(Base):
    @hookimpl
    def epoch_ended(self, evaluation: Any) -> None: ...


class MisspellsAnArgument(Base):
    @hookimpl
    def epoch_finished(self, evaluations: Any) -> None: ...


class HasNoHook(Base):
    pass


class NeedsAPackage(Base):
    def __init__(self, out: Path) -> None:
        raise PluginError("needs the package nowhere: pip install nowhere")

    @hookimpl
    def epoch_finished(self) -> None: ...


class WritesAtOnce(Base):
    def __init__(self, out: Path) -> None:
        (out / "log.txt").write_text("")

    @hookimpl
    def epoch_finished(self) -> None: ...


class WritesBeside(Base):
    def __init__(self, out: Path) -> None:
        (out.parent / "log.txt").write_text("")

    @hookimpl
    def epoch_finished(self) -> None: ...


class NeedsEveryRecall(Base):
    """Fails where the recall of a class is not known."""

    @hookimpl
    def epoch_finished(self, evaluation: Any) -> None:
        sum(evaluation.validation_recall)


class NeedsAComparison(Base):
    """Fails in a single run, where no comparison starts."""

    @hookimpl
    def comparison_started(self) -> None:
        self.file = self.out / "log.txt"

    @hookimpl
    def run_finished(self, scores: Any) -> None:
        self.file.write_text(str(scores))


class NeedsANewFile(Base):
    """Fails where its file exists, as in a comparison that is resumed."""

    @hookimpl
    def run_started(self, run: Any) -> None:
        (self.out / f"{run.key}.txt").touch(exist_ok=False)


class NeedsAFinishedRun(Base):
    """Fails where all runs fail."""

    best = None

    @hookimpl
    def run_finished(self, scores: Any) -> None:
        self.best = scores["test_accuracy"]

    @hookimpl
    def comparison_finished(self) -> None:
        self._write()

    @hookimpl
    def comparison_failed(self) -> None:
        self._write()

    def _write(self) -> None:
        (self.out / "best.txt").write_text(f"{self.best:.3f}")


class ChangesScores(Base):
    """Makes percentages of the scores that all trackers receive."""

    @hookimpl
    def run_finished(self, scores: Any) -> None:
        for name in scores:
            scores[name] *= 100


class AddsAScore(Base):
    """Adds the same score each time."""

    @hookimpl
    def run_finished(self, scores: Any) -> None:
        scores["error"] = 1 - scores["test_accuracy"]


class Sound(Base):
    @hookimpl
    def epoch_finished(self) -> None: ...


FAULTS: list[tuple[Tracker, str, str]] = [
    (Tracker("silent", "", Sound), "is_declared_as_a_tracker", "add a summary"),
    *(
        (Tracker("faulty", "a fault", make), check, advice)
        for make, check, advice in (
            (MisspellsAHook, "makes_an_observer_with_hooks", "'epoch_ended'; did you mean 'epoch_finished'?"),
            (MisspellsAnArgument, "makes_an_observer_with_hooks", "evaluations"),
            (HasNoHook, "makes_an_observer_with_hooks", "has no hook"),
            (NeedsAPackage, "makes_an_observer_with_hooks", "pip install nowhere"),
            (WritesAtOnce, "writes_nothing_before_the_first_event", "writes log.txt when it is made"),
            (WritesBeside, "writes_nothing_before_the_first_event", "log.txt when it is made"),
            (NeedsEveryRecall, "receives_the_events_of_a_comparison", "failed at epoch_finished"),
            (NeedsAComparison, "receives_the_events_of_a_single_run", "failed at run_finished"),
            (NeedsANewFile, "receives_a_comparison_again", "after an interruption"),
            (NeedsAFinishedRun, "receives_a_comparison_without_a_result", "failed at comparison_failed"),
            (AddsAScore, "leaves_records_alone", "run_finished: an argument was modified"),
            (ChangesScores, "leaves_records_alone", "run_finished: an argument was modified"),
        )
    ),
]
"""A tracker with one fault, the check that must report it, and a part of the advice."""
