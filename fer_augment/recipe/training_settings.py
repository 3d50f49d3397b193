"""Training settings of recipes, and what cannot be combined."""

from __future__ import annotations

import math
from collections.abc import Iterator
from os import PathLike
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, AllowInfNan, BaseModel, ConfigDict, Field, Strict, model_validator

from fer_augment.errors import text_fault

Whole: TypeAlias = Annotated[int, Strict()]
Number: TypeAlias = Annotated[float, Strict(), AllowInfNan(False)]
Metric: TypeAlias = Literal["balanced_accuracy", "accuracy", "loss"]


def _finite(parameters: dict[str, Any]) -> dict[str, Any]:
    """Refuse infinite numbers and NaN: JSON, and so the records of runs, has none."""
    for keys, number in _numbers(parameters):
        if not math.isfinite(number):
            raise ValueError(f"{'.'.join(keys)} should be a finite number, got {number}")
    return parameters


def _numbers(value: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, float):
        yield keys, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield from _numbers(part, (*keys, str(key)))


def _whole_characters(value: Any) -> Any:
    """Refuse text with half of a character: a record cannot hold it, and would be refused after the training."""
    fault = text_fault(str(value)) if isinstance(value, str | PathLike) else None
    if fault:
        raise ValueError(fault)
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        _whole_characters(part)
    return value


MOST_EPOCHS = 1_000_000
Text: TypeAlias = Annotated[str, AfterValidator(_whole_characters)]
Parameters: TypeAlias = Annotated[dict[str, Any], AfterValidator(_finite), AfterValidator(_whole_characters)]
"""Parameters of a strategy or a network, by name."""


class Settings(BaseModel):
    """Base class of all settings: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ScoutSettings(Settings):
    """Training of scouts, the auxiliary models that mining strategies query."""

    folds: Whole = Field(default=5, ge=2, le=50, description="Folds of the training set for out-of-fold predictions.")
    epochs: Whole | None = Field(
        default=None, ge=1, le=MOST_EPOCHS, description="Epochs of each scout; null: the value of training.epochs."
    )


class TrainingSettings(Settings):
    """Training of the network."""

    train: Literal["all", "head"] = Field(
        default="all",
        description="all: the whole network; head: its last layer, on features of a given backbone that are computed "
        "once for each image.",
    )
    epochs: Whole = Field(
        default=30,
        ge=1,
        le=MOST_EPOCHS,
        description="Number of epochs; with budget: steps, passes over the source training set.",
    )
    batch_size: Whole = Field(default=128, ge=2, le=1_000_000, description="Rows per optimizer step.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="Optimizer; sgd uses Nesterov momentum."
    )
    learning_rate: Number = Field(
        default=1e-3, gt=0, description="Learning rate; the maximum if the schedule changes it."
    )
    backbone_learning_rate: Number = Field(
        default=1.0, gt=0, description="Factor on the learning rate of the backbone, the network's `features`."
    )
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="Nesterov momentum; used by sgd only.")
    weight_decay: Number = Field(default=0.0, ge=0, description="Weight decay, as defined by the optimizer.")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        default="constant", description="Learning rate schedule over the whole training, after warm-up."
    )
    warm_up: Number = Field(
        default=0.0,
        ge=0,
        description="Epochs, or a fraction of one, in which the learning rate rises linearly before the schedule.",
    )
    freeze_epochs: Whole = Field(
        default=0, ge=0, description="Epochs at the beginning in which the backbone is frozen, in evaluation mode."
    )
    gradient_clipping: Number | None = Field(
        default=None, gt=0, description="Maximum norm of the gradient over all trained parameters; null: no limit."
    )
    weight_average: Number | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay of an exponential moving average of the weights, which is evaluated and kept in place of "
        "the weights; null: no average.",
    )
    loss: Text = Field(
        default="cross_entropy",
        description="Name of an installed loss, or FILE.py:NAME for one in a file next to the recipe.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Floating-point precision; auto: bfloat16 if the hardware supports it natively, else float32.",
    )
    budget: Literal["steps", "epochs"] = Field(
        default="steps",
        description="steps: every arm takes the optimizer steps of the source training set; "
        "epochs: a larger rewritten training set is trained for more steps.",
    )
    evaluate_every: Whole = Field(
        default=5, ge=1, le=MOST_EPOCHS, description="Epochs between evaluations on the validation split."
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="Weights to keep: those of the last epoch, or of the best evaluation by `metric`."
    )
    metric: Metric = Field(
        default="balanced_accuracy", description="Score on the validation split by which `keep: best` chooses."
    )
    patience: Whole | None = Field(
        default=None,
        ge=1,
        le=MOST_EPOCHS,
        description="Stop after so many evaluations in a row without a better one; null: train all epochs. "
        "Needs keep: best.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device for training; auto: an accelerator if available."
    )
    threads: Whole = Field(
        default=1, ge=1, le=1024, description="CPU threads per run; changing it changes results numerically."
    )
    workers: Whole | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Processes per run that augment rows ahead of the training step, with the same results; null: none "
        "on the CPU, where runs use all cores, and up to 8 for an accelerator.",
    )
    scout: ScoutSettings = Field(
        default=ScoutSettings(), description="Training of scouts, which mining strategies query."
    )

    @property
    def shortest(self) -> int:
        """Epochs of the shortest training with these settings: of a scout, or of the run."""
        return min(self.epochs, self.scout.epochs or self.epochs)

    @model_validator(mode="after")
    def _can_be_combined(self) -> TrainingSettings:
        for key in ("backbone_learning_rate", "freeze_epochs"):
            if self.train == "head" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: with `train: head`, the backbone is not trained at all")
        if self.schedule == "one_cycle" and self.warm_up:
            raise ValueError("warm_up: schedule one_cycle has a warm-up of its own; use cosine or constant")
        for key in ("warm_up", "freeze_epochs"):
            if getattr(self, key) > self.shortest:
                of_scout = "" if self.shortest == self.epochs else "scout."
                raise ValueError(f"{key} is {getattr(self, key):g}, more than {of_scout}epochs, {self.shortest}")
        if self.patience is not None and self.keep == "last":
            raise ValueError("patience: stopping early needs `keep: best`, or the last and worse weights are kept")
        return self
