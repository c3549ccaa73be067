"""The training step and the validation, whatever the number of processes.

The answer does not depend on the number of processes: the samples of a global batch and their noise are functions of
(seed, epoch, step); each rank takes its slice of both, and moments are summed over ranks before any correlation.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from hpcauxvae.data.choice import choose
from hpcauxvae.data.guides import check_latents, guided, guides_of, guiding
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.samples import Samples, fits_in_memory, noise, shuffled
from hpcauxvae.data.splits import parts, resolved
from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.lds import lds
from hpcauxvae.models import refuse_unread
from hpcauxvae.models.networks import images_at_once
from hpcauxvae.runtime.collectives import Processes, slice_of
from hpcauxvae.runtime.devices import in_float64, place, skips_steps
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.cycles import cycle_of
from hpcauxvae.train.gradients import Accumulated, AtOnce, Graphed, PartOfBatch, graph_stream
from hpcauxvae.train.preparation import prepare
from hpcauxvae.train.run import about, build_model
from hpcauxvae.types import Batch, Fold, InputError, LossTerms, Posterior, Reduction

CHECK_EVERY = 50
"""Steps between two looks from the host at what the device has computed."""
NOT_FINITE = "loss or gradient not finite"
"""What the message of Diverged says, and with it the status of the run."""
_VALIDATION_BATCH = 4096
_ORDER, _NOISE, _VALIDATION = 1, 2, 3  # what a seed is used for


class Diverged(ArithmeticError):
    """The loss or its gradient is not finite; the weights are those before the step."""


class _Piece(NamedTuple):
    """Samples of a validation that are through encoder and decoder."""

    batch: Batch
    """Without the images."""
    noise_BZ: Tensor
    posterior: Posterior | None
    """The codes of which the loss has further terms, if it has."""
    codes: Posterior
    """As the encoder gives them."""


class Trainer:
    """A run, seen from one of its processes."""

    def __init__(self, config: TrainConfig, processes: Processes, data: ImageSet) -> None:
        first = config.split_seed, config.split, None if config.fold is None else Fold(0, config.folds)
        config, self.choice = config.decided(lambda: choose(data, *first))  # by fold 0: folds are pooled
        self.objective = config.resolved_objective
        self.processes, self.world = processes, processes.world
        self.dtype = getattr(torch, config.dtype)
        self.guides = guides_of(data, config.aux_names, config.labels)
        check_latents(self.guides, config.latents)
        data = guided(data, self.guides)
        self.columns = guiding(data, config.aux_names)
        self.train_index, self.validation_index, _ = map(torch.from_numpy, parts(data, *config.how_split))
        self.batch_size = self.objective.batch_size
        self.steps_per_epoch = len(self.train_index) // self.batch_size
        if (fewest := min(len(parts(data, *split)[0]) for split in config.splits())) < self.batch_size:
            raise InputError(
                f"batch_size = {self.batch_size} for {fewest} training samples{' of a fold' * bool(config.folds)} in "
                f"{config.data}; allowed: at most {fewest}"
            )
        self.config = config = config.with_epochs(max(1, len(parts(data, *first)[0]) // self.batch_size))
        if config.resume == "no" or not (config.out / "config.json").exists():  # what has begun goes on
            refuse_unread(config.model, config.overrides)
        self.about = about(data, self.columns, len(self.train_index), resolved(data, config.split))
        self.model = build_model(config, self.about)
        place(self.model, processes.device)
        self.samples = Samples(data, processes.device, self.dtype, self._in_memory(data))
        if config.accumulate > 1 and self.model.overrides("forward"):
            raise InputError(
                f"accumulate = {config.accumulate}: {config.model} has its loss as a whole (forward); allowed: 1, or a "
                "model with sample_terms (hpcauxvae/models/base.py)"
            )
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = list(self.model.parameters())
        rate = config.scaled_learning_rate
        self.optimizer = torch.optim.Adam(self.parameters, rate, betas=(0.9, self.objective.adam_beta2), fused=True)
        self.cycles = [config.epochs]
        """Epochs at whose ends the cycles of the learning rate end: several where a run is trained longer."""
        self.epoch = 0
        """Finished epochs."""
        self.schedule = self._schedule()
        self.gradient: AtOnce | Accumulated | Graphed = AtOnce(self.model, config.bf16)
        self.epoch_step = 0
        """Steps done in the epoch after them; all of its steps until it is validated."""
        self.best: dict[str, float] | None = None
        """Step and validation loss of the best epoch so far."""
        self.seconds = 0.0
        """Time spent on these steps."""
        self.totals: dict[str, Tensor] = {}
        """Sums of each quantity over these steps: float64 scalars on the device or the CPU; means over ranks count."""
        self._diverged = torch.zeros((), device=processes.device)
        self._good_steps = torch.zeros((), device=processes.device)  # of those since the last check
        self._checked_at = 0
        self._restored = False

    def _in_memory(self, data: ImageSet) -> bool:
        if self.config.in_memory == "auto":
            return fits_in_memory(data, self.processes.device, self.world.local_world_size)
        return self.config.in_memory == "yes"

    def _schedule(self) -> LRScheduler:
        return cycle_of(self.optimizer, self.config, self.cycles, self.epoch, self.steps_per_epoch)

    def connect(self, mark: Callable[[], None] = lambda: None) -> None:
        """Fits a new model to the data, gives all ranks the weights of the first, and sums gradients over ranks.

        mark: called for each part of the data that is read. Raises InputError, on all ranks, for data that do not suit
        the objective.
        """
        config = self.config
        if not self._restored:
            self.about["summary"] = prepare(self.model, config, self.samples, self.processes, mark)._asdict()
        parallel: nn.Module = PartOfBatch(self.model) if config.accumulate > 1 else self.model
        if config.compile:
            parallel.compile()
        with graph_stream(config.cuda_graph, self.processes.device) as stream, warnings.catch_warnings():
            if self.processes.group is not None:
                # torch 2.13 has another name for broadcast_buffers, which torch 2.9 does not know.
                warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
                parallel = DistributedDataParallel(
                    parallel, broadcast_buffers=False, gradient_as_bucket_view=True,
                    bucket_cap_mb=config.bucket_mb, static_graph=config.accumulate == 1,
                )  # fmt: skip
        at_once = AtOnce(parallel, config.bf16)
        self.gradient = at_once
        if config.accumulate > 1:
            self.gradient = Accumulated(at_once, self.model, config.accumulate)
        elif stream is not None:
            self.gradient = Graphed(at_once, stream)

    @property
    def step(self) -> int:
        """Steps done in the whole run."""
        return self.epoch * self.steps_per_epoch + self.epoch_step

    def batches(self) -> Iterator[tuple[Batch, Tensor]]:
        """This rank's slice of each global batch that is left of the epoch, with its slice of the noise (B, Z).

        The samples are shuffled anew each epoch; those that do not fill a last batch wait for the next one.
        """
        for batch in self.samples.stream(self._order()[self.epoch_step :]):
            yield batch, self._noise(batch.index, _NOISE, self.epoch)

    def _order(self) -> Tensor:
        """The sample numbers of this rank's slices of the global batches of this epoch, (steps, B)."""
        order = shuffled(self.train_index, self.config.seed, _ORDER, self.epoch)
        order = order[: self.steps_per_epoch * self.batch_size].view(self.steps_per_epoch, self.batch_size)
        return order[:, slice_of(self.batch_size, self.world.rank, self.world.world_size)]

    def _noise(self, index_B: Tensor, *purpose: int) -> Tensor:
        return noise(index_B, self.model.noise_size, self.dtype, self.config.seed, *purpose)

    def _over(self, n: int) -> Reduction:
        return Reduction(n, self.processes.group, slice_of(n, self.world.rank, self.world.world_size).start)

    def train_step(self, batch: Batch, noise_BZ: Tensor) -> LossTerms:
        """An update. Returns this rank's terms; their mean over ranks is the global value.

        If the loss or its gradient is not finite on any rank, no weight changes on any, in this step and all later
        ones, and `check` raises Diverged. The host does not wait for the device.
        """
        self.model.advance(min(1.0, self.step / (self.cycles[0] * self.steps_per_epoch)))
        terms = self.gradient(batch, noise_BZ, self._over(self.batch_size))
        norm = self._cut()
        self._update(norm)
        for name, value in (terms | {"gradient_norm": norm}).items():
            self.totals[name] = self.totals.get(name, 0) + in_float64(value)
        self.epoch_step += 1
        return terms

    def _cut(self) -> Tensor:
        """Cuts the gradient of the global batch where it is too large; returns the norm that it had."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)  # clip_grads_with_norm_ would wait for a limit on the device
        if (most := self.model.largest_norm(norm)) is not None:
            torch._foreach_mul_(gradients, torch.clamp(most / (norm + 1e-6), max=1.0).to(norm.dtype))
        return norm

    def _update(self, norm: Tensor) -> None:
        """Adam's step, unless this or an earlier step has diverged."""
        torch.maximum(self._diverged, (~norm.isfinite()).to(self._diverged), out=self._diverged)
        self._good_steps += 1 - self._diverged
        if skips_steps(self.processes.device):
            self.optimizer.found_inf = self._diverged  # type: ignore[attr-defined]  # as torch's GradScaler sets it
        elif self._diverged.item():
            return
        self.optimizer.step()
        self.schedule.step()

    def check(self) -> None:
        """Looks at what the device has computed. Raises Diverged on every rank if a step since the last look has."""
        if self._diverged.item():
            self._report_divergence(self._checked_at + int(self._good_steps) - self.epoch * self.steps_per_epoch)
        self._good_steps.zero_()
        self._checked_at = self.step

    @torch.no_grad()
    def _report_divergence(self, epoch_step: int) -> None:
        batch = self.samples.batch(self._order()[epoch_step])
        noise_BZ = self._noise(batch.index, _NOISE, self.epoch)
        terms = self.mean_over_ranks(self.model.forward(batch, noise_BZ, self._over(self.batch_size)))
        self.model.eval()  # a batch of one has no statistics of its own
        bad = []
        for row, number in enumerate(batch.index):
            given = batch.each(lambda x, row=row: x[row : row + 1]), noise_BZ[row : row + 1], Reduction(1)  # type: ignore[misc]
            whole = self.model.overrides("forward")
            own = self.model.forward(*given) if whole else self.model.sample_terms(*given)[0]
            if not all(value.isfinite() for value in own.values()):
                bad.append(int(number))
        all_bad = np.sort(self._gather(torch.tensor(bad))).astype(int).tolist()
        raise Diverged(
            f"epoch {self.epoch + 1}, step {epoch_step + 1}: {NOT_FINITE}, no weight changed; terms: "
            + ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
            + f"; samples whose own loss is not finite: {all_bad or 'none'}"
        )

    def means(self) -> dict[str, float]:
        """Each quantity's mean over the steps done in this epoch, the same on every rank; all ranks must ask."""
        return {name: total / self.epoch_step for name, total in self.mean_over_ranks(self.totals).items()}

    def own_means(self) -> dict[str, float]:
        """The same over this rank's samples alone, without waiting for the others."""
        return {name: float(total) / self.epoch_step for name, total in self.totals.items()}

    def finish_epoch(self, validation_loss: float) -> None:
        """Counts the epoch as done."""
        self.epoch, self.epoch_step, self.seconds, self.totals = self.epoch + 1, 0, 0.0, {}
        if math.isfinite(validation_loss) and (self.best is None or validation_loss < self.best["loss"]):
            self.best = {"step": self.step, "loss": validation_loss}
        self._begin_cycle()

    def _begin_cycle(self) -> None:
        """The learning rate begins anew where an earlier start planned its end, and this one goes on."""
        if self.objective.one_cycle and self.epoch_step == 0 and self.epoch in self.cycles[:-1]:
            self.schedule = self._schedule()

    @torch.no_grad()
    def validate(self, stop: Callable[[], bool]) -> tuple[dict[str, float], Codes | None] | None:
        """Loss terms, MSE and LDS (10) over the validation split, the same on every rank, and the codes behind the LDS.

        The MSE is that of the images decoded from posterior means, both divided by the training maximum. Asks between
        batches whether to stop; returns None then.
        """
        self.model.eval()
        totals: dict[str, float] = {}
        parts: list[tuple[Tensor, ...]] = []
        at_once = images_at_once(self.model.image_shape, _VALIDATION_BATCH)  # on each rank
        whole = self.model.overrides("forward")  # then the loss depends on the piece, which ranks must not change
        for index_B in self.validation_index.split(at_once if whole else _VALIDATION_BATCH):
            pieces: list[_Piece] = []
            for index_P in index_B.split(at_once * self.world.world_size):
                if stop():
                    return None
                terms, piece = self._validate_piece(index_P)
                self._add(totals, terms, len(index_P))
                pieces.append(piece)
            if not whole:
                self._add(totals, self._validate_codes(pieces, len(index_B)), len(index_B))
            parts += [(piece.batch.index, *piece.codes, self.model.factors(piece.batch)) for piece in pieces]
        self.model.train()
        mse = totals.pop("mse")
        scores = {"loss": sum(totals.values())} | totals | {"mse": mse}
        if not self.columns:
            return scores, None
        index_N, *rows = (self._gather(torch.cat(tensors)) for tensors in zip(*parts, strict=True))
        order_N = index_N.argsort()  # ranks come in another order than a single process has, and draws of z go by row
        mean_NZ, logvar_NZ, aux_ND = (values[order_N] for values in rows)
        factors = [self.samples.data.factors[column] for column in self.columns]
        codes = Codes(
            mean_NZ=mean_NZ, logvar_NZ=logvar_NZ, aux_ND=aux_ND, hidden_NH=aux_ND[:, :0],
            aux_names=[factor.name for factor in factors], hidden_names=(), seed=0,
            aux_kinds=[factor.kind for factor in factors],
        )  # fmt: skip
        score = lds(codes)
        return scores | {"lds": score["value"], "lds_attainable": score["attainable"]}, codes

    def _validate_piece(self, index_P: Tensor) -> tuple[LossTerms, _Piece]:
        """The loss terms that are means over these samples, and what is kept of this rank's own."""
        batch = self.samples.batch(index_P[slice_of(len(index_P), self.world.rank, self.world.world_size)])
        noise_BZ, reduction = self._noise(batch.index, _VALIDATION), self._over(len(index_P))
        posterior = None
        if self.model.overrides("forward"):
            terms = self.model.forward(batch, noise_BZ, reduction)  # not compiled
        else:
            terms, posterior = self.model.sample_terms(batch, noise_BZ, reduction)
        codes = self.model.encode(batch.shown(), self.model.factors(batch))
        error = (self.model.decode(codes.mean) - self.model.scale.clipped(batch.images)) / self.model.maximum
        terms["mse"] = reduction.mean(batch.mean(error.square()))
        return terms, _Piece(batch._replace(images=batch.images[:0], weights=None), noise_BZ, posterior, codes)

    def _validate_codes(self, pieces: list[_Piece], n: int) -> LossTerms:
        """The terms of the codes of all pieces together, of n samples on all ranks."""
        batches, noise, posteriors, _ = zip(*pieces, strict=True)
        batch = Batch.joined(batches, torch.cat)
        posterior = Posterior(*(torch.cat(tensors) for tensors in zip(*posteriors, strict=True)))
        return self.model.batch_terms(batch, posterior, torch.cat(noise), self._over(n))

    def _add(self, totals: dict[str, float], terms: LossTerms, n: int) -> None:
        """Adds means over n of the validation samples to means over all of them."""
        for name, value in self.mean_over_ranks(terms).items():
            totals[name] = totals.get(name, 0.0) + value * n / len(self.validation_index)

    def _gather(self, values_NX: Tensor) -> np.ndarray:
        """The rows of all ranks, in any order but the same for every tensor."""
        if self.processes.group is None:
            return values_NX.cpu().double().numpy()
        parts: list[Any] = [None] * self.world.world_size
        torch.distributed.all_gather_object(parts, values_NX.cpu().double().numpy(), self.processes.group)
        return np.concatenate(parts)

    def mean_over_ranks(self, terms: LossTerms) -> dict[str, float]:
        """As numbers, the same on every rank; all ranks must ask."""
        if not terms:
            return {}
        stacked = torch.stack([in_float64(value.detach()) for value in terms.values()])
        if self.processes.group is not None:
            torch.distributed.all_reduce(stacked, group=self.processes.group)
        return dict(zip(terms, (stacked / self.world.world_size).tolist(), strict=True))

    def go_on(self) -> None:
        """Told that everything is as a checkpoint had it."""
        if self.totals and self.epoch_step == 0:  # saved before its last epoch was validated
            self.epoch, self.epoch_step = self.epoch - 1, self.steps_per_epoch
        self._begin_cycle()
        self._checked_at = self.step
        self._restored = True
