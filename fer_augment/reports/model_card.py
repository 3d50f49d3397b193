"""Model cards: what an exported network is, how it was trained and how well it did, as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import binomtest

from fer_augment.data.records import Predictions, RunRecord
from fer_augment.recipe.shown_paths import without_folders
from fer_augment.recipe.yaml_source import dump_yaml
from fer_augment.reports.wording import printable, verdict_sentence
from fer_augment.results.comparison import ComparisonRecord

_LEVEL = 0.95


def model_card(
    record: RunRecord,
    test: Predictions,
    contents: Sequence[str],
    comparison: ComparisonRecord | None = None,
) -> str:
    """Return the model card of an exported network.

    Args:
        record: the run's record.
        test: its predictions for the test split.
        contents: sentences about the file: its format, input, output, and what is not inside.
        comparison: the comparison that the run belongs to, if there is one.
    """
    title = f"{_escaped(record.identity.recipe)}, seed {record.identity.seed}"
    recipe = _recipe(record).rstrip()
    fence = "`" * (1 + max(2, *map(len, re.findall("`+", recipe)), 0))
    parts = [
        f"# {title}",
        f"A classifier of images into {len(record.class_names)} classes, trained with fer_augment "
        f"{_escaped(record.environment.get('fer_augment', ''))}.".replace(" .", "."),
        "## File",
        _listed(contents),
        "## Classes",
        "In the order of the outputs:",
        "\n".join(f"{number}. {_escaped(name)}" for number, name in enumerate(record.class_names)),
        "## Results on the test split",
        _scores(record, test),
        *_verdicts(record, comparison),
        "## Intended use",
        "Images like those of the training data: taken, cropped and labeled in the same way. On other images the "
        "numbers above do not hold; measure again on images of the intended use, for each group of people concerned. "
        "The outputs are scores of classes as these data define them, not facts about a person.",
        "## Data",
        _data(record, comparison),
        "## Training",
        _training(record),
        "The recipe, which `fer-augment run` repeats; files are named without their folders:",
        f"{fence}yaml\n{recipe}\n{fence}",
    ]
    return "\n\n".join(parts) + "\n"


def color_in_words(channels: int) -> str:
    """Return what images of a number of channels are called: `gray`, `color`, or the number."""
    return {1: "gray", 3: "color"}.get(channels, f"{channels}-channel")


def _scores(record: RunRecord, test: Predictions) -> str:
    """Return accuracy, balanced accuracy, and the recall of each class with its 95 % interval, as a table."""
    predicted = test.logits.argmax(axis=1)
    is_right = predicted == test.labels
    rows, recalls = [], []
    for label, name in enumerate(record.class_names):
        of_class = test.labels == label
        count, right = int(of_class.sum()), int(is_right[of_class].sum())
        if not count:
            rows.append(f"| {_escaped(name)} | 0 | - | - |")
            continue
        recalls.append(right / count)
        bounds = binomtest(right, count).proportion_ci(_LEVEL, "wilson")
        rows.append(
            f"| {_escaped(name)} | {count:,} | {_percent(right / count)} | "
            f"{_percent(bounds.low)} to {_percent(bounds.high)} |"
        )
    return "\n".join(
        [
            f"Accuracy {_percent(is_right.mean())}, balanced accuracy {_percent(np.mean(recalls))}, of one training, "
            f"scored on {len(test.labels):,} test images. Intervals are Wilson's for this network and new images; "
            "another seed gives other numbers. Test-time views and adjustments of the recipe are included.",
            "",
            "| class | test images | recall | 95 % interval |",
            "|:--|--:|--:|--:|",
            *rows,
        ]
    )


def _verdicts(record: RunRecord, comparison: ComparisonRecord | None) -> list[str]:
    if comparison is None:
        return []
    recipe = record.identity.recipe
    concerning = [versus for versus in comparison.versus if recipe in (versus.recipe, versus.baseline)]
    if not concerning:
        return []
    return ["## Verdict", _listed(_escaped(verdict_sentence(versus)) for versus in concerning)]


def _data(record: RunRecord, comparison: ComparisonRecord | None) -> str:
    height, width, channels = record.image_shape
    facts = [
        f"{color_in_words(channels)} images of {height} x {width} pixels",
        "training images: " + ", ".join(
            f"{_escaped(name)} {count:,}" for name, count in zip(record.class_names, record.train_counts, strict=True)
        ),
        f"fingerprint {_escaped(record.data_fingerprint)}",
    ]  # fmt: skip
    if comparison is not None:
        facts.insert(0, f"source: {_escaped(printable(comparison.data.source))}")
    return _listed(facts)


def _training(record: RunRecord) -> str:
    model = without_folders(record.recipe.get("model"))
    environment = {name: _escaped(record.environment.get(name, "")) for name in ("precision", "device", "torch")}
    facts = [
        f"network: {_escaped(model if isinstance(model, str) else json.dumps(model))}, "
        f"{record.parameter_count:,} parameters",
        f"{record.optimizer_steps:,} optimizer steps",
        f"{environment['precision']} on {environment['device']}, torch {environment['torch']}",
        f"training key {_escaped(record.training_key)}",
    ]
    return _listed(facts)


def _recipe(record: RunRecord) -> str:
    """Return the recipe as YAML, with the name of each file in place of its absolute path."""
    recorded = record.recipe.get("strategies", ())
    steps = [{step["name"]: step["parameters"]} if step.get("parameters") else step["name"] for step in recorded]
    return dump_yaml(without_folders({**record.recipe, "strategies": steps}))


def _percent(share: float | np.floating) -> str:
    return f"{100 * share:.1f} %"


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _escaped(text: str) -> str:
    """Return text from a file that Markdown shows as it is."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#" else letter for letter in shown)
