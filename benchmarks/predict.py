"""Intervals of `hpcauxvae predict` against those of a plain regressor, on images that neither has seen.

    python benchmarks/predict.py DATA FRESH TABLE [TABLE ...] [--by flux] [--out FILE.md]

DATA: the set that runs were trained on; FRESH: a set with labels; TABLE: what `predict` made of it with each of these
runs (.parquet or .h5). The regressor is gradient boosting of quantiles (HistGradientBoostingRegressor of scikit-learn)
on 60 principal components of the square roots of the pixels, fitted to the training part; `conformalised`: shifted so
that its intervals cover what they say in the validation part (Romano, Patterson and Candes 2019). Coverage is of all
images, and in each fifth of `--by`.
"""

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.splits import parts
from hpcauxvae.metrics.conformal import LEVELS, quantile
from hpcauxvae.metrics.linear import Components

COMPONENTS, FITTED = 60, 4000


def columns(path: Path) -> dict[str, NDArray]:
    """Of a table, by name."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    with h5py.File(path, locking=False) as file:
        return {name: stored[:] for name, stored in file.items()}


def scores_of(components: Components, images: Any, rows: NDArray | None = None) -> NDArray:
    """Principal components (N, K), in pieces."""
    rows = np.arange(len(images)) if rows is None else rows
    pieces = np.array_split(rows, -(-len(rows) // 2000))
    return np.concatenate([components.scores(root(images[piece])) for piece in pieces])


def root(images: NDArray) -> NDArray:
    """Of the size of each pixel, with its sign, (N, P): the noise of counts is then about the same everywhere."""
    rows = images.reshape(len(images), -1)
    return np.sign(rows) * np.sqrt(np.abs(rows))


def boosted(x: list[NDArray], y: list[NDArray], level: float) -> tuple[NDArray, NDArray, float]:
    """Ends of the intervals of the last of three sets (training, validation, fresh), and by how much more they reach
    when conformalised."""
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        model = HistGradientBoostingRegressor(loss="quantile", quantile=share, random_state=0).fit(x[0], y[0])
        ends.append([model.predict(x[1]), model.predict(x[2])])
    (low, low_new), (high, high_new) = ends
    return low_new, high_new, quantile(np.maximum(low - y[1], y[1] - high), level)


def row(name: str, method: str, truth: NDArray, intervals: list[tuple[NDArray, NDArray]], fifth: NDArray) -> str:
    """Of the table: coverage, in fifths, and median width, for each level."""
    cells = []
    for low, high in intervals:
        inside = (low <= truth) & (truth <= high)
        cells.append(f"{100 * inside.mean():.1f}")
        cells.append(" ".join(f"{100 * inside[fifth == part].mean():.1f}" for part in range(5)))
        cells.append(f"{np.median(high - low):.3g}")
    return f"| {name} | {method} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("fresh", type=Path)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--by", default="flux")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data, fresh = open_set(options.data), open_set(options.fresh)
    tables = {path.stem: columns(path) for path in options.tables}
    training, validation, _ = parts(data, 0)
    images = [getattr(of.images, "raw", of.images) for of in (data, fresh)]
    components = Components.of(root(images[0][np.sort(training[:FITTED])]), COMPONENTS)
    x = [scores_of(components, images[0], part) for part in (training, validation)] + [scores_of(components, images[1])]
    by = fresh.values[:, fresh.column([options.by])[0]]
    fifth = np.searchsorted(np.quantile(by, [0.2, 0.4, 0.6, 0.8]), by)
    heads = [f"{100 * level:.0f} %: covered | in fifths of {options.by} | median width" for level in LEVELS]
    lines = [f"| factor | | {' | '.join(heads)} |", "|---|---|" + "---|" * 3 * len(LEVELS)]
    for factor in fresh.factors:
        truth = fresh.values[:, fresh.column([factor.name])[0]]
        named = f"{factor.name} {factor.unit}".strip()
        for name, table in tables.items():
            if factor.name in table:
                low, high = ([table[f"{factor.name}_{end}{100 * of:.0f}"] for of in LEVELS] for end in ("low", "high"))
                lines.append(row(named, name, truth, list(zip(low, high, strict=True)), fifth))
        y = [data.values[part, data.column([factor.name])[0]] for part in (training, validation)]
        found = [boosted(x, y, level) for level in LEVELS]
        lines.append(row(named, "boosting", truth, [(least, most) for least, most, _ in found], fifth))
        shifted = [(least - more, most + more) for least, most, more in found]
        lines.append(row(named, "conformalised", truth, shifted, fifth))
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
