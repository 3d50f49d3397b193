"""The strategies `kornia` and `torchvision`, and the distributions of `albumentations`."""

from __future__ import annotations

import base64
import hashlib
import importlib
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fer_augment as fa
from fer_augment import Context, Effect, ImageDataset, StrategyError, seeded_torch
from fer_augment.functional import make_strategy
from fer_augment.hooks.pipeline import Pipeline, steps_of
from fer_augment.hooks.strategy_files import strategy_in_file
from fer_augment.recipe.recipe import Recipe
from fer_augment.training.distributions import distribution_versions
from tests.command_line import fer_augment
from tests.comparison_place import write_place
from tests.libraries import need_library_of

NAMES = ("ant", "bee", "cat")
COUNTS = (4, 10, 20)
TURNED: dict[str, list[Any]] = {
    "kornia": [{"RandomAffine": {"degrees": 20.0, "p": 1.0}}, {"RandomGaussianNoise": {"std": 0.1, "p": 0.5}}],
    "torchvision": [
        {"RandomAffine": {"degrees": 20}},
        {"RandomApply": {"transforms": [{"GaussianBlur": {"kernel_size": 3}}]}},
    ],
}
MIRRORED: dict[str, list[Any]] = {name: [{"RandomHorizontalFlip": {"p": 1.0}}] for name in TURNED}

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, while they are imported


@pytest.fixture(params=sorted(TURNED))
def library(request: pytest.FixtureRequest) -> str:
    need_library_of(request.param)
    return str(request.param)


def dataset(channels: int = 1) -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, (sum(COUNTS), 12, 12, channels), dtype=np.uint8)
    return ImageDataset.from_arrays(images, np.repeat([0, 1, 2], COUNTS), NAMES)


def augmented(strategy: Any, rows: Any, data: ImageDataset) -> Any:
    pipeline = Pipeline(steps_of([strategy]), Context(0, NAMES))
    given = {"labels": data.labels[rows], "rows": np.asarray(rows), "training_set": data, "epoch": 2}
    return pipeline.fold("augment_rows", data.images[rows], **given)


class TestTransforms:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_certain_flip_mirrors_every_image(self, library: str, channels: int) -> None:
        data = dataset(channels)
        result = augmented(make_strategy(library, transforms=MIRRORED[library]), np.arange(len(data)), data)
        np.testing.assert_array_equal(result, data.images[:][:, :, ::-1])

    def test_results_depend_neither_on_the_batch_nor_on_the_order(self, library: str) -> None:
        strategy, data = make_strategy(library, transforms=TURNED[library]), dataset()
        whole = augmented(strategy, np.arange(len(data)), data)
        rows = np.array([30, 2, 17, 9])
        np.testing.assert_array_equal(augmented(strategy, rows, data), whole[rows])
        assert (whole != data.images[:]).any(axis=(1, 2, 3)).mean() > 0.9
        twice = augmented(strategy, [3, 3], data)
        assert (twice[0] != twice[1]).any()

    def test_copies_do_not_depend_on_the_number_of_processes(
        self, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fer_augment.row_transforms._TIMED_IMAGES", 5)
        strategy = make_strategy(library, transforms=TURNED[library], when="rewrite", copies=2)
        serial, parallel = (
            Pipeline(steps_of([strategy]), Context(0, NAMES, cores=cores)).fold("rewrite_training_set", dataset())
            for cores, _ in ((1, None), (2, monkeypatch.setattr(type(strategy), "startup_seconds", 0.0)))
        )
        np.testing.assert_array_equal(parallel.images[:], serial.images[:])
        assert len(serial) == 3 * sum(COUNTS)

    def test_the_global_generator_is_left_alone(self, library: str) -> None:
        torch.manual_seed(7)
        before = torch.get_rng_state()
        augmented(make_strategy(library, transforms=TURNED[library]), [0, 1], dataset())
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(
        ("transforms", "message"),
        [
            (["RandomHorizontalFip"], "has no transform 'RandomHorizontalFip'; did you mean 'RandomHorizontalFlip'"),
            ([{"RandomHorizontalFlip": {"q": 1}}], "RandomHorizontalFlip has no parameter 'q'"),
            ([{"RandomHorizontalFlip": {"p": 2.0}}], "RandomHorizontalFlip: "),
            ([{"RandomHorizontalFlip": {}, "RandomAffine": {}}], "each transform is one {name: {parameter: value}}"),
        ],
    )
    def test_invalid_transforms_are_refused(self, library: str, transforms: Any, message: str) -> None:
        if "p" in str(transforms) and "2.0" in str(transforms) and library == "kornia":
            pytest.skip("kornia checks probabilities when they are used")
        with pytest.raises(fa.RecipeError, match=message.replace("{", r"\{").replace("}", r"\}")):
            make_strategy(library, transforms=transforms)

    def test_a_changed_size_is_refused_with_a_remedy(self, library: str) -> None:
        strategy = make_strategy(library, transforms=[{"CenterCrop": {"size": [8, 8]}}])
        with pytest.raises(
            StrategyError, match=r"CenterCrop changed the image shape .* append \{Resize: \{size: \[12, 12\]"
        ):
            augmented(strategy, [0], dataset())

    def test_effects_follow_the_transforms(self, library: str) -> None:
        assert Effect.RANDOM_FLIP in make_strategy(library, transforms=MIRRORED[library]).effects
        assert Effect.RANDOM_FLIP not in make_strategy(library, transforms=TURNED[library]).effects

    def test_its_version_is_part_of_the_key(self, library: str) -> None:
        from fer_augment.hooks.plugin_manager import installed_plugins
        from fer_augment.recipe.binding import bind

        steps = [{library: {"transforms": TURNED[library]}}]
        recipe = bind(Recipe(name="r", model="convnet4", strategies=steps), installed_plugins())
        assert distribution_versions(recipe)[library] == importlib.metadata.version(library)


@pytest.mark.parametrize(
    ("transform", "channels", "message"),
    [
        ("ConvertImageDtype", 1, "returned float32 pixels instead of uint8 pixels; remove ConvertImageDtype: "),
        ("ToPILImage", 1, "returned a value of type Image instead of uint8 pixels; remove ToPILImage: "),
        ("RGB", 1, "images must keep their channels: .*; to train on color images, set data.channels: color$"),
        ("Grayscale", 3, "images must keep their channels: .*; to train on gray images, set data.channels: gray$"),
    ],
)
def test_conversions_by_torchvision_are_refused_with_a_remedy(transform: Any, channels: int, message: str) -> None:
    need_library_of("torchvision")
    with pytest.raises(StrategyError, match=f"{transform}.* {message}"):
        augmented(make_strategy("torchvision", transforms=[transform]), [0], dataset(channels))


def test_a_missing_library_is_refused_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_place(tmp_path))
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))

    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("fer_augment.hooks.declared_values.version", not_installed)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "r.yaml").write_text("model: convnet4\nstrategies:\n  - kornia: {transforms: [RandomAffine]}\n")
    assert "r.yaml:3: strategies.kornia: needs kornia" in fer_augment("recipes", "check", str(tmp_path / "r.yaml")).out
    recipe = Recipe(name="r", model="convnet4", strategies=[{"kornia": {"transforms": ["RandomAffine"]}}])
    with pytest.raises(
        fa.RecipeError, match=r"step 1 \(kornia\) needs kornia, which is not installed: pip install kornia"
    ):
        fa.prepare(recipe, "faces", progress=False)


PAINT = '''
import multiprocessing
import time
from typing import ClassVar

from pydantic import Field

from fer_augment import RowTransforms


class Paint(RowTransforms):
    """Paint images in one gray level; the first line says whether a worker process did it."""

    startup_seconds: ClassVar[float] = 0.0

    level: int = Field(description="Gray level.")
    brighter: int = Field(default=0, alias="plus", description="Added to the level.")

    @classmethod
    def check_transform(cls, transform):
        pass

    def transform_images(self, images, seeds):
        time.sleep(0.02)  # so that the worker has started before all is done
        painted = images.copy()
        painted[:, 1:] = self.level + self.brighter
        painted[:, 0] = multiprocessing.parent_process() is not None
        return painted
'''


class TestOwnSubclass:
    """A subclass of `RowTransforms` with parameters of its own, in a file beside a recipe or in a function."""

    def painted(self, strategy_class: Any, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
        monkeypatch.setattr("fer_augment.row_transforms._TIMED_IMAGES", 5)
        strategy = strategy_class(transforms=["paint"], when="rewrite", copies=2, level=7, plus=2)
        pipeline = Pipeline(steps_of([strategy]), Context(0, NAMES, cores=2))
        copies: np.ndarray = pipeline.fold("rewrite_training_set", dataset()).images[sum(COUNTS) :]
        return copies

    def test_worker_processes_have_all_of_its_parameters(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own.py").write_text(PAINT, encoding="utf-8")
        copies = self.painted(strategy_in_file(tmp_path / "own.py", "Paint"), monkeypatch)
        assert {*copies[:, 0].ravel().tolist()} == {0, 1}, "this process and a worker share the work"
        assert {*copies[:, 1:].ravel().tolist()} == {9}

    def test_one_that_no_other_process_can_load_acts_in_this_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "own.py").write_text(PAINT, encoding="utf-8")
        paint: Any = strategy_in_file(tmp_path / "own.py", "Paint")

        class Local(paint):  # type: ignore[misc]  # its base is known at run time
            """Defined where no other process finds it."""

        copies = self.painted(Local, monkeypatch)
        assert {*copies[:, 0].ravel().tolist()} == {0}
        assert {*copies[:, 1:].ravel().tolist()} == {9}


def test_seeded_torch_repeats_and_restores(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    threads = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    draws = []
    for seed in (5, 2**64 - 1, 5):
        with seeded_torch(seed):
            draws.append(torch.rand(3))
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[1])
    assert torch.equal(torch.get_rng_state(), before)


class TestAlbumentationsDistributions:
    """Each test imports the plugin in a process of its own, with a library of that name before the installed one."""

    PROVIDER = "from fer_augment_plugins.albumentations import provider, _library; print(provider())"

    @staticmethod
    def installed(folder: Path, distribution: str) -> None:
        content = b"class BasicTransform: ...\nclass BaseCompose: ...\n"
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        info = folder / f"{distribution.replace('-', '_')}-9.9.dist-info"
        (folder / "albumentations").mkdir()
        (folder / "albumentations" / "__init__.py").write_bytes(content)
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9\n", encoding="utf-8")
        record = f"albumentations/__init__.py,sha256={digest},{len(content)}\n"
        (info / "RECORD").write_text(record, encoding="utf-8")

    def run(self, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
        setup = f"import sys; sys.path.insert(0, {str(folder)!r}); "
        return subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=False)

    def test_the_last_release_under_the_mit_license_is_recognized(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, self.PROVIDER).stdout == "albumentations\n"

    def test_the_maintained_fork_is_accepted(self, tmp_path: Path) -> None:
        self.installed(tmp_path, "nrtk-albumentations")
        ran = self.run(tmp_path, f"{self.PROVIDER}; print(_library().__file__)")
        assert ran.stdout.splitlines() == ["nrtk-albumentations", str(tmp_path / "albumentations" / "__init__.py")]

    def test_the_successor_under_the_agpl_is_refused(self, tmp_path: Path) -> None:
        self.installed(tmp_path, "albumentationsx")
        ran = self.run(tmp_path, f"{self.PROVIDER}; _library()")
        assert ran.stdout == "albumentationsx\n"
        assert (
            "PluginError: the installed albumentations is albumentationsx, which is licensed under the AGPL"
            in ran.stderr
        )
