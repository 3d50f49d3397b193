"""The strategy `logit_adjustment` subtracts log class frequencies, with tau given or chosen on the validation split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import Context, Effect, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.metrics import score

LogitAdjustment: Any = installed_plugins().strategy("logit_adjustment").value
PRIOR = np.array([0.7, 0.2, 0.1])
LOGITS = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0], [3.0, -1.0, 2.0]])


def adjusted(
    logits: torch.Tensor,
    *parameters: dict[str, Any],
    validation: tuple[torch.Tensor, torch.Tensor] = (LOGITS, torch.tensor([0, 1, 2])),
    prior: np.ndarray = PRIOR,
) -> torch.Tensor:
    """Adjust logits by one step for each set of parameters, in order."""
    pipeline = Pipeline(steps_of([LogitAdjustment(**each) for each in parameters]), Context(0, ("a", "b", "c")))
    adjust = pipeline.fold(
        "build_adjustment",
        lambda logits: logits,
        validation_logits=validation[0],
        validation_labels=validation[1],
        class_prior=prior,
    )
    return adjust(logits)


def gaussians(counts: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return Bayes logits, labels and log-likelihoods of rows drawn from unit Gaussians around 0, 1 and 2 by class."""
    labels = np.repeat([0, 1, 2], counts)
    x = np.random.default_rng(seed).normal(labels.astype(float))
    likelihoods = -((x[:, None] - [0, 1, 2]) ** 2) / 2
    return torch.from_numpy(likelihoods + np.log(PRIOR)), torch.from_numpy(labels), likelihoods


def test_tau_times_the_log_prior_is_subtracted() -> None:
    ours = adjusted(LOGITS, {"tau": 0.5})
    torch.testing.assert_close(ours, LOGITS - torch.tensor(0.5 * np.log(PRIOR), dtype=torch.float32))
    assert ours.dtype == LOGITS.dtype


def test_tau_1_gives_the_likelihoods() -> None:
    logits, _, likelihoods = gaussians([70, 20, 10])
    np.testing.assert_allclose(adjusted(logits, {"tau": 1}).numpy(), likelihoods, atol=1e-12)


def test_tau_0_and_equal_priors_do_not_change_predictions() -> None:
    assert torch.equal(adjusted(LOGITS, {"tau": 0}), LOGITS)
    equal = adjusted(LOGITS, {"tau": 1}, prior=np.full(3, 1 / 3))
    torch.testing.assert_close(equal.softmax(dim=1), LOGITS.softmax(dim=1))


def test_adjustments_of_several_steps_are_combined() -> None:
    torch.testing.assert_close(adjusted(LOGITS, {"tau": 0.5}, {"tau": 0.25}), adjusted(LOGITS, {"tau": 0.75}))


def test_a_class_without_rows_is_not_adjusted_and_never_favored() -> None:
    ours = adjusted(LOGITS, {"tau": 1}, prior=np.array([0.8, 0.0, 0.2]))
    assert torch.equal(ours[:, 1], LOGITS[:, 1])
    assert (ours[:, [0, 2]] > LOGITS[:, [0, 2]]).all()


def test_auto_is_the_smallest_value_of_the_grid_with_the_best_balanced_accuracy() -> None:
    logits, labels, _ = gaussians([70, 20, 10])
    grid = np.arange(21) / 10
    scores = [
        score(labels.numpy(), adjusted(logits, {"tau": tau}).argmax(dim=1).numpy(), 3).balanced_accuracy for tau in grid
    ]
    best = grid[int(np.argmax(scores))]
    assert 0 < best < 2
    chosen = adjusted(logits, {"tau": "auto"}, validation=(logits, labels))
    torch.testing.assert_close(chosen, adjusted(logits, {"tau": best}))


def test_the_tau_chosen_by_auto_is_recorded() -> None:
    logits, labels, _ = gaussians([70, 20, 10])
    pipeline = Pipeline(steps_of([LogitAdjustment(tau=0.5), LogitAdjustment(tau="auto")]), Context(0, ("a", "b", "c")))
    adjust = pipeline.fold(
        "build_adjustment",
        lambda logits: logits,
        validation_logits=logits,
        validation_labels=labels,
        class_prior=PRIOR,
    )
    assert [*pipeline.chosen[1], *pipeline.chosen[2]] == ["tau"] and pipeline.chosen[2]
    torch.testing.assert_close(adjust(LOGITS), adjusted(LOGITS, {"tau": 0.5 + pipeline.chosen[2]["tau"]}))


def test_auto_chooses_0_if_adjustment_does_not_help() -> None:
    """All values of the grid are equally good; the smallest is 0."""
    assert torch.equal(adjusted(LOGITS, {"tau": "auto"}, prior=np.full(3, 1 / 3)), LOGITS)


def test_auto_chooses_the_smallest_of_values_that_are_right_on_other_classes() -> None:
    """With tau 0, all rows count as the second class, from 0.6 on as the first; 6 * 1/6 is not 3 * 1/3 in float64."""
    logits, labels = torch.tensor([[0, 0.55]]).expand(9, 2), torch.tensor([0] * 3 + [1] * 6)
    prior = np.array([1, np.e]) / (1 + np.e)
    assert torch.equal(adjusted(logits, {"tau": "auto"}, validation=(logits, labels), prior=prior), logits)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_auto_counts_ties_alike_for_every_order_of_classes(order: list[int]) -> None:
    """The rows are of the second class, tied with the first: half of them are right without adjustment, then all."""
    logits, labels = torch.tensor([[0.0, 0, -9]]).expand(4, 3)[:, order], torch.full((4,), order.index(1))
    chosen = adjusted(logits, {"tau": "auto"}, validation=(logits, labels), prior=PRIOR[order])
    torch.testing.assert_close(chosen, adjusted(logits, {"tau": 0.1}, prior=PRIOR[order]))


def test_auto_is_close_to_1_for_calibrated_logits() -> None:
    logits, labels, _ = gaussians([70_000, 20_000, 10_000])
    chosen = adjusted(LOGITS, {"tau": "auto"}, validation=(logits, labels))
    tau = (LOGITS - chosen)[0, 0] / np.log(PRIOR[0])
    assert 0.8 <= float(tau) <= 1.2


def test_auto_takes_earlier_steps_into_account() -> None:
    logits, labels, _ = gaussians([70, 20, 10])
    twice = adjusted(logits, {"tau": "auto"}, {"tau": "auto"}, validation=(logits, labels))
    torch.testing.assert_close(twice, adjusted(logits, {"tau": "auto"}, validation=(logits, labels)))


def test_auto_without_validation_rows_raises_an_error() -> None:
    empty = (torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    message = r"step 1 \(logit_adjustment\).* requires validation rows.*there are none; set `tau` to a number"
    with pytest.raises(StrategyError, match=message):
        adjusted(LOGITS, {"tau": "auto"}, validation=empty)
    adjusted(LOGITS, {"tau": 1}, validation=empty)


@pytest.mark.parametrize("tau", [-1, "best"])
def test_invalid_taus_are_rejected(tau: object) -> None:
    with pytest.raises(ValueError, match="tau"):
        LogitAdjustment(tau=tau)


def test_no_retraining_is_needed_and_effects_are_declared() -> None:
    assert not steps_of([LogitAdjustment()])[0].acts_in_training
    assert LogitAdjustment().effects == Effect.CORRECTS_CLASS_PRIOR
    assert LogitAdjustment(tau=0).effects == Effect(0)
