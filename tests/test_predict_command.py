"""`fer-augment predict`: class probabilities of new images."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import fer_augment as fa
from fer_augment.data.records import RunDirectory
from fer_augment.metrics import softmax
from fer_augment.results.prediction_table import layout_of
from tests.command_line import assert_readable, assert_refused, fer_augment
from tests.data_files import SQUARE_CLASSES as CLASSES
from tests.data_files import write_squares
from tests.image_formats import exif
from tests.tiny_runs import do_run, tiny_place, write_recipe

VIEWS_AND_ADJUSTMENT = "- mirror_views\n- logit_adjustment: {tau: 1}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `data` and a finished run in `run`, whose recipe has test-time views and an adjustment."""
    with tiny_place(tmp_path_factory.mktemp("predict"), steps=VIEWS_AND_ADJUSTMENT) as folder:
        yield folder


@pytest.fixture
def copied_run(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def validation_files(place: Path) -> list[str]:
    return [str(file) for name in CLASSES for file in sorted((place / "data/validation" / name).iterdir())]


def probabilities_of(*arguments: str) -> np.ndarray:
    """Return the `(N, K)` class probabilities in the JSON output."""
    ran = fer_augment("predict", *arguments, "--json")
    assert ran.code == 0, ran.err
    return np.array([[image["scores"][name] for name in CLASSES] for image in json.loads(ran.out)["images"]])


def test_probabilities_of_files_equal_those_of_the_run(place: Path) -> None:
    recorded = RunDirectory(place / "run").predictions("validation")

    probabilities = probabilities_of(str(place / "run"), *validation_files(place))

    assert np.array_equal(probabilities, softmax(recorded.logits))


def test_raw_logits_are_recorded_before_adjustment(place: Path) -> None:
    run = RunDirectory(place / "run")
    predictions, prior = run.predictions("test"), run.record.class_prior

    assert predictions.raw_logits is not None
    np.testing.assert_allclose(predictions.logits, predictions.raw_logits - np.log(prior), rtol=1e-5)


def test_a_run_without_an_adjustment_has_no_raw_logits(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "cache"))
    run = do_run(write_recipe(tmp_path), place / "data", tmp_path)
    recorded = RunDirectory(run).predictions("validation")

    assert recorded.raw_logits is None
    assert np.array_equal(probabilities_of(str(run), *validation_files(place)), softmax(recorded.logits))


def test_text_output_has_the_highest_probability_of_each_image(place: Path) -> None:
    files = validation_files(place)[:3]
    probabilities = probabilities_of(str(place / "run"), *files)

    ran = fer_augment("predict", str(place / "run"), *files)

    assert (ran.code, ran.err) == (0, "")
    assert_readable(ran)
    output = "".join(ran.out.split())
    for row in probabilities:
        assert f"{CLASSES[row.argmax()]}{row.max():.1%}" in output


def test_csv_has_one_row_per_image_and_one_column_per_class(place: Path) -> None:
    files = validation_files(place)

    ran = fer_augment("predict", str(place / "run"), *files, "--csv")

    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [row["file"] for row in rows] == files
    for row in rows:
        probabilities = {name: float(row[f"prob_{name}"]) for name in CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == max(probabilities, key=lambda name: probabilities[name])
    written = [[float(row[f"prob_{name}"]) for name in CLASSES] for row in rows]
    exact = probabilities_of(str(place / "run"), *files)
    np.testing.assert_allclose(written, exact, rtol=1e-8, err_msg="a small probability is not 0")
    layout = layout_of("scores.csv", [*rows[0], "true"], {"id": "file"}, ["arm", "seed"])
    assert (layout.classes, layout.kind, layout.unused) == (CLASSES, "prob", ()), "judge reads it with true classes"


def test_files_are_predicted_from_python(place: Path, tmp_path: Path) -> None:
    run, files = fa.load_run(place / "run"), validation_files(place)
    expected = softmax(run.predictions("validation").logits)

    assert np.array_equal(run.predict_files(map(Path, files), progress=False), expected)
    for one in (files[0], Path(files[0]), [files[0]]):
        np.testing.assert_allclose(run.predict_files(one, progress=False), expected[:1], atol=1e-6)
    assert run.predict_files([]).shape == (0, len(CLASSES))
    larger = tmp_path / "larger.png"
    Image.open(files[0]).resize((64, 48), Image.Resampling.NEAREST).save(larger)
    with pytest.raises(fa.DatasetError, match=r"larger.png: is 64x48, the network expects 16x16; .*resize=True"):
        run.predict_files([files[0], larger], progress=False)
    np.testing.assert_allclose(run.predict_files(larger, resize=True, progress=False), expected[:1], atol=1e-6)


def test_color_files_are_converted_to_gray(place: Path, tmp_path: Path) -> None:
    gray = validation_files(place)[0]
    image = cv2.imread(gray, cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "color.png"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    run = str(place / "run")

    assert np.array_equal(probabilities_of(run, gray), probabilities_of(run, str(tmp_path / "color.png")))


def test_gray_files_are_converted_to_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    run = do_run(write_recipe(tmp_path), write_squares(tmp_path / "data", channels=3), tmp_path)
    image = np.full((16, 16), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "gray.png"), image)
    cv2.imwrite(str(tmp_path / "color.png"), np.stack([image] * 3, axis=2))

    gray, color = (probabilities_of(str(run), str(tmp_path / f"{name}.png")) for name in ("gray", "color"))
    assert np.array_equal(gray, color)


def test_images_of_a_different_size_need_resize(place: Path, tmp_path: Path) -> None:
    original = validation_files(place)[0]
    image = cv2.imread(original, cv2.IMREAD_GRAYSCALE)
    larger = str(tmp_path / "larger.png")
    cv2.imwrite(larger, cv2.resize(image, (64, 48), interpolation=cv2.INTER_NEAREST))
    run = str(place / "run")

    assert_refused(fer_augment("predict", run, original, larger), "larger.png: is 64x48", "16x16", "--resize")
    np.testing.assert_allclose(probabilities_of(run, larger, "--resize"), probabilities_of(run, original), atol=1e-6)


@pytest.mark.parametrize("name", ["x.webp", "x.bmp", "x.tif", "x.pgm", "x.gif", "no_suffix"])
def test_files_of_other_formats_give_the_same_probabilities(place: Path, tmp_path: Path, name: str) -> None:
    original = validation_files(place)[0]
    format_ = {"x.pgm": "PPM", "x.tif": "TIFF", "no_suffix": "BMP"}.get(name, name.rpartition(".")[2].upper())
    options = {"lossless": True} if format_ == "WEBP" else {}
    Image.open(original).save(tmp_path / name, format_, **options)
    run = str(place / "run")

    assert np.array_equal(probabilities_of(run, str(tmp_path / name)), probabilities_of(run, original))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_of_files_is_applied(place: Path, tmp_path: Path, suffix: str) -> None:
    original = validation_files(place)[0]
    stored = Image.open(original).transpose(Image.Transpose.ROTATE_90)  # displayed as the original
    stored.save(tmp_path / f"rotated.{suffix}", exif=exif(6))
    run = str(place / "run")

    rotated = probabilities_of(run, str(tmp_path / f"rotated.{suffix}"))
    assert np.array_equal(rotated, probabilities_of(run, original))


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("setter", ["recipe", "source"])
def test_files_are_fitted_as_in_training_where_the_recipe_or_the_source_sets_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: str, setter: str
) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    data = write_squares(tmp_path / "data")
    for number, file in enumerate(sorted(data.rglob("*.png"))):
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(file), cv2.resize(image, (16 + number % 7, 40 - number % 11)))
    recipe, source = write_recipe(tmp_path), data
    if setter == "recipe":
        recipe.write_text(f"{recipe.read_text()}data: {{size: 16, fit: {fit}}}\n")
    else:
        source = tmp_path / "source.yaml"
        source.write_text(f"{{images: {data.name}, size: 16, fit: {fit}}}\n")
    run = do_run(recipe, source, tmp_path / "results")
    files = [str(file) for name in CLASSES for file in sorted((data / "validation" / name).iterdir())]

    probabilities = probabilities_of(str(run), *files)

    recorded = RunDirectory(run).predictions("validation")
    assert np.array_equal(probabilities, softmax(recorded.logits))
    assert np.array_equal(probabilities_of(str(run), *files, "--resize"), probabilities), "has no effect"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"text", "not a readable image"), (b"", "not a readable image")],
    ids=["missing", "text", "empty"],
)
def test_unreadable_images_are_refused_by_name(place: Path, tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "odd.png"
    if content is not None:
        file.write_bytes(content)

    assert_refused(fer_augment("predict", str(place / "run"), str(file)), "odd.png", reason)


def test_other_directories_are_refused_with_a_hint(place: Path, tmp_path: Path) -> None:
    below = tmp_path / "runs/tiny/seed-0"
    below.mkdir(parents=True)
    (below / "record.json").touch()

    assert_refused(fer_augment("predict", str(tmp_path), "x.png"), "not a run directory", str(below))
    for above in (below.parent, below.parent.parent):
        assert_refused(fer_augment("predict", str(above), "x.png"), f"it contains run directories, such as {below}")
    assert_refused(fer_augment("predict", str(place / "data"), "x.png"), "not a run directory", "fer-augment run")
    pattern = str(below.parent / "seed-*")
    assert_refused(fer_augment("predict", pattern, "x.png"), "patterns are not expanded here", f"such as {below}")
    assert_refused(fer_augment("predict", str(tmp_path / "seed-*"), "x.png"), "nothing matches")


def test_folders_among_the_images_are_refused_with_what_to_give(place: Path) -> None:
    run = str(place / "run")

    assert_refused(
        fer_augment("predict", run, str(place / "data")), f"is a folder; name its files, such as {place}/data/*"
    )
    assert_refused(fer_augment("predict", run, run), "is a run directory, not an image", "name one")


@pytest.mark.parametrize("name", ["weights.safetensors", "predictions.safetensors", "record.json"])
def test_damaged_runs_are_refused_with_the_file_name(place: Path, copied_run: Path, name: str) -> None:
    (copied_run / name).write_bytes(b"{}")

    assert_refused(fer_augment("predict", str(copied_run), validation_files(place)[0]), name)


def edit_record(run: Path, old: str, new: str) -> None:
    text = (run / "record.json").read_text()
    assert old in text
    (run / "record.json").write_text(text.replace(old, new))


def test_changed_code_of_a_step_is_a_warning(place: Path, copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_record(copied_run, RunDirectory(copied_run).record.steps[1].source, "0" * 64)

    ran = fer_augment("predict", str(copied_run), validation_files(place)[0])

    assert ran.code == 0
    assert "step 2 (logit_adjustment)" in ran.err and "has changed" in ran.err
    (file, *_), run = validation_files(place), fa.load_run(copied_run)
    run.predict_files(file, progress=False)
    assert capsys.readouterr().err == ""
    run.predict_files(file)
    assert "step 2 (logit_adjustment)" in capsys.readouterr().err


def test_a_run_trained_on_a_gpu_predicts_without_one(place: Path, copied_run: Path) -> None:
    files = validation_files(place)
    before = probabilities_of(str(copied_run), *files)
    edit_record(copied_run, '"device": "auto"', '"device": "cuda"')

    assert np.allclose(probabilities_of(str(copied_run), *files), before)


def test_recipe_keys_of_other_versions_are_refused(place: Path, copied_run: Path) -> None:
    edit_record(copied_run, '"batch_size"', '"batch_scale"')

    ran = fer_augment("predict", str(copied_run), validation_files(place)[0])

    assert_refused(ran, "record.json", "training.batch_scale", "install the version")
