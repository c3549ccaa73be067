"""Labels of another file, 0 or below, of a factor that the run scales by its logarithm: told, and not measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.trainings import FACTORS, blobs
from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate import encode
from hpcauxvae.evaluate.generate import Generator
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.run import load_run, training_set

RADIUS = FACTORS[0]._replace(low=0.05, transform="log10")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """blobs.h5 with a radius of 0 in row 2 and one below 0 in row 7, which a linear range allows."""
    data = open_set(blobs(tmp_path / "blobs.h5"))
    values = data.values.copy()
    values[2, 0], values[7, 0] = 0, -0.1
    write(tmp_path / "other.h5", data.images[:], values, [FACTORS[0]._replace(low=-1), *FACTORS[1:]], {})
    return tmp_path / "other.h5"


def test_whoever_encodes_them_is_told(other: Path, trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(trained_run)
    run.state["factors"] = [RADIUS.record(), *run.state["factors"][1:]]
    data, alone = open_set(other), start(find_world({}), "cpu")
    here: Any = SimpleNamespace(run=run, data=data, processes=alone)
    labels = encode.Encoder._labels(here)
    assert labels is not None and np.flatnonzero(np.isnan(labels[:, 0])).tolist() == [2, 7]
    rest = np.delete(np.arange(len(data)), [2, 7])
    np.testing.assert_allclose(labels[rest, 0], RADIUS.scale(data.values[rest, 0]))
    assert capsys.readouterr().err == (
        f"warning: {other}: factors, {RADIUS.name}: 0 in row 2 has no logarithm, which scales this factor; so many "
        "values count as not measured: 2\n"
    )
    run.state["factors"] = [FACTORS[0].record(), *run.state["factors"][1:]]
    labels = encode.Encoder._labels(here)
    assert labels is not None and np.isfinite(labels).all() and capsys.readouterr().err == ""


def test_sweeps_are_even_on_their_scale(trained_run: Path) -> None:
    run = load_run(trained_run)
    generator = Generator(run, training_set(run))
    generator.factors = [RADIUS, *generator.factors[1:]]
    generator.guides = (Guide(RADIUS, (RADIUS,)), *generator.guides[1:])
    swept = generator.grid([], [f"{RADIUS.name}=.1:.9:3"], np.full(len(generator.factors), 0.5))[0][:, 0]
    np.testing.assert_allclose(swept, [0.1, 0.3, 0.9])


def test_an_image_that_has_none_is_drawn_by_its_code(
    other: Path, trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(trained_run)
    generator = Generator(run, training_set(run))
    generator.factors = [RADIUS, *generator.factors[1:]]
    generator.guides = (Guide(RADIUS, (RADIUS,)), *generator.guides[1:])
    u_D, _ = generator.of_image(f"{other}:7")
    code = run.encode(open_set(other).images, np.full((1, 2), np.nan), np.array([7]))[0][0]
    assert u_D[0] == pytest.approx(float(RADIUS.unscale(code[0])), rel=1e-4)
    assert f"{RADIUS.name}: -0.1 in row 7 has no logarithm" in capsys.readouterr().err
