"""What intervals promise against what they hold: coverage of labels that are known, in lines and in a picture.

N samples, K classes.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.drawing import GREY, PALE, STYLE, save, sheet
from hpcauxvae.data.guides import Guide
from hpcauxvae.evaluate.by_factor import in_words
from hpcauxvae.metrics.by_kind import agreement
from hpcauxvae.metrics.conformal import LEVELS
from hpcauxvae.metrics.intervals import NORMAL_95

_MOST = 1_000_000
"""Samples, at most, that are looked at: evenly spread."""
_FEWEST = 2
TEST_PART = "of the run's test part"
"""Which images of its own data set a run has not seen."""
_TICKS = 99
"""Levels of the picture."""


class Coverage:
    """Takes the pieces of a table as they come."""

    def __init__(self, truth: Mapping[Guide, NDArray], judged: NDArray[np.int64] | None = None) -> None:
        """truth: (N,) of each factor that has labels, in its unit; NaN where not measured; judged: samples that the run
        has not seen, where it has seen some; all if not given."""
        self.truth, self.known_apart = truth, judged is not None
        n = max((len(values_N) for values_N in truth.values()), default=0)
        rows = range(n) if judged is None else np.sort(judged)
        self.rows = np.array(rows[:: -(-len(rows) // _MOST) or 1], np.int64)
        self.found: dict[Guide, list[list[NDArray]]] = {guide: [] for guide in truth}

    def add(self, rows: slice, columns: Mapping[str, NDArray], levels: Mapping[Guide, NDArray]) -> None:
        """columns: `Calibration.numbers`; levels: of the smallest intervals in which the labels are; of these rows."""
        first, last = np.searchsorted(self.rows, (rows.start, rows.stop))
        some = self.rows[first:last] - rows.start
        for guide in self.truth:
            name = guide.factor.name
            with np.errstate(invalid="ignore"):  # of ends that are both infinite
                sizes = [
                    columns[f"{name}_set{level}"].sum(1)
                    if guide.by_classes
                    else columns[f"{name}_high{level}"] - columns[f"{name}_low{level}"]
                    for level in _names()
                ]
            parts = (columns[name], levels[guide], *sizes)
            self.found[guide].append([values_N[some] for values_N in parts])

    def levels(self) -> dict[Guide, NDArray]:
        """Of each factor, without labels that are not known."""
        found = {guide: np.concatenate([part[1] for part in parts]) for guide, parts in self.found.items()}
        known = {guide: level_N[~np.isnan(level_N)] for guide, level_N in found.items()}
        return {guide: level_N for guide, level_N in known.items() if len(level_N) >= _FEWEST}

    def figures(self) -> dict[str, dict[str, Any]]:
        """Of each factor with labels: `labels`, how many; `unit`, `kind`; `accuracy` of a class, else the mean absolute
        `error`, of an angle the shorter way round; by the level `68` and `95` the share that is `covered`, and the
        median `width` of intervals, or `size` of sets."""
        found = {}
        for guide, level_N in self.levels().items():
            told_N, _, *sizes = (np.concatenate(part) for part in zip(*self.found[guide], strict=True))
            factor, truth_N = guide.factor, self.truth[guide][self.rows]
            as_number = guide.plain and factor.kind == "categorical"
            own = agreement(truth_N, told_N, factor._replace(kind="continuous") if as_number else factor)
            own.pop("chance", None)
            found[factor.name] = {"labels": len(level_N), "unit": factor.unit, "kind": factor.kind} | own
            for level, name, size_N in zip(LEVELS, _names(), sizes, strict=True):
                size = {"size" if guide.by_classes else "width": float(np.median(size_N))}
                found[factor.name][name] = {"covered": float((level_N < level).mean())} | size
        return found

    def tell(self, out: Path) -> None:
        """Prints the figures of each factor, and draws `calibration_picture` beside the table."""
        known, of_part = self.levels(), f" {TEST_PART}" * self.known_apart
        for guide in self.truth:
            for line in self._about_range(guide):
                print(f"warning: {guide.factor.name}: {line}", file=sys.stderr, flush=True)
        for name, of in self.figures().items():
            parts = [in_words(of, of), *(_in_words(of, level) for level in _names())]
            print(f"{name}: {'; '.join(parts)} ({of['labels']} labels{of_part})")
        if known:
            path = out.with_name(f"{out.stem}.calibration.png")
            named = {guide.factor.name: level_N for guide, level_N in known.items()}
            calibration_picture(named, path, of_part)
            print(f"picture: {path}")

    def _about_range(self, guide: Guide) -> Iterator[str]:
        factor, values_N = guide.factor, self.truth[guide]
        values_N = values_N[~np.isnan(values_N)]
        if guide.by_classes:
            if unknown := int(np.count_nonzero(~np.isin(values_N, guide.levels))):
                yield f"labels of {unknown} images are of a class that the run was not trained on: not compared"
        elif guide.by_angle:
            return
        elif outside := int(np.count_nonzero((values_N < factor.low) | (values_N > factor.high))):
            yield (
                f"labels from {values_N.min():g} to {values_N.max():g}, {outside} of them outside the range of the "
                f"training, {factor.low:g} to {factor.high:g} {factor.unit}".rstrip()
                + ": intervals promise nothing there"
            )


def _names() -> list[str]:
    return [f"{100 * level:.0f}" for level in LEVELS]


def _in_words(of: Mapping[str, Any], level: str) -> str:
    """`68 % intervals cover 67.9 %, median width .12 arcsec` of `Coverage.figures`."""
    found = of[level]
    share = f"cover {100 * found['covered']:.1f} %"
    if "size" in found:
        return f"{level} % sets {share}, median size {found['size']:g}"
    return f"{level} % intervals {share}, median width {found['width']:.3g} {of['unit']}".rstrip()


def calibration_picture(levels: Mapping[str, NDArray], path: Path, of_part: str = "") -> None:
    """Share of labels that intervals cover against what they should, and where 95 % of sets as large would lie.

    levels: (N,) of each factor by its name, as `Coverage.levels`; of_part: which labels these are, in words.
    """
    nominal = np.arange(1, _TICKS + 1) / (_TICKS + 1)
    n = min(len(level_N) for level_N in levels.values())
    band = NORMAL_95 * np.sqrt(nominal * (1 - nominal) / n)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(1, 1, 4.4, 4.0)
        ax = axes[0, 0]
        ax.fill_between(nominal, nominal - band, nominal + band, color=PALE, lw=0, label=f"chance, {n} labels{of_part}")
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.8)
        colours = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(levels)))
        for colour, (name, level_N) in zip(colours, levels.items(), strict=True):
            covered = np.searchsorted(np.sort(level_N), nominal, side="left") / len(level_N)
            ax.plot(nominal, covered, color=colour, lw=1.2, label=name)
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="what intervals should cover", ylabel="what they cover", aspect="equal")
        ax.legend(loc="upper left")
        save(figure, path)
