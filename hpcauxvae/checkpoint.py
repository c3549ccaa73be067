"""Checkpoints that are whole or not there, and the folder of a run.

One safetensors file holds the tensors and, in its header, everything else as JSON with a checksum over both. Reading
one never unpickles. It is written under a temporary name, synced and renamed.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from hpcauxvae.config import TrainConfig
from hpcauxvae.models import MODELS
from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.types import InputError

FORMAT_VERSION = 1
LAST = "last.safetensors"


def write(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replaces `path` by a file of these tensors and this JSON state, in one step; the old file stands until then.

    Raises InputError if the disk does not take it.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state, sort_keys=True)
    header = {"format_version": str(FORMAT_VERSION), "state": text, "sha256": _checksum(tensors, text)}
    part = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, part, header)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.rename(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the JSON state of a file.

    Raises InputError where the file is missing, damaged, edited or of another format version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: damaged or not a checkpoint: {error}") from error
    if header.get("format_version") != str(FORMAT_VERSION):
        raise InputError(f"{path}: format_version {header.get('format_version')}; allowed: {FORMAT_VERSION}")
    if header["sha256"] != _checksum(tensors, header["state"]):
        raise InputError(f"{path}: checksum does not match: the file was edited or damaged")
    return tensors, json.loads(header["state"])


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A finished or interrupted run, ready to encode and decode."""

    folder: Path
    config: TrainConfig
    model: BetaVAE
    """In evaluation mode, on the CPU; satisfies types.Model."""
    state: dict[str, Any]
    """epoch, step, columns, factor names, image shape, n_train, fingerprint of the training data."""


def build_model(config: TrainConfig, state: dict[str, Any]) -> BetaVAE:
    """The model of a configuration; `state` tells image_shape, columns and n_train. Weights from config.seed."""
    torch.manual_seed(config.seed)
    model = MODELS[config.model](
        config.resolved_objective,
        image_shape=tuple(state["image_shape"]),
        latents=config.latents,
        network=config.network,
        columns=tuple(state["columns"]),
        n_train=state["n_train"],
    )
    return model.to(getattr(torch, config.dtype))


def load_run(folder: Path) -> Run:
    """The last checkpoint of a run. Raises InputError where it is missing, damaged or from an incompatible version."""
    tensors, state = read(folder / LAST)
    try:
        config = TrainConfig.from_json(state["config"])
        model = build_model(config, state)
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        model.load_state_dict(weights)
    except (KeyError, RuntimeError, InputError) as error:
        raise InputError(f"{folder / LAST}: {error}") from error
    return Run(folder=folder, config=config, model=model.eval(), state=state)


class RunLock:
    """Keeps a second run out of a folder: the file `lock` names host, process and job of the one inside.

    The same job requeued on another host takes over, and so does anyone on the same host once that process is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self.owner = {"host": socket.gethostname(), "pid": os.getpid(), "job": _job_id()}

    def acquire(self) -> None:
        """Raises InputError if another run holds the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        own = self.path.with_name(f".lock.{self.owner['host']}.{self.owner['pid']}")
        own.write_text(json.dumps(self.owner))
        try:
            self._link(own)
        finally:
            own.unlink()

    def _link(self, own: Path) -> None:
        for _ in range(2):
            try:
                os.link(own, self.path)  # whole or not there, and never over another's
                return
            except FileExistsError:
                holder = self._holder()
                if not self._is_gone(holder):
                    raise InputError(
                        f"{self.path.parent}: in use by process {holder.get('pid')} on {holder.get('host')} "
                        f"(job {holder.get('job')}); choose another folder, or remove {self.path} if it is dead"
                    ) from None
                self.path.unlink(missing_ok=True)
        raise InputError(f"{self.path.parent}: another run took the folder just now; choose another folder")

    def release(self) -> None:
        """Gives the folder free, if this process holds it; a folder without anything else goes too."""
        if self._holder() == self.owner:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()

    def _holder(self) -> dict[str, Any]:
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}

    def _is_gone(self, holder: dict[str, Any]) -> bool:
        if not holder:  # released just now
            return True
        if holder["host"] != self.owner["host"]:
            return holder["job"] is not None and holder["job"] == self.owner["job"]
        try:
            os.kill(holder["pid"], 0)
        except ProcessLookupError:
            return True
        return False


def _job_id() -> str | None:
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID")
