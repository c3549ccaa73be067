"""FITS: the columns of the first table, and images by the names or numbers of their extensions."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.importing.astropy_tables import columns_of
from hpcauxvae.data.importing.members import Member, Members, pictures, reading, required, taken
from hpcauxvae.types import InputError


def members(path: Path) -> Members:
    """Columns; and images of at least three axes, as `SCI` or `1`, of which the last of FITS counts the samples.

    A file without these whose images have two axes is one image.
    """
    fits = required("astropy.io.fits", path, "FITS tables", "astropy (it comes with galsim)")
    table_type = required("astropy.table", path, "FITS tables", "astropy (it comes with galsim)").Table
    with reading(path, "FITS", zlib.error):
        opened = fits.open(path, memmap=not path.name.endswith(".gz"), lazy_load_hdus=False)
        images: dict[str, Any] = {}
        for number, hdu in enumerate(opened):
            if hdu.is_image and hdu.header.get("NAXIS", 0) >= 3:
                images |= {str(number): hdu, **({hdu.name: hdu} if hdu.name else {})}
        table = next((hdu for hdu in opened if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
        if table is None and not images and any(hdu.is_image and hdu.header.get("NAXIS", 0) == 2 for hdu in opened):
            return pictures(path)
        if table is None and not images:
            raise InputError(f"{path}: holds no FITS table, and no cube of images")
        named = [*{id(hdu): name for name, hdu in images.items()}.values()]  # else the number
        if table is None or any(hdu is table for hdu in images.values()):
            return Members(path, named, lambda name: _cube(images[name]), also=images)
        columns = columns_of(path, table_type.read(table))
    names = [*table.columns.names, *(name for name in named if name not in table.columns.names)]
    return Members(path, names, lambda name: columns.get(name) if name in columns else _cube(images[name]), also=images)


def _cube(hdu: Any) -> Member:
    def read(rows: np.ndarray, axis: int) -> np.ndarray:
        found = taken(hdu.section if hasattr(hdu, "section") else hdu.data, rows, axis)
        return found.astype(found.dtype.newbyteorder("="))

    return Member(hdu.shape, read, str(hdu.header.get("BUNIT", "")), False)
