"""The trainings of an audit of a data set: without the candidates, and with each of them.

Shape suffixes: N samples, B batch, Z latents, D columns that guide.
"""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from hpcauxvae.audit.command import ALL, AuditConfig
from hpcauxvae.audit.findings import candidate_of, candidates_of, objects_of, parts_of
from hpcauxvae.data.guides import guides_of
from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.data.missing import Filled
from hpcauxvae.data.pixels import look_at, stuck
from hpcauxvae.data.splits import parts
from hpcauxvae.metrics.intervals import Array, Score, mean_score
from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.runtime.devices import device_of, place
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.stop_requests import FINISHED
from hpcauxvae.train import checkpoint
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.loop import run as train
from hpcauxvae.train.notice import Notice
from hpcauxvae.train.run import Run, load_run, training_set
from hpcauxvae.types import Batch

WITHOUT = "without"
DRAWS = 8
"""Of the residual latents, over which a likelihood is averaged."""


def fit_to_ask(config: AuditConfig) -> tuple[str, ...]:
    """The names of the candidates that an audit of this data set can ask about. Raises InputError, as candidates_of."""
    data, aux = open_set(config.source), config.aux.split(",")
    data.column(aux)
    names = () if config.candidate == ALL else config.names
    for name in names:
        candidate_of(data, name)  # before all images are read
    digest_N = look_at(data.images, without=stuck(data.images)).digest
    found = candidates_of(data, aux, names, parts_of(parts(data, 0)), objects_of(data, digest_N))
    return tuple(candidate.name for candidate in found)


def train_without(config: AuditConfig, out: Path) -> int:
    """The run without the candidates, in `out`/without; the exit code."""
    return _trained(_run(config, config.aux, out / WITHOUT))


def gain_of_each(config: AuditConfig, names: tuple[str, ...], out: Path) -> tuple[int, dict[str, Any]]:
    """By how much the likelihood of test images gains with each of these; an exit code that says whether all is done.

    For each a further run, in `out`/with-NAME, with as many residual latents.
    """
    data, found = open_set(config.source), {}
    for name in names:
        folder = out / f"with-{quote(name, safe='=')}"  # another for each name
        more = sum(len(guide.columns) for guide in guides_of(data, [name], "kinds"))
        if (code := _trained(_run(config, f"{config.aux},{name}", folder, more))) != FINISHED:
            return code, {}
        found[name] = _gain(config, name, out / WITHOUT, folder)
    return FINISHED, found


def _run(config: AuditConfig, aux: str, folder: Path, more: int = 0) -> TrainConfig:
    """more: latents than by default."""
    return TrainConfig(
        latents=TrainConfig.latents + more,
        data=config.source,
        out=folder,
        aux=aux,
        epochs=config.epochs,
        seed=config.seed,
        device=config.device,
        resume="auto",
    )


def _trained(config: TrainConfig) -> int:
    if not config.epochs:
        config = config.as_planned()
    print(f"training with {config.aux} into {config.out}", file=sys.stderr, flush=True)
    return train([config], find_world(), Notice())


def _gain(config: AuditConfig, name: str, without: Path, with_it: Path) -> dict[str, Any]:
    runs = [load_run(folder, checkpoint.BY_NAME[config.checkpoint]) for folder in (without, with_it)]
    for run in runs:
        place(run.model, device_of(find_world(), config.device))
    sets = [training_set(run) for run in runs]
    column = sets[0].column([name])[0]
    test = np.sort(runs[0].parts(sets[0])[2])
    test = test[~np.isnan(sets[0].values[test, column])]
    nats = [bounds(run, data, test, config.seed) for run, data in zip(runs, sets, strict=True)]
    gain: Score = mean_score(nats[1] - nats[0])
    said = f"With {name} as an auxiliary variable the likelihood of a test image gains {gain['value']:.2f} "
    said += f"[{gain['low']:.2f}, {gain['high']:.2f}] nats, residual latents left free in both."
    return {"nats": gain, "run": str(with_it), "words": said}


@torch.no_grad()
def bounds(run: Run, data: ImageSet, rows: NDArray, seed: int) -> Array:
    """What log p(image | auxiliary variables) is at least, (N,), in nats, but for a constant: AuxVAE.bound."""
    assert isinstance(run.model, AuxVAE)
    rng, u_NF, errors_NF, found = np.random.default_rng([seed, 9]), data.scaled(), data.scaled_errors(), []
    like = next(run.model.parameters())
    for start in range(0, len(rows), run.at_once):
        index = rows[start : start + run.at_once]
        batch = batch_of(data, u_NF, errors_NF, index).each(lambda part: part.to(like.device, like.dtype))
        noise = (rng.standard_normal((len(index), run.config.latents)) for _ in range(DRAWS))
        each = [run.model.bound(batch, torch.from_numpy(draw).to(like.device, like.dtype)) for draw in noise]
        found.append(torch.stack(each).mean(0).double().cpu().numpy())
    return np.concatenate(found)


def batch_of(data: ImageSet, u_NF: NDArray, errors_NF: NDArray | None, index: NDArray) -> Batch:
    """These samples, with labels and their errors on the scale of models."""
    weights = errors = None
    if errors_NF is not None:
        errors = torch.from_numpy(errors_NF[index])
    if isinstance(data.images, Filled):
        images, own = data.images.zeroed(index)
        weights = torch.from_numpy(own)
    else:
        images = np.array(data.images[index])
    return Batch(torch.from_numpy(images), torch.from_numpy(u_NF[index]), torch.from_numpy(index), weights, errors)
