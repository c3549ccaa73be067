"""What the intervals of `predict` hold on the test images, where the run was calibrated: from codes that are there."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.stored import open_file
from hpcauxvae.evaluate.by_factor import in_words, score_of
from hpcauxvae.report.folder import Found
from hpcauxvae.report.pictures import Figure, encoded
from hpcauxvae.report.tables import Cell, Table, interval, number
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError

_WORDS = (
    "The share of labels of the test images that are in their intervals, or sets, and the median width or size of "
    "these. The calibration has not seen these images."
)
_ALT = "Lines of what intervals cover against what they should, beside a diagonal with a band of chance: "


def covered(found: Found) -> tuple[list[Figure], list[Table]]:
    """A picture, and a row for each factor; nothing of a run that was not calibrated. Raises InputError where the codes
    cannot be read."""
    if found.folds or "test" not in found.sets or not any(found.folder.glob("calibration-*.safetensors")):
        return [], []
    from hpcauxvae.evaluate.calibration import Measured, load_calibration  # with the trees of scikit-learn
    from hpcauxvae.evaluate.coverage import Coverage, calibration_picture

    run = load_run(found.folder)
    calibration = load_calibration(run)
    mean_NZ, logvar_NZ, label_N, weights = _codes(found.results / "codes-test.h5")
    if calibration is None or weights != run.digest:  # of other weights
        return [], []
    measured = Measured(mean_NZ, logvar_NZ, np.zeros((len(mean_NZ), 2)))  # nobody asks here for images unlike others
    truth = {guide: label_N[guide.factor.name] for guide in calibration.guides}
    levels = {guide: calibration.level(place, measured, truth[guide]) for place, guide in enumerate(calibration.guides)}
    held = Coverage(truth)
    held.add(slice(0, len(mean_NZ)), calibration.numbers(mean_NZ, logvar_NZ, measured.score_NS), levels)
    if not (known := held.levels()):
        return [], []
    with tempfile.TemporaryDirectory() as folder:
        calibration_picture({guide.factor.name: of for guide, of in known.items()}, path := Path(folder) / "x.png")
        source, size = encoded(path)
    rows = [_row(name, of) for name, of in held.figures().items()]
    head = ["Factor", "error", "68 % cover", "95 % cover", "labels"]
    shares = "; ".join(f"{row[0].text} {row[2].text} of 68 %, {row[3].text} of 95 %" for row in rows)
    return [Figure(source, f"{_ALT}{shares}.", "", size)], [
        Table("What intervals cover on the test images", head, rows, _WORDS)
    ]


def _codes(path: Path) -> tuple[NDArray, NDArray, dict[str, NDArray], str]:
    """Means and log-variances (N, Z), by the name of a factor its labels (N,), and the digest of the weights."""
    try:
        with open_file(path) as file:
            names = [name.decode() if isinstance(name, bytes) else str(name) for name in file["factors"].attrs["name"]]
            labels = dict(zip(names, file["factors"][:].T, strict=True))
            return file["mean"][:], file["logvar"][:], labels, str(file.attrs.get("weights", ""))
    except (KeyError, OSError) as error:
        raise InputError(f"{path}: holds no codes that can be read: {error}") from error


def _row(name: str, of: Mapping[str, Any]) -> list[Cell]:
    shares = []
    for level in ("68", "95"):
        what, size = ("size", of[level]["size"]) if "size" in of[level] else ("width", of[level]["width"])
        unit = of["unit"] * (what == "width")
        shares.append(Cell(f"{100 * of[level]['covered']:.1f} %", f"{what} {number(size)} {unit}".rstrip()))
    own = dict(of)
    return [Cell(name), Cell(in_words(own, own), interval(score_of(own))), *shares, Cell(f"{of['labels']:,}")]
