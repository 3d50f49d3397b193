"""Run one stage of one strategy, and convert the result to arrays that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.declarations import BatchLoss
from fer_augment.hooks.history import History
from fer_augment.hooks.loss_features import asks_for_features
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Cache, Context, Effect, Scout, Strategy, TrainAgain
from fer_augment.testing.fixtures import NearestMeanScout, as_tensor, tiny_network, tiny_training

if TYPE_CHECKING:
    import torch

Arrays = list[NDArray[Any]]

EPOCHS = (0, 3, 300)
"""The epochs in which stages are run that are called in every epoch; a strategy may begin to act in a late one."""
BATCH = 12
"""Rows in a batch."""
_HARD, _HARD_AND_SOFT = (0.0,), (0.0, 0.3)


@dataclass(frozen=True)
class Arguments:
    """The arguments of a stage, made anew for each trial so that trials cannot affect each other.

    Attributes:
        stage: the stage.
        data: the training set that the arguments are made from.
        rows: `(B,)`, the rows of `data` in the batch, for stages that take a batch.
        first: the value of the first argument.
        others: the other arguments.
        epoch: the epoch, for stages that are called in every epoch.
        train: the value of `context.train` at `refine_model`; None for a few gradient steps on the data.
    """

    stage: str
    data: ImageDataset
    rows: NDArray[np.int64]
    first: Any
    others: dict[str, Any] = field(default_factory=dict)
    epoch: int | None = None
    train: TrainAgain | None = None

    def fold(self, strategy: Strategy, **options: Any) -> Any:
        """Run the stage with this strategy only, in a run with the options of `pipeline`; return the result."""
        return self.folds(strategy, times=1, **options)[0]

    def folds(
        self,
        strategy: Strategy,
        *,
        times: int,
        seed: int = 0,
        **options: Any,
    ) -> list[Any]:
        """Run the stage several times in one run, so that the rows of the batch are drawn again each time.

        In stages that take a model, torch's global generator is seeded and restored, as in a run: new layers always
        draw their weights from it.
        """
        pipeline = self.pipeline(strategy, seed=seed, **options)
        with _torch_seeded(seed) if self.stage.endswith("_model") else nullcontext():
            return [self.fold_in(pipeline) for _ in range(times)]

    def pipeline(
        self,
        strategy: Strategy,
        *,
        seed: int = 0,
        scout: Scout | None = None,
        history: History | None = None,
        cached: Cache | None = None,
        cores: int = 1,
    ) -> Pipeline:
        """Return a run with this strategy only; it leaves checks of values to those of the kit, which name them."""
        shared_scout = scout or NearestMeanScout()
        recorded = history or (None if self.epoch is None else tiny_history(self.data, self.epoch))
        return Pipeline(
            steps_of([strategy]),
            Context(seed=seed, class_names=self.data.class_names, cores=cores, recorded=recorded),
            scout_for=lambda step: shared_scout,
            cache_for=None if cached is None else lambda step: cached,
            checks_values=False,
        )

    def fold_in(self, pipeline: Pipeline) -> Any:
        """Run the stage in a run; return the result."""
        train = self.train or tiny_training(self.data) if self.stage == "refine_model" else None
        return pipeline.fold(self.stage, self.first, epoch=self.epoch, train=train, **self.others)

    def outcome(self, strategy: Strategy, **options: Any) -> Arrays:
        """Run the stage with this strategy only, in a run with the options of `pipeline`; return arrays."""
        return self.arrays_of(self.fold(strategy, **options), self.softness(strategy))

    def softness(self, strategy: Strategy) -> Sequence[float]:
        """Return the shares of the targets, spread over all classes, with which a loss is called."""
        return _HARD if Effect.NEEDS_HARD_LABELS in strategy.effects else _HARD_AND_SOFT

    def arrays_of(self, result: Any, softness: Sequence[float] = _HARD_AND_SOFT) -> Arrays:
        """Convert a result to arrays; a loss, an adjustment, gradients or a network are applied to the batch first.

        Args:
            result: the result.
            softness: shares of the targets of a loss that are spread over all classes.
        """
        classes = len(self.data.class_names)
        if self.stage == "build_loss":
            return _losses_and_gradients(result, self.rows, classes, softness)
        if self.stage == "optimizer_step":
            loss = result(tiny_step(self.data, self.rows).targets, None)
            return _arrays_of([loss, *(parameter.grad for parameter in self.others["parameters"])])
        if self.stage == "build_adjustment":
            return _arrays_of(result(some_logits(self.rows, classes)))
        if self.stage.endswith("_model"):
            weights = [array for tensor in result.state_dict().values() for array in _arrays_of(tensor)]
            return [*weights, *_arrays_of(result.eval()(as_tensor(self.data.images[self.rows])))]
        return _arrays_of(result)

    def inputs(self) -> Arrays:
        """Return all arguments as arrays, except models, which a strategy may change."""
        values = list(self.others.values())
        if isinstance(self.first, list | tuple):
            values += self.first
        elif not self.stage.endswith("_model"):
            values.append(self.first)
        return [array for value in values for array in _arrays_of(value)]


def some_rows(data: ImageDataset) -> NDArray[np.int64]:
    """Return the rows of a batch, evenly spaced."""
    return np.linspace(0, len(data) - 1, BATCH).astype(np.int64)


def arguments_of(stage: str, data: ImageDataset, rows: NDArray[np.int64] | None = None) -> Sequence[Arguments]:
    """Make the arguments of a stage, once per epoch in which it is run."""
    batch = some_rows(data) if rows is None else rows
    epochs = EPOCHS if STAGES[stage].is_per_epoch else (None,)
    return [Arguments(stage, data, batch, *_ARGUMENTS[stage](data, batch), epoch) for epoch in epochs]


def trial(
    strategy: Strategy,
    stage: str,
    data: ImageDataset,
    *,
    seed: int = 0,
    rows: NDArray[np.int64] | None = None,
    scout: Scout | None = None,
    cores: int = 1,
) -> Arrays:
    """Run a stage in all of its epochs; return the results as arrays."""
    arrays = []
    for arguments in arguments_of(stage, data, rows):
        arrays += arguments.outcome(strategy, seed=seed, scout=scout, cores=cores)
    return arrays


def same(some: Arrays, others: Arrays) -> bool:
    """Whether two results are bit-identical, including shapes and dtypes."""
    return len(some) == len(others) and all(
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        for one, other in zip(some, others, strict=True)
    )


@contextmanager
def _torch_seeded(seed: int) -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _arrays_of(value: Any) -> Arrays:
    """Convert a data set, an array, a tensor, or a list of them to arrays; other values give none."""
    if isinstance(value, ImageDataset):
        return [value.images[:], value.labels, value.origins, value.copies, value.step]
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, list | tuple):
        return [array for item in value for array in _arrays_of(item)]
    return [value.detach().cpu().numpy()] if hasattr(value, "detach") else []


def _losses_and_gradients(
    loss: Callable[..., torch.Tensor], rows: NDArray[np.int64], classes: int, softness: Sequence[float]
) -> Arrays:
    """Return `(B,)` losses and `(B, K)` gradients, for targets of each softness."""
    import torch

    arrays: Arrays = []
    for share in softness:
        logits = some_logits(rows, classes).requires_grad_()
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(rows % classes), classes).float()
        try:
            losses = with_features(loss, rows)(logits, one_hot * (1 - share) + share / classes)
        except Exception as error:
            if not share:
                raise
            raise ValueError(
                f"the loss fails for soft targets ({error}); support them, or declare "
                f"Effect.{Effect.NEEDS_HARD_LABELS.name}"
            ) from error
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        arrays += _arrays_of([losses, gradient])
    return arrays


def with_features(loss: Callable[..., torch.Tensor], rows: NDArray[np.int64]) -> BatchLoss:
    """Return a loss of logits and targets alone; if it asks for features, it is given those of the rows."""
    if not asks_for_features(loss):
        return loss
    return lambda logits, targets: loss(logits, targets, features=some_features(rows))


def features_and_gradient(
    loss: Callable[..., torch.Tensor], rows: NDArray[np.int64], classes: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the `(B, D)` features that a loss is given in the kit, and its gradient with respect to them, if any."""
    import torch

    features = some_features(rows).requires_grad_()
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(rows % classes), classes).float()
    losses = loss(some_logits(rows, classes).requires_grad_(), one_hot, features=features)
    return features, torch.autograd.grad(losses.sum(), features, allow_unused=True)[0]


def some_features(rows: NDArray[np.int64]) -> torch.Tensor:
    """Make features `(B, 4)` that depend on the number of each row only; one of them is 0."""
    return some_logits(rows + 1, 4).relu()


def some_logits(rows: NDArray[np.int64], classes: int) -> torch.Tensor:
    """Make logits `(B, K)` that depend on the number of each row only."""
    import torch

    return torch.stack([torch.cos(torch.arange(1.0, classes + 1) * (row + 1)) * 3 for row in rows.tolist()])


def tiny_history(data: ImageDataset, epoch: int, *, left_out: int = 3, all_wrong: bool = False) -> History:
    """Return a history of the kit, in which every other row is predicted as another class.

    In the first epoch no row was drawn before. The outputs for a row do not depend on its position in the set.

    Args:
        data: the training set.
        epoch: the epoch in which it is used; rows were drawn in the epoch before.
        left_out: each such row was not drawn; 0 for none.
        all_wrong: whether all rows are predicted as another class.
    """
    history, classes = History(len(data), len(data.class_names)), len(data.class_names)
    if not epoch:
        return history
    rows = np.flatnonzero(data.origin % left_out > 0) if left_out else np.arange(len(data))
    predicted = (data.labels[rows] + (1 if all_wrong else data.origin[rows] % 2)) % classes
    history.record(rows, 2 * np.eye(classes, dtype=np.float32)[predicted], epoch - 1)
    return history


@dataclass(frozen=True, eq=False)
class TinyStep:
    """An optimizer step of the kit: a network, and gradients of its loss on a batch.

    Attributes:
        network: the network.
        targets: `(B, K) float32`, one-hot.
    """

    network: torch.nn.Module
    images: torch.Tensor
    targets: torch.Tensor

    def gradients(self, targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Set the gradients of the mean cross-entropy."""
        import torch

        losses = _cross_entropy(self.network(self.images), targets)
        mean = losses.mean() if weights is None else (losses * weights).mean()
        self.network.zero_grad()
        torch.autograd.backward(mean)
        return mean.detach()


def tiny_step(data: ImageDataset, rows: NDArray[np.int64]) -> TinyStep:
    """Return a step on rows of a data set."""
    network = tiny_network(data.image_shape, len(data.class_names))
    return TinyStep(network, as_tensor(data.images[rows]), _one_hot(data, rows))


def _optimizer_step(data: ImageDataset, rows: NDArray[np.int64]) -> tuple[Any, dict[str, Any]]:
    step = tiny_step(data, rows)
    others = {"parameters": list(step.network.parameters()), "class_prior": _prior(data), "training_set": data}
    return step.gradients, others


def _prior(data: ImageDataset) -> NDArray[np.float64]:
    return np.asarray(data.counts / data.counts.sum())


def _one_hot(data: ImageDataset, rows: NDArray[np.int64]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.eye(len(data.class_names), dtype=np.float32)[data.labels[rows]])


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1)


def _unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def _labels_as_tensor(data: ImageDataset, rows: NDArray[np.int64]) -> torch.Tensor:
    import torch

    return torch.from_numpy(data.labels[rows])


_ARGUMENTS: dict[str, Callable[[ImageDataset, NDArray[np.int64]], tuple[Any, dict[str, Any]]]] = {
    "rewrite_training_set": lambda data, rows: (data, {}),
    "prepare_model": lambda data, rows: (tiny_network(data.image_shape, len(data.class_names)), {}),
    "sampling_weights": lambda data, rows: (np.ones(len(data)), {"training_set": data}),
    "build_loss": lambda data, rows: (_cross_entropy, {"class_prior": _prior(data), "training_set": data}),
    "optimizer_step": _optimizer_step,
    "augment_rows": lambda data, rows: (
        data.images[rows],
        {"labels": data.labels[rows], "rows": rows.copy(), "training_set": data},
    ),
    "augment_batch": lambda data, rows: (
        (as_tensor(data.images[rows]), _one_hot(data, rows)),
        {"rows": rows.copy(), "training_set": data},
    ),
    "refine_model": lambda data, rows: (
        tiny_network(data.image_shape, len(data.class_names)),
        {"training_set": data},
    ),
    "predict_views": lambda data, rows: ([as_tensor(data.images[rows])], {}),
    "build_adjustment": lambda data, rows: (
        _unchanged,
        {
            "validation_logits": some_logits(np.arange(len(data)), len(data.class_names)),
            "validation_labels": _labels_as_tensor(data, np.arange(len(data))),
            "class_prior": _prior(data),
        },
    ),
}
"""For each stage, a function that makes the first argument and the others."""
