"""Angles and classes that are stored as plain numbers: what the images say of them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.likely_kinds import likely_kinds, turn_of
from hpcauxvae.types import Factor, InputError

RNG = np.random.default_rng(4)
SEEN = RNG.bit_generator.state
N = 1200
X, Y = np.meshgrid(*[np.linspace(-1, 1, 12)] * 2)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Whichever tests ran before."""
    RNG.bit_generator.state = SEEN


def arms(angle_N: np.ndarray) -> np.ndarray:
    """A bright arm at each angle, of different brightness, in noise."""
    along = X * np.cos(angle_N)[:, None, None] + Y * np.sin(angle_N)[:, None, None]
    across = -X * np.sin(angle_N)[:, None, None] + Y * np.cos(angle_N)[:, None, None]
    images = np.exp(-np.square(across / 0.2)) * (along > 0) * RNG.uniform(0.2, 2, (len(angle_N), 1, 1))
    return (images + 0.3 * RNG.standard_normal(images.shape))[:, None]


def said(path: Path, images: np.ndarray, **columns: np.ndarray) -> list[str]:
    factors = [Factor(name, "", float(np.nanmin(v)), float(np.nanmax(v))) for name, v in columns.items()]
    write(path, images, np.stack([*columns.values()], 1), factors, {})
    return [str(one) for one in likely_kinds(open_set(path), range(len(factors)))]


def test_an_angle_is_known_by_its_images(tmp_path: Path) -> None:
    turn, half = RNG.uniform(0, 2 * np.pi, N), RNG.uniform(0, np.pi, N)
    odd = turn / (2 * np.pi) * 700 + 11  # in a unit that nobody knows
    turn[5] = np.nan
    found = said(tmp_path / "a.h5", arms(np.nan_to_num(turn)), turn=turn, odd=odd, other=RNG.random(N))
    assert [line.partition(":")[0] for line in found] == ["turn", "odd"]
    assert all("images at its two ends are alike" in line for line in found)
    assert found[0].endswith("`data import` with --kind turn=periodic --range turn=0:6.283185")
    assert found[1].endswith("--range odd=LOW:HIGH, one turn")
    assert said(tmp_path / "b.h5", arms(half), half=half * 180 / np.pi) == []  # an arm turned by a half is another


def test_where_images_tell_nothing_the_values_do(tmp_path: Path) -> None:
    noise = RNG.standard_normal((N, 1, 6, 6))
    found = said(
        tmp_path / "a.h5", noise, azimuth=RNG.integers(0, 72, N) * 5.0, share=RNG.random(N), wide=RNG.uniform(0, 90, N)
    )
    assert len(found) == 1
    assert found[0].startswith("azimuth: its values go all round a turn, and the images do not tell: ")


def test_classes_are_known_from_steps(tmp_path: Path) -> None:
    pictures = RNG.standard_normal((10, 1, 8, 8))
    digit = RNG.integers(0, 10, N)
    images = pictures[digit] + 0.5 * RNG.standard_normal((N, 1, 8, 8))
    found = said(tmp_path / "a.h5", images, digit=digit.astype(float), thin=RNG.integers(0, 10, N).astype(float))
    assert found == [
        "digit: 10 different whole numbers, and images of neighbours differ as much as those of any two: where they "
        "are names of classes, `data import` with --kind digit=categorical"
    ]
    steps = np.cumsum(pictures, 0)[digit] + 0.5 * RNG.standard_normal((N, 1, 8, 8))
    assert said(tmp_path / "b.h5", steps, digit=digit.astype(float)) == []


@pytest.mark.parametrize(
    ("values", "turn"),
    [
        (np.arange(72) * 5.0, (0, 360)),
        (np.linspace(-180, 179, 50), (-180, 180)),
        (np.linspace(0.1, 179.9, 50), (0, 180)),
        (np.arange(24.0), (0, 24)),
        (np.linspace(0, 1, 30), (0, 1)),
        (np.linspace(-np.pi, np.pi, 30).astype(np.float32), (-np.pi, np.pi)),
        (np.arange(8) * 45.0, (0, 360)),
        (np.clip(np.random.default_rng(1).normal(size=500), -3.1, 3.1), None),
        (np.arange(1.0, 13), None),
        (np.linspace(0, 200, 50), None),
        (np.array([3.0, np.nan]), None),
    ],
)
def test_turns_as_they_are_written(values: np.ndarray, turn: tuple[float, float] | None) -> None:
    assert turn_of(values) == turn


def test_import_and_check_say_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    angle = RNG.uniform(0, 360, N)
    month = RNG.integers(1, 13, N)
    np.savez(tmp_path / "a.npz", image=arms(np.deg2rad(angle)), angle=angle, month=month)
    given = ["import", str(tmp_path / "a.npz")]
    assert main([*given, str(tmp_path / "a.h5"), "--processes", "1"]) == 0
    said = capfd.readouterr().out.splitlines()
    assert any(line.endswith("--kind angle=periodic --range angle=0:360") for line in said)
    (whole,) = (line.partition("all of that: hpcauxvae data ")[2] for line in said if "all of that: " in line)
    assert main(whole.split()) == 0  # as it stands there
    assert open_set(tmp_path / "a-kinds.h5").factors[0][2:5] == (0, 360, "periodic")
    capfd.readouterr()
    assert main([*given, str(tmp_path / "b.h5"), "--processes", "1", "--kind", "angle=periodic"]) == 0
    assert "angle: one turn is 0 to 360 (--range angle=LOW:HIGH says otherwise)\n" in capfd.readouterr().out
    with h5py.File(tmp_path / "b.h5") as file:
        assert [file["factors"].attrs[end][0] for end in ("low", "high")] == [0, 360]
    with pytest.raises(InputError, match="month=periodic: values from 1 to 12 do not tell what one turn is; allowed"):
        main([*given, str(tmp_path / "c.h5"), "--kind", "month=periodic"])
    assert not (tmp_path / "c.h5").exists()
