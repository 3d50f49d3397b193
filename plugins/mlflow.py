"""The tracker `mlflow`: a comparison as an MLflow run, with its runs as nested runs."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_augment import Evaluation, PluginError, RunIdentity, RunRecord, Tracker, hookimpl

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from fer_augment import Comparison

EXPERIMENT = "fer_augment"
"""The experiment, unless MLFLOW_EXPERIMENT_NAME names one."""
KEY, RECIPE = "fer_augment.key", "fer_augment.recipe"
COMPARISON, REASON = "fer_augment.comparison", "fer_augment.reason"
"""Tags: key and recipe of a run, a digest of the directory of a comparison, the reason of a failure."""
_PARENT, _NAME, _DESCRIPTION = "mlflow.parentRunId", "mlflow.runName", "mlflow.note.content"
_AT_ONCE = 100
_LONGEST_VALUE = 500


class MLflow:
    """Logs to the tracking server at MLFLOW_TRACKING_URI, else to a database in the working directory.

    A run that was logged completely, with the same recipe and key and in the same comparison, is not logged again.
    """

    def __init__(self, out: Path) -> None:
        """Log nothing yet.

        Raises:
            PluginError: if MLflow is not installed.
        """
        if importlib.util.find_spec("mlflow") is None:
            raise PluginError("tracker 'mlflow' needs the package mlflow-skinny: pip install 'fer_augment[mlflow]'")
        self.directory = out.resolve()
        self.parent: str | None = None
        self.runs: dict[RunIdentity, str] = {}
        self._client: MlflowClient | None = None
        self._experiment = ""

    @property
    def client(self) -> MlflowClient:
        """The client; connects at the first event."""
        if self._client is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it reports how it makes tables
            from mlflow import MlflowClient

            self._client = MlflowClient()
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            found = self._client.get_experiment_by_name(name)
            self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        return self._client

    @hookimpl
    def comparison_started(self, recipes: Sequence[str], seeds: Sequence[int], source: str) -> None:
        """Create the run of the comparison, or open that of the same directory."""
        client = self.client
        tags = {COMPARISON: hashlib.sha256(os.fsencode(self.directory)).hexdigest()}
        self.parent = self._found(tags) or self._created(self.directory.name, tags)
        client.update_run(self.parent, status="RUNNING")
        plan = {
            "recipes": ", ".join(recipes),
            "seeds": ", ".join(map(str, seeds)),
            "data": source,
            "out": str(self.directory),
        }
        for name, value in plan.items():
            client.set_tag(self.parent, f"fer_augment.{name}", value)

    @hookimpl
    def run_started(self, run: RunIdentity, recipe: Mapping[str, Any]) -> None:
        """Create a run, with the settings of the recipe as parameters."""
        from mlflow.entities import Param

        tags = {KEY: run.key, RECIPE: run.recipe, **({_PARENT: self.parent} if self.parent else {})}
        if self.parent and self._found(tags, "FINISHED"):
            return
        self.runs[run] = self._created(f"{run.recipe}, seed {run.seed}", tags)
        settings = {"recipe": run.recipe, "seed": run.seed, **dict(_flat(recipe))}
        parameters = [Param(_allowed(name), str(value)[:_LONGEST_VALUE]) for name, value in settings.items()]
        for first in range(0, len(parameters), _AT_ONCE):
            self.client.log_batch(self.runs[run], params=parameters[first : first + _AT_ONCE])

    @hookimpl
    def epoch_finished(self, run: RunIdentity, evaluation: Evaluation, class_names: Sequence[str]) -> None:
        """Log losses and scores by epoch."""
        if run in self.runs:
            self._log(self.runs[run], evaluation.scalars(class_names), evaluation.epoch)

    @hookimpl
    def run_finished(self, run: RunIdentity, record: RunRecord, scores: Mapping[str, float], directory: Path) -> None:
        """Log the scores on the test split, and the recipe as it was run."""
        if run in self.runs:
            logged = self.runs.pop(run)
            self._log(logged, scores, record.curve[-1].epoch)
            self.client.log_artifact(logged, str(directory / "recipe.yaml"))
            self.client.log_artifact(logged, str(directory / "record.json"))
            self.client.set_terminated(logged, "FINISHED")

    @hookimpl
    def run_failed(self, run: RunIdentity, message: str) -> None:
        """Mark the run as failed."""
        if run in self.runs:
            self._fail(self.runs.pop(run), message)

    @hookimpl
    def comparison_finished(self, comparison: Comparison) -> None:
        """Log the differences and verdicts, the report and the comparison."""
        if self.parent is None:
            return
        for arm in comparison.versus:
            endpoint = arm.balanced_accuracy
            self.client.set_tag(self.parent, _allowed(f"verdict.{arm.recipe}"), str(endpoint.verdict))
            if endpoint.delta is not None:
                self._log(self.parent, {f"balanced_accuracy_difference/{arm.recipe}": endpoint.delta}, 0)
        self.client.set_tag(self.parent, _DESCRIPTION, f"```\n{comparison}\n```")
        for name in ("report.html", "comparison.json"):
            self.client.log_artifact(self.parent, str(comparison.directory / name))
        self.client.set_terminated(self.parent, "FINISHED")

    @hookimpl
    def comparison_failed(self, message: str) -> None:
        """Mark the comparison as failed."""
        if self.parent is not None:
            self._fail(self.parent, message)

    def _created(self, name: str, tags: Mapping[str, str]) -> str:
        client = self.client
        return str(client.create_run(self._experiment, run_name=name, tags=dict(tags)).info.run_id)

    def _found(self, tags: Mapping[str, str], status: str = "") -> str | None:
        """Return the run with these tags, if there is one."""
        client = self.client
        conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        conditions += [f"attributes.status = '{status}'"] if status else []
        found = client.search_runs([self._experiment], " and ".join(conditions), max_results=1)
        return str(found[0].info.run_id) if found else None

    def _log(self, logged: str, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_allowed(name), value, now, step) for name, value in values.items()]
        for first in range(0, len(metrics), _AT_ONCE):
            self.client.log_batch(logged, metrics=metrics[first : first + _AT_ONCE])

    def _fail(self, logged: str, message: str) -> None:
        self.client.set_tag(logged, REASON, message[:_LONGEST_VALUE])
        self.client.set_terminated(logged, "FAILED")


def _allowed(name: str) -> str:
    """Return a name with letters, digits and punctuation that MLflow allows."""
    return re.sub(r"[^\w./ -]", "_", name)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield nested settings by dotted key; the strategies by position and name."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif name == "strategies":
            for number, step in enumerate(value, 1):
                yield from _flat(step["parameters"] or {"": "defaults"}, f"strategies.{number}.{step['name']}.")
        elif name not in ("name", "description"):
            yield f"{prefix}{name}".rstrip("."), value


@hookimpl
def register_trackers() -> list[Tracker]:
    """Register the trackers of this module."""
    return [Tracker("mlflow", "Logs runs, curves, test scores, verdicts and the report to MLflow.", MLflow)]
