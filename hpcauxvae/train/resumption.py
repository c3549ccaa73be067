"""What a checkpoint holds of a training, and how a training goes on from one."""

from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpcauxvae.runtime.devices import float64_device
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.cycles import longer
from hpcauxvae.train.run import load_weights, refuse_another
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import InputError


def snapshot(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a checkpoint holds, the same on every rank; all ranks must ask.

    An epoch counts there once its steps are done; `totals` stay until it is validated.
    """
    epoch, epoch_step = divmod(trainer.step, trainer.steps_per_epoch)
    tensors = {f"model.{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    for name, parameter in trainer.model.named_parameters():
        tensors |= {f"optimizer.{name}.{slot}": value for slot, value in trainer.optimizer.state[parameter].items()}
    return tensors, trainer.about | {
        "config": trainer.config.to_json(),
        "epoch": epoch,
        "epoch_step": epoch_step,
        "step": trainer.step,
        "cycles": trainer.cycles,
        "seconds": trainer.seconds,
        "totals": trainer.mean_over_ranks(trainer.totals),
        "best": trainer.best,
        "groups": [{k: v for k, v in group.items() if k != "params"} for group in trainer.optimizer.param_groups],
        "schedule": {k: v for k, v in trainer.schedule.state_dict().items() if isinstance(v, int | float | list)},
    }


def restore(trainer: Trainer, path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Goes on from a checkpoint. Raises InputError, naming `path`, if it is of another run, version or data set."""
    config, model = trainer.config, trainer.model
    saved = TrainConfig.completed(state["config"], path)
    for name, value in config.decisive().items():
        if name != "epochs" and saved.get(name) != value:
            if name == "resolved_objective":  # of the same settings
                config.refuse_another_version(saved[name], f"{path}: config")
            raise InputError(f"{path}: config {name} = {saved.get(name)}, now {value}; allowed: the same")
    trainer.cycles = longer(path, state["cycles"], state["epoch"], config)
    refuse_another(path, state, trainer.about, config.data)
    weights = {f"model.{name}": name for name in model.state_dict()}
    slots = {
        f"optimizer.{name}.{slot}": (parameter, slot)
        for name, parameter in model.named_parameters()
        # not of one that never had a gradient
        if any(stored.startswith(f"optimizer.{name}.") for stored in tensors)
        for slot in ("step", "exp_avg", "exp_avg_sq")
    }
    _refuse_others(path, tensors.keys(), weights.keys() | slots.keys(), model.TRAINED_BY)
    load_weights(model, {name: tensors[stored] for stored, name in weights.items()}, f"{path}: ")
    trainer.about |= {name: state[name] for name in ("summary",) if name in state}  # not of an earlier version
    for stored, (parameter, slot) in slots.items():
        # With the strides of the weights: the fused step goes through memory, whatever a tensor's shape says.
        like = torch.zeros((), device=parameter.device) if slot == "step" else torch.empty_like(parameter)
        trainer.optimizer.state[parameter][slot] = like.copy_(tensors[stored])
    for group, kept in zip(trainer.optimizer.param_groups, state["groups"], strict=True):
        group.update(kept)
    trainer.schedule.load_state_dict(state["schedule"])
    trainer.epoch, trainer.epoch_step, trainer.best = state["epoch"], state["epoch_step"], state["best"]
    trainer.seconds = state["seconds"]
    trainer.totals = {
        name: torch.tensor(total, dtype=torch.float64, device=float64_device(trainer.processes.device))
        for name, total in state["totals"].items()
    }
    trainer.go_on()


def _refuse_others(path: Path, found: Set[str], needed: Set[str], trained_by: tuple[str, ...]) -> None:
    """Raises InputError where the tensors of a checkpoint are not those that a training needs.

    trained_by: what the names of those begin with that only training needs.
    """
    others = sorted(found ^ needed)
    if not others:
        return
    if all(name.removeprefix("model.").startswith(trained_by) for name in others):
        by, more = "an earlier" if needed > found else "another", len(others) - 1
        named = others[0] + (f" and {more} more tensors" if more else "")
        raise InputError(
            f"{path}: was trained by {by} version of hpcauxvae, whose regularizers kept other numbers ({named}): its "
            "training cannot be continued. evaluate, predict and generate read it as before; a training begins anew "
            "with another --out"
        )
    raise InputError(f"{path}: tensor {others[0]} is {'unknown' if others[0] in found else 'missing'}")
