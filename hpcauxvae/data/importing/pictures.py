"""Files that hold one image each: FITS, PNG, JPEG, TIFF, NPY."""

import zlib
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from hpcauxvae.data.importing.members import reading, required
from hpcauxvae.types import InputError

_MOST_COLOURS = 4
_PLAIN = {"P": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "1": "L"}
"""What Pillow is asked to make of palettes and of what printers and cameras use."""


class Picture(NamedTuple):
    """What such a file holds."""

    pixels: np.ndarray
    """Perhaps masked."""
    layout: str
    """What its axes are, of C, H and W, where nobody says otherwise; empty where that is not clear."""
    header: Any = None
    """Of FITS."""


def layout_of(shape: tuple[int, ...], colours_last: bool = False) -> str:
    """The usual order of axes; empty for three of which the last may as well be the channels."""
    if len(shape) != 3:
        return {1: "W", 2: "HW"}.get(len(shape), "")
    if shape[2] <= _MOST_COLOURS < min(shape[:2]):
        return "HWC" if colours_last else ""
    return "CHW"


def fits_image(file: Path | BinaryIO, extension: str, source: str) -> Picture:
    """The named extension (`SCI`, `1`, or `SCI,2`), else the first that holds an image; blank pixels are NaN.

    source: what messages call the file.
    """
    fits = required("astropy.io.fits", Path(source), "FITS images", "astropy (it comes with galsim)")
    name, _, version = extension.partition(",")
    wanted = int(name) if name.isdigit() else (name, int(version)) if version.isdigit() else name
    with reading(Path(source), "FITS", zlib.error, AttributeError), fits.open(file, memmap=False) as opened:
        if extension:
            try:
                hdu = opened[wanted]
            except (KeyError, IndexError):
                has = ", ".join(f"{n} {hdu.name}".strip() for n, hdu in enumerate(opened))
                raise InputError(f"{source}: no extension {extension}; has {has}") from None
        else:
            hdu = next((hdu for hdu in opened if hdu.is_image and hdu.header.get("NAXIS", 0)), None)
        data = None if hdu is None or not hdu.is_image else hdu.data
        if data is None:
            raise InputError(f"{source}: holds no image{f' in extension {extension}' if extension else ''}")
        pixels = np.asarray(data)
        return Picture(pixels.astype(pixels.dtype.newbyteorder("=")), layout_of(pixels.shape), hdu.header)


def picture(file: Path | BinaryIO, extension: str, source: str) -> Picture:
    """PNG, JPEG and TIFF: grey or colours; an alpha channel that is the same everywhere is left out."""
    from PIL import Image
    from skimage.io import imread

    if extension:
        raise InputError(f"{source}: extension {extension}; only FITS files have extensions")
    is_tiff = source.lower().endswith((".tif", ".tiff"))
    with reading(Path(source), "a picture", SyntaxError):
        if is_tiff:
            pixels = imread(file, plugin="tifffile")
        else:
            with Image.open(file) as opened:
                pixels = np.asarray(opened.convert(_PLAIN.get(opened.mode, opened.mode)))
    if not is_tiff and pixels.ndim == 3 and pixels.shape[2] in (2, 4) and np.ptp(pixels[..., -1]) == 0:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :-1]
    return Picture(pixels, layout_of(pixels.shape, colours_last=True))


def numpy_image(file: Path | BinaryIO, extension: str, source: str) -> Picture:
    """An array of numpy."""
    if extension:
        raise InputError(f"{source}: extension {extension}; only FITS files have extensions")
    with reading(Path(source), "NPY"):
        pixels = np.load(file, allow_pickle=False)
    return Picture(pixels, layout_of(pixels.shape))


def turns(header: Any, source: str) -> tuple[bool, int]:
    """Whether to mirror an image of FITS, and how many quarter turns then bring north up and east to the left.

    By the world coordinates of its header, to the nearest quarter; rows count upwards. Raises InputError where there
    are none.
    """
    wcs = required("astropy.wcs", Path(source), "world coordinates", "astropy (it comes with galsim)")
    with reading(Path(source), "world coordinates"):
        found = wcs.WCS(header, naxis=2) if header is not None else None
    if found is None or not found.has_celestial:
        raise InputError(f"{source}: no celestial coordinates in the header; allowed with --north-up: images that have")
    matrix = found.pixel_scale_matrix[::1] if found.wcs.lng == 0 else found.pixel_scale_matrix[::-1]
    mirror = bool(np.linalg.det(matrix) > 0)  # east is to the left, so that a right image has a negative one
    if mirror:
        matrix = matrix * [-1, 1]
    angle = np.arctan2(matrix[1, 0], matrix[1, 1])  # of north, from up to the right
    return mirror, round(float(angle) / (np.pi / 2)) % 4
