"""Data augmentation and class balancing for image classifiers, as plugins, compared honestly.

The names below `TYPE_CHECKING` are imported when they are first used: importing this package imports neither torch
nor pandas.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fer_augment.data.dataset import ImageDataset, Omission, SourceRows, Splits
from fer_augment.data.image_files import ImageFile
from fer_augment.data.image_source import ImageSource
from fer_augment.data.pixel_blocks import PixelBlock
from fer_augment.data.records import Evaluation, RunIdentity, RunRecord
from fer_augment.errors import (
    DatasetError,
    FerAugmentError,
    PluginError,
    PredictionError,
    RecipeError,
    RunError,
    StrategyError,
    StrategyWarning,
    did_you_mean,
)
from fer_augment.heads import linear_head
from fer_augment.hooks.declarations import (
    Adjustment,
    BatchLoss,
    DatasetReader,
    FeatureLoss,
    Gradients,
    Loss,
    RecipeFile,
    Tracker,
)
from fer_augment.hooks.history import History
from fer_augment.hooks.networks import ConfigurableModel, Model, ModelInput
from fer_augment.hooks.specs import hookimpl
from fer_augment.hooks.strategy import ClassName, Context, Effect, Strategy
from fer_augment.metrics import predicted_classes
from fer_augment.processes import without_main_module
from fer_augment.randomness import uniforms
from fer_augment.row_transforms import RowTransforms, Transform, seeded_torch
from fer_augment.torchvision_import import import_with_torchvision

if TYPE_CHECKING:
    from fer_augment.comparing import compare, prepare
    from fer_augment.finished import Comparison, Run, load_comparison, load_run
    from fer_augment.judging import judge
    from fer_augment.prepared_comparison import PreparedComparison
    from fer_augment.reading import Source, read_data
    from fer_augment.recipe.recipe import Recipe, load_recipe
    from fer_augment.single_runs import rewrite, run

__version__ = "0.1.0"

__all__ = [
    "Adjustment",
    "BatchLoss",
    "ClassName",
    "Comparison",
    "ConfigurableModel",
    "Context",
    "DatasetError",
    "DatasetReader",
    "Effect",
    "Evaluation",
    "FeatureLoss",
    "FerAugmentError",
    "Gradients",
    "History",
    "ImageDataset",
    "ImageFile",
    "ImageSource",
    "Loss",
    "Model",
    "ModelInput",
    "Omission",
    "PixelBlock",
    "PluginError",
    "PredictionError",
    "PreparedComparison",
    "Recipe",
    "RecipeError",
    "RecipeFile",
    "RowTransforms",
    "Run",
    "RunError",
    "RunIdentity",
    "RunRecord",
    "Source",
    "SourceRows",
    "Splits",
    "Strategy",
    "StrategyError",
    "StrategyWarning",
    "Tracker",
    "Transform",
    "compare",
    "did_you_mean",
    "hookimpl",
    "import_with_torchvision",
    "judge",
    "linear_head",
    "load_comparison",
    "load_recipe",
    "load_run",
    "predicted_classes",
    "prepare",
    "read_data",
    "rewrite",
    "run",
    "seeded_torch",
    "uniforms",
    "without_main_module",
]

_LAZY = {
    "Comparison": "finished",
    "PreparedComparison": "prepared_comparison",
    "Recipe": "recipe.recipe",
    "Run": "finished",
    "Source": "reading",
    "compare": "comparing",
    "judge": "judging",
    "load_comparison": "finished",
    "load_recipe": "recipe.recipe",
    "load_run": "finished",
    "prepare": "comparing",
    "read_data": "reading",
    "rewrite": "single_runs",
    "run": "single_runs",
}
"""The module of each name that is imported when it is first used."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
