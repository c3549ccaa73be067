"""Either byte order in every data set and layout: every reader sees the same numbers, in the machine's own order."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from helpers.trainings import alone, config
from hpcauxvae.data.checksums import checksum, create_checksums
from hpcauxvae.data.hdf5 import check_pixels, open_set, validate
from hpcauxvae.data.pixels import look_at
from hpcauxvae.data.samples import Samples
from hpcauxvae.evaluate.command import EncodeConfig, EvaluateConfig
from hpcauxvae.evaluate.encode import encode
from hpcauxvae.evaluate.scores import evaluate
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.run import load_run

LAYOUTS: dict[str, dict[str, object]] = {
    "contiguous": {},
    "chunked": {"chunks": (7, 1, 33, 33)},
    "compressed": {"chunks": (7, 1, 33, 33), "compression": "gzip", "shuffle": True, "fletcher32": True},
}


def restored(source: Path, path: Path, order: str, layout: str) -> Path:
    """The set with its images, factors, their ranges, checksums and the version in this byte order and layout."""
    with h5py.File(source) as old, h5py.File(path, "w") as file:
        images, values = (old[name][:].astype(old[name].dtype.newbyteorder(order)) for name in ("images", "factors"))
        file.attrs["format_version"] = np.array(1, f"{order}i8")
        crcs = [checksum(images[low : low + 64]) for low in range(0, len(images), 64)]
        create_checksums(file, len(images), 64)
        del file["checksums"]
        file["checksums"] = np.array(crcs, f"{order}u4")
        file["checksums"].attrs["rows"] = np.array(64, f"{order}i4")
        if layout.startswith("virtual"):
            shard_order = {"<": ">", ">": "<"}[order] if layout == "virtual over other" else order
            for name, data in (("images", images), ("factors", values)):
                whole = h5py.VirtualLayout(data.shape, data.dtype)
                for number, rows in enumerate((slice(0, 70), slice(70, len(data)))):
                    part = data[rows].astype(data.dtype.newbyteorder(shard_order))
                    with h5py.File(path.with_name(f"{path.stem}.{number}.h5"), "a") as shard:
                        shard[name] = part
                    whole[rows] = h5py.VirtualSource(f"{path.stem}.{number}.h5", name, part.shape, part.dtype)
                file.create_virtual_dataset(name, whole)
        else:
            file.create_dataset("images", data=images, **LAYOUTS[layout])
            file["factors"] = values
        for field, value in old["factors"].attrs.items():
            numbers = np.asarray(value)
            file["factors"].attrs[field] = numbers.astype(f"{order}f8") if numbers.dtype.kind == "f" else value
    return path


@pytest.mark.parametrize("layout", [*LAYOUTS, "virtual", "virtual over other"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_reader_sees_the_same(blobs_file: Path, tmp_path: Path, order: str, layout: str) -> None:
    expected, data = open_set(blobs_file), open_set(restored(blobs_file, tmp_path / "set.h5", order, layout))
    assert validate(data.path) == []
    check_pixels(data)
    assert isinstance(data.images, np.memmap) == (layout == "contiguous" and order == "<")
    assert data.factors == expected.factors and data.fingerprint == expected.fingerprint
    assert data.images.dtype.isnative and data.values.dtype.isnative and data.images[:3].dtype.isnative
    np.testing.assert_array_equal(data.images[:], expected.images)
    np.testing.assert_array_equal(data.values, expected.values)
    for found, known in zip(look_at(data.images), look_at(expected.images), strict=True):
        np.testing.assert_array_equal(found, known)
    index_SB = torch.randperm(160).view(10, 16)
    for in_memory in (True, False):
        samples = Samples(data, torch.device("cpu"), torch.float32, in_memory)
        reference = Samples(expected, torch.device("cpu"), torch.float32, in_memory)
        for found, known in zip(samples.stream(index_SB), reference.stream(index_SB), strict=True):
            assert torch.equal(found.images, known.images) and torch.equal(found.factors, known.factors)


def test_a_changed_image_is_found_by_its_checksum(blobs_file: Path, tmp_path: Path) -> None:
    path = restored(blobs_file, tmp_path / "set.h5", ">", "contiguous")
    with h5py.File(path, "r+") as file:
        file["images"][70, 0, 0, 0] += 1
    assert "images: samples 64 to 127 do not match their checksum" in validate(path)[0]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["contiguous", "virtual"])
def test_a_training_of_either_byte_order_ends_with_the_same_weights(
    trained_run: Path, tmp_path: Path, layout: str
) -> None:
    data = restored(trained_run.parent / "blobs.h5", tmp_path / "big.h5", ">", layout)
    assert alone(config(data, tmp_path / "run", epochs=2)) == 0
    known = load_run(trained_run).model.state_dict()
    for name, weight in load_run(tmp_path / "run").model.state_dict().items():
        assert torch.equal(weight, known[name]), name


@pytest.mark.slow
def test_codes_and_scores_of_either_byte_order_are_the_same(trained_run: Path, tmp_path: Path) -> None:
    known = trained_run.parent / "blobs.h5"
    big = restored(known, tmp_path / "big.h5", ">", "compressed")
    scores = []
    for number, data in enumerate((known, big)):
        out = tmp_path / f"{number}.h5"
        assert (
            encode(EncodeConfig(run=trained_run, data=data, out=out, device="cpu"), start(find_world({}), "cpu")) == 0
        )
        run = shutil.copytree(trained_run, tmp_path / f"run{number}", symlinks=True)
        scores.append(evaluate(EvaluateConfig(run=run, data=data, device="cpu", pictures=False, control=False))["sets"])
        del scores[-1]["test"]["data"]
    with h5py.File(tmp_path / "0.h5") as one, h5py.File(tmp_path / "1.h5") as other:
        for name in one:
            np.testing.assert_array_equal(one[name][:], other[name][:])
    assert scores[0] == scores[1]
