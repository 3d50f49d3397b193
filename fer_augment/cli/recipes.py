"""`fer-augment recipes`: list, show and check recipes."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.errors import display_text
from fer_augment.reports.console import print_plain, print_warnings, results


@click.group()
def recipes() -> None:
    """List, show and check recipes."""


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def list_recipes(as_json: bool) -> None:
    r"""List the recipes that are shipped here and by installed plugins, each below the recipe that it extends.

    \b
    fer-augment recipes list
    """
    from fer_augment.errors import RecipeError
    from fer_augment.recipe.files import find_recipe, named_recipes, parents_of
    from fer_augment.recipe.recipe import load_recipe

    descriptions, parents, problems = dict[str, str](), dict[str, list[str]](), list[str]()
    for name in named_recipes():
        try:
            description = load_recipe(name).description
            parents[name] = [parent.stem for parent in parents_of(find_recipe(name, Path()))]
            descriptions[name] = description
        except RecipeError as error:  # two of this name, or an invalid one of another distribution
            problems.append(f"not listed: {error}")
    print_warnings(problems)
    if as_json:
        listed = [
            {
                "name": name,
                "extends": next(iter(parents[name]), None),
                "description": description,
                "provider": named_recipes()[name][0].provider,
            }
            for name, description in descriptions.items()
        ]
        print_plain(json.dumps({"recipes": listed}, indent=2, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name in sorted(descriptions, key=lambda name: [*reversed(parents[name]), name]):
        table.add_row(Text("  " * len(parents[name]) + name), Text(descriptions[name]))
    console = results()
    console.print(Padding(table, (0, 0, 0, 2)))
    console.print("\n`fer-augment recipes show NAME` shows a recipe in full.", soft_wrap=True)


@recipes.command("show")
@click.argument("recipe", metavar="NAME|PATH")
def show_recipe(recipe: str) -> None:
    r"""Print a recipe with everything it inherits and all defaults, as a recipe file.

    \b
    fer-augment recipes show confusion_mirror > my_idea.yaml
    """
    from fer_augment.recipe.files import find_recipe, parents_of
    from fer_augment.recipe.recipe import load_recipe, recipe_yaml

    loaded = load_recipe(recipe)
    path = find_recipe(recipe, Path())
    parents = [_title(parent) for parent in parents_of(path)]
    inherited = f"everything inherited from {', which extends '.join(parents)}" if parents else "all defaults"
    title = f"{_title(path)}, with {inherited}"
    print_plain(textwrap.fill(title, 80, initial_indent="# ", subsequent_indent="# ", break_long_words=False))
    print_plain(recipe_yaml(loaded), end="")


@recipes.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def check_recipes(files: tuple[str, ...]) -> None:
    r"""Validate recipe files.

    Prints every error as `file:line: key: message`, including errors in inherited files, names that are not installed
    and invalid parameters. Misleading combinations of steps give a warning. Exits with status 2 if there is an error.

    \b
    fer-augment recipes check my_idea.yaml
    """
    from functools import partial

    from fer_augment.hooks.observers import Observers
    from fer_augment.reading import loaded_plugins
    from fer_augment.recipe.binding import bind, binding_faults, head_training_faults
    from fer_augment.recipe.recipe import check_recipe_file, load_recipe
    from fer_augment.recipe.warnings import recipe_warnings

    catalog = loaded_plugins()
    invalid = 0
    for file in files:
        faults = check_recipe_file(file, partial(binding_faults, catalog=catalog, check_tracker=Observers.check))
        bound = None if faults else bind(load_recipe(file), catalog)
        if bound:
            faults += [f"{file}: {fault}" for fault in head_training_faults(bound)]
        for fault in faults:
            print_plain(display_text(fault))
        invalid += bool(faults)
        if bound and not faults:
            print_plain(f"{file}: OK")
            print_warnings(f"{file}: {warning}" for warning in recipe_warnings(bound))
    if invalid:
        sys.exit(2)


@recipes.command("schema")
def print_schema() -> None:
    r"""Print the JSON Schema of recipe files, for validation and completion in editors.

    It includes the parameters of all installed strategies.

    \b
    fer-augment recipes schema > recipe.schema.json
    """
    from fer_augment.reading import loaded_plugins
    from fer_augment.recipe.json_schema import recipe_json_schema

    print_plain(json.dumps(recipe_json_schema(loaded_plugins()), indent=2, ensure_ascii=False))


def _title(path: Path) -> str:
    """Return the name of a shipped recipe, or the file name of any other."""
    from fer_augment.recipe.recipe import shipped_recipes

    return path.stem if shipped_recipes().get(path.stem) == path else path.name
