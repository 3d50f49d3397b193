"""Synthetic images for the search for near duplicates: textures, sequences, icons and frames of one scene."""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 48


def textures(count, rng, *, coarseness=1.5) -> np.ndarray:
    """Return `(count, 48, 48)` smoothed noise with mean 0 and standard deviation 1."""
    noise = rng.standard_normal((count, SIDE, SIDE)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), coarseness) for image in noise])
    return (smooth - smooth.mean(axis=(1, 2), keepdims=True)) / smooth.std(axis=(1, 2), keepdims=True)


def as_images(patterns, contrast=40.0) -> np.ndarray:
    """Return `(n, 48, 48, 1) uint8` images of patterns with mean 0."""
    return np.clip(128 + contrast * patterns, 0, 255).astype(np.uint8)[..., None]


def sequence(length, rng, *, step=0.24) -> np.ndarray:
    """Return images of one texture that turns into another; neighbors correlate at cos(step), 0.97 by default."""
    one, other = textures(2, rng)
    angles = step * np.arange(length)[:, None, None]
    return as_images(np.cos(angles) * one + np.sin(angles) * other)


def scene(count, rng) -> np.ndarray:
    """Return frames of a fixed camera: sensor noise, and a small object that moves."""
    frames = np.repeat(as_images(textures(1, rng)), count, axis=0).astype(np.int16)
    for number, frame in enumerate(frames):
        top, left = (np.array([20 + 18 * np.sin(number / 50), 20 + 18 * np.cos(number / 170)])).astype(int)
        frame[top : top + 3, left : left + 3] = 80
    return np.clip(frames + rng.integers(-4, 5, frames.shape), 0, 255).astype(np.uint8)


def shoes(count, rng) -> np.ndarray:
    """Return `(count, 28, 28, 1)` silhouettes with similar outlines and different patterns on black."""
    images = np.zeros((count, 112, 112), np.uint8)
    side = [(8, 78), (10, 58), (30, 52), (52, 38), (66, 30), (74, 44), (98, 52), (104, 66), (104, 78)]
    for image in images:
        outline = np.rint(np.array(side) + rng.normal(0, 2, (len(side), 2))).astype(np.int32)
        cv2.fillPoly(image, [outline], int(rng.integers(120, 220)))
        for _ in range(3):
            begin, end = outline[rng.integers(2, 7)].tolist(), outline[rng.integers(0, len(side))].tolist()
            cv2.line(image, begin, end, int(rng.integers(60, 250)), int(rng.integers(2, 6)))
        cv2.line(image, (8, 80), (104, 80), int(rng.integers(60, 255)), 6)
    return np.stack([cv2.resize(image, (28, 28), interpolation=cv2.INTER_AREA) for image in images])[..., None]


def signs(numbers, rng) -> np.ndarray:
    """Return `(n, 32, 32, 1)` round signs with a number, a little shifted, blurred and noisy."""
    images = np.zeros((len(numbers), 128, 128), np.uint8)
    for number, image in zip(numbers, images, strict=True):
        image[:] = rng.integers(60, 120)
        center, radius = tuple(map(int, 64 + rng.integers(-2, 3, 2))), int(rng.integers(52, 57))
        cv2.circle(image, center, radius, int(rng.integers(30, 60)), -1)
        cv2.circle(image, center, int(0.78 * radius), int(rng.integers(190, 240)), -1)
        corner = (center[0] - 33, center[1] + 16)
        cv2.putText(image, f"{number}0", corner, cv2.FONT_HERSHEY_SIMPLEX, 1.6, 20, 7, cv2.LINE_AA)
        blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(1, 2.5)))
        image[:] = np.clip(blurred + rng.normal(0, 3, image.shape), 0, 255)
    return np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in images])[..., None]
