"""Exported networks give the logits of the run, for any batch size, and a card says what they are."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import fer_augment as fa
from fer_augment.reports.model_card import model_card
from fer_augment.runs import network_export
from tests.command_line import assert_refused, fer_augment
from tests.data_files import SQUARE_CLASSES, write_squares
from tests.synthetic_runs import predictions, record

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed (the extra `onnx`)",
)
NETWORK = """
from collections import OrderedDict

from torch import nn

from fer_augment import Model, ModelInput


def build(image_shape, classes):
    layers = nn.Conv2d(image_shape[2], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(OrderedDict([("features", nn.Sequential(*layers)), ("head", nn.Linear(4, classes))]))


color = Model("color", "one convolution", build, ModelInput((20, 24), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
"""

LOOKS = """
from fer_augment import Strategy, hookimpl


class Brighter(Strategy):
    \"\"\"Add a view where an image is dark, which needs to look at the pixels.\"\"\"

    @hookimpl
    def predict_views(self, views):
        return [*views, views[0] * 2] if float(views[0].mean()) < 2 else views
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A comparison of a network with preprocessing with the same and an adjustment of its logits, and one of views."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "nets.py").write_text(NETWORK)
    settings = "training: {epochs: 2, batch_size: 16, precision: float32, learning_rate: 0.01}\n"
    (folder / "plain.yaml").write_text(f"model: ./nets.py:color\n{settings}")
    (folder / "adjusted.yaml").write_text("extends: plain.yaml\nstrategies: [logit_adjustment: {tau: 1}]\n")
    (folder / "viewed.yaml").write_text("extends: adjusted.yaml\nstrategies: [ten_crop_views]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_AUGMENT_CACHE", str(folder / "cache"))
        recipes = [folder / f"{name}.yaml" for name in ("plain", "adjusted", "viewed")]
        fa.compare(recipes, write_squares(folder / "data"), seeds=2, out=folder / "out", jobs=1, progress=False)
        yield folder


def run_of(place: Path, recipe: str) -> fa.Run:
    return fa.load_comparison(place / "out").runs[recipe][0]


@pytest.fixture
def images(place: Path) -> np.ndarray:
    shape = run_of(place, "plain").record.image_shape
    return np.random.default_rng(1).integers(0, 256, (5, *shape), np.uint8)


def as_input(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255


def probabilities(logits: Any) -> np.ndarray:
    return torch.as_tensor(logits).softmax(dim=1).numpy()


@needs_onnx
@pytest.mark.parametrize("recipe", ["plain", "adjusted", "viewed"])
def test_onnx_predicts_as_the_run(place: Path, images: np.ndarray, tmp_path: Path, recipe: str) -> None:
    import onnxruntime

    run = run_of(place, recipe)
    exported = run.export(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": as_input(images)})
    np.testing.assert_allclose(probabilities(logits), run.predict(images), atol=1e-4)
    assert (logits.argmax(axis=1) == run.predict(images).argmax(axis=1)).all()
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(SQUARE_CLASSES)
    assert exported.is_adjusted == (recipe != "plain") and exported.not_inside == ()
    assert exported.views == (("ten_crop_views",) if recipe == "viewed" else ())


@pytest.mark.parametrize("recipe", ["plain", "adjusted", "viewed"])
def test_an_exported_program_predicts_as_the_run(place: Path, images: np.ndarray, tmp_path: Path, recipe: str) -> None:
    run = run_of(place, recipe)
    run.export(tmp_path / "net.pt2")
    program: Any = torch.export.load(tmp_path / "net.pt2").module()
    with torch.no_grad():
        for part in (images, images[:1]):
            logits = program(torch.from_numpy(as_input(part)))
            np.testing.assert_allclose(probabilities(logits), run.predict(part), atol=1e-4)


def test_weights_are_those_of_the_run(place: Path, tmp_path: Path) -> None:
    run = run_of(place, "plain")
    run.export(tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(SQUARE_CLASSES)
        for name, tensor in run.load_model().state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor.cpu())


def test_test_time_views_are_reported_as_not_inside(place: Path, tmp_path: Path) -> None:
    ran = fer_augment("export", str(run_of(place, "viewed").path), "--out", str(tmp_path / "net.safetensors"))
    assert ran.code == 0
    assert "warning: not inside: test-time views (ten_crop_views)" in " ".join(ran.err.split())
    assert "**not inside**: test-time views (ten_crop_views)" in (tmp_path / "net.md").read_text()


def test_test_time_views_that_cannot_be_exported_are_reported_as_not_inside(place: Path, tmp_path: Path) -> None:
    (tmp_path / "views.py").write_text(LOOKS)
    (tmp_path / "looks.yaml").write_text(
        f"extends: {place / 'plain.yaml'}\nstrategies: [views.py:Brighter]\ndata: {{size: 10, fit: pad}}\n"
    )
    run = fa.run(tmp_path / "looks.yaml", place / "data", out=tmp_path / "out", progress=False)
    exported = run.export(tmp_path / "net.pt2")
    assert (exported.views, len(exported.not_inside)) == ((), 1)
    assert "test-time views (brighter): the run averages logits over them, but they cannot" in exported.not_inside[0]
    card = (tmp_path / "net.md").read_text()
    assert "views.py:Brighter" in card and "nets.py:color" in card
    assert "**not inside**: fitting images to 10 x 10 pixels (height x width, `data.fit: pad`)" in card
    assert "float32 (batch, 1, 10, 10), pixels in [0, 1]: gray images of exactly 10 x 10 pixels" in card
    assert "and conversion to gray, as training and `fer-augment predict` do before the network" in card
    assert f"of one training, scored on {len(run.predictions('test').labels)} test images" in card
    assert str(tmp_path) not in card and str(place) not in card


def test_a_run_in_a_folder_of_the_root_is_exported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, resolve = run_of(place, "adjusted"), Path.resolve

    def moved(path: Path, strict: bool = False) -> Path:
        return Path("/models/run") if path == run.path else resolve(path, strict)

    monkeypatch.setattr(Path, "resolve", moved)
    run.export(tmp_path / "net.safetensors")
    card = (tmp_path / "net.md").read_text()
    assert card.startswith("# adjusted, seed 0\n") and "## Verdict" not in card


def test_the_card_says_what_the_network_is(place: Path, tmp_path: Path) -> None:
    run = run_of(place, "adjusted")
    run.export(tmp_path / "net.safetensors")
    card = (tmp_path / "net.md").read_text()
    record, test = run.record, run.predictions("test")
    assert card.startswith("# adjusted, seed 0\n")
    for number, name in enumerate(SQUARE_CLASSES):
        rows = test.labels == number
        right = int((test.logits.argmax(axis=1) == number)[rows].sum())
        assert f"\n{number}. {name}" in card
        assert f"| {name} | {rows.sum()} | {100 * right / rows.sum():.1f} % | " in card
    assert f"{record.parameter_count:,} parameters" in card
    assert "- strategies:" not in card and "strategies:\n- logit_adjustment" in card
    assert "## Verdict" in card and "adjusted" in card.partition("## Verdict")[2].partition("##")[0]
    assert "adjustment of logits by the recipe's strategies" in card


def test_the_card_escapes_what_a_record_says() -> None:
    image = "<img src=x>"
    hostile = record(
        image, data_fingerprint=image, training_key=image, environment=dict.fromkeys(("torch", "device"), image),
        settings={"description": "```\n" + image},
    )  # fmt: skip
    labels = np.array([0, 1, 2])
    card = model_card(hostile, predictions(labels, labels), [])
    text, _, recipe = card.partition("````yaml")
    assert image not in text and "```" in recipe


def test_a_run_without_a_comparison_has_no_verdict(place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run_of(place, "plain").path, tmp_path / "run")
    fa.load_run(tmp_path / "run").export(tmp_path / "net.safetensors")
    assert "## Verdict" not in (tmp_path / "net.md").read_text()


def test_logits_that_differ_are_not_written(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = network_export._WRITERS["safetensors"]
    monkeypatch.setitem(network_export._WRITERS, "safetensors", lambda *given: write(*given) + 0.01)
    file = tmp_path / "net.safetensors"
    file.write_bytes(b"an earlier one")
    with pytest.raises(fa.RunError, match="not written: logits of the exported network differ .* by up to 0.01"):
        run_of(place, "plain").export(file)
    assert file.read_bytes() == b"an earlier one"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "net.tflite"], "net.tflite: name the format, or let the file end in .onnx, .pt2, .safetensors"),
        (["--out", "file/net.pt2"], "cannot be written"),
    ],
)
def test_invalid_input_gives_one_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert_refused(fer_augment("export", str(run_of(place, "plain").path), *arguments), message)
