"""Checks of losses that ask for features."""

from __future__ import annotations

from collections.abc import Iterator

from fer_augment.hooks.loss_features import asks_for_features
from fer_augment.hooks.strategy import Effect
from fer_augment.testing.stages import arguments_of, features_and_gradient
from fer_augment.testing.subject import Subject


def declares_features_and_uses_them(subject: Subject) -> Iterator[str]:
    """A loss that asks for `features` declares `Effect.NEEDS_FEATURES`, and depends on them with a gradient.

    In some epochs its weight may be 0, as at the beginning of a warm-up.
    """
    declared = Effect.NEEDS_FEATURES in subject.build().effects
    asked = learns = False
    for data in subject.datasets if "build_loss" in subject.stages else ():
        for arguments in arguments_of("build_loss", data):
            loss = arguments.fold(subject.build())
            if not asks_for_features(loss):
                continue
            asked = True
            if not declared:
                yield (
                    "build_loss: the loss asks for features; declare Effect.NEEDS_FEATURES, so that networks without "
                    "`features` are refused before training"
                )
            gradient = features_and_gradient(loss, arguments.rows, len(data.class_names))[1]
            learns = learns or (gradient is not None and bool(gradient.any()))
    if asked and not learns:
        yield "build_loss: the loss has no gradient with respect to the features; do not detach them"
    if declared and not asked:
        yield "no loss asks for features; remove Effect.NEEDS_FEATURES, or name an argument of the loss `features`"
