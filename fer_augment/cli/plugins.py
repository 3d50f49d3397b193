"""`fer-augment plugins`: list and show installed plugins; create and check plugins."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.errors import display_name
from fer_augment.reports.console import messages, print_plain, results

if TYPE_CHECKING:
    from fer_augment.hooks.plugin_manager import Offer

_KINDS = {
    "strategy": "Strategies",
    "model": "Models",
    "loss": "Losses",
    "dataset reader": "Dataset readers",
    "tracker": "Trackers",
    "recipe": "Recipes",
}

_json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
_json_of_plugins_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON: an object, or a list if there are several plugins."
)
_plugin_argument = click.argument("plugin", metavar="NAME|PATH.py[:NAME]")


@click.group()
def plugins() -> None:
    """List installed plugins; create and check plugins."""


@plugins.command("list")
@_json_option
def list_plugins(as_json: bool) -> None:
    r"""List the installed strategies, models, losses, dataset readers, trackers and recipes, by provider.

    \b
    fer-augment plugins list
    fer-augment plugins list --json
    """
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.strategy_description import summary_of

    catalog = installed_plugins()
    offers = [offer for kind in _KINDS for offer in catalog.of_kind(kind)]
    if as_json:
        _write_json({"plugins": [_listed(offer) for offer in offers], "problems": list(catalog.problems)})
        return
    console = results()
    name_width = max((len(offer.name) for offer in offers), default=0)
    offers.sort(key=lambda offer: (list(_KINDS).index(offer.kind), offer.provider))
    for (kind, provider), group in itertools.groupby(offers, key=lambda offer: (offer.kind, offer.provider)):
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=name_width, no_wrap=True)
        table.add_column()
        for offer in group:
            table.add_row(Text(offer.name), Text(summary_of(offer)))
        console.print(Text.assemble((_KINDS[kind], "bold"), f" from {provider}"))
        console.print(Padding(table, (0, 0, 0, 2)))
        console.print()
    console.print("`fer-augment plugins show NAME` shows details and parameters.", soft_wrap=True)


@plugins.command("show")
@_plugin_argument
@_json_of_plugins_option
def show_plugin(plugin: str, as_json: bool) -> None:
    r"""Show what a plugin does, its parameters, and how to use it in a recipe.

    The plugin is installed, or in a Python file. Without a name, all plugins of the file are shown, and those that
    cannot be used with the reason.

    \b
    fer-augment plugins show confusion_mirror
    fer-augment plugins show my_idea.py:MirrorClasses
    """
    from fer_augment.cli._named_plugins import plugins_named
    from fer_augment.cli._plugin_text import faults_of, print_offer
    from fer_augment.recipe.strategy_description import described, parameters_of

    shown: list[dict[str, Any]] = []
    for number, (written, named) in enumerate(plugins_named(plugin)):
        offer = replace(named, name=written)
        if not as_json:
            if number:
                results().print()
            print_offer(results(), offer)
        elif offer.kind == "strategy":
            shown.append({"kind": offer.kind, **asdict(described(offer)), "faults": faults_of(offer)})
        elif offer.kind == "model" and isinstance(offer.value, type):
            shown.append(
                {
                    **_listed(offer),
                    "parameters": [asdict(one) for one in parameters_of(offer.value)],
                    "faults": faults_of(offer),
                }
            )
        else:
            shown.append(_listed(offer))
    if as_json:
        _write_one_or_all(shown)


@plugins.command("new")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["strategy", "model", "loss", "reader", "tracker"]),
    default="strategy",
    show_default=True,
    help="What the distribution registers.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to create; default: ./NAME.")
def new_plugin(name: str, kind: str, out: Path | None) -> None:
    r"""Create a distribution with a working plugin, a recipe and tests.

    NAME is the name of the plugin in recipes, such as `mirror_classes`.

    \b
    fer-augment plugins new mirror_classes
    fer-augment plugins new my_net --kind model
    """
    from fer_augment.scaffold import plugin_name_of, write_distribution

    given, name = name, plugin_name_of(name)
    folder = Path(name) if out is None else out
    files = write_distribution(name, folder, kind)
    console = results()
    if name != given:
        console.print(f"The {kind} is named {name}, as a recipe writes it.", markup=False, soft_wrap=True)
    console.print(display_name(f"Wrote {folder}/"), markup=False, soft_wrap=True)
    width = max(map(len, files))
    for file, purpose in files.items():
        console.print(f"  {file:{width}}  {purpose}", markup=False, soft_wrap=True)
    console.print("\nNext:")
    for command in (f"cd {folder}", "pip install -e '.[test]'", f"fer-augment plugins check {name}", "pytest"):
        console.print(f"  {command}", markup=False, soft_wrap=True)


@plugins.command("check")
@_plugin_argument
@click.option("--source", help="What a dataset reader reads, as typed after --data; default: its example.")
@_json_of_plugins_option
def check_plugin(plugin: str, source: str | None, as_json: bool) -> None:
    r"""Run the conformity kit on a plugin, installed or in a Python file.

    Plugins are strategies, networks, losses, dataset readers and trackers. Without a name, all plugins of the file are
    checked. Exits with status 1 if a check fails.

    \b
    fer-augment plugins check confusion_mirror
    fer-augment plugins check vgg_mini
    fer-augment plugins check my_idea.py:MirrorClasses
    fer-augment plugins check npz_file --source faces.npz
    """
    from fer_augment.cli._named_plugins import plugins_named
    from fer_augment.cli._plugin_checks import checks_of, print_checklist
    from fer_augment.errors import PluginError

    chosen = [offer for _, offer in plugins_named(plugin) if offer.kind != "recipe"]
    if not chosen:
        raise PluginError(f"{plugin} is a recipe; `fer-augment recipes check {plugin}` checks it")
    if source is not None and not any(checked.kind == "dataset reader" for checked in chosen):
        raise click.UsageError(f"--source is what a dataset reader reads; {plugin} is none")
    checklists = []
    for checked in chosen:
        with messages().status(f"Checking {checked.name} …"):
            checklists.append((checked, checks_of(checked, source)))
    if as_json:
        _write_one_or_all(
            [
                {
                    checked.kind: checked.name,
                    "provider": checked.provider,
                    "checks": [asdict(check) for check in checks],
                }
                for checked, checks in checklists
            ]
        )
    else:
        for checked, checks in checklists:
            print_checklist(checked, checks)
    if not all(check.passed for _, checks in checklists for check in checks):
        sys.exit(1)


def _listed(offer: Offer[Any]) -> dict[str, str]:
    from fer_augment.recipe.strategy_description import summary_of

    return {
        "kind": offer.kind,
        "name": offer.name,
        "summary": summary_of(offer),
        "provider": offer.provider,
        "module": offer.module,
    }


def _write_one_or_all(contents: list[dict[str, Any]]) -> None:
    _write_json(contents[0] if len(contents) == 1 else contents)


def _write_json(content: Any) -> None:
    print_plain(json.dumps(content, indent=2, ensure_ascii=False))
