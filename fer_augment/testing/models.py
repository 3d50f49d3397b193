"""Checks of networks: shapes, gradients, the parts `features` and `head`, independence of rows, weights.

Legend of shapes: B rows of a batch, H, W, C height, width and channels, K classes, D features.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PydanticUserError

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.declared_values import declaration_fault
from fer_augment.hooks.networks import AnyModel, ConfigurableModel, ImageShape, Model
from fer_augment.hooks.plugin_manager import model_faults
from fer_augment.recipe.binding import with_parameters

if TYPE_CHECKING:
    import torch

CASES: tuple[tuple[ImageShape, int], ...] = (((48, 48, 1), 3), ((40, 56, 3), 5), ((96, 64, 1), 2))
"""Shapes `(H, W, C)` of images and numbers of classes that networks are built for."""
_ROWS = 4
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class ModelSubject:
    """A network under test.

    Attributes:
        declared: a declaration, a class, built with the parameters in its `example`, or an instance of one.
    """

    declared: Model | type[ConfigurableModel] | ConfigurableModel

    @property
    def label(self) -> str:
        """The name of the network, for an instance with its parameters, such as `vgg_mini(width=8)`."""
        if isinstance(self.declared, type):
            named = getattr(self.declared, "model_name", None)  # it may be a class of something else
            return named() if named else self.declared.__name__
        if not isinstance(self.declared, ConfigurableModel):
            return str(getattr(self.declared, "name", self.declared))
        given = self.declared.model_dump(include=self.declared.model_fields_set)
        return f"{self.declared.name}({', '.join(f'{key}={value}' for key, value in given.items())})"

    @cached_property
    def model(self) -> AnyModel:
        """The network with its parameters."""
        if isinstance(self.declared, type):
            return with_parameters(self.declared, self.declared.example)
        return self.declared

    def network(self, shape: ImageShape, classes: int, seed: int = 0) -> torch.nn.Module:
        """Build the network as a run does, with its preprocessing, with weights determined by the seed."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._built(shape, classes)

    def seeds_torch(self, shape: ImageShape, classes: int) -> bool:
        """Whether building the network seeds torch's global generator."""
        import torch

        seed = secrets.randbits(63)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._built(shape, classes)
            return torch.initial_seed() != seed

    def _built(self, shape: ImageShape, classes: int) -> torch.nn.Module:
        from fer_augment.training.networks import build_network

        return build_network(self.model.untrained, shape, [f"class {number}" for number in range(classes)])[0]

    @cached_property
    def networks(self) -> list[tuple[torch.nn.Module, torch.Tensor, int]]:
        """For each case that the network accepts: the network, a batch of images `(B, C, H, W)`, and K."""
        accepted = []
        for shape, classes in CASES:
            try:
                accepted.append((self.network(shape, classes), _images(shape), classes))
            except FerAugmentError:  # a network may refuse images, such as those that are too small
                continue
        return accepted


def is_declared_as_a_model(subject: ModelSubject) -> Iterator[str]:
    """The declaration is complete, has a description, and `example` and properties hold valid values."""
    declared = subject.declared if isinstance(subject.declared, Model | type) else type(subject.declared)
    faults = model_faults(declared)
    yield from faults
    if faults:
        return
    if isinstance(declared, Model):
        if not declared.summary:
            yield "add a summary; `plugins show` prints it"
        if fault := declaration_fault(declared):
            yield fault
        return
    if not declared.__doc__:
        yield "add a docstring to the class; `plugins show` prints it"
    for name, field in declared.model_fields.items():
        if not field.description:
            yield f"add a description to the parameter {name}: Field(description=...)"
    try:
        model = subject.model
    except FerAugmentError as error:
        yield f"set the class attribute `example` to valid parameters: {error}"
        return
    if fault := declaration_fault(model):
        yield fault


def builds_for_images(subject: ModelSubject) -> Iterator[str]:
    """The network is built for gray or color images of several sizes; others are refused by a FerAugmentError."""
    if not subject.networks:
        shapes = ", ".join(f"{height}x{width}x{channels}" for (height, width, channels), _ in CASES)
        yield f"the network refuses images of all shapes that are tried ({shapes})"


def returns_logits(subject: ModelSubject) -> Iterator[str]:
    """The output is `(B, K) float32` and finite, for any number of classes."""
    import torch

    for network, images, classes in subject.networks:
        logits = _outputs(network, images)
        if logits.shape != (_ROWS, classes) or logits.dtype != torch.float32:
            expected, found = f"({_ROWS}, {classes}) float32", f"{tuple(logits.shape)} {str(logits.dtype)[6:]}"
            yield f"the output must have shape {expected}, is {found}; `build` receives K as `classes`"
        elif not bool(logits.isfinite().all()):
            yield "the output must be finite"


def gives_gradients_to_every_parameter(subject: ModelSubject) -> Iterator[str]:
    """Every parameter that requires a gradient gets one."""
    import torch

    for network, images, classes in subject.networks:
        network.train()
        loss = torch.nn.functional.cross_entropy(network(images), torch.arange(_ROWS) % classes)
        if not loss.requires_grad:
            yield "the output has no gradient; do not detach it, and do not build the network without gradients"
            continue
        torch.autograd.backward(loss)
        idle = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
        network.zero_grad()
        if idle:
            yield f"{len(idle)} parameters get no gradient, first {idle[0]}; use or remove them"


def consists_of_features_and_a_head(subject: ModelSubject) -> Iterator[str]:
    """`features` returns `(B, D)`, and a linear last layer is `head`: `head(features(images))` is the output."""
    import torch

    for network, images, _ in subject.networks:
        features = getattr(network, "features", None)
        if not isinstance(features, torch.nn.Module):
            yield "the network needs a module `features` that returns the input of the last layers"
            continue
        values = _outputs(features, images)
        if values.ndim != 2 or len(values) != _ROWS:
            yield f"`features` must return (B, D), returns {tuple(values.shape)} for {_ROWS} rows; flatten it"
            continue
        head = getattr(network, "head", None)
        if head is None:
            continue
        if not isinstance(head, torch.nn.Linear):
            yield f"`head` must be a torch.nn.Linear, is a {type(head).__name__}; give it another name"
        elif not torch.allclose(_outputs(head, values), _outputs(network, images), atol=_TOLERANCE):
            yield "the output must be head(features(images)) in evaluation mode; `features` is called first"


def same_seed_gives_the_same_weights(subject: ModelSubject) -> Iterator[str]:
    """Weights are drawn from torch's global generator, so that a seed determines them."""
    import torch

    for _, images, classes in subject.networks:
        first, second = (subject.network(_shape(images), classes).state_dict() for _ in range(2))
        if any(not torch.equal(first[name], second[name]) for name in first):
            yield "two networks built with the same seed of torch differ; draw weights with torch.nn.init only"
        if subject.seeds_torch(_shape(images), classes):
            yield "building the network seeds torch's global generator; a run has done it, so that its seed decides"


def predicts_images_alone(subject: ModelSubject) -> Iterator[str]:
    """In evaluation mode, the output of a row does not depend on the other rows of the batch."""
    import torch

    for network, images, _ in subject.networks:
        alone = torch.cat([_outputs(network, images[row : row + 1]) for row in range(_ROWS)])
        if not torch.allclose(alone, _outputs(network, images), atol=_TOLERANCE):
            yield "the output of a row depends on the rest of its batch; use running statistics in evaluation mode"


def loads_its_weights_back(subject: ModelSubject) -> Iterator[str]:
    """A new network with the `state_dict` of another gives the same output."""
    import torch

    for network, images, classes in subject.networks:
        again = subject.network(_shape(images), classes, seed=1)
        network.train()
        network(images)  # moves running statistics
        again.load_state_dict(network.state_dict())
        if not torch.equal(_outputs(again, images), _outputs(network, images)):
            yield "state that decides the output is not in state_dict(); register it as a parameter or a buffer"


def model_can_be_written_to_a_recipe(subject: ModelSubject) -> Iterator[str]:
    """Parameters are unchanged by a round trip through JSON, and have a JSON Schema."""
    model = subject.model
    if isinstance(model, Model):
        return
    try:
        type(model).model_json_schema()
        again = type(model).model_validate_json(model.model_dump_json(by_alias=True))
    except (ValueError, PydanticUserError) as error:
        yield f"use types and values for parameters that JSON can represent: {' '.join(str(error).split())}"
    else:
        if again.model_dump() != model.model_dump():
            yield "parameters must be the same after a round trip through JSON"


def model_emits_no_warnings(subject: ModelSubject) -> Iterator[str]:
    """Building and calling the network emits no warning: raise an error, or handle the case."""
    with warnings.catch_warnings(record=True) as emitted:
        warnings.simplefilter("always")
        for network, images, _ in ModelSubject(subject.declared).networks:
            network.train()
            network(images)
            _outputs(network, images)
    for warning in emitted:
        yield f"{warning.category.__name__}: {warning.message}; fix the cause"


def _images(shape: ImageShape) -> torch.Tensor:
    import torch

    height, width, channels = shape
    pixels = np.random.default_rng(0).random((_ROWS, channels, height, width), np.float32)
    return torch.from_numpy(pixels)


def _shape(images: torch.Tensor) -> ImageShape:
    return images.shape[2], images.shape[3], images.shape[1]


def _outputs(network: torch.nn.Module, images: torch.Tensor) -> Any:
    """Return the output in evaluation mode, without gradients."""
    import torch

    with torch.no_grad():
        return network.eval()(images)
