"""The catalogue of the strategies that come with fer_augment, as a page of documentation.

`python -m fer_augment.catalogue_page > docs/strategies.md` writes it again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fer_augment.plugin_manager import installed_plugins
from fer_augment.strategy_description import Parameter, StrategyDescription, described


def catalogue_page() -> str:
    """Return the page, in Markdown."""
    offers = installed_plugins().of_kind("strategy")
    built_in = [described(offer) for offer in offers if offer.module.startswith("fer_augment_plugins.")]
    return "\n".join([*_HEAD, *_overview(built_in), *(line for one in built_in for line in _section(one))]) + "\n"


_HEAD = (
    "# Strategies",
    "",
    "<!-- Written by `python -m fer_augment.catalogue_page > docs/strategies.md` from what is installed. -->",
    "",
    "What comes with fer_augment. `fer-augment plugins list` also lists what other distributions add, and",
    "[write a strategy](write_a_strategy.md) tells how to make one. In the examples, the classes `ant`, `bee` and",
    "`cat` stand for classes of your data.",
    "",
)


def _overview(descriptions: list[StrategyDescription]) -> Iterator[str]:
    yield "| strategy | acts at | in a sentence |"
    yield "|---|---|---|"
    for one in descriptions:
        yield f"| [{one.name}](#{one.name}) | {_stages(one)} | {_cell(one.summary)} |"


def _section(one: StrategyDescription) -> Iterator[str]:
    yield from ("", f"## {one.name}", "", one.summary)
    for paragraph in one.details:
        yield from ("", paragraph)
    yield from ("", f"- acts at: {_stages(one)}")
    if one.effects:
        yield f"- effects of the example: {', '.join(one.effects).replace('_', ' ')}"
    if one.recipes:
        yield f"- shipped recipes with it: {', '.join(f'`{recipe}`' for recipe in one.recipes)}"
    yield from (f"- source: {source}" for source in one.sources)
    if one.parameters:
        yield from ("", "| parameter | values | default | |", "|---|---|---|---|")
        yield from map(_parameter_row, one.parameters)
    yield from ("", "```yaml", *one.example_yaml.splitlines(), "```")


def _stages(one: StrategyDescription) -> str:
    return ", ".join(f"[{stage}](hooks.md#{stage})" for stage in one.stages)


def _parameter_row(parameter: Parameter) -> str:
    values = f"`{parameter.type}`" + (f", {parameter.limits}" if parameter.limits else "")
    default = "required" if parameter.required else f"`{parameter.default_in_words}`"
    cells = (f"`{parameter.name}`", values, default, parameter.description)
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # a text file, whatever the typing of stdout
    sys.stdout.write(catalogue_page())
