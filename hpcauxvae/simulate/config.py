"""The options of `hpcauxvae simulate`, `simulate merge` and `simulate verify`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcauxvae.data.galaxies import PIXEL_SCALE, STAMP_SIZE

CHUNK = 64
"""Galaxies in a chunk: some 30 ms of work and 0.3 MB."""


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Simulates galaxies (Table 2 of the paper) with GalSim. Killed and started again, it goes on where it was.

    Two more commands: `merge OUT PART...` makes one set of parts or shards, `verify FILE` draws a sample again.
    """

    out: Path
    """HDF5 file to make (docs/data-format.md). Must not exist."""
    n: int | None = None
    """Galaxies of the design, at least 2. Default: 16384, or as many as LIKE or TABLE has."""
    seed: int = 0
    """Of the design and of the noise; the noise of a galaxy depends on (seed, its number) alone."""
    design: Literal["latin-hypercube", "sobol", "uniform"] = "latin-hypercube"
    """How the factors fill their ranges. A Latin hypercube of n points cannot be extended later, the others can."""
    table: Path | None = None
    """Factors from this CSV, FITS (also .gz) or HDF5 table, one column a factor, in place of a design."""
    ranges: str = ""
    """Other ranges of factors, as radius=0.2:0.8,psf=0.5:1."""
    start: int | None = None
    """Draw the galaxies from this number on, counted from 0: a part of the design for one of several jobs."""
    stop: int | None = None
    """Up to, and without, this number. Default: n."""
    extend: Path | None = None
    """Draw the galaxies that come after those of this set in its design, up to n in all."""
    like: Path | None = None
    """Draw the galaxies of this file again, in its order, in place of a new design."""
    noiseless: bool = False
    """Expected counts in place of noisy ones."""
    profile: Literal["exponential", "sersic", "bulge-disk", "real", "parametric-cosmos"] = "exponential"
    """Kind of galaxy (docs/simulation.md)."""
    psf: Literal["gaussian", "moffat", "kolmogorov"] = "gaussian"
    """Kind of point spread function."""
    catalogue: Path | None = None
    """COSMOS catalogue of GalSim, for real and parametric-cosmos."""
    bands: str = ""
    """Names of the channels, as g,r,i: each has its own factor flux_g ...; none: a single channel."""
    stamp_size: int = STAMP_SIZE
    """Pixels on a side."""
    pixel_scale: float = PIXEL_SCALE
    """Arcsec a pixel."""
    sky: float = 0.0
    """Sky level, counts a pixel; its noise stays, its mean is taken off."""
    read_noise: float = 0.0
    """Standard deviation of the read noise, counts a pixel."""
    renderer: Literal["galsim", "batch", "batch-fine"] = "galsim"
    """batch: many stamps at once in Fourier space, with torch; batch-fine: ten times as accurate as batch."""
    device: str = "cpu"
    """Where the batch renderer works: cpu, cuda, cuda:1 ..."""
    chunk: int = CHUNK
    """Galaxies that are dealt, stored and check-summed together."""
    shard_size: int | None = None
    """Galaxies in a shard; 0: one contiguous file. Default: one file up to 2 GiB, else shards of 1 GiB."""
    preview: bool = False
    """Draw only a picture, OUT with .png: some stamps and the distributions of the factors."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Makes one set of several parts of a design (--start, --stop), or one contiguous file of a set in shards."""

    out: Path
    """HDF5 file to make. Must not exist."""
    parts: list[Path]
    """The sets, in any order; their galaxies must follow each other in the design without gap or overlap."""
    virtual: bool = False
    """Write a virtual data set over the parts' own files, which must then stay where they are, in place of a copy."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Checks a simulated set: the rules of the format, every checksum, and a random sample drawn again."""

    file: Path
    """The set."""
    sample: int = 100
    """Galaxies to draw again; all if the set has fewer."""
    seed: int = 0
    """Of the choice."""
    device: str = "cpu"
    """Where the batch renderer works; draw on the kind of machine that drew the set."""
