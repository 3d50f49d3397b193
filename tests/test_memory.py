"""Memory of trainings: estimated before they start, refused if it is not available, bounded when predicting."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fer_augment as fa
from fer_augment import Model
from fer_augment.hooks.pipeline import steps_of
from fer_augment.recipe.binding import BoundRecipe
from fer_augment.resampling import make_strategy
from fer_augment.runs import memory_of_runs
from fer_augment.runs.recipe_data import RecipeData
from fer_augment.training import memory
from fer_augment.training.device_images import PIXELS_AT_ONCE, rows_at_once
from fer_augment.training.memory import available_memory, training_memory
from fer_augment.training.store import TrainingStore
from fer_augment.training.trainings import Trainings
from tests.comparison_place import write_place
from tests.tiny_training import LOSS, tiny_splits

GIGABYTE = 10**9

_MEASURE = r"""
import re, resource, sys
from pathlib import Path
import numpy as np
import fer_augment as fa
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.training.memory import training_memory
from fer_augment.training.store import TrainingStore
from fer_augment.training.trainer import train
from fer_augment.training.trainings import Trainings

side, batch = int(sys.argv[1]), int(sys.argv[2])
images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
data = fa.ImageDataset.from_arrays(images, np.arange(batch) % 2, "ab")
few = data.take([0, 1])
recipe = fa.Recipe(
    name="r", model="vgg_mini", training={"batch_size": batch, "epochs": 2, "precision": "float32", "device": "cpu"}
)
trainings = Trainings(fa.Splits(data, few, few, "noise"), 0, TrainingStore(Path("unused")))
trained = trainings.of(bind(recipe, installed_plugins()))
estimate = training_memory(trained)
train(trained.training(data))
status = Path("/proc/self/status")
if status.exists():  # on Linux, ru_maxrss includes the peak of the process that started this one
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(estimate / peak)
"""


@pytest.mark.parametrize(("side", "batch"), [(48, 128), (160, 32)])
def test_the_estimate_is_above_the_peak_and_not_far_above(side: int, batch: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(side), str(batch)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert 1 <= float(ran.stdout) < 2


def flat(image_shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """Build a network with many weights and few activations."""
    network = torch.nn.Sequential()
    layers = torch.nn.Flatten(), torch.nn.Linear(math.prod(image_shape), 500), torch.nn.Linear(500, 500)
    network.add_module("features", torch.nn.Sequential(*layers))
    network.add_module("head", torch.nn.Linear(500, classes))
    return network


def test_weights_in_bfloat16_are_counted_once_and_not_for_each_image(tmp_path: Path) -> None:
    def growth(precision: str) -> int:
        estimates = []
        for batch_size in (256, 1024):
            settings = {"precision": precision, "batch_size": batch_size, "device": "cpu"}
            recipe = fa.Recipe(name="r", model="flat", training=settings)
            bound = BoundRecipe(recipe, (), Model("flat", "", flat), LOSS, ())
            estimates.append(training_memory(Trainings(tiny_splits(), 0, TrainingStore(tmp_path)).of(bound)))
        return estimates[1] - estimates[0]

    assert 0 < growth("bfloat16") <= growth("float32")


def test_the_moved_weights_of_sam_are_counted(tmp_path: Path) -> None:
    def estimate(*strategies: fa.Strategy) -> int:
        recipe = fa.Recipe(name="r", model="flat", training={"device": "cpu"})
        bound = BoundRecipe(recipe, steps_of(strategies), Model("flat", "", flat), LOSS, ())
        return training_memory(Trainings(tiny_splits(), 0, TrainingStore(tmp_path)).of(bound))

    weights = sum(parameter.numel() for parameter in flat(tiny_splits().train.image_shape, 3).parameters())
    assert estimate(make_strategy("sam")) - estimate() == 3 * 4 * weights


def test_this_machine_has_memory() -> None:
    available = available_memory()
    assert available is not None and GIGABYTE / 4 < available < 10**16


@pytest.mark.parametrize(("limit", "left"), [("16000000000", 15 * GIGABYTE), ("max", None)])
def test_pages_of_files_in_memory_are_available_to_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, left: int | None
) -> None:
    for name, content in {
        "memory.max": limit,
        "memory.current": "15000000000",
        "memory.stat": "anon 900000000\nfile 14100000000\nshmem 100000000\n"
        "inactive_file 10000000000\nactive_file 4000000000",
    }.items():
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    on_machine = 10**9
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text(f"MemTotal: {on_machine} kB\nMemAvailable: {on_machine} kB\n")
    assert available_memory() == (left or on_machine << 10)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return write_place(tmp_path)


def test_a_run_that_does_not_fit_is_refused_with_what_to_set(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_of_runs, "available_memory", lambda: GIGABYTE // 10)
    message = (
        r"recipe 'small': a run needs about 0\.\d GB of memory, but 0\.1 GB are available; "
        r"set a smaller data.size \(now \[12, 12\]\) or training.batch_size \(now 16\)"
    )
    for entry in (fa.prepare, fa.run):
        with pytest.raises(fa.RecipeError, match=message):
            entry("small.yaml", "faces", progress=False)
    with pytest.raises(fa.RecipeError, match=r"data.size \(now \[128, 128\], try 96\) or training.batch_size"):
        fa.prepare("small.yaml", "faces", overrides={"data.size": 128}, progress=False)


def test_runs_at_a_time_are_those_that_fit(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fer_augment.preparing.cores", lambda: 8)
    prepared = fa.prepare("small.yaml", "faces", progress=False)
    assert prepared.local_jobs == 8
    assert prepared.memory > GIGABYTE // 4
    monkeypatch.setattr(memory_of_runs, "available_memory", lambda: 3 * prepared.memory)
    assert prepared.local_jobs == 3
    assert fa.prepare("small.yaml", "faces", jobs=5).local_jobs == 5
    assert "5 runs at a time need about" in capsys.readouterr().err


def test_fewer_large_images_are_predicted_at_once() -> None:
    assert rows_at_once((48, 48, 1)) == rows_at_once((8, 8, 3)) == 512
    for shape in ((224, 224, 3), (384, 512, 3)):
        assert 1 < rows_at_once(shape) * shape[0] * shape[1] <= PIXELS_AT_ONCE
    assert rows_at_once((4000, 3000, 3)) == 1


def test_arms_are_estimated_apart_if_their_steps_need_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100, 200])
    monkeypatch.setattr(memory_of_runs, "training_memory", lambda recipe: next(sizes))
    recipe = fa.Recipe(name="r", model="flat", training={"device": "cpu"})
    arms = [
        BoundRecipe(recipe, steps_of(steps), Model("flat", "", flat), LOSS, ())
        for steps in ([], [make_strategy("mixup")], [make_strategy("sam")])
    ]
    assert memory_of_runs.memory_of_a_run(arms, RecipeData.of(tiny_splits()), TrainingStore(tmp_path)) == 200
    assert next(sizes, None) is None
