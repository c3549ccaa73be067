"""What intervals promise against what they hold: coverage of labels that are known, in lines and in a picture.

N samples.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.drawing import GREY, PALE, STYLE, save, sheet
from hpcauxvae.metrics.conformal import LEVELS
from hpcauxvae.metrics.intervals import NORMAL_95
from hpcauxvae.types import Factor

_MOST = 1_000_000
"""Samples, at most, that are looked at: evenly spread."""
_FEWEST = 2
_TICKS = 99
"""Levels of the picture."""


class Coverage:
    """Takes the pieces of a table as they come."""

    def __init__(self, truth: Mapping[Factor, NDArray]) -> None:
        """truth: (N,) of each factor that has labels, in its unit; NaN where not measured."""
        self.truth = truth
        n = max((len(values_N) for values_N in truth.values()), default=0)
        self.step = -(-n // _MOST) or 1
        self.found: dict[Factor, list[list[NDArray]]] = {factor: [] for factor in truth}

    def add(self, rows: slice, columns: Mapping[str, NDArray], levels: Mapping[Factor, NDArray]) -> None:
        """columns: of the table; levels: of the smallest intervals in which the labels are; both of these rows."""
        some = slice(-rows.start % self.step, None, self.step)
        for factor in self.truth:
            ends = (
                (columns[f"{factor.name}_{end}{100 * level:.0f}"][some] for end in ("low", "high")) for level in LEVELS
            )
            with np.errstate(invalid="ignore"):  # of ends that are both infinite
                self.found[factor].append([levels[factor][some], *(high - low for low, high in ends)])

    def levels(self) -> dict[Factor, NDArray]:
        """Of each factor, without labels that are not known."""
        found = {factor: np.concatenate([part[0] for part in parts]) for factor, parts in self.found.items()}
        known = {factor: level_N[~np.isnan(level_N)] for factor, level_N in found.items()}
        return {factor: level_N for factor, level_N in known.items() if len(level_N) >= _FEWEST}

    def tell(self, out: Path) -> None:
        """Prints the coverage of each factor, and draws `calibration_picture` beside the table."""
        known = self.levels()
        for factor, level_N in known.items():
            self._tell_of_range(factor)
            parts = []
            for number, level in enumerate(LEVELS):
                width = float(np.median(np.concatenate([part[1 + number] for part in self.found[factor]])))
                share = f"{100 * level:.0f} % intervals cover {100 * float((level_N < level).mean()):.1f} %"
                parts.append(f"{share}, median width {width:.3g} {factor.unit}".rstrip())
            print(f"{factor.name}: {'; '.join(parts)} ({len(level_N)} labels)")
        if known:
            path = out.with_name(f"{out.stem}.calibration.png")
            calibration_picture(known, path)
            print(f"picture: {path}")

    def _tell_of_range(self, factor: Factor) -> None:
        values_N = self.truth[factor]
        outside = int(np.count_nonzero((values_N < factor.low) | (values_N > factor.high)))
        if outside:
            low, high = np.nanmin(values_N), np.nanmax(values_N)
            print(
                f"warning: {factor.name}: labels from {low:g} to {high:g}, {outside} of them outside the range of the "
                f"training, {factor.low:g} to {factor.high:g} {factor.unit}".rstrip()
                + ": intervals promise nothing there",
                file=sys.stderr,
                flush=True,
            )


def calibration_picture(levels: Mapping[Factor, NDArray], path: Path) -> None:
    """Share of labels that intervals cover against what they should, and where 95 % of sets as large would lie.

    levels: (N,) of each factor, as `Coverage.levels`.
    """
    nominal = np.arange(1, _TICKS + 1) / (_TICKS + 1)
    n = min(len(level_N) for level_N in levels.values())
    band = NORMAL_95 * np.sqrt(nominal * (1 - nominal) / n)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(1, 1, 4.4, 4.0)
        ax = axes[0, 0]
        ax.fill_between(nominal, nominal - band, nominal + band, color=PALE, lw=0, label=f"chance, {n} labels")
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.8)
        colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
        for colour, (factor, level_N) in zip(colours, levels.items(), strict=True):
            covered = np.searchsorted(np.sort(level_N), nominal, side="left") / len(level_N)
            ax.plot(nominal, covered, color=colour, lw=1.2, label=factor.name)
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="what intervals should cover", ylabel="what they cover", aspect="equal")
        ax.legend(loc="upper left")
        save(figure, path)
