"""Tracking: what trackers and the display receive about runs, and what becomes of trackers that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import fer_augment as fa
from fer_augment import PluginError, hookimpl
from fer_augment.data.records import Evaluation, RunIdentity, RunRecord
from fer_augment.hooks.declarations import Tracker
from fer_augment.hooks.observers import Observers
from fer_augment.progress import Advance, Evaluated, Event
from fer_augment.recipe.recipe import Recipe
from fer_augment.runs.executors import FailedTask
from fer_augment.runs.experiment import PlannedRun, Task
from fer_augment.runs.tracking import Tracking
from tests.comparison_place import write_place

IDENTITY = RunIdentity(recipe="r", seed=0, key="k")
RUN = PlannedRun(Recipe(name="r", model="m"), 0)


@dataclass
class Log:
    """A tracker that is not hashable, such as a mutable data class."""

    events: list[Any] = field(default_factory=list)

    @hookimpl
    def comparison_started(self, recipes: Sequence[str]) -> None:
        self.events.append(("comparison_started", *recipes))

    @hookimpl
    def run_started(self, run: RunIdentity) -> None:
        self.events.append(("run_started", run.recipe, run.seed))

    @hookimpl
    def epoch_finished(self, evaluation: Evaluation) -> None:
        self.events.append(evaluation.epoch)

    @hookimpl
    def run_finished(self, record: RunRecord) -> None:
        self.events.append(("run_finished", record.identity.seed, len(record.curve)))

    @hookimpl
    def run_failed(self, run: RunIdentity, message: str) -> None:
        self.events.append(("run_failed", run.seed, message))

    @hookimpl
    def comparison_failed(self, message: str) -> None:
        self.events.append(("comparison_failed", message))


class Screen:
    """A display that keeps what it should show."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.warnings: list[str] = []

    def started(self, task: Task) -> None: ...

    def progressed(self, task: Task, event: Event) -> None:
        self.events.append(event)

    def ended(self, task: Task, outcome: object) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def point(epoch: int) -> Evaluated:
    losses = dict.fromkeys(("training_loss", "selection_loss", "validation_loss", "validation_accuracy"), 0.5)
    return Evaluated(Evaluation(epoch=epoch, step=epoch, validation_recall=(0.5, None), **losses))


def tracking(observer: object) -> tuple[Tracking, Screen]:
    screen = Screen()
    return Tracking(Observers({"log": observer}), screen, lambda run: (IDENTITY, ("a", "b"))), screen


class TestTracking:
    def test_points_that_a_repeated_run_sends_again_are_dropped(self) -> None:
        log = Log()
        listener, screen = tracking(log)
        listener.started(RUN)
        for epoch in (1, 2, 1, 2, 3):
            listener.progressed(RUN, point(epoch))
        listener.progressed(RUN, Advance("training", 1, 2))
        assert log.events == [("run_started", "r", 0), 1, 2, 3]
        assert screen.events == [point(1), point(2), point(3), Advance("training", 1, 2)]

    def test_failed_and_interrupted_runs_are_reported_with_the_reason(self) -> None:
        log = Log()
        listener, _ = tracking(log)
        with pytest.raises(KeyboardInterrupt), listener:
            listener.started(RUN)
            listener.ended(RUN, FailedTask("no memory"))
            listener.started(RUN)
            raise KeyboardInterrupt
        assert log.events[1::2] == [
            ("run_failed", 0, "no memory"),
            ("run_failed", 0, "interrupted (KeyboardInterrupt)"),
        ]

    def test_a_damaged_record_is_reported(self, tmp_path: Path) -> None:
        log = Log()
        listener, _ = tracking(log)
        listener.started(RUN)
        listener.ended(RUN, tmp_path)
        assert log.events[1][0] == "run_failed" and "record.json" in log.events[1][2]

    def test_without_trackers_no_run_is_identified(self) -> None:
        listener = Tracking(Observers(), Screen(), lambda run: pytest.fail("identified"))
        listener.started(RUN)
        listener.progressed(RUN, point(1))
        listener.ended(RUN, FailedTask("no memory"))


class TestObservers:
    def test_a_tracker_that_fails_is_named_once_and_others_go_on(self) -> None:
        class Fails:
            @hookimpl
            def run_started(self, run: RunIdentity) -> None:
                raise ConnectionError("server\naway")

            @hookimpl
            def run_failed(self) -> None:
                log.events.append("called after a failure")

        log, screen = Log(), Screen()
        observers = Observers({"server": Fails(), "log": log})
        listener = Tracking(observers, screen, lambda run: (IDENTITY, ("a", "b")))
        for _ in range(2):
            listener.started(RUN)
            listener.ended(RUN, FailedTask("m"))
        failure = (
            "tracker 'server' failed at run_started and was disabled; results are not affected: "
            "ConnectionError: server away"
        )
        assert observers.failures == screen.warnings == [failure]
        assert log.events == [("run_started", "r", 0), ("run_failed", 0, "m")] * 2

    def test_a_tracker_that_cannot_be_created_is_left_out(self, tmp_path: Path) -> None:
        def make(out: Path) -> object:
            raise OSError(f"{out.name} is full")

        observers = Observers.of([Tracker("disk", "", make), Tracker("log", "", lambda out: Log())], tmp_path)
        (failure,) = observers.failures
        assert failure.startswith("tracker 'disk' failed at creation") and failure.endswith(f"{tmp_path.name} is full")
        assert observers.notify("run_started", run=IDENTITY) == []

    def test_a_failure_without_a_message_is_named_by_its_class(self, tmp_path: Path) -> None:
        def make(out: Path) -> object:
            raise TimeoutError

        (failure,) = Observers.of([Tracker("disk", "", make)], tmp_path).failures
        assert failure.endswith("results are not affected: TimeoutError")

    def test_a_tracker_may_refuse(self, tmp_path: Path) -> None:
        def make(out: Path) -> object:
            raise PluginError("needs the package x")

        with pytest.raises(PluginError, match="needs the package x"):
            Observers.of([Tracker("x", "", make)], tmp_path)

    def test_unknown_hook_is_refused(self) -> None:
        class Misspelled:
            @hookimpl
            def run_startet(self, run: RunIdentity) -> None: ...

        message = r"^tracker 'm' cannot have a hook 'run_startet'; did you mean 'run_started'\?$"
        with pytest.raises(PluginError, match=message):
            Observers({"m": Misspelled()})

    def test_unknown_argument_is_refused(self) -> None:
        class Misspelled:
            @hookimpl
            def run_started(self, runs: RunIdentity) -> None: ...

        with pytest.raises(PluginError, match=r"^tracker 'm': .*'runs'.* can not be found in the hookspec$"):
            Observers({"m": Misspelled()})

    def test_stage_hook_is_refused(self) -> None:
        class Adjusts:
            @hookimpl
            def build_adjustment(self, adjust: Any) -> Any:
                return adjust

        with pytest.raises(
            PluginError, match="^tracker 'a' cannot have a hook 'build_adjustment'; known: comparison_f"
        ):
            Observers({"a": Adjusts()})

    def test_unmarked_hook_and_no_hook_are_refused(self) -> None:
        class Unmarked:
            @hookimpl
            def run_started(self) -> None: ...

            def run_finished(self) -> None: ...

        with pytest.raises(PluginError, match="tracker 'u': run_finished is a hook; mark the method with @hookimpl"):
            Observers({"u": Unmarked()})
        with pytest.raises(PluginError, match="tracker 'n' has no hook; mark at least one of comparison_started, "):
            Observers({"n": object()})


class TestComparison:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_place(tmp_path)
        monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)

    def test_a_failing_tracker_changes_no_result_and_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        class Fails:
            @hookimpl
            def epoch_finished(self) -> None:
                raise ValueError("broken")

        plain = fa.compare("small.yaml", "faces", seeds=1, out="plain", progress=False)
        prepared = fa.prepare("small.yaml", "faces", seeds=1, out="tracked")
        tracked = replace(prepared, observers=Observers({"broken": Fails()})).run()
        assert capsys.readouterr().err.count("tracker 'broken' failed") == 1
        (warning,) = set(tracked.warnings) - set(plain.warnings)
        assert warning.startswith("tracker 'broken' failed at epoch_finished")
        exclude = {"warnings", "data"}
        assert tracked.model_dump(exclude=exclude)["versus"] == plain.model_dump(exclude=exclude)["versus"]
        records = [comparison.runs["small"][0].record for comparison in (plain, tracked)]
        assert records[0].model_copy(update={"training_seconds": None}) == records[1]

    def test_a_tracker_that_only_fails_at_the_end_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        class Fails:
            @hookimpl
            def comparison_finished(self) -> None:
                raise ValueError("broken")

        replace(fa.prepare("small.yaml", "faces", seeds=1), observers=Observers({"late": Fails()})).run()
        assert capsys.readouterr().err.count("tracker 'late' failed at comparison_finished") == 1

    def test_trackers_of_recipes_and_of_the_call_are_each_made_once(self) -> None:
        Path("tracked.yaml").write_text("extends: ./small.yaml\ntrackers: [csv, jsonl]\n")
        prepared = fa.prepare(["small.yaml", "tracked.yaml"], "faces", track=["jsonl"], progress=False)
        assert sorted(prepared.observers.names) == ["csv", "jsonl"]

    def test_an_unknown_tracker_is_refused(self) -> None:
        with pytest.raises(PluginError, match=r"^track: there is no tracker 'mlfow'; did you mean 'mlflow'\?"):
            fa.prepare("small.yaml", "faces", track="mlfow", progress=False)
