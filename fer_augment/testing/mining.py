"""In-sample mining without a scout: a strategy runs the network on training rows, and its outputs choose rows.

The network of the kit records its forward passes. Passes through which no gradient flows are then given other outputs:
if other rows are trained on, or rows get other weights, these outputs chose them. Statistics of batch norm, early
stopping and the like do not choose rows.

Legend of shapes: N rows of the training set, B rows of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.strategy import Effect, TrainAgain
from fer_augment.testing.fixtures import tiny_training
from fer_augment.testing.stages import Arguments, arguments_of
from fer_augment.testing.subject import Subject

if TYPE_CHECKING:
    import torch

_VARIANTS = (1, 2)
"""Ways in which outputs are changed; each moves them by as many classes."""
_DECLARE = f"declare Effect.{Effect.IN_SAMPLE_MINING.name}"


def undeclared_mining(subject: Subject) -> Iterator[str]:
    """Yield the stages at which outputs of the network for training rows choose rows, unless this is declared."""
    if Effect.IN_SAMPLE_MINING in subject.build().effects or not subject.datasets:
        return
    data = subject.datasets[0]
    if "refine_model" in subject.stages and _mines_when_refining(subject, data):
        yield f"refine_model: outputs of the trained network for training rows choose rows or their weights; {_DECLARE}"
    for stage in ("sampling_weights", "build_loss"):
        if {"prepare_model", stage} <= set(subject.stages) and _mines_while_training(subject, stage, data):
            yield (
                f"{stage}: outputs of the network that prepare_model was given choose rows or their weights; use "
                f"context.history with Effect.{Effect.USES_HISTORY.name}, or {_DECLARE}"
            )


@dataclass
class _Pass:
    """A forward pass of a module: its input, and the gradient of its output if one flowed through it."""

    input: torch.Tensor
    is_of_network: bool
    gradient: torch.Tensor | None = None


@dataclass
class _Record:
    """What a strategy did with a network: its own passes, and the weights with which it had the network trained.

    Attributes:
        changed: the numbers of the passes whose outputs are changed.
        variant: how they are changed.
    """

    changed: Collection[int] = ()
    variant: int = 0
    passes: list[_Pass] = field(default_factory=list)
    weights: list[NDArray[np.float64] | None] = field(default_factory=list)
    is_paused: bool = False

    @property
    def unused_by_gradients(self) -> list[int]:
        """The numbers of the passes through which no gradient flowed."""
        return [number for number, one in enumerate(self.passes) if one.gradient is None]

    @property
    def learned(self) -> list[_Pass]:
        """The passes of the network that were learned from; those of the head if features were computed before."""
        learned = [one for one in self.passes if one.gradient is not None]
        of_network = [one for one in learned if one.is_of_network]
        return of_network or learned[:1]

    def watch(self, network: torch.nn.Module) -> None:
        """Record the passes of a network and of its head."""
        for module in dict.fromkeys((network, getattr(network, "head", network))):
            module.register_forward_hook(self._hook(is_of_network=module is network))

    def _hook(self, *, is_of_network: bool) -> Any:
        """Return a function: a copy of the network shares it, whereas it would copy a bound method with the record."""

        def record(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> torch.Tensor | None:
            if self.is_paused or not inputs:
                return None
            number, one = len(self.passes), _Pass(inputs[0].detach().clone(), is_of_network)
            self.passes.append(one)
            if output.requires_grad:
                output.register_hook(lambda gradient: setattr(one, "gradient", gradient.detach().clone()))
            return _with_other_outputs(output, self.variant) if number in self.changed else None

        return record

    def training(self, train: TrainAgain) -> TrainAgain:
        """Return a `context.train` that records the weights, and no passes of its own."""

        def recorded(model: torch.nn.Module, *, weights: NDArray[np.float64] | None = None, **rest: Any) -> Any:
            self.weights.append(None if weights is None else np.array(weights, dtype=np.float64))
            self.is_paused = True
            try:
                return train(model, weights=weights, **rest)
            finally:
                self.is_paused = False

        return recorded


def _with_other_outputs(outputs: torch.Tensor, variant: int) -> torch.Tensor:
    """Exchange rows, move values by some classes, and scale rows, so that almost every ranking of rows changes."""
    import torch

    factors = torch.tensor([0.5 + (3 * row + variant) % 7 for row in range(len(outputs))])
    return (outputs.flip(0).T * factors).T.roll(variant, dims=-1)


def _mines_when_refining(subject: Subject, data: ImageDataset) -> bool:
    first = _refined(subject, data, _Record())
    unused = first.unused_by_gradients
    return bool(unused) and any(
        _chose(first, _refined(subject, data, _Record(unused, variant))) for variant in _VARIANTS
    )


def _refined(subject: Subject, data: ImageDataset, record: _Record) -> _Record:
    (arguments,) = arguments_of("refine_model", data)
    record.watch(arguments.first)
    try:
        replace(arguments, train=record.training(tiny_training(data))).fold(subject.build())
    except Exception:
        if not record.changed:
            raise
        # With the changed outputs it may fail where it cannot otherwise: what it did before is compared.
    return record


def _chose(first: _Record, other: _Record) -> bool:
    """Whether other rows were learned from, or rows got other weights; what only one of both did is not compared."""
    if any(not _equal_weights(*pair) for pair in zip(first.weights, other.weights, strict=False)):
        return True
    pairs = list(zip(first.learned, other.learned, strict=False))
    if any(one.input.shape != two.input.shape or not one.input.allclose(two.input) for one, two in pairs):
        return True
    return bool(pairs) and _weighted_rows(_array(pairs[0][0].gradient), _array(pairs[0][1].gradient))


def _equal_weights(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and np.allclose(one / one.sum(), other / other.sum())


def _weighted_rows(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether `(B, K)` gradients differ by a factor for each row alone, which is not the same for all rows.

    Gradients of another direction have other targets, as in self-distillation.
    """
    norms, of_others = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    has_both = (norms > 0) & (of_others > 0)
    cosines = (one * other).sum(axis=1)[has_both] / (norms * of_others)[has_both]
    if not np.allclose(cosines, 1, atol=1e-3):
        return False
    if ((norms > 0) != (of_others > 0)).any():
        return True
    return bool(has_both.any()) and np.ptp(np.log(of_others[has_both] / norms[has_both])) > 1e-3


def _mines_while_training(subject: Subject, stage: str, data: ImageDataset) -> bool:
    """Whether a strategy that keeps the network of `prepare_model` runs it at a later stage to choose rows."""
    first = _Record()
    without_change = _in_one_run(subject, stage, data, first)
    if not first.passes:
        return False
    for variant in _VARIANTS:
        changed = _in_one_run(subject, stage, data, _Record(range(len(first.passes)), variant))
        for one, other in zip(without_change, changed, strict=False):
            if stage == "sampling_weights" and not _equal_weights(one, other):
                return True
            if one.ndim == other.ndim == 2 and _weighted_rows(one, other):  # gradients of the losses of rows
                return True
    return False


def _in_one_run(subject: Subject, stage: str, data: ImageDataset, record: _Record) -> list[NDArray[Any]]:
    """Run `prepare_model` and a stage of every epoch with one instance; return the results of the latter."""
    strategy = subject.build()
    (preparing,) = arguments_of("prepare_model", data)
    record.watch(preparing.fold(strategy))
    return list(_arrays(arguments_of(stage, data), strategy))


def _arrays(later: Iterable[Arguments], strategy: Any) -> Iterator[NDArray[Any]]:
    for arguments in later:
        yield from arguments.outcome(strategy)


def _array(gradient: torch.Tensor | None) -> NDArray[Any]:
    assert gradient is not None, "of a pass that was learned from"
    array: NDArray[Any] = gradient.numpy()
    return array
