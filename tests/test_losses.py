"""The losses, compared with hand-computed values and with torch."""

import pytest
import torch
from torch.nn import functional

from fer_augment.hooks.plugin_manager import installed_plugins


def loss(name: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return installed_plugins().loss(name).value.of_batch(logits, targets)


LOGITS = torch.tensor([[0.0, 0.0], [2.0, -1.0], [30.0, -30.0]])
LABELS = torch.tensor([0, 1, 1])
ONE_HOT = functional.one_hot(LABELS, 2).float()


def test_cross_entropy_equals_that_of_torch() -> None:
    ours = loss("cross_entropy", LOGITS, ONE_HOT)
    torch.testing.assert_close(ours, functional.cross_entropy(LOGITS, LABELS, reduction="none"))


def test_cross_entropy_with_soft_targets_is_the_weighted_sum() -> None:
    soft = torch.tensor([[0.3, 0.7]] * 3)
    parts = [functional.cross_entropy(LOGITS, torch.full((3,), label), reduction="none") for label in (0, 1)]
    torch.testing.assert_close(loss("cross_entropy", LOGITS, soft), 0.3 * parts[0] + 0.7 * parts[1])


def test_mse_sums_the_squared_errors_of_the_softmax_output() -> None:
    assert loss("mse", LOGITS, ONE_HOT).tolist() == pytest.approx([0.5, 2 * (1 / (1 + 2.718281828**-3)) ** 2, 2.0])


def test_mse_equals_the_loss_of_the_report() -> None:
    """Summed over rows, it is the sum of squared errors given in the report."""
    expected = functional.mse_loss(LOGITS.softmax(dim=1), ONE_HOT, reduction="sum")
    torch.testing.assert_close(loss("mse", LOGITS, ONE_HOT).sum(), expected)


def test_only_mse_is_declared_as_not_over_logits() -> None:
    over_logits = {offer.name: offer.value.over_logits for offer in installed_plugins().of_kind("loss")}
    assert over_logits["cross_entropy"] and not over_logits["mse"]
