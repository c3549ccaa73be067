"""Mirror images in training: against GalSim and the real cars, by chance, and alike on any number of processes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.places import DATA
from hpcauxvae.data import cars3d
from hpcauxvae.data.galaxies import FACTORS, PIXEL_SCALE, STAMP_SIZE
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.symmetries import Mirrors, parse
from hpcauxvae.paper.experiments import CHOSEN
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import Batch, Factor, InputError

CARS = DATA / "cars3d.h5"
ALL = CHOSEN["case3"]["symmetries"]
SQUARE = (1, 4, 4)


def mirrors(text, factors=FACTORS, shape=SQUARE):
    data = ImageSet(
        path=Path("d.h5"), factors=factors, values=np.zeros((2, 0)), images=np.zeros((2, *shape)), provenance={}
    )
    return Mirrors(parse(text), data, torch.device("cpu"))


def draw(values):
    """The noiseless stamp of a galaxy, by GalSim alone."""
    galsim = pytest.importorskip("galsim")
    flux, radius, g1, g2, psf = values
    galaxy = galsim.Exponential(flux=flux, scale_radius=radius).shear(g1=g1, g2=g2)
    seen = galsim.Convolve([galaxy, galsim.Gaussian(fwhm=psf)])
    return seen.drawImage(nx=STAMP_SIZE, ny=STAMP_SIZE, scale=PIXEL_SCALE).array.astype(np.float64)


@pytest.mark.parametrize("word", ALL.split())
def test_a_mirrored_galaxy_is_the_one_that_galsim_draws_for_its_factors(word):
    generator = np.random.default_rng(4)
    low, high = (np.array([getattr(factor, end) for factor in FACTORS]) for end in ("low", "high"))
    values_NF = generator.uniform(low, high, (12, len(FACTORS)))
    images = torch.from_numpy(np.stack([draw(values) for values in values_NF]))[:, None]
    batch = Batch(images, torch.from_numpy((values_NF - low) / (high - low)), torch.arange(12))
    mirrored = mirrors(word, shape=(1, STAMP_SIZE, STAMP_SIZE))(batch, 1)
    changed = (mirrored.images != images).flatten(1).any(1)
    assert 2 <= changed.sum() <= 10
    for image, u_F in zip(mirrored.images[changed], mirrored.factors[changed], strict=True):
        expected = draw(low + u_F.numpy() * (high - low))
        assert np.abs(image[0].numpy() - expected).max() < 2e-3 * expected.max()  # GalSim's own accuracy
    assert torch.equal(mirrored.images[~changed], images[~changed])
    assert torch.equal(mirrored.factors[~changed], batch.factors[~changed])


@pytest.mark.skipif(not CARS.exists(), reason=f"needs {CARS}, the images of Cars3D")
def test_a_mirrored_car_is_likest_the_view_from_the_opposite_azimuth():
    views = cars3d.read(CARS, 20)  # (car, azimuth, elevation, ...)
    images = torch.from_numpy(views[:, :, 1].reshape(-1, 64, 64, 3)).permute(0, 3, 1, 2).float()
    raw_NF = cars3d.labels(views).reshape(20, 24, 4, -1)[:, :, 1].reshape(len(images), -1)
    scaled = np.stack([f.scale(column) for f, column in zip(cars3d.FACTORS, raw_NF.T, strict=True)], 1)
    batch = Batch(images, torch.from_numpy(scaled), torch.arange(len(images)))
    mirrored = mirrors("left-right:azimuth,azimuth_sin", cars3d.FACTORS, (3, 64, 64))(batch, 1)
    azimuth, cos, sin = 1, 4, 5
    found = 0
    for number in torch.nonzero((mirrored.images != images).flatten(1).any(1)).flatten().tolist():
        of_car = images[number // 24 * 24 : number // 24 * 24 + 24]
        likest = (of_car - mirrored.images[number]).abs().mean((1, 2, 3)).argmin()
        u_F = mirrored.factors[number].numpy()
        found += u_F[azimuth] * 24 == pytest.approx(int(likest))
        angle = 2 * np.pi * u_F[azimuth]
        assert 2 * u_F[[cos, sin]] - 1 == pytest.approx(np.array([np.cos(angle), np.sin(angle)]), abs=1e-6)
        others = [column for column in range(len(cars3d.FACTORS)) if column not in (azimuth, sin)]
        assert (u_F[others] == batch.factors[number, others].numpy()).all()
    assert found > 0.9 * 240 * 0.8  # of about 240; seen from the side, some look as well like their neighbour


def test_every_combination_is_as_likely_and_the_sample_alone_decides():
    n = 8000
    images = torch.rand(SQUARE).double().expand(n, *SQUARE)
    factors = torch.rand(n, len(FACTORS), dtype=torch.float64)
    batch = Batch(images, factors, torch.arange(n) * 7)
    whole = mirrors(ALL)(batch, 3, 1)
    seen, counts = torch.unique(whole.images, dim=0, return_counts=True)
    assert len(seen) == 8
    assert (counts - n / 8).abs().max() < 5 * (n / 8 * 7 / 8) ** 0.5  # five standard deviations
    part = mirrors(ALL)(Batch(*(values[100:137] for values in batch)), 3, 1)
    assert all(torch.equal(a[100:137], b) for a, b in zip(whole, part, strict=True))
    other_epoch = mirrors(ALL)(batch, 3, 2)
    same = (other_epoch.images == whole.images).flatten(1).all(1).double().mean()
    assert same == pytest.approx(1 / 8, abs=0.02)


def test_a_factor_without_a_value_stays_so_and_zero_stays_zero_on_a_circle():
    factors = (Factor("g2", "", -1, 1), Factor("angle", "deg", 0, 360, "periodic"), Factor("flux", "", 0, 1))
    n = 64
    u = torch.tensor([[float("nan"), 0.0, 0.3]] * n)
    batch = Batch(torch.arange(2.0).expand(n, 1, 1, 2), u, torch.arange(n))
    mirrored = mirrors("left-right:g2,angle", factors, (1, 1, 2))(batch, 0)
    assert 16 < (mirrored.images[:, 0, 0, 0] == 1).sum() < 48
    assert mirrored.factors[:, 0].isnan().all()
    assert (mirrored.factors[:, 1] == 0).all()
    assert (mirrored.factors[:, 2] == u[:, 2]).all()


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ("sideways", SQUARE, r"'sideways'; allowed: each of left-right, up-down, transpose once"),
        ("up-down up-down:g2", SQUARE, r"'up-down'; allowed: each of left-right, up-down, transpose once"),
        ("up-down:g3", SQUARE, r"d.h5: factor 'g3' is unknown; known are flux, radius, g1, g2, psf"),
        (
            "up-down:psf",
            SQUARE,
            r"d.h5: symmetries: up-down: factor 'psf' ranges from 0.2 to 0.4; allowed",
        ),
        ("transpose:g1", (1, 4, 5), r"d.h5: symmetries: transpose: images are 4 x 5; allowed: square ones"),
    ],
)
def test_what_cannot_be_is_refused(text, shape, said):
    with pytest.raises(InputError, match=said):
        mirrors(text, shape=shape)


def test_an_unknown_mirror_is_refused_before_any_data_are_read():
    with pytest.raises(InputError, match="symmetries = 'sideways'"):
        TrainConfig(data=Path("missing.h5"), aux="flux", symmetries="sideways")
