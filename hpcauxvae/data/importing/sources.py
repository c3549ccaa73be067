"""Where the images of a set lie, and what belongs to them: files named in a catalogue, or arrays, sample by sample."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpcauxvae.data.importing import FILES, PICTURES, kind_of, parted, reader
from hpcauxvae.data.importing.members import Members, open_members
from hpcauxvae.data.importing.pictures import Picture, layout_of, picture
from hpcauxvae.types import InputError

AXES = "NCHW"
_MOST_PIXELS = 8192
"""Rows of an image, at most."""


class Item(NamedTuple):
    """What belongs to a sample."""

    where: str
    """File and row, as messages name them."""
    pixels: np.ndarray
    layout: str
    """What its axes are, of C, H and W; empty where that is not clear."""
    header: Any = None


@dataclass(frozen=True)
class Files:
    """A file for each sample."""

    paths: tuple[str, ...]
    rows: np.ndarray
    """Of the catalogue, (N,)."""
    extension: str

    def items(self, samples: range) -> Iterator[Item]:
        """The images of these samples, with where each is from."""
        for sample in samples:
            path, extension = parted(self.paths[sample])
            where = f"{path} (row {self.rows[sample]})"
            read = reader(Path(path), PICTURES)
            yield Item(where, *read(Path(path), extension or self.extension, path))

    def ends(self) -> set[str]:
        """How the names of the files end."""
        return {kind_of(Path(parted(path)[0])) for path in self.paths}


@dataclass(frozen=True)
class Stack:
    """An array with an axis of samples."""

    path: Path
    name: str
    rows: np.ndarray
    """Of the array, of each sample (N,)."""
    layout: str
    """Of all its axes; empty for the usual one."""

    def items(self, samples: range) -> Iterator[Item]:
        """As Files."""
        member = _opened(self.path)[self.name]
        rows = self.rows[samples.start : samples.stop]
        axis = self.layout.index("N") if self.layout else 0
        inner = self.layout.replace("N", "")
        found = member.read(rows, axis)
        for row, pixels in zip(rows, np.moveaxis(found, axis, 0) if axis else found, strict=True):
            where = f"{self.path}: {self.name} in row {row}"
            if isinstance(pixels, bytes):
                shown: Picture = picture(io.BytesIO(pixels), "", where)
                yield Item(where, shown.pixels, inner or shown.layout)
            else:
                yield Item(where, pixels, inner or layout_of(np.shape(pixels)))


@dataclass(frozen=True)
class Single:
    """An image that belongs to every sample, such as a mask of the detector."""

    path: Path
    pixels: np.ndarray
    layout: str

    def items(self, samples: range) -> Iterator[Item]:
        """As Files."""
        for _ in samples:
            yield Item(str(self.path), self.pixels, self.layout)


Source = Files | Stack | Single


def _opened(path: Path) -> Members:
    return _opened_as(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _opened_as(path: Path, changed: int) -> Members:
    return open_members(path)


class Place(NamedTuple):
    """Where something lies for each row of a catalogue, before rows without are left out."""

    missing: np.ndarray
    """(N,) whether a row has nothing."""
    why: Callable[[int], str]
    """What is wrong with such a row, in words."""
    source: Callable[[np.ndarray], Source]
    """Of these rows (n,)."""


@dataclass(frozen=True, kw_only=True)
class Finder:
    """Finds what an option names, `COLUMN`, `COLUMN[EXT]`, `[EXT]`, `FILE:NAME`, `FILE` or `folder/{id}.fits[EXT]`."""

    table: Members
    n: int
    """Rows of the catalogue."""
    ids: tuple[str, ...] | None
    id_column: str
    folder: Path
    """What file names in the catalogue are relative to."""
    rows_of: Callable[[Members, str, int], np.ndarray]
    """The rows of another file, with an array of that name and so many samples, of each row of the catalogue; -1 where
    it has none."""

    def single(self, text: str) -> Single | None:
        """The only image of a file, or the array FILE:NAME as a whole; None where the text names neither."""
        path, extension = parted(text)
        if not path or "{" in path or path in self.table:
            return None
        if Path(path).is_file() and kind_of(Path(path)) in PICTURES:
            with contextlib.suppress(InputError):  # a file of columns, or of arrays
                found = reader(Path(path), PICTURES)(Path(path), extension, path)
                return Single(Path(path), np.asarray(found.pixels), found.layout)
        file, _, name = text.rpartition(":")
        if not file or not Path(file).exists():
            file, name = path, extension
        if not Path(file).exists() or kind_of(Path(file)) not in FILES:
            return None
        members = _opened(Path(file))
        name = name or (members.names[0] if len(members.names) == 1 else "")
        if name not in members or members[name].shape[0] > _MOST_PIXELS:
            return None
        pixels = np.asarray(members[name].whole())
        return Single(Path(file), pixels, layout_of(pixels.shape)) if pixels.dtype.kind in "biuf" else None

    def every(self, single: Single) -> Place:
        """A place of what belongs to every row."""
        return Place(np.zeros(self.n, bool), lambda row: f"row {row}", lambda kept: single)

    def find(self, option: str, text: str, layout: str = "", images: str = "") -> Place:
        """images: what `[EXT]` alone is of. Raises InputError where the option names nothing."""
        column, extension = parted(text)
        if not column and images:
            column = parted(images)[0]
        if "{" in column:
            return self._files(option, column, extension, self._filled(option, column), Path())
        if column in self.table:
            member = self.table[column]
            if member.is_column:
                cells = np.ma.asarray(member.whole())
                if cells.dtype.kind not in "OSU":
                    raise InputError(
                        f"--{option} {text}: {self.table.path}: {column} has numbers; allowed: names of files"
                    )
                gone = np.ma.getmaskarray(cells)
                names = ["" if g else _text(c) for c, g in zip(cells.data.tolist(), gone, strict=True)]
                return self._files(option, column, extension, names, self.folder)
            return self._stack(option, self.table, column, layout)
        file, _, name = text.rpartition(":")
        if not file or not Path(file).exists():
            file, name = column, extension
        if file and Path(file).exists() and (kind_of(Path(file)) in FILES or Path(file).is_dir()):
            return self._stack(option, _opened(Path(file)), name, layout)
        raise InputError(
            f"--{option} {text}: no column of {self.table.path} and no file; allowed: FILE:NAME of an array, names of "
            f"files as stamps/{{id}}.fits, or a column: {', '.join(self.table.names)}"
        )

    def _filled(self, option: str, pattern: str) -> list[str]:
        """The names of files that a pattern gives, one a row."""
        fields = pattern.split("{")[1:]
        names = [field.partition("}")[0] for field in fields]
        columns = {}
        for name in names:
            if name == self.id_column and self.ids is not None:
                columns[name] = list(self.ids)
                continue
            cells = np.ma.asarray(self.table[name].whole())
            columns[name] = [_text(cell) for cell in cells.filled("" if cells.dtype.kind in "OSU" else 0).tolist()]
        filled = [pattern] * self.n
        for name in names:
            filled = [text.replace("{" + name + "}", cell) for text, cell in zip(filled, columns[name], strict=True)]
        return filled

    def _files(self, option: str, column: str, extension: str, names: list[str], folder: Path) -> Place:
        paths = [str(folder / name) if name else "" for name in names]
        listed: dict[str, set[str]] = {}

        def is_there(path: str) -> bool:
            parent, name = os.path.split(parted(path)[0])
            if parent not in listed:
                listed[parent] = set(os.listdir(parent or ".")) if os.path.isdir(parent or ".") else set()
            return name in listed[parent]

        def why(row: int) -> str:
            where = f"{self.table.path}: {column} in row {row}"
            if not paths[row]:
                return f"{where} names no file"
            lie = "a pattern starts where you are" if "{" in column else "--folder says where files lie"
            return f"{where}: {paths[row]}: no such file; {lie}"

        def source(rows: np.ndarray) -> Files:
            found = Files(tuple(paths[row] for row in rows), rows, extension)
            if unknown := sorted(found.ends() - {*PICTURES}):
                first = next(path for path in found.paths if kind_of(Path(parted(path)[0])) in unknown)
                raise InputError(f"--{option}: {first}: unknown kind {unknown[0]!r}; allowed: {', '.join(PICTURES)}")
            return found

        missing = np.array([not path or not is_there(path) for path in paths], bool)
        return Place(missing, why, source)

    def _stack(self, option: str, file: Members, name: str, layout: str) -> Place:
        if not name:
            if len(file.names) != 1:
                raise InputError(
                    f"--{option} {file.path}: which array? has {', '.join(file.names)}; allowed: FILE:NAME"
                )
            name = file.names[0]
        member = file[name]
        if option != "images" and len(layout) == len(member.shape) + 1:
            layout = layout.replace("C", "")
        if len(member.shape) == 2 and option == "images" and not layout:
            n, length = member.shape
            print(f"{file.path}: {name}: read as {n} spectra of {length} values, images of one row (--layout NW)")
        if len(member.shape) > 1:
            layout = layout or _usual(member.shape, f"--{option}: {file.path}: {name}")
            if len(layout) != len(member.shape) or "N" not in layout:
                raise InputError(
                    f"--layout {layout}: {file.path}: {name} has the shape {member.shape}; allowed: a letter for each "
                    "axis, N for that of the samples"
                )
        n = member.shape[layout.index("N") if layout else 0]
        rows = np.arange(self.n) if file is self.table and n == self.n else self.rows_of(file, name, n)

        def why(row: int) -> str:
            named = f"{self.ids[row]} in row {row}" if self.ids else f"row {row}"
            return f"{self.table.path}: {named} has none of the {n} rows of {file.path}: {name}"

        return Place(rows < 0, why, lambda kept: Stack(file.path, name, rows[kept], layout))


def _usual(shape: Sequence[int], source: str) -> str:
    """The usual layout of an array of images. Raises InputError where the channels may as well be last."""
    inner = layout_of(tuple(shape[1:]))
    if len(shape) > 4 or not inner:
        raise InputError(
            f"{source} has the shape {tuple(shape)}; allowed: --layout with a letter for each axis, as NHWC or NCHW"
        )
    return f"N{inner}"


def checked_layout(layout: str) -> str:
    """Raises InputError where the letters are not axes."""
    if layout and ({*layout} - {*AXES} or len({*layout}) != len(layout) or "W" not in layout):
        raise InputError(
            f"--layout {layout}: allowed: each axis once, N (samples), C (channels), H (rows), W (columns), as NHWC; "
            "W must be there"
        )
    return layout


def _text(cell: Any) -> str:
    return (cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else str(cell)).strip()
