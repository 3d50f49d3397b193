"""Images that trained networks took for another class, kept as `confused.safetensors`; reading them needs no torch.

Legend of shapes: n images, H height, W width, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fer_augment.data.records import RunIdentity, write_whole
from fer_augment.errors import RunError

CONFUSED_FILE = "confused.safetensors"


class ConfusedRows(BaseModel):
    """Which images were confused, by which network.

    Attributes:
        run: the run whose network it was.
        split: where the images stand.
        true: the class that they have.
        predicted: the class that they were taken for.
        total: how many distinct images there are; the most confidently confused of them are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: RunIdentity
    split: Literal["test", "train"]
    true: str
    predicted: str
    total: int


@dataclass(frozen=True, eq=False)
class ConfusedImages:
    """The images that one network took for one class.

    Attributes:
        rows: which these are.
        images: `(n, H, W, C) uint8`, the most confident confusion first.
        probabilities: `(n, K) float32`, what the network said.
    """

    rows: ConfusedRows
    images: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


_ROWS = TypeAdapter(tuple[ConfusedRows, ...])


def save_confused(path: Path, confused: Sequence[ConfusedImages]) -> None:
    """Write a file of confused images, whole or not at all."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for number, one in enumerate(confused):
        arrays[f"{number}.images"] = np.ascontiguousarray(one.images)
        arrays[f"{number}.probabilities"] = np.ascontiguousarray(one.probabilities)
    told = _ROWS.dump_json(tuple(one.rows for one in confused)).decode()
    write_whole(path, save(arrays, metadata={"rows": told}))


def load_confused(path: Path) -> tuple[ConfusedImages, ...]:
    """Read a file of confused images.

    Raises:
        RunError: if it is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            told = _ROWS.validate_json((file.metadata() or {}).get("rows", ""))
            return tuple(
                ConfusedImages(rows, file.get_tensor(f"{n}.images"), file.get_tensor(f"{n}.probabilities"))
                for n, rows in enumerate(told)
            )
    except (OSError, SafetensorError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{path}: not readable ({reason}); `fer-augment compare` writes it again") from error
