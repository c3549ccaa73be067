"""The options of `data import`, and those that it shares with whatever reads images of other forms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcauxvae.runtime.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class Images:
    """Where images and what belongs to them lie in files of any form: the options of every command that reads these."""

    images: str = ""
    """Where the images are: COLUMN of names of files, COLUMN[EXT] for an extension of FITS, a pattern as
    stamps/{id}.fits, FILE:NAME of an array, or COLUMN of arrays. Several, with commas, become channels one after the
    other. Found by itself where there is one choice."""
    columns: str = ""
    """The measured quantities, with commas; all columns of numbers that vary if not given."""
    id: str | None = None
    """The column of ids; id, object_id, objid or source_id if not given; empty for none."""
    ids: str = ""
    """The ids of the images in a file of their own, where their name there is another than that of --id."""
    layout: str = ""
    """What the axes of an array are, as NHWC: N samples, C channels, H rows, W columns."""
    folder: Path | None = None
    """What the names of files in the catalogue are relative to; its own folder if not given."""
    weights: str = ""
    """Inverse variances, as --images; [EXT] is an extension of the same files."""
    noise: str = ""
    """Standard deviations, as --weights."""
    variance: str = ""
    """Variances, as --weights."""
    mask: str = ""
    """Not 0 where a pixel is bad, as --weights."""
    good: str = ""
    """Not 0 where a pixel is good, as --weights."""
    size: str = ""
    """H,W: images are cut, or filled up, to this size about their middle."""
    north_up: bool = False
    """Turns images by quarters, and mirrors them, so that north is up and east to the left, by their coordinates."""
    matched: bool = False
    """Leaves rows without an image out, which are refused otherwise."""
    processes: int | None = None
    """Processes that read; as many as there are cores if not given. MPI ranks read by themselves."""


@dataclass(frozen=True, kw_only=True)
class Import(Images):
    """Makes a set of the images and the catalogue that you have: FITS, PNG, TIFF, HDF5, NetCDF, NPZ, Zarr, Parquet.

    The source is a catalogue (CSV, ECSV, FITS, VOTable, Parquet), a file with arrays, or a folder of images. Several
    processes read, or the ranks of mpirun and srun; what is killed goes on when it is started again.
    """

    source: Path
    """The catalogue, a file that holds everything, a folder of images, or an image."""
    out: Path
    """The HDF5 file to write."""
    range: str = ""
    """Ranges of quantities, NAME=LOW:HIGH, with commas; those of their values if not given."""
    unit: str = ""
    """Units, NAME=UNIT, with commas; those of the columns if not given."""
    kind: str = ""
    """NAME=periodic, ordinal, categorical or continuous, with commas; continuous if not given. With categorical a
    column may be text, the names of its classes."""
    errors: str = ""
    """Columns of the standard deviations of quantities, NAME=COLUMN, with commas."""
    missing: str = ""
    """Numbers that stand for no value in the columns of quantities and of errors, with commas, as -99,-999."""
    log: str = ""
    """Positive quantities to be scaled by their logarithm, with commas."""
    group: str = ""
    """The column of groups, such as galaxies seen several times: a group is kept in one part of the split. It is a
    quantity, too, where --kind or --columns names it."""
    split: str = ""
    """The column that says train, validation or test, where the parts shall be these."""
    fill: float | None = None
    """What stands in pixels that --size adds; they are missing if not given, 0 in pictures of whole numbers."""
    dtype: Literal["", "float32", "float16", "uint8", "uint16"] = ""
    """Type of the pixels; that of the first image if it is one of these, else float32."""

    def run(self, ranks: Ranks) -> Path:
        """Imports on these ranks and returns the path of the file."""
        from hpcauxvae.data.importing.plan import plan_of
        from hpcauxvae.data.importing.work import make_on

        make_on(ranks, lambda: plan_of(self), self.processes)
        return self.out
