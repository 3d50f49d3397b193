"""The pictures of the catalog: what each strategy that comes with fer_augment does to demo faces, or to numbers.

`python -m docs.builder.pictures docs/pictures` draws them again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.builder import faces, figures
from fer_augment.recipe.recipe import load_recipe


@dataclass(frozen=True)
class Illustration:
    """A picture of what a strategy does.

    Attributes:
        suffix: `.png` for faces, `.svg` for charts.
        alt: what it shows, in words, for those who do not see it.
        draw: draws the file.
    """

    suffix: str
    alt: str
    draw: Callable[[], bytes]


def write_pictures(folder: Path) -> None:
    """Draw all pictures into a folder, which is made; pictures of strategies that are gone are deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}{illustration.suffix}": illustration for name, illustration in ILLUSTRATIONS.items()}
    for file, illustration in files.items():
        file.write_bytes(illustration.draw())
    for file in {*folder.glob("*.png"), *folder.glob("*.svg")} - files.keys():
        file.unlink()


def _as_in(recipe: str, strategy: str) -> Mapping[str, Any]:
    """Return the parameters that a shipped recipe gives to a strategy."""
    (step,) = (step for step in load_recipe(recipe).strategies if step.name == strategy)
    return step.parameters


_EXPONENTS: figures.Settings = {"exponent 0.5": {"exponent": 0.5}, "exponent 1": {"exponent": 1}}
_TAUS: figures.Settings = {"tau 0.5": {"tau": 0.5}, "tau 1": {"tau": 1}}

ILLUSTRATIONS: Mapping[str, Illustration] = {
    "albumentations": Illustration(
        ".png",
        "Six faces, and the copies of them that are appended: slightly turned, moved, lit or blurred in another way.",
        lambda: faces.of_copies("albumentations", **_as_in("albumentations", "albumentations")),
    ),
    "balanced_softmax": Illustration(
        ".svg",
        "Bars of what is added to the logits while training: 0 for happy, the largest class, about -0.4 to -0.8 for "
        "most others, -2.81 for disgust, the smallest.",
        lambda: figures.of_added_logits("balanced_softmax", {"balanced_softmax": {}}),
    ),
    "class_balanced_loss": Illustration(
        ".svg",
        "Bars of class weights: with beta 0.999 about 1 for all classes but disgust, which gets 2.7; with beta 0.9999 "
        "from 0.65 for happy to 7.9 for disgust.",
        lambda: figures.of_class_weights(
            "class_balanced_loss", {"beta 0.999": {"beta": 0.999}, "beta 0.9999": {"beta": 0.9999}}
        ),
    ),
    "confusion_mirror": Illustration(
        ".png",
        "Seven sad faces with slight expressions that the scout takes for neutral ones, and below each its mirror "
        "image.",
        lambda: faces.of_confusion_mirror(**_as_in("confusion_mirror_oof", "confusion_mirror")),
    ),
    "confusion_mix": Illustration(
        ".png",
        "A face of each class, and what is made of them: blends with a face of a class that the scout confuses with "
        "their own, mostly with disgust.",
        lambda: faces.of_mixing("confusion_mix", {"alpha": 1.0}),
    ),
    "crt": Illustration(
        ".svg",
        "Bars of the rows drawn: in the training in proportion to the classes, from 1.5 % disgust to 25.1 % happy; in "
        "the second stage 14.3 % of each class.",
        lambda: figures.of_second_stage(**_as_in("modern_crt", "crt")),
    ),
    "cutmix": Illustration(
        ".png",
        "A face of each class, and the same with a rectangle of another face pasted in; the label is shared by area.",
        lambda: faces.of_mixing("cutmix", {"alpha": 1.0}),
    ),
    "dedup": Illustration(
        ".png",
        "Seven rows: a face twice as neutral, of which one stays; a face twice as happy and once as sad, of which one "
        "happy row stays; a face once as fear and once as surprise, of which none stays.",
        lambda: faces.of_dedup(**_as_in("dedup", "dedup")),
    ),
    "flip_crop_affine": Illustration(
        ".png",
        "A face of each class, and the same as shown in two epochs: mirrored or not, a little moved, turned and "
        "scaled.",
        lambda: faces.of_batches("flip_crop_affine", **_as_in("modern", "flip_crop_affine")),
    ),
    "focal_loss": Illustration(
        ".svg",
        "Curves of the loss over the probability of the row's class, for gamma 0, 1, 2 and 5: all begin near 4 and "
        "end at 0; the larger gamma, the earlier they come close to 0.",
        lambda: figures.of_focal_loss((0, 1, 2, 5)),
    ),
    "hard_examples": Illustration(
        ".png",
        "For each class the hardest row that is repeated, its own class at 5 to 9 % and another one at 46 to 80 %; "
        "below them rows that are left out, as their own class gets next to nothing.",
        lambda: faces.of_hard_examples(**_as_in("hard_examples", "hard_examples")),
    ),
    "imblearn": Illustration(
        ".png",
        "Six faces, a neighbor of each in its class, and the new rows that SMOTE makes: blends of the two.",
        lambda: faces.of_blends(**_as_in("smote", "imblearn")),
    ),
    "label_smoothing": Illustration(
        ".svg",
        "Bars of the target of a happy row: as labeled 1 for happy and 0 for the others, smoothed 0.91 and 0.01.",
        lambda: figures.of_smoothed_target(**_as_in("modern_label_smoothing", "label_smoothing")),
    ),
    "ldam_loss": Illustration(
        ".svg",
        "Bars of the margin of each class: 0.25 for happy, the largest class, 0.27 to 0.30 for most others, 0.50 for "
        "disgust, the smallest.",
        lambda: figures.of_margins(**_as_in("modern_ldam_drw", "ldam_loss")),
    ),
    "logit_adjusted_loss": Illustration(
        ".svg",
        "Bars of what is added to the logits while training, against happy: with tau 1 about -0.4 to -0.8 for most "
        "classes and -2.81 for disgust, with tau 0.5 half of it.",
        lambda: figures.of_added_logits("logit_adjusted_loss", _TAUS),
    ),
    "logit_adjustment": Illustration(
        ".svg",
        "Bars of what is added to the logits after training, against happy: with tau 1 about 0.4 to 0.8 for most "
        "classes and 2.81 for disgust, with tau 0.5 half of it.",
        lambda: figures.of_adjusted_logits(_TAUS),
    ),
    "mirror_views": Illustration(
        ".png",
        "A face of each class as it is, and its left-right mirror image below.",
        lambda: faces.of_mirror_views(),
    ),
    "mixup": Illustration(
        ".png",
        "A face of each class, and blends with other faces of the batch: with alpha 0.2 one of the two prevails in "
        "most, with alpha 1 both are seen in most.",
        lambda: faces.of_mixing("mixup", {"alpha": 0.2}, {"alpha": 1.0}),
    ),
    "power_sampler": Illustration(
        ".svg",
        "Bars of the rows drawn: as they stand from 1.5 % disgust to 25.1 % happy, with exponent 0.5 from 4.9 to 19.8 "
        "%, with exponent 1 14.3 % of each class.",
        lambda: figures.of_draws(_EXPONENTS),
    ),
    "random_erasing": Illustration(
        ".png",
        "A face of each class, and the same as shown in two epochs: a rectangle of noise covers part of some.",
        lambda: faces.of_batches("random_erasing", **_as_in("modern_random_erasing", "random_erasing")),
    ),
    "remix": Illustration(
        ".png",
        "Seven faces, three of them of disgust, and blends of them; a blend of disgust and a much larger class has "
        "the label disgust alone where disgust has more than half of the image.",
        lambda: faces.of_mixing(
            "remix",
            _as_in("modern_remix", "remix"),
            classes=("happy", "disgust", "sad", "disgust", "neutral", "disgust", "fear"),
        ),
    ),
    "tau_norm": Illustration(
        ".svg",
        "Bars of the lengths of weight vectors: as trained from 1.0 for disgust, the smallest class, to 3.3 for happy, "
        "the largest; with tau 0.5 from 1.0 to 1.8, with tau 1 all 1.",
        lambda: figures.of_weight_lengths(_TAUS),
    ),
    "ten_crop_views": Illustration(
        ".png",
        "One face as it is and moved towards each of the four corners, and the mirror images of these five.",
        lambda: faces.of_ten_crop_views(**_as_in("modern_ten_crop_views", "ten_crop_views")),
    ),
    "trivial_augment": Illustration(
        ".png",
        "A face of each class, and the same as shown in two epochs: each changed by one operation, such as darker, "
        "turned, slanted, with more contrast or partly inverted.",
        lambda: faces.of_batches("trivial_augment", **_as_in("modern_trivial_augment", "trivial_augment")),
    ),
    "weighted_loss": Illustration(
        ".svg",
        "Bars of class weights: with exponent 0.5 from 0.79 for happy to 3.2 for disgust, with exponent 1 from 0.57 "
        "to 9.4; all others about 1.",
        lambda: figures.of_class_weights("weighted_loss", _EXPONENTS),
    ),
}
"""For each strategy that comes with fer_augment a picture."""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.builder.pictures FOLDER")
    write_pictures(Path(sys.argv[1]))
