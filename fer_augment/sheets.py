"""Sheets of pictures and text as PNG files, for galleries and feature maps.

Shapes: n pictures of height h and width w; H, W, C height, width and channels of an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_augment.errors import FerAugmentError

Picture = NDArray[np.uint8]
"""`(h, w, 3) uint8`, RGB."""

_DOTS_PER_INCH = 100
_MAX_HEIGHT = 1 << 16
"""Height at which Matplotlib refuses to draw, in pixels."""


@dataclass(eq=False)
class Sheet:
    """A white page that grows as text and pictures are added from the top.

    Attributes:
        width: in pixels.
        margin: around everything, in pixels.
    """

    width: int
    margin: int = 20
    _bottom: int = field(default=0, init=False)
    _pictures: list[tuple[int, int, Picture]] = field(default_factory=list, init=False)
    _texts: list[tuple[int, int, str, dict[str, Any]]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Start below the margin."""
        self._bottom = self.margin

    def write(self, text: str, *, size: int = 12, bold: bool = False, space_above: int = 0) -> None:
        """Add a line of text; `size` is its approximate height in pixels."""
        self._bottom += space_above
        self._put_text(self.margin, self._bottom, text, size, bold=bold)
        self._bottom += round(1.5 * size)

    def show(self, pictures: Sequence[Picture], captions: Sequence[str] = (), *, gap: int = 4) -> None:
        """Add equally sized pictures side by side in as many lines as needed, with optional captions below them."""
        if not pictures:
            return
        height, width = pictures[0].shape[:2]
        line_height = height + gap + (16 if captions else 0)
        columns = max(1, (self.width - 2 * self.margin + gap) // (width + gap))
        for index, picture in enumerate(pictures):
            line, column = divmod(index, columns)
            left, top = self.margin + column * (width + gap), self._bottom + line * line_height
            self._pictures.append((left, top, picture))
            if captions:
                self._put_text(left, top + height + 2, captions[index], 10)
        self._bottom += line_height * -(-len(pictures) // columns)

    def png(self) -> bytes:
        """Render the sheet as PNG.

        Raises:
            FerAugmentError: if it is too high for one image.
        """
        import cv2

        height = self._bottom + self.margin
        if height >= _MAX_HEIGHT:
            raise FerAugmentError(
                f"the sheet would be {height:,} pixels high, more than {_MAX_HEIGHT - 1:,}; use fewer pictures"
            )
        page = self._page_of_text(height)
        for left, top, picture in self._pictures:
            page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return bytes(cv2.imencode(".png", page[..., ::-1])[1])

    def _page_of_text(self, height: int) -> Picture:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        size = self.width / _DOTS_PER_INCH, height / _DOTS_PER_INCH
        canvas = FigureCanvasAgg(Figure(figsize=size, dpi=_DOTS_PER_INCH))
        for left, top, text, style in self._texts:
            canvas.figure.text(left / self.width, 1 - top / height, text, va="top", parse_math=False, **style)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # drawn as a box
            canvas.draw()  # type: ignore[no-untyped-call] # matplotlib is untyped here
        return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call] # as above

    def _put_text(self, left: int, top: int, text: str, size: int, *, bold: bool = False) -> None:
        style = {"fontsize": size * 72 / _DOTS_PER_INCH, "fontweight": "bold" if bold else "normal"}
        self._texts.append((left, top, text, style))


def picture_of(image: NDArray[np.uint8], side: int) -> Picture:
    """Scale an image `(H, W, C)` so that its longer side is at most `side` pixels, smaller images by an integer factor.

    If there are not one or three channels, their mean is shown.
    """
    import cv2

    pixels = image if image.shape[2] == 3 else image.mean(axis=2, keepdims=True).round().astype(np.uint8)
    scale = side / max(image.shape[:2])
    if scale > 1:
        scale = int(scale)
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    method = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    scaled = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method).reshape(height, width, -1)
    return np.asarray(np.broadcast_to(scaled, (height, width, 3)), np.uint8)


def side_by_side(pictures: Sequence[Picture], *, gap: int = 4) -> Picture:
    """Concatenate pictures of equal height horizontally, separated by white gaps."""
    space = np.full((len(pictures[0]), gap, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (space, picture)]
    return np.concatenate(parts[1:], axis=1)
