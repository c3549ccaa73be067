"""What the preflight finds, on one process and on several."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcauxvae.cluster.command import PreflightConfig
from hpcauxvae.cluster.preflight import check_data, check_kernel, check_ranks, check_space, judge, preflight
from hpcauxvae.data.hdf5 import write
from hpcauxvae.dependence import native
from hpcauxvae.runtime.launchers import World
from hpcauxvae.types import Factor, InputError

ALONE = World(0, 1, 0, 1, "alone")


def seen(**own: object) -> dict[str, object]:
    return {"host": "n1", "error": None, "gpu": "", "fingerprint": None} | own


@pytest.fixture
def data(tmp_path: Path) -> Path:
    factors = np.random.default_rng(0).uniform(size=(100, 2))
    names = [Factor("a", "", 0, 1), Factor("b", "", 0, 1)]
    write(tmp_path / "data.h5", np.ones((100, 1, 4, 4), np.float32), factors, names, {})
    return tmp_path / "data.h5"


def test_everything_in_order(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "PMI_", "MPI_"))]:
        monkeypatch.delenv(name)
    config = PreflightConfig(
        ranks=1, data=data, aux="b,a", out=tmp_path / "runs" / "x", device="cpu", without_kernel=True
    )
    assert preflight(config) == "preflight passed: ranks 1, nodes 1, GPUs 0"
    assert not (tmp_path / "runs").exists()


def test_fewer_ranks_than_the_job_has() -> None:
    with pytest.raises(InputError, match=r"world size 1 \(found by: alone\), but the job has 4 ranks"):
        check_ranks(ALONE, 4)


def test_data(data: Path) -> None:
    with pytest.raises(InputError, match="factor 'c' is unknown; known are a, b"):
        check_data(data, "a,c")
    images = np.memmap(data, mode="r+", dtype=np.uint8)
    whole = np.asarray(images).tobytes()
    at = whole.index(np.ones(16, np.float32).tobytes())
    images[at : at + 4] = np.frombuffer(np.float32("nan").tobytes(), np.uint8)
    images.flush()
    with pytest.raises(InputError, match="sample 0 has pixels that are not finite"):
        check_data(data, "a")


def test_space(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free / 1e9
    check_space(tmp_path / "new" / "run", free / 2)
    with pytest.raises(
        InputError, match=rf"{tmp_path}: .* GB free; this job needs .* GB \(--space-gb; in a script SPACE_GB\)"
    ):
        check_space(tmp_path / "new" / "run", free * 2)
    with pytest.raises(InputError, match="/proc: cannot be written"):
        check_space(Path("/proc/run"), 0)


def test_without_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "core", None)
    with pytest.raises(InputError, match=r"is not compiled, or cannot be loaded here; .*--without-kernel"):
        check_kernel(torch.device("cpu"))


def test_kernel_for_gpus_only_where_it_is_compiled_for_them() -> None:
    core = pytest.importorskip("hpcauxvae.dependence._core")
    check_kernel(torch.device("cpu"))
    if not core.cuda_compiled:
        with pytest.raises(
            InputError, match=r"compiled without CUDA; .*: --without-kernel \(in a script PREFLIGHT_OPTIONS="
        ):
            check_kernel(torch.device("cuda"))
    elif not core.cuda_device_count():
        with pytest.raises(
            InputError, match=r"cannot run on this GPU: .*: --without-kernel \(in a script PREFLIGHT_OPTIONS="
        ):
            check_kernel(torch.device("cuda"))


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([seen(gpu="n1 A"), seen(gpu="n1 B"), seen(gpu="n2 A", host="n2")], None),
        ([seen(gpu="n1 A"), seen(gpu="n1 B"), seen(gpu="n1 A")], "ranks 0 and 2 share one GPU of n1; "),
        ([seen(), seen()], None),
        ([seen(fingerprint="x"), seen(), seen(fingerprint="x", host="n2")], None),
        ([seen(fingerprint="x"), seen(), seen(fingerprint="y", host="n2")], "fingerprint x on n1, y on n2"),
        ([seen(), seen(error="f.h5: no such file", host="n2")], "f.h5: no such file (rank 1 on n2)"),
    ],
)
def test_what_the_ranks_see_together(ranks: list[dict[str, object]], message: str | None) -> None:
    found = judge(ranks)
    assert found == message or (message is not None and found is not None and message in found)


def start(rank: int, size: int, *arguments: str, port: int) -> subprocess.Popen[str]:
    """A rank as torchrun would start it."""
    env = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "False"}
    command = [sys.executable, "-m", "hpcauxvae", "preflight", "--without-kernel", "--device", "cpu", *arguments]
    whole = {**os.environ, **{name: str(value) for name, value in env.items()}}
    return subprocess.Popen(command, env=whole, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.processes
def test_a_finding_of_one_rank_ends_both_with_one_line(data: Path, tmp_path: Path) -> None:
    arguments = ["--ranks", "2", "--out", str(tmp_path), "--seconds", "60"]
    good = [start(rank, 2, *arguments, "--data", str(data), port=28_713) for rank in range(2)]
    assert [(*rank.communicate(timeout=120), rank.returncode)[0::2] for rank in good] == [
        ("preflight passed: ranks 2, nodes 1, GPUs 0\n", 0)
    ] * 2
    bad = [start(rank, 2, *arguments, "--data", str(data) + "x" * (rank == 0), port=28_714) for rank in range(2)]
    for rank in bad:
        out, err = rank.communicate(timeout=120)
        assert (rank.returncode, out) == (2, "")
        assert err.count("\n") == 1 and "data.h5x: no such file (rank 0 on " in err


@pytest.mark.slow
@pytest.mark.processes
def test_a_rank_that_waits_for_nobody() -> None:
    process = start(0, 2, "--ranks", "2", "--seconds", "3", port=28_715)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: preflight not through in 3 s: still waiting for the other ranks to join rank 0 on \S+\n", err
    )
