"""Validation and codes in pieces of bytes: the same answer, and no more images at once than fit."""

import errno
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from helpers.trainings import config
from hpcauxvae import cli
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate import encode, reader
from hpcauxvae.evaluate.command import EncodeConfig
from hpcauxvae.models import networks
from hpcauxvae.models.networks import images_at_once
from hpcauxvae.runtime import memory
from hpcauxvae.runtime.collectives import on_each_rank, start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import load_run
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import Factor, InputError


def pieces_of(count: int, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    quarter = 4 if shape[1] > 64 else 1  # is allowed for large images
    monkeypatch.setattr(networks, "_WORKING_BYTES", quarter * count * 4 * shape[1] * shape[2] * (shape[0] + 24))
    assert images_at_once(shape, 4096) == count


def most_images(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the encoder was given at once, as it goes."""
    seen: list[int] = []
    monkeypatch.setattr(model.encoder, "forward", spy(model.encoder.forward, seen))
    return seen


def spy(forward: Any, seen: list[int]) -> Any:
    def spied(images: torch.Tensor, *rest: Any) -> Any:
        seen.append(len(images))
        return forward(images, *rest)

    return spied


def test_small_images_go_as_they_did_and_large_ones_in_small_pieces() -> None:
    assert images_at_once((1, 33, 33), 4096) == 4096
    assert images_at_once((3, 64, 64), 512) == 512
    for shape in ((1, 64, 64), (3, 64, 64), (1, 256, 256), (3, 256, 256)):
        widest = 4 * 8 * shape[1] * shape[2]  # bytes of the first layer's output: 32 channels of half the size
        allowed = 200e6 if shape[1] == 64 else 50e6
        assert 1 <= images_at_once(shape, 4096) * widest < allowed
    assert images_at_once((1, 4096, 4096), 4096) == 1
    assert 1 <= images_at_once((1, 1, 8192), 4096) * 4 * 16 * 8192 < 50e6  # 32 channels of half the length


@pytest.mark.parametrize("objective", ["tuned", "reference"])
def test_validation_in_pieces_is_that_of_all_at_once(
    objective: str, blobs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terms of the codes, too: correlations of seven images are larger than those of all."""
    made = Trainer(
        config(blobs_file, tmp_path, objective=objective, network="mlp", dtype="float64"),
        start(find_world({}), "cpu"),
        open_set(blobs_file),
    )
    made.connect()
    whole, _ = made.validate(lambda: False) or ({}, None)
    pieces_of(7, (1, 33, 33), monkeypatch)
    seen = most_images(made.model, monkeypatch)
    parts, codes = made.validate(lambda: False) or ({}, None)
    assert max(seen) == 7 and sum(seen) == 2 * 32
    assert parts == pytest.approx(whole, rel=1e-9) and len(parts) > 5 and codes is not None


def test_images_of_256_are_read_and_decoded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 1, 256, 256), np.uint8)
    write(tmp_path / "set.h5", images, rng.uniform(size=(20, 1)), [Factor("a", "", 0, 1)], {})
    pieces_of(3, (1, 256, 256), monkeypatch)
    given = config(tmp_path / "set.h5", tmp_path / "run", aux="a", objective="bernoulli", batch_size=4)
    made = Trainer(given, start(find_world({}), "cpu"), open_set(given.data))
    made.connect()
    seen = most_images(made.model, monkeypatch)
    made.validate(lambda: False)
    assert max(seen) == 3


def test_encode_in_pieces(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes(name: str) -> np.ndarray:
        data = trained_run.parent / "blobs.h5"
        encode.run(EncodeConfig(run=trained_run, data=data, out=tmp_path / name, device="cpu"), find_world({}))
        with h5py.File(tmp_path / name) as file:
            return np.concatenate([file["mean"][:], file["logvar"][:], file["mse"][:][:, None]], 1)

    whole = codes("whole.h5")
    pieces_of(9, (1, 33, 33), monkeypatch)
    np.testing.assert_allclose(codes("pieces.h5"), whole, rtol=1e-4, atol=1e-5)
    run = load_run(trained_run)
    seen = most_images(run.model, monkeypatch)
    data = open_set(trained_run.parent / "blobs.h5")
    some = np.arange(3, 160, 2)
    mean_NZ, _ = run.encode(data.images, data.scaled()[some][:, :2], some)
    assert max(seen) == 9
    np.testing.assert_allclose(mean_NZ, whole[some, : mean_NZ.shape[1]], rtol=1e-4, atol=1e-5)


class OutOfMemoryError(RuntimeError):
    """As torch names that of an accelerator."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 12.0 GiB for an array"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried 99\nat"
        ),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_memory_that_is_not_there_is_one_line(
    error: Exception, within: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where whoever caught the error took it for one of the file."""
    monkeypatch.setattr(memory, "_advice", [])

    def fails() -> int:
        if within:
            raise InputError(f"x.h5: cannot be read: {error}") from error
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.run(fails)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.startswith("error: out of memory (x.h5: cannot" if within else "error: out of memory (")
    assert "less is needed" not in said
    with pytest.raises(InputError, match="out of memory"):
        on_each_rank(fails, start(find_world({}), "cpu"))
    assert memory_fault(RuntimeError("shapes do not match")) is None and memory_fault(OSError(errno.ENOENT, "")) is None


@pytest.mark.parametrize(
    ("command", "advice"),
    [("train", "a lower --batch-size,"), ("evaluate", "--no-control\n"), ("generate", "fewer images in a --sweep\n"),
     ("sensitivity", "a lower --samples\n"), ("encode", "--no-image-scores\n")],
)  # fmt: skip
def test_the_advice_is_on_options_of_the_command(
    command: str, advice: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(arguments: list[str]) -> int:
        raise MemoryError

    module, _, function = cli.COMMANDS[command][0].partition(":")
    monkeypatch.setattr(f"{module}.{function or 'main'}", fails)
    monkeypatch.setattr(memory, "_advice", [])
    monkeypatch.setattr("sys.argv", ["hpcauxvae", command])
    with pytest.raises(SystemExit):
        cli.main()
    assert f"(an allocation failed); less is needed with {advice}" in capsys.readouterr().err
    monkeypatch.undo()
    for option in re.findall(r"--(?:no-)?([a-z-]+)", advice):
        with pytest.raises(SystemExit):
            cli._dispatch([command, "--help"])
        assert f"-{option}" in capsys.readouterr().out


def test_a_checkpoint_for_which_there_is_no_memory_is_not_damaged(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an older one nor a new reader takes its place."""

    def fails(*_: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(checkpoint.safetensors, "safe_open", fails)
    with pytest.raises(InputError) as raised:
        checkpoint.read(trained_run / checkpoint.LAST)
    assert not isinstance(raised.value, checkpoint.Damaged) and memory_fault(raised.value)
    with pytest.raises(InputError):
        reader._load(torch.nn.Linear(1, 1), trained_run / checkpoint.LAST, {})  # type: ignore[arg-type]
