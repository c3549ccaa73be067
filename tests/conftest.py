"""What all tests share: an environment, a small data set and a run of it, what torch.compile made of the package."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from helpers.places import ROOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

settings.register_profile("same", derandomize=True)  # the same draws every time; --hypothesis-profile=default for new
settings.load_profile("same")

# They start many processes, and the machines that run them are small.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def compiled_folder() -> Path:
    """Named by the package that was compiled: torch.compile does not see that an operator has changed."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "hpcauxvae").rglob("*.py"), *(ROOT / "csrc").iterdir()]):
        digest.update(path.read_bytes())
    return ROOT / "build" / "tests" / f"inductor-{digest.hexdigest()[:16]}"


if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:  # the workers of pytest-xdist have it from the process that starts them
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiled_folder())
    for old in compiled_folder().parent.glob("inductor-*"):
        if old != compiled_folder():
            shutil.rmtree(old, ignore_errors=True)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> "list[Figure]":
    """The figures drawn, which are otherwise forgotten."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    saved: list[Figure] = []
    draw = FigureCanvasAgg.draw

    def keep(canvas: FigureCanvasAgg) -> None:
        if not any(figure is canvas.figure for figure in saved):
            saved.append(canvas.figure)
        draw(canvas)

    monkeypatch.setattr(FigureCanvasAgg, "draw", keep)
    return saved


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`once(NAME, make)`: a folder that `make` fills once for all workers of pytest-xdist; to read, not to change."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"
    shared.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = shared / name
            if not (shared / f"{name}.made").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (shared / f"{name}.made").touch()
        return folder

    return made


@pytest.fixture(scope="session")
def blobs_file(once: Callable) -> Path:
    """helpers.trainings.blobs: 160 images, factors radius, g1 and flux. To read."""
    from helpers.trainings import blobs

    return once("blobs", lambda folder: blobs(folder / "blobs.h5")) / "blobs.h5"


@pytest.fixture(scope="session")
def trained_run(once: Callable, blobs_file: Path) -> Path:
    """An Aux-VAE guided by radius and g1, two epochs of blobs.h5 beside it, seed 0. To read; see run_copy."""
    from helpers.trainings import alone, config

    def train(folder: Path) -> None:
        os.link(blobs_file, folder / "blobs.h5")
        assert alone(config(folder / "blobs.h5", folder / "run", epochs=2)) == 0

    return once("trained", train) / "run"


@pytest.fixture
def run_copy(trained_run: Path, tmp_path: Path) -> Path:
    """trained_run, to do with as a test likes."""
    return Path(shutil.copytree(trained_run, tmp_path / "run", symlinks=True))
