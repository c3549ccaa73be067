"""Starts the ranks of a training run without a launcher, so that tests can send signals to one of them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from helpers.forked import Forked, ranks_env


def start_ranks(
    count: int, *arguments: object, program: tuple[str | Path, ...] = ("-m", "hpcauxvae.train")
) -> list[Forked]:
    """Training, or another program, on so many processes of this machine."""
    return [Forked(program, *arguments, env=os.environ | own) for own in ranks_env(count)]


def ends(ranks: list[Forked], timeout: float = 120) -> tuple[list[int], list[str]]:
    """Exit codes and standard errors, once all have ended."""
    errors = [rank.communicate(timeout=timeout)[1] for rank in ranks]
    return [rank.wait() for rank in ranks], errors


def running(ranks: list[Forked], condition: Callable[[], bool], seconds: float = 120) -> None:
    """Waits until the condition holds, while all ranks run."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert all(rank.poll() is None for rank in ranks), ends(ranks)
        time.sleep(0.02)
