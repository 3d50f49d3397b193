"""Decoding of image files: the pixels of Pillow for every format, EXIF orientation, conversions, damaged files."""

from __future__ import annotations

import io
import os
import pickle
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from fer_augment.data.decoding import (
    HEAD_BYTES,
    MAX_PIXELS,
    Conversion,
    DecodedImage,
    Decoder,
    UndecodableImageError,
    image_format,
    image_size,
    is_image,
    notes_on,
)
from fer_augment.data.pixels import PixelSettings, fitted
from tests.image_formats import (
    FORMATS,
    SHAPE,
    example,
    exif,
    photograph,
    png_16_bits,
    png_text,
    reference,
    saved,
    with_png_chunk,
    xmp,
)


def decoded(content: bytes, settings: PixelSettings | None = None, name: str = "x") -> DecodedImage:
    with Decoder(settings) as decode:
        return decode(content, name)


def reason(content: bytes) -> str:
    """Return the message of the error for a file that cannot be decoded."""
    with pytest.raises(UndecodableImageError) as caught:
        decoded(content, name="folder/x.png")
    assert str(caught.value).startswith("folder/x.png: ")
    assert str(caught.value).isprintable()
    return caught.value.reason


# --- formats


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_equal_those_of_pillow(name):
    content = FORMATS[name]()
    pixels = decoded(content).pixels
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, reference(content))


@pytest.mark.parametrize(
    "name",
    ["color.png", "lossless.webp", "color.bmp", "color.tiff", "lzw.tif", "color.ppm", "animated.png", "pages.tif"],
)
def test_lossless_files_give_the_original_pixels(name):
    np.testing.assert_array_equal(decoded(FORMATS[name]()).pixels, photograph())


NONE = Conversion.NONE
CONVERSIONS = {
    "gray.png": NONE,
    "color.jpg": NONE,
    "several_pictures.jpg": NONE,
    "gray.pgm": NONE,
    "lossless.webp": NONE,
    "black_and_white.png": Conversion.ONE_BIT,
    "black_and_white.tif": Conversion.ONE_BIT,
    "palette.png": Conversion.PALETTE,
    "palette.gif": Conversion.PALETTE,
    "palette.bmp": Conversion.PALETTE,
    "palette_transparent.png": Conversion.PALETTE | Conversion.ALPHA,
    "transparent.gif": Conversion.PALETTE | Conversion.ALPHA,
    "gray_transparent.png": Conversion.ALPHA,
    "color_transparent.png": Conversion.ALPHA,
    "gray_alpha.png": Conversion.ALPHA,
    "color_alpha.webp": Conversion.ALPHA,
    "cmyk.jpg": Conversion.CMYK,
    "cmyk.tif": Conversion.CMYK,
    "lab.tif": Conversion.COLOR_SPACE,
    "animated.png": Conversion.FIRST_FRAME,
    "animated.gif": Conversion.PALETTE | Conversion.FIRST_FRAME,
    "pages.tif": Conversion.FIRST_FRAME,
}


@pytest.mark.parametrize(("name", "expected"), CONVERSIONS.items())
def test_conversions_are_recorded(name, expected):
    assert decoded(FORMATS[name]()).conversions == expected


def test_transparent_pixels_become_white():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    assert decoded(saved(image, "PNG")).pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize(
    "content",
    [
        png_16_bits(3),
        png_16_bits(1),
        saved(example("I;16"), "PNG"),
        saved(example("I;16"), "TIFF"),
        saved(example("I;16"), "PPM"),
        b"P6 7 11 65535\n" + (photograph().astype(">u2") * 257).astype(">u2").tobytes(),
    ],
    ids=["rgb png", "gray png", "Pillow's png", "tiff", "pgm", "ppm"],
)
def test_of_16_bits_the_upper_8_are_kept(content):
    image = decoded(content)
    assert image.conversions == Conversion.SIXTEEN_BITS
    np.testing.assert_array_equal(image.pixels.squeeze(), photograph(channels=image.pixels.shape[2]))


def test_a_transparent_16_bit_gray_becomes_white():
    gray = np.asarray(example("I;16"))
    content = saved(example("I;16"), "PNG")
    image = decoded(with_png_transparency(content, int(gray[3, 3])))
    assert image.conversions == Conversion.SIXTEEN_BITS | Conversion.ALPHA
    np.testing.assert_array_equal(image.pixels[..., 0], np.where(gray == gray[3, 3], 255, gray >> 8))


def with_png_transparency(content: bytes, gray: int) -> bytes:
    """Return a 16-bit gray png file with a transparent gray, in the chunk before the pixels."""
    chunk = with_png_chunk(b"\0" * 12, b"tRNS", gray.to_bytes(2))[:-12]
    start = content.index(b"IDAT") - 4
    return content[:start] + chunk + content[start:]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bits_are_refused(mode):
    assert reason(saved(Image.new(mode, (3, 3)), "TIFF")) == "has 32 bits per channel; convert it to 8 or 16 bits"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (64, 48), (3, 200)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"quality": 30}, {"subsampling": 0}, {"progressive": True}, {"optimize": True}]
)
def test_jpeg_pixels_are_within_the_rounding_of_decoders(height, width, channels, options):
    content = saved(Image.fromarray(photograph(height, width, channels)), "JPEG", **options)
    assert np.abs(decoded(content).pixels.astype(int) - reference(content)).max() <= 1


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_files_are_read_with_pillow_heif(orientation):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif.register_heif_opener()
    content = saved(Image.fromarray(photograph(64, 48)), "HEIF", exif=exif(orientation))
    image = decoded(content)
    assert image_size(content) == image.pixels.shape[:2] == ((64, 48) if orientation == 1 else (48, 64))
    np.testing.assert_array_equal(image.pixels, reference(content))


def test_heic_files_name_the_package_that_reads_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "install pillow-heif" in reason(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_avif_files_name_the_decoder_that_is_missing(monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    assert "install a Pillow that supports it" in reason(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1")


# --- orientation


def rotated(format_: str, orientation: int, **options) -> bytes:
    return saved(example(), format_, exif=exif(orientation), **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied(format_, orientation):
    content = rotated(format_, orientation)
    with Image.open(io.BytesIO(content)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    image = decoded(content)
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.shape[:2] == (SHAPE if orientation < 5 else SHAPE[::-1])
    assert image_size(content) == image.pixels.shape[:2]
    if format_ != "AVIF":  # its encoder stores the rotation in the picture
        assert image.conversions == (NONE if orientation == 1 else Conversion.ORIENTED)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_orientation_is_applied_to_gray_and_cmyk_jpeg_files(mode):
    content = saved(example(mode), "JPEG", exif=exif(6))
    np.testing.assert_array_equal(decoded(content).pixels, reference(content))
    assert Conversion.ORIENTED in decoded(content).conversions


@pytest.mark.parametrize(
    "content",
    [
        saved(example(), "JPEG", xmp=xmp(6)),
        saved(example(), "PNG", pnginfo=png_text("XML:com.adobe.xmp", xmp(6).decode())),
        with_png_chunk(saved(example(), "PNG"), b"eXIf", exif(6)[6:]),
    ],
    ids=["XMP in jpeg", "XMP in png", "png with EXIF after the pixels"],
)
def test_orientation_is_found_in_other_places_as_by_pillow(content):
    np.testing.assert_array_equal(decoded(content).pixels, np.rot90(reference(saved_again(content)), -1))
    assert decoded(content).conversions == Conversion.ORIENTED


def saved_again(content: bytes) -> bytes:
    """Return the pixels of a file, as stored, as a png file without metadata."""
    with Image.open(io.BytesIO(content)) as image:
        return saved(Image.fromarray(np.asarray(image)), "PNG")


@pytest.mark.parametrize("data", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", exif(9), exif(0), b"Exif\0\0garbage!"])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_data_is_ignored(format_, data):
    content = saved(example(), format_, exif=data)
    image = decoded(content)
    assert (image.pixels.shape[:2], image.conversions) == (SHAPE, NONE)


# --- size and color


@pytest.mark.parametrize("name", FORMATS)
def test_the_size_is_known_from_the_header(name):
    content = FORMATS[name]()
    assert image_size(content) == decoded(content).pixels.shape[:2]


def test_a_file_that_is_no_image_has_no_size():
    assert image_size(b"text") is None


def test_images_are_fitted_to_size_and_channels():
    image = decoded(FORMATS["color.png"](), PixelSettings((5, 5), "stretch", "gray"))
    expected = Image.fromarray(fitted(photograph(), (5, 5), "stretch")).convert("L")
    np.testing.assert_array_equal(image.pixels[..., 0], np.asarray(expected))
    assert image.conversions == Conversion.RESIZED | Conversion.TO_GRAY


@pytest.mark.parametrize(
    ("size", "fit", "is_enlarged"),
    [
        (SHAPE, "crop", None),
        ((5, 5), "crop", False),
        ((9, 9), "crop", True),
        ((9, 9), "pad", False),
        ((22, 22), "pad", True),
        ((9, 9), "stretch", True),
    ],
)
def test_resized_and_enlarged_images_are_recorded(size, fit, is_enlarged):
    conversions = decoded(FORMATS["color.png"](), PixelSettings(size, fit)).conversions
    assert (Conversion.RESIZED in conversions) == (is_enlarged is not None)
    assert (Conversion.ENLARGED in conversions) == bool(is_enlarged)


def test_gray_files_become_color_where_color_is_set():
    image = decoded(FORMATS["gray.png"](), PixelSettings(channels="color"))
    assert image.conversions == Conversion.TO_COLOR
    np.testing.assert_array_equal(image.pixels, np.repeat(reference(FORMATS["gray.png"]()), 3, axis=2))


def difference(content: bytes, settings: PixelSettings) -> float:
    """Return the mean absolute difference of a file decoded to a size from the full image fitted to it."""
    full = fitted(decoded(content).pixels, settings.size, settings.fit)
    return np.abs(decoded(content, settings).pixels.astype(int) - full).mean()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_files_decoded_at_a_reduced_size_are_close_to_the_full_ones(fit, orientation, channels):
    picture = Image.fromarray(photograph(400, 304, channels))
    content = saved(picture, "JPEG", quality=95, exif=exif(orientation), subsampling=0)
    assert 0 < difference(content, PixelSettings((48, 48), fit)) < 1


@pytest.mark.parametrize(("height", "width", "fit"), [(401, 303, "stretch"), (398, 304, "crop"), (300, 90, "crop")])
def test_jpeg_files_are_decoded_in_full_where_a_reduced_size_would_shift_them(height, width, fit):
    content = saved(Image.fromarray(photograph(height, width)), "JPEG")
    assert difference(content, PixelSettings((48, 48), fit)) == 0


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("side", [32, 64, 96])
def test_photographs_decoded_at_a_reduced_size_are_close_to_the_full_ones(side, fit):
    if not os.environ.get("TRASHNET"):
        pytest.skip("TRASHNET is not set")
    path = Path(os.environ["TRASHNET"])
    with zipfile.ZipFile(path / "trashnet_small.zip" if path.is_dir() else path) as archive:
        contents = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")][::15]
    differences = [difference(content, PixelSettings((side, side), fit)) for content in contents]
    assert 0 < np.mean(differences) < 0.4
    assert max(differences) < 1


# --- what is an image


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_told_from_the_first_bytes(name):
    head = FORMATS[name]()[:HEAD_BYTES]
    suffix = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff", "pgm": "ppm", "pbm": "ppm"}
    assert image_format(head).lower() == suffix.get(name.rpartition(".")[2], name.rpartition(".")[2])
    assert is_image(head) == (not name.startswith("text."))


@pytest.mark.parametrize(
    "head",
    [b"", b"text", b"BMW and BM\0\0\0\0\0\0\0\0\0\0\0\0", b"P7 1", b"P5 x", b"GIF", b"RIFF1234WAVE", b"II*", b"<svg/>"],
)
def test_other_files_are_no_images(head):
    assert image_format(head) is None
    assert not is_image(head)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "empty file"), (b"<html>404</html>", "no supported image format"), (b"GIF8", "no supported image format")],
)
def test_files_that_are_no_images_are_refused(content, expected):
    assert reason(content) == f"not a readable image ({expected}); re-download or remove it"


# --- damaged files


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_files_are_read_completely_or_refused(name):
    content = FORMATS[name]()
    whole = reference(content)
    refused = 0
    for length in range(1, len(content), max(1, len(content) // 40)):
        try:
            pixels = decoded(content[:length]).pixels
        except UndecodableImageError as error:
            assert "not a readable image" in error.reason
            refused += 1
        else:
            if name.startswith("text."):
                continue  # a shorter number is a number
            np.testing.assert_array_equal(pixels, whole)
    assert refused


@pytest.mark.parametrize("name", ["gray.jpg", "color.jpg", "progressive.jpe", "gray.png", "color.png"])
def test_truncated_jpeg_and_png_files_are_refused_in_silence(name, capfd):
    content = FORMATS[name]()
    for part in (2, 3):
        assert "not a readable image" in reason(content[: len(content) * (part - 1) // part])
    assert capfd.readouterr() == ("", ""), "OpenCV and Pillow print nothing"


def test_files_with_changed_bytes_are_read_or_refused():
    rng = np.random.default_rng(0)
    with Decoder() as decode:
        for make in FORMATS.values():
            for _ in range(20):
                content = bytearray(make())
                for position in rng.integers(0, len(content), 3):
                    content[position] = rng.integers(0, 256)
                try:
                    pixels = decode(bytes(content), "x").pixels
                except UndecodableImageError as error:
                    assert str(error).isprintable()
                else:
                    assert pixels.ndim == 3
                    assert pixels.shape[2] in (1, 3)
                image_size(bytes(content))


def huge_png() -> bytes:
    header = (60_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    start = with_png_chunk(b"\x89PNG\r\n\x1a\n" + b"\0" * 12, b"IHDR", header)[:-12]
    return with_png_chunk(with_png_chunk(start + b"\0" * 12, b"IDAT", b"x")[:-12] + b"\0" * 12, b"IEND", b"")[:-12]


BOMBS = {
    "png": huge_png(),
    "jpeg": saved(example(), "JPEG").replace(b"\0\x0b\0\x07\x03", b"\xff\xdc\xff\xdc\x03"),
    "bmp": saved(example(), "BMP").replace((7).to_bytes(4, "little"), (90_000_000).to_bytes(4, "little"), 1),
    "gif": saved(example("P"), "GIF").replace(b"\x07\0\x0b\0", b"\xff\xff\xff\xff"),
    "ppm": b"P6 60000 60000 255\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_decompression_bombs_are_refused(name):
    assert reason(BOMBS[name]) == f"has more than {MAX_PIXELS:,} pixels by its header; reduce its size or remove it"


def test_large_images_below_the_limit_are_read_without_a_warning():
    assert decoded(saved(Image.new("1", (10_000, 9_000)), "PNG")).pixels.shape == (9_000, 10_000, 1)


# --- the decoder


def test_warnings_and_log_level_are_restored():
    before = cv2.utils.logging.getLogLevel()
    with Decoder() as decode:
        decode(FORMATS["palette_translucent.png"](), "x")
    assert cv2.utils.logging.getLogLevel() == before
    with pytest.warns(UserWarning, match="still shown"):
        warnings.warn("still shown", stacklevel=1)


def test_a_decoder_is_used_from_several_threads():
    contents = [make() for make in FORMATS.values()] * 4
    with Decoder() as decode, ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda content: decode(content, "x").pixels, contents))
    for content, pixels in zip(contents, images, strict=True):
        np.testing.assert_array_equal(pixels, reference(content))


def test_errors_are_pickled_with_name_and_reason():
    error = pickle.loads(pickle.dumps(UndecodableImageError("a.png", "not a readable image")))
    assert (error.name, error.reason, str(error)) == ("a.png", "not a readable image", "a.png: not a readable image")


def test_conversions_are_counted_in_words():
    kinds = [Conversion.ORIENTED] * 3 + [Conversion.ORIENTED | Conversion.PALETTE] + [NONE] * 9
    assert notes_on(np.array([int(kind) for kind in kinds], np.uint16)) == (
        "4 images rotated or mirrored by EXIF orientation",
        "1 image with a palette converted to RGB",
    )
    assert notes_on(np.zeros(3, np.uint16)) == ()


def test_every_conversion_has_words():
    for kind in Conversion:
        assert len(notes_on(np.array([int(kind)], np.uint16))) == (kind != NONE)
