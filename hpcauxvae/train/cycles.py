"""The learning rate over a training: a cycle, and a further cycle each time the run is trained longer than planned.

The cycle is that of Smith and Topin 2019 (arXiv:1708.07120) where the objective asks for it; else the rate stays.
"""

from collections.abc import Sequence
from pathlib import Path

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError


def cycle_of(
    optimizer: Optimizer, config: TrainConfig, ends: Sequence[int], epoch: int, steps_per_epoch: int
) -> LRScheduler:
    """The schedule, at its first step, of the cycle that begins at an epoch or holds it; `ends`: epochs, rising."""
    rate, warm_up = config.scaled_learning_rate, config.warmup_epochs
    if not config.resolved_objective.one_cycle:
        steps = max(1, round((warm_up or 0) * steps_per_epoch))
        return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / steps))
    begin = max([0, *(end for end in ends[:-1] if end <= epoch)])
    epochs = next(end for end in ends if end > begin) - begin
    rising = 0.3 if warm_up is None else warm_up / epochs
    return OneCycleLR(optimizer, rate, total_steps=epochs * steps_per_epoch, pct_start=rising)


def longer(path: Path, ends: list[int], done: int, config: TrainConfig) -> list[int]:
    """The ends of the cycles of a run of which `path` has done so many epochs, and that is to have config.epochs.

    Raises InputError where they are fewer than planned, or make a new cycle that is no longer than its warm-up.
    """
    epochs, warm_up = config.epochs, config.warmup_epochs
    if epochs < ends[-1]:
        raise InputError(
            f"epochs = {epochs}, but {path} has done {done} of {ends[-1]} epochs, for all of which its learning rate "
            f"is planned; allowed: {ends[-1]}, or more to train it longer"
        )
    if config.resolved_objective.one_cycle and warm_up is not None and ends[-1] < epochs <= ends[-1] + warm_up:
        raise InputError(
            f"warmup_epochs = {warm_up} for a new cycle of {epochs - ends[-1]} epochs, from {ends[-1]} on; allowed: "
            f"epochs = {ends[-1]}, or above {ends[-1] + warm_up:g}"
        )
    return sorted({*ends, epochs})
