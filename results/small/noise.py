"""Do noise maps matter? Sets with noise of several sizes and lost pixels, and errors against what is without noise.

    python results/small/noise.py make galaxies-noiseless.h5 FOLDER
    hpcauxvae train FOLDER/weights.h5 --aux radius,g1,g2 --bf16 --channels-last --out RUN
    python results/small/noise.py errors FOLDER RUN:weights RUN:clean
    python results/small/noise.py components FOLDER
    python results/small/noise.py best FOLDER RUN

`make` takes 8,000 images without noise, and writes weights.h5 (noise of 5 to 50 counts, of one size in each image, a
tenth of the pixels lost, and the noise map), blind.h5 (the same without the map, lost pixels 0), clean.h5 (5 counts in
all, nothing lost) and truth.h5. `errors` prints for each RUN:SET the root mean squared error of the test images that
are drawn from their own noisy ones, and the median image's, in counts. `components` prints what ten principal
components of the clean training images leave of it: of the truth, and fitted to noisy images by least squares, each
pixel by its inverse variance. `best` prints what the decoder of a run draws of weights.h5 by the codes that are most
probable, found by descent from those of the encoder: what an encoder could tell it at best; and what this encoder tells
of the truth.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.missing import Filled
from hpcauxvae.data.splits import parts
from hpcauxvae.train.run import load_run

IMAGES, LEAST, LOST = 8000, 5.0, 0.1
TRIED, STEPS, RATE = 160, 150, 0.02
"""Images whose best codes are sought, and how."""


def make(source: str, folder: str) -> None:
    """Writes the four sets."""
    data, place, rng = open_set(Path(source)), Path(folder), np.random.default_rng(8)
    truth = np.asarray(data.images[:IMAGES]).astype(np.float32)
    values, shape = data.values[:IMAGES], (len(truth), 1, 1, 1)
    clean = truth + rng.normal(size=truth.shape).astype(np.float32) * LEAST
    sigma = LEAST * 10 ** rng.uniform(size=shape)
    noisy = (truth + rng.normal(size=truth.shape) * sigma).astype(np.float32)
    lost = rng.random(truth.shape) < LOST
    weights = np.where(lost, 0, 1 / sigma**2).astype(np.float32)
    known = np.where(lost, np.float32(np.nan), noisy)
    write(place / "weights.h5", known, values, data.factors, {}, weights=weights, missing_pixels="nan")
    write(place / "blind.h5", np.where(lost, np.float32(0), noisy), values, data.factors, {})
    of_all = np.full(truth.shape, LEAST**-2, np.float32)
    write(place / "clean.h5", clean, values, data.factors, {}, weights=of_all)
    write(place / "truth.h5", truth, values, data.factors, {})


def say(name: str, drawn: NDArray, truth: NDArray) -> None:
    """Prints both errors of images (N, ...)."""
    error_N = np.square(drawn - truth.astype(np.float64)).reshape(len(truth), -1).mean(1)
    print(f"{name}: {error_N.mean() ** 0.5:.1f}, {np.median(error_N) ** 0.5:.1f}", flush=True)


def errors(folder: str, *named: str) -> None:
    """Of runs."""
    truth = open_set(Path(folder) / "truth.h5")
    for pair in named:
        where, name = pair.rsplit(":", 1)
        run, data = load_run(where), open_set(Path(folder) / f"{name}.h5")
        rows = np.sort(parts(data, run.config.split_seed)[2])
        drawn = run.decode(run.encode(data.images, data.scaled()[rows][:, data.column(run.config.aux_names)], rows)[0])
        say(f"{where} on {name}", drawn, np.asarray(truth.images[rows]))


def components(folder: str, number: int = 10) -> None:
    """Of as many principal components as there are latents."""
    truth, clean, given = (open_set(Path(folder) / f"{name}.h5") for name in ("truth", "clean", "weights"))
    assert isinstance(given.images, Filled)
    train, _, test = parts(truth, 0)
    rows = np.asarray(clean.images[train], np.float64).reshape(len(train), -1)
    mean = rows.mean(0)
    axes = np.linalg.eigh((rows - mean).T @ (rows - mean)).eigenvectors[:, -number:].T
    wanted, known, images = (
        np.asarray(values, np.float64).reshape(len(test), -1)
        for values in (truth.images[test], given.images.weights_at(test), given.images[test])
    )
    say(f"{number} components of the truth", mean + (wanted - mean) @ axes.T @ axes, wanted)
    drawn = [
        mean + np.linalg.solve((axes * w) @ axes.T, (axes * w) @ (x - mean)) @ axes
        for x, w in zip(images, known, strict=True)
    ]
    say(f"{number} components fitted to noisy images", np.stack(drawn), wanted)


def best(folder: str, where: str) -> None:
    """Of the first test images; the prior is that of the residual latents, for what guides is known well."""
    truth, data = (open_set(Path(folder) / f"{name}.h5") for name in ("truth", "weights"))
    run = load_run(where)
    assert isinstance(data.images, Filled)
    rows = np.sort(parts(data, run.config.split_seed)[2])[:TRIED]
    wanted, d = np.asarray(truth.images[rows]), len(run.guiding)
    model: Any = run.model
    code = run.encode(data.images, index_N=rows)[0]
    say("encoder", run.decode(code), wanted)
    say("encoder, of the truth", run.decode(run.encode(wanted)[0]), wanted)
    images, weights = map(torch.from_numpy, data.images.zeroed(rows))
    scaled, (inverse, zero) = model.scale(images), model._noise_of(weights)
    z_BZ = torch.tensor(code, dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([z_BZ], RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nats_B = model.noise.nll(scaled, model.decoder(z_BZ), inverse, zero) + z_BZ[:, d:].square().sum(1) / 2
        nats_B.sum().backward()
        optimizer.step()
        schedule.step()
    say("best codes", run.decode(z_BZ.detach().numpy()), wanted)


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"make": make, "errors": errors, "components": components, "best": best}
    commands[sys.argv[1]](*sys.argv[2:])
