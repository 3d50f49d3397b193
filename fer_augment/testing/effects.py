"""What a strategy changes stands in its `effects`, from which recipes are told what does not go well together."""

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
from fer_augment.testing.stages import arguments_of, same
from fer_augment.testing.subject import Subject

_SEEDS = range(6)
_CLEARLY_UNEQUAL = 1.2
_THE_SAME = 0.995
"""So large is the correlation of images that show the same: those of the kit are noisy, and less like their mirror."""


def declares_whether_it_is_random(subject: Subject) -> Iterator[str]:
    """Another seed changes the result if `effects` has `Effect.RANDOM`, and only then."""
    first = subject.trials()
    others = [subject.trials(seed=seed) for seed in _SEEDS[1:]]
    varying = [stage for stage in subject.stages if not all(same(first[stage], other[stage]) for other in others)]
    if varying and Effect.RANDOM not in subject.build().effects:
        yield f"{', '.join(varying)}: another seed gives another result; declare Effect.RANDOM in `effects`"
    if not varying and Effect.RANDOM in subject.build().effects:
        yield "no seed changes any result; take Effect.RANDOM out of `effects`, or draw random numbers"


def declares_what_it_changes(subject: Subject) -> Iterator[str]:
    """What a strategy does to class frequencies, targets and images, and what it asks for, stands in `effects`."""
    effects = subject.build().effects
    if Effect.SHIFTS_CLASS_PRIOR not in effects and _shifts_class_prior(subject):
        yield "classes are drawn in other proportions; declare Effect.SHIFTS_CLASS_PRIOR"
    soft = any(bool(((t > 0) & (t < 1)).any()) for _, (_, t) in subject.results("augment_batch"))
    if soft and Effect.SOFT_TARGETS not in effects:
        yield "targets are no longer one-hot; declare Effect.SOFT_TARGETS"
    if Effect.MIRRORED_COPIES not in effects and _adds_mirrored_copies(subject):
        yield "mirror images of rows are added; declare Effect.MIRRORED_COPIES"
    if Effect.RANDOM_FLIP not in effects and _mirrors_at_random(subject):
        yield "some rows of a batch are mirrored left to right; declare Effect.RANDOM_FLIP"
    if Effect.NEEDS_LINEAR_HEAD not in effects:
        yield from _failures_without_a_linear_head(subject)
    scout = NearestMeanScout()
    subject.trials(scout=scout)
    for asked, effect in _ASKED.items():
        if asked in scout.asked and effect not in effects:
            yield f"a scout is asked for {asked.replace('_', ' ')}; declare Effect.{effect.name}"


_ASKED = {
    "in_sample": Effect.IN_SAMPLE_MINING,
    "out_of_fold": Effect.OUT_OF_FOLD_MINING,
    "embeddings": Effect.ASKS_FOR_EMBEDDINGS,
}


def _shifts_class_prior(subject: Subject) -> bool:
    """Whether some class is drawn clearly more often than another one, for each row that there was."""
    shares = [rewritten.counts / data.counts for data, rewritten in subject.results("rewrite_training_set")]
    for data, weights in subject.results("sampling_weights"):
        shares.append(np.bincount(data.labels, weights) / data.counts)
    return any(share.max() > _CLEARLY_UNEQUAL * share.min() for share in shares)


def _adds_mirrored_copies(subject: Subject) -> bool:
    """Whether a new row shows the left-right mirror image of one that was read."""
    return any(
        np.isin(rewritten.digests[rewritten.step != AS_READ], image_digests(data.images[:][:, :, ::-1])).any()
        for data, rewritten in subject.results("rewrite_training_set")
    )


def _mirrors_at_random(subject: Subject) -> bool:
    """Whether some rows come out mirrored left to right and some do not, whatever became of their brightness."""
    mirrored: list[bool] = []
    for stage, width in (("augment_rows", 2), ("augment_batch", 3)):
        if stage in subject.stages:
            for data in subject.datasets:
                given = arguments_of(stage, data)[0]
                before = given.arrays_of(given.first)[0]
                for seed in _SEEDS:
                    after = given.outcome(subject.build(), seed=seed)[0]
                    mirrored += map(_is_mirrored, before, after, [width - 1] * len(before))
    return any(mirrored) and not all(mirrored)


def _is_mirrored(before: NDArray[Any], after: NDArray[Any], width: int) -> bool:
    """Whether an image is, but for contrast and brightness, another one mirrored, and not that one itself."""
    plain, turned = (
        abs(np.corrcoef(image.ravel(), after.ravel())[0, 1]) for image in (before, np.flip(before, axis=width))
    )
    return bool(turned > max(plain, _THE_SAME))


def _failures_without_a_linear_head(subject: Subject) -> Iterator[str]:
    """Run the stages that are given a network on one that has no `head`, as convnet1 to convnet5 have none."""
    for stage in ("prepare_model", "refine_model"):
        if stage in subject.stages:
            for data in subject.datasets:
                (given,) = arguments_of(stage, data)
                headless = tiny_network(data.image_shape, len(data.class_names), linear_head=False)
                try:
                    replace(given, first=headless).fold(subject.build())
                except Exception as error:  # noqa: BLE001 - whatever it fails by, it does so after hours of training
                    yield (
                        f"{stage}: it fails on a network without a linear `head`; declare Effect.NEEDS_LINEAR_HEAD, so "
                        f"that such networks are refused before training ({error.__cause__ or error})"
                    )
