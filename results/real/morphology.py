"""What residual latents found in real galaxies: python results/real/morphology.py RUN NOISELESS CATALOGUE OUT

Measures concentration C, asymmetry A and clumpiness S (Conselice 2003) of galaxies whose parents the run has not seen:
on noiseless stamps, on noisy ones, and on the HST images of the parents. Asks which residual latents follow them, and
how much of them all residual latents tell together beyond the known factors. Wants `pip install statmorph`.

RUN: trained on a set with the columns `galaxy` (row of the parent) and `psf`, split by parents; NOISELESS: the same
galaxies without noise; CATALOGUE: of GalSim, with which they were drawn; OUT: a folder, for numbers and pictures.

Shape suffixes: N samples, U known factors, Z residual latents, M statistics, P parents.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import galsim
import matplotlib.pyplot as plt
import numpy as np
import statmorph
from numpy.typing import NDArray
from photutils.aperture import CircularAnnulus
from scipy.ndimage import gaussian_filter
from skimage.measure import label

from hpcauxvae import load, open_set
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.evaluate.door import Trained
from hpcauxvae.metrics.beyond import gain_of
from hpcauxvae.metrics.intervals import Array, Score, jackknife_score
from hpcauxvae.metrics.objects import mixed
from hpcauxvae.metrics.regression import predicted_in_folds

NAMES = ("C", "A", "S")
SIGMAS, WIDTH = 1.5, 0.25
"""A galaxy is where the image is above so many standard deviations of its noise. S smooths by WIDTH Petrosian radii."""
SKY = {"stamps": 8, "parents": 12}
"""Pixels on a side of the box without galaxy from which statmorph takes the asymmetry of the noise."""
NEAR, SMOOTH = 8, 2.0
"""Pixels of HST: a radius about the middle, and the standard deviation of the Gaussian for finding, and showing, it."""
SIGNAL = "S/N of HST"
ASKED = (
    ("noiseless", ("psf",)),
    ("noiseless", ("psf", SIGNAL)),
    ("noiseless", ()),
    ("noisy", ("psf",)),
    ("parent", ("psf",)),
)
"""Which images, and what counts as known beside the auxiliary variables."""
DRAWS = 99
"""Of the permutation null, made for the first two of these."""
EACH = 12
"""Samples of each parent that are measured."""
COLUMNS = 9
"""Of the picture."""


class Statistics(statmorph.SourceMorphology):
    """C and A as statmorph has them, without all else that it measures."""

    def _calculate_morphology(self) -> None:
        """Each statistic is measured once it is asked for."""

    def _check_segmaps(self) -> None:
        """Of the Gini coefficient, which is not asked for."""


def measured(image: Array, noise: float, box: int, smooth: float = 0) -> Array:
    """C, A and S of the galaxy in the middle of an image (H, W), (3,); NaN where there is none.

    noise: standard deviation of a pixel of the sky, in the unit of the image; box: as in SKY; smooth: standard
    deviation in pixels of the Gaussian before the threshold. C = 5 log10(r80 / r20) and A are those of statmorph
    (Lotz, Primack and Madau 2004; Rodriguez-Gomez et al. 2019), which turns the image about the centre at which A is
    smallest, and takes off the asymmetry of the sky. S is that of `clumpiness`.
    """
    seen = gaussian_filter(image, smooth) if smooth else image
    regions = label(seen > SIGMAS * noise, connectivity=1)
    y, x = np.array(image.shape) // 2
    near = seen[y - 3 : y + 4, x - 3 : x + 4]
    dy, dx = np.unravel_index(near.argmax(), near.shape)
    number = regions[y - 3 + dy, x - 3 + dx]
    if number == 0:
        return np.full(3, np.nan)
    galaxy = regions == number
    weights = np.sqrt(np.maximum(image, 0) + noise**2)
    found = Statistics(image, galaxy.astype(int), 1, weightmap=weights, skybox_size=box)
    centre, radius = (found.xc_asymmetry, found.yc_asymmetry), found.rpetro_circ
    if not radius > 0:
        return np.full(3, np.nan)
    values = np.array([found.concentration, found.asymmetry, clumpiness(image, centre, radius)])
    return np.where(values == -99, np.nan, values)


def clumpiness(image: Array, centre: tuple[float, float], radius: float) -> float:
    """S: the light that smoothing takes away, over the light, from .25 to 1.5 Petrosian radii (Conselice 2003).

    Smoothed with a Gaussian of standard deviation WIDTH * radius. The usual box of whole pixels has a single one where
    stamps are as coarse as here, and S would be 0. What the same filter takes from the sky is taken off.
    centre: (x, y), in pixels; radius: Petrosian, in pixels.
    """
    rough = np.maximum(image - gaussian_filter(image, WIDTH * radius), 0)
    ring = CircularAnnulus(centre, WIDTH * radius, 1.5 * radius)
    y, x = np.indices(image.shape)
    sky = np.hypot(x - centre[0], y - centre[1]) > 2 * radius
    of_sky = float(rough[sky].mean()) if sky.sum() >= 16 else 0.0
    light, taken = (float(ring.do_photometry(part)[0][0]) for part in (image, rough))
    return (taken - of_sky * ring.area) / light


def parents(catalogue: Path, number_P: NDArray) -> tuple[Array, Array]:
    """C, A and S of HST images, (P, 3), and the logarithm of the signal to noise within NEAR pixels, (P,)."""
    stored = galsim.RealGalaxyCatalog(catalogue.name, dir=str(catalogue.parent))
    found, signal_P = [], []
    for number in number_P.tolist():
        noise = float(np.sqrt(stored.getNoise(number).getVariance()))
        image = stored.getGalImage(number).array.astype(np.float64)
        y, x = np.indices(image.shape)
        near = np.hypot(x - image.shape[1] // 2, y - image.shape[0] // 2) < NEAR
        signal_P.append(np.log10(image[near].sum() / (noise * np.sqrt(near.sum()))))
        found.append(measured(image, noise, SKY["parents"], smooth=SMOOTH))
    return np.array(found), np.array(signal_P)


def all_measured(
    kept: Path, data: Any, clean: Any, rows: NDArray, galaxy_N: NDArray, catalogue: Path
) -> dict[str, Array]:
    """The statistics (N, 3) on each kind of image, and SIGNAL (N,) of the parents, kept in a file."""
    if not kept.exists():
        noise = float(np.sqrt(1 / data.weights[rows].max()))
        found: dict[str, Any] = {}
        for name, images in (("noiseless", clean.images), ("noisy", data.images)):
            stamps = np.asarray(images[rows][:, 0], np.float64)
            found[name] = np.array([measured(stamp, noise, SKY["stamps"]) for stamp in stamps])
        number_P, row_N = np.unique(galaxy_N, return_inverse=True)
        parent_PM, signal_P = parents(catalogue, number_P)
        found |= {"parent": parent_PM[row_N], SIGNAL: signal_P[row_N]}
        np.savez(kept, **found)
    return dict(np.load(kept))


def correlations(latents_NZ: Array, target_N: Array, parent_N: NDArray) -> list[Score]:
    """Of each latent with a target, with the interval of a jackknife that leaves a parent out."""

    def of(keep: NDArray) -> Array:
        return np.array([np.corrcoef(z, target_N[keep])[0, 1] for z in latents_NZ[keep].T])

    others_PZ = np.array([of(parent_N != parent) for parent in np.unique(parent_N)])
    values_Z = of(np.ones(len(parent_N), bool))
    return [jackknife_score(float(v), o, len(parent_N), (-1, 1)) for v, o in zip(values_Z, others_PZ.T, strict=True)]


class Asked:
    """A statistic of samples, what the known factors leave of it, and which samples are of parents not trained on."""

    def __init__(self, target_N: Array, known_NU: Array, parent_N: NDArray, unseen_N: NDArray[np.bool_]) -> None:
        """parent_N: from 0, those of a parent together."""
        self.target_N, self.parent_N, self.unseen_N = target_N, parent_N, unseen_N
        self.error_N = target_N - predicted_in_folds(known_NU, target_N[:, None], parent_N, 0)[:, 0]

    def added(self, features_NF: Array, of_N: NDArray[np.bool_]) -> tuple[float, Score]:
        """R^2 of the known factors, and what features add to it, of some samples; regressions see other parents."""
        told_N = predicted_in_folds(features_NF, self.error_N[:, None], self.parent_N, 0)[:, 0]
        spread_N = np.square(self.target_N[of_N] - self.target_N[of_N].mean())
        number_N = np.unique(self.parent_N[of_N], return_inverse=True)[1]
        known = 1 - float(np.square(self.error_N[of_N]).sum() / spread_N.sum())
        return known, gain_of(told_N[of_N, None], self.error_N[of_N, None], spread_N, number_N)

    def found(self, latents_NZ: Array, measured_NM: Array, draws: int) -> dict[str, Any]:
        """All numbers. r: of each residual latent with what the known factors leave, of parents not trained on.

        measured_NM: statistics of the same stamps, in the place of latents. The null has the latents of another parent
        in the place of those of each, `draws` times.
        """
        unseen_N = self.unseen_N
        known, added = self.added(latents_NZ, unseen_N)
        found: dict[str, Any] = {
            "known": known,
            "added": added,
            "added, parents trained on": self.added(latents_NZ, ~unseen_N)[1],
            "added by measuring": self.added(measured_NM, unseen_N)[1],
            "r": correlations(latents_NZ[unseen_N], self.error_N[unseen_N], self.parent_N[unseen_N]),
            "parents": len(np.unique(self.parent_N[unseen_N])),
        }
        if draws:
            rng = np.random.default_rng(1)
            others = (latents_NZ[mixed(self.parent_N, rng)] for _ in range(draws))
            null = [self.added(other_NZ, unseen_N)[1]["value"] for other_NZ in others]
            found["chance"] = float(np.quantile(null, 0.95))
            found["p"] = (1 + sum(one >= added["value"] for one in null)) / (1 + draws)
        return found


def some(galaxy_N: NDArray) -> NDArray:
    """The first samples of each parent, those of a parent together."""
    return np.concatenate([np.flatnonzero(galaxy_N == parent)[:EACH] for parent in np.unique(galaxy_N)])


def main(folder: str, noiseless: str, catalogue: str, to: str) -> None:
    """Prints a table, and writes morphology.json and a picture."""
    out = Path(to)
    out.mkdir(parents=True, exist_ok=True)
    run = load(folder)
    data, clean = open_set(run.config.data), open_set(noiseless)
    seen, *unseen = run.run.parts(data)
    galaxy_N = data.values[:, data.column(["galaxy"])[0]].astype(int)
    held = np.concatenate(unseen)
    if shared := set(galaxy_N[seen]) & set(galaxy_N[held]):
        sys.exit(f"error: {folder}: {len(shared)} parents are in training and test; allowed: none (--group galaxy)")
    rows = some(galaxy_N)
    unseen_N = np.isin(rows, held)
    values = all_measured(out / "morphology.npz", data, clean, rows, galaxy_N[rows], Path(catalogue))
    known = data.column(run.config.aux_names)
    latents_NZ = run.encode(data.images[rows]).mean[:, len(known) :]
    column_N = {"psf": data.scaled()[rows, data.column(["psf"])[0]], SIGNAL: values[SIGNAL]}
    targets = [(f"{n} {kind}", values[kind][:, m], also) for kind, also in ASKED for m, n in enumerate(NAMES)]
    targets += [(name, column_N[name], ()) for name in column_N]
    record = {}
    for name, value_N, also in targets:
        good = np.isfinite(value_N)
        parent_N = np.unique(galaxy_N[rows][good], return_inverse=True)[1]
        known_NU = np.column_stack([data.scaled()[rows][:, known], *(column_N[one] for one in also)])
        title = " ".join([name, *(f"({one} known)" for one in also)])
        asked = Asked(value_N[good], known_NU[good], parent_N, unseen_N[good])
        draws = DRAWS if "noiseless" in name and also else 0
        record[title] = asked.found(latents_NZ[good], values["noisy"][good], draws)
        report(title, record[title], len(known))
    (out / "morphology.json").write_text(json.dumps(record, indent=1))
    pictured = {len(known) + strongest(record[f"{name} noiseless (psf known)"]) for name in ("C", "A")}
    picture(run, data, held, galaxy_N, sorted(pictured), Path(catalogue), out / "latents.png")


def strongest(found: dict[str, Any]) -> int:
    """The residual latent with the largest correlation, from 0."""
    return int(np.argmax([abs(r["value"]) for r in found["r"]]))


def report(name: str, found: dict[str, Any], first: int) -> None:
    """What was found, and r of each residual latent."""
    print(f"{name}: known factors {found['known']:.2f}; {found['parents']} parents, {found['added']['n']} galaxies")
    for what in ("added", "added, parents trained on", "added by measuring"):
        print(f"    {what} {in_words(found[what])}")
    if "p" in found:
        print(f"    of latents of other parents 95 % add less than {found['chance']:.2f}; p {found['p']:.2f}")
    words = (f"{first + k + 1}: {in_words(r)}" for k, r in enumerate(found["r"]))
    print("    r of latent " + ", ".join(words), flush=True)


def in_words(score: Score) -> str:
    """With its interval."""
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def picture(
    run: Trained, data: ImageSet, held: NDArray, galaxy: NDArray, latents: Sequence[int], catalogue: Path, to: Path
) -> None:
    """Of each latent three rows: what the decoder draws as it grows, stamps that have it, and their HST images.

    The stamps are of medium size and shear, each of another parent that the run has not seen.
    """
    stored = galsim.RealGalaxyCatalog(catalogue.name, dir=str(catalogue.parent))
    value_NF = {factor.name: column for factor, column in zip(data.factors, data.values[held].T, strict=True)}
    medium = (np.hypot(value_NF["g1"], value_NF["g2"]) < 0.2) & (np.abs(value_NF["radius"] - 0.35) < 0.1)
    code_NZ = run.encode(data.images[held]).mean
    figure, axes = plt.subplots(3 * len(latents), COLUMNS, figsize=(COLUMNS, 3.2 * len(latents)), squeeze=False)
    for block, latent in enumerate(latents):
        at_C = np.quantile(code_NZ[:, latent], np.linspace(0.02, 0.98, COLUMNS))
        asked_CZ = np.tile(np.median(code_NZ, 0), (COLUMNS, 1))
        asked_CZ[:, latent] = at_C
        drawn = run.decode(asked_CZ)[:, 0]
        free = medium.copy()
        for number, at in enumerate(at_C):
            nearest = np.flatnonzero(free)[np.abs(code_NZ[free, latent] - at).argmin()]
            free &= galaxy[held] != galaxy[held[nearest]]
            parent = gaussian_filter(stored.getGalImage(int(galaxy[held[nearest]])).array, SMOOTH)
            for row, image in enumerate((drawn[number], data.images[held[nearest] : held[nearest] + 1][0, 0], parent)):
                ax = axes[3 * block + row, number]
                ax.imshow(np.arcsinh(10 * image / image.max()), origin="lower", cmap="gray")
                ax.set(xticks=[], yticks=[])
            axes[3 * block, number].set_title(f"{at:+.1f}", fontsize=8)
        for row, text in enumerate((f"latent {latent + 1}", "stamp", "HST")):
            axes[3 * block + row, 0].set_ylabel(text, fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(to, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
