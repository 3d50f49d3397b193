"""Charts of the effects of losses, samplers and adjustments as SVG files, mostly for FER2013's class counts.

The values are computed with the strategies themselves: losses are evaluated at chosen logits. Shapes: B rows of a
batch, K classes.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from docs.builder.charts import bar_chart, line_chart
from docs.builder.trials import FER2013_COUNTS, alone, demo_faces, fer2013_labels
from fer_augment import Gradients, History
from fer_augment.data.dataset import ImageDataset
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.testing.fixtures import as_tensor, tiny_network

_CLASSES = tuple(FER2013_COUNTS)
_K = len(_CLASSES)
_PRIOR = np.array(list(FER2013_COUNTS.values())) / sum(FER2013_COUNTS.values())

Settings = Mapping[str, Mapping[str, Any]]
"""Parameters of a strategy, by their name in the legend."""


def of_class_weights(strategy: str, settings: Settings) -> bytes:
    """Draw the weight of a row of each class in a loss."""
    # With equal logits, the cross-entropy of each row is log K.
    weights = {name: _losses_of_classes(strategy, **parameters) / math.log(_K) for name, parameters in settings.items()}
    return _bars("Weight of a row in the loss", {"no weights": np.ones(_K), **weights}, baseline="no weights")


def of_added_logits(strategy: str, settings: Settings) -> bytes:
    """Draw the values that a loss adds to the logits during training, relative to the largest class."""
    # With equal logits, the loss is minus the value added to the logit of the row's class, up to a constant.
    added = {name: -_losses_of_classes(strategy, **parameters) for name, parameters in settings.items()}
    relative = {name: values - values[_PRIOR.argmax()] for name, values in added.items()}
    return _bars("Added to the logit of each class in training, relative to happy", relative)


def of_adjusted_logits(settings: Settings) -> bytes:
    """Draw the values that logit adjustment adds to the logits of a trained network, relative to the largest class."""
    relative = {}
    for name, parameters in settings.items():
        adjust = alone(fer2013_labels(), "logit_adjustment", **parameters).fold(
            "build_adjustment",
            _unchanged,
            validation_logits=torch.zeros(0, _K),
            validation_labels=torch.zeros(0, dtype=torch.int64),
            class_prior=_PRIOR,
        )
        shift = adjust(torch.zeros(1, _K))[0].numpy()
        relative[name] = shift - shift[_PRIOR.argmax()]
    return _bars("Added to the logit of each class after training, relative to happy", relative)


def _unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def of_focal_loss(gammas: Sequence[float]) -> bytes:
    """Draw the loss of a row as a function of the predicted probability of its class; gamma 0 is the baseline."""
    probability = np.linspace(0.02, 0.98, 49)
    others = np.log((1 - probability) / (_K - 1))
    logits = torch.from_numpy(np.column_stack([np.log(probability), *[others] * (_K - 1)]))
    targets = torch.eye(_K, dtype=logits.dtype)[[0] * len(logits)]
    lines = {}
    for gamma in gammas:
        losses = _loss("focal_loss", gamma=gamma)(logits, targets).numpy()
        lines[f"gamma {gamma:g}"] = list(zip(probability.tolist(), losses.tolist(), strict=True))
    return line_chart("Loss of a row", "predicted probability of its class", lines, baseline="gamma 0").encode()


def of_margins(**parameters: Any) -> bytes:
    """Draw the margin of each class in the LDAM loss."""
    losses = _losses_of_classes("ldam_loss", **parameters)
    margins = np.log(np.expm1(losses) / (_K - 1)) / parameters["scale"]
    return _bars("Margin of each class", {"margin, as a cosine": margins})


def of_smoothed_target(**parameters: Any) -> bytes:
    """Draw the target of a row of Happy with label smoothing, recovered from the gradient of the loss."""
    logits = torch.zeros(1, _K, requires_grad=True)
    target = torch.eye(_K)[[_CLASSES.index("happy")]]
    (gradient,) = torch.autograd.grad(_loss("label_smoothing", **parameters)(logits, target).sum(), logits)
    smoothed = (logits.softmax(dim=1) - gradient)[0].detach().numpy()
    setting = ", ".join(f"{name} {value}" for name, value in parameters.items())
    return _bars("Target of a row of happy", {"one-hot": target[0].numpy(), setting: smoothed}, baseline="one-hot")


def of_contrast(settings: Settings) -> bytes:
    """Draw the contrastive loss of a row over the cosine to the only other row of its class; six rows are at 0."""
    degrees = np.linspace(0, 180, 61)
    rows = np.eye(8)
    targets = torch.nn.functional.one_hot(torch.tensor([0, 0, *[1] * 6]), _K).float()
    lines = {}
    for name, parameters in settings.items():
        loss, points = _loss("sup_con_loss", weight=1, **parameters), []
        for angle in np.deg2rad(degrees):
            rows[1, :2] = math.cos(angle), math.sin(angle)
            features = torch.from_numpy(rows.copy()).float()
            added = loss(torch.zeros(8, _K), targets, features)[0].item() - math.log(_K)
            points.append((math.cos(angle), added))
        lines[name] = points[::-1]
    return line_chart("Added to the loss of a row", "cosine to the row of its class", lines).encode()


def of_difficulty(recall: Mapping[str, float], settings: Settings) -> bytes:
    """Draw the share of each class among the rows drawn if the classes have the given accuracies in training."""
    data = fer2013_labels()
    history, rng = History(len(data), _K), np.random.default_rng(0)
    is_right = rng.random(len(data)) < np.array([recall[name] for name in _CLASSES])[data.labels]
    history.record(np.arange(len(data)), np.eye(_K, dtype=np.float32)[(data.labels + ~is_right) % _K], epoch=0)
    shares = {"unweighted": 100 * _PRIOR}
    for name, parameters in settings.items():
        pipeline = alone(data, "difficulty_sampler", **parameters)
        pipeline = replace(pipeline, context=replace(pipeline.context, recorded=history))
        weights = pipeline.fold("sampling_weights", np.ones(len(data)), epoch=1, training_set=data)
        shares[name] = _shares_drawn(weights)
    return _bars("Share of each class among the rows drawn, in %", shares, baseline="unweighted", digits=1)


def of_worst_loss(**parameters: Any) -> bytes:
    """Draw a loss with a sharp and a flat minimum, and its value where SAM takes the gradient."""
    places, plain, moved = np.linspace(0, 5, 126), [], []
    for place in places.tolist():
        weight, seen = torch.nn.Parameter(torch.tensor([place])), list[float]()

        def gradients(
            targets: torch.Tensor,
            weights: torch.Tensor | None = None,
            weight: torch.nn.Parameter = weight,
            seen: list[float] = seen,
        ) -> torch.Tensor:
            loss = 1 - torch.exp(-((weight - 1) ** 2) / 0.02) - 0.8 * torch.exp(-((weight - 3.5) ** 2) / 0.8)
            weight.grad = None
            torch.autograd.backward(loss.sum())
            seen.append(loss.item())
            return loss.detach().sum()

        _gradients("sam", gradients, [weight], **parameters)(torch.eye(_K), None)
        plain.append((place, seen[0]))
        moved.append((place, seen[1]))
    lines = {"loss": plain, f"loss where SAM looks, rho {parameters['rho']:g}": moved}
    return line_chart("A sharp and a flat minimum", "weight of the network", lines, baseline="loss").encode()


def of_moved_rows(settings: Settings) -> bytes:
    """Draw the share of the loss of a row of each class whose gradient is taken at moved weights."""
    shares = {}
    for name, (strategy, parameters) in {key: _split(value) for key, value in settings.items()}.items():
        parameter, asked = torch.nn.Parameter(torch.ones(1)), list[tuple[bool, NDArray[np.float64]]]()

        def gradients(
            targets: torch.Tensor,
            weights: torch.Tensor | None = None,
            parameter: torch.nn.Parameter = parameter,
            asked: list[tuple[bool, NDArray[np.float64]]] = asked,
        ) -> torch.Tensor:
            asked.append((parameter.item() != 1, np.ones(_K) if weights is None else weights.double().numpy()))
            parameter.grad = torch.ones(1)
            return torch.zeros(())

        _gradients(strategy, gradients, [parameter], **parameters)(torch.eye(_K), None)
        shares[name] = np.sum([weights for is_moved, weights in asked if is_moved], axis=0)
    return _bars("Share of a row's loss whose gradient is taken at moved weights", shares, digits=0)


def _split(parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return parameters["strategy"], {name: value for name, value in parameters.items() if name != "strategy"}


def _gradients(strategy: str, gradients: Gradients, weights: list[torch.nn.Parameter], **parameters: Any) -> Gradients:
    data = fer2013_labels()
    return alone(data, strategy, **parameters).fold(
        "optimizer_step", gradients, epoch=0, parameters=weights, class_prior=_PRIOR, training_set=data
    )


def of_class_smoothing(strategy: str, settings: Settings) -> bytes:
    """Draw the share of its target that a row of each class loses, recovered from the gradient of the loss."""
    smoothing = {}
    for name, parameters in settings.items():
        logits = torch.zeros(_K, _K, requires_grad=True)
        (gradient,) = torch.autograd.grad(_loss(strategy, **parameters)(logits, torch.eye(_K)).sum(), logits)
        smoothing[name] = 1 - (logits.softmax(dim=1) - gradient).diagonal().detach().numpy()
    return _bars("Smoothing of a row of each class", smoothing)


def of_temperatures(temperatures: Sequence[float]) -> bytes:
    """Draw the probability of a class of two before and after division of the logits; temperature 1 is the baseline."""
    probability = torch.linspace(0.02, 0.98, 49)
    logits = torch.stack([probability.logit(), torch.zeros(49)], dim=1)
    lines = {}
    for temperature in temperatures:
        adjust = alone(fer2013_labels(), "temperature_scaling", temperature=temperature).fold(
            "build_adjustment",
            _unchanged,
            validation_logits=logits,
            validation_labels=torch.zeros(49, dtype=torch.int64),
            class_prior=_PRIOR,
        )
        scaled = adjust(logits).softmax(dim=1)[:, 0]
        lines[f"temperature {temperature:g}"] = list(zip(probability.tolist(), scaled.tolist(), strict=True))
    title, axis = "Probability of one of two classes, scaled", "probability before"
    return line_chart(title, axis, lines, baseline="temperature 1").encode()


def of_draws(settings: Settings) -> bytes:
    """Draw the share of each class among the rows drawn by a sampler."""
    data = fer2013_labels()
    shares = {"unweighted": 100 * _PRIOR}
    for name, parameters in settings.items():
        weights = alone(data, "power_sampler", **parameters).fold(
            "sampling_weights", np.ones(len(data)), epoch=0, training_set=data
        )
        shares[name] = _shares_drawn(weights)
    return _bars("Share of each class among the rows drawn, in %", shares, baseline="unweighted", digits=1)


def of_second_stage(**parameters: Any) -> bytes:
    """Draw the share of each class among the rows drawn in training and in the second stage of cRT."""
    data, arguments = fer2013_labels(), dict[str, Any]()

    def train(model: torch.nn.Module, **options: Any) -> torch.nn.Module:
        arguments.update(options)
        return model

    network = tiny_network(data.image_shape, _K)
    alone(data, "crt", **parameters).fold("refine_model", network, train=train, training_set=data)
    second_stage = _shares_drawn(arguments["weights"])
    shares = {"training": 100 * _PRIOR, f"second stage: {arguments['epochs']} epochs, last layer only": second_stage}
    return _bars("Share of each class among the rows drawn, in %", shares, baseline="training", digits=1)


def of_weight_norms(strategy: str, settings: Settings) -> bytes:
    """Draw the norms of the weight vectors of a linear classifier of the demo faces, without a second stage."""
    trained = _linear_classifier(demo_faces())
    norms = {"as trained": _norms(trained)}

    def train(model: torch.nn.Module, **options: Any) -> torch.nn.Module:
        return model

    for name, parameters in settings.items():
        pipeline, network = alone(demo_faces(), strategy, **parameters), copy.deepcopy(trained)
        norms[name] = _norms(pipeline.fold("refine_model", network, train=train, training_set=demo_faces()))
    title = "Norm of the weight vector of each class"
    return _bars(title, norms, baseline="as trained", source="a linear classifier of the demo faces")


def _linear_classifier(data: ImageDataset) -> torch.nn.Module:
    """Train a linear layer on downscaled, standardized images, from zero weights, in about a second."""
    features = torch.nn.Sequential(
        torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.BatchNorm1d(data.images[:1].size // 16, affine=False)
    )
    head = torch.nn.Linear(data.images[:1].size // 16, _K)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    inputs, labels = features(as_tensor(data.images[:])), torch.from_numpy(data.labels.copy())
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(head(inputs), labels))
        optimizer.step()
    return torch.nn.Sequential(OrderedDict(features=features, head=head))


def _norms(network: Any) -> NDArray[np.float64]:
    return np.asarray(network.head.weight.detach().double().norm(dim=1).numpy())


def _losses_of_classes(strategy: str, **parameters: Any) -> NDArray[np.float64]:
    """Return the loss with a strategy of one row of each class whose logits are all 0, `(K,)`."""
    losses = _loss(strategy, **parameters)(torch.zeros(_K, _K), torch.eye(_K))
    return np.asarray(losses.double().numpy())


def _loss(strategy: str, **parameters: Any) -> Callable[..., torch.Tensor]:
    """Return cross-entropy as modified by a strategy for FER2013's class counts."""
    data = fer2013_labels()
    pipeline = alone(data, strategy, **parameters)
    cross_entropy = installed_plugins().loss("cross_entropy").value.of_batch
    return pipeline.fold("build_loss", cross_entropy, epoch=0, class_prior=_PRIOR, training_set=data)


def _shares_drawn(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each class among the rows drawn by weight, `(K,)`, in percent."""
    drawn = np.bincount(fer2013_labels().labels, weights)
    return np.asarray(100 * drawn / drawn.sum())


def _bars(
    title: str,
    series: Mapping[str, NDArray[Any]],
    *,
    baseline: str = "",
    digits: int = 2,
    source: str = "FER2013's class counts",
) -> bytes:
    values = {name: by_class.tolist() for name, by_class in series.items()}
    return bar_chart(f"{title} ({source})", _CLASSES, values, baseline=baseline, digits=digits).encode()
