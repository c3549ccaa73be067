"""Other people's files. To read one more kind: a file here with a function, and a line below.

`FILES` hold columns and arrays by name; their functions take a path and give `members.Members`. `PICTURES` hold one
image each; their functions take a path, or an open binary file, and the name of an extension, and give
`pictures.Picture`.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from hpcauxvae.types import InputError

FILES = {
    ".csv": "hpcauxvae.data.importing.csv_file:members",
    ".fits": "hpcauxvae.data.importing.fits_file:members",
    ".fit": "hpcauxvae.data.importing.fits_file:members",
    ".h5": "hpcauxvae.data.importing.hdf5_file:members",
    ".hdf5": "hpcauxvae.data.importing.hdf5_file:members",
    ".nc": "hpcauxvae.data.importing.netcdf_file:members",
    ".npz": "hpcauxvae.data.importing.numpy_file:members",
    ".npy": "hpcauxvae.data.importing.numpy_file:member",
    ".zarr": "hpcauxvae.data.importing.zarr_folder:members",
    ".ecsv": "hpcauxvae.data.importing.astropy_tables:ecsv_members",
    ".vot": "hpcauxvae.data.importing.astropy_tables:votable_members",
    ".xml": "hpcauxvae.data.importing.astropy_tables:votable_members",
    ".parquet": "hpcauxvae.data.importing.parquet_file:members",
}
PICTURES = {
    ".fits": "hpcauxvae.data.importing.pictures:fits_image",
    ".fit": "hpcauxvae.data.importing.pictures:fits_image",
    ".fz": "hpcauxvae.data.importing.pictures:fits_image",
    ".png": "hpcauxvae.data.importing.pictures:picture",
    ".jpg": "hpcauxvae.data.importing.pictures:picture",
    ".jpeg": "hpcauxvae.data.importing.pictures:picture",
    ".tif": "hpcauxvae.data.importing.pictures:picture",
    ".tiff": "hpcauxvae.data.importing.pictures:picture",
    ".npy": "hpcauxvae.data.importing.pictures:numpy_image",
}

_EXTENSION = re.compile(r"(.*)\[([^\[\]]+)\]")


def kind_of(path: Path) -> str:
    """How its name ends, in small letters, without `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def reader(path: Path, kinds: dict[str, str]) -> Any:
    """The function that reads such a file. Raises InputError where none does."""
    kind = kind_of(path)
    if kind not in kinds:
        raise InputError(f"{path}: unknown kind {kind!r}; allowed: {', '.join(kinds)}")
    module, _, name = kinds[kind].partition(":")
    return getattr(import_module(module), name)


def parted(text: str) -> tuple[str, str]:
    """`stamp.fits[SCI]` as the file and its extension, which is empty where none is named."""
    found = _EXTENSION.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")
