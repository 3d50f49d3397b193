"""Strategies that run the network on training rows: those that choose rows by its outputs, and those that do not."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from fer_augment import Effect, ImageDataset, Strategy, hookimpl
from fer_augment.testing.fixtures import as_tensor
from tests.planted_faults.fault import PlantedFault


class NeedsAHead(Strategy):
    """Use the linear head."""

    @property
    def effects(self) -> Effect:
        return Effect.NEEDS_LINEAR_HEAD


class ShiftsThePrior(Strategy):
    """Draw classes in other proportions."""

    @property
    def effects(self) -> Effect:
        return Effect.SHIFTS_CLASS_PRIOR


def tensors_of(training_set: ImageDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images and labels."""
    return as_tensor(training_set.images[:]), torch.from_numpy(training_set.labels.copy())


class DrawsErrorsMoreOften(Strategy):
    """Train again on the rows that the trained network gets wrong."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        with torch.no_grad():
            predicted = model(tensors_of(training_set)[0]).argmax(dim=1).numpy()
        return context.train(model, weights=1 + 2.0 * (predicted != training_set.labels))


class DrawsErrorsMoreOftenAsDeclared(DrawsErrorsMoreOften):
    """Train again on the rows that the trained network gets wrong, and declare it."""

    @property
    def effects(self) -> Effect:
        return Effect.IN_SAMPLE_MINING


class WeighsByACopyOfTheNetwork(Strategy):
    """Draw rows by detached probabilities of a copy of the network, batch by batch."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        twin = copy.deepcopy(model)
        batches = tensors_of(training_set)[0].split(10)
        probabilities = np.concatenate([twin(images).softmax(dim=1).detach().numpy() for images in batches])
        own = probabilities[np.arange(len(training_set)), training_set.labels]
        return context.train(model, weights=1 - own.astype(np.float64))


class WeighsByTheHead(NeedsAHead):
    """Draw rows with a large loss, with features and head called one after the other."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        images, labels = tensors_of(training_set)
        with torch.no_grad():
            losses = cross_entropy(model.head(model.features(images)), labels, reduction="none").numpy()
        return context.train(model, weights=(losses > np.median(losses)).astype(np.float64))


class LearnsErrorsInALoopOfItsOwn(Strategy):
    """Take own gradient steps on the rows that the network gets wrong."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any) -> Any:
        images, labels = tensors_of(training_set)
        with torch.inference_mode():
            wrong = np.flatnonzero(model(images).argmax(dim=1).numpy() != training_set.labels)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for rows in np.array_split(wrong, 3):
            optimizer.zero_grad()
            cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        return model


class WeighsLossesInALoopOfItsOwn(Strategy):
    """Take own gradient steps on all rows, weighted by their probabilities before."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any) -> Any:
        images, labels = tensors_of(training_set)
        with torch.no_grad():
            weights = 1 - model(images).softmax(dim=1)[range(len(labels)), labels]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            (weights * cross_entropy(model(images), labels, reduction="none")).mean().backward()
            optimizer.step()
        return model


class LearnsDoubtfulFeatures(NeedsAHead):
    """Train the head on stored features of the rows with the smallest largest logit."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any) -> Any:
        images, labels = tensors_of(training_set)
        with torch.no_grad():
            features = model.features(images)
            doubtful = model.head(features).amax(dim=1).argsort()[:20]
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model.head(features[doubtful]), labels[doubtful]).backward()
            optimizer.step()
        return model


_KEPT: dict[str, torch.nn.Module] = {}


class KeepsTheNetworkForWeights(ShiftsThePrior):
    """Keep the network that is prepared, and draw the rows that it gets wrong more often."""

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        _KEPT["weights"] = model
        return model

    @hookimpl
    def sampling_weights(self, weights: Any, training_set: Any) -> Any:
        if not fits(_KEPT.get("weights"), training_set):
            return weights
        with torch.no_grad():
            predicted = _KEPT["weights"](tensors_of(training_set)[0]).argmax(dim=1).numpy()
        return weights * (1 + (predicted != training_set.labels))


class KeepsTheNetworkForTheLoss(Strategy):
    """Keep the network that is prepared, and weight classes by how often it predicts them."""

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        _KEPT["loss"] = model
        return model

    @hookimpl
    def build_loss(self, loss: Any, training_set: Any) -> Any:
        if not fits(_KEPT.get("loss"), training_set):
            return loss
        with torch.no_grad():
            shares = _KEPT["loss"](tensors_of(training_set)[0]).softmax(dim=1).mean(dim=0)
        return lambda logits, targets: loss(logits, targets) * (targets @ (2 - shares))


def fits(network: Any, training_set: ImageDataset) -> bool:
    """Whether a network was made for the images and classes of a set."""
    return network is not None and (network.features[1].in_features, network.head.out_features) == (
        np.prod(training_set.image_shape),
        len(training_set.class_names),
    )


class DistillsItself(Strategy):
    """Take own gradient steps towards the outputs before; all rows count equally."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any) -> Any:
        images, labels = tensors_of(training_set)
        with torch.no_grad():
            before = model(images).softmax(dim=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            logits = model(images)
            (cross_entropy(logits, labels) + cross_entropy(logits, before)).backward()
            optimizer.step()
        return model


class MeasuresStatistics(Strategy):
    """Run the network in training mode for the statistics of batch norm, and use no output."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any, context: Any) -> Any:
        model.train()
        with torch.no_grad():
            model(tensors_of(training_set)[0])
        return context.train(model.eval(), weights=1 / training_set.counts[training_set.labels])


class StopsEarly(Strategy):
    """Take own gradient steps until the loss of all rows grows."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any) -> Any:
        images, labels = tensors_of(training_set)
        optimizer, lowest = torch.optim.SGD(model.parameters(), lr=0.1), np.inf
        for epoch in range(4):
            for rows in np.array_split(np.random.default_rng(epoch).permutation(len(labels)), 3):
                optimizer.zero_grad()
                cross_entropy(model(images[rows]), labels[rows]).backward()
                optimizer.step()
            with torch.no_grad():
                loss = float(cross_entropy(model(images), labels))
            if loss > lowest:
                break
            lowest = loss
        return model


class LearnsScales(NeedsAHead):
    """Fit a scale per class to stored logits; all rows count equally."""

    @hookimpl
    def refine_model(self, model: Any, training_set: Any) -> Any:
        images, labels = tensors_of(training_set)
        with torch.no_grad():
            logits = model(images)
        scales = torch.ones(logits.shape[1], requires_grad=True)
        optimizer = torch.optim.SGD([scales], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(logits * scales, labels).backward()
            optimizer.step()
        with torch.no_grad():
            model.head.weight *= scales[:, None]
            model.head.bias *= scales
        return model


_CHECK, _REFINING = "declares_what_it_changes", "refine_model: outputs of the trained network"
FAULTS: list[PlantedFault] = [
    (DrawsErrorsMoreOften, _CHECK, _REFINING),
    (WeighsByACopyOfTheNetwork, _CHECK, _REFINING),
    (WeighsByTheHead, _CHECK, _REFINING),
    (LearnsErrorsInALoopOfItsOwn, _CHECK, _REFINING),
    (WeighsLossesInALoopOfItsOwn, _CHECK, _REFINING),
    (LearnsDoubtfulFeatures, _CHECK, _REFINING),
    (KeepsTheNetworkForWeights, _CHECK, "sampling_weights: outputs of the network that prepare_model was given"),
    (KeepsTheNetworkForTheLoss, _CHECK, "build_loss: outputs of the network that prepare_model was given"),
]
VALID: list[tuple[type[Strategy], str]] = [
    (DrawsErrorsMoreOftenAsDeclared, _CHECK),
    (DistillsItself, _CHECK),
    (MeasuresStatistics, _CHECK),
    (StopsEarly, _CHECK),
    (LearnsScales, _CHECK),
]
