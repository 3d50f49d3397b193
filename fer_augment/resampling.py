"""Use of strategies without trainings: as samplers in scikit-learn pipelines, with the result as a torch data set.

```python
from fer_augment.resampling import StrategySampler, make_strategy

sampler = StrategySampler(make_strategy("imblearn", sampler="SMOTE"), image_shape=(48, 48))
pipeline = imblearn.pipeline.make_pipeline(sampler, StandardScaler(), LogisticRegression())
pipeline.fit(X, y)

sampler = StrategySampler("modern_power_sampler", image_shape=(48, 48))     # the steps of a recipe
sampler.set_params(power_sampler__exponent=0.25)                            # or in the grid of GridSearchCV
```
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from imblearn.base import SamplerMixin
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from fer_augment.data.dataset import ImageDataset
from fer_augment.errors import DatasetError, StrategyError, StrategyWarning, did_you_mean
from fer_augment.hooks.pipeline import Pipeline, Step, steps_of
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.hooks.strategy import Context, Effect, PredictionKind, Scout, Strategy
from fer_augment.randomness import stream_rng
from fer_augment.recipe.binding import bind, with_parameters
from fer_augment.recipe.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    import torch

_STAGES = ("rewrite_training_set", "sampling_weights", "augment_rows", "augment_batch")
_BATCH = 256

AskScout = Callable[[NDArray[Any], NDArray[Any]], ArrayLike]
"""Function from X and y, in the form passed to `fit_resample`, to the class probabilities of each row, `(N, K)`."""
Strategies: TypeAlias = Strategy | Sequence[Strategy] | str | os.PathLike[str] | Recipe
ToInputFormat = Callable[[ImageDataset], tuple[NDArray[Any], NDArray[Any]]]


def make_strategy(name: str, **parameters: Any) -> Strategy:
    """Create an installed strategy with the given parameters, as in a recipe.

    Raises:
        PluginError: if no strategy has this name.
        RecipeError: if a parameter is invalid.
    """
    return with_parameters(installed_plugins().strategy(name).value, parameters)


class StrategySampler(SamplerMixin, BaseEstimator):  # type: ignore[misc]  # both libraries are untyped
    """Apply strategies to images and labels, as a sampler of imbalanced-learn.

    The result is what a network would receive in the first epoch: rewritten, sampled by weight unless all weights are
    equal, and augmented. Parameters of strategies are parameters of the sampler, such as `power_sampler__exponent`;
    the second of two steps of one name is `power_sampler_2__exponent`.

    Attributes:
        classes_: `(K,)`, the distinct labels in the order of the strategy's classes.
        training_set_: the result as an `ImageDataset`, with the source rows of each row (`origins`).
    """

    def __init__(
        self,
        strategy: Strategies,
        seed: int = 0,
        *,
        image_shape: tuple[int, ...] | None = None,
        class_names: Sequence[str] | None = None,
        scout: Scout | AskScout | None = None,
    ) -> None:
        """Store the parameters.

        Args:
            strategy: a strategy, several in their order, or a recipe: its name, its path or a `Recipe`. They act at one
                or more of the stages `rewrite_training_set`, `sampling_weights`, `augment_rows` and `augment_batch`,
                with one-hot targets. Of a recipe, steps that act at other stages only are left out, with a warning,
                and so are its network and its training settings.
            seed: seed of all random numbers; equal seeds give equal results.
            image_shape: `(H, W)` or `(H, W, C)` if the rows of X are flat; otherwise the shape of X is used.
            class_names: names of the labels 0 … K - 1. By default, the distinct labels are the names.
            scout: predictions for mining strategies: an object with the method `probabilities` (and `embeddings`), or
                a callable such as `lambda X, y: cross_val_predict(model, X, y, method="predict_proba")`. A callable
                determines itself whether its predictions are out of fold.
        """
        self.strategy = strategy
        self.seed = seed
        self.image_shape = image_shape
        self.class_names = class_names
        self.scout = scout

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name.

        Args:
            deep: whether to include those of the strategies, as `STRATEGY__PARAMETER`.

        Raises:
            RecipeError: if there is no such recipe, or it is invalid.
        """
        parameters: dict[str, Any] = super().get_params(deep=False)
        for label, strategy in self._labeled() if deep else ():
            parameters |= {f"{label}__{name}": getattr(strategy, name) for name in type(strategy).model_fields}
        return parameters

    def set_params(self, **parameters: Any) -> StrategySampler:
        """Set parameters by the names that `get_params` returns.

        Strategies are replaced by changed copies, a recipe by a changed `Recipe`, whose other steps stay.

        Raises:
            ValueError: if there is no such parameter, or its value is invalid.
        """
        super().set_params(**{name: value for name, value in parameters.items() if "__" not in name})
        nested = {name: value for name, value in parameters.items() if "__" in name}
        if nested:
            self.strategy = self._with_parameters(nested)
        return self

    def _with_parameters(self, parameters: Mapping[str, Any]) -> Strategies:
        """Return the strategies, or the recipe, with other values of some parameters.

        Raises:
            ValueError: if there is no such parameter, or its value is invalid.
        """
        labeled = self._labeled()
        known = {f"{label}__{name}": (label, name) for label, one in labeled for name in type(one).model_fields}
        changes: dict[str, dict[str, Any]] = {label: {} for label, _ in labeled}
        for key, value in parameters.items():
            if key not in known:
                raise ValueError(f"StrategySampler has no parameter {key!r}{did_you_mean(key, known)}")
            label, name = known[key]
            changes[label][name] = value
        changed = [_changed(strategy, changes[label]) for label, strategy in labeled]
        given = self._given()
        if not isinstance(given, Recipe):
            return changed[0] if isinstance(self.strategy, Strategy) else changed
        steps = tuple(
            step.model_copy(update={"parameters": {**step.parameters, **_by_alias(strategy, changes[label])}})
            for step, (label, strategy) in zip(given.strategies, labeled, strict=True)
        )
        return given.model_copy(update={"strategies": steps})

    def _labeled(self) -> list[tuple[str, Strategy]]:
        """Return all strategies with the names that `set_params` uses."""
        steps = self._steps()
        return [
            (step.name if not step.occurrence else f"{step.name}_{step.occurrence + 1}", step.strategy)
            for step in steps
        ]

    def _steps(self) -> tuple[Step, ...]:
        given = self._given()
        return bind(given, installed_plugins()).steps if isinstance(given, Recipe) else steps_of(given)

    def _given(self) -> Recipe | Sequence[Strategy]:
        """Return the recipe, or all strategies."""
        if isinstance(self.strategy, str | os.PathLike):
            return load_recipe(str(self.strategy))
        return [self.strategy] if isinstance(self.strategy, Strategy) else self.strategy

    def fit(self, X: ArrayLike, y: ArrayLike) -> StrategySampler:
        """Validate images and labels.

        Args:
            X: `(N, H, W)`, `(N, H, W, C)` or, with `image_shape`, `(N, F)`: integers from 0 to 255 of any dtype.
            y: `(N,)` labels: of any kind, or integers from 0 to K - 1 if `class_names` are given.

        Raises:
            DatasetError: if X or y is invalid, or a label is missing (None or NaN).
            StrategyError: if the strategy does not act on the training set, or gives soft targets.
        """
        self._validated(np.asarray(X), np.asarray(y))
        return self

    def fit_resample(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the images and labels of the resampled set, with the image shape and dtypes of X and y.

        Args:
            X: as for `fit`.
            y: as for `fit`.

        Raises:
            DatasetError: if X or y is invalid.
            StrategyError: if the strategy cannot be used, or fails.
        """
        images, labels = np.asarray(X), np.asarray(y)
        data = self._validated(images, labels)

        def to_input_format(dataset: ImageDataset) -> tuple[NDArray[Any], NDArray[Any]]:
            pixels = dataset.images[:].reshape(len(dataset), *images.shape[1:]).astype(images.dtype)
            return pixels, self.classes_[dataset.labels]

        scout = None if self.scout is None else _as_scout(self.scout, to_input_format)
        context = Context(self.seed, data.class_names)
        pipeline = Pipeline(self._acting(), context, scout_for=(lambda step: scout) if scout else None)
        self.training_set_ = _first_epoch(pipeline, data, stream_rng(self.seed, "draw rows"))
        return to_input_format(self.training_set_)

    def _fit_resample(self, X: ArrayLike, y: ArrayLike, **_: object) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.fit_resample(X, y)

    def _validated(self, X: NDArray[Any], y: NDArray[Any]) -> ImageDataset:
        """Validate strategies, images and labels, and return the latter as a data set."""
        self._acting()
        if self.class_names is None:
            _refuse_missing_labels(y)
            self.classes_, labels = np.unique(y, return_inverse=True)
        else:
            self.classes_, labels = np.arange(len(self.class_names)).astype(y.dtype), y
        names = [str(name) for name in (self.classes_ if self.class_names is None else self.class_names)]
        return ImageDataset.from_arrays(_as_images(X, self.image_shape), labels, names)

    def _acting(self) -> tuple[Step, ...]:
        """Return the steps that act on the training set; warn of others of a recipe, and refuse other strategies."""
        steps = self._steps()
        others = [step for step in steps if not step.acts_at(_STAGES)]
        acting = tuple(step for step in steps if step not in others)
        is_recipe = isinstance(self.strategy, str | os.PathLike | Recipe)
        if others and (not is_recipe or not acting):
            names = " and ".join(step.name for step in others)
            do, it = ("does", "it") if len(others) == 1 else ("do", "them")
            raise StrategyError(
                f"{names} {do} not act on the training set, only on models or predictions; use {it} in a recipe"
            )
        if others:
            names = ", ".join(step.name for step in others)
            warnings.warn(f"left out, as they do not act on the training set: {names}", StrategyWarning, stacklevel=4)
        for step in acting:
            if Effect.SOFT_TARGETS in step.strategy.effects:
                raise StrategyError(f"{step.name} gives soft targets, which y cannot represent; use it in a recipe")
        if not acting:
            raise StrategyError("there is no strategy to apply")
        return acting


def _changed(strategy: Strategy, changes: Mapping[str, Any]) -> Strategy:
    """Return a strategy with other values of some parameters, or itself if there are none.

    Raises:
        ValueError: if a value is invalid.
    """
    if not changes:
        return strategy
    given = {name: getattr(strategy, name) for name in strategy.model_fields_set}
    return type(strategy).model_validate(_by_alias(strategy, {**given, **changes}))


def _by_alias(strategy: Strategy, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters under the names that a recipe uses."""
    fields = type(strategy).model_fields
    return {fields[name].alias or name: value for name, value in parameters.items()}


@dataclass(frozen=True)
class _CallableScout:
    """Adapter from a callable to a scout."""

    predict: AskScout
    to_input_format: ToInputFormat

    def probabilities(self, training_set: ImageDataset, how: PredictionKind = "out_of_fold") -> NDArray[np.float32]:
        probabilities = np.asarray(self.predict(*self.to_input_format(training_set)), dtype=np.float32)
        expected = len(training_set), len(training_set.class_names)
        if probabilities.shape != expected:
            raise StrategyError(
                f"the scout must return class probabilities of shape {expected}, got {probabilities.shape}"
            )
        return probabilities

    def embeddings(self, training_set: ImageDataset) -> NDArray[np.float32]:
        raise StrategyError("a callable scout has no embeddings; pass an object with the method `embeddings`")


def _as_scout(scout: Scout | AskScout, to_input_format: ToInputFormat) -> Scout:
    return _CallableScout(scout, to_input_format) if callable(scout) else scout


def _as_images(X: NDArray[Any], image_shape: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """Return X as `(N, H, W)` or `(N, H, W, C) uint8`."""
    if image_shape is not None:
        if int(np.prod(X.shape[1:])) != int(np.prod(image_shape)):
            raise DatasetError(f"rows of shape {X.shape[1:]} do not match `image_shape` {tuple(image_shape)}")
        X = X.reshape(len(X), *image_shape)
    elif X.ndim == 2:
        raise DatasetError("the rows of X are flat; set `image_shape`, for example (48, 48)")
    if not (np.issubdtype(X.dtype, np.number) and ((X >= 0) & (X <= 255) & (np.rint(X) == X)).all()):
        raise DatasetError("images must be integers from 0 to 255; resample before scaling")
    if not np.can_cast(np.uint8, X.dtype):  # the result has the dtype of X, and 200 would become -56
        raise DatasetError(f"images of dtype {X.dtype} cannot hold values up to 255; convert X with astype(np.uint8)")
    return X.astype(np.uint8)


def _refuse_missing_labels(y: NDArray[Any]) -> None:
    """Refuse None and NaN, which numpy would take for a class of its own."""
    missing = np.flatnonzero([label is None or label != label for label in y.ravel().tolist()])
    if len(missing):
        raise DatasetError(
            f"{len(missing)} of {y.size} labels are missing, first in row {missing[0]}; remove these rows"
        )


def _first_epoch(pipeline: Pipeline, data: ImageDataset, rng: np.random.Generator) -> ImageDataset:
    """Return the rows of the first epoch: rewritten, sampled and augmented."""
    rows = pipeline.fold("rewrite_training_set", data)
    weights = pipeline.fold("sampling_weights", np.ones(len(rows)), epoch=0, training_set=rows)
    if (weights != weights[0]).any():
        sampling = [step.number for step in pipeline.steps if step.acts_at(["sampling_weights"])]
        drawn = rng.choice(len(rows), size=len(rows), p=weights / weights.sum())
        rows = rows.take(drawn).stamped(sampling[-1])
    if not (pipeline.acts_at("augment_rows") or pipeline.acts_at("augment_batch")):
        return rows
    batches = np.array_split(np.arange(len(rows)), -(-len(rows) // _BATCH))
    images = np.concatenate([_augmented(pipeline, rows, batch) for batch in batches])
    changed = np.flatnonzero((images != rows.images[:]).any(axis=(1, 2, 3)))
    order = np.arange(len(rows))
    order[changed] = len(rows) + np.arange(len(changed))
    augmenting = [step.number for step in pipeline.steps if step.acts_at(("augment_rows", "augment_batch"))]
    return rows.append(images[changed], parents=changed).take(order).stamped(augmenting[-1])


def _augmented(pipeline: Pipeline, data: ImageDataset, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the images of the given rows as augmented in the first epoch, rounded to `uint8`."""
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
    """Return a torch data set of `(C, H, W) float32` images in [0, 1] and their labels, for a `DataLoader`.

    Pixels are read on access; worker processes open memory-mapped files themselves.
    """
    from fer_augment.torch_dataset import TorchDataset

    return TorchDataset(dataset)
