"""Export of the network of a finished run: preprocessing and linear adjustment inside, checked against our own logits.

Legend of shapes: N images, H, W, C height, width and channels, K classes.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fer_augment.data.records import RunDirectory
from fer_augment.data.whole_files import replaceable
from fer_augment.errors import FerAugmentError, RunError, StrategyError
from fer_augment.hooks.pipeline import Pipeline
from fer_augment.recipe.shown_paths import without_folders
from fer_augment.runs.run_models import RunModel, load_run_model

ExportFormat: TypeAlias = Literal["onnx", "torch_export", "safetensors"]
SUFFIXES: dict[str, ExportFormat] = {".onnx": "onnx", ".pt2": "torch_export", ".safetensors": "safetensors"}
"""The format of each suffix, where none is named."""
TOLERANCE = 1e-3
"""Largest difference of a logit between the exported network and ours, absolute, and relative to the largest logit."""
_CHECKED = 16
"""Images on which the exported network is checked; more than one, of which the batch size may not depend."""


@dataclass(frozen=True)
class ExportedNetwork:
    """What an export holds.

    Attributes:
        format: the format of the file.
        image_shape: H, W, C of the images that it takes.
        largest_difference: largest absolute difference of a logit to ours, on the images of the check.
        is_adjusted: whether an adjustment of logits is inside.
        views: names of the steps whose test-time views are inside.
        not_inside: what the run does and the exported network does not, a sentence each.
    """

    format: ExportFormat
    image_shape: tuple[int, int, int]
    largest_difference: float
    is_adjusted: bool
    views: tuple[str, ...]
    not_inside: tuple[str, ...]


class ExportError(RunError):
    """The network cannot be exported, or the exported one gives other logits."""


class AveragedNetwork(torch.nn.Module):
    """A network whose logits are averaged over test-time views."""

    def __init__(self, network: torch.nn.Module, pipeline: Pipeline) -> None:
        """Combine a network with the views that the steps of a pipeline make."""
        super().__init__()
        self.network = network
        self.pipeline = replace(pipeline, checks_values=False)  # a check depends on values, which export does not trace

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return `(N, K)` mean logits of the views of `(N, C, H, W)` images."""
        views = self.pipeline.fresh().fold("predict_views", [images])
        return torch.stack([self.network(view) for view in views]).mean(dim=0)


class AdjustedNetwork(torch.nn.Module):
    """A network followed by an affine map of its logits."""

    def __init__(self, network: torch.nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Combine a network with `logits @ weight.T + bias`, of shapes `(K, K)` and `(K,)`."""
        super().__init__()
        self.network = network
        self.adjustment = torch.nn.Linear(len(bias), len(bias))
        with torch.no_grad():
            self.adjustment.weight.copy_(weight)
            self.adjustment.bias.copy_(bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return `(N, K)` adjusted logits of `(N, C, H, W)` images."""
        logits: torch.Tensor = self.adjustment(self.network(images))
        return logits


def format_of(file: Path, form: str | None) -> ExportFormat:
    """Return the format of an export: as named, or that of the file's suffix.

    Raises:
        RunError: if it is not known.
    """
    if form is None:
        if file.suffix not in SUFFIXES:
            raise RunError(f"{file}: name the format, or let the file end in {', '.join(SUFFIXES)}")
        return SUFFIXES[file.suffix]
    if form not in get_args(ExportFormat):
        raise RunError(f"format: must be one of {', '.join(get_args(ExportFormat))}, got {form!r}")
    chosen: ExportFormat = form  # type: ignore[assignment] # checked above
    return chosen


def export_network(directory: RunDirectory, file: Path, form: ExportFormat) -> ExportedNetwork:
    """Export the network of a run in float32, check the file against the run's network, and move it into place.

    The exported network takes `images`, `(N, C, H, W) float32` in [0, 1] with the size and channels of the run's data,
    for any N, and returns `logits`, `(N, K)`: their mean over the recipe's test-time views, if these can be exported.

    Args:
        directory: the run.
        file: the file to write; replaced if it exists.
        form: its format.

    Raises:
        RunError: if a file of the run is damaged, or the logits of the exported network differ from ours by more than
            `TOLERANCE`; then nothing is written.
        FerAugmentError: if an optional package is missing, or the network cannot be exported.
    """
    if form == "onnx":
        _require_onnx()
    run = load_run_model(directory)
    views = tuple(step.name for step in run.pipeline.steps if step.acts_at(["predict_views"]))
    reason = "the run averages logits over them, weights alone do not"
    if views and form != "safetensors":
        try:
            return _exported(run, directory, file, form, views, ())
        except (ExportError, StrategyError):
            run, reason = load_run_model(directory), "the run averages logits over them, but they cannot be exported"
    not_inside = (f"test-time views ({', '.join(views)}): {reason}",) if views else ()
    return _exported(run, directory, file, form, (), not_inside)


def _exported(
    run: RunModel,
    directory: RunDirectory,
    file: Path,
    form: ExportFormat,
    views: tuple[str, ...],
    not_inside: tuple[str, ...],
) -> ExportedNetwork:
    network: torch.nn.Module = run.network.cpu().float().eval().requires_grad_(False)
    if views:
        network = AveragedNetwork(network, run.pipeline)
    images = _sample_images(run.record.image_shape)
    with torch.no_grad():
        own = network(images).numpy()
    affine = _affine_part(run, directory) if run.pipeline.acts_at("build_adjustment") else None
    if affine is not None:
        network = AdjustedNetwork(network, *affine).eval().requires_grad_(False)
    elif run.pipeline.acts_at("build_adjustment"):
        acting = ", ".join(step.name for step in run.pipeline.steps if step.acts_at(["build_adjustment"]))
        not_inside = (*not_inside, f"the adjustment of logits ({acting}), which is not linear")
    expected = own if affine is None else run.adjust(own)
    target = replaceable(file)
    scratch = target.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")  # in the same file system
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _quiet():
            actual = _WRITERS[form](network, images, scratch, run)
        difference = float(np.abs(actual - expected).max())
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if not difference <= allowed:
            raise ExportError(
                f"{file}: not written: logits of the exported network differ from those of the run by up to "
                f"{difference:.2g}, more than {allowed:.2g}"
            )
        scratch.replace(target)
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
    return ExportedNetwork(form, run.record.image_shape, difference, affine is not None, views, not_inside)


def _affine_part(run: RunModel, directory: RunDirectory) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return weight and bias of the adjustment; None if it is not affine on the validation logits of the run."""
    classes = len(run.record.class_names)
    bias = run.adjust(np.zeros((1, classes), np.float32))[0]
    weight = (run.adjust(np.eye(classes, dtype=np.float32)) - bias).T
    raw = directory.predictions("validation").unadjusted
    expected = run.adjust(raw)
    if not np.allclose(raw @ weight.T + bias, expected, atol=TOLERANCE, rtol=TOLERANCE):
        return None
    return torch.from_numpy(np.ascontiguousarray(weight)), torch.from_numpy(np.ascontiguousarray(bias))


def _sample_images(image_shape: tuple[int, int, int]) -> torch.Tensor:
    """Return images for the check, half of noise and half of gradients, `(N, C, H, W) float32` in [0, 1]."""
    height, width, channels = image_shape
    rng = np.random.default_rng(0)
    noise = rng.random((_CHECKED // 2, channels, height, width))
    slopes = rng.uniform(-1, 1, (_CHECKED // 2, channels, 2, 1, 1))
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    gradients = np.clip(0.5 + slopes[:, :, 0] * y + slopes[:, :, 1] * x, 0, 1)
    return torch.from_numpy(np.concatenate([noise, gradients]).astype(np.float32))


def _as_onnx(network: torch.nn.Module, images: torch.Tensor, file: Path, run: RunModel) -> NDArray[np.float32]:
    """Write an ONNX file with the class names in its metadata; return its logits, computed by onnxruntime."""
    import onnx
    import onnxruntime

    batch = {0: torch.export.Dim("batch")}
    program: Any = torch.onnx.export(
        network, (images,), input_names=["images"], output_names=["logits"], dynamic_shapes=(batch,), dynamo=True,
        verbose=False,
    )  # fmt: skip
    model = program.model_proto
    onnx.helper.set_model_props(model, _metadata(run))
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    parts = [images[:1].numpy(), images[1:].numpy()]  # the batch size must not be fixed
    return np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts])


def _as_program(network: torch.nn.Module, images: torch.Tensor, file: Path, run: RunModel) -> NDArray[np.float32]:
    """Write a program of torch.export; return its logits."""
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(network, (images,), dynamic_shapes=(batch,))
    torch.export.save(program, file, extra_files={"metadata.json": json.dumps(_metadata(run))})
    loaded: Any = torch.export.load(file).module()
    with torch.no_grad():
        return np.concatenate([loaded(part).numpy() for part in (images[:1], images[1:])])


def _as_weights(network: torch.nn.Module, images: torch.Tensor, file: Path, run: RunModel) -> NDArray[np.float32]:
    """Write the weights; return the logits of the network with the weights that are read back."""
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
    file.write_bytes(save(tensors, _metadata(run)))  # save_file would make it readable for its owner alone
    try:
        network.load_state_dict(load_file(file))
    except SafetensorError as error:
        raise RunError(f"{file}: not readable ({error})") from error
    with torch.no_grad():
        logits: NDArray[np.float32] = network(images).numpy()
    return logits


_WRITERS = {"onnx": _as_onnx, "torch_export": _as_program, "safetensors": _as_weights}


def _metadata(run: RunModel) -> dict[str, str]:
    """Return what a file says about itself, text by name."""
    height, width, channels = run.record.image_shape
    return {
        "classes": json.dumps(run.record.class_names, ensure_ascii=False),
        "input": f"images: float32 (batch, {channels}, {height}, {width}), pixels in [0, 1]",
        "output": f"logits: float32 (batch, {len(run.record.class_names)}), softmax gives probabilities",
        "model": json.dumps(without_folders(run.record.recipe.get("model")), ensure_ascii=False),
        "training_key": run.record.training_key,
    }


def _require_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError as error:
            raise FerAugmentError(f"{name} is not installed; pip install 'fer_augment[onnx]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters from printing; an exception of theirs becomes one line."""
    with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        try:
            yield
        except (FerAugmentError, OSError):
            raise
        except Exception as error:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise ExportError(f"the network cannot be exported ({type(error).__name__}: {reason})") from error
