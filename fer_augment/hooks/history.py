"""The last outputs of the network for every training row, collected while it trains.

Legend of shapes: N rows of the training set, n rows drawn, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fer_augment.metrics import predicted_classes

if TYPE_CHECKING:
    import torch

Number = TypeVar("Number", bound=np.generic)

NEVER = -1
"""Epoch of a row that was not drawn yet."""


class History:
    """The logits of every training row when it was last drawn, up to the end of the epoch before.

    They are those of the row as it was augmented then, with the dropout and the weights of that step, so nothing is
    computed for them. During an epoch they do not change. Rows of a batch that mixes images have the logits of the
    mixed image.
    """

    def __init__(self, rows: int, classes: int) -> None:
        """Start with no row drawn."""
        self._logits = np.full((rows, classes), np.nan, dtype=np.float32)
        self._epochs = np.full(rows, NEVER, dtype=np.int64)

    @property
    def logits(self) -> NDArray[np.float32]:
        """`(N, K) float32`, read-only; NaN for rows that were not drawn yet."""
        return _read_only(self._logits)

    @property
    def epochs(self) -> NDArray[np.int64]:
        """`(N,) int64`, read-only: the epoch in which each row was last drawn, -1 for never."""
        return _read_only(self._epochs)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """`(N,) int64`, the class with the largest logit; -1 if several have it, or the row was not drawn yet."""
        return predicted_classes(self._logits)

    def record(self, rows: NDArray[np.int64], logits: NDArray[np.float32], epoch: int) -> None:
        """Record the outputs of an epoch; called by the trainer.

        Args:
            rows: `(n,)` the rows in the order in which they were drawn; of repeated rows the last counts.
            logits: `(n, K) float32`.
            epoch: the epoch.
        """
        self._logits[rows] = logits
        self._epochs[rows] = epoch

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the arrays as tensors, for checkpoints."""
        import torch

        return {"logits": torch.from_numpy(self._logits), "epochs": torch.from_numpy(self._epochs)}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Continue from the tensors of an interrupted training."""
        self._logits[:], self._epochs[:] = tensors["logits"].numpy(), tensors["epochs"].numpy()


def _read_only(array: NDArray[Number]) -> NDArray[Number]:
    view = array.view()
    view.flags.writeable = False
    return view
