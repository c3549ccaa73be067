"""A series, whose neighbours are alike, is told from samples in no order, and its parts are blocks."""

from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.series import series
from hpcauxvae.types import Factor, Kind

N = 240
YEARS = 1850.0 + np.arange(N)
RNG = np.random.default_rng(0)


def fields(noise: float = 0.2) -> np.ndarray:
    """Of which each is the one before and something new: a slow walk with weather on it."""
    walk = np.empty((N, 1, 6, 6))
    walk[0] = RNG.standard_normal((1, 6, 6))
    for n in range(1, N):
        walk[n] = 0.9 * walk[n - 1] + np.sqrt(1 - 0.81) * RNG.standard_normal((1, 6, 6))
    return (walk + noise * RNG.standard_normal(walk.shape)).astype(np.float32)


FIELDS = fields()


def set_of(
    path: Path, years: np.ndarray = YEARS, images: np.ndarray = FIELDS, kind: Kind = "continuous", **more: object
) -> Path:
    write(path, images, years[:, None], [Factor("year", "yr", years.min(), years.max(), kind)], {}, **more)
    return path


def test_neighbours_in_time_are_kept_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(set_of(tmp_path / "set.h5"))]) == 0
    *_, said, _, command = capsys.readouterr().out.splitlines()
    assert said.startswith("a series: 100%") and "--split blocks keeps neighbours" in said
    assert command == f"hpcauxvae train {tmp_path}/set.h5 --aux year --split blocks --out runs/set"


@pytest.mark.parametrize("years", [
    -YEARS, np.tile(YEARS[:60], 4), np.cumsum(np.tile([31.0, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], 20)),
])  # fmt: skip
def test_what_is_a_series(tmp_path: Path, years: np.ndarray) -> None:
    """Also backwards, as four runs of a model, and by months in days."""
    found = series(open_set(set_of(tmp_path / "set.h5", years)))
    assert found is not None and found.timed and found.alike > 0.9


@pytest.mark.parametrize("case", ["mixed", "sorted", "running", "angle", "grid", "unlike", "group"])
def test_what_is_none_that_has_times(tmp_path: Path, case: str) -> None:
    order, more = RNG.permutation(N), {"group": np.arange(N) // 10} if case == "group" else {}
    years = {
        "mixed": YEARS[order], "sorted": np.sort(RNG.random(N)), "running": np.arange(N) + 1.0,
        "angle": YEARS % 360, "grid": np.arange(N) % 12.0,
    }.get(case, YEARS)  # fmt: skip
    images = FIELDS[order] if case in ("mixed", "unlike") else FIELDS
    kind: Kind = "periodic" if case == "angle" else "continuous"
    found = series(open_set(set_of(tmp_path / "set.h5", years, images, kind, **more)))
    assert (found is None) == (case in ("mixed", "unlike", "group")) and (found is None or not found.timed)


def test_without_times_it_is_said_and_nothing_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(set_of(tmp_path / "set.h5", RNG.random(N)))]) == 0
    *_, said, _, command = capsys.readouterr().out.splitlines()
    assert said.startswith("neighbours are alike, as in a series or where rows are sorted: 100% of the images")
    assert said.endswith("if this is a series") and "--split" not in command
