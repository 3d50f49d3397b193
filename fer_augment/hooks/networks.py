"""Declarations of networks: `Model`, built by a function, and `ConfigurableModel`, a class with parameters.

Legend of shapes: B rows of a batch, H, W, C height, width and channels, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from fer_augment.errors import PluginError
from fer_augment.hooks.naming import snake_case

if TYPE_CHECKING:
    from torch import nn

ImageShape: TypeAlias = tuple[int, int, int]
"""Height, width and channels of an image."""


@dataclass(frozen=True)
class ModelInput:
    """The input that a network was designed for or pretrained with.

    The framework puts the conversion into the network, before `features`: images are resized, gray images are repeated
    to three channels or color images converted to gray, and pixels in [0, 1] are normalized to `(pixel - mean) / std`.

    Attributes:
        size: height and width; None for those of the data.
        channels: 3 for color, 1 for gray; None for those of the data.
        mean: means to subtract, one for all channels or one per channel.
        std: standard deviations to divide by, above 0, one for all channels or one per channel.
    """

    size: tuple[int, int] | None = None
    channels: Literal[1, 3] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Refuse values that do not fit the channels.

        Raises:
            PluginError: if there are other numbers of means or standard deviations than channels, or one is not
                positive.
        """
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                channels = self.channels or "the channels of the data"
                raise PluginError(f"ModelInput: {name} has {len(values)} values for {channels}; set channels")
        if min(self.std) <= 0:
            raise PluginError(f"ModelInput: std must be above 0, got {min(self.std)}")

    def shape_for(self, image_shape: ImageShape) -> ImageShape:
        """Return height, width and channels of the network's input for images of a shape."""
        height, width = self.size or image_shape[:2]
        return height, width, self.channels or image_shape[2]


@dataclass(frozen=True)
class Model:
    """A network without parameters, for recipes.

    Attributes:
        name: the name used in recipes.
        summary: one-line description.
        build: builds an untrained network for `(H, W, C)` images and K classes. The network takes
            `(B, C, H, W) float32`, in `[0, 1]` unless `input` normalizes, and returns `(B, K)` logits. Its module
            `features` is called first and returns `(B, D)`, the input of the last layers. If the last layer is linear,
            it is named `head`.
        input: the input that the network was designed for; H, W and C are then those of this input.
        distributions: distributions that the network uses beyond the requirements of its provider, such as those of an
            extra; runs are refused while one is missing, and versions are part of the training key.
    """

    name: str
    summary: str
    build: Callable[[ImageShape, int], nn.Module]
    input: ModelInput = ModelInput()
    distributions: tuple[str, ...] = ()

    @property
    def weights(self) -> Path | None:
        """A model without parameters starts from random weights."""
        return None

    @property
    def untrained(self) -> Model:
        """The same model with random initial weights, which is this one."""
        return self


class ConfigurableModel(BaseModel):
    """Base class of networks with parameters, for recipes.

    Subclass it, annotate the parameters as in any pydantic model, and implement `build`. The name in recipes is the
    name of the class in snake case; the docstring describes the network. Every such network has the parameter
    `weights`.

    Class attributes:
        example: parameters with which the conformity kit builds the network, if it has required ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    example: ClassVar[Mapping[str, Any]] = {}

    weights: Path | None = Field(
        default=None,
        description="Initial weights: a .safetensors, .pth or .pt file, relative to the recipe file, or the directory "
        "of a finished run. A head for other classes is replaced; null: random weights.",
    )

    @classmethod
    def model_name(cls) -> str:
        """Return the name used in recipes: the name of the class in snake case."""
        return snake_case(cls.__name__)

    @property
    def name(self) -> str:
        """The name used in recipes."""
        return self.model_name()

    @property
    def input(self) -> ModelInput:
        """The input that the network was designed for; override it if that is not the data as it is."""
        return ModelInput()

    @property
    def distributions(self) -> Collection[str]:
        """Distributions that the network uses beyond the requirements of its provider, such as those of an extra.

        Runs are refused while one is missing; versions are part of the training key. Override it to declare some.
        """
        return ()

    @property
    def untrained(self) -> Self:
        """The same model with random initial weights; override it if another parameter than `weights` loads some."""
        return self.model_copy(update={"weights": None})

    def build(self, image_shape: ImageShape, classes: int) -> nn.Module:
        """Build an untrained network, as described for `Model.build`; the framework then loads `weights`.

        Args:
            image_shape: H, W, C of the network's input.
            classes: K.

        Raises:
            DatasetError: if the network cannot take such images.
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement build(image_shape, classes)")

    def __hash__(self) -> int:
        """Hash by class, consistent with equality: parameters may be lists, which have no hash."""
        return hash(type(self))


AnyModel: TypeAlias = Model | ConfigurableModel
"""A network with its parameters, ready to be built."""
