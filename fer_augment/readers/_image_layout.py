"""Split and class of image files, from folder names and, in the FER2013 image release, file names."""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath, PurePosixPath

from fer_augment import DatasetError, did_you_mean
from fer_augment.readers._conventions import (
    EVERYTHING,
    SPLIT_NAMES,
    class_order,
    counted,
    display_name,
    is_folder,
    split_called,
)
from fer_augment.readers._image_members import Member
from fer_augment.readers._tar_files import TAR_SUFFIXES, tar_files

RELEASE_PREFIXES = {"PublicTest_": "validation", "PrivateTest_": "test"}
"""File name prefixes that distinguish the two splits in the folder `test` of the FER2013 image release."""

NO_CLASSES = frozenset(["image", "images", "img", "imgs", "jpeg", "jpg", "jpegimages", "pic", "pics", "png"])
"""Folder names that are no class names, alone or with the name of a split or a number, such as `train_images`."""
UNLIKELY_CLASSES = NO_CLASSES | frozenset(
    ["aligned", "all", "cropped", "crops", "data", "dataset", "faces", "files", "frames", "original", "originals"]
    + ["photos", "pictures", "raw", "samples"]
)
"""Folder names that are no class names if all folders are called so."""
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

_ORDER = (*SPLIT_NAMES, EVERYTHING)
_KNOWN_FOLDERS = [name for names in SPLIT_NAMES.values() for name in names]
_DEEPEST_TABLE = 2


@dataclass(slots=True)  # not frozen, for the same reason as `Member`
class Place:
    """Split and class of an image.

    Attributes:
        member: image file.
        split: train, validation or test, or `EVERYTHING` in a source without splits.
        class_name: name of the class folder.
        folder: path of the folder of the split, or of the source without splits, relative to the source.
    """

    member: Member
    split: str
    class_name: str
    folder: str


def places(source: str, members: Sequence[Member]) -> list[Place]:
    """Return split and class of each image from `split/class/image` or, in a source without splits, `class/image`.

    Common parent folders are ignored. Images are ordered by split (train, validation, test), then as in `members`.

    Raises:
        DatasetError: if images are in unexpected folders, a split name is unknown, the train or the test split is
            missing, or the folders are no classes; the message names the first three images or folders.
    """
    depth = _leading_folders(members)
    above = [member.parts[depth:-1] for member in members]  # the folders of each image below the common ones
    counts = Counter(above)  # far fewer than images
    has_splits = 2 * sum(count for folders, count in counts.items() if len(folders) > 1) > len(members)
    if set(counts) == {()}:
        raise _no_classes(source, "all images are in one folder")
    if not has_splits and all(folders and split_called(folders[0]) for folders in counts):
        raise _no_classes(source, "the split folders have no class folders; expected split/class/image")
    expected = "split/class/image" if has_splits else "class/image"

    def members_in(is_wrong: Callable[[tuple[str, ...]], bool]) -> list[Member]:
        wrong = set(filter(is_wrong, counts))
        return [member for member, folders in zip(members, above, strict=True) if folders in wrong] if wrong else []

    misplaced = members_in(lambda folders: len(folders) != 1 + has_splits)
    _refuse(source, misplaced, f"not in {expected} like the other images; move or remove")
    unprintable = members_in(lambda folders: not folders[-1].isprintable())
    _refuse(source, unprintable, "the class name has unprintable characters; rename the folder of")
    if has_splits:
        _refuse_unknown_splits(source, members_in(lambda folders: split_called(folders[0]) is None), depth)
        _refuse_two_folders(source, {folders[0] for folders in counts})
    place_of = {}
    for folders in counts:
        split = split_called(folders[0]) if has_splits else None
        folder = "/".join((*members[0].parts[:depth], *folders[:has_splits]))
        place_of[folders] = split or EVERYTHING, folders[-1], folder
    images = [Place(member, *place_of[folders]) for member, folders in zip(members, above, strict=True)]
    if has_splits:
        images = _split_by_prefix(source, images)
    _refuse_folders_without_classes(source, sorted({image.class_name for image in images}))
    if has_splits:
        _refuse_missing_splits(source, images)
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


def _refuse(source: str, members: Sequence[Member], reason: str) -> None:
    """Refuse images, if any, by their number and the names of the first three."""
    if members:
        it = "it" if len(members) == 1 else "them"
        raise DatasetError(f"{_about(source, members)}: {reason} {it}")


def _about(source: str, members: Sequence[Member]) -> str:
    if len(members) == 1:
        path = os.path.join(source, *members[0].parts)
        return display_name(path) if is_folder(source) else f"{display_name(source)}: {members[0].name}"
    return f"{display_name(source)}: {counted([display_name('/'.join(member.parts)) for member in members])}"


def _refuse_unknown_splits(source: str, unknown: Sequence[Member], depth: int) -> None:
    if unknown:
        names = sorted({member.parts[depth] for member in unknown})
        listed = repr(display_name(names[0])) if len(names) == 1 else counted(list(map(display_name, names)), "folders")
        verb = "is not a split" if len(names) == 1 else "are not splits"
        hint = did_you_mean(names[0], _KNOWN_FOLDERS)
        raise DatasetError(f"{_about(source, unknown)}: expected split/class/image, but {listed} {verb}{hint}")


def _refuse_two_folders(source: str, folders: Iterable[str]) -> None:
    by_split: dict[str | None, str] = {}
    for folder in sorted(folders):
        other = by_split.setdefault(split_called(folder), folder)
        if other != folder:
            both = f"{display_name(other)} and {display_name(folder)}"
            raise DatasetError(f"{display_name(source)}: {both} are the same split; merge the folders")


def _split_by_prefix(source: str, images: Sequence[Place]) -> list[Place]:
    """Divide the folder `test` of the FER2013 image release into validation and test; leave other sources unchanged.

    Raises:
        DatasetError: if only some file names in the folder have one of the prefixes.
    """
    splits = [_split_in_name(image) if image.split == "test" else image.split for image in images]
    in_names = {split for image, split in zip(images, splits, strict=True) if image.split == "test"}
    if not {"validation", "test"} <= in_names or any(image.split == "validation" for image in images):
        return list(images)
    without = [image.member for image, split in zip(images, splits, strict=True) if split is None]
    _refuse(source, without, f"name does not start with {' or '.join(RELEASE_PREFIXES)}; rename or remove")
    return [
        image if image.split == split else replace(image, split=split)
        for image, split in zip(images, splits, strict=True)
        if split
    ]


def _split_in_name(image: Place) -> str | None:
    name = image.member.parts[-1]
    return next((split for prefix, split in RELEASE_PREFIXES.items() if name.startswith(prefix)), None)


# --- folders that are no classes


def _refuse_folders_without_classes(source: str, names: Sequence[str]) -> None:
    plain = [_plain(name) for name in names]
    listed = counted([display_name(name) for name in names], "folders")
    if len(names) == 1:
        raise _no_classes(source, f"{listed} is the only class folder")
    if all(name in UNLIKELY_CLASSES for name in plain):
        raise _no_classes(source, f"{listed}: these folders are no classes")
    of_images = [display_name(name) for name, letters in zip(names, plain, strict=True) if letters in NO_CLASSES]
    if of_images:
        raise _no_classes(source, f"{counted(of_images, 'folders')} among the class folders: not a class")


def _plain(name: str) -> str:
    """Return the letters of a folder name, without the name of a split at either end."""
    words = [word for word in re.split(r"[^a-z]+", name.casefold()) if word]
    while len(words) > 1 and split_called(words[0]):
        words.pop(0)
    while len(words) > 1 and split_called(words[-1]):
        words.pop()
    return "".join(words)


def _no_classes(source: str, reason: str) -> DatasetError:
    """Return the error for images without class folders; it names a table beside them."""
    title = display_name(source)
    tables = _tables(source)
    if tables and is_folder(source):
        hint = f"pass the table of the labels: --data {display_name(os.path.join(source, tables[0]))}"
    elif tables:
        hint = f"unpack it and pass the table of the labels: --data {display_name(tables[0])}"
    else:
        hint = "or pass a table of file names and labels: --data labels.csv"
    do = hint if tables else f"make one folder per class, named like the class, {hint}"
    return DatasetError(f"{title}: {reason}; {do}")


def _tables(source: str) -> list[str]:
    """Return the paths of tables relative to the source, those of the upper folders first; never raises."""
    names = _files_above(source, _DEEPEST_TABLE) if is_folder(source) else _names_in_archive(source)
    is_hidden = re.compile(r"(^|/)(\.|__MACOSX/)").search
    tables = [name for name in names if name.lower().endswith(TABLE_SUFFIXES) and not is_hidden(name)]
    return sorted(tables, key=lambda name: (name.count("/"), name))


def _names_in_archive(source: str) -> list[str]:
    try:
        if source.lower().endswith(TAR_SUFFIXES):
            return [member.path for member in tar_files(source)]
        with zipfile.ZipFile(source) as archive:
            return archive.namelist()
    except (OSError, DatasetError, zipfile.BadZipFile):
        return []


def _files_above(folder: str, depth: int) -> list[str]:
    """Return the files of a folder and of its subfolders up to a depth."""
    files = []
    for above, subfolders, names in os.walk(folder):
        parts = PurePath(os.path.relpath(above, folder)).parts
        subfolders[:] = [name for name in subfolders if len(parts) < depth]
        files += [PurePath(*parts, name).as_posix() for name in names]
    return files


# --- splits


def _refuse_missing_splits(source: str, images: Sequence[Place]) -> None:
    folder_of = {image.split: image.folder for image in images}
    title = display_name(source)
    if "train" not in folder_of:
        raise DatasetError(f"{title}: the train split is empty; add a folder train with class folders")
    if "test" not in folder_of:
        raise DatasetError(f"{title}: the test split is empty; {_without_test(source, folder_of)}")
    class_names, label_of = class_order(image.class_name for image in images)
    labels = defaultdict[str, set[int]](set)
    for split, class_name in {(image.split, image.class_name) for image in images}:
        labels[split].add(label_of[class_name])
    for split in folder_of:
        missing = [display_name(class_names[label]) for label in sorted(labels[split] - labels["train"])]
        if missing:
            raise DatasetError(
                f"{title}: the {split} split has rows of {', '.join(missing)}, the train split has none; "
                f"add images of {'it' if len(missing) == 1 else 'them'} to train, or remove the folder from {split}"
            )


def _without_test(source: str, folder_of: Mapping[str, str]) -> str:
    """Return what to do without a test split."""
    if "validation" in folder_of:
        folder = display_name(folder_of["validation"])
        renamed = display_name(str(PurePosixPath(folder_of["validation"]).with_name("test")))
        return f"rename the folder {folder} to {renamed}, and a validation split is split off from train"
    advice = "add a folder test with class folders"
    if is_folder(source):
        train = display_name(os.path.join(source, folder_of["train"]))
        advice += f", or pass {train} to have validation and test split off"
    return advice
