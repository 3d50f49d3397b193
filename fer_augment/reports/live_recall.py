"""The validation recall of each arm while it trains, as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fer_augment.data.records import Evaluation
from fer_augment.errors import display_name

_LONGEST_ARM, _LONGEST_CLASS = 18, 8
_OTHER_COLUMNS = 34
"""Columns of the terminal that everything but the classes takes."""


def live_recall(latest: Mapping[str, Mapping[str, Evaluation]], class_names: Sequence[str], width: int) -> Table:
    """Return a table with the mean over the runs of each arm of their latest validation recall, in %.

    Args:
        latest: the latest evaluation of each run, by arm and run.
        class_names: the K class names.
        width: columns of the terminal; where classes do not fit, the lowest one of each arm is named instead.
    """
    class_names = [display_name(name) for name in class_names]
    names = [name if len(name) <= _LONGEST_CLASS else f"{name[: _LONGEST_CLASS - 1]}…" for name in class_names]
    shows_classes = sum(max(len(name), 3) + 1 for name in names) + _OTHER_COLUMNS <= width
    title = Text("Validation recall in %", style="bold")
    table = Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
        header_style="bold",
    )
    table.add_column("arm", overflow="ellipsis", no_wrap=True, max_width=_LONGEST_ARM)
    for heading in ("n", "epoch", "mean", *(names if shows_classes else ["lowest class"])):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for arm, runs in latest.items():
        epochs = sorted({evaluation.epoch for evaluation in runs.values()})
        recall = [
            _mean([evaluation.validation_recall[label] for evaluation in runs.values()]) for label in range(len(names))
        ]
        cells = [_percent(share) for share in recall]
        if not shows_classes:
            known = [(share, label) for label, share in enumerate(recall) if share is not None]
            cells = [f"{class_names[min(known)[1]]} {_percent(min(known)[0])}" if known else "-"]
        epoch = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]}–{epochs[-1]}"
        mean = _mean([evaluation.validation_balanced_accuracy for evaluation in runs.values()])
        table.add_row(Text(display_name(arm)), str(len(runs)), epoch, _percent(mean), *map(Text, cells))
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"
