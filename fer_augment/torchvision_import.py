"""Import modules that import torchvision, also where its build does not match that of torch."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from fer_augment.errors import in_one_line


def import_with_torchvision(module: str) -> Any:
    """Import a module that imports torchvision.

    A torchvision that was built for CUDA cannot load its operators beside a torch for the processor, which is what pip
    installs there, and then fails to register variants of them. Networks and transforms of images need none of these
    operators, so they are declared, without an implementation.

    Raises:
        ImportError: if the module or torchvision is not installed, or cannot be imported.
    """
    import torch

    declared: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    while True:
        try:
            imported = importlib.import_module(module)
        except ImportError:
            raise
        except Exception as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if not missing:
                raise ImportError(f"{module} cannot be imported ({in_one_line(error)})") from error
            declared.define(f"{missing[1]}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            for name in [
                name for name in sys.modules if name.partition(".")[0] in (module.partition(".")[0], "torchvision")
            ]:
                del sys.modules[name]
        else:
            _KEPT.append(declared)
            return imported


_KEPT: list[object] = []
"""Declared operators, which end with the object that declared them."""
