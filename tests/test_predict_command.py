"""`fer-augment predict`: scores of new images by a finished run."""

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

from fer_augment.data.records import RunDirectory
from fer_augment.metrics import softmax
from tests.command_line import assert_readable, assert_refused, fer_augment
from tests.tiny_runs import CLASSES, do_run, tiny_place, write_recipe, write_squares

VIEWS_AND_ADJUSTMENT = "- mirror_views\n- logit_adjustment: {tau: 1}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `data`, and a finished run, `run`, whose recipe has views and an adjustment."""
    with tiny_place(tmp_path_factory.mktemp("predict"), steps=VIEWS_AND_ADJUSTMENT) as folder:
        yield folder


@pytest.fixture
def copied_run(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def validation_files(place: Path) -> list[str]:
    return [str(file) for name in CLASSES for file in sorted((place / "data/validation" / name).iterdir())]


def scores_of(*arguments: str) -> np.ndarray:
    """Return the `(N, K)` scores that the command writes as JSON."""
    ran = fer_augment("predict", *arguments, "--json")
    assert ran.code == 0, ran.err
    return np.array([[image["scores"][name] for name in CLASSES] for image in json.loads(ran.out)["images"]])


def test_a_file_gets_the_very_scores_that_the_run_gave_the_same_image(place: Path) -> None:
    recorded = RunDirectory(place / "run").predictions("validation")

    scores = scores_of(str(place / "run"), *validation_files(place))

    assert np.array_equal(scores, softmax(recorded.logits))


def test_the_recorded_logits_before_adjustment_are_others(place: Path) -> None:
    run = RunDirectory(place / "run")
    said, prior = run.predictions("test"), run.record.class_prior

    assert said.raw_logits is not None
    np.testing.assert_allclose(said.logits, said.raw_logits - np.log(prior), rtol=1e-5)


def test_a_run_without_an_adjustment_keeps_its_logits_once_and_predicts(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(place / "cache"))
    run = do_run(write_recipe(tmp_path), place / "data", tmp_path)
    recorded = RunDirectory(run).predictions("validation")

    assert recorded.raw_logits is None
    assert np.array_equal(scores_of(str(run), *validation_files(place)), softmax(recorded.logits))


def test_people_see_the_highest_scores_of_each_image(place: Path) -> None:
    files = validation_files(place)[:3]
    scores = scores_of(str(place / "run"), *files)

    ran = fer_augment("predict", str(place / "run"), *files)

    assert (ran.code, ran.err) == (0, "")
    assert_readable(ran)
    told = "".join(ran.out.split())
    for said in scores:
        assert f"{CLASSES[said.argmax()]}{said.max():.1%}" in told


def test_csv_has_a_line_for_each_image_and_a_column_for_each_class(place: Path) -> None:
    files = validation_files(place)

    ran = fer_augment("predict", str(place / "run"), *files, "--csv")

    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [row["file"] for row in rows] == files
    for row in rows:
        scores = {name: float(row[f"score_{name}"]) for name in CLASSES}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == max(scores, key=lambda name: scores[name])


def test_a_color_file_of_a_gray_image_gets_the_scores_of_the_gray_one(place: Path, tmp_path: Path) -> None:
    gray = validation_files(place)[0]
    image = cv2.imread(gray, cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "color.png"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    run = str(place / "run")

    assert np.array_equal(scores_of(run, gray), scores_of(run, str(tmp_path / "color.png")))


def test_a_gray_file_is_taken_by_a_color_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    run = do_run(write_recipe(tmp_path), write_squares(tmp_path / "data", channels=3), tmp_path)
    image = np.full((16, 16), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "gray.png"), image)
    cv2.imwrite(str(tmp_path / "color.png"), np.stack([image] * 3, axis=2))

    assert np.array_equal(*(scores_of(str(run), str(tmp_path / f"{name}.png")) for name in ("gray", "color")))


def test_another_size_is_refused_unless_it_is_to_be_scaled(place: Path, tmp_path: Path) -> None:
    original = validation_files(place)[0]
    image = cv2.imread(original, cv2.IMREAD_GRAYSCALE)
    larger = str(tmp_path / "larger.png")
    cv2.imwrite(larger, cv2.resize(image, (64, 48), interpolation=cv2.INTER_NEAREST))
    run = str(place / "run")

    assert_refused(fer_augment("predict", run, original, larger), "larger.png: is 64x48", "16x16", "--resize")
    np.testing.assert_allclose(scores_of(run, larger, "--resize"), scores_of(run, original), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "No such file"), (b"no image", "is no image"), (b"", "is no image")],
    ids=["missing", "text", "empty"],
)
def test_a_file_that_is_no_image_is_named(place: Path, tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "odd.png"
    if content is not None:
        file.write_bytes(content)

    assert_refused(fer_augment("predict", str(place / "run"), str(file)), "odd.png", told)


def test_a_directory_that_is_no_run_is_refused_and_runs_below_it_are_named(place: Path, tmp_path: Path) -> None:
    below = tmp_path / "runs/tiny/seed-0"
    below.mkdir(parents=True)
    (below / "record.json").touch()

    assert_refused(fer_augment("predict", str(tmp_path), "x.png"), "no directory of a run", str(below))
    assert_refused(fer_augment("predict", str(place / "data"), "x.png"), "no directory of a run", "fer-augment run")


@pytest.mark.parametrize("name", ["weights.safetensors", "predictions.safetensors", "record.json"])
def test_a_damaged_run_is_refused_by_the_file_that_is(place: Path, copied_run: Path, name: str) -> None:
    (copied_run / name).write_bytes(b"{}")

    assert_refused(fer_augment("predict", str(copied_run), validation_files(place)[0]), name)


def edit_record(run: Path, old: str, new: str) -> None:
    text = (run / "record.json").read_text()
    assert old in text
    (run / "record.json").write_text(text.replace(old, new))


def test_a_step_whose_code_has_changed_is_told(place: Path, copied_run: Path) -> None:
    edit_record(copied_run, RunDirectory(copied_run).record.steps[1].source, "0" * 64)

    ran = fer_augment("predict", str(copied_run), validation_files(place)[0])

    assert ran.code == 0
    assert "step 2 (logit_adjustment)" in ran.err and "has changed" in ran.err


def test_a_run_of_an_accelerator_predicts_without_one(place: Path, copied_run: Path) -> None:
    files = validation_files(place)
    before = scores_of(str(copied_run), *files)
    edit_record(copied_run, '"device": "auto"', '"device": "cuda"')

    assert np.allclose(scores_of(str(copied_run), *files), before)


def test_a_recipe_that_this_version_does_not_know_is_refused(place: Path, copied_run: Path) -> None:
    edit_record(copied_run, '"batch_size"', '"batch_scale"')

    ran = fer_augment("predict", str(copied_run), validation_files(place)[0])

    assert_refused(ran, "record.json", "training.batch_scale", "install the version")
