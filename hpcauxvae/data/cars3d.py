"""Cars3D (Reed et al. 2015): 183 cars seen from 24 azimuths and 4 elevations, 64 x 64 pixels, three colours.

Reads the original folder of .mat files (128 x 128, reduced here), or an HDF5 file with `images` of shape (car, azimuth,
elevation, row, column, 3), uint8.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import create
from hpcauxvae.types import Factor, InputError

SIZE = 64
CARS = 183
AZIMUTHS = np.arange(24) * 15.0
"""Degrees."""
ELEVATIONS = np.arange(4) * 6.0
"""Degrees above the horizon."""
FACTORS = (
    Factor("elevation", "deg", 0, 18, "ordinal"),
    Factor("azimuth", "deg", 0, 360, "periodic"),
    Factor("car", "", 0, CARS - 1, "categorical"),
    Factor("area", "", 0, 1),
    Factor("azimuth_cos", "", -1, 1),
    Factor("azimuth_sin", "", -1, 1),
)
"""`car` is the number of the model, which says nothing of its looks; `area`, the share of the picture that the car
covers, is a size that can be measured; the ranges of both are those of the pictures read. Cosine and sine of the
azimuth have no seam."""
LABELS: dict[str, tuple[str, ...]] = {
    "raw": ("elevation", "azimuth", "car"),
    "sound": ("elevation", "azimuth_cos", "azimuth_sin", "area"),
}
"""Auxiliary factors: those that the paper calls height, azimuth and size; and ones that a picture can tell."""

_BACKGROUND = 250  # the pictures have a white ground


def read(source: Path, cars: int | None = None) -> NDArray[np.uint8]:
    """(car, azimuth, elevation, 64, 64, 3) from a folder of .mat files or an HDF5 file. Raises InputError.

    cars: the first so many; all if not given. A source with fewer is read, with a warning.
    """
    if cars is not None and cars < 2:
        raise InputError(f"cars = {cars}; allowed: at least 2")
    images = _read(source, cars)
    expected = CARS if cars is None else min(cars, CARS)
    if len(images) < expected:
        print(f"warning: {source}: has {len(images)} of {expected} cars", file=sys.stderr, flush=True)
    return images


def _read(source: Path, cars: int | None) -> NDArray[np.uint8]:
    if source.is_dir():
        files = sorted(source.glob("*.mat"))
        if not files:
            raise InputError(f"{source}: has no .mat files; allowed: the folder of the original Cars3D files")
        return np.stack([_read_mat(path) for path in files[:cars]])
    try:
        with h5py.File(source, "r", locking=False) as file:
            images: NDArray[np.uint8] = file["images"][:cars]
    except (OSError, KeyError) as error:
        raise InputError(f"{source}: neither a folder of .mat files nor an HDF5 file with images: {error}") from error
    expected = (len(AZIMUTHS), len(ELEVATIONS), SIZE, SIZE, 3)
    if images.ndim != 6 or images.shape[1:] != expected or images.dtype != np.uint8:
        raise InputError(
            f"{source}: images is {images.dtype} {images.shape}; expected uint8 (cars, {str(expected)[1:]}"
        )
    return images


def _read_mat(path: Path) -> NDArray[np.uint8]:
    """One car, (azimuth, elevation, 64, 64, 3); the file holds `im` (row, column, colour, azimuth, elevation)."""
    from PIL import Image
    from scipy.io import loadmat

    try:
        images = loadmat(path)["im"]
    except NotImplementedError:
        raise InputError(f"{path}: is a file of MATLAB 7.3; allowed: earlier forms, `save -v7` makes one") from None
    except Exception as error:  # a damaged file may raise any
        raise InputError(f"{path}: is not a Cars3D file, or is damaged: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[2:] != (3, len(AZIMUTHS), len(ELEVATIONS)):
        raise InputError(f"{path}: im is {images.dtype} {images.shape}; expected uint8 (rows, columns, 3, 24, 4)")
    small = [
        np.asarray(Image.fromarray(view).resize((SIZE, SIZE), Image.Resampling.LANCZOS))
        for view in images.transpose(3, 4, 0, 1, 2).reshape(-1, *images.shape[:3])
    ]
    return np.stack(small).reshape(len(AZIMUTHS), len(ELEVATIONS), SIZE, SIZE, 3)


def labels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, F) values of `FACTORS` in the order (car, azimuth, elevation); images as `read` gives them."""
    car, azimuth, elevation = (part.reshape(-1) for part in np.indices(images.shape[:3]))
    angle = np.radians(AZIMUTHS[azimuth])
    area = (images.min(-1) < _BACKGROUND).mean((3, 4)).reshape(-1)
    columns = [ELEVATIONS[elevation], AZIMUTHS[azimuth], car, area, np.cos(angle), np.sin(angle)]
    return np.stack(columns, 1).astype(np.float64)


def write(path: Path, source: Path, cars: int | None = None) -> None:
    """Writes the images of `source` (see `read`) in the format of hdf5.py. Raises InputError."""
    images = read(source, cars)
    values_NF = labels(images)
    columns = [
        f._replace(low=float(column.min()), high=float(column.max())) if f.name in ("car", "area") else f
        for f, column in zip(FACTORS, values_NF.T, strict=True)
    ]
    provenance = {"origin": "Cars3D (Reed et al. 2015)", "source": str(source)}
    stored = images.reshape(-1, SIZE, SIZE, 3).transpose(0, 3, 1, 2)
    with create(path, stored.shape, columns, provenance, dtype=np.uint8) as (to_images, values):
        to_images[:] = stored
        values[:] = values_NF
