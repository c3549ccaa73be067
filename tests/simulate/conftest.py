"""The set that the tests of the simulation compare with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.simulations import make_alone


@pytest.fixture(scope="session")
def alone(once: Callable) -> Path:
    """N galaxies of seed 7, drawn without MPI. To read."""
    return once("galaxies", lambda folder: make_alone(folder / "set.h5")) / "set.h5"
