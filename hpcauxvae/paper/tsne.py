"""Figures 1, 6, 7 and 13: images and codes in two dimensions by t-SNE (van der Maaten & Hinton 2008), by scikit-learn.

t-SNE shows neighbours and knows no scale: a part of the code that says nothing would be blown up until it fills the
picture, means of standard deviation 0.01 included. So codes are samples z, as the decoder sees them, each latent in
units of its own posterior's standard deviation (root mean square over the images): one that says nothing of the image
is noise of size 1 beside those that do. The paper is silent on this. Images are their pixels in linear data units.

The number in each panel says how far the colours are in order: the share of the factor's variance that the mean over
the 10 nearest neighbours in the map explains, 1 at best and about -0.1 by chance. Shape legend in types.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from hpcauxvae.data import drawing
from hpcauxvae.data.galaxies import CASES
from hpcauxvae.data.lettering import with_unit
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.paper.experiments import METHODS, Data
from hpcauxvae.paper.runs import EvaluatedRun, Runs, StoredCodes
from hpcauxvae.runtime.files import write_json
from hpcauxvae.types import Factor, InputError

MOST = 2000
"""Samples of a map, at most."""
NEIGHBOURS = 10
PERPLEXITY = 30
_SHOWN_FACTORS: dict[Data, tuple[str, ...]] = {
    "dsprites": ("scale", "orientation_mod", "x", "y"),
    "cars3d": ("elevation", "azimuth", "area"),
}
"""Columns of Fig. 13: an ellipse looks the same after half a turn; `area` is the size that can be measured of a car."""


class Map(NamedTuple):
    """Samples in two dimensions."""

    title: str
    points_N2: Array
    values_NF: NDArray
    """The factors shown, in physical units."""
    about: Mapping[str, str]
    """Which run it is of."""


def resolved(mean_NZ: NDArray, logvar_NZ: NDArray, seed: int = 0) -> Array:
    """z / s, (N, Z): z sampled from the posteriors, s the root mean square of their standard deviations, per latent."""
    s_Z = np.sqrt(np.exp(logvar_NZ).mean(0))
    noise_NZ = np.random.default_rng(seed).standard_normal(mean_NZ.shape)
    return np.asarray((mean_NZ + np.exp(logvar_NZ / 2) * noise_NZ) / s_Z)


def embed(values_NX: NDArray, seed: int = 0) -> Array:
    """(N, 2) by t-SNE from the first two principal components; perplexity 30, or a third of the samples if less.

    Raises InputError for fewer than 10 samples.
    """
    n = len(values_NX)
    if n < NEIGHBOURS:
        raise InputError(f"t-SNE: {n} samples; allowed: at least {NEIGHBOURS}")
    made = TSNE(init="pca", perplexity=min(PERPLEXITY, (n - 1) / 3), random_state=seed)
    return np.asarray(made.fit_transform(np.asarray(values_NX, np.float32)), np.float64)


def order(points_N2: NDArray, values_N: NDArray, factor: Factor) -> float:
    """Share of a factor's variance that the mean of its values at the nearest other points explains, at most 1.

    A periodic factor counts as its cosine and sine; samples in which it is not measured are left out.
    """
    known = np.isfinite(values_N)
    turns = factor.scale(values_N[known])
    angle = 2 * np.pi * turns
    values_NV = np.stack([np.cos(angle), np.sin(angle)], 1) if factor.kind == "periodic" else turns[:, None]
    points = points_N2[known]
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points) - 1)).fit(points).kneighbors(return_distance=False)
    rest = np.square(values_NV - values_NV[near].mean(1)).sum()
    return float(1 - rest / np.square(values_NV - values_NV.mean(0)).sum())


def _shown(codes: StoredCodes, names: Sequence[str]) -> tuple[list[Factor], NDArray]:
    columns = codes.data.column(names)
    return [codes.data.factors[c] for c in columns], codes.data.values[codes.index_N][:, columns]


def _map(title: str, vectors_NX: NDArray, values_NF: NDArray, run: EvaluatedRun) -> Map:
    return Map(title, embed(vectors_NX), values_NF, run.about)


def _images(codes: StoredCodes) -> NDArray:
    return np.array(codes.data.images[codes.index_N], np.float32).reshape(len(codes.index_N), -1)


def _all_codes(codes: StoredCodes) -> Array:
    return resolved(codes.mean_NZ, codes.logvar_NZ)


def figure_1(name: str, runs: Runs, out: Path) -> list[Path]:
    """The galaxies' images: writes fig1.png and fig1.json. The run tells which of them are test images."""
    run = next(iter(runs.values()))
    codes = run.codes(MOST)
    factors, values = _shown(codes, [factor.name for factor in codes.data.factors])
    return _write([_map("images", _images(codes), values, run)], factors, out / f"{name}.png", across="factors")


def figure_6(name: str, runs: Runs, out: Path) -> list[Path]:
    """The galaxies' images, β-VAE's codes and IDVAE's by case: writes fig6.png and fig6.json."""
    maps, factors = _images_and_codes(runs, CASES[1])
    return _write(maps, factors, out / f"{name}.png", across="maps")


def figure_7(name: str, runs: Runs, out: Path) -> list[Path]:
    """Aux-VAE's whole codes, z_aux and z_recon by case of the galaxies: writes fig7.png and fig7.json."""
    maps: list[Map] = []
    for label, run in runs.items():
        codes = run.codes(MOST)
        factors, values = _shown(codes, CASES[1])
        d, z_NZ = len(run.config.aux_names), _all_codes(codes)
        for part, part_NZ in (("z", z_NZ), ("z_aux", z_NZ[:, :d]), ("z_recon", z_NZ[:, d:])):
            maps.append(_map(f"{label}\n{part}", part_NZ, values, run))
    return _write(maps, factors, out / f"{name}.png", across="maps")


def figure_13(name: str, runs: Runs, out: Path) -> list[Path]:
    """dSprites and Cars3D, a row each for the images and the models' codes: fig13-dsprites.png, fig13-cars3d.png."""
    paths: list[Path] = []
    for data, names in _SHOWN_FACTORS.items():
        of_data = {METHODS[run.config.model]: run for run in runs.values() if run.data == data}
        if of_data:
            maps, factors = _images_and_codes(of_data, names)
            paths += _write(maps, factors, out / f"{name}-{data}.png", across="factors")
    return paths


def _images_and_codes(runs: Runs, names: Sequence[str]) -> tuple[list[Map], list[Factor]]:
    """A map of the images, then of the codes of each run; and the factors of these names."""
    maps: list[Map] = []
    for title, run in runs.items():
        codes = run.codes(MOST)
        factors, values = _shown(codes, names)
        if not maps:
            maps.append(_map("images", _images(codes), values, run))
        maps.append(_map(title, _all_codes(codes), values, run))
    return maps, factors


def _write(maps: Sequence[Map], factors: Sequence[Factor], path: Path, *, across: str) -> list[Path]:
    orders = [
        [order(one.points_N2, column, factor) for column, factor in zip(one.values_NF.T, factors, strict=True)]
        for one in maps
    ]
    draw(maps, factors, orders, path, across=across)
    report: dict[str, Any] = {
        one.title.replace("\n", ", "): {**one.about, "n": len(one.points_N2)}
        | {factor.name: value for factor, value in zip(factors, row, strict=True)}
        for one, row in zip(maps, orders, strict=True)
    }
    numbers = path.with_suffix(".json")
    write_json(numbers, {"perplexity": PERPLEXITY, "neighbours": NEIGHBOURS, "explained_by_neighbours": report})
    return [path, numbers]


def draw(
    maps: Sequence[Map], factors: Sequence[Factor], orders: Sequence[Sequence[float]], path: Path, *, across: str
) -> None:
    """A panel for each map and factor, coloured by the factor; across: what runs along x, `maps` or `factors`."""
    shape = (len(factors), len(maps)) if across == "maps" else (len(maps), len(factors))
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.sheet(*shape, 1.45 * shape[1] + 0.9, 1.45 * shape[0] + 0.5)
        by_map = axes.T if across == "maps" else axes
        for column, factor in enumerate(factors):
            low, high = _range([one.values_NF[:, column] for one in maps])
            colours = "twilight" if factor.kind == "periodic" else "viridis"
            for row, one in enumerate(maps):
                ax = by_map[row, column]
                style: dict[str, Any] = {"s": 9000 / (len(one.points_N2) + 1500), "linewidths": 0}
                ax.scatter(*one.points_N2.T, c=one.values_NF[:, column], cmap=colours, vmin=low, vmax=high, **style)
                ax.set(xticks=[], yticks=[])
                text = f"{orders[row][column]:.2f}".replace("-", "−")
                ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=7, bbox=_BOX)
            _bar(figure, by_map[:, column], factor, (low, high), colours, across)
        for row, one in enumerate(maps):
            ax = by_map[row, 0]
            if across == "maps":
                ax.set_title(one.title, loc="center")
            else:
                ax.set_ylabel(one.title)
        drawing.save(figure, path)


_BOX: Mapping[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}


def _range(columns: Sequence[NDArray]) -> tuple[float, float]:
    return min(float(np.nanmin(c)) for c in columns), max(float(np.nanmax(c)) for c in columns)


def _bar(figure: Figure, axes: NDArray, factor: Factor, ends: tuple[float, float], colours: str, across: str) -> None:
    shades = mpl.cm.ScalarMappable(mpl.colors.Normalize(*ends), colours)
    side = "right" if across == "maps" else "bottom"
    bar = figure.colorbar(
        shades, ax=axes.tolist(), location=side, pad=0.02, aspect=14, ticks=MaxNLocator(3, steps=[1, 2, 3, 5, 10])
    )
    bar.outline.set_visible(False)
    bar.set_label(with_unit(factor))
