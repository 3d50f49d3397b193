"""Generator of the pictures in docs/strategies.md: the effect of each shipped strategy on demo faces or numbers.

`python -m docs.builder.pictures docs/pictures` regenerates them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.builder import faces, figures
from fer_augment import import_with_torchvision
from fer_augment.recipe.recipe import load_recipe


@dataclass(frozen=True)
class Illustration:
    """A picture of the effect of a strategy.

    Attributes:
        suffix: `.png` for faces, `.svg` for charts.
        alt: alternative text.
        draw: returns the content of the file.
        needs: a distribution of an extra; without it, the present file is kept.
    """

    suffix: str
    alt: str
    draw: Callable[[], bytes]
    needs: str = ""

    @property
    def is_drawable(self) -> bool:
        """Whether what the strategy needs can be imported."""
        try:
            import_with_torchvision(self.needs or "fer_augment")
        except ImportError:
            return False
        return True


def write_pictures(folder: Path) -> None:
    """Write all pictures into a folder, which is created if missing, and delete other pictures in it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}{illustration.suffix}": illustration for name, illustration in ILLUSTRATIONS.items()}
    for file, illustration in files.items():
        if illustration.is_drawable:
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
        "Six faces, and their appended copies: slightly rotated, shifted, brightened, darkened or blurred.",
        lambda: faces.of_copies("albumentations", **_as_in("albumentations", "albumentations")),
    ),
    "balanced_softmax": Illustration(
        ".svg",
        "Bars of the values added to the logits in training: 0 for happy, the largest class, about -0.4 to -0.8 for "
        "most others, -2.81 for disgust, the smallest.",
        lambda: figures.of_added_logits("balanced_softmax", {"balanced_softmax": {}}),
    ),
    "class_balanced_loss": Illustration(
        ".svg",
        "Bars of class weights: with beta 0.999 about 1 for all classes except disgust, which gets 2.7; with beta "
        "0.9999 from 0.65 for happy to 7.9 for disgust.",
        lambda: figures.of_class_weights(
            "class_balanced_loss", {"beta 0.999": {"beta": 0.999}, "beta 0.9999": {"beta": 0.9999}}
        ),
    ),
    "cmo": Illustration(
        ".png",
        "A face of each class, and the same faces with a rectangle of another face pasted into most of them.",
        lambda: faces.of_mixing("cmo", {"alpha": 1.0, "probability": 1.0}),
    ),
    "confusion_mirror": Illustration(
        ".png",
        "Seven sad faces with slight expressions that the scout predicts as neutral, with their mirror images below.",
        lambda: faces.of_confusion_mirror(**_as_in("confusion_mirror_oof", "confusion_mirror")),
    ),
    "confusion_mix": Illustration(
        ".png",
        "A face of each class, and blends with a face of a class that the scout confuses with their own, mostly "
        "disgust.",
        lambda: faces.of_mixing("confusion_mix", {"alpha": 1.0}),
    ),
    "crt": Illustration(
        ".svg",
        "Bars of the share of each class among the rows drawn: in training from 1.5 % disgust to 25.1 % happy, in the "
        "second stage 14.3 % for each class.",
        lambda: figures.of_second_stage(**_as_in("modern_crt", "crt")),
    ),
    "cutmix": Illustration(
        ".png",
        "A face of each class, and the same faces with a pasted rectangle of another face; labels are mixed by area.",
        lambda: faces.of_mixing("cutmix", {"alpha": 1.0}),
    ),
    "dedup": Illustration(
        ".png",
        "Seven rows: a face labeled neutral twice, of which one row is kept; a face labeled happy twice and sad once, "
        "of which one happy row is kept; a face labeled fear and surprise, of which none is kept.",
        lambda: faces.of_dedup(**_as_in("dedup", "dedup")),
    ),
    "difficulty_sampler": Illustration(
        ".svg",
        "Bars of the share of each class among the rows drawn if the recall in training is that of the report's model "
        "5: unweighted 25.1 % happy and 1.5 % disgust; with tau 1 happy about 9 %; disgust 2 %.",
        lambda: figures.of_difficulty(
            {
                "angry": 0.484,
                "disgust": 0.363,
                "fear": 0.365,
                "happy": 0.86,
                "sad": 0.503,
                "surprise": 0.721,
                "neutral": 0.629,
            },
            {"tau 1": {"tau": 1}, "tau null": {"tau": None}},
        ),
    ),
    "flip_crop_affine": Illustration(
        ".png",
        "A face of each class, and the same faces augmented in two epochs: some flipped, all slightly shifted, rotated "
        "and scaled.",
        lambda: faces.of_batches("flip_crop_affine", **_as_in("modern", "flip_crop_affine")),
    ),
    "focal_loss": Illustration(
        ".svg",
        "Curves of the loss over the predicted probability of the row's class, for gamma 0, 1, 2 and 5: all start near "
        "4 and end at 0; the larger gamma, the earlier they approach 0.",
        lambda: figures.of_focal_loss((0, 1, 2, 5)),
    ),
    "hard_examples": Illustration(
        ".png",
        "For each class the hardest repeated row, with 5 to 9 % for its own class and 46 to 80 % for another one; "
        "below them excluded rows, whose own class has a probability close to 0.",
        lambda: faces.of_hard_examples(**_as_in("hard_examples", "hard_examples")),
    ),
    "imb_sam": Illustration(
        ".svg",
        "Bars of the share of a row's loss whose gradient is taken at moved weights: with SAM 1 for all classes, with "
        "imb_sam 1 for the small classes and 0 for the others.",
        lambda: figures.of_moved_rows(
            {
                "sam": {"strategy": "sam"},
                "imb_sam": {"strategy": "imb_sam"},
                "imb_sam, tail_below 1000": {"strategy": "imb_sam", "tail_below": 1000},
            }
        ),
    ),
    "imblearn": Illustration(
        ".png",
        "Six faces, a neighbor of each in its class, and the synthetic rows of SMOTE: interpolations of the two.",
        lambda: faces.of_blends(**_as_in("smote", "imblearn")),
    ),
    "kornia": Illustration(
        ".png",
        "Six faces, and their appended copies: some mirrored, slightly rotated, shifted, scaled or brightened.",
        lambda: faces.of_copies("kornia", **_as_in("kornia", "kornia")),
        needs="kornia",
    ),
    "label_aware_smoothing": Illustration(
        ".svg",
        "Bars of the smoothing of each class: 0.3 for happy, 0 for disgust; for the others about 0.2 with the concave "
        "and 0.1 with the convex shape.",
        lambda: figures.of_class_smoothing(
            "label_aware_smoothing", {shape: {"shape": shape} for shape in ("concave", "linear", "convex")}
        ),
    ),
    "label_smoothing": Illustration(
        ".svg",
        "Bars of the target of a happy row: one-hot 1 for happy and 0 for the others, smoothed 0.91 and 0.01.",
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
        "Bars of the values added to the logits in training, relative to happy: with tau 1 about -0.4 to -0.8 for most "
        "classes and -2.81 for disgust, with tau 0.5 half of that.",
        lambda: figures.of_added_logits("logit_adjusted_loss", _TAUS),
    ),
    "logit_adjustment": Illustration(
        ".svg",
        "Bars of the values added to the logits after training, relative to happy: with tau 1 about 0.4 to 0.8 for "
        "most classes and 2.81 for disgust, with tau 0.5 half of that.",
        lambda: figures.of_adjusted_logits(_TAUS),
    ),
    "mirror_views": Illustration(
        ".png",
        "A face of each class, and its left-right mirror image below.",
        lambda: faces.of_mirror_views(),
    ),
    "mixup": Illustration(
        ".png",
        "A face of each class, and blends with other faces of the batch: with alpha 0.2 one of the two faces dominates "
        "in most of them, with alpha 1 both are visible in most.",
        lambda: faces.of_mixing("mixup", {"alpha": 0.2}, {"alpha": 1.0}),
    ),
    "power_sampler": Illustration(
        ".svg",
        "Bars of the share of each class among the rows drawn: unweighted from 1.5 % disgust to 25.1 % happy, with "
        "exponent 0.5 from 4.9 to 19.8 %, with exponent 1 14.3 % for each class.",
        lambda: figures.of_draws(_EXPONENTS),
    ),
    "random_erasing": Illustration(
        ".png",
        "A face of each class, and the same faces augmented in two epochs: a rectangle of noise covers part of some.",
        lambda: faces.of_batches("random_erasing", **_as_in("modern_random_erasing", "random_erasing")),
    ),
    "remix": Illustration(
        ".png",
        "Seven faces, three of them of disgust, and blends of them; the label of a blend of disgust and a much larger "
        "class is disgust alone if disgust has more than half of the image.",
        lambda: faces.of_mixing(
            "remix",
            _as_in("modern_remix", "remix"),
            classes=("happy", "disgust", "sad", "disgust", "neutral", "disgust", "fear"),
        ),
    ),
    "sam": Illustration(
        ".svg",
        "A loss with a sharp and a flat minimum over a weight, and the loss where SAM takes the gradient: the sharp "
        "minimum is lower, but where SAM looks it is higher than the flat one.",
        lambda: figures.of_worst_loss(rho=0.3),
    ),
    "sup_con_loss": Illustration(
        ".svg",
        "Curves of the loss that is added to a row over the cosine to the only row of its class, for temperatures 0.1, "
        "0.3 and 1: it falls the steeper, the smaller the temperature.",
        lambda: figures.of_contrast({f"temperature {value}": {"temperature": value} for value in (0.1, 0.3, 1)}),
    ),
    "tau_norm": Illustration(
        ".svg",
        "Bars of the norms of weight vectors: as trained from 1.0 for disgust, the smallest class, to 3.3 for happy, "
        "the largest; with tau 0.5 from 1.0 to 1.8, with tau 1 all 1.",
        lambda: figures.of_weight_norms("tau_norm", _TAUS),
    ),
    "temperature_scaling": Illustration(
        ".svg",
        "Lines of the probability of one of two classes: with temperature 2 nearer to 0.5 than before, with "
        "temperature 0.5 farther from it.",
        lambda: figures.of_temperatures((1, 2, 0.5)),
    ),
    "ten_crop_views": Illustration(
        ".png",
        "One face, unchanged and shifted toward each of the four corners, and the mirror images of these five views.",
        lambda: faces.of_ten_crop_views(**_as_in("modern_ten_crop_views", "ten_crop_views")),
    ),
    "torchvision": Illustration(
        ".png",
        "Six faces, and their appended copies made by torchvision: some mirrored, slightly turned, moved or of another "
        "brightness and contrast.",
        lambda: faces.of_copies("torchvision", **_as_in("torchvision", "torchvision")),
        needs="torchvision",
    ),
    "trivial_augment": Illustration(
        ".png",
        "A face of each class, and the same faces augmented in two epochs: each changed by one operation, such as "
        "brightness, rotation, shear, contrast or solarization.",
        lambda: faces.of_batches("trivial_augment", **_as_in("modern_trivial_augment", "trivial_augment")),
    ),
    "weight_balancing": Illustration(
        ".svg",
        "Bars of the norms of weight vectors: as trained from 1.01 for disgust to 3.33 for happy; with limit 0.5 none "
        "is above 2.17, with limit 0.1 none is above 1.24.",
        lambda: figures.of_weight_norms(
            "weight_balancing", {f"limit {limit:g}": {"limit": limit} for limit in (0.5, 0.1)}
        ),
    ),
    "weighted_loss": Illustration(
        ".svg",
        "Bars of class weights: with exponent 0.5 from 0.79 for happy to 3.2 for disgust, with exponent 1 from 0.57 "
        "to 9.4; those of the other classes are about 1.",
        lambda: figures.of_class_weights("weighted_loss", _EXPONENTS),
    ),
}
"""The picture of each shipped strategy."""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.builder.pictures FOLDER")
    write_pictures(Path(sys.argv[1]))
