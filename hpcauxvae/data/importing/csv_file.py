"""CSV: a header line, commas; also compressed by gzip."""

import csv
import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.importing.members import Members, table_member
from hpcauxvae.types import InputError


def members(path: Path) -> Members:
    """Columns of text; empty cells are masked."""
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte-order mark
            header, *lines = [line for line in csv.reader(file, skipinitialspace=True) if line] or [[]]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    if not lines:
        raise InputError(f"{path}: no rows below a header line")
    for row, line in enumerate(lines):
        if len(line) != len(header):
            raise InputError(f"{path}: row {row} has {len(line)} cells below {len(header)} names")

    def column(name: str) -> Any:
        place = header.index(name)
        cells = [line[place].strip() for line in lines]
        return table_member(np.ma.array(cells, mask=[not cell for cell in cells]))

    return Members(path, header, column)
