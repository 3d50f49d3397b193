"""SAM and ImbSAM: their formulas, and a training with them against a minimal loop of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.strategy import Context
from fer_augment.resampling import make_strategy
from fer_augment.testing import tiny_dataset
from fer_augment.training.step_passes import StepPasses
from fer_augment.training.trainer import seconds_per_step, train
from tests.test_fine_tuning import EVERYTHING, SGD, Interruption, Loop, assert_close, worsening
from tests.tiny_training import same_bits, training_of, weights_of


class Quadratic:
    """Losses of two rows: l_1 = (a - 3)^2 of class 0, l_2 = (2 b)^2 / 2 of class 1."""

    def __init__(self, a: float, b: float) -> None:
        self.parameters = [torch.nn.Parameter(torch.tensor([float(value)])) for value in (a, b)]
        self.asked: list[list[float]] = []

    def gradients(self, targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        a, b = self.parameters
        self.asked.append([a.item(), b.item()])
        losses = torch.cat([(a - 3) ** 2, (2 * b) ** 2 / 2])
        mean = (losses if weights is None else losses * weights).mean()
        for parameter in self.parameters:
            parameter.grad = None
        torch.autograd.backward(mean)
        return mean.detach()

    @property
    def gradient(self) -> list[float]:
        return [parameter.grad.item() for parameter in self.parameters if parameter.grad is not None]


def step_of(name: str, problem: Quadratic, data: Any, **parameters: float) -> Any:
    pipeline = Pipeline(steps_of([make_strategy(name, **parameters)]), Context(0, data.class_names))
    prior = np.asarray(data.counts / data.counts.sum())
    return pipeline.fold(
        "optimizer_step",
        problem.gradients,
        epoch=0,
        parameters=problem.parameters,
        class_prior=prior,
        training_set=data,
    )


TWO_ROWS = torch.tensor([[1.0, 0, 0], [0, 1, 0]])


def test_sam_is_the_gradient_uphill() -> None:
    """At (0, 1) the mean loss is (9 + 2) / 2, its gradient (-3, 2), of length sqrt(13)."""
    problem = Quadratic(0, 1)
    loss = step_of("sam", problem, tiny_dataset(), rho=0.5)(TWO_ROWS, None)

    length = 13**0.5
    moved = [-3 * 0.5 / length, 1 + 2 * 0.5 / length]
    assert float(loss) == pytest.approx(5.5)
    assert problem.asked == [[0, 1], pytest.approx(moved)]
    assert problem.gradient == pytest.approx([moved[0] - 3, 2 * moved[1]])
    assert [parameter.item() for parameter in problem.parameters] == [0, 1]


@pytest.mark.parametrize("tail_weight", [1.0, 2.0])
def test_imb_sam_moves_for_small_classes_alone(tail_weight: float) -> None:
    """Of 10, 15 and 24 rows, `tail_below` 12 makes class 0 small, whose row is the first.

    Its share of the mean loss is (a - 3)^2 / 2, with the gradient -3 at a = 0, so only a moves, by -rho.
    """
    problem = Quadratic(0, 1)
    step = step_of("imb_sam", problem, tiny_dataset(), rho=0.5, tail_below=12, tail_weight=tail_weight)
    loss = step(TWO_ROWS, None)

    assert float(loss) == pytest.approx(5.5)
    assert problem.asked == [[0, 1], pytest.approx([-0.5, 1]), [0, 1]]
    assert problem.gradient == pytest.approx([tail_weight * -3.5, 2])

    step(TWO_ROWS[[1, 1]], None)  # no row of a small class: an ordinary step
    assert len(problem.asked) == 4


def test_soft_targets_count_with_their_share_of_small_classes() -> None:
    problem = Quadratic(0, 1)
    halves = torch.tensor([[0.5, 0, 0.5], [0, 0, 1.0]])
    step_of("imb_sam", problem, tiny_dataset(), rho=0.5, tail_below=12)(halves, None)
    assert problem.gradient == pytest.approx([0.5 * -3.5 + 0.5 * -3, 2])


def test_sam_agrees_with_a_minimal_loop_with_clipping_and_batch_norm() -> None:
    """Statistics of batch norm are those of the first pass; clipping is of the second gradient."""
    training = training_of(make_strategy("sam", rho=0.1), **SGD, gradient_clipping=0.2)
    loop = Loop(training)
    parameters = list(loop.network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    norm = loop.network.features[1]
    for _, loss in loop.batches():
        optimizer.zero_grad()
        loss().backward()
        before = [parameter.detach().clone() for parameter in parameters]
        length = torch.sqrt(sum((parameter.grad**2).sum() for parameter in parameters))
        with torch.no_grad():
            for parameter in parameters:
                parameter += 0.1 * parameter.grad / length
        optimizer.zero_grad()
        batches = norm.num_batches_tracked.clone()
        norm.momentum = 0.0
        loss().backward()
        norm.momentum = 0.1
        norm.num_batches_tracked.copy_(batches)
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
        torch.nn.utils.clip_grad_norm_(parameters, 0.2)
        optimizer.step()
    assert_close(train(training).model, loop.network)


@pytest.mark.parametrize("name", ["sam", "imb_sam"])
def test_resumed_training_is_identical(name: str, tmp_path: Any) -> None:
    """With dropout, batch norm, clipping, an average of the weights and frozen epochs."""
    strategy = make_strategy(name)
    training = worsening(strategy, from_epoch=3, **EVERYTHING)
    whole = train(training)

    def interrupt(point: Any) -> None:
        if point.epoch == 3:
            raise Interruption

    with pytest.raises(Interruption):
        train(training, checkpoint=tmp_path / "c", evaluated=interrupt, seconds_between_checkpoints=0)
    resumed = train(training, checkpoint=tmp_path / "c")
    assert same_bits(weights_of(resumed.model), weights_of(whole.model))
    assert not same_bits(weights_of(train(worsening(from_epoch=3, **EVERYTHING)).model), weights_of(whole.model))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_vanishing_distance_gives_the_plain_training(precision: str) -> None:
    """Dropout masks of the second pass are those of the first, and the generators continue as without it."""
    settings: dict[str, Any] = {"precision": precision, "epochs": 2}
    sam = train(training_of(make_strategy("sam", rho=1e-30), **settings)).model
    assert same_bits(weights_of(sam), weights_of(train(training_of(**settings)).model))


def test_the_estimated_time_of_a_step_counts_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    once = StepPasses._pass

    def counted(*given: Any, **options: Any) -> torch.Tensor:
        passes.append(1)
        return once(*given, **options)

    monkeypatch.setattr(StepPasses, "_pass", counted)
    for steps, expected in (([], 2), ([make_strategy("sam")], 4), ([make_strategy("imb_sam")], 6)):
        passes.clear()
        assert seconds_per_step(training_of(*steps, batch_size=49), steps=1) > 0
        assert len(passes) == expected, "one step to warm up, and one that is timed"
