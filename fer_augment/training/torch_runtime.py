"""The torch runtime of a training: autocast, threads and reproducibility."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.training.machine import device_of, precision_of


def autocast(settings: TrainingSettings) -> torch.autocast:
    """Return the autocast context of the forward pass."""
    enabled = precision_of(settings) == "bfloat16"
    return torch.autocast(device_of(settings), dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def reproducible(settings: TrainingSettings, seed: int) -> Iterator[None]:
    """Make computations bit-identical: set threads, kernels and their precision, seed torch's global generators.

    All settings are restored afterwards. Dropout cannot use any other generator than the global one. The generators and
    settings belong to the process, so one thread at a time computes here, and others wait.
    """
    with ONE_THREAD:
        yield from _with_torch_settings(settings, seed)


ONE_THREAD = threading.RLock()
"""Held by the thread of this process that trains or predicts."""


def _with_torch_settings(settings: TrainingSettings, seed: int) -> Iterator[None]:
    _keep_freed_memory()
    device = device_of(settings)
    threads, mode_before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined] # missing in the stub
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by deterministic cuBLAS
    forked = torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else [])
    with forked, _precision_of_kernels():
        torch.manual_seed(seed)
        torch.set_num_threads(settings.threads)
        # use_deterministic_algorithms sets the same, but imports the compiler, which takes as long as torch itself.
        torch.set_deterministic_debug_mode("error")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # as above
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(mode_before)
            torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined] # as above


@contextmanager
def _precision_of_kernels() -> Iterator[None]:
    """Set torch's defaults for products of float32 numbers and for the choice of kernels; restore the caller's after.

    Since torch 2.9, each operation has a precision, too. If the caller has set some of these alone, the others cannot
    be read, and become the defaults.
    """
    cudnn, operations = torch.backends.cudnn, _precision_of_operations()
    of_caller = [operation.fp32_precision for operation, _ in operations]
    benchmark, allow_tf32, matmul = cudnn.benchmark, True, "highest"
    with suppress(RuntimeError):
        allow_tf32, matmul = cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    cudnn.benchmark, cudnn.allow_tf32 = False, True
    for operation, precision in operations:
        operation.fp32_precision = precision
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.benchmark, cudnn.allow_tf32 = benchmark, allow_tf32
        for (operation, _), precision in zip(operations, of_caller, strict=True):
            operation.fp32_precision = precision


def _precision_of_operations() -> list[tuple[Any, str]]:
    """Return the operations that have a precision, with its default; none before torch 2.9."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return []
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    exact = backends.cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn
    return [(cudnn.conv, "tf32"), (cudnn.rnn, "tf32"), *((operation, "ieee") for operation in exact)]


@functools.cache
def _keep_freed_memory() -> None:
    """Configure glibc to keep large freed blocks instead of returning them to the operating system.

    Each training step frees and allocates the same activations. With the defaults of glibc, each is mapped again, and
    the page faults take a third of a step of ConvNet5. Blocks much larger than activations are still returned.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # constants of malloc.h
    mallopt(mmap_threshold, 1 << 28)
    mallopt(trim_threshold, (1 << 31) - 1)
