"""`fer_augment.rewrite`, the export of its result, and `fer-augment rewrite`."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import fer_augment as fa
from fer_augment.errors import DatasetError
from fer_augment.recipe.recipe import load_recipe
from fer_augment.rewriting_export import export_rewriting, summary_of
from fer_augment.runs.rewriting import Rewriting
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


def rewrite(data: Path, steps: str = "", *, seed: int = 0) -> Rewriting:
    """Rewrite the training set with a recipe of these steps, whose scout predicts one class for each row."""
    recipe = write_recipe(data.parent, steps=steps, model="vgg_tiny")
    return fa.rewrite(recipe, data, seed=seed, progress=False)


def export(data: Path, steps: str, *formats: str) -> Path:
    """Rewrite the training set and write it to a directory; return the directory."""
    out = data.parent / "out"
    export_rewriting(rewrite(data, steps), out, formats or ("npz",), progress=False)
    return out


def printed_counts(out: str) -> dict[str, list[str]]:
    """Return the cells of the printed table for each class: before, after and change."""
    return {words[0]: words[1:] for words in map(str.split, out.splitlines()) if words and words[0] in CLASSES}


class TestRewrite:
    def test_rows_are_those_of_a_training(self, data: Path) -> None:
        rewriting = rewrite(data, f"{MIRROR}\n{OVERSAMPLE}", seed=3)

        trainings = Trainings(fa.read_data(data, progress=False), 3, default_store())
        rewritten = trainings.of(rewriting.recipe.bound).rewritten
        assert rewriting.after.fingerprint == rewritten.fingerprint
        assert np.array_equal(rewriting.after.step, rewritten.step)

    def test_counts_rows_that_each_step_adds_and_removes(self, data: Path) -> None:
        rewriting = rewrite(data, f"{UNDERSAMPLE}\n{MIRROR}\n- power_sampler: {{exponent: 1}}")

        first, second = rewriting.steps
        assert (first.made, first.removed) == (0, 48)
        assert second.made > 0 and second.removed == 0
        assert len(rewriting.before) == 72
        assert len(rewriting.after) == 72 - 48 + second.made
        assert summary_of(rewriting).later_steps == ("power_sampler",)

    def test_summary_has_counts_steps_and_fingerprints(self, data: Path) -> None:
        summary = summary_of(rewrite(data, OVERSAMPLE))

        assert summary.before == {"ant": 40, "bee": 24, "cat": 8}
        assert summary.after == dict.fromkeys(CLASSES, 40)
        assert [step.model_dump() for step in summary.steps] == [
            {"number": 1, "name": "imblearn", "made": 48, "removed": 0}
        ]
        train = fa.read_data(data, progress=False).train
        assert summary.fingerprint_before == train.fingerprint != summary.fingerprint_after

    def test_scouts_are_cached(self, data: Path, tmp_path: Path) -> None:
        first = rewrite(data, MIRROR)
        cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}

        second = rewrite(data, MIRROR)

        assert len(list((tmp_path / "cache/trainings").iterdir())) == 1
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()} == cached
        assert summary_of(first) == summary_of(second)

    def test_result_depends_on_the_seed_only(self, data: Path) -> None:
        fingerprints = [rewrite(data, OVERSAMPLE, seed=seed).after.fingerprint for seed in (0, 0, 1)]

        assert fingerprints[0] == fingerprints[1] != fingerprints[2]


class TestExport:
    def test_mined_rows_are_mirror_images_of_their_sources(self, data: Path) -> None:
        out = export(data, MIRROR)

        train = fa.read_data(data, progress=False).train
        arrays = np.load(out / "training_set.npz")
        is_new = arrays["step"] == 1
        assert is_new.any()
        sources = train.images[arrays["origins"][:, 0]]
        assert np.array_equal(arrays["images"][is_new], sources[is_new][:, :, ::-1])
        assert np.array_equal(arrays["images"][~is_new], sources[~is_new])
        assert np.array_equal(arrays["labels"], train.labels[arrays["origins"][:, 0]])

    def test_readme_has_counts_provenance_fingerprints_and_a_loadable_recipe(self, data: Path, tmp_path: Path) -> None:
        rewriting = rewrite(data, OVERSAMPLE)
        export_rewriting(rewriting, tmp_path / "out", ["folder"], progress=False)

        card, summary = (tmp_path / "out/README.md").read_text(), summary_of(rewriting)

        assert "| cat | 8 | 40 | +32 |" in card and "| all classes | 72 | 120 | +48 |" in card
        assert "| 1 imblearn | 48 | 0 |" in card
        assert summary.fingerprint_before in card and summary.fingerprint_after in card
        assert "`training_set/`" in card and "torch" in card
        from_card = tmp_path / "from_card.yaml"
        from_card.write_text(textwrap.dedent(card.split("## Recipe\n\n")[1].split("\n\n## ")[0]))
        assert load_recipe(str(from_card)) == load_recipe(str(tmp_path / "tiny.yaml"))

    def test_description_is_escaped_in_the_readme(self, data: Path, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path, steps=OVERSAMPLE)
        recipe.write_text("description: '<script>x</script> | ``` # `'\n" + recipe.read_text())

        export_rewriting(fa.rewrite(recipe, data, progress=False), tmp_path / "out", progress=False)

        lines = (tmp_path / "out/README.md").read_text().splitlines()
        assert [line for line in lines if "<script>" in line]  # indented, in the recipe
        assert not [line for line in lines if "<script>" in line and not line.startswith("    ")]
        assert Counter(line[:3] for line in lines)["```"] == 0

    def test_gallery_shows_sources_beside_results(self, data: Path) -> None:
        out = export(data, MIRROR)
        arrays = np.load(out / "training_set.npz")
        train = fa.read_data(data, progress=False).train

        gallery = cv2.imread(str(out / "gallery.png"))

        first = np.flatnonzero(arrays["step"] == 1)[0]
        for image in (train.images[[arrays["origins"][first, 0]]][0], arrays["images"][first]):
            enlarged = np.repeat(np.repeat(image, 6, axis=0), 6, axis=1)
            assert contains(gallery, np.repeat(enlarged, 3, axis=2))

    def test_nothing_is_left_behind_when_the_disk_is_full(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fer_augment.rewriting_export.rewriting_gallery", fail)

        with pytest.raises(DatasetError, match=r"cannot be written \(No space left on device\)"):
            export_rewriting(rewrite(data, OVERSAMPLE), tmp_path / "new/out", progress=False)

        assert list((tmp_path / "new").iterdir()) == []

    def test_existing_directory_is_refused(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "taken").mkdir()

        with pytest.raises(DatasetError, match="already exists"):
            export_rewriting(rewrite(data), tmp_path / "taken", progress=False)


def contains(picture: np.ndarray, part: np.ndarray) -> bool:
    """Whether a picture contains a part, pixel for pixel."""
    left, top = cv2.minMaxLoc(cv2.matchTemplate(picture, part, cv2.TM_SQDIFF))[2]
    return np.array_equal(picture[top : top + len(part), left : left + part.shape[1]], part)


class TestCommand:
    def test_dry_run_prints_counts_and_writes_nothing(self, data: Path, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path, steps=OVERSAMPLE)

        ran = fer_augment("rewrite", str(recipe), "--data", str(data), "--dry-run", "--out", str(tmp_path / "out"))

        assert (ran.code, ran.err) == (0, "")
        assert_readable(ran)
        assert printed_counts(ran.out) == {"ant": ["40", "40"], "bee": ["24", "40", "+16"], "cat": ["8", "40", "+32"]}
        assert "step 1, imblearn: 48 rows added, 0 removed" in ran.out
        assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()

    def test_output_names_steps_without_effect_on_the_rows(self, data: Path, tmp_path: Path) -> None:
        recipe = write_recipe(tmp_path, steps=f"{OVERSAMPLE}\n- power_sampler: {{exponent: 1}}\n- mirror_views")

        ran = fer_augment("rewrite", str(recipe), "--data", str(data), "--dry-run")

        assert "have no effect on these rows: power_sampler, mirror_views." in " ".join(ran.out.split())

    def test_output_notes_that_no_step_rewrites(self, data: Path, tmp_path: Path) -> None:
        ran = fer_augment("rewrite", str(write_recipe(tmp_path)), "--data", str(data), "--dry-run")

        assert "No step of this recipe rewrites the training set" in ran.out

    def test_json_is_the_summary_and_the_files(self, data: Path, tmp_path: Path) -> None:
        recipe, out = str(write_recipe(tmp_path, steps=OVERSAMPLE)), str(tmp_path / "out")

        ran = fer_augment("rewrite", recipe, "--data", str(data), "--out", out, "--json", "--seed", "1")

        content = json.loads(ran.out)
        assert sorted(content.pop("files")) == sorted(file.name for file in Path(out).iterdir())
        assert content == summary_of(rewrite(data, OVERSAMPLE, seed=1)).model_dump(mode="json")

    def test_formats_and_directory_are_options(self, data: Path, tmp_path: Path) -> None:
        recipe, out = str(write_recipe(tmp_path, steps=OVERSAMPLE)), tmp_path / "out"

        ran = fer_augment(
            "rewrite", recipe, "--data", str(data), "--out", str(out), "--format", "folder", "--format", "npz"
        )

        assert ran.code == 0, ran.err
        files = {"training_set", "training_set.npz", "gallery.png", "README.md"}
        assert {path.name for path in out.iterdir()} == files
        assert f"Wrote {out}: " in ran.err

    @pytest.mark.parametrize("sizes", [(20, 20), (20, 24), (400, 400)], ids=["equal", "several", "large JPEG"])
    def test_images_are_read_in_the_size_of_the_recipe_as_for_a_run(
        self, data: Path, tmp_path: Path, sizes: tuple[int, int]
    ) -> None:
        for number, file in enumerate(sorted(data.rglob("*.png"))):
            image = cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (sizes[0], sizes[number % 2]))
            file.unlink()
            cv2.imwrite(str(file.with_suffix(".jpg")), image)
        recipe, setting = str(write_recipe(tmp_path, steps=OVERSAMPLE)), "data.size=16"
        out = ("--out", str(tmp_path / "out"), "--format", "folder")

        ran = fer_augment("rewrite", recipe, "--data", str(data), "--set", setting, *out, "--json")

        assert ran.code == 0, ran.err
        of_run = fa.rewrite(recipe, data, overrides=[setting], progress=False).before
        assert json.loads(ran.out)["fingerprint_before"] == of_run.fingerprint
        assert of_run.image_shape == (16, 16, 1)

    def test_invalid_input_is_refused_before_any_training(self, data: Path, tmp_path: Path) -> None:
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

    def test_unwritable_output_is_refused(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fer_augment.rewriting_export.rewriting_gallery", fail)
        recipe = str(write_recipe(tmp_path, steps=OVERSAMPLE))

        ran = fer_augment("rewrite", recipe, "--data", str(data), "--out", str(tmp_path / "new/out"))

        assert_refused(ran, "cannot be written", "No space left on device")
