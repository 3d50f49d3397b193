"""The catalog of the strategies that come with fer_augment, as a page of documentation: a card for each.

`python -m docs.builder.page > docs/strategies.md` writes it again. The pictures beside it are drawn by
`docs.builder.pictures`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from docs.builder.pictures import ILLUSTRATIONS
from fer_augment.hooks.plugin_manager import installed_plugins
from fer_augment.recipe.strategy_description import Parameter, StrategyDescription, described


def catalog_page() -> str:
    """Return the page, in Markdown."""
    offers = installed_plugins().of_kind("strategy")
    built_in = [described(offer) for offer in offers if offer.module.startswith("fer_augment_plugins.")]
    return "\n".join([*_HEAD, *_overview(built_in), *(line for one in built_in for line in _card(one))]) + "\n"


_HEAD = (
    "# Strategies",
    "",
    "<!-- Written by `make docs` from what is installed; the text of a card is its strategy's docstring. -->",
    "",
    "What comes with fer_augment. `fer-augment plugins list` also lists what other distributions add, and",
    "[write a strategy](write_a_strategy.md) tells how to make one. In the examples, the classes `ant`, `bee` and",
    "`cat` stand for classes of your data.",
    "",
    "- **Pictures** show the demo faces, which are drawn, under the parameters of a shipped recipe or those that are",
    "  named. Their scout goes by the nearest mean image of a class, and errs more than the network that a run trains.",
    "  Charts show what the strategies give on FER2013's class counts, where they say nothing else.",
    "- **Costs** in seconds are for the 28,709 images of 48x48 in FER2013's training split, measured once on a core",
    "  of an AMD EPYC. A small network takes half a minute or more to learn from as many on two such cores.",
    "- **Elsewhere** are numbers of others, on other data, other networks and without a spread: they say what is worth",
    "  trying, not what will come of it. Where fer_augment measured something, a card says so; else ask it:",
    "  `fer-augment compare modern modern_mixup --data fer2013.csv --seeds 5`.",
    "",
)


def _overview(descriptions: list[StrategyDescription]) -> Iterator[str]:
    yield "| strategy | acts at | in a sentence |"
    yield "|---|---|---|"
    for one in descriptions:
        yield f"| [{one.name}](#{one.name}) | {_stages(one)} | {_cell(one.summary)} |"


def _card(one: StrategyDescription) -> Iterator[str]:
    picture = ILLUSTRATIONS[one.name]
    yield from ("", f"## {one.name}", "", one.summary)
    yield from ("", f"![{picture.alt}](pictures/{one.name}{picture.suffix})")
    for paragraph in one.details:
        yield from ("", paragraph)
    yield ""
    told = {
        "**helps when**": one.when,
        "**costs**": one.cost,
        "**try**": one.values,
        "**elsewhere**": one.elsewhere,
        "**measured**": one.measured,
        "acts at": _stages(one),
        "effects of the example": ", ".join(one.effects or ()).replace("_", " "),
        "shipped recipes with it": ", ".join(f"`{recipe}`" for recipe in one.recipes),
    }
    yield from (f"- {fact}: {text}" for fact, text in told.items() if text)
    yield from (f"- source: {source}" for source in one.sources)
    if one.parameters:
        yield from ("", "| parameter | values | default | |", "|---|---|---|---|")
        yield from map(_parameter_row, one.parameters)
    yield from ("", "```yaml", *one.example_yaml.splitlines(), "```")


def _stages(one: StrategyDescription) -> str:
    return ", ".join(f"[{stage}](hooks/{stage}.md)" for stage in one.stages)


def _parameter_row(parameter: Parameter) -> str:
    values = f"`{parameter.type}`" + (f", {parameter.limits}" if parameter.limits else "")
    default = "required" if parameter.required else f"`{parameter.default_in_words}`"
    cells = (f"`{parameter.name}`", values, default, parameter.description)
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # a text file, whatever the typing of stdout
    sys.stdout.write(catalog_page())
