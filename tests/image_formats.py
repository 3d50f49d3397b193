"""Image files of every format that is read, with the pixels that Pillow gives for them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

SHAPE = (11, 7)
"""Height and width of the examples."""
ORIENTATION = 0x0112


def photograph(height: int = SHAPE[0], width: int = SHAPE[1], channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return a `(height, width, channels) uint8` picture with smooth areas and fine detail, or `(height, width)`."""
    rng = np.random.default_rng(seed)
    waves = [
        np.sin(np.outer(np.linspace(0, rng.uniform(2, 9), height), np.linspace(1, rng.uniform(2, 9), width)))
        for _ in range(channels)
    ]
    noise = rng.normal(0, 12, (height, width, channels))
    image = np.clip(127 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
    return image[..., 0] if channels == 1 else image


def saved(image: Image.Image, format_: str, **options) -> bytes:
    """Encode an image with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def reference(content: bytes) -> np.ndarray:
    """Return the pixels of a file of 8 bits or less per channel, `(H, W, C) uint8`, by Pillow's own functions."""
    with Image.open(io.BytesIO(content)) as opened:
        gray = opened.mode in ("1", "L", "LA")
        image = ImageOps.exif_transpose(opened)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    pixels = np.asarray(image.convert("L" if gray else "RGB"))
    return pixels[..., None] if gray else pixels


def example(mode: str = "RGB") -> Image.Image:
    """Return a picture in one of Pillow's modes."""
    color = Image.fromarray(photograph())
    if mode in ("LA", "RGBA"):
        image = color.convert(mode)
        image.putalpha(Image.fromarray(photograph(channels=1, seed=1)))
        return image
    if mode == "I;16":
        return Image.fromarray(photograph(channels=1).astype(np.uint16) * 256 + 99)
    return color.convert(mode)


def png_16_bits(channels: int = 3) -> bytes:
    """Return a 16-bit gray or RGB png file whose upper bytes are `photograph`."""
    pixels = photograph(channels=channels).astype(np.uint16) * 256 + 200
    return cv2.imencode(".png", pixels[..., ::-1] if channels == 3 else pixels)[1].tobytes()


def with_png_chunk(content: bytes, kind: bytes, data: bytes) -> bytes:
    """Return a png file with another chunk before the last one, IEND."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content[:-12] + chunk + content[-12:]


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data.tobytes()


def xmp(orientation: int) -> bytes:
    """Return an XMP packet with an orientation, as photo editors write it."""
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    )


def png_text(keyword: str, text: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(keyword, text)
    return info


def _frames(format_: str, **options) -> bytes:
    return saved(example(), format_, save_all=True, append_images=[example().rotate(180)], **options)


FORMATS: dict[str, Callable[[], bytes]] = {
    "gray.png": lambda: saved(example("L"), "PNG"),
    "color.png": lambda: saved(example(), "PNG"),
    "black_and_white.png": lambda: saved(example("1"), "PNG"),
    "palette.png": lambda: saved(example("P"), "PNG"),
    "palette_2_bits.png": lambda: saved(example("P").quantize(4), "PNG", bits=2),
    "palette_transparent.png": lambda: saved(example("P"), "PNG", transparency=example("P").getpixel((3, 3))),
    "palette_translucent.png": lambda: saved(example("P"), "PNG", transparency=bytes(range(256))),
    "gray_transparent.png": lambda: saved(example("L"), "PNG", transparency=int(photograph(channels=1)[3, 3])),
    "color_transparent.png": lambda: saved(example(), "PNG", transparency=tuple(photograph()[3, 3].tolist())),
    "gray_alpha.png": lambda: saved(example("LA"), "PNG"),
    "color_alpha.png": lambda: saved(example("RGBA"), "PNG"),
    "animated.png": lambda: _frames("PNG"),
    "gray.jpg": lambda: saved(example("L"), "JPEG"),
    "color.jpg": lambda: saved(example(), "JPEG"),
    "color.jfif": lambda: saved(example(), "JPEG", quality=95, subsampling=0),
    "progressive.jpe": lambda: saved(example(), "JPEG", progressive=True),
    "cmyk.jpg": lambda: saved(example("CMYK"), "JPEG"),
    "several_pictures.jpg": lambda: _frames("MPO"),
    "color.webp": lambda: saved(example(), "WEBP"),
    "lossless.webp": lambda: saved(example(), "WEBP", lossless=True),
    "color_alpha.webp": lambda: saved(example("RGBA"), "WEBP", lossless=True),
    "animated.webp": lambda: _frames("WEBP", lossless=True),
    "gray.bmp": lambda: saved(example("L"), "BMP"),
    "color.bmp": lambda: saved(example(), "BMP"),
    "palette.bmp": lambda: saved(example("P"), "BMP"),
    "black_and_white.bmp": lambda: saved(example("1"), "BMP"),
    "palette.gif": lambda: saved(example("P"), "GIF"),
    "transparent.gif": lambda: saved(example("P"), "GIF", transparency=example("P").getpixel((3, 3))),
    "animated.gif": lambda: _frames("GIF"),
    "gray.tif": lambda: saved(example("L"), "TIFF"),
    "color.tiff": lambda: saved(example(), "TIFF"),
    "lzw.tif": lambda: saved(example(), "TIFF", compression="tiff_lzw"),
    "jpeg.tif": lambda: saved(example(), "TIFF", compression="jpeg"),
    "palette.tif": lambda: saved(example("P"), "TIFF"),
    "color_alpha.tif": lambda: saved(example("RGBA"), "TIFF"),
    "black_and_white.tif": lambda: saved(example("1"), "TIFF", compression="group4"),
    "cmyk.tif": lambda: saved(example("CMYK"), "TIFF"),
    "lab.tif": lambda: saved(example("LAB"), "TIFF"),
    "pages.tif": lambda: _frames("TIFF"),
    "color.ppm": lambda: saved(example(), "PPM"),
    "gray.pgm": lambda: saved(example("L"), "PPM"),
    "black_and_white.pbm": lambda: saved(example("1"), "PPM"),
    "text.ppm": lambda: b"P3\n# made by hand\n2 1\n255\n255 0 9  1 2 3\n",
    "text.pgm": lambda: b"P2\n#\n2 1 15\n15 7\n",
    "text.pbm": lambda: b"P1\n2 1\n1 0\n",
    "color.avif": lambda: saved(example(), "AVIF"),
    "color_alpha.avif": lambda: saved(example("RGBA"), "AVIF"),
}
"""Files of 8 bits or less per channel."""
