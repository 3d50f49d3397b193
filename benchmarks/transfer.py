"""Networks that start from given weights: all of a network fine-tuned on few images, and heads on frozen features."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

import fer_augment as fa
from benchmarks.networks import arms_table, stratified_share
from benchmarks.peak_memory import peak_memory_of
from fer_augment import Splits
from fer_augment.results.comparison import Arm

ARCHITECTURE = "resnet10t"
EPOCHS_OF_BACKBONE = 10
HEAD: dict[str, Any] = {
    "train": "head",
    "epochs": 10,
    "batch_size": 512,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "schedule": "cosine",
}
Strategies = dict[str, list[Any]]
"""The strategies of each arm, the baseline first."""
BALANCING: Strategies = {
    "plain": [],
    "square_root_sampling": [{"power_sampler": {"exponent": 0.5}}],
    "balanced_sampling": [{"power_sampler": {"exponent": 1}}],
    "weighted_loss": ["weighted_loss"],
    "class_balanced_loss": ["class_balanced_loss"],
    "focal_loss": ["focal_loss"],
    "balanced_softmax": ["balanced_softmax"],
    "logit_adjusted_loss": ["logit_adjusted_loss"],
    "logit_adjustment": [{"logit_adjustment": {"tau": "auto"}}],
    "ldam_loss": ["ldam_loss"],
}
_LAST_FIFTH = HEAD["epochs"] * 4 // 5
NEWER: Strategies = {
    "plain": [],
    "logit_adjustment": [{"logit_adjustment": {"tau": "auto"}}],
    "ldam_drw": ["ldam_loss", {"class_balanced_loss": {"beta": 0.9999, "from_epoch": _LAST_FIFTH}}],
    "deferred_sampling": [{"power_sampler": {"exponent": 1, "from_epoch": _LAST_FIFTH}}],
    "progressive_sampling": [{"power_sampler": {"exponent": 1, "ramp_epochs": HEAD["epochs"] - 1}}],
    "difficulty_sampler": ["difficulty_sampler"],
    "sam": [{"sam": {"rho": 0.05}}],
    "imb_sam": [{"imb_sam": {"rho": 0.05}}],
    "crt": [{"crt": {"epochs": HEAD["epochs"]}}],
    "label_aware_smoothing": [
        {"crt": {"epochs": HEAD["epochs"]}},
        {"label_aware_smoothing": {"largest_class": 0.3, "smallest_class": 0.0, "from_epoch": HEAD["epochs"]}},
    ],
    "weight_balancing": [{"weight_balancing": {"epochs": HEAD["epochs"], "limit": 0.1, "beta": 0.9999}}],
    "tau_norm": [{"tau_norm": {"tau": 1}}],
    "temperature_scaling": [{"temperature_scaling": {"temperature": "auto"}}],
}
FAMILIES = {"balancing": BALANCING, "newer": NEWER}
"""Comparisons of heads."""
AT_ONCE = 256


data_option = click.option("--data", required=True, help="The data source.")


@click.command()
@data_option
@click.option("--share", default=0.1, help="Share of the training images of each class that is used.")
@click.option("--epochs", default=30, help="Epochs of each arm.")
@click.option("--seeds", default=3, help="Seeds.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/fine_tuning"), help="For results.")
def fine_tuning(data: str, share: float, epochs: int, seeds: int, out: Path) -> None:
    """Fine-tune a network of timm that was trained on the demo faces, and compare with a training from scratch."""
    weights = _backbone(out / "backbone")
    whole = fa.read_data(data)
    few = stratified_share(whole.train, share)
    splits = Splits(few, whole.validation, whole.test, f"{whole.source}, {len(few):,} training images")
    arms = {"from_scratch": _network(), "fine_tuned": _network(weights), "frozen": _network(weights)}
    recipes = [
        _modern(name, model, HEAD if name == "frozen" else {"epochs": epochs, "evaluate_every": epochs})
        for name, model in arms.items()
    ]
    comparison = fa.compare(recipes, splits, seeds=seeds, out=out, jobs=1)
    memory = {
        recipe.name: peak_memory_of(partial(fa.run, recipe, splits, seed=seeds, out=out / "memory"))
        for recipe in recipes
    }
    _print(comparison, {"peak memory": lambda arm: f"{memory[arm.recipe] / 1e6:,.0f} MB"})
    _check_export(comparison.runs["fine_tuned"][0], splits.test.images[:])


@click.command()
@data_option
@click.option("--weights", required=True, help="Directory of a finished run, or a file of weights of `--network`.")
@click.option("--network", default="resnet_small", help="The network of the weights.")
@click.option("--family", type=click.Choice(list(FAMILIES)), default="balancing", help="The arms.")
@click.option("--seeds", default=20, help="Seeds.")
@click.option("--out", type=click.Path(path_type=Path), help="For results.  [default: results/heads_FAMILY]")
def heads(data: str, weights: str, network: str, family: str, seeds: int, out: Path | None) -> None:
    """Compare strategies on the frozen features of a network, with both cores."""
    model = {network: {"weights": weights}}
    out = out or Path("results", f"heads_{family}")
    recipes = [_modern(name, model, HEAD, strategies) for name, strategies in FAMILIES[family].items()]
    console = Console(highlight=False)
    for number, what in ((1, "features and one seed"), (seeds, "all seeds")):
        started = time.perf_counter()
        comparison = fa.compare(recipes, data, seeds=number, out=out)
        console.print(f"{what}: {time.perf_counter() - started:.0f} s")
    _print(comparison, {})
    console.print(comparison.to_frame().query("endpoint == 'balanced_accuracy' and split == 'test'").to_string())


def _network(weights: str | None = None) -> dict[str, Any]:
    return {"timm": {"architecture": ARCHITECTURE, "size": "data"} | ({"weights": weights} if weights else {})}


def _modern(
    name: str, model: dict[str, Any], training: dict[str, Any], strategies: Sequence[Any] | None = None
) -> fa.Recipe:
    """Return the recipe `modern` with another network and training; without its changes of pixels for heads."""
    modern = fa.load_recipe("modern").model_dump(mode="json")
    if training is HEAD:
        strategies = strategies or []
    changed = {} if strategies is None else {"strategies": list(strategies)}
    return fa.Recipe(
        **{**modern, **changed, "name": name, "model": model, "training": {**modern["training"], **training}}
    )


def _backbone(out: Path) -> str:
    """Train the network on the demo faces; return the directory of the run."""
    recipe = _modern("demo_faces", _network(), {"epochs": EPOCHS_OF_BACKBONE, "evaluate_every": EPOCHS_OF_BACKBONE})
    return str(fa.run(recipe, "demo", out=out).path.resolve())


def _check_export(run: fa.Run, images: np.ndarray) -> None:
    """Export a run to ONNX, and print how many images the exported network assigns to the same class."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        run.export(file)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        predicted = np.concatenate(
            [
                session.run(["logits"], {"images": _as_floats(images[start : start + AT_ONCE])})[0].argmax(axis=1)
                for start in range(0, len(images), AT_ONCE)
            ]
        )
    same = np.count_nonzero(predicted == run.predict(images).argmax(axis=1))
    Console(highlight=False).print(f"onnxruntime assigns {same:,} of {len(images):,} test images to the same class")


def _as_floats(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / 255


def _print(comparison: fa.Comparison, further: Mapping[str, Callable[[Arm], str]]) -> None:
    console = Console(highlight=False)
    console.print(arms_table(comparison, further))
    console.print(", ".join(f"{name} {value}" for name, value in comparison.environment.items()))
