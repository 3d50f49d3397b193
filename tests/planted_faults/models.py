"""Networks with one fault each."""

from __future__ import annotations

import random
import warnings
from collections import OrderedDict
from typing import Any

import torch
from pydantic import Field
from torch import nn

from fer_augment import ConfigurableModel, DatasetError, Model

Shape = tuple[int, int, int]


def parts(features: nn.Module, head: nn.Module, name: str = "head") -> nn.Module:
    return nn.Sequential(OrderedDict([("features", features), (name, head)]))


def layers(shape: Shape, width: int = 4) -> list[nn.Module]:
    return [nn.Conv2d(shape[2], width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def sound(shape: Shape, classes: int) -> nn.Module:
    return parts(nn.Sequential(*layers(shape)), nn.Linear(4, classes))


def ten_classes(shape: Shape, classes: int) -> nn.Module:
    return sound(shape, 10)


def probabilities_in_double(shape: Shape, classes: int) -> nn.Module:
    class Doubles(nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return logits.double()

    network: Any = sound(shape, classes)
    network.append(Doubles())
    return network


def infinite(shape: Shape, classes: int) -> nn.Module:
    network: Any = sound(shape, classes)
    nn.init.constant_(network.head.bias, float("inf"))
    return network


def refuses_everything(shape: Shape, classes: int) -> nn.Module:
    raise DatasetError("no images, please")


def has_an_idle_layer(shape: Shape, classes: int) -> nn.Module:
    network: Any = sound(shape, classes)
    network.features.register_parameter("idle", nn.Parameter(torch.zeros(3)))
    return network


def detaches(shape: Shape, classes: int) -> nn.Module:
    class Detach(nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return logits.detach()

    network: Any = sound(shape, classes)
    network.append(Detach())
    return network


def featureless(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(*layers(shape), nn.Linear(4, classes))


def maps_as_features(shape: Shape, classes: int) -> nn.Module:
    return parts(nn.Sequential(*layers(shape)[:-1]), nn.Sequential(nn.Flatten(), nn.Linear(4, classes)), "output")


def a_head_of_two_layers(shape: Shape, classes: int) -> nn.Module:
    return parts(nn.Sequential(*layers(shape)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, classes)))


def scales_between_the_parts(shape: Shape, classes: int) -> nn.Module:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = nn.Sequential(*layers(shape)), nn.Linear(4, classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(2 * self.features(images))

    return Doubled()


def draws_from_python(shape: Shape, classes: int) -> nn.Module:
    network: Any = sound(shape, classes)
    nn.init.constant_(network.head.bias, random.random())
    return network


def seeds_torch(shape: Shape, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return sound(shape, classes)


def normalizes_the_batch(shape: Shape, classes: int) -> nn.Module:
    given = layers(shape)
    given[1] = nn.BatchNorm2d(4, track_running_stats=False)
    return parts(nn.Sequential(*given), nn.Linear(4, classes))


def hides_its_state(shape: Shape, classes: int) -> nn.Module:
    class Counts(nn.Module):
        seen = 0

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            self.seen += len(values) * self.training
            return values + self.seen

    return parts(nn.Sequential(*layers(shape), Counts()), nn.Linear(4, classes))


def warns(shape: Shape, classes: int) -> nn.Module:
    warnings.warn("look out", stacklevel=1)
    return sound(shape, classes)


class NeedsAWidth(ConfigurableModel):
    """A required parameter and no example."""

    width: int = Field(description="Channels.")

    def build(self, image_shape: Shape, classes: int) -> nn.Module:
        return sound(image_shape, classes)


class SaysNothing(ConfigurableModel):
    """A parameter without a description."""

    width: int = 3

    def build(self, image_shape: Shape, classes: int) -> nn.Module:
        return sound(image_shape, classes)


class NoNetwork:
    """A class of something else."""


class DeclaresAWord(NeedsAWidth):
    """Distributions that are no list."""

    example = {"width": 4}

    @property
    def distributions(self) -> Any:
        return "timm"


class CannotBeWritten(ConfigurableModel):
    """A parameter that JSON cannot hold."""

    share: float = Field(default=float("nan"), description="A number that is none.")

    def build(self, image_shape: Shape, classes: int) -> nn.Module:
        return sound(image_shape, classes)


FAULTS: list[tuple[Any, str, str]] = [
    (NeedsAWidth, "is_declared_as_a_model", "set the class attribute `example`"),
    (SaysNothing, "is_declared_as_a_model", "add a description to the parameter width"),
    (NoNetwork, "is_declared_as_a_model", "must be a Model or a subclass of ConfigurableModel"),
    (DeclaresAWord, "is_declared_as_a_model", "distributions must be a list"),
    (Model("sound", "", sound), "is_declared_as_a_model", "add a summary"),
    *(
        (Model(build.__name__, "a fault", build), check, advice)
        for build, check, advice in (
            (refuses_everything, "builds_for_images", "refuses images of all shapes"),
            (ten_classes, "returns_logits", "must have shape (4, 3) float32, is (4, 10) float32"),
            (probabilities_in_double, "returns_logits", "is (4, 3) float64"),
            (infinite, "returns_logits", "must be finite"),
            (
                has_an_idle_layer,
                "gives_gradients_to_every_parameter",
                "get no gradient, first features.idle",
            ),
            (detaches, "gives_gradients_to_every_parameter", "the output has no gradient"),
            (featureless, "consists_of_features_and_a_head", "needs a module `features`"),
            (maps_as_features, "consists_of_features_and_a_head", "must return (B, D), returns (4, 4, 1, 1)"),
            (a_head_of_two_layers, "consists_of_features_and_a_head", "is a Sequential; give it another name"),
            (scales_between_the_parts, "consists_of_features_and_a_head", "must be head(features(images))"),
            (draws_from_python, "same_seed_gives_the_same_weights", "draw weights with torch.nn.init only"),
            (seeds_torch, "same_seed_gives_the_same_weights", "seeds torch's global generator"),
            (normalizes_the_batch, "predicts_images_alone", "use running statistics"),
            (hides_its_state, "loads_its_weights_back", "register it as a parameter or a buffer"),
            (warns, "model_emits_no_warnings", "UserWarning: look out"),
        )
    ),
    (CannotBeWritten, "model_can_be_written_to_a_recipe", "JSON can represent"),
]
"""A network with one fault, the check that must report it, and a part of the advice."""
