"""Trainings of files that hold more than images and factors: parts, ids, no factors, what is not used."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.samples import fits_in_memory
from hpcauxvae.evaluate.command import encode
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError


def holding(path: Path, factors: bool = True, **more: Any) -> Path:
    """The blobs, with more beside them, or without their factors."""
    data = open_set(blobs(path.with_name("plain.h5")))
    write(path, data.images[:], data.values if factors else None, FACTORS if factors else [], {}, **more)
    return path


def test_a_run_keeps_groups_together_and_remembers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = np.arange(160) % 40
    ids = [f"blob {n}" for n in range(160)]
    path = holding(
        tmp_path / "set.h5", group=group, id=ids, factor_errors=np.full((160, 3), 0.01), weights=np.ones((1, 1, 1, 1))
    )
    run = tmp_path / "run"
    alone(config(path, run, epochs=1, objective="tuned"))
    told = capsys.readouterr()
    assert "split by 40 groups, each in one part (seed 0): 112 training, 32 validation, 16 test samples" in told.out
    assert "factor_errors" not in told.err and "weights are not used by objective" in told.err
    train, validation, test = load_run(run).parts(open_set(path))
    assert load_run(run).split == "group"
    assert not (set(group[train]) & set(group[test]) or set(group[train]) & set(group[validation]))
    with pytest.raises(InputError, match="was trained with split = group, now random; allowed: the same"):
        alone(config(path, run, epochs=2, split="random", resume="auto", objective="tuned"))
    assert encode([str(run), str(path), str(tmp_path / "codes.h5"), "--device", "cpu"]) == 0
    with h5py.File(tmp_path / "codes.h5") as file:
        assert [name.decode() for name in file["id"]] == ids


def test_without_factors(tmp_path: Path) -> None:
    path = holding(tmp_path / "set.h5", factors=False)
    with pytest.raises(InputError, match=r"set\.h5: factor 'radius' is unknown: the file has no factors"):
        alone(config(path, tmp_path / "none", epochs=1))
    alone(config(path, tmp_path / "run", epochs=1, aux="", model="beta-vae"))
    alone(config(tmp_path / "plain.h5", tmp_path / "aux", epochs=1))
    for run in ("run", "aux"):
        out = tmp_path / f"{run}.h5"
        assert encode([str(tmp_path / run), str(path), str(out), "--device", "cpu"]) == 0
        with h5py.File(out) as file:
            assert file["mean"].shape == (160, 10) and np.isfinite(file["mean"]).all()


def test_missing_pixels_are_refused(tmp_path: Path) -> None:
    weights = np.ones((160, 1, 33, 33))
    weights[3, 0, 5, 5] = 0
    path = holding(tmp_path / "set.h5", weights=weights)
    with pytest.raises(InputError, match=r"set\.h5: images: 1 pixels are missing, which objective tuned cannot leave"):
        alone(config(path, tmp_path / "run", epochs=1, objective="tuned"))
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_objective_is_that_of_the_images_that_are_trained_on(tmp_path: Path) -> None:
    """Counts in the training part of the file, and nowhere else."""
    data = open_set(blobs(tmp_path / "plain.h5"))
    images, split = np.array(data.images), ["train"] * 112 + ["validation"] * 32 + ["test"] * 16
    images[112:] -= 50.5
    write(tmp_path / "set.h5", images, data.values, FACTORS, {}, split=split)
    for by, objective in (("auto", "tuned"), ("random", "gaussian")):
        alone(config(tmp_path / "set.h5", tmp_path / by, epochs=1, split=by))
        assert load_run(tmp_path / by).config.objective == objective


def test_weights_count_in_memory_as_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that all images share are kept once, but not where each image has missing pixels of its own."""
    room = (160 * 33 * 33 * 4) * 4 * 3 // 2  # a quarter of it: one and a half times the images
    monkeypatch.setattr("os.sysconf", lambda name: room if name == "SC_PHYS_PAGES" else 1)
    for missing, fits in ((None, True), ("nan", False)):
        path = tmp_path / f"{missing}.h5"
        holding(path, weights=np.ones((1, 1, 33, 33)), missing_pixels=missing)
        path.with_name("plain.h5").unlink()
        assert fits_in_memory(open_set(path), torch.device("cpu"), 1) is fits
