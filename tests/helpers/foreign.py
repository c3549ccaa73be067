"""Images and catalogues as other people store them: written by their own libraries, not by this package."""

from pathlib import Path

import numpy as np
import pytest

N, H, W = 12, 9, 8
IDS = 1237648720693755918 + 3 * np.arange(N)  # most share their float64 with a neighbour
RADIUS = np.linspace(0.2, 1.9, N)
FLUX = np.geomspace(10, 1e5, N)


def counts(channels: int = 1) -> np.ndarray:
    """(N, C, H, W) float32, each image another; no two pixels of an image that a turn would swap are alike."""
    return np.random.default_rng(5).normal(20, 8, (N, channels, H, W)).astype(np.float32)


def pictures(channels: int = 1) -> np.ndarray:
    """(N, C, H, W) uint8."""
    return np.random.default_rng(6).integers(0, 256, (N, channels, H, W), dtype=np.uint8)


def write_csv(path: Path, **columns: object) -> Path:
    """A header line, then the rows."""
    table = [list(map(str, column)) for column in columns.values()]
    lines = [",".join(columns), *(",".join(row) for row in zip(*table, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_stamps(folder: Path, images: np.ndarray, kind: str = ".fits") -> list[str]:
    """A file an image (C, H, W), named by its id; their names."""
    folder.mkdir(exist_ok=True)
    names = [f"{name}{kind}" for name in IDS[: len(images)]]
    for name, image in zip(names, images, strict=True):
        whole = image[0] if len(image) == 1 else image
        if kind.startswith(".fits"):
            pytest.importorskip("astropy.io.fits").PrimaryHDU(whole).writeto(folder / name)
        elif kind == ".npy":
            np.save(folder / name, whole)
        else:
            import skimage.io

            last = whole if whole.ndim == 2 else np.moveaxis(whole, 0, -1)
            skimage.io.imsave(folder / name, last, check_contrast=False)
    return names


def catalogue(folder: Path, images: np.ndarray, kind: str = ".fits") -> Path:
    """A CSV file beside a folder of stamps."""
    names = write_stamps(folder / "stamps", images, kind)
    n = len(images)
    return write_csv(folder / "cat.csv", id=IDS[:n], file=[f"stamps/{name}" for name in names], radius=RADIUS[:n])
