"""Tables that astropy reads: ECSV and VOTable, with the units of their columns."""

from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.importing.members import Members, reading, required, table_member
from hpcauxvae.types import InputError

_INSTALL = "astropy (it comes with galsim)"


def ecsv_members(path: Path) -> Members:
    """The columns of an ECSV file, which may be compressed by gzip."""
    table = required("astropy.table", path, "ECSV tables", _INSTALL).Table
    with reading(path, "ECSV"):
        return columns_of(path, table.read(path, format="ascii.ecsv"))


def votable_members(path: Path) -> Members:
    """The columns of the first table of a VOTable, by their names."""
    votable = required("astropy.io.votable", path, "VOTables", _INSTALL)
    with reading(path, "VOTable", IndexError):
        tables = list(votable.parse(path).iter_tables())
        return columns_of(path, tables[0].to_table(use_names_over_ids=True))


def columns_of(path: Path, table: Any) -> Members:
    """The columns of an astropy.table.Table. Raises InputError where it has no rows."""
    if len(table) == 0:
        raise InputError(f"{path}: the table has no rows")
    names = list(table.colnames)
    return Members(
        path, names, lambda name: table_member(np.ma.array(table[name]), str(getattr(table[name], "unit", "") or ""))
    )
