"""Estimate of the memory that a training needs, and of the memory that is available."""

from __future__ import annotations

import copy
import os
from contextlib import suppress
from pathlib import Path

import torch

from fer_augment.data.dataset import Splits
from fer_augment.training.torch_runtime import autocast, reproducible
from fer_augment.training.trainings import RecipeTrainings

BASE = 600 << 20
"""Bytes of a process that has imported torch and the plugins."""
_ROWS = 2, 4
"""Rows of the trials; batch normalization needs more than one."""
_OVERHEAD = 1.75
"""Peak over the tensors kept for the gradient: gradients of activations and workspaces of convolutions.

Measured 1.3 to 1.6; it varies from process to process with the fragmentation of the allocator.
"""


def training_memory(recipe: RecipeTrainings) -> int:
    """Estimate the peak memory of a training on the processor, in bytes.

    Forward passes with two and with four images measure what is kept for the gradient: of an image, which a batch needs
    many times, and apart from images, such as the weights in bfloat16. The pixels of the data set are counted if they
    are in memory.
    """
    if recipe.frozen:
        return _memory_of_a_head(recipe)
    splits = recipe.trainings.splits
    height, width, channels = splits.train.image_shape
    network = copy.deepcopy(recipe.untrained).train()
    few, many = (_kept_for_gradient(recipe, network, rows) for rows in _ROWS)
    of_image = max(0, many - few) / (_ROWS[1] - _ROWS[0])  # a layer that is skipped at random may keep less
    of_batch = few + (recipe.settings.batch_size - _ROWS[0]) * of_image
    of_batch += recipe.settings.batch_size * 3 * channels * height * width * 4
    copies = 4 + (recipe.settings.weight_average is not None) + (recipe.settings.keep == "best")
    if recipe.pipeline.acts_at("optimizer_step"):
        copies += 3  # weights before a move, gradients of the first pass, and their product with the distance
    of_network = copies * sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return int(BASE + _OVERHEAD * of_batch + of_network + _pixels_in_memory(splits))


def _kept_for_gradient(recipe: RecipeTrainings, network: torch.nn.Module, rows: int) -> int:
    """Return how many bytes a forward pass with a number of images keeps for the gradient, without the parameters."""
    height, width, channels = recipe.trainings.splits.train.image_shape
    kept: dict[int, int] = {parameter.data_ptr(): 0 for parameter in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        return tensor

    images = torch.zeros(rows, channels, height, width).to(memory_format=torch.channels_last)
    with (
        reproducible(recipe.settings, 0),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(recipe.settings),
    ):
        network(images)
    return sum(kept.values())


def _memory_of_a_head(recipe: RecipeTrainings) -> int:
    """Estimate the memory of a training of the head: the features of all images, and a batch of the backbone.

    Without gradients, a batch needs the input and the output of the largest layer at a time.
    """
    assert recipe.frozen is not None
    splits = recipe.trainings.splits
    height, width, channels = splits.train.image_shape
    network = copy.deepcopy(recipe.untrained).eval()
    largest = 0

    def measure(module: torch.nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        tensors = [tensor for tensor in (*inputs, output) if isinstance(tensor, torch.Tensor)]
        largest = max(largest, sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    backbone = network.get_submodule("features")
    for module in backbone.modules():
        module.register_forward_hook(measure)
    with reproducible(recipe.settings, 0), torch.inference_mode(), autocast(recipe.settings):
        features = backbone(torch.zeros(1, channels, height, width).to(memory_format=torch.channels_last))
    images = sum(map(len, splits.parts.values()))
    of_batch = _OVERHEAD * largest * recipe.frozen.at_once(splits.train.image_shape)
    of_network = 2 * sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return int(BASE + of_batch + of_network + 4 * features.numel() * images + _pixels_in_memory(splits))


def _pixels_in_memory(splits: Splits) -> int:
    blocks = [block for part in splits.parts.values() for block in part.blocks]
    return sum({id(block): block.pixels.nbytes for block in blocks if block.path is None}.values())


_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Return how many bytes this process and its children may still use; None where the system does not say."""
    limits = []
    with suppress(OSError, ValueError):
        lines = dict(line.split(":") for line in _MEMINFO.read_text(encoding="ascii").splitlines())
        limits.append(int(lines["MemAvailable"].split()[0]) << 10)
    with suppress(OSError, ValueError):
        limits.append(_left_to_container(_CGROUP))
    if not limits and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def _left_to_container(folder: Path) -> int:
    """Return how many bytes the limit of a container leaves, from the files of its control group, version 2.

    Pages of files count as used, but the kernel drops them from memory before it refuses an allocation.

    Raises:
        OSError: if there is no control group with a limit of memory here.
        ValueError: if its limit is `max`, which is none.
    """
    limit, used = (int((folder / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    of_files = 0
    with suppress(OSError, ValueError):
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        counts = {name: count for name, _, count in (line.partition(" ") for line in lines)}
        # `file` would include shared memory, which is not of files
        of_files = sum(int(counts.get(name, 0)) for name in ("active_file", "inactive_file"))
    return limit - max(0, used - of_files)
