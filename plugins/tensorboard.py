"""The tracker `tensorboard`: one TensorBoard run for each run, and the verdicts as text."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_augment import Evaluation, PluginError, RunIdentity, RunRecord, Tracker, hookimpl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from fer_augment import Comparison

FOLDER = "tensorboard"


class TensorBoard:
    """Writes event files below `tensorboard` in the directory of results: `tensorboard --logdir OUT/tensorboard`."""

    def __init__(self, out: Path) -> None:
        """Write into the directory of results, from the first event on.

        Raises:
            PluginError: if TensorBoard is not installed.
        """
        if importlib.util.find_spec("tensorboard") is None:
            raise PluginError("tracker 'tensorboard' needs the package tensorboard: pip install tensorboard")
        self.folder = out / FOLDER
        self.writers: dict[RunIdentity, SummaryWriter] = {}

    @hookimpl
    def run_started(self, run: RunIdentity, recipe: Mapping[str, Any]) -> None:
        """Begin anew, as all evaluations of a resumed run arrive again, and write the recipe."""
        folder = self.folder / run.recipe / f"seed-{run.seed}"
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self.writers[run] = _writer(folder)
        self.writers[run].add_text("recipe", _as_list(recipe))

    @hookimpl
    def epoch_finished(self, run: RunIdentity, evaluation: Evaluation, class_names: Sequence[str]) -> None:
        """Write losses and scores by epoch."""
        for name, value in evaluation.scalars(class_names).items():
            self.writers[run].add_scalar(name, value, evaluation.epoch)
        self.writers[run].flush()

    @hookimpl
    def run_finished(self, run: RunIdentity, record: RunRecord, scores: Mapping[str, float]) -> None:
        """Write the scores on the test split, at the last epoch."""
        for name, value in scores.items():
            self.writers[run].add_scalar(name, value, record.curve[-1].epoch)
        self.writers.pop(run).close()

    @hookimpl
    def run_failed(self, run: RunIdentity, message: str) -> None:
        """Write the reason."""
        self.writers[run].add_text("failed", message)
        self.writers.pop(run).close()

    @hookimpl
    def comparison_finished(self, comparison: Comparison) -> None:
        """Write the result as text."""
        folder = self.folder / "comparison"
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        with _writer(folder) as writer:
            writer.add_text("comparison", "\n".join(f"    {line}" for line in str(comparison).splitlines()))


def _writer(folder: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def _as_list(settings: Mapping[str, Any], indent: str = "") -> str:
    """Return nested settings as a Markdown list."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}- {name}", _as_list(value, indent + "    ")]
        else:
            lines.append(f"{indent}- {name}: `{value}`")
    return "\n".join(lines)


@hookimpl
def register_trackers() -> list[Tracker]:
    """Register the trackers of this module."""
    return [Tracker("tensorboard", "Writes curves, test scores and verdicts for TensorBoard.", TensorBoard)]
