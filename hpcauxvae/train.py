"""Training under torch DistributedDataParallel: `torchrun --nproc-per-node N -m hpcauxvae.train DATA.h5 ...`, or alone.

The answer does not depend on the number of processes: the samples and the noise of a global batch are functions of
(seed, epoch, step); each rank takes its slice of both, and moments are summed over ranks before any correlation.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from hpcauxvae import checkpoint
from hpcauxvae.config import TrainConfig
from hpcauxvae.data.hdf5 import check_pixels, open_set, split
from hpcauxvae.data.samples import Samples
from hpcauxvae.distributed import Processes, find_world, global_mean, on_first_rank, slice_of, start, stop
from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.lds import lds
from hpcauxvae.types import Batch, InputError, LossTerms

_PREPARE_SAMPLES = 8192
_VALIDATION_BATCH = 4096


class Diverged(RuntimeError):
    """The loss or its gradient is not finite; the weights are those before the step."""


def seeded(*numbers: int) -> torch.Generator:
    """A generator of its own for every tuple of numbers, the same on every machine."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


class Trainer:
    """One run, seen from one of its processes."""

    def __init__(self, config: TrainConfig, processes: Processes) -> None:
        self.config = config
        self.objective = config.resolved_objective
        self.processes = processes
        self.world = processes.world
        self.dtype = getattr(torch, config.dtype)
        data = open_set(config.data)
        columns = data.column(config.aux_names)
        on_first_rank(lambda: check_pixels(data), processes)
        self.train_index, self.validation_index, _ = (torch.from_numpy(i) for i in split(len(data), config.split_seed))
        self.steps_per_epoch = len(self.train_index) // self.objective.batch_size
        if self.steps_per_epoch == 0:
            raise InputError(
                f"batch_size = {self.objective.batch_size} for {len(self.train_index)} training samples in "
                f"{config.data}; allowed: at most {len(self.train_index)}"
            )
        self.samples = Samples(data, processes.device, self.dtype)
        self.state: dict[str, Any] = {
            "image_shape": list(data.shape),
            "columns": columns,
            "n_train": len(self.train_index),
            "factors": [factor.name for factor in data.factors],
            "fingerprint": data.fingerprint,
            "epoch": 0,
        }
        self.model = checkpoint.build_model(config, self.state).to(processes.device)
        first = self.samples.batch(self.train_index[:_PREPARE_SAMPLES])
        self.model.prepare(first.images, first.factors[:, columns])
        self.model.group = processes.group
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), self.objective.learning_rate, betas=(0.9, self.objective.adam_beta2)
        )
        steps = config.epochs * self.steps_per_epoch
        self.schedule = (
            torch.optim.lr_scheduler.OneCycleLR(self.optimizer, self.objective.learning_rate, total_steps=steps)
            if self.objective.one_cycle
            else torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        )
        if config.resume and (config.out / checkpoint.LAST).exists():
            self._resume()
        self.parallel: nn.Module = self.model
        if processes.group is not None:
            self.parallel = DistributedDataParallel(self.model, broadcast_buffers=False, gradient_as_bucket_view=True)

    def epoch_batches(self, epoch: int) -> Iterator[tuple[Batch, Tensor]]:
        """This rank's slice of every global batch of an epoch, with its slice of the global noise (B, Z).

        The samples are shuffled anew each epoch; those that do not fill a last batch wait for the next one.
        """
        seed, size = self.config.seed, self.objective.batch_size
        order = self.train_index[torch.randperm(len(self.train_index), generator=seeded(seed, 1, epoch))]
        for step in range(self.steps_per_epoch):
            part = slice_of(size, self.world.rank, self.world.world_size)
            index_B = order[step * size : (step + 1) * size][part]
            yield self.samples.batch(index_B), self._noise(size, part, seeded(seed, 2, epoch, step))

    def _noise(self, size: int, part: slice, generator: torch.Generator) -> Tensor:
        noise_BZ = torch.randn(size, self.config.latents, generator=generator, dtype=self.dtype)
        return noise_BZ[part].to(self.processes.device)

    def step(self, batch: Batch, noise_BZ: Tensor) -> tuple[LossTerms, Tensor]:
        """One update. Returns this rank's terms, whose mean over ranks is the global value, and the gradient's norm.

        Raises Diverged, on every rank and before the update, if the gradient is not finite on any.
        """
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.parallel(batch, noise_BZ)
        torch.stack(list(terms.values())).sum().backward()
        clip = self.objective.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip)  # the same on all ranks, after DDP's mean
        if not norm.isfinite():
            self._report_divergence(batch, noise_BZ, terms)
        self.optimizer.step()
        self.schedule.step()
        return {name: value.detach() for name, value in terms.items()}, norm

    @torch.no_grad()
    def _report_divergence(self, batch: Batch, noise_BZ: Tensor, terms: LossTerms) -> None:
        self.model.group = None  # each sample by itself
        bad = []
        for number, noise_1Z, *sample in zip(batch.index, noise_BZ.split(1), *(x.split(1) for x in batch), strict=True):
            if not all(value.isfinite() for value in self.model(Batch(*sample), noise_1Z).values()):
                bad.append(int(number))
        raise Diverged(
            f"rank {self.world.rank}: gradient not finite; terms here: "
            + ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
            + f"; samples here whose own loss is not finite: {bad or 'none'}"
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss terms, MSE and LDS (10) over the validation split, the same on every rank.

        The MSE is that of the images decoded from posterior means, both divided by the training maximum.
        """
        self.model.eval()
        totals: dict[str, float] = {}
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        generator = seeded(self.config.seed, 3)
        for index_B in self.validation_index.split(_VALIDATION_BATCH):
            part = slice_of(len(index_B), self.world.rank, self.world.world_size)
            batch = self.samples.batch(index_B[part])
            terms = self.model(batch, self._noise(len(index_B), part, generator))
            posterior = self.model.encode(batch.images)
            error = (self.model.decode(posterior.mean) - batch.images) / self.model.scale.maximum
            terms["mse"] = global_mean(error.square().mean((1, 2, 3)), self.model.group)
            for name, value in self._mean_over_ranks(terms).items():
                totals[name] = totals.get(name, 0.0) + value * len(index_B) / len(self.validation_index)
            parts.append((*posterior, batch.factors[:, self.state["columns"]]))
        self.model.train()
        mse = totals.pop("mse")
        scores = {"loss": sum(totals.values())} | totals | {"mse": mse}
        if self.state["columns"]:
            mean_NZ, logvar_NZ, aux_ND = (self._gather(torch.cat(tensors)) for tensors in zip(*parts, strict=True))
            score = lds(
                Codes(
                    mean_NZ=mean_NZ,
                    logvar_NZ=logvar_NZ,
                    aux_ND=aux_ND,
                    hidden_NH=aux_ND[:, :0],
                    aux_names=self.config.aux_names,
                    hidden_names=(),
                    seed=0,
                )
            )
            scores |= {"lds": score["value"], "lds_attainable": score["attainable"]}
        return scores

    def _gather(self, values_NX: Tensor) -> np.ndarray:
        """The rows of all ranks, in any order but the same for every tensor."""
        if self.processes.group is None:
            return values_NX.double().cpu().numpy()
        parts: list[Any] = [None] * self.world.world_size
        torch.distributed.all_gather_object(parts, values_NX.double().cpu().numpy(), self.processes.group)
        return np.concatenate(parts)

    def _mean_over_ranks(self, terms: LossTerms) -> dict[str, float]:
        stacked = torch.stack([value.detach().double() for value in terms.values()])
        if self.processes.group is not None:
            torch.distributed.all_reduce(stacked, group=self.processes.group)
        return dict(zip(terms, (stacked / self.world.world_size).tolist(), strict=True))

    def run(self) -> None:
        """Trains from the current epoch to the last, with a checkpoint and a line in metrics.jsonl after each."""
        log = None
        if self.world.rank == 0:
            log = EpochLog(self.config.out, self.config.epochs, self.state["epoch"])
        while self.state["epoch"] < self.config.epochs:
            self.state["epoch"] += 1
            row = self._epoch()
            if log:
                log.write(row)
                self._save()
        if log:
            log.close()

    def _epoch(self) -> dict[str, Any]:
        epoch, began = self.state["epoch"], time.perf_counter()
        totals: LossTerms = {}
        batches = tqdm(
            self.epoch_batches(epoch),
            desc=f"epoch {epoch}/{self.config.epochs}",
            total=self.steps_per_epoch,
            unit="step",
            leave=False,
            disable=self.world.rank > 0 or not sys.stderr.isatty(),
        )
        for batch, noise_BZ in batches:
            terms, norm = self.step(batch, noise_BZ)
            totals = {name: totals.get(name, 0) + value for name, value in (terms | {"gradient_norm": norm}).items()}
        train = self._mean_over_ranks({name: total / self.steps_per_epoch for name, total in totals.items()})
        norm_mean = train.pop("gradient_norm")
        seconds = time.perf_counter() - began
        return {
            "epoch": epoch,
            "step": epoch * self.steps_per_epoch,
            "seconds": round(seconds, 3),
            "images_per_s": round(self.steps_per_epoch * self.objective.batch_size / seconds, 1),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": norm_mean,
            "train": {"loss": sum(train.values())} | train,
            "validation": self.validate(),
        }

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            slots = self.optimizer.state[parameter]
            tensors |= {f"optimizer.{name}.{slot}": value for slot, value in slots.items()}
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        schedule = {k: v for k, v in self.schedule.state_dict().items() if isinstance(v, int | float | list)}
        state = self.state | {"config": self.config.to_json(), "groups": groups, "schedule": schedule}
        checkpoint.write(self.config.out / checkpoint.LAST, tensors, state)

    def _resume(self) -> None:
        path = self.config.out / checkpoint.LAST
        tensors, state = checkpoint.read(path)
        ignored = ("out", "data", "device", "resume")
        for name, value in self.config.to_json().items():
            if name not in ignored and state["config"][name] != value:
                raise InputError(f"{path}: config {name} = {state['config'][name]}, now {value}; allowed: the same")
        if state["fingerprint"] != self.state["fingerprint"]:
            raise InputError(f"{self.config.data}: is not the data set that {path} was trained on")
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        for name, parameter in self.model.named_parameters():
            prefix = f"optimizer.{name}."
            self.optimizer.state[parameter] = {
                k.removeprefix(prefix): v.to(parameter.device if v.ndim else "cpu")
                for k, v in tensors.items()
                if k.startswith(prefix)
            }
        for group, saved in zip(self.optimizer.param_groups, state["groups"], strict=True):
            group.update(saved)
        self.schedule.load_state_dict(state["schedule"])
        self.state["epoch"] = state["epoch"]


class EpochLog:
    """What a run says of itself: metrics.jsonl, TensorBoard, and a line an epoch on standard output."""

    def __init__(self, folder: Path, epochs: int, done: int) -> None:
        """Rows of epochs after `done` belong to a run that was killed before it could save them, and go."""
        self.epochs = epochs
        self.path = folder / "metrics.jsonl"
        rows = [json.loads(line) for line in self.path.read_text().splitlines()] if done else []
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["epoch"] <= done))
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def write(self, row: dict[str, Any]) -> None:
        """Records an epoch."""
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
        epoch = row["epoch"]
        for group in ("train", "validation"):
            for name, value in row[group].items():
                self.board.add_scalar(f"{group}/{name}", value, epoch)
        for name in ("learning_rate", "gradient_norm", "images_per_s"):
            self.board.add_scalar(name, row[name], epoch)
        train, validation = row["train"], row["validation"]
        terms = ", ".join(f"{name} {value:.4g}" for name, value in train.items() if name != "loss")
        score = f"  LDS {validation['lds']:.3f} of {validation['lds_attainable']:.3f}" if "lds" in validation else ""
        left = round((self.epochs - epoch) * row["seconds"])
        print(
            f"epoch {epoch:{len(str(self.epochs))}}/{self.epochs}  loss {train['loss']:.4g} ({terms})  "
            f"validation {validation['loss']:.4g}{score}  {row['images_per_s']:.0f} images/s  "
            f"left {left // 60}:{left % 60:02} min",
            flush=True,
        )

    def close(self) -> None:
        """Finishes what is still being written."""
        self.board.close()


def train(config: TrainConfig, processes: Processes) -> None:
    """Runs a configuration into its folder. Raises InputError for bad input, Diverged for a loss that is not finite."""
    lock = checkpoint.RunLock(config.out)
    on_first_rank(lambda: _claim(config, lock), processes)
    try:
        trainer = Trainer(config, processes)
        if processes.world.rank == 0:
            (config.out / "config.json").write_text(json.dumps(config.to_json(), indent=2) + "\n")
        trainer.run()
    finally:
        if processes.world.rank == 0:
            lock.release()


def _claim(config: TrainConfig, lock: checkpoint.RunLock) -> None:
    lock.acquire()
    others = [path.name for path in config.out.iterdir() if path != lock.path]
    if others and not config.resume:
        lock.release()
        raise InputError(
            f"{config.out}: holds {', '.join(sorted(others)[:3])} already; choose another folder, or --resume the run"
        )


def main(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae train`, also `python -m hpcauxvae.train`."""
    import tyro  # not on every machine that trains by calling train()

    config = tyro.cli(
        TrainConfig,
        args=argv,
        prog="hpcauxvae train",
        config=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff),
    )
    try:
        train(config, start(find_world(), config.device))
    finally:
        stop()
    return 0


if __name__ == "__main__":
    from hpcauxvae.cli import run

    run(main)
