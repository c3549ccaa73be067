"""A run that is finished or interrupted, read from its folder: its model, ready to encode and decode."""

import dataclasses
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcauxvae.data.guides import Guide, guided
from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.data.missing import shown
from hpcauxvae.data.splits import Parts, parts
from hpcauxvae.data.summary import Summary, summarise
from hpcauxvae.models import model_class
from hpcauxvae.models.base import Model
from hpcauxvae.models.networks import images_at_once
from hpcauxvae.train.checkpoint import LAST, digest, read
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import By, Factor, InputError

_BATCH = 512
_OF_ANOTHER = "the run is of another; read it with that, or train it again"


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Run:
    """A finished or interrupted run, ready to encode and decode."""

    folder: Path
    """Or the file that holds it."""
    config: TrainConfig
    model: Model
    """In evaluation mode, on the CPU at first."""
    state: dict[str, Any]
    """epoch, step, columns, factors (each as the fields of a Factor), guides, image shape, n_train, fingerprint of the
    data, split, summary (data/summary.py; not of an earlier version), and what a resumed run needs besides."""

    @property
    def factors(self) -> list[Factor]:
        """The auxiliary factors, as in training."""
        return [guide.factor for guide in self.guides]

    def parts(self, data: ImageSet) -> Parts:
        """Training, validation and test indices of the run's data set, as it was split in training."""
        return parts(data, self.config.split_seed, self.split, self.config.own_fold)

    @property
    def known(self) -> list[Factor]:
        """All factors of its data set, with the columns that guide."""
        return [Factor.of_record(record) for record in self.state["factors"]]

    @property
    def guides(self) -> tuple[Guide, ...]:
        """How each auxiliary factor guides latents, in their order."""
        columns = iter(self.guiding)
        records = self.state.get("guides", [{"columns": 1}] * len(self.state["columns"]))
        return tuple(Guide.of_record(record, list(islice(columns, record["columns"]))) for record in records)

    @property
    def guiding(self) -> list[Factor]:
        """The columns that guide latents, in their order."""
        return [self.known[column] for column in self.state["columns"]]

    @property
    def digest(self) -> str:
        """Tells its weights from others; what only training reads is no part of them."""
        weights = self.model.state_dict().items()
        return digest({name: tensor for name, tensor in weights if not name.startswith(self.model.TRAINED_BY)})

    @property
    def split(self) -> By:
        """How the data set was split: what `auto` came to."""
        return cast(By, self.state.get("split", "random"))

    @property
    def at_once(self) -> int:
        """How many images go through the networks at once."""
        return images_at_once(self.model.image_shape, _BATCH)

    @torch.no_grad()
    def encode(
        self, images: Any, u_ND: NDArray | None = None, index_N: NDArray | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior means and log-variances, (N, Z) each, of images (N, C, H, W).

        u_ND: scaled auxiliary factors, for encoders that see them (Model.SEES_LABELS). index_N: which of the images
        these are, if not all; they are read in pieces.
        """
        rows = np.arange(len(images)) if index_N is None else index_N
        size = self.at_once
        parts = [
            self.model.encode(
                self._tensor(shown(images, rows[i : i + size])),
                None if u_ND is None else self._tensor(u_ND[i : i + size]),
            )
            for i in range(0, len(rows), size)
        ]
        if not parts:
            return np.empty((0, self.config.latents)), np.empty((0, self.config.latents))
        mean_NZ, logvar_NZ = (torch.cat(part).cpu().double().numpy() for part in zip(*parts, strict=True))
        return mean_NZ, logvar_NZ

    @torch.no_grad()
    def decode(self, z_NZ: NDArray) -> NDArray[np.float32]:
        """Expected images (N, C, H, W), linear data units."""
        images = np.empty((len(z_NZ), *self.model.image_shape), np.float32)
        size = self.at_once
        for i in range(0, len(z_NZ), size):
            images[i : i + size] = self.model.decode(self._tensor(z_NZ[i : i + size])).float().cpu().numpy()
        return images

    def _tensor(self, values: NDArray) -> Tensor:
        like = next(self.model.parameters())
        return torch.from_numpy(np.array(values)).to(like.device, like.dtype)


def about(data: ImageSet, columns: Sequence[int], n_train: int, split: str) -> dict[str, Any]:
    """What a run keeps of its data set, which has the columns that guide."""
    return {
        "image_shape": list(data.shape),
        "columns": list(columns),
        "n_train": n_train,
        "factors": [factor.record() for factor in data.factors],
        "guides": [guide.record() for guide in data.guides],
        "fingerprint": data.fingerprint,
        "split": split,
    }


def refuse_another(path: Path, state: dict[str, Any], now: dict[str, Any], data: Path) -> None:
    """Raises InputError where the checkpoint at `path` is not of the data set `data`, split and guiding as now."""
    if state["fingerprint"] != now["fingerprint"]:
        raise InputError(f"{data}: is not the data set that {path} was trained on")
    if (by := state.get("split", "random")) != now["split"]:
        raise InputError(f"{path}: was trained with split = {by}, now {now['split']}; allowed: the same")
    then, own = ([run["factors"][column] for column in run["columns"]] for run in (state, now))
    if then != own:
        names, own_names = (", ".join(str(record[0]) for record in records) for records in (then, own))
        raise InputError(f"{path}: latents were guided by {names}, now by {own_names}; allowed: the same --labels")


def build_model(config: TrainConfig, state: dict[str, Any]) -> Model:
    """The model of a configuration; `state` tells image_shape, columns and n_train. Weights from config.seed."""
    torch.manual_seed(config.seed)
    model = model_class(config.model)(
        config.resolved_objective,
        image_shape=tuple(state["image_shape"]),
        latents=config.latents,
        network=config.network,
        columns=tuple(state["columns"]),
        n_train=state["n_train"],
    )
    return model.to(getattr(torch, config.dtype))


def load_weights(model: Model, weights: dict[str, Tensor], source: str = "") -> None:
    """Puts weights with the names of the model's into it. Raises InputError where shapes are not its own.

    source: what the message begins with.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        said = str(error).splitlines()[-1].strip().rstrip(".")  # of torch, a line for each tensor
        raise InputError(f"{source}{said}, that of this version of hpcauxvae: {_OF_ANOTHER}") from error


def check_factors(data: ImageSet, run: Run) -> None:
    """Raises InputError unless the factors of a data set have names, units and ranges of those that a run knows."""
    own, known = data.factors[: data.own], run.state["factors"]
    known = known[: len(known) - sum(guide["columns"] for guide in run.state.get("guides", ()) if "factor" in guide)]
    for number, trained in enumerate(known):
        found = own[number].record() if number < len(own) else None
        if found != trained:
            raise InputError(f"{data.path}: factor {number} is {found}; allowed: that of {run.folder}, {trained}")
    if len(own) > len(known):
        extra = own[len(known)].name
        raise InputError(f"{data.path}: factor {extra} is unknown to {run.folder}; allowed: its factors alone")


def data_path(run: Run, given: Path | None = None) -> Path:
    """Where a run's data set lies: as given, or where it did in training. Raises InputError without a file there."""
    path = given or found_path(run.config.data, run.config.out, run.folder)
    if not path.exists():
        raise InputError(f"{path}: no such file; where the data set of {run.folder} lies now, --data FILE tells")
    return path


def found_path(data: Path, out: Path, folder: Path) -> Path:
    """Where the data set of a run lies that was started with these paths, and has its folder now."""
    whole = folder.resolve()
    depth = 0 if data.exists() or out.is_absolute() else len(out.parts)
    if depth and whole.parts[-depth:] == out.parts:  # both relative: from where it was started, or has moved since
        return whole.parents[depth - 1] / data
    return data


def training_set(run: Run, given: Path | None = None) -> ImageSet:
    """The data set that a run was trained on, where `data_path` finds it, with the columns that guide.

    Raises InputError where it is another.
    """
    data = open_set(data_path(run, given))
    if data.fingerprint != run.state["fingerprint"]:
        raise InputError(f"{data.path}: is not the data set that {run.folder} was trained on")
    return guided(data, run.guides)


def summary_of(run: Run, data: ImageSet | Path | None = None) -> Summary:
    """What a run keeps of its data; one of an earlier version takes it from the data.

    data: these, or where they lie now; the recorded path if not given. Raises InputError where they are needed and not
    there.
    """
    if (kept := run.state.get("summary")) is not None:
        return Summary.of(kept)
    data = data if isinstance(data, ImageSet) else training_set(run, data)
    return summarise(data, run.config.aux_names, run.parts(data)[0])


def load_run(folder: str | Path, name: str = LAST) -> Run:
    """The last checkpoint of a run, or its BEST; or what `export` made of one, a single file.

    Raises InputError where it is missing, damaged or from an incompatible version.
    """
    folder = Path(folder)
    path = folder if folder.is_file() else folder / name
    if not path.exists() and (runs := sorted(below.parent.name for below in folder.glob(f"*/{LAST}"))):
        some = ", ".join(runs[:5]) + ", …" * (len(runs) > 5)
        raise InputError(f"{folder}: is no run, but holds runs; allowed: one of them, as {folder / runs[0]} ({some})")
    tensors, state = read(path)
    try:
        config = TrainConfig.from_json(state["config"])
        model = build_model(config, state)
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        idle = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(model.TRAINED_BY)}
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(model.TRAINED_BY)} | idle
        if others := sorted(weights.keys() ^ model.state_dict().keys()):
            has = "unknown to" if others[0] in weights else "needed by"
            raise InputError(f"tensor {others[0]} is {has} this version of hpcauxvae: {_OF_ANOTHER}")
        load_weights(model, weights)
    except (KeyError, RuntimeError, InputError) as error:
        raise InputError(f"{path}: {error}") from error
    return Run(folder=folder, config=config, model=model.eval(), state=state)
