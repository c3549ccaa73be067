"""The columns of a catalogue as the quantities of a set, and what stands beside them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hpcauxvae.data.beside import value_errors
from hpcauxvae.data.classes import as_texts, coded, is_number
from hpcauxvae.data.given import labels
from hpcauxvae.data.hdf5 import check_values
from hpcauxvae.data.importing.members import Members
from hpcauxvae.data.importing.options import Import
from hpcauxvae.data.likely_kinds import turn_of
from hpcauxvae.types import KINDS, TRANSFORMS, Factor, InputError

_Column = tuple[np.ndarray, tuple[str, ...]]
"""Values (N,), and the names that they stand for where they do."""
_OR = ", or --kind "
_OF_A_CLASS = 10
"""Rows of a class on the average, at least, where text is taken for one."""


def _by_name(option: str, text: str, names: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE,NAME=VALUE`. Raises InputError where a name is none of these."""
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if name not in names or not equals:
            raise InputError(f"--{option} {part}: allowed is NAME=VALUE, NAME one of {', '.join(names)}")
        found[name] = value
    return found


def factors_of(
    table: Members, options: Import, n: int, kept: np.ndarray, others: set[str]
) -> tuple[tuple[Factor, ...], np.ndarray]:
    """The measured quantities and their values (N, F), of the rows that are kept.

    others: columns that are none by themselves. Raises InputError naming file, column, row and value.
    """
    _missing(options)  # before a column that cannot be read is left out
    errors = _by_name("errors", options.errors, table.names)
    others = (others | {options.group, options.split, *errors.values()}) - ({options.group} & _asked(options))
    columns = (
        _named_columns(table, options, n, kept) if options.columns else _all_columns(table, options, n, kept, others)
    )
    if columns and len(kept) < 2:
        raise InputError(f"{table.path}: {len(kept)} rows; allowed: 2 or more where there are quantities")
    if not columns:
        print(f"{table.path}: no column of numbers that vary: a set without labels")
        return (), np.empty((len(kept), 0))
    units = _by_name("unit", options.unit, columns)
    kinds = _by_name("kind", options.kind, columns)
    ranges = _by_name("range", options.range, columns)
    logarithmic = _names(options.log)
    for name in logarithmic:
        if name not in columns:
            raise InputError(f"--log {name}: allowed: {', '.join(columns)}")
    factors = []
    for name, (values, classes) in columns.items():
        if np.isnan(values).all():
            raise InputError(f"{table.path}: {name}: no row has a value; allowed: a column with some")
        if kinds.get(name, KINDS[0]) not in KINDS:
            raise InputError(f"--kind {name}={kinds[name]}: allowed: {', '.join(KINDS)}")
        own = table[name].factor
        transform = TRANSFORMS[name in logarithmic] if own is None or name in logarithmic else own.transform
        kind = kinds.get(name, KINDS[0] if own is None else own.kind)
        spoilt = own is not None and not {own.low, own.high}.isdisjoint(_missing(options))
        if own is not None and kind == "categorical":
            classes = own.classes
        if (
            own is not None
            and not spoilt
            and name not in ranges
            and (transform == own.transform or own.low > 0)
            and kind == own.kind
        ):
            low, high = own.low, own.high
        else:
            low, high = _range(name, ranges.get(name, ""), values, kind)
        if name in logarithmic and low <= 0:
            raise InputError(f"--log {name}: from {low:g} on; allowed: quantities, and a --range, above 0")
        unit = units.get(name, table[name].unit)
        factors.append(Factor(name, unit, low, high, kind, transform, classes))  # type: ignore[arg-type]
    return tuple(factors), np.stack([values for values, _ in columns.values()], axis=1)


def _asked(options: Import) -> set[str]:
    """The names of which an option of quantities speaks."""
    given = ",".join(getattr(options, option) for option in ("kind", "range", "unit", "errors", "log"))
    return {part.partition("=")[0] for part in _names(given)}


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _range(name: str, text: str, values: np.ndarray, kind: str) -> tuple[float, float]:
    """Of the values, if it is not given; of what is periodic one turn."""
    if not text and kind == "periodic":
        return _turn(name, values)
    if not text:
        return float(np.nanmin(values)), float(np.nanmax(values))
    low, _, high = text.partition(":")
    try:
        found = float(low), float(high)
        if not (np.isfinite(found).all() and found[0] < found[1]):
            raise ValueError(text)
    except ValueError:
        raise InputError(f"--range {name}={text}: allowed is NAME=LOW:HIGH, LOW < HIGH, both finite") from None
    return found


def _turn(name: str, values: np.ndarray) -> tuple[float, float]:
    if (turn := turn_of(values)) is None:
        raise InputError(
            f"--kind {name}=periodic: values from {np.nanmin(values):g} to {np.nanmax(values):g} do not tell what one "
            f"turn is; allowed: with --range {name}=LOW:HIGH, one turn"
        )
    print(f"{name}: one turn is {turn[0]:.7g} to {turn[1]:.7g} (--range {name}=LOW:HIGH says otherwise)")
    return turn


def _missing(options: Import) -> list[float]:
    try:
        return [float(text) for text in options.missing.split(",") if text]
    except ValueError:
        raise InputError(f"--missing {options.missing}: allowed: numbers, with commas, as -99,-999") from None


def _known(column: Any, where: str, options: Import) -> np.ndarray:
    """As numbers, NaN where the number stands for no value. Raises InputError as `labels`."""
    values, missing = labels(column, where), _missing(options)
    if not missing:
        return values
    if np.asarray(column).dtype == np.float32:  # -99.9 as it was stored
        missing += np.array(missing, np.float32).astype(np.float64).tolist()
    return np.where(np.isin(values, missing), np.nan, values)


def _quantity(column: Any, kept: np.ndarray, where: str, options: Import, kind: str) -> _Column:
    """The rows of a column that are kept. Raises InputError as `labels`; not for text of classes where kind says so."""
    try:
        return _known(column, where, options)[kept], ()
    except InputError as error:
        texts = as_texts(column)
        if texts is not None and kind == "categorical":
            lost = _missing(options)
            names = ["" if is_number(text) and float(text) in lost else text for text in texts[kept]]
            return coded(np.array(names, texts.dtype))
        hint = f"{_OR}{where.rpartition(': ')[2]}=categorical takes names of classes"
        raise InputError(f"{error}{hint * _may_be_classes(texts, kept)}") from error


def _may_be_classes(texts_N: np.ndarray | None, kept: np.ndarray) -> bool:
    """Whether text is not too different, and no cell a number."""
    if texts_N is None:
        return False
    names = coded(texts_N[kept])[1]
    return 1 < len(names) <= max(2, len(kept) // _OF_A_CLASS) and not any(map(is_number, names))


def _named_columns(table: Members, options: Import, n: int, kept: np.ndarray) -> dict[str, _Column]:
    names = options.columns.split(",")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--columns {options.columns}: {name} is there more than once")
    kinds, found = _by_name("kind", options.kind, table.names), dict[str, _Column]()
    for name in names:
        column = _column(table, "columns", name, n)
        values, classes = _quantity(column, kept, f"{table.path}: {name}", options, kinds.get(name, ""))
        if np.isinf(values).any():
            row = int(np.flatnonzero(np.isinf(values))[0])
            raise InputError(
                f"{table.path}: {name}: {values[row]} in row {kept[row]}; allowed: finite, empty where not measured"
            )
        found[name] = values, classes
    return found


def _all_columns(table: Members, options: Import, n: int, kept: np.ndarray, others: set[str]) -> dict[str, _Column]:
    """All columns of numbers that vary, and those that --kind names; the others are named in a line."""
    kinds, found = _by_name("kind", options.kind, table.names), dict[str, _Column]()
    several = {name for name in table.names if table.names.count(name) > 1} - others
    left = [f"{name} ({table.names.count(name)} columns of that name)" for name in sorted(several)]
    for name in table.names:
        if name in others or table.names.count(name) > 1 or not table[name].is_column or table[name].shape[0] != n:
            continue
        column, where = table[name].whole(), f"{table.path}: {name}"
        try:
            values, classes = _quantity(column, kept, where, options, kinds.get(name, ""))
        except InputError as error:
            if name in kinds:
                raise
            told, _, allowed = str(error).removeprefix(f"{where}: ").partition(";")
            hint = allowed.partition(_OR)[2]
            left.append(f"{name} ({told}{f': --kind {hint}' * bool(hint)})")
            continue
        measured = values[~np.isnan(values)]
        if "," in name or len(measured) == 0 or np.ptp(measured) == 0 or not np.isfinite(measured).all():
            left.append(f"{name} ({'constant' if len(measured) else 'empty'})")
        else:
            found[name] = values, classes
    if left:
        print(f"columns left out: {', '.join(left)}")
    return found


def beside_of(
    table: Members, options: Import, n: int, kept: np.ndarray, factors: tuple[Factor, ...], values: np.ndarray
) -> dict[str, Any]:
    """Groups, parts of the split, and errors of these values (N, F), by the names of beside.Beside.

    Raises InputError as `factors_of`, and where a value lies beyond its range by more than its error.
    """
    found: dict[str, Any] = {}
    names = [factor.name for factor in factors]
    for field in ("group", "split"):
        if name := getattr(options, field):
            column = _emptied(_column(table, field, name, n))[kept]
            if np.ma.is_masked(column):
                row = int(kept[np.flatnonzero(np.ma.getmaskarray(column))[0]])
                raise InputError(f"{table.path}: {name} in row {row} is empty; allowed: a {field} in each row")
            found[field] = _whole(column.data)
            if found[field].dtype.kind not in "iuOSU":
                told = f"{table.path}: {name}: type {found[field].dtype}, such as {found[field][0]}"
                raise InputError(f"{told}; allowed as --{field}: text, or whole numbers")
    if errors := _by_name("errors", options.errors, names):
        columns = [
            _known(_column(table, "errors", errors[name], n), f"{table.path}: {errors[name]}", options)[kept]
            if name in errors
            else np.full(len(kept), np.nan)
            for name in names
        ]
        found["factor_errors"] = np.stack(columns, axis=1)
    for error in value_errors(found, names):
        raise InputError(f"{table.path}: {error}")
    check_values(values, factors, str(table.path), found.get("factor_errors"))
    return found


def _emptied(column: Any) -> np.ma.MaskedArray:
    """With cells masked that are empty: "", None or NaN."""
    given = np.ma.asarray(column)
    if given.dtype.kind == "f":
        return np.ma.masked_invalid(given)
    if given.dtype.kind not in "OSU":
        return given
    empty = [cell in ("", b"", None) or cell != cell for cell in given.data.tolist()]
    return np.ma.array(given.data, mask=np.ma.getmaskarray(given) | empty)


def _whole(values: Any) -> np.ndarray:
    """Whole numbers that are stored as others, as the factors of a set are, as what they are."""
    values = np.asarray(values)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == values.astype(np.int64)).all():
        return values.astype(np.int64)
    return values


def _column(table: Members, option: str, name: str, n: int) -> Any:
    member = table[name]
    if not member.is_column or member.shape[0] != n:
        raise InputError(f"--{option} {name}: {table.path}: {name} has the shape {member.shape}; allowed: {n} values")
    return member.whole()
