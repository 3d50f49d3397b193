"""`fer-augment rewrite`: the rewriting of the training set alone, as numbers and as files."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.binding import bind
from fer_augment.recipe.recipe import load_recipe
from fer_augment.runs.rewriting import rewrite
from fer_augment.training.store import default_store
from fer_augment.training.trainings import Trainings
from tests.command_line import assert_readable, assert_refused, fer_augment
from tests.tiny_runs import CLASSES, write_recipe, write_squares

OVERSAMPLE = "- imblearn: {sampler: RandomOverSampler}"
UNDERSAMPLE = "- imblearn: {sampler: RandomUnderSampler}"
MIRROR = "- confusion_mirror: {pairs: [[ant, bee], [bee, ant], [ant, cat], [cat, ant]], predictions: in_sample}"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_AUGMENT_CACHE", str(tmp_path / "cache"))
    return write_squares(tmp_path / "data")


def counts_told(out: str) -> dict[str, list[str]]:
    """Return what the printed table says of each class: before, after and change."""
    return {words[0]: words[1:] for words in map(str.split, out.splitlines()) if words and words[0] in CLASSES}


def test_a_dry_run_tells_counts_before_and_after_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=OVERSAMPLE)

    ran = fer_augment("rewrite", str(recipe), "--data", str(data), "--dry-run", "--out", str(tmp_path / "out"))

    assert (ran.code, ran.err) == (0, "")
    assert_readable(ran)
    assert counts_told(ran.out) == {"ant": ["40", "40"], "bee": ["24", "40", "+16"], "cat": ["8", "40", "+32"]}
    assert "step 1, imblearn: 48 rows added, 0 removed" in ran.out
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_rows_that_each_step_made_and_removed_are_told_apart(data: Path, tmp_path: Path) -> None:
    steps = f"{UNDERSAMPLE}\n{MIRROR}\n- power_sampler: {{exponent: 1}}"

    ran = fer_augment("rewrite", str(write_recipe(tmp_path, steps=steps)), "--data", str(data), "--dry-run", "--json")

    told = json.loads(ran.out)
    first, second = told["steps"]
    assert (first["made"], first["removed"]) == (0, 48)
    assert second["made"] > 0 and second["removed"] == 0
    assert sum(told["after"].values()) == 72 - 48 + second["made"]
    assert told["later_steps"] == ["power_sampler"]


def test_steps_that_are_not_in_the_rows_are_named(data: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=f"{OVERSAMPLE}\n- power_sampler: {{exponent: 1}}\n- mirror_views")

    ran = fer_augment("rewrite", str(recipe), "--data", str(data), "--dry-run")

    assert "have no effect on these rows: power_sampler, mirror_views." in " ".join(ran.out.split())


def test_a_recipe_that_rewrites_nothing_says_so(data: Path, tmp_path: Path) -> None:
    ran = fer_augment("rewrite", str(write_recipe(tmp_path)), "--data", str(data), "--dry-run")

    assert "No step of this recipe rewrites the training set" in ran.out


def test_json_has_counts_steps_fingerprints_and_files(data: Path, tmp_path: Path) -> None:
    recipe, out = str(write_recipe(tmp_path, steps=OVERSAMPLE)), str(tmp_path / "out")

    told = json.loads(fer_augment("rewrite", recipe, "--data", str(data), "--out", out, "--json").out)

    train = installed_plugins().read(str(data)).train
    assert told["before"] == {"ant": 40, "bee": 24, "cat": 8}
    assert told["after"] == dict.fromkeys(CLASSES, 40)
    assert told["steps"] == [{"number": 1, "name": "imblearn", "made": 48, "removed": 0}]
    assert told["fingerprint_before"] == train.fingerprint != told["fingerprint_after"]
    assert sorted(told["files"]) == sorted(file.name for file in Path(out).iterdir())


def test_the_rows_are_those_that_a_training_gets(data: Path, tmp_path: Path) -> None:
    bound = bind(load_recipe(str(write_recipe(tmp_path, steps=f"{MIRROR}\n{OVERSAMPLE}"))), installed_plugins())
    splits = installed_plugins().read(str(data))

    rewriting = rewrite(bound, Trainings(splits, 3, default_store()))

    assert rewriting.after.fingerprint == Trainings(splits, 3, default_store()).rewritten(bound).fingerprint
    assert np.array_equal(rewriting.after.step, Trainings(splits, 3, default_store()).rewritten(bound).step)


def test_mined_rows_stand_in_the_file_as_mirror_images_of_their_sources(data: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, steps=MIRROR), tmp_path / "out"

    ran = fer_augment("rewrite", str(recipe), "--data", str(data), "--out", str(out))

    assert ran.code == 0, ran.err
    train = installed_plugins().read(str(data)).train
    arrays = np.load(out / "training_set.npz")
    is_new = arrays["step"] == 1
    assert is_new.any() and f"step 1, confusion_mirror: {is_new.sum()} rows added, 0 removed" in ran.out
    sources = train.images[arrays["origins"][:, 0]]
    assert np.array_equal(arrays["images"][is_new], sources[is_new][:, :, ::-1])
    assert np.array_equal(arrays["images"][~is_new], sources[~is_new])
    assert np.array_equal(arrays["labels"], train.labels[arrays["origins"][:, 0]])


def test_scouts_are_kept_so_that_the_second_rewriting_trains_none(data: Path, tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path, steps=MIRROR))
    first = fer_augment("rewrite", recipe, "--data", str(data), "--dry-run")
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}

    second = fer_augment("rewrite", recipe, "--data", str(data), "--dry-run")

    assert len(list((tmp_path / "cache/trainings").iterdir())) == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == stored
    assert first.out == second.out


def test_another_seed_gives_other_rows_and_the_same_seed_the_same(data: Path, tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path, steps=OVERSAMPLE))

    told = [
        json.loads(fer_augment("rewrite", recipe, "--data", str(data), "--dry-run", "--json", "--seed", seed).out)
        for seed in ("0", "0", "1")
    ]

    prints = [one["fingerprint_after"] for one in told]
    assert prints[0] == prints[1] != prints[2]


def test_the_card_holds_counts_provenance_fingerprints_and_a_recipe_that_loads(data: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, steps=OVERSAMPLE), tmp_path / "out"
    told = json.loads(
        fer_augment("rewrite", str(recipe), "--data", str(data), "--out", str(out), "--format", "folder", "--json").out
    )

    card = (out / "README.md").read_text()

    assert "| cat | 8 | 40 | +32 |" in card and "| all classes | 72 | 120 | +48 |" in card
    assert "| 1 imblearn | 48 | 0 |" in card
    assert told["fingerprint_before"] in card and told["fingerprint_after"] in card
    assert "`training_set/`" in card and "torch" in card
    copied = tmp_path / "from_card.yaml"
    copied.write_text(textwrap.dedent(card.split("## Recipe\n\n")[1].split("\n\n## ")[0]))
    assert load_recipe(str(copied)) == load_recipe(str(recipe))


def test_a_description_cannot_break_out_of_the_card(data: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, steps=OVERSAMPLE), tmp_path / "out"
    recipe.write_text("description: '<script>x</script> | ``` # `'\n" + recipe.read_text())

    fer_augment("rewrite", str(recipe), "--data", str(data), "--out", str(out))

    lines = (out / "README.md").read_text().splitlines()
    assert not [line for line in lines if "<script>" in line and not line.startswith("    ")]
    assert Counter(line[:3] for line in lines)["```"] == 0


def test_the_gallery_shows_sources_beside_results(data: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, steps=MIRROR), tmp_path / "out"
    fer_augment("rewrite", str(recipe), "--data", str(data), "--out", str(out))
    arrays = np.load(out / "training_set.npz")
    train = installed_plugins().read(str(data)).train

    gallery = cv2.imread(str(out / "gallery.png"))

    first = np.flatnonzero(arrays["step"] == 1)[0]
    for image in (train.images[[arrays["origins"][first, 0]]][0], arrays["images"][first]):
        enlarged = np.repeat(np.repeat(image, 6, axis=0), 6, axis=1)
        assert holds(gallery, np.repeat(enlarged, 3, axis=2))


def holds(picture: np.ndarray, part: np.ndarray) -> bool:
    """Whether a picture has a part somewhere, pixel for pixel."""
    left, top = cv2.minMaxLoc(cv2.matchTemplate(picture, part, cv2.TM_SQDIFF))[2]
    return np.array_equal(picture[top : top + len(part), left : left + part.shape[1]], part)


def test_what_cannot_be_done_is_refused_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path, steps=MIRROR))
    (tmp_path / "taken").mkdir()
    source, out = ("--data", str(data)), ("--out", str(tmp_path / "out"))

    assert_refused(fer_augment("rewrite", recipe, *source), "--out DIR", "--dry-run")
    assert_refused(fer_augment("rewrite", recipe, *source, "--out", str(tmp_path / "taken")), "already exists")
    assert_refused(fer_augment("rewrite", recipe, *source, *out, "--format", "csv"), "requires square gray images")
    assert_refused(fer_augment("rewrite", "papr", *source, *out), "'papr'", "did you mean 'paper'?")
    assert_refused(
        fer_augment("rewrite", recipe, *source, *out, "--set", "strategies.confusion_mirror.pairs=[[ant, fly]]"),
        "no class 'fly'",
    )
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_behind(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fer_augment.reports.rewriting.rewriting_gallery", full)
    recipe = str(write_recipe(tmp_path, steps=OVERSAMPLE))

    ran = fer_augment("rewrite", recipe, "--data", str(data), "--out", str(tmp_path / "new/out"))

    assert_refused(ran, "cannot be written", "No space left on device")
    assert list((tmp_path / "new").iterdir()) == []
