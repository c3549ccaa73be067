"""Starts the ranks of a training run without a launcher, so that tests can send signals to one of them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from helpers.places import ROOT


def start_ranks(
    count: int, *arguments: object, program: tuple[str, str] = ("-m", "hpcauxvae.train")
) -> list[subprocess.Popen[str]]:
    """Training, or another program, on so many processes of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
        "PYTHONPATH": ROOT,
    }
    command = [sys.executable, *program, *map(str, arguments)]
    ranks = []
    for rank in range(count):
        own = {key: str(value) for key, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        ranks.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | own)
        )
    return ranks


def ends(ranks: list[subprocess.Popen[str]], timeout: float = 120) -> tuple[list[int], list[str]]:
    """Exit codes and standard errors, once all have ended."""
    errors = [rank.communicate(timeout=timeout)[1] for rank in ranks]
    return [rank.returncode for rank in ranks], errors


def running(ranks: list[subprocess.Popen[str]], condition: Callable[[], bool], seconds: float = 120) -> None:
    """Waits until the condition holds, while all ranks run."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert all(rank.poll() is None for rank in ranks), ends(ranks)
        time.sleep(0.02)
