"""Checks of `effects`, from which warnings about combinations in a recipe are derived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.dataset import AS_READ
from fer_augment.data.duplicates import image_digests
from fer_augment.hooks.strategy import Effect
from fer_augment.testing.fixtures import NearestMeanScout, tiny_network
from fer_augment.testing.mining import undeclared_mining
from fer_augment.testing.prior_correction import undeclared_prior_correction
from fer_augment.testing.soft_labels import failures_with_soft_labels
from fer_augment.testing.stages import arguments_of, same
from fer_augment.testing.subject import Subject

_SEEDS = range(6)
_MIN_RATIO = 1.2
"""Classes count as drawn in other proportions if their sampling rates differ by this factor."""
_MIN_ERRORS = 4
"""Mean sampling rates of a random strategy also have to differ by this number of standard errors."""
_MIN_CORRELATION = 0.995
"""Images count as equal, up to contrast and brightness, above this correlation; mirrored tiny images stay below it."""


def declares_whether_it_is_random(subject: Subject) -> Iterator[str]:
    """The seed changes the result if and only if `effects` includes `Effect.RANDOM`."""
    first, is_random = subject.first_trials, Effect.RANDOM in subject.build().effects
    varying: dict[str, None] = {}
    for seed in _SEEDS[1:]:
        other = subject.trials(seed=seed)
        varying |= dict.fromkeys(stage for stage in subject.stages if not same(first[stage], other[stage]))
        if varying and is_random:
            return
    if varying and not is_random:
        yield f"{', '.join(varying)}: the result depends on the seed; declare Effect.RANDOM in `effects`"
    if not varying and is_random:
        yield "the result does not depend on the seed; remove Effect.RANDOM from `effects`, or draw random numbers"


def declares_what_it_changes(subject: Subject) -> Iterator[str]:
    """`effects` includes what the strategy does to class frequencies, targets and images, and what it requires."""
    effects = subject.build().effects
    if Effect.SHIFTS_CLASS_PRIOR not in effects and _shifts_class_prior(subject):
        yield "class proportions change; declare Effect.SHIFTS_CLASS_PRIOR"
    yield from undeclared_prior_correction(subject)
    if Effect.SOFT_TARGETS not in effects and _softens_targets(subject):
        yield "targets are no longer one-hot; declare Effect.SOFT_TARGETS"
    yield from failures_with_soft_labels(subject)
    if Effect.MIRRORED_COPIES not in effects and _adds_mirrored_copies(subject):
        yield "mirrored copies of rows are added; declare Effect.MIRRORED_COPIES"
    if Effect.RANDOM_FLIP not in effects and _mirrors_at_random(subject):
        yield "some rows of a batch are mirrored left-right; declare Effect.RANDOM_FLIP"
    if Effect.NEEDS_LINEAR_HEAD not in effects:
        yield from _failures_without_a_linear_head(subject)
    scout = NearestMeanScout()
    subject.trials(scout=scout)
    for query, (output, effect) in _SCOUT_OUTPUTS.items():
        if query in scout.asked and effect not in effects:
            yield f"{output} of a scout are used; declare Effect.{effect.name}"
    yield from undeclared_mining(subject)


_SCOUT_OUTPUTS = {
    "in_sample": ("in-sample predictions", Effect.IN_SAMPLE_MINING),
    "out_of_fold": ("out-of-fold predictions", Effect.OUT_OF_FOLD_MINING),
    "embeddings": ("embeddings", Effect.ASKS_FOR_EMBEDDINGS),
}


def _seeds_of(subject: Subject) -> range:
    """Return the seeds with which effects are looked for: one, if the strategy is not random."""
    return _SEEDS if Effect.RANDOM in subject.build().effects else _SEEDS[:1]


def _shifts_class_prior(subject: Subject) -> bool:
    """Whether the sampling rates of two classes, relative to their original rows, differ clearly.

    Those of a random strategy are means over seeds, which must differ by more than chance: classes are small.
    """
    of_seeds = [list(_sampling_rates(subject, seed)) for seed in _seeds_of(subject)]
    for rates in map(np.array, zip(*of_seeds, strict=True)):
        mean, error = rates.mean(axis=0), rates.std(axis=0) / max(len(rates) - 1, 1) ** 0.5
        high, low = mean.argmax(), mean.argmin()
        by_chance = _MIN_ERRORS * np.hypot(error[high], error[low])
        if mean[high] > max(_MIN_RATIO * mean[low], mean[low] + by_chance):
            return True
    return False


def _sampling_rates(subject: Subject, seed: int) -> Iterator[NDArray[np.float64]]:
    for data, rewritten in subject.results("rewrite_training_set", seed):
        yield rewritten.counts / data.counts
    for data, weights in subject.results("sampling_weights", seed):
        yield np.bincount(data.labels, weights) / data.counts


def _softens_targets(subject: Subject) -> bool:
    """Whether a batch has targets that are not one-hot."""
    return any(
        bool(((targets > 0) & (targets < 1)).any())
        for seed in _seeds_of(subject)
        for _, (_, targets) in subject.results("augment_batch", seed)
    )


def _adds_mirrored_copies(subject: Subject) -> bool:
    """Whether a new row is the left-right mirror image of an original one."""
    return any(
        np.isin(rewritten.digests[rewritten.step != AS_READ], image_digests(data.images[:][:, :, ::-1])).any()
        for data, rewritten in subject.results("rewrite_training_set")
    )


def _mirrors_at_random(subject: Subject) -> bool:
    """Whether some but not all rows are mirrored left-right, regardless of contrast and brightness."""
    for stage, width in (("augment_rows", 2), ("augment_batch", 3)):
        if stage in subject.stages:
            for data in subject.datasets:
                for arguments in arguments_of(stage, data):
                    before = arguments.arrays_of(arguments.first)[0]
                    mirrored: list[bool] = []
                    for seed in _seeds_of(subject):
                        after = arguments.outcome(subject.build(), seed=seed)[0]
                        mirrored += map(_is_mirrored, before, after, [width - 1] * len(before))
                    if any(mirrored) and not all(mirrored):
                        return True
    return False


def _is_mirrored(before: NDArray[Any], after: NDArray[Any], width: int) -> bool:
    """Whether an image equals another one mirrored, up to contrast and brightness, rather than unmirrored."""
    plain, mirrored = (
        abs(np.corrcoef(image.ravel(), after.ravel())[0, 1]) for image in (before, np.flip(before, axis=width))
    )
    return bool(mirrored > max(plain, _MIN_CORRELATION))


def _failures_without_a_linear_head(subject: Subject) -> Iterator[str]:
    """Run the stages that take a network on one without a `head`, like convnet1 to convnet5."""
    for stage in ("prepare_model", "refine_model"):
        if stage in subject.stages:
            for data in subject.datasets:
                (arguments,) = arguments_of(stage, data)
                headless = tiny_network(data.image_shape, len(data.class_names), linear_head=False)
                try:
                    replace(arguments, first=headless).fold(subject.build())
                except Exception as error:  # noqa: BLE001 - in a run, any exception would come after hours of training
                    yield (
                        f"{stage}: fails on a network without a linear `head`; declare Effect.NEEDS_LINEAR_HEAD, so "
                        f"that such networks are refused before training ({error.__cause__ or error})"
                    )
