"""A training run: `torchrun --nproc-per-node N -m hpcauxvae.train DATA.h5 ...`, or alone, into a folder of its own.

Exit codes: 0 finished, 75 stopped on request with a whole checkpoint, 2 bad input, 1 anything else.
"""

import dataclasses
import sys
from collections.abc import Sequence

from hpcauxvae.data.guides import check_latents, guides_of
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.splits import parts
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.launchers import World, find_world
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.notice import Notice


def main(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae train`, also `python -m hpcauxvae.train`."""
    world = find_world()
    config = parse(TrainConfig, argv, "hpcauxvae train", quiet=world.rank > 0)
    with Notice(config.notify, config.out, speaks=world.rank == 0) as notice:
        return notice.ended(_train(config, sys.argv[1:] if argv is None else argv, world, notice))


def _train(config: TrainConfig, given: Sequence[str], world: World, notice: Notice) -> int:
    runs = config.runs()
    if config.resume == "auto" and not any(word.partition("=")[0] == "--epochs" for word in given):
        epochs = runs[0].as_planned().epochs  # of folds that have not begun, too
        runs = [dataclasses.replace(run, epochs=epochs).as_planned() for run in runs]
    if world.world_size == 1:  # before torch is imported; several ranks agree on it later
        for run in runs:
            run.refuse_used()
        data = open_set(config.data)
        check_latents(guides_of(data, config.aux_names, config.labels), config.latents)
        if config.folds:
            parts(data, *runs[0].how_split)
    from hpcauxvae.train.loop import run as train

    return train(runs, world, notice)
