"""The preprocessing inside a network: size, channels, normalization."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_augment import DatasetError, Model, ModelInput
from fer_augment.data.pixels import with_channels
from fer_augment.training.networks import build_network
from fer_augment.training.preprocessing import Preprocessing

IMAGENET = ModelInput((32, 24), 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def flat(image_shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    parts = ("features", torch.nn.Flatten()), ("head", torch.nn.Linear(int(np.prod(image_shape)), classes))
    return torch.nn.Sequential(OrderedDict(parts))


def test_gray_images_become_normalized_color_of_another_size() -> None:
    convert = Preprocessing(IMAGENET, (48, 48, 1))
    batch = torch.full((2, 1, 48, 48), 0.5)
    expected = (0.5 - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.std)
    assert convert(batch).shape == (2, 3, 32, 24)
    torch.testing.assert_close(convert(batch)[1, :, 3, 4], expected)


def test_color_becomes_gray_as_in_image_files() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float() / 255
    gray = Preprocessing(ModelInput(channels=1), (9, 8, 3))(batch)
    np.testing.assert_allclose(gray[0, 0].numpy() * 255, with_channels(pixels, 1)[..., 0], atol=1)


def test_shrinking_is_anti_aliased_and_keeps_the_mean() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1
    shrunk = Preprocessing(ModelInput((16, 16)), (64, 64, 1))(stripes)
    torch.testing.assert_close(shrunk[..., 2:-2, 2:-2], torch.full((1, 1, 12, 12), 0.5), atol=0.02, rtol=0)


def test_it_has_no_weights_and_no_state() -> None:
    convert = Preprocessing(IMAGENET, (48, 48, 1))
    assert list(convert.parameters()) == [] and convert.state_dict() == {}


def test_other_channels_are_refused() -> None:
    with pytest.raises(DatasetError, match="the network needs images with 3 channels, these have 2"):
        Preprocessing(ModelInput(channels=3), (8, 8, 2))


@pytest.mark.parametrize(
    ("target", "shape"),
    [(ModelInput(), (9, 8, 1)), (ModelInput((9, 8), 1), (9, 8, 1)), (ModelInput(channels=3), (9, 8, 3))],
)
def test_a_network_that_takes_images_as_they_are_has_none(target: ModelInput, shape: Any) -> None:
    network, _ = build_network(Model("flat", "", flat, target), shape, "ab")
    assert list(network.state_dict()) == ["head.weight", "head.bias"]
    assert [type(module) for module in network.children()] == [torch.nn.Flatten, torch.nn.Linear]


def test_it_is_a_part_of_the_features() -> None:
    network: Any = build_network(Model("flat", "", flat, IMAGENET), (48, 48, 1), "ab")[0].eval()
    batch = images(5, 1, 48, 48)
    assert network.head.in_features == 32 * 24 * 3
    torch.testing.assert_close(network.head(network.features(batch)), network(batch), rtol=0, atol=0)
    converted = Preprocessing(IMAGENET, (48, 48, 1))(batch)
    torch.testing.assert_close(network.features(batch), converted.flatten(1), rtol=0, atol=0)


def test_a_network_without_features_is_preceded_by_it() -> None:
    def plain(image_shape: Any, classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(image_shape)), classes))

    network, _ = build_network(Model("plain", "", plain, IMAGENET), (48, 48, 1), "ab")
    assert network(images(5, 1, 48, 48)).shape == (5, 2)


def test_a_run_predicts_from_raw_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, the stored run and new images all go through the preprocessing that the recipe does not mention."""
    import fer_augment as fa
    from tests.data_files import write_squares

    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(
        "from tests.test_preprocessing import IMAGENET, flat\nfrom fer_augment import Model\n"
        "flat_color = Model('flat_color', '', flat, IMAGENET)\n"
    )
    (tmp_path / "r.yaml").write_text(
        "model: ./mine.py:flat_color\ntraining: {epochs: 1, batch_size: 16, precision: float32}\n"
    )
    run = fa.run(tmp_path / "r.yaml", write_squares(tmp_path / "data"), out=tmp_path / "out", progress=False)
    shape, network = run.record.image_shape, run.load_model()
    raw = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    with torch.inference_mode():
        logits = network(torch.from_numpy(raw.transpose(0, 3, 1, 2)).float() / 255)
    np.testing.assert_allclose(run.predict(raw), logits.softmax(dim=1).numpy(), atol=1e-5)
