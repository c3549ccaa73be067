"""Checkpoints that are whole or not there, and which of a run's are kept.

A checkpoint is a safetensors file: the tensors and, in its header, everything else as JSON with a checksum over both.
Reading it never unpickles. It is written under a temporary name, synced and renamed.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from hpcauxvae.runtime.files import followed, point, whole
from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.types import InputError

FORMAT_VERSION = 3
LAST = "last.safetensors"
BEST = "best.safetensors"
BY_NAME = {"last": LAST, "best": BEST}
FOLDER = "checkpoints"


class Damaged(InputError):
    """The file is not whole; an older checkpoint may be."""


def write(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replaces `path` by a file of these tensors and this JSON state, in one step; the old file stands until then.

    Raises InputError if the disk does not take it.
    """
    tensors, kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, set[int]()
    for name, tensor in tensors.items():  # weights that two layers share are written twice
        if (memory := tensor.untyped_storage().data_ptr()) in kept:
            tensors[name] = tensor.clone()
        kept.add(memory)
    text = json.dumps(state)
    header = {"format_version": str(FORMAT_VERSION), "state": text, "sha256": _checksum(tensors, text)}
    with whole(path) as part:
        try:
            save_file(tensors, part, header)
        except safetensors.SafetensorError as error:
            raise InputError(f"{path}: cannot be written: {error}") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the JSON state of a file.

    Raises Damaged where it was cut short or edited, InputError where it is missing or of another format version.
    """
    if not path.is_file() or not (path := followed(path)).is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        if memory_fault(error):  # nothing is known of the file
            raise InputError(f"{path}: {error}") from error
        raise Damaged(f"{path}: damaged or not a checkpoint: {error}") from error
    if "format_version" not in header:
        raise Damaged(f"{path}: not a checkpoint of hpcauxvae: its header has no format_version")
    if header["format_version"] not in (str(FORMAT_VERSION), "2"):
        raise InputError(
            f"{path}: format_version {header['format_version']}; allowed: {FORMAT_VERSION}, that of this version of "
            "hpcauxvae, and 2"
        )
    if header.get("sha256") != _checksum(tensors, header.get("state", "")):
        raise Damaged(f"{path}: checksum does not match: the file was edited or damaged")
    state = json.loads(header["state"])
    if header["format_version"] == "2" and "config" in state:  # of a run
        _complete(tensors, state)
    return tensors, state


def _complete(tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Adds what format 2 left out: one cycle, no limits of pixels, and under `anscombe` images that are counts."""
    state.setdefault("cycles", [state["config"]["epochs"]])
    counts = state["config"]["resolved_objective"]["scale"] == "anscombe"
    tensors.setdefault("model.scale.limits", torch.tensor([0 if counts else -math.inf, math.inf]))
    if counts:
        tensors.setdefault("model.scale.counts", torch.tensor(True))


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest(tensors: dict[str, Tensor]) -> str:
    """Tells these tensors from others, such as the weights of one model from those of another."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


class Checkpoints:
    """The folder `checkpoints` of a run: step-N.safetensors, N the steps done; `last` and `best` point into it.

    Kept are the last few, the best by validation, and for ever those of the steps that `permanent` names.
    """

    def __init__(self, run: Path, keep_last: int, permanent: Callable[[int], bool]) -> None:
        self.run, self.folder = run, run / FOLDER
        self.keep_last, self.permanent = keep_last, permanent

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Writes the checkpoint of state["step"], then lets older ones go. state["best"] names the step of the best.

        Raises InputError if the disk does not take it; all earlier ones are then still there.
        """
        step, best = state["step"], state["best"]
        try:
            if not self.run.is_dir():
                self.run.mkdir()
                print(
                    f"warning: {self.run} was gone and is made again, without what it held", file=sys.stderr, flush=True
                )
            self.folder.mkdir(exist_ok=True)
            for part in self.folder.glob(".*.part"):  # of a process that was killed as it wrote
                part.unlink()
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written: {error.strerror}") from error
        write(self._path(step), tensors, state)
        self.point(step, best)
        # Those of later steps are damaged: the run went back behind them.
        for old in [old for old in self.steps() if old <= step][self.keep_last :]:
            if not self.permanent(old) and (best is None or best["step"] != old):
                self._path(old).unlink()

    def point(self, step: int, best: dict[str, float] | None) -> None:
        """Lets `last` and `best` name these steps where they have a checkpoint: a kill may have come before that."""
        for name, to in ((LAST, step), (BEST, int(best["step"]) if best else None)):
            if to is not None and self._path(to).exists():
                point(self.run / name, self._path(to))

    def newest(self) -> Path | None:
        """The newest whole checkpoint, with a warning for each damaged file that it passes; None without any.

        Raises InputError where none of those there is whole, or where a file is of another format version.
        """
        for step in self.steps():
            try:
                read(self._path(step))
                return self._path(step)
            except Damaged as error:
                print(f"warning: {error}; going back to an older checkpoint", file=sys.stderr, flush=True)
        if self.steps():
            raise InputError(f"{self.folder}: none of its checkpoints is whole; choose another folder to start anew")
        return None

    def steps(self) -> list[int]:
        """The steps after which there is a checkpoint, newest first."""
        numbers = [path.stem.removeprefix("step-") for path in self.folder.glob("step-*.safetensors")]
        return sorted({int(number) for number in numbers if number.isdigit()}, reverse=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.safetensors"
