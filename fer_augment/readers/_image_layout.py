"""Split and class of image files, from folder names and, in the FER2013 image release, file names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fer_augment import DatasetError, did_you_mean
from fer_augment.readers._conventions import EVERYTHING, SPLIT_NAMES, display_name, split_called
from fer_augment.readers._image_members import Member

RELEASE_PREFIXES = {"PublicTest_": "validation", "PrivateTest_": "test"}
"""File name prefixes that distinguish the two splits in the folder `test` of the FER2013 image release."""

_ORDER = (*SPLIT_NAMES, EVERYTHING)
_KNOWN_FOLDERS = [name for names in SPLIT_NAMES.values() for name in names]


@dataclass(frozen=True)
class Place:
    """Split and class of an image.

    Attributes:
        member: image file.
        split: train, validation or test, or `EVERYTHING` in a source without splits.
        class_name: name of the class folder.
    """

    member: Member
    split: str
    class_name: str


def places(source: str, members: Sequence[Member]) -> list[Place]:
    """Return split and class of each image from `split/class/image` or, in a source without splits, `class/image`.

    Common parent folders are ignored. Images are ordered by split (train, validation, test), then as in `members`.

    Raises:
        DatasetError: if an image is in an unexpected folder, or a split name is unknown; the message names the first.
    """
    depth = _leading_folders(members)
    below = [member.parts[depth:] for member in members]
    has_splits = 2 * sum(len(parts) > 2 for parts in below) > len(below)
    if not has_splits and all(split_called(parts[0]) for parts in below):
        raise DatasetError(
            f"{display_name(source)}: the split folders have no class folders; expected split/class/image"
        )
    images = []
    for member, parts in zip(members, below, strict=True):
        if len(parts) != 2 + has_splits:
            expected = "split/class/image" if has_splits else "class/image"
            raise DatasetError(f"{member.title}: not in {expected} like the other images; move or remove it")
        if not parts[-2].isprintable():
            raise DatasetError(f"{member.title}: the class name has unprintable characters; rename the folder")
        split = _split_of(member, parts[0]) if has_splits else EVERYTHING
        images.append(Place(member, split, parts[-2]))
    if has_splits:
        _refuse_two_folders(source, {parts[0] for parts in below})
        images = _split_by_prefix(images)
    return sorted(images, key=lambda place: _ORDER.index(place.split))


def _leading_folders(members: Sequence[Member]) -> int:
    """Return the number of common parent folders of the split or class folders."""
    depth = 0
    while 2 * sum(len(member.parts) > depth + 2 for member in members) > len(members):
        names = {member.parts[depth : depth + 1] for member in members}
        if len(names) > 1 or split_called(members[0].parts[depth]):
            break
        depth += 1
    return depth


def _split_of(member: Member, folder: str) -> str:
    split = split_called(folder)
    if split is None:
        hint = did_you_mean(folder, _KNOWN_FOLDERS)
        raise DatasetError(
            f"{member.title}: expected split/class/image, but {display_name(folder)!r} is not a split{hint}"
        )
    return split


def _refuse_two_folders(source: str, folders: Iterable[str]) -> None:
    by_split: dict[str | None, str] = {}
    for folder in sorted(folders):
        other = by_split.setdefault(split_called(folder), folder)
        if other != folder:
            both = f"{display_name(other)} and {display_name(folder)}"
            raise DatasetError(f"{display_name(source)}: {both} are the same split; merge the folders")


def _split_by_prefix(images: Sequence[Place]) -> list[Place]:
    """Divide the folder `test` of the FER2013 image release into validation and test; leave other sources unchanged.

    Raises:
        DatasetError: if only some file names in the folder have one of the prefixes.
    """
    splits = [_split_in_name(image) if image.split == "test" else image.split for image in images]
    in_names = {split for image, split in zip(images, splits, strict=True) if image.split == "test"}
    if not {"validation", "test"} <= in_names or any(image.split == "validation" for image in images):
        return list(images)
    for image, split in zip(images, splits, strict=True):
        if split is None:
            prefixes = " or ".join(RELEASE_PREFIXES)
            raise DatasetError(f"{image.member.title}: name does not start with {prefixes}; rename or remove it")
    return [replace(image, split=split) for image, split in zip(images, splits, strict=True) if split]


def _split_in_name(image: Place) -> str | None:
    name = image.member.parts[-1]
    return next((split for prefix, split in RELEASE_PREFIXES.items() if name.startswith(prefix)), None)
