"""Checkpoints: the complete state of a training in one safetensors file, from which an interrupted run resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fer_augment.data.whole_files import write_whole
from fer_augment.errors import RunError

_GENERATOR, _MODEL, _OPTIMIZER = "generator", "model.", "optimizer."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a training after an epoch.

    Attributes:
        tensors: weights, the state of the optimizer, the states of torch's global generators, and further weights.
        facts: all other state, JSON-serializable.
    """

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    @classmethod
    def of(
        cls,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        facts: dict[str, Any],
        further: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> Checkpoint:
        """Capture the state of a running training.

        Args:
            model: the network.
            optimizer: its optimizer.
            facts: all other state, JSON-serializable.
            further: further weights of the network by name, such as their average; see `weights`.
        """
        tensors = {_GENERATOR: torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors[f"{_GENERATOR}.cuda"] = torch.cuda.get_rng_state()
        tensors |= {f"{_MODEL}{name}": tensor for name, tensor in model.state_dict().items()}
        for kind, weights in further.items():
            tensors |= {f"{kind}.{name}": tensor for name, tensor in weights.items()}
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"{_OPTIMIZER}{number}.{name}": value for name, value in state.items() if torch.is_tensor(value)
            }
        return cls(tensors, facts)

    def restore(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Restore this state: weights, optimizer and torch's global generators."""
        model.load_state_dict(self._below(_MODEL))
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in self._below(_OPTIMIZER).items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = _with_strides_of(parameters[int(number)], tensor)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        torch.set_rng_state(self.tensors[_GENERATOR])
        if torch.cuda.is_available() and f"{_GENERATOR}.cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors[f"{_GENERATOR}.cuda"])

    def weights(self, kind: str) -> dict[str, torch.Tensor]:
        """Return further weights by the name that they were given."""
        return self._below(f"{kind}.")

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        # Clone all tensors: a parameter may be registered under two names, and safetensors refuses shared memory.
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        write_whole(path, save(tensors, {"facts": json.dumps(self.facts)}))

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """Read a file; return None if it does not exist.

        Raises:
            RunError: if it is damaged.
        """
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                return cls({name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["facts"]))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RunError(f"{path}: not a readable checkpoint ({error}); delete it to start over") from error

    def _below(self, prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def _with_strides_of(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Give optimizer state the strides of its parameter, which fused optimizers require; leave scalars unchanged."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
