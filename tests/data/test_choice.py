"""Which objective suits a set: counts, pictures and fields of every kind, and no odd pixel that decides."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcauxvae.data.choice import bernoulli_nats, choose, judge, pixels_of
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.train.command import main as train
from hpcauxvae.types import Factor, InputError

N = 200
RNG = np.random.default_rng(0)
Y, X = np.mgrid[-1:1:16j, -1:1:16j]
BLOBS = RNG.uniform(30, 300, (N, 1, 1, 1)) * np.exp(-(X**2 + Y**2) / RNG.uniform(0.1, 0.5, (N, 1, 1, 1)))
"""Expected counts of light on a dark ground."""
WAVES = np.sin(3 * X + RNG.uniform(0, 6, (N, 1, 1, 1))) + 0.1 * RNG.normal(size=(N, 1, 16, 16))
SCANS = (255 * BLOBS / BLOBS.max((1, 2, 3), keepdims=True)).round()

SETS: dict[str, tuple[Any, str, str]] = {
    "counts": (RNG.poisson(BLOBS), "tuned", ""),
    "bright counts": (RNG.poisson(400 * BLOBS), "tuned", ""),
    "counts less a known bias of no whole number": (RNG.poisson(BLOBS + 40) + 0.3, "tuned", ""),
    "expected counts": (BLOBS, "tuned", "gaussian"),
    "counts of which a sky was taken away": (RNG.poisson(BLOBS + 40) - 40, "gaussian", ""),
    "a scanner's bytes": (SCANS.astype(np.uint8), "bernoulli", ""),
    "the same as floating point": (SCANS, "bernoulli", ""),
    "bytes that are never white": ((SCANS * 0.7).astype(np.uint8), "bernoulli", "tuned"),
    "counts in bytes": (RNG.poisson(BLOBS / 2).clip(0, 255).astype(np.uint8), "tuned", "bernoulli"),
    "black and white": ((BLOBS > 50).astype(np.uint8), "bernoulli", ""),
    "pictures from 0 to 1": (SCANS / 255, "bernoulli", ""),
    "shares from .4 to .9": (0.65 + 0.2 * WAVES / abs(WAVES).max(), "bernoulli", "gaussian"),
    "kelvin": (285 + 15 * Y + 2 * WAVES, "gaussian", ""),
    "anomalies": (2 * WAVES, "gaussian", ""),
    "all below 0": (WAVES - 9, "gaussian", ""),
    "a small physical unit": (1e-4 * (WAVES + 3), "gaussian", ""),
}


def test_pictures_of_which_bernoulli_sees_too_little_are_fields(tmp_path: Path) -> None:
    """Few grey pixels: no latent would be worth its KL. The same in black and white tell more, and more pixels do."""
    tall, wide = np.mgrid[-1:1:8j, -1:1:8j]
    waves = np.sin(3 * wide + RNG.uniform(0, 6, (N, 1, 1, 1))) * np.cos(3 * tall + RNG.uniform(0, 6, (N, 1, 1, 1)))
    grey = (8 + 8 * waves).round()
    large = np.kron(grey, np.ones((8, 8)))
    for name, images, objective in (
        ("grey", grey, "gaussian"),
        ("large", large, "bernoulli"),
        ("flat", 0 * grey, "bernoulli"),
    ):
        write(tmp_path / f"{name}.h5", images.astype(np.uint8), np.zeros((N, 0)), (), {})
        assert choose(open_set(tmp_path / f"{name}.h5")).objective == objective, name
    small = grey.reshape(N, -1) / 16
    parts = np.linalg.svd(small - small.mean(0), full_matrices=False)
    drawn = small.mean(0) + (parts[0][:, :10] * parts[1][:10]) @ parts[2][:10]
    loss = [
        -(small * np.log(p) + (1 - small) * np.log(1 - p)).sum(1).mean()
        for p in (small.mean(0), drawn.clip(1e-3, 0.999))
    ]
    assert bernoulli_nats(grey) == pytest.approx(loss[0] - loss[1], rel=1e-6)
    assert "--objective bernoulli if they are black and white" in str(choose(open_set(tmp_path / "grey.h5")))


@pytest.mark.parametrize("name", SETS)
def test_what_suits_a_set(name: str) -> None:
    images, objective, otherwise = SETS[name]
    found = judge(pixels_of(images if images.dtype == np.uint8 else images.astype(np.float32)))
    assert (found.objective, f"--objective {otherwise} if" in found.otherwise) == (objective, bool(otherwise)), found
    assert bool(found.otherwise) == bool(otherwise) == ("not certain" in str(found))
    assert {objective, otherwise} <= {*OBJECTIVES, ""}


@pytest.mark.parametrize("odd", [-9999.0, -1.0, 0.5, 1e8, 1e30, np.nan])
@pytest.mark.parametrize("name", [name for name in SETS if SETS[name][0].dtype != np.uint8])
def test_one_odd_pixel_decides_nothing(name: str, odd: float) -> None:
    images, objective, _ = SETS[name]
    images = images.astype(np.float32)
    images[7, 0, 3, 3] = odd
    assert judge(pixels_of(images)).objective == objective


def test_the_line_says_why() -> None:
    images = np.zeros((50, 1, 8, 8), np.float32)
    images[:, 0, 2:4, 2:4] = np.linspace(30000, 41233, 50).round()[:, None, None]
    assert str(judge(pixels_of(images))) == "images: whole numbers from 0 to 41,233 -> --objective tuned (counts)"
    said = str(judge(pixels_of((WAVES - 1).astype(np.float32))))
    share = f"{100 * np.mean(WAVES < 1):.0f} % of the pixels below 0"
    assert said.startswith("images: values from -2.") and said.endswith(
        f"{share} -> --objective gaussian (real-valued)"
    )


def test_the_training_images_decide(tmp_path: Path) -> None:
    """Of a set that is half counts and half anomalies by its parts."""
    images = RNG.poisson(BLOBS).astype(np.float32)
    images[np.concatenate(split(N, 5)[1:])] -= 100
    write(tmp_path / "set.h5", images, np.arange(float(N))[:, None], [Factor("a", "", 0, N)], {})
    data = open_set(tmp_path / "set.h5")
    assert choose(data, 5).objective == "tuned"
    assert choose(data, 6).objective == "gaussian"


KINDS = ("continuous", "periodic", "ordinal", "categorical")


@pytest.mark.parametrize(("n", "kinds", "rest"), [
    (N, KINDS, "--aux 'f 0,f 1,f 2' --out runs/set"),
    (80, ("continuous",) * 7, "--aux 'f 0,f 1,f 2,f 3,f 4' --batch-size 28 --out runs/set"),
    (N, ("categorical",), "--model beta-vae --out runs/set"),
])  # fmt: skip
def test_check_ends_with_the_command_that_trains(
    n: int, kinds: tuple[Any, ...], rest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, values = tmp_path / "set.h5", np.stack([(np.arange(float(n)) * k) % n for k in (1, 3, 7, 9, 11, 13, 17)], 1)
    values = values[:, : len(kinds)]
    factors = [Factor(f"f {number}", "", 0, n, kind) for number, kind in enumerate(kinds)]
    write(path, WAVES[:n].astype(np.float32), values, factors, {})
    assert main(["check", str(path)]) == 0
    line, command = capsys.readouterr().out.splitlines()[-2:]
    assert line == str(choose(open_set(path))) and "-> --objective gaussian" in line
    assert command == f"hpcauxvae train {path} {rest}"


def test_classes_guide_where_there_is_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four classes guide three latents; twenty do not fit, which is said with what would."""
    values = np.stack([np.arange(N) % 20.0, np.arange(N) % 4.0, np.arange(float(N)) % 97], 1)
    factors = [Factor("object", "", 0, 19, "categorical"), Factor("class", "", 0, 3, "categorical")]
    write(tmp_path / "set.h5", WAVES.astype(np.float32), values, [*factors, Factor("size", "", 0, 97)], {})
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1].endswith("--aux class,size --out runs/set")
    assert "class guides latents 1 to 3: 4 classes, each but 0" in told
    assert "left out below: object, for its 20 classes would guide 19 latents: with it --latents 24" in told


def test_a_class_that_no_training_sample_shows_does_not_guide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.stack([np.arange(N) % 2.0, np.arange(float(N)) % 97], 1)
    values[split(N, 0)[2][:5], 0] = 2
    factors = [Factor("class", "", 0, 2, "categorical"), Factor("size", "", 0, 97)]
    write(tmp_path / "set.h5", WAVES.astype(np.float32), values, factors, {})
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("--aux size --out runs/set")


@pytest.mark.parametrize(("n", "group", "missing"), [
    (9, None, r"9 samples split \(7, 2, 1\) leave a part empty"),
    (40, np.arange(40) // 20, r"--split group \(seed 0\) leaves no \w+ samples; allowed: more groups"),
    (16, None, "a: measured in 3 of 3 validation samples; allowed as an auxiliary variable: in 4 or more"),
])  # fmt: skip
def test_what_cannot_be_trained_on_has_no_command(
    n: int, group: Any, missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But what is missing, as training says it; a factor that could guide goes on to."""
    factors, values = [Factor("a", "", 0, n), Factor("b", "", 0, n)], np.tile(np.arange(float(n))[:, None], 2)
    values[3:, 1] = np.nan
    write(tmp_path / "set.h5", WAVES[:n].astype(np.float32), values, factors, {}, group=group)
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    line, said = capsys.readouterr().out.splitlines()[-2:]
    assert "-> --objective gaussian" in line
    assert re.match(f"not enough to train on: .*{missing}", said)
    command = ["--aux", "a", "--network", "mlp", "--batch-size", "2", "--epochs", "1", "--out", str(tmp_path / "run")]
    with pytest.raises(InputError):
        train([str(tmp_path / "set.h5"), *command])


def test_factors_that_cannot_guide_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.tile(np.arange(float(N))[:, None], 3)
    values[3:, 0], values[split(N, 0)[0], 2] = np.nan, 7
    write(tmp_path / "set.h5", WAVES.astype(np.float32), values, [Factor(x, "", 0, N) for x in "abc"], {})
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("--aux b --out runs/set")


def test_an_angle_does_not_guide_beside_its_cosine_and_sine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    degrees = np.linspace(0, 359, N)
    turns = np.radians(degrees)
    factors = [Factor("turn", "deg", 0, 360), Factor("c", "", -1, 1), Factor("s", "", -1, 1)]
    path = tmp_path / "set.h5"
    for kind in ("continuous", "periodic"):
        path.unlink(missing_ok=True)
        factors[0] = factors[0]._replace(kind=kind)
        write(path, WAVES.astype(np.float32), np.stack([degrees, np.cos(turns), np.sin(turns)], 1), factors, {})
        assert main(["check", str(path)]) == 0
        told = capfd.readouterr()
        aux = "turn" if kind == "periodic" else "c,s"
        assert told.out.splitlines()[-1] == f"hpcauxvae train {path} --aux {aux} --out runs/set"
        if kind == "periodic":
            assert "turn guides latents 1 and 2: its cosine and sine" in told.out
            assert all(f"left out below: {side}, for turn guides by its own cosine" in told.out for side in "cs")
        assert ("factors, turn: the angle of which c and s are cosine and sine" in told.err) == (kind == "continuous")


def test_images_too_narrow_to_have_neighbours() -> None:
    assert not pixels_of(np.full((20, 1, 8, 2), 40, np.float32) + RNG.poisson(9, (20, 1, 8, 2))).poisson
    assert math.isfinite(pixels_of(np.zeros((20, 1, 8, 8), np.float32)).low)
