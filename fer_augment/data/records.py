"""Records and files of runs; reading them does not require torch.

A run directory contains `record.json` (recipe, environment, fingerprints, curve), `recipe.yaml` (resolved recipe),
`predictions.safetensors` (labels and logits of the validation and test split), `provenance.safetensors` (of the
rewritten training set), `examples.safetensors` (examples of rows added by each step, with their source rows) and
`weights.safetensors`; if only the head was trained, `weights.safetensors` holds the head and `backbone.safetensors` the
rest of the network. It is created atomically: a directory that exists is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from fer_augment.data.dataset import HELD_OUT, ImageDataset
from fer_augment.data.digests import changed_files, write_digests
from fer_augment.data.image_files import regular_file
from fer_augment.data.pixels import PixelSettings
from fer_augment.data.whole_files import naming, whole_directory
from fer_augment.errors import DamagedFileError, DatasetError, RecipeError, RunError, excerpt

RECORD_SCHEMA: Final = 2
WEIGHTS_FILE, BACKBONE_FILE = "weights.safetensors", "backbone.safetensors"
PREDICTIONS_FILE = "predictions.safetensors"
SOURCES = "sources"
"""Folder of a run directory with the files of local strategies and networks."""
RENAMED = {1: "`optimiser_steps` is now `optimizer_steps`, `held_out_copies` is now `held_out_duplicates`"}
"""Keys renamed after each schema version of run records and comparisons, as a hint in messages."""


class _Plain(BaseModel):
    # By default, infinite numbers and NaN are written as null and cannot be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class FoldIdentity(_Plain):
    """A fold of a repeated cross-validation: the rows that a run holds out as its test split.

    Attributes:
        repeat: number of the repeat, from 0.
        number: number of the fold in the repeat, from 0.
        folds: number of folds of the repeat.
        keeps_test: whether the given test split is not part of any fold.
    """

    repeat: int
    number: int
    folds: int
    keeps_test: bool = False

    def __str__(self) -> str:
        """Return repeat and fold, counted from 1, for messages."""
        return f"repeat {self.repeat + 1}, fold {self.number + 1} of {self.folds}"

    @property
    def seed(self) -> int:
        """The seed of the trainings on this fold: each fold of each repeat has its own, the same in all arms."""
        return self.repeat * self.folds + self.number


class RunIdentity(_Plain):
    """Identity of a run.

    Attributes:
        recipe: name of the recipe.
        seed: seed of the run.
        key: run key, a digest of everything that determines the result of the run. Runs of two recipes have the same
            one if the recipes differ in name only, or in what makes no difference to these data.
        fold: the held-out fold; None on a fixed test split.
    """

    recipe: str
    seed: int
    key: str
    fold: FoldIdentity | None = None


class Evaluation(_Plain):
    """One point of a run's learning curves.

    Attributes:
        epoch: number of epochs completed.
        step: number of optimizer steps completed.
        training_loss: mean loss of the augmented batches since the last evaluation, with dropout.
        selection_loss: mean loss on a fixed random sample of training rows, of the size of the test split.
        validation_loss: mean loss on the validation split.
        validation_accuracy: accuracy on the validation split.
        validation_recall: recall of each class on the validation split, None for a class without rows.
    """

    epoch: int
    step: int
    training_loss: float
    selection_loss: float
    validation_loss: float
    validation_accuracy: float
    validation_recall: tuple[float | None, ...]

    @property
    def validation_balanced_accuracy(self) -> float | None:
        """Mean recall on the validation split over the classes that have rows in it; None if none has."""
        recall = [share for share in self.validation_recall if share is not None]
        return sum(recall) / len(recall) if recall else None

    def scalars(self, class_names: Sequence[str]) -> dict[str, float]:
        """Return losses and scores by name, such as `validation_recall/CLASS`; classes without rows are left out."""
        names = ("training_loss", "selection_loss", "validation_loss", "validation_accuracy")
        values = {name: getattr(self, name) for name in (*names, "validation_balanced_accuracy")}
        recall = zip(class_names, self.validation_recall, strict=True)
        values |= {f"validation_recall/{class_name}": share for class_name, share in recall}
        return {name: value for name, value in values.items() if value is not None}


class StepRecord(_Plain):
    """A step of a run's recipe.

    Attributes:
        name: name of the strategy.
        parameters: parameters, including defaults.
        provider: distribution and version that registered the strategy.
        source: SHA-256 of the file that defines the strategy.
        watched_pairs: pairs (true class, predicted class) whose confusions reports count.
        rows: number of rows of the rewritten training set created by this step.
        chosen: values that the strategy selected automatically.
    """

    name: str
    parameters: dict[str, Any]
    provider: str
    source: str
    watched_pairs: tuple[tuple[str, str], ...] = ()
    rows: int = 0
    chosen: dict[str, float] = {}


class RunRecord(_Plain):
    """Record of a finished run, without arrays.

    Attributes:
        identity: recipe, seed and run key.
        training_key: digest of everything that determines the trained weights.
        recipe: resolved recipe.
        model_parameters: parameters of the network, including defaults; empty in older records.
        steps: steps of the recipe, in order.
        class_names: the K class names.
        image_shape: height, width and channels of the images.
        data_fingerprint: digest of the data.
        train_counts: number of rows per class in the training split, after applying `data` settings.
        rewritten_counts: number of rows per class in the rewritten training set.
        class_prior: class frequencies of the batches of the last epoch, or of the one kept, summing to 1.
        kept_epoch: number of epochs after which the network had the weights that were kept; None in older records.
        optimizer_steps: number of optimizer steps.
        parameter_count: number of network parameters.
        curve: evaluations, in order.
        test_loss: mean loss on the test split.
        environment: versions, processor, threads, device, precision.
        warnings: warnings about this run.
        training_seconds: training time in seconds, None if the training was cached.
        pixels: size and color that the recipe or the source set; new images are fitted alike.
        fold_pixels: size and color, as the baseline set them, of the images by which the data were divided into folds;
            None on a fixed test split, and in older records.
    """

    schema_version: Literal[2] = RECORD_SCHEMA
    identity: RunIdentity
    training_key: str
    recipe: dict[str, Any]
    model_parameters: dict[str, Any] = {}
    steps: tuple[StepRecord, ...]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    data_fingerprint: str
    train_counts: tuple[int, ...]
    rewritten_counts: tuple[int, ...]
    class_prior: tuple[float, ...]
    kept_epoch: int | None = None
    optimizer_steps: int
    parameter_count: int
    curve: tuple[Evaluation, ...]
    test_loss: float
    environment: dict[str, str]
    warnings: tuple[str, ...]
    training_seconds: float | None
    pixels: PixelSettings = PixelSettings()
    fold_pixels: PixelSettings | None = None


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a run for the validation or test split.

    Attributes:
        labels: `(N,) int64`.
        logits: `(N, K) float32`, averaged over views and adjusted as specified in the recipe.
        groups: `(N,) int64`, equal for exact duplicates.
        in_train: `(N,) bool`, rows with an exact duplicate in the training split.
        raw_logits: `(N, K) float32`, logits before adjustment; None if the recipe has no adjustment.
        rows: `(N,) int64`, positions in the whole data set of the rows of a held-out fold; None on a fixed test split.
        together: `(N,) int64`, equal for rows of a held-out fold that stay in one fold; None on a fixed test split.
    """

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    groups: NDArray[np.int64]
    in_train: NDArray[np.bool_]
    raw_logits: NDArray[np.float32] | None = None
    rows: NDArray[np.int64] | None = None
    together: NDArray[np.int64] | None = None

    @property
    def unadjusted(self) -> NDArray[np.float32]:
        """`(N, K) float32`, logits before adjustment: `raw_logits`, or `logits` if the recipe has no adjustment."""
        return self.logits if self.raw_logits is None else self.raw_logits


_REMEDY = "delete the directory to run again"


@dataclass(frozen=True)
class RunDirectory:
    """Directory of a finished run."""

    path: Path

    @property
    def damage(self) -> tuple[Path, str] | None:
        """Return which file is missing or damaged, and what is wrong with it; None if the directory is usable."""
        try:
            _ = RunDirectory(self.path).record  # read now, not kept from before
            for split in HELD_OUT:
                self.predictions(split)
            for file in sorted(self.path.glob("*.safetensors")):
                _check_header(file)
            self.refuse_changed(PREDICTIONS_FILE)
        except DamagedFileError as error:
            return error.file, error.reason
        return None

    def refuse_changed(self, *names: str) -> None:
        """Refuse files that have changed since the run wrote them; nothing is known of runs of earlier versions.

        Raises:
            RunError: for the first of them.
        """
        for name in changed_files(self.path, names):
            raise DamagedFileError(self.path / name, "has changed since the run wrote it (SHA-256)", _REMEDY)

    @cached_property
    def record(self) -> RunRecord:
        """The content of `record.json`, read once.

        Raises:
            RunError: if the file is missing, damaged, or has a different schema version.
        """
        file = self.path / "record.json"
        try:
            return RunRecord.model_validate_json(regular_file(file).read_bytes())
        except OSError as error:
            raise DamagedFileError(file, f"{error.strerror}", _REMEDY) from error
        except ValidationError as error:
            raise DamagedFileError(file, why_unreadable(error, "run record", RECORD_SCHEMA), _REMEDY) from error
        except DatasetError as error:  # of `pixels` and `fold_pixels`
            raise DamagedFileError(file, f"is not a readable run record ({error})", _REMEDY) from error

    def predictions(self, split: str) -> Predictions:
        """Read the predictions for `validation` or `test`.

        Raises:
            RunError: if the file is missing or damaged.
        """
        if split not in HELD_OUT:
            raise RunError(f"there are predictions for {' and '.join(HELD_OUT)}, not for {split!r}")
        file = self.path / PREDICTIONS_FILE
        try:
            arrays = load_file(regular_file(file))
            needed = {name: arrays[f"{split}.{name}"] for name in ("labels", "logits", "groups", "in_train")}
            raw, rows, together = (arrays.get(f"{split}.{name}") for name in ("raw_logits", "rows", "together"))
            return Predictions(**needed, raw_logits=raw, rows=rows, together=together)
        except (OSError, KeyError, SafetensorError) as error:
            raise DamagedFileError(file, f"not readable ({error})", _REMEDY) from error


def _check_header(file: Path) -> None:
    """Refuse a file of arrays that is cut off or no such file; its arrays are not read."""
    try:
        with safe_open(regular_file(file), framework="numpy"):
            pass
    except (OSError, SafetensorError) as error:
        raise DamagedFileError(file, f"not readable ({error})", _REMEDY) from error


KEY_LETTERS = 12
"""How many letters of a run key the name of its directory has."""


def run_path(folder: Path, identity: RunIdentity) -> Path:
    """Return the directory of a run below the folder that holds all runs of a comparison."""
    return folder / identity.recipe / f"seed-{identity.seed}-{identity.key[:KEY_LETTERS]}"


def why_unreadable(error: ValidationError, kind: str, readable: int) -> str:
    """Return why a file is not a valid result of this kind, or has a schema version other than the readable one."""
    details = error.errors(include_url=False)
    version = next((detail for detail in details if detail["loc"] == ("schema_version",)), None)
    if version:
        given = version["input"]
        hint = f" ({RENAMED[given]})" if isinstance(given, int) and given in RENAMED else ""
        return f"has schema version {excerpt(repr(given), 40)}{hint}; this version of fer_augment reads {readable}"
    place = excerpt(".".join(map(str, details[0]["loc"])))
    reason = excerpt(details[0]["msg"].removeprefix("Value error, "))
    return f"is not a readable {kind} ({place + ': ' if place else ''}{reason})"


def save_run(
    path: Path,
    record: RunRecord,
    recipe_yaml: str,
    predictions: Mapping[str, Predictions],
    files: Iterable[Path] = (),
    shared: Iterable[Path] = (),
    sources: Mapping[str, bytes] | None = None,
) -> RunDirectory:
    """Write a run directory atomically.

    Args:
        path: run directory.
        record: record of the run.
        recipe_yaml: resolved recipe.
        predictions: predictions for `validation` and `test`.
        files: files to copy, such as weights, provenance and examples.
        shared: large files that nobody changes and other runs hold, too; linked where the file system can, to save
            space, and else copied.
        sources: content of the files of local strategies and networks, by path below `sources`.
    """
    with whole_directory(path) as scratch, naming(path):
        (scratch / "record.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (scratch / "recipe.yaml").write_text(recipe_yaml, encoding="utf-8")
        arrays = {
            f"{split}.{name}": np.ascontiguousarray(array)
            for split, part in predictions.items()
            for name, array in vars(part).items()
            if array is not None
        }
        (scratch / PREDICTIONS_FILE).write_bytes(save(arrays))
        for file in files:
            shutil.copyfile(file, scratch / file.name)
        for file in shared:
            try:
                os.link(file, scratch / file.name)
            except OSError:
                shutil.copyfile(file, scratch / file.name)
        for name, content in (sources or {}).items():
            file = scratch / SOURCES / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        write_digests(scratch)
    return RunDirectory(path)


def weights_files(directory: Path) -> list[Path]:
    """Return the files that together hold the weights of a run: of the network, or of its head and its backbone."""
    files = [directory / WEIGHTS_FILE, directory / BACKBONE_FILE]
    return files if files[1].is_file() else files[:1]


def weights_file(source: Path) -> Path:
    """Return the file of initial weights: the source itself, or the weights of the run that it is the directory of.

    Raises:
        RecipeError: if it does not exist.
    """
    file = source / WEIGHTS_FILE if source.is_dir() else source
    if not file.is_file():
        reason = f"not a run directory (no {WEIGHTS_FILE})" if source.is_dir() else "no such file"
        raise RecipeError(f"weights: {source}: {reason}")
    return file


NO_SOURCE = 255
"""Value of all pixels of the source image of an example that was not made from a training row."""
OUTSIDE = "outside"
"""Array of the ASCII codes of the names in `ImageDataset.outside`, parted by line feeds."""


def provenance_arrays(dataset: ImageDataset) -> dict[str, NDArray[np.int64]]:
    """Return label, source rows, copy number and step of each row; of rows from outside, what they come from."""
    columns = {"labels": dataset.labels, "origins": dataset.origins, "copies": dataset.copies, "step": dataset.step}
    names = np.frombuffer("\n".join(dataset.outside).encode("ascii"), np.uint8).astype(np.int64)
    columns |= {OUTSIDE: names} if dataset.outside else {}
    return {name: np.ascontiguousarray(array) for name, array in columns.items()}
