"""Which weights of a training are kept, and when it stops early."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_augment.data.records import Evaluation
from fer_augment.recipe.training_settings import Metric


@dataclass(eq=False)
class Selection:
    """The best weights so far, by a score on the validation split; of equal scores, the first.

    Attributes:
        metric: the score.
        patience: evaluations in a row without a better one after which training stops; None for no such limit.
        score: the best score, higher is better.
        epoch: the number of epochs after which it was reached; 0 before the first evaluation.
        without_improvement: evaluations since then.
        class_prior: `(K,)` class frequencies as drawn in that epoch.
        weights: the network's state then, by name.
    """

    metric: Metric
    patience: int | None
    score: float = -math.inf
    epoch: int = 0
    without_improvement: int = 0
    class_prior: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def stops(self) -> bool:
        """Whether patience is exhausted."""
        return self.patience is not None and self.without_improvement >= self.patience

    def consider(self, evaluation: Evaluation, network: torch.nn.Module, class_prior: NDArray[np.float64]) -> None:
        """Keep the weights of a network that has just been evaluated, if it is the best so far."""
        score = score_of(evaluation, self.metric)
        if self.epoch and not score > self.score:
            self.without_improvement += 1
            return
        self.score, self.epoch, self.without_improvement = score, evaluation.epoch, 0
        self.class_prior = class_prior.copy()
        self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def facts(self) -> dict[str, Any]:
        """Return everything but the weights, JSON-serializable."""
        return {
            "score": self.score,
            "epoch": self.epoch,
            "without_improvement": self.without_improvement,
            "class_prior": self.class_prior.tolist(),
        }

    def restore(self, facts: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """Return to a state given by `facts` and `weights`."""
        self.score, self.epoch = facts["score"], facts["epoch"]
        self.without_improvement, self.class_prior = facts["without_improvement"], np.array(facts["class_prior"])
        self.weights = weights


def score_of(evaluation: Evaluation, metric: Metric) -> float:
    """Return the score of an evaluation on the validation split, higher is better.

    Balanced accuracy is the mean recall of the classes with rows; the loss is negated.
    """
    if metric == "loss":
        return -evaluation.validation_loss
    if metric == "accuracy":
        return evaluation.validation_accuracy
    return float(np.mean([recall for recall in evaluation.validation_recall if recall is not None]))
