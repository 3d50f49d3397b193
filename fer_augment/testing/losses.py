"""Checks of losses: one finite value per row, gradients, soft targets, and independence of rows, calls and inputs.

Legend of shapes: B rows of a batch, K classes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fer_augment.hooks.declarations import Loss
from fer_augment.testing.repeatability import changed_generators, unusual_global_states
from fer_augment.testing.stages import some_logits

if TYPE_CHECKING:
    import torch

CLASSES = (2, 3, 7)
"""Numbers of classes that losses are computed for."""
_ROWS = 14
_TOLERANCE = 1e-5
_LARGE = 20
"""Factor of large logits, which are in -60..60."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, eq=False)
class LossSubject:
    """A loss under test.

    Attributes:
        loss: its declaration.
    """

    loss: Loss

    @property
    def label(self) -> str:
        """The name of the loss."""
        return self.loss.name

    def of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the losses of a batch."""
        return self.loss.of_batch(logits, targets)


def is_declared_as_a_loss(subject: LossSubject) -> Iterator[str]:
    """The declaration has a name for recipes, a description, and a function."""
    yield from name_faults(subject.loss.name)
    if not subject.loss.summary:
        yield "add a summary; `plugins show` prints it"
    if not callable(subject.loss.of_batch):
        yield f"of_batch must be a function of logits and targets, is a {type(subject.loss.of_batch).__name__}"


def name_faults(name: str) -> Iterator[str]:
    """Yield what is wrong with a name that recipes have to write."""
    if not _NAME.fullmatch(name):
        yield f"the name {name!r} must be lower-case letters, digits and _, as recipes write it"


def accepts_logits_and_targets(subject: LossSubject) -> Iterator[str]:
    """The loss takes logits `(B, K)` and targets `(B, K)`, for any number of classes and rows."""
    for classes in CLASSES:
        for rows in (_ROWS, 1):
            logits, targets = _batch(classes, rows)
            try:
                subject.of(logits, targets)
            except Exception as error:  # noqa: BLE001 - a loss may raise anything
                yield (
                    f"raises {type(error).__name__} for {rows} rows of {classes} classes: "
                    f"{' '.join(str(error).split())}; targets are class weights, (B, K) float32"
                )


def gives_one_loss_per_row(subject: LossSubject) -> Iterator[str]:
    """The result has the shape `(B,)`, one float for each row; the trainer averages."""
    for logits, targets in _batches():
        losses = subject.of(logits, targets)
        if tuple(losses.shape) != (len(logits),) or not losses.is_floating_point():
            expected, found = f"({len(logits)},) floats", f"{str(losses.dtype)[6:]} {tuple(losses.shape)}"
            yield f"the losses of {len(logits)} rows must be {expected}, are {found}; sum over classes only"


def is_finite_with_its_gradient(subject: LossSubject) -> Iterator[str]:
    """Losses and gradients are finite, also for large and for equal logits, and the gradient is not always 0."""
    import torch

    for logits, targets in _batches():
        for case, values in (("", logits), ("large ", _LARGE * logits), ("equal ", torch.zeros_like(logits))):
            inputs = values.clone().requires_grad_()
            losses = subject.of(inputs, targets)
            if not losses.requires_grad:
                yield "the loss has no gradient; do not detach it, and use no argmax or rounding of the logits"
                return
            (gradient,) = torch.autograd.grad(losses.sum(), inputs, allow_unused=True)
            if not bool(losses.isfinite().all()):
                yield f"the loss is not finite for {case}logits; use log_softmax, not softmax().log()"
            elif gradient is None or not bool(gradient.isfinite().all()):
                yield f"the gradient is not finite for {case}logits; avoid sqrt, norms and logarithms at 0"
            elif not case and not bool(gradient.any()):
                yield "the gradient is 0 for all logits; the loss has to depend on them smoothly"


def is_lower_for_the_right_class(subject: LossSubject) -> Iterator[str]:
    """The mean loss is lower if logits favor the classes of the targets than if they favor other classes."""
    for _, targets in _batches():
        right, wrong = (float(subject.of(4 * one, targets).mean()) for one in (targets, targets.roll(1, dims=1)))
        if not right < wrong:
            yield "the loss is not lower for logits that favor the right class; is the sign right?"


def depends_on_soft_targets(subject: LossSubject) -> Iterator[str]:
    """Soft targets, as from mixing or votes, give another loss than the class with the largest share alone."""
    import torch

    for logits, targets in _batches():
        soft = 0.7 * targets + 0.3 * targets.roll(1, dims=1)
        losses = subject.of(logits, soft)
        if not bool(losses.isfinite().all()):
            yield "the loss of soft targets must be finite"
        elif torch.allclose(losses, subject.of(logits, targets)):
            yield "the shares of soft targets are lost; use all of `targets`, not targets.argmax()"


def gives_each_row_its_own_loss(subject: LossSubject) -> Iterator[str]:
    """The loss of a row does not depend on the rest of its batch, nor on the calls before."""
    import torch

    for logits, targets in _batches():
        together = subject.of(logits, targets)
        alone = torch.cat([subject.of(logits[[row]], targets[[row]]).reshape(-1) for row in range(len(logits))])
        if not torch.allclose(together.reshape(-1), alone, atol=_TOLERANCE):
            yield "the loss of a row depends on the rest of its batch; compute it from the row alone"
        if not torch.equal(subject.of(logits, targets), together):
            yield "a second call gives another loss; keep no state, and draw no random numbers"


def uses_the_softmax_if_declared(subject: LossSubject) -> Iterator[str]:
    """With `over_logits=False`, the same number added to all logits of a row does not change its loss."""
    import torch

    if not subject.loss.over_logits:
        for logits, targets in _batches():
            if not torch.allclose(subject.of(logits + 3, targets), subject.of(logits, targets), atol=1e-4):
                yield "the loss does not use the softmax output alone; remove over_logits=False"


def leaves_batch_and_generators_alone(subject: LossSubject) -> Iterator[str]:
    """Logits and targets are not modified in place, and global random numbers are neither drawn nor seeded."""
    import torch

    with unusual_global_states():
        for logits, targets in _batches():
            given = logits.clone(), targets.clone()
            for name in changed_generators(lambda: subject.of(logits, targets)):  # noqa: B023 - called at once
                yield f"draws from or seeds {name}; a loss draws no random numbers"
            if not all(map(torch.equal, given, (logits, targets))):
                yield "logits or targets were changed in place; work on a copy"


def loss_emits_no_warnings(subject: LossSubject) -> Iterator[str]:
    """The loss emits no warning: raise an error, or handle the case."""
    with warnings.catch_warnings(record=True) as emitted:
        warnings.simplefilter("always")
        for logits, targets in _batches():
            subject.of(logits, targets)
    for warning in emitted:
        yield f"{warning.category.__name__}: {warning.message}; fix the cause"


def _batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield logits and one-hot targets for each number of classes."""
    for classes in CLASSES:
        yield _batch(classes, _ROWS)


def _batch(classes: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    numbers = np.arange(rows)
    targets = torch.nn.functional.one_hot(torch.from_numpy(numbers % classes), classes).float()
    return some_logits(numbers, classes), targets
