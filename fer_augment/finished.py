"""Finished comparisons and runs as Python objects: tables, trained networks, predictions."""

from __future__ import annotations

import copy
import glob
import io
from collections.abc import Iterable
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import PrivateAttr

from fer_augment.data.records import RunDirectory
from fer_augment.data.whole_files import write_whole
from fer_augment.errors import DatasetError, FerAugmentError, RunError, did_you_mean, excerpt
from fer_augment.results.comparison import Arm, ComparisonRecord, read_comparison

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from fer_augment.runs.network_export import ExportedNetwork
    from fer_augment.runs.run_models import RunModel

_FILES_AT_ONCE = 512
"""Image files that are decoded before the network predicts them."""


class Run(RunDirectory):
    """A finished run: its record, its predictions for the held-out splits, and its trained network.

    Attributes:
        path: the run's directory.
    """

    def __reduce__(self) -> tuple[type[Run], tuple[Path]]:
        """Pickle the path alone, without a network that was loaded."""
        return Run, (self.path,)

    def load_model(self) -> nn.Module:
        """Build the trained network, in evaluation mode, on the device that is available.

        It takes `(B, C, H, W) float32` images in `[0, 1]` and returns `(B, K)` logits, without the test-time views and
        the adjustment of logits of the recipe's strategies; `predict` applies both.

        Raises:
            RunError: if a file of the run is missing or damaged.
            RecipeError: if something that the recipe names is not installed.
        """
        return copy.deepcopy(self._model.network)  # `predict` keeps its own

    def predict(self, images: ArrayLike) -> NDArray[np.float64]:
        """Predict class probabilities as the run does for the test split, with views and adjustment.

        Args:
            images: `(N, H, W, C) uint8` with the size and the channels that the run was trained on; `(N, H, W)` for
                gray images.

        Returns:
            `(N, K) float64`; columns in the order of `record.class_names`, rows sum to 1.

        Raises:
            DatasetError: if the images have another shape or dtype.
            RunError: if a file of the run is missing or damaged.
            RecipeError: if something that the recipe names is not installed.
        """
        from fer_augment.metrics import softmax

        return softmax(self._model.logits(self._fitting(images)))

    def predict_files(
        self,
        files: str | PathLike[str] | Iterable[str | PathLike[str]],
        *,
        resize: bool = False,
        progress: bool = True,
    ) -> NDArray[np.float64]:
        """Predict class probabilities of image files, which are decoded and fitted as in training.

        If the recipe or the data source set a size, images are fitted to it. EXIF orientation is applied; color images
        are converted to gray, and gray images to color, as the network requires.

        Args:
            files: N image files in any format that data sources may have, or one.
            resize: whether to resize images of a different size where neither the recipe nor the data source set one;
                the aspect ratio is not kept.
            progress: whether to show progress and warnings on stderr.

        Returns:
            `(N, K) float64`, as `predict` returns.

        Raises:
            DatasetError: if a file cannot be read, or has a different size, none is set and `resize` is False; the
                message names the first such file.
            RunError: if a file of the run is missing or damaged.
            RecipeError: if something that the recipe names is not installed.
        """
        from fer_augment.data.new_images import read_images
        from fer_augment.metrics import softmax
        from fer_augment.reports.console import print_warnings, progress_of
        from fer_augment.runs.run_models import changed_steps

        paths = [Path(file) for file in ([files] if isinstance(files, str | PathLike) else files)]
        model = self._model
        record = model.record
        if progress:
            changed = changed_steps(record, model.pipeline.steps)
            print_warnings(f"{step} has changed since the run" for step in changed)
        parts = [np.empty((0, len(record.class_names)))]
        with progress_of("predicting", quiet=not progress) as report:
            for start in range(0, len(paths), _FILES_AT_ONCE):
                chunk = paths[start : start + _FILES_AT_ONCE]
                images = read_images(chunk, record.image_shape, model.pixels, resize=resize)
                parts.append(softmax(model.logits(images)))
                report(start + len(chunk), len(paths))
        return np.concatenate(parts)

    def export(self, file: str | Path, form: str | None = None) -> ExportedNetwork:
        """Export the network in float32, checked against the logits of the run, and write a model card beside it.

        The exported network takes `images`, `(N, C, H, W) float32` in [0, 1] with the size and channels of the run's
        data, for any N, and returns `logits`, `(N, K)`. Its preprocessing is inside, and an adjustment of logits by the
        recipe's strategies if it is linear. Test-time views are inside unless the format is `safetensors`, or they
        cannot be exported.

        Args:
            file: the file to write; the card has the same name and the suffix `.md`. Existing files are replaced.
            form: `onnx`, `torch_export` or `safetensors`; None for that of the suffix, `.onnx`, `.pt2` or
                `.safetensors`.

        Returns:
            What is in the file and what is not, and the largest difference of a logit to those of the run.

        Raises:
            RunError: if a file of the run is missing or damaged, or the logits differ by more than a thousandth.
            FerAugmentError: if an optional package is missing, or the network cannot be exported.
        """
        from fer_augment.runs.network_export import export_network, format_of

        path = Path(file)
        if path.suffix == ".md":
            raise FerAugmentError(f"{path}: is the name of the model card; end it in .onnx, .pt2 or .safetensors")
        exported = export_network(self, path, format_of(path, form))
        write_whole(path.with_suffix(".md"), self._card(path, exported))
        return exported

    def _card(self, file: Path, exported: ExportedNetwork) -> str:
        from fer_augment.reports.model_card import color_in_words, model_card

        record = self.record
        height, width, channels = exported.image_shape
        color = color_in_words(channels)
        fit = f"fitting images to {height} x {width} pixels (height x width, `data.fit: {record.pixels.fit or 'crop'}`)"
        other_images = (
            f"{fit}, and conversion to {color}, as training and `fer-augment predict` do before the network"
            if record.pixels.size
            else f"fitting images of another size, and conversion to {color}"
        )
        contents = [
            f"`{file.name}`, format {exported.format}, float32",
            f"input `images`: float32 (batch, {channels}, {height}, {width}), pixels in [0, 1]: {color} images of "
            f"exactly {height} x {width} pixels (height x width), divided by 255",
            "inside: what the network needs for such images, if anything: conversion to the size and the channels that "
            "it was designed for, and normalization",
            f"output `logits`: float32 (batch, {len(record.class_names)}); their softmax gives probabilities",
            *([f"inside: the mean over test-time views ({', '.join(exported.views)})"] if exported.views else []),
            *(["inside: the adjustment of logits by the recipe's strategies"] if exported.is_adjusted else []),
            *(f"**not inside**: {missing}" for missing in exported.not_inside),
            f"**not inside**: {other_images}",
            f"checked: logits differ from those of the run's network by at most {exported.largest_difference:.1g}",
        ]
        return model_card(record, self.predictions("test"), contents, self._comparison())

    def _comparison(self) -> ComparisonRecord | None:
        """Return the comparison that contains the run, read from the folder above it; None if there is none."""
        above = self.path.resolve().parents
        if len(above) < 3:  # as of /models/run
            return None
        try:
            comparison = read_comparison(above[2])
        except RunError:
            return None
        key = self.record.identity.key
        return comparison if any(key in arm.run_keys for arm in comparison.arms) else None

    @cached_property
    def _model(self) -> RunModel:
        from fer_augment.runs.run_models import load_run_model

        return load_run_model(self)

    def _fitting(self, images: ArrayLike) -> NDArray[np.uint8]:
        shape = self._model.record.image_shape
        try:
            array = np.asarray(images)
        except (TypeError, ValueError, RuntimeError) as error:  # lists of different lengths, tensors with a gradient
            raise DatasetError(f"images cannot be an array ({excerpt(str(error))})") from error
        if array.ndim == 3 and shape[2] == 1:
            array = array[..., None]
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != shape:
            size = shape[0] if shape[0] == shape[1] else shape[:2]
            hint = f"; `read_data(…, size={size})` and `predict_files(…, resize=True)` give them this size"
            raise DatasetError(
                f"images must be uint8 of shape (N, {', '.join(map(str, shape))}), got {array.dtype} of shape "
                f"{array.shape}{hint if array.ndim == 4 and array.shape[1:3] != shape[:2] else ''}"
            )
        return array


class _NoRunsError(RunError, AttributeError):
    """A comparison of predictions has no runs, as `hasattr` says, too."""


class Comparison(ComparisonRecord):
    """A finished comparison: everything in `comparison.json`, with its runs where they are on disk.

    In a notebook it displays its verdicts and the recall table.
    """

    _directory: Path | None = PrivateAttr(default=None)

    def __repr__(self) -> str:
        """Name the arms; `print` shows the result."""
        arms = ", ".join(f"{arm.recipe!r} ({len(arm.seeds)} runs)" for arm in self.arms)
        return f"Comparison({arms}; baseline {self.baseline!r})"

    def __str__(self) -> str:
        """Return the result as the terminal shows it."""
        from fer_augment.reports.console import ResultsConsole
        from fer_augment.reports.terminal import WIDE, print_comparison

        text = io.StringIO()
        print_comparison(self, ResultsConsole(file=text, width=WIDE, highlight=False, color_system=None))
        return text.getvalue().rstrip("\n")

    def arm(self, recipe: str) -> Arm:
        """Return the arm of a recipe.

        Raises:
            RunError: if the comparison has no such arm, or none of its runs finished.
        """
        names = [arm.recipe for arm in self.arms]
        if recipe not in names:
            raise RunError(f"the comparison has no arm {recipe!r} with finished runs{did_you_mean(recipe, names)}")
        return super().arm(recipe)

    @classmethod
    def at(cls, directory: Path, record: ComparisonRecord) -> Comparison:
        """Return a comparison with the directory that holds it."""
        comparison = cls(**dict(record))
        comparison._directory = directory
        return comparison

    @property
    def directory(self) -> Path:
        """The directory of `comparison.json`, `report.html` and the runs.

        Raises:
            RunError: if the comparison was built in memory.
        """
        if self._directory is None:
            raise RunError("this comparison was built in memory and has no directory; use fer_augment.load_comparison")
        return self._directory

    @property
    def is_written(self) -> bool:
        """Whether the comparison is in a directory."""
        return self._directory is not None

    @property
    def runs(self) -> dict[str, tuple[Run, ...]]:
        """The finished runs of each arm, by recipe name, in the order of the arm's seeds; none for an arm that failed.

        Raises:
            RunError: if the directory of a run is missing or damaged, or the comparison is of predictions; in the
                latter case it is an `AttributeError`, too.
        """
        from fer_augment.reports.run_files import RunFiles

        if not self.is_of_trainings:
            raise _NoRunsError("a comparison of predictions has no runs; they are with the trainer that made them")
        files, runs = RunFiles(self.directory), {}
        for arm in self.arms:
            located = {run.record.identity.key: Run(run.directory.path) for run in files.of(arm)}
            for seed, key in zip(arm.seeds, arm.run_keys, strict=True):
                if key not in located:
                    raise RunError(
                        f"{self.directory}: the run of {arm.recipe} with seed {seed} is missing or damaged; "
                        "compare again"
                    )
            runs[arm.recipe] = tuple(located[key] for key in arm.run_keys)
        return {**{failure.recipe: () for failure in self.failures}, **runs}

    def to_frame(self) -> pd.DataFrame:
        """Return one tidy row per arm, split, endpoint and class; see `results.frame.comparison_frame`.

        Raises:
            FerAugmentError: if pandas is not installed.
        """
        from fer_augment.results.frame import comparison_frame

        return comparison_frame(self)

    def _repr_html_(self) -> str:
        from fer_augment.reports.html import comparison_html

        return comparison_html(self)


def load_comparison(directory: str | Path) -> Comparison:
    """Read a comparison.

    Args:
        directory: where `comparison.json` is, or the file itself.

    Raises:
        RunError: if it is missing, damaged, or has another schema version.
    """
    path = Path(directory)
    return Comparison.at(path if path.is_dir() else path.parent, read_comparison(path))


def load_run(directory: str | Path) -> Run:
    """Return a finished run.

    Args:
        directory: the run's own directory, such as `results/demo/runs/demo/seed-0-1a2b3c4d5e6f`, with or without the
            key at its end, see `run_directory`.

    Raises:
        RunError: if it is not a run directory; where there are runs below it, one is named.
    """
    path = run_directory(directory)
    if not (path / "record.json").is_file():
        if glob.has_magic(str(path)) and not path.exists():
            found = next(iter(sorted(glob.glob(str(path)))), None)
            hint = (
                f"patterns are not expanded here; name one directory, such as {found}" if found else "nothing matches"
            )
            raise RunError(f"{path}: not a run directory; {hint}")
        levels = ("*/record.json", "*/*/record.json", "runs/*/*/record.json")
        below = next((found for level in levels for found in sorted(path.glob(level))), None)
        hint = f"it contains run directories, such as {below.parent}" if below else "create one with `fer-augment run`"
        raise RunError(f"{path}: not a run directory (no record.json); {hint}")
    return Run(path)


def run_directory(path: str | Path) -> Path:
    """Return the directory of a run that is named without its key, as in `results/demo/runs/demo/seed-0`.

    An arm has several runs of a seed after its recipe was changed; then it is the one in the comparison beside them.

    Returns:
        The path as it is if it exists, or no run begins with it.

    Raises:
        RunError: if several runs begin with it, and the comparison has none or several of them.
    """
    path = Path(path)
    if path.exists():
        return path
    found = [
        record.parent
        for record in sorted(path.parent.glob(f"{glob.escape(path.name)}-*/record.json"))
        if record.parent.name.rpartition("-")[0] == path.name
    ]
    if len(found) > 1:
        named = [one for one in found if RunDirectory(one).record.identity.key in _compared_keys(path)]
        if len(named) != 1:
            raise RunError(f"{path}: {len(found)} runs begin with this; name one, such as {found[-1].name}")
        found = named
    return found[0] if found else path


def _compared_keys(run: Path) -> set[str]:
    """Return the run keys of the comparison that a run is below; none if there is no readable one."""
    above = run.absolute().parents
    try:
        comparison = read_comparison(above[min(2, len(above) - 1)])
    except RunError:
        return set()
    return {key for arm in comparison.arms for key in arm.run_keys}
