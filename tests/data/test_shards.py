"""What HDF5 would read as fill values, or from the wrong place, without a word: each case is named."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.set_files import FACTORS, SHAPE, F, N, content
from hpcauxvae.data.checksums import checksum, create_checksums
from hpcauxvae.data.hdf5 import open_set, validate, write
from hpcauxvae.data.rules import FIELDS
from hpcauxvae.types import InputError

Rows = tuple[int, int]
HALVES: dict[str, Rows] = {"shard0.h5": (0, 12), "shard1.h5": (12, N)}


def pixels(kind: str) -> np.ndarray:
    images = content()[0]
    return (images * 40 + 120).astype(kind)


def shard_files(folder: Path, kind: str) -> None:
    for name, (low, high) in HALVES.items():
        with h5py.File(folder / name, "w") as file:
            file["images"], file["factors"] = pixels(kind)[low:high], content()[1][low:high]


def virtual(path: Path, parts: dict[str, Rows], kind: str, images: str = "images") -> Path:
    """A set over these files: each holds some of its rows, all of that file's. No fill value, as h5py has it."""
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 1
        for name, source, shape, dtype in (("images", images, SHAPE, kind), ("factors", "factors", (N, F), "f8")):
            layout = h5py.VirtualLayout(shape, dtype)
            for part, (low, high) in parts.items():
                layout[low:high] = h5py.VirtualSource(part, source, (high - low, *shape[1:]), dtype)
            file.create_virtual_dataset(name, layout)
        for field in FIELDS:
            file["factors"].attrs[field] = [getattr(factor, field) for factor in FACTORS]
    return path


def nested(folder: Path, kind: str, depth: int) -> Path:
    """A set over a set over ... over the two shards."""
    shard_files(folder, kind)
    path = virtual(folder / "level0.h5", HALVES, kind)
    for level in range(1, depth + 1):
        path = virtual(folder / f"level{level}.h5", {path.name: (0, N)}, kind)
    return path


def assert_reads(path: Path, expected: np.ndarray) -> None:
    assert validate(path) == []
    data = open_set(path)
    np.testing.assert_array_equal(data.images[:], expected)
    np.testing.assert_array_equal(data.images[np.array([15, 2])], expected[[15, 2]])
    np.testing.assert_array_equal(data.values, content()[1])


def assert_lost(path: Path, *messages: str) -> None:
    assert [error.removeprefix(f"{path}: ") for error in validate(path)[: len(messages)]] == list(messages)
    with pytest.raises(InputError, match=re.escape(f"{path}: {messages[0]}")):
        open_set(path)


@pytest.mark.parametrize("kind", ["f4", "u1", ">f4"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_lost_shard_is_named_at_any_depth(tmp_path: Path, kind: str, depth: int) -> None:
    path = nested(tmp_path, kind, depth)
    assert_reads(path, pixels(kind))
    (tmp_path / "shard1.h5").unlink()
    lost = f"shard {tmp_path / 'shard1.h5'}: no such file"
    assert_lost(path, f"images, {lost}", f"factors, {lost}")


def test_a_virtual_set_is_read_wherever_the_reader_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nested(tmp_path, "f4", 1)
    monkeypatch.chdir("/")
    assert_reads(path, pixels("f4"))


def test_shards_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.h5").symlink_to(nested(tmp_path / "real", "u1", 1))
    assert_reads(tmp_path / "link.h5", pixels("u1"))


def test_shards_named_absolutely_that_moved_with_the_set(tmp_path: Path) -> None:
    (old := tmp_path / "old").mkdir()
    shard_files(old, "u1")
    virtual(old / "set.h5", {str(old / name): rows for name, rows in HALVES.items()}, "u1")
    shutil.move(old, tmp_path / "new")
    assert_reads(tmp_path / "new" / "set.h5", pixels("u1"))
    (tmp_path / "new" / "shard0.h5").unlink()
    assert_lost(tmp_path / "new" / "set.h5", f"images, shard {old / 'shard0.h5'}: no such file")


def test_sources_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "same.h5"
    with h5py.File(path, "w") as file:
        file["raw"], file["labels"] = pixels("u1"), content()[1]
        for name, source, shape, kind in (("images", "raw", SHAPE, "u1"), ("factors", "labels", (N, F), "f8")):
            layout = h5py.VirtualLayout(shape, kind)
            layout[:] = h5py.VirtualSource(file[source])
            file.create_virtual_dataset(name, layout)
        file.attrs["format_version"] = 1
        for field in FIELDS:
            file["factors"].attrs[field] = [getattr(factor, field) for factor in FACTORS]
    assert_reads(path, pixels("u1"))
    with h5py.File(path, "r+") as file:
        del file["raw"]
    assert_lost(path, f"images, shard {path}: has no data set /raw")


def test_a_shard_that_is_cut_or_short(tmp_path: Path) -> None:
    path = nested(tmp_path, "f4", 1)
    with h5py.File(tmp_path / "shard1.h5", "r+") as file:
        del file["images"]
        file["images"] = pixels("f4")[12:-1]
    short = f"images, shard {tmp_path / 'shard1.h5'}: images has shape (7, 2, 4, 5); (8, 2, 4, 5), more"
    assert_lost(path, f"{short} only in its first axis, is needed")
    os.truncate(tmp_path / "shard0.h5", (tmp_path / "shard0.h5").stat().st_size - 1000)
    assert f"images, shard {tmp_path / 'shard0.h5'}: cannot be read as HDF5: " in validate(path)[0]


def test_a_part_of_a_shard(tmp_path: Path) -> None:
    shard_files(tmp_path, "f4")
    path = virtual(tmp_path / "set.h5", HALVES, "f4")
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "shard1.h5", "r+") as shard:
        layout = h5py.VirtualLayout(SHAPE, "f4")
        layout[:12] = h5py.VirtualSource("shard0.h5", "images", (12, *SHAPE[1:]), "f4")
        layout[12:] = h5py.VirtualSource("shard1.h5", "images", (9, *SHAPE[1:]), "f4")[1:]
        del file["images"], shard["images"]
        file.create_virtual_dataset("images", layout)
        shard["images"] = pixels("f4")[11:]
    assert_reads(path, pixels("f4"))
    with h5py.File(tmp_path / "shard1.h5", "r+") as shard:
        del shard["images"]
        shard["images"] = pixels("f4")[12:]
    short = f"shard {tmp_path / 'shard1.h5'}: images has shape (8, 2, 4, 5); at least (9, 2, 4, 5) is needed"
    assert_lost(path, f"images, {short}")


def test_a_shard_of_wider_images_which_hdf5_would_scramble(tmp_path: Path) -> None:
    path = nested(tmp_path, "f4", 0)
    with h5py.File(tmp_path / "shard0.h5", "r+") as file:
        del file["images"]
        file["images"] = np.pad(pixels("f4")[:12], ((0, 0), (0, 0), (0, 0), (0, 3)))
    shape = f"shard {tmp_path / 'shard0.h5'}: images has shape (12, 2, 4, 8); (12, 2, 4, 5), more only in"
    assert_lost(path, f"images, {shape} its first axis, is needed")


@pytest.mark.parametrize(("held", "fits"), [("f8", True), (">f4", True), ("u1", True), ("f4", False), ("u2", False)])
def test_a_shard_of_another_type(tmp_path: Path, held: str, fits: bool) -> None:
    shard_files(tmp_path, held)
    path = virtual(tmp_path / "set.h5", HALVES, "f4" if fits else "u1")
    if fits:
        assert_reads(path, pixels(held).astype("f4"))
    else:
        name = np.dtype(held).name
        lost = f"shard {tmp_path / 'shard0.h5'}: images has type {name}, which uint8 would cut off"
        assert_lost(path, f"images, {lost}")


@pytest.mark.parametrize(("field", "unit"), [("name", "spin, mass, age"), ("unit", "kg, , s")])
def test_a_shard_of_other_columns_or_units(tmp_path: Path, field: str, unit: str) -> None:
    shard_files(tmp_path, "u1")
    path = virtual(tmp_path / "set.h5", HALVES, "u1")
    own = [getattr(factor, field) for factor in FACTORS]
    with h5py.File(tmp_path / "shard0.h5", "r+") as file:
        file["factors"].attrs[field] = np.array(own, "S")
    assert_reads(path, pixels("u1"))
    with h5py.File(tmp_path / "shard1.h5", "r+") as file:
        file["factors"].attrs[field] = unit.split(", ")
    found = f"factors has {field} {unit!r}; {', '.join(own)!r}, as in the set, is needed"
    assert_lost(path, f"factors, shard {tmp_path / 'shard1.h5'}: {found}")


@pytest.mark.parametrize("kind", ["f4", "u1"])
def test_samples_that_are_in_no_shard(tmp_path: Path, kind: str) -> None:
    shard_files(tmp_path, kind)
    path = virtual(tmp_path / "set.h5", {"shard0.h5": (0, 12)}, kind)
    hole = "sample 12 is in no shard, or not all of it (8 such samples)"
    assert_lost(path, f"images: {hole}", f"factors: {hole}")


def test_a_file_for_each_image_interleaved_samples_and_a_channel_each(tmp_path: Path) -> None:
    """Layouts that are in order, and the same without a file."""
    expected = pixels("u1")
    write(tmp_path / "set.h5", expected, content()[1], FACTORS, {})

    def laid(fill: Callable[[h5py.VirtualLayout], None]) -> Path:
        layout = h5py.VirtualLayout(SHAPE, "u1")
        fill(layout)
        with h5py.File(tmp_path / "set.h5", "r+") as file:
            del file["images"]
            file.create_virtual_dataset("images", layout)
        return tmp_path / "set.h5"

    def stored(name: str, data: np.ndarray) -> h5py.VirtualSource:
        with h5py.File(tmp_path / name, "w") as file:
            file["pixels"] = data
        return h5py.VirtualSource(name, "pixels", data.shape, "u1")

    def images(layout: h5py.VirtualLayout) -> None:
        for number, image in enumerate(expected):
            layout[number] = stored(f"image{number}.h5", image)

    def interleaved(layout: h5py.VirtualLayout) -> None:
        for first in range(3):
            layout[first::3] = stored(f"third{first}.h5", expected[first::3])

    def channels(layout: h5py.VirtualLayout) -> None:
        for channel in range(SHAPE[1]):
            layout[:, channel] = stored(f"channel{channel}.h5", expected[:, channel])

    for fill, last in ((images, "image19.h5"), (interleaved, "third2.h5"), (channels, "channel1.h5")):
        assert_reads(laid(fill), expected)
        (tmp_path / last).unlink()
        assert_lost(tmp_path / "set.h5", f"images, shard {tmp_path / last}: no such file")
    layout = h5py.VirtualLayout(SHAPE, "u1")
    layout[:, 0] = stored("channel0.h5", expected[:, 0])
    with h5py.File(tmp_path / "set.h5", "r+") as file:
        del file["images"]
        file.create_virtual_dataset("images", layout)
    assert_lost(tmp_path / "set.h5", "images: sample 0 is in no shard, or not all of it (20 such samples)")


def test_shards_that_name_each_other(tmp_path: Path) -> None:
    virtual(tmp_path / "a.h5", {"b.h5": (0, N)}, "f4")
    virtual(tmp_path / "b.h5", {"a.h5": (0, N)}, "f4")
    assert validate(tmp_path / "a.h5")[0] == (
        f"{tmp_path / 'a.h5'}: images, shard {tmp_path / 'a.h5'}: images is a shard of itself"
    )


def test_a_virtual_set_without_end(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    write(path, *content(), FACTORS, {})
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "growing.h5", "w") as shard:
        growing = {"shape": SHAPE, "maxshape": (None, *SHAPE[1:])}
        shard.create_dataset("images", data=content()[0], maxshape=growing["maxshape"])
        layout = h5py.VirtualLayout(dtype="f4", **growing)
        source = h5py.VirtualSource("growing.h5", "images", dtype="f4", **growing)
        layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        del file["images"]
        file.create_virtual_dataset("images", layout)
    assert "images: is a virtual data set of no fixed size; allowed: " in validate(path)[0]


def relaid(path: Path, fill: Callable[[h5py.File], None], kind: str = "u1") -> Path:
    """A set whose images are stored anew."""
    write(path, pixels(kind), content()[1], FACTORS, {})
    with h5py.File(path, "r+") as file:
        del file["images"]
        fill(file)
    return path


def test_what_was_never_written(tmp_path: Path) -> None:
    assert_lost(
        relaid(tmp_path / "a.h5", lambda f: f.create_dataset("images", SHAPE, "u1")), "images: nothing was ever written"
    )

    def chunks(file: h5py.File) -> None:
        file.create_dataset("images", SHAPE, "u1", chunks=(6, 2, 4, 5), compression="gzip")[:12] = pixels("u1")[:12]

    assert_lost(relaid(tmp_path / "b.h5", chunks), "images: 2 of 4 chunks were never written")
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        file["images"][12:] = pixels("u1")[12:]
    assert_reads(tmp_path / "b.h5", pixels("u1"))
    part = tmp_path / "shard1.h5"
    path = nested(tmp_path, "u1", 1)
    with h5py.File(part, "r+") as file:
        del file["images"]
        file.create_dataset("images", (N - 12, *SHAPE[1:]), "u1")
    assert_lost(path, f"images, shard {part}: images nothing was ever written")


def test_raw_files_whose_loss_hdf5_hides(tmp_path: Path) -> None:
    pixels("u1").tofile(tmp_path / "raw.bin")
    external = [(tmp_path / "raw.bin", 0, h5py.h5f.UNLIMITED)]
    path = relaid(tmp_path / "a.h5", lambda file: file.create_dataset("images", SHAPE, "u1", external=external))
    assert_lost(
        path,
        f"images: lies in raw files beside it ({tmp_path / 'raw.bin'}), whose loss HDF5 hides; allowed: in HDF5 files",
    )


def test_images_in_a_file_that_is_linked_to(tmp_path: Path) -> None:
    """They are not read from where they would lie in the file that links."""

    def link(file: h5py.File) -> None:
        file["before"] = np.zeros(5000)
        file["images"] = h5py.ExternalLink("other.h5", "/pixels")

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["pixels"] = pixels("f4")
    path = relaid(tmp_path / "set.h5", link, "f4")
    assert_reads(path, pixels("f4"))
    (tmp_path / "other.h5").unlink()
    assert_lost(path, "images: missing in other.h5, to which it links; needs a data set (N, C, H, W)")


def test_checksums_that_do_not_cover_the_images(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    write(path, *content(), FACTORS, {})
    with h5py.File(path, "r+") as file:
        create_checksums(file, N, 6)[:] = [checksum(content()[0][low : low + 6]) for low in range(0, N, 6)]
    assert validate(path) == []
    with h5py.File(path, "r+") as file:
        kept, attributes = file["checksums"][:3], dict(file["checksums"].attrs)
        del file["checksums"]
        file["checksums"] = kept
    assert "checksums: shape (3,), rows = 0: not a number" in validate(path)[0]
    with h5py.File(path, "r+") as file:
        file["checksums"].attrs.update(attributes)
    assert "checksums: shape (3,), rows = 6: not a number" in validate(path)[0]
