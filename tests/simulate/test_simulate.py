"""Stamps against plain GalSim, noise against Poisson statistics, and what the command refuses."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from helpers.simulations import N, assert_refused, hashes, here, images, launcher, refuse, simulate
from hpcauxvae.data.galaxies import FACTORS
from hpcauxvae.data.hdf5 import open_set, validate, write
from hpcauxvae.types import Factor

galsim = pytest.importorskip("galsim", reason="galsim is not installed: pip install 'hpcauxvae[simulate]'")
from hpcauxvae.data.dealt import missing_of  # noqa: E402
from hpcauxvae.data.journal import Rows, Stored  # noqa: E402
from hpcauxvae.simulate import designs, parallel  # noqa: E402
from hpcauxvae.simulate.scene import Scene  # noqa: E402
from hpcauxvae.simulate.stamps import with_noise  # noqa: E402

SCENE = Scene()


@pytest.fixture(scope="module")
def expected(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same galaxies without noise."""
    path = tmp_path_factory.mktemp("expected") / "noiseless.h5"
    assert here(path, "--like", alone, "--noiseless") == 0
    return path


def table2(n: int, seed: int) -> np.ndarray:
    """(n, 5): galaxies of Table 2."""
    return designs.rows("latin-hypercube", n, seed, 0, n, FACTORS)


def plain_loop(parameters: np.ndarray, **accuracy: float) -> Iterator[np.ndarray]:
    """The stamps as a user of GalSim would draw them."""
    for flux, radius, g1, g2, psf in parameters:
        gsparams = galsim.GSParams(**accuracy)
        disk = galsim.Exponential(scale_radius=radius, flux=flux, gsparams=gsparams)
        seen = galsim.Convolve([disk.shear(g1=g1, g2=g2), galsim.Gaussian(fwhm=psf, gsparams=gsparams)])
        yield seen.drawImage(nx=33, ny=33, scale=0.2, dtype=np.float64).array


def test_stamps_are_those_of_galsim(expected: Path) -> None:
    loop = plain_loop(open_set(expected).values[:20], maxk_threshold=1e-4, minimum_fft_size=64)
    for stamp, reference in zip(images(expected)[:20], loop, strict=True):
        np.testing.assert_allclose(stamp, reference, rtol=1e-6, atol=1e-6 * reference.max())


def test_accuracy() -> None:
    """Errors against a far more accurate drawing, at the corners of Table 2 and inside."""
    corners = np.stack(np.meshgrid(*((f.low, f.high) for f in FACTORS)), axis=-1).reshape(-1, 5)
    parameters = np.concatenate([corners, table2(20, seed=1)])
    accurate = plain_loop(
        parameters,
        folding_threshold=1e-5,
        maxk_threshold=1e-6,
        kvalue_accuracy=1e-9,
        minimum_fft_size=512,
        maximum_fft_size=32768,
    )
    for row, reference in zip(parameters, accurate, strict=True):
        error = np.abs(SCENE.expected(row)[0] - reference)
        assert error.max() < 4e-5 * reference.max()
        assert (error / np.sqrt(np.maximum(reference, 1))).max() < 0.004


def test_orientation_and_scale() -> None:
    """Second moments in arcsec: g1 > 0 stretches along x, g2 > 0 along x = y; size follows radius and psf."""
    y, x = np.mgrid[-16:17, -16:17] * 0.2

    def moments(*parameters: float) -> list[float]:
        stamp = SCENE.expected(np.array(parameters))[0]
        return [float((stamp * weight).sum() / stamp.sum()) for weight in (x * x, y * y, x * y)]

    xx, yy, xy = moments(1e4, 0.1, 0.0, 0.0, 0.4)
    # Exponential: 3 radius^2 an axis; Gaussian: (fwhm / 2.3548)^2; pixel: 0.2^2 / 12.
    assert xx == pytest.approx(yy) == pytest.approx(3 * 0.1**2 + (0.4 / 2.35482) ** 2 + 0.2**2 / 12, rel=2e-3)
    assert xy == pytest.approx(0, abs=1e-6)
    xx, yy, _ = moments(1e4, 0.1, 0.3, 0.0, 0.2)
    rest = (0.2 / 2.35482) ** 2 + 0.2**2 / 12
    assert (xx - rest) / (yy - rest) == pytest.approx(((1 + 0.3) / (1 - 0.3)) ** 2, rel=2e-2)
    assert moments(1e4, 0.1, 0.0, 0.3, 0.2)[2] > 0.005
    assert SCENE.expected(np.array([5e4, 0.1, 0, 0, 0.2])).sum() == pytest.approx(5e4, rel=1e-3)


def test_design_is_a_latin_hypercube(alone: Path) -> None:
    data = open_set(alone)
    assert data.factors == FACTORS and data.images.shape == (N, 1, 33, 33)
    for f, column in zip(FACTORS, data.values.T, strict=True):
        assert sorted(np.floor((column - f.low) / (f.high - f.low) * N)) == list(range(N))
    correlations = np.corrcoef(data.values.T)[np.triu_indices(5, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(N)


def test_file_is_valid_and_says_where_it_comes_from(alone: Path) -> None:
    assert validate(alone) == []
    provenance = open_set(alone).provenance
    assert provenance["galsim"] == galsim.__version__ and provenance["seed"] == 7 and provenance["pixel_scale"] == 0.2
    assert provenance["command"] == f"python -m hpcauxvae.simulate {alone} --n {N} --seed 7"
    assert {"design", "noise", "profile", "psf_profile", "gsparams", "numpy", "scipy"} <= set(provenance)


def test_like_draws_the_same_galaxies(alone: Path, expected: Path, tmp_path: Path) -> None:
    assert hashes(expected)[1] == hashes(alone)[1]
    assert open_set(expected).factors == FACTORS
    assert here(tmp_path / "again.h5", "--like", alone, "--seed", "7") == 0
    assert hashes(tmp_path / "again.h5") == hashes(alone)


def test_noise_of_a_set_is_poisson_and_independent(alone: Path, expected: Path) -> None:
    counts, mean = images(alone).astype(float), np.maximum(images(expected), 0).astype(float)
    np.testing.assert_array_equal(counts, np.round(counts))
    bright = mean > 5
    z = np.where(bright, (counts - mean) / np.sqrt(np.where(bright, mean, 1)), 0)
    used = int(bright.sum())
    assert abs(z[bright].mean()) < 4 / np.sqrt(used)
    assert abs((z[bright] ** 2).mean() - 1) < 4 * np.sqrt((2 + 1 / 5) / used)
    for step in (1, 2, 128):  # neighbours, and the same place in the next chunk
        both = bright[step:] & bright[:-step]
        assert abs((z[step:] * z[:-step])[both].mean()) < 4 / np.sqrt(both.sum())
    shifted = bright[:, :, 1:] & bright[:, :, :-1]
    assert abs((z[:, :, 1:] * z[:, :, :-1])[shifted].mean()) < 4 / np.sqrt(shifted.sum())


def test_noise_of_a_pixel_is_poisson() -> None:
    means = np.array([[0.2, 0.7, 3.0, 12.0, 90.0, 4000.0, -1e-3, 0.0]], np.float32)
    draws = np.stack([with_noise(means, SCENE.sky, SCENE.read_noise, 11, index)[0] for index in range(4000)])
    assert not draws[:, 6:].any()
    for mean, drawn in zip(means[0, :6], draws.T[:6], strict=True):
        edges = np.unique(stats.poisson.ppf(np.linspace(0.01, 0.99, 30), mean))  # a bin: above one edge, up to the next
        probability = np.diff([0, *stats.poisson.cdf(edges, mean), 1])
        observed = np.bincount(np.searchsorted(edges, drawn), minlength=len(probability))
        assert stats.chisquare(observed, probability * len(drawn)).pvalue > 1e-3


def test_every_galaxy_has_its_own_stream() -> None:
    bright = np.full((4, 4), 1e4, np.float32)
    draws = {
        with_noise(bright, SCENE.sky, SCENE.read_noise, seed, index).tobytes()
        for seed in (0, 1)
        for index in range(600)
    }
    assert len(draws) == 1200


def test_seeds_differ(alone: Path, tmp_path: Path) -> None:
    assert here(tmp_path / "8.h5", "--n", str(N), "--seed", "8") == 0
    assert all(mine != other for mine, other in zip(hashes(tmp_path / "8.h5"), hashes(alone), strict=True))
    assert here(tmp_path / "noise.h5", "--like", alone, "--seed", "8") == 0
    other, own = images(tmp_path / "noise.h5"), images(alone)
    assert np.mean(other[own > 10] != own[own > 10]) > 0.5


def bad_like(path: Path, **values: float) -> Path:
    """A file to be like, of which sample 3 has other values."""
    names = [f.name for f in FACTORS]
    parameters = table2(10, seed=0)
    for name, value in values.items():
        parameters[3, names.index(name)] = value
    wide = [Factor(f.name, f.unit, -1e6, 1e6) for f in FACTORS]
    write(path, np.zeros((10, 1, 2, 2)), parameters, wide, {})
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flux": 0.0}, "flux = 0.0 of sample 3 cannot be drawn; allowed: above 0"),
        ({"radius": -0.1}, "radius = -0.1 of sample 3 cannot be drawn; allowed: above 0"),
        ({"g1": 0.8, "g2": -0.6}, "|g| = 1.0 of sample 3 cannot be drawn; allowed: below 1"),
        ({"psf": np.nan}, "psf = nan of sample 3 cannot be drawn; allowed: above 0"),
    ],
)
def test_galaxies_that_cannot_be_drawn(
    tmp_path: Path, values: dict[str, float], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    like = bad_like(tmp_path / "like.h5", **values)
    refuse([tmp_path / "out.h5", "--like", like], f"{like}: {message}", capfd)
    assert [entry.name for entry in tmp_path.iterdir()] == ["like.h5"]


def test_options_that_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, like = tmp_path / "out.h5", bad_like(tmp_path / "like.h5")
    refuse([out, "--n", "1"], "--n 1: allowed is 2 or more", capfd)
    for seed in (-1, 2**64):
        refuse([out, "--seed", str(seed)], f"--seed {seed}: allowed is 0 to {2**64 - 1}", capfd)
    refuse(
        [out, "--like", like, "--n", "5"],
        f"--n 5: not allowed beside --like, which draws every galaxy of {like}",
        capfd,
    )
    refuse([out, "--like", tmp_path / "none.h5"], "none.h5: no such file", capfd)
    refuse([tmp_path / "none" / "out.h5"], f"folder {tmp_path / 'none'} does not exist", capfd)
    write(tmp_path / "other.h5", np.zeros((2, 1, 2, 2)), np.array([[0.0], [1.0]]), [Factor("flux", "", 0, 1)], {})
    refuse([out, "--like", tmp_path / "other.h5"], "other.h5: factor 'radius' is unknown; known are flux", capfd)
    assert here(out, "--n", "many") == 2
    assert "--n" in capfd.readouterr().err
    assert not out.exists()


def test_a_disk_without_room_for_drawing_and_set_is_refused_before_the_first_galaxy(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: disk._replace(free=4_000_000))
    assert here(tmp_path / "x.h5", "--n", "500") == 2  # 33 * 33 * 4 bytes each, once drawn and once in the set
    assert "x.h5: 0.0044 GB are needed" in capfd.readouterr().err and list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.h5"
    out.write_text("mine")
    refuse([out, "--n", "10"], f"{out}: exists already", capfd)
    assert_refused(simulate(out, "--n", "10", ranks=2), f"{out}: exists already")
    assert out.read_text() == "mine" and [entry.name for entry in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "PMI_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_SIZE"])
def test_launcher_that_starts_singletons(tmp_path: Path, variable: str) -> None:
    ended = simulate(tmp_path / "out.h5", "--n", "10", env={**os.environ, variable: "3"})
    assert ended.returncode == 2 and ended.stdout == ""
    assert "error: world size 1 (" in ended.stderr and f"{variable}=3" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_mpi4py(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert here(tmp_path / "out.h5", "--n", "10") == 0
    capfd.readouterr()
    monkeypatch.setenv("PMI_SIZE", "2")
    for message in ("world size 1 (mpi4py cannot be imported: ", "PMI_SIZE=2"):
        refuse([tmp_path / "two.h5", "--n", "10"], message, capfd)


@pytest.mark.processes
def test_without_galsim(tmp_path: Path) -> None:
    start = "import sys; sys.modules['galsim'] = None; from hpcauxvae.simulate.command import main; sys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", start, tmp_path / "out.h5"], capture_output=True, text=True)
    assert_refused(ended, "pip install 'hpcauxvae[simulate]'")


def test_how_far_it_is_stays_out_of_the_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_LINE_EVERY_S", 0.0)
    assert here(tmp_path / "out.h5", "--n", "70") == 0
    said = capfd.readouterr()
    assert said.out.startswith(f"{tmp_path / 'out.h5'}: 70 galaxies") and said.out.count("\n") == 1
    assert [line.split("  ")[0] for line in said.err.splitlines()] == ["galaxy 64/70", "galaxy 70/70"]
    assert "a second" in said.err


def test_galaxies_left_are_counted_in_part_chunks_too() -> None:
    rows = Rows(1400, 64, 1)
    for missing in ([], [0], [21], [3, 4, 5, 9, 20, 21], range(22)):
        there = np.setdiff1d(np.arange(22), np.array(missing, np.int64))
        left = missing_of(rows, Stored(there, there, there, there))
        assert [left[position] for position in range(len(left))] == [*missing]
        assert rows.count(left.runs) == sum(len(rows.of(chunk)) for chunk in missing)


@pytest.mark.processes
def test_a_module_missing_in_the_work_ends_every_rank(tmp_path: Path) -> None:
    """The other ranks would wait for ever for one that only returned; and it is not for want of GalSim."""
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "from hpcauxvae.simulate import command, parallel\n"
        "def without_torch(prepare, ranks):\n"
        "    if ranks.rank == 1:\n"
        "        raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
        "    ranks.comm.Barrier()\n"
        "parallel.run = without_torch\n"
        "sys.exit(command.main())\n"
    )
    line = [*launcher(2), sys.executable, tmp_path / "program.py", tmp_path / "out.h5", "--n", "10"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1 and "No module named 'torch'" in ended.stderr and "pip install" not in ended.stderr
