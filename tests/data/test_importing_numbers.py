"""Numbers that stand for no value, columns of errors, maps of variances, and rows that are found by their order."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.data.command import _no_quantity, main
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.remarks import sentinels
from hpcauxvae.types import Factor, InputError

N = 60
RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(N, 8, 9)).astype(np.float32)
RADIUS, ERROR = RNG.uniform(1, 2, N), RNG.uniform(0.1, 0.2, N)
LOST = [3, 17]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A table of 60 rows with -99 where a fit failed, and the images in a file without ids."""
    np.savez(tmp_path / "stamps.npz", image=IMAGES, variance=np.full(IMAGES.shape, 4.0, np.float32))
    radius, error = RADIUS.copy(), ERROR.copy()
    radius[LOST] = error[LOST] = -99
    rows = (f"{a!r},{b!r}" for a, b in zip(radius.tolist(), error.tolist(), strict=True))
    (tmp_path / "table.csv").write_text("\n".join(["radius,radius_err", *rows]) + "\n")
    return tmp_path / "table.csv"


def run(catalogue: Path, *options: str, out: str = "set.h5") -> Path:
    made = catalogue.with_name(out)
    images = f"--images={catalogue.parent}/stamps.npz:image"
    assert main(["import", str(catalogue), str(made), images, *options]) == 0
    return made


def test_what_stands_for_no_value_is_named_and_does_not_guide(
    catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(catalogue)
    told = capsys.readouterr()
    assert f"warning: {out}: factors, radius: -99 (2 samples) lies far outside the other values" in told.err
    assert "left out below: radius, for -99 (2 samples) lies far outside" in told.out and "--missing" in told.out
    assert "train" in told.out.splitlines()[-1] and "--aux" not in told.out.splitlines()[-1]


def test_missing_numbers_are_none(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = open_set(run(catalogue, "--missing=-99,-999"))
    told = capsys.readouterr()
    assert told.err == "" and np.flatnonzero(np.isnan(data.values[:, 0])).tolist() == LOST
    assert "left out below: radius_err, for it seems to be the error of radius" in told.out
    assert f"{catalogue.parent}/stamps.npz: image: there are no ids, so its rows are taken in the order of" in told.out
    assert "--aux radius " in told.out.splitlines()[-1]


def test_missing_errors_are_none_too(catalogue: Path) -> None:
    data = open_set(run(catalogue, "--missing=-99", "--errors=radius=radius_err", "--columns=radius"))
    assert data.factor_errors is not None and np.flatnonzero(np.isnan(data.factor_errors[:, 0])).tolist() == LOST
    kept = np.delete(np.arange(N), LOST)
    np.testing.assert_allclose(data.factor_errors[kept, 0], ERROR[kept])
    with pytest.raises(InputError, match="--missing none: allowed: numbers, with commas"):
        run(catalogue, "--missing=none", out="b.h5")


def test_variances_become_weights(catalogue: Path) -> None:
    stamps = catalogue.parent / "stamps.npz"
    variance = np.load(stamps)["variance"].copy()
    variance[0, 0, 0] = 0
    np.savez(stamps, image=IMAGES, variance=variance)
    data = open_set(run(catalogue, "--missing=-99", f"--variance={stamps}:variance"))
    assert data.weights is not None
    weights = data.weights[:]
    assert weights[0, 0, 0, 0] == 0 and np.all(weights.ravel()[1:] == 0.25)
    variance[1, 0, 0] = -1
    np.savez(stamps, image=IMAGES, variance=variance)
    with pytest.raises(InputError, match="variance -1; allowed: 0 or more"):
        run(catalogue, "--missing=-99", f"--variance={stamps}:variance", out="c.h5")


def test_only_what_looks_like_errors_of_a_quantity_is_taken_for_them(tmp_path: Path) -> None:
    """By its name and its values: an ellipticity e, a dispersion sigma and an effective radius Re are quantities."""
    names = ["e1", "e2", "e", "sigma", "std", "r", "Re", "r_err", "e_r", "sigma_v", "v"]
    values = RNG.uniform(1, 2, (N, len(names)))
    for name in ("r_err", "e_r"):
        values[:, names.index(name)] *= 0.01
    factors = [Factor(name, "", 0, 2) for name in names]
    write(tmp_path / "set.h5", IMAGES[:, None], values, factors, {})
    left = _no_quantity(open_set(tmp_path / "set.h5"))
    assert [names[column] for column in left] == ["r_err", "e_r"]


def test_one_value_far_outside_is_named_and_guides(tmp_path: Path) -> None:
    values = RNG.uniform(1, 2, (N, 2))
    values[0, 0], values[:3, 1] = 500, 9999
    write(tmp_path / "set.h5", IMAGES[:, None], values, [Factor("a", "", 0, 500), Factor("b", "", 0, 9999)], {})
    data = open_set(tmp_path / "set.h5")
    assert list(_no_quantity(data)) == [1]
    assert sentinels(data.factors[0], values[:, 0]).words.startswith("500 (1 samples) lies far outside")


def test_missing_numbers_are_compared_as_they_are_stored(tmp_path: Path) -> None:
    n = np.arange(N)
    columns = {"big": 99_999_950 + n, "tiny": 1e-50 * (1 + n), "huge": 1e45 + n * 1e44}
    columns["f4"] = np.where(n < 3, -99.9, n).astype("f4")
    np.savez(tmp_path / "a.npz", image=IMAGES, **columns)
    out = tmp_path / "set.h5"
    arguments = ["import", str(tmp_path / "a.npz"), str(out), "--images=image", "--missing=99999999,0,-99.9"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(arguments) == 0
    lost = dict(zip([f.name for f in open_set(out).factors], np.isnan(open_set(out).values).sum(0), strict=True))
    assert lost == {"big": 1, "tiny": 0, "f4": 3, "huge": 0}


def test_a_set_whose_range_was_that_of_a_number_for_none_gets_another(tmp_path: Path) -> None:
    values = RNG.uniform(1, 2, (N, 1))
    values[:4] = -99
    write(tmp_path / "a.h5", IMAGES[:, None], values, [Factor("radius", "", -99, 2)], {})
    assert main(["import", str(tmp_path / "a.h5"), str(tmp_path / "b.h5"), "--missing=-99"]) == 0
    (factor,) = open_set(tmp_path / "b.h5").factors
    assert factor.low == np.min(values[4:]) and factor.high == np.max(values[4:])


def test_what_is_beyond_five_latents_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = list("abcdefg")
    write(tmp_path / "set.h5", IMAGES[:, None], RNG.random((N, 7)), [Factor(name, "", 0, 1) for name in names], {})
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-3] == "left out below, so that half of the latents are free: f, g; with all --latents 12"
    assert "--aux a,b,c,d,e " in told[-1]
