"""What losses, samplers and adjustments do, as SVG files, most of them at FER2013's class counts.

The strategies are run, not their formulas: a loss is asked for what it gives to chosen logits. Legend of shapes: B rows
of a batch, K classes.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from docs.builder.charts import bar_chart, line_chart
from docs.builder.trials import FER2013_COUNTS, alone, demo_faces, fer2013_labels
from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing.fixtures import as_tensor, tiny_network

_CLASSES = tuple(FER2013_COUNTS)
_K = len(_CLASSES)
_PRIOR = np.array(list(FER2013_COUNTS.values())) / sum(FER2013_COUNTS.values())

Settings = Mapping[str, Mapping[str, Any]]
"""The parameters of a strategy that are drawn, by the name that they get in the legend."""


def of_class_weights(strategy: str, settings: Settings) -> bytes:
    """Draw how much a row of each class weighs in a loss."""
    # With equal logits the cross-entropy of each row is log K.
    weights = {name: _losses_of_classes(strategy, **chosen) / math.log(_K) for name, chosen in settings.items()}
    return _bars("Weight of a row in the loss", {"no weights": np.ones(_K), **weights}, plain="no weights")


def of_added_logits(strategy: str, settings: Settings) -> bytes:
    """Draw what a loss adds to the logits while training, against what it adds to the largest class."""
    # With equal logits a loss is minus what it adds to the logit of a row's class, up to a constant.
    added = {name: -_losses_of_classes(strategy, **chosen) for name, chosen in settings.items()}
    against_largest = {name: values - values[_PRIOR.argmax()] for name, values in added.items()}
    return _bars("Added to the logit of each class while training, against happy's", against_largest)


def of_adjusted_logits(settings: Settings) -> bytes:
    """Draw what logit adjustment adds to the logits of a trained network, against the largest class."""
    moved = {}
    for name, chosen in settings.items():
        adjust = alone(fer2013_labels(), "logit_adjustment", **chosen).fold(
            "build_adjustment",
            _as_they_are,
            validation_logits=torch.zeros(0, _K),
            validation_labels=torch.zeros(0, dtype=torch.int64),
            class_prior=_PRIOR,
        )
        shift = adjust(torch.zeros(1, _K))[0].numpy()
        moved[name] = shift - shift[_PRIOR.argmax()]
    return _bars("Added to the logit of each class after training, against happy's", moved)


def _as_they_are(logits: torch.Tensor) -> torch.Tensor:
    return logits


def of_focal_loss(gammas: Sequence[float]) -> bytes:
    """Draw the loss of a row against the probability that the network gives its class; with gamma 0 it is plain."""
    probability = np.linspace(0.02, 0.98, 49)
    others = np.log((1 - probability) / (_K - 1))
    logits = torch.from_numpy(np.column_stack([np.log(probability), *[others] * (_K - 1)]))
    targets = torch.eye(_K, dtype=logits.dtype)[[0] * len(logits)]
    lines = {}
    for gamma in gammas:
        losses = _loss("focal_loss", gamma=gamma)(logits, targets).numpy()
        lines[f"gamma {gamma:g}"] = list(zip(probability.tolist(), losses.tolist(), strict=True))
    return line_chart("Loss of a row", "probability that the network gives its class", lines, plain="gamma 0").encode()


def of_margins(**parameters: Any) -> bytes:
    """Draw the margin that LDAM asks for in each class."""
    losses = _losses_of_classes("ldam_loss", **parameters)
    margins = np.log(np.expm1(losses) / (_K - 1)) / parameters["scale"]
    return _bars("Margin that is asked for in each class", {"margin, as a cosine": margins})


def of_smoothed_target(**parameters: Any) -> bytes:
    """Draw the target of a row of Happy as a loss with label smoothing sees it."""
    logits = torch.zeros(1, _K, requires_grad=True)
    target = torch.eye(_K)[[_CLASSES.index("happy")]]
    (gradient,) = torch.autograd.grad(_loss("label_smoothing", **parameters)(logits, target).sum(), logits)
    seen = (logits.softmax(dim=1) - gradient)[0].detach().numpy()
    told = ", ".join(f"{name} {value}" for name, value in parameters.items())
    return _bars("Target of a row of happy", {"as labeled": target[0].numpy(), told: seen}, plain="as labeled")


def of_draws(settings: Settings) -> bytes:
    """Draw how often each class is drawn by a sampler."""
    data = fer2013_labels()
    shares = {"as they stand": 100 * _PRIOR}
    for name, chosen in settings.items():
        weights = alone(data, "power_sampler", **chosen).fold(
            "sampling_weights", np.ones(len(data)), epoch=0, training_set=data
        )
        shares[name] = _shares_drawn(weights)
    return _bars("Rows drawn of each class, in %", shares, plain="as they stand", digits=1)


def of_second_stage(**parameters: Any) -> bytes:
    """Draw how often each class is drawn in the training and in the second stage of classifier re-training."""
    data, asked = fer2013_labels(), dict[str, Any]()

    def train(model: torch.nn.Module, **options: Any) -> torch.nn.Module:
        asked.update(options)
        return model

    network = tiny_network(data.image_shape, _K)
    alone(data, "crt", **parameters).fold("refine_model", network, train=train, training_set=data)
    again = _shares_drawn(asked["weights"])
    shares = {"training": 100 * _PRIOR, f"{asked['epochs']} more epochs, the last layer alone": again}
    return _bars("Rows drawn of each class, in %", shares, plain="training", digits=1)


def of_weight_lengths(settings: Settings) -> bytes:
    """Draw how long the weight vectors of a linear classifier are that was trained on demo faces."""
    trained = _linear_classifier(demo_faces())
    drawn = {"as trained": _lengths(trained)}
    for name, chosen in settings.items():
        pipeline = alone(demo_faces(), "tau_norm", **chosen)
        drawn[name] = _lengths(pipeline.fold("refine_model", copy.deepcopy(trained), training_set=demo_faces()))
    title = "Length of the weight vector of each class"
    return _bars(title, drawn, plain="as trained", where="a linear classifier of the demo faces")


def _linear_classifier(data: ImageDataset) -> torch.nn.Module:
    """Train a linear layer on small, standardised images: it takes a second, and begins from no random numbers."""
    features = torch.nn.Sequential(
        torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.BatchNorm1d(data.images[:1].size // 16, affine=False)
    )
    head = torch.nn.Linear(data.images[:1].size // 16, _K)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    seen, labels = features(as_tensor(data.images[:])), torch.from_numpy(data.labels.copy())
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(head(seen), labels))
        optimizer.step()
    return torch.nn.Sequential(OrderedDict(features=features, head=head))


def _lengths(network: Any) -> NDArray[np.float64]:
    return np.asarray(network.head.weight.detach().double().norm(dim=1).numpy())


def _losses_of_classes(strategy: str, **parameters: Any) -> NDArray[np.float64]:
    """Return what a strategy makes of the loss of a row of each class whose logits are all 0, `(K,)`."""
    losses = _loss(strategy, **parameters)(torch.zeros(_K, _K), torch.eye(_K))
    return np.asarray(losses.double().numpy())


def _loss(strategy: str, **parameters: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return cross-entropy as a strategy makes it, on FER2013's class counts."""
    data = fer2013_labels()
    pipeline = alone(data, strategy, **parameters)
    cross_entropy = installed_plugins().loss("cross_entropy").value.of_batch
    return pipeline.fold("build_loss", cross_entropy, epoch=0, class_prior=_PRIOR, training_set=data)


def _shares_drawn(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the draws that each class gets by the weights of its rows, `(K,)`, in percent."""
    drawn = np.bincount(fer2013_labels().labels, weights)
    return np.asarray(100 * drawn / drawn.sum())


def _bars(
    title: str,
    series: Mapping[str, NDArray[Any]],
    *,
    plain: str = "",
    digits: int = 2,
    where: str = "FER2013's class counts",
) -> bytes:
    values = {name: of_classes.tolist() for name, of_classes in series.items()}
    return bar_chart(f"{title}; {where}", _CLASSES, values, plain=plain, digits=digits).encode()
