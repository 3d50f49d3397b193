"""A strategy is one: it has hooks, an example that builds it, and parameters that a recipe can hold."""

from __future__ import annotations

from collections.abc import Iterator

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.plugin_manager import strategy_faults
from fer_augment.recipe.binding import with_parameters
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.subject import Subject


def is_declared_as_a_strategy(subject: Subject) -> Iterator[str]:
    """Hooks and their arguments exist, and the class says what it does."""
    yield from strategy_faults(subject.strategy_class)
    if not subject.strategy_class.__doc__:
        yield "give the class a docstring: it is what `plugins show` tells"


def builds_from_its_example(subject: Subject) -> Iterator[str]:
    """`example` holds parameters that make an instance, for the classes ant, bee and cat."""
    try:
        with_parameters(subject.strategy_class, subject.strategy_class.example)
    except FerAugmentError as error:
        yield f"set the class attribute `example` to valid parameters; now {error}"


def keeps_the_contract_of_its_stages(subject: Subject) -> Iterator[str]:
    """Every stage takes gray or color images and returns what the stage asks for: kind, shape and dtype."""
    refused = [*subject.refusals(tiny_dataset(1)), *subject.refusals(tiny_dataset(3))]
    if not subject.datasets:
        yield from refused


def can_be_written_to_a_recipe(subject: Subject) -> Iterator[str]:
    """Parameters survive JSON, and have a JSON Schema."""
    strategy = subject.build()
    try:
        subject.strategy_class.model_json_schema()
        again = subject.strategy_class.model_validate_json(strategy.model_dump_json())
    except ValueError as error:
        yield f"give parameters types and values that JSON has: {' '.join(str(error).split())}"
    else:
        if again.model_dump() != strategy.model_dump():
            yield "parameters must be the same after a round trip through JSON"
