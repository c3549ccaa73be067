"""Tables of results, row after row in pieces: ECSV, FITS, Parquet and HDF5, with units, and told where they come from.

N rows.
"""

import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import reopen, whole_file
from hpcauxvae.data.importing.members import reading
from hpcauxvae.data.stored import open_file, plain
from hpcauxvae.runtime.files import whole
from hpcauxvae.types import Factor, InputError

_FITS_BLOCK = 2880


@dataclass(frozen=True)
class Head:
    """What is known of a table before its rows."""

    n: int
    units: Mapping[str, str]
    """Of each column, in their order; empty where it has none."""
    about: Mapping[str, str | int | float]
    """Where the rows come from, by names of up to eight letters, as FITS has them."""
    letters: Mapping[str, int]
    """Of each column of texts, the most that one takes in `ascii_only`."""


Pieces = Iterator[dict[str, NDArray]]
"""Columns (n,) by name, row after row; those of `Head.units`."""


def as_precise(values_N: NDArray, of: Factor | None = None) -> NDArray[np.float64]:
    """Values (N,) to the digits that float32, in which networks compute, tells: seven behind the first of the range of
    a factor, or where there is none, or its scale is logarithmic, behind the first of each value."""
    values_N = np.asarray(values_N, np.float64)
    span = np.nan if of is None or of.transform == "log10" else of.high - of.low
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        first_N = np.floor(np.log10(np.abs(values_N) if np.isnan(span) else np.full_like(values_N, span)))
        up_N, down_N = 10.0 ** np.maximum(7 - first_N, 0), 10.0 ** np.maximum(first_N - 7, 0)
        found_N = np.rint(values_N * up_N / down_N) * down_N / up_N
    return np.where(np.isfinite(found_N), found_N, values_N)


def ascii_only(text: str) -> str:
    """What a FITS header takes: printable ASCII, all else as in a Python string."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


def fits_unit(unit: str) -> str:
    """A unit as FITS spells it, uJy for µJy; a unit that astropy does not know, as `ascii_only` writes it."""
    from astropy import units

    try:
        return ascii_only(unit) if unit.isascii() else str(units.Unit(unit).to_string("fits"))
    except ValueError:
        return ascii_only(unit)


def _write_ecsv(path: Path, head: Head, pieces: Pieces) -> None:
    """The header as astropy writes it, once, and its rows."""
    with whole(path) as part, part.open("w", encoding="utf-8") as file:
        for number, columns in enumerate(pieces):
            text = io.StringIO()
            _of_astropy(head, columns).write(text, format="ascii.ecsv")
            lines = text.getvalue().splitlines(keepends=True)
            rows = next(n for n, line in enumerate(lines) if not line.startswith("#")) + 1
            file.writelines(lines if number == 0 else lines[rows:])


def _of_astropy(head: Head, columns: Mapping[str, NDArray]) -> Any:
    from astropy.table import Table

    table = Table({name: columns[name] for name in head.units}, meta=dict(head.about))
    for name, unit in head.units.items():
        table[name].unit = unit or None
    return table


def _about_ecsv(path: Path) -> dict[str, Any]:
    from astropy.table.meta import get_header_from_yaml

    with reading(path, "ECSV"), path.open(encoding="utf-8") as file:
        lines = []
        for line in file:
            if not line.startswith("# "):
                break
            lines.append(line[2:].rstrip("\n"))
        return dict(get_header_from_yaml(lines[1:])["meta"])  # the first line is the version


def _write_fits(path: Path, head: Head, pieces: Pieces) -> None:
    """A table of N rows, of which a piece at a time is made by astropy."""
    from astropy.io import fits

    with whole(path) as part, part.open("wb") as file:
        size = 0
        for number, columns in enumerate(pieces):
            found = fits.BinTableHDU.from_columns(
                [_fits_column(name, unit, columns[name], head.letters) for name, unit in head.units.items()],
                name="PREDICTIONS",
            )
            memory = io.BytesIO()
            fits.HDUList([fits.PrimaryHDU(), found]).writeto(memory)
            n_bytes = found.header["NAXIS1"] * found.header["NAXIS2"]
            first = len(memory.getvalue()) - n_bytes - -n_bytes % _FITS_BLOCK
            if number == 0:
                header = found.header.copy()
                header["NAXIS2"] = head.n
                for name, value in head.about.items():
                    header[name.upper()] = ascii_only(value) if isinstance(value, str) else value
                file.write((fits.PrimaryHDU().header.tostring() + header.tostring()).encode())
            file.write(memory.getvalue()[first : first + n_bytes])
            size += n_bytes
        file.write(bytes(-size % _FITS_BLOCK))


def _fits_column(name: str, unit: str, values_N: NDArray, letters: Mapping[str, int]) -> Any:
    from astropy.io import fits

    kind = f"{letters[name]}A" if name in letters else {"b": "L", "i": "K", "u": "K", "f": "D"}[values_N.dtype.kind]
    array = np.array([ascii_only(text) for text in values_N.tolist()]) if name in letters else values_N
    return fits.Column(name=ascii_only(name), format=kind, unit=fits_unit(unit) or None, array=array)


def _about_fits(path: Path) -> dict[str, Any]:
    from astropy.io import fits

    with reading(path, "FITS", IndexError):
        return {name.lower(): value for name, value in fits.getheader(path, 1).items()}


def _write_parquet(path: Path, head: Head, pieces: Pieces) -> None:
    """A group of rows for each piece."""
    import pyarrow
    from pyarrow import parquet

    with whole(path) as part:
        writer = None
        for columns in pieces:
            arrays = [pyarrow.array(columns[name]) for name in head.units]
            if writer is None:
                fields = [
                    pyarrow.field(name, array.type, metadata={"unit": unit} if unit else None)
                    for (name, unit), array in zip(head.units.items(), arrays, strict=True)
                ]
                about = {name: str(value) for name, value in head.about.items()} | _for_astropy(head, columns)
                writer = parquet.ParquetWriter(part, pyarrow.schema(fields, metadata=about))
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=writer.schema))
        if writer is not None:
            writer.close()


def _for_astropy(head: Head, columns: Mapping[str, NDArray]) -> dict[str, str]:
    """By what `Table.read` of astropy finds units and meta in Parquet; nothing where astropy is not there."""
    if importlib.util.find_spec("astropy") is None:
        return {}
    from astropy.table.meta import get_yaml_from_table

    return {"table_meta_yaml": "\n".join(get_yaml_from_table(_of_astropy(head, columns)))}


def _about_parquet(path: Path) -> dict[str, Any]:
    import pyarrow
    from pyarrow import parquet

    with reading(path, "Parquet", pyarrow.ArrowException):
        told = parquet.read_schema(path).metadata or {}
    return {name.decode(): value.decode() for name, value in told.items()}


def _write_hdf5(path: Path, head: Head, pieces: Pieces) -> None:
    """A data set for each column."""
    n_bytes = head.n * (10 * len(head.units) + sum(32 + letters for letters in head.letters.values()))
    with whole_file(path, n_bytes) as part, reopen(part) as file:
        file.attrs.update(head.about)
        first = 0
        for columns in pieces:
            for name, unit in head.units.items():
                text, values_N = name in head.letters, columns[name]
                stored = file.require_dataset(name, (head.n,), h5py.string_dtype() if text else values_N.dtype)
                stored[first : first + len(values_N)] = values_N.astype(object) if text else values_N
                stored.attrs["unit"] = unit
            first += len(values_N)


def _about_hdf5(path: Path) -> dict[str, Any]:
    with open_file(path) as file:
        return {name: plain(value) for name, value in file.attrs.items()}


class _Kind(NamedTuple):
    write: Callable[[Path, Head, Pieces], None]
    about: Callable[[Path], dict[str, Any]]
    needs: str
    """The package."""


KINDS = {
    ".ecsv": _Kind(_write_ecsv, _about_ecsv, "astropy"),
    ".fits": _Kind(_write_fits, _about_fits, "astropy"),
    ".parquet": _Kind(_write_parquet, _about_parquet, "pyarrow"),
    ".h5": _Kind(_write_hdf5, _about_hdf5, "h5py"),
}
"""By how the name of the file ends."""


def check_kind(path: Path) -> None:
    """Raises InputError where no such table is written, or what writes it is not there."""
    if path.suffix not in KINDS:
        raise InputError(f"out = {path}; allowed: a name that ends in {', '.join(KINDS)}")
    if importlib.util.find_spec(needed := KINDS[path.suffix].needs) is None:
        raise InputError(f"{path}: such a table needs {needed}; `pip install 'hpcauxvae[import]'` mends it")


def write(path: Path, head: Head, pieces: Pieces) -> None:
    """Writes a table whole, or not at all. Raises InputError where the disk does not take it."""
    KINDS[path.suffix].write(path, head, pieces)


def about(path: Path) -> dict[str, Any]:
    """What `Head.about` had; empty where the file is not there, or is no such table."""
    try:
        return KINDS[path.suffix].about(path) if path.is_file() else {}
    except InputError:
        return {}
