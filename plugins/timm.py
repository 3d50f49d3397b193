"""Networks of timm, the PyTorch Image Models: any of its architectures, pretrained or not."""

from __future__ import annotations

import difflib
import functools
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from fer_augment import (
    ConfigurableModel,
    DatasetError,
    ModelInput,
    PluginError,
    RecipeError,
    hookimpl,
    import_with_torchvision,
)

if TYPE_CHECKING:
    from torch import nn

_IMAGENET = ModelInput((224, 224), 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""The input of architectures for which timm has no configuration."""


class Timm(ConfigurableModel):
    """Any network of timm, pretrained or not, with a new linear head.

    Images are resized and normalized inside the network as timm's configuration of the architecture says; gray images
    are repeated to three channels.

    Source: Wightman 2019, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
    """

    example: ClassVar[Mapping[str, Any]] = {"architecture": "resnet10t", "size": 32}

    architecture: str = Field(
        description="Name of an architecture of timm, such as resnet18 or convnext_atto, with a tag of pretrained "
        "weights if it matters, such as resnet18.a1_in1k."
    )
    size: Annotated[int, Field(ge=8)] | Literal["data"] | None = Field(
        default=None,
        description="Height and width of the network's input; data: the size of the images as they are; null: that of "
        "timm's configuration, mostly 224.",
    )
    drop_rate: float = Field(default=0.0, ge=0, lt=1, description="Probability of dropping a feature before the head.")
    drop_path_rate: float = Field(
        default=0.0, ge=0, lt=1, description="Probability of dropping a residual branch (stochastic depth)."
    )
    pretrained: bool = Field(
        default=False,
        description="Start from timm's pretrained weights. timm downloads them to its own cache; for `weights`, no "
        "network is used.",
    )

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str) -> str:
        timm = import_timm()
        if not timm.is_model(name):
            nearest = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else "timm.list_models() lists all"
            raise ValueError(f"timm has no architecture {name!r}; {hint}")
        tag = name.partition(".")[2]
        tags = [known.partition(".")[2] for known in timm.list_pretrained(name.partition(".")[0])] if tag else []
        if tag and tag not in tags:
            raise ValueError(f"{name.partition('.')[0]} has no tag {tag!r}; known: {', '.join(tags) or 'none'}")
        return name

    @model_validator(mode="after")
    def _has_one_start(self) -> Self:
        if self.pretrained and self.weights:
            raise ValueError("give either `weights` or `pretrained: true`")
        return self

    @property
    def input(self) -> ModelInput:
        """Size and normalization of timm's configuration, in color."""
        given = _configured_input(self.architecture)
        if self.size is None:
            return given
        size = None if self.size == "data" else (self.size, self.size)
        return ModelInput(size, given.channels, given.mean, given.std)

    @property
    def distributions(self) -> Collection[str]:
        """The library."""
        return ["timm"]

    @property
    def untrained(self) -> Self:
        """The same network with random initial weights."""
        return self.model_copy(update={"weights": None, "pretrained": False})

    def build(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Build the network; with `pretrained`, timm loads the weights of `features`.

        Raises:
            DatasetError: if the network does not take images of this size.
            RecipeError: if the architecture does not have a parameter, or pretrained weights cannot be loaded.
        """
        import torch
        from torch import nn

        features = self._features(image_shape)
        try:
            with torch.no_grad():
                width = features.eval()(torch.zeros(1, image_shape[2], *image_shape[:2])).shape[-1]
        except (RuntimeError, ValueError, AssertionError) as error:
            size = f"{image_shape[0]}x{image_shape[1]}"
            raise DatasetError(f"{self.architecture} does not take images of {size} ({_first_line(error)})") from error
        parts = ("features", features.train()), ("head", nn.Linear(width, classes))
        return nn.Sequential(OrderedDict(parts))

    def _features(self, image_shape: tuple[int, int, int]) -> nn.Module:
        """Build the network of timm without its classifier."""
        options: dict[str, Any] = {"num_classes": 0, "pretrained": self.pretrained, "drop_rate": self.drop_rate}
        if self.drop_path_rate:
            options["drop_path_rate"] = self.drop_path_rate
        timm = import_timm()
        configuration = timm.models.get_pretrained_cfg(self.architecture)
        if configuration is not None and configuration.fixed_input_size:
            options["img_size"] = image_shape[:2]
        try:
            network: nn.Module = timm.create_model(self.architecture, **options)
        except TypeError as error:
            raise RecipeError(f"{self.architecture}: {_first_line(error)}") from error
        except Exception as error:  # a download may raise anything
            if not self.pretrained:
                raise
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise RecipeError(
                f"timm cannot load pretrained weights of {self.architecture} ({reason}); download them elsewhere and "
                "give the file as `weights`"
            ) from error
        return network


@functools.cache
def import_timm() -> Any:
    """Import timm, and torchvision for it.

    Raises:
        PluginError: if timm is not installed, or cannot be imported.
    """
    try:
        return import_with_torchvision("timm")
    except ModuleNotFoundError as error:
        raise PluginError(f"{error.name} is not installed; pip install 'fer_augment[timm]'") from error
    except ImportError as error:
        raise PluginError(_first_line(error)) from error


@functools.cache
def _configured_input(architecture: str) -> ModelInput:
    """Return the input of timm's configuration of an architecture."""
    configuration = import_timm().models.get_pretrained_cfg(architecture)
    if configuration is None:
        return _IMAGENET
    _, height, width = configuration.input_size
    return ModelInput((height, width), 3, tuple(configuration.mean), tuple(configuration.std))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@hookimpl
def register_models() -> Sequence[type[ConfigurableModel]]:
    """Register the network of this module."""
    return [Timm]
