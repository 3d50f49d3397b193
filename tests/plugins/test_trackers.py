"""The shipped trackers, on a real comparison in two processes, against the real packages with local stores."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fer_augment as fa
from fer_augment.hooks.observers import Observers
from tests.comparison_place import write_place

TRACKERS = ("csv", "jsonl")
WITHOUT = "{0} is not installed: pip install 'fer_augment[{0}]'"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with tiny faces and recipes, and a database for MLflow."""
    folder = write_place(tmp_path_factory.mktemp("place"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(folder / "cache"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def comparison(place: Path) -> fa.Comparison:
    """Two arms with two seeds; one run of the second arm fails."""
    arms = ["small.yaml", "breaks.yaml"]
    return fa.compare(arms, "faces", seeds=2, jobs=2, out="followed", track=TRACKERS, progress=False)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as content:
        return list(csv.DictReader(content))


def events_in(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def follow_twins(tracker: str, out: Path, run: fa.Run, *, at_once: bool) -> None:
    """Pass on the runs of two recipes that differ in name only, so that both have the same key."""
    from fer_augment.hooks.plugin_manager import installed_plugins

    observers = Observers.of([installed_plugins().tracker(tracker).value], out)
    names, record = ("one", "twin"), run.record
    observers.notify("comparison_started", recipes=names, seeds=[0], source="faces")
    twins = [{"run": record.identity.model_copy(update={"recipe": name})} for name in names]
    started = {"recipe": record.recipe, "class_names": record.class_names}
    finished = {"record": record, "scores": {"test_accuracy": 0.5}, "directory": run.path}
    events: list[tuple[str, dict[str, Any]]] = [("run_started", started), ("run_finished", finished)]
    order = [(event, twin) for twin in twins for event in events]
    if at_once:
        order = [(event, twin) for event in events for twin in twins]
    for (event, arguments), twin in order:
        observers.notify(event, **twin, **arguments)
    assert observers.failures == []


both_orders = pytest.mark.parametrize("at_once", [False, True], ids=["one after the other", "at the same time"])


class TestTables:
    def test_curves_are_those_of_the_records(self, comparison: fa.Comparison) -> None:
        rows = rows_of(comparison.directory / "curves.csv")
        for run in [*comparison.runs["small"], *comparison.runs["breaks"]]:
            identity = run.record.identity
            own = [row for row in rows if row["key"] == identity.key]
            assert [int(row["epoch"]) for row in own] == [point.epoch for point in run.record.curve]
            assert [float(row["validation_loss"]) for row in own] == [
                point.validation_loss for point in run.record.curve
            ]
            assert [[float(row[f"validation_recall/{name}"]) for name in run.record.class_names] for row in own] == [
                list(point.validation_recall) for point in run.record.curve
            ]
            assert {(row["recipe"], row["seed"]) for row in own} == {(identity.recipe, str(identity.seed))}

    def test_scores_are_those_of_the_comparison(self, comparison: fa.Comparison) -> None:
        rows = rows_of(comparison.directory / "scores.csv")
        assert sorted((row["recipe"], row["seed"]) for row in rows) == [("breaks", "0"), ("small", "0"), ("small", "1")]
        accuracy = [float(row["test_accuracy"]) for row in rows if row["recipe"] == "small"]
        assert sum(accuracy) / 2 == pytest.approx(comparison.arm("small").test.accuracy.mean)
        assert all((Path(row["directory"]) / "record.json").is_file() for row in rows)

    def test_a_resumed_comparison_writes_the_same_rows_again(self, comparison: fa.Comparison, place: Path) -> None:
        files = [comparison.directory / name for name in ("curves.csv", "scores.csv")]
        before = [sorted(file.read_text().splitlines()) for file in files]
        fa.compare(
            ["small.yaml", "breaks.yaml"], "faces", seeds=2, jobs=1, out="followed", track=TRACKERS, progress=False
        )
        assert [sorted(file.read_text().splitlines()) for file in files] == before


class TestEventLog:
    def test_has_every_event_once(self, comparison: fa.Comparison) -> None:
        events = events_in(comparison.directory)
        assert events[0]["event"] == "comparison_started" and events[-1]["event"] == "comparison_finished"
        assert events[0]["recipes"] == ["small", "breaks"] and events[0]["seeds"] == [0, 1]
        of_runs = [(one["event"], one["recipe"], one["seed"], one.get("epoch")) for one in events[1:-1]]
        for recipe, seed in (("small", 0), ("small", 1), ("breaks", 0)):
            assert [(event, epoch) for event, *run, epoch in of_runs if run == [recipe, seed]] == [
                ("run_started", None), ("epoch_finished", 1), ("epoch_finished", 2), ("run_finished", None),
            ]  # fmt: skip
        assert [event for event, *run, _ in of_runs if run == ["breaks", 1]] == ["run_started", "run_failed"]
        (failed,) = (one for one in events if one["event"] == "run_failed")
        assert failed["message"] == comparison.failures[0].message
        assert events[-1]["balanced_accuracy"] == {"breaks": str(comparison.versus[0].balanced_accuracy.verdict)}

    def test_a_single_run_and_a_cached_one_are_followed(self, place: Path) -> None:
        for _ in range(2):
            fa.run("small.yaml", "faces", out="single", track="jsonl", progress=False)
            assert [event["event"] for event in events_in(Path("single"))] == [
                "run_started", "epoch_finished", "epoch_finished", "run_finished",
            ]  # fmt: skip

    def test_a_comparison_without_results_is_reported(self, place: Path) -> None:
        with pytest.raises(fa.RunError):
            fa.compare("breaks.yaml", "faces", seeds=[1], jobs=1, out="none", track="jsonl", progress=False)
        events = events_in(Path("none"))
        assert [event["event"] for event in events] == [
            "comparison_started", "run_started", "run_failed", "comparison_failed",
        ]  # fmt: skip
        assert "not [today]" in events[-1]["message"]


class TestTensorBoard:
    @pytest.fixture(scope="class")
    @classmethod
    def directory(cls, comparison: fa.Comparison) -> Path:
        pytest.importorskip("tensorboard", reason=WITHOUT.format("tensorboard"))
        for _ in range(2):  # the second time everything is cached, and replaces what the first one wrote
            fa.compare(
                ["small.yaml", "breaks.yaml"], "faces", seeds=2, jobs=1, out="followed", track="tensorboard",
                progress=False,
            )  # fmt: skip
        return comparison.directory / "tensorboard"

    @staticmethod
    def content(folder: Path) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        accumulator = EventAccumulator(str(folder))
        accumulator.Reload()
        return accumulator

    def test_has_the_curves_and_scores_of_each_run(self, directory: Path, comparison: fa.Comparison) -> None:
        for run in comparison.runs["small"]:
            content = self.content(directory / "small" / f"seed-{run.record.identity.seed}")
            points = content.Scalars(f"validation_recall/{run.record.class_names[1]}")
            assert [point.step for point in points] == [1, 2]
            assert [point.value for point in points] == pytest.approx(
                [point.validation_recall[1] for point in run.record.curve]
            )
            assert len(content.Scalars("test_balanced_accuracy")) == 1
            assert "recipe/text_summary" in content.Tags()["tensors"]

    def test_has_the_result_and_failures_as_text(self, directory: Path) -> None:
        (text,) = self.content(directory / "comparison").Tensors("comparison/text_summary")
        assert "balanced accuracy" in text.tensor_proto.string_val[0].decode()
        (reason,) = self.content(directory / "breaks" / "seed-1").Tensors("failed/text_summary")
        assert "not [today]" in reason.tensor_proto.string_val[0].decode()

    @both_orders
    def test_recipes_with_one_key_have_runs_of_their_own(
        self, at_once: bool, comparison: fa.Comparison, tmp_path: Path
    ) -> None:
        pytest.importorskip("tensorboard", reason=WITHOUT.format("tensorboard"))
        follow_twins("tensorboard", tmp_path, comparison.runs["small"][0], at_once=at_once)
        for name in ("one", "twin"):
            assert len(self.content(tmp_path / "tensorboard" / name / "seed-0").Scalars("test_accuracy")) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # SQLAlchemy leaves closing to the end of the process
class TestMLflow:
    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, comparison: fa.Comparison) -> Any:
        mlflow = pytest.importorskip("mlflow", reason=WITHOUT.format("mlflow"))
        for _ in range(2):  # the second time finds what the first one logged
            fa.compare(
                ["small.yaml", "breaks.yaml"], "faces", seeds=2, jobs=1, out="followed", track="mlflow", progress=False
            )
        return mlflow.MlflowClient()

    @staticmethod
    def runs(client: Any) -> list[Any]:
        experiment = client.get_experiment_by_name("fer_augment")
        return list(client.search_runs([experiment.experiment_id]))

    @pytest.fixture(scope="class")
    @classmethod
    def parent(cls, client: Any) -> Any:
        (parent,) = (run for run in cls.runs(client) if "mlflow.parentRunId" not in run.data.tags)
        return parent

    def test_runs_are_children_of_the_comparison(self, client: Any, parent: Any) -> None:
        children = [run for run in self.runs(client) if run.info.run_id != parent.info.run_id]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        names = sorted((run.info.run_name, run.info.status) for run in children)
        assert names == [
            ("breaks, seed 0", "FINISHED"),
            ("breaks, seed 1", "FAILED"),
            ("breaks, seed 1", "FAILED"),  # a failed run is done again by the second comparison
            ("small, seed 0", "FINISHED"),
            ("small, seed 1", "FINISHED"),
        ]

    def test_a_run_has_parameters_curve_scores_and_files(self, client: Any, comparison: fa.Comparison) -> None:
        run = comparison.runs["small"][1]
        (logged,) = (one for one in self.runs(client) if one.info.run_name == "small, seed 1")
        assert logged.data.params["training.epochs"] == "2"
        assert logged.data.params["model"] == "convnet4"
        history = client.get_metric_history(logged.info.run_id, "validation_loss")
        assert [(point.step, point.value) for point in history] == [
            (point.epoch, pytest.approx(point.validation_loss)) for point in run.record.curve
        ]
        assert {"test_balanced_accuracy", "test_recall/bird", "test_recall/cat_x_", "test_recall/_dog_"} <= {
            *logged.data.metrics
        }
        assert {file.path for file in client.list_artifacts(logged.info.run_id)} == {"recipe.yaml", "record.json"}

    def test_the_comparison_has_verdicts_and_report(self, client: Any, parent: Any, comparison: fa.Comparison) -> None:
        assert parent.info.status == "FINISHED"
        assert parent.data.tags["verdict.breaks"] == str(comparison.versus[0].balanced_accuracy.verdict)
        assert "balanced accuracy" in parent.data.tags["mlflow.note.content"]
        assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"comparison.json", "report.html"}

    @both_orders
    def test_recipes_with_one_key_have_runs_of_their_own(
        self, at_once: bool, client: Any, comparison: fa.Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"twins {at_once}")
        for _ in range(2):  # the second time finds what the first one logged
            follow_twins("mlflow", tmp_path, comparison.runs["small"][0], at_once=at_once)
        experiment = client.get_experiment_by_name(f"twins {at_once}")
        runs = [run for run in client.search_runs([experiment.experiment_id]) if "recipe" in run.data.params]
        logged = [(run.data.params["recipe"], run.info.status, run.data.metrics["test_accuracy"]) for run in runs]
        assert sorted(logged) == [("one", "FINISHED", 0.5), ("twin", "FINISHED", 0.5)]


class TestMissingPackage:
    @pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
    def test_is_refused_before_any_training(self, name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
        with pytest.raises(fa.PluginError, match=f"tracker '{name}' needs the package .*pip install"):
            fa.prepare("small.yaml", "faces", track=name, progress=False)


def test_every_shipped_tracker_has_known_hooks_only(tmp_path: Path) -> None:
    from fer_augment.hooks.plugin_manager import installed_plugins

    trackers = [offer.value for offer in installed_plugins().of_kind("tracker")]
    assert [tracker.name for tracker in trackers] == ["csv", "jsonl", "mlflow", "tensorboard"]
    usable = [tracker for tracker in trackers if tracker.name in TRACKERS]
    assert not Observers.of(usable, tmp_path).failures
