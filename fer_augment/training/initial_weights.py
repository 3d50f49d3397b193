"""Initial weights of a network, from a file or from a finished run."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from safetensors import SafetensorError

from fer_augment.data.records import RunDirectory, weights_file, weights_files
from fer_augment.errors import RecipeError

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "Mapping[str, torch.Tensor]"

PREPROCESSED = "preprocessed"
"""Name of the part of `features` after the preprocessing, where a network has one."""
_LAST = ("head.", "output.")
_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
_NESTED = ("state_dict", "model_state_dict", "model")
"""Keys below which checkpoints of other programs hold the weights."""


def weights_digest(source: Path) -> str:
    """Return the SHA-256 of the content of initial weights.

    Raises:
        RecipeError: if the file does not exist or cannot be read.
    """
    digests = []
    for file in _files(source):
        try:
            with file.open("rb") as content:
                digests.append(hashlib.file_digest(content, "sha256").hexdigest())
        except OSError as error:
            raise RecipeError(f"weights: {file}: cannot be read ({error.strerror})") from error
    return " ".join(digests)


def load_initial_weights(network: torch.nn.Module, source: Path, class_names: Sequence[str]) -> str | None:
    """Load initial weights into a network that has no preprocessing yet.

    The file may hold the whole network, as a run does, or the part `features` with or without a last linear layer, as
    checkpoints of pretrained networks do. The last layers are loaded only if they fit the classes.

    Args:
        network: the network, with the parts `features` and `head` or `output`.
        source: a file, or the directory of a finished run.
        class_names: the K classes of the data.

    Returns:
        A sentence if the last layers of the file are not used; None if they are.

    Raises:
        RecipeError: if the file cannot be read, or does not fit the network.
    """
    file = weights_file(source)
    given = {name: tensor for part in _files(source) for name, tensor in _read(part).items()}
    own = network.state_dict()
    body = {name: tensor for name, tensor in own.items() if not name.startswith(_LAST)}
    fitted, rest = _assigned(given, body)
    _refuse_misfit(file, fitted, rest, body)
    last = {name: own[name] for name in own.keys() - body.keys()}
    reason, found = _last_layers(source, rest, last, class_names)
    network.load_state_dict({**own, **fitted, **found})
    return f"weights: {source}: {reason}; the new last layer starts from random weights" if reason else None


def _files(source: Path) -> list[Path]:
    """Return all files of initial weights; a run that trained the head alone has two."""
    file = weights_file(source)
    return weights_files(source) if source.is_dir() else [file]


def _read(file: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name."""
    import torch
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix not in _TORCH_SUFFIXES:
            raise RecipeError(f"weights: {file}: unknown format; give a .safetensors, .pth or .pt file, or a run")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats, which it reads nevertheless
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's message advises to run code from the file
        reason = "not readable (damaged, or with Python objects, which are not loaded); save the network's state_dict()"
        raise RecipeError(f"weights: {file}: {reason}") from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise RecipeError(f"weights: {file}: not readable ({_first_line(error)})") from error
    nested = [content[key] for key in _NESTED if isinstance(content, dict) and isinstance(content.get(key), dict)]
    tensors = nested[0] if nested else content
    if not (isinstance(tensors, dict) and tensors and all(map(torch.is_tensor, tensors.values()))):
        raise RecipeError(f"weights: {file}: holds no weights by name; save the network's state_dict()")
    prefix = "module."  # of torch.nn.DataParallel
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _assigned(given: Tensors, body: Tensors) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the tensors for the body under the names of the network, and the rest under the names of the file."""
    forms = (
        given,
        {name.replace(f"features.{PREPROCESSED}.", "features.", 1): tensor for name, tensor in given.items()},
        {f"features.{name}": tensor for name, tensor in given.items()},
    )
    best = max(forms, key=lambda form: len(form.keys() & body.keys()))
    fitted = {name: tensor for name, tensor in best.items() if name in body}
    rest = {file_name: given[file_name] for name, file_name in zip(best, given, strict=True) if name not in body}
    return fitted, rest


def _refuse_misfit(file: Path, fitted: Tensors, rest: Tensors, body: Tensors) -> None:
    """Refuse a file that is not of this network, by its first tensor that does not fit."""
    missing = [name for name in body if name not in fitted and not name.endswith("num_batches_tracked")]
    unknown = [name for name in rest if name not in _last_names(rest)]
    shaped = [name for name in fitted if fitted[name].shape != body[name].shape]
    if not (missing or unknown or shaped):
        return
    if shaped:
        first = f"{shaped[0]} is {_shape(fitted[shaped[0]])} in the file and {_shape(body[shaped[0]])} in the network"
    else:
        first = f"{missing[0]} is not in the file" if missing else f"the network has no {unknown[0]}"
    raise RecipeError(
        f"weights: {file}: of another network: {first}; of {len(body)} tensors, {len(shaped)} have another shape and "
        f"{len(missing)} are missing, {len(unknown)} others are in the file"
    )


def _last_names(rest: Tensors) -> set[str]:
    """Return the names of the last layers in a file: `head` or `output` of ours, or the only linear layer left."""
    ours = {name for name in rest if name.startswith(_LAST)}
    if ours:
        return ours
    layers = {name.rpartition(".")[0] for name in rest}
    is_linear = all(tensor.ndim == (2 if name.endswith("weight") else 1) for name, tensor in rest.items())
    return set(rest) if len(layers) == 1 and is_linear else set()


def _last_layers(
    source: Path, rest: Tensors, last: Tensors, class_names: Sequence[str]
) -> tuple[str | None, dict[str, torch.Tensor]]:
    """Return the tensors of the last layers that can be used, or why there are none."""
    if not rest:
        return "has no last layer", {}
    names = RunDirectory(source).record.class_names if source.is_dir() else None
    if names is not None and tuple(names) != tuple(class_names):
        return f"was trained for other classes ({', '.join(names)})", {}
    named = dict(rest) if any(name in last for name in rest) else {_as_head(name): rest[name] for name in rest}
    if {name: tensor.shape for name, tensor in named.items()} == {name: tensor.shape for name, tensor in last.items()}:
        return None, named
    classes = {len(tensor) for tensor in rest.values() if tensor.ndim == 2}
    if classes and len(class_names) not in classes:
        return f"has a last layer for {_listed(classes)} classes instead of {len(class_names)}", {}
    return "has another last layer than the network", {}


def _as_head(name: str) -> str:
    return f"head.{name.rpartition('.')[2]}"


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _listed(numbers: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(numbers)))


def _first_line(error: Exception) -> str:
    message = "" if isinstance(error, KeyError) else str(error).strip()
    return (message or type(error).__name__).splitlines()[0]
