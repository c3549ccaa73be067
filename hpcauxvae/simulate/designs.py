"""Which galaxies a set holds: a design gives row i of n its factor values.

Sobol, uniform and table designs give row i whatever n is, so a set can be extended; the points of a Latin hypercube are
others for another n. N rows, F factors.
"""

import csv
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.stats import qmc

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.types import Factor, InputError

_DESIGN = 0  # (0,) is the design's among the streams of a seed; (1, index) are the galaxies'
_SOBOL_BITS = 32  # more, scipy cannot wind forward


def _stream(seed: int) -> np.random.PCG64:
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_DESIGN,)))


def latin_hypercube(n: int, seed: int, start: int, stop: int, dimensions: int) -> np.ndarray:
    """Rows start to stop of n: each factor once in each of n strata (McKay, Beckman, Conover 1979)."""
    return qmc.LatinHypercube(dimensions, rng=np.random.Generator(_stream(seed))).random(n)[start:stop]


def sobol(n: int, seed: int, start: int, stop: int, dimensions: int) -> np.ndarray:
    """Rows start to stop of the scrambled Sobol sequence of this seed, which has 2**32 points."""
    if stop > 2**_SOBOL_BITS:
        raise InputError(f"--n {n}: allowed with --design sobol is up to {2**_SOBOL_BITS}")
    sequence = qmc.Sobol(dimensions, scramble=True, bits=_SOBOL_BITS, rng=np.random.Generator(_stream(seed)))
    if start:
        sequence.fast_forward(start)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The balance properties of Sobol", category=UserWarning)
        return sequence.random(stop - start)


def uniform(n: int, seed: int, start: int, stop: int, dimensions: int) -> np.ndarray:
    """Rows start to stop of independent uniform draws."""
    stream = _stream(seed)
    stream.advance(start * dimensions)
    return np.random.Generator(stream).random((stop - start, dimensions))


DESIGNS: dict[str, Callable[[int, int, int, int, int], np.ndarray]] = {
    "latin-hypercube": latin_hypercube,
    "sobol": sobol,
    "uniform": uniform,
}
"""(n, seed, start, stop, dimensions) -> (stop - start, dimensions) in [0, 1)."""

FIXED_SIZE = ("latin-hypercube",)
"""Designs whose points are others for every n, so that they can never be extended."""


def rows(design: str, n: int, seed: int, start: int, stop: int, factors: Sequence[Factor]) -> np.ndarray:
    """(stop - start, F) float64 in physical units."""
    unit = DESIGNS[design](n, seed, start, stop, len(factors))
    return np.stack([f.unscale(column) for f, column in zip(factors, unit.T, strict=True)], axis=1)


def read_table(path: Path, factors: Sequence[Factor]) -> np.ndarray:
    """(N, F) float64, the columns of these names in a table; other columns are not read.

    CSV (a header line, commas), FITS (the first table) or HDF5 (a set of this package's format, or one data set a
    column). Raises InputError naming file, row, column and value.
    """
    readers: dict[str, Callable[[Path, Sequence[str]], Sequence[Any]]]
    readers = {".csv": _csv, ".fits": _fits, ".fit": _fits, ".h5": _hdf5, ".hdf5": _hdf5}
    if path.suffix.lower() not in readers:
        raise InputError(f"--table {path}: unknown kind {path.suffix!r}; allowed: {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"--table {path}: no such file")
    names = [factor.name for factor in factors]
    columns = [np.asarray(column, float) for column in readers[path.suffix.lower()](path, names)]
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise InputError(f"--table {path}: columns of different lengths: {lengths}")
    return np.stack(columns, axis=1)


def check_ranges(values: np.ndarray, factors: Sequence[Factor], source: str) -> None:
    """Raises InputError naming the first row of values (N, F) that lies outside a factor's range, or is NaN."""
    for factor, column in zip(factors, values.T, strict=True):
        good = (column >= factor.low) & (column <= factor.high)
        if not good.all():
            first = int(np.argmin(good))
            raise InputError(
                f"{source}: row {first}: {factor.name} = {column[first]} is outside {factor.low:g} to {factor.high:g} "
                f"{factor.unit}".rstrip()
                + f" ({int((~good).sum())} such rows); --ranges {factor.name}=LOW:HIGH allows more"
            )


def _missing(path: Path, name: str, known: Sequence[str]) -> InputError:
    return InputError(f"--table {path}: no column {name}; has {', '.join(known)}")


def _csv(path: Path, names: Sequence[str]) -> list[list[float]]:
    try:
        with open(path, newline="") as file:
            lines = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--table {path}: cannot be read as CSV: {error}") from error
    if not lines:
        raise InputError(f"--table {path}: no rows below a header line")
    columns = []
    for name in names:
        if name not in lines[0]:
            raise _missing(path, name, [str(known) for known in lines[0]])
        column = []
        for number, line in enumerate(lines):
            try:
                column.append(float(line[name]))
            except (TypeError, ValueError):
                raise InputError(f"--table {path}: row {number}: {name} = {line[name]!r} is not a number") from None
        columns.append(column)
    return columns


def _fits(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    from astropy.io import fits  # comes with galsim

    try:
        with fits.open(path, memmap=False) as opened:
            table = next((hdu.data for hdu in opened if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
            if table is None:
                raise InputError(f"--table {path}: holds no FITS table")
            for name in names:
                if name not in table.names:
                    raise _missing(path, name, table.names)
            return [np.array(table[name], float) for name in names]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"--table {path}: cannot be read as FITS: {error}") from error


def _is_column(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 1 and item.dtype.kind in "iufb"


def _hdf5(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            whole_set = "format_version" in file.attrs
            if not whole_set:
                known = [key for key in file if _is_column(file[key])]
                for name in names:
                    if name not in known:
                        raise _missing(path, name, known)
                return [file[name][:] for name in names]
    except OSError as error:
        raise InputError(f"--table {path}: cannot be read as HDF5: {error}") from error
    other = open_set(path)
    return list(other.values[:, other.column(names)].T)
