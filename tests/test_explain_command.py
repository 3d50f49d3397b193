"""`fer-augment explain`: class probabilities as bars, and feature maps as sheets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from fer_augment import RunError
from fer_augment.data.records import RunDirectory
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.metrics import softmax
from fer_augment.recipe.recipe import TrainingSettings
from fer_augment.runs.feature_maps import Explained, LayerMaps, feature_map_sheet, feature_maps
from fer_augment.runs.run_models import load_run_model
from fer_augment.sheets import Sheet, picture_of
from tests.command_line import Ran, assert_readable, assert_refused, fer_augment
from tests.data_files import SQUARE_CLASSES as CLASSES
from tests.data_files import SQUARE_SIDE as SIDE
from tests.data_files import write_squares
from tests.tiny_runs import do_run, tiny_place, write_recipe

SETTINGS = TrainingSettings(precision="float32", device="cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `data` and a finished run in `run`."""
    with tiny_place(tmp_path_factory.mktemp("explain"), steps="- mirror_views") as folder:
        yield folder


def explain(place: Path, *arguments: object) -> Ran:
    return fer_augment("explain", str(place / "run"), *map(str, arguments))


def test_one_image_per_class_is_explained_with_bars(place: Path) -> None:
    ran = explain(place, "--data", place / "data")

    assert (ran.code, ran.err) == (0, "")
    assert_readable(ran)
    recorded = RunDirectory(place / "run").predictions("validation")
    first = [int(np.flatnonzero(recorded.labels == label)[0]) for label in range(3)]
    paragraphs = ran.out.split("\n\n")
    for label, row, paragraph in zip(range(3), first, paragraphs, strict=True):
        probabilities = softmax(recorded.logits[[row]])[0]
        highest_first = sorted(probabilities, reverse=True)
        title, *lines = paragraph.strip().splitlines()
        assert title == f"{CLASSES[label]}, validation row {row}: {CLASSES[probabilities.argmax()]}"
        assert [line.split()[0] for line in lines] == [CLASSES[label] for label in np.argsort(-probabilities)]
        assert [line.split()[-1] for line in lines] == [f"{value:.1%}" for value in highest_first]
        assert [line.count("█") for line in lines] == [int(40 * value + 1e-9) for value in highest_first]


def test_feature_maps_are_the_outputs_of_convolutions(place: Path) -> None:
    model = load_run_model(RunDirectory(place / "run"))
    image = installed_plugins().read(str(place / "data")).test.images[[0]][0]

    layers = feature_maps(model.network, image, model.settings)

    assert [(layer.layer, layer.maps.shape) for layer in layers] == [
        ("features.0", (32, 16, 16)),
        ("features.5", (32, 8, 8)),
        ("features.10", (32, 4, 4)),
    ]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    blocks = model.network.features
    assert isinstance(blocks, nn.Sequential)
    with torch.inference_mode():
        np.testing.assert_allclose(layers[0].maps, blocks[0](pixels)[0], atol=1e-5)
        np.testing.assert_allclose(layers[2].maps, blocks[:11](pixels)[0], atol=1e-4)


def test_forward_hooks_are_removed_even_if_the_network_fails() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 2, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.convolution(images)
            raise ValueError("no")

    network = Failing()
    with pytest.raises(ValueError, match="no"):
        feature_maps(network, np.zeros((8, 8, 1), np.uint8), SETTINGS)
    assert not network.convolution._forward_hooks


def test_a_shared_convolution_shows_its_first_output() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(self.shared.weight, 3.0)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.shared(self.shared(images)).flatten(1)

    (layer,) = feature_maps(Twice(), np.full((4, 4, 1), 255, np.uint8), SETTINGS)

    assert (layer.layer, layer.maps.shape) == ("shared", (1, 4, 4))
    assert np.allclose(layer.maps, 3)


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(RunError, match="no convolution"):
        feature_maps(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), np.zeros((4, 4, 1), np.uint8), SETTINGS)


def decoded(png: bytes) -> np.ndarray:
    """Return a picture as `(h, w, 3)` in RGB."""
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_feature_maps_are_scaled_to_their_own_range() -> None:
    maps = np.stack([np.arange(16.0).reshape(4, 4) * 1000 - 5, np.full((4, 4), 7.0)]).astype(np.float32)
    image = np.full((4, 4, 1), 200, np.uint8)

    sheet = decoded(feature_map_sheet([Explained("an image", "a prediction", image, (LayerMaps("features.0", maps),))]))

    levels = np.unique(sheet[..., 0].astype(int))
    assert set(np.round(np.arange(16) * 17).astype(int)) <= set(levels.tolist())
    assert 128 in levels, "a constant feature map is gray"
    assert 200 in levels, "the image is unchanged"


def test_sheets_contain_pictures_unchanged() -> None:
    pictures = [np.random.default_rng(n).integers(0, 256, (30, 50, 3), dtype=np.uint8) for n in range(5)]
    sheet = Sheet(width=200, margin=10)

    sheet.show(pictures, gap=5)

    drawn = decoded(sheet.png())
    assert drawn.shape == (2 * 10 + 2 * 35, 200, 3)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, 3)
        top, left = 10 + 35 * row, 10 + 55 * column
        assert np.array_equal(drawn[top : top + 30, left : left + 50], picture)
    assert (drawn[80:] == 255).all() and (drawn[:, :10] == 255).all()


@pytest.mark.parametrize("text", ["$x$ and $", "平静 ¿wütend?", "_{}^\\frac"])
def test_sheets_accept_any_text(text: str) -> None:
    sheet, without = Sheet(width=300), Sheet(width=300)
    sheet.write(text)
    without.write("")

    assert (decoded(sheet.png()) != decoded(without.png())).any()


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [((16, 16, 1), 60, (48, 48, 3)), ((100, 50, 3), 60, (60, 30, 3)), ((8, 4, 2), 8, (8, 4, 3))],
)
def test_images_are_enlarged_by_integer_factors_or_reduced_to_fit(shape, side: int, expected) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    picture = picture_of(image, side)

    assert picture.shape == expected
    if shape[2] == 1:
        assert np.array_equal(picture[::3, ::3, 0], image[..., 0])
    if shape[2] == 2:
        assert np.array_equal(picture[..., 1], image.mean(axis=2).round())


def test_one_sheet_for_all_images_or_a_folder_with_one_each(place: Path, tmp_path: Path) -> None:
    single = explain(place, "--data", place / "data", "--out", tmp_path / "all.png")
    folder = explain(place, "--data", place / "data", "--out", tmp_path / "folder")

    assert f"Wrote {tmp_path / 'all.png'}" in single.err.replace("\n", "") and folder.code == 0
    files = sorted((tmp_path / "folder").iterdir())
    assert [file.name for file in files] == [
        "01_ant_validation_row_0.png",
        "02_bee_validation_row_12.png",
        "03_cat_validation_row_21.png",
    ]
    sheets = [cv2.imread(str(file)) for file in files]
    sheet = cv2.imread(str(tmp_path / "all.png"))
    assert {picture.shape[1] for picture in (*sheets, sheet)} == {1060}
    assert len(sheet) == sum(map(len, sheets)) - 2 * 2 * 20
    assert single.out == folder.out


def test_sheet_names_of_files_are_safe(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd $names"
    folder.mkdir()
    cv2.imwrite(str(folder / "it's; a.png"), np.full((SIDE, SIDE), 90, np.uint8))
    cv2.imwrite(str(folder / "b.png"), np.full((3 * SIDE, SIDE, 3), 90, np.uint8))
    images = ("--image", folder / "it's; a.png", "--image", folder / "b.png")

    assert_refused(explain(place, *images), "b.png", "16x48", "--resize")
    ran = explain(place, *images, "--resize", "--out", tmp_path / "sheets")

    assert ran.code == 0, ran.err
    assert ran.out.count("%") == 6
    written = list((tmp_path / "sheets").rglob("*"))
    assert len(written) == 2 and all(file.parent == tmp_path / "sheets" for file in written)


def test_only_the_ten_most_probable_classes_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    data = write_squares(tmp_path / "data", classes=[f"class_with_a_rather_long_name_{n}" for n in range(12)])
    do_run(write_recipe(tmp_path), data, tmp_path / "results").rename(tmp_path / "run")

    ran = explain(tmp_path, "--image", data / "test/class_with_a_rather_long_name_0/00.png")

    assert_readable(ran)
    assert ran.out.count("%") == 10 and "and 2 more classes" in ran.out


def test_invalid_arguments_are_refused_in_one_line(place: Path, tmp_path: Path) -> None:
    both = ("--data", place / "data", "--image", "x.png")

    assert_refused(explain(place), "--data SRC or --image FILE")
    assert_refused(explain(place, *both), "--data SRC or --image FILE")
    others = write_squares(tmp_path / "others", classes=("dog", "elk", "fox"))
    assert_refused(explain(place, "--data", others), "different classes or image sizes", "ant, bee, cat; 16x16x1")
    (tmp_path / "file").touch()
    assert_refused(fer_augment("explain", str(tmp_path), "--data", str(place / "data")), "not a run directory")
    ran = explain(place, "--data", place / "data", "--out", tmp_path / "file" / "below.png")
    assert ran.code == 2 and "cannot be written" in ran.err.splitlines()[-1]
