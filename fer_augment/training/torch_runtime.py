"""Where and how torch computes: device, precision, threads, and bits that come out the same every time."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fer_augment.errors import RunError
from fer_augment.recipe.recipe import TrainingSettings


def device_of(settings: TrainingSettings) -> str:
    """Return `cpu` or `cuda`.

    Raises:
        RunError: if the recipe asks for an accelerator that is not there.
    """
    available = torch.cuda.is_available()
    if settings.device == "auto":
        return "cuda" if available else "cpu"
    if settings.device == "cuda" and not available:
        raise RunError("training.device is cuda, and torch finds no CUDA device; set it to auto or cpu")
    return settings.device


def precision_of(settings: TrainingSettings) -> str:
    """Return `float32` or `bfloat16`; `auto` takes bfloat16 where the processor multiplies it in hardware."""
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if _has_bfloat16(device_of(settings)) else "float32"


def emulates_bfloat16(settings: TrainingSettings) -> bool:
    """Return whether a training would be in bfloat16 where float32 is faster, many times so on a processor."""
    return precision_of(settings) == "bfloat16" and not _has_bfloat16(device_of(settings))


def _has_bfloat16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


def autocast(settings: TrainingSettings) -> torch.autocast:
    """Return the context in which the network computes."""
    enabled = precision_of(settings) == "bfloat16"
    return torch.autocast(device_of(settings), dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def reproducible(settings: TrainingSettings, seed: int) -> Iterator[None]:
    """Give the same bits every time: threads, deterministic kernels, and torch's generators seeded; all put back after.

    Dropout draws from torch's global generator and can draw from no other, so it is borrowed here.
    """
    _keep_freed_memory()
    device = device_of(settings)
    threads, mode_before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined] # its stub lacks it
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic cuBLAS asks for
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(settings.threads)
        # What use_deterministic_algorithms sets; that imports the compiler, too, which takes as long as torch itself.
        torch.set_deterministic_debug_mode("error")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # as above
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(mode_before)
            torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined] # as above


@functools.cache
def _keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of handing every large block back to the system.

    A training step frees and asks for the same activations again. With glibc's defaults each is mapped anew, and the
    page faults cost a third of a step of ConvNet5. Blocks far larger than activations, data for one, still go back.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # as malloc.h numbers them
    mallopt(mmap_threshold, 1 << 28)
    mallopt(trim_threshold, (1 << 31) - 1)
