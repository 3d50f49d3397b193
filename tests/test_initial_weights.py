"""Initial weights: from files of several kinds and from runs, and every way in which they may not fit."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import fer_augment as fa
from fer_augment.errors import RecipeError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import load_recipe
from fer_augment.training.keys import training_key
from fer_augment.training.networks import build_network
from tests.data_files import SQUARE_CLASSES, write_squares
from tests.networks import model_named, network_named
from tests.tiny_training import tiny_splits

SHAPE = (16, 16, 1)
NAMES = ("ant", "bee", "cat")


def trained(classes: int = 3, **parameters: Any) -> dict[str, torch.Tensor]:
    """Return the weights of a network that differ from those of any new one."""
    network = network_named("vgg_tiny", SHAPE, classes, width=4, **parameters)
    return {name: torch.full_like(tensor, 2) for name, tensor in network.state_dict().items()}


def built(weights: Path, names: tuple[str, ...] = NAMES, width: int = 4) -> tuple[Any, str | None]:
    return build_network(model_named("vgg_tiny", width=width, weights=weights), SHAPE, names)


def is_loaded(module: torch.nn.Module) -> bool:
    return all(bool((tensor == 2).all()) for tensor in module.state_dict().values())


def refusal(weights: Path, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        built(weights, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{weights.parent}/", "")


def saved(file: Path, content: Any) -> Path:
    if file.suffix == ".safetensors":
        save_file(content, file)
    else:
        torch.save(content, file)
    return file


class TestFiles:
    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.bin"])
    def test_the_whole_network_is_loaded(self, tmp_path: Path, name: str) -> None:
        network, notice = built(saved(tmp_path / name, trained()))
        assert is_loaded(network) and notice is None

    @pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
    def test_checkpoints_of_other_programs_are_read(self, tmp_path: Path, key: str) -> None:
        weights = {f"module.{name}": tensor for name, tensor in trained().items()}
        network, notice = built(saved(tmp_path / "w.pth", {"epoch": 3, key: OrderedDict(weights)}))
        assert is_loaded(network) and notice is None

    def test_a_backbone_is_loaded_into_the_features(self, tmp_path: Path) -> None:
        backbone = {
            name.removeprefix("features."): value for name, value in trained().items() if not name.startswith("head.")
        }
        file = saved(tmp_path / "w.safetensors", backbone)
        network, notice = built(file)
        assert is_loaded(network.features) and not is_loaded(network.head)
        assert notice == f"weights: {file}: has no last layer; the new last layer starts from random weights"

    @pytest.mark.parametrize(("classes", "is_used"), [(3, True), (1000, False)])
    def test_the_classifier_of_a_backbone_is_used_if_it_has_as_many_classes(
        self, tmp_path: Path, classes: int, is_used: bool
    ) -> None:
        renamed = {name.removeprefix("features."): value for name, value in trained(classes).items()}
        renamed = {name.replace("head.", "fc."): value for name, value in renamed.items()}
        network, notice = built(saved(tmp_path / "w.pth", renamed))
        assert is_loaded(network.features) and is_loaded(network.head) == is_used
        assert (notice is None) == is_used
        assert is_used or "has a last layer for 1000 classes instead of 3" in str(notice)

    def test_the_content_and_not_the_path_is_part_of_the_key(self, tmp_path: Path) -> None:
        def key(file: Path) -> str:
            recipe = fa.Recipe(name="r", model={"vgg_tiny": {"weights": str(file)}})
            return training_key(bind(recipe, installed_plugins()), 0, tiny_splits())

        one, same = saved(tmp_path / "a.safetensors", trained()), saved(tmp_path / "b.safetensors", trained())
        other = saved(tmp_path / "c.safetensors", trained(4))
        assert key(one) == key(same) != key(other)

    def test_the_path_is_relative_to_the_recipe_file(self, tmp_path: Path) -> None:
        (tmp_path / "r.yaml").write_text("model: {vgg_tiny: {weights: w.pth}}\n")
        assert load_recipe(tmp_path / "r.yaml").model.parameters == {"weights": str(tmp_path / "w.pth")}


class TestRefusals:
    def test_other_shapes(self, tmp_path: Path) -> None:
        assert refusal(saved(tmp_path / "w.pth", trained()), width=5) == (
            "weights: w.pth: of another network: features.0.weight is 4x1x3x3 in the file and 5x1x3x3 in the network; "
            "of 24 tensors, 20 have another shape and 0 are missing, 0 others are in the file"
        )

    def test_missing_and_unknown_tensors(self, tmp_path: Path) -> None:
        weights = trained()
        del weights["features.4.weight"]
        weights |= {"features.99.weight": torch.zeros(2), "features.98.bias": torch.zeros(2)}
        assert refusal(saved(tmp_path / "w.pth", weights)) == (
            "weights: w.pth: of another network: features.4.weight is not in the file; of 24 tensors, 0 have another "
            "shape and 1 are missing, 2 others are in the file"
        )

    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "w.pth") == "weights: w.pth: no such file"
        assert refusal(tmp_path) == f"weights: {tmp_path.name}: not a run directory (no weights.safetensors)"

    def test_an_unknown_format(self, tmp_path: Path) -> None:
        (tmp_path / "w.h5").touch()
        assert refusal(tmp_path / "w.h5").startswith("weights: w.h5: unknown format; give a .safetensors, .pth or .pt")

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        for name in ("w.safetensors", "w.pth"):
            (tmp_path / name).write_bytes(b"nothing of the kind")
            assert refusal(tmp_path / name).startswith(f"weights: {name}: not readable (")

    def test_a_pickle_that_would_run_code(self, tmp_path: Path) -> None:
        file = tmp_path / "ran"

        class Runs:
            def __reduce__(self) -> Any:
                return Path.touch, (file,)

        torch.save({"w": Runs()}, tmp_path / "w.pth")
        (tmp_path / "v.pth").write_bytes(pickle.dumps(Runs()))
        for name in ("w.pth", "v.pth"):
            message = refusal(tmp_path / name)
            assert message.startswith(f"weights: {name}: not readable (damaged, or with Python objects")
            assert "weights_only" not in message, "torch's advice to run code from the file"
        assert not file.exists()

    def test_content_that_is_no_state_dict(self, tmp_path: Path) -> None:
        for content in ([1, 2], {}, {"a": 1}):
            assert refusal(saved(tmp_path / "w.pth", content)) == (
                "weights: w.pth: holds no weights by name; save the network's state_dict()"
            )


class TestRuns:
    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with data and two runs, of which the second starts from the weights of the first."""
        folder = tmp_path_factory.mktemp("runs")
        data = write_squares(folder / "data")
        (folder / "one.yaml").write_text(
            "model: {vgg_tiny: {width: 4}}\ntraining: {epochs: 1, batch_size: 16, precision: float32}\n"
        )
        first = fa.run(folder / "one.yaml", data, out=folder / "out", progress=False).path
        first.rename(folder / "first")
        (folder / "two.yaml").write_text(
            "extends: one.yaml\nmodel: {vgg_tiny: {weights: first}}\ntraining: {learning_rate: 1.0e-9}\n"
        )
        second = fa.run(folder / "two.yaml", data, out=folder / "out", progress=False).path
        second.rename(folder / "second")
        return folder

    def test_a_run_starts_from_the_weights_of_another(self, place: Path) -> None:
        first, second = (fa.load_run(place / name).load_model().state_dict() for name in ("first", "second"))
        for name, tensor in first.items():
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
                torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6)

    def test_a_finished_run_needs_its_initial_weights_no_more(self, place: Path) -> None:
        (place / "first").rename(place / "away")
        try:
            assert fa.load_run(place / "second").load_model() is not None
        finally:
            (place / "away").rename(place / "first")

    def test_weights_given_by_an_override_are_found_from_any_directory(
        self, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(place)
        overrides = {"model.vgg_tiny.weights": Path("first"), "training.learning_rate": 1e-9}
        run = fa.run("one.yaml", "data", out=tmp_path / "out", overrides=overrides, progress=False)
        monkeypatch.chdir(tmp_path)
        again = fa.run(run.path / "recipe.yaml", place / "data", out=tmp_path / "again", progress=False)
        keys = {fa.load_run(path).record.training_key for path in (place / "second", run.path, again.path)}
        assert len(keys) == 1, "they do not depend on how the weights are named"
        built = fa.Recipe(name="built", model={"vgg_tiny": {"width": 4, "weights": place / "first"}})
        assert fa.prepare(built, place / "data", seeds=1, out=tmp_path / "built", progress=False).runs

    def test_the_head_of_a_run_with_other_classes_is_replaced(self, place: Path) -> None:
        shape = fa.load_run(place / "first").record.image_shape
        model = model_named("vgg_tiny", width=4, weights=place / "first")
        others = tuple(f"other {name}" for name in SQUARE_CLASSES)
        network: Any
        network, notice = build_network(model, shape, others)
        assert f"was trained for other classes ({', '.join(SQUARE_CLASSES)})" in str(notice)
        same: Any
        same, notice = build_network(model, shape, SQUARE_CLASSES)
        assert notice is None and not torch.equal(same.head.weight, network.head.weight)

    def test_the_preflight_says_that_the_head_is_replaced(
        self, place: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        weights = fa.load_run(place / "first").load_model().state_dict()
        backbone = {name: value for name, value in weights.items() if not name.startswith("head.")}
        saved(place / "b.pth", backbone)
        (place / "three.yaml").write_text("extends: one.yaml\nmodel: {vgg_tiny: {weights: b.pth}}\n")
        fa.prepare(place / "three.yaml", place / "data", seeds=1, out=place / "three")
        message = " ".join(capsys.readouterr().err.split())
        assert "three: weights:" in message and "has no last layer; the new last layer starts from random" in message

    def test_the_preflight_refuses_weights_of_another_network(self, place: Path) -> None:
        (place / "four.yaml").write_text("extends: one.yaml\nmodel: {vgg_tiny: {weights: first, width: 5}}\n")
        with pytest.raises(
            RecipeError, match="recipe 'four': weights: .*first/weights.safetensors: of another network"
        ):
            fa.prepare(place / "four.yaml", place / "data", seeds=1, out=place / "four", progress=False)
