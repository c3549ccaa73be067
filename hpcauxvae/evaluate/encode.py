"""The codes of a whole data set: `torchrun --nproc-per-node N -m hpcauxvae encode RUN DATA.h5 OUT.h5`, or alone.

In chunks (chunks.py). Shape legend in types.py.
"""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import torch
from torch import Tensor

import hpcauxvae
from hpcauxvae.data.beside import ids_bytes, put_ids
from hpcauxvae.data.classes import in_order_of
from hpcauxvae.data.hdf5 import ImageSet, open_set, reopen, whole_file
from hpcauxvae.data.missing import Filled, scored_by, shown
from hpcauxvae.data.pixels import Pixels, look_at, stuck
from hpcauxvae.evaluate.chunks import Chunked, make, on_ranks
from hpcauxvae.evaluate.command import EncodeConfig
from hpcauxvae.evaluate.sets import refuse_missing, warn_if_unlike, with_logarithm, without_outliers
from hpcauxvae.metrics.ssim import image_values
from hpcauxvae.models.networks import images_at_once
from hpcauxvae.runtime.collectives import Processes, on_each_rank, on_first_rank, slice_of
from hpcauxvae.runtime.devices import place
from hpcauxvae.runtime.launchers import World
from hpcauxvae.train import checkpoint
from hpcauxvae.train.preparation import gathered
from hpcauxvae.train.run import Run, load_run, summary_of
from hpcauxvae.types import InputError

CHUNK = 4096
"""Samples encoded and stored at once, or fewer where they are large."""
MADE_OF = ("weights", "data_fingerprint", "hpcauxvae")
"""What tells a file from that of other weights, or of other data."""


class OfARun(Protocol):
    """The options that say which run reads images, and where the result goes."""

    @property
    def run(self) -> Path:
        """Its folder."""

    @property
    def out(self) -> Path:
        """The file."""

    @property
    def checkpoint(self) -> str:
        """`last` or `best`."""


def run_of(config: OfARun) -> Run:
    """The run of these options. Raises InputError where it, or that checkpoint of it, is not there."""
    return load_run(config.run, checkpoint.BY_NAME[config.checkpoint])


class ImageReader(Chunked):
    """Puts a set of images through a run, in chunks."""

    trained_on: Path | None = None
    """Where the run's data set lies now; the recorded path if not given."""

    def __init__(self, config: OfARun, run: Run, processes: Processes, data: ImageSet) -> None:
        """Raises InputError where run and data do not fit each other."""
        if list(data.shape) != run.state["image_shape"]:
            raise InputError(f"{data.path}: images of {data.shape}; allowed: {tuple(run.state['image_shape'])}")
        refuse_missing(data, run)
        super().__init__(config.out, len(data), images_at_once(run.model.image_shape, CHUNK), processes)
        self.data, self.run, self.model = data, run, run.model
        place(self.model, processes.device)
        self.about: dict[str, Any] = {
            "run": str(config.run),
            "checkpoint_step": run.state["step"],
            "weights": run.digest,
            "data": str(data.path),
            "data_fingerprint": data.fingerprint,
            "hpcauxvae": hpcauxvae.__version__,
        }

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
            warn_if_unlike(self.data, self.run, summary_of(self.run, self.trained_on))


class Encoder(ImageReader):
    """One rank's part of an encoding."""

    TITLE = "encoding"

    def __init__(self, config: EncodeConfig, processes: Processes, data: ImageSet) -> None:
        """Raises InputError where run and data do not fit each other."""
        super().__init__(config, run_of(config), processes, data)
        self.image_scores = config.image_scores
        self.labels_ND = self._labels()
        self.dtype = getattr(torch, self.run.config.dtype)

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
        """As Chunked."""
        made_of = {name: self.about[name] for name in MADE_OF}
        return made_of | {"image_scores": self.image_scores, "chunk": self.size}

    def is_written(self) -> bool:
        """As Chunked."""
        try:
            with h5py.File(self.out, "r", locking=False) as file:
                found = {name: file.attrs.get(name) for name in MADE_OF} | {"image_scores": "ssim" in file}
        except OSError:
            return False
        wanted = self.identity()
        return all(wanted[name] == value for name, value in found.items())

    def computed(self, chunk: int) -> dict[str, Tensor]:
        """Codes, and scores of the images."""
        rows, known = self.rows(chunk), self.data.images
        with torch.no_grad():
            labels_BD = None if self.labels_ND is None else self._tensor(self.labels_ND[rows])
            posterior = self.model.encode(self._tensor(shown(known, rows)), labels_BD)
            codes = dict(zip(("mean", "logvar"), posterior, strict=True))
            if self.image_scores:
                weights = scored_by(known, rows) if isinstance(known, Filled) else None
                decoded = self.model.decode(posterior.mean).float().cpu().numpy()
                values = image_values(np.array(known[rows]), decoded, float(self.model.maximum), weights=weights)
                codes |= {name: torch.from_numpy(values[name]) for name in ("ssim", "mse", "chi2") if name in values}
        return codes

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values).to(self.processes.device, self.dtype)

    def merge(self, mark: Callable[[], None]) -> None:
        """Copies all chunks into the file. The guided columns of `mean` have the names of their factors there, and what
        is 0 and 1 on their scale in the factor's unit."""
        first = self.stored(0).values()
        n_bytes = self.n * sum(values[0].nbytes for values in first) + ids_bytes(self.data.id)
        with whole_file(self.out, n_bytes) as part, reopen(part) as file:
            file.attrs.update(self.about)
            put_ids(file, self.data.id)
            for rows, codes in self.all_stored(mark):
                for name, values in codes.items():
                    stored = file.require_dataset(name, (self.n, *values.shape[1:]), values.dtype)
                    stored[rows] = values
            if self.model.GUIDED:
                for name in ("name", "unit", "low", "high", "transform"):
                    values = [getattr(factor, name) for factor in self.run.guiding]
                    file["mean"].attrs[name] = np.array(
                        values, float if name in ("low", "high") else h5py.string_dtype()
                    )


def encode(config: EncodeConfig, processes: Processes) -> int:
    """Makes the file; returns FINISHED, or MORE_TO_DO after a request to stop. Raises InputError, on all ranks."""
    speaks = processes.world.rank == 0
    data = on_each_rank(lambda: in_order_of(open_set(config.data), run_of(config).known, speaks), processes)
    return make(on_each_rank(lambda: Encoder(config, processes, data), processes))


def run(config: EncodeConfig, world: World) -> int:
    """Makes the file on the ranks of a launcher, or alone; says what came of it, and returns the exit code."""
    return on_ranks(lambda processes: encode(config, processes), config.device, world)
