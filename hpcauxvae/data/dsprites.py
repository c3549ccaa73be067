"""dSprites (Matthey et al. 2017): 737,280 binary images of 64 x 64 pixels with six factors, drawn or read.

The published archive is read where the user has it. Where not, the same images are drawn: filled polygons, a pixel
being lit when its centre lies inside, the corners rounded to 1/256 of a pixel. Shape suffixes: E corners of a polygon,
X, Y positions.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import create
from hpcauxvae.types import Factor, InputError

SIZE = 64
SHAPES = ("square", "ellipse", "heart")
"""In the order of the archive."""
SYMMETRY = {"square": 4, "ellipse": 2, "heart": 1}
"""A shape looks the same after a turn by 2 pi over this number."""
SCALES = np.linspace(0.5, 1, 6)
ORIENTATIONS = np.linspace(0, 2 * math.pi, 40)
"""Radians. The last is the first again, as in the archive."""
POSITIONS = np.linspace(0, 1, 32)
COUNTS = (len(SHAPES), len(SCALES), len(ORIENTATIONS), len(POSITIONS), len(POSITIONS))
"""Values of shape, scale, orientation, x and y; image number = their mixed-radix number, y running fastest."""
LABELS: dict[str, tuple[str, ...]] = {
    "raw": ("scale", "orientation", "x", "y"),
    "sound": ("scale", "orientation_cos", "orientation_sin", "x", "y"),
}
"""Auxiliary factors of one shape: the archive's; and with an orientation that a picture can tell, without a seam."""
ARCHIVE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"

_MARGIN, _TRAVEL = 16.0, 32.0  # pixels: centre of the first position, and from the first to the last


def outline(shape: str) -> NDArray[np.float64]:
    """Corners (E, 2) of a shape of scale 1 at orientation 0, in pixels about its centre: x to the right, y down."""
    if shape == "square":
        return 9.6 * np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    corners = 64 if shape == "ellipse" else 150
    t = 2 * math.pi * np.arange(corners) / corners
    if shape == "ellipse":
        return np.stack([12.78 * np.cos(t), 7.22 * np.sin(t)], 1)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([9.6 * np.sin(t) ** 3, -0.6625 * y - 1.44], 1)


def draw(
    shape: str, scale: float, orientation: float, x_X: NDArray = POSITIONS, y_Y: NDArray = POSITIONS
) -> NDArray[np.uint8]:
    """(X, Y, 64, 64), 0 or 1: a shape at these positions, by the even-odd rule along each row of pixels."""
    cos, sin = math.cos(orientation), -math.sin(orientation)
    corners_E2 = outline(shape) * scale @ np.array([[cos, sin], [-sin, cos]])
    x_XE, y_YE = (
        np.round((corners_E2[:, axis] + _MARGIN + _TRAVEL * places[:, None]) * 256) / 256
        for axis, places in enumerate((x_X, y_Y))
    )
    next_x_XE, next_y_YE = np.roll(x_XE, -1, 1), np.roll(y_YE, -1, 1)
    middles = np.arange(SIZE) + 0.5
    above_YER = y_YE[..., None] <= middles
    place, edge, row = np.nonzero(above_YER != np.roll(above_YER, -1, 1))  # (M,) edges that cross a row of centres
    share_M = (middles[row] - y_YE[place, edge]) / (next_y_YE[place, edge] - y_YE[place, edge])
    crossing_XM = x_XE[:, edge] + share_M * (next_x_XE - x_XE)[:, edge]
    column_XM = np.clip(np.ceil(crossing_XM - 0.5), 0, SIZE).astype(np.int64)
    turns = np.zeros((len(x_X), len(y_Y), SIZE, SIZE + 1), np.uint8)
    np.add.at(turns, (np.arange(len(x_X))[:, None], place, row, column_XM), 1)
    return np.bitwise_xor.accumulate(turns[..., :SIZE] & 1, axis=-1)


def factors(shapes: Sequence[str]) -> tuple[Factor, ...]:
    """The columns of a set with these shapes.

    `orientation` is the archive's label, in which equal images have different values. `orientation_mod` is the same
    angle modulo the shape's symmetry, with a seam where it wraps; the cosine and sine of the angle times the symmetry
    have none. `shape` is there where it varies.
    """
    turn = 2 * math.pi
    columns = [Factor("shape", "", 0, len(SHAPES) - 1, "categorical")] if len(shapes) > 1 else []
    return (
        *columns,
        Factor("scale", "", 0.5, 1, "ordinal"),
        Factor("orientation", "rad", 0, turn, "periodic"),
        Factor("x", "", 0, 1, "ordinal"),
        Factor("y", "", 0, 1, "ordinal"),
        Factor("orientation_mod", "rad", 0, turn / min(SYMMETRY[shape] for shape in shapes), "periodic"),
        Factor("orientation_cos", "", -1, 1),
        Factor("orientation_sin", "", -1, 1),
    )


def labels(numbers_N: NDArray[np.int64], shapes: Sequence[str]) -> NDArray[np.float64]:
    """(N, F) values of `factors(shapes)` for images of these numbers."""
    shape, scale, orientation, x, y = np.unravel_index(numbers_N, COUNTS)
    angle_N = ORIENTATIONS[orientation]
    symmetry_N = np.array([SYMMETRY[name] for name in SHAPES])[shape]
    period_N = len(ORIENTATIONS) - 1  # steps in a full turn; the modulus is taken of whole steps, without rounding
    modulo_N = orientation * symmetry_N % period_N / symmetry_N * (2 * math.pi / period_N)
    columns = [
        *([shape] if len(shapes) > 1 else []),
        *(SCALES[scale], angle_N, POSITIONS[x], POSITIONS[y], modulo_N),
        *(np.cos(symmetry_N * angle_N), np.sin(symmetry_N * angle_N)),
    ]
    return np.stack(columns, 1).astype(np.float64)


def images_of(values_NF: NDArray, names: Sequence[str], only: str, angle: str) -> NDArray[np.uint8]:
    """What labels (N, F) of these columns show, (N, 1, 64, 64), 0 or 1.

    only: the shape where there is no such column. angle: the column that tells the orientation, `orientation`,
    `orientation_mod` or, with its sine, `orientation_cos`.
    """
    column = dict(zip(names, values_NF.T, strict=True))
    shape_N = [SHAPES[int(number)] for number in column["shape"]] if "shape" in column else [only] * len(values_NF)
    if angle == "orientation_cos":
        symmetry_N = np.array([SYMMETRY[shape] for shape in shape_N])
        angle_N = np.arctan2(column["orientation_sin"], column["orientation_cos"]) / symmetry_N
    else:
        angle_N = column[angle]
    rows = zip(shape_N, column["scale"], angle_N, column["x"][:, None], column["y"][:, None], strict=True)
    return np.concatenate([draw(*row)[0] for row in rows])[:, None]


def write(
    path: Path, *, shapes: Sequence[str] = SHAPES, n: int | None = None, seed: int = 0, archive: Path | None = None
) -> None:
    """Writes the images of these shapes, or `n` of them chosen at random, in the order of the archive.

    The format is that of hdf5.py. archive: the published .npz, whose images are taken instead of drawn.
    Raises InputError.
    """
    for shape in shapes:
        if shape not in SHAPES:
            raise InputError(f"shapes: {shape!r} is unknown; allowed: {', '.join(SHAPES)}")
    chosen = [number for number, shape in enumerate(SHAPES) if shape in shapes]
    names = [SHAPES[number] for number in chosen]
    per_shape = math.prod(COUNTS[1:])
    numbers_N = (np.array(chosen)[:, None] * per_shape + np.arange(per_shape)).reshape(-1)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed = {seed}; allowed: 0 to {2**63 - 1}")
    if n is not None:
        if not 2 <= n <= len(numbers_N):
            raise InputError(f"n = {n}; allowed: 2 to {len(numbers_N)}, the images of {', '.join(shapes)}")
        numbers_N = np.sort(np.random.default_rng(seed).choice(numbers_N, n, replace=False))
    stored = None if archive is None else _archive_images(archive)
    provenance: dict[str, str | int | float] = {
        "origin": "dSprites, drawn by hpcauxvae" if archive is None else f"dSprites, {archive.name}",
        "shapes": ",".join(names),
        "seed": seed,
    }
    columns = factors(names)
    with create(path, (len(numbers_N), 1, SIZE, SIZE), columns, provenance, dtype=np.uint8) as (images, values):
        values[:] = labels(numbers_N, names)
        sheet_N = numbers_N // len(POSITIONS) ** 2  # a sheet: one shape, scale and orientation at all positions
        starts = np.flatnonzero(np.diff(sheet_N, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(numbers_N)], strict=True):
            shape, scale, orientation, *_ = np.unravel_index(numbers_N[start], COUNTS)
            if stored is None:
                sheet = draw(SHAPES[shape], float(SCALES[scale]), float(ORIENTATIONS[orientation]))
                sheet = sheet.reshape(-1, SIZE, SIZE)
                images[start:stop, 0] = sheet[numbers_N[start:stop] % len(sheet)]
            else:
                images[start:stop, 0] = stored[numbers_N[start:stop]]


def _archive_images(path: Path) -> NDArray[np.uint8]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            images: NDArray[np.uint8] = archive["imgs"]
    except Exception as error:  # a damaged archive may raise any
        raise InputError(f"{path}: is not {ARCHIVE}, or is damaged: {error}") from error
    expected = (math.prod(COUNTS), SIZE, SIZE)
    if images.shape != expected or images.dtype != np.uint8:
        raise InputError(f"{path}: imgs is {images.dtype} {images.shape}; expected uint8 {expected}")
    return images
