"""`fer-augment recipes`: what ships, what a recipe amounts to, and what is wrong with one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.cli._console import messages, results


@click.group()
def recipes() -> None:
    """Recipes: what ships, what one amounts to, and what is wrong with one."""


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def list_recipes(as_json: bool) -> None:
    r"""List the recipes that come with fer_augment.

    Each stands below the one that it extends.

    \b
    fer-augment recipes list
    """
    from fer_augment.recipe.files import parents_of
    from fer_augment.recipe.recipe import load_recipe, shipped_recipes

    descriptions = {name: load_recipe(name).description for name in shipped_recipes()}
    parents = {name: [parent.stem for parent in parents_of(path)] for name, path in shipped_recipes().items()}
    if as_json:
        listed = [
            {"name": name, "extends": next(iter(parents[name]), None), "description": description}
            for name, description in descriptions.items()
        ]
        click.echo(json.dumps({"recipes": listed}, indent=2, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name in sorted(descriptions, key=lambda name: [*reversed(parents[name]), name]):
        table.add_row(Text("  " * len(parents[name]) + name), Text(descriptions[name]))
    console = results()
    console.print(Padding(table, (0, 0, 0, 2)))
    console.print("\n`fer-augment recipes show NAME` tells what one amounts to.", soft_wrap=True)


@recipes.command("show")
@click.argument("recipe", metavar="NAME|PATH")
def show_recipe(recipe: str) -> None:
    r"""Write a recipe with nothing left to inherit, as a recipe file.

    \b
    fer-augment recipes show confusion_mirror > my_idea.yaml
    """
    from fer_augment.recipe.files import find_recipe, parents_of
    from fer_augment.recipe.recipe import load_recipe, recipe_yaml

    loaded = load_recipe(recipe)
    path = find_recipe(recipe, Path())
    parents = [_title(parent) for parent in parents_of(path)]
    if parents:
        click.echo(f"# {_title(path)} extends {', which extends '.join(parents)}; here it is in full.")
    else:
        click.echo(f"# {_title(path)} extends no other; here it is with all defaults.")
    click.echo(recipe_yaml(loaded), nl=False)


@recipes.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def check_recipes(files: tuple[str, ...]) -> None:
    r"""Tell everything that is wrong with recipes.

    Each fault is a line, file:line: key: what. Looks at what the files say, what they inherit, and whether what they
    name is installed and takes the parameters. What works and yet misleads is told as a warning. Exits with 2 if
    anything is wrong.

    \b
    fer-augment recipes check my_idea.yaml
    """
    from functools import partial

    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.binding import bind, binding_faults
    from fer_augment.recipe.recipe import check_recipe_file, load_recipe
    from fer_augment.recipe.warnings import recipe_warnings

    catalog = installed_plugins()
    faulty = 0
    for file in files:
        faults = check_recipe_file(file, partial(binding_faults, catalog=catalog))
        for fault in faults:
            click.echo(fault)
        faulty += bool(faults)
        if not faults:
            click.echo(f"{file}: sound")
            for warning in recipe_warnings(bind(load_recipe(file), catalog)):
                messages().print(Text.assemble(("warning: ", "yellow"), f"{file}: {warning}"), soft_wrap=True)
    if faulty:
        sys.exit(2)


@recipes.command("schema")
def print_schema() -> None:
    r"""Write the JSON Schema of recipe files, for editors.

    It holds the parameters of all installed strategies.

    \b
    fer-augment recipes schema > recipe.schema.json
    """
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.json_schema import recipe_json_schema

    click.echo(json.dumps(recipe_json_schema(installed_plugins()), indent=2, ensure_ascii=False))


def _title(path: Path) -> str:
    """Name a recipe as one would name it on the command line: a shipped one by its name, another by its file."""
    from fer_augment.recipe.recipe import shipped_recipes

    return path.stem if shipped_recipes().get(path.stem) == path else path.name
