"""Checks of the class: its hooks, its `example`, and parameters that a recipe can hold."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import PydanticUserError

from fer_augment.errors import FerAugmentError
from fer_augment.hooks.declared_values import declaration_fault
from fer_augment.hooks.plugin_manager import strategy_faults
from fer_augment.recipe.binding import with_parameters
from fer_augment.testing.file_reads import undeclared_files
from fer_augment.testing.fixtures import tiny_dataset
from fer_augment.testing.subject import Subject


def is_declared_as_a_strategy(subject: Subject) -> Iterator[str]:
    """All hooks and their arguments exist, and the class has a docstring."""
    yield from strategy_faults(subject.strategy_class)
    if not subject.strategy_class.__doc__:
        yield "add a docstring to the class; `plugins show` prints it"


def builds_from_its_example(subject: Subject) -> Iterator[str]:
    """The class attribute `example` holds valid parameters for the classes ant, bee and cat.

    Properties such as `effects` have valid values.
    """
    try:
        strategy = with_parameters(subject.strategy_class, subject.parameters)
    except FerAugmentError as error:
        if subject.instance_parameters is None:
            yield f"set the class attribute `example` to valid parameters: {error}"
        else:
            yield f"the parameters of the instance are not accepted when it is built again: {error}"
        return
    if fault := declaration_fault(strategy):
        yield fault


def keeps_the_contract_of_its_stages(subject: Subject) -> Iterator[str]:
    """Every stage accepts gray or color images and returns a value of the required type, shape and dtype."""
    refused = [*subject.refusals(tiny_dataset(1)), *subject.refusals(tiny_dataset(3))]
    if not subject.datasets:
        yield from refused


def declares_the_files_that_it_reads(subject: Subject) -> Iterator[str]:
    """Files that a stage reads are named by parameters of type `FilePath` or `DirectoryPath`, or returned by `files`.

    Only the content of these is part of the training key: if others change, old results are used. Files that come with
    an installed distribution are identified by its version. Files that a library opens in C are not seen.
    """
    if subject.datasets and (files := undeclared_files(subject.reads, subject.build())):
        others = f" and {len(files) - 1} more files are" if files[1:] else " is"
        yield (
            f"{files[0]}{others} read, but not a part of the training key; give the parameter that names it the type "
            "FilePath or DirectoryPath of pydantic, or return the paths from `files`"
        )


def can_be_written_to_a_recipe(subject: Subject) -> Iterator[str]:
    """Parameters are unchanged by a round trip through JSON, and have a JSON Schema."""
    strategy = subject.build()
    try:
        subject.strategy_class.model_json_schema()
        again = subject.strategy_class.model_validate_json(strategy.model_dump_json(by_alias=True))
    except (ValueError, PydanticUserError) as error:
        yield f"use types and values for parameters that JSON can represent: {' '.join(str(error).split())}"
    else:
        if again.model_dump() != strategy.model_dump():
            yield "parameters must be the same after a round trip through JSON"
