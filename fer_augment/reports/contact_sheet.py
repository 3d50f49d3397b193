"""Contact sheet of an audit: the worst groups of images, each image with class, split, row and file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_augment.data.audit_records import Audit, Row
from fer_augment.data.dataset import Splits, occurrence

Picture = NDArray[np.uint8]
"""`(height, width, 3) uint8`, BGR as in OpenCV."""

WIDTH = 1296
"""Width of the sheet in pixels."""
GROUPS = 30
"""Maximum number of groups of each kind."""
MEMBERS = 6
"""Maximum number of rows per group."""

_TILE = 96
_GAP = 8
_LINE = 16
_LETTERS = 19
_SHORT = {"train": "train", "validation": "val", "test": "test"}
_WHITE, _BLACK, _GRAY, _RED = (255, 255, 255), (0, 0, 0), (130, 130, 130), (40, 40, 200)


def contact_sheet(splits: Splits, audit: Audit) -> bytes | None:
    """Draw the worst groups of an audit, conflicting labels first, and the blank images.

    Args:
        splits: the data.
        audit: its audit.

    Returns:
        PNG file content; None if there are no such groups and images.
    """
    sections = (
        ("Exact duplicates", audit.identical.groups),
        ("Near duplicates", audit.near.groups),
        ("Mirrored duplicates", audit.mirrored.groups),
        ("Blank images", tuple((row,) for row in audit.blank_rows)),
    )
    if not any(groups for _, groups in sections):
        return None
    strips = [_line(ascii_text(splits.source), 0.5)]
    for title, groups in sections:
        shown = "" if len(groups) <= GROUPS else f" (worst {GROUPS} shown)"
        strips.append(_line(f"{title}: {len(groups):,}{shown}", 0.6))
        strips += _flow([_box(splits, group) for group in groups[:GROUPS]])
    return bytes(cv2.imencode(".png", np.vstack(strips))[1])


def ascii_text(text: str) -> str:
    """Replace characters missing from OpenCV's font with question marks."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _box(splits: Splits, group: Sequence[Row]) -> Picture:
    """Draw a group: number of rows and labels, and each image with class, split, row and file name."""
    labels = [row.label for row in group]
    is_conflicting = len(set(labels)) > 1
    first_of_each_label_first = np.argsort(occurrence(np.unique(labels, return_inverse=True)[1]), kind="stable")
    rows = [group[number] for number in first_of_each_label_first[:MEMBERS]]
    box = _blank(4 * _LINE + _TILE + _GAP, len(rows) * (_TILE + _GAP))
    if len(group) > 1:
        title = f"{len(group)} rows" + (f", {len(set(labels))} labels" if is_conflicting else "")
        _write(box, title, (0, _LINE - 4), 0.42, _RED if is_conflicting else _BLACK)
    for place, row in enumerate(rows):
        left, bottom = place * (_TILE + _GAP), _LINE + _TILE
        box[_LINE:bottom, left : left + _TILE] = _tile(splits.parts[row.split].images[[row.row]][0])
        _write(box, ascii_text(row.label)[:14], (left, bottom + 12), 0.38, _RED if is_conflicting else _BLACK)
        _write(box, f"{_SHORT[row.split]} {row.row}", (left, bottom + 12 + _LINE), 0.35, _GRAY)
        if row.file:
            _write(box, _short_name(row.file), (left, bottom + 12 + 2 * _LINE), 0.35, _GRAY)
    return box


def _short_name(file: str) -> str:
    """Return the end of a file name that fits below an image."""
    name = ascii_text(file.rsplit("/", 1)[-1])
    return name if len(name) <= _LETTERS else f"..{name[2 - _LETTERS :]}"


def _tile(image: NDArray[np.uint8]) -> Picture:
    """Fit an image `(H, W, C)` into a white square; small images are enlarged without interpolation."""
    height, width, channels = image.shape
    colored = image[..., ::-1] if channels == 3 else np.repeat(image[..., :1], 3, axis=2)
    scale = _TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = cv2.resize(
        np.ascontiguousarray(colored), size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    )
    tile = _blank(_TILE, _TILE)
    top, left = (_TILE - size[1]) // 2, (_TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = fitted
    return tile


def _flow(boxes: Iterable[Picture]) -> Iterator[Picture]:
    """Arrange boxes side by side in strips of the width of the sheet."""
    strip, left = None, WIDTH
    for box in boxes:
        if left + box.shape[1] > WIDTH:
            if strip is not None:
                yield strip
            strip, left = _blank(len(box), WIDTH), _GAP
        assert strip is not None
        strip[:, left : left + box.shape[1]] = box
        left += box.shape[1] + 2 * _GAP
    if strip is not None:
        yield strip


def _line(text: str, size: float) -> Picture:
    strip = _blank(2 * _LINE, WIDTH)
    _write(strip, text, (_GAP, _LINE + 6), size, _BLACK)
    return strip


def _write(picture: Picture, text: str, at: tuple[int, int], size: float, color: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), _WHITE, dtype=np.uint8)
