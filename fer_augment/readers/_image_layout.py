"""Which split and class an image file belongs to: folders say so, in the FER2013 image release also names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fer_augment import DatasetError, did_you_mean
from fer_augment.readers._conventions import SPLIT_NAMES, shown, split_called
from fer_augment.readers._image_members import Member

RELEASE_PREFIXES = {"PublicTest_": "validation", "PrivateTest_": "test"}
"""How the names of FER2013's images tell apart the two parts that lie in its folder `test`."""

EVERYTHING = "everything"
"""Stands for the split where a source has none."""

_ORDER = (*SPLIT_NAMES, EVERYTHING)
_KNOWN_FOLDERS = [name for names in SPLIT_NAMES.values() for name in names]


@dataclass(frozen=True)
class Place:
    """Where an image belongs.

    Attributes:
        member: its file.
        split: train, validation or test, or `EVERYTHING` in a source of plain class folders.
        class_name: the name of its class, as its folder has it.
    """

    member: Member
    split: str
    class_name: str


def places(source: str, members: Sequence[Member]) -> list[Place]:
    """Return the place of each image: `split/class/image`, or `class/image` in a source without splits.

    Folders around all of that are passed over. Train comes first, then validation, then test; within
    these the order is that of `members`.

    Raises:
        DatasetError: if an image lies elsewhere, or a split folder's name is not known; it names the first.
    """
    depth = _leading_folders(members)
    below = [member.parts[depth:] for member in members]
    has_splits = 2 * sum(len(parts) > 2 for parts in below) > len(below)
    if not has_splits and all(split_called(parts[0]) for parts in below):
        raise DatasetError(f"{shown(source)}: the split folders hold no class folders; expected split/class/image")
    found = []
    for member, parts in zip(members, below, strict=True):
        if len(parts) != 2 + has_splits:
            expected = "split/class/image" if has_splits else "class/image"
            raise DatasetError(f"{member.title}: does not lie in {expected} like the others; move it or take it away")
        if not parts[-2].isprintable():
            raise DatasetError(f"{member.title}: not all of the class's name is printable; rename the folder")
        split = _split_of(member, parts[0]) if has_splits else EVERYTHING
        found.append(Place(member, split, parts[-2]))
    if has_splits:
        _refuse_two_folders(source, {parts[0] for parts in below})
        found = _parted_by_prefix(found)
    return sorted(found, key=lambda place: _ORDER.index(place.split))


def _leading_folders(members: Sequence[Member]) -> int:
    """Return how many folders lie around the split or class folders."""
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
        raise DatasetError(f"{member.title}: expected split/class/image, but {shown(folder)!r} is no split{hint}")
    return split


def _refuse_two_folders(source: str, folders: Iterable[str]) -> None:
    by_split: dict[str | None, str] = {}
    for folder in sorted(folders):
        other = by_split.setdefault(split_called(folder), folder)
        if other != folder:
            both = f"{shown(other)} and {shown(folder)}"
            raise DatasetError(f"{shown(source)}: {both} are the same split; put them together")


def _parted_by_prefix(found: Sequence[Place]) -> list[Place]:
    """Part the folder `test` of the FER2013 image release into two splits; leave other sources alone.

    Raises:
        DatasetError: if only some names have one of the prefixes, as nobody can tell where the others belong.
    """
    parts = [_part_in_name(place) if place.split == "test" else place.split for place in found]
    in_names = {part for place, part in zip(found, parts, strict=True) if place.split == "test"}
    if not {"validation", "test"} <= in_names or any(place.split == "validation" for place in found):
        return list(found)
    for place, part in zip(found, parts, strict=True):
        if part is None:
            prefixes = " nor ".join(RELEASE_PREFIXES)
            raise DatasetError(f"{place.member.title}: begins with neither {prefixes}; rename it or take it away")
    return [replace(place, split=part) for place, part in zip(found, parts, strict=True) if part]


def _part_in_name(place: Place) -> str | None:
    name = place.member.parts[-1]
    return next((part for prefix, part in RELEASE_PREFIXES.items() if name.startswith(prefix)), None)
