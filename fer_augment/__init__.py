"""Data augmentation and class balancing for image classifiers, as plugins, compared honestly."""

from fer_augment.data.dataset import ImageDataset, PixelBlock, Splits
from fer_augment.errors import (
    DatasetError,
    FerAugmentError,
    PluginError,
    RecipeError,
    RunError,
    StrategyError,
    did_you_mean,
)
from fer_augment.heads import linear_head
from fer_augment.hooks.declarations import Adjustment, BatchLoss, DatasetReader, Loss, Model, Tracker
from fer_augment.hooks.specs import hookimpl
from fer_augment.hooks.strategy import ClassName, Context, Effect, Strategy
from fer_augment.randomness import uniforms

__version__ = "0.1.0"

__all__ = [
    "Adjustment",
    "BatchLoss",
    "ClassName",
    "Context",
    "DatasetError",
    "DatasetReader",
    "Effect",
    "FerAugmentError",
    "ImageDataset",
    "Loss",
    "Model",
    "PixelBlock",
    "PluginError",
    "RecipeError",
    "RunError",
    "Splits",
    "Strategy",
    "StrategyError",
    "Tracker",
    "did_you_mean",
    "hookimpl",
    "linear_head",
    "uniforms",
]
