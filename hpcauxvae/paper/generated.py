"""Galaxies generated for given factors against GalSim's noiseless stamps of the same factors, in case 1.

Contribution (ii) of the paper put to a test that it does not make. Both are drawn at the points of a full grid of the
five factors; the latents that are not auxiliary stand at 0, the mean of their prior. Compared are the pixels, and what
a survey would measure: flux, size and shear by adaptive moments (hpcauxvae.simulate.stamps.py) of both.

Shape legend in types.py; N grid points.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data import drawing
from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.generate import Generator
from hpcauxvae.metrics.intervals import NORMAL_95, Array, Score, mean_score
from hpcauxvae.paper.runs import Runs
from hpcauxvae.runtime.files import write_json, write_text
from hpcauxvae.train.run import load_run
from hpcauxvae.types import Factor, InputError

LEVELS = 5
"""Values of each factor on the grid: the middles of as many equal parts of its range."""
UNITS = {"flux": "counts", "size": "pixels", "g1": "", "g2": ""}
"""What is measured."""
MEASURED_BY = {"flux": "flux", "radius": "size", "g1": "g1", "g2": "g2", "psf": "size"}
"""The measured quantity that each factor moves."""
_EXAMPLES = 8


class Line(TypedDict):
    """A straight line through points, by least squares."""

    slope: float
    slope_error: float
    """Half width of its 95 % interval."""
    offset: float
    """What it leaves out at the mean of x: mean y - mean x."""
    scatter: float
    """Standard deviation of y about the line."""
    n: int
    """Points in which both could be measured."""


def grid(factors: Sequence[Factor], levels: int) -> Array:
    """(levels^F, F) in physical units, the last factor varying fastest."""
    middles = (np.arange(levels) + 0.5) / levels
    return np.array(list(itertools.product(*(factor.unscale(middles) for factor in factors))))


def line(x_N: NDArray, y_N: NDArray) -> Line:
    """Least squares of y on x, points with a NaN left out; NaN where fewer than 3 points or only one x are left."""
    good = np.isfinite(x_N) & np.isfinite(y_N)
    x, y = x_N[good], y_N[good]
    n, spread = len(x), float(np.square(x - x.mean()).sum()) if len(x) else 0.0
    if n < 3 or spread == 0:
        return Line(slope=np.nan, slope_error=np.nan, offset=np.nan, scatter=np.nan, n=n)
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    rest = y - y.mean() - slope * (x - x.mean())
    scatter = float(np.sqrt(np.square(rest).sum() / (n - 2)))
    return Line(
        slope=slope,
        slope_error=NORMAL_95 * scatter / float(np.sqrt(spread)),
        offset=float(y.mean() - x.mean()),
        scatter=scatter,
        n=n,
    )


def pixel_errors(generated_NCHW: NDArray, truth_NCHW: NDArray) -> dict[str, Array]:
    """(N,) each: `relative`, the root of the summed squared difference over that of the summed squared truth; `peak`,
    the largest difference over the largest pixel of the truth; `flux`, of the summed pixels, relative and signed."""
    generated, truth = (images.astype(np.float64).reshape(len(images), -1) for images in (generated_NCHW, truth_NCHW))
    difference = generated - truth
    return {
        "relative": np.sqrt(np.square(difference).sum(1) / np.square(truth).sum(1)),
        "peak": np.abs(difference).max(1) / truth.max(1),
        "flux": generated.sum(1) / truth.sum(1) - 1,
    }


def error_summary(errors: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Mean with its interval, median and 95th percentile of the absolute value, of each error."""
    return {
        name: {"mean": mean_score(values)}
        | dict(zip(("median", "percentile_95"), np.quantile(np.abs(values), [0.5, 0.95]).tolist(), strict=True))
        for name, values in errors.items()
    }


def responses(
    u_NF: NDArray, names: Sequence[str], truth: Mapping[str, Array], generated: Mapping[str, Array]
) -> dict[str, dict[str, Any]]:
    """How what is measured follows each factor over the grid, in the truth and as generated: slopes and their ratio.

    Size and flux enter as logarithms, so that both slopes are relative changes. The grid is balanced, so the other
    factors average out; points at which either could not be measured are left out of both.
    """
    found: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(names):
        measured = MEASURED_BY[name]
        y_true, y_generated = truth[measured], generated[measured]
        if measured in ("flux", "size"):
            y_true, y_generated = np.log(y_true), np.log(y_generated)
        x = np.where(np.isfinite(y_true) & np.isfinite(y_generated), u_NF[:, column], np.nan)
        slopes = {"truth": line(x, y_true)["slope"], "generated": line(x, y_generated)["slope"]}
        found[name] = {"measured": measured} | slopes | {"ratio": slopes["generated"] / slopes["truth"]}
    return found


def compare(
    u_NF: NDArray, names: Sequence[str], truth: Mapping[str, Array], generated: Mapping[str, Array]
) -> dict[str, Any]:
    """The lines of generated on true moments, and the responses to the factors (N, F)."""
    lines = {name: line(truth[name], generated[name]) for name in UNITS}
    return {"lines": lines, "responses": responses(u_NF, names, truth, generated)}


_MISSING = "paper generated: measures with galsim, which is not installed; `pip install 'hpcauxvae[simulate]'` mends it"


def moments_of(images_NCHW: NDArray) -> dict[str, Array]:
    """What is measured on images summed over channels, (N,) each. Raises InputError where galsim is missing."""
    try:
        from hpcauxvae.simulate.stamps import adaptive_moments
    except ImportError as error:
        raise InputError(_MISSING) from error
    return adaptive_moments(images_NCHW.sum(1))._asdict()


def truth_of(data: ImageSet, names: Sequence[str], u_NF: NDArray) -> NDArray[np.float32]:
    """Noiseless stamps (N, C, H, W) in the scene of a data set. Raises InputError where galsim is missing."""
    try:
        from hpcauxvae.simulate.stamps import noiseless_stamps
    except ImportError as error:
        raise InputError(_MISSING) from error
    return noiseless_stamps(data.provenance, data.path, names, u_NF)


def table(report: Mapping[str, Any]) -> str:
    """The report for reading."""
    lines = [f"{report['n']} points of a grid; run {report['run']}.", ""]
    lines += ["| pixel error | mean [95 %] | median size | 95th percentile |", "| --- | --- | --- | --- |"]
    for name, error in report["pixels"].items():
        score: Score = error["mean"]
        mean = f"{score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]"
        lines.append(f"| {name} | {mean} | {error['median']:.4f} | {error['percentile_95']:.4f} |")
    lines += ["", "| measured | slope ± 95 % | mean offset | scatter | n |", "| --- | --- | --- | --- | --- |"]
    for name, fit in report["lines"].items():
        slope = f"{fit['slope']:.4f} ± {fit['slope_error']:.4f}"
        lines.append(f"| {_label(name)} | {slope} | {fit['offset']:.3g} | {fit['scatter']:.3g} | {fit['n']} |")
    lines += ["", "| factor | moves | slope, truth | slope, generated | ratio |", "| --- | --- | --- | --- | --- |"]
    for name, response in report["responses"].items():
        moved = {"flux": "ln flux", "size": "ln size"}.get(response["measured"], response["measured"])
        slopes = " | ".join(f"{response[key]:.4g}" for key in ("truth", "generated", "ratio"))
        lines.append(f"| {name} | {moved} | {slopes} |")
    return "\n".join(lines) + "\n"


def figure(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes generated.png, generated-examples.png, generated.json and generated.md."""
    (run,) = runs.values()
    data = open_set(run.data_path)
    trained = load_run(run.folder)
    run.check_scored(trained)
    generator = Generator(trained, data)
    names = [factor.name for factor in generator.factors]
    u_NF = grid(generator.factors, LEVELS)
    truth = truth_of(data, names, u_NF)
    images = generator.images(u_NF, np.zeros((len(u_NF), run.config.latents - len(names))))
    of_truth, of_generated = moments_of(truth), moments_of(images)
    report = {
        **run.about,
        "factors": names,
        "levels": LEVELS,
        "n": len(u_NF),
        "pixels": error_summary(pixel_errors(images, truth)),
    } | compare(u_NF, names, of_truth, of_generated)
    paths = [out / f"{name}{end}" for end in (".png", "-examples.png", ".json", ".md")]
    draw(of_truth, of_generated, paths[0])
    shown = np.random.default_rng(0).choice(len(u_NF), _EXAMPLES, replace=False)
    pictures.reconstructions(
        drawing.upright(truth[shown], data),
        drawing.upright(images[shown], data),
        paths[1],
        look=drawing.look_of(data),
        names=("GalSim, noiseless", "generated"),
    )
    write_json(paths[2], report)
    write_text(paths[3], table(report))
    return paths


def draw(truth: Mapping[str, Array], generated: Mapping[str, Array], path: Path) -> None:
    """A panel for each measured quantity: generated against truth above, the difference below."""
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.sheet(
            2, len(UNITS), 2.5 * len(UNITS) + 0.4, 4.2, sharex="col", gridspec_kw={"height_ratios": (2, 1)}
        )
        for column, name in enumerate(UNITS):
            x, y = truth[name], generated[name]
            upper, lower = axes[:, column]
            ends = [np.nanmin(x), np.nanmax(x)]
            for ax, values, ideal in ((upper, y, ends), (lower, y - x, [0, 0])):
                ax.scatter(x, values, s=2, color=drawing.MAROON, linewidths=0, alpha=0.35)
                ax.plot(ends, ideal, color=drawing.INK, linewidth=0.7)
            fit = line(x, y)
            upper.set_title(f"{name}: slope {fit['slope']:.3f}, scatter {_short(fit['scatter'])}")
            lower.set_xlabel(f"{_label(name)}, GalSim")
            for ax in (upper, lower):
                ax.locator_params(nbins=3, steps=drawing.ROUND)
        axes[0, 0].set_ylabel("generated")
        axes[1, 0].set_ylabel("generated − GalSim")
        figure.align_ylabels()
        drawing.save(figure, path)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _label(name: str) -> str:
    return f"{name} [{UNITS[name]}]" if UNITS[name] else name
