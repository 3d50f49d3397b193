"""Recipes that installed distributions ship: found by name, name clashes refused, faults named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fer_augment import RecipeError, RecipeFile, hookimpl
from fer_augment.hooks.plugin_manager import Catalog, collect
from fer_augment.recipe.files import find_recipe, named_recipes
from fer_augment.recipe.recipe import load_recipe
from tests.command_line import assert_refused, fer_augment


def shipping(*files: Path) -> object:
    @hookimpl
    def register_recipes() -> list[RecipeFile]:
        return [RecipeFile(file) for file in files]

    return SimpleNamespace(register_recipes=register_recipes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two distributions: one ships `mine` and `both`, the other `both` and `flip`, which is also ours."""
    for provider, names in {"one": ("mine", "both"), "two": ("both", "flip")}.items():
        (tmp_path / provider).mkdir()
        for name in names:
            text = f"extends: modern\ndescription: {name} of {provider}.\n"
            (tmp_path / provider / f"{name}.yaml").write_text(text, encoding="utf-8")
    catalog = collect(
        (f"{provider}.recipes", f"{provider} 1.0", shipping(*sorted((tmp_path / provider).iterdir())))
        for provider in ("one", "two")
    )
    assert not catalog.problems
    monkeypatch.setattr("fer_augment.recipe.files.installed_plugins", lambda: catalog)
    return tmp_path


def test_a_recipe_is_used_by_its_name(folder: Path) -> None:
    assert find_recipe("mine", Path()) == folder / "one" / "mine.yaml"
    assert load_recipe("mine").description == "mine of one."
    (folder / "child.yaml").write_text("extends: mine\n", encoding="utf-8")
    assert load_recipe(str(folder / "child.yaml")).training == load_recipe("modern").training
    assert named_recipes()["mine"][0].provider == "one 1.0"


def test_name_clashes_are_refused_and_a_path_still_works(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"'both' is shipped by one 1.0 .* and two 1.0 \(.*both.yaml\); uninstall"):
        load_recipe("both")
    with pytest.raises(RecipeError, match=r"'flip' is shipped by fer_augment .* and two 1.0"):
        load_recipe("flip")
    assert load_recipe(str(folder / "two" / "flip.yaml")).description == "flip of two."
    assert_refused(fer_augment("recipes", "show", "both"), "is shipped by one 1.0", "uninstall one of them")


def test_the_list_has_them_below_their_parents_and_names_clashes(folder: Path) -> None:
    ran = fer_augment("recipes", "list")
    lines = ran.out.splitlines()
    assert any(line.strip().startswith("mine ") and "mine of one." in line for line in lines)
    assert not any(line.strip().startswith(("both ", "flip ")) for line in lines)
    assert ran.err.count("not listed: recipe") == 2


def test_a_misspelled_name_finds_them(folder: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'mine'"):
        find_recipe("mien", Path())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.yaml", "missing.yaml: no such file; is it part of the installed package?"),
        ("two words.yaml", "the file name must consist of letters, digits and _"),
        ("recipe.txt", "path must be a Path of a .yaml file"),
    ],
)
def test_a_faulty_declaration_is_a_problem_of_the_plugin(name: str, message: str, tmp_path: Path) -> None:
    if "missing" not in name:
        (tmp_path / name).write_text("extends: modern\n", encoding="utf-8")
    catalog: Catalog = collect([("one.recipes", "one 1.0", shipping(tmp_path / name))])
    (problem,) = catalog.problems
    assert problem.startswith("one 1.0: recipe ") and message in problem
    assert not catalog.offers
