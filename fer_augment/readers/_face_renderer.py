"""Renderer of synthetic faces: from tables of parameters to 48x48 gray images.

Every shape is a coverage in `0 … 1`, computed from a signed distance in the coordinate system of the face, and painted
over the previous shapes. In face coordinates, `x` points right, `y` points down, the eyes are just above `(0, 0)`, and
one unit is about half the side of the image. The numeric constants below are lengths in these units or gray levels,
tuned visually. All pixels of a chunk of faces are processed at once as `(n, pixels) float32`; no pixel depends on
another face.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SIDE = 48
ONE_PIXEL = 2 / SIDE
FACES_AT_ONCE = 32
EYE_LEVEL = -0.2

Column = NDArray[np.floating[Any]]
"""One parameter of every face: `(N,) float32`, or `(n, 1)` within a chunk."""
Pixels = NDArray[np.floating[Any]]
"""`(n, pixels) float32`, pixels of each face in row-major order."""


@dataclass(frozen=True)
class Columns:
    """A table with one row per face and one column per parameter."""

    def chunk(self, start: int) -> Self:
        """Return the chunk of rows starting at `start`, each column as `(n, 1)` for broadcasting over pixels."""
        rows = slice(start, start + FACES_AT_ONCE)
        return replace(self, **{field.name: getattr(self, field.name)[rows, None] for field in fields(self)})


@dataclass(frozen=True)
class ActionUnits(Columns):
    """Action units with their FACS names and numbers; 0 is at rest, 1 is full contraction."""

    inner_brow_raiser: Column  # 1
    outer_brow_raiser: Column  # 2
    brow_lowerer: Column  # 4
    upper_lid_raiser: Column  # 5
    cheek_raiser: Column  # 6
    lid_tightener: Column  # 7
    nose_wrinkler: Column  # 9
    upper_lip_raiser: Column  # 10
    lip_corner_puller: Column  # 12
    lip_corner_depressor: Column  # 15
    chin_raiser: Column  # 17
    lip_stretcher: Column  # 20
    lip_tightener: Column  # 23
    lips_part: Column  # 25
    jaw_drop: Column  # 26


@dataclass(frozen=True)
class Identity(Columns):
    """Appearance of a person: lengths and heights in face units, gray levels from 0 (black) to 1 (white)."""

    head_width: Column
    jaw_taper: Column  # 0 for a square jaw
    eye_distance: Column  # from the center of the face
    eye_size: Column  # 1 is average
    eye_tilt: Column
    brow_height: Column
    brow_thickness: Column
    brow_arch: Column
    nose_width: Column
    nose_length: Column
    mouth_width: Column
    mouth_height: Column
    mouth_curve: Column  # at rest; positive for raised corners
    lip_fullness: Column
    age: Column  # 0 without wrinkles … 1
    skin: Column  # gray level
    hair: Column  # gray level
    hairline: Column
    hair_slant: Column
    hair_length: Column  # y coordinate of the lower end
    hair_volume: Column
    beard: Column  # 0 for none … 1 for thick
    glasses: Column  # 0 for none … 1


@dataclass(frozen=True)
class Capture(Columns):
    """Pose, light, occlusion and camera."""

    rotation: Column  # radians
    shift_x: Column
    shift_y: Column
    scale: Column
    yaw: Column  # 0 is frontal
    gaze: Column
    background: Column  # gray level
    light_x: Column  # -1 for light from the left … 1 from the right
    light_y: Column  # -1 for light from above … 1 from below
    hand: Column  # 0 for none, 1 for a hand in front of the face
    hand_angle: Column  # radians, direction that the hand comes from
    hand_reach: Column  # distance of the hand from the center
    contrast: Column
    brightness: Column
    blur: Column  # 0 for sharp … 0.5
    noise: Column  # standard deviation of the grain
    noise_seed: Column


@dataclass(frozen=True)
class Sketch:
    """Images being painted, and the face coordinates of their pixels; `side` is the absolute value of `x`."""

    shade: Pixels
    x: Pixels
    y: Pixels
    side: Pixels

    def band(self, top: int, bottom: int) -> Sketch:
        """Return a view of the pixel rows `top … bottom - 1`; painting on it modifies this sketch."""
        pixels = slice(top * SIDE, bottom * SIDE)
        return Sketch(self.shade[:, pixels], self.x[:, pixels], self.y[:, pixels], self.side[:, pixels])

    def paint(self, coverage: Pixels, shade: Pixels | float) -> None:
        """Blend with the gray level `shade`, weighted by `coverage`."""
        self.shade[...] += coverage * (shade - self.shade)

    def tint(self, coverage: Pixels, change: Column | float) -> None:
        """Change the brightness by the factor `1 + change`, weighted by `coverage`."""
        self.shade[...] *= 1 + coverage * change


def render_faces(actions: ActionUnits, identity: Identity, capture: Capture) -> NDArray[np.uint8]:
    """Render one face per row of the three tables.

    Args:
        actions: facial expressions, columns `(N,) float32`.
        identity: persons, columns `(N,) float32`.
        capture: pose, light and camera, columns `(N,) float32`.

    Returns:
        `(N, 48, 48, 1) uint8`; each image depends on its own row only.
    """
    count = len(capture.noise_seed)
    pictures = np.empty((count, SIDE, SIDE, 1), dtype=np.uint8)
    for start in range(0, count, FACES_AT_ONCE):
        chunk = _render_chunk(actions.chunk(start), identity.chunk(start), capture.chunk(start))
        pictures[start : start + FACES_AT_ONCE, :, :, 0] = chunk
    return pictures


def _render_chunk(act: ActionUnits, who: Identity, how: Capture) -> NDArray[np.uint8]:
    sketch = _posed_grid(how)
    upper, lower = sketch.band(0, 34), sketch.band(18, SIDE)
    _paint_backdrop(sketch, who)
    head = _paint_head(sketch, act, who, how)
    _paint_nose(sketch.band(8, 42), act, who)
    _paint_beard(lower, head[:, 18 * SIDE :], who)
    _paint_forehead(upper, act, who)
    _paint_cheeks(sketch.band(12, SIDE), act, who)
    _paint_eyes(upper, act, who, how)
    _paint_brows(upper, act, who)
    _paint_mouth(lower, act, who)
    _paint_fringe(sketch.band(0, 36), head[:, : 36 * SIDE], who)
    _paint_glasses(upper, who)
    _paint_hand(sketch, who, how)
    return _photograph(sketch, how)


def _coverage(distance: Pixels) -> Pixels:
    """Convert signed distances (negative inside) to a coverage with an edge 1.5 pixels wide."""
    coverage: Pixels = np.clip(0.5 - distance / (1.5 * ONE_PIXEL), 0, 1)
    return coverage


def _stroke(distance: Pixels, along: Pixels, thickness: Column | float) -> Pixels:
    """Return the coverage of a line that tapers off as `along` approaches -1 and 1."""
    arc: Pixels = np.maximum(1 - along * along, 0)
    return _coverage(np.abs(distance) - thickness * arc) * np.minimum(3 * arc, 1)


def _bump(x: Pixels, y: Pixels, radius_x: Column | float, radius_y: Column | float) -> Pixels:
    """Return a smooth bump around `(0, 0)` that is 0 beyond the radii."""
    inside: Pixels = np.maximum(1 - (x / radius_x) ** 2 - (y / radius_y) ** 2, 0)
    return inside * inside


def _posed_grid(how: Capture) -> Sketch:
    """Return a blank image with the coordinates of a shifted, scaled, rotated and slightly turned face."""
    ruler = (np.arange(SIDE, dtype=np.float32) + 0.5) * ONE_PIXEL - 1
    row, column = (axis.reshape(1, -1) for axis in np.meshgrid(ruler, ruler, indexing="ij"))
    across, down = (column - how.shift_x) / how.scale, (row - how.shift_y) / how.scale
    cos, sin = np.cos(how.rotation), np.sin(how.rotation)
    y = cos * down - sin * across
    turned = cos * across + sin * down - 0.7 * how.yaw
    x = turned * (1 + how.yaw * turned)
    return Sketch(how.background * (1 - 0.2 * row), x, y, np.abs(x))


def _paint_backdrop(sketch: Sketch, who: Identity) -> None:
    """Paint everything behind the head: ears, hair, neck."""
    x, y, side = sketch.x, sketch.y, sketch.side
    beyond = side - who.head_width
    sketch.paint(_coverage(0.1 * np.hypot(beyond / 0.09, (y + 0.05) / 0.2) - 0.1), 0.75 * who.skin)
    half_width, height = who.head_width + 0.6 * who.hair_volume, 0.82 + who.hair_volume
    bulk = np.hypot(x / half_width, np.minimum(y + 0.2, 0) / height)
    sketch.paint(_coverage(np.maximum(0.8 * bulk - 0.8, y - who.hair_length + 2 * beyond)), 0.85 * who.hair)
    sketch.paint(_coverage(np.maximum(side - 0.45, 0.3 - y)), 0.6 * who.skin)


def _paint_head(sketch: Sketch, act: ActionUnits, who: Identity, how: Capture) -> Pixels:
    """Paint the head without hair, with shading, and return its coverage."""
    below = np.maximum(sketch.y, 0) / (0.9 + 0.14 * act.jaw_drop)
    across = sketch.x / (who.head_width * (1 - who.jaw_taper * below * below))
    radius = across * across + np.minimum(sketch.y, 0) ** 2 + below**3
    head = _coverage(0.4 * (radius - 1))
    facing = np.sqrt(np.maximum(1 - radius, 0))
    lit = 0.66 + 0.36 * facing + 0.16 * (across * how.light_x + sketch.y * how.light_y)
    sketch.paint(head, who.skin * lit)
    return head


def _paint_nose(sketch: Sketch, act: ActionUnits, who: Identity) -> None:
    x, side = sketch.x, sketch.side
    width = who.nose_width * (1 + 0.2 * act.nose_wrinkler)
    below_tip = sketch.y - who.nose_length + 0.05 * act.nose_wrinkler
    sketch.tint(_bump(x, below_tip + 0.22, 0.11, 0.40), 0.07)
    sketch.tint(_bump(side - 0.14, below_tip + 0.28, 0.10, 0.32), -0.07)
    sketch.tint(_bump(x, below_tip - 0.03, 1.6 * width, 0.12), -0.22)
    sketch.tint(_bump(x, below_tip + 0.05, 0.13, 0.12), 0.10)
    sketch.tint(_bump(side - 0.6 * width, below_tip - 0.01, 0.07, 0.06), -0.6)
    sketch.tint(_stroke(side - width, (below_tip + 0.04) / 0.09, 0.018), -0.25)
    wrinkles = (0.4 + np.cos((sketch.y + 0.4 * side) * 48)) * _bump(x, sketch.y + 0.16, 0.26, 0.24)
    sketch.tint(wrinkles, -0.3 * act.nose_wrinkler)


def _paint_beard(sketch: Sketch, head: Pixels, who: Identity) -> None:
    moustache = _bump(sketch.x, sketch.y - who.mouth_height + 0.12, 0.40, 0.11)
    jaw = np.clip(6 * (sketch.y - 0.6 + 0.8 * np.maximum(sketch.side - 0.3, 0)), 0, 1)
    sketch.paint(np.maximum(moustache, jaw) * head * who.beard, 0.9 * who.hair)


def _paint_forehead(sketch: Sketch, act: ActionUnits, who: Identity) -> None:
    """Paint the horizontal lines of raised brows and the vertical lines of a frown."""
    raised = np.maximum(act.inner_brow_raiser, act.outer_brow_raiser)
    lines = np.cos(44 * sketch.y) * _bump(sketch.x, sketch.y + 0.68, 0.55, 0.2)
    sketch.tint(lines, -0.1 * who.age - 0.22 * raised)
    sketch.tint(_stroke(sketch.side - 0.06, (sketch.y + 0.36) / 0.15, 0.02), -0.4 * act.brow_lowerer)


def _paint_cheeks(sketch: Sketch, act: ActionUnits, who: Identity) -> None:
    """Paint the cheeks, raised by a smile, and the folds between nose and cheeks."""
    y, smile = sketch.y, act.lip_corner_puller
    plump = np.maximum(act.cheek_raiser, 0.8 * smile)
    outward, below = sketch.side - 0.42, y - 0.2 + 0.1 * plump
    sketch.tint(_bump(outward, below, 0.26, 0.24), 0.06 + 0.2 * plump)
    sketch.tint(_stroke(below - 0.17 + 1.2 * outward * outward, outward / 0.22, 0.04), -0.16 * plump)

    depth = 0.25 * who.age + 0.6 * smile + 0.5 * act.upper_lip_raiser + 0.35 * act.nose_wrinkler
    along = (y - 0.28 + 0.05 * smile) / 0.2
    fold = sketch.side - who.nose_width - 0.12 - (0.07 + 0.07 * smile) * (along + 1)
    sketch.tint(_stroke(fold, along, 0.04), -0.25 * np.minimum(depth, 1))


def _paint_eyes(sketch: Sketch, act: ActionUnits, who: Identity, how: Capture) -> None:
    wide, pushed, narrowed = act.upper_lid_raiser, act.cheek_raiser, act.lid_tightener + act.nose_wrinkler
    upper_lid = 0.10 * who.eye_size * np.maximum(1 + 0.75 * wide - 0.25 * pushed - 0.35 * narrowed, 0.1)
    lower_lid = 0.06 * who.eye_size * np.maximum(1 + 0.30 * wide - 0.75 * pushed - 0.50 * narrowed, 0)
    outward, below = sketch.side - who.eye_distance, sketch.y - EYE_LEVEL
    along = outward / (0.17 * who.eye_size)
    arc = 1 - along * along
    under_upper = below + who.eye_tilt * along + upper_lid * arc
    under_lower = below + who.eye_tilt * along - lower_lid * arc

    sketch.tint(_bump(outward, below + 0.04, 0.3, 0.26), -0.3)
    sketch.tint(_bump(outward, below - 0.16, 0.24, 0.1), -0.1 - 0.1 * who.age - 0.15 * pushed)
    opening = _coverage(np.maximum(-under_upper, under_lower))
    sketch.paint(opening, 0.35 + 0.55 * who.skin)
    sideways = outward - how.gaze * np.sign(sketch.x)
    sketch.paint(opening * _coverage(np.hypot(sideways, below + 0.015) - 0.085), 0.12)
    sketch.paint(opening * _coverage(np.hypot(sideways - 0.03, below + 0.045) - 0.015), 0.95)
    sketch.paint(_stroke(under_upper, along / 1.15, 0.035), 0.08)
    sketch.tint(_stroke(under_lower, along / 1.1, 0.012), -0.3)
    sketch.tint(_stroke(under_upper + 0.07, along / 1.2, 0.02), -0.25)


def _paint_brows(sketch: Sketch, act: ActionUnits, who: Identity) -> None:
    frown = act.brow_lowerer
    inner = who.brow_height + 0.15 * act.inner_brow_raiser - 0.13 * frown - 0.05 * act.nose_wrinkler
    outer = who.brow_height + 0.14 * act.outer_brow_raiser - 0.02 * frown - 0.02
    outward = (sketch.side - who.eye_distance + 0.21 + 0.05 * frown) / 0.43
    arch = who.brow_arch * (1 - 0.6 * frown) * 4 * outward * (1 - outward)
    below = sketch.y + inner + (outer - inner) * outward + arch
    thickness = who.brow_thickness * (1.25 - 0.5 * outward)
    sketch.paint(0.9 * _stroke(below, 2 * outward - 1, thickness), 0.6 * who.hair)


@dataclass(frozen=True)
class _Mouth:
    """Position of pixels `along` the mouth (`-1 … 1`), `outside` its opening, and below each edge of the lips."""

    along: Pixels
    outside: Pixels
    top: Pixels
    upper: Pixels
    lower: Pixels
    bottom: Pixels


def _shape_mouth(sketch: Sketch, act: ActionUnits, who: Identity) -> _Mouth:
    smile, press, jaw = act.lip_corner_puller, act.lip_tightener, act.jaw_drop
    width = who.mouth_width * (1 + 0.3 * smile + 0.28 * act.lip_stretcher - 0.25 * jaw - 0.12 * press)
    along = sketch.x / width
    square = along * along
    arc = 1 - square
    corners = who.mouth_curve + 0.17 * smile - 0.13 * act.lip_corner_depressor - 0.07 * act.lip_stretcher
    height = who.mouth_height + 0.04 * smile - 0.03 * act.chin_raiser + 0.1 * jaw
    middle = sketch.y - height + corners * (square - 0.35)
    oval = arc * (1 + square * jaw)
    upper = middle + (0.045 * act.lips_part + 0.13 * jaw + 0.09 * act.upper_lip_raiser) * oval
    lower = middle - (0.045 * act.lips_part + 0.17 * jaw + 0.05 * smile * act.lips_part) * oval
    lip = who.lip_fullness * (1 - 0.7 * press) * (1 - 0.3 * smile) * arc
    steepness = np.hypot(1, 0.8 * jaw * along * square / width)
    outside = np.maximum(np.maximum(-upper, lower) / steepness, np.abs(sketch.x) - width)
    dip = 1 - 0.25 * np.maximum(1 - 30 * square, 0)
    return _Mouth(along, outside, upper + lip * dip, upper, lower, lower - 1.25 * lip)


def _paint_mouth(sketch: Sketch, act: ActionUnits, who: Identity) -> None:
    mouth = _shape_mouth(sketch, act, who)
    arc = np.maximum(1 - mouth.along * mouth.along, 0)
    sketch.tint(_stroke(mouth.bottom - 0.07, mouth.along / 0.8, 0.06), -0.22)
    below_chin = sketch.y - 0.82 - 0.1 * act.jaw_drop
    sketch.tint(_bump(sketch.x, below_chin, 0.26, 0.16), 0.12 + 0.15 * act.chin_raiser)
    sketch.tint(_bump(np.abs(mouth.along) - 1, mouth.upper + 0.02, 0.35, 0.09), -0.3)
    sketch.paint(0.85 * _coverage(np.maximum(-mouth.top, mouth.lower)), 0.50 * who.skin)
    sketch.paint(0.85 * _coverage(np.maximum(-mouth.upper, mouth.bottom)), 0.62 * who.skin)
    sketch.paint(_stroke(0.5 * (mouth.upper + mouth.lower), mouth.along / 1.06, 0.028), 0.15)
    sketch.paint(_coverage(mouth.outside), 0.07)
    below_teeth = mouth.upper - 0.12 + 0.08 * act.jaw_drop
    sketch.paint(_coverage(np.maximum(mouth.outside + 0.012, below_teeth)) * np.minimum(3 * arc, 1), 0.85)


def _paint_fringe(sketch: Sketch, head: Pixels, who: Identity) -> None:
    """Paint the hair on the head down to the hairline."""
    line = who.hairline + who.hair_slant * sketch.x + np.maximum(sketch.side - 0.25, 0) ** 2
    strands = 1 + 0.1 * np.sin(31 * (sketch.x + who.hair_slant * sketch.y))
    gloss = 0.5 * _bump(sketch.x, sketch.y + 0.85, 0.5, 0.2)
    sketch.paint(head * _coverage(sketch.y - line), who.hair * (strands + gloss))


def _paint_glasses(sketch: Sketch, who: Identity) -> None:
    outward, below = sketch.side - who.eye_distance, sketch.y - EYE_LEVEL
    ring = np.sqrt(np.sqrt((outward / 0.25) ** 4 + (below / 0.2) ** 4))
    rim = _coverage(0.22 * np.abs(ring - 1) - 0.02)
    bar = _coverage(np.maximum(np.abs(below + 0.04) - 0.02, 0.25 - np.abs(outward)))
    sketch.paint(np.maximum(rim, bar * (sketch.side < who.head_width)) * who.glasses, 0.1)


def _paint_hand(sketch: Sketch, who: Identity, how: Capture) -> None:
    """Paint four fingers over the face."""
    cos, sin = np.cos(how.hand_angle), np.sin(how.hand_angle)
    inward = how.hand_reach - cos * sketch.x - sin * sketch.y
    across = (cos * sketch.y - sin * sketch.x) / 0.2
    finger = np.clip(np.floor(across), -2, 1) + 0.5
    tip = np.maximum(inward + 0.06 * np.abs(finger), 0)
    edge = np.hypot(0.2 * (across - finger), tip) - 0.105
    sketch.paint(_coverage(edge) * how.hand, who.skin * (0.85 - 2.5 * np.minimum(edge, 0)))


def _photograph(sketch: Sketch, how: Capture) -> NDArray[np.uint8]:
    """Apply directional light, blur, contrast, brightness and noise; return pixels."""
    ruler = (np.arange(SIDE, dtype=np.float32) + 0.5) * ONE_PIXEL - 1
    light = 1 + 0.35 * (how.light_x[..., None] * ruler + how.light_y[..., None] * ruler[:, None])
    scene = _blurred(sketch.shade.reshape(-1, SIDE, SIDE) * light, how.blur[..., None])
    scene = 0.5 + how.contrast[..., None] * (scene - 0.5) + how.brightness[..., None]
    grain = np.stack([_grain(int(seed)) for seed in how.noise_seed[:, 0]])
    return (255 * np.clip(scene + how.noise[..., None] * grain, 0, 1)).astype(np.uint8)


def _blurred(scene: Pixels, amount: Column) -> Pixels:
    """Blur `(n, 48, 48)` with the neighboring pixels, first vertically, then horizontally."""
    framed = np.pad(scene, ((0, 0), (1, 1), (1, 1)), mode="edge")
    mixed = framed[:, 1:-1] + amount * (0.5 * (framed[:, :-2] + framed[:, 2:]) - framed[:, 1:-1])
    return mixed[..., 1:-1] + amount * (0.5 * (mixed[..., :-2] + mixed[..., 2:]) - mixed[..., 1:-1])


def _grain(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE), dtype=np.float32)
