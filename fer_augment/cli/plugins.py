"""`fer-augment plugins`: list and show installed plugins; create and check strategies."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_augment.reports.console import messages, results

if TYPE_CHECKING:
    from fer_augment.hooks.plugin_manager import Offer
    from fer_augment.hooks.strategy import Strategy
    from fer_augment.testing import CheckResult

_KINDS = {
    "strategy": "Strategies",
    "model": "Models",
    "loss": "Losses",
    "dataset reader": "Dataset readers",
    "tracker": "Trackers",
}

_json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@click.group()
def plugins() -> None:
    """List installed plugins; create and check strategies."""


@plugins.command("list")
@_json_option
def list_plugins(as_json: bool) -> None:
    r"""List the installed strategies, models, losses, dataset readers and trackers, by provider.

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
@click.argument("name")
@_json_option
def show_plugin(name: str, as_json: bool) -> None:
    r"""Show what a plugin does, its parameters, and how to use it in a recipe.

    \b
    fer-augment plugins show confusion_mirror
    """
    from fer_augment.cli._plugin_text import print_offer
    from fer_augment.errors import PluginError, did_you_mean
    from fer_augment.hooks.plugin_manager import installed_plugins
    from fer_augment.recipe.strategy_description import described

    catalog = installed_plugins()
    matching = [offer for offer in catalog.offers if offer.name == name]
    if not matching:
        hint = did_you_mean(name, {offer.name for offer in catalog.offers})
        broken = f" (not loaded: {' | '.join(catalog.problems)})" if catalog.problems else ""
        raise PluginError(f"no plugin named {name!r} is installed{hint}{broken}")
    for offer in matching:
        if not as_json:
            print_offer(results(), offer)
        elif offer.kind == "strategy":
            _write_json({"kind": offer.kind, **asdict(described(offer))})
        else:
            _write_json(_listed(offer))


@plugins.command("new")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to create; default: ./NAME.")
def new_plugin(name: str, out: Path | None) -> None:
    r"""Create a distribution with a working strategy, a recipe and tests.

    NAME is the name of the strategy in recipes, such as `mirror_classes`.

    \b
    fer-augment plugins new mirror_classes
    """
    from fer_augment.scaffold import strategy_name_of, write_distribution

    given, name = name, strategy_name_of(name)
    folder = Path(name) if out is None else out
    files = write_distribution(name, folder)
    console = results()
    if name != given:
        console.print(f"The strategy is named {name}, as a recipe writes it.", markup=False, soft_wrap=True)
    console.print(f"Wrote {folder}/", markup=False, soft_wrap=True)
    width = max(map(len, files))
    for file, purpose in files.items():
        console.print(f"  {file:{width}}  {purpose}", markup=False, soft_wrap=True)
    console.print("\nNext:")
    for command in (f"cd {folder}", "pip install -e '.[test]'", f"fer-augment plugins check {name}", "pytest"):
        console.print(f"  {command}", markup=False, soft_wrap=True)


@plugins.command("check")
@click.argument("strategy", metavar="NAME|PATH.py[:CLASS]")
@_json_option
def check_plugin(strategy: str, as_json: bool) -> None:
    r"""Run the conformity kit on an installed strategy, or on the strategies in a Python file.

    Exits with status 1 if a check fails.

    \b
    fer-augment plugins check confusion_mirror
    fer-augment plugins check my_idea.py:MirrorClasses
    """
    from fer_augment.testing import check_strategy

    checklists = []
    for strategy_class, provider in _strategy_classes(strategy):
        with messages().status(f"Checking {strategy_class.strategy_name()} …"):
            checklists.append((strategy_class, provider, check_strategy(strategy_class)))
    for strategy_class, provider, checks in checklists:
        name = strategy_class.strategy_name()
        if as_json:
            _write_json({"strategy": name, "provider": provider, "checks": [asdict(check) for check in checks]})
        else:
            _print_checklist(f"{name} ({provider})", checks)
    if not all(check.passed for _, _, checks in checklists for check in checks):
        sys.exit(1)


def _strategy_classes(strategy: str) -> list[tuple[type[Strategy], str]]:
    """Return the classes that the argument of `plugins check` refers to, each with its provider."""
    from fer_augment.errors import PluginError, did_you_mean
    from fer_augment.hooks.strategy_files import strategies_in_file
    from fer_augment.reading import loaded_plugins

    in_file = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<class_name>\w+))?", strategy)
    if not in_file:
        offer = loaded_plugins().strategy(strategy)
        return [(offer.value, offer.provider)]
    file, class_name = Path(in_file["file"]), in_file["class_name"]
    classes = {defined.__name__: defined for defined in strategies_in_file(file)}
    if class_name and class_name not in classes:
        raise PluginError(f"{file} has no strategy {class_name!r}{did_you_mean(class_name, classes)}")
    chosen = [defined for name, defined in classes.items() if name == (class_name or name.lstrip("_"))]
    if not chosen:
        raise PluginError(f"{file} defines no subclass of Strategy")
    return [(strategy_class, f"file {file.name}") for strategy_class in chosen]


def _print_checklist(title: str, checks: Sequence[CheckResult]) -> None:
    from fer_augment.testing.checks import CHECKS, FIRST_CHECKS

    requirements = {check.__name__: _in_one_paragraph(check.__doc__ or "") for check in (*FIRST_CHECKS, *CHECKS)}
    console = results()
    console.print(Text(title, style="bold"))
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column()
    for check in checks:
        verdict = Text("ok", style="green") if check.passed else Text("FAIL", style="bold red")
        lines.add_row(verdict, Text(check.name.replace("_", " ")))
        if not check.passed:
            lines.add_row("", Text(requirements[check.name], style="dim"))
            lines.add_row("", Text(check.advice))
    console.print(Padding(lines, (0, 0, 0, 2)))
    failed = sum(not check.passed for check in checks)
    remaining = len(requirements) - len(checks)
    console.print(
        f"{len(checks) - failed} passed, {failed} failed"
        + (f"; {remaining} not run until this one passes" if remaining else "")
    )


def _in_one_paragraph(docstring: str) -> str:
    return " ".join(docstring.split())


def _listed(offer: Offer[Any]) -> dict[str, str]:
    from fer_augment.recipe.strategy_description import summary_of

    return {
        "kind": offer.kind,
        "name": offer.name,
        "summary": summary_of(offer),
        "provider": offer.provider,
        "module": offer.module,
    }


def _write_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
