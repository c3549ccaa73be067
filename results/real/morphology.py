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
ASKED = (("noiseless", ("psf",)), ("noiseless", ()), ("noisy", ("psf",)), ("parent", ("psf",)))
"""Which images, and what counts as known beside the auxiliary variables."""
DRAWS = 99
"""Of the permutation null, made for the first of these."""
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


def parents(catalogue: Path, number_P: NDArray) -> Array:
    """C, A and S of HST images, (P, 3)."""
    stored = galsim.RealGalaxyCatalog(catalogue.name, dir=str(catalogue.parent))
    found = []
    for number in number_P.tolist():
        noise = float(np.sqrt(stored.getNoise(number).getVariance()))
        image = stored.getGalImage(number).array.astype(np.float64)
        found.append(measured(image, noise, SKY["parents"], smooth=2))
    return np.array(found)


def all_measured(
    kept: Path, data: Any, clean: Any, rows: NDArray, galaxy_N: NDArray, catalogue: Path
) -> dict[str, Array]:
    """The statistics (N, 3) on each kind of image, kept in a file."""
    if not kept.exists():
        noise = float(np.sqrt(1 / data.weights[rows].max()))
        found = {}
        for name, images in (("noiseless", clean.images), ("noisy", data.images)):
            stamps = np.asarray(images[rows][:, 0], np.float64)
            found[name] = np.array([measured(stamp, noise, SKY["stamps"]) for stamp in stamps])
        number_P, row_N = np.unique(galaxy_N, return_inverse=True)
        found["parent"] = parents(catalogue, number_P)[row_N]
        np.savez(kept, noiseless=found["noiseless"], noisy=found["noisy"], parent=found["parent"])
    return dict(np.load(kept))


def correlations(latents_NZ: Array, target_N: Array, parent_N: NDArray) -> list[Score]:
    """Of each latent with a target, with the interval of a jackknife that leaves a parent out."""

    def of(keep: NDArray) -> Array:
        return np.array([np.corrcoef(z, target_N[keep])[0, 1] for z in latents_NZ[keep].T])

    others_PZ = np.array([of(parent_N != parent) for parent in np.unique(parent_N)])
    values_Z = of(np.ones(len(parent_N), bool))
    return [jackknife_score(float(v), o, len(parent_N), (-1, 1)) for v, o in zip(values_Z, others_PZ.T, strict=True)]


def gained(features_NF: Array, error_N: Array, spread_N: Array, parent_N: NDArray) -> Score:
    """The share of a target's variance that features tell of its error, by regressions fitted to other parents."""
    told_N = predicted_in_folds(features_NF, error_N[:, None], parent_N, 0)[:, 0]
    return gain_of(told_N[:, None], error_N[:, None], spread_N, parent_N)


def asked(target_N: Array, known_NU: Array, latents_NZ: Array, parent_N: NDArray, draws: int) -> dict[str, Any]:
    """What known factors tell of a target, and what residual latents add: R^2, each fitted to other parents.

    r: of each residual latent with what the known factors leave. The null has the latents of another parent in the
    place of those of each, `draws` times.
    """
    spread_N = np.square(target_N - target_N.mean())
    error_N = target_N - predicted_in_folds(known_NU, target_N[:, None], parent_N, 0)[:, 0]
    found: dict[str, Any] = {
        "known": 1 - float(np.square(error_N).sum() / spread_N.sum()),
        "added": gained(latents_NZ, error_N, spread_N, parent_N),
        "r": correlations(latents_NZ, error_N, parent_N),
        "parents": len(np.unique(parent_N)),
    }
    if draws:
        rng = np.random.default_rng(1)
        others = (latents_NZ[mixed(parent_N, rng)] for _ in range(draws))
        null = [gained(other_NZ, error_N, spread_N, parent_N)["value"] for other_NZ in others]
        found["null_95"] = float(np.quantile(null, 0.95))
        found["p"] = (1 + sum(one >= found["added"]["value"] for one in null)) / (1 + draws)
    return found


def main(folder: str, noiseless: str, catalogue: str, to: str) -> None:
    """Prints a table, and writes morphology.json and a picture."""
    out = Path(to)
    out.mkdir(parents=True, exist_ok=True)
    run = load(folder)
    data, clean = open_set(run.config.data), open_set(noiseless)
    parts = run.run.parts(data)
    held = np.concatenate(parts[1:])
    column = {factor.name: number for number, factor in enumerate(data.factors)}
    galaxy = data.values[:, column["galaxy"]].astype(int)
    if shared := set(galaxy[parts[0]]) & set(galaxy[held]):
        sys.exit(f"error: {folder}: {len(shared)} parents are in training and test; allowed: none (--group galaxy)")
    held = held[np.lexsort([held, galaxy[held]])]
    known = data.column(run.config.aux_names)
    values = all_measured(out / "morphology.npz", data, clean, held, galaxy[held], Path(catalogue))
    code_NZ = run.encode(data.images[held]).mean
    latents_NZ = code_NZ[:, len(known) :]
    print(f"{len(held)} galaxies of {len(np.unique(galaxy[held]))} parents that the run has not seen")
    record = {}
    for kind, also in ASKED:
        scaled_NU = data.scaled()[held][:, [*known, *data.column(also)]]
        for name, value_N in zip(NAMES, values[kind].T, strict=True):
            good = np.isfinite(value_N)
            parent_N = np.unique(galaxy[held][good], return_inverse=True)[1]
            draws = DRAWS if kind == "noiseless" and also else 0
            found = asked(value_N[good], scaled_NU[good], latents_NZ[good], parent_N, draws)
            record[" ".join([name, kind, *also])] = found
            report(" ".join([name, kind, *also]), found, len(known))
    parent_N = np.unique(galaxy[held], return_inverse=True)[1]
    scaled_NF = data.scaled()[held]
    record["psf"] = asked(scaled_NF[:, column["psf"]], scaled_NF[:, known], latents_NZ, parent_N, 0)
    report("psf", record["psf"], len(known))
    (out / "morphology.json").write_text(json.dumps(record, indent=1))
    pictured = [len(known) + strongest(record[f"{name} noiseless psf"]) for name in ("C", "A")]
    picture(run, data, held, galaxy, sorted(set(pictured)), Path(catalogue), out / "latents.png")


def strongest(found: dict[str, Any]) -> int:
    """The residual latent with the largest correlation, from 0."""
    return int(np.argmax([abs(r["value"]) for r in found["r"]]))


def report(name: str, found: dict[str, Any], first: int) -> None:
    """A line of the table: r of each residual latent."""
    added, chance = found["added"], ""
    if "p" in found:
        chance = f" (chance {found['null_95']:.2f}, p {found['p']:.2f})"
    print(
        f"{name}: known factors {found['known']:.2f}, residual latents add {added['value']:.2f} "
        f"[{added['low']:.2f}, {added['high']:.2f}]{chance}; {found['parents']} parents, {added['n']} galaxies"
    )
    words = (
        f"{first + k + 1}: {r['value']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}]" for k, r in enumerate(found["r"])
    )
    print("    r of latent " + ", ".join(f"{first + k + 1}: {r}" for k, r in enumerate(words)), flush=True)


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
            parent = stored.getGalImage(int(galaxy[held[nearest]])).array
            for row, image in enumerate((drawn[number], data.images[held[nearest] : held[nearest] + 1][0, 0], parent)):
                ax = axes[3 * block + row, number]
                ax.imshow(np.arcsinh(10 * image / image.max()), origin="lower", cmap="gray")
                ax.set(xticks=[], yticks=[])
            axes[3 * block, number].set_title(f"{at:+.1f}", fontsize=8)
            axes[3 * block + 1, number].set_xlabel(f"{code_NZ[nearest, latent]:+.1f}", fontsize=7, labelpad=1)
        for row, text in enumerate((f"latent {latent + 1}", "stamp", "HST")):
            axes[3 * block + row, 0].set_ylabel(text, fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(to, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
