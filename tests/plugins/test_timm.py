"""Networks of timm, with random weights saved locally: nothing is downloaded."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fer_augment as fa
from fer_augment import DatasetError, ModelInput, PluginError, RecipeError
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.testing import PluginCheck, parametrize_with_model_checks
from fer_augment.training.distributions import distribution_versions
from fer_augment.training.networks import build_network
from tests.data_files import write_squares
from tests.networks import model_named, network_named

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed (the extra `timm`)"
)

SMALL = "resnet10t"
NAMES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def timm() -> Any:
    return importlib.import_module("fer_augment_plugins.timm").import_timm()


def refusal(**parameters: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        model_named("timm", **parameters)
    assert "\n" not in str(caught.value)
    return str(caught.value)


if importlib.util.find_spec("timm"):

    @parametrize_with_model_checks([installed_plugins().model("timm").value])
    def test_conforms(model: Any, check: PluginCheck) -> None:
        check(model)


class TestParameters:
    def test_the_input_is_that_of_timms_configuration(self) -> None:
        imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        assert model_named("timm", architecture="resnet18").input == ModelInput((224, 224), 3, *imagenet)
        assert model_named("timm", architecture="resnet18", size=64).input.size == (64, 64)
        assert model_named("timm", architecture="resnet18", size="data").input.size is None
        half = model_named("timm", architecture="vit_tiny_patch16_224.augreg_in21k").input
        assert (half.mean, half.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def test_gray_faces_become_normalized_color_of_that_size(self) -> None:
        network = network_named("timm", (48, 48, 1), 7, architecture=SMALL, size=64)
        sizes = []
        network.features.preprocessed.register_forward_pre_hook(lambda module, given: sizes.append(given[0].shape))
        assert network(torch.rand(2, 1, 48, 48)).shape == (2, 7)
        assert sizes == [(2, 3, 64, 64)]

    def test_dropout_is_that_of_timm(self) -> None:
        network = network_named("timm", (48, 48, 1), 7, architecture=SMALL, size=32, drop_rate=0.4, drop_path_rate=0.2)
        backbone = network.features.preprocessed
        assert backbone.drop_rate == 0.4
        assert any(type(module).__name__ == "DropPath" for module in backbone.modules())

    def test_a_transformer_takes_another_size(self) -> None:
        network = network_named("timm", (48, 48, 1), 7, architecture="vit_tiny_patch16_224", size=48)
        assert network.eval()(torch.rand(2, 1, 48, 48)).shape == (2, 7)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({}, "architecture: is missing"),
            (
                {"architecture": "resnet19"},
                "timm has no architecture 'resnet19'; did you mean 'resnet",
            ),
            ({"architecture": "qqqqqqqq"}, "timm has no architecture 'qqqqqqqq'; timm.list_models() lists all"),
            ({"architecture": "resnet18.nope"}, "architecture: resnet18 has no tag 'nope'; known: a1_in1k, "),
            ({"architecture": SMALL, "size": 4}, "size: should be "),
            ({"architecture": SMALL, "pretrained": True, "weights": "w.pth"}, "either `weights` or `pretrained: true`"),
        ],
    )
    def test_invalid_parameters_are_refused_in_one_line(self, parameters: dict[str, Any], message: str) -> None:
        assert message in refusal(**parameters)

    def test_an_architecture_without_stochastic_depth_says_so(self) -> None:
        with pytest.raises(RecipeError, match="vgg11: .*drop_path_rate"):
            network_named("timm", (48, 48, 1), 7, architecture="vgg11", size=32, drop_path_rate=0.1)

    def test_the_versions_of_timm_and_of_torchvision_are_part_of_the_key(self) -> None:
        recipe = fa.Recipe(name="r", model={"timm": {"architecture": SMALL, "size": 32}})
        versions = distribution_versions(bind(recipe, installed_plugins()))
        for name in ("timm", "torchvision"):
            assert versions[name] == importlib.metadata.version(name)

    def test_a_size_that_the_architecture_does_not_take_is_refused(self) -> None:
        with pytest.raises(DatasetError, match="^inception_v3 does not take images of 32x32 "):
            network_named("timm", (48, 48, 1), 7, architecture="inception_v3", size=32)


class TestWeights:
    @pytest.mark.parametrize("suffix", ["safetensors", "pth"])
    def test_a_file_of_timm_is_loaded_and_its_classifier_replaced(self, timm: Any, tmp_path: Path, suffix: str) -> None:
        torch.manual_seed(5)
        weights = timm.create_model(SMALL, num_classes=1000).state_dict()
        file = tmp_path / f"backbone.{suffix}"
        save_file(weights, file) if suffix == "safetensors" else torch.save(weights, file)
        model = model_named("timm", architecture=SMALL, size=32, weights=file)
        network: Any
        network, notice = build_network(model, (48, 48, 1), NAMES)
        backbone = network.features.preprocessed.state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.items())
        assert network.head.out_features == 3
        assert "has a last layer for 1000 classes instead of 3" in str(notice)

    def test_a_network_of_ours_is_loaded_whole(self, tmp_path: Path) -> None:
        network = network_named("timm", (48, 48, 1), 3, architecture=SMALL, size=32)
        save_file(network.state_dict(), tmp_path / "w.safetensors")
        model = model_named("timm", architecture=SMALL, size=32, weights=tmp_path / "w.safetensors")
        again, notice = build_network(model, (48, 48, 1), NAMES)
        assert notice is None
        assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in again.state_dict().items())

    def test_another_architecture_is_refused(self, timm: Any, tmp_path: Path) -> None:
        torch.save(timm.create_model("resnet14t", num_classes=1000).state_dict(), tmp_path / "w.pth")
        with pytest.raises(RecipeError, match=r"w\.pth: of another network: "):
            build_network(model_named("timm", architecture=SMALL, weights=tmp_path / "w.pth"), (48, 48, 1), NAMES)

    def test_pretrained_weights_that_cannot_be_downloaded_are_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(RecipeError, match=f"timm cannot load pretrained weights of {SMALL} "):
            network_named("timm", (48, 48, 1), 7, architecture=SMALL, size=32, pretrained=True)

    def test_a_stored_run_needs_no_pretrained_weights(self) -> None:
        model = model_named("timm", architecture=SMALL, pretrained=True)
        assert model.untrained == model_named("timm", architecture=SMALL)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed (the extra `onnx`)",
)
def test_a_network_that_was_fine_tuned_from_a_file_predicts_the_same_classes_as_onnx(
    timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    torch.save(timm.create_model(SMALL, num_classes=1000).state_dict(), tmp_path / "backbone.pth")
    (tmp_path / "tuned.yaml").write_text(
        f"model: {{timm: {{architecture: {SMALL}, weights: backbone.pth, size: 32}}}}\n"
        "training: {epochs: 2, batch_size: 16, precision: float32, learning_rate: 0.001}\n"
    )
    data = fa.read_data(str(write_squares(tmp_path / "data")))
    run = fa.run(tmp_path / "tuned.yaml", data, out=tmp_path / "out")
    assert "has a last layer for 1000 classes instead of 3" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "backbone.pth").unlink()  # a finished run needs it no more
    run.export(tmp_path / "tuned.onnx")
    images = data.test.images[:]
    session = onnxruntime.InferenceSession(str(tmp_path / "tuned.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.transpose(0, 3, 1, 2).astype(np.float32) / 255})
    assert (logits.argmax(axis=1) == run.predict(images).argmax(axis=1)).all()


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    plugin = importlib.import_module("fer_augment_plugins.timm")
    plugin.import_timm.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    try:
        with pytest.raises(PluginError, match=r"^timm is not installed; pip install 'fer_augment\[timm\]'$"):
            model_named("timm", architecture=SMALL)
    finally:
        monkeypatch.undo()
        plugin.import_timm.cache_clear()
