"""What a run leaves behind: plain typed results and their files; reading them needs no torch.

A run directory holds `record.json` (recipe, environment, fingerprints, curve), `recipe.yaml` (as resolved),
`predictions.safetensors` (labels and logits of the held-out splits), `provenance.safetensors` (of the rewritten
training set), `examples.safetensors` (a few rows that each step made, beside their sources) and
`weights.safetensors`. It is moved into place whole, so a directory that exists is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import RunError

RECORD_SCHEMA: Final = 2
HELD_OUT = ("validation", "test")
RENAMED = {1: "before `optimiser_steps` was renamed `optimizer_steps`, `held_out_copies` `held_out_duplicates`"}
"""What changed after an earlier schema version of run records and comparisons, by version."""


class _Plain(BaseModel):
    # Otherwise a number that is not finite is written as null, which cannot be read back as one.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class RunIdentity(_Plain):
    """Which run: an arm's recipe with one seed.

    Attributes:
        recipe: the recipe's name.
        seed: the seed of the run.
        key: a digest of everything that decides the run's result.
    """

    recipe: str
    seed: int
    key: str


class Evaluation(_Plain):
    """One point of a run's curves.

    Attributes:
        epoch: epochs trained so far.
        step: optimizer steps taken so far.
        training_loss: mean loss of the batches since the last evaluation, as augmented, dropout on.
        selection_loss: mean loss on a fixed random selection of training rows, as many as the test split has.
        validation_loss: mean loss on the validation split.
        validation_accuracy: share of validation rows that are right.
        validation_recall: recall of each class on the validation split, None for a class without rows.
    """

    epoch: int
    step: int
    training_loss: float
    selection_loss: float
    validation_loss: float
    validation_accuracy: float
    validation_recall: tuple[float | None, ...]


class StepRecord(_Plain):
    """A strategy as it acted in a run.

    Attributes:
        name: the strategy's name.
        parameters: its parameters, defaults included.
        provider: the distribution and version it came from.
        source: SHA-256 of the file that defines it.
        rows: how many rows of the rewritten training set this step made.
        chosen: numbers that it chose by itself.
    """

    name: str
    parameters: dict[str, Any]
    provider: str
    source: str
    rows: int = 0
    chosen: dict[str, float] = {}


class RunRecord(_Plain):
    """Everything about a finished run that is not an array.

    Attributes:
        identity: which run this is.
        training_key: a digest of everything that decides the trained weights.
        recipe: the recipe as resolved.
        steps: its strategies, in order.
        class_names: the K class names.
        image_shape: height, width and channels of the images.
        data_fingerprint: digest of the data the run saw.
        train_counts: rows of each class in the training split, after `data` settings.
        rewritten_counts: rows of each class in the rewritten training set.
        class_prior: class frequencies as drawn in the last epoch, summing to 1.
        optimizer_steps: steps taken.
        parameter_count: numbers in the network.
        curve: evaluations in order.
        test_loss: mean loss on the test split.
        environment: versions, processor, threads, device, precision.
        warnings: what the reader of the result should know.
        training_seconds: wall time of the training, None where it was reused from another run.
    """

    schema_version: Literal[2] = RECORD_SCHEMA
    identity: RunIdentity
    training_key: str
    recipe: dict[str, Any]
    steps: tuple[StepRecord, ...]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    data_fingerprint: str
    train_counts: tuple[int, ...]
    rewritten_counts: tuple[int, ...]
    class_prior: tuple[float, ...]
    optimizer_steps: int
    parameter_count: int
    curve: tuple[Evaluation, ...]
    test_loss: float
    environment: dict[str, str]
    warnings: tuple[str, ...]
    training_seconds: float | None


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run said about a held-out split.

    Attributes:
        labels: `(N,) int64`.
        logits: `(N, K) float32`, adjusted and averaged over views as the recipe asks.
        groups: `(N,) int64`, equal for images that are byte for byte the same.
        in_train: `(N,) bool`, rows that also stand in the training split.
        raw_logits: `(N, K) float32`, the logits before they were adjusted; None where the recipe adjusts nothing.
    """

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    groups: NDArray[np.int64]
    in_train: NDArray[np.bool_]
    raw_logits: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RunDirectory:
    """A finished run on disk."""

    path: Path

    @property
    def record(self) -> RunRecord:
        """Read `record.json`.

        Raises:
            RunError: if it is missing, damaged, or of another schema version.
        """
        file = self.path / "record.json"
        try:
            return RunRecord.model_validate_json(file.read_bytes())
        except OSError as error:
            raise RunError(f"{file}: {error.strerror}; delete the directory to run again") from error
        except ValidationError as error:
            told = why_unreadable(error, "run record", RECORD_SCHEMA)
            raise RunError(f"{file}: {told}; delete the directory to run again") from error

    def predictions(self, split: str) -> Predictions:
        """Read the predictions about `validation` or `test`.

        Raises:
            RunError: if the file is missing or damaged.
        """
        file = self.path / "predictions.safetensors"
        try:
            arrays = load_file(file)
            needed = {name: arrays[f"{split}.{name}"] for name in ("labels", "logits", "groups", "in_train")}
            return Predictions(**needed, raw_logits=arrays.get(f"{split}.raw_logits"))
        except (OSError, KeyError, SafetensorError) as error:
            raise RunError(f"{file}: not readable ({error}); delete the directory to run again") from error


def why_unreadable(error: ValidationError, kind: str, readable: int) -> str:
    """Say why the content of a file is no result of a kind, or is of another schema version than the readable one."""
    details = error.errors(include_url=False)
    version = next((detail for detail in details if detail["loc"] == ("schema_version",)), None)
    if version:
        hint = f" ({RENAMED[version['input']]})" if version["input"] in RENAMED else ""
        return f"has schema version {version['input']!r}{hint}; this version of fer_augment reads {readable}"
    place = ".".join(map(str, details[0]["loc"]))
    return f"is not a readable {kind} ({place + ': ' if place else ''}{details[0]['msg']})"


def save_run(
    path: Path,
    record: RunRecord,
    recipe_yaml: str,
    predictions: Mapping[str, Predictions],
    files: Iterable[Path] = (),
) -> RunDirectory:
    """Write a run directory; it appears whole or not at all.

    Args:
        path: the directory.
        record: what is known of the run.
        recipe_yaml: the recipe as resolved.
        predictions: about `validation` and `test`.
        files: what is copied as it is, under its own name: weights, provenance, examples.
    """
    with whole_directory(path) as scratch:
        (scratch / "record.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (scratch / "recipe.yaml").write_text(recipe_yaml, encoding="utf-8")
        arrays = {
            f"{split}.{name}": np.ascontiguousarray(array)
            for split, said in predictions.items()
            for name, array in vars(said).items()
            if array is not None
        }
        (scratch / "predictions.safetensors").write_bytes(save(arrays))
        for file in files:
            shutil.copyfile(file, scratch / file.name)
    return RunDirectory(path)


def provenance_arrays(dataset: ImageDataset) -> dict[str, NDArray[np.int64]]:
    """Return label, source rows, copy number and making step of each row."""
    columns = {"labels": dataset.labels, "origins": dataset.origins, "copies": dataset.copies, "step": dataset.step}
    return {name: np.ascontiguousarray(array) for name, array in columns.items()}


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Give a scratch directory that becomes `path` when the block ends well, and vanishes when it does not.

    If `path` came into being meanwhile (another process finished the same work), that one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        try:
            scratch.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
