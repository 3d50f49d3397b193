"""Warnings about limitations of a comparison, derived from the records of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fer_augment.data.records import RunRecord
from fer_augment.results.comparison import Arm, Failure

Runs = Mapping[str, Sequence[RunRecord]]
"""Records of the finished runs by arm; every arm has at least one."""

_OF_ONE_IMAGE = "the variance of the recall is estimated from the other classes, and only a huge difference is found."
_FEW_IMAGES = 10
"""A class of a cross-validation with fewer images is not one for which the test was calibrated."""
_FEW_TEST_IMAGES = 5
"""A class with fewer test images is named, because its recall is a matter of single images."""
_LEARNED_IMAGES = 5
"""A class is learned in one of two runs only if their recalls are this many images apart, and the lower is near 0."""


def warnings_of_arms(
    baseline: str,
    runs: Mapping[str, int],
    failures: Sequence[Failure],
    test_counts: Mapping[str, int],
    deduplicated_counts: Mapping[str, int] | None,
) -> list[str]:
    """Return warnings about the numbers of runs and images, one sentence each.

    Args:
        baseline: name of the baseline.
        runs: number of finished runs of each arm that has some.
        failures: failed runs.
        test_counts: rows of the test split by class.
        deduplicated_counts: rows of the deduplicated test split by class; None if it is not known.
    """
    return [
        *_of_failures(baseline, runs, failures),
        *_of_seeds(runs),
        *_of_classes(test_counts),
        *(_of_duplicates(test_counts, deduplicated_counts) if deduplicated_counts else ()),
    ]


def warnings_of_repeats(
    baseline: str,
    repeats: Mapping[str, Sequence[int]],
    failures: Sequence[Failure],
    counts: Mapping[str, int],
    groups: Mapping[str, int],
) -> list[str]:
    """Return warnings about repeats and images of a cross-validation, one sentence each.

    Args:
        baseline: name of the baseline.
        repeats: numbers of the complete repeats of each arm that has some, the baseline first.
        failures: failed runs.
        counts: rows of all folds by class.
        groups: number of groups of rows that stay in one fold, by class.
    """
    return [
        *_of_failures(baseline, repeats, failures, "repeat", "is complete"),
        *_of_repeats(repeats, failures),
        *_of_small_classes(counts, groups),
    ]


def _of_repeats(repeats: Mapping[str, Sequence[int]], failures: Sequence[Failure]) -> Iterator[str]:
    lost = dict.fromkeys(f"{one.recipe} {one.fold.repeat + 1}" for one in failures if one.fold)
    if lost:
        yield (
            f"Incomplete repeats are not scored, because some of their images have no prediction ({', '.join(lost)}); "
            "run the same command again to complete them."
        )
    numbers = {recipe: len(own) for recipe, own in repeats.items()}
    if len({frozenset(own) for own in repeats.values()}) > 1:
        of_arms = _by_arm({recipe: str(number) for recipe, number in numbers.items()})
        what = f"Unequal numbers of repeats ({of_arms})" if len(set(numbers.values())) > 1 else "Different repeats"
        (first, of_first), *others = repeats.items()
        shared = _by_arm({recipe: str(len({*own} & {*of_first})) for recipe, own in others})
        yield f"{what}: two arms are tested on the repeats that both have (with {first}: {shared})."


def _of_small_classes(counts: Mapping[str, int], groups: Mapping[str, int]) -> Iterator[str]:
    single = [name for name, count in groups.items() if count == 1]
    if single:
        yield (
            f"Only one image, or one group of images, of {listed(single)}: in a cross-validation, the recall of such a "
            "class, accuracy and balanced accuracy are not testable; leave the class out to test the others."
        )
    few = [name for name, count in counts.items() if count < _FEW_IMAGES and name not in single]
    if few:
        yield (
            f"Fewer than {_FEW_IMAGES} images of {listed(few)}: do not rely on a verdict on the recall; balanced "
            "accuracy depends on these few images, too."
        )


def warnings_of_records(runs: Runs) -> list[str]:
    """Return warnings that the records of runs contain or give rise to, one sentence each."""
    return [*_of_validation(runs), *_of_steps(runs), *_of_environments(runs), *_from_runs(runs)]


def warnings_of_scores(arms: Sequence[Arm], test_counts: Mapping[str, int]) -> list[str]:
    """Return warnings about scores that two runs cannot describe, one sentence each.

    Args:
        arms: the arms.
        test_counts: rows of the test split by class.
    """
    of_arms = ((arm, [name for name, rows in test_counts.items() if _is_half_learned(arm, name, rows)]) for arm in arms)
    return [
        f"Only one of the two runs of {arm.recipe} learned {listed(names)}: two seeds are not enough to estimate how "
        "often that happens (up to 10 % false positives instead of 5 %); use at least three."
        for arm, names in of_arms
        if names
    ]


def warnings_of_one_class(predicted: Mapping[str, str]) -> list[str]:
    """Return warnings about arms whose networks learned nothing, one sentence each.

    Args:
        predicted: what all runs of such an arm predict for all of their test images, see `ArmRuns.single_class`.
    """
    return [
        f"Every run of {listed(arm for arm, own in predicted.items() if own == name)} predicts {name} for all its test "
        "images: was it trained too briefly? Raise the number of epochs (`training.epochs`) or the learning rate."
        for name in dict.fromkeys(predicted.values())
    ]


def _is_half_learned(arm: Arm, name: str, rows: int) -> bool:
    recall = arm.test.recall[name]
    if recall.n != 2 or recall.mean is None or recall.sd is None:
        return False
    half = recall.sd / 2**0.5  # the two values are mean - half and mean + half
    return recall.mean - half < 0.05 * (recall.mean + half) and 2 * half * rows >= _LEARNED_IMAGES


def _of_failures(
    baseline: str, arms: Iterable[str], failures: Sequence[Failure], unit: str = "run", state: str = "finished"
) -> Iterator[str]:
    if baseline not in arms:
        yield f"No {unit} of the baseline {baseline} {state}: no arm is tested against it."
    unfinished = dict.fromkeys(failure.recipe for failure in failures if failure.recipe not in {baseline, *arms})
    if unfinished:
        yield f"No {unit} of {listed(unfinished)} {state}."


def _of_seeds(numbers: Mapping[str, int]) -> Iterator[str]:
    single = [recipe for recipe, number in numbers.items() if number == 1]
    if single:
        yield (
            f"Only one run of {listed(single)}: no significance test, because the variance between seeds is unknown. "
            "Use at least two seeds, preferably five."
        )
    two = [recipe for recipe, number in numbers.items() if number == 2]
    if two:
        yield (
            f"Only two runs of {listed(two)}: the variance between seeds is estimated from one difference, so a "
            "single confidence interval may be much too narrow or too wide. The 5 % level holds on average; "
            "preferably use five seeds."
        )
    if len(set(numbers.values())) > 1:
        of_arms = _by_arm({recipe: str(number) for recipe, number in numbers.items()})
        yield f"Unequal numbers of runs ({of_arms}); use the same seeds for all arms to keep the 5 % level."


def _of_classes(rows: Mapping[str, int]) -> Iterator[str]:
    absent = [name for name, count in rows.items() if count == 0]
    if absent:
        yield f"The test split has no image of {listed(absent)}."
    single = [name for name, count in rows.items() if count == 1]
    if single:
        yield f"The test split has one image of {listed(single)}: {_OF_ONE_IMAGE}"
    if few := few_images_sentence({name: count for name, count in rows.items() if count > 1}):
        yield few


def few_images_sentence(rows: Mapping[str, int]) -> str | None:
    """Name the classes with fewer than `_FEW_TEST_IMAGES` test images, given the rows by class; None without any."""
    few = [f"{name} ({count})" for name, count in rows.items() if 0 < count < _FEW_TEST_IMAGES]
    if not few:
        return None
    return (
        f"The test split has only a few images of {listed(few)}: their recall says little; cross-validation, as by "
        "`compare --folds 5`, tests on all images."
    )


def _of_duplicates(rows: Mapping[str, int], deduplicated: Mapping[str, int]) -> Iterator[str]:
    """Name the classes with no or one image in the deduplicated test split, unless it is empty."""
    if not any(deduplicated.values()):
        return
    absent = [name for name in rows if rows[name] > deduplicated[name] == 0]
    if absent:
        yield (
            f"All test images of {listed(absent)} have a duplicate in the training split: on the deduplicated test "
            "split, balanced accuracy is the mean recall of the other classes."
        )
    single = [name for name in rows if rows[name] > deduplicated[name] == 1]
    if single:
        yield f"The deduplicated test split has one image of {listed(single)}: {_OF_ONE_IMAGE}"


def _of_validation(runs: Runs) -> Iterator[str]:
    """Name the classes without rows in the validation split, in a cross-validation in that of any fold."""
    records = [record for of_arm in runs.values() for record in of_arm if record.curve]
    names = records[0].class_names if records else ()
    recalls = [record.curve[-1].validation_recall for record in records]
    absent = [name for label, name in enumerate(names) if any(recall[label] is None for recall in recalls)]
    if absent:
        where = "of a fold has no" if any(record.identity.fold for record in records) else "has no"
        yield (
            f"The validation split {where} image of {listed(absent)}: scores on it, by which parameters, epochs "
            "and arms are chosen, are means over the other classes."
        )


def _of_steps(runs: Runs) -> Iterator[str]:
    steps = {recipe: sorted({record.optimizer_steps for record in records}) for recipe, records in runs.items()}
    folds_differ = any(record.identity.fold for records in runs.values() for record in records)
    if len({tuple(numbers) for numbers in steps.values()} if folds_differ else set().union(*steps.values())) > 1:
        of_arms = _by_arm({recipe: " or ".join(f"{n:,}" for n in numbers) for recipe, numbers in steps.items()})
        causes = "; ".join(_causes_of_unequal_steps(runs))
        yield f"Unequal numbers of optimizer steps ({of_arms}){f': {causes}' if causes else ''}."


def _causes_of_unequal_steps(runs: Runs) -> Iterator[str]:
    """Yield the settings on which the number of optimizer steps depends, if they differ, and how to equalize them."""
    settings = {recipe: records[0].recipe.get("training", {}) for recipe, records in runs.items()}
    for key in ("epochs", "batch_size"):
        values = {recipe: str(of_arm.get(key)) for recipe, of_arm in settings.items()}
        if len(set(values.values())) > 1:
            yield f"`training.{key}` differs ({_by_arm(values)}), use one value for all arms"
    by_epochs = [recipe for recipe, of_arm in settings.items() if of_arm.get("budget") == "epochs"]
    if by_epochs:
        yield f"with `training.budget: epochs`, rewriting changes the number; set `steps` for {listed(by_epochs)}"
    patient = [recipe for recipe, of_arm in settings.items() if of_arm.get("patience") is not None]
    if patient:
        yield f"with `training.patience`, runs of {listed(patient)} stop early"
    rows = {recipe: f"{sum(records[0].train_counts):,}" for recipe, records in runs.items()}
    if len(set(rows.values())) > 1:
        yield f"the numbers of training rows before rewriting differ ({_by_arm(rows)})"


def _by_arm(values: Mapping[str, str]) -> str:
    return ", ".join(f"{recipe} {value}" for recipe, value in values.items())


def _of_environments(runs: Runs) -> Iterator[str]:
    environments = [record.environment for records in runs.values() for record in records]
    versions: dict[str, set[str]] = {}
    for environment in environments:
        for name, version in environment.items():  # a distribution that only some arms require differs in no version
            versions.setdefault(name, set()).add(version)
    differing = [name for name, of_runs in versions.items() if len(of_runs) > 1]
    if differing:
        yield f"The runs have different environments: they differ in {listed(differing)}."


def _from_runs(runs: Runs) -> Iterator[str]:
    """Repeat the warnings of runs, each once with its arms."""
    arms_of: dict[str, list[str]] = {}
    for recipe, records in runs.items():
        for warning in dict.fromkeys(warning for record in records for warning in record.warnings):
            arms_of.setdefault(warning, []).append(recipe)
    for warning, recipes in arms_of.items():
        yield f"{listed(recipes)}: {warning}"


def listed(names: Iterable[str]) -> str:
    """Join at least one name as `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
