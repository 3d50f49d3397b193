"""Repeat a run without any cached training and compare it byte by byte; list what has changed since the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fer_augment.data.cross_validation import CrossValidation
from fer_augment.data.dataset import HELD_OUT, Splits
from fer_augment.data.image_files import regular_file
from fer_augment.data.records import OUTSIDE, RunDirectory, RunRecord, weights_files
from fer_augment.errors import RunError
from fer_augment.progress import Report
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.runs.experiment import identity_of
from fer_augment.runs.performing import perform
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.runs.run_models import bound_recipe_of, changed_steps
from fer_augment.training.keys import environment
from fer_augment.training.store import TrainingStore

Tensors = Mapping[str, torch.Tensor]

_CODE = "other", "as installed"
"""The recorded and the present state of changed code."""
_ROWS_AT_ONCE = 4096
"""Rows compared at once, for the memory that it takes."""


@dataclass(frozen=True)
class ComparedPart:
    """A part of two runs, compared byte by byte.

    Attributes:
        name: the part, for display.
        unit: what is counted: tensors or rows.
        total: how many there are.
        different: how many of them differ.
        largest: the largest absolute difference of two numbers; None if nothing differs, or the difference is not
            numeric (another shape, a missing tensor).
    """

    name: str
    unit: str
    total: int
    different: int
    largest: float | None = None


@dataclass(frozen=True)
class Change:
    """Something that affects results and has changed since the run.

    Attributes:
        what: its name.
        then: its value at the time of the run.
        now: its value now.
    """

    what: str
    then: str
    now: str


@dataclass(frozen=True)
class Verification:
    """The result of repeating a run.

    Attributes:
        parts: weights, logits and rewritten rows, compared; empty if the data differ and the run was not repeated.
        changes: what has changed since the run.
    """

    parts: tuple[ComparedPart, ...]
    changes: tuple[Change, ...]

    @property
    def is_equal(self) -> bool:
        """Whether all parts are identical."""
        return bool(self.parts) and not any(part.different for part in self.parts)


def verify_run(directory: RunDirectory, source: RecipeData, scratch: Path, report: Report) -> Verification:
    """Repeat a run, scouts included, without any cached training, and compare.

    Nothing is trained if the data are not those of the run.

    Args:
        directory: the run.
        source: the data as the recipe sees it.
        scratch: an empty directory for the trainings.
        report: receives progress events.

    Raises:
        RunError: if a file of the run is damaged, or the training fails.
        RecipeError: if something that the recipe names is not installed.
    """
    record = directory.record
    bound = bound_recipe_of(directory)
    seed, fold = record.identity.seed, record.identity.fold
    if fold:
        divided_by = record.fold_pixels or bound.recipe.data.pixels  # earlier versions did not record them
        source.divide(divided_by, CrossValidation(fold.folds, fold.repeat + 1, fold.keeps_test))
    data = source.splits_for(bound.recipe, fold)
    identity = identity_of(bound, seed, data, fold)
    changes = tuple(_changes(record, bound, data))
    if not changes and identity.key != record.identity.key:
        changes = (Change("code of fer_augment, of the model or of the loss", *_CODE),)
    if data.fingerprint != record.data_fingerprint:
        return Verification((), changes)
    store = TrainingStore(scratch / "trainings")
    before = source.splits_of(bound.recipe, fold).train
    again = perform(bound, identity, data, before, store, scratch / "run", report)
    return Verification(tuple(_compared(directory.path, again.path)), changes)


def _changes(record: RunRecord, bound: BoundRecipe, data: Splits) -> Iterator[Change]:
    if data.fingerprint != record.data_fingerprint:
        yield Change("data", record.data_fingerprint[:16], data.fingerprint[:16])
    now = environment(bound)
    for name in dict.fromkeys([*record.environment, *now]):
        pair = record.environment.get(name, "none"), now.get(name, "none")
        if pair[0] != pair[1]:
            yield Change(name, *pair)
    for step in changed_steps(record, bound.steps):
        yield Change(f"code of {step}", *_CODE)


def _compared(then: Path, now: Path) -> Iterator[ComparedPart]:
    rows, predictions = (
        (_read(then / f"{name}.safetensors"), _read(now / f"{name}.safetensors"))
        for name in ("provenance", "predictions")
    )
    weights = [
        {name: tensor for file in weights_files(path) for name, tensor in _read(file).items()} for path in (then, now)
    ]
    yield _rows_compared("rewritten training set", _columns(rows[0]), _columns(rows[1]))
    yield _tensors_compared("weights", *weights)
    for split in HELD_OUT:
        yield _rows_compared(f"{split} logits", predictions[0][f"{split}.logits"], predictions[1][f"{split}.logits"])


def _read(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(regular_file(file))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: not readable ({error})") from error


def _columns(provenance: Tensors) -> torch.Tensor:
    """Return label, source rows, copy number and step of each row, side by side."""
    columns = sorted((name, column) for name, column in provenance.items() if name != OUTSIDE)
    return torch.cat([column.reshape(len(column), -1) for _, column in columns], dim=1)


def _tensors_compared(name: str, then: Tensors, now: Tensors) -> ComparedPart:
    names = then.keys() | now.keys()
    different = [key for key in names if key not in then or key not in now or not _same_bits(then[key], now[key])]
    distances = [_distance(then[key], now[key]) for key in different if key in then and key in now]
    known = [distance for distance in distances if distance is not None]
    return ComparedPart(name, "tensors", len(names), len(different), max(known, default=None))


def _rows_compared(name: str, then: torch.Tensor, now: torch.Tensor) -> ComparedPart:
    rows = max(len(then), len(now))
    if then.shape != now.shape or then.dtype != now.dtype:
        return ComparedPart(name, "rows", rows, rows)
    parts = zip(torch.split(then, _ROWS_AT_ONCE), torch.split(now, _ROWS_AT_ONCE), strict=True)
    different = sum(int((_bytes_of_rows(one) != _bytes_of_rows(other)).any(dim=1).sum()) for one, other in parts)
    return ComparedPart(name, "rows", rows, different, _distance(then, now) if different else None)


def _bytes_of_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of each row, `(rows, bytes) uint8`."""
    return tensor.contiguous().unsqueeze(-1).view(torch.uint8).flatten(1)


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _distance(one: torch.Tensor, other: torch.Tensor) -> float | None:
    if one.shape != other.shape:
        return None
    distance = float((one.double() - other.double()).abs().max())
    return distance if math.isfinite(distance) else None
