"""Every profile, PSF and renderer against GalSim's own drawing; noise of many stamps against Poisson statistics."""

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from helpers.places import DATA
from helpers.simulations import hashes, here, images
from hpcauxvae.data.hdf5 import open_set, validate

galsim = pytest.importorskip("galsim", reason="galsim is not installed: pip install 'hpcauxvae[simulate]'")
from hpcauxvae.simulate import designs  # noqa: E402
from hpcauxvae.simulate.profiles import ACCURACY, BULGE_SIZE  # noqa: E402
from hpcauxvae.simulate.scene import Scene  # noqa: E402
from hpcauxvae.simulate.stamps import add_noise_by_torch, painter_of  # noqa: E402

CATALOGUE = DATA / "real_galaxies" / "real_galaxy_catalog_26_extension_example.fits"
needs_galaxies = pytest.mark.skipif(
    not CATALOGUE.exists(), reason=f"no {CATALOGUE}: HPCAUXVAE_TEST_DATA names the folder that holds real_galaxies"
)
EXACT = galsim.GSParams(
    folding_threshold=1e-4, maxk_threshold=1e-6, kvalue_accuracy=1e-9, minimum_fft_size=256, maximum_fft_size=32768
)


def profile_of(p: dict[str, float], **accuracy: object) -> object:
    """Written out again, from GalSim's manual."""
    if "index" in p:
        return galsim.Sersic(n=p["index"], half_light_radius=p["radius"], flux=p["flux"], **accuracy)
    disk = galsim.Exponential(scale_radius=p["radius"], flux=p["flux"], **accuracy)
    if "bulge_fraction" not in p:
        return disk
    bulge = galsim.DeVaucouleurs(half_light_radius=BULGE_SIZE * p["radius"], flux=p["flux"], **accuracy)
    return galsim.Add((1 - p["bulge_fraction"]) * disk, p["bulge_fraction"] * bulge)


PSFS = {"gaussian": galsim.Gaussian, "kolmogorov": galsim.Kolmogorov}


def plain(scene: Scene, row: np.ndarray, gsparams: object, **drawing: object) -> np.ndarray:
    """One stamp (H, W) as a user of GalSim draws it."""
    p = dict(zip((f.name for f in scene.factors), map(float, row), strict=True))
    psf = (
        galsim.Moffat(beta=3.5, fwhm=p["psf"], gsparams=gsparams)
        if scene.psf == "moffat"
        else PSFS[scene.psf](fwhm=p["psf"], gsparams=gsparams)
    )
    seen = galsim.Convolve([profile_of(p, gsparams=gsparams).shear(g1=p["g1"], g2=p["g2"]), psf], gsparams=gsparams)
    return seen.drawImage(nx=scene.stamp_size, ny=scene.stamp_size, scale=scene.pixel_scale, **drawing).array


def rows_of(scene: Scene, n: int, seed: int = 0) -> np.ndarray:
    return scene.on_grid(designs.rows("uniform", n, seed, 0, n, scene.factors), scene.factors)


@pytest.mark.parametrize(
    ("profile", "psf", "size"),
    [("sersic", "moffat", 33), ("bulge-disk", "kolmogorov", 32), ("exponential", "moffat", 48)],
)
def test_profiles_and_psfs_are_those_of_galsim(profile: str, psf: str, size: int) -> None:
    scene = Scene(profile=profile, psf=psf, stamp_size=size, pixel_scale=0.17)
    for row in rows_of(scene, 3):
        reference = plain(scene, row, ACCURACY)
        np.testing.assert_allclose(scene.expected(row)[0], reference, rtol=1e-6, atol=2e-6 * reference.max())


def test_bands_differ_in_flux_alone() -> None:
    one, three = Scene(), Scene(bands=("g", "r", "i"))
    assert [f.name for f in three.factors][:4] == ["flux_g", "flux_r", "flux_i", "radius"]
    for row in rows_of(three, 3):
        stamp = three.expected(row)
        for channel in range(3):
            reference = one.expected(np.array([row[channel], *row[3:]]))[0]
            np.testing.assert_allclose(stamp[channel], reference, rtol=1e-5, atol=1e-6 * reference.max())


def rendered(scene: Scene, values: np.ndarray, first: int = 0) -> np.ndarray:
    stamps = np.empty((len(values), *scene.shape), np.float32)
    painter_of(scene, 7)(values, first, stamps, lambda: None)
    return stamps


def errors(stamps: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """In units of the peak and of the Poisson noise."""
    error = np.abs(stamps - truth)
    return float(error.max() / truth.max()), float((error / np.sqrt(np.maximum(truth, 1))).max())


def corners(scene: Scene) -> np.ndarray:
    """With the largest flux, where errors are largest in units of the noise."""
    ends = [(f.high,) if f.name == "flux" else (f.low, f.high) for f in scene.factors]
    return np.array(list(product(*ends)))


@pytest.mark.parametrize(
    ("renderer", "peak", "sigma"), [("galsim", 4e-5, 0.004), ("batch", 5e-5, 0.01), ("batch-fine", 3e-6, 0.003)]
)
def test_accuracy_over_table_2(renderer: str, peak: float, sigma: float) -> None:
    """Corners included; the promise of batch is 2e-4 and 0.02, of batch-fine 1e-5."""
    scene = Scene(renderer=renderer, noiseless=True)
    values = np.concatenate([corners(scene), rows_of(scene, 24)])
    for row, stamp in zip(values, rendered(scene, values), strict=True):
        found = errors(stamp[0], plain(scene, row, EXACT, dtype=float))
        assert found[0] < peak and found[1] < sigma, (row, found)


@pytest.mark.parametrize(
    ("profile", "psf"), [("exponential", "moffat"), ("exponential", "kolmogorov"), ("sersic", "gaussian")]
)
def test_batch_renderer_of_other_kinds(profile: str, psf: str) -> None:
    scene = Scene(renderer="batch", noiseless=True, profile=profile, psf=psf)
    values = np.concatenate([corners(scene)[:: 5 if profile == "exponential" else 9], rows_of(scene, 2)])
    values = values[[row for row in range(len(values)) if len(scene.factors) == 5 or values[row, 2] < 2.5]]
    for row, stamp in zip(values, rendered(scene, values), strict=True):
        found = errors(stamp[0], plain(scene, row, EXACT, dtype=float))
        assert found[0] < 5e-5 and found[1] < 0.02, (row, found)


def test_batch_bulge_is_the_sum_of_its_parts() -> None:
    """Against a bulge drawn by GalSim at the default folding, which cuts its wings: hence the tolerance."""
    scene = Scene(renderer="batch", noiseless=True, profile="bulge-disk", stamp_size=32)
    values = rows_of(scene, 3)
    for row, stamp in zip(values, rendered(scene, values), strict=True):
        assert errors(stamp[0], plain(scene, row, ACCURACY, dtype=float))[0] < 3e-4


def test_batch_stamps_do_not_depend_on_their_company() -> None:
    scene = Scene(renderer="batch", bands=("g", "r"))
    values = rows_of(scene, 100)
    whole = rendered(scene, values)
    for low, high in ((0, 40), (40, 41), (41, 100)):
        np.testing.assert_array_equal(rendered(scene, values[low:high], first=low), whole[low:high])
    assert (whole == np.round(whole)).all()


def test_batch_set_on_two_chunk_sizes(tmp_path: Path) -> None:
    for name, chunk in (("a.h5", 64), ("b.h5", 23)):
        assert here(tmp_path / name, "--n", "90", "--renderer", "batch", "--chunk", str(chunk)) == 0
        assert validate(tmp_path / name) == [] and here("verify", tmp_path / name, "--sample", "20") == 0
    assert hashes(tmp_path / "a.h5") == hashes(tmp_path / "b.h5")


def torch_counts(means: np.ndarray, seed: int, first: int = 0) -> np.ndarray:
    """(B, P) counts of the galaxies from `first` on."""
    stamps = means.astype(np.float32)[:, None, None]
    add_noise_by_torch(stamps, 0.0, 0.0, seed, range(first, first + len(means)))
    return stamps[:, 0, 0]


@pytest.mark.parametrize("mean", [0.0, 0.04, 0.7, 3.01, 9.99, 11.3, 40.0, 900.0, 30_000.0])
def test_counts_of_the_batch_renderer_are_poisson(mean: float) -> None:
    counts = torch_counts(np.full((20, 1500), mean), seed=2).ravel()
    if mean == 0:
        assert not counts.any()
        return
    mean = float(np.float32(mean))
    edges = np.unique(stats.poisson.ppf(np.linspace(0.01, 0.99, 30), mean))
    probability = np.diff([0, *stats.poisson.cdf(edges, mean), 1])
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(probability))
    assert stats.chisquare(observed, probability * len(counts)).pvalue > 1e-3
    assert abs(counts.var(dtype=float) / mean - 1) < 5 * np.sqrt((2 + 1 / mean) / len(counts))


def test_streams_of_the_batch_renderer_are_each_their_own() -> None:
    means = np.full((50, 400), 1e4)
    seeds = [torch_counts(means, seed) for seed in (0, 1)]
    assert len({row.tobytes() for rows in seeds for row in rows}) == 100
    np.testing.assert_array_equal(torch_counts(means[:1], seed=1, first=31)[0], seeds[1][31])
    pooled = (np.concatenate(seeds).astype(float) - 1e4) / 100
    assert np.abs(np.corrcoef(pooled)[np.triu_indices(100, 1)]).max() < 5 / np.sqrt(400)


@pytest.mark.parametrize("renderer", ["galsim", "batch"])
def test_sky_and_read_noise(renderer: str) -> None:
    """Variance: stamp + sky + read noise squared; the mean is the stamp's."""
    scene = Scene(renderer=renderer, sky=50.0, read_noise=6.0)
    values = np.repeat(rows_of(scene, 1), 1500, axis=0)
    stamps = rendered(scene, values)[:, 0].astype(float)
    mean = scene.expected(values[0])[0].astype(float)
    variance = mean + 50 + 36
    z = (stamps.mean(0) - mean) / np.sqrt(variance / 1500)
    assert np.abs(z).max() < 5 and abs(z.std() - 1) < 0.1
    assert abs((stamps.var(0) / variance).mean() - 1) < 5 * np.sqrt(2 / 1500 / 1089)


@needs_galaxies
def test_real_galaxies(tmp_path: Path) -> None:
    path = tmp_path / "real.h5"
    assert here(path, "--n", "20", "--profile", "real", "--catalogue", CATALOGUE, "--seed", "2") == 0
    assert validate(path) == [] and here("verify", path, "--sample", "3") == 0
    assert here(tmp_path / "noiseless.h5", "--like", path, "--noiseless") == 0
    data = open_set(path)
    assert [f.name for f in data.factors] == ["flux", "radius", "g1", "g2", "psf", "galaxy"]
    assert (data.values[:, 5] == np.round(data.values[:, 5])).all() and data.factors[5].high == 99
    catalogue = galsim.RealGalaxyCatalog(CATALOGUE.name, dir=str(CATALOGUE.parent))
    radii = galsim.Catalog(f"{CATALOGUE.stem}_fits.fits", dir=str(CATALOGUE.parent), hdu=1).data["flux_radius"]
    for row, stamp in zip(data.values[:4], images(tmp_path / "noiseless.h5")[:4], strict=True):
        flux, radius, g1, g2, psf, number = row
        galaxy = galsim.RealGalaxy(catalogue, index=int(number), flux=flux)
        grown = galaxy.dilate(radius / (radii[int(number)] * 0.03)).shear(g1=g1, g2=g2)
        reference = galsim.Convolve(grown, galsim.Gaussian(fwhm=psf)).drawImage(nx=33, ny=33, scale=0.2).array
        np.testing.assert_allclose(stamp, reference, atol=3e-3 * reference.max())


@needs_galaxies
def test_a_fit_without_parameters_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = here(tmp_path / "x.h5", "--profile", "parametric-cosmos", "--catalogue", CATALOGUE, "--n", "4")
    assert code == 2 and "cannot be read as a GalSim COSMOS catalogue" in capfd.readouterr().err


def cosmos_like(folder: Path) -> Path:
    """A catalogue in the form of the COSMOS one, with three fits: two Sersic and one of bulge and disk."""
    from astropy.io import fits

    def table(path: Path, **columns: np.ndarray) -> None:
        fits.BinTableHDU.from_columns(
            [
                fits.Column(
                    name,
                    format=("64A" if values.dtype.kind == "U" else f"{values[0].size}{values.dtype.char.upper()}"),
                    array=values,
                )
                for name, values in columns.items()
            ]
        ).writeto(path)

    n = np.arange(3)
    sersic = np.tile([1.0, 20.0, 1.0, 0.7, 0, 50, 50, 0.4], (3, 1))
    sersic[:, 2] = 1.0, 2.0, 3.0
    bulge = np.tile([1.0, 15.0, 1.0, 0.8, 0, 50, 50, 0.2, 1.0, 10.0, 4.0, 0.9, 0, 50, 50, 0.2], (3, 1))
    common = {"IDENT": n.astype("i4"), "PIXEL_SCALE": np.full(3, 0.03)}
    names = {f"{kind}_FILENAME": np.array(["none.fits"] * 3) for kind in ("GAL", "PSF", "NOISE")}
    hdus = {f"{kind}_HDU": n.astype("i4") for kind in ("GAL", "PSF")}
    rest = {"MAG": np.full(3, 22.0), "BAND": np.array(["F814W"] * 3), "WEIGHT": np.ones(3)}
    table(folder / "cat.fits", **common, **names, **hdus, **rest, NOISE_MEAN=np.zeros(3), NOISE_VARIANCE=np.ones(3))
    table(
        folder / "cat_fits.fits",
        **common,
        mag_auto=np.full(3, 22.0),
        flux_radius=np.full(3, 10.0),
        zphot=np.ones(3),
        sersicfit=sersic,
        bulgefit=bulge,
        fit_status=np.ones((3, 5), "i4"),
        use_bulgefit=np.array([0, 0, 1], "i4"),
        viable_sersic=np.ones(3, "i4"),
        hlr=np.array([[0.4, 0.2, 0.5]] * 3),
        flux=np.ones((3, 4)),
    )
    return folder / "cat.fits"


def test_parametric_cosmos(tmp_path: Path) -> None:
    """Row 1 is a Sersic fit of index 2, axis ratio 0.7 and angle 0.4, with half-light radius 0.4 before dilation."""
    catalogue = cosmos_like(tmp_path)
    scene = Scene(profile="parametric-cosmos", catalogue=catalogue)
    assert scene.factors[-1].high == 2
    stamp = scene.expected(np.array([5e4, 0.3, 0.1, -0.2, 0.3, 1.0]))[0]
    galaxy = galsim.Sersic(2.0, half_light_radius=0.3, flux=5e4).shear(q=0.7, beta=0.4 * galsim.radians)
    seen = galsim.Convolve(galaxy.shear(g1=0.1, g2=-0.2), galsim.Gaussian(fwhm=0.3))
    np.testing.assert_allclose(stamp, seen.drawImage(nx=33, ny=33, scale=0.2).array, atol=3e-3 * stamp.max())
    assert here(tmp_path / "set.h5", "--n", "6", "--profile", "parametric-cosmos", "--catalogue", catalogue) == 0
    assert validate(tmp_path / "set.h5") == []


def test_a_scene_is_what_its_record_says(tmp_path: Path) -> None:
    scene = Scene(profile="sersic", psf="moffat", bands=("g", "i"), stamp_size=20, sky=3.0, noiseless=True)
    assert Scene.of(scene.description, tmp_path) == scene
    assert dataclasses.asdict(Scene.of({}, tmp_path)) == dataclasses.asdict(Scene())


def test_preview(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from matplotlib.image import imread

    for bands in ("", "g,r,i"):
        out = tmp_path / f"set{len(bands)}.h5"
        assert here(out, "--n", "60", "--preview", "--bands", bands) == 0
        picture = imread(out.with_suffix(".png"))
        assert picture.shape[0] > 600 and picture[..., :3].std() > 0.1 and not out.exists()
        assert here(out, "--n", "60", "--preview", "--bands", bands) == 2
        assert "exists already" in capfd.readouterr().err
