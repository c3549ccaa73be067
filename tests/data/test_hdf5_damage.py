"""Chunks that cannot be read are named with file and rows, by the validator and by every reader."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.set_files import FACTORS, F, N, assert_refused, content, rewrite_images
from hpcauxvae.data.checksums import checksum, checksum_errors, create_checksums
from hpcauxvae.data.hdf5 import check_pixels, open_set, validate, write
from hpcauxvae.types import InputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    path = tmp_path / "set.h5"
    write(path, *content(), FACTORS, {})
    return path


def damage(path: Path, name: str, row: int) -> None:
    """Turns over bits of the compressed chunk that holds this row, as a worn-out disk does."""
    with h5py.File(path) as file:
        stored = file[name].id
        chunk = next(c for c in map(stored.get_chunk_info, range(stored.get_num_chunks())) if c.chunk_offset[0] == row)
    content = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 20] = bytes(byte ^ 0xFF for byte in content[middle : middle + 20])
    path.write_bytes(content)


def test_a_damaged_chunk_is_named(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rewrite_images(path, chunks=(5, 2, 4, 5), compression="gzip")
    with h5py.File(path, "r+") as file:
        create_checksums(file, N, 5)[:] = [checksum(file["images"][rows : rows + 5]) for rows in range(0, N, 5)]
        file["factors"][2, 0] = 9
    assert [error.split(": ")[1] for error in validate(path)] == ["factors, mass"]
    damage(path, "images", 10)
    assert_refused(path, "factors, mass: 9.0 of sample 2 is outside", capfd)
    assert validate(path)[1].startswith(f"{path}: images: samples 0 to 19 cannot be read, the file is damaged: ")
    with h5py.File(path, "r+") as file:
        file["factors"][2, 0] = 11
        with pytest.raises(InputError, match=r"set\.h5: images: samples 10 to 14 cannot be read, the file is damaged"):
            list(checksum_errors(file))
    data = open_set(path)
    np.testing.assert_array_equal(data.images[[4, 3]], content()[0][[4, 3]])
    for index, rows in ((12, "sample 12"), (slice(8, 13), "samples 8 to 12"), ([14, 3, 11], "samples 3 to 14")):
        with pytest.raises(InputError, match=rf"set\.h5: images: {rows} cannot be read, the file is damaged"):
            data.images[index]
    with pytest.raises(InputError, match="samples 0 to 19 cannot be read"):
        check_pixels(data)


def test_damaged_factors_are_named(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        attributes = dict(file["factors"].attrs)
        del file["factors"]
        file.create_dataset("factors", data=content()[1], chunks=(5, F), compression="gzip").attrs.update(attributes)
    damage(path, "factors", 5)
    with pytest.raises(InputError, match=r"set\.h5: factors: samples 0 to 19 cannot be read"):
        open_set(path)
    assert len(validate(path)) == 1


@pytest.mark.parametrize("mark", [b"\x89HDF", b"HEAP", b"TREE", b"SNOD"])
def test_a_damaged_header_is_one_line(path: Path, mark: bytes) -> None:
    """HDF5 has an exception of its own for each of its parts. Other damages of headers make it turn round for ever."""
    good = path.read_bytes()
    assert mark in good
    path.write_bytes(good.replace(mark, b"?" + mark[1:]))
    with pytest.raises(InputError, match=r"set\.h5: cannot be read( as HDF5|, the file is damaged): "):
        open_set(path)
    assert len(validate(path)) == 1


def test_checksums_that_are_no_data_set(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_group("checksums")
    assert validate(path) == [f"{path}: checksums: is no data set; allowed: a number for each block of samples"]
