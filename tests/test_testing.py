"""The kit finds planted faults, each by the name of the check that is there for it."""

from __future__ import annotations

import random
import warnings
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fer_augment import ClassName, Effect, ImageDataset, Strategy, StrategyError, hookimpl, uniforms
from fer_augment.testing import (
    NearestMeanScout,
    assert_conforms,
    check_strategy,
    tiny_dataset,
    tiny_network,
)
from fer_augment.testing.checks import CHECKS, FIRST_CHECKS


class MirrorClasses(Strategy):
    """Append a left-right mirrored copy of every row of the named classes."""

    example: ClassVar[dict[str, Any]] = {"classes": ["ant"]}

    classes: list[ClassName]

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: ImageDataset) -> ImageDataset:
        rows = training_set.rows_of(self.classes)
        return training_set.append(training_set.images[rows][:, :, ::-1], parents=rows)


class Everything(Strategy):
    """Act at every stage, and rightly."""

    @property
    def effects(self) -> Effect:
        changes = Effect.SHIFTS_CLASS_PRIOR | Effect.CORRECTS_CLASS_PRIOR | Effect.SOFT_TARGETS
        return changes | Effect.NEEDS_LINEAR_HEAD | Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        return training_set.take(context.rng.permutation(len(training_set)))

    @hookimpl
    def prepare_model(self, model: Any, context: Any) -> Any:
        torch.nn.init.normal_(model.head.weight, generator=context.generator)
        return model

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any, epoch: Any) -> Any:
        return weights / training_set.counts[training_set.labels] if epoch > 1 else weights

    @hookimpl
    def build_loss(self, loss: Any, class_prior: Any) -> Any:
        weights = torch.tensor(1 - class_prior, dtype=torch.float32)
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)

    @hookimpl
    def augment_rows(self, images: Any, rows: Any, draws: Any, training_set: Any, context: Any) -> Any:
        seeds = context.row_seeds(training_set.row_keys(rows), draws)
        return images ^ (seeds % 8).astype(np.uint8)[:, None, None, None]

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        other = torch.randperm(len(images), generator=context.generator)
        return (images + images[other]) / 2, (targets + targets[other]) / 2

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        balanced = 1 / training_set.counts[training_set.labels]
        return context.train(model, parameters=model.head.parameters(), weights=balanced)

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return [*views, *(view.flip(3) for view in views)]

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        bias = torch.tensor(np.log(np.where(class_prior > 0, class_prior, 1)), dtype=torch.float32)
        return lambda logits: adjust(logits) - bias


def failed(strategy_class: type[Strategy]) -> dict[str, str]:
    return {result.name: result.advice for result in check_strategy(strategy_class) if not result.passed}


@pytest.mark.parametrize("strategy_class", [MirrorClasses, Everything])
def test_a_right_strategy_passes_every_check(strategy_class: type[Strategy]) -> None:
    results = check_strategy(strategy_class)
    assert [result.name for result in results] == [check.__name__ for check in (*FIRST_CHECKS, *CHECKS)]
    assert failed(strategy_class) == {}


# One planted fault each; the name of a class is the name of the check that must find it.
class _HasNoSuchHook(Strategy):
    """Misspell a hook."""

    @hookimpl
    def rewrite_trainingset(self, training_set: ImageDataset) -> ImageDataset:
        return training_set


class _HasNoExample(Strategy):
    """Need a parameter."""

    exponent: float

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class _ForgetsToReturn(Strategy):
    """Append, and drop the result."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        training_set.append(training_set.images[[0]], parents=[0])


class _ChangesTheDtype(Strategy):
    """Return float pixels."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return images.astype(np.float32)


class _ChangesTheShape(Strategy):
    """Crop a column."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images[:, :, :, 1:], targets


class _GivesLabelsOutOfRange(Strategy):
    """Append rows of a class that does not exist."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return training_set.append(training_set.images[[0]], labels=[7], parents=[0])


class _Crashes(Strategy):
    """Divide by nothing."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights * (1 // 0)


class _UsesUnseededNumbers(Strategy):
    """Draw from nowhere."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights + np.random.default_rng().random(len(weights)) / 100


class _UsesGlobalNumbers(Strategy):
    """Draw from the global generators."""

    draw: ClassVar[Any]

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights + type(self).draw()


class _UsesPythonRandom(_UsesGlobalNumbers):
    """Draw from Python's generator."""

    draw = random.random


class _UsesNumpyRandom(_UsesGlobalNumbers):
    """Draw from numpy's generator."""

    draw = np.random.rand


class _UsesTorchRandom(_UsesGlobalNumbers):
    """Draw from torch's generator."""

    @staticmethod
    def draw() -> float:
        return torch.rand(()).item()


class _ClaimsToBeRandom(Strategy):
    """Do nothing by chance."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return training_set


class _HidesThatItIsRandom(Strategy):
    """Shuffle."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        return training_set.take(context.rng.permutation(len(training_set)))


class _ChangesAnArrayInPlace(Strategy):
    """Halve the weights that were given."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        weights *= 0.5
        return weights


class _ChangesATensorInPlace(Strategy):
    """Clear the images that were given."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images.zero_(), targets


class _ChangesAListInPlace(Strategy):
    """Append to the views that were given."""

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        views.append(views[0].flip(3))
        return views


class _CountsItsRuns(Strategy):
    """Do something else in every other run."""

    runs: ClassVar[list[int]] = []

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        self.runs.append(1)
        return weights * len(self.runs)


class _LosesProvenance(Strategy):
    """Make a new data set of old pixels."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return ImageDataset.from_arrays(training_set.images[:], training_set.labels, training_set.class_names)


class _InventsOrigins(Strategy):
    """Make a larger data set of old pixels."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        twice = np.concatenate([training_set.images[:]] * 2)
        return ImageDataset.from_arrays(twice, np.tile(training_set.labels, 2), training_set.class_names)


class _GivesTargetsThatDoNotSumToOne(Strategy):
    """Double the targets."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images, targets * 2


class _LeavesTheRangeOfPixels(Strategy):
    """Brighten without end."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images + 1, targets


class _AugmentsByPlaceInTheBatch(Strategy):
    """Darken every other image of a batch."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return np.where(np.arange(len(images))[:, None, None, None] % 2, images, images // 2)


class _AugmentsByBatchMates(Strategy):
    """Invert with respect to the brightest pixel of the batch."""

    @hookimpl
    def augment_rows(self, images: Any) -> Any:
        return images.max() - images


class _PredictsByBatchMates(Strategy):
    """Center held-out images by the mean of their batch."""

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return [view - view.mean() for view in views]


class _AdjustsByBatchMates(Strategy):
    """Center logits by the mean of their batch."""

    @hookimpl
    def build_adjustment(self, adjust: Any) -> Any:
        return lambda logits: adjust(logits) - adjust(logits).mean(dim=0)


class _AveragesTheLoss(Strategy):
    """Return one loss for the batch."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets).mean()


class _GivesAnInfiniteLoss(Strategy):
    """Divide by zero."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets) / targets.min(dim=1).values


class _CutsOffTheGradient(Strategy):
    """Return a loss that teaches nothing."""

    @hookimpl
    def build_loss(self, loss: Any) -> Any:
        return lambda logits, targets: loss(logits, targets).detach()


class _ReplacesTheNetwork(Strategy):
    """Return a network without features."""

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        return torch.nn.Sequential(model.features, model.head)


class _FailsOnEmptyClasses(Strategy):
    """Take the first row of every class."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        return training_set.take([training_set.rows_of([name])[0] for name in training_set.class_names])


class _AdjustsByInfinity(Strategy):
    """Subtract the logarithm of a class frequency that may be zero."""

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        with np.errstate(divide="ignore"):
            bias = torch.tensor(np.log(class_prior), dtype=torch.float32)
        return lambda logits: adjust(logits) - bias


class _CannotBeWritten(Strategy):
    """Have a value that JSON does not have."""

    ceiling: float = float("inf")

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class _Warns(Strategy):
    """Warn."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        warnings.warn("look out", stacklevel=1)
        return weights


class _HidesAShiftedPrior(Strategy):
    """Draw one class more often."""

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return np.where(training_set.labels == 0, weights * 3, weights)


class _HidesSoftTargets(Strategy):
    """Smooth the targets."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any) -> Any:
        return images, targets * 0.9 + 0.1 / targets.shape[1]


class _HidesInSampleMining(Strategy):
    """Move the confused rows to the end."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        probabilities = context.scout.probabilities(training_set, how="in_sample")
        return training_set.take(np.argsort(probabilities.argmax(axis=1) != training_set.labels, kind="stable"))


class _HidesOutOfFoldMining(Strategy):
    """Move the confused rows to the end."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        probabilities = context.scout.probabilities(training_set)
        return training_set.take(np.argsort(probabilities.argmax(axis=1) != training_set.labels, kind="stable"))


class _HidesEmbeddings(Strategy):
    """Order rows by their first feature."""

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        return training_set.take(np.argsort(context.scout.embeddings(training_set)[:, 0], kind="stable"))


class _SaysNothing(Strategy):
    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights


class _DropsWeights(Strategy):
    """Draw all classes equally often, whatever earlier steps want."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, training_set: Any) -> Any:
        return 1 / training_set.counts[training_set.labels]


class _SetsTheWeightOfOneClass(Strategy):
    """Draw one class more often, whatever earlier steps want of its rows."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return np.where(training_set.labels == 0, 3.0, weights)


class _DropsTheLoss(Strategy):
    """Put cross-entropy in the place of the recipe's loss."""

    @hookimpl
    def build_loss(self) -> Any:
        return lambda logits, targets: -(targets * logits.log_softmax(dim=1)).sum(dim=1)


class _DropsTheAdjustment(Strategy):
    """Move one class, whatever earlier steps did."""

    @hookimpl
    def build_adjustment(self, adjust: Any, validation_logits: Any) -> Any:
        bias = adjust(validation_logits).mean(dim=0)
        return lambda logits: logits - bias


class _KeepsOneView(Strategy):
    """Add a mirrored view to the first one, and drop the others."""

    @hookimpl
    def predict_views(self, views: Any) -> Any:
        return [views[0], views[0].flip(3)]


class _ReadsStoredRows(Strategy):
    """Invert the images as they stand in the set."""

    @hookimpl
    def augment_rows(self, rows: Any, training_set: Any) -> Any:
        return 255 - training_set.images[rows]


class _ReadsStoredLabels(Strategy):
    """Give each row the label that it has in the set."""

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, training_set: Any) -> Any:
        return images, torch.eye(targets.shape[1])[torch.from_numpy(training_set.labels[rows])]


class _DropsTheTrainedNetwork(Strategy):
    """Set all weights to one number."""

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 0.1)
        return model


class _CountsTheSet(Strategy):
    """Weight classes by their rows in the set, however these are drawn."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def build_loss(self, loss: Any, training_set: Any) -> Any:
        weights = torch.from_numpy(1 / np.maximum(training_set.counts, 1)).float()
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)


class _MakesEveryLossNaN(Strategy):
    """Weight by inverse frequency, which a class without rows makes infinite."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def build_loss(self, loss: Any, class_prior: Any) -> Any:
        with np.errstate(divide="ignore"):
            weights = torch.from_numpy(1 / class_prior).float()
        return lambda logits, targets: loss(logits, targets) * (targets @ weights)


class _FavorsAnEmptyClass(Strategy):
    """Subtract the logarithm of a frequency that is cut off at a small number."""

    @property
    def effects(self) -> Effect:
        return Effect.CORRECTS_CLASS_PRIOR

    @hookimpl
    def build_adjustment(self, adjust: Any, class_prior: Any) -> Any:
        bias = torch.tensor(np.log(np.maximum(class_prior, 1e-6)), dtype=torch.float32)
        return lambda logits: adjust(logits) - bias


class _GivesAFalseParent(Strategy):
    """Mirror all rows of a class, and say that they descend from another one."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        ants = training_set.rows_of(["ant"])
        return training_set.append(training_set.images[ants][:, :, ::-1], parents=np.roll(ants, 1))


class _GivesWrongLabels(Strategy):
    """Mirror all rows, and label them as the next class."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR | Effect.MIRRORED_COPIES

    @hookimpl
    def rewrite_training_set(self, training_set: Any) -> Any:
        rows, labels = np.arange(len(training_set)), (training_set.labels + 1) % len(training_set.class_names)
        return training_set.append(training_set.images[rows][:, :, ::-1], labels, parents=rows)


class _ShufflesImages(Strategy):
    """Give each target the image of another row."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        return images[context.rng.permutation(len(images))], targets


class _ForgetsDraws(Strategy):
    """Darken at random, in the same way whenever a row is drawn."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_rows(self, images: Any, rows: Any, training_set: Any, context: Any) -> Any:
        chance = uniforms(context.row_seeds(training_set.row_keys(rows)), 1)
        return (images * chance[:, :, None, None]).astype(np.uint8)


class _SeedsByPosition(Strategy):
    """Darken at random, by where a row stands in the set."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, draws: Any, context: Any) -> Any:
        chance = uniforms(context.row_seeds(rows.astype(np.uint64), draws), 1)
        return images * torch.from_numpy(chance.astype(np.float32))[:, :, None, None], targets


class _HidesMirroredCopies(MirrorClasses):
    """Mirror all rows of some classes."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR


class _HidesARandomFlip(Strategy):
    """Mirror every other row, and brighten all."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, rows: Any, draws: Any, training_set: Any, context: Any) -> Any:
        chance = uniforms(context.row_seeds(training_set.row_keys(rows), draws), 1)
        mirrored = torch.from_numpy(chance < 0.5)[:, :, None, None]
        return 0.2 + 0.8 * torch.where(mirrored, images.flip(3), images), targets


class _HidesThatItNeedsAHead(Strategy):
    """Even out the lengths of the weights of the last layer."""

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        model.head.weight.data /= model.head.weight.data.norm(dim=1, keepdim=True)
        return model


class _RenamesParameters(Strategy):
    """Put the last layer of a trained network into another one."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_LINEAR_HEAD

    @hookimpl
    def refine_model(self, model: Any) -> Any:
        model.head = torch.nn.Sequential(model.head)
        return model


PLANTED = [
    (_HasNoSuchHook, "is_declared_as_a_strategy", "did you mean 'rewrite_training_set'"),
    (_SaysNothing, "is_declared_as_a_strategy", "docstring"),
    (_HasNoExample, "builds_from_its_example", "exponent"),
    (_ForgetsToReturn, "keeps_the_contract_of_its_stages", "returned nothing"),
    (_ChangesTheDtype, "keeps_the_contract_of_its_stages", "must return uint8 images"),
    (_ChangesTheShape, "keeps_the_contract_of_its_stages", "shapes and dtypes"),
    (_GivesLabelsOutOfRange, "keeps_the_contract_of_its_stages", "label 7 is outside 0..2"),
    (_Crashes, "keeps_the_contract_of_its_stages", "ZeroDivisionError"),
    (_InventsOrigins, "keeps_the_contract_of_its_stages", "descend from the set"),
    (_UsesUnseededNumbers, "same_seed_gives_the_same_bytes", "context.rng"),
    (_UsesPythonRandom, "leaves_global_random_numbers_alone", "Python's global random"),
    (_UsesNumpyRandom, "leaves_global_random_numbers_alone", "numpy's global random"),
    (_UsesTorchRandom, "leaves_global_random_numbers_alone", "torch's global generator"),
    (_ClaimsToBeRandom, "declares_whether_it_is_random", "take Effect.RANDOM out"),
    (_HidesThatItIsRandom, "declares_whether_it_is_random", "declare Effect.RANDOM"),
    (_HidesAShiftedPrior, "declares_what_it_changes", "SHIFTS_CLASS_PRIOR"),
    (_HidesSoftTargets, "declares_what_it_changes", "SOFT_TARGETS"),
    (_HidesInSampleMining, "declares_what_it_changes", "IN_SAMPLE_MINING"),
    (_HidesOutOfFoldMining, "declares_what_it_changes", "OUT_OF_FOLD_MINING"),
    (_HidesEmbeddings, "declares_what_it_changes", "ASKS_FOR_EMBEDDINGS"),
    (_HidesMirroredCopies, "declares_what_it_changes", "MIRRORED_COPIES"),
    (_HidesARandomFlip, "declares_what_it_changes", "RANDOM_FLIP"),
    (_HidesThatItNeedsAHead, "declares_what_it_changes", "NEEDS_LINEAR_HEAD"),
    (_ChangesAnArrayInPlace, "leaves_its_inputs_alone", "sampling_weights"),
    (_ChangesATensorInPlace, "leaves_its_inputs_alone", "augment_batch"),
    (_ChangesAListInPlace, "leaves_its_inputs_alone", "predict_views"),
    (_CountsItsRuns, "keeps_no_state_between_runs", "second run"),
    (_DropsWeights, "builds_on_earlier_steps", "multiply the `weights`"),
    (_SetsTheWeightOfOneClass, "builds_on_earlier_steps", "multiply the `weights`"),
    (_DropsTheLoss, "builds_on_earlier_steps", "wrap the `loss`"),
    (_DropsTheAdjustment, "builds_on_earlier_steps", "calls the `adjust`"),
    (_KeepsOneView, "builds_on_earlier_steps", "add to the `views`"),
    (_ReadsStoredRows, "builds_on_earlier_steps", "augment_rows: what earlier steps made"),
    (_ReadsStoredLabels, "builds_on_earlier_steps", "augment_batch: what earlier steps made"),
    (_DropsTheTrainedNetwork, "builds_on_earlier_steps", "return the `model`"),
    (_CountsTheSet, "counts_classes_as_drawn", "go by `class_prior`"),
    (_LosesProvenance, "keeps_provenance", "`append`"),
    (_GivesAFalseParent, "keeps_provenance", "names another row as its parent"),
    (_GivesWrongLabels, "keeps_labels_and_targets_valid", "that none of its parents has"),
    (_GivesTargetsThatDoNotSumToOne, "keeps_labels_and_targets_valid", "sum to 1"),
    (_LeavesTheRangeOfPixels, "keeps_pixels_in_range", "[0, 1]"),
    (_AugmentsByPlaceInTheBatch, "augments_each_row_alone", "row_seeds"),
    (_AugmentsByBatchMates, "augments_each_row_alone", "row_seeds"),
    (_ForgetsDraws, "seeds_by_row_and_draw", "give `draws`"),
    (_SeedsByPosition, "seeds_by_row_and_draw", "not by `rows`"),
    (_ShufflesImages, "mixes_no_image_without_its_target", "its target does not"),
    (_PredictsByBatchMates, "predicts_each_row_alone", "predict_views"),
    (_AdjustsByBatchMates, "predicts_each_row_alone", "build_adjustment"),
    (_AveragesTheLoss, "gives_one_finite_loss_per_row", "must have shape (12,)"),
    (_GivesAnInfiniteLoss, "gives_one_finite_loss_per_row", "finite"),
    (_CutsOffTheGradient, "gives_one_finite_loss_per_row", "grad"),
    (_RenamesParameters, "gives_networks_that_a_run_can_use", "keeps the names"),
    (_ReplacesTheNetwork, "gives_networks_that_a_run_can_use", "features"),
    (_FailsOnEmptyClasses, "copes_with_classes_of_one_or_no_row", "an empty class"),
    (_AdjustsByInfinity, "copes_with_classes_of_one_or_no_row", "infinitely large"),
    (_MakesEveryLossNaN, "copes_with_classes_of_one_or_no_row", "let the weight be 0"),
    (_FavorsAnEmptyClass, "copes_with_classes_of_one_or_no_row", "favors a class without rows"),
    (_CannotBeWritten, "can_be_written_to_a_recipe", "JSON"),
    (_Warns, "emits_no_warnings", "look out"),
]


@pytest.mark.parametrize(("strategy_class", "check", "advice"), PLANTED)
def test_a_planted_fault_is_found_by_name(strategy_class: type[Strategy], check: str, advice: str) -> None:
    found = failed(strategy_class)
    assert advice in found.get(check, f"only found: {found}")


def test_every_check_finds_a_planted_fault() -> None:
    assert {check.__name__ for check in (*FIRST_CHECKS, *CHECKS)} == {check for _, check, _ in PLANTED}


def test_all_failures_are_told_at_once() -> None:
    with pytest.raises(AssertionError, match="_Warns does not conform:\n  emits_no_warnings: UserWarning: look out"):
        assert_conforms(_Warns)
    assert_conforms(MirrorClasses)


class CountsTheSetOnPurpose(_CountsTheSet):
    """Favor small classes however they are drawn, and say so."""

    @property
    def effects(self) -> Effect:
        return Effect.FAVORS_SMALL_CLASSES


class RelabelsByAScout(Strategy):
    """Give rows the class that a scout finds most probable."""

    @property
    def effects(self) -> Effect:
        return Effect.OUT_OF_FOLD_MINING | Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def rewrite_training_set(self, training_set: Any, context: Any) -> Any:
        predicted = context.scout.probabilities(training_set).argmax(axis=1)
        rows = np.flatnonzero(predicted != training_set.labels)
        return training_set.append(training_set.images[rows], predicted[rows], parents=rows).without(rows)


class BlendsWithinClasses(Strategy):
    """Blend each image with another of its class in the batch: its target stays, and rightly."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        alike = (targets @ targets.T).numpy()
        partners = [context.rng.choice(np.flatnonzero(row == row.max())) for row in alike]
        return (images + images[partners]) / 2, targets


class AddsNoise(Strategy):
    """Add noise by numbers that go by the place in a batch, as a stage on the device may."""

    @property
    def effects(self) -> Effect:
        return Effect.RANDOM

    @hookimpl
    def augment_batch(self, images: Any, targets: Any, context: Any) -> Any:
        noise = torch.randn(images.shape, generator=context.generator)
        return (images + 0.1 * noise).clamp(0, 1), targets


class BringsAHead(Strategy):
    """Replace the last layer by two with dropout, whose weights torch draws from its global generator."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_LINEAR_HEAD | Effect.RANDOM

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        inputs, classes = model.head.in_features, model.head.out_features
        layers = torch.nn.Linear(inputs, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, classes)
        model.head = torch.nn.Sequential(*layers)
        return model


class BalancesWhatIsGiven(Strategy):
    """Draw all classes equally often, and rows of a class as earlier steps want."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        return weights / np.bincount(training_set.labels, weights)[training_set.labels]


class ScalesLogits(Strategy):
    """Divide logits by their spread on the validation split: as temperature scaling, it favors no class."""

    @hookimpl
    def build_adjustment(self, adjust: Any, validation_logits: Any) -> Any:
        spread = adjust(validation_logits).std()
        return lambda logits: adjust(logits) / spread


class GivesFloat32Weights(Strategy):
    """Halve the precision: whoever draws makes float64 of it."""

    @hookimpl
    def sampling_weights(self, weights: Any) -> Any:
        return weights.astype(np.float32)


RIGHT = [
    GivesFloat32Weights,
    CountsTheSetOnPurpose,
    RelabelsByAScout,
    BlendsWithinClasses,
    AddsNoise,
    BringsAHead,
    BalancesWhatIsGiven,
    ScalesLogits,
]


@pytest.mark.parametrize("strategy_class", RIGHT)
def test_what_looks_like_a_fault_and_is_none_passes(strategy_class: type[Strategy]) -> None:
    assert failed(strategy_class) == {}


def test_a_strategy_may_refuse_gray_images_by_an_error_of_its_own() -> None:
    class ColorOnly(Strategy):
        """Swap two colors."""

        @hookimpl
        def augment_rows(self, images: Any) -> Any:
            if images.shape[3] != 3:
                raise StrategyError("color images only")
            return images[..., ::-1]

    assert failed(ColorOnly) == {}


def test_the_out_of_fold_scout_never_saw_the_row_or_its_duplicate() -> None:
    # Two equal rows are all of a class: known in sample, and not out of fold, where both are held out.
    images = np.zeros((9, 4, 4), dtype=np.uint8)
    images[0] = images[1] = 255
    data = ImageDataset.from_arrays(images, [0, 0, 1, 1, 1, 1, 1, 1, 1], ("odd", "plain"))
    scout = NearestMeanScout()
    assert scout.probabilities(data, how="in_sample")[:2].argmax(axis=1).tolist() == [0, 0]
    assert scout.probabilities(data, how="out_of_fold")[:2].argmax(axis=1).tolist() == [1, 1]
    assert scout.asked == ["in_sample", "out_of_fold"]


def test_a_row_between_folds_is_not_judged() -> None:
    data = tiny_dataset()
    distant = [data.rows_of(["ant"])[0], data.rows_of(["cat"])[0]]
    probabilities = [
        NearestMeanScout().probabilities(data.append(data.images[[0]], parents=[[row, other]]))[-1]
        for row in distant
        for other in range(len(data))
    ]
    assert 0 < np.isnan(probabilities).any(axis=1).sum() < len(probabilities)


def test_every_pair_of_classes_is_confused_in_the_tiny_data() -> None:
    for channels in (1, 3):
        data = tiny_dataset(channels)
        for how in ("in_sample", "out_of_fold"):
            predicted = NearestMeanScout().probabilities(data, how=how).argmax(axis=1)
            assert len(set(zip(data.labels.tolist(), predicted.tolist(), strict=True))) == 9


def test_the_tiny_network_is_always_the_same_and_draws_no_global_numbers() -> None:
    before = torch.get_rng_state()
    one, other = (tiny_network((16, 14, 1), 3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())
