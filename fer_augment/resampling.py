"""Strategies without recipes: as a sampler of scikit-learn pipelines, and their result as a torch data set.

```python
from fer_augment.resampling import StrategySampler, make_strategy

sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), image_shape=(48, 48))
pipeline = imblearn.pipeline.make_pipeline(sampler, StandardScaler(), LogisticRegression())
pipeline.fit(X, y)
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from imblearn.base import SamplerMixin
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import DatasetError, StrategyError
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import Context, Effect, PredictionKind, Scout, Strategy
from fer_augment.randomness import stream_rng

if TYPE_CHECKING:
    import torch

_STAGES = ("rewrite_training_set", "sampling_weights", "augment_rows", "augment_batch")
_BATCH = 256

AskScout = Callable[[NDArray[Any], NDArray[Any]], ArrayLike]
"""From X and y, as `fit_resample` was given them, to the class probabilities of each row, `(N, K)`."""
AsGiven = Callable[[ImageDataset], tuple[NDArray[Any], NDArray[Any]]]


def make_strategy(name: str, **parameters: Any) -> Strategy:
    """Make an installed strategy, with the parameters that a recipe would give it.

    Raises:
        PluginError: if there is none of this name.
        pydantic.ValidationError: if it refuses a parameter.
    """
    return installed_plugins().strategy(name).value.model_validate(parameters)


class StrategySampler(SamplerMixin, BaseEstimator):  # type: ignore[misc]  # both libraries are untyped
    """Does to images and labels what one strategy does to a training set, in the manner of imbalanced-learn.

    The result is what a network would see of them in one epoch: rewritten, drawn by their sampling weights if these
    are not all equal, and augmented.

    Attributes:
        classes_: `(K,)` the labels, in the order of the strategy's classes.
        training_set_: the result as an `ImageDataset`, which says what each row was made from (`origins`).
    """

    def __init__(
        self,
        strategy: Strategy,
        seed: int = 0,
        *,
        image_shape: tuple[int, ...] | None = None,
        class_names: Sequence[str] | None = None,
        scout: Scout | AskScout | None = None,
    ) -> None:
        """Keep the parameters, as scikit-learn asks of an estimator.

        Args:
            strategy: acts at one or more of the stages `rewrite_training_set`, `sampling_weights`, `augment_rows`
                and `augment_batch`, and leaves targets one-hot.
            seed: of all random numbers; equal seeds give equal results.
            image_shape: `(H, W)` or `(H, W, C)` where the rows of X are flat; else X has the shape.
            class_names: the names of the labels 0 … K - 1. By default the distinct labels are the names.
            scout: predictions about X for strategies that mine: an object with `probabilities` (and `embeddings`),
                or a callable such as `lambda X, y: cross_val_predict(model, X, y, method="predict_proba")`, which
                decides by itself whether it judges out of fold.
        """
        self.strategy = strategy
        self.seed = seed
        self.image_shape = image_shape
        self.class_names = class_names
        self.scout = scout

    def fit(self, X: ArrayLike, y: ArrayLike) -> StrategySampler:
        """Check the images and labels.

        Args:
            X: `(N, H, W)`, `(N, H, W, C)` or, with `image_shape`, `(N, F)`: whole numbers from 0 to 255 of any dtype.
            y: `(N,)` labels: of any kind, or numbers from 0 to K - 1 if `class_names` are given.

        Raises:
            DatasetError: if they cannot be used.
            StrategyError: if the strategy does nothing to a training set, or gives soft targets.
        """
        self._prepared(np.asarray(X), np.asarray(y))
        return self

    def fit_resample(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return images and labels as the strategy leaves them, in the shape and dtype in which they came.

        Args:
            X: as in `fit`.
            y: as in `fit`.

        Raises:
            DatasetError: if X or y cannot be used.
            StrategyError: if the strategy cannot be used, or fails.
        """
        given, labels = np.asarray(X), np.asarray(y)
        data = self._prepared(given, labels)

        def as_given(dataset: ImageDataset) -> tuple[NDArray[Any], NDArray[Any]]:
            images = dataset.images[:].reshape(len(dataset), *given.shape[1:]).astype(given.dtype)
            return images, self.classes_[dataset.labels]

        scout = None if self.scout is None else _as_scout(self.scout, as_given)
        context = Context(self.seed, data.class_names)
        pipeline = Pipeline(steps_of([self.strategy]), context, scout_for=(lambda step: scout) if scout else None)
        self.training_set_ = _of_one_epoch(pipeline, data, stream_rng(self.seed, "draw rows"))
        return as_given(self.training_set_)

    def _fit_resample(self, X: ArrayLike, y: ArrayLike, **_: object) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.fit_resample(X, y)

    def _prepared(self, X: NDArray[Any], y: NDArray[Any]) -> ImageDataset:
        """Check everything and make a data set of it."""
        (step,) = steps_of([self.strategy])
        if not step.acts_at(_STAGES):
            raise StrategyError(
                f"{step.name} does nothing to a training set; it acts in a run, so put it into a recipe"
            )
        if Effect.SOFT_TARGETS in self.strategy.effects:
            raise StrategyError(f"{step.name} shares labels between classes, which y cannot hold; put it into a recipe")
        if self.class_names is None:
            self.classes_, labels = np.unique(y, return_inverse=True)
        else:
            self.classes_, labels = np.arange(len(self.class_names)), y
        names = [str(name) for name in (self.classes_ if self.class_names is None else self.class_names)]
        return ImageDataset.from_arrays(_as_images(X, self.image_shape), labels, names)


@dataclass(frozen=True)
class _CallableScout:
    """A scout that passes the question on to a callable."""

    ask: AskScout
    as_given: AsGiven

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        answer = np.asarray(self.ask(*self.as_given(training_set)), dtype=np.float32)
        expected = len(training_set), len(training_set.class_names)
        if answer.shape != expected:
            raise StrategyError(f"the scout must give class probabilities of shape {expected}, gave {answer.shape}")
        return answer

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        raise StrategyError("a callable scout has no embeddings; give an object with a method `embeddings`")


def _as_scout(scout: Scout | AskScout, as_given: AsGiven) -> Scout:
    return _CallableScout(scout, as_given) if callable(scout) else scout


def _as_images(X: NDArray[Any], image_shape: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """Return X as `(N, H, W)` or `(N, H, W, C) uint8`."""
    if image_shape is not None:
        if int(np.prod(X.shape[1:])) != int(np.prod(image_shape)):
            raise DatasetError(f"rows of shape {X.shape[1:]} are no images of shape {tuple(image_shape)}")
        X = X.reshape(len(X), *image_shape)
    elif X.ndim == 2:
        raise DatasetError("the rows of X are flat; say by `image_shape` which images they are, for example (48, 48)")
    if not (np.issubdtype(X.dtype, np.number) and ((X >= 0) & (X <= 255) & (np.rint(X) == X)).all()):
        raise DatasetError("images must be whole numbers from 0 to 255; resample before they are scaled")
    return X.astype(np.uint8)


def _of_one_epoch(pipeline: Pipeline, data: ImageDataset, rng: np.random.Generator) -> ImageDataset:
    """Return a training set as its strategies show it in the first epoch."""
    shown = pipeline.fold("rewrite_training_set", data)
    weights = pipeline.fold("sampling_weights", np.ones(len(shown)), epoch=0, training_set=shown)
    if (weights != weights[0]).any():
        shown = shown.take(rng.choice(len(shown), size=len(shown), p=weights / weights.sum()))
    if not (pipeline.acts_at("augment_rows") or pipeline.acts_at("augment_batch")):
        return shown.stamped(1)
    batches = np.array_split(np.arange(len(shown)), -(-len(shown) // _BATCH))
    images = np.concatenate([_augmented(pipeline, shown, rows) for rows in batches])
    changed = np.flatnonzero((images != shown.images[:]).any(axis=(1, 2, 3)))
    order = np.arange(len(shown))
    order[changed] = len(shown) + np.arange(len(changed))
    return shown.append(images[changed], parents=changed).take(order).stamped(1)


def _augmented(pipeline: Pipeline, data: ImageDataset, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the images of some rows as they are augmented in the first epoch, rounded to whole levels."""
    arguments: dict[str, Any] = {"epoch": 0, "rows": rows, "training_set": data}
    images = pipeline.fold("augment_rows", data.images[rows], labels=data.labels[rows], **arguments)
    if not pipeline.acts_at("augment_batch"):
        return images
    import torch

    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    targets = torch.nn.functional.one_hot(torch.from_numpy(data.labels[rows]), len(data.class_names)).float()
    changed, _ = pipeline.fold("augment_batch", (scaled, targets), **arguments)
    return np.asarray((changed * 255).round_().permute(0, 2, 3, 1).numpy(), dtype=np.uint8)


def as_torch_dataset(dataset: ImageDataset) -> torch.utils.data.Dataset[tuple[torch.Tensor, int]]:
    """Return a data set for a `DataLoader`: row by row a `(C, H, W) float32` image in [0, 1] and its label.

    Pixels are gathered when they are asked for; workers open memory-mapped files themselves.
    """
    from fer_augment.torch_dataset import TorchDataset

    return TorchDataset(dataset)
