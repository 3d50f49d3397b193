"""A check with the order of the classes reversed: it finds numbers of classes that are written in the code.

The same rows are given twice, the second time with the last class first: names, labels, counts, logits and targets move
along. Results are read in the first order, so that they are equal if classes count by name. A strategy that does
something to `range(7)` gives equal results with 3 classes, and others with 11. A strategy for which the order has a
meaning, or one with a parameter per class, is not equal with 3 classes either, and is not judged.

Legend of shapes: N rows of the training set, B rows of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import AS_READ, ImageDataset
from fer_augment.hooks.history import History
from fer_augment.hooks.stages import STAGES
from fer_augment.hooks.strategy import Effect, PredictionKind, Strategy
from fer_augment.testing.fixtures import (
    COUNTS,
    MANY_COUNTS,
    NearestMeanScout,
    tiny_dataset,
    tiny_network,
    tiny_training,
)
from fer_augment.testing.stages import (
    Arguments,
    Arrays,
    TinyStep,
    arguments_of,
    same,
    some_logits,
    tiny_step,
    with_features,
)
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch

_FEW, _MANY = len(COUNTS), len(MANY_COUNTS)
_ROWS_OF_CLASS = 3
"""Rows of each class in a batch."""
_SEEDS = range(8)
_LEFT_OUT = 3
"""Classes at the end of the order that a rewriting has to leave out."""
_FIRST_ROWS = (0, 100, 200)
_CLEARLY = 0.2
"""Share of the rows of a class that a rewriting has to add or drop more than in the other order."""


def hard_codes_no_number_of_classes(subject: Subject) -> Iterator[str]:
    """With 11 classes, too, it makes no difference to a class whether it is the first or the last, as with 3.

    Of random results it is only compared which classes are changed with every seed, and which with none.
    """
    if not subject.datasets:
        return
    channels = subject.datasets[0].image_shape[2]
    few, many = (tiny_dataset(channels, classes=classes) for classes in (_FEW, _MANY))
    for stage in _RESULTS:
        if (
            stage in subject.stages
            and _depends_on_order(subject, stage, many)
            and not _depends_on_order(subject, stage, few)
        ):
            yield (
                f"{stage}: with {_MANY} classes, what is done to a class depends on its place in the order of classes, "
                f"with {_FEW} it does not; take the number of classes from the arguments, not from the code"
            )


@dataclass(frozen=True)
class _Result:
    """The result of a stage in the original order of classes.

    Attributes:
        of_classes: for each class arrays of its own rows, or none if the result has no rows.
        others: arrays that belong to all classes.
        is_changed: for each class whether the strategy did anything to its rows; None if this is not known.
        shares: `(K, 2)`, the new and the kept rows of each class as shares of its rows.
    """

    of_classes: tuple[Arrays, ...] = ()
    others: tuple[NDArray[Any], ...] = ()
    is_changed: NDArray[np.bool_] | None = None
    shares: NDArray[np.float64] | None = None

    @property
    def arrays(self) -> Arrays:
        """All arrays."""
        others = self.others if self.shares is None else (*self.others, self.shares)
        return [*(array for arrays in self.of_classes for array in arrays), *others]


@dataclass(frozen=True)
class _Case:
    """A stage that is run on data in one of both orders.

    Attributes:
        data: the data, in the order in which it is given.
        is_reversed: whether that is the reversed order.
    """

    data: ImageDataset
    is_reversed: bool

    @classmethod
    def both(cls, data: ImageDataset) -> tuple[_Case, _Case]:
        """Return the case with the order of the data, and that with the reversed one."""
        return cls(data, False), cls(_reversed(data), True)

    def straight(self, array: Any, axis: int = 0) -> NDArray[Any]:
        """Convert an array with one entry per class along an axis to the original order."""
        values = np.asarray(array)
        return np.flip(values, axis) if self.is_reversed else values

    def given(self, tensor: torch.Tensor) -> torch.Tensor:
        """Convert `(B, K)` logits or targets of the original order to that of the case."""
        return tensor.flip(1) if self.is_reversed else tensor

    @property
    def labels(self) -> NDArray[np.int64]:
        """`(N,)` class numbers in the original order."""
        return len(self.data.class_names) - 1 - self.data.labels if self.is_reversed else self.data.labels

    @property
    def batch(self) -> NDArray[np.int64]:
        """Rows of a batch, a few of each class in the original order."""
        classes = range(len(self.data.class_names))
        return np.concatenate([np.flatnonzero(self.labels == label)[:_ROWS_OF_CLASS] for label in classes])

    def network(self) -> torch.nn.Module:
        """Return the network of the kit, with the outputs in the order of the case."""
        import torch

        network = tiny_network(self.data.image_shape, len(self.data.class_names))
        if self.is_reversed:
            with torch.no_grad():
                for parameter in network.get_submodule("head").parameters():
                    parameter.copy_(parameter.flip(0))
        return network

    def by_class(self, *arrays: NDArray[Any], labels: NDArray[np.int64] | None = None) -> tuple[Arrays, ...]:
        """Part arrays of all rows, or of the rows of the batch with the given labels, by class."""
        own = self.labels if labels is None else labels
        return tuple([array[own == label] for array in arrays] for label in range(len(self.data.class_names)))


def _reversed(data: ImageDataset) -> ImageDataset:
    return replace(data, labels=len(data.class_names) - 1 - data.labels, class_names=data.class_names[::-1])


class _ReversedScout(NearestMeanScout):
    """The scout of the kit, which predicts the same whatever the order of the classes."""

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        """Return `(N, K) float32` probabilities."""
        return super().probabilities(_reversed(training_set), how)[:, ::-1]


def _depends_on_order(subject: Subject, stage: str, data: ImageDataset) -> bool:
    """Whether a stage clearly treats a class otherwise if the order is reversed; False if it cannot be run."""
    is_random = Effect.RANDOM in subject.build().effects
    try:
        return any(
            _differ(*(_reading(subject, stage, case, epoch) for case in _Case.both(data)), is_random=is_random)
            for epoch in ((0, -1) if STAGES[stage].is_per_epoch else (0,))
        )
    except Exception:  # noqa: BLE001 - it refuses the data, or other checks report it
        return False


def _reading(subject: Subject, stage: str, case: _Case, epoch: int) -> Callable[[int], _Result]:
    return lambda seed: _RESULTS[stage](subject.build(), case, epoch, seed)


def _differ(straight: Callable[[int], _Result], turned: Callable[[int], _Result], *, is_random: bool) -> bool:
    first = straight(0)
    if not is_random or all(same(first.arrays, straight(seed).arrays) for seed in (1, 2)):
        is_repeatable = same(first.arrays, straight(0).arrays)  # other checks report what is not
        return is_repeatable and _clearly_differ(first, turned(0))
    if first.is_changed is None:
        return False
    always, never = first.is_changed, ~first.is_changed
    for seed in _SEEDS:
        one, other = straight(seed).is_changed, turned(seed).is_changed
        assert one is not None and other is not None
        always, never = always & one & ~other, never & ~one & other
        if not (always | never).any():
            return False
    return True


def _clearly_differ(one: _Result, other: _Result) -> bool:
    """Whether all rows of a class have other results, or the other arrays differ."""
    for of_one, of_other in zip(one.of_classes, other.of_classes, strict=True):
        rows = np.zeros(len(of_one[0]), dtype=bool)
        for array, changed in zip(of_one, of_other, strict=True):
            rows |= ~_close(array, changed).reshape(len(array), -1).all(axis=1)
        if len(rows) and rows.all():
            return True
    if one.shares is not None and other.shares is not None:
        return _shares_differ(one.shares, other.shares)
    return any(not _close(*pair).all() for pair in zip(one.others, other.others, strict=False))


def _shares_differ(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether a rewriting adds or drops clearly more rows of a class in one of the orders.

    With many classes, this only counts if the last classes of both orders are left out: the order of classes may decide
    ties, such as equal distances.
    """
    differ = np.asarray((np.abs(one - other) > _CLEARLY).any(axis=1))
    if len(one) == _FEW:
        return bool(differ.any())
    places = range(_FEW, len(one) + 1 - _LEFT_OUT)
    return any(
        _are_left_out(one[place:])
        and _are_left_out(other[::-1][place:])
        and (differ[place:] | differ[::-1][place:]).any()
        for place in places
    )


def _are_left_out(shares: NDArray[np.float64]) -> bool:
    """Whether nothing was done to any of some classes, or all of their rows were dropped."""
    return bool((shares == (0, 1)).all() or (shares == 0).all())


def _close(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """Compare numbers up to rounding, which the order of sums changes; pixels in 0..255 up to 2."""
    if one.shape != other.shape:
        return np.zeros(len(one), dtype=bool)
    if one.dtype == np.uint8:
        return np.asarray(np.abs(one.astype(int) - other) <= 2)
    return np.asarray(np.isclose(one, other, rtol=1e-2, atol=1e-3, equal_nan=True))


Reading: TypeAlias = Callable[[Strategy, _Case, int, int], _Result]
"""Runs a stage of a strategy in a case, at a place in `EPOCHS` and with a seed, and reads the result."""


def _fold(arguments: Arguments, strategy: Strategy, case: _Case, seed: int) -> Any:
    scout = _ReversedScout() if case.is_reversed else NearestMeanScout()
    return arguments.fold(strategy, seed=seed, scout=scout, history=_history(case, arguments.epoch or 0))


def _history(case: _Case, epoch: int) -> History | None:
    """Return outputs of the epoch before for all rows, a third of them wrong, without ties; None in the first epoch."""
    if not epoch:
        return None
    rows, classes = np.arange(len(case.data)), len(case.data.class_names)
    predicted = np.where(rows % 3 == 0, (case.labels + 1 + rows // 3) % classes, case.labels)
    logits = some_logits(rows, classes).numpy() / 4 + 3 * np.eye(classes, dtype=np.float32)[predicted]
    history = History(len(rows), classes)
    history.record(rows, case.straight(logits, axis=1).astype(np.float32), epoch - 1)
    return history


def _of_rewriting(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
    """Return the new and the kept rows of each class, as shares of its rows."""
    (arguments,) = arguments_of("rewrite_training_set", case.data)
    rewritten: ImageDataset = _fold(arguments, strategy, case, seed)
    old, classes = rewritten.step == AS_READ, len(case.data.class_names)
    new, kept = (
        case.straight(np.bincount(rewritten.labels[chosen], minlength=classes) / case.data.counts)
        for chosen in (~old, old)
    )
    return _Result(shares=np.stack([new, kept], axis=1), is_changed=(new > 0) | (kept < 1))


def _of_weights(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
    weights = _fold(arguments_of("sampling_weights", case.data)[epoch], strategy, case, seed)
    by_class = case.by_class(weights)
    return _Result(by_class, is_changed=np.array([bool((of_class != 1).any()) for (of_class,) in by_class]))


def _of_loss(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
    """Return losses and gradients of a few rows with each target."""
    import torch

    arguments = arguments_of("build_loss", case.data, case.batch)[epoch]
    classes = len(case.data.class_names)
    labels = case.labels[case.batch]
    loss = with_features(_fold(arguments, strategy, case, seed), case.batch)
    logits = case.given(some_logits(case.batch, classes)).clone().requires_grad_()
    losses = loss(logits, case.given(torch.eye(classes)[torch.from_numpy(labels)]))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    return _Result(case.by_class(losses.detach().numpy(), case.straight(gradient, axis=1), labels=labels))


def _of_step(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
    """Return the loss and the gradients of an optimizer step."""
    arguments = arguments_of("optimizer_step", case.data, case.batch)[epoch]
    of_kit = tiny_step(case.data, case.batch)
    step = TinyStep(case.network(), of_kit.images, of_kit.targets)
    others = {**arguments.others, "parameters": list(step.network.parameters())}
    gradients = _fold(replace(arguments, first=step.gradients, others=others), strategy, case, seed)
    loss = gradients(step.targets, None)
    named = {name: parameter.grad for name, parameter in step.network.named_parameters()}
    return _Result(others=(np.asarray(loss.detach()), *_in_order(named, case)))


def _of_rows(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
    arguments = arguments_of("augment_rows", case.data, case.batch)[epoch]
    return _of_images(case, arguments.first, _fold(arguments, strategy, case, seed))


def _of_batch(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
    arguments = arguments_of("augment_batch", case.data, case.batch)[epoch]
    (images, targets), after = arguments.first, _fold(arguments, strategy, case, seed)
    pairs = [(images, after[0]), (case.straight(targets, axis=1), case.straight(after[1].detach(), axis=1))]
    return _of_images(case, *([np.asarray(value) for value in values] for values in zip(*pairs, strict=True)))


def _of_images(case: _Case, before: Any, after: Any) -> _Result:
    """Return the arrays of a batch by class: one array, or a list of several."""
    labels = case.labels[case.batch]
    given, result = (
        case.by_class(*(arrays if isinstance(arrays, list) else [arrays]), labels=labels) for arrays in (before, after)
    )
    return _Result(result, is_changed=np.array([not same(*pair) for pair in zip(given, result, strict=True)]))


def _of_network(stage: str) -> Reading:
    """Return a function that reads the network of a stage, and the weights with which it was trained again."""

    def result(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
        weights: Arrays = []
        train = tiny_training(case.data)

        def recorded(model: torch.nn.Module, **rest: Any) -> torch.nn.Module:
            if rest.get("weights") is not None:
                weights.append(rest["weights"] / rest["weights"].sum())
            return train(model, **rest)

        (arguments,) = arguments_of(stage, case.data)
        network = _fold(replace(arguments, first=case.network(), train=recorded), strategy, case, seed)
        if weights:  # what is trained may begin with random numbers
            return _Result(case.by_class(*weights))
        return _Result(others=_in_order(network.state_dict(), case))

    return result


def _in_order(tensors: Mapping[str, torch.Tensor | None], case: _Case) -> tuple[NDArray[Any], ...]:
    """Convert tensors of a network of the kit to the original order of its outputs."""
    known = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return tuple(
        case.straight(tensor.detach()) if name.startswith("head.") else tensor.detach().numpy()
        for name, tensor in known.items()
    )


def _of_adjustment(strategy: Strategy, case: _Case, epoch: int, seed: int) -> _Result:
    """Return the adjusted logits of each class, for several validation splits: ties may decide about what is fitted."""
    (arguments,) = arguments_of("build_adjustment", case.data)
    classes, rows = len(case.data.class_names), np.arange(len(case.data))
    adjusted = []
    for first_row in _FIRST_ROWS:
        others = {**arguments.others, "validation_logits": case.given(some_logits(rows + first_row, classes))}
        adjust = _fold(replace(arguments, others=others), strategy, case, seed)
        logits = adjust(case.given(some_logits(case.batch, classes)))
        adjusted.append(case.straight(logits.detach(), axis=1))
    return _Result(tuple([of_class] for of_class in np.stack(adjusted).transpose(2, 0, 1)))


_RESULTS: Mapping[str, Reading] = {
    "rewrite_training_set": _of_rewriting,
    "prepare_model": _of_network("prepare_model"),
    "sampling_weights": _of_weights,
    "build_loss": _of_loss,
    "optimizer_step": _of_step,
    "augment_rows": _of_rows,
    "augment_batch": _of_batch,
    "refine_model": _of_network("refine_model"),
    "build_adjustment": _of_adjustment,
}
"""For each stage that may treat classes differently a function that runs it and reads the result."""
