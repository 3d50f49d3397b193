"""Decoding of image files of any common format into gray or RGB pixels.

The format is detected from the content. Pixels are those of Pillow: EXIF orientation is applied; palette and CMYK
images become RGB; transparent images are composited over white; of 16-bit images the upper 8 bits are kept; color
profiles are ignored; animations and multi-page files give their first frame.
"""

from __future__ import annotations

import enum
import functools
import io
import re
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_augment.data.pixels import PixelSettings, crop_box, fitted, reduction, with_channels
from fer_augment.errors import DatasetError

if TYPE_CHECKING:
    from types import TracebackType

    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

IMAGE_SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif",
)  # fmt: skip
"""Suffixes of the formats that are read; a file with another suffix is read if its content is one of them."""
HEAD_BYTES = 64
"""Number of bytes from which `image_format` detects a format."""
MAX_PIXELS = 178_956_970
"""Number of pixels from which on Pillow refuses an image as a decompression bomb."""

_LEAST_LEFT = 2.0
"""Pixels per pixel that remain to be averaged after a jpeg image is decoded at a reduced size, which halves the time.

Mean absolute difference from averaging the full image, over 110 photographs of 512x384 and 448x336, four target sizes
and all fits: at most 0.8 of 255, and 2.1 in a single image. BOX and BILINEAR of Pillow differ by 1.4 and 5.9.
"""
_ORIENTATION = 0x0112
_TEXT_WITH_ORIENTATION = (b"XML:com.adobe.xmp", b"Raw profile type ")
_STEPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""Steps through rows and columns for each EXIF orientation, after the swap of both axes from 5 on."""
_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "BMP"),
    (re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d"), "PPM"),
    (re.compile(rb".{4}ftyp(?:.{4})*?avi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL), "HEIF"),
)
_NEEDS = {
    "HEIF": "is a HEIC image; install pillow-heif (pip install pillow-heif)",
    "AVIF": "is an AVIF image; install a Pillow that supports it (pip install -U pillow)",
}
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, AttributeError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise for damaged files."""


class Conversion(enum.IntFlag):
    """What was done to an image besides decoding it."""

    NONE = 0
    ORIENTED = enum.auto()
    PALETTE = enum.auto()
    ALPHA = enum.auto()
    CMYK = enum.auto()
    COLOR_SPACE = enum.auto()
    ONE_BIT = enum.auto()
    SIXTEEN_BITS = enum.auto()
    FIRST_FRAME = enum.auto()
    TO_COLOR = enum.auto()
    TO_GRAY = enum.auto()
    RESIZED = enum.auto()
    ENLARGED = enum.auto()


_OF_MODE = {
    "1": Conversion.ONE_BIT,
    "L": Conversion.NONE,
    "LA": Conversion.NONE,
    "P": Conversion.PALETTE,
    "PA": Conversion.PALETTE,
    "RGB": Conversion.NONE,
    "RGBA": Conversion.NONE,
    "CMYK": Conversion.CMYK,
}
"""Conversion of an image by its mode in Pillow, besides transparency."""
_IN_WORDS = {
    Conversion.ORIENTED: "rotated or mirrored by EXIF orientation",
    Conversion.PALETTE: "with a palette converted to RGB",
    Conversion.ALPHA: "with transparency composited over white",
    Conversion.CMYK: "converted from CMYK to RGB",
    Conversion.COLOR_SPACE: "converted from another color space to RGB",
    Conversion.ONE_BIT: "with 1 bit per pixel converted to 8 bits",
    Conversion.SIXTEEN_BITS: "with 16 bits per channel reduced to the upper 8 bits",
    Conversion.FIRST_FRAME: "with several frames or pages, of which the first was read",
    Conversion.TO_COLOR: "converted from gray to color",
    Conversion.TO_GRAY: "converted from color to gray",
    Conversion.RESIZED: "resized",
    Conversion.ENLARGED: "enlarged, as they were smaller",
}


class UndecodableImageError(DatasetError):
    """An image file cannot be decoded.

    Attributes:
        name: the file.
        reason: why, and what to do.
    """

    def __init__(self, name: str, reason: str) -> None:
        """Set the message `name: reason`."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[UndecodableImageError], tuple[str, str]]:
        """Pickle name and reason, for worker processes."""
        return UndecodableImageError, (self.name, self.reason)


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: `(H, W, C) uint8`, gray (C = 1) or RGB (C = 3).
        conversions: what was done to it.
    """

    pixels: NDArray[np.uint8]
    conversions: Conversion


class Decoder:
    """Decodes image files to the size and color of some settings; may be called from several threads at once.

    Used as a context manager, within which OpenCV logs nothing and Pillow gives no warnings, as these do not name the
    file. For some damaged files libjpeg and libtiff still print a line.

    Plain 8-bit gray and RGB files in jpeg and png are decoded by OpenCV, all others by Pillow. Both give the same
    pixels. OpenCV takes 0.2 times as long as Pillow for the 48x48 jpeg files of FER2013, 0.5 times for these in png,
    and 0.8 and 0.9 times for photographs of 512x384.
    """

    def __init__(self, settings: PixelSettings | None = None) -> None:
        """Decode to a size and color; by default, all images keep theirs."""
        self._settings = settings or PixelSettings()
        self._channels = self._settings.channel_count

    def __enter__(self) -> Decoder:
        """Silence OpenCV and Pillow."""
        from cv2.utils import logging

        self._level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif|fer_augment\.data\.decoding")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore log level and warnings."""
        from cv2.utils import logging

        self._warnings.__exit__(kind, error, traceback)
        logging.setLogLevel(self._level)

    def __call__(self, content: bytes, name: str) -> DecodedImage:
        """Decode a file.

        Args:
            content: the bytes of the file.
            name: the file, for messages.

        Raises:
            UndecodableImageError: if it is no image, or is damaged, too large or in an unsupported format.
        """
        try:
            header = _plain_header(content)
            image = _with_opencv(content, header, self._settings) if header else None
            if image is None:
                image = _with_pillow(content)
        except _UnreadableError as error:
            raise UndecodableImageError(name, str(error)) from error.__cause__
        if self._settings.size:
            # The decoder may have reduced a jpeg image already.
            image = _fitted(image, header.displayed_size if header else image.pixels.shape[:2], self._settings)
        if self._channels and image.pixels.shape[2] != self._channels:
            conversion = Conversion.TO_COLOR if self._channels == 3 else Conversion.TO_GRAY
            image = DecodedImage(with_channels(image.pixels, self._channels), image.conversions | conversion)
        return image


def image_format(head: bytes) -> str | None:
    """Return the format of an image file, as Pillow calls it, from its first `HEAD_BYTES` bytes; None if it is none."""
    return next((name for signature, name in _SIGNATURES if signature.match(head)), None)


def is_image(head: bytes) -> bool:
    """Return whether a file is an image of a supported format by its first `HEAD_BYTES` bytes, whatever its suffix.

    Files of the plain-text formats (P1 to P3) are not recognized: any text may start like these.
    """
    return image_format(head) is not None and not re.match(rb"P[1-3]", head)


def image_size(content: bytes) -> tuple[int, int] | None:
    """Return `(H, W)` of an image file, with EXIF orientation applied, from its header; None if it has none.

    Call it within a `Decoder`, which suppresses warnings.
    """
    try:
        header = _plain_header(content)
        if header is None:
            with _opened(content) as image:
                # Pillow has swapped the sides of tiff files.
                orientation = 1 if image.format == "TIFF" else _orientation_of(image)
                header = _Header((image.height, image.width), image.mode == "L", orientation)
    except _UnreadableError:
        return None
    return header.displayed_size


def notes_on(conversions: NDArray[np.integer]) -> tuple[str, ...]:
    """Return how many images were converted, one sentence per kind of conversion.

    Args:
        conversions: `(N,)` values of `Conversion`, one per image.
    """
    counts = {kind: int(np.count_nonzero(conversions & int(kind))) for kind in _IN_WORDS}
    return tuple(
        f"{count:,} {'image' if count == 1 else 'images'} {_IN_WORDS[kind]}" for kind, count in counts.items() if count
    )


class _UnreadableError(Exception):
    """A file cannot be decoded; the message is the reason, and what to do."""


class _Header(NamedTuple):
    """Header of a plain jpeg or png file.

    Attributes:
        size: `(H, W)` as stored, before orientation.
        is_gray: whether it has one channel.
        orientation: EXIF orientation, 1 to 8.
    """

    size: tuple[int, int]
    is_gray: bool
    orientation: int = 1

    @property
    def displayed_size(self) -> tuple[int, int]:
        """`(H, W)` with the orientation applied."""
        return self.size[::-1] if self.orientation >= 5 else self.size


# --- headers of jpeg and png


def _plain_header(content: bytes) -> _Header | None:
    """Return the header of a file that OpenCV decodes to the same pixels as Pillow, else None."""
    if content.startswith(b"\xff\xd8\xff"):
        header = _jpeg_header(content)
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        header = _png_header(content)
    else:
        return None
    if header:
        _refuse_too_large(*header.size)
    return header


def _refuse_too_large(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise _too_large()


def _too_large() -> _UnreadableError:
    return _UnreadableError(f"has more than {MAX_PIXELS:,} pixels by its header; reduce its size or remove it")


def _jpeg_header(content: bytes) -> _Header | None:
    """Return the header of an 8-bit gray or three-channel jpeg file, else None.

    Source: ITU-T T.81, annex B, for the markers; Exif 2.32, 4.7.2, for the segment with the orientation.
    """
    position, size, channels, exif, has_xmp = 2, None, 0, b"", False
    last = len(content) - 10  # the longest header read here, that of a frame, has 10 bytes
    while position <= last and content[position] == 0xFF:
        marker, start = content[position + 1], position + 4
        if marker == 0xDA:  # start of scan: all headers are read
            if not size or not all(size) or channels not in (1, 3):
                return None
            orientation = _orientation_in(exif) if exif else 1
            return None if has_xmp and orientation == 1 else _Header(size, channels == 1, orientation)
        position += 2 + (content[position + 2] << 8 | content[position + 3])
        if marker in (0xC0, 0xC1, 0xC2) and content[start] == 8:  # baseline, extended or progressive frame of 8 bits
            height, width, channels = struct.unpack_from(">HHB", content, start + 1)
            size = height, width
        elif marker == 0xE1 and content.startswith(b"Exif\0\0", start):
            if exif:
                return None  # in several segments; Pillow joins them
            exif = content[start:position]
        elif marker == 0xE1:
            has_xmp = has_xmp or b"tiff:Orientation" in content[start:position]  # Pillow uses it if EXIF has none
    return None


def _orientation_in(segment: bytes) -> int:
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(segment)
        return _valid_orientation(exif.get(_ORIENTATION))
    except _DAMAGED:  # damaged EXIF data, which says nothing about the pixels
        return 1


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_header(content: bytes) -> _Header | None:
    """Return the header of an 8-bit gray or RGB png file without transparency and orientation, else None.

    Chunks are checked, as libpng prints errors that cannot be silenced. Source: ISO/IEC 15948, 5.3 and 11.2.2.
    """
    position, size, channels = 8, None, 0
    while position + 12 <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        if zlib.crc32(memoryview(content)[position + 4 : end]) != int.from_bytes(content[end : end + 4]):
            return None
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack_from(">IIBB", content, position + 8)
            if depth != 8 or color not in (0, 2):  # gray, RGB
                return None
            size, channels = (height, width), 1 if color == 0 else 3
        elif kind in (b"tRNS", b"acTL", b"eXIf") or content.startswith(_TEXT_WITH_ORIENTATION, position + 8):
            return None
        elif kind == b"IEND":
            return _Header(size, channels == 1) if size else None
        position = end + 4
    return None


# --- decoders


def _with_opencv(content: bytes, header: _Header, settings: PixelSettings) -> DecodedImage | None:
    """Decode a plain jpeg or png file, a jpeg possibly at a reduced size; None if it is damaged."""
    import cv2

    divisor = _divisor(header, settings, settings.size) if settings.size and content.startswith(b"\xff\xd8") else 1
    try:
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), _flags(header.is_gray, divisor))
    except cv2.error:
        return None
    if image is None:
        return None
    pixels = np.asarray(image[..., None] if header.is_gray else image, np.uint8)
    if header.orientation == 1:
        return DecodedImage(pixels, Conversion.NONE)
    return DecodedImage(_oriented(pixels, header.orientation), Conversion.ORIENTED)


@functools.cache
def _flags(is_gray: bool, divisor: int) -> int:
    """Return what OpenCV needs to decode an image to gray or RGB, reduced, and to leave the orientation to us."""
    import cv2

    reduced: int = cv2.IMREAD_GRAYSCALE if divisor == 1 else getattr(cv2, f"IMREAD_REDUCED_GRAYSCALE_{divisor}")
    return reduced | cv2.IMREAD_IGNORE_ORIENTATION | (0 if is_gray else cv2.IMREAD_COLOR_RGB)


def _divisor(header: _Header, settings: PixelSettings, size: tuple[int, int]) -> int:
    """Return the factor by which a jpeg image is reduced while it is decoded: 8, 4, 2 or 1.

    The part of the image that is kept begins and ends at multiples of it, so that fitting the reduced image gives the
    same geometry.
    """
    shape, fit = header.displayed_size, settings.fit
    limit = reduction(shape, size, fit) / _LEAST_LEFT
    if limit < 2:
        return 1
    edges = (*shape, *crop_box(shape, size, fit))
    return next((divisor for divisor in (8, 4, 2) if divisor <= limit and not any(n % divisor for n in edges)), 1)


def _fitted(image: DecodedImage, shape: tuple[int, int], settings: PixelSettings) -> DecodedImage:
    """Fit an image to a size, if the shape of its file differs from it."""
    assert settings.size
    if shape == settings.size:
        return image
    conversions = image.conversions | Conversion.RESIZED
    if reduction(shape, settings.size, settings.fit) < 1:
        conversions |= Conversion.ENLARGED
    return DecodedImage(fitted(image.pixels, settings.size, settings.fit), conversions)


def _with_pillow(content: bytes) -> DecodedImage:
    from PIL import Image

    conversions = Conversion.NONE
    with _opened(content) as image:
        try:
            orientation = _orientation_of(image) if image.format == "TIFF" else 1  # Pillow rotates tiff files itself
            if image.format != "MPO" and getattr(image, "is_animated", False):
                conversions |= Conversion.FIRST_FRAME
            if _has_16_bits(image):
                conversions |= Conversion.SIXTEEN_BITS
            image.load()
            pixels, changes = _eight_bits(image)
            left_to_do = _orientation_of(image)
        except Image.DecompressionBombError as error:
            raise _too_large() from error
        except _DAMAGED as error:
            raise _damaged(image.format, error) from error
    if (orientation, left_to_do) != (1, 1):
        conversions |= Conversion.ORIENTED
    return DecodedImage(_oriented(pixels, left_to_do), conversions | changes)


def _opened(content: bytes) -> ImageFile:
    """Open a file with Pillow, with the decoder of the format that its first bytes show and no other."""
    from PIL import Image, UnidentifiedImageError, features

    name = image_format(content[:HEAD_BYTES])
    if name is None:
        what = "no supported image format" if content else "empty file"
        raise _UnreadableError(f"not a readable image ({what}); re-download or remove it")
    if name == "HEIF":
        try:
            import pillow_heif
        except ImportError as error:
            raise _UnreadableError(_NEEDS[name]) from error
        pillow_heif.register_heif_opener()
    try:
        image = Image.open(io.BytesIO(content), formats=(name,))
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except UnidentifiedImageError as error:
        if name == "AVIF" and not features.check("avif"):
            raise _UnreadableError(_NEEDS[name]) from error
        raise _damaged(name, error) from error
    except _DAMAGED as error:
        raise _damaged(name, error) from error
    _refuse_too_large(image.height, image.width)
    return image


def _damaged(name: str | None, error: Exception) -> _UnreadableError:
    state = "truncated" if "truncated" in str(error).lower() else "damaged"
    return _UnreadableError(f"not a readable image ({state} {name} file); re-download or remove it")


def _orientation_of(image: Image) -> int:
    try:
        return _valid_orientation(image.getexif().get(_ORIENTATION))
    except _DAMAGED:  # damaged EXIF data, which says nothing about the pixels
        return 1


def _has_16_bits(image: ImageFile) -> bool:
    """Return whether an image has 16 bits per channel; `load` reduces color images to 8 bits."""
    return any(
        ";16" in str(tile.args) or (image.format == "PPM" and isinstance(tile.args, tuple) and tile.args[-1] > 255)
        for tile in image.tile
    )


def _eight_bits(image: ImageFile) -> tuple[NDArray[np.uint8], Conversion]:
    """Return a loaded image as `(H, W, C) uint8`, gray or RGB, and the conversions that this took."""
    from PIL import Image

    mode, format_ = image.mode, image.format
    if mode.startswith("I;16") or (mode == "I" and format_ in ("PNG", "PPM")):
        samples = np.asarray(image)
        gray = (samples >> 8).astype(np.uint8)
        transparent = image.info.get("transparency")
        if transparent is None:
            return gray[..., None], Conversion.SIXTEEN_BITS
        gray[samples == transparent] = 255
        return gray[..., None], Conversion.SIXTEEN_BITS | Conversion.ALPHA
    if mode in ("I", "F"):
        raise _UnreadableError("has 32 bits per channel; convert it to 8 or 16 bits")
    conversions = _OF_MODE.get(mode, Conversion.COLOR_SPACE)
    target = "L" if mode in ("1", "L", "LA") else "RGB"
    converted: Image.Image = image
    if image.has_transparency_data:
        conversions |= Conversion.ALPHA
        white = Image.new("RGBA", image.size, "white")
        converted = Image.alpha_composite(white, image.convert("RGBA"))
    pixels = np.asarray(converted.convert(target))
    return (pixels[..., None] if target == "L" else pixels), conversions


def _oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return pixels as displayed. Source: Exif 2.32, 4.6.4, tag Orientation."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    row_step, column_step = _STEPS[orientation]
    return np.ascontiguousarray(pixels[::row_step, ::column_step])
