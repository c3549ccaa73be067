"""The codes of a whole data set: `torchrun --nproc-per-node N -m hpcauxvae encode RUN DATA.h5 OUT.h5`, or alone.

The set may be larger than memory. Each rank encodes chunks of fixed size and leaves each, whole or not at all, in the
folder OUT.h5.parts; when all are there, rank 0 copies them into OUT.h5 in the order of the data. A start after a kill,
on any number of ranks, encodes what is missing. Shape legend in types.py.
"""

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

import hpcauxvae
from hpcauxvae.data.beside import ids_bytes, put_ids
from hpcauxvae.data.hdf5 import ImageSet, open_set, refuse_existing, reopen, whole_file
from hpcauxvae.data.missing import Filled, scored_by, shown
from hpcauxvae.data.pixels import Pixels, look_at, stuck
from hpcauxvae.evaluate.command import EncodeConfig
from hpcauxvae.evaluate.sets import refuse_missing, warn_if_unlike, with_logarithm, without_outliers
from hpcauxvae.metrics.ssim import image_values
from hpcauxvae.models.networks import images_at_once
from hpcauxvae.runtime.agreed_requests import Requests
from hpcauxvae.runtime.collectives import Apart, Processes, on_each_rank, on_first_rank, slice_of, start, stop
from hpcauxvae.runtime.devices import place
from hpcauxvae.runtime.launchers import World
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.runtime.stop_requests import FAILED, FINISHED, MORE_TO_DO
from hpcauxvae.runtime.watchdog import Watchdog
from hpcauxvae.train import checkpoint
from hpcauxvae.train.preparation import gathered
from hpcauxvae.train.run import load_run, training_set
from hpcauxvae.types import InputError

CHUNK = 4096
"""Samples encoded and stored at once, or fewer where they are large."""
_TIMEOUT_MINUTES = 10.0
_MADE_OF = ("weights", "data_fingerprint", "hpcauxvae")


class Encoder:
    """One rank's part of an encoding."""

    def __init__(self, config: EncodeConfig, processes: Processes, data: ImageSet) -> None:
        """Raises InputError where run and data do not fit each other."""
        self.config, self.processes, self.data = config, processes, data
        name = {"last": checkpoint.LAST, "best": checkpoint.BEST}[config.checkpoint]
        run = load_run(config.run, name)
        if list(data.shape) != run.state["image_shape"]:
            raise InputError(f"{data.path}: images of {data.shape}; allowed: {tuple(run.state['image_shape'])}")
        refuse_missing(data, run)
        self.run, self.model = run, run.model
        place(self.model, processes.device)
        self.labels_ND = self._labels()
        self.dtype = getattr(torch, run.config.dtype)
        self.parts = config.out.with_name(f"{config.out.name}.parts")
        self.size = images_at_once(self.model.image_shape, CHUNK)
        self.chunks = range(-(-len(data) // self.size))
        self.about = {
            "run": str(config.run),
            "checkpoint_step": run.state["step"],
            "weights": _digest(self.model.state_dict()),
            "data": str(data.path),
            "data_fingerprint": data.fingerprint,
            "hpcauxvae": hpcauxvae.__version__,
        }

    def _labels(self) -> np.ndarray | None:
        """The scaled auxiliary factors (N, D); None where the set has not all of them. Most encoders do without."""
        trained = {guide.factor.name: guide.factor for guide in self.run.guides}
        names = list(trained)
        known = {factor.name: factor.unit for factor in self.data.factors}
        for name in names:
            if known.get(name, trained[name].unit) != trained[name].unit and self.processes.world.rank == 0:
                print(
                    f"warning: {self.data.path}: factors, {name}: unit {known[name]!r}, in training it was "
                    f"{trained[name].unit!r}: the encoder sees no labels",
                    file=sys.stderr,
                    flush=True,
                )
        if not names or any(known.get(name) != trained[name].unit for name in names):
            return None
        path, speaks, scaled = self.data.path, self.processes.world.rank == 0, []
        for guide, column in zip(self.run.guides, self.data.column(names), strict=True):
            scaled.append(guide.scaled(with_logarithm(guide.factor, self.data.values[:, column], path, speaks=speaks)))
        return np.concatenate(scaled, 1)

    def identity(self) -> dict[str, Any]:
        """What two starts must have in common to share their chunks."""
        made_of = {name: self.about[name] for name in _MADE_OF}
        return made_of | {"image_scores": self.config.image_scores, "chunk": self.size}

    def is_written(self) -> bool:
        """Whether `out` is there, whole and of this encoding: a kill came when only the parts were left to remove."""
        try:
            with h5py.File(self.config.out, "r", locking=False) as file:
                found = {name: file.attrs.get(name) for name in _MADE_OF} | {"image_scores": "ssim" in file}
        except OSError:
            return False
        wanted = self.identity()
        return all(wanted[name] == value for name, value in found.items())

    def missing(self) -> list[int]:
        """The chunks that are still to do. Raises InputError where the folder holds those of another encoding."""
        missing = []
        for chunk in self.chunks:
            path = self._path(chunk)
            try:
                found = checkpoint.read(path)[1] if path.exists() else None
            except checkpoint.Damaged:
                found = None
            if found is None:
                missing.append(chunk)
            elif found != self.identity():
                raise InputError(f"{self.parts}: left by an unfinished encoding of another kind; remove the folder")
        return missing

    def look(self, mark: Callable[[], None]) -> None:
        """Reads all images once, so that pixels far outside all others count as in an evaluation; rank 0 warns of them.

        It warns of images unlike those of the training, too, where that set is at hand. mark: called for each part that
        is read. All ranks must call. Raises InputError, on all of them, for a pixel that is not finite.
        """
        images, world = self.data.images, self.processes.world
        own = range(len(images))[slice_of(len(images), world.rank, world.world_size)]

        def looked_at() -> Pixels:
            with np.errstate(invalid="ignore"):
                seen = look_at(images, own, mark, found)
            bad = np.flatnonzero(~np.isfinite(seen.low + seen.high))
            if len(bad):
                raise InputError(f"{self.data.path}: images: sample {own[bad[0]]} has pixels that are not finite")
            return seen

        found = on_each_rank(lambda: stuck(images), self.processes)
        seen = gathered(on_each_rank(looked_at, self.processes), self.processes)
        self.data = without_outliers(self.data, found, seen, speaks=world.rank == 0)
        on_first_rank(self._compare, self.processes)

    def _compare(self) -> None:
        with contextlib.suppress(InputError):  # nothing to compare with
            warn_if_unlike(self.data, self.run, training_set(self.run))

    def encode(self, chunk: int) -> None:
        """Computes and stores a chunk. Raises InputError for a full disk."""
        first = chunk * self.size
        images = np.array(self.data.images[first : first + self.size])
        with torch.no_grad():
            labels_BD = None if self.labels_ND is None else self._tensor(self.labels_ND[first : first + self.size])
            seen = shown(self.data.images, slice(first, first + self.size))
            posterior = self.model.encode(self._tensor(seen), labels_BD)
            codes = dict(zip(("mean", "logvar"), posterior, strict=True))
            if self.config.image_scores:
                known = self.data.images
                weights = scored_by(known, slice(first, first + self.size)) if isinstance(known, Filled) else None
                decoded = self.model.decode(posterior.mean).float().cpu().numpy()
                values = image_values(images, decoded, float(self.model.maximum), weights=weights)
                codes |= {name: torch.from_numpy(values[name]) for name in ("ssim", "mse", "chi2") if name in values}
        checkpoint.write(self._path(chunk), codes, self.identity())

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values).to(self.processes.device, self.dtype)

    def merge(self, watch: Watchdog) -> None:
        """Copies all chunks into the file, then removes their folder."""
        rows = len(self.data)
        first = checkpoint.read(self._path(0))[0].values()
        n_bytes = rows * sum(values[0].nbytes for values in first) + ids_bytes(self.data.id)
        with whole_file(self.config.out, n_bytes) as part, reopen(part) as file:
            file.attrs.update(self.about)
            put_ids(file, self.data.id)
            for chunk in self.chunks:
                for name, values in checkpoint.read(self._path(chunk))[0].items():
                    stored = file.require_dataset(name, (rows, *values.shape[1:]), values.numpy().dtype)
                    stored[chunk * self.size : chunk * self.size + len(values)] = values.numpy()
                watch.mark()
        shutil.rmtree(self.parts)

    def _path(self, chunk: int) -> Path:
        return self.parts / f"{chunk:07d}.safetensors"


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def encode(config: EncodeConfig, processes: Processes) -> int:
    """Makes the file; returns FINISHED, or MORE_TO_DO after a request to stop. Raises InputError, on all ranks."""
    data = on_each_rank(lambda: open_set(config.data), processes)
    encoder = on_each_rank(lambda: Encoder(config, processes, data), processes)
    lock = RunLock(encoder.parts)

    def claim() -> bool:
        """Takes the folder of parts, unless all is done: then it only goes. Raises InputError where it must not."""
        if not encoder.is_written():
            refuse_existing(config.out)
        lock.acquire()
        if encoder.is_written():
            shutil.rmtree(encoder.parts)
            return True
        return False

    if on_first_rank(claim, processes):
        return FINISHED
    try:
        with Requests(processes, None, None) as requests, Watchdog(processes, _TIMEOUT_MINUTES, lock.release) as watch:
            missing = on_first_rank(encoder.missing, processes)
            if missing:
                encoder.look(watch.mark)
            on_each_rank(lambda: _own_chunks(encoder, missing, requests, watch), processes)
            if requests.agreed_now().stop:
                return MORE_TO_DO
            on_first_rank(lambda: encoder.merge(watch), processes)
    finally:
        if processes.world.rank == 0:
            lock.release()
    return FINISHED


def _own_chunks(encoder: Encoder, missing: list[int], requests: Requests, watch: Watchdog) -> None:
    world = encoder.processes.world
    own = missing[world.rank :: world.world_size]
    with Progress(len(own), "chunk", title="encoding", speaks=world.rank == 0) as progress:
        for chunk in own:
            if requests.reason:
                return
            encoder.encode(chunk)
            watch.mark()
            progress.advance()
            if progress.is_due():
                progress.say(f"{progress.rate * encoder.size * world.world_size:.0f} images/s")


def run(config: EncodeConfig, world: World) -> int:
    """Makes the file on the ranks of a launcher, or alone; says what came of it, and returns the exit code."""
    try:
        # A rank may wait for hours for the others; the watch sees who hangs.
        code = encode(config, start(world, config.device, timedelta(days=30)))
    except Apart as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    finally:
        stop()
    if world.rank == 0:
        print(f"written: {config.out}" if code == FINISHED else "stopped; the same command goes on", flush=True)
    return code
