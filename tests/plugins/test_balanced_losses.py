"""The losses for imbalanced classes equal those of their papers, wrap any loss, and act from the given epoch on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from fer_augment import BatchLoss, Context, Effect, ImageDataset, StrategyError, linear_head
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from tests.networks import network_named

PLUGINS = installed_plugins()
CROSS_ENTROPY = PLUGINS.loss("cross_entropy").value.of_batch
MSE = PLUGINS.loss("mse").value.of_batch

COUNTS = (4, 16, 64)
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.2, -0.7], [-3.0, 1.0, 2.0], [0.0, 4.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0])
ONE_HOT = functional.one_hot(LABELS, 3).double()
SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5]], dtype=torch.float64)

NO_EFFECT = {
    "weighted_loss": {"exponent": 0},
    "class_balanced_loss": {"beta": 0},
    "focal_loss": {"gamma": 0},
    "ldam_loss": {"max_margin": 0},
    "logit_adjusted_loss": {"tau": 0},
    "label_smoothing": {"smoothing": 0},
}
"""Parameters with which each strategy has no effect; `balanced_softmax` has none."""
ALL = (*NO_EFFECT, "balanced_softmax")
Step = tuple[str, dict[str, Any]]


def strategy(name: str, **parameters: Any) -> Any:
    return PLUGINS.strategy(name).value(**parameters)


def loss_of(
    *steps: Step, counts: tuple[int, ...] = COUNTS, prior: Any = None, epoch: int = 0, loss: BatchLoss = CROSS_ENTROPY
) -> BatchLoss:
    """Return the loss of the steps for a set with the given class counts; rows are drawn unweighted by default."""
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [str(number) for number in range(len(counts))]
    data = ImageDataset.from_arrays(np.zeros((len(labels), 2, 2), np.uint8), labels, names)
    pipeline = Pipeline(
        steps_of([strategy(name, **parameters) for name, parameters in steps]), Context(0, data.class_names)
    )
    drawn = np.array(counts) / sum(counts) if prior is None else np.array(prior)
    return pipeline.fold("build_loss", loss, epoch=epoch, class_prior=drawn, training_set=data)


def agree(ours: torch.Tensor, expected: Any) -> None:
    torch.testing.assert_close(ours, torch.as_tensor(expected, dtype=ours.dtype), rtol=1e-6, atol=1e-6)


class TestAllLosses:
    @pytest.mark.parametrize(("name", "parameters"), NO_EFFECT.items())
    @pytest.mark.parametrize("targets", [ONE_HOT, SOFT], ids=["hard", "soft"])
    def test_neutral_parameters_leave_the_loss_unchanged(
        self, name: str, parameters: dict[str, float], targets: torch.Tensor
    ) -> None:
        agree(loss_of((name, parameters))(LOGITS, targets), CROSS_ENTROPY(LOGITS, targets))
        favoring = Effect.CORRECTS_CLASS_PRIOR | Effect.FAVORS_SMALL_CLASSES
        assert not favoring & strategy(name, **parameters).effects

    @pytest.mark.parametrize(
        "name", ["weighted_loss", "class_balanced_loss", "balanced_softmax", "logit_adjusted_loss"]
    )
    @pytest.mark.parametrize("targets", [ONE_HOT, SOFT], ids=["hard", "soft"])
    def test_classes_balanced_by_sampling_are_not_balanced_twice(self, name: str, targets: torch.Tensor) -> None:
        ours = loss_of((name, {}), prior=[1 / 3] * 3)(LOGITS, targets)
        agree(ours, CROSS_ENTROPY(LOGITS, targets))

    @pytest.mark.parametrize("name", ALL)
    def test_the_loss_is_unchanged_before_from_epoch(self, name: str) -> None:
        step: Step = (name, {"from_epoch": 3})
        assert loss_of(step, epoch=2) is CROSS_ENTROPY
        agree(loss_of(step, epoch=3)(LOGITS, ONE_HOT), loss_of((name, {}))(LOGITS, ONE_HOT))
        assert not torch.allclose(loss_of(step, epoch=3)(LOGITS, ONE_HOT), CROSS_ENTROPY(LOGITS, ONE_HOT))
        replaces_the_head = name == "ldam_loss"
        assert (strategy(name).acts_from, strategy(name, from_epoch=3).acts_from) == (0, 0 if replaces_the_head else 3)

    @pytest.mark.parametrize("name", ALL)
    @pytest.mark.parametrize("epoch", [0.8, -1, "late"])
    def test_invalid_epochs_are_rejected(self, name: str, epoch: object) -> None:
        with pytest.raises(ValueError, match="from_epoch"):
            strategy(name, from_epoch=epoch)

    @pytest.mark.parametrize("name", ALL)
    @pytest.mark.parametrize("scale", [1.0, 200.0])
    def test_losses_and_gradients_are_finite_even_if_a_class_has_no_rows(self, name: str, scale: float) -> None:
        parameters = {"gamma": 0.5} if name == "focal_loss" else {}
        logits = (scale * LOGITS.float()).requires_grad_()
        for targets in (ONE_HOT, SOFT):
            loss = loss_of((name, parameters), counts=(5, 0, 3))(logits, targets.float())
            (gradient,) = torch.autograd.grad(loss.sum(), logits)
            assert loss.shape == (4,) and loss.isfinite().all() and gradient.isfinite().all()

    @pytest.mark.parametrize("name", ALL)
    def test_gradients_equal_numerical_derivatives(self, name: str) -> None:
        loss = loss_of((name, {}))
        assert torch.autograd.gradcheck(lambda logits: loss(logits, SOFT), LOGITS.clone().requires_grad_())

    @pytest.mark.parametrize("name", ["weighted_loss", "class_balanced_loss", "focal_loss"])
    def test_a_loss_may_take_float32_only(self, name: str) -> None:
        cost = torch.tensor([[0.0, 1, 3], [1, 0, 2], [3, 2, 0]])
        rows: list[int] = []

        def expected_cost(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            rows.append(len(logits))
            return (logits.softmax(dim=1) * (targets @ cost)).sum(dim=1)

        loss, logits = loss_of((name, {}), loss=expected_cost), LOGITS.float()
        rows.clear()
        soft = loss(logits, SOFT.float())
        assert rows == [4], "one evaluation, as the loss is affine in the targets"
        of_classes = torch.stack([loss(logits, one_hot.expand(4, 3)) for one_hot in torch.eye(3)], dim=1)
        agree(soft, (SOFT.float() * of_classes).sum(dim=1))

    def test_effects_are_declared(self) -> None:
        corrects, raw = Effect.CORRECTS_CLASS_PRIOR, Effect.NEEDS_RAW_LOGITS
        assert {name: strategy(name).effects for name in ALL} == {
            "weighted_loss": corrects,
            "class_balanced_loss": corrects,
            "focal_loss": raw,
            "ldam_loss": Effect.FAVORS_SMALL_CLASSES | raw | Effect.NEEDS_LINEAR_HEAD,
            "balanced_softmax": corrects | raw,
            "logit_adjusted_loss": corrects | raw,
            "label_smoothing": Effect.SOFT_TARGETS,
        }

    @pytest.mark.parametrize(
        ("name", "wrong"),
        [
            ("weighted_loss", {"exponent": 1.1}),
            ("class_balanced_loss", {"beta": 1}),
            ("focal_loss", {"gamma": -1}),
            ("ldam_loss", {"max_margin": -0.1}),
            ("ldam_loss", {"scale": 0}),
            ("logit_adjusted_loss", {"tau": -1}),
            ("label_smoothing", {"smoothing": 1}),
        ],
    )
    def test_parameters_out_of_range_are_rejected(self, name: str, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            strategy(name, **wrong)


class TestWeightedLoss:
    def test_weights_are_powers_of_the_class_sizes_with_mean_1(self) -> None:
        """4, 16 and 64 rows: 1/2, 1/4 and 1/8, times 84 / (2 + 4 + 8)."""
        agree(loss_of(("weighted_loss", {}))(LOGITS, ONE_HOT), CROSS_ENTROPY(LOGITS, ONE_HOT) * weights(3, 1.5, 0.75))

    def test_exponent_1_gives_the_balanced_weights_of_scikit_learn(self) -> None:
        labels = np.repeat([0, 1, 2], COUNTS)
        balanced = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(3), y=labels))
        expected = functional.cross_entropy(LOGITS, LABELS, weight=balanced, reduction="none")
        agree(loss_of(("weighted_loss", {"exponent": 1}))(LOGITS, ONE_HOT), expected)

    def test_soft_targets_give_the_weighted_sum_as_in_torch(self) -> None:
        expected = functional.cross_entropy(
            LOGITS, SOFT, weight=torch.tensor([3, 1.5, 0.75]).double(), reduction="none"
        )
        agree(loss_of(("weighted_loss", {}))(LOGITS, SOFT), expected)

    def test_any_loss_can_be_weighted(self) -> None:
        agree(loss_of(("weighted_loss", {}), loss=MSE)(LOGITS, ONE_HOT), MSE(LOGITS, ONE_HOT) * weights(3, 1.5, 0.75))

    def test_a_loss_that_is_not_affine_in_the_targets_is_recognized_with_many_classes(self) -> None:
        """With equal logits and K classes, the mean squared error of a one-hot target is (1 - 1/K) / K."""

        def mean_squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return (logits.softmax(dim=1) - targets).square().mean(dim=1)

        loss = loss_of(("weighted_loss", {}), counts=(1,) * 1000, loss=mean_squared_error)
        agree(loss(torch.zeros(1, 1000), torch.full((1, 1000), 0.001)), [0.999 / 1000])

    def test_a_class_without_rows_has_weight_0(self) -> None:
        ours = loss_of(("weighted_loss", {"exponent": 1}), counts=(5, 0, 15))(LOGITS, ONE_HOT)
        agree(ours, CROSS_ENTROPY(LOGITS, ONE_HOT) * weights(2, 0, 2 / 3))


def weights(*of_class: float) -> torch.Tensor:
    """Return the weight of the class of each row."""
    return torch.tensor(of_class)[LABELS]


class TestClassBalancedLoss:
    @pytest.mark.parametrize("beta", [0.5, 0.9, 0.99, 0.9999])
    def test_weights_are_proportional_to_the_inverse_effective_numbers(self, beta: float) -> None:
        """The effective number of n rows is a sum over rows: the j-th row adds beta^(j - 1)."""
        effective = torch.tensor([sum(beta**row for row in range(count)) for count in COUNTS])
        ratio = loss_of(("class_balanced_loss", {"beta": beta}))(LOGITS, ONE_HOT) / CROSS_ENTROPY(LOGITS, ONE_HOT)
        agree(ratio * effective[LABELS] / effective[0], ratio[:1].expand(4))
        assert float((ratio[:3] * torch.tensor(COUNTS)).sum() / sum(COUNTS)) == pytest.approx(1, abs=1e-6)

    def test_weights_are_proportional_to_the_published_ones(self) -> None:
        """(1 - 0.9) / (1 - 0.9^4) = 0.29078; (1 - 0.9) / (1 - 0.9^16) = 0.12274; (1 - 0.9) / (1 - 0.9^64) = 0.10012."""
        ratio = loss_of(("class_balanced_loss", {"beta": 0.9}))(LOGITS, ONE_HOT) / CROSS_ENTROPY(LOGITS, ONE_HOT)
        assert (ratio[1:3] / ratio[0]).tolist() == pytest.approx([0.12274 / 0.29078, 0.10012 / 0.29078], rel=1e-4)

    def test_beta_close_to_1_equals_inverse_frequency_weights(self) -> None:
        near_1 = loss_of(("class_balanced_loss", {"beta": 1 - 1e-9}))(LOGITS, SOFT)
        agree(near_1, loss_of(("weighted_loss", {"exponent": 1}))(LOGITS, SOFT))


class TestFocalLoss:
    def test_a_row_predicted_with_probability_0_9_has_weight_0_01(self) -> None:
        logits = torch.tensor([[0.9, 0.08, 0.02], [0.5, 0.25, 0.25]]).log()
        ours = loss_of(("focal_loss", {"gamma": 2}))(logits, torch.tensor([[1.0, 0, 0], [1, 0, 0]]))
        agree(ours, -np.array([0.01 * np.log(0.9), 0.25 * np.log(0.5)]))

    def test_soft_targets_give_the_weighted_sum(self) -> None:
        probability = LOGITS.softmax(dim=1)
        expected = -(SOFT * (1 - probability) ** 1.5 * probability.log()).sum(dim=1)
        agree(loss_of(("focal_loss", {"gamma": 1.5}))(LOGITS, SOFT), expected)


class TestLdamLoss:
    COUNTS = (1, 16, 256)

    def test_margins_are_proportional_to_n_to_the_minus_1_4_and_subtracted_from_the_cosine(self) -> None:
        """1, 16 and 256 rows: 1, 1/2 and 1/4, so 0.5, 0.25 and 0.125 with a largest margin of 0.5."""
        cosines = LOGITS / 5
        reduced = cosines - ONE_HOT * torch.tensor([0.5, 0.25, 0.125])
        expected = functional.cross_entropy(30 * reduced, LABELS, reduction="none")
        agree(loss_of(("ldam_loss", {}), counts=self.COUNTS)(30 * cosines, ONE_HOT), expected)

    @pytest.mark.parametrize("prior", [None, [1 / 3] * 3, [0.7, 0.2, 0.1]])
    def test_margins_depend_on_class_sizes_and_not_on_sampling(self, prior: Any) -> None:
        """10, 100 and 1000 rows: 0.5 times 1, 10^(-1/4) and 10^(-1/2), as in the authors' code with any sampler."""
        reduced = LOGITS - 30 * ONE_HOT * torch.tensor([0.5, 0.5 * 10**-0.25, 0.5 * 10**-0.5])
        expected = functional.cross_entropy(reduced, LABELS, reduction="none")
        agree(loss_of(("ldam_loss", {}), counts=(10, 100, 1000), prior=prior)(LOGITS, ONE_HOT), expected)

    def test_class_weights_multiply_the_loss_in_either_order_of_steps(self) -> None:
        steps: list[Step] = [("ldam_loss", {}), ("weighted_loss", {})]
        alone = loss_of(steps[0])(LOGITS, ONE_HOT)
        for order in (steps, steps[::-1]):
            agree(loss_of(*order)(LOGITS, ONE_HOT), alone * weights(3, 1.5, 0.75))

    def test_the_head_is_replaced_by_a_cosine_head(self) -> None:
        model = self.prepared("vgg_mini", scale=20)
        images = torch.rand(5, 1, 16, 16)
        features, weight = model.eval().features(images), model.head.weight
        agree(model(images) / 20, functional.cosine_similarity(features[:, None], weight[None], dim=2))
        assert any(parameter is weight for parameter in model.parameters()), "the weights are trained"
        assert len(list(model.head.parameters())) == 1, "there is no bias"

    def test_networks_without_a_linear_head_are_rejected(self) -> None:
        with pytest.raises(StrategyError, match=r"step 1 \(ldam_loss\), prepare_model: .*convnet1 to convnet5.*choose"):
            self.prepared("convnet5")

    def test_a_second_step_that_needs_a_linear_head_is_told_that_it_was_replaced(self) -> None:
        model = self.prepared("vgg_mini")
        with pytest.raises(StrategyError, match="has a CosineHead as `head`.*remove this step or the earlier one that"):
            linear_head(model)

    def test_cosines_are_computed_in_float32_under_autocast(self) -> None:
        head = self.prepared("vgg_mini").head
        features = torch.randn(4, head.weight.shape[1], generator=torch.Generator().manual_seed(0)).bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = head(features)
        agree(logits, head(features.float()))

    def prepared(self, model: str, **parameters: Any) -> Any:
        pipeline = Pipeline(steps_of([strategy("ldam_loss", **parameters)]), Context(0, ("a", "b", "c")))
        return pipeline.fold("prepare_model", network_named(model, (16, 16, 1), 3))


class TestLossesWithTheClassPrior:
    def test_balanced_softmax_equals_the_published_formula(self) -> None:
        weighted = LOGITS.exp() * torch.tensor(COUNTS)
        expected = -(weighted / weighted.sum(dim=1, keepdim=True)).log()
        agree(loss_of(("balanced_softmax", {}))(LOGITS, ONE_HOT), (ONE_HOT * expected).sum(dim=1))
        agree(loss_of(("balanced_softmax", {}))(LOGITS, SOFT), (SOFT * expected).sum(dim=1))

    @pytest.mark.parametrize("tau", [0.5, 1, 2])
    def test_the_logit_adjusted_loss_equals_the_published_formula(self, tau: float) -> None:
        """log(1 + sum over y' of (prior y' / prior y)^tau exp(z y' - z y)), the pairwise form of equation 10."""
        prior = np.array(COUNTS) / sum(COUNTS)
        expected = []
        for z, y in zip(LOGITS.numpy(), LABELS.numpy(), strict=True):
            others = [other for other in range(3) if other != y]
            expected.append(np.log1p(sum((prior[o] / prior[y]) ** tau * np.exp(z[o] - z[y]) for o in others)))
        agree(loss_of(("logit_adjusted_loss", {"tau": tau}))(LOGITS, ONE_HOT), np.array(expected))

    def test_a_class_without_rows_is_learned_to_be_improbable(self) -> None:
        logits = LOGITS[:1].clone().requires_grad_()
        loss = loss_of(("balanced_softmax", {}), counts=(5, 0, 3))(logits, ONE_HOT[:1])
        plain = torch.autograd.grad(CROSS_ENTROPY(logits, ONE_HOT[:1]).sum(), logits)[0]
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient[0, 1] > plain[0, 1] > 0


class TestLabelSmoothing:
    def test_it_equals_the_label_smoothing_of_torch(self) -> None:
        expected = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1, reduction="none")
        agree(loss_of(("label_smoothing", {}))(LOGITS, ONE_HOT), expected)

    @pytest.mark.parametrize("name", ["weighted_loss", "class_balanced_loss", "focal_loss"])
    def test_smoothed_targets_cost_one_evaluation_of_the_cross_entropy(self, name: str) -> None:
        rows: list[int] = []

        def counting(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            rows.append(len(logits))
            return CROSS_ENTROPY(logits, targets)

        loss = loss_of((name, {}), ("label_smoothing", {"smoothing": 0.3}), loss=counting)
        rows.clear()
        ours = loss(LOGITS, ONE_HOT)
        assert rows == [4]
        of_classes = [loss_of((name, {}))(LOGITS, one_hot.expand(4, 3)) for one_hot in torch.eye(3).double()]
        agree(ours, ((0.7 * ONE_HOT + 0.1) * torch.stack(of_classes, dim=1)).sum(dim=1))

    def test_steps_are_applied_in_recipe_order(self) -> None:
        """Weighting first weights each class of the smoothed target, as in torch; otherwise the row has one weight."""
        smoothed: tuple[str, dict[str, Any]] = ("label_smoothing", {"smoothing": 0.2})
        weighted: tuple[str, dict[str, Any]] = ("weighted_loss", {})
        by_class = functional.cross_entropy(
            LOGITS, LABELS, weight=torch.tensor([3, 1.5, 0.75]).double(), label_smoothing=0.2, reduction="none"
        )
        agree(loss_of(weighted, smoothed)(LOGITS, ONE_HOT), by_class)
        agree(
            loss_of(smoothed, weighted)(LOGITS, ONE_HOT),
            loss_of(smoothed)(LOGITS, ONE_HOT) * weights(3, 1.5, 0.75),
        )
