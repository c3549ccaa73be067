"""What a training run is: the fields of `python -m hpcauxvae.train`, saved whole as config.json with the run."""

import ast
import contextlib
import dataclasses
import inspect
import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, cast

from hpcauxvae.models import MODELS, UNTOLD, Network, check_name
from hpcauxvae.models.objectives import AUTO, FIXED, OBJECTIVES, OVERRIDES, Named, Objective
from hpcauxvae.types import By, Fold, InputError, Labels

if TYPE_CHECKING:
    from hpcauxvae.data.choice import Choice

STEPS, _FEWEST, _MOST_EPOCHS = 6000, 2, 500
"""Of a training that is not told how many epochs."""
_LEAST = {
    "latents": 1, "epochs": 0, "seed": 0, "split_seed": 0, "folds": 0, "keep_last": 1, "keep_every": 1, "accumulate": 1
}  # fmt: skip
_MOST = {"seed": 2**64 - 1, "timeout_minutes": 60.0 * 24 * 365, "bucket_mb": 1e6}
_GONE = "ramp", "symmetries"
"""Fields of earlier versions, which did nothing where they were 0 or empty."""
NOT_DECISIVE = (
    "data", "out", "device", "resume", "split", "labels", "max_minutes", "checkpoint_minutes", "timeout_minutes",
    "keep_last", "keep_every", "accumulate", "channels_last", "compile", "cuda_graph", "in_memory", "bucket_mb",
    "notify",
)  # fmt: skip
"""A run may go on with other values of these; that `split` and `labels` come to the same is seen beside the data."""


def _with_overrides(cls: type) -> type:
    """Adds a field of the same name for each of OVERRIDES; None, the default, leaves the objective's own value.

    Their help on the command line is what Objective says of them.
    """
    try:
        body: list[Any] = ast.parse(inspect.getsource(Objective)).body[0].body  # type: ignore[attr-defined]
    except OSError:  # no sources are installed: less help
        body = []
    words = {
        field.target.id: " ".join(ast.literal_eval(text.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
    lines = [str(cls.__doc__), "", "Attributes:"]
    for field in dataclasses.fields(Objective):
        if field.name in OVERRIDES:
            cls.__annotations__[field.name] = Optional[field.type]  # noqa: UP045  a type of this moment
            setattr(cls, field.name, None)
            lines.append(f"    {field.name}: {words.get(field.name, '')} In place of the objective's.")
    cls.__doc__ = "\n".join(lines)
    return cls


@dataclasses.dataclass(frozen=True, kw_only=True)
@_with_overrides
class TrainConfig:
    """A training run."""

    data: Path
    """HDF5 file of labelled images (docs/data-format.md)."""
    out: Path = Path("run")
    """Folder for the run: config.json, metrics.jsonl, last.safetensors, tensorboard/."""
    model: str = "aux-vae"
    """aux-vae; to compare with it supervised-vae, ar-vae, cvae, ivae, ci-ivae, idvae or idvae-x (IDVAE with an encoder
    that sees the image alone), and, told nothing of factors, beta-vae, beta-tcvae, factor-vae, dip-vae-i or dip-vae-ii
    (docs/rivals.md); or a model of your own, a subclass of hpcauxvae.models.base.Model, as my_package.my_module:MyVAE.
    """
    aux: str = ""
    """Auxiliary variables, comma-separated names of factors; the first guides latent 1, and so on. Those that
    are told nothing do not train on them and are scored against them."""
    labels: Labels = "kinds"
    """How factors guide. kinds: a periodic one guides two latents, by its cosine and sine, a categorical one as many as
    it has classes less one, an ordinal one whose levels are uneven one by their ranks, any other one by its values.
    raw: each guides one latent by its values, whatever they are."""
    objective: Named = AUTO
    """Likelihood, weights, start and schedule by name (hpcauxvae/models/objectives.py). auto looks at the images: tuned
    for counts, bernoulli for pictures, gaussian for real-valued fields, weighted where the file has weights; the run
    keeps the name."""
    network: Network = "conv"
    """Encoder and decoder: convolutions (those of Table 3 at 33 x 33) for sides of 8 to 512 pixels or one row of 8 to
    8192, the same with residual blocks for large images, or fully connected layers for any size (docs/scaling.md)."""
    latents: int = 10
    """Latent coordinates, dz."""
    epochs: int = 0
    """Passes over the training split; 0: as many as make 6,000 steps, which small sets need as much as large ones, from
    2 to 500. A run that goes on with more of them than before is trained longer: behind the end that was planned the
    learning rate begins a new cycle. Not given, a run that goes on keeps its own."""
    seed: int = 0
    """Seed of the initial weights, the order of the samples and the noise."""
    split_seed: int = 0
    """Seed of the 7:2:1 split into training, validation and test."""
    split: By = "auto"
    """random: each sample by itself; group: the file's groups stay together; blocks: 20 blocks of neighbours, for
    series; given: the file's own parts. auto: given or group where the file has parts or groups, else random."""
    folds: int = 0
    """Cross-validate: train so many runs, one after the other, into fold0, fold1, ... of `out`. Each tests another part
    of the samples, groups and blocks kept whole, and `evaluate` pools their scores. 0: a single run."""
    fold: int | None = None
    """Of these folds train this one alone, from 0, into `out` itself: a job for each, with OUT/fold2."""
    device: str = "auto"
    """auto, cpu, or an accelerator of torch: cuda (ROCm too), cuda:1, xpu, mps."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of weights and images; the moments are in float64 always."""
    resume: Literal["no", "auto"] = "no"
    """auto: go on from the newest whole checkpoint in `out`, past damaged ones; from the beginning if there is none."""
    accumulate: int = 1
    """Parts in which each process computes its share of a batch, to need less memory; the result is the same."""
    bf16: bool = False
    """Compute all layers but the last of encoder and decoder in bfloat16; losses and moments stay as they are."""
    channels_last: bool = False
    """Lay out the convolutions with channels last."""
    compile: bool = False
    """Compile the model with torch.compile: a minute at the start, then faster steps."""
    cuda_graph: bool = False
    """On a GPU, replay the forward and backward pass as a CUDA graph: much faster at small batches. Not yet
    tried on several GPUs."""
    in_memory: Literal["auto", "yes", "no"] = "auto"
    """Hold the images in the memory of the device, or read them from the file as they are needed. auto: where they take
    at most half of a GPU's memory, or a quarter of the machine's."""
    bucket_mb: float = 25.0
    """Gradients are summed over processes in pieces of this many MiB, each as soon as it is there."""
    lr_scaling: Literal["none", "sqrt", "linear"] = "none"
    """Let the learning rate grow with the batch size over the objective's own, or with its square root."""
    warmup_epochs: float | None = None
    """Let the learning rate rise over this many epochs; the objective's own way if not given."""
    max_minutes: float | None = None
    """Stop this long after the start, the reading of the data included, with a checkpoint and exit code 75."""
    checkpoint_minutes: float | None = None
    """Save within an epoch too, this long after the last save."""
    timeout_minutes: float = 10.0
    """End all processes with exit code 1 if a process gives no sign of life, or none makes a step, for this time."""
    keep_last: int = 2
    """Keep this many of the newest checkpoints, beside the best by validation."""
    keep_every: int | None = None
    """Keep the checkpoint of every epoch that is a multiple of this for ever too: 1 keeps those of all epochs."""
    notify: str | None = None
    """Command for the shell that rank 0 runs once, for 10 s at most, when the training has finished, has failed or was
    stopped. In its environment are HPCAUXVAE_RUN, HPCAUXVAE_EVENT (finished, failed, stopped) and HPCAUXVAE_MESSAGE."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} = {value}; allowed: at least {least}")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise InputError(f"{name} = {getattr(self, name)}; allowed: at most {most}")
        for name in ("timeout_minutes", "bucket_mb"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)}; allowed: positive")
        self._check_folds()
        if self.warmup_epochs is not None and not 0 < self.warmup_epochs < (self.epochs or math.inf):
            below = f" and below epochs = {self.epochs}" if self.epochs else ""
            raise InputError(f"warmup_epochs = {self.warmup_epochs}; allowed: above 0{below}")
        if self.accumulate > 1 and self.resolved_objective.likelihood == "optimal":
            raise InputError(
                f"accumulate = {self.accumulate} with likelihood optimal, whose variance is that of the whole batch; "
                "allowed: 1, or another likelihood"
            )
        if self.accumulate > 1 and self.cuda_graph:
            raise InputError(f"accumulate = {self.accumulate} with cuda_graph; allowed: one of the two")
        for name in ("max_minutes", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"{name} = {value}; allowed: at least 0")
        check_name(self.model)
        if not self.aux_names and self.model in MODELS and self.model not in UNTOLD:
            raise InputError(f"aux is empty; allowed for {self.model}: one or more factor names, such as radius,g1,g2")
        if len(self.aux_names) > self.latents:
            raise InputError(
                f"aux has {len(self.aux_names)} names ({self.aux}) for latents = {self.latents}; "
                f"allowed: at most {self.latents} names"
            )
        self.resolved_objective  # noqa: B018  a wrong weight is reported now, not after the data are read

    def _check_folds(self) -> None:
        if self.folds == 1:
            raise InputError("folds = 1; allowed: 2 or more, or 0 for a single run")
        if self.fold is not None and not 0 <= self.fold < self.folds:
            allowed = f"0 to {self.folds - 1}" if self.folds else "with --folds alone"
            raise InputError(f"fold = {self.fold}; allowed: {allowed}")
        if self.folds and self.split == "given":
            raise InputError(f"folds = {self.folds} with split = given; allowed: split random, group or blocks")

    @property
    def own_fold(self) -> Fold | None:
        """Which part of a cross-validation this run is; None for a single run."""
        return None if self.fold is None else Fold(self.fold, self.folds)

    @property
    def how_split(self) -> tuple[int, By, Fold | None]:
        """Seed, kind and fold, as data/splits.py takes them."""
        return self.split_seed, self.split, self.own_fold

    def splits(self) -> list[tuple[int, By, Fold | None]]:
        """`how_split` of all folds, where this is one of them."""
        folds: list[Fold | None] = [Fold(number, self.folds) for number in range(self.folds)]
        return [(self.split_seed, self.split, fold) for fold in folds or [None]]

    def runs(self) -> "list[TrainConfig]":
        """The trainings that this asks for: itself, or those of its folds, each into a folder of its own."""
        if not self.folds or self.fold is not None:
            return [self]
        return [dataclasses.replace(self, fold=k, out=fold_folder(self.out, k)) for k in range(self.folds)]

    @property
    def aux_names(self) -> tuple[str, ...]:
        """Names of the auxiliary variables, in the order of the latents that they guide."""
        return tuple(name for name in self.aux.split(",") if name)

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings that are given beside the name of the objective."""
        return {name: getattr(self, name) for name in OVERRIDES if getattr(self, name) is not None}

    @property
    def resolved_objective(self) -> Objective:
        """The named objective with the fields given here put in."""
        given = self.overrides
        if {"lambda2", "dependence_tolerance"} <= given.keys():
            raise InputError(
                f"lambda2 = {given['lambda2']} with dependence_tolerance = {given['dependence_tolerance']}; allowed: "
                "one of the two, a weight of independence or the tolerance that decides it"
            )
        return dataclasses.replace(self._named, **(FIXED if "lambda2" in given else {}) | given)

    @property
    def _named(self) -> Objective:
        """Before it is chosen the default of most data stands for it, so that the other options can be checked."""
        return OBJECTIVES["tuned" if self.objective == AUTO else self.objective]

    @property
    def scaled_learning_rate(self) -> float:
        """The (peak) learning rate for this batch size."""
        objective = self.resolved_objective
        growth = objective.batch_size / self._named.batch_size
        return objective.learning_rate * {"none": 1.0, "sqrt": growth**0.5, "linear": growth}[self.lr_scaling]

    def refuse_used(self) -> None:
        """Raises InputError where `out` holds anything but a lock, and what it holds is not to be gone on with."""
        if not self.folds and fold_folder(self.out, 0).is_dir():
            raise InputError(f"{self.out}: holds the folds of a cross-validation; choose another folder, or --folds")
        folder = self.out.parent
        if self.fold is not None and self.out == fold_folder(folder, self.fold) and (folder / "config.json").exists():
            raise InputError(f"{folder}: holds a single run; choose another folder for --folds")
        if self.fold is not None and re.fullmatch(r"fold\d+", self.out.name) and self.out.name != f"fold{self.fold}":
            allowed = f"{fold_folder(folder, self.fold)}, or another name"
            raise InputError(f"out = {self.out} for fold {self.fold}; allowed: {allowed}")
        there = sorted(path.name for path in self.out.iterdir()) if self.out.is_dir() else []
        others = [name for name in there if name != "lock" and not name.startswith(".lock.")]
        if others and self.resume == "no":
            raise InputError(
                f"{self.out}: holds {', '.join(others[:3])} already; choose another folder, or --resume auto"
            )

    def as_planned(self) -> "TrainConfig":
        """With as many epochs as the run in `out` was last started for, if there is one."""
        return dataclasses.replace(self, epochs=planned_epochs(self.out, self.epochs))

    def decided(self, choose: "Callable[[], Choice]") -> "tuple[TrainConfig, Choice | None]":
        """With an objective by name, and the choice where one was made: a run that goes on keeps its own."""
        if self.objective != AUTO:
            return self, None
        if self.resume == "auto" and (kept := _saved(self.out, "objective")) in OBJECTIVES:
            return dataclasses.replace(self, objective=kept), None
        choice = choose()
        return dataclasses.replace(self, objective=cast(Any, choice.objective)), choice

    def with_epochs(self, steps: int) -> "TrainConfig":
        """With a number of epochs, of so many steps each."""
        if self.epochs:
            return self
        return dataclasses.replace(self, epochs=min(_MOST_EPOCHS, max(_FEWEST, math.ceil(STEPS / steps))))

    def arguments(self) -> list[str]:
        """What `hpcauxvae train` is to be given for this: the fields that are not the default."""
        words = [str(self.data)]
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if field.name != "data" and value != field.default:
                words += [flag] if value is True else [flag, str(value)]
        return words

    def decisive(self) -> dict[str, Any]:
        """The part of to_json that decides the result: it must stay the same where a run goes on."""
        return {name: value for name, value in self.to_json().items() if name not in NOT_DECISIVE}

    @classmethod
    def completed(cls, saved: dict[str, Any], path: Path | str = "config") -> dict[str, Any]:
        """to_json of an earlier version, with the fields that it did not have: their defaults are what it did.

        Not so for those of the objective, which may have changed with a constant that it gained: of a version that had
        no tolerance, all are given. Raises InputError, naming `path`, where it did what none does any more.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        fields = {name: value for name, value in defaults.items() if value is not dataclasses.MISSING}
        fields |= {"labels": "raw"} | saved
        objective = dict(fields.get("resolved_objective", {}))
        if objective and "dependence_tolerance" not in objective:
            fields |= {name: objective.get(name) for name in OVERRIDES}
            objective = FIXED | objective
        if objective:
            objective = {"linear_path": False, "dependence": "joint"} | objective
        for name in _GONE:
            if value := objective.pop(name, fields.pop(name, None)):
                raise InputError(
                    f"{path}: was trained with {name} = {value}, which this version of hpcauxvae does not have; "
                    "train again or use the version that trained the run"
                )
        return fields | ({"resolved_objective": objective} if objective else {})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; the resolved objective stands beside the fields for the reader's sake.

        Without `notify`, which may hold a secret address: it is nobody else's.
        """
        fields = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items() if k != "notify"}
        return fields | {"resolved_objective": dataclasses.asdict(self.resolved_objective)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "TrainConfig":
        """The inverse of to_json. Raises InputError where a field is unknown or the objective has changed since."""
        fields = cls.completed(fields)
        saved = fields.pop("resolved_objective")
        try:
            config = cls(**{**fields, "data": Path(fields["data"]), "out": Path(fields["out"])})
        except TypeError as error:
            raise InputError(f"config: {error}") from error
        config.refuse_another_version(saved, "config")
        return config

    def refuse_another_version(self, saved: dict[str, Any], source: str) -> None:
        """Raises InputError where the run of these settings had an objective whose constants were others.

        saved: its resolved objective, as to_json gives it. source: what the message begins with.
        """
        now = json.loads(json.dumps(dataclasses.asdict(self.resolved_objective)))
        for name in sorted(saved.keys() | now.keys()):
            if saved.get(name) != now.get(name):
                raise InputError(
                    f"{source}: objective {self.objective!r} had {name} = {saved.get(name)} and has {now.get(name)} "
                    "in this version of hpcauxvae; train again or use the version that trained the run"
                )


def fold_folder(folder: Path, number: int) -> Path:
    """Where a cross-validation into `folder` puts the run of a fold."""
    return folder / f"fold{number}"


def planned_epochs(folder: Path, otherwise: int) -> int:
    """How many epochs a run was last started for; what is given where its folder does not tell."""
    kept = _saved(folder, "epochs")
    return kept if isinstance(kept, int) else otherwise


def _saved(folder: Path, field: str) -> Any:
    """A field of the run in a folder; None where there is none that tells."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads((folder / "config.json").read_text())[field]
    return None
