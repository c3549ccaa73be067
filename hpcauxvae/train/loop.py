"""The loop around the steps of a training: epochs, checkpoints, requests to stop, and what is told to the user."""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from hpcauxvae.data.guides import in_words
from hpcauxvae.data.hdf5 import check_pixels, open_set
from hpcauxvae.data.splits import described
from hpcauxvae.runtime import threads
from hpcauxvae.runtime.agreed_requests import Requests
from hpcauxvae.runtime.collectives import Apart, Processes, on_each_rank, on_first_rank, slice_of, start, stop
from hpcauxvae.runtime.devices import peak_memory
from hpcauxvae.runtime.files import attempt, refuse_full, write_json
from hpcauxvae.runtime.launchers import World, find_job
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.runtime.provenance import provenance
from hpcauxvae.runtime.stop_requests import FAILED, FINISHED, MORE_TO_DO
from hpcauxvae.runtime.watchdog import Watchdog
from hpcauxvae.train import checkpoint
from hpcauxvae.train.checkpoint import Checkpoints
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.notice import Notice, in_a_line
from hpcauxvae.train.pictures import Pictures
from hpcauxvae.train.resumption import restore, snapshot
from hpcauxvae.train.tracking import EpochLog, note_start, starts
from hpcauxvae.train.trainer import CHECK_EVERY, Diverged, Trainer
from hpcauxvae.types import InputError

STATUS = "status.json"


class Loop:
    """A training from its data, or its newest checkpoint, to its last epoch or a request to stop."""

    def __init__(self, config: TrainConfig, processes: Processes, requests: Requests, watch: Watchdog) -> None:
        """Reads the data and, with resume = auto, the newest whole checkpoint. Raises InputError, on all ranks."""
        self.processes, self.requests, self.watch = processes, requests, watch
        data = on_each_rank(lambda: open_set(config.data), processes)
        self.trainer = trainer = on_each_rank(lambda: Trainer(config, processes, data), processes)
        self.config = config = trainer.config
        if trainer.choice is not None and processes.world.rank == 0:
            print(trainer.choice, flush=True)
        if processes.world.rank == 0 and (config.folds or trainer.about["split"] != "random" or data.group is not None):
            print(described(data, *config.how_split), flush=True)
        if processes.world.rank == 0 and trainer.model.GUIDED:
            for line in in_words(trainer.guides):
                print(line, flush=True)
        watch.mark()
        self.steps = config.epochs * trainer.steps_per_epoch
        between = (config.keep_every or 0) * trainer.steps_per_epoch
        self.checkpoints = Checkpoints(config.out, config.keep_last, lambda step: between > 0 and step % between == 0)
        newest = on_first_rank(self.checkpoints.newest, processes)
        if newest is None:
            own = slice_of(len(data), processes.world.rank, processes.world.world_size)
            on_each_rank(lambda: check_pixels(data, own, watch.mark), processes)
        else:
            on_each_rank(lambda: restore(trainer, newest, *checkpoint.read(newest)), processes)
            threads.as_before(next((start["threads"] for start in starts(config.out)[::-1] if "threads" in start), 0))
        watch.mark()
        trainer.connect(watch.mark)
        self.saved, self.first = (trainer.epoch, trainer.epoch_step), trainer.step
        self.log: EpochLog | None = None
        on_first_rank(lambda: self._open_log(newest), processes)

    def _open_log(self, newest: Path | None) -> None:
        """On rank 0, once nothing can be refused any more: what an earlier start left is written over."""
        out = self.config.out
        if self.trainer.epoch < self.config.epochs:  # there is more to save
            weights = sum(parameter.nbytes for parameter in self.trainer.parameters)
            refuse_full(out, 3 * weights, "a checkpoint")  # with Adam's moments
        if self.processes.device.type == "cpu":
            print(threads.described(self.processes.world), flush=True)
            if crowd := threads.about_crowd(self.processes.world):
                print(f"warning: {crowd}", file=sys.stderr, flush=True)
        if self.config.resume == "auto":
            print(self._where(newest), flush=True)
        self.checkpoints.point(self.trainer.step, self.trainer.best)
        self.log = EpochLog(out, self.config.epochs, self.trainer.epoch)
        self.pictures = Pictures(self.trainer, self.log.board, out)
        write_json(out / "config.json", self.config.to_json())
        about: dict[str, Any] = {"processes": self.processes.world.world_size, "device": str(self.processes.device)}
        about |= {
            "threads": torch.get_num_threads(),
            "job": find_job().number,
            "epoch": self.trainer.epoch,
            "step": self.trainer.step,
        }
        note_start(out, provenance() | about)
        (out / STATUS).unlink(missing_ok=True)

    def _where(self, newest: Path | None) -> str:
        """From where this start goes on, in words."""
        trainer, epochs = self.trainer, self.config.epochs
        if newest is None:
            return f"nothing to resume in {self.config.out}: it begins with epoch 1"
        done, steps = divmod(trainer.step, trainer.steps_per_epoch)
        words = f"resumed from {newest}: {done} of {epochs} epochs are done"
        words += f", and {steps} of the {trainer.steps_per_epoch} steps of the next" if steps else ""
        words += f" (step {trainer.step} of {self.steps})"
        if trainer.epoch_step == trainer.steps_per_epoch:
            words += "; the last of them is to be validated"
        elif done == epochs:
            words += f"; it is finished: --epochs N, above {epochs}, trains it longer"
        if (end := trainer.cycles[-2:][0]) < epochs:
            rate = "begins a new cycle there" if trainer.objective.one_cycle else "stays as it is"
            words += f"\nplanned for {end} epochs, trained on to {epochs}: the learning rate {rate}"
        return words

    def to_the_end(self) -> int:
        """Trains until all epochs are done, or until asked to stop: the exit code."""
        code = FINISHED
        while code == FINISHED and self.trainer.epoch < self.config.epochs:
            if not (self._steps() and self._finish_epoch()):
                code = MORE_TO_DO
        self._save()
        return code

    def _steps(self) -> bool:
        """The steps that are left of an epoch; False if asked to stop among them."""
        trainer, before, began = self.trainer, self.trainer.seconds, time.perf_counter()
        title = f"epoch {trainer.epoch + 1}/{self.config.epochs}"
        with Progress(
            trainer.steps_per_epoch, "step", title=title, done=trainer.epoch_step, speaks=self.log is not None
        ) as progress:
            for batch, noise_BZ in trainer.batches():
                self.watch.mark()
                asked = self.requests.agreed(trainer.step)
                if asked.stop or asked.save:
                    trainer.seconds = before + time.perf_counter() - began
                    if asked.stop:
                        return False
                    self._save()
                trainer.train_step(batch, noise_BZ)
                progress.advance()
                if trainer.epoch_step % CHECK_EVERY == 0:
                    trainer.check()
                    if self.log is not None and self.log.beats():
                        self._beat(self.log, progress.rate)
                    if progress.is_due():
                        means = ", ".join(f"{name} {value:.4g}" for name, value in trainer.own_means().items())
                        progress.say(f"{means}, {progress.rate * trainer.batch_size:.0f} images/s")
            trainer.check()
        trainer.seconds = before + time.perf_counter() - began
        return not self._asked_to_stop()

    def _beat(self, log: EpochLog, rate: float) -> None:
        trainer, means = self.trainer, self.trainer.own_means()
        means.pop("gradient_norm")
        row: dict[str, Any] = {"epoch": trainer.epoch + 1, "step": trainer.epoch_step, "steps": trainer.steps_per_epoch}
        row["images_per_s"] = round(rate * trainer.batch_size, 1)
        log.beat(row | {"train": {"loss": sum(means.values())} | means})

    def _finish_epoch(self) -> bool:
        """Saves, validates and records; False if asked to stop before that is done.

        What the validation says is in the next checkpoint. A start that finds this one validates first.
        """
        self._save()
        trainer, means, seconds = self.trainer, self.trainer.means(), self.trainer.seconds
        rate = trainer.optimizer.param_groups[0]["lr"]
        norm = means.pop("gradient_norm")
        validated = trainer.validate(self._asked_to_stop)
        if validated is None:
            return False
        validation, codes = validated
        trainer.finish_epoch(validation["loss"])
        row = {
            "epoch": trainer.epoch,
            "step": trainer.step,
            "seconds": round(seconds, 3),
            "images_per_s": round(trainer.steps_per_epoch * trainer.batch_size / seconds, 1),
            "learning_rate": rate,
            "gradient_norm": norm,
            "train": {"loss": sum(means.values())} | means,
            "validation": validation,
        } | trainer.model.gauges()
        if (peak := peak_memory(self.processes.device)) is not None:
            row["gpu_memory_gb"] = round(peak / 1e9, 3)

        def record() -> None:
            if self.log is not None:
                self.log.write(row, codes, trainer.model.GUIDED)
                self.pictures.draw(codes)
            self.checkpoints.point(trainer.step, trainer.best)

        on_first_rank(record, self.processes)
        return True

    def _asked_to_stop(self) -> bool:
        self.watch.mark()
        return self.requests.agreed_now().stop

    def _save(self) -> None:
        """Writes the checkpoint of the step, unless it is there. Raises InputError, on all ranks, for a full disk."""
        trainer = self.trainer
        trainer.check()
        if (trainer.epoch, trainer.epoch_step) != self.saved:
            kept = snapshot(trainer)
            on_first_rank(lambda: self.checkpoints.save(*kept), self.processes)
            self.saved = trainer.epoch, trainer.epoch_step
        self.requests.saved()

    def close(self, code: int) -> str:
        """Leaves word of how the run ended, on rank 0; returns it in a line."""
        assert self.log is not None
        self.log.close()
        trainer, out = self.trainer, self.config.out
        reason = "finished" if code == FINISHED else self.requests.reason or "asked on another rank"
        status = {"exit_code": code, "reason": reason, "step": trainer.step, "steps": self.steps}
        write_json(out / STATUS, status)
        if code == FINISHED:
            best, said = "", f"{trainer.epoch} epochs"
            if trainer.best:
                epoch = int(trainer.best["step"]) // trainer.steps_per_epoch
                best = f", best.safetensors (epoch {epoch})"
                said += f"; best validation loss {trainer.best['loss']:.4g}, of epoch {epoch}"
            print(f"written: {out}: last.safetensors (epoch {trainer.epoch}){best}, metrics.jsonl, tensorboard/")
            if not self.config.folds:
                print(f"next: hpcauxvae evaluate {out}", flush=True)
        else:
            late = reason == "time limit" and trainer.step == self.first
            reason += ", which passed before the first step of this start" if late else ""
            said = (
                f"stopped ({reason}) after step {trainer.step} of {self.steps}; the same command with "
                "--resume auto goes on from there"
            )
            print(said, flush=True)
        return said


def train(config: TrainConfig, processes: Processes) -> int:
    """Runs a configuration into its folder; returns FINISHED or MORE_TO_DO, the same on all ranks.

    Raises InputError for bad input, Diverged for a loss that is not finite.
    """
    return _each([config], processes, Notice())


def _each(runs: Sequence[TrainConfig], processes: Processes, notice: Notice) -> int:
    """`train` of each, until one is not finished. One listener hears what is asked in and between all of them."""
    with Requests(processes, runs[0].max_minutes, runs[0].checkpoint_minutes) as requests:
        for config in runs:
            if (code := _train(config, processes, requests, notice)) != FINISHED:
                return code
    return FINISHED


def _train(config: TrainConfig, processes: Processes, requests: Requests, notice: Notice) -> int:
    lock = RunLock(config.out)
    on_first_rank(lambda: _claim(config, lock), processes)

    def broken_off(why: str) -> None:
        _leave_word(config.out, FAILED, why)
        lock.release()
        notice.failed(why)

    try:
        with Watchdog(processes, config.timeout_minutes, broken_off) as watch:
            loop = Loop(config, processes, requests, watch)
            code = loop.to_the_end()
            notice.message = on_first_rank(lambda: loop.close(code), processes)
    except BaseException as error:
        if processes.world.rank == 0:
            _leave_word(config.out, 2 if isinstance(error, InputError) else FAILED, in_a_line(error))
        raise
    finally:
        if processes.world.rank == 0:
            lock.release()
    return code


def _leave_word(out: Path, code: int, why: str) -> None:
    """Of a failure, unless the training had not begun: then what an earlier start left still holds."""
    if (out / "config.json").exists() and not (out / STATUS).exists():
        attempt(lambda: write_json(out / STATUS, {"exit_code": code, "reason": why}))  # the disk may be what failed


def _claim(config: TrainConfig, lock: RunLock) -> None:
    lock.acquire()
    try:
        config.refuse_used()
    except InputError:
        lock.release()
        raise


def _refuse_used(runs: Sequence[TrainConfig]) -> None:
    for config in runs:
        config.refuse_used()


def run(runs: Sequence[TrainConfig], world: World, notice: Notice) -> int:
    """`train` of each, until one is not finished, with the processes of `world`, started and parted from: an exit code.

    The runs are one, or the folds of a cross-validation, which share the minutes that they may take. notice: told how
    they ended, in words.
    """
    try:
        # The watchdog knows who is missing, torch only that somebody is: it waits a little longer.
        patience = timedelta(minutes=1.25 * runs[0].timeout_minutes)
        processes = start(world, runs[0].device, patience)
        on_first_rank(lambda: _refuse_used(runs), processes)
        code = _each(runs, processes, notice)
        if code == FINISHED and len(runs) > 1 and world.rank == 0:
            print(f"next: hpcauxvae evaluate {runs[0].out.parent}", flush=True)
        return code
    except (Diverged, Apart) as error:
        notice.message = str(error)
        if world.rank == 0 or isinstance(error, Apart):
            print(f"error: {error}", file=sys.stderr)
        return FAILED
    finally:
        stop()
