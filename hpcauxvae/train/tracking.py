"""What a run says of itself: metrics.jsonl, TensorBoard, and a line an epoch."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.reading import at_a_glance
from hpcauxvae.runtime.files import write_text
from hpcauxvae.runtime.progress import time_left
from hpcauxvae.types import InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = "metrics.jsonl"
STARTS = "starts.jsonl"
BEAT = "progress.json"
RECONSTRUCTIONS = "reconstructions.png"
RISEN = 1.05
"""Ratio of the MSE of validation images, at the last epoch to the best, above which the last is worse than by chance:
from epoch to epoch it varies by a hundredth or two at the end."""
NOT_KEPT = 3.0
"""Times its tolerance above which the dependence at the end was not kept; good runs of small sets end at twice."""
_BEAT_S = 10.0
"""Seconds between two notes of how far an epoch has come."""
_PICTURES = 20  # of the correlations in a run
_CELL = 16  # pixels of one correlation in the picture
_NAMED = 8  # guided latents in the line of an epoch


def history(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, a row an epoch (`EpochLog.write`); none without such a file.

    A last line that a kill or a full disk cut short is left out; so is another that is damaged, with a warning.
    """
    return _rows(run / LOG)


def starts(run: Path) -> list[dict[str, Any]]:
    """What `note_start` noted of a run; nothing of one of an earlier version. Damaged lines as in `history`."""
    return _rows(run / STARTS)


def note_start(run: Path, about: dict[str, Any]) -> None:
    """Notes a start of a training: what made it, and the `epoch` and `step` that were done. A new beginning, at step 0,
    forgets the others.

    Raises InputError where the disk does not take it.
    """
    lines = [json.dumps(row) for row in (starts(run) if about["step"] else [])]
    write_text(run / STARTS, "\n".join([*lines, json.dumps(about)]) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows.append(row | {"epoch": int(row["epoch"])})
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                print(f"warning: {path}: line {number} is damaged and left out", file=sys.stderr, flush=True)
    return rows


class EpochLog:
    """What is written and printed at the end of each epoch."""

    def __init__(self, folder: Path, epochs: int, done: int) -> None:
        """Rows of epochs after `done` belong to a run that was killed before it could save them, and go.

        Raises InputError where the folder cannot be written.
        """
        self.epochs = epochs
        self.path = folder / LOG
        self._beaten = time.monotonic()
        rows = history(folder) if done else []
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows if row["epoch"] <= done))
        try:  # half a second, which only the first rank spends
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:  # the others wait for this rank's word
            raise InputError(f"tensorboard: {error}; `pip install tensorboard` mends it") from error

        self.board: SummaryWriter | None = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def write(self, row: dict[str, Any], codes: Codes | None, guided: bool) -> None:
        """Records an epoch; from time to time with a picture of the correlations of factors and latents.

        row: `epoch` (from 1) and `step` done, `seconds` and `images_per_s` of training, `learning_rate`,
        `gradient_norm`, what Model.gauges tells, `gpu_memory_gb` (1e9 bytes) on a GPU, and by name the loss and its
        terms, means over the epoch, in `train` and `validation`; the latter also with `mse` and, where there are
        auxiliary variables, `lds` and `lds_attainable`. The codes of the validation split add `latents_in_use` and,
        where the first of them are guided, `reading`: r and slope of each factor (metrics/reading.py). Raises
        InputError where the disk does not take it; without TensorBoard it goes on.
        """
        if codes is not None:
            row = row | {"latents_in_use": int(np.count_nonzero(~codes.off_Z))}
            row |= {"reading": at_a_glance(codes)} if guided else {}
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {os.strerror(error.errno or 0)}") from error
        if self.board is not None:
            try:
                self._show(self.board, row, codes)
            except OSError as error:
                print(f"warning: TensorBoard takes no more of this run: {error}", file=sys.stderr, flush=True)
                self.board = None
        epoch = row["epoch"]
        train, validation = row["train"], row["validation"]
        terms = ", ".join(f"{name} {value:.4g}" for name, value in train.items() if name != "loss")
        score = f"  LDS {validation['lds']:.3f} of {validation['lds_attainable']:.3f}" if "lds" in validation else ""
        print(
            f"epoch {epoch:{len(str(self.epochs))}}/{self.epochs}  loss {train['loss']:.4g} ({terms})  "
            f"validation {validation['loss']:.4g}{score}{_of_latents(row, codes)}  {row['images_per_s']:.0f} images/s  "
            f"{time_left((self.epochs - epoch) * row['seconds'])}",
            flush=True,
        )

    def _show(self, board: "SummaryWriter", row: dict[str, Any], codes: Codes | None) -> None:
        epoch = row["epoch"]
        for group in ("train", "validation"):
            for name, value in row[group].items():
                board.add_scalar(f"{group}/{name}", value, epoch)
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("epoch", "step", "seconds"):
                board.add_scalar(name, value, epoch)
        for factor, found in row.get("reading", {}).items():
            for name, value in found.items():
                board.add_scalar(f"{name}/{factor}", value, epoch)
        if codes is not None and epoch % max(1, self.epochs // _PICTURES) == 0:
            grey_HW = np.kron(1 - np.abs(codes.of_means.values_SDZ[0]), np.ones((_CELL, _CELL)))
            board.add_image("correlations", grey_HW, epoch, dataformats="HW")

    def beats(self) -> bool:
        """Whether `beat` is due."""
        return time.monotonic() - self._beaten >= _BEAT_S

    def beat(self, row: dict[str, Any]) -> None:
        """Notes, for who watches, how far an epoch has come; nobody waits for the disk, or minds if it takes it not.

        row: `epoch` (from 1), `step` of it that are done, of `steps`, `images_per_s`, and by name the loss and its
        terms in `train`, means over the part of this rank so far.
        """
        part = self.path.with_name(f".{BEAT}.part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(row))
            part.replace(self.path.with_name(BEAT))
        self._beaten = time.monotonic()

    def close(self) -> None:
        """Finishes what is still being written."""
        with contextlib.suppress(OSError):
            self.path.with_name(BEAT).unlink(missing_ok=True)
        if self.board is not None:
            with contextlib.suppress(OSError):
                self.board.close()


def _of_latents(row: dict[str, Any], codes: Codes | None) -> str:
    """Signed correlations of the guided latents, and how many of the others are in use, for the line of an epoch."""
    if codes is None:
        return ""
    guided = len(row.get("reading", {}))
    others = ~codes.off_Z[guided:]
    r = {name: found["r"] for name, found in row.get("reading", {}).items()}
    read = ", ".join(f"{name} {r[name]:.2f}" for name in list(r)[:_NAMED])
    if more := [r[name] for name in list(r)[_NAMED:]]:
        read += f", {len(more)} more {min(more):.2f} to {max(more):.2f}"
    in_use = f"{np.count_nonzero(others)} of {len(others)} {'residual ' if guided else ''}latents in use"
    return f"  r {read}; {in_use}" if read else f"  {in_use}"
