"""Comparisons of schema 1 are read. The stored one was written by the code of the last commit with that schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fer_augment as fa
from fer_augment.errors import RunError
from fer_augment.results.checking import damages_in
from fer_augment.results.comparison import read_comparison, save_comparison
from fer_augment.results.earlier import keep_earlier
from fer_augment.significance import Verdict
from tests.command_line import fer_augment

STORED = Path(__file__).parent / "stored_results" / "comparison_schema_1.json"


def written(folder: Path, change=None) -> Path:
    """Write the stored comparison into a folder, changed by a function of its content."""
    content = json.loads(STORED.read_text(encoding="utf-8"))
    if change:
        change(content)
    (folder / "comparison.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def with_british_spelling(content):
    """Most files of schema 1 were written before `optimizer_steps` had its present name."""
    for arm in content["arms"]:
        arm["optimiser_steps"] = arm.pop("optimizer_steps")


@pytest.mark.parametrize("change", [None, with_british_spelling])
def test_all_facts_of_schema_1_are_kept(tmp_path, change):
    old, comparison = json.loads(STORED.read_text(encoding="utf-8")), read_comparison(written(tmp_path, change))
    assert (old["schema_version"], comparison.schema_version) == (1, 2)
    now = json.loads(comparison.model_dump_json(exclude_unset=True))
    verdicts = {"one run cannot tell": "not tested (one run)"}

    def expected(value, key=""):
        if isinstance(value, dict):
            return {name: expected(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [expected(one) for one in value]
        return verdicts.get(value, value) if key == "verdict" else value

    assert now == expected(old) | {"schema_version": 2}


def test_old_verdicts_have_their_present_words(tmp_path):
    good, once = read_comparison(written(tmp_path)).versus
    assert good.balanced_accuracy.verdict == good.test_deduplicated.accuracy.verdict == Verdict.BETTER
    assert {one.verdict for one in once.recall.values()} == {Verdict.ONE_RUN}

    def untestable(content):
        content["versus"][0]["recall"]["ant"]["verdict"] = "cannot be tested"

    (good, _) = read_comparison(written(tmp_path, untestable)).versus
    assert good.recall["ant"].verdict == Verdict.UNTESTABLE


def test_an_old_comparison_is_reported_in_every_format(tmp_path):
    written(tmp_path)
    ran = fer_augment("report", str(tmp_path))
    assert ran.code == 0 and "good is better than base" in ran.out and (tmp_path / "report.html").is_file()
    for chosen in ("markdown", "github", "csv"):
        assert "once" in fer_augment("report", str(tmp_path), "--format", chosen).out
    assert json.loads(fer_augment("report", str(tmp_path), "--format", "json").out)["schema_version"] == 2


def test_whatever_reads_a_comparison_reads_an_old_one(tmp_path):
    comparison = fa.load_comparison(written(tmp_path))
    assert comparison.arm("good").optimizer_steps == (20, 20, 20)
    assert len(comparison.to_frame()) == 3 * 2 * 5
    assert "good is better than base" in str(comparison) and "good" in comparison._repr_html_()
    runs = [damage for damage in damages_in(tmp_path) if "the run with seed" in str(damage)]
    assert len(runs) == 7, "its runs are missing, and the comparison itself is no damage"


def test_an_old_comparison_of_other_runs_is_kept(tmp_path):
    written(tmp_path)
    other = read_comparison(tmp_path)
    arms = tuple(arm.model_copy(update={"run_keys": tuple(f"new-{key}" for key in arm.run_keys)}) for arm in other.arms)
    message = keep_earlier(other.model_copy(update={"arms": arms}), tmp_path)
    (kept,) = (tmp_path / "earlier").iterdir()
    assert str(kept) in message and read_comparison(kept) == other


@pytest.mark.parametrize("content", [b"{", b'{"schema_version": 3}'])
def test_a_comparison_that_cannot_be_read_is_kept_with_its_report(tmp_path, content):
    new = read_comparison(written(tmp_path))
    (tmp_path / "comparison.json").write_bytes(content)
    (tmp_path / "report.html").write_text("report")
    message = keep_earlier(new, tmp_path)
    (kept,) = (tmp_path / "earlier").iterdir()
    assert "that this version cannot read" in message and str(kept) in message
    assert (kept / "comparison.json").read_bytes() == content and (kept / "report.html").read_text() == "report"
    assert keep_earlier(new, tmp_path) is None, "nothing is left to keep"


def test_a_migrated_comparison_is_written_in_the_present_schema(tmp_path):
    comparison = read_comparison(written(tmp_path))
    save_comparison(comparison, tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text())["schema_version"] == 2
    assert read_comparison(tmp_path) == comparison


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("baseline"), "baseline: Field required"),
        (lambda content: content["arms"][0].pop("run_keys"), r"arms\.0\.run_keys: Field required"),
        (lambda content: content.update(arms=7), "arms: Input should be"),
        (lambda content: content["arms"].insert(0, 3), r"arms\.0: Input should be"),
        (lambda content: content.update(schema_version=3), "has schema version 3; this version of fer_augment reads 2"),
        (lambda content: content.update(schema_version=0), "has schema version 0; this version of fer_augment reads 2"),
        (lambda content: content.update(schema_version=True), "has schema version True"),
    ],
)
def test_a_damaged_or_later_comparison_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(RunError, match=message) as caught:
        read_comparison(written(tmp_path, change))
    assert "run `fer-augment compare` again" in str(caught.value) and "\n" not in str(caught.value)


def test_a_deeply_nested_file_is_refused(tmp_path):
    (tmp_path / "comparison.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match="is not a readable comparison"):
        read_comparison(tmp_path)
