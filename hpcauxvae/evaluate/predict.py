"""The measured quantities of new images: `hpcauxvae predict RUN IMAGES OUT`, alone or behind torchrun.

A run is calibrated once (calibration.py), images of other kinds are imported into the folder OUT.parts, and the table
is made of chunks (chunks.py). Where images have labels, what the intervals promise is held against them. Shape legend
in types.py.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import hpcauxvae
from hpcauxvae.data.classes import in_order_of
from hpcauxvae.data.hdf5 import ImageSet, open_set, refuse_existing
from hpcauxvae.data.importing.options import Images, Import
from hpcauxvae.data.stored import open_file
from hpcauxvae.evaluate import result_tables
from hpcauxvae.evaluate.calibration import BESIDE, Calibration, calibrate, columns_of, load_calibration, measured
from hpcauxvae.evaluate.chunks import make, on_ranks, parts_of
from hpcauxvae.evaluate.command import PredictConfig
from hpcauxvae.evaluate.coverage import TEST_PART, Coverage
from hpcauxvae.evaluate.encode import ImageReader, run_of
from hpcauxvae.evaluate.records import write_metrics
from hpcauxvae.evaluate.sets import refuse_unguided
from hpcauxvae.runtime.collectives import Processes, on_each_rank, on_first_rank
from hpcauxvae.runtime.devices import place
from hpcauxvae.runtime.files import refuse_unwritable, write_json
from hpcauxvae.runtime.launchers import World
from hpcauxvae.train.run import Run, training_set
from hpcauxvae.types import Factor, InputError

_LEVEL = "level of "
"""Before the name of a factor: what chunks hold of its label."""


class Predictor(ImageReader):
    """One rank's part of a prediction."""

    TITLE = "prediction"
    coverage: Coverage | None = None
    flagged = 0

    def __init__(
        self, config: PredictConfig, run: Run, processes: Processes, data: ImageSet, calibration: Calibration
    ) -> None:
        """Raises InputError where run and data do not fit each other."""
        super().__init__(config, run, processes, data)
        self.source, self.calibration, self.trained_on = config.source, calibration, config.data
        self.json = config.json
        self.columns = [self._column_of(factor) for factor in run.factors]

    def _column_of(self, factor: Factor) -> int | None:
        """That of a factor's labels in the data; None where there are none, or where they have another unit.

        A column without a unit, as of CSV, is taken for one in the right unit.
        """
        for number, (name, unit, *_) in enumerate(self.data.factors):
            if name == factor.name and unit in ("", factor.unit):
                return number
            if name == factor.name and self.processes.world.rank == 0:
                words = f"factors, {name}: unit {unit!r}, in training it was {factor.unit!r}: not compared"
                print(f"warning: {self.data.path}: {words}", file=sys.stderr, flush=True)
        return None

    def identity(self) -> dict[str, Any]:
        """As Chunked."""
        return {"made_of": self.made_of(), "calibration": self.calibration.about, "chunk": self.size}

    def made_of(self) -> dict[str, str]:
        """What tells the table from that of other weights, or of other images, by the names in its head."""
        software = f"hpcauxvae {hpcauxvae.__version__}"
        return {"weights": self.about["weights"], "content": self.about["data_fingerprint"], "software": software}

    def is_written(self) -> bool:
        """As Chunked."""
        found = result_tables.about(self.out)
        return all(found.get(name) == value for name, value in self.made_of().items())

    def computed(self, chunk: int) -> dict[str, Tensor]:
        """The columns of the table; and for each label the level of the smallest interval that it is in."""
        rows = self.rows(chunk)
        found = measured(self.run, self.data.images, np.arange(rows.start, rows.stop), self.calibration.weighted)
        columns = self.calibration.numbers(found.mean_NZ, found.logvar_NZ, found.score_NS)
        for number, column in enumerate(self.columns):
            if column is not None:
                level_N = self.calibration.level(number, found, self.data.values[rows, column])
                columns[_LEVEL + self.run.factors[number].name] = level_N
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}

    def merge(self, mark: Callable[[], None]) -> None:
        """Makes the table of all chunks."""
        ids, units = self.data.id, self.calibration.units()
        letters = {}
        if ids is not None and ids.dtype.kind == "U":
            letters["id"] = max(1, *(len(result_tables.ascii_only(text)) for text in ids.tolist()))
        letters |= self._letters(mark)
        head = result_tables.Head(self.n, ({} if ids is None else {"id": ""}) | units, self.head(), letters)
        labels = {
            guide: self.data.values[:, column]
            for guide, column in zip(self.run.guides, self.columns, strict=True)
            if column is not None
        }
        coverage = Coverage(labels, self.run.parts(self.data)[2] if self.is_own() else None)
        flagged = 0

        def pieces() -> Iterator[dict[str, NDArray]]:
            nonlocal flagged
            for rows, columns in self.all_stored(mark):
                flagged += int(np.count_nonzero(columns["unlike"]))
                coverage.add(rows, columns, {guide: columns[_LEVEL + guide.factor.name] for guide in labels})
                columns = self.calibration.with_texts(columns)
                yield columns if ids is None else {"id": ids[rows], **columns}

        result_tables.write(self.out, head, pieces())
        self.coverage, self.flagged = coverage, flagged

    def _letters(self, mark: Callable[[], None]) -> dict[str, int]:
        """Of each column of sets, those of its longest text."""
        lengths = {name: np.array([1 + len(word) for word in of]) for name, of in self.calibration.words().items()}
        most = dict.fromkeys(lengths, 1)
        for _, columns in self.all_stored(mark) if lengths else ():
            most = {name: max(n, int((columns[name] @ lengths[name]).max()) - 1) for name, n in most.items()}
        return most

    def tell(self) -> None:
        """Says what is in the table, and what its intervals cover where there are labels."""
        assert self.coverage is not None
        share, rare = self.flagged / self.n, self.calibration.alarm
        unlike = f"{self.flagged} ({share:.2%}) are unlike those of the training, of whose own {rare:.2%} would be"
        print(f"{self.out}: {self.n} images; {unlike}")
        for line in self.known_images():
            print(f"warning: {self.data.path}: {line}", file=sys.stderr, flush=True)
        self.coverage.tell(self.out)
        if self.json is not None:
            figures: dict[str, Any] = {"images": self.n, "unlike": self.flagged, "unlike_expected": rare * self.n}
            figures |= {"judged": "test part" if self.is_own() else "all"}
            write_metrics(self.json, self.head() | figures | {"factors": self.coverage.figures()})

    def is_own(self) -> bool:
        """Whether these images are the data set of the run, of which it was trained, and calibrated, on the most."""
        return bool(self.data.fingerprint == self.run.state["fingerprint"])

    def known_images(self) -> Iterator[str]:
        """How many of its own data set a run was trained, or calibrated, on."""
        if self.is_own():
            train, validation, test = (len(part) for part in self.run.parts(self.data))
            yield (
                f"is the data set of the run: {train} of these {self.n} images were trained on, and {validation} gave "
                f"the intervals; what intervals cover is told of the {test} others, {TEST_PART}"
            )

    def head(self) -> dict[str, str | int | float]:
        """Where the rows come from, by names that FITS takes."""
        return self.calibration.head(self.run) | self.made_of() | {"data": str(self.source)}


def predict(config: PredictConfig, processes: Processes) -> int:
    """Makes the table; returns FINISHED, or MORE_TO_DO after a request to stop. Raises InputError, on all ranks."""
    run = on_each_rank(lambda: _checked(config), processes)
    place(run.model, processes.device)
    path = on_first_rank(lambda: _in_our_format(config, run), processes)
    data = on_each_rank(lambda: in_order_of(open_set(path), run.known, processes.world.rank == 0), processes)
    on_each_rank(lambda: _refuse_clash(config.out, run, data.id is not None), processes)
    folder = on_first_rank(lambda: _calibrated(run, config), processes)
    calibration = on_each_rank(lambda: _found(run, folder), processes)
    try:
        work = on_each_rank(lambda: Predictor(config, run, processes, data, calibration), processes)
    except InputError:
        if processes.world.rank == 0 and not any(parts_of(config.out).glob("[0-9]*.safetensors")):
            shutil.rmtree(parts_of(config.out), ignore_errors=True)
        raise
    return make(work)


def _checked(config: PredictConfig) -> Run:
    """The run. Raises InputError for all that can be seen before any work."""
    result_tables.check_kind(config.out)
    if not parts_of(config.out).is_dir() and not result_tables.about(config.out):
        for path in (config.out, config.json):
            if path is not None:
                refuse_existing(path)
    run = run_of(config)
    refuse_unguided(run)
    _refuse_clash(config.out, run)
    return run


def _refuse_clash(out: Path, run: Run, ids: bool = False) -> None:
    """Raises InputError where two columns of the table would have one name; in FITS capitals do not tell them apart.

    ids: whether images have some, which stand in a column.
    """
    names = ["id"] * ids + [name for guide in run.guides for name in columns_of(guide)] + [*BESIDE]
    known = [name.lower() if out.suffix == ".fits" else name for name in names]
    for name, as_known in zip(names, known, strict=True):
        if known.count(as_known) > 1:
            kinds = ", or another kind of file than FITS" * (names.count(name) == 1)
            raise InputError(
                f"{out}: two of its columns would be called {name}, by the factors of {run.folder} and what stands "
                f"beside them; allowed: names that differ{kinds}"
            )


def _in_our_format(config: PredictConfig, run: Run) -> Path:
    """The images in the format of docs/data-format.md: where they are in it, or imported into the folder of parts."""
    source, parts = config.source, parts_of(config.out)
    if source.suffix in (".h5", ".hdf5") and _is_a_set(source):
        return source
    from hpcauxvae.data.importing.plan import plan_of
    from hpcauxvae.data.importing.work import make as import_all

    made, record = parts / "images.h5", parts / "images.json"
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(Images)}
    plan = plan_of(Import(source=source, out=made, **given), tuple(run.state["image_shape"]))
    _refuse_clash(config.out, run, plan.beside["id"] is not None)
    if list(plan.recipe.shape) != run.state["image_shape"]:
        allowed = tuple(run.state["image_shape"])
        raise InputError(f"{source}: images of {plan.recipe.shape}; allowed: {allowed}, or --size H,W")
    identity = json.loads(json.dumps(plan.identity))
    if made.exists() and record.exists():
        if json.loads(record.read_text()) != identity:
            raise InputError(f"{parts}: left by an unfinished prediction of other images; remove the folder")
        return made
    parts.mkdir(exist_ok=True)
    made.unlink(missing_ok=True)
    try:
        import_all(plan, config.processes)
        write_json(record, identity)
    except InputError:
        _remove_empty(parts)
        raise
    return made


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _is_a_set(path: Path) -> bool:
    with open_file(path) as file:
        return "format_version" in file.attrs


def _calibrated(run: Run, config: PredictConfig) -> Path:
    """The folder that holds the run's calibration, made now where there is none: its own, or that of the parts."""
    parts = parts_of(config.out)
    for folder in (run.folder, parts):
        if load_calibration(run, folder) is not None:
            return folder
    try:
        data = training_set(run, config.data)
    except InputError as error:
        raise InputError(
            f"{run.folder} is not calibrated yet, which takes the data set it was trained on: {error}"
        ) from error
    print(f"{run.folder}: calibrated on the validation part of {data.path}", flush=True)
    made, folder = calibrate(run, data), run.folder
    for line in made.remarks():
        print(f"{run.folder}: {line}", flush=True)
    try:
        refuse_unwritable(folder)
    except InputError:
        folder = parts
        folder.mkdir(exist_ok=True)
    made.write(folder)
    return folder


def _found(run: Run, folder: Path) -> Calibration:
    """Raises InputError where it is gone."""
    calibration = load_calibration(run, folder)
    if calibration is None:
        raise InputError(f"{folder}: the calibration of the run is not there, or was changed; start again")
    return calibration


def run(config: PredictConfig, world: World) -> int:
    """Makes the table on the ranks of a launcher, or alone; says what came of it, and returns the exit code."""
    return on_ranks(lambda processes: predict(config, processes), config.device, world)
