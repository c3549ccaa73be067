"""What `data import` is to make: which rows, which quantities, where each image lies."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import hpcauxvae
from hpcauxvae.data.hdf5 import Provenance
from hpcauxvae.data.importing import PICTURES, kind_of, parted
from hpcauxvae.data.importing.columns import beside_of, factors_of
from hpcauxvae.data.importing.members import Member, Members, open_members, pictures
from hpcauxvae.data.importing.options import Import
from hpcauxvae.data.importing.recipe import Recipe
from hpcauxvae.data.importing.sources import Files, Finder, Place, Stack, checked_layout
from hpcauxvae.data.tables import exact
from hpcauxvae.types import Factor, InputError

_IDS = ("id", "object_id", "objid", "source_id")
_MAPS = ("weights", "noise", "variance", "mask", "good")
_UNIVERSE = (
    ("image.flux", {"weights": "image.ivar", "good": "image.mask"}),
    ("image_array", {"weights": "image_ivar", "good": "image_mask"}),
)
"""How the Multimodal Universe names images and what belongs to them, in Parquet and in HDF5."""
_FLUX_OF = {"image.band": "image.flux", "image_band": "image_array"}
_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides what the file will hold."""

    out: Path
    recipe: Recipe
    n: int
    factors: tuple[Factor, ...]
    values: np.ndarray
    """(N, F) float64 in physical units."""
    provenance: Provenance
    beside: dict[str, Any]
    """What else the file holds, by the names of beside.Beside."""

    @property
    def identity(self) -> dict[str, Any]:
        """What two starts must have in common to share what they read."""
        recipe = self.recipe
        sources = [source for group in ("images", *_MAPS) for source in getattr(recipe, group)]
        lists, changed = hashlib.sha256(), hashlib.sha256()
        for source in sources:
            match source:
                case Files(paths=paths):
                    lists.update("\n".join(paths).encode())
                    changed.update("\n".join(_stamp(Path(parted(path)[0])) for path in paths).encode())
                case Stack(rows=rows):
                    lists.update(rows.tobytes())
        stamps = {str(source.path): _stamp(source.path) for source in sources if not isinstance(source, Files)}
        return {
            **{key: str(value) for key, value in self.provenance.items()},
            "lists": lists.hexdigest(),
            "rows": self.n,
            "shape": list(recipe.shape),
            "dtype": str(recipe.dtype),
            "files": stamps,
            "sizes and times of files": changed.hexdigest(),
        }


def _stamp(path: Path) -> str:
    """Size and time of a file, or of all files of a folder: another where it has changed."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return " ".join(f"{file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)


def plan_of(options: Import, shape: tuple[int, ...] = ()) -> Plan:
    """Raises InputError naming option or file, row, field, value and what is allowed.

    shape: (C, H, W) of the images that are wanted, where that is known: an array of that very shape is one of them.
    """
    table = open_members(options.source)
    if shape and not options.images and not options.layout and _is_one(table, shape):
        table = pictures(options.source)
    options = _told_by(table, options)
    layout = checked_layout(options.layout)
    images, maps = _guessed(table, options)
    id_column, ids = _ids(table, options)
    n = _rows(table, options, images, ids)
    finder = Finder(
        table=table,
        n=n,
        ids=ids,
        id_column=id_column,
        folder=options.folder or (options.source if options.source.is_dir() else options.source.parent),
        rows_of=_joining(table, n, ids, options.ids or id_column),
    )
    places = {"images": [finder.find("images", text, layout) for text in images.split(",")]}
    places |= _places_of(maps, finder, places["images"], layout, images.split(",")[0])
    kept = _kept(table, n, places, options.matched)
    sources = {option: tuple(place.source(kept) for place in found) for option, found in places.items()}
    recipe = Recipe(
        **sources,  # type: ignore[arg-type]
        layout=layout.replace("N", ""),
        size=_size(options.size),
        fill=options.fill,
        north_up=options.north_up,
    ).known(options.dtype)
    factors, values = factors_of(table, options, n, kept, {id_column, *images.split(",")})
    beside: dict[str, Any] = {"id": None if ids is None else np.array(ids)[kept]}
    return Plan(
        out=options.out,
        recipe=recipe,
        n=len(kept),
        factors=factors,
        values=values,
        provenance=_provenance(options, table, images, maps, recipe),
        beside=beside | beside_of(table, options, n, kept, factors, values),
    )


def _is_one(table: Members, shape: tuple[int, ...]) -> bool:
    """Whether a file has one array, and this is an image of that shape, (H, W) of one band, not several images."""
    own = shape if shape[0] > 1 else shape[1:] if shape[1] > 1 else shape[2:]
    return kind_of(table.path) in PICTURES and len(table.names) == 1 and table[table.names[0]].shape == own


def _places_of(
    maps: dict[str, str], finder: Finder, images: list[Place], layout: str, name: str
) -> dict[str, list[Place]]:
    """Where noise and holes (_MAPS) lie for each row: an image for each, or one for all. name: of the images."""
    found: dict[str, list[Place]] = {}
    has = np.flatnonzero(~np.any([place.missing for place in images], axis=0))[:1]
    recipe = Recipe(images=tuple(place.source(has) for place in images), layout=layout.replace("N", ""))
    for option, text in maps.items():
        found[option] = []
        for part in filter(None, text.split(",")):
            single = finder.single(part)
            if single is not None and single.pixels.ndim > 2 and single.pixels.shape[0] == finder.n:
                single = None  # an image for each
            whole = single is not None and len(has) > 0 and recipe.fits(single, recipe.first())
            found[option].append(finder.every(single) if single and whole else finder.find(option, part, layout, name))
    return found


def _told_by(table: Members, options: Import) -> Import:
    """The options, with what the file itself tells where the user says nothing."""
    told = dict(table.options)
    if options.images not in ("", told.get("images")):
        told = {name: of for name, of in told.items() if name not in ("images", "weights")}
    elif told:
        told["layout"] = "NCHW"
    if "weights" in told and (
        options.weights or options.noise or options.variance
    ):  # which pixels are missing is still to be known
        told["good"] = told.pop("weights")
    if options.columns:
        chosen = options.columns.split(",")
        parts = [part for part in told.get("errors", "").split(",") if part.partition("=")[0] in chosen]
        told["errors"] = ",".join(parts)
    default = Import(source=options.source, out=options.out)  # of ids None: empty is for none
    left = {name: of for name, of in told.items() if getattr(options, name) == getattr(default, name)}
    return replace(options, **left)  # type: ignore[arg-type]


def _guessed(table: Members, options: Import) -> tuple[str, dict[str, str]]:
    """Where the images are, and noise and holes (_MAPS), as the user says, or as there is one choice."""
    maps = {option: getattr(options, option) for option in _MAPS}
    if options.images:
        return options.images, maps
    for name, fields in _UNIVERSE:
        if name in table:
            return name, maps | {option: name for option, name in fields.items() if name in table and not maps[option]}
    arrays = [name for name in table.names if table.names.count(name) == 1 and not table[name].is_column]
    if "image.bytes" in arrays or len(arrays) == 1:
        return ("image.bytes" if "image.bytes" in arrays else arrays[0]), maps
    files = [name for name in table.names if table.names.count(name) == 1 and _names_files(table[name])]
    if not arrays and len(files) == 1:
        return files[0], maps
    if not arrays and not files:
        raise InputError(
            f"--images: not given, and {table.path} has neither arrays of images nor names of files; allowed: names as "
            f"stamps/{{COLUMN}}.fits, or FILE:NAME of an array; columns: {', '.join(table.names)}"
        )
    choice = ", ".join(arrays or files)
    raise InputError(
        f"--images: not given, and not clear in {table.path}; has {choice}; allowed: one of them, or FILE:NAME"
    )


def _names_files(member: Member) -> bool:
    """Whether a column's first cell is a name of an image."""
    cell = member.read(np.arange(1), 0)[0] if member.is_column and member.shape[0] else None
    text = cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)
    return kind_of(Path(parted(text)[0])) in PICTURES


def _ids(table: Members, options: Import) -> tuple[str, tuple[str, ...] | None]:
    column = options.id
    if column is None:
        column = next((name for name in table.names if name.lower() in _IDS and table.names.count(name) == 1), "")
    if not column:
        return "", None
    return column, exact(np.ma.asarray(table[column].whole()), f"{table.path}: {column}")


def _rows(table: Members, options: Import, images: str, ids: tuple[str, ...] | None) -> int:
    """How many rows the catalogue has."""
    named = [name for name in options.columns.split(",") if name]
    text = images.split(",")[0]
    first = text.removeprefix(f"{table.path}:")
    if ids is not None:
        n = len(ids)
    elif named:
        n = table[named[0]].shape[0]
    elif first in table or first != text:
        member = table[first]
        whole = len(options.layout) == len(member.shape) and "N" in options.layout
        n = member.shape[options.layout.index("N") if whole else 0]
    else:
        lengths = {
            table[name].shape[0] for name in table.names if table.names.count(name) == 1 and table[name].is_column
        }
        if len(lengths) > 1:
            raise InputError(
                f"{table.path}: columns of {sorted(lengths)} rows; allowed: --columns, or --id, to say which"
            )
        n = lengths.pop() if lengths else 0
    if n < 1:
        raise InputError(f"{table.path}: no rows; allowed: at least one")
    return n


def _joining(
    table: Members, n: int, ids: tuple[str, ...] | None, name: str
) -> Callable[[Members, str, int], np.ndarray]:
    """How rows of another file are found: by the ids in it, or by their order where it has none."""

    def rows_of(file: Members, array: str, count: int) -> np.ndarray:
        if ids is not None and name in file and file[name].shape[0] == count:
            theirs = exact(np.ma.asarray(file[name].whole()), f"{file.path}: {name}")
            row_of = {theirs_id: row for row, theirs_id in enumerate(theirs)}
            return np.array([row_of.get(own, -1) for own in ids], np.int64)
        if ids is not None and file.path != table.path:
            like = [own for own in file.names if own.lower() in _IDS and file[own].shape == (count,)]
            if like:
                raise InputError(
                    f"{file.path}: has ids in {like[0]}, {table.path} in {name}; allowed: --ids {like[0]} to find rows "
                    "by them, or --id '' where they are in the same order"
                )
            words = f"has no ids {name}: its rows are taken in the order of {table.path}"
            print(f"warning: {file.path}: {array} {words}", file=sys.stderr, flush=True)
        elif file.path != table.path:
            print(f"{file.path}: {array}: there are no ids, so its rows are taken in the order of {table.path}")
        if count != n:
            raise InputError(
                f"{file.path}: {array} has {count} samples, but {table.path} {n} rows; allowed: as many in the same "
                "order, or ids in both (--id, --ids)"
            )
        return np.arange(n)

    return rows_of


def _kept(table: Members, n: int, places: dict[str, list[Place]], matched: bool) -> np.ndarray:
    """The rows that have all that they need. Raises InputError where one has not, unless such are left out."""
    lost = np.zeros(n, bool)
    for place in (place for found in places.values() for place in found):
        rows = np.flatnonzero(place.missing)
        if len(rows) and not matched:
            raise InputError(
                f"{place.why(int(rows[0]))} ({len(rows)} of {n} rows are like that); allowed: all, or --matched, which "
                "leaves such rows out"
            )
        lost |= place.missing
    kept = np.flatnonzero(~lost)
    if len(kept) == 0:
        raise InputError(f"{table.path}: none of {n} rows has an image; allowed: at least one that has")
    if len(kept) < n:
        print(f"{n - len(kept)} of {n} rows have no image and are left out")
    return kept


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    try:
        height, width = (int(part) for part in text.split(","))
        if min(height, width) < 1:
            raise ValueError(text)
    except ValueError:
        raise InputError(f"--size {text}: allowed is H,W, whole numbers from 1 on") from None
    return height, width


def _provenance(
    options: Import, table: Members, images: str, maps: dict[str, str], recipe: Recipe
) -> dict[str, str | int | float]:
    told: dict[str, str | int | float] = {"simulator": f"hpcauxvae {hpcauxvae.__version__}, data import"}
    told |= {"source": str(options.source), "images": images, **{name: text for name, text in maps.items() if text}}
    for name in ("layout", "size", "fill", "north_up", "matched"):
        value = getattr(options, name)
        if value not in ("", None, False):
            told[name] = str(value)
    for name in (name for name in ("image.band", "image_band") if name in table and images == _FLUX_OF[name]):
        told["bands"] = _bands(table, name)
    source, item = recipe.images[0], next(recipe.images[0].items(range(1)))
    if images == table.options.get("images"):
        told |= table.provenance
    unit = str(item.header.get("BUNIT", "")) if item.header is not None else ""
    from_south = False
    if isinstance(source, Stack):
        member = open_members(source.path)[source.name]
        unit, from_south = member.unit, member.from_south
    if unit:
        told["image_unit"] = unit
    is_fits = item.header is not None or (isinstance(source, Stack) and kind_of(source.path) in (".fits", ".fit"))
    if is_fits or from_south:
        told["image_origin"] = "lower"
    return told


def _bands(table: Members, name: str) -> str:
    """The names of the bands. Raises InputError where they are not the same in every row."""
    member, first = table[name], ""
    for start in range(0, member.shape[0], _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, member.shape[0]))
        for row, cells in zip(rows, member.read(rows, 0), strict=True):
            bands = ",".join(
                cell.decode() if isinstance(cell, bytes) else str(cell) for cell in np.ravel(cells).tolist()
            )
            first = first or bands
            if bands != first:
                raise InputError(f"{table.path}: {name} in row {row} is {bands}; allowed: {first}, as in row 0")
    return first
